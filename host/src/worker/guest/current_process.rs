//! The worker that a guest runs in: its name, and its side of the status page.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::profile::Profile;
use crate::protocol::message::{Failure, Identity};
use crate::sys::WorkerPage;
use crate::worker::exchange::Link;

/// Tells the ticks that the guest runs: they are rare while it waits.
pub(crate) type NoticeTick = Box<dyn Fn() + Send + Sync>;

/// The worker that a guest runs in, as `wpool:process/current` shows it (Python's `current_process()`).
pub(crate) struct CurrentProcess {
    pub(super) name: String,
    pub(super) index: u32,
    attempt: AtomicU32,
    page: Option<Arc<WorkerPage>>,
    notice_tick: NoticeTick,
    pub(super) profile: Option<Profile>,
    link: Option<Link>,
}

impl CurrentProcess {
    pub(crate) fn new(identity: Identity, page: Arc<WorkerPage>, notice_tick: NoticeTick) -> CurrentProcess {
        CurrentProcess {
            name: identity.name,
            index: identity.index,
            attempt: AtomicU32::new(1),
            page: Some(page),
            notice_tick,
            profile: None,
            link: None,
        }
    }

    /// Gives the guest a way to ask the coordinator something in the middle of a task.
    pub(crate) fn with_link(mut self, link: Option<Link>) -> CurrentProcess {
        self.link = link;
        self
    }

    /// The process before it is a worker: a zygote, which runs no guest.
    pub(super) fn unnamed() -> CurrentProcess {
        CurrentProcess {
            name: String::new(),
            index: 0,
            attempt: AtomicU32::new(1),
            page: None,
            notice_tick: Box::new(|| ()),
            profile: None,
            link: None,
        }
    }

    pub(super) fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    /// The task that was started last, by its number in the worker's life. 0: the initializer.
    pub(super) fn task(&self) -> u64 {
        self.page.as_ref().map_or(0, |page| page.started())
    }

    /// The task is over: with this result, or this failure. Called before its outcome can be seen.
    pub(super) fn end_task(&self, outcome: &Result<(), Failure>) {
        if let Some(link) = &self.link {
            link.end_task(outcome.as_ref().map_or_else(Failure::is_returned, |()| true));
        }
    }

    /// The guest is in its own code, or about to be.
    #[inline]
    pub(super) fn runs(&self) {
        (self.notice_tick)();
    }

    pub(super) fn page(&self) -> Option<Arc<WorkerPage>> {
        self.page.clone()
    }

    /// Counts the next task as started, on the status page. `false`: the coordinator has taken back all that
    /// has not begun.
    #[inline]
    pub(super) fn start_one(&self) -> bool {
        self.page.as_ref().is_none_or(|page| page.start_one())
    }

    /// Allows tasks to start again after some were taken back.
    pub(super) fn thaw(&self) {
        if let Some(page) = &self.page {
            page.thaw();
        }
    }

    /// Whether the coordinator has cancelled the task that was started last.
    #[inline]
    pub(super) fn is_cancelled(&self) -> bool {
        self.page.as_ref().is_some_and(|page| page.is_cancelled())
    }

    pub(super) fn should_stop(&self) -> bool {
        self.page.as_ref().is_some_and(|page| page.should_stop())
    }

    pub(super) fn attempt(&self) -> u32 {
        self.attempt.load(Ordering::Relaxed)
    }

    pub(super) fn set_attempt(&self, attempt: u32) {
        self.attempt.store(attempt, Ordering::Relaxed);
    }
}
