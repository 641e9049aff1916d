//! What the handle of a pool shares with its iterators, its callbacks and the thread of its dispatcher.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::Instant;

use crossbeam_channel::Sender;

use super::callbacks::Callbacks;
use super::dispatcher::{Command, Driver};
use super::handlers::Handlers;
use super::job::Window;
use super::plan::Plans;
use super::stats::Ledger;
use super::waker::Waker;
use super::worker::Directory;
use crate::condition::Condition;
use crate::context::IN_FORK;
use crate::error::{BuildError, Closed, MapError, TaskError};
use crate::spec::{Limits, ModuleInfo};

/// What the pool's handle, its jobs and the dispatcher's thread share.
pub(super) struct PoolShared {
    pub(super) info: ModuleInfo,
    pub(super) limits: Limits,
    pub(super) window: Window,
    pub(super) commands: Sender<Command>,
    pub(super) waker: Waker,
    pub(super) next_job: AtomicU64,
    pub(super) plans: Plans,
    pub(super) directory: Arc<Mutex<Directory>>,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) closed: AtomicBool,
    /// Why the pool broke, if it did.
    pub(super) broken: OnceLock<String>,
    pub(super) callbacks: Callbacks,
    /// The threads that draw the items of iterators.
    pub(super) task_handlers: Handlers,
    /// The threads that collect the results of `map_async`.
    pub(super) result_handlers: Handlers,
    pub(super) driver: Driver,
    /// The thread of the dispatcher.
    pub(super) dispatcher: OnceLock<ThreadId>,
    pub(super) over: Mutex<bool>,
    pub(super) is_over: Condition,
    /// Pid that created the pool; a forked copy of this handle must not touch its workers.
    pub(super) home: u32,
}

impl PoolShared {
    pub(super) fn is_in_fork(&self) -> bool {
        self.home != crate::sys::home()
    }

    /// An error in a forked child.
    pub(super) fn check_home(&self) -> Result<(), BuildError> {
        if self.is_in_fork() {
            return Err(BuildError::Broken { reason: IN_FORK.to_owned() });
        }
        Ok(())
    }

    pub(super) fn close(&self, command: Command) {
        if self.is_in_fork() {
            return;
        }
        self.closed.store(true, Ordering::Release);
        // An error means that the dispatcher has ended.
        let _over = self.commands.send(command);
        self.waker.wake();
    }

    /// Waits for the end of the dispatcher's thread. `false`: the deadline came first.
    pub(super) fn wait_over(&self, deadline: Option<Instant>) -> bool {
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        *self.is_over.wait_while(over, deadline, |over| !*over)
    }

    /// Whether this is the dispatcher's own thread, which calls `on_event`, or one that does its work. Such a
    /// thread would wait for itself for ever.
    pub(super) fn is_own_thread(&self) -> bool {
        self.dispatcher.get() == Some(&std::thread::current().id()) || self.driver.is_mine()
    }

    /// Waits until every worker has ended and every callback has run. `false`: the deadline came first. On
    /// the dispatcher's own thread and in a forked child it does not wait.
    pub(super) fn join(&self, deadline: Option<Instant>) -> bool {
        self.is_own_thread()
            || self.is_in_fork()
            || (self.wait_over(deadline) && self.callbacks.wait(deadline))
    }

    /// The outcome of a task that comes when the pool takes no more.
    pub(super) fn refusal(&self) -> TaskError {
        if self.is_in_fork() {
            return TaskError::Broken { reason: IN_FORK.to_owned() };
        }
        match self.broken.get() {
            Some(reason) => TaskError::Broken { reason: reason.clone() },
            None => TaskError::Closed,
        }
    }

    /// Why the pool takes no more tasks.
    pub(super) fn end_error(&self) -> BuildError {
        match self.refusal() {
            TaskError::Broken { reason } => BuildError::Broken { reason },
            _ => Closed.into(),
        }
    }
}

/// The error of a result in a forked child of the program that has the pool.
pub(super) fn in_fork() -> TaskError {
    TaskError::Broken { reason: IN_FORK.to_owned() }
}

pub(super) fn map_in_fork() -> MapError {
    MapError { index: 0, error: in_fork(), failed: 0 }
}
