//! Forking a worker off the zygote, as the coordinator's own child.

use std::io;

use rustix::process::Pid;

/// Which side of the fork this is.
pub(crate) enum Fork {
    Child,
    Parent(Pid),
}

/// Forks the calling process, but as a *sibling*: the new process is a child of our parent (`CLONE_PARENT`).
///
/// So the coordinator reaps every worker itself, and its death signal reaches them directly, whether the
/// zygote lives or not. The zygote keeps no table, and can be killed and replaced without the loss of a task.
///
/// Fails with `EBUSY` unless the process has exactly one thread: locks held by other threads would stay
/// locked for ever.
pub(crate) fn fork_as_sibling() -> io::Result<Fork> {
    if !has_one_thread()? {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and with a null stack this is fork: the child continues here on a copy of the
    // whole address space. The process is single-threaded (checked above), so no lock of libc or of ours is
    // held by a thread that does not exist in the child. The pointers for thread ids and TLS are null, and
    // their flags are not set.
    // The raw call, since no function of libc takes CLONE_PARENT. It skips the handlers of `pthread_atfork`:
    // nothing in a zygote relies on one.
    match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            pid.map(Fork::Parent).ok_or_else(|| io::Error::other("clone returned no process id"))
        }
    }
}

/// Whether this process has one thread. The links of its directory are `.`, `..` and one for each thread.
/// Asking for their number opens no file, unlike reading the directory.
fn has_one_thread() -> io::Result<bool> {
    Ok(rustix::fs::stat("/proc/self/task")?.st_nlink == 3)
}

/// Leaves the user, IPC and host name namespaces for new ones of this process's own, in which no user is
/// mapped.
pub(crate) fn unshare_namespaces() -> io::Result<()> {
    // SAFETY: unshare takes an integer and touches no memory of ours; these flags do not unshare descriptors,
    // so that no other thread's descriptors change.
    // One call: the kernel makes the user namespace first, and its rights allow the other two.
    match unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS) } {
        0 => Ok(()),
        _ => Err(match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::EPERM) => {
                io::Error::other("not permitted here, as in many containers")
            }
            e if e.raw_os_error() == Some(libc::ENOSPC) => {
                io::Error::other("this machine allows no more of them")
            }
            e => e,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_thread_is_seen() {
        // This test runs in one.
        assert!(!has_one_thread().unwrap());
    }
}
