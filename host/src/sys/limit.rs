//! Which limit of the operating system an error comes from.

use std::io;

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
