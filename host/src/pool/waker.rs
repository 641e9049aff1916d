//! Waking the dispatcher from any thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::EventfdFlags;

use super::schedule::JobId;
use crate::sys;

/// Sets a flag; a system call only if the dispatcher sleeps.
#[derive(Debug, Clone)]
pub(crate) struct Waker(Arc<WakerState>);

#[derive(Debug)]
struct WakerState {
    eventfd: OwnedFd,
    /// Something was left for the dispatcher since it looked.
    ///
    /// `wake` sets `pending` and then reads `asleep`; `may_sleep` sets `asleep` and then reads `pending`. At
    /// least one of the two sides sees the other, so that no wake-up is lost.
    pending: AtomicBool,
    asleep: AtomicBool,
    /// Jobs whose outcomes are not wanted any more.
    cancelled: Mutex<Vec<JobId>>,
    /// The process of the dispatcher. A fork of this process has a copy of the waker, and no dispatcher.
    home: u32,
}

impl Waker {
    pub(super) fn new() -> io::Result<Waker> {
        let eventfd =
            sys::above_stdio(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)?;
        let (pending, asleep) = (AtomicBool::new(false), AtomicBool::new(false));
        let home = sys::home();
        Ok(Waker(Arc::new(WakerState { eventfd, pending, asleep, cancelled: Mutex::default(), home })))
    }

    /// Whether this is a forked child of the dispatcher's process: a wake-up has no receiver here, and a lock
    /// may be held for ever.
    pub(crate) fn is_in_fork(&self) -> bool {
        self.0.home != sys::home()
    }

    /// Makes the dispatcher look for everything that was left for it before this call.
    pub(crate) fn wake(&self) {
        self.0.pending.store(true, Ordering::SeqCst);
        if self.0.asleep.swap(false, Ordering::SeqCst) {
            // The write fails only if the counter is full. Then a wake-up is pending already.
            let _pending = rustix::io::write(&self.0.eventfd, &1u64.to_ne_bytes());
        }
    }

    /// The dispatcher calls this before it looks for what was left for it. The `swap` reads the flag that
    /// `wake` has set, so that everything written before that `wake` is visible.
    pub(super) fn begin_look(&self) {
        self.0.pending.swap(false, Ordering::SeqCst);
    }

    pub(super) fn is_pending(&self) -> bool {
        self.0.pending.load(Ordering::Relaxed)
    }

    /// The dispatcher calls this before a sleep that the eventfd ends, and [`wake_up`](Self::wake_up) after
    /// it. `false`: something was left to look for, so it must not sleep.
    pub(super) fn may_sleep(&self) -> bool {
        self.0.asleep.store(true, Ordering::SeqCst);
        !self.0.pending.load(Ordering::SeqCst)
    }

    pub(super) fn wake_up(&self) {
        self.0.asleep.store(false, Ordering::SeqCst);
    }

    /// Tells the dispatcher that the outcomes of this job are not wanted any more.
    pub(crate) fn cancel(&self, job: JobId) {
        self.0.cancelled.lock().unwrap_or_else(PoisonError::into_inner).push(job);
        self.wake();
    }

    pub(super) fn take_cancelled(&self) -> Vec<JobId> {
        std::mem::take(&mut *self.0.cancelled.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the wake-ups out of the eventfd.
    pub(super) fn clear(&self) {
        let _empty = rustix::io::read(&self.0.eventfd, &mut [0; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.eventfd.as_fd()
    }
}
