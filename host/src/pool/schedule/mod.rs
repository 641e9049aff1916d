//! What a pool does next: a pure state machine.
//!
//! [`Schedule::on`] takes an event and appends actions; [`Schedule::on_returned`] and [`Schedule::on_failed`]
//! take the answers of a worker, and [`Schedule::follow_up`] says what follows from them. The schedule has no
//! clock (the time comes with each event), no thread and no file. A test can drive it through kills at any
//! moment, thousands of runs a second. It knows tasks by number only; records and results belong to the
//! dispatcher.
//!
//! ```text
//! Task   : Queued --> Held by a worker (queued there or running) --> Done
//!          worker lost, or failed with retries left --> Queued (after a pause)
//! Worker : Starting --ready--> Serving --quota | memory | idle | resize | close--> Retiring --> gone
//!          Serving --tasks taken back--> Frozen --> Serving;  any --death--> gone
//! Pool   : Run --close--> Close --drained--> Finished
//!          Run | Close --terminate | broken--> Terminate --all gone--> Finished
//! ```

mod config;
mod costs;
mod deadlines;
mod event;
mod job;
mod span;
mod staff;
mod turns;
mod work;
mod worker;
mod workers;

use std::collections::BTreeMap;
use std::time::Duration;

use self::config::{
    BATCH_BYTES, BATCH_GROWTH, BATCH_LEN_MAX, BATCH_TIME, BATCH_TIME_MIN, CROWD, FUTILE_DEATHS,
    FUTILE_ROUNDS, HAND_OVER_MAX, PREFETCH_TIME, REASON_LEN_MAX, START_PAUSE, START_PAUSE_MAX,
    TAKE_BACK_TIME, THAW_TIME, WATCH_PERIOD,
};
pub(crate) use self::config::{Config, JobId, WorkerId};
use self::deadlines::Deadlines;
pub use self::event::Recycle;
pub(crate) use self::event::{Action, AnswerStep, Answered, Event, NoResult, Retry, Returned};
use self::job::{ScheduledJob, Wanted};
use self::span::Span;
use self::turns::Turns;
use self::worker::{Death, KillReason, Phase, PhaseChange, Worker};
use self::workers::{Count, Group, Workers};

/// The life of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
enum PoolState {
    /// It takes jobs.
    Run,
    /// It takes no more jobs, and finishes those that it has.
    Close,
    /// Every task has its outcome and every worker was killed; some processes are not gone yet.
    Terminate,
    /// Every worker is gone.
    Finished,
}

#[derive(Debug)]
pub(crate) struct Schedule {
    config: Config,
    state: PoolState,
    broken: Option<String>,
    jobs: BTreeMap<JobId, ScheduledJob>,
    /// The number of cancelled jobs among them.
    unwanted: usize,
    /// The number of jobs of which workers must not begin the tasks that they hold: there is no room for more
    /// results, or only running tasks are wanted.
    held_back: usize,
    /// Tasks that are tried again after a pause, by the end of the pause and a number.
    delayed: BTreeMap<(Duration, u64), (JobId, Span)>,
    delays: u64,
    /// Tasks in the queues of all jobs that may be handed out. Counted, since there may be thousands of jobs
    /// and every event needs the number.
    queued: u64,
    /// The jobs that have such tasks.
    turns: Turns,
    workers: Workers,
    /// A job was cancelled or may not be gone on with: any worker may hold tasks that it must not begin.
    must_check_all: bool,
    next_worker: WorkerId,
    /// Workers that died before they began a task, since a task was last done.
    futile_deaths: u32,
    /// The longest chain among them in which each worker was hired after the death of the one before.
    futile_rounds: u32,
    /// A round ends with the first futile death of a worker that was hired in it. The number only goes up, so
    /// that workers of old rounds never count again.
    round: u64,
    /// How often in a row workers could not be started.
    failed_starts: u32,
    /// No worker is started before this time.
    hire_at: Duration,
    /// When time limits were last looked at.
    watched: Duration,
}

impl Schedule {
    pub(crate) fn new(config: Config) -> Schedule {
        Schedule {
            state: PoolState::Run,
            broken: None,
            jobs: BTreeMap::new(),
            unwanted: 0,
            held_back: 0,
            delayed: BTreeMap::new(),
            delays: 0,
            queued: 0,
            turns: Turns::default(),
            workers: Workers::new(Deadlines::of(&config)),
            must_check_all: false,
            next_worker: 1,
            futile_deaths: 0,
            futile_rounds: 0,
            round: 0,
            failed_starts: 0,
            hire_at: Duration::ZERO,
            watched: Duration::ZERO,
            config,
        }
    }

