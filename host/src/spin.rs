//! A bounded look before a sleep.
//!
//! Waking a thread that sleeps on another processor costs some 25 to 50 microseconds, which is more than a
//! short task takes. A thread that expects an answer soon looks for it for a moment first, and yields to
//! other threads between two looks. At rest no thread spins: a look in vain ends in a sleep. A thread
//! does not spin either on a machine that is busy with other things: a yield costs a time slice there, while
//! a thread woken from a sleep gets the processor soon.

use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::clock;

/// Spinning for one wake-up's cost at most doubles the best wait.
const SPIN_TIME: Duration = Duration::from_micros(50);

/// A `sched_yield` longer than this: an unrelated process wants the CPU.
const SLICE_TIME: Duration = Duration::from_micros(300);
/// The shortest and the longest time without spinning after such a yield. It doubles each time that this
/// happens again without an answer in between. A worker that starts takes a slice once, a busy machine goes
/// on: one slice in the longest of these times is little.
const CROWDED_TIMES: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(256)];

/// Until when the machine counts as busy, in nanoseconds of this process's life.
static CROWDED_UNTIL: AtomicU64 = AtomicU64::new(0);
/// The number of long yields since the last answer.
static CROWDED: AtomicU32 = AtomicU32::new(0);

/// Whether there is a processor for a spinning thread beside `busy` working threads.
pub(crate) fn pays(busy: usize) -> bool {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    let processors = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    busy < *PROCESSORS.get_or_init(processors) && is_quiet()
}

/// Whether no unrelated process wanted the processor lately. It makes only system calls that a worker may
/// make.
pub(crate) fn is_quiet() -> bool {
    nanos(Duration::ZERO) >= CROWDED_UNTIL.load(Ordering::Relaxed)
}

/// Calls `is_there` until it gives `true` or the time is over.
pub(crate) fn until(mut is_there: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    let mut looked = begun;
    loop {
        if is_there() {
            // An answer proves that the other side runs, so that the machine is not too busy for it.
            CROWDED.store(0, Ordering::Relaxed);
            return true;
        }
        // Not a spin loop instruction: on one processor the answer can only come from a thread that gets it.
        rustix::thread::sched_yield();
        let now = Instant::now();
        clock::note_gap(looked, now);
        if now - looked > SLICE_TIME {
            let times = 1 << CROWDED.fetch_add(1, Ordering::Relaxed).min(7);
            let [least, most] = CROWDED_TIMES;
            CROWDED_UNTIL.store(nanos((least * times).min(most)), Ordering::Relaxed);
            return is_there();
        }
        if now - begun > SPIN_TIME {
            return is_there();
        }
        looked = now;
    }
}

/// Nanoseconds from the first call of this function to now, and `more`.
fn nanos(more: Duration) -> u64 {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    let since = EPOCH.get_or_init(Instant::now).elapsed();
    u64::try_from((since + more).as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_found_and_what_is_not_is_not_waited_for() {
        assert!(until(|| true));
        let mut looks = 0;
        // On a busy machine it may give up early.
        while !until(|| {
            looks += 1;
            looks >= 3
        }) {}
        assert!(!until(|| false));
        assert!(!pays(usize::MAX));
    }

    #[test]
    fn f126_a_pause_between_two_looks_counts_for_no_limit() {
        let _alone = clock::alone();
        let behind = || Instant::now() - clock::now();
        let before = behind();
        // The freezer of a container holds this thread for that long.
        let pause = Duration::from_millis(400);
        assert!(!until(|| {
            std::thread::sleep(pause);
            false
        }));
        assert!(behind() - before >= pause, "{:?}", behind() - before);
    }
}
