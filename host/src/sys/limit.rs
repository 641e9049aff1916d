//! Which limit of the operating system an error comes from.

use std::io;

#[cfg(any(feature = "worker", feature = "cli"))]
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Which limit of the system an error comes from, for the end of a message.
pub(crate) fn limit_behind(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => " (the limit on processes: ulimit -u, or that of the container)",
        Some(libc::EFBIG) => " (the limit on the size of files: ulimit -f)",
        Some(libc::EMFILE | libc::ETOOMANYREFS) => " (the limit on open files: ulimit -n)",
        Some(libc::ENFILE) => " (the limit on open files of the whole machine)",
        Some(libc::ENOMEM) => " (the limit on memory: ulimit -v, or that of the container)",
        _ => "",
    }
}

/// What cannot be done, why, and the limit of the system that is behind it, if one is.
pub(crate) fn with_limit(what: &str, error: &io::Error) -> String {
    format!("{what}: {error}{}", limit_behind(error))
}

/// Lets the stack of the first thread grow to `wanted` bytes, as far as this process may. Gives how far it
/// may grow then. `None`: without a limit. The kernel reads the limit at each growth of the stack, so that it
/// can be raised while the thread runs.
#[cfg(any(feature = "worker", feature = "cli"))]
pub(crate) fn raise_stack_limit(wanted: u64) -> Option<u64> {
    let now = getrlimit(Resource::Stack);
    if now.current.is_some_and(|current| current < wanted) {
        let current = Some(now.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
        // A failure changes nothing. The limit is read again below, and counts as it is.
        let _as_it_was = setrlimit(Resource::Stack, Rlimit { current, maximum: now.maximum });
    }
    getrlimit(Resource::Stack).current
}
