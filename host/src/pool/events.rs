//! The events of a pool, for `PoolBuilder::on_event` and for subscribers of `tracing`.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use super::schedule::Recycle;
use crate::error::TaskError;

/// An event of a pool. The function of [`PoolBuilder::on_event`](crate::PoolBuilder::on_event) gets them in
/// their order.
///
/// The same events go to `tracing` (target `wpool::pool`): those of workers and of failures at `DEBUG`, other
/// tasks at `TRACE`, and `WorkerSilent` and `Broken` at `WARN`.
///
/// Each `map`, `imap`, `apply` or stream is a job. The jobs of a pool are numbered from 1, the tasks of a job
/// from 0.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let module = guest("failing")?;
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use wpool::Pool;
/// use wpool::events::PoolEvent;
///
/// let retried = Arc::new(AtomicU64::new(0));
/// let count = retried.clone();
/// let on_event = move |event: &PoolEvent| {
///     if let PoolEvent::TaskRetried { .. } = event {
///         count.fetch_add(1, Ordering::Relaxed);
///     }
/// };
/// let pool = Pool::builder(&module).processes(1).retries(2).on_event(on_event).build()?;
/// let run = pool.func::<&str, String>("run")?;
/// assert!(pool.apply(&run, "bad").is_err());
/// assert_eq!(retried.load(Ordering::Relaxed), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolEvent {
    /// A worker process was started. It loads the module.
    WorkerStarted {
        /// The number of the worker, counted from 1. A replacement has a new number.
        worker: u32,
        /// The process id.
        pid: u32,
    },
    /// A worker is ready for tasks: it has loaded the module and run the initializer.
    WorkerReady {
        /// The number of the worker.
        worker: u32,
    },
    /// A worker was told to end, for another reason than the end of the pool.
    WorkerRecycled {
        /// The number of the worker.
        worker: u32,
        /// The reason.
        why: Recycle,
    },
    /// A worker that ends has given its profile: see [`PoolBuilder::profile`](crate::PoolBuilder::profile).
    WorkerProfiled {
        /// The number of the worker.
        worker: u32,
        /// JSON for the Firefox profiler. A hostile worker can send any bytes here.
        profile: Arc<[u8]>,
    },
    /// A worker process has ended.
    WorkerExited {
        /// The number of the worker.
        worker: u32,
        /// The process id.
        pid: u32,
        /// Python's `exitcode`: -N for signal N. `None`: it is unknown.
        exitcode: Option<i32>,
        /// The exit code or signal in words, or the reason why the pool ended the worker.
        reason: String,
    },
    /// A busy worker has given no sign of life for a while: its process is stopped, or gets no processor
    /// time. See [`PoolBuilder::heartbeat`](crate::PoolBuilder::heartbeat).
    WorkerSilent {
        /// The number of the worker.
        worker: u32,
        /// The process id.
        pid: u32,
        /// How long it has been silent.
        time: Duration,
    },
    /// Tasks were sent to a worker, which runs them one after the other.
    TasksStarted {
        /// The job.
        job: u64,
        /// The tasks.
        tasks: Range<u64>,
        /// The attempt, counted from 1.
        attempt: u32,
        /// The number of the worker.
        worker: u32,
    },
    /// Tasks have their outcomes.
    TasksFinished {
        /// The job.
        job: u64,
        /// The tasks.
        tasks: Range<u64>,
        /// How many of them failed.
        failed: u64,
        /// The attempt, counted from 1.
        attempt: u32,
        /// The number of the worker; 0 if no worker ran them.
        worker: u32,
    },
    /// A task has failed, after its last attempt. [`PoolEvent::TasksFinished`] follows, and counts it.
    TaskFailed {
        /// The job.
        job: u64,
        /// The task.
        task: u64,
        /// The attempt, counted from 1.
        attempt: u32,
        /// The failure.
        error: TaskError,
    },
    /// An attempt has failed, and another follows.
    TaskRetried {
        /// The job.
        job: u64,
        /// The task.
        task: u64,
        /// The attempt that failed, counted from 1.
        attempt: u32,
        /// The pause before the next attempt.
        delay: Duration,
        /// The failure.
        error: TaskError,
    },
    /// An attempt has reached its time limit. [`PoolEvent::TaskFailed`] or [`PoolEvent::TaskRetried`]
    /// follows.
    TaskTimedOut {
        /// The job.
        job: u64,
        /// The task.
        task: u64,
        /// The attempt, counted from 1.
        attempt: u32,
    },
    /// A job was stopped by the pool's [`Halt`](crate::pool::Halt).
    Halted {
        /// The job.
        job: u64,
    },
    /// The pool is broken: its workers cannot run.
    Broken {
        /// The reason.
        reason: String,
    },
}

