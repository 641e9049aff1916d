//! Where guests spend their time, function by function: for [`PoolBuilder::profile`](crate::PoolBuilder::profile) and
//! [`ProcessBuilder::profile`](crate::ProcessBuilder::profile).

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How guests are profiled. The names are wasmtime's (`ProfilingStrategy`, `GuestProfiler`).
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use std::sync::{Arc, Mutex};
/// # let module = guest("upper")?;
/// use wpool::events::{PoolEvent, ProfilingStrategy};
/// use wpool::Pool;
///
/// let profiles = Arc::new(Mutex::new(Vec::new()));
/// let kept = profiles.clone();
/// let keep = move |event: &PoolEvent| {
///     if let PoolEvent::WorkerProfiled { profile, .. } = event {
///         kept.lock().unwrap().push(profile.clone());
///     }
/// };
/// let pool = Pool::builder(&module).processes(1).profile(ProfilingStrategy::guest()).on_event(keep).build()?;
/// let upper = pool.func::<&str, String>("run")?;
/// pool.map(&upper, ["a", "b"])?;
/// pool.close();
/// pool.join()?;
/// // A JSON document for the Firefox profiler.
/// assert!(profiles.lock().unwrap()[0].starts_with(b"{\"meta\":"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ProfilingStrategy {
    /// Each worker looks every `interval` where its guest is, and hands a profile over at its end: a JSON document in the Firefox
    /// profiler's processed format. A look is taken at the next loop or call of the guest; while it is in a call to the host, there is none.
    ///
    /// It works inside of the whole confinement. A worker that is killed has no profile to give.
    Guest {
        /// Time between two looks. From 1 ms on.
        interval: Duration,
    },
    /// Each worker writes `/tmp/perf-PID.map`, in which Linux `perf` finds the names of guest functions.
    ///
    /// The worker opens that file before anything is closed to it, and keeps it: a guest that breaks out of its sandbox could write to it. Workers are
    /// executed, not forked, for the file bears a process's number. Nobody removes the files.
    PerfMap,
    /// Each worker writes `/tmp/jit-PID.dump`, with the machine code too: `perf record -k mono`, then `perf inject --jit`. Workers in threads write
    /// `jit-PID.dump` into the working directory, once.
    ///
    /// As for [`PerfMap`](Self::PerfMap), each worker keeps its file open, and is executed.
    JitDump,
}

impl ProfilingStrategy {
    /// The time between two looks, unless one is named.
    pub(crate) const INTERVAL: Duration = Duration::from_millis(1);

    /// [`Guest`](Self::Guest), with a look every millisecond.
    #[must_use]
    pub const fn guest() -> ProfilingStrategy {
        ProfilingStrategy::Guest { interval: Self::INTERVAL }
    }

    /// Whether each worker has a file of its own, by its process id.
    pub(crate) fn writes_file(self) -> bool {
        match self {
            ProfilingStrategy::PerfMap | ProfilingStrategy::JitDump => true,
            ProfilingStrategy::Guest { .. } => false,
        }
    }

    /// The time between two looks, for one that has looks.
    pub(crate) fn interval(self) -> Option<Duration> {
        match self {
            ProfilingStrategy::Guest { interval } => Some(interval.max(Self::INTERVAL)),
            ProfilingStrategy::PerfMap | ProfilingStrategy::JitDump => None,
        }
    }
}

/// Bytes of one worker's profile. With more, what a worker says is not listened to any more.
pub(crate) const PROFILE_LEN_MAX: usize = 64 << 20;
