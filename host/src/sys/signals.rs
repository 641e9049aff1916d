//! The signal state of a fresh worker process.

use std::io;

/// Gives signals the meaning they have in a worker, whatever the embedding application had set: nothing
/// blocked, `SIGTERM` kills (so that `terminate` gives exit code -15), `SIGINT` is ignored (Ctrl-C belongs to
/// the coordinator), and so is `SIGPIPE` (a closed socket is an error value).
#[cfg(feature = "worker")]
pub(crate) fn reset_signals() -> io::Result<()> {
    // `exec` resets handlers, but keeps what is ignored: with an inherited SIG_IGN, SIGXCPU would not end a
    // compiler, and a change of SIGCHLD would hide how children end.
    for (signal, action) in [
        (libc::SIGTERM, libc::SIG_DFL),
        (libc::SIGHUP, libc::SIG_DFL),
        (libc::SIGCHLD, libc::SIG_DFL),
        (libc::SIGXCPU, libc::SIG_DFL),
        (libc::SIGXFSZ, libc::SIG_DFL),
        (libc::SIGINT, libc::SIG_IGN),
        (libc::SIGQUIT, libc::SIG_IGN),
        (libc::SIGPIPE, libc::SIG_IGN),
    ] {
        // SAFETY: SIG_DFL and SIG_IGN run no code of ours.
        if unsafe { libc::signal(signal, action) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    unblock_signals()
}

/// Lets the calling thread, and the threads that it starts, receive all signals. A process inherits the mask
/// of its starter.
pub(crate) fn unblock_signals() -> io::Result<()> {
    // SAFETY: an all-zero sigset_t is valid storage, sigemptyset initialises it before it is read, and the
    // null pointer asks for no old mask.
    let unblocked = unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut())
    };
    match unblocked {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets this process learn how its children end, whatever its starter had set.
#[cfg(feature = "cli")]
pub(crate) fn hear_of_children() -> io::Result<()> {
    // SAFETY: SIG_DFL runs no code of ours.
    match unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Ends this process by the default action of a signal. Returns where that action does nothing: process 1 of
/// a container is not killed by its own signals.
#[cfg(feature = "cli")]
pub(crate) fn die_by_default_of(signal: i32) {
    let _raised_anyway = unblock_signals();
    // SAFETY: SIG_DFL runs no code of ours, and raise takes a number.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

/// Lets `SIGINT` end this process, which is the default. It interrupts a Process that does not stop by
/// itself.
#[cfg(feature = "worker")]
pub(crate) fn die_of_interrupts() -> io::Result<()> {
    // SAFETY: SIG_DFL runs no code of ours.
    match unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Makes a write beyond the limit on files an error, which can be reported, rather than the end of the
/// process.
pub(crate) fn outlive_large_files() -> io::Result<()> {
    // SAFETY: SIG_IGN runs no code of ours.
    match unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Whether this process ignores the signal. It has inherited that, from `nohup` or as a background job.
#[cfg(feature = "cli")]
pub(crate) fn is_ignored(signal: i32) -> bool {
    // SAFETY: an all-zero sigaction is valid storage for the answer, and the null pointer asks for no change.
    unsafe {
        let mut current: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut current) == 0 && current.sa_sigaction == libc::SIG_IGN
    }
}
