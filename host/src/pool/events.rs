//! What happens in a pool, as it happens: for an application that wants to know, and for whoever listens to `tracing`.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use super::schedule::Recycle;
use crate::error::TaskError;

/// Something that has happened in a pool. [`PoolBuilder::on_event`](crate::PoolBuilder::on_event) takes a function that gets them in their order; with the
/// library's `tracing` events (target `wpool::pool`) they are the same: workers at `DEBUG`, tasks at `TRACE`, what somebody should look at at `WARN`.
///
/// Jobs are numbered from 1 on over the life of a pool: each `map`, `imap`, `apply` or stream is one. Tasks are numbered from 0 on within their job.
///
/// ```
/// # use std::sync::atomic::{AtomicU64, Ordering};
/// # use std::sync::Arc;
/// use wpool::events::PoolEvent;
///
/// let retried = Arc::new(AtomicU64::new(0));
/// let count = retried.clone();
/// let on_event = move |event: &PoolEvent| {
///     if let PoolEvent::TaskRetried { .. } = event {
///         count.fetch_add(1, Ordering::Relaxed);
///     }
/// };
/// # on_event(&PoolEvent::Broken { reason: String::new() });
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolEvent {
    /// A worker process has come to be. It is still loading the module.
    WorkerStarted {
        /// Its number, from 1 on; a replacement has a new one.
        worker: u32,
        /// Its process.
        pid: u32,
    },
    /// A worker is ready for tasks: loaded, and its initializer has run.
    WorkerReady {
        /// Its number.
        worker: u32,
    },
    /// A worker was told to end, for another reason than the pool's own end.
    WorkerRecycled {
        /// Its number.
        worker: u32,
        /// Why.
        why: Recycle,
    },
    /// A worker that is about to end has said where its guest spent its time: see [`PoolBuilder::profile`](crate::PoolBuilder::profile).
    WorkerProfiled {
        /// Its number.
        worker: u32,
        /// JSON for the Firefox profiler. It is a worker's word, and like all of that could be anything.
        profile: Arc<[u8]>,
    },
    /// A worker's process is gone.
    WorkerExited {
        /// Its number.
        worker: u32,
        /// Its process.
        pid: u32,
        /// As Python's `exitcode`: -N for signal N. `None`: nobody knows.
        exitcode: Option<i32>,
        /// The exit code or signal in words, or why it was ended.
        reason: String,
    },
    /// A worker that is at work has shown no sign of life for a while, whatever its guest does: its process is stopped, or the machine gives it
    /// no time. See [`PoolBuilder::heartbeat`](crate::PoolBuilder::heartbeat).
    WorkerSilent {
        /// Its number.
        worker: u32,
        /// Its process.
        pid: u32,
        /// For how long.
        time: Duration,
    },
    /// Tasks were handed to a worker. It runs them one after the other.
    TasksStarted {
        /// Their job.
        job: u64,
        /// Which.
        tasks: Range<u64>,
        /// The attempt, from 1 on.
        attempt: u32,
        /// By whom.
        worker: u32,
    },
    /// Tasks are done: they have their outcomes.
    TasksFinished {
        /// Their job.
        job: u64,
        /// Which.
        tasks: Range<u64>,
        /// How many of them have an error as their outcome.
        failed: u64,
        /// The attempt, from 1 on.
        attempt: u32,
        /// By whom; 0 if not by a worker.
        worker: u32,
    },
    /// A task has an error as its outcome. [`PoolEvent::TasksFinished`] follows, and counts it.
    TaskFailed {
        /// Its job.
        job: u64,
        /// Its number.
        task: u64,
        /// The attempt, from 1 on.
        attempt: u32,
        /// The outcome.
        error: TaskError,
    },
    /// An attempt has failed, and there will be another.
    TaskRetried {
        /// The job.
        job: u64,
        /// The task.
        task: u64,
        /// The attempt that failed, from 1 on.
        attempt: u32,
        /// The pause before the next.
        delay: Duration,
        /// How it failed.
        error: TaskError,
    },
    /// An attempt has reached its time limit. [`PoolEvent::TaskFailed`] or [`PoolEvent::TaskRetried`] follows.
    TaskTimedOut {
        /// The job.
        job: u64,
        /// The task.
        task: u64,
        /// The attempt, from 1 on.
        attempt: u32,
    },
    /// A job was stopped by the pool's [`Halt`](crate::pool::Halt).
    Halted {
        /// The job.
        job: u64,
    },
    /// The pool cannot go on.
    Broken {
        /// Why.
        reason: String,
    },
}

type Listener = Arc<dyn Fn(&PoolEvent) + Send + Sync>;

/// Where events go.
#[derive(Clone, Default)]
pub(super) struct Sink {
    listener: Option<Listener>,
    /// The listener has panicked: it is not called again.
    broken: Arc<AtomicBool>,
}

impl Sink {
    pub(super) fn new(listener: impl Fn(&PoolEvent) + Send + Sync + 'static) -> Sink {
        Sink { listener: Some(Arc::new(listener)), broken: Arc::default() }
    }

    /// Whether anybody listens; if not, no event needs to be made.
    pub(super) fn is_heard(&self) -> bool {
        self.listener.is_some() || tracing::enabled!(target: "wpool::pool", tracing::Level::WARN)
    }

    pub(super) fn tell(&self, event: &PoolEvent) {
        trace(event);
        let Some(listener) = &self.listener else { return };
        if self.broken.load(Ordering::Relaxed) {
            return;
        }
        // A listener's bug must not end the pool under the hands of everybody else.
        if catch_unwind(AssertUnwindSafe(|| listener(event))).is_err() {
            self.broken.store(true, Ordering::Relaxed);
            tracing::error!(target: "wpool::pool", "the function given to on_event panicked and is not called again");
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
