//! A bounded look before a sleep.
//!
//! Waking a thread that sleeps on another processor costs some 25 to 50 microseconds, which is more than a short task takes. Whoever expects
//! an answer soon looks for it for a moment first, and makes way for other threads between two looks. At rest nobody does: a wait that has
//! been in vain ends in a sleep.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// As long as a wake-up costs: whoever has looked for so long without finding anything has lost no more than twice the best he could do.
const SPIN_TIME: Duration = Duration::from_micros(50);

/// Whether there is a processor for one who looks beside `busy` ones who work.
pub(crate) fn pays(busy: usize) -> bool {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    busy < *PROCESSORS.get_or_init(num_cpus::get)
}

/// Asks `is_there` until it says so or the time is over.
pub(crate) fn until(mut is_there: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    loop {
        if is_there() {
            return true;
        }
        if begun.elapsed() > SPIN_TIME {
            return false;
        }
        rustix::thread::sched_yield();
    }
}
