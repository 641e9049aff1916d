//! What happens to tasks: which worker gets them, and how they end.

use std::time::Duration;

use super::costs::{UNPROVEN_LEN, UNPROVEN_TIME};
use super::worker::SentBatch;
use super::{
    Action, AnswerStep, Answered, CROWD, Count, Group, HAND_OVER_MAX, JobId, NoResult, PREFETCH_TIME,
    PhaseChange, PoolState, Recycle, Retry, Returned, Schedule, ScheduledJob, Span, TAKE_BACK_TIME, Wanted,
    Worker, WorkerId,
};
use crate::pool::policy::HaltWhen;
use crate::target::Priority;

impl Schedule {
    pub(super) fn submitted(&mut self, id: JobId, count: u64, bytes: u64, actions: &mut Vec<Action>) {
        let job = self.jobs.entry(id).or_insert_with(|| ScheduledJob::new(Priority::default()));
        let first = job.submitted;
        job.submitted += count;
        job.bytes += bytes;
        let span = Span { first, count, attempt: 1, deaths: 0 };
        match self.state {
            PoolState::Run | PoolState::Close if job.wanted == Wanted::Yes => {
                job.push_back(span);
                self.recount(id);
            }
            // Too late, but each task has an outcome.
            PoolState::Run | PoolState::Close => self.give(id, span, NoResult::Cancelled, actions),
            PoolState::Terminate | PoolState::Finished => {
                let verdict = self.verdict();
                self.give(id, span, verdict, actions);
            }
        }
    }

    pub(super) fn input_ended(&mut self, id: JobId, actions: &mut Vec<Action>) {
        self.jobs.entry(id).or_insert_with(|| ScheduledJob::new(Priority::default())).input_ended = true;
        self.job_done(id, actions);
    }