    /// Takes an event at time `now`, by any clock that does not go back, and appends what is to be done.
    pub(crate) fn on(&mut self, now: Duration, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Opened { job, priority } => {
                self.jobs.entry(job).or_insert_with(|| ScheduledJob::new(priority));
            }
            Event::Submitted { job, count, bytes } => self.submitted(job, count, bytes, actions),
            Event::InputEnded { job } => self.input_ended(job, actions),
            Event::Cancelled { job } => self.cancel_queued(job, Wanted::No, actions),
            Event::Undelivered { job, bytes, waits_for } => self.undelivered(job, bytes, waits_for),
            Event::Paused { worker } => self.paused(worker),
            Event::Resumed { worker } => self.resumed(now, worker),
            Event::Ready { worker } => self.ready(now, worker),
            Event::BatchDone { worker, busy } => self.batch_done(now, worker, busy),
            Event::Progress { started } => {
                for (worker, started) in started {
                    self.progress(now, worker, started);
                }
            }
            Event::NotStarted { workers, reason } => self.not_started(now, &workers, reason, actions),
            Event::Oversized { worker } => self.oversized(worker),
            Event::Resized { processes } => self.config.processes = processes,
            Event::Awaited => self.become_eager(),
            Event::Stalled { worker } => self.stalled(now, worker, actions),
            Event::TakenBack { worker, started } => self.taken_back(worker, started, actions),
            Event::Thawed { worker } => self.thawed(worker),
            Event::Gone { worker, started, retriable, exitcode, reason } => {
                let death = Death { started, retriable, exitcode, reason };
                self.gone(now, worker, death, actions);
            }
            Event::Broke { reason } => self.breaks(reason, actions),
            Event::Tick => self.tick(now, actions),
            Event::Close => self.close(),
            Event::CloseQueued => self.close_queued(actions),
            Event::Terminate => self.terminate(actions),
        }
        self.follow_up(now, actions);
    }

    /// Takes a worker's answers at time `now`. Appends to `steps` what is to be done about each of them, in
    /// order. [`Schedule::follow_up`] comes after the last of the answers that have come.
    pub(crate) fn on_returned(&mut self, now: Duration, returned: Returned, steps: &mut Vec<AnswerStep>) {
        self.answered(now, returned, steps);
    }

    /// The next task that the worker holds has failed, in a way that may be worth another attempt. `None`:
    /// that was its last attempt. Then nothing has changed, and the failure is an answer for
    /// [`Schedule::on_returned`]. As there, [`Schedule::follow_up`] comes later.
    pub(crate) fn on_failed(
        &mut self,
        now: Duration,
        worker: WorkerId,
        actions: &mut Vec<Action>,
    ) -> Option<Retry> {
        self.try_again(now, worker, actions)
    }

    /// What follows every event, and the answers that a worker has sent at once: tasks are handed out,
    /// workers hired and let go.
    pub(crate) fn follow_up(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if matches!(self.state, PoolState::Run | PoolState::Close) {
            self.release(now, actions);
            self.assign(now, actions);
            self.hire(now, actions);
            self.retire(now, actions);
            self.drop_unwanted(now, actions);
            self.take_back(now, actions);
        }
        self.finish(actions);
        self.workers.settle();
        self.must_check_all = false;
    }

    /// The number of tasks that the worker holds. A worker that answers more than these is lying.
    pub(crate) fn unanswered(&self, worker: WorkerId) -> u64 {
        self.workers.get(worker).map_or(0, Worker::unanswered)
    }

    /// Whether the worker has answered all tasks of its oldest batch. If not, a worker that tells of the end
    /// of a batch is lying.
    #[cfg(test)]
    pub(crate) fn is_through(&self, worker: WorkerId) -> bool {
        self.workers.get(worker).is_some_and(|w| {
            let unanswered_behind = w.batches.iter().skip(1).map(|batch| batch.count).sum::<u64>();
            !w.batches.is_empty() && w.unanswered() <= unanswered_behind
        })
    }

    /// Whether tasks were taken back from the worker and it has not answered `Thaw` yet.
    #[cfg(test)]
    pub(crate) fn is_frozen(&self, worker: WorkerId) -> bool {
        self.workers.get(worker).is_some_and(Worker::owes_thaw)
    }

    /// Whether the worker was killed because its task took too long.
    pub(crate) fn has_timed_out(&self, worker: WorkerId) -> bool {
        let phase = self.workers.get(worker).map(|w| w.phase);
        matches!(phase, Some(Phase::Killed { why: KillReason::TimedOut { .. }, .. }))
    }

    /// The number of tasks of a job that no worker holds.
    pub(crate) fn queued(&self, job: JobId) -> u64 {
        self.jobs.get(&job).map_or(0, |j| j.queued)
    }

    /// Whether the worker holds a task.
    pub(crate) fn is_busy(&self, worker: WorkerId) -> bool {
        self.unanswered(worker) > 0
    }

    /// The job of the task that the worker answers next.
    pub(crate) fn front(&self, worker: WorkerId) -> Option<JobId> {
        self.workers.get(worker).and_then(|w| w.held.front()).map(|(job, _)| *job)
    }

    /// Whether the worker holds this task.
    pub(crate) fn holds(&self, worker: WorkerId, job: JobId, task: u64) -> bool {
        let is_it =
            |(of, span): &(JobId, Span)| *of == job && (span.first..span.first + span.count).contains(&task);
        self.workers.get(worker).is_some_and(|w| w.held.iter().any(is_it))
    }

    /// Whether the job has no room for more results.
    pub(crate) fn is_full(&self, job: JobId) -> bool {
        self.jobs.get(&job).is_some_and(|job| job.is_full)
    }

    /// Whether the pool has all of its workers, and they are ready.
    pub(crate) fn is_staffed(&self) -> bool {
        let ready = self.workers.count(Count::Staying) - self.workers.count(Count::Starting);
        ready >= self.config.processes
    }

    /// The number of workers that hold tasks.
    pub(crate) fn busy(&self) -> usize {
        self.workers.count(Count::Busy)
    }

    /// Whether every task has its outcome and every worker was killed: what a worker says does not count any
    /// more.
    pub(crate) fn is_terminated(&self) -> bool {
        matches!(self.state, PoolState::Terminate | PoolState::Finished)
    }

    /// Why the pool broke, if it did.
    pub(crate) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// The outcome of a task that comes or remains after the end of the pool.
    pub(crate) fn verdict(&self) -> NoResult {
        match &self.broken {
            Some(reason) => NoResult::Broken { reason: reason.clone() },
            None => NoResult::Cancelled,
        }
    }

    /// When a `Tick` is due at the latest. Just after a `Tick`, this is later than that `Tick`.
    pub(crate) fn next_tick(&self) -> Option<Duration> {
        let delayed = self.delayed.keys().next().map(|(due, _)| *due);
        let hiring = Some(self.hire_at).filter(|at| *at > self.watched && !self.is_over());
        let deadline = self.workers.group(Group::Timed).next().map(|(due, _)| due);
        // The coordinator looks at the counts of workers until their last tasks are known to have begun.
        let first_watched = self.workers.group(Group::Watched).next();
        let look = first_watched.map(|(since, _)| since.max(self.watched).saturating_add(WATCH_PERIOD));
        let others = [self.next_take_back(), self.next_gathered()];
        [deadline, look, delayed, hiring].into_iter().chain(others).flatten().min()
    }

    /// The workers whose counts of started tasks matter for a time limit. `Progress` tells the counts.
    pub(crate) fn watched_workers(&self) -> impl Iterator<Item = WorkerId> {
        self.workers.group(Group::Watched).map(|(_, id)| id)
    }

    // What happens to the pool.

    fn close(&mut self) {
        if self.state == PoolState::Run {
            self.state = PoolState::Close;
        }
    }

    /// As `close`; what is queued is cancelled.
    fn close_queued(&mut self, actions: &mut Vec<Action>) {
        self.close();
        for job in self.jobs.keys().copied().collect::<Vec<_>>() {
            actions.push(Action::Halted { job });
            self.cancel_queued(job, Wanted::Running, actions);
        }
    }

    fn breaks(&mut self, reason: String, actions: &mut Vec<Action>) {
        if matches!(self.state, PoolState::Run | PoolState::Close) {
            // Every remaining task gets a copy, and there may be many.
            let cut = reason.floor_char_boundary(REASON_LEN_MAX);
            self.broken = Some(if cut < reason.len() { format!("{}...", &reason[..cut]) } else { reason });
            self.terminate(actions);
        }
    }

    /// Gives every task that is not done its outcome, now, and kills every worker.
    fn terminate(&mut self, actions: &mut Vec<Action>) {
        if self.is_terminated() {
            return;
        }
        self.state = PoolState::Terminate;
        let mut open: Vec<(JobId, Span)> = std::mem::take(&mut self.delayed).into_values().collect();
        self.queued = 0;
        self.turns.clear();
        for (&id, job) in &mut self.jobs {
            job.pauses.clear();
            (job.queued, job.counted) = (0, 0);
            open.extend(std::mem::take(&mut job.queue).into_iter().map(|span| (id, span)));
        }
        for id in self.workers.ids() {
            let Some(mut worker) = self.workers.get_mut(id) else { continue };
            open.extend(std::mem::take(&mut worker.held));
            worker.answered = worker.sent;
            if !worker.is_killed() {
                worker.change(PhaseChange::Kill(KillReason::PoolOver));
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

    /// Whether every task is done and no more will come: only the ends of the workers are left.
    fn is_over(&self) -> bool {
        match self.state {
            PoolState::Run => false,
            PoolState::Close => self.jobs.is_empty(),
            PoolState::Terminate | PoolState::Finished => true,
        }
    }
}

#[cfg(test)]
mod tests;