type EventFn = Arc<dyn Fn(&PoolEvent) + Send + Sync>;

/// The receiver of the events: the function of `on_event`, and `tracing`.
#[derive(Clone, Default)]
pub(super) struct Sink {
    listener: Option<EventFn>,
    /// The listener has panicked: it is not called again.
    broken: Arc<AtomicBool>,
}

impl Sink {
    pub(super) fn new(listener: impl Fn(&PoolEvent) + Send + Sync + 'static) -> Sink {
        Sink { listener: Some(Arc::new(listener)), broken: Arc::default() }
    }

    /// Whether the application has given a function.
    pub(super) fn has_listener(&self) -> bool {
        self.listener.is_some()
    }

    /// Whether there is a receiver. Without one, no event needs to be made.
    pub(super) fn is_heard(&self) -> bool {
        self.listener.is_some() || tracing::enabled!(target: "wpool::pool", tracing::Level::WARN)
    }

    pub(super) fn tell(&self, event: &PoolEvent) {
        trace(event);
        let Some(listener) = &self.listener else { return };
        if self.broken.load(Ordering::Relaxed) {
            return;
        }
        // A panic here would end the dispatcher, and with it every job of the pool.
        if catch_unwind(AssertUnwindSafe(|| listener(event))).is_err() {
            self.broken.store(true, Ordering::Relaxed);
            tracing::error!(
                target: "wpool::pool",
                "the function given to on_event panicked and is not called again"
            );
        }
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.listener.is_some() { "Sink(listener)" } else { "Sink" })
    }
}

fn trace(event: &PoolEvent) {
    macro_rules! on_pool {
        ($level:ident, $($fields:tt)*) => { tracing::$level!(target: "wpool::pool", $($fields)*) };
    }
    match event {
        PoolEvent::WorkerStarted { worker, pid } => on_pool!(debug, worker, pid, "worker started"),
        PoolEvent::WorkerReady { worker } => on_pool!(debug, worker, "worker ready"),
        PoolEvent::WorkerRecycled { worker, why } => on_pool!(debug, worker, ?why, "worker recycled"),
        PoolEvent::WorkerProfiled { worker, profile } => {
            on_pool!(debug, worker, bytes = profile.len(), "worker profiled");
        }
        PoolEvent::WorkerExited { worker, pid, exitcode, reason } => {
            on_pool!(debug, worker, pid, ?exitcode, reason, "worker exited");
        }
        PoolEvent::WorkerSilent { worker, pid, time } => {
            on_pool!(warn, worker, pid, ?time, "no sign of life");
        }
        PoolEvent::TasksStarted { job, tasks, attempt, worker } => {
            on_pool!(trace, job, ?tasks, attempt, worker, "tasks started");
        }
        PoolEvent::TasksFinished { job, tasks, failed, attempt, worker } => {
            on_pool!(trace, job, ?tasks, failed, attempt, worker, "tasks finished");
        }
        PoolEvent::TaskFailed { job, task, attempt, error } => {
            on_pool!(debug, job, task, attempt, %error, "task failed");
        }
        PoolEvent::TaskRetried { job, task, attempt, delay, error } => {
            on_pool!(debug, job, task, attempt, ?delay, %error, "task will be tried again");
        }
        PoolEvent::TaskTimedOut { job, task, attempt } => {
            on_pool!(debug, job, task, attempt, "task timed out")
        }
        PoolEvent::Halted { job } => on_pool!(debug, job, "job halted"),
        PoolEvent::Broken { reason } => on_pool!(warn, reason, "the pool is broken"),
    }
}
