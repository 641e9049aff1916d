//! What a pool does next: a pure state machine.
//!
//! [`Schedule::on`] takes an event and appends actions. It has no clock (the time comes with each event), no thread and no file, so that a
//! test can drive it through kills at any moment, thousands of runs a second. It knows tasks by number only; records and results are the
//! dispatcher's business.
//!
//! ```text
//! Task   : Queued --> Held by a worker (queued there or running) --> Done;  worker lost, or failed with retries left --> Queued (after a pause)
//! Worker : Starting --ready--> Serving --quota | memory | idle | resize | close--> Retiring --> gone;  any --death--> gone
//! Pool   : Run --close--> Close --drained--> Finished;  Run | Close --terminate | broken--> Terminate --all gone--> Finished
//! ```

mod job;
mod staff;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use self::job::{Job, Span, Wanted};
use super::policy::{Backoff, Halt};

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
/// Nor do more than so many, however quick their tasks are said to be.
const BATCH_LEN_MAX: u64 = 1 << 10;
/// Handing a batch over and hearing of its end takes so many times as long as the batch at the most: a worker that says it took less is not believed.
const HAND_OVER_MAX: u32 = 16;
/// A second batch waits at a busy worker only if the first one is expected to take no longer than this.
const PREFETCH_TIME: Duration = Duration::from_millis(2);
/// Workers that may die without a task begun, and no task done in between, before the pool gives up.
const FUTILE_DEATHS: u32 = 5;
/// So many of them must have been hired one after another's death: that somebody killed all workers at once, and the zygote with them, proves nothing.
const FUTILE_ROUNDS: u32 = 3;
/// The pause before workers are started again after the system has refused one twice in a row; it doubles with each further time.
const START_PAUSE: Duration = Duration::from_millis(10);
/// The longest of these pauses.
const START_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Why a pool broke is not kept longer than this; an initializer's own message may be.
const REASON_LEN_MAX: usize = 1 << 10;
/// A worker that has been at a batch for so long gives back what it has not begun, if another has nothing to do.
const TAKE_BACK_TIME: Duration = Duration::from_millis(1);
/// A worker that has given tasks back and has none left has this long to say that it takes others.
const THAW_TIME: Duration = Duration::from_secs(5);
/// How often a time limit is looked at from outside.
const WATCH_PERIOD: Duration = Duration::from_millis(50);

