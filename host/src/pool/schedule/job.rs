//! A job as the schedule sees it: which of its tasks are queued, and what is known about them.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::costs::Costs;
use super::span::Span;
use super::turns::JobTurn;
use super::{BATCH_BYTES, BATCH_GROWTH, BATCH_LEN_MAX, BATCH_TIME, BATCH_TIME_MIN};
use crate::pool::policy::{Halt, HaltOn, HaltWhen};
use crate::target::Priority;

/// Which outcomes of a job are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of them.
    Yes,
    /// Those of running tasks: no other task is begun.
    Running,
    /// None: running tasks are stopped.
    No,
}

/// A job, by the numbers of its tasks.
#[derive(Debug)]
pub(super) struct ScheduledJob {
    pub(super) turn: JobTurn,
    pub(super) queue: VecDeque<Span>,
    /// Tasks in `queue`.
    pub(super) queued: u64,
    /// The keys in `Schedule::delayed` of its tasks that wait for the end of a pause.
    pub(super) pauses: BTreeSet<(Duration, u64)>,
    pub(super) submitted: u64,
    /// Tasks that have had their outcome.
    pub(super) done: u64,
    /// Of these, the tasks that returned. Neither `ok` nor `failed`: the task was cancelled.
    pub(super) ok: u64,
    pub(super) failed: u64,
    pub(super) bytes: u64,
    pub(super) input_ended: bool,
    pub(super) wanted: Wanted,
    /// It was halted at once: outcomes after that do not count.
    pub(super) discards: bool,
    /// There is no room for more results: only the task `waits_for` is handed out.
    pub(super) is_full: bool,
    /// The task whose result is waited for, if every result before it is taken.
    pub(super) waits_for: Option<u64>,
    /// The number of queued tasks that may be handed out, as it is part of `Schedule::queued`.
    pub(super) counted: u64,
    /// The cost of its tasks, and the credit of its workers.
    pub(super) costs: Costs,
    /// The length of the last batch.
    pub(super) last_len: u64,
    /// When the last batch was handed out.
    pub(super) sent_at: Duration,
}

