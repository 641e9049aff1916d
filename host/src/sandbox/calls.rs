//! The system calls that processes of ours may make: data, with a reason on each line.
//!
//! A call that is not on the list kills the process (`SIGSYS`). No code of ours makes such a call, so that
//! the process must have been taken over. A few calls fail with `ENOSYS` instead, as if the kernel did not
//! have them: libraries try them, and can do without.

use std::collections::BTreeMap;

use libc::*;

use super::rule::CallWhen::{self, Always, Any, If, Null, OwnPid, Refused, Socket, SocketOption};
use super::rule::{
    ArgRule, CallRule, call, int, int_with_flags, int_within, with_bits, without_bits, word, word_within,
};
use crate::spec::Grants;
use crate::spec::ProcessRole::{self as Role, Compiler, Worker, Zygote};

const ALL: &[Role] = &[Worker, Zygote, Compiler];

/// Flags that put a child outside of this process's namespaces.
const NAMESPACES: c_int =
    CLONE_NEWNS | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;

/// Flags of `open` that write to a file or create one.
const CHANGING: c_int = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND;

/// The flags with which a zygote forks workers. Their parent is the coordinator, which then finds and ends
/// all of them, even if the zygote is gone.
const SIBLING: u64 = (CLONE_PARENT | SIGCHLD) as u64;

/// Flags that make a child a thread.
const THREAD: c_int = CLONE_THREAD | CLONE_VM | CLONE_SIGHAND;

/// Flags for receiving a message. No data out of band, no queue of errors, no waiting for a full buffer.
const RECEIVING: c_int = MSG_DONTWAIT | MSG_CMSG_CLOEXEC;

/// Flags for sending a message. No data out of band, which would send a signal; no connection made by
/// sending; no pages lent to the kernel.
const SENDING: c_int = MSG_DONTWAIT | MSG_NOSIGNAL;

/// Private memory. No memory that grows by itself, which no limit counts, and none of huge or locked pages.
const PRIVATE: ArgRule = {
    let how = MAP_ANONYMOUS | MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_NORESERVE | MAP_STACK;
    ArgRule(3, !(how.cast_unsigned() as u64), MAP_PRIVATE as u64)
};

/// Memory that can be read and written, not executed.
const DATA: ArgRule = word_within(2, PROT_READ | PROT_WRITE);
/// Memory that can be read and executed, not written.
const CODE: ArgRule = word_within(2, PROT_READ | PROT_EXEC);

/// Shared memory behind a descriptor. The zygote maps the status page and the arena of each worker.
const SHARED: &[ArgRule] = &[DATA, word(3, MAP_SHARED as u64)];

/// Waiting and waking. No priority inheritance and no requeueing, where most of the kernel's flaws in this
/// call were.
const FUTEX: &[&[ArgRule]] = {
    const HOW: c_int = FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME;
    &[
        &[int_with_flags(1, FUTEX_WAIT, HOW)],
        &[int_with_flags(1, FUTEX_WAKE, HOW)],
        &[int_with_flags(1, FUTEX_WAIT_BITSET, HOW)],
        &[int_with_flags(1, FUTEX_WAKE_BITSET, HOW)],
    ]
};

/// Advice about this process's own memory. None that merges equal pages with other processes, or that marks
/// pages as broken. The list has all that common allocators use: an application's own allocator is in its
/// workers, too.
const ADVICE: &[&[ArgRule]] = &[
    &[int(2, MADV_DONTNEED)],
    &[int(2, MADV_NORMAL)],
    &[int(2, MADV_RANDOM)],
    &[int(2, MADV_SEQUENTIAL)],
    &[int(2, MADV_WILLNEED)],
    &[int(2, MADV_FREE)],
    &[int(2, MADV_HUGEPAGE)],
    &[int(2, MADV_NOHUGEPAGE)],
    &[int(2, MADV_DONTDUMP)],
    &[int(2, MADV_DODUMP)],
    &[int(2, MADV_GUARD_INSTALL)],
    &[int(2, MADV_GUARD_REMOVE)],
];
const MADV_GUARD_INSTALL: c_int = 102;
const MADV_GUARD_REMOVE: c_int = 103;

