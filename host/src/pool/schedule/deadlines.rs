//! How long workers may take, and what becomes of one that takes longer.

use std::time::Duration;

use super::worker::{KillReason, Phase, PhaseChange, Worker};
use super::{Config, Recycle};

/// The times that a pool's settings give its workers.
#[derive(Debug)]
pub(super) struct Deadlines {
    /// For becoming ready.
    start: Duration,
    /// For a task.
    task: Option<Duration>,
    /// For dropping a cancelled task.
    drop: Duration,
    /// For the guest's `shutdown`.
    retire: Duration,
    /// Without a task.
    idle: Option<Duration>,
}

impl Deadlines {
    pub(super) fn of(config: &Config) -> Deadlines {
        Deadlines {
            start: config.start_time.saturating_add(config.kill_after.unwrap_or_default()),
            task: config.kill_after,
            drop: config.grace,
            retire: config.retire_time,
            idle: config.idle_time.filter(|_| !config.eager),
        }
    }

    /// From now on no worker is dismissed for being idle.
    pub(super) fn keep_idle(&mut self) {
        self.idle = None;
    }

    /// The next deadline of the worker.
    pub(super) fn next(&self, worker: &Worker) -> Option<Duration> {
        self.all(worker).into_iter().flatten().map(|(at, _)| at).min()
    }

    /// What becomes of the worker by a deadline that it has missed.
    pub(super) fn overdue(&self, now: Duration, worker: &Worker) -> Option<PhaseChange> {
        self.all(worker).into_iter().flatten().find(|(at, _)| now >= *at).map(|(_, change)| change)
    }

    /// When the worker's task has taken too long.
    fn of_task(&self, worker: &Worker) -> Option<Duration> {
        let task = self.task.filter(|_| !worker.held.is_empty() && !worker.paused)?;
        Some(worker.running_since.saturating_add(task))
    }

    /// Whether the worker has a time limit and its count of started tasks matters for that: by its deadline
    /// it may have begun a later task, of which the coordinator learns only when it looks.
    pub(super) fn watches(&self, worker: &Worker) -> bool {
        worker.is_serving() && self.of_task(worker).is_some() && worker.may_begin_one()
    }

    /// The deadlines of the worker, and what becomes of it at each. If it has missed both, the first counts.
    fn all(&self, worker: &Worker) -> [Option<(Duration, PhaseChange)>; 2] {
        match worker.phase {
            Phase::Killed { .. } => [None, None],
            Phase::Starting { since, .. } => {
                [Some((since.saturating_add(self.start), PhaseChange::Kill(KillReason::SlowStart))), None]
            }
            Phase::Retiring { since, .. } => {
                [Some((since.saturating_add(self.retire), PhaseChange::Kill(KillReason::SlowEnd))), None]
            }
            Phase::Serving | Phase::Leaving { .. } | Phase::Frozen { .. } if worker.held.is_empty() => {
                let idle = self.idle.filter(|_| worker.takes_tasks());
                let idle_until = idle.map(|idle| worker.running_since.saturating_add(idle));
                [
                    worker.thaw_deadline().map(|at| (at, PhaseChange::Kill(KillReason::Innocent))),
                    idle_until.map(|at| (at, PhaseChange::Dismiss(Recycle::Idle))),
                ]
            }
            Phase::Serving | Phase::Leaving { .. } | Phase::Frozen { .. } => {
                let dropped = worker.dropping_since.map(|since| since.saturating_add(self.drop));
                let task = worker.started.max(worker.answered + 1);
                [
                    // A cancelled task is not to blame, also if it has reached its own time limit as well.
                    dropped.map(|at| (at, PhaseChange::Kill(KillReason::Innocent))),
                    self.of_task(worker).map(|at| (at, PhaseChange::Kill(KillReason::TimedOut { task }))),
                ]
            }
        }
    }
}
