//! A worker as the schedule sees it: where it is in its life, and what it holds.

use std::collections::VecDeque;
use std::time::Duration;

use super::span::Span;
use super::{JobId, Recycle, THAW_TIME};

/// How a worker died.
pub(super) struct Death {
    pub(super) started: u64,
    pub(super) retriable: bool,
    pub(super) exitcode: Option<i32>,
    pub(super) reason: String,
}

/// Where a worker is in its life. [`Phase::after`] has all transitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It loads the module and runs the initializer. `leaving`: it is told to end as soon as it is ready.
    Starting { since: Duration, leaving: Option<Recycle> },
    /// It gets tasks.
    Serving,
    /// It gets no more tasks, and is told to end once it holds none.
    Leaving { why: Recycle },
    /// Tasks were taken back from it: it begins none and gets none until it answers `Thaw`.
    Frozen { since: Duration, leaving: Option<Recycle> },
    /// It was told to end. `owes_thaw`: it has not answered `Thaw` yet.
    Retiring { since: Duration, owes_thaw: bool },
    /// It was killed, and its process is not gone yet.
    Killed { why: KillReason, owes_thaw: bool },
}

/// Why a worker was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KillReason {
    /// It was not ready in time.
    SlowStart,
    /// Its task took too long: task number `task` of its life, counted from 1.
    TimedOut { task: u64 },
    /// It did not drop cancelled tasks or did not answer `Thaw`, through no fault of its task: no task is
    /// charged.
    Innocent,
    /// Its guest's `shutdown` took too long.
    SlowEnd,
    /// The pool is over.
    PoolOver,
}

/// What changes the phase of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PhaseChange {
    /// The worker is loaded and initialized.
    Ready,
    /// The worker is to end once it holds no tasks.
    Dismiss(Recycle),
    /// Tasks are taken back from the worker at this time.
    Freeze(Duration),
    /// The worker has answered `Thaw`.
    Thaw,
    /// The worker is told to end at this time.
    Retire(Duration),
    /// The worker is killed.
    Kill(KillReason),
}

impl Phase {
    /// The phase after a change. Of several reasons to leave, the first one stays.
    fn after(self, change: PhaseChange) -> Phase {
        use PhaseChange::{Dismiss, Freeze, Kill, Ready, Retire, Thaw};
        match (self, change) {
            (Phase::Starting { leaving: None, .. }, Ready) => Phase::Serving,
            (Phase::Starting { leaving: Some(why), .. }, Ready) => Phase::Leaving { why },
            (Phase::Starting { since, leaving }, Dismiss(why)) => {
                Phase::Starting { since, leaving: leaving.or(Some(why)) }
            }
            (Phase::Serving, Dismiss(why)) => Phase::Leaving { why },
            (Phase::Serving, Freeze(since)) => Phase::Frozen { since, leaving: None },
            (Phase::Leaving { why }, Freeze(since)) => Phase::Frozen { since, leaving: Some(why) },
            (Phase::Serving | Phase::Leaving { .. }, Retire(since)) => {
                Phase::Retiring { since, owes_thaw: false }
            }
            (Phase::Frozen { leaving: None, .. }, Thaw) => Phase::Serving,
            (Phase::Frozen { leaving: Some(why), .. }, Thaw) => Phase::Leaving { why },
            (Phase::Frozen { since, leaving }, Dismiss(why)) => {
                Phase::Frozen { since, leaving: leaving.or(Some(why)) }
            }
            (Phase::Frozen { .. }, Retire(since)) => Phase::Retiring { since, owes_thaw: true },
            (Phase::Retiring { since, .. }, Thaw) => Phase::Retiring { since, owes_thaw: false },
            (Phase::Starting { .. } | Phase::Serving | Phase::Leaving { .. }, Kill(why)) => {
                Phase::Killed { why, owes_thaw: false }
            }
            (Phase::Frozen { .. }, Kill(why)) => Phase::Killed { why, owes_thaw: true },
            (Phase::Retiring { owes_thaw, .. }, Kill(why)) => Phase::Killed { why, owes_thaw },
            (Phase::Killed { why, .. }, Thaw) => Phase::Killed { why, owes_thaw: false },
            // These change nothing: they come too late, or say again what is known.
            (Phase::Starting { .. }, Freeze(_) | Thaw | Retire(_))
            | (Phase::Serving, Ready | Thaw)
            | (Phase::Leaving { .. }, Ready | Dismiss(_) | Thaw)
            | (Phase::Frozen { .. }, Ready | Freeze(_))
            | (Phase::Retiring { .. }, Ready | Dismiss(_) | Freeze(_) | Retire(_))
            | (Phase::Killed { .. }, Ready | Dismiss(_) | Freeze(_) | Retire(_) | Kill(_)) => self,
        }
    }
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) phase: Phase,
    /// The round in which it was hired.
    pub(super) round: u64,
    /// The tasks that it holds, in the order in which it will answer.
    pub(super) held: VecDeque<(JobId, Span)>,
    /// Tasks that it was sent in its life, less those that were taken back.
    pub(super) sent: u64,
    /// Tasks that it has answered in its life.
    pub(super) answered: u64,
    /// Tasks that it has started in its life, by its own count.
    pub(super) started: u64,
    /// When its present task began, as far as the coordinator sees; without a task, when it became idle.
    pub(super) running_since: Duration,
    /// When it began its present batch.
    pub(super) front_since: Duration,
    /// The coordinator does not read its results: its time limits stand still.
    pub(super) paused: bool,
    /// The batches that it has not ended, oldest first.
    pub(super) batches: VecDeque<SentBatch>,
    /// When it ended the batch before these.
    pub(super) through_since: Duration,
    /// The first `dropped` tasks of its life are cancelled.
    pub(super) dropped: u64,
    /// When it was told so, or last answered since, while it holds any of them.
    pub(super) dropping_since: Option<Duration>,
}

