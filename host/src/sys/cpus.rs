//! The processors of this machine.

use std::num::NonZeroUsize;

/// The number of processors that this program may use, at least 1. Like `multiprocessing.cpu_count()`, but
/// it heeds the affinity mask, as CPython's `os.process_cpu_count()` does, and the quotas of the program's
/// control group and of all groups above it.
///
/// ```
/// assert!(wpool::process::cpu_count() >= 1);
/// ```
pub fn cpu_count() -> usize {
    // The standard library reads the groups above too, but looks for them at the usual places only.
    let standard = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    standard.min(num_cpus::get()).max(1)
}