impl ScheduledJob {
    pub(super) fn new(priority: Priority) -> ScheduledJob {
        ScheduledJob {
            turn: JobTurn::new(priority),
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
            discards: false,
            is_full: false,
            waits_for: None,
            counted: 0,
            costs: Costs::default(),
            last_len: 1,
            sent_at: Duration::ZERO,
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

    /// The number of queued tasks that may be handed out now.
    pub(super) fn open(&self, policy: Option<Halt>) -> u64 {
        let queued = if self.is_full { u64::from(self.awaited().is_some()) } else { self.queued };
        match policy {
            Some(halt @ Halt { on: HaltOn::Done(_), .. }) => queued.min(self.before_halt(halt)),
            Some(_) | None => queued,
        }
    }

    /// Tasks that workers hold.
    fn held(&self) -> u64 {
        self.submitted - self.done - self.queued - self.pauses.len() as u64
    }

    /// The number of tasks that may still be handed out so that none is running when the policy halts the
    /// job.
    pub(super) fn before_halt(&self, halt: Halt) -> u64 {
        self.until_halt(halt).saturating_sub(self.held())
    }

    /// The number of further outcomes that it takes at least until the policy halts the job.
    fn until_halt(&self, halt: Halt) -> u64 {
        let ended = self.ok + self.failed;
        match halt.on {
            HaltOn::Failures(most) => most.get() - self.failed.min(most.get()),
            HaltOn::Successes(most) => most.get() - self.ok.min(most.get()),
            HaltOn::Done(most) => most.get() - ended.min(most.get()),
            HaltOn::FailureShare(percent) => {
                // The least number: if all further outcomes are failures.
                let percent = u64::from(percent.get());
                let missing = (percent * ended).saturating_sub(100 * self.failed);
                let failures = match 100 - percent {
                    0 if missing > 0 => u64::MAX,
                    rest => missing.div_ceil(rest.max(1)),
                };
                failures.max(Halt::SHARE_OF_AT_LEAST.saturating_sub(ended)).max(1)
            }
        }
    }

    /// Of `count` outcomes that are all failures or all results: the number of those that count, up to the
    /// one that makes the policy halt the job.
    pub(super) fn until_halted(&self, policy: Option<Halt>, count: u64, failed: bool) -> u64 {
        let Some(halt) = policy.filter(|_| self.wanted == Wanted::Yes) else { return count };
        match (halt.on, failed) {
            (HaltOn::Failures(_), false) | (HaltOn::Successes(_), true) => count,
            (HaltOn::Failures(_), true) | (HaltOn::Successes(_), false) | (HaltOn::Done(_), _) => {
                count.min(self.until_halt(halt)).max(1)
            }
            // Each of them may change the share enough.
            (HaltOn::FailureShare(_), _) => 1,
        }
    }

    /// Whether workers must not begin the tasks of it that they hold.
    pub(super) fn is_held_back(&self) -> bool {
        self.is_full || self.wanted == Wanted::Running
    }

    /// The span in the queue with the task that is waited for.
    fn awaited(&self) -> Option<usize> {
        let task = self.waits_for?;
        self.queue.iter().position(|span| (span.first..span.first + span.count).contains(&task))
    }

    /// Takes the task that is waited for out of the queue.
    pub(super) fn pop_awaited(&mut self) -> Option<Span> {
        let (at, task) = (self.awaited()?, self.waits_for?);
        let span = self.queue.remove(at)?;
        let before = task - span.first;
        let parts = [(task + 1, span.count - before - 1), (span.first, before)];
        for (first, count) in parts.into_iter().filter(|(_, count)| *count > 0) {
            self.queue.insert(at, Span { first, count, ..span });
        }
        self.queued -= 1;
        Some(Span { first: task, count: 1, ..span })
    }

    /// Takes the tasks of a batch, `len` at most, off the head of the queue. All of them are at the same
    /// attempt. They need not follow each other: retried tasks are scattered, and come in batches all the
    /// same. A task that has killed a worker comes alone, so that it takes down no other.
    pub(super) fn pop_batch(&mut self, len: u64) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        let mut left = len;
        while left > 0
            && let Some(head) = self.queue.front_mut()
            && spans
                .first()
                .is_none_or(|first| first.attempt == head.attempt && first.deaths + head.deaths == 0)
        {
            let taken = Span { count: left.min(head.count), ..*head };
            head.first += taken.count;
            head.count -= taken.count;
            if head.count == 0 {
                self.queue.pop_front();
            }
            left -= taken.count;
            spans.push(taken);
        }
        self.queued -= len - left;
        spans
    }

    /// The number of tasks in the next batch.
    pub(super) fn batch_len(&self, processes: u64) -> u64 {
        // Towards the end batches get shorter, so that workers finish together; not so short that handing
        // them over takes longer than the work in them.
        let share = self.queued.div_ceil(4 * processes.max(1)).max(self.len_of(BATCH_TIME_MIN));
        self.len_of(BATCH_TIME).min(share)
    }

    /// The number of tasks in a batch that takes this time, as far as one may be so long.
    fn len_of(&self, time: Duration) -> u64 {
        let Some(cost) = self.costs.cost() else { return 1 };
        let by_time = u64::try_from(time.as_nanos() / cost.as_nanos().max(1)).unwrap_or(u64::MAX);
        let mean_bytes = self.bytes / self.submitted.max(1);
        let by_bytes = BATCH_BYTES / mean_bytes.max(1);
        by_time.min(by_bytes).min(self.last_len * BATCH_GROWTH).clamp(1, BATCH_LEN_MAX)
    }

    /// Until when its queue waits for more tasks, if a crowd of workers is at it. `None`: the next batch is
    /// worth its handing over.
    pub(super) fn gathers_until(&self) -> Option<Duration> {
        let is_worth_it = self.is_full || self.counted >= self.len_of(BATCH_TIME_MIN);
        (!is_worth_it).then(|| self.sent_at.saturating_add(BATCH_TIME))
    }

    /// Whether the policy halts the job now, and how.
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