/// A batch that a worker was sent and has not ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct SentBatch {
    pub(super) job: JobId,
    pub(super) count: u64,
    pub(super) at: Duration,
    /// It would have been longer if the worker had had more credit.
    pub(super) lacked_credit: bool,
}

impl Worker {
    pub(super) fn new(now: Duration, round: u64) -> Worker {
        Worker {
            round,
            phase: Phase::Starting { since: now, leaving: None },
            held: VecDeque::new(),
            sent: 0,
            answered: 0,
            started: 0,
            running_since: now,
            front_since: now,
            paused: false,
            batches: VecDeque::new(),
            through_since: now,
            dropped: 0,
            dropping_since: None,
        }
    }

    pub(super) fn change(&mut self, change: PhaseChange) {
        self.phase = self.phase.after(change);
    }

    /// Whether it is ready, and neither told to end nor killed.
    pub(super) fn is_serving(&self) -> bool {
        match self.phase {
            Phase::Serving | Phase::Leaving { .. } | Phase::Frozen { .. } => true,
            Phase::Starting { .. } | Phase::Retiring { .. } | Phase::Killed { .. } => false,
        }
    }

    pub(super) fn is_starting(&self) -> bool {
        matches!(self.phase, Phase::Starting { .. })
    }

    pub(super) fn is_killed(&self) -> bool {
        matches!(self.phase, Phase::Killed { .. })
    }

    /// Whether it has one of the pool's places: it is neither told to end nor killed.
    pub(super) fn is_hired(&self) -> bool {
        self.is_starting() || self.is_serving()
    }

    /// Why it will be told to end, if that is decided and not done yet.
    pub(super) fn leaving(&self) -> Option<Recycle> {
        match self.phase {
            Phase::Starting { leaving, .. } | Phase::Frozen { leaving, .. } => leaving,
            Phase::Leaving { why } => Some(why),
            Phase::Serving | Phase::Retiring { .. } | Phase::Killed { .. } => None,
        }
    }

    /// Whether it has a place that it keeps.
    pub(super) fn stays(&self) -> bool {
        self.is_hired() && self.leaving().is_none()
    }

    /// Whether it may be given tasks.
    pub(super) fn takes_tasks(&self) -> bool {
        self.phase == Phase::Serving
    }

