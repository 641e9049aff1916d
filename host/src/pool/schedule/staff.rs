//! What happens to workers: when they are hired, how long they may take, and what their death means.

use std::time::Duration;

use super::worker::Death;
use super::{
    Action, Count, FUTILE_DEATHS, FUTILE_ROUNDS, Group, KillReason, NoResult, Phase, PhaseChange, Recycle,
    START_PAUSE, START_PAUSE_MAX, Schedule, Span, Worker, WorkerId,
};

impl Schedule {
    /// Keeps all workers from now on.
    pub(super) fn become_eager(&mut self) {
        self.config.eager = true;
        self.workers.keep_idle();
    }

    pub(super) fn ready(&mut self, now: Duration, id: WorkerId) {
        if let Some(mut worker) = self.workers.get_mut(id)
            && worker.is_starting()
        {
            worker.change(PhaseChange::Ready);
            worker.running_since = now;
            self.failed_starts = 0;
        }
    }

    pub(super) fn progress(&mut self, now: Duration, id: WorkerId, started: u64) {
        // The count only goes up, and to no more than the worker was sent: it gets no more time by counting
        // on.
        if let Some(mut worker) = self.workers.get_mut(id)
            && worker.started < started.min(worker.sent)
        {
            worker.started = started.min(worker.sent);
            worker.running_since = now;
        }
    }

    /// Lets the worker finish what it holds. Then it is replaced.
    pub(super) fn oversized(&mut self, id: WorkerId) {
        if let Some(mut worker) = self.workers.get_mut(id)
            && worker.is_serving()
        {
            worker.change(PhaseChange::Dismiss(Recycle::Memory));
        }
    }

    /// A worker is gone. The task that it was running is charged. Tasks that it had not begun, or had
    /// finished without the coordinator having the result, go back to the queue at the same attempt.
    pub(super) fn gone(&mut self, now: Duration, id: WorkerId, death: Death, actions: &mut Vec<Action>) {
        let Some(mut worker) = self.workers.remove(id) else { return };
        for job in self.jobs.values_mut() {
            job.costs.forget(id);
        }
        let charged = worker.charged(death.started);
        let was_useful = charged > 0 || worker.answered > 0;
        let unanswered = worker.unanswered();
        let verdict = match worker.phase {
            Phase::Killed { why: KillReason::TimedOut { .. }, .. } => NoResult::TimedOut,
            Phase::Killed { .. }
            | Phase::Starting { .. }
            | Phase::Serving
            | Phase::Leaving { .. }
            | Phase::Frozen { .. }
            | Phase::Retiring { .. } => {
                NoResult::Lost { exitcode: death.exitcode, reason: death.reason.clone() }
            }
        };
        // From the back, so that the head of the queue ends up in the old order.
        let mut position = unanswered;
        while let Some((job, span)) = worker.held.pop_back() {
            position -= span.count;
            if charged > position && charged <= position + span.count {
                let at = charged - position - 1;
                self.requeue_part(job, span, at + 1, span.count, actions);
                let task = Span { first: span.first + at, count: 1, ..span };
                self.charge(now, job, task, verdict.clone(), death.retriable, actions);
                self.requeue_part(job, span, 0, at, actions);
            } else {
                self.requeue_part(job, span, 0, span.count, actions);
            }
        }
        match worker.phase {
            Phase::Killed { why: KillReason::Innocent, .. } => {}
            _ if was_useful => self.progressed(),
            Phase::Starting { .. } | Phase::Killed { why: KillReason::SlowStart, .. } => {
                self.futile_death(worker.round, death.reason, actions);
            }
            Phase::Serving | Phase::Leaving { .. } | Phase::Frozen { .. } => {
                // Without tasks it could have worked, had there been any. But an eager pool would replace it
                // at once, and so on for ever.
                if unanswered > 0 || self.config.eager {
                    self.futile_death(worker.round, death.reason, actions);
                }
            }
            Phase::Retiring { .. }
            | Phase::Killed {
                why: KillReason::TimedOut { .. } | KillReason::SlowEnd | KillReason::PoolOver,
                ..
            } => {}
        }
    }

    /// The system refused to start workers. The other workers go on, and the system is asked again after a
    /// pause.
    pub(super) fn not_started(
        &mut self,
        now: Duration,
        ids: &[WorkerId],
        reason: String,
        actions: &mut Vec<Action>,
    ) {
        let gone: Vec<Worker> = ids.iter().filter_map(|id| self.workers.remove(*id)).collect();
        let Some(latest) = gone.iter().map(|worker| worker.round).max() else { return };
        // Workers that were asked for together fail together: that is one failure.
        if now >= self.hire_at {
            let pause = START_PAUSE
                .saturating_mul(1 << self.failed_starts.saturating_sub(1).min(10))
                .min(START_PAUSE_MAX);
            let pause = if self.failed_starts == 0 { Duration::ZERO } else { pause };
            self.hire_at = now.saturating_add(pause);
            self.failed_starts += 1;
        }
        // `Pool::start` of an eager pool waits for all workers and must get an error.
        if self.config.eager || self.workers.count(Count::Hired) == 0 {
            self.futile_death(latest, reason, actions);
        }
    }

