//! Whose turn it is: the jobs that have tasks to hand out, in the order in which they get the next batches.
//!
//! Each job has a number, its turn; the lowest is next. When a job is served, its turn goes up by its stride,
//! the smaller the more urgent the job is. A job that joins stands one stride behind the job that was served
//! last: so neither a stream of new jobs nor a job that comes and goes overtakes those that wait. Each batch
//! is handed to the job that waits at the lowest turn, the turns of all that come later are higher, and
//! therefore every job is served after a bounded number of others, whatever its priority (stride scheduling,
//! Waldspurger and Weihl 1995).

use std::collections::BTreeSet;

use super::JobId;
use crate::target::Priority;

#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Jobs of one turn are served in the order in which they were opened.
    waiting: BTreeSet<(u64, JobId)>,
    /// The turn of the job that was served last.
    now: u64,
}

/// A job's place in the order.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct JobTurn {
    at: u64,
    priority: Priority,
}

impl JobTurn {
    pub(super) fn new(priority: Priority) -> JobTurn {
        JobTurn { at: 0, priority }
    }

    /// How far a batch moves the job back.
    fn stride(self) -> u64 {
        match self.priority {
            Priority::High => 1,
            Priority::Normal => 4,
            Priority::Low => 16,
        }
    }
}

impl Turns {
    /// The job has tasks to hand out from now on.
    pub(super) fn join(&mut self, id: JobId, turn: &mut JobTurn) {
        turn.at = turn.at.max(self.now + turn.stride());
        self.waiting.insert((turn.at, id));
    }

    /// The job has no more tasks to hand out.
    pub(super) fn leave(&mut self, id: JobId, turn: JobTurn) {
        self.waiting.remove(&(turn.at, id));
    }

    /// The job, which waits, gets a batch.
    pub(super) fn served(&mut self, id: JobId, turn: &mut JobTurn) {
        self.waiting.remove(&(turn.at, id));
        // A job that may not be served now, and keeps its place, does not hold back the time.
        self.now = self.now.max(turn.at);
        turn.at = self.now + turn.stride();
        self.waiting.insert((turn.at, id));
    }

    /// The jobs that wait, the next one first.
    pub(super) fn iter(&self) -> impl Iterator<Item = JobId> + '_ {
        self.waiting.iter().map(|(_, id)| *id)
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}
