//! What a pool does next: a pure state machine.
//!
//! [`Schedule::on`] takes an event and appends actions. It has no clock (the time comes with each event), no thread and no file, so that a
//! test can drive it through kills at any moment, thousands of runs a second. It knows tasks by number only; records and results are the
//! dispatcher's business.
//!
//! ```text
//! Task   : Queued --> Held by a worker (queued there or running) --> Done;  worker lost, or failed with retries left --> Queued
//! Worker : Starting --ready--> Serving --quota | close--> Retiring --> gone;  any --death--> gone
//! Pool   : Run --close--> Close --drained--> Finished;  Run | Close --terminate | broken--> Terminate --all gone--> Finished
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Counted from 1 over the life of the pool.
pub(crate) type WorkerId = u32;
/// Counted from 1 over the life of the pool.
pub(crate) type JobId = u64;

/// How much work one batch should hold: long enough that handing it over costs little, short enough that workers finish together.
const BATCH_TIME: Duration = Duration::from_micros(400);
/// A batch is at most so many times as long as the one before it: one fast task proves little about the next.
const BATCH_GROWTH: u64 = 4;
/// Records of more than this together do not travel in one batch.
const BATCH_BYTES: u64 = 256 << 10;
/// A second batch waits at a busy worker only if the first one is expected to take no longer than this.
const PREFETCH_TIME: Duration = Duration::from_millis(2);
/// A worker has this long from its start until it is ready, beside its initializer's time limit.
const START_TIME: Duration = Duration::from_secs(60);
/// A retiring worker has this long for its guest's `shutdown`.
const RETIRE_TIME: Duration = Duration::from_secs(5);
/// Workers that may die without a task begun, and no task done in between, before the pool gives up.
const FUTILE_DEATHS: u32 = 5;
/// So many of them must have been hired one after another's death: that somebody killed all workers at once proves nothing.
const FUTILE_ROUNDS: u32 = 2;
/// How often a time limit is looked at from outside.
const WATCH_PERIOD: Duration = Duration::from_millis(50);

#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) processes: usize,
    pub(crate) max_tasks_per_child: Option<u64>,
    /// How often a failed task is tried again.
    pub(crate) retries: u32,
    /// After this time at one task the worker is killed: the task's own limit and the grace.
    pub(crate) kill_after: Option<Duration>,
}

/// Something has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// There is a job. A pool that is closing waits for it from now on.
    Opened {
        job: JobId,
    },
    /// `count` more tasks of a job, with `bytes` of records.
    Submitted {
        job: JobId,
        count: u64,
        bytes: u64,
    },
    /// The job will get no more tasks.
    InputEnded {
        job: JobId,
    },
    /// Nobody wants the rest of the job.
    Cancelled {
        job: JobId,
    },
    /// A worker is loaded and initialized.
    Ready {
        worker: WorkerId,
    },
    /// The next `count` tasks that the worker holds have returned.
    Returned {
        worker: WorkerId,
        count: u64,
    },
    /// The next task that the worker holds has failed. `retriable`: trying again may help.
    Failed {
        worker: WorkerId,
        retriable: bool,
    },
    /// The worker is through with a batch after this time.
    BatchDone {
        worker: WorkerId,
        busy: Duration,
    },
    /// The worker says it has started so many tasks in its life.
    Progress {
        worker: WorkerId,
        started: u64,
    },
    /// These workers never came to be, all for one reason: it is one failed try, however many had been asked for.
    NotStarted {
        workers: Vec<WorkerId>,
        reason: String,
    },
    /// The worker's process is gone. `started` as in `Progress`, the last word of it.
    Gone {
        worker: WorkerId,
        started: u64,
        exitcode: Option<i32>,
        reason: String,
    },
    /// The pool cannot go on: an initializer failed, the module does not load.
    Broke {
        reason: String,
    },
    /// Time has passed.
    Tick,
    Close,
    Terminate,
}

/// Something is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Start {
        worker: WorkerId,
    },
    /// Send these tasks to a worker; they are one attempt.
    Send {
        worker: WorkerId,
        job: JobId,
        first: u64,
        count: u64,
        attempt: u32,
    },
    /// The results in hand are those of these tasks, which are thereby done.
    Deliver {
        job: JobId,
        first: u64,
        count: u64,
        attempt: u32,
    },
    /// The failure in hand is not this task's last word: it will be tried again.
    Retry {
        job: JobId,
        task: u64,
        attempt: u32,
    },
    /// These tasks are done without a result.
    Give {
        job: JobId,
        first: u64,
        count: u64,
        attempt: u32,
        verdict: Verdict,
    },
    /// The job is done: every task of it has had its outcome.
    JobDone {
        job: JobId,
    },
    /// Tell the worker to end.
    Retire {
        worker: WorkerId,
    },
    Kill {
        worker: WorkerId,
    },
    /// Everything is over and every worker gone.
    Finished,
}

