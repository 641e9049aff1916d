//! Every system call that `rustix` has no safe function for, one safe function each. The only home of `unsafe` beside the
//! loading of an artefact in `worker/guest`.
#![expect(unsafe_code, reason = "the room where unsafe lives; each block argues for itself")]

mod exit;
#[cfg(feature = "worker")]
mod fork;
#[cfg(any(feature = "worker", feature = "cli"))]
mod heap;
mod page;
#[cfg(feature = "fault-points")]
mod probe;
#[cfg(any(feature = "worker", feature = "cli"))]
mod signals;
mod socket;
#[cfg(feature = "worker")]
mod tick;
#[cfg(feature = "worker")]
mod times;

pub(crate) use self::exit::at_exit;
#[cfg(feature = "worker")]
pub(crate) use self::fork::{Fork, fork_as_sibling, unshare_namespaces};
#[cfg(any(feature = "worker", feature = "cli"))]
pub(crate) use self::heap::keep_freed_memory;
pub(crate) use self::page::{HALF_LEN, RESULTS_LEN, StatusPage};
#[cfg(feature = "fault-points")]
pub use self::probe::Attempt;
#[cfg(feature = "cli")]
pub(crate) use self::signals::is_ignored;
#[cfg(any(feature = "worker", feature = "cli"))]
pub(crate) use self::signals::outlive_large_files;
#[cfg(feature = "worker")]
pub(crate) use self::signals::{die_of_interrupts, reset_signals};
pub(crate) use self::socket::{Received, recv_bytes, recv_onto};
#[cfg(feature = "worker")]
pub(crate) use self::tick::{Ticker, is_hung_up, send_some};
#[cfg(feature = "worker")]
pub(crate) use self::times::answer_for_times;

#[cfg(feature = "worker")]
use std::io;
use std::sync::OnceLock;

/// The version of landlock that the kernel has: 0 if it has none, or if it is not switched on. Asked once, and before a list of system calls
/// forbids it.
pub(crate) fn landlock_version() -> i32 {
    const VERSION: libc::c_uint = 1;
    static FOUND: OnceLock<i32> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let none = std::ptr::null::<libc::c_void>();
        // SAFETY: with this flag the kernel reads no memory and makes nothing; it answers with a number.
        let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, VERSION) };
        i32::try_from(version).unwrap_or(0).max(0)
    })
}

/// Closes every descriptor from `first` on. What the embedding application forgot to mark close-on-exec ends here.
#[cfg(feature = "worker")]
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: close_range takes three integers and touches no memory of ours. The caller runs at the start of main of a
    // fresh process that owns no descriptor object yet, so no OwnedFd is left dangling.
    match unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends the process at once: no destructor, no exit handler, nothing that a half-dead process could trip over.
#[cfg(feature = "worker")]
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit is always safe to call and does not return.
    unsafe { libc::_exit(code) }
}