#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) processes: usize,
    pub(crate) max_tasks_per_child: Option<u64>,
    /// How often a failed task is tried again.
    pub(crate) retries: u32,
    /// The pause before the first of these, and how the others grow.
    pub(crate) delay: Duration,
    pub(crate) backoff: Backoff,
    /// A task over which so many workers have died is not tried again.
    pub(crate) poison_limit: u32,
    pub(crate) halt: Option<Halt>,
    /// A job with so many bytes of results that nobody has taken gets no more work, until a quarter of them is gone.
    pub(crate) results_max: u64,
    /// After this time at one task the worker is killed: the task's own limit and the grace.
    pub(crate) kill_after: Option<Duration>,
    /// A worker whose task nobody wants any more has this long to drop it.
    pub(crate) grace: Duration,
    /// A worker has this long from its start until it is ready, beside its initializer's time limit.
    pub(crate) start_time: Duration,
    /// A retiring worker has this long for its guest's `shutdown`.
    pub(crate) retire_time: Duration,
    /// A worker without a task for this long is ended.
    pub(crate) idle_time: Option<Duration>,
    /// All workers are started whether there are tasks or not.
    pub(crate) eager: bool,
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
    /// So many bytes of the job's results are there that nobody has taken. `waits_for`: the task whose result somebody waits for, having taken
    /// all before it.
    Undelivered {
        job: JobId,
        bytes: u64,
        waits_for: Option<u64>,
    },
    /// There is no room for what the worker has to say: it is not listened to.
    Paused {
        worker: WorkerId,
    },
    Resumed {
        worker: WorkerId,
    },
    /// A worker is loaded and initialized.
    Ready {
        worker: WorkerId,
    },
    /// The next `count` tasks that the worker holds are done, `failed` of them without a result. If failures or successes can halt the job, these
    /// are all or none.
    Returned {
        worker: WorkerId,
        count: u64,
        failed: u64,
    },
    /// The next task that the worker holds has failed. `retriable`: trying again may help.
    Failed {
        worker: WorkerId,
        retriable: bool,
    },
    /// The worker is through with a batch, after this time by its own word.
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
    /// The worker uses too much memory.
    Oversized {
        worker: WorkerId,
    },
    /// There shall be so many workers from now on.
    Resized {
        processes: usize,
    },
    /// The worker will begin none of the tasks that it had not begun, which are those behind the first `started` of its life.
    TakenBack {
        worker: WorkerId,
        started: u64,
    },
    /// It has heard of that, and begins what it is sent from now on.
    Thawed {
        worker: WorkerId,
    },
    /// The worker's process is gone. `started` as in `Progress`, the last word of it. `retriable`: the task that is charged may be tried again.
    Gone {
        worker: WorkerId,
        started: u64,
        retriable: bool,
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
    /// As `Close`, and what is queued is given up.
    CloseQueued,
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
    /// The results in hand for so many tasks count for nothing: the job was halted before them.
    Skip {
        count: u64,
    },
    /// This was not the task's last word: it will be tried again after a pause. The failure is the verdict, or the one in hand.
    Retry {
        job: JobId,
        task: u64,
        attempt: u32,
        delay: Duration,
        verdict: Option<Verdict>,
    },
    /// These tasks are done without a result.
    Give {
        job: JobId,
        first: u64,
        count: u64,
        attempt: u32,
        verdict: Verdict,
    },
    /// The policy says that enough of the job is done: no more input is taken.
    Halted {
        job: JobId,
    },
    /// The job is done: every task of it has had its outcome.
    JobDone {
        job: JobId,
    },
    /// Tell the worker that nobody wants the first `until` tasks that it was sent in its life.
    Drop {
        worker: WorkerId,
        until: u64,
    },
    /// Keep the worker from beginning what it has not begun, and say what that is: others have nothing to do.
    TakeBack {
        worker: WorkerId,
    },
    /// Tell the worker to end. No reason: the pool is over.
    Retire {
        worker: WorkerId,
        why: Option<Recycle>,
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

/// Why a worker is replaced, or not needed any more.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let module = guest("upper")?;
/// use wpool::events::{PoolEvent, Recycle};
///
/// let on_event = |event: &PoolEvent| {
///     if let PoolEvent::WorkerRecycled { worker, why: Recycle::Memory } = event {
///         println!("worker {worker} has grown too large");
///     }
/// };
/// let pool = wpool::Pool::builder(&module).on_event(on_event).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recycle {
    /// It has run its share of tasks: [`PoolBuilder::max_tasks_per_child`](crate::PoolBuilder::max_tasks_per_child).
    Quota,
    /// It uses too much memory: [`PoolBuilder::max_memory_per_child`](crate::PoolBuilder::max_memory_per_child).
    Memory,
    /// It has had nothing to do: [`PoolBuilder::idle_timeout`](crate::PoolBuilder::idle_timeout).
    Idle,
    /// The pool has become smaller: [`Pool::resize`](crate::Pool::resize).
    Resize,
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
    /// Since when it has been at the batch that it is at.
    front_since: Duration,
    /// Since when it begins nothing more, if tasks were taken back from it and it has not heard of that yet.
    frozen: Option<Duration>,
    /// Results of it wait for room: for how long, it cannot help.
    paused: bool,
    /// The batches under way, oldest first.
    batches: VecDeque<SentBatch>,
    /// When it was through with the one before.
    through_since: Duration,
    /// So many of the tasks that it was sent, from its first on, nobody wants; since when it has known, while it holds some of them.
    dropped: u64,
    dropping_since: Option<Duration>,
    /// It gets no more tasks, and is told to end once it is through.
    leaving: Option<Recycle>,
    /// The task that it was killed for, counted as `started` is.
    timed_out: Option<u64>,
    killed: bool,
    /// It was killed for no fault of its own or its task's: its death is charged to nobody and proves nothing.
    innocent: bool,
}

/// A batch that a worker has been sent and has not told the end of.
#[derive(Debug, Clone, Copy)]
struct SentBatch {
    job: JobId,
    count: u64,
    at: Duration,
}

impl Worker {
    fn is_serving(&self) -> bool {
        self.phase == Phase::Serving && !self.killed
    }

    /// Neither told to end nor killed: it has one of the pool's places.
    fn is_hired(&self) -> bool {
        !self.killed && !matches!(self.phase, Phase::Retiring { .. })
    }

    /// May be given tasks.
    fn takes_tasks(&self) -> bool {
        self.is_serving() && self.leaving.is_none() && self.frozen.is_none()
    }
}

#[derive(Debug)]
pub(crate) struct Schedule {
    config: Config,
    state: PoolState,
    broken: Option<String>,
    jobs: BTreeMap<JobId, Job>,
    /// How many of them nobody wants any more.
    unwanted: usize,
    /// How many of them must not have begun what workers hold: they have no room for more results, or only what is running is wanted.
    held_back: usize,
    /// Tasks that are tried again after a pause, by the time when it is over and a number.
    delayed: BTreeMap<(Duration, u64), (JobId, Span)>,
    delays: u64,
    /// Tasks in the queues of all jobs that may be handed out: there may be thousands of jobs, and every event asks.
    queued: u64,
    /// The jobs that have some.
    waiting: BTreeSet<JobId>,
    workers: BTreeMap<WorkerId, Worker>,
    next_worker: WorkerId,
    /// The job served last, for taking turns.
    last_job: JobId,
    futile_deaths: u32,
    /// The longest chain of workers among them that were each hired after the death of the one before.
    futile_rounds: u32,
    /// Ends with the first futile death of a worker that was hired in it. Only goes up, so that workers of old rounds never count again.
    round: u64,
    /// How often in a row workers could not be started, and until when no more are.
    failed_starts: u32,
    hire_at: Duration,
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
            unwanted: 0,
            held_back: 0,
            delayed: BTreeMap::new(),
            delays: 0,
            queued: 0,
            waiting: BTreeSet::new(),
            workers: BTreeMap::new(),
            next_worker: 1,
            last_job: 0,
            futile_deaths: 0,
            futile_rounds: 0,
            round: 0,
            failed_starts: 0,
            hire_at: Duration::ZERO,
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
            Event::Cancelled { job } => self.unwant(job, Wanted::No, actions),
            Event::Undelivered { job, bytes, waits_for } => self.undelivered(job, bytes, waits_for),
            Event::Paused { worker } => self.paused(worker),
            Event::Resumed { worker } => self.resumed(now, worker),
            Event::Ready { worker } => self.ready(now, worker),
            Event::Returned { worker, count, failed } => self.answered(now, worker, count, failed, actions),
            Event::Failed { worker, retriable } => self.failed(now, worker, retriable, actions),
            Event::BatchDone { worker, busy } => self.batch_done(now, worker, busy),
            Event::Progress { worker, started } => self.progress(now, worker, started),
            Event::NotStarted { workers, reason } => self.not_started(now, &workers, reason, actions),
            Event::Oversized { worker } => self.oversized(worker),
            Event::Resized { processes } => self.config.processes = processes,
            Event::TakenBack { worker, started } => self.taken_back(worker, started, actions),
            Event::Thawed { worker } => self.thawed(worker),
            Event::Gone { worker, started, retriable, exitcode, reason } => {
                let death = Death { started, retriable, exitcode, reason };
                self.gone(now, worker, death, actions);
            }
            Event::Broke { reason } => self.breaks(reason, actions),
            Event::Tick => self.tick(now, actions),
            Event::Close => self.close(),
            Event::CloseQueued => {
                self.close();
                for job in self.jobs.keys().copied().collect::<Vec<_>>() {
                    actions.push(Action::Halted { job });
                    self.unwant(job, Wanted::Running, actions);
                }
            }
            Event::Terminate => self.terminate(actions),
        }
        if matches!(self.state, PoolState::Run | PoolState::Close) {
            self.release(now, actions);
            self.assign(now, actions);
            self.hire(now, actions);
            self.retire(now, actions);
            self.drop_unwanted(now, actions);
            self.take_back(now, actions);
        }
        self.finish(actions);
    }

    /// How many tasks the worker has not answered yet. A worker that answers more is lying.
    pub(crate) fn unanswered(&self, worker: WorkerId) -> u64 {
        self.workers.get(&worker).map_or(0, |w| w.sent - w.answered)
    }

    /// Whether the worker holds a batch all of whose tasks it has answered. One that tells of the end of another is lying.
    pub(crate) fn is_through(&self, worker: WorkerId) -> bool {
        self.workers.get(&worker).is_some_and(|w| {
            let unanswered_behind = w.batches.iter().skip(1).map(|batch| batch.count).sum::<u64>();
            !w.batches.is_empty() && w.sent - w.answered <= unanswered_behind
        })
    }

    /// How many of the worker's next answers may be that it has dropped the task.
    pub(crate) fn droppable(&self, worker: WorkerId) -> u64 {
        self.workers.get(&worker).map_or(0, |w| w.dropped.saturating_sub(w.answered))
    }

    /// Whether tasks were taken back from the worker, and it has not said that it knows.
    pub(crate) fn is_frozen(&self, worker: WorkerId) -> bool {
        self.workers.get(&worker).is_some_and(|w| w.frozen.is_some())
    }

    /// Whether the worker was killed because its task took too long.
    pub(crate) fn has_timed_out(&self, worker: WorkerId) -> bool {
        self.workers.get(&worker).is_some_and(|w| w.timed_out.is_some())
    }

    /// Tasks of a job that no worker holds.
    pub(crate) fn queued(&self, job: JobId) -> u64 {
        self.jobs.get(&job).map_or(0, |j| j.queued)
    }

    /// Whether the worker is at work on a task.
    pub(crate) fn is_busy(&self, worker: WorkerId) -> bool {
        self.unanswered(worker) > 0
    }

    /// The job of the task that the worker answers next.
    pub(crate) fn front(&self, worker: WorkerId) -> Option<JobId> {
        self.workers.get(&worker).and_then(|w| w.held.front()).map(|(job, _)| *job)
    }

    /// Whether the worker has this task.
    pub(crate) fn holds(&self, worker: WorkerId, job: JobId, task: u64) -> bool {
        let is_it =
            |(of, span): &(JobId, Span)| *of == job && (span.first..span.first + span.count).contains(&task);
        self.workers.get(&worker).is_some_and(|w| w.held.iter().any(is_it))
    }

    /// Whether the job has more results that nobody has taken than it may.
    pub(crate) fn is_full(&self, job: JobId) -> bool {
        self.jobs.get(&job).is_some_and(|job| job.is_full)
    }

    /// How many workers hold tasks.
    pub(crate) fn busy(&self) -> usize {
        self.workers.values().filter(|worker| !worker.held.is_empty()).count()
    }

    /// Whether every task has had its outcome and every worker has been killed: nothing that a worker says counts any more.
    pub(crate) fn is_terminated(&self) -> bool {
        matches!(self.state, PoolState::Terminate | PoolState::Finished)
    }

    /// Why the pool cannot go on, if it cannot.
    pub(crate) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
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
            Phase::Serving if w.held.is_empty() => earlier(self.idle_until(w), w.thaw_deadline()),
            // The time limit may turn out to be that of a later task, so that it is looked at; the others are as they are.
            Phase::Serving => {
                earlier(self.task_deadline(w).map(|deadline| deadline.min(look(w))), self.drop_deadline(w))
            }
            Phase::Starting { .. } | Phase::Retiring { .. } => self.deadline(w),
        };
        let delayed = self.delayed.keys().next().map(|(due, _)| *due);
        let hiring = Some(self.hire_at).filter(|at| *at > self.watched && !self.is_over());
        let workers = self.workers.values().filter_map(due).min();
        [workers, delayed, hiring, self.next_take_back()].into_iter().flatten().min()
    }

    // What happens to the pool.

    fn close(&mut self) {
        if self.state == PoolState::Run {
            self.state = PoolState::Close;
        }
    }

    fn breaks(&mut self, reason: String, actions: &mut Vec<Action>) {
        if matches!(self.state, PoolState::Run | PoolState::Close) {
            // Every task that is left is told, and there may be many.
            let cut = reason.floor_char_boundary(REASON_LEN_MAX);
            self.broken = Some(if cut < reason.len() { format!("{}...", &reason[..cut]) } else { reason });
            self.terminate(actions);
        }
    }

    /// Every task that is not done is cancelled, now; every worker is killed.
    fn terminate(&mut self, actions: &mut Vec<Action>) {
        if self.is_terminated() {
            return;
        }
        self.state = PoolState::Terminate;
        let mut open: Vec<(JobId, Span)> = std::mem::take(&mut self.delayed).into_values().collect();
        self.queued = 0;
        self.waiting.clear();
        for (&id, job) in &mut self.jobs {
            job.pauses.clear();
            (job.queued, job.counted) = (0, 0);
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
}

fn earlier(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// How a worker died.
struct Death {
    started: u64,
    retriable: bool,
    exitcode: Option<i32>,
    reason: String,
}

#[cfg(test)]
mod tests;
