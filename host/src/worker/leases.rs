//! The locks that this worker acquires and releases without a message: those that are leased to it.

use std::sync::Arc;

use crate::spec::exchange::Granted;
use crate::spec::lease::{LEASES, Lease};
use crate::sys::WorkerPage;

/// The leases of this worker.
#[derive(Debug)]
pub(super) struct Leases {
    page: Arc<WorkerPage>,
    /// What the running task has acquired by a lease and not released by it: one bit for each object. The
    /// coordinator may have taken the lease back since.
    held: u64,
    /// That task.
    task: u64,
}
const _: () = assert!(LEASES <= u64::BITS);

impl Leases {
    pub(super) fn new(page: Arc<WorkerPage>) -> Leases {
        Leases { page, held: 0, task: 0 }
    }

    fn lease(&self, object: Granted) -> (u64, Lease) {
        let word = self.page.lease(object);
        (word, Lease::from_word(word))
    }

    /// Makes this step, unless the coordinator has taken the lease back since `word` was read.
    fn change(&self, object: Granted, word: u64, next: Lease) -> bool {
        next.to_word().is_some_and(|next| self.page.change_lease(object, word, next))
    }

    /// Acquires a lock if its lease allows that. Gives whether the last owner died. `None`: the coordinator
    /// must be asked.
    pub(super) fn acquire(&mut self, object: Granted, task: u64, is_recursive: bool) -> Option<bool> {
        let (word, lease) = self.lease(object);
        let (next, owner_died) = lease.acquired(task, is_recursive)?;
        self.change(object, word, next).then(|| {
            self.note(object, task);
            owner_died
        })
    }

    /// The coordinator has let the task acquire a lock, and may have leased it.
    pub(super) fn acquired_by_message(&mut self, object: Granted, task: u64) {
        if let (_, Lease::Held { .. }) = self.lease(object) {
            self.note(object, task);
        }
    }

    fn note(&mut self, object: Granted, task: u64) {
        self.held |= 1 << object;
        self.task = task;
    }

    /// Releases a lock. `false`: the coordinator must be asked.
    pub(super) fn release(&mut self, object: Granted, task: u64) -> bool {
        let (word, lease) = self.lease(object);
        let Some(next) = lease.released(task) else { return false };
        let is_done = self.change(object, word, next);
        if is_done && next == Lease::Free {
            self.held &= !(1 << object);
        }
        is_done
    }

    /// Whether a leased lock is locked.
    pub(super) fn is_locked(&self, object: Granted) -> Option<bool> {
        self.lease(object).1.is_locked()
    }

    /// An object that the task may hold by a lease, and the task.
    pub(super) fn first_held(&self) -> Option<(Granted, u64)> {
        (self.held != 0).then(|| (self.held.trailing_zeros(), self.task))
    }

    /// The task is over. The next owner of what it holds is told, here or by the coordinator. Gives a lock
    /// that the coordinator knows to be held by this task, whose end it must be told.
    pub(super) fn end_task(&mut self) -> Option<(Granted, u64)> {
        let mut recalled = None;
        while let Some((object, task)) = self.first_held() {
            self.held &= self.held - 1;
            let (word, lease) = self.lease(object);
            let is_recalled = match lease {
                Lease::Free | Lease::Died => false,
                Lease::Held { .. } => !self.change(object, word, Lease::Died),
                Lease::None => true,
            };
            if is_recalled {
                recalled = Some((object, task));
            }
        }
        recalled
    }
}