/// Copies of descriptors, and their flags. No owner, signal, lease or lock: those reach other processes.
const FCNTL: &[&[ArgRule]] = &[
    &[int(1, F_DUPFD_CLOEXEC)],
    &[int(1, F_DUPFD)],
    &[int(1, F_GETFD)],
    &[int(1, F_SETFD), word_within(2, FD_CLOEXEC)],
    &[int(1, F_GETFL)],
    &[int(1, F_SETFL), without_bits(2, O_ASYNC)],
];

/// The settings that a worker changes for itself after the fork.
const PRCTL: &[&[ArgRule]] = &[
    &[int(0, PR_SET_NAME)],
    &[int(0, PR_SET_PDEATHSIG), word(1, SIGKILL as u64)],
    &[int(0, PR_SET_NO_NEW_PRIVS)],
    &[int(0, PR_SET_DUMPABLE), word(1, 0)],
];

/// A filter for all threads. No filter whose calls another process answers.
const LIST: &[ArgRule] = &[int(0, SECCOMP_SET_MODE_FILTER.cast_signed()), word(1, SECCOMP_FILTER_FLAG_TSYNC)];

pub(super) const CALLS: &[CallRule] = &[
    // The connection to the coordinator, and the descriptors of timers.
    call(SYS_recvmsg, ALL, If(&[int_within(2, RECEIVING)]), "messages with descriptors"),
    call(SYS_recvfrom, ALL, If(&[int_within(3, RECEIVING)]), "messages"),
    call(SYS_sendmsg, ALL, If(&[int_within(2, SENDING)]), "messages"),
    call(
        SYS_sendto,
        ALL,
        If(&[int_within(3, SENDING), word(4, 0)]),
        "results, also from the tick; to no address",
    ),
    call(SYS_read, ALL, Always, "the wake-up of a sleeping guest; the compiler's source"),
    call(SYS_write, ALL, Always, "the same; the compiler's artefact; messages to /dev/null"),
    call(SYS_writev, ALL, Always, "messages of Rust's runtime to /dev/null"),
    #[cfg(target_arch = "x86_64")]
    call(SYS_poll, ALL, Always, "the tick checks whether the coordinator is there"),
    call(SYS_ppoll, ALL, Always, "the same, where there is no poll"),
    call(SYS_close, ALL, Always, "the descriptor of a memory image, when it is dropped"),
    // Sleeping guests: a runtime with one thread, started before the filter.
    #[cfg(target_arch = "x86_64")]
    call(SYS_epoll_wait, &[Worker, Zygote], Always, "its thread waits for timers"),
    call(SYS_epoll_pwait, &[Worker, Zygote], Always, "the same, where there is no epoll_wait"),
    call(SYS_futex, ALL, Any(FUTEX), "threads wait for each other"),
    call(SYS_sched_yield, ALL, Always, "a thread lets others run while it spins"),
    // Memory: as much as the limits allow, but no new machine code.
    call(SYS_mmap, &[Worker], If(&[DATA, PRIVATE]), "memory of guests and of the host"),
    call(
        SYS_mmap,
        &[Zygote],
        Any(&[&[DATA, PRIVATE], SHARED]),
        "the same; memory that a worker shares with its coordinator",
    ),
    call(SYS_mprotect, &[Worker, Zygote], If(&[DATA]), "growing memories"),
    call(SYS_mmap, &[Compiler], Any(&[&[DATA, PRIVATE], &[CODE, PRIVATE]]), "memory"),
    call(
        SYS_mprotect,
        &[Compiler],
        Any(&[&[DATA], &[CODE]]),
        "the engine makes its machine code executable, though the compiler never runs it",
    ),
    call(SYS_munmap, ALL, Always, "gives memory back"),
    call(SYS_mremap, ALL, If(&[word_within(3, MREMAP_MAYMOVE)]), "grows large buffers"),
    call(SYS_madvise, ALL, Any(ADVICE), "resets memories between tasks"),
    call(SYS_brk, ALL, Always, "the heap"),
    // Signals: traps of machine code, the tick, abort.
    call(SYS_rt_sigreturn, ALL, Always, "returns from handlers of traps and ticks"),
    call(SYS_rt_sigprocmask, ALL, Always, "abort and new threads block signals for a moment"),
    call(SYS_rt_sigaction, ALL, Always, "a handler that does not know a signal restores the default"),
    call(SYS_sigaltstack, ALL, Always, "the stack of signal handlers; a thread removes its own when it ends"),
    call(SYS_tgkill, &[Worker, Compiler], OwnPid(0), "abort"),
    call(
        SYS_tgkill,
        &[Zygote],
        If(&[int(2, SIGABRT)]),
        "the same: workers inherit this filter and have other ids, so that it cannot check the id; landlock \
         protects other processes",
    ),
    #[cfg(feature = "fault-points")]
    call(SYS_kill, &[Worker, Compiler], OwnPid(0), "fault points of tests"),
    #[cfg(feature = "fault-points")]
    call(SYS_kill, &[Zygote], Always, "the same"),
    call(SYS_getpid, ALL, Always, "abort; a guest may ask for its id through the host"),
    call(SYS_gettid, ALL, Always, "abort"),
    // Time. All of these are usually answered without a system call.
    call(SYS_timer_settime, &[Worker, Zygote], Always, "starts, stops and slows the tick"),
    call(SYS_clock_gettime, ALL, Always, "clocks"),
    call(SYS_clock_getres, ALL, Always, "a guest may ask for it"),
    call(SYS_gettimeofday, ALL, Always, "clocks"),
    call(SYS_clock_nanosleep, ALL, Always, "short sleeps of a guest"),
    call(SYS_nanosleep, ALL, Always, "the same"),
    call(SYS_restart_syscall, ALL, Always, "the kernel makes it when a stopped process goes on"),
    call(SYS_getrandom, ALL, Always, "random numbers for guests, and for hash tables"),
    call(SYS_getcpu, ALL, Always, "the engine keeps a list for each processor"),
    call(SYS_exit, ALL, Always, "a thread ends"),
    call(SYS_exit_group, ALL, Always, "the process ends"),
    // Threads of the compiler, and the steps of a worker after the fork.
    call(
        SYS_clone,
        &[Zygote],
        Any(&[&[with_bits(0, THREAD), without_bits(0, NAMESPACES)], &[word(0, SIBLING)]]),
        "forks workers, always as children of the coordinator; threads of a worker's runtime",
    ),
    call(
        SYS_clone,
        &[Compiler],
        If(&[with_bits(0, THREAD), without_bits(0, NAMESPACES)]),
        "threads, and no processes",
    ),
    call(
        SYS_clone3,
        &[Zygote, Compiler],
        Refused,
        "a filter cannot see its arguments; libc falls back to clone",
    ),
    call(SYS_set_robust_list, &[Zygote, Compiler], Always, "a thread begins"),
    call(SYS_rseq, &[Zygote, Compiler], Always, "a thread begins"),
    call(
        SYS_sched_getaffinity,
        &[Zygote, Compiler],
        Always,
        "the number of threads to start; the place of a thread's stack",
    ),
    call(SYS_prctl, &[Zygote], Any(PRCTL), "names of threads; the death signal of a worker; its own filter"),
    call(SYS_prctl, &[Compiler], If(&[int(0, PR_SET_NAME)]), "names of threads"),
    call(SYS_seccomp, &[Zygote], If(LIST), "a worker's own filter"),
    call(SYS_landlock_restrict_self, &[Zygote], Always, "a worker's own domain"),
    call(SYS_setpgid, &[Zygote], If(&[int(0, 0), int(1, 0)]), "a worker's own process group"),
    #[cfg(not(feature = "fault-points"))]
    call(SYS_getppid, &[Zygote], Always, "a worker checks that its coordinator lives"),
    #[cfg(feature = "fault-points")]
    call(SYS_getppid, ALL, Always, "the same; attacks in tests need the id of their target"),
    call(SYS_fcntl, &[Zygote, Compiler], Any(FCNTL), "copies of a worker's socket; flags of a descriptor"),
    call(
        SYS_fcntl,
        &[Worker],
        If(&[int(1, F_GETFD)]),
        "whether a descriptor is open, before each close in a build with debug assertions",
    ),
    call(SYS_fstat, &[Zygote, Compiler], Always, "the size of the status page; of the source"),
    call(SYS_lseek, &[Compiler], Always, "the number of bytes left of the source"),
    call(SYS_statx, &[Compiler], Always, "the size of the source"),
    call(SYS_newfstatat, &[Zygote], Always, "the number of threads of a zygote"),
    call(SYS_timer_create, &[Zygote], Always, "a worker's tick"),
    call(SYS_epoll_create1, &[Zygote], Always, "a worker's runtime"),
    call(SYS_epoll_ctl, &[Zygote], Always, "a worker's runtime"),
    call(SYS_eventfd2, &[Zygote], Always, "a worker's runtime"),
    // Refused.
    call(
        SYS_openat,
        ALL,
        Refused,
        "malloc and the standard library try to read /proc and /sys, and can do without",
    ),
];

