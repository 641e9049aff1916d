//! What the threads of a run share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::cli::labels::Labels;
use crate::cli::tally::Tally;

/// The state of a run, for the reader, the main thread, the signals thread and the clock thread.
#[derive(Debug)]
pub(super) struct RunState {
    pub(super) labels: Arc<Labels>,
    pub(super) tally: Arc<Tally>,
    /// Records that have been given to the pool. Records that are skipped do not count.
    pushed: AtomicU64,
    /// Records that are skipped because an earlier run has done them.
    skipped: AtomicU64,
    /// The skipped records whose tasks had failed.
    skipped_failed: AtomicU64,
    input: Mutex<InputState>,
    /// The clock thread has ended the run.
    is_late: AtomicBool,
}

/// How far the input has been read. The reader sets this before it announces the end of the input to the
/// pool.
#[derive(Debug, Clone)]
pub(super) enum InputState {
    Reading,
    /// Read to its end. The job log has `left` tasks that the input does not have.
    Read {
        left: u64,
    },
    /// One input could not be read to its end: which one, and why.
    Failed(String),
    /// The job log belongs to another input, so nothing was run: why.
    Refused(String),
}

impl RunState {
    pub(super) fn new(labels: Arc<Labels>, tally: Arc<Tally>) -> RunState {
        RunState {
            labels,
            tally,
            pushed: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            skipped_failed: AtomicU64::new(0),
            input: Mutex::new(InputState::Reading),
            is_late: AtomicBool::new(false),
        }
    }

    pub(super) fn pushed(&self) -> u64 {
        self.pushed.load(Ordering::SeqCst)
    }

    pub(super) fn set_pushed(&self, count: u64) {
        self.pushed.store(count, Ordering::SeqCst);
    }

    /// The skipped records, and those among them whose tasks had failed.
    pub(super) fn skipped(&self) -> (u64, u64) {
        (self.skipped.load(Ordering::SeqCst), self.skipped_failed.load(Ordering::SeqCst))
    }

    pub(super) fn set_skipped(&self, skipped: u64, failed: u64) {
        self.skipped.store(skipped, Ordering::SeqCst);
        self.skipped_failed.store(failed, Ordering::SeqCst);
    }

    /// All records that have been read, also the skipped ones.
    pub(super) fn records(&self) -> u64 {
        self.pushed() + self.skipped().0
    }

    pub(super) fn not_done(&self) -> u64 {
        self.pushed().saturating_sub(self.tally.done())
    }

    pub(super) fn input(&self) -> InputState {
        self.input.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_input(&self, input: InputState) {
        *self.input.lock().unwrap_or_else(PoisonError::into_inner) = input;
    }

    /// The number of tasks, once the input has been read.
    pub(super) fn total(&self) -> Option<u64> {
        match *self.input.lock().unwrap_or_else(PoisonError::into_inner) {
            InputState::Reading => None,
            InputState::Read { .. } | InputState::Failed(_) | InputState::Refused(_) => Some(self.pushed()),
        }
    }

    pub(super) fn set_late(&self) {
        self.is_late.store(true, Ordering::SeqCst);
    }

    /// Whether the time of the whole run was over.
    pub(super) fn is_late(&self) -> bool {
        self.is_late.load(Ordering::SeqCst)
    }

    /// Whether the clock thread has cut the run short. It may also fire when all is done already.
    pub(super) fn is_cut_off(&self, input: &InputState) -> bool {
        let is_whole = matches!(input, InputState::Read { .. }) && self.not_done() == 0;
        self.is_late() && !is_whole
    }
}
