//! The settings of a schedule, its constants, and the numbers by which it names workers and jobs.

use std::time::Duration;

use crate::pool::policy::{Backoff, Halt};

/// Counted from 1 over the life of the pool.
pub(crate) type WorkerId = u32;
/// Counted from 1 over the life of the pool.
pub(crate) type JobId = u64;

/// The work that one batch should hold: long enough that handing it over costs little, short enough that
/// workers finish together.
pub(super) const BATCH_TIME: Duration = Duration::from_micros(400);
/// The work that one batch holds at least, if the tasks are there: about the time in which it is handed over.
/// With hundreds of workers a batch would otherwise be a few tasks, and its handing over all of its cost.
pub(super) const BATCH_TIME_MIN: Duration = Duration::from_micros(100);
/// If this many workers for each processor are at a job, its queue waits until it holds such a batch: more
/// workers would do no more, and each would be woken for a few tasks.
pub(super) const CROWD: usize = 4;
/// A batch is at most this many times as long as the one before: one fast task proves little about the next.
pub(super) const BATCH_GROWTH: u64 = 4;
/// The most bytes of records in one batch, by the mean of the job's records.
pub(super) const BATCH_BYTES: u64 = 256 << 10;
/// The most records in one batch, however quick their tasks are said to be.
pub(super) const BATCH_LEN_MAX: u64 = 1 << 10;
/// Handing over a batch and hearing of its end takes at most this many times as long as the batch, if the
/// worker has a processor to itself: a worker that says it took less is not believed.
pub(super) const HAND_OVER_MAX: u32 = 16;
/// A second batch waits at a busy worker only if the first one is expected to take no longer than this.
pub(super) const PREFETCH_TIME: Duration = Duration::from_millis(2);
/// Workers that may die before they begin a task, with no task done in between, before the pool breaks.
pub(super) const FUTILE_DEATHS: u32 = 5;
/// Deaths must span this many rounds of hiring: one kill of all workers proves nothing.
pub(super) const FUTILE_ROUNDS: u32 = 3;
/// The pause before workers are started again after the system has refused one twice in a row. Each further
/// refusal doubles it.
pub(super) const START_PAUSE: Duration = Duration::from_millis(10);
/// The longest of these pauses.
pub(super) const START_PAUSE_MAX: Duration = Duration::from_secs(1);
/// The most bytes kept of the reason why a pool broke: an initializer chooses its own message.
pub(super) const REASON_LEN_MAX: usize = 1 << 10;
/// After this time at one batch a worker gives back the tasks that it has not begun, if another worker is
/// idle.
pub(super) const TAKE_BACK_TIME: Duration = Duration::from_millis(1);
/// A worker without tasks has this long to answer `Thaw`.
pub(super) const THAW_TIME: Duration = Duration::from_secs(5);
/// How often the coordinator looks at time limits.
pub(super) const WATCH_PERIOD: Duration = Duration::from_millis(50);

/// The settings of a pool, as far as they decide what happens next.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) processes: usize,
    /// The processors that the workers share.
    pub(crate) cpus: usize,
    pub(crate) max_tasks_per_child: Option<u64>,
    /// How often a failed task is tried again.
    pub(crate) retries: u32,
    /// The pause before the first retry.
    pub(crate) delay: Duration,
    /// How the pauses grow.
    pub(crate) backoff: Backoff,
    /// A task over which this many workers have died is not tried again.
    pub(crate) poison_limit: u32,
    pub(crate) halt: Option<Halt>,
    /// A job with this many bytes of results that are not taken gets no more work, until a quarter of them is
    /// gone.
    pub(crate) results_max: u64,
    /// After this time at one task the worker is killed: the task's own limit and the grace.
    pub(crate) kill_after: Option<Duration>,
    /// A worker has this long to drop a cancelled task.
    pub(crate) grace: Duration,
    /// A worker has this long to become ready, besides the time limit of its initializer.
    pub(crate) start_time: Duration,
    /// A retiring worker has this long for its guest's `shutdown`.
    pub(crate) retire_time: Duration,
    /// A worker without a task for this long is told to end.
    pub(crate) idle_time: Option<Duration>,
    /// All workers are started whether there are tasks or not.
    pub(crate) eager: bool,
}