    /// Cancels what is queued. What workers hold runs to its end, or they drop it (see `drop_unwanted`).
    pub(super) fn cancel_queued(&mut self, id: JobId, wanted: Wanted, actions: &mut Vec<Action>) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.wanted != Wanted::No) else { return };
        let was_held_back = job.is_held_back();
        job.wanted = wanted;
        self.must_check_all = true;
        self.held_back = self.held_back - usize::from(was_held_back) + usize::from(job.is_held_back());
        self.unwanted += usize::from(wanted == Wanted::No);
        job.queued = 0;
        let queued = std::mem::take(&mut job.queue);
        let pauses = std::mem::take(&mut job.pauses);
        let delayed: Vec<Span> =
            pauses.iter().filter_map(|key| self.delayed.remove(key)).map(|(_, span)| span).collect();
        self.recount(id);
        for span in queued.into_iter().chain(delayed) {
            self.give(id, span, NoResult::Cancelled, actions);
        }
        self.job_done(id, actions);
    }

    /// The workers of which it may have changed which tasks they must not begin.
    fn workers_to_check(&self) -> Vec<WorkerId> {
        if self.must_check_all { self.workers.ids() } else { self.workers.changed() }
    }

    /// Tells workers which tasks at the head of what they hold are cancelled.
    pub(super) fn drop_unwanted(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.unwanted == 0 {
            return;
        }
        for id in self.workers_to_check() {
            let until = self.workers.get(id).and_then(|worker| self.to_drop(worker));
            let Some((until, mut worker)) = until.zip(self.workers.get_mut(id)) else { continue };
            worker.dropped = until;
            worker.dropping_since.get_or_insert(now);
            actions.push(Action::Drop { worker: id, until });
        }
    }

    /// The number of tasks of its life up to which the worker is to drop tasks, if it has not been told so.
    pub(super) fn to_drop(&self, worker: &Worker) -> Option<u64> {
        let is_unwanted = |job: &JobId| self.jobs.get(job).is_some_and(|job| job.wanted == Wanted::No);
        let run = worker.held.iter().take_while(|(job, _)| is_unwanted(job)).map(|(_, span)| span.count);
        let until = worker.answered + run.sum::<u64>();
        (worker.is_serving() && until > worker.answered && until > worker.dropped).then_some(until)
    }

    /// Takes the answered tasks from the head of what the worker holds.
    pub(super) fn answered(&mut self, now: Duration, returned: Returned, steps: &mut Vec<AnswerStep>) {
        let Returned { worker: id, count: mut left, mut failed } = returned;
        let mut consequences = Vec::new();
        while left > 0 {
            let Some(mut worker) = self.workers.get_mut(id) else { return };
            let Some(&(job_id, span)) = worker.held.front() else { break };
            let Some(job) = self.jobs.get_mut(&job_id) else { break };
            let part = job.until_halted(self.config.halt, left.min(span.count), failed > 0);
            worker.pop_front(now, part);
            drop(worker);
            let failures = failed.min(part);
            (left, failed) = (left - part, failed - failures);
            if job.discards {
                steps.push(AnswerStep::Settle { count: part, tasks: None });
                let dropped = Span { count: part, ..span };
                self.give(job_id, dropped, NoResult::Cancelled, &mut consequences);
            } else {
                let tasks = Answered { job: job_id, first: span.first, attempt: span.attempt };
                steps.push(AnswerStep::Settle { count: part, tasks: Some(tasks) });
                job.ok += part - failures;
                job.failed += failures;
                self.done(job_id, part, &mut consequences);
            }
            steps.extend(consequences.drain(..).map(AnswerStep::Act));
        }
        self.progressed();
    }

    /// Tries the failed task at the head of what the worker holds again, if it has an attempt left and is
    /// wanted.
    pub(super) fn try_again(
        &mut self,
        now: Duration,
        id: WorkerId,
        actions: &mut Vec<Action>,
    ) -> Option<Retry> {
        let mut worker = self.workers.get_mut(id)?;
        let &(job, span) = worker.held.front()?;
        let is_wanted = self.jobs.get(&job).is_some_and(|job| job.wanted == Wanted::Yes);
        if span.attempt > self.config.retries || !is_wanted {
            return None;
        }
        worker.pop_front(now, 1);
        drop(worker);
        self.progressed();
        Some(self.retry(now, job, Span { count: 1, ..span }, actions))
    }

    /// Queues a task for one more attempt, after a pause.
    fn retry(&mut self, now: Duration, job: JobId, task: Span, actions: &mut Vec<Action>) -> Retry {
        let delay = self.config.backoff.delay(self.config.delay, task.attempt);
        let retry = Retry { job, task: task.first, attempt: task.attempt, delay };
        let task = Span { attempt: task.attempt + 1, ..task };
        if delay.is_zero() {
            self.requeue(job, task, actions);
            return retry;
        }
        self.delays += 1;
        let key = (now.saturating_add(delay), self.delays);
        self.delayed.insert(key, (job, task));
        if let Some(job) = self.jobs.get_mut(&job) {
            job.pauses.insert(key);
        }
        self.recount(job);
        retry
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

    /// Charges the task that was running when its worker died: it is tried again, or ends without a result.
    pub(super) fn charge(
        &mut self,
        now: Duration,
        job: JobId,
        mut task: Span,
        mut verdict: NoResult,
        retriable: bool,
        actions: &mut Vec<Action>,
    ) {
        let wanted = self.jobs.get(&job).is_some_and(|job| job.wanted == Wanted::Yes);
        if self.jobs.get(&job).is_some_and(|job| job.discards) {
            return self.give(job, task, NoResult::Cancelled, actions);
        }
        let may = wanted && !self.is_terminated() && retriable && task.attempt <= self.config.retries;
        let mut poisonous = false;
        if let NoResult::Lost { reason, .. } = &mut verdict {
            task.deaths += 1;
            poisonous = task.deaths >= self.config.poison_limit;
            if may && poisonous {
                reason.push_str(&format!("; not tried again, for it has taken down {} workers", task.deaths));
            }
        }
        if may && !poisonous {
            let retry = self.retry(now, job, task, actions);
            actions.push(Action::Retry { retry, failure: verdict });
        } else {
            self.give(job, task, verdict, actions);
        }
    }

    /// Ends tasks without a result.
    pub(super) fn give(&mut self, job: JobId, span: Span, verdict: NoResult, actions: &mut Vec<Action>) {
        if matches!(verdict, NoResult::Lost { .. } | NoResult::TimedOut)
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
                self.cancel_queued(id, when.into(), actions);
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
            Some(job) if job.wanted != Wanted::Yes => self.give(id, span, NoResult::Cancelled, actions),
            Some(job) => {
                job.push_front(span);
                self.recount(id);
            }
            None => {}
        }
    }

    /// Counts anew what may be handed out of a job. Called after each change of that.
    fn recount(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let open = job.open(self.config.halt);
        self.queued = self.queued - job.counted + open;
        match (std::mem::replace(&mut job.counted, open), open) {
            (0, 1..) => self.turns.join(id, &mut job.turn),
            (1.., 0) => self.turns.leave(id, job.turn),
            (0, 0) | (1.., 1..) => {}
        }
    }

    // Results that are not taken yet.

    pub(super) fn undelivered(&mut self, id: JobId, bytes: u64, waits_for: Option<u64>) {
        let max = self.config.results_max;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        // Full at `max`, and no longer full at three quarters: it does not change with each result.
        let was_held_back = job.is_held_back();
        job.is_full = bytes >= if job.is_full { max - max / 4 } else { max };
        self.held_back = self.held_back - usize::from(was_held_back) + usize::from(job.is_held_back());
        self.must_check_all |= job.is_held_back() && !was_held_back;
        job.waits_for = waits_for;
        if !self.is_terminated() {
            self.recount(id);
        }
    }

    pub(super) fn paused(&mut self, id: WorkerId) {
        if let Some(mut worker) = self.workers.get_mut(id) {
            worker.paused = true;
        }
    }

    /// The worker's time begins anew: the coordinator does not know how long it has waited for room.
    pub(super) fn resumed(&mut self, now: Duration, id: WorkerId) {
        if let Some(mut worker) = self.workers.get_mut(id) {
            worker.paused = false;
            worker.running_since = now;
        }
    }

    /// Whether the worker holds tasks that it has not begun, and must not begin.
    pub(super) fn is_too_far_ahead(&self, worker: &Worker) -> bool {
        let is_held_back = |job: &JobId| self.jobs.get(job).is_some_and(ScheduledJob::is_held_back);
        let mut behind = worker.held.iter().enumerate().filter(|(at, (_, span))| *at > 0 || span.count > 1);
        worker.spare() > 0 && behind.any(|(_, (job, _))| is_held_back(job))
    }

    /// Queues the tasks `from..to` of a span again.
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

    /// Notes the time that a batch took, by which the next ones are sized. The time is what the coordinator
    /// has seen. Of that the worker may say how much it was not at work, within bounds.
    pub(super) fn batch_done(&mut self, now: Duration, id: WorkerId, busy: Duration) {
        // Workers that share a processor wait for each other.
        let rivals = self.workers.len().div_ceil(self.config.cpus.max(1));
        let Some(mut worker) = self.workers.get_mut(id) else { return };
        let Some(batch) = worker.batches.pop_front() else { return };
        // It did not begin before the end of the batch before, but the coordinator may have heard of that end
        // late.
        let held = now.saturating_sub(batch.at.max(worker.through_since));
        let waits = HAND_OVER_MAX.saturating_mul(u32::try_from(rivals).unwrap_or(u32::MAX));
        let busy = busy.clamp(held / waits.max(1), now.saturating_sub(batch.at));
        worker.through_since = now;
        if let Some(job) = self.jobs.get_mut(&batch.job) {
            job.costs.note(id, &batch, busy, held);
        }
    }

    /// Hands out queued tasks: first to workers that hold none, then one batch ahead to workers that will
    /// soon hold none.
    pub(super) fn assign(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let mut next = 0;
        while let Some(job) = self.next_job(now, false)
            && let Some(id) = self.workers.next_free(next)
        {
            self.assign_to(now, id, job, false, actions);
            next = id + 1;
        }
        if self.queued == 0 {
            return;
        }
        // The others have been at their tasks for too long.
        let recent = now.saturating_sub(PREFETCH_TIME);
        for id in self.workers.group_since(Group::OneBatch, recent) {
            let Some(job) = self.next_job(now, true) else { return };
            if self.soon_through(now, id) {
                self.assign_to(now, id, job, true, actions);
            }
        }
    }

    /// Whether the worker will soon hold no tasks, by the time that a task takes and by the time that its
    /// present task has taken already.
    fn soon_through(&self, now: Duration, id: WorkerId) -> bool {
        let Some(worker) = self.workers.get(id) else { return false };
        let Some((job, _)) = worker.held.front() else { return false };
        if now.saturating_sub(worker.running_since) > PREFETCH_TIME {
            return false;
        }
        let cost = self.jobs.get(job).and_then(|job| job.costs.cost());
        cost.is_some_and(|cost| {
            cost.saturating_mul(u32::try_from(worker.unanswered()).unwrap_or(u32::MAX)) <= PREFETCH_TIME
        })
    }

    // Tasks that a worker holds and has not begun go to an idle worker: a slow task must not keep those
    // behind it.

    /// The number of workers that could begin a task at once, or be started for it.
    fn idle(&self) -> usize {
        let places = self.config.processes.saturating_sub(self.workers.count(Count::Hired));
        self.workers.count(Count::Idle) + places
    }

    /// Takes tasks back from workers that must not begin them; and, for each idle worker, from a worker that
    /// has been at its batch for long.
    pub(super) fn take_back(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let concerned = if self.held_back > 0 { self.workers_to_check() } else { Vec::new() };
        for id in concerned {
            if self.workers.get(id).is_some_and(|worker| self.is_too_far_ahead(worker)) {
                self.freeze(now, id, actions);
            }
        }
        let Some(long_ago) = now.checked_sub(TAKE_BACK_TIME).filter(|_| self.queued == 0) else { return };
        for _ in 0..self.idle() {
            let due = self.workers.group_until(Group::Spare, long_ago);
            let spare = |id: &WorkerId| self.workers.get(*id).map(Worker::spare);
            let Some(richest) = due.into_iter().max_by_key(spare) else { return };
            self.freeze(now, richest, actions);
        }
    }

    /// Takes back what the worker holds behind the task that waits: what that waits for may come of one of
    /// them. Whether others are idle does not matter. The worker gets nothing further before its task is
    /// answered, since a worker answers `Thaw` between two tasks.
    pub(super) fn stalled(&mut self, now: Duration, id: WorkerId, actions: &mut Vec<Action>) {
        // The task may be over by now, and the worker be told to drop what it holds.
        if self.workers.get(id).is_some_and(Worker::may_be_frozen) {
            self.freeze(now, id, actions);
        }
    }

    fn freeze(&mut self, now: Duration, id: WorkerId, actions: &mut Vec<Action>) {
        if let Some(mut worker) = self.workers.get_mut(id) {
            worker.change(PhaseChange::Freeze(now));
            actions.push(Action::TakeBack { worker: id });
        }
    }

    /// When there will be tasks to take back, if nothing else happens.
    pub(super) fn next_take_back(&self) -> Option<Duration> {
        let could =
            matches!(self.state, PoolState::Run | PoolState::Close) && self.queued == 0 && self.idle() > 0;
        let (since, _) = self.workers.group(Group::Spare).next().filter(|_| could)?;
        Some(since.saturating_add(TAKE_BACK_TIME))
    }

    /// What the worker has not begun goes back to the queue at the same attempt.
    pub(super) fn taken_back(&mut self, id: WorkerId, started: u64, actions: &mut Vec<Action>) {
        if self.is_terminated() {
            return;
        }
        let Some(mut worker) = self.workers.get_mut(id).filter(|w| w.owes_thaw()) else { return };
        // The worker may lie about the count. It keeps no more than it holds.
        let kept = started.clamp(worker.answered, worker.sent);
        let taken = worker.take_back(kept);
        drop(worker);
        // From the back, so that the head of the queue ends up in the old order.
        for (job, span) in taken {
            if let Some(job) = self.jobs.get_mut(&job) {
                job.costs.take_back(id, span.count);
            }
            self.requeue(job, span, actions);
        }
    }

    pub(super) fn thawed(&mut self, id: WorkerId) {
        if let Some(mut worker) = self.workers.get_mut(id) {
            worker.change(PhaseChange::Thaw);
        }
    }

    /// Hands a batch to a worker. `is_ahead`: the worker holds another batch.
    fn assign_to(
        &mut self,
        now: Duration,
        id: WorkerId,
        job_id: JobId,
        is_ahead: bool,
        actions: &mut Vec<Action>,
    ) {
        let Some(worker) = self.workers.get(id) else { return };
        let quota = self.config.max_tasks_per_child.map_or(u64::MAX, |max| max.saturating_sub(worker.sent));
        if quota == 0 {
            return;
        }
        let credit = self.credit(now, id, job_id);
        let Some((spans, lacked_credit)) = self.take_batch(job_id, quota, credit, is_ahead) else { return };
        let count = spans.iter().map(|span| span.count).sum();
        let Some(mut worker) = self.workers.get_mut(id) else { return };
        worker.push_back(job_id, &spans, SentBatch { job: job_id, count, at: now, lacked_credit });
        if worker.sent >= self.config.max_tasks_per_child.unwrap_or(u64::MAX) {
            worker.change(PhaseChange::Dismiss(Recycle::Quota));
        }
        drop(worker);
        if let Some(job) = self.jobs.get_mut(&job_id) {
            job.costs.hand_out(id, count);
            job.sent_at = now;
            self.turns.served(job_id, &mut job.turn);
        }
        self.recount(job_id);
        let attempt = spans.first().map_or(1, |span| span.attempt);
        let tasks = spans.iter().map(|span| span.first..span.first + span.count).collect();
        actions.push(Action::Send { worker: id, job: job_id, tasks, attempt });
    }

    /// The next job that has a batch to hand out: jobs take turns.
    pub(super) fn next_job(&self, now: Duration, is_ahead: bool) -> Option<JobId> {
        // The one task of a full job must be begun at once, or it would be taken back.
        let is_due = |job: &ScheduledJob| !is_ahead || !job.is_full;
        let mut waiting = self.turns.iter().filter_map(|id| Some((id, self.jobs.get(&id)?)));
        let next = waiting
            .find(|(id, job)| is_due(job) && self.gathers_until(*id, job).is_none_or(|end| now >= end));
        next.map(|(id, _)| id)
    }

    /// Until when the job's queue waits for more tasks. A job waits only while a crowd of workers is at it,
    /// so that few jobs do, and each of these workers will soon end a batch.
    fn gathers_until(&self, id: JobId, job: &ScheduledJob) -> Option<Duration> {
        let is_crowded = self.workers.count_at(id) >= CROWD.saturating_mul(self.config.cpus.max(1));
        job.gathers_until().filter(|_| is_crowded)
    }

    /// When the first queue has waited long enough for more tasks, if there is a worker for them.
    pub(super) fn next_gathered(&self) -> Option<Duration> {
        self.workers.next_free(0)?;
        let waiting = self.turns.iter().filter_map(|id| self.gathers_until(id, self.jobs.get(&id)?));
        waiting.min()
    }

    /// The number of tasks of a job that the worker may be handed by what it has earned.
    fn credit(&self, now: Duration, id: WorkerId, job: JobId) -> u64 {
        let Some(job) = self.jobs.get(&job) else { return 0 };
        let credit = job.costs.credit(id, self.workers.len() as u64, job.submitted);
        if job.costs.is_known() || credit >= UNPROVEN_LEN {
            return credit;
        }
        // If all others have been at long tasks for a while, the rest of the job must not wait for them. If
        // one of them is still starting, it will soon take its share.
        let is_at_it = |(of, w): (WorkerId, &Worker)| {
            of == id || w.is_serving() && now >= w.front_since.saturating_add(UNPROVEN_TIME)
        };
        if self.workers.iter().all(is_at_it) { UNPROVEN_LEN } else { credit }
    }

    /// Takes the tasks of the next batch off a job's queue, `quota` of them at most, and tells whether these
    /// are fewer for lack of credit. An idle worker gets at least one, whatever its credit is.
    fn take_batch(
        &mut self,
        id: JobId,
        quota: u64,
        credit: u64,
        is_ahead: bool,
    ) -> Option<(Vec<Span>, bool)> {
        let processes = self.config.processes as u64;
        let job = self.jobs.get_mut(&id)?;
        if job.is_full {
            return job.pop_awaited().map(|span| (vec![span], false));
        }
        let least = u64::from(!is_ahead);
        // So many that the last of them halts the job, if one does.
        let most = self.config.halt.map_or(u64::MAX, |halt| job.before_halt(halt).max(least));
        let wanted = job.batch_len(processes).min(quota).min(most);
        let len = wanted.min(credit.max(least));
        let spans = job.pop_batch(len);
        let count = spans.iter().map(|span| span.count).sum();
        // A batch that is short for lack of credit, or because few tasks of its attempt are left, says
        // nothing about the next batches.
        if count == wanted || count > job.last_len {
            job.last_len = count;
        }
        (count > 0).then_some((spans, len < wanted))
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
