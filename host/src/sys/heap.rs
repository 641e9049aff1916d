//! The heap of wpool's own processes: the command line and the workers. An application that embeds the
//! library sets its heap itself.

/// Freed memory of up to this size stays with the process; the allocator takes no larger number. Records and
/// results of some megabytes come and go all the time, and fresh pages for each cost more than the work on
/// them.
pub(crate) const HEAP_KEPT_LEN: usize = 32 << 20;

/// Keeps freed memory for the next allocations, up to a limit.
pub(crate) fn keep_freed_memory() {
    // Other C libraries have no such parameters. Setting either of them also stops glibc from adjusting both
    // by itself.
    #[cfg(target_env = "gnu")]
    for parameter in [libc::M_MMAP_THRESHOLD, libc::M_TRIM_THRESHOLD] {
        let kept = HEAP_KEPT_LEN.try_into().expect("32 MiB are a number of any size");
        // SAFETY: mallopt sets a number in the allocator, under its own lock, and touches no memory of ours.
        let _only_faster = unsafe { libc::mallopt(parameter, kept) };
    }
}
