//! Profiles of guests, function by function: for [`PoolBuilder::profile`](crate::PoolBuilder::profile) and
//! [`ProcessBuilder::profile`](crate::ProcessBuilder::profile).

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How guests are profiled. The names come from wasmtime (`ProfilingStrategy`, `GuestProfiler`).
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
/// let builder = Pool::builder(&module).processes(1).profile(ProfilingStrategy::guest());
/// let pool = builder.on_event(keep).build()?;
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
    /// Each worker samples its guest's call stack every `interval`, and hands over a profile at its end: a
    /// JSON document in the Firefox profiler's processed format. A sample is taken at the guest's next loop
    /// or call. There are no samples while the guest is in a call to the host.
    ///
    /// Profiling works inside the whole confinement. A worker that is killed hands over no profile.
    Guest {
        /// Time between two samples; at least 1 ms.
        interval: Duration,
    },
    /// Each worker writes `/tmp/perf-PID.map`, in which Linux `perf` finds the names of guest functions.
    ///
    /// The worker opens that file before it is confined, and keeps it open: a guest that breaks out of its
    /// sandbox could write to it. Workers are executed, not forked, because the file's name contains a
    /// process id. Nothing removes the files.
    PerfMap,
    /// Each worker writes `/tmp/jit-PID.dump`, which also contains the machine code: `perf record -k mono`,
    /// then `perf inject --jit`. Workers in threads write `jit-PID.dump` into the working directory, once.
    ///
    /// As with [`PerfMap`](Self::PerfMap), each worker keeps its file open and is executed.
    JitDump,
}

impl ProfilingStrategy {
    /// The default time between two samples.
    pub(crate) const INTERVAL: Duration = Duration::from_millis(1);

    /// [`Guest`](Self::Guest), with a sample every millisecond.
    #[must_use]
    pub const fn guest() -> ProfilingStrategy {
        ProfilingStrategy::Guest { interval: Self::INTERVAL }
    }

    /// Whether each worker writes a file that is named by its process id.
    pub(crate) fn writes_file(self) -> bool {
        match self {
            ProfilingStrategy::PerfMap | ProfilingStrategy::JitDump => true,
            ProfilingStrategy::Guest { .. } => false,
        }
    }

    /// The time between two samples; `None` for a strategy without samples.
    pub(crate) fn interval(self) -> Option<Duration> {
        match self {
            ProfilingStrategy::Guest { interval } => Some(interval.max(Self::INTERVAL)),
            ProfilingStrategy::PerfMap | ProfilingStrategy::JitDump => None,
        }
    }
}

/// Cap on the bytes of one worker's profile. A worker that sends more is not read any more.
pub(crate) const PROFILE_LEN_MAX: usize = 64 << 20;
