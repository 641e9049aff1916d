//! A job as the schedule sees it: which of its tasks are queued, and what is known about them.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::{BATCH_BYTES, BATCH_GROWTH, BATCH_TIME};
use crate::pool::policy::{Halt, HaltOn, HaltWhen};

/// Consecutive tasks of a job at the same attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) attempt: u32,
    /// How many workers have died over it. Only a task of its own span has killed any.
    pub(super) deaths: u32,
}

/// Whether anybody wants the outcomes of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Yes,
    /// Those of tasks that are running already: no other is begun.
    Running,
    /// None: running ones are stopped.
    No,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) queue: VecDeque<Span>,
    /// Tasks in `queue`.
    pub(super) queued: u64,
    /// Where those of its tasks are that wait for the end of a pause.
    pub(super) pauses: BTreeSet<(Duration, u64)>,
    pub(super) submitted: u64,
    /// Tasks that have had their outcome.
    pub(super) done: u64,
    /// Of these, those that returned, and those that failed. The others were given up.
    pub(super) ok: u64,
    pub(super) failed: u64,
    pub(super) bytes: u64,
    pub(super) input_ended: bool,
    pub(super) wanted: Wanted,
    /// The measured time of a task; `None` before the first batch.
    pub(super) cost: Option<Duration>,
    pub(super) last_len: u64,
}

impl Job {
    pub(super) fn new() -> Job {
        Job {
            queue: VecDeque::new(),
            queued: 0,
            pauses: BTreeSet::new(),
            submitted: 0,
            done: 0,
            ok: 0,
            failed: 0,
            bytes: 0,
            input_ended: false,
            wanted: Wanted::Yes,
            cost: None,
            last_len: 1,
        }
    }

    pub(super) fn push_back(&mut self, span: Span) {
        self.queued += span.count;
        match self.queue.back_mut() {
            Some(last)
                if (last.attempt, last.deaths) == (span.attempt, span.deaths)
                    && last.first + last.count == span.first =>
            {
                last.count += span.count
            }
            _ => self.queue.push_back(span),
        }
    }

    pub(super) fn push_front(&mut self, span: Span) {
        self.queued += span.count;
        self.queue.push_front(span);
    }

    /// Takes up to `len` tasks off the head: of one attempt, in a row.
    pub(super) fn pop_front(&mut self, len: u64) -> Option<Span> {
        let head = self.queue.front_mut()?;
        let taken = Span { count: len.min(head.count).max(1), ..*head };
        head.first += taken.count;
        head.count -= taken.count;
        if head.count == 0 {
            self.queue.pop_front();
        }
        self.queued -= taken.count;
        Some(taken)
    }

    /// How many tasks go into the next batch.
    pub(super) fn batch_len(&self, processes: u64) -> u64 {
        let Some(cost) = self.cost else { return 1 };
        let by_time = u64::try_from(BATCH_TIME.as_nanos() / cost.as_nanos().max(1)).unwrap_or(u64::MAX);
        let mean_bytes = self.bytes / self.submitted.max(1);
        let by_bytes = BATCH_BYTES / mean_bytes.max(1);
        let share = self.queued.div_ceil(4 * processes.max(1));
        by_time.min(by_bytes).min(self.last_len * BATCH_GROWTH).min(share).max(1)
    }

    /// Whether the policy says that enough is done, and how to stop.
    pub(super) fn halts(&self, policy: Option<Halt>) -> Option<HaltWhen> {
        let halt = policy.filter(|_| self.wanted == Wanted::Yes)?;
        let ended = self.ok + self.failed;
        let enough = match halt.on {
            HaltOn::Failures(most) => self.failed >= most.get(),
            HaltOn::FailureShare(percent) => {
                let share = u128::from(self.failed) * 100 >= u128::from(percent.get()) * u128::from(ended);
                ended >= Halt::SHARE_OF_AT_LEAST && self.failed > 0 && share
            }
            HaltOn::Successes(most) => self.ok >= most.get(),
            HaltOn::Done(most) => ended >= most.get(),
        };
        enough.then_some(halt.when)
    }
}
