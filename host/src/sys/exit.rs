//! What is done when this program exits by itself.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

static ON_EXIT: OnceLock<fn()> = OnceLock::new();

/// The process that has asked for it. A fork of it has not, unless it asks by itself.
static ASKED_BY: AtomicU32 = AtomicU32::new(0);

/// Has `on_exit` called when this program returns from `main` or calls `exit`, on the thread that does so. Once; a second function is not heard.
///
/// That thread's thread-local values with destructors are gone by then: `on_exit` must not use any.
pub(crate) fn at_exit(on_exit: fn()) -> io::Result<()> {
    let mut registered = 0;
    ASKED_BY.store(std::process::id(), Ordering::Relaxed);
    ON_EXIT.get_or_init(|| {
        // SAFETY: `handle_exit` has the type that is asked for, lives as long as the program, and unwinds into nobody.
        registered = unsafe { libc::atexit(handle_exit) };
        on_exit
    });
    match registered {
        0 => Ok(()),
        _ => Err(io::ErrorKind::OutOfMemory.into()),
    }
}

extern "C" fn handle_exit() {
    if let Some(on_exit) = ON_EXIT.get()
        && std::process::id() == ASKED_BY.load(Ordering::Relaxed)
    {
        // An unwinding must not reach C.
        let _panicked = std::panic::catch_unwind(on_exit);
    }
}
