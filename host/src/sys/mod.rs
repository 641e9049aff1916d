//! Every system call that `rustix` has no safe function for, one safe function each. The only home of
//! `unsafe` beside the loading of an artefact in `worker/guest`.
#![expect(unsafe_code, reason = "the room where unsafe lives; each block argues for itself")]

mod cpus;
mod exit;
#[cfg(feature = "worker")]
mod fork;
#[cfg(any(feature = "worker", feature = "cli"))]
mod heap;
mod home;
mod limit;
mod page;
#[cfg(feature = "worker")]
mod place;
#[cfg(feature = "fault-points")]
mod probe;
#[cfg(any(feature = "worker", feature = "cli"))]
mod signals;
mod socket;
#[cfg(feature = "cli")]
mod streams;
#[cfg(feature = "worker")]
mod tick;
#[cfg(feature = "worker")]
mod times;

pub use self::cpus::cpu_count;
pub(crate) use self::exit::at_exit;
#[cfg(feature = "worker")]
pub(crate) use self::fork::{Fork, fork_as_sibling, unshare_namespaces};
#[cfg(feature = "cli")]
pub(crate) use self::heap::HEAP_KEPT_LEN;
#[cfg(any(feature = "worker", feature = "cli"))]
pub(crate) use self::heap::keep_freed_memory;
pub(crate) use self::home::home;
#[cfg(any(feature = "worker", feature = "cli"))]
pub(crate) use self::limit::raise_stack_limit;
pub(crate) use self::limit::{limit_behind, with_limit};
pub(crate) use self::page::{CoordinatorPage, ExchangePage, HALF_LEN, LEASE_WORDS, RESULTS_LEN};
#[cfg(feature = "worker")]
pub(crate) use self::page::{ResultWriter, WorkerPage};
#[cfg(feature = "worker")]
pub(crate) use self::place::may_make_code;
#[cfg(feature = "fault-points")]
pub use self::probe::Attempt;
#[cfg(any(feature = "worker", feature = "cli"))]
pub(crate) use self::signals::outlive_large_files;
#[cfg(feature = "cli")]
pub(crate) use self::signals::{die_by_default_of, hear_of_children, is_ignored, unblock_signals};
#[cfg(feature = "worker")]
pub(crate) use self::signals::{die_of_interrupts, reset_signals};
pub(crate) use self::socket::{Received, recv_bytes, recv_onto};
#[cfg(feature = "cli")]
pub(crate) use self::streams::was_stdout_closed;
#[cfg(feature = "worker")]
pub(crate) use self::tick::{AfterTick, TickPeriods, TickRate, Ticker, is_hung_up, send_some};
#[cfg(feature = "worker")]
pub(crate) use self::times::answer_for_times;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

/// The variable with the directories of libraries. A worker forgets it before it reads anything.
pub(crate) const LIBRARIES: &str = "LD_LIBRARY_PATH";

/// Whether this process has more threads than the calling one. `false` where `/proc` is missing.
pub(crate) fn has_threads() -> bool {
    // Where the number cannot be told, the program is let go on: a worker's fork checks for itself.
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1)
}

/// The version of landlock that the kernel has: 0 if it has none, or if it is not switched on. Asked once,
/// before the list of system calls forbids it.
pub(crate) fn landlock_version() -> i32 {
    const VERSION: libc::c_uint = 1;
    static FOUND: OnceLock<i32> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let none = std::ptr::null::<libc::c_void>();
        // SAFETY: with this flag the kernel reads no memory and makes nothing; it answers with a number.
        let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, VERSION) };
        // An error is -1: there is no landlock, or it was not switched on when the machine was started.
        i32::try_from(version).unwrap_or(0).max(0)
    })
}

/// The same file under a number above those of the standard streams. A program that has closed these would
/// otherwise write its output into our sockets.
pub(crate) fn above_stdio(fd: OwnedFd) -> io::Result<OwnedFd> {
    match fd.as_raw_fd() {
        0..=2 => Ok(rustix::io::fcntl_dupfd_cloexec(&fd, 3)?),
        _ => Ok(fd),
    }
}

/// Closes every descriptor from `first` on: also those that the embedding application forgot to mark
/// close-on-exec.
#[cfg(feature = "worker")]
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: close_range takes three integers and touches no memory of ours. The caller runs at the start of
    // main of a fresh process that owns no descriptor object yet, so no OwnedFd is left dangling.
    match unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Removes a variable of the environment, also its value in this process's memory. The process has one
/// thread.
#[cfg(feature = "worker")]
pub(crate) fn forget_variable(name: &std::ffi::CStr) {
    // SAFETY: the name is a C string, and the value that getenv gives is one within memory of this process
    // that may be written. No other thread reads the environment.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        if !value.is_null() {
            // `unsetenv` takes only the pointer away. The text would stay on the stack, where a guest that
            // has broken out could read the paths of the machine.
            value.write_bytes(0, libc::strlen(value));
            libc::unsetenv(name.as_ptr());
        }
    }
}

/// Ends the process at once, without destructors and exit handlers.
#[cfg(any(feature = "worker", feature = "cli"))]
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit is always safe to call and does not return.
    unsafe { libc::_exit(code) }
}