    /// A worker has begun or done a task: deaths before that prove nothing.
    pub(super) fn progressed(&mut self) {
        self.futile_deaths = 0;
        self.futile_rounds = 0;
    }

    /// A worker died before it began a task. After several such deaths the pool breaks: the next worker would
    /// not do better.
    fn futile_death(&mut self, round: u64, reason: String, actions: &mut Vec<Action>) {
        if self.is_over() {
            return;
        }
        self.futile_deaths += 1;
        if round == self.round {
            self.round += 1;
            self.futile_rounds += 1;
        }
        if self.futile_deaths >= FUTILE_DEATHS && self.futile_rounds >= FUTILE_ROUNDS {
            let tries = self.futile_deaths;
            self.breaks(format!("workers cannot run: {reason} ({tries} tries)"), actions);
        }
    }

    pub(super) fn tick(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.watched = now;
        for id in self.workers.group_until(Group::Timed, now) {
            if let Some(change) = self.workers.overdue(now, id) {
                self.change(id, change, actions);
            }
        }
    }

    fn change(&mut self, id: WorkerId, change: PhaseChange, actions: &mut Vec<Action>) {
        if let Some(mut worker) = self.workers.get_mut(id) {
            worker.change(change);
            if matches!(change, PhaseChange::Kill(_)) {
                actions.push(Action::Kill { worker: id });
            }
        }
    }

    // Which workers are needed.

    /// Starts a worker for each queued task, up to the pool's size. A worker that is told to end has no place
    /// any more, so that its replacement need not wait. But the pool has at most twice as many processes as
    /// places, since the guests of ending workers may take their time.
    pub(super) fn hire(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if now < self.hire_at {
            return;
        }
        let (hired, starting) = (self.workers.count(Count::Hired), self.workers.count(Count::Starting));
        let places = self.config.processes.saturating_sub(hired);
        let wanted = if self.config.eager && !self.is_over() {
            places
        } else {
            usize::try_from(self.queued).unwrap_or(usize::MAX).saturating_sub(starting)
        };
        let room = self.config.processes.saturating_mul(2).saturating_sub(self.workers.len());
        for _ in 0..wanted.min(places).min(room) {
            let worker = self.next_worker;
            self.next_worker += 1;
            self.workers.insert(worker, Worker::new(now, self.round));
            actions.push(Action::Start { worker });
        }
    }

    /// Tells workers to end that are to be replaced or have no place any more; and all of them once a closed
    /// pool has drained.
    pub(super) fn retire(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.dismiss_excess();
        let over = self.is_over();
        let ids = if over && self.workers.count(Count::Hired) > 0 {
            self.workers.ids()
        } else {
            self.workers.group_until(Group::Leaving, Duration::MAX)
        };
        for id in ids {
            let Some(mut worker) = self.workers.get_mut(id) else { continue };
            let leaving = worker.leaving();
            if worker.is_serving() && worker.held.is_empty() {
                worker.change(PhaseChange::Retire(now));
                actions.push(Action::Retire { worker: id, why: leaving.filter(|_| !over) });
            } else if over && worker.is_starting() {
                worker.change(PhaseChange::Kill(KillReason::PoolOver));
                actions.push(Action::Kill { worker: id });
            }
        }
    }

    /// After the pool has become smaller: dismisses the workers with the least to lose.
    fn dismiss_excess(&mut self) {
        let (hired, staying) = (self.workers.count(Count::Hired), self.workers.count(Count::Staying));
        let leaving = hired - staying;
        let excess = hired.saturating_sub(self.config.processes).saturating_sub(leaving);
        if excess == 0 {
            return;
        }
        // A starting worker has nothing to lose. It ends once it is ready: killed now, it could take other
        // starting workers with it, since the zygote is ended that owes it.
        let loss = |w: &Worker| {
            if w.is_starting() { 0 } else { 1 + w.held.iter().map(|(_, span)| span.count).sum::<u64>() }
        };
        let mut ids: Vec<(u64, WorkerId)> =
            self.workers.iter().filter(|(_, w)| w.stays()).map(|(id, w)| (loss(w), id)).collect();
        ids.sort_unstable();
        for (_, id) in ids.into_iter().take(excess) {
            if let Some(mut worker) = self.workers.get_mut(id) {
                worker.change(PhaseChange::Dismiss(Recycle::Resize));
            }
        }
    }
}

impl Worker {
    /// Which of the tasks that it holds is charged with its death: number n, counted from 1. 0: none.
    fn charged(&self, started: u64) -> u64 {
        match self.phase {
            Phase::Killed { why: KillReason::Innocent, .. } => 0,
            // A task that it may have begun since it was found to take too long is not charged.
            Phase::Killed { why: KillReason::TimedOut { task }, .. } => task.saturating_sub(self.answered),
            // The worker may lie about the count: only a task that it holds is charged.
            Phase::Killed {
                why: KillReason::SlowStart | KillReason::SlowEnd | KillReason::PoolOver, ..
            }
            | Phase::Starting { .. }
            | Phase::Serving
            | Phase::Leaving { .. }
            | Phase::Frozen { .. }
            | Phase::Retiring { .. } => started.saturating_sub(self.answered).min(self.unanswered()),
        }
    }
}
