//! The processors of this machine.

/// The number of processors that this program may use, at least 1: `multiprocessing.cpu_count()`, but it heeds the affinity mask and the
/// cgroup's quota, as CPython's `os.process_cpu_count()` heeds the former.
///
/// ```
/// assert!(wpool::process::cpu_count() >= 1);
/// ```
pub fn cpu_count() -> usize {
    num_cpus::get().max(1)
}
