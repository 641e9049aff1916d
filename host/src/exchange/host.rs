//! Objects in the hands of this program, and their use by its threads.

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::core::event::{Event, ObjectId, ObjectSpec, Ticket};
use super::shared::{Shared, gone};
use crate::spec::exchange::{Act, Answer, Code, ObjectKind};

/// Keeps an object alive: in a policy, a pool, a `Process` or a handle.
#[derive(Debug, Clone)]
pub(crate) struct ObjectRef(Arc<Hold>);

/// The object lives as long as this.
#[derive(Debug)]
struct Hold {
    shared: &'static Shared,
    id: ObjectId,
    kind: ObjectKind,
    /// Handles that the application can use. Changed under the lock, so that the core hears of the changes in
    /// their order.
    handles: AtomicU64,
}

impl ObjectRef {
    fn new(shared: &'static Shared, id: ObjectId, kind: ObjectKind) -> ObjectRef {
        ObjectRef(Arc::new(Hold { shared, id, kind, handles: AtomicU64::new(0) }))
    }

    pub(crate) fn id(&self) -> ObjectId {
        self.0.id
    }

    pub(crate) fn kind(&self) -> ObjectKind {
        self.0.kind
    }

    /// Where the object is known.
    pub(super) fn shared(&self) -> &'static Shared {
        self.0.shared
    }
}

/// All references to an object share its one `Hold`.
impl PartialEq for ObjectRef {
    fn eq(&self, other: &ObjectRef) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ObjectRef {}

impl Drop for Hold {
    fn drop(&mut self) {
        let object = self.id;
        let _in_fork = self.shared.with(|state| state.on(Event::Abandoned { object }));
    }
}

/// An object that the application can use.
#[derive(Debug)]
pub(crate) struct HostHandle {
    object: ObjectRef,
}

impl Clone for HostHandle {
    fn clone(&self) -> HostHandle {
        HostHandle::new(self.object.clone())
    }
}

impl Drop for HostHandle {
    fn drop(&mut self) {
        let hold = &self.object.0;
        let _in_fork = hold.shared.with(|state| {
            let count = hold.handles.fetch_sub(1, Ordering::Relaxed) - 1;
            state.on(Event::Handles { object: hold.id, count });
        });
    }
}

/// A new object. A pipe is two of them: [`make_pipe`].
pub(crate) fn make(spec: ObjectSpec) -> HostHandle {
    let shared = Shared::here();
    let object = ObjectRef::new(shared, shared.new_id(), kind_of(&spec));
    let _has_ended = shared.with(|state| state.on(Event::Made { object: object.id(), spec }));
    HostHandle::new(object)
}

/// The two ends of a new pipe.
pub(crate) fn make_pipe(duplex: bool, max_bytes: u64) -> (HostHandle, HostHandle) {
    let shared = Shared::here();
    let ends = [shared.new_id(), shared.new_id()];
    let spec = ObjectSpec::Pipe { ends, duplex, max_bytes };
    let _has_ended = shared.with(|state| state.on(Event::Made { object: ends[0], spec }));
    let [first, second] = ends.map(|id| HostHandle::new(ObjectRef::new(shared, id, ObjectKind::Connection)));
    (first, second)
}

fn kind_of(spec: &ObjectSpec) -> ObjectKind {
    match spec {
        ObjectSpec::Queue { .. } => ObjectKind::Queue,
        ObjectSpec::Pipe { .. } => ObjectKind::Connection,
        ObjectSpec::Lock => ObjectKind::Lock,
        ObjectSpec::RLock => ObjectKind::RLock,
        ObjectSpec::Semaphore { .. } => ObjectKind::Semaphore,
        ObjectSpec::Event => ObjectKind::Event,
        ObjectSpec::Condition => ObjectKind::Condition,
        ObjectSpec::Barrier { .. } => ObjectKind::Barrier,
        ObjectSpec::Value { .. } => ObjectKind::Value,
        ObjectSpec::Dict { .. } => ObjectKind::Dict,
    }
}

impl HostHandle {
    /// A handle of an object that something else keeps alive, or has been made just now.
    pub(crate) fn new(object: ObjectRef) -> HostHandle {
        let hold = &object.0;
        let _in_fork = hold.shared.with(|state| {
            let count = hold.handles.fetch_add(1, Ordering::Relaxed) + 1;
            state.on(Event::Handles { object: hold.id, count });
        });
        HostHandle { object }
    }

    pub(crate) fn object(&self) -> &ObjectRef {
        &self.object
    }

    /// Does this with the object, and waits for the answer. `timeout`: zero never waits.
    pub(crate) fn call(&self, act: Act, timeout: Option<Duration>) -> Answer {
        let object = self.object.id();
        ask(self.object.shared(), timeout, |ticket, thread| Event::HostAsked {
            ticket,
            thread,
            object,
            act,
            timeout,
        })
    }
}

/// Waits until some of these objects are ready, for `timeout` at most.
pub(crate) fn wait(objects: &[&HostHandle], timeout: Option<Duration>) -> Answer {
    let Some(first) = objects.first() else { return Answer::Ready(Vec::new()) };
    let shared = first.object.shared();
    if objects.iter().any(|handle| !handle.object.shared().is_home()) {
        return in_fork();
    }
    let objects = objects.iter().map(|handle| handle.object.id()).collect();
    ask(shared, timeout, |ticket, thread| Event::HostWaits { ticket, thread, objects, timeout })
}

/// Asks, and waits for the answer on the calling thread.
fn ask(shared: &Shared, timeout: Option<Duration>, event: impl FnOnce(Ticket, u64) -> Event) -> Answer {
    if !shared.is_home() {
        return in_fork();
    }
    let ticket = shared.new_id();
    let asked = shared.with(|state| {
        state.hear_all();
        let slot = state.expect(ticket);
        state.on(event(ticket, this_thread()));
        (slot, timeout.map(|timeout| (state.now(), state.now().saturating_add(timeout))))
    });
    let Some((slot, mut due)) = asked else { return gone() };
    loop {
        if let Some(answer) = slot.wait(due.map(|(now, due)| due.saturating_sub(now))) {
            return answer;
        }
        // The core answers what is due. A wait for a condition then goes on until the lock is free again.
        let ticked = shared.with(|state| {
            state.hear_all();
            state.on(Event::Tick);
            state.next_due().map(|due| (state.now(), due))
        });
        match ticked {
            Some(next) => due = next,
            None => return gone(),
        }
    }
}

fn in_fork() -> Answer {
    let message = "the object was made by another process: this one is a fork of it".to_owned();
    Answer::Failed { code: Code::Invalid, message }
}

/// The number of the calling thread, which no other thread gets. The system uses its own numbers again.
fn this_thread() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static MINE: OnceCell<u64> = const { OnceCell::new() };
    }
    MINE.with(|mine| *mine.get_or_init(|| 1 + LAST.fetch_add(1, Ordering::Relaxed)))
}
