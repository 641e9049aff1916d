//! The times of a file by its path, for a worker whose guest may write to a directory.
//!
//! No part of landlock knows of times, so that by path a process could set those of any file of its user's.
//! The list of system calls therefore has the kernel answer such a call with a signal; here the file is
//! opened, which landlock does know of, and its times are set by its descriptor.

use std::io;

/// The kernel's word for a signal that a filter sends.
const SYS_SECCOMP: libc::c_int = 1;

/// Where the number of the call is in what the kernel says beside the signal: behind three words of every
/// signal, a gap, and an address.
const NUMBER_AT: usize = 24;

/// Answers `utimensat` by path from now on. Before the list of calls is there; a fork inherits it.
pub(crate) fn answer_for_times() -> io::Result<()> {
    // SAFETY: an all-zero sigaction is valid storage. The handler makes system calls only, writes to no
    // memory but its own and that of the interrupted call's answer, and leaves errno as it was.
    let done = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_trap as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut())
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// An interrupted call: its arguments, and where its answer goes.
struct Interrupted {
    args: [i64; 4],
    answer: *mut i64,
}

/// # Safety
/// `context` is what the kernel gives a handler of this process's architecture.
unsafe fn interrupted(context: *mut libc::c_void) -> Interrupted {
    let context: *mut libc::ucontext_t = context.cast();
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise.
    unsafe {
        let at = &mut (*context).uc_mcontext.gregs;
        let of = |register: libc::c_int| at[register.unsigned_abs() as usize];
        let args = [of(libc::REG_RDI), of(libc::REG_RSI), of(libc::REG_RDX), of(libc::REG_R10)];
        Interrupted { args, answer: &raw mut at[libc::REG_RAX.unsigned_abs() as usize] }
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the caller's promise.
    unsafe {
        let at = &mut (*context).uc_mcontext.regs;
        let args = [0, 1, 2, 3].map(|register| at[register].cast_signed());
        Interrupted { args, answer: (&raw mut at[0]).cast() }
    }
}

extern "C" fn on_trap(_: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel calls this with a valid description of the signal and of what it interrupted.
    unsafe {
        // Anyone with this user may send SIGSYS. Without this test the handler would write an answer into
        // whatever was interrupted.
        if (*info).si_code != SYS_SECCOMP {
            return;
        }
        let errno = *libc::__errno_location();
        let number = info.byte_add(NUMBER_AT).cast::<libc::c_int>().read();
        let Interrupted { args: [dir, path, times, flags], answer } = interrupted(context);
        // The engine makes this one call. Any other one is answered as if the kernel did not have it.
        let is_known = libc::c_long::from(number) == libc::SYS_utimensat
            && flags == i64::from(libc::AT_SYMLINK_NOFOLLOW);
        // The kernel returns to the instruction behind the call. It finds the answer in this register, as if
        // the call had been made.
        *answer = if is_known { set_times(dir, path, times) } else { -i64::from(libc::ENOSYS) };
        *libc::__errno_location() = errno;
    }
}

/// The answer of the kernel: 0, or an error as a negative number. A link itself, which cannot be opened, is
/// `ELOOP`.
///
/// # Safety
/// The arguments are those of a system call: the kernel checks its pointers.
unsafe fn set_times(dir: i64, path: i64, times: i64) -> i64 {
    // SAFETY: the caller's promise.
    unsafe {
        let open = |access: libc::c_int| {
            // A guest may have put a link or a pipe there: a link must not lead out of the directory, and the
            // opening of a pipe must not wait.
            let how = access | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
            answer(libc::syscall(libc::SYS_openat, dir, path, how))
        };
        let file = match open(libc::O_RDONLY) {
            // A file that may be written but not read. Whether its times may be set is still the kernel's
            // decision.
            denied if denied == -i64::from(libc::EACCES) => open(libc::O_WRONLY),
            file => file,
        };
        if file < 0 {
            return file;
        }
        let done = answer(libc::syscall(libc::SYS_utimensat, file, 0, times, 0));
        libc::syscall(libc::SYS_close, file);
        done
    }
}

fn answer(result: libc::c_long) -> i64 {
    match result {
        -1 => -i64::from(io::Error::last_os_error().raw_os_error().unwrap_or(libc::ENOSYS)),
        result => result,
    }
}