const RUNNERS: &[Role] = &[Worker, Zygote];

/// The calls that a granted directory adds. Landlock decides which files they reach, except for names and
/// sizes (`stat`, `readlink`), which it does not cover.
pub(super) const DIR_CALLS: &[CallRule] = &[
    call(SYS_openat2, RUNNERS, Always, "opens a file below a directory"),
    call(SYS_openat, RUNNERS, Always, "the same, one part of the path at a time; directories, to list them"),
    call(SYS_statx, RUNNERS, Always, "the kind and the size of a file"),
    call(SYS_newfstatat, RUNNERS, Always, "the same, where there is no statx"),
    call(SYS_fstat, RUNNERS, Always, "the same"),
    call(
        SYS_readlinkat,
        RUNNERS,
        Always,
        "the target of a link; the engine resolves paths one part at a time after a rename",
    ),
    call(SYS_faccessat, RUNNERS, Always, "whether a directory may be searched"),
    call(SYS_faccessat2, RUNNERS, Always, "the same"),
    call(SYS_getdents64, RUNNERS, Always, "lists a directory"),
    call(SYS_lseek, RUNNERS, Always, "restarts a list; finds the end of a file"),
    call(SYS_pread64, RUNNERS, Always, "reads a file"),
    call(SYS_readv, RUNNERS, Always, "the same"),
    call(SYS_preadv, RUNNERS, Always, "the same"),
    call(SYS_fadvise64, RUNNERS, Always, "a guest's hints"),
    call(SYS_fcntl, RUNNERS, Any(FCNTL), "a file's flags; copies of descriptors"),
    call(SYS_fsync, RUNNERS, Always, "a guest may ask for it, even on a file that it only reads"),
    call(SYS_fdatasync, RUNNERS, Always, "the same"),
];