/// Why tasks end without a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The worker died while running it.
    Lost {
        exitcode: Option<i32>,
        reason: String,
    },
    /// The worker was killed because the task took too long.
    TimedOut,
    Cancelled,
    Broken {
        reason: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PoolState {
    Run,
    Close,
    Terminate,
    Finished,
}

/// Consecutive tasks of a job at the same attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    first: u64,
    count: u64,
    attempt: u32,
}

#[derive(Debug)]
struct Job {
    queue: VecDeque<Span>,
    /// Tasks in `queue`.
    queued: u64,
    submitted: u64,
    /// Tasks that have had their outcome.
    done: u64,
    bytes: u64,
    input_ended: bool,
    /// Nobody wants what is not done yet.
    cancelled: bool,
    /// The measured time of a task; `None` before the first batch.
    cost: Option<Duration>,
    last_len: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting { since: Duration },
    Serving,
    Retiring { since: Duration },
}

#[derive(Debug)]
struct Worker {
    phase: Phase,
    /// The round that it was hired in.
    round: u64,
    /// What it holds, in the order in which it will answer.
    held: VecDeque<(JobId, Span)>,
    /// Tasks of the batch it works at that have been answered, for the cost.
    sent: u64,
    answered: u64,
    started: u64,
    /// Since when the task that it now runs has been running, as far as can be seen.
    running_since: Duration,
    /// Sizes of the batches under way, oldest first.
    batches: VecDeque<(JobId, u64)>,
    /// The task that it was killed for, counted as `started` is.
    timed_out: Option<u64>,
    killed: bool,
}

impl Worker {
    fn is_serving(&self) -> bool {
        self.phase == Phase::Serving && !self.killed
    }

    /// Neither told to end nor killed.
    fn is_hired(&self) -> bool {
        !self.killed && !matches!(self.phase, Phase::Retiring { .. })
    }
}

#[derive(Debug)]
pub(crate) struct Schedule {
    config: Config,
    state: PoolState,
    broken: Option<String>,
    jobs: BTreeMap<JobId, Job>,
    /// Tasks in the queues of all jobs: there may be thousands of jobs, and every event asks.
    queued: u64,
    workers: BTreeMap<WorkerId, Worker>,
    next_worker: WorkerId,
    /// The job served last, for taking turns.
    last_job: JobId,
    futile_deaths: u32,
    /// The longest chain of workers among them that were each hired after the death of the one before.
    futile_rounds: u32,
    /// Ends with the first futile death of a worker that was hired in it. Only goes up, so that workers of old rounds never count again.
    round: u64,
    /// When time limits were last looked at.
    watched: Duration,
}

impl Schedule {
    pub(crate) fn new(config: Config) -> Schedule {
        Schedule {
            config,
            state: PoolState::Run,
            broken: None,
            jobs: BTreeMap::new(),
            queued: 0,
            workers: BTreeMap::new(),
            next_worker: 1,
            last_job: 0,
            futile_deaths: 0,
            futile_rounds: 0,
            round: 0,
            watched: Duration::ZERO,
        }
    }

