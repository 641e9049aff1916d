//! What happens to workers: when they are hired, how long they may take, and what their death means.

use std::time::Duration;

use super::{
    Action, Death, FUTILE_DEATHS, FUTILE_ROUNDS, Phase, Recycle, START_PAUSE, START_PAUSE_MAX, Schedule,
    Span, THAW_TIME, Verdict, Worker, WorkerId, earlier,
};

impl Schedule {
    pub(super) fn ready(&mut self, now: Duration, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id)
            && matches!(worker.phase, Phase::Starting { .. })
        {
            worker.phase = Phase::Serving;
            worker.running_since = now;
            self.failed_starts = 0;
        }
    }

    pub(super) fn progress(&mut self, now: Duration, id: WorkerId, started: u64) {
        // It can only go up, and to no more than it was sent: nobody gets more time by counting on.
        if let Some(worker) = self.workers.get_mut(&id)
            && worker.started < started.min(worker.sent)
        {
            worker.started = started.min(worker.sent);
            worker.running_since = now;
        }
    }

    /// It finishes what it holds, then it is replaced.
    pub(super) fn oversized(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id)
            && worker.is_serving()
        {
            worker.leaving.get_or_insert(Recycle::Memory);
        }
    }

    /// A worker is gone. The task that it was running is charged; what it had not begun, or had finished without our having the
    /// result, goes back to the queue at the same attempt.
    pub(super) fn gone(&mut self, now: Duration, id: WorkerId, death: Death, actions: &mut Vec<Action>) {
        let Death { started, retriable, exitcode, reason } = death;
        let Some(mut worker) = self.workers.remove(&id) else { return };
        for job in self.jobs.values_mut() {
            job.forget_costs(id);
        }
        let unanswered = worker.sent - worker.answered;
        let charged = match worker.timed_out {
            _ if worker.innocent => 0,
            // What it may have begun since it was found to take too long is innocent.
            Some(task) => task.saturating_sub(worker.answered),
            // The count is the worker's own word: whatever it says, only a task that it holds is charged.
            None => started.saturating_sub(worker.answered).min(unanswered),
        };
        let verdict = match worker.timed_out {
            Some(_) => Verdict::TimedOut,
            None => Verdict::Lost { exitcode, reason: reason.clone() },
        };
        // From the back, so that the queue's head ends up in the old order.
        let mut position = unanswered;
        while let Some((job, span)) = worker.held.pop_back() {
            position -= span.count;
            if charged > position && charged <= position + span.count {
                let at = charged - position - 1;
                self.requeue_part(job, span, at + 1, span.count, actions);
                let task = Span { first: span.first + at, count: 1, ..span };
                self.charge(now, job, task, verdict.clone(), retriable, actions);
                self.requeue_part(job, span, 0, at, actions);
            } else {
                self.requeue_part(job, span, 0, span.count, actions);
            }
        }
        let progress = charged > 0 || worker.answered > 0;
        match worker.phase {
            _ if worker.innocent => {}
            _ if progress => self.progressed(),
            Phase::Starting { .. } => self.futile_death(worker.round, reason, actions),
            // An eager pool would replace it at once, and so on for ever.
            Phase::Serving if unanswered > 0 || self.config.eager => {
                self.futile_death(worker.round, reason, actions)
            }
            // It could have worked, had there been anything to do.
            Phase::Serving | Phase::Retiring { .. } => {}
        }
    }

    /// The system gave us no more processes. Those that there are go on with the work, and now and then it is asked again.
    pub(super) fn not_started(
        &mut self,
        now: Duration,
        ids: &[WorkerId],
        reason: String,
        actions: &mut Vec<Action>,
    ) {
        let gone: Vec<Worker> = ids.iter().filter_map(|id| self.workers.remove(id)).collect();
        let Some(latest) = gone.iter().map(|worker| worker.round).max() else { return };
        // Those that were asked for together fail together, and are one failure.
        if now >= self.hire_at {
            let pause = START_PAUSE
                .saturating_mul(1 << self.failed_starts.saturating_sub(1).min(10))
                .min(START_PAUSE_MAX);
            let pause = if self.failed_starts == 0 { Duration::ZERO } else { pause };
            self.hire_at = now.saturating_add(pause);
            self.failed_starts += 1;
        }
        // Whoever waits for all of them must learn it.
        if self.config.eager || !self.workers.values().any(Worker::is_hired) {
            self.futile_death(latest, reason, actions);
        }
    }

    pub(super) fn progressed(&mut self) {
        self.futile_deaths = 0;
        self.futile_rounds = 0;
    }

    /// Workers that die without ever beginning a task will not do better the next time.
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

    // Time.

    /// When the worker has taken too long at what it is doing.
    pub(super) fn deadline(&self, worker: &Worker) -> Option<Duration> {
        match worker.phase {
            Phase::Starting { since } => {
                let kill_after = self.config.kill_after.unwrap_or_default();
                Some(since.saturating_add(self.config.start_time).saturating_add(kill_after))
            }
            Phase::Retiring { since } => Some(since.saturating_add(self.config.retire_time)),
            Phase::Serving => earlier(self.task_deadline(worker), self.drop_deadline(worker)),
        }
    }

    /// When its task has reached the time limit and the grace.
    pub(super) fn task_deadline(&self, worker: &Worker) -> Option<Duration> {
        let kill_after = self.config.kill_after.filter(|_| !worker.held.is_empty() && !worker.paused)?;
        Some(worker.running_since.saturating_add(kill_after))
    }

    /// When it should have dropped what nobody wants.
    pub(super) fn drop_deadline(&self, worker: &Worker) -> Option<Duration> {
        worker.dropping_since.map(|since| since.saturating_add(self.config.grace))
    }

    /// When it has been idle for too long.
    pub(super) fn idle_until(&self, worker: &Worker) -> Option<Duration> {
        let idle_time = self.config.idle_time.filter(|_| !self.config.eager && worker.takes_tasks())?;
        Some(worker.running_since.saturating_add(idle_time))
    }

    pub(super) fn tick(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.watched = now;
        let reached = |deadline: Option<Duration>| deadline.is_some_and(|deadline| now >= deadline);
        let is_idle = |w: &Worker| w.phase == Phase::Serving && w.held.is_empty();
        let ids: Vec<WorkerId> = self.workers.iter().filter(|(_, w)| !w.killed).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(worker) = self.workers.get(&id) else { continue };
            if is_idle(worker) {
                if reached(worker.thaw_deadline()) {
                    self.kill(id, false, true, actions);
                } else if reached(self.idle_until(worker)) {
                    self.dismiss(id, Recycle::Idle);
                }
            } else if reached(self.deadline(worker)) {
                // Its task is to blame only if somebody wanted it.
                let timed_out = worker.phase == Phase::Serving && reached(self.task_deadline(worker));
                let innocent = reached(self.drop_deadline(worker));
                self.kill(id, timed_out && !innocent, innocent, actions);
            }
        }
    }

    fn dismiss(&mut self, id: WorkerId, why: Recycle) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.leaving.get_or_insert(why);
        }
    }

    fn kill(&mut self, id: WorkerId, timed_out: bool, innocent: bool, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id).filter(|w| !w.killed) else { return };
        worker.killed = true;
        worker.innocent = innocent;
        worker.timed_out = timed_out.then(|| worker.started.max(worker.answered + 1));
        actions.push(Action::Kill { worker: id });
    }

    // Who is needed.

    /// Starts as many workers as there are tasks that nobody holds, up to the pool's size. A worker that is on its way out does not
    /// hold up its replacement, but no more of them gather than the pool has places: their guests may take their time.
    pub(super) fn hire(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if now < self.hire_at {
            return;
        }
        let hired = self.workers.values().filter(|w| w.is_hired()).count();
        let is_starting = |w: &Worker| matches!(w.phase, Phase::Starting { .. }) && w.leaving.is_none();
        let starting = self.workers.values().filter(|w| w.is_hired() && is_starting(w)).count();
        let places = self.config.processes.saturating_sub(hired);
        let wanted = match self.config.eager && !self.is_over() {
            true => places,
            false => usize::try_from(self.queued).unwrap_or(usize::MAX).saturating_sub(starting),
        };
        let room = self.config.processes.saturating_mul(2).saturating_sub(self.workers.len());
        for _ in 0..wanted.min(places).min(room) {
            let worker = self.next_worker;
            self.next_worker += 1;
            self.workers.insert(worker, Worker::new(now, self.round));
            actions.push(Action::Start { worker });
        }
    }

    /// Ends workers that have done their share or that there is no place for, and all of them once a closed pool has drained.
    pub(super) fn retire(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.dismiss_excess();
        let over = self.is_over();
        let max = self.config.max_tasks_per_child.unwrap_or(u64::MAX);
        for (&id, worker) in &mut self.workers {
            if worker.sent >= max {
                worker.leaving.get_or_insert(Recycle::Quota);
            }
            let through = worker.is_serving() && worker.held.is_empty();
            if through && (over || worker.leaving.is_some()) {
                worker.phase = Phase::Retiring { since: now };
                actions.push(Action::Retire { worker: id, why: worker.leaving.filter(|_| !over) });
            } else if over && matches!(worker.phase, Phase::Starting { .. }) && !worker.killed {
                worker.killed = true;
                actions.push(Action::Kill { worker: id });
            }
        }
    }

    /// After the pool has become smaller: those go first that have least to lose.
    fn dismiss_excess(&mut self) {
        let hired = self.workers.values().filter(|w| w.is_hired());
        let (leaving, staying) = hired.fold((0, 0), |(leaving, staying), w| match w.leaving {
            Some(_) => (leaving + 1, staying),
            None => (leaving, staying + 1),
        });
        let excess = usize::saturating_sub(leaving + staying, self.config.processes).saturating_sub(leaving);
        if excess == 0 {
            return;
        }
        let loss = |w: &Worker| match w.phase {
            // It is let go once it has come up: ended now, it could take others that are starting with it.
            Phase::Starting { .. } => 0,
            _ => 1 + w.held.iter().map(|(_, span)| span.count).sum::<u64>(),
        };
        let mut ids: Vec<(u64, WorkerId)> = self
            .workers
            .iter()
            .filter(|(_, w)| w.is_hired() && w.leaving.is_none())
            .map(|(id, w)| (loss(w), *id))
            .collect();
        ids.sort_unstable();
        for (_, id) in ids.into_iter().take(excess) {
            self.dismiss(id, Recycle::Resize);
        }
    }
}

