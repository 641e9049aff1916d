//! All kinds of objects as one.

use super::barrier::Barrier;
use super::cell::Cell;
use super::condition::Condition;
use super::dict::Dict;
use super::event::{ObjectId, ObjectSpec};
use super::flag::Flag;
use super::lock::Lock;
use super::pipe::Connection;
use super::queue::Queue;
use super::semaphore::Semaphore;
use super::serve::Serve;
use crate::spec::exchange::ObjectKind;

#[derive(Debug)]
pub(super) enum Object {
    Queue(Queue),
    Connection(Connection),
    Lock(Lock),
    Semaphore(Semaphore),
    Event(Flag),
    Condition(Condition),
    Barrier(Barrier),
    Value(Cell),
    Dict(Dict),
}

impl Object {
    /// The objects that are made by this, each with its id.
    pub(super) fn make(id: ObjectId, spec: ObjectSpec) -> Vec<(ObjectId, Object)> {
        let object = match spec {
            ObjectSpec::Queue { max_len, max_bytes, joinable } => {
                Object::Queue(Queue::new(max_len, max_bytes, joinable))
            }
            ObjectSpec::Pipe { ends: [first, second], duplex, max_bytes } => {
                let a = Connection::new(second, true, duplex, max_bytes);
                let b = Connection::new(first, duplex, true, max_bytes);
                return vec![(first, Object::Connection(a)), (second, Object::Connection(b))];
            }
            ObjectSpec::Lock => Object::Lock(Lock::new(false)),
            ObjectSpec::RLock => Object::Lock(Lock::new(true)),
            ObjectSpec::Semaphore { value, bounded } => Object::Semaphore(Semaphore::new(value, bounded)),
            ObjectSpec::Event => Object::Event(Flag::default()),
            ObjectSpec::Condition => Object::Condition(Condition::new()),
            ObjectSpec::Barrier { parties } => Object::Barrier(Barrier::new(parties)),
            ObjectSpec::Value { content, max_bytes } => Object::Value(Cell::new(content, max_bytes)),
            ObjectSpec::Dict { max_len, max_bytes } => Object::Dict(Dict::new(max_len, max_bytes)),
        };
        vec![(id, object)]
    }

    pub(super) fn kind(&self) -> ObjectKind {
        match self {
            Object::Queue(_) => ObjectKind::Queue,
            Object::Connection(_) => ObjectKind::Connection,
            Object::Lock(lock) if lock.is_recursive() => ObjectKind::RLock,
            Object::Lock(_) => ObjectKind::Lock,
            Object::Semaphore(_) => ObjectKind::Semaphore,
            Object::Event(_) => ObjectKind::Event,
            Object::Condition(_) => ObjectKind::Condition,
            Object::Barrier(_) => ObjectKind::Barrier,
            Object::Value(_) => ObjectKind::Value,
            Object::Dict(_) => ObjectKind::Dict,
        }
    }

    pub(super) fn as_mut(&mut self) -> &mut dyn Serve {
        match self {
            Object::Queue(queue) => queue,
            Object::Connection(connection) => connection,
            Object::Lock(lock) => lock,
            Object::Semaphore(semaphore) => semaphore,
            Object::Event(flag) => flag,
            Object::Condition(condition) => condition,
            Object::Barrier(barrier) => barrier,
            Object::Value(cell) => cell,
            Object::Dict(dict) => dict,
        }
    }

    pub(super) fn as_ref(&self) -> &dyn Serve {
        match self {
            Object::Queue(queue) => queue,
            Object::Connection(connection) => connection,
            Object::Lock(lock) => lock,
            Object::Semaphore(semaphore) => semaphore,
            Object::Event(flag) => flag,
            Object::Condition(condition) => condition,
            Object::Barrier(barrier) => barrier,
            Object::Value(cell) => cell,
            Object::Dict(dict) => dict,
        }
    }

    pub(super) fn as_lock(&self) -> Option<&Lock> {
        match self {
            Object::Lock(lock) => Some(lock),
            Object::Queue(_)
            | Object::Connection(_)
            | Object::Semaphore(_)
            | Object::Event(_)
            | Object::Condition(_)
            | Object::Barrier(_)
            | Object::Value(_)
            | Object::Dict(_) => None,
        }
    }

    pub(super) fn as_lock_mut(&mut self) -> Option<&mut Lock> {
        match self {
            Object::Lock(lock) => Some(lock),
            Object::Queue(_)
            | Object::Connection(_)
            | Object::Semaphore(_)
            | Object::Event(_)
            | Object::Condition(_)
            | Object::Barrier(_)
            | Object::Value(_)
            | Object::Dict(_) => None,
        }
    }

    pub(super) fn as_connection(&mut self) -> Option<&mut Connection> {
        match self {
            Object::Connection(connection) => Some(connection),
            Object::Queue(_)
            | Object::Lock(_)
            | Object::Semaphore(_)
            | Object::Event(_)
            | Object::Condition(_)
            | Object::Barrier(_)
            | Object::Value(_)
            | Object::Dict(_) => None,
        }
    }
}