    /// Takes an event at time `now` (any clock that does not go back) and appends what is to be done.
    pub(crate) fn on(&mut self, now: Duration, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Opened { job } => {
                self.jobs.entry(job).or_insert_with(Job::new);
            }
            Event::Submitted { job, count, bytes } => self.submitted(job, count, bytes, actions),
            Event::InputEnded { job } => self.input_ended(job, actions),
            Event::Cancelled { job } => self.cancelled(job, actions),
            Event::Ready { worker } => self.ready(now, worker),
            Event::Returned { worker, count } => self.answered(now, worker, count, actions),
            Event::Failed { worker, retriable } => self.failed(now, worker, retriable, actions),
            Event::BatchDone { worker, busy } => self.batch_done(worker, busy),
            Event::Progress { worker, started } => self.progress(now, worker, started),
            Event::NotStarted { workers, reason } => self.not_started(&workers, reason, actions),
            Event::Gone { worker, started, exitcode, reason } => self.gone(worker, started, exitcode, reason, actions),
            Event::Broke { reason } => self.breaks(reason, actions),
            Event::Tick => self.tick(now, actions),
            Event::Close => self.close(),
            Event::Terminate => self.terminate(actions),
        }
        if matches!(self.state, PoolState::Run | PoolState::Close) {
            self.assign(now, actions);
            self.hire(now, actions);
            self.retire(now, actions);
        }
        self.finish(actions);
    }

    /// How many tasks the worker has not answered yet. A worker that answers more is lying.
    pub(crate) fn unanswered(&self, worker: WorkerId) -> u64 {
        self.workers.get(&worker).map_or(0, |w| w.sent - w.answered)
    }

    /// Tasks of a job that no worker holds.
    pub(crate) fn queued(&self, job: JobId) -> u64 {
        self.jobs.get(&job).map_or(0, |j| j.queued)
    }

    /// Whether the worker is at work on a task.
    pub(crate) fn is_busy(&self, worker: WorkerId) -> bool {
        self.unanswered(worker) > 0
    }

    /// Whether every task has had its outcome and every worker has been killed: nothing that a worker says counts any more.
    pub(crate) fn is_terminated(&self) -> bool {
        matches!(self.state, PoolState::Terminate | PoolState::Finished)
    }

    /// What a task is told that comes or remains after the end.
    pub(crate) fn verdict(&self) -> Verdict {
        match &self.broken {
            Some(reason) => Verdict::Broken { reason: reason.clone() },
            None => Verdict::Cancelled,
        }
    }

    /// When a `Tick` is due at the latest. After a `Tick`, later than that.
    pub(crate) fn next_tick(&self) -> Option<Duration> {
        let look = |w: &Worker| w.running_since.max(self.watched).saturating_add(WATCH_PERIOD);
        let due = |w: &Worker| match w.phase {
            _ if w.killed => None,
            Phase::Serving if w.held.is_empty() => None,
            Phase::Serving => self.deadline(w).map(|deadline| deadline.min(look(w))),
            Phase::Starting { .. } | Phase::Retiring { .. } => self.deadline(w),
        };
        self.workers.values().filter_map(due).min()
    }

    /// When the worker has taken too long at what it is doing.
    fn deadline(&self, worker: &Worker) -> Option<Duration> {
        let kill_after = self.config.kill_after;
        match worker.phase {
            Phase::Starting { since } => {
                Some(since.saturating_add(START_TIME).saturating_add(kill_after.unwrap_or_default()))
            }
            Phase::Retiring { since } => Some(since.saturating_add(RETIRE_TIME)),
            Phase::Serving if worker.held.is_empty() => None,
            Phase::Serving => kill_after.map(|limit| worker.running_since.saturating_add(limit)),
        }
    }

    // What happens to tasks.

    fn submitted(&mut self, id: JobId, count: u64, bytes: u64, actions: &mut Vec<Action>) {
        let job = self.jobs.entry(id).or_insert_with(Job::new);
        let first = job.submitted;
        job.submitted += count;
        job.bytes += bytes;
        let span = Span { first, count, attempt: 1 };
        match self.state {
            PoolState::Run | PoolState::Close if !job.cancelled => {
                job.push_back(span);
                self.queued += count;
            }
            // Too late: an outcome all the same.
            PoolState::Run | PoolState::Close => self.give(id, span, Verdict::Cancelled, actions),
            PoolState::Terminate | PoolState::Finished => {
                let verdict = self.verdict();
                self.give(id, span, verdict, actions);
            }
        }
    }

    fn input_ended(&mut self, id: JobId, actions: &mut Vec<Action>) {
        self.jobs.entry(id).or_insert_with(Job::new).input_ended = true;
        self.job_done(id, actions);
    }

    /// What is queued is given up. What workers hold runs to its end; nobody waits for it.
    fn cancelled(&mut self, id: JobId, actions: &mut Vec<Action>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.cancelled = true;
        self.queued -= std::mem::take(&mut job.queued);
        let spans = std::mem::take(&mut job.queue);
        for span in spans {
            self.give(id, span, Verdict::Cancelled, actions);
        }
        self.job_done(id, actions);
    }

    /// Takes `count` answered tasks from the head of what the worker holds.
    fn answered(&mut self, now: Duration, id: WorkerId, count: u64, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let mut left = count;
        let mut touched = Vec::new();
        while left > 0 {
            let Some((job, span)) = worker.held.front_mut() else { break };
            let part = left.min(span.count);
            actions.push(Action::Deliver { job: *job, first: span.first, count: part, attempt: span.attempt });
            touched.push((*job, part));
            span.first += part;
            span.count -= part;
            left -= part;
            if span.count == 0 {
                worker.held.pop_front();
            }
        }
        worker.answered += count - left;
        worker.running_since = now;
        self.progressed();
        for (job, part) in touched {
            self.done(job, part, actions);
        }
    }

    fn failed(&mut self, now: Duration, id: WorkerId, retriable: bool, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Some((job, span)) = worker.held.front_mut() else { return };
        let (job, attempt, task) = (*job, span.attempt, span.first);
        let wanted = self.jobs.get(&job).is_some_and(|job| !job.cancelled);
        if !retriable || attempt > self.config.retries || !wanted {
            return self.answered(now, id, 1, actions);
        }
        span.first += 1;
        span.count -= 1;
        if span.count == 0 {
            worker.held.pop_front();
        }
        worker.answered += 1;
        worker.running_since = now;
        self.progressed();
        actions.push(Action::Retry { job, task, attempt });
        self.requeue(job, Span { first: task, count: 1, attempt: attempt + 1 }, actions);
    }

    fn give(&mut self, job: JobId, span: Span, verdict: Verdict, actions: &mut Vec<Action>) {
        actions.push(Action::Give { job, first: span.first, count: span.count, attempt: span.attempt, verdict });
        self.done(job, span.count, actions);
    }

    fn done(&mut self, id: JobId, count: u64, actions: &mut Vec<Action>) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.done += count;
            self.job_done(id, actions);
        }
    }

    fn job_done(&mut self, id: JobId, actions: &mut Vec<Action>) {
        if self.jobs.get(&id).is_some_and(|job| job.input_ended && job.done == job.submitted) {
            self.jobs.remove(&id);
            actions.push(Action::JobDone { job: id });
        }
    }

    fn requeue(&mut self, id: JobId, span: Span, actions: &mut Vec<Action>) {
        match self.jobs.get_mut(&id) {
            Some(job) if job.cancelled => self.give(id, span, Verdict::Cancelled, actions),
            Some(job) => {
                job.queued += span.count;
                job.queue.push_front(span);
                self.queued += span.count;
            }
            None => {}
        }
    }

    // What happens to workers.

    fn ready(&mut self, now: Duration, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id)
            && matches!(worker.phase, Phase::Starting { .. })
        {
            worker.phase = Phase::Serving;
            worker.running_since = now;
        }
    }

    fn batch_done(&mut self, id: WorkerId, busy: Duration) {
        let Some((job, count)) = self.workers.get_mut(&id).and_then(|w| w.batches.pop_front()) else { return };
        let Some(job) = self.jobs.get_mut(&job) else { return };
        let cost = busy / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        // The mean of the old and the new: follows a change within a few batches, and one outlier does not rule.
        job.cost = Some(job.cost.map_or(cost, |old| (old + cost) / 2));
    }

    fn progress(&mut self, now: Duration, id: WorkerId, started: u64) {
        // It can only go up, and to no more than it was sent: nobody gets more time by counting on.
        if let Some(worker) = self.workers.get_mut(&id)
            && worker.started < started.min(worker.sent)
        {
            worker.started = started.min(worker.sent);
            worker.running_since = now;
        }
    }

    /// A worker is gone. The task that it was running is charged; what it had not begun, or had finished without our having the
    /// result, goes back to the queue at the same attempt.
    fn gone(&mut self, id: WorkerId, started: u64, exitcode: Option<i32>, reason: String, actions: &mut Vec<Action>) {
        let Some(mut worker) = self.workers.remove(&id) else { return };
        let unanswered = worker.sent - worker.answered;
        let charged = match worker.timed_out {
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
                let task = Span { first: span.first + at, count: 1, attempt: span.attempt };
                self.charge(job, task, verdict.clone(), actions);
                self.requeue_part(job, span, 0, at, actions);
            } else {
                self.requeue_part(job, span, 0, span.count, actions);
            }
        }
        let progress = charged > 0 || worker.answered > 0;
        match worker.phase {
            _ if progress => self.progressed(),
            Phase::Starting { .. } => self.futile_death(worker.round, reason, actions),
            Phase::Serving if unanswered > 0 => self.futile_death(worker.round, reason, actions),
            // It could have worked, had there been anything to do.
            Phase::Serving | Phase::Retiring { .. } => {}
        }
    }

    fn not_started(&mut self, ids: &[WorkerId], reason: String, actions: &mut Vec<Action>) {
        let gone: Vec<Worker> = ids.iter().filter_map(|id| self.workers.remove(id)).collect();
        if let Some(latest) = gone.iter().map(|worker| worker.round).max() {
            self.futile_death(latest, reason, actions);
        }
    }

    fn requeue_part(&mut self, job: JobId, span: Span, from: u64, to: u64, actions: &mut Vec<Action>) {
        if from < to {
            self.requeue(job, Span { first: span.first + from, count: to - from, ..span }, actions);
        }
    }

    /// The task that was running when its worker died.
    fn charge(&mut self, job: JobId, task: Span, verdict: Verdict, actions: &mut Vec<Action>) {
        let wanted = self.jobs.get(&job).is_some_and(|job| !job.cancelled);
        match wanted && !self.is_terminated() && task.attempt <= self.config.retries {
            true => {
                actions.push(Action::Retry { job, task: task.first, attempt: task.attempt });
                self.requeue(job, Span { attempt: task.attempt + 1, ..task }, actions);
            }
            false => self.give(job, task, verdict, actions),
        }
    }

    fn progressed(&mut self) {
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

    fn tick(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.watched = now;
        let late = |w: &Worker| !w.killed && self.deadline(w).is_some_and(|deadline| now >= deadline);
        let late: Vec<WorkerId> = self.workers.iter().filter(|(_, w)| late(w)).map(|(id, _)| *id).collect();
        for id in late {
            let Some(worker) = self.workers.get_mut(&id) else { continue };
            worker.killed = true;
            if worker.phase == Phase::Serving {
                worker.timed_out = Some(worker.started.max(worker.answered + 1));
            }
            actions.push(Action::Kill { worker: id });
        }
    }

    // What happens to the pool.

    fn close(&mut self) {
        if self.state == PoolState::Run {
            self.state = PoolState::Close;
        }
    }

    fn breaks(&mut self, reason: String, actions: &mut Vec<Action>) {
        if matches!(self.state, PoolState::Run | PoolState::Close) {
            self.broken = Some(reason);
            self.terminate(actions);
        }
    }

    /// Every task that is not done is cancelled, now; every worker is killed.
    fn terminate(&mut self, actions: &mut Vec<Action>) {
        if self.is_terminated() {
            return;
        }
        self.state = PoolState::Terminate;
        let mut open: Vec<(JobId, Span)> = Vec::new();
        self.queued = 0;
        for (&id, job) in &mut self.jobs {
            job.queued = 0;
            open.extend(std::mem::take(&mut job.queue).into_iter().map(|span| (id, span)));
        }
        for (&id, worker) in &mut self.workers {
            open.extend(std::mem::take(&mut worker.held));
            worker.answered = worker.sent;
            if !worker.killed {
                worker.killed = true;
                actions.push(Action::Kill { worker: id });
            }
        }
        for (job, span) in open {
            let verdict = self.verdict();
            self.give(job, span, verdict, actions);
        }
    }

    fn finish(&mut self, actions: &mut Vec<Action>) {
        if self.is_over() && self.workers.is_empty() && self.state != PoolState::Finished {
            self.state = PoolState::Finished;
            actions.push(Action::Finished);
        }
    }

    /// Nothing is to be done any more but to see the workers off.
    fn is_over(&self) -> bool {
        match self.state {
            PoolState::Run => false,
            PoolState::Close => self.jobs.is_empty(),
            PoolState::Terminate | PoolState::Finished => true,
        }
    }

    // Who does what.

    /// Hands out queued tasks: first to workers that hold nothing, then one batch ahead to those that will soon be through.
    fn assign(&mut self, now: Duration, actions: &mut Vec<Action>) {
        for ahead in [0, 1] {
            if self.queued == 0 {
                return;
            }
            let ids: Vec<WorkerId> = self
                .workers
                .iter()
                .filter(|(_, w)| w.is_serving() && w.held.len() == ahead)
                .map(|(id, _)| *id)
                .collect();
            for id in ids {
                if ahead == 1 && !self.soon_through(id) {
                    continue;
                }
                self.assign_to(now, id, actions);
            }
        }
    }

    fn soon_through(&self, id: WorkerId) -> bool {
        let Some((job, span)) = self.workers.get(&id).and_then(|w| w.held.front()) else { return false };
        let cost = self.jobs.get(job).and_then(|job| job.cost);
        cost.is_some_and(|cost| cost.saturating_mul(u32::try_from(span.count).unwrap_or(u32::MAX)) <= PREFETCH_TIME)
    }

    fn assign_to(&mut self, now: Duration, id: WorkerId, actions: &mut Vec<Action>) {
        let processes = self.config.processes as u64;
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let quota = self.config.max_tasks_per_child.map_or(u64::MAX, |max| max.saturating_sub(worker.sent));
        // Jobs take turns.
        let after = self.jobs.range(self.last_job + 1..).chain(self.jobs.range(..=self.last_job));
        let Some(job_id) = after.filter(|(_, job)| job.queued > 0).map(|(id, _)| *id).next() else { return };
        let Some(job) = self.jobs.get_mut(&job_id).filter(|_| quota > 0) else { return };
        let len = job.batch_len(processes).min(quota);
        let Some(span) = job.pop_front(len) else { return };
        self.queued -= span.count;
        job.last_len = span.count;
        self.last_job = job_id;
        if worker.held.is_empty() {
            worker.running_since = now;
        }
        worker.sent += span.count;
        worker.held.push_back((job_id, span));
        worker.batches.push_back((job_id, span.count));
        let Span { first, count, attempt } = span;
        actions.push(Action::Send { worker: id, job: job_id, first, count, attempt });
    }

    /// Starts as many workers as there are tasks that nobody holds, up to the pool's size. A worker that is on its way out does not
    /// hold up its replacement, but no more of them gather than the pool has places: their guests may take their time.
    fn hire(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let hired = self.workers.values().filter(|w| w.is_hired()).count();
        let starting =
            self.workers.values().filter(|w| w.is_hired() && matches!(w.phase, Phase::Starting { .. })).count();
        let wanted = usize::try_from(self.queued).unwrap_or(usize::MAX).saturating_sub(starting);
        let places = self.config.processes.saturating_sub(hired);
        let room = self.config.processes.saturating_mul(2).saturating_sub(self.workers.len());
        for _ in 0..wanted.min(places).min(room) {
            let worker = self.next_worker;
            self.next_worker += 1;
            self.workers.insert(worker, Worker::new(now, self.round));
            actions.push(Action::Start { worker });
        }
    }

    /// Ends workers that have done their share, and all of them once a closed pool has drained.
    fn retire(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let over = self.is_over();
        let max = self.config.max_tasks_per_child.unwrap_or(u64::MAX);
        for (&id, worker) in &mut self.workers {
            let through = worker.is_serving() && worker.held.is_empty();
            if through && (over || worker.sent >= max) {
                worker.phase = Phase::Retiring { since: now };
                actions.push(Action::Retire { worker: id });
            } else if over && matches!(worker.phase, Phase::Starting { .. }) && !worker.killed {
                worker.killed = true;
                actions.push(Action::Kill { worker: id });
            }
        }
    }
}

