//! What happens to tasks: who gets them, and how they end.

use std::time::Duration;

use super::{
    Action, HAND_OVER_MAX, Job, JobId, PREFETCH_TIME, PoolState, Schedule, SentBatch, Span, TAKE_BACK_TIME,
    Verdict, Wanted, Worker, WorkerId,
};
use crate::pool::policy::HaltWhen;

impl Schedule {
    pub(super) fn submitted(&mut self, id: JobId, count: u64, bytes: u64, actions: &mut Vec<Action>) {
        let job = self.jobs.entry(id).or_insert_with(Job::new);
        let first = job.submitted;
        job.submitted += count;
        job.bytes += bytes;
        let span = Span { first, count, attempt: 1, deaths: 0 };
        match self.state {
            PoolState::Run | PoolState::Close if job.wanted == Wanted::Yes => {
                job.push_back(span);
                self.recount(id);
            }
            // Too late: an outcome all the same.
            PoolState::Run | PoolState::Close => self.give(id, span, Verdict::Cancelled, actions),
            PoolState::Terminate | PoolState::Finished => {
                let verdict = self.verdict();
                self.give(id, span, verdict, actions);
            }
        }
    }

    pub(super) fn input_ended(&mut self, id: JobId, actions: &mut Vec<Action>) {
        self.jobs.entry(id).or_insert_with(Job::new).input_ended = true;
        self.job_done(id, actions);
    }

