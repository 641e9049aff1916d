//! A function that runs when this program exits by itself.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

static ON_EXIT: OnceLock<fn()> = OnceLock::new();

/// The process that called `at_exit`. In a fork of it, `on_exit` does not run unless the fork calls it as
/// well.
static ASKED_BY: AtomicU32 = AtomicU32::new(0);

/// Calls `on_exit` when this program returns from `main` or calls `exit`, on the thread that does so. Only
/// the function of the first call is registered.
///
/// The thread-local values of that thread with destructors are gone by then: `on_exit` must not use any.
pub(crate) fn at_exit(on_exit: fn()) -> io::Result<()> {
    let mut registered = 0;
    // Before the registration: another thread may call `exit` right after it. Each call stores again, because
    // a fork has inherited the registration with its parent's id.
    ASKED_BY.store(std::process::id(), Ordering::Relaxed);
    ON_EXIT.get_or_init(|| {
        // SAFETY: `handle_exit` has the type that is asked for, lives as long as the program, and never
        // unwinds.
        registered = unsafe { libc::atexit(handle_exit) };
        on_exit
    });
    match registered {
        // `atexit` fails only for want of memory, and sets no error number.
        0 => Ok(()),
        _ => Err(io::ErrorKind::OutOfMemory.into()),
    }
}

extern "C" fn handle_exit() {
    if let Some(on_exit) = ON_EXIT.get()
        && std::process::id() == ASKED_BY.load(Ordering::Relaxed)
    {
        // A panic must not unwind into C.
        let _panicked = std::panic::catch_unwind(on_exit);
    }
}