    /// Whether tasks were taken back from it and it has not answered `Thaw` yet.
    pub(super) fn owes_thaw(&self) -> bool {
        match self.phase {
            Phase::Frozen { .. } => true,
            Phase::Retiring { owes_thaw, .. } | Phase::Killed { owes_thaw, .. } => owes_thaw,
            Phase::Starting { .. } | Phase::Serving | Phase::Leaving { .. } => false,
        }
    }

    /// When it should have answered `Thaw`. Nothing else keeps it from that once it holds no tasks.
    pub(super) fn thaw_deadline(&self) -> Option<Duration> {
        match self.phase {
            Phase::Frozen { since, .. } if self.held.is_empty() => {
                Some(since.max(self.running_since).saturating_add(THAW_TIME))
            }
            Phase::Frozen { .. }
            | Phase::Starting { .. }
            | Phase::Serving
            | Phase::Leaving { .. }
            | Phase::Retiring { .. }
            | Phase::Killed { .. } => None,
        }
    }

    /// The number of tasks that may be taken back from it. One of those that it holds it may be running.
    pub(super) fn spare(&self) -> u64 {
        if self.may_be_frozen() { self.unanswered() - 1 } else { 0 }
    }

    /// Whether it holds tasks and can be kept from beginning further ones.
    pub(super) fn may_be_frozen(&self) -> bool {
        let is_at_work = matches!(self.phase, Phase::Serving | Phase::Leaving { .. });
        is_at_work && self.dropping_since.is_none() && self.unanswered() > 0
    }

    /// Whether it holds a task that is not known to have begun.
    pub(super) fn may_begin_one(&self) -> bool {
        self.started.max(self.answered) < self.sent
    }

    pub(super) fn unanswered(&self) -> u64 {
        self.sent - self.answered
    }

    /// Counts answers. The next task, if it holds one, runs since now.
    pub(super) fn has_answered(&mut self, now: Duration, count: u64) {
        self.answered += count;
        self.running_since = now;
        // While it answers cancelled tasks one by one, it does what it was told.
        self.dropping_since = self.dropping_since.filter(|_| self.answered < self.dropped).map(|_| now);
    }

    /// Takes `count` tasks off the head of what it holds, which lie within the first span.
    pub(super) fn pop_front(&mut self, now: Duration, count: u64) {
        let Some((_, span)) = self.held.front_mut() else { return };
        span.first += count;
        span.count -= count;
        if span.count == 0 {
            self.held.pop_front();
            self.front_since = now;
        }
        self.has_answered(now, count);
    }

    /// Adds a batch behind what it holds.
    pub(super) fn push_back(&mut self, job: JobId, spans: &[Span], batch: SentBatch) {
        if self.held.is_empty() {
            self.running_since = batch.at;
            self.front_since = batch.at;
        }
        self.sent += batch.count;
        self.held.extend(spans.iter().map(|span| (job, *span)));
        self.batches.push_back(batch);
    }

    /// The number of batches of which it holds tasks.
    pub(super) fn batches_held(&self) -> usize {
        let mut left = self.unanswered();
        let is_held = |batch: &&SentBatch| {
            let holds = left > 0;
            left = left.saturating_sub(batch.count);
            holds
        };
        self.batches.iter().rev().take_while(is_held).count()
    }

    /// Takes back the tasks behind the first `kept` tasks of its life. Gives them from the last to the first.
    pub(super) fn take_back(&mut self, kept: u64) -> Vec<(JobId, Span)> {
        let mut taken = Vec::new();
        while self.sent > kept
            && let Some((job, span)) = self.held.back_mut()
        {
            let count = span.count.min(self.sent - kept);
            span.count -= count;
            self.sent -= count;
            taken.push((*job, Span { first: span.first + span.count, count, ..*span }));
            if span.count == 0 {
                self.held.pop_back();
            }
            // It will not tell the end of a batch of which it begins nothing.
            if let Some(batch) = self.batches.back_mut() {
                batch.count = batch.count.saturating_sub(count);
                if batch.count == 0 {
                    self.batches.pop_back();
                }
            }
        }
        self.started = self.started.min(self.sent);
        taken
    }
}