    /// What is queued is given up. What workers hold runs to its end, or is dropped by them (see `drop_unwanted`).
    pub(super) fn unwant(&mut self, id: JobId, wanted: Wanted, actions: &mut Vec<Action>) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.wanted != Wanted::No) else { return };
        let was_held_back = job.is_held_back();
        job.wanted = wanted;
        self.held_back = self.held_back - usize::from(was_held_back) + usize::from(job.is_held_back());
        self.unwanted += usize::from(wanted == Wanted::No);
        job.queued = 0;
        let queued = std::mem::take(&mut job.queue);
        let pauses = std::mem::take(&mut job.pauses);
        let delayed: Vec<Span> =
            pauses.iter().filter_map(|key| self.delayed.remove(key)).map(|(_, span)| span).collect();
        self.recount(id);
        for span in queued.into_iter().chain(delayed) {
            self.give(id, span, Verdict::Cancelled, actions);
        }
        self.job_done(id, actions);
    }

    /// Tells workers of the tasks at the head of what they hold that nobody wants.
    pub(super) fn drop_unwanted(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.unwanted == 0 {
            return;
        }
        for (&id, worker) in self.workers.iter_mut().filter(|(_, w)| w.is_serving()) {
            let is_unwanted = |job: &JobId| self.jobs.get(job).is_some_and(|job| job.wanted == Wanted::No);
            let run = worker.held.iter().take_while(|(job, _)| is_unwanted(job)).map(|(_, span)| span.count);
            let until = worker.answered + run.sum::<u64>();
            if until > worker.answered && until > worker.dropped {
                worker.dropped = until;
                worker.dropping_since.get_or_insert(now);
                actions.push(Action::Drop { worker: id, until });
            }
        }
    }

    /// Takes `count` answered tasks from the head of what the worker holds.
    pub(super) fn answered(
        &mut self,
        now: Duration,
        id: WorkerId,
        count: u64,
        mut failed: u64,
        actions: &mut Vec<Action>,
    ) {
        let mut left = count;
        while left > 0 {
            let Some(worker) = self.workers.get_mut(&id) else { return };
            let Some((job_id, span)) = worker.held.front_mut() else { break };
            let (job_id, attempt) = (*job_id, span.attempt);
            let Some(job) = self.jobs.get_mut(&job_id) else { break };
            let part = job.until_halted(self.config.halt, left.min(span.count), failed > 0);
            let taken = Span { count: part, ..*span };
            span.first += part;
            span.count -= part;
            if span.count == 0 {
                worker.held.pop_front();
                worker.front_since = now;
            }
            worker.has_answered(now, part);
            let failures = failed.min(part);
            (left, failed) = (left - part, failed - failures);
            if job.discards {
                actions.push(Action::Skip { count: part });
                self.give(job_id, taken, Verdict::Cancelled, actions);
            } else {
                actions.push(Action::Deliver { job: job_id, first: taken.first, count: part, attempt });
                job.ok += part - failures;
                job.failed += failures;
                self.done(job_id, part, actions);
            }
        }
        self.progressed();
    }

    pub(super) fn failed(&mut self, now: Duration, id: WorkerId, retriable: bool, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Some((job, span)) = worker.held.front_mut() else { return };
        let (job, task) = (*job, Span { count: 1, ..*span });
        let wanted = self.jobs.get(&job).is_some_and(|job| job.wanted == Wanted::Yes);
        if !retriable || task.attempt > self.config.retries || !wanted {
            return self.answered(now, id, 1, 1, actions);
        }
        span.first += 1;
        span.count -= 1;
        if span.count == 0 {
            worker.held.pop_front();
            worker.front_since = now;
        }
        worker.has_answered(now, 1);
        self.progressed();
        self.retry(now, job, task, None, actions);
    }

    /// One more attempt, after a pause.
    fn retry(
        &mut self,
        now: Duration,
        job: JobId,
        task: Span,
        verdict: Option<Verdict>,
        actions: &mut Vec<Action>,
    ) {
        let delay = self.config.backoff.delay(self.config.delay, task.attempt);
        actions.push(Action::Retry { job, task: task.first, attempt: task.attempt, delay, verdict });
        let task = Span { attempt: task.attempt + 1, ..task };
        if delay.is_zero() {
            return self.requeue(job, task, actions);
        }
        self.delays += 1;
        let key = (now.saturating_add(delay), self.delays);
        self.delayed.insert(key, (job, task));
        if let Some(job) = self.jobs.get_mut(&job) {
            job.pauses.insert(key);
        }
        self.recount(job);
    }

    /// Queues the tasks whose pause is over.
    pub(super) fn release(&mut self, now: Duration, actions: &mut Vec<Action>) {
        while let Some(first) = self.delayed.first_entry().filter(|first| first.key().0 <= now) {
            let (key, (job, task)) = first.remove_entry();
            if let Some(job) = self.jobs.get_mut(&job) {
                job.pauses.remove(&key);
            }
            self.requeue(job, task, actions);
        }
    }

    /// The task that was running when its worker died.
    pub(super) fn charge(
        &mut self,
        now: Duration,
        job: JobId,
        mut task: Span,
        verdict: Verdict,
        retriable: bool,
        actions: &mut Vec<Action>,
    ) {
        let mut verdict = verdict;
        let wanted = self.jobs.get(&job).is_some_and(|job| job.wanted == Wanted::Yes);
        if self.jobs.get(&job).is_some_and(|job| job.discards) {
            return self.give(job, task, Verdict::Cancelled, actions);
        }
        let may = wanted && !self.is_terminated() && retriable && task.attempt <= self.config.retries;
        let mut poisonous = false;
        if let Verdict::Lost { reason, .. } = &mut verdict {
            task.deaths += 1;
            poisonous = task.deaths >= self.config.poison_limit;
            if may && poisonous {
                reason.push_str(&format!("; not tried again, for it has taken down {} workers", task.deaths));
            }
        }
        match may && !poisonous {
            true => self.retry(now, job, task, Some(verdict), actions),
            false => self.give(job, task, verdict, actions),
        }
    }

    pub(super) fn give(&mut self, job: JobId, span: Span, verdict: Verdict, actions: &mut Vec<Action>) {
        if matches!(verdict, Verdict::Lost { .. } | Verdict::TimedOut)
            && let Some(job) = self.jobs.get_mut(&job)
        {
            job.failed += span.count;
        }
        actions.push(Action::Give {
            job,
            first: span.first,
            count: span.count,
            attempt: span.attempt,
            verdict,
        });
        self.done(job, span.count, actions);
    }

    fn done(&mut self, id: JobId, count: u64, actions: &mut Vec<Action>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.done += count;
        match job.halts(self.config.halt) {
            Some(when) => {
                job.discards = when == HaltWhen::Now;
                actions.push(Action::Halted { job: id });
                self.unwant(id, when.into(), actions);
            }
            None => self.recount(id),
        }
        self.job_done(id, actions);
    }

    fn job_done(&mut self, id: JobId, actions: &mut Vec<Action>) {
        let Some(job) = self.jobs.get(&id).filter(|job| job.input_ended && job.done == job.submitted) else {
            return;
        };
        self.unwanted -= usize::from(job.wanted == Wanted::No);
        self.held_back -= usize::from(job.is_held_back());
        self.jobs.remove(&id);
        actions.push(Action::JobDone { job: id });
    }

    fn requeue(&mut self, id: JobId, span: Span, actions: &mut Vec<Action>) {
        match self.jobs.get_mut(&id) {
            Some(job) if job.wanted != Wanted::Yes => self.give(id, span, Verdict::Cancelled, actions),
            Some(job) => {
                job.push_front(span);
                self.recount(id);
            }
            None => {}
        }
    }

    /// After each change of what may be handed out of a job.
    fn recount(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let open = job.open(self.config.halt);
        self.queued = self.queued - job.counted + open;
        job.counted = open;
        match open {
            0 => self.waiting.remove(&id),
            _ => self.waiting.insert(id),
        };
    }

    // Results that nobody has taken.

    pub(super) fn undelivered(&mut self, id: JobId, bytes: u64, waits_for: Option<u64>) {
        let max = self.config.results_max;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        // Not at each result to and fro.
        let was_held_back = job.is_held_back();
        job.is_full = bytes >= if job.is_full { max - max / 4 } else { max };
        self.held_back = self.held_back - usize::from(was_held_back) + usize::from(job.is_held_back());
        job.waits_for = waits_for;
        if !self.is_terminated() {
            self.recount(id);
        }
    }

    pub(super) fn paused(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.paused = true;
        }
    }

    /// Its time goes on, anew: for how long it had been waiting, nobody knows.
    pub(super) fn resumed(&mut self, now: Duration, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.paused = false;
            worker.running_since = now;
        }
    }

    /// Whether the worker has tasks that it has surely not begun, and must not begin.
    fn is_too_far_ahead(&self, worker: &Worker) -> bool {
        let is_held_back = |job: &JobId| self.jobs.get(job).is_some_and(Job::is_held_back);
        let mut behind = worker.held.iter().enumerate().filter(|(at, (_, span))| *at > 0 || span.count > 1);
        worker.spare() > 0 && behind.any(|(_, (job, _))| is_held_back(job))
    }

    pub(super) fn requeue_part(
        &mut self,
        job: JobId,
        span: Span,
        from: u64,
        to: u64,
        actions: &mut Vec<Action>,
    ) {
        if from < to {
            self.requeue(job, Span { first: span.first + from, count: to - from, ..span }, actions);
        }
    }

    /// What a batch has cost tells how long the next one should be. The time is what was seen from here; of that the worker may say how much was not its
    /// own, within bounds.
    pub(super) fn batch_done(&mut self, now: Duration, id: WorkerId, busy: Duration) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Some(SentBatch { job, count, at }) = worker.batches.pop_front() else { return };
        // It could not begin before it was through with the one before; but that end may have been heard of late.
        let least = now.saturating_sub(at.max(worker.through_since)) / HAND_OVER_MAX;
        let busy = busy.clamp(least, now.saturating_sub(at));
        worker.through_since = now;
        if let Some(job) = self.jobs.get_mut(&job) {
            job.note_cost(id, busy / u32::try_from(count.max(1)).unwrap_or(u32::MAX));
        }
    }

    /// Hands out queued tasks: first to workers that hold nothing, then one batch ahead to those that will soon be through.
    pub(super) fn assign(&mut self, now: Duration, actions: &mut Vec<Action>) {
        for ahead in [0, 1] {
            if self.queued == 0 {
                return;
            }
            let ids: Vec<WorkerId> = self
                .workers
                .iter()
                .filter(|(_, w)| w.takes_tasks() && w.held.len() == ahead)
                .map(|(id, _)| *id)
                .collect();
            for id in ids {
                if ahead == 1 && !self.soon_through(now, id) {
                    continue;
                }
                self.assign_to(now, id, ahead > 0, actions);
            }
        }
    }

    /// Whether a worker will want its next batch before long, by what others have cost and by what this one has taken already.
    fn soon_through(&self, now: Duration, id: WorkerId) -> bool {
        let Some(worker) = self.workers.get(&id) else { return false };
        let Some((job, span)) = worker.held.front() else { return false };
        if now.saturating_sub(worker.running_since) > PREFETCH_TIME {
            return false;
        }
        let cost = self.jobs.get(job).and_then(Job::cost);
        cost.is_some_and(|cost| {
            cost.saturating_mul(u32::try_from(span.count).unwrap_or(u32::MAX)) <= PREFETCH_TIME
        })
    }

    // Tasks that a worker holds but has not begun, when another has nothing to do: a slow one must not keep those behind it.

    /// How many workers could begin something at once, or be started for it.
    fn idle(&self) -> usize {
        let idle = self
            .workers
            .values()
            .filter(|w| w.is_hired() && w.leaving.is_none() && w.held.is_empty())
            .count();
        let hired = self.workers.values().filter(|w| w.is_hired()).count();
        idle + self.config.processes.saturating_sub(hired)
    }

    /// Freezes workers that have what must not be begun, and as many as have been at their batches for long, and as others are without.
    pub(super) fn take_back(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let ahead: Vec<WorkerId> = match self.held_back {
            0 => Vec::new(),
            _ => self.workers.iter().filter(|(_, w)| self.is_too_far_ahead(w)).map(|(id, _)| *id).collect(),
        };
        for id in ahead {
            self.freeze(now, id, actions);
        }
        if self.queued > 0 || !self.workers.values().any(|w| w.spare() > 0) {
            return;
        }
        for _ in 0..self.idle() {
            let is_due = |w: &Worker| w.spare() > 0 && now >= w.front_since.saturating_add(TAKE_BACK_TIME);
            let richest = self.workers.iter().filter(|(_, w)| is_due(w)).max_by_key(|(_, w)| w.spare());
            let Some((&id, _)) = richest else { return };
            self.freeze(now, id, actions);
        }
    }

    fn freeze(&mut self, now: Duration, id: WorkerId, actions: &mut Vec<Action>) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.frozen = Some(now);
            actions.push(Action::TakeBack { worker: id });
        }
    }

    /// When there will be something to take back, if nothing else happens.
    pub(super) fn next_take_back(&self) -> Option<Duration> {
        let due = |w: &Worker| w.front_since.saturating_add(TAKE_BACK_TIME);
        let next = self.workers.values().filter(|w| w.spare() > 0).map(due).min()?;
        let could =
            matches!(self.state, PoolState::Run | PoolState::Close) && self.queued == 0 && self.idle() > 0;
        could.then_some(next)
    }

    /// What it has not begun goes back to the queue at the same attempt.
    pub(super) fn taken_back(&mut self, id: WorkerId, started: u64, actions: &mut Vec<Action>) {
        if self.is_terminated() {
            return;
        }
        let Some(worker) = self.workers.get_mut(&id).filter(|w| w.frozen.is_some()) else { return };
        // The count is the worker's own word: whatever it says, it keeps no more than it holds.
        let kept = started.clamp(worker.answered, worker.sent);
        let mut taken = Vec::new();
        while worker.sent > kept
            && let Some((job, span)) = worker.held.back_mut()
        {
            let count = span.count.min(worker.sent - kept);
            span.count -= count;
            worker.sent -= count;
            taken.push((*job, Span { first: span.first + span.count, count, ..*span }));
            if span.count == 0 {
                worker.held.pop_back();
            }
            // A batch of which it has begun nothing it will not tell to be done.
            if let Some(batch) = worker.batches.back_mut() {
                batch.count = batch.count.saturating_sub(count);
                if batch.count == 0 {
                    worker.batches.pop_back();
                }
            }
        }
        worker.started = worker.started.min(worker.sent);
        // From the back, so that the queue's head ends up in the old order.
        for (job, span) in taken {
            self.requeue(job, span, actions);
        }
    }

    pub(super) fn thawed(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.frozen = None;
        }
    }

    /// `is_ahead`: behind what the worker has.
    fn assign_to(&mut self, now: Duration, id: WorkerId, is_ahead: bool, actions: &mut Vec<Action>) {
        let processes = self.config.processes as u64;
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let quota = self.config.max_tasks_per_child.map_or(u64::MAX, |max| max.saturating_sub(worker.sent));
        // Jobs take turns. The one task of a full job must be begun at once, or it would be taken back.
        let may = |id: &&JobId| !is_ahead || self.jobs.get(id).is_some_and(|job| !job.is_full);
        let next =
            self.waiting.range(self.last_job + 1..).find(may).or_else(|| self.waiting.iter().find(may));
        let Some(job_id) = next.copied() else { return };
        let Some(job) = self.jobs.get_mut(&job_id).filter(|_| quota > 0) else { return };
        let span = match job.is_full {
            true => job.pop_awaited(),
            false => {
                // So many that the last of them halts the job, if one does; but no worker is without a task for that.
                let most = self.config.halt.map_or(u64::MAX, |halt| job.before_halt(halt));
                let len = job.batch_len(processes).min(quota).min(most.max(u64::from(!is_ahead)));
                if len > 0 { job.pop_front(len) } else { None }
            }
        };
        let Some(span) = span else { return };
        job.last_len = span.count;
        self.last_job = job_id;
        self.recount(job_id);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.held.is_empty() {
            worker.running_since = now;
            worker.front_since = now;
        }
        worker.sent += span.count;
        worker.held.push_back((job_id, span));
        worker.batches.push_back(SentBatch { job: job_id, count: span.count, at: now });
        let Span { first, count, attempt, .. } = span;
        actions.push(Action::Send { worker: id, job: job_id, first, count, attempt });
    }
}

impl From<HaltWhen> for Wanted {
    fn from(when: HaltWhen) -> Wanted {
        match when {
            HaltWhen::Now => Wanted::No,
            HaltWhen::Soon => Wanted::Running,
        }
    }
}
