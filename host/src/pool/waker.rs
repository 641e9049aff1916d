//! Waking the dispatcher from any thread, and the list of jobs that it must look at.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::event::EventfdFlags;

use super::schedule::{JobId, WorkerId};
use crate::exchange::member::SiteName;
use crate::sys;

/// A plan with this many bytes of arguments is forgotten at once.
const LONG_PLAN_LEN: usize = 64 << 10;
/// So many short plans wait for the dispatcher's next turn.
const FORGOTTEN_MAX: usize = 64;

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
    changes: Mutex<Changes>,
    /// Plans that have no further use.
    forgotten: Mutex<Vec<u32>>,
    /// What the exchange says of workers.
    notes: Mutex<Vec<MemberNote>>,
    /// The pool, as the exchange knows it. Set once, if its guests share objects.
    site: OnceLock<SiteName>,
    /// The process of the dispatcher. A fork of this process has a copy of the waker, and no dispatcher.
    home: u32,
}

/// The jobs that have changed since the dispatcher looked. The dispatcher looks at no others: of a hundred
/// thousand open jobs, most are idle.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Jobs with new records, ended input or more room for results, in the order of these changes. A job is
    /// here once, until the dispatcher has taken the list.
    pub(super) changed: Vec<JobId>,
    /// Jobs whose outcomes are not wanted any more.
    pub(super) cancelled: Vec<JobId>,
}

/// What the exchange says of a worker.
#[derive(Debug)]
pub(super) enum MemberNote {
    /// Its task waits.
    Stalled(WorkerId),
    /// It broke the protocol, in these words.
    Fault(WorkerId, String),
}

impl Waker {
    pub(super) fn new() -> io::Result<Waker> {
        let eventfd =
            sys::above_stdio(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)?;
        let (pending, asleep) = (AtomicBool::new(false), AtomicBool::new(false));
        let home = sys::home();
        let (changes, forgotten, notes) = (Mutex::default(), Mutex::default(), Mutex::default());
        let site = OnceLock::new();
        Ok(Waker(Arc::new(WakerState { eventfd, pending, asleep, changes, forgotten, notes, site, home })))
    }

    /// Whether this is a forked child of the dispatcher's process: a wake-up has no receiver here, and a lock
    /// may be held for ever.
    pub(crate) fn is_in_fork(&self) -> bool {
        self.0.home != sys::home()
    }

    /// Makes the dispatcher look for everything that was left for it before this call.
    pub(crate) fn wake(&self) {
        self.0.pending.store(true, Ordering::SeqCst);
        // The swap leaves one of several callers to write: the others find the flag cleared.
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

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.0.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`list`](Self::list), by a thread that does the dispatcher's work itself.
    pub(crate) fn note(&self, job: JobId) {
        self.changes().changed.push(job);
        self.0.pending.store(true, Ordering::SeqCst);
    }

    /// Makes the dispatcher look at this job. The job notes that it is on the list, so that each look is
    /// asked for once.
    pub(crate) fn list(&self, job: JobId) {
        self.changes().changed.push(job);
        self.wake();
    }

    /// The guests of the pool share objects.
    pub(super) fn set_site(&self, site: SiteName) {
        self.0.site.get_or_init(|| site);
    }

    /// Tells the exchange, at once, that the outcomes of this job are not wanted any more. The dispatcher may
    /// be busy.
    pub(crate) fn drop_job(&self, job: JobId) {
        if let Some(site) = self.0.site.get() {
            site.drop_job(job);
        }
    }

    /// Tells the dispatcher that the outcomes of this job are not wanted any more.
    pub(crate) fn cancel(&self, job: JobId) {
        self.changes().cancelled.push(job);
        self.wake();
    }

    /// Takes the list, and leaves `empty` in its place for its memory.
    pub(super) fn take_changes(&self, empty: Changes) -> Changes {
        std::mem::replace(&mut *self.changes(), empty)
    }

    /// Tells the dispatcher that a plan has no further use. `len`: the bytes of memory that each worker has
    /// for it. A short plan can wait for the next turn, which saves an idle pool a wake-up for each call.
    pub(super) fn forget(&self, plan: u32, len: usize) {
        let mut forgotten = self.0.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
        forgotten.push(plan);
        let are_many = forgotten.len() >= FORGOTTEN_MAX;
        drop(forgotten);
        if len >= LONG_PLAN_LEN || are_many {
            self.wake();
        }
    }

    pub(super) fn take_forgotten(&self) -> Vec<u32> {
        std::mem::take(&mut *self.0.forgotten.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Leaves the dispatcher a note of the exchange.
    pub(super) fn leave_note(&self, note: MemberNote) {
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
        self.wake();
    }

    pub(super) fn take_notes(&self) -> Vec<MemberNote> {
        std::mem::take(&mut *self.0.notes.lock().unwrap_or_else(PoisonError::into_inner))
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
