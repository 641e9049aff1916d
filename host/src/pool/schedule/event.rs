//! What the schedule hears, and what it answers.

use std::ops::Range;
use std::time::Duration;

use super::{JobId, WorkerId};
use crate::target::Priority;

/// Something has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// There is a job. A pool that closes waits for the job from now on.
    Opened { job: JobId, priority: Priority },
    /// A job has `count` more tasks, with `bytes` of records.
    Submitted { job: JobId, count: u64, bytes: u64 },
    /// The job will get no more tasks.
    InputEnded { job: JobId },
    /// The rest of the job is not wanted any more.
    Cancelled { job: JobId },
    /// `bytes` of the job's results are not taken yet. `waits_for`: the task whose result is waited for, if
    /// every result before it is taken.
    Undelivered { job: JobId, bytes: u64, waits_for: Option<u64> },
    /// The coordinator does not read from the worker: there is no room for more results.
    Paused { worker: WorkerId },
    /// The coordinator reads from the worker again.
    Resumed { worker: WorkerId },
    /// The worker is loaded and initialized.
    Ready { worker: WorkerId },
    /// The worker has ended its oldest batch, which took `busy` as the worker says.
    BatchDone { worker: WorkerId, busy: Duration },
    /// Each of these workers says how many tasks it has started in its life. One event carries them all: the
    /// schedule does the same work after each event, however small the event is.
    Progress { started: Vec<(WorkerId, u64)> },
    /// These workers did not start, all for one reason. However many were asked for, it is one failed try.
    NotStarted { workers: Vec<WorkerId>, reason: String },
    /// The worker uses too much memory.
    Oversized { worker: WorkerId },
    /// The pool has this many places for workers from now on.
    Resized { processes: usize },
    /// Someone waits until all workers are ready: the pool keeps all of them from now on.
    Awaited,
    /// The worker's task waits for others. Those that it holds behind that one must not wait with it.
    Stalled { worker: WorkerId },
    /// The worker will begin none of the tasks behind the first `started` tasks of its life.
    TakenBack { worker: WorkerId, started: u64 },
    /// The worker has heard that tasks were taken back from it. It begins what it is sent from now on.
    Thawed { worker: WorkerId },
    /// The worker's process is gone. `started` as in `Progress`, at its end. `retriable`: the task that is
    /// charged may be tried again.
    Gone { worker: WorkerId, started: u64, retriable: bool, exitcode: Option<i32>, reason: String },
    /// The pool cannot go on: an initializer failed, or the module does not load.
    Broke { reason: String },
    /// Time has passed.
    Tick,
    /// The pool takes no more jobs.
    Close,
    /// As `Close`; queued tasks are cancelled.
    CloseQueued,
    /// Every task is cancelled and every worker killed.
    Terminate,
}

/// A worker's answers to the next `count` tasks that it holds, `failed` of them failures. If failures or
/// successes can halt a job, the answers are all failures or all results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Returned {
    pub(crate) worker: WorkerId,
    pub(crate) count: u64,
    pub(crate) failed: u64,
}

/// Something is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start a worker.
    Start { worker: WorkerId },
    /// Send these tasks to a worker, as one batch. They are in the order in which the worker will answer.
    Send { worker: WorkerId, job: JobId, tasks: Vec<Range<u64>>, attempt: u32 },
    /// Report that the task has failed and will be tried again.
    Retry { retry: Retry, failure: NoResult },
    /// End these tasks without a result.
    Give { job: JobId, first: u64, count: u64, attempt: u32, verdict: NoResult },
    /// Take no more input for the job: by the policy enough of it is done.
    Halted { job: JobId },
    /// Forget the job: every task of it has had its outcome.
    JobDone { job: JobId },
    /// Tell the worker that the first `until` tasks that it was sent in its life are not wanted any more.
    Drop { worker: WorkerId, until: u64 },
    /// Keep the worker from beginning further tasks, and answer with `TakenBack`: other workers are idle, or
    /// its task waits.
    TakeBack { worker: WorkerId },
    /// Tell the worker to end. `why` is `None` at the end of the pool.
    Retire { worker: WorkerId, why: Option<Recycle> },
    /// Kill the worker.
    Kill { worker: WorkerId },
    /// End: everything is over and every worker gone.
    Finished,
}

/// What is to be done about a worker's answers, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AnswerStep {
    /// The next `count` answers are the outcomes of these tasks. `None`: the job was halted before them, and
    /// they do not count.
    Settle { count: u64, tasks: Option<Answered> },
    /// This is a consequence of the answers before.
    Act(Action),
}

/// Consecutive tasks that a worker has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) job: JobId,
    pub(crate) first: u64,
    pub(crate) attempt: u32,
}

/// A task that has failed at an attempt, and will be tried again after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retry {
    pub(crate) job: JobId,
    pub(crate) task: u64,
    pub(crate) attempt: u32,
    pub(crate) delay: Duration,
}

/// Why a task has no result, if no worker has answered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoResult {
    /// Its worker died while it ran.
    Lost { exitcode: Option<i32>, reason: String },
    /// Its worker was killed because the task took too long.
    TimedOut,
    /// It was cancelled.
    Cancelled,
    /// The pool broke.
    Broken { reason: String },
}

/// Why a worker is replaced or ended.
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
    /// It has run as many tasks as a worker may:
    /// [`PoolBuilder::max_tasks_per_child`](crate::PoolBuilder::max_tasks_per_child).
    Quota,
    /// It uses too much memory:
    /// [`PoolBuilder::max_memory_per_child`](crate::PoolBuilder::max_memory_per_child).
    Memory,
    /// It was idle for long: [`PoolBuilder::idle_timeout`](crate::PoolBuilder::idle_timeout).
    Idle,
    /// The pool has become smaller: [`Pool::resize`](crate::Pool::resize).
    Resize,
}
