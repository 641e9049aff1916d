//! Whether standard output was closed when this program was started. Rust's start-up code opens `/dev/null`
//! in its place before `main`. After that it cannot be told, and what is written is lost without an error.

use std::sync::atomic::{AtomicBool, Ordering};

static CLOSED: AtomicBool = AtomicBool::new(false);

/// Called by the loader, before Rust's start-up code.
#[used]
// SAFETY: what lies in this section is called as a C function; `look` is one, and needs nothing of Rust's
// runtime.
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    // SAFETY: fcntl takes two integers here, and gives an error for a descriptor that is not open.
    let is_closed = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) } == -1;
    CLOSED.store(is_closed, Ordering::Relaxed);
}

pub(crate) fn was_stdout_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}
