//! Looking, tick by tick, where the guest is.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use wasmtime::{AsContext, GuestProfiler};

/// No more looks than these: ten minutes of looks every millisecond, some 20 MiB as JSON.
const SAMPLES_MAX: u32 = 600_000;

/// The profile of a worker, over all its tasks.
pub(super) struct Profile(Mutex<Option<Looks>>);

struct Looks {
    profiler: GuestProfiler,
    interval: Duration,
    last: Instant,
    count: u32,
}

impl Profile {
    pub(super) fn new(profiler: GuestProfiler, interval: Duration) -> Profile {
        Profile(Mutex::new(Some(Looks { profiler, interval, last: Instant::now(), count: 0 })))
    }

    /// The guest of this store is at work.
    pub(super) fn look(&self, store: impl AsContext) {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(looks) = looks.as_mut().filter(|looks| looks.count < SAMPLES_MAX) else { return };
        let now = Instant::now();
        // What went by between two tasks is nobody's time.
        let since = now.duration_since(looks.last).min(looks.interval * 2);
        (looks.last, looks.count) = (now, looks.count + 1);
        looks.profiler.sample(store, since);
    }

    /// The whole of it, once: JSON for the Firefox profiler.
    pub(super) fn finish(&self) -> Option<Vec<u8>> {
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let mut json = Vec::new();
        looks.profiler.finish(&mut json).ok()?;
        Some(json)
    }
}
