//! The heap of processes that are wpool's own: the command line's and the workers'. An application that embeds the library has its own wishes.

/// Freed memory of up to this size, the most that the allocator takes, stays with the process: records and results of some megabytes come and go all the time, and to get fresh pages
/// for each costs more than all that is done with them.
const KEPT: libc::c_int = 32 << 20;

/// Keeps what is freed for what comes next, up to a limit.
pub(crate) fn keep_freed_memory() {
    #[cfg(target_env = "gnu")]
    for parameter in [libc::M_MMAP_THRESHOLD, libc::M_TRIM_THRESHOLD] {
        // SAFETY: mallopt sets a number in the allocator, under its own lock, and touches no memory of ours.
        let _only_faster = unsafe { libc::mallopt(parameter, KEPT) };
    }
}