/// The calls that a directory for writing adds.
pub(super) const WRITE_CALLS: &[CallRule] = &[
    call(SYS_pwrite64, RUNNERS, Always, "writes to a file"),
    call(SYS_pwritev, RUNNERS, Always, "the same"),
    call(SYS_pwritev2, RUNNERS, Always, "appends to a file"),
    call(SYS_ftruncate, RUNNERS, Always, "sets a file's size"),
    call(SYS_mkdirat, RUNNERS, Always, "makes a directory"),
    call(SYS_unlinkat, RUNNERS, Always, "removes a file or directory"),
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    call(SYS_renameat, RUNNERS, Always, "renames"),
    call(SYS_renameat2, RUNNERS, Always, "the same"),
    call(SYS_linkat, RUNNERS, Always, "a second name of a file"),
    call(SYS_symlinkat, RUNNERS, Always, "makes a link"),
    call(
        SYS_utimensat,
        RUNNERS,
        Null(1),
        "the times of an open file. By path, the call could change those of any file, because landlock does \
         not cover times. So the process itself answers such a call: it opens the file first, which landlock \
         covers",
    ),
];

/// The calls that a granted connection adds. Landlock decides which ports they reach. It covers TCP only, so
/// that no other protocol is allowed.
pub(super) const NET_CALLS: &[CallRule] = &[
    call(
        SYS_socket,
        RUNNERS,
        Socket(&[AF_INET as u64, AF_INET6 as u64], SOCK_STREAM as u64, &[0, IPPROTO_TCP as u64]),
        "a socket of a connection; landlock does not cover MPTCP and other protocols",
    ),
    call(
        SYS_socketpair,
        &[Zygote],
        If(&[int(0, AF_UNIX)]),
        "a worker's runtime makes one if the application has tokio with signals",
    ),
    call(SYS_connect, RUNNERS, Always, "connects"),
    call(SYS_bind, RUNNERS, Refused, "a guest may ask for an address of its own: no policy grants one"),
    call(SYS_listen, RUNNERS, Refused, "the same: no policy lets a guest listen"),
    call(SYS_shutdown, RUNNERS, Always, "closes one direction"),
    call(SYS_getsockopt, RUNNERS, Always, "whether a connection was made; a guest may ask for settings"),
    call(
        SYS_setsockopt,
        RUNNERS,
        SocketOption(SOCKET_OPTIONS),
        "the options that a guest may set; other options load programs into the kernel",
    ),
    call(SYS_getsockname, RUNNERS, Always, "a guest may ask for it"),
    call(SYS_getpeername, RUNNERS, Always, "the same"),
    call(SYS_readv, RUNNERS, Always, "receives"),
    call(SYS_epoll_ctl, RUNNERS, Always, "the runtime waits for connections"),
    call(SYS_fcntl, RUNNERS, Any(FCNTL), "whether a call on a connection waits"),
    call(SYS_ioctl, RUNNERS, If(&[word(1, FIONBIO)]), "the same"),
];