impl Worker {
    fn new(now: Duration, round: u64) -> Worker {
        Worker {
            round,
            phase: Phase::Starting { since: now },
            held: Default::default(),
            sent: 0,
            answered: 0,
            started: 0,
            running_since: now,
            front_since: now,
            frozen: None,
            paused: false,
            batches: Default::default(),
            through_since: now,
            dropped: 0,
            dropping_since: None,
            leaving: None,
            timed_out: None,
            killed: false,
            innocent: false,
        }
    }

    /// When it should have said that it takes tasks again.
    pub(super) fn thaw_deadline(&self) -> Option<Duration> {
        self.frozen
            .filter(|_| self.held.is_empty())
            .map(|since| since.max(self.running_since).saturating_add(THAW_TIME))
    }

    /// How many of the tasks that it holds it has surely not begun, if they may be taken from it: one of them it may be running.
    pub(super) fn spare(&self) -> u64 {
        let may = self.is_serving() && self.frozen.is_none() && self.dropping_since.is_none();
        if may { (self.sent - self.answered).saturating_sub(1) } else { 0 }
    }

    /// Answers have come: the next task, if it holds one, is running since now.
    pub(super) fn has_answered(&mut self, now: Duration, count: u64) {
        self.answered += count;
        self.running_since = now;
        // As long as it goes on dropping, it obeys.
        self.dropping_since = self.dropping_since.filter(|_| self.answered < self.dropped).map(|_| now);
    }
}
