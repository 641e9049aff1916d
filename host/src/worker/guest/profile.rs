//! Profiles: samples of the guest's stack, taken at ticks.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use wasmtime::{AsContext, GuestProfiler};

/// The most samples of a profile: ten minutes of one every millisecond, some 20 MiB as JSON.
const SAMPLES_MAX: u32 = 600_000;

/// The profile of a worker, over all its tasks.
pub(super) struct Profile(Mutex<Option<Samples>>);

struct Samples {
    profiler: GuestProfiler,
    interval: Duration,
    last: Instant,
    count: u32,
}

impl Profile {
    pub(super) fn new(profiler: GuestProfiler, interval: Duration) -> Profile {
        Profile(Mutex::new(Some(Samples { profiler, interval, last: Instant::now(), count: 0 })))
    }

    /// Takes a sample of the guest of this store, which is in its own code.
    pub(super) fn sample(&self, store: impl AsContext) {
        // A lock without contention: samples are taken on the guest's own thread, in the callback of the
        // epoch, not in the signal handler.
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(samples) = samples.as_mut().filter(|samples| samples.count < SAMPLES_MAX) else { return };
        let now = Instant::now();
        // Time between two tasks does not belong to either of them.
        let since = now.duration_since(samples.last).min(samples.interval * 2);
        (samples.last, samples.count) = (now, samples.count + 1);
        samples.profiler.sample(store, since);
    }

    /// The whole profile as JSON for the Firefox profiler. The second call returns `None`.
    pub(super) fn finish(&self) -> Option<Vec<u8>> {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let mut json = Vec::new();
        samples.profiler.finish(&mut json).ok()?;
        Some(json)
    }
}