const SOCKET_OPTIONS: &[(c_int, c_int)] = &[
    (SOL_SOCKET, SO_KEEPALIVE),
    (SOL_SOCKET, SO_RCVBUF),
    (SOL_SOCKET, SO_SNDBUF),
    (SOL_SOCKET, SO_REUSEADDR),
    (SOL_SOCKET, SO_LINGER),
    (IPPROTO_TCP, TCP_NODELAY),
    (IPPROTO_TCP, TCP_KEEPIDLE),
    (IPPROTO_TCP, TCP_KEEPINTVL),
    (IPPROTO_TCP, TCP_KEEPCNT),
    (IPPROTO_IP, IP_TTL),
    (IPPROTO_IPV6, IPV6_UNICAST_HOPS),
    (IPPROTO_IPV6, IPV6_V6ONLY),
];

/// The parts of landlock in whose place the list refuses more calls if the kernel lacks them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Landlock {
    /// Covers the truncation of a file when it is opened.
    pub(super) truncation: bool,
    /// Covers signals.
    pub(super) scope: bool,
}

/// With directories for reading only, and a landlock that does not cover truncation: opening a file for
/// reading could then cut it off.
pub(super) const UNTRUNCATED_CALLS: &[CallRule] = &[
    call(
        SYS_openat,
        RUNNERS,
        If(&[without_bits(2, CHANGING)]),
        "opens a file for reading, without any change",
    ),
    call(
        SYS_openat2,
        RUNNERS,
        Refused,
        "a filter cannot see its arguments; the engine then opens paths one part at a time",
    ),
];

/// With a landlock that does not cover signals.
pub(super) const UNSCOPED_CALLS: &[CallRule] = &[call(
    SYS_tgkill,
    &[Zygote],
    Refused,
    "abort: workers inherit this filter and have other ids, which it cannot check; SIGSEGV ends them",
)];

/// What the lists say about each call. A later list replaces what an earlier one says about the same call.
pub(super) fn calls(role: Role, grants: &Grants, landlock: Landlock) -> BTreeMap<i64, CallWhen> {
    let lists = [
        (CALLS, true),
        (DIR_CALLS, grants.has_dirs()),
        (WRITE_CALLS, grants.can_write()),
        // Behind the lists of directories, whose entry for `openat` this one narrows.
        (UNTRUNCATED_CALLS, grants.has_dirs() && !grants.can_write() && !landlock.truncation),
        (NET_CALLS, grants.can_connect()),
        (UNSCOPED_CALLS, !landlock.scope),
    ];
    let granted = lists.into_iter().filter(|(_, granted)| *granted).flat_map(|(list, _)| list);
    granted.filter(|call| call.roles.contains(&role)).map(|call| (call.number, call.when)).collect()
}