impl Job {
    fn new() -> Job {
        Job {
            queue: VecDeque::new(),
            queued: 0,
            submitted: 0,
            done: 0,
            bytes: 0,
            input_ended: false,
            cancelled: false,
            cost: None,
            last_len: 1,
        }
    }

    fn push_back(&mut self, span: Span) {
        self.queued += span.count;
        match self.queue.back_mut() {
            Some(last) if last.attempt == span.attempt && last.first + last.count == span.first => {
                last.count += span.count
            }
            _ => self.queue.push_back(span),
        }
    }

    /// Takes up to `len` tasks off the head: of one attempt, in a row.
    fn pop_front(&mut self, len: u64) -> Option<Span> {
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
    fn batch_len(&self, processes: u64) -> u64 {
        let Some(cost) = self.cost else { return 1 };
        let by_time = u64::try_from(BATCH_TIME.as_nanos() / cost.as_nanos().max(1)).unwrap_or(u64::MAX);
        let mean_bytes = self.bytes / self.submitted.max(1);
        let by_bytes = BATCH_BYTES / mean_bytes.max(1);
        let share = self.queued.div_ceil(4 * processes.max(1));
        by_time.min(by_bytes).min(self.last_len * BATCH_GROWTH).min(share).max(1)
    }
}

impl Worker {
    fn new(now: Duration, round: u64) -> Worker {
        Worker {
            round,
            phase: Phase::Starting { since: now },
            held: VecDeque::new(),
            sent: 0,
            answered: 0,
            started: 0,
            running_since: now,
            batches: VecDeque::new(),
            timed_out: None,
            killed: false,
        }
    }
}

#[cfg(test)]
mod tests;
