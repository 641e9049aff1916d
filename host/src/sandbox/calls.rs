//! The system calls that processes of ours may make: data, with a reason on each line.
//!
//! What is not on the list kills the process (`SIGSYS`): nothing of ours asks for it, so whoever does is not ours any more. A few calls are
//! refused instead, as by a kernel that does not know them, because libraries try them and do without.

use std::collections::BTreeMap;

use libc::*;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

use crate::spec::Grants;
use crate::spec::ProcessRole::{self as Role, Compiler, Worker, Zygote};

const ALL: &[Role] = &[Worker, Zygote, Compiler];

/// When a call is allowed.
#[derive(Debug, Clone, Copy)]
enum When {
    Always,
    /// All of these hold.
    If(&'static [Arg]),
    /// One of these: all that it consists of holds.
    Any(&'static [&'static [Arg]]),
    /// The argument is this process.
    Self_(u8),
    /// The first argument is one of these, and the low byte of the second and the whole third are these: a socket's family, kind and protocol.
    Socket(&'static [u64], u64, &'static [u64]),
    /// The second argument and the third are one of these pairs: what setting of a socket.
    Setting(&'static [(c_int, c_int)]),
    /// The argument is null; with anything else the call is answered in the process itself (`sys/times.rs`).
    Null(u8),
    /// Never, but it is no reason to die.
    Refused,
}

use self::When::{Always, Any, If, Null, Refused, Self_, Setting, Socket};

/// What an argument must be: its number, some of its bits, and what these are.
#[derive(Debug, Clone, Copy)]
struct Arg(u8, u64, u64);

/// As much as the kernel reads of an `int`: what is above is nobody's.
const INT: u64 = u32::MAX as u64;

/// An `int` with this value.
const fn int(argument: u8, value: c_int) -> Arg {
    Arg(argument, INT, value.cast_unsigned() as u64)
}

/// An `int` with no bits set but these.
const fn int_of(argument: u8, bits: c_int) -> Arg {
    Arg(argument, INT & !(bits.cast_unsigned() as u64), 0)
}

/// An `int` that is this, but for bits that say how.
const fn int_but(argument: u8, value: c_int, how: c_int) -> Arg {
    Arg(argument, INT & !(how.cast_unsigned() as u64), value.cast_unsigned() as u64)
}

/// All 64 bits of it.
const fn word(argument: u8, value: u64) -> Arg {
    Arg(argument, u64::MAX, value)
}

/// A word with no bits set but these.
const fn word_of(argument: u8, bits: c_int) -> Arg {
    Arg(argument, !(bits.cast_unsigned() as u64), 0)
}

/// None of these bits are set.
const fn without(argument: u8, bits: c_int) -> Arg {
    Arg(argument, bits.cast_unsigned() as u64, 0)
}

/// All of these bits are set.
const fn with(argument: u8, bits: c_int) -> Arg {
    Arg(argument, bits.cast_unsigned() as u64, bits.cast_unsigned() as u64)
}

struct Call(i64, &'static [Role], When, #[expect(dead_code, reason = "for the reader")] &'static str);

/// What would put a child outside of this process's namespaces.
const NAMESPACES: c_int =
    CLONE_NEWNS | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;

/// What makes opening a file more than reading it.
const CHANGING: c_int = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND;

/// What a zygote forks workers with: no process is its own child, so that the coordinator finds all that it leaves behind.
const SIBLING: u64 = (CLONE_PARENT | SIGCHLD) as u64;

/// What makes a child a thread.
const THREAD: c_int = CLONE_THREAD | CLONE_VM | CLONE_SIGHAND;

/// How messages are received. Nothing out of band, from the queue of errors, or without end.
const RECEIVING: c_int = MSG_DONTWAIT | MSG_CMSG_CLOEXEC;

/// How messages are sent. Nothing out of band, which would be a signal; no connection made by sending; no pages lent to the kernel.
const SENDING: c_int = MSG_DONTWAIT | MSG_NOSIGNAL;

/// Memory of this process alone. None that grows by itself, which no limit counts, none of huge or locked pages.
const PRIVATE: Arg = {
    let how = MAP_ANONYMOUS | MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_NORESERVE | MAP_STACK;
    Arg(3, !(how.cast_unsigned() as u64), MAP_PRIVATE as u64)
};

/// To be read and written, not executed.
const DATA: Arg = word_of(2, PROT_READ | PROT_WRITE);
const CODE: Arg = word_of(2, PROT_READ | PROT_EXEC);

/// What a worker's zygote maps for it, by a descriptor: its page and its arena.
const SHARED: &[Arg] = &[DATA, word(3, MAP_SHARED as u64)];

/// Waiting and waking. Nothing that lends priorities or moves those who wait, where most of the flaws of this call were.
const FUTEX: &[&[Arg]] = {
    const HOW: c_int = FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME;
    &[
        &[int_but(1, FUTEX_WAIT, HOW)],
        &[int_but(1, FUTEX_WAKE, HOW)],
        &[int_but(1, FUTEX_WAIT_BITSET, HOW)],
        &[int_but(1, FUTEX_WAKE_BITSET, HOW)],
    ]
};

/// Only what concerns this process's own memory: nothing that shares equal pages with others, or takes pages for broken. What allocators use,
/// for an application's own is in its workers too.
const ADVICE: &[&[Arg]] = &[
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

/// Copies of descriptors and their flags. No owner, no signal, no lease, no lock: those reach other processes.
const FCNTL: &[&[Arg]] = &[
    &[int(1, F_DUPFD_CLOEXEC)],
    &[int(1, F_DUPFD)],
    &[int(1, F_GETFD)],
    &[int(1, F_SETFD), word_of(2, FD_CLOEXEC)],
    &[int(1, F_GETFL)],
    &[int(1, F_SETFL), without(2, O_ASYNC)],
];

/// What a worker does to itself after the fork.
const PRCTL: &[&[Arg]] = &[
    &[int(0, PR_SET_NAME)],
    &[int(0, PR_SET_PDEATHSIG), word(1, SIGKILL as u64)],
    &[int(0, PR_SET_NO_NEW_PRIVS)],
    &[int(0, PR_SET_DUMPABLE), word(1, 0)],
];

/// A list for all threads, and none by which another process answers for it.
const LIST: &[Arg] = &[int(0, SECCOMP_SET_MODE_FILTER.cast_signed()), word(1, SECCOMP_FILTER_FLAG_TSYNC)];

const CALLS: &[Call] = &[
    // The connection to the coordinator, and the timers' own descriptors.
    Call(SYS_recvmsg, ALL, If(&[int_of(2, RECEIVING)]), "messages with descriptors"),
    Call(SYS_recvfrom, ALL, If(&[int_of(3, RECEIVING)]), "messages"),
    Call(SYS_sendmsg, ALL, If(&[int_of(2, SENDING)]), "messages"),
    Call(
        SYS_sendto,
        ALL,
        If(&[int_of(3, SENDING), word(4, 0)]),
        "results, also from the tick; to no address",
    ),
    Call(SYS_read, ALL, Always, "the wake-up of a sleeping guest; the compiler's source"),
    Call(SYS_write, ALL, Always, "the same; the compiler's artefact; last words to /dev/null"),
    Call(SYS_writev, ALL, Always, "last words of Rust's runtime to /dev/null"),
    #[cfg(target_arch = "x86_64")]
    Call(SYS_poll, ALL, Always, "the tick asks whether the coordinator is there"),
    Call(SYS_ppoll, ALL, Always, "the same, where there is no poll"),
    Call(SYS_close, ALL, Always, "a memory image's descriptor, when it goes"),
    // Sleeping guests: a runtime with one thread that is there before the list is.
    #[cfg(target_arch = "x86_64")]
    Call(SYS_epoll_wait, &[Worker, Zygote], Always, "its thread waits for timers"),
    Call(SYS_epoll_pwait, &[Worker, Zygote], Always, "the same, where there is no epoll_wait"),
    Call(SYS_futex, ALL, Any(FUTEX), "threads wait for each other"),
    Call(SYS_sched_yield, ALL, Always, "threads make way for each other"),
    // Memory: as much as the limits allow, but no new machine code.
    Call(SYS_mmap, &[Worker], If(&[DATA, PRIVATE]), "memory of guests and of ours"),
    Call(
        SYS_mmap,
        &[Zygote],
        Any(&[&[DATA, PRIVATE], SHARED]),
        "the same; what a worker shares with its coordinator",
    ),
    Call(SYS_mprotect, &[Worker, Zygote], If(&[DATA]), "growing memories"),
    Call(SYS_mmap, &[Compiler], Any(&[&[DATA, PRIVATE], &[CODE, PRIVATE]]), "memory"),
    Call(
        SYS_mprotect,
        &[Compiler],
        Any(&[&[DATA], &[CODE]]),
        "the engine makes what it has compiled executable, though nothing runs it",
    ),
    Call(SYS_munmap, ALL, Always, "gives memory back"),
    Call(SYS_mremap, ALL, If(&[word_of(3, MREMAP_MAYMOVE)]), "grows large buffers"),
    Call(SYS_madvise, ALL, Any(ADVICE), "resets memories between tasks"),
    Call(SYS_brk, ALL, Always, "the heap"),
    // Signals: traps of machine code, the tick, abort.
    Call(SYS_rt_sigreturn, ALL, Always, "returns from handlers of traps and ticks"),
    Call(SYS_rt_sigprocmask, ALL, Always, "abort and new threads block signals for a moment"),
    Call(SYS_rt_sigaction, ALL, Always, "a handler that does not know a trap makes way for the default"),
    Call(SYS_sigaltstack, ALL, Always, "the stack that handlers run on; threads end it"),
    Call(SYS_tgkill, &[Worker, Compiler], Self_(0), "abort"),
    Call(
        SYS_tgkill,
        &[Zygote],
        If(&[int(2, SIGABRT)]),
        "the same: its workers keep its list, and have other numbers; landlock stands in its way to others",
    ),
    #[cfg(feature = "fault-points")]
    Call(SYS_kill, &[Worker, Compiler], Self_(0), "fault points of tests"),
    #[cfg(feature = "fault-points")]
    Call(SYS_kill, &[Zygote], Always, "the same"),
    Call(SYS_getpid, ALL, Always, "abort asks; so does a guest, through the host"),
    Call(SYS_gettid, ALL, Always, "abort asks"),
    // Time. All of these are usually answered without a system call.
    Call(SYS_timer_settime, &[Worker, Zygote], Always, "starts and stops the tick"),
    Call(SYS_clock_gettime, ALL, Always, "clocks"),
    Call(SYS_clock_getres, ALL, Always, "a guest may ask for it"),
    Call(SYS_gettimeofday, ALL, Always, "clocks"),
    Call(SYS_clock_nanosleep, ALL, Always, "short sleeps of a guest"),
    Call(SYS_nanosleep, ALL, Always, "the same"),
    Call(SYS_restart_syscall, ALL, Always, "the kernel's own, after a process was stopped and goes on"),
    Call(SYS_getrandom, ALL, Always, "random numbers for guests, and for hash tables"),
    Call(SYS_getcpu, ALL, Always, "the engine's lists are by processor"),
    Call(SYS_exit, ALL, Always, "a thread ends"),
    Call(SYS_exit_group, ALL, Always, "the process ends"),
    // Threads of the compiler, and what a worker has yet to do after the fork.
    Call(
        SYS_clone,
        &[Zygote],
        Any(&[&[with(0, THREAD), without(0, NAMESPACES)], &[word(0, SIBLING)]]),
        "forks workers, which are children of the coordinator and of nobody else, and the threads of a worker's runtime",
    ),
    Call(SYS_clone, &[Compiler], If(&[with(0, THREAD), without(0, NAMESPACES)]), "threads, but no process"),
    Call(
        SYS_clone3,
        &[Zygote, Compiler],
        Refused,
        "its arguments are out of a filter's sight; libc falls back to clone",
    ),
    Call(SYS_set_robust_list, &[Zygote, Compiler], Always, "a thread begins"),
    Call(SYS_rseq, &[Zygote, Compiler], Always, "a thread begins"),
    Call(SYS_sched_getaffinity, &[Zygote, Compiler], Always, "how many threads; where a thread's stack is"),
    Call(SYS_prctl, &[Zygote], Any(PRCTL), "names of threads; the death signal of a worker; its own list"),
    Call(SYS_prctl, &[Compiler], If(&[int(0, PR_SET_NAME)]), "names of threads"),
    Call(SYS_seccomp, &[Zygote], If(LIST), "a worker's own list"),
    Call(SYS_landlock_restrict_self, &[Zygote], Always, "a worker's own domain"),
    Call(SYS_setpgid, &[Zygote], If(&[int(0, 0), int(1, 0)]), "a worker's own process group"),
    #[cfg(not(feature = "fault-points"))]
    Call(SYS_getppid, &[Zygote], Always, "a worker looks whether its coordinator lives"),
    #[cfg(feature = "fault-points")]
    Call(SYS_getppid, ALL, Always, "the same; probes of tests want to know whom to attack"),
    Call(
        SYS_fcntl,
        &[Zygote, Compiler],
        Any(FCNTL),
        "copies of a worker's socket; a look at a descriptor's flags",
    ),
    Call(
        SYS_fcntl,
        &[Worker],
        If(&[int(1, F_GETFD)]),
        "is it open? Asked before each close, in a build with debug assertions",
    ),
    Call(SYS_fstat, &[Zygote, Compiler], Always, "the size of the status page; of the source"),
    Call(SYS_lseek, &[Compiler], Always, "how much of the source is left"),
    Call(SYS_statx, &[Compiler], Always, "the size of the source"),
    Call(SYS_newfstatat, &[Zygote], Always, "how many threads a zygote has"),
    Call(SYS_timer_create, &[Zygote], Always, "a worker's tick"),
    Call(SYS_epoll_create1, &[Zygote], Always, "a worker's runtime"),
    Call(SYS_epoll_ctl, &[Zygote], Always, "a worker's runtime"),
    Call(SYS_eventfd2, &[Zygote], Always, "a worker's runtime"),
    // Asked in vain.
    Call(SYS_openat, ALL, Refused, "malloc and the standard library look at /proc and /sys, and do without"),
];

const RUNNERS: &[Role] = &[Worker, Zygote];

/// With a directory. Which files these reach is decided by landlock; it has no say about names and sizes (`stat`, `readlink`).
const DIR_CALLS: &[Call] = &[
    Call(SYS_openat2, RUNNERS, Always, "opens a file below a directory"),
    Call(SYS_openat, RUNNERS, Always, "the same step by step, and directories to list them"),
    Call(SYS_statx, RUNNERS, Always, "what a file is"),
    Call(SYS_newfstatat, RUNNERS, Always, "the same, where there is no statx"),
    Call(SYS_fstat, RUNNERS, Always, "the same"),
    Call(SYS_readlinkat, RUNNERS, Always, "a link's text; paths are resolved step by step after a rename"),
    Call(SYS_faccessat, RUNNERS, Always, "whether a directory may be searched"),
    Call(SYS_faccessat2, RUNNERS, Always, "the same"),
    Call(SYS_getdents64, RUNNERS, Always, "lists a directory"),
    Call(SYS_lseek, RUNNERS, Always, "begins a list again; a file's end"),
    Call(SYS_pread64, RUNNERS, Always, "reads a file"),
    Call(SYS_readv, RUNNERS, Always, "the same"),
    Call(SYS_preadv, RUNNERS, Always, "the same"),
    Call(SYS_fadvise64, RUNNERS, Always, "a guest's hints"),
    Call(SYS_fcntl, RUNNERS, Any(FCNTL), "a file's flags; copies of descriptors"),
    Call(SYS_fsync, RUNNERS, Always, "a guest may ask for it, also of what it has only read"),
    Call(SYS_fdatasync, RUNNERS, Always, "the same"),
];

/// With a directory that may be written to.
const WRITE_CALLS: &[Call] = &[
    Call(SYS_pwrite64, RUNNERS, Always, "writes to a file"),
    Call(SYS_pwritev, RUNNERS, Always, "the same"),
    Call(SYS_pwritev2, RUNNERS, Always, "appends to a file"),
    Call(SYS_ftruncate, RUNNERS, Always, "sets a file's size"),
    Call(SYS_mkdirat, RUNNERS, Always, "makes a directory"),
    Call(SYS_unlinkat, RUNNERS, Always, "removes a file or directory"),
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    Call(SYS_renameat, RUNNERS, Always, "renames"),
    Call(SYS_renameat2, RUNNERS, Always, "the same"),
    Call(SYS_linkat, RUNNERS, Always, "a second name of a file"),
    Call(SYS_symlinkat, RUNNERS, Always, "makes a link"),
    Call(
        SYS_utimensat,
        RUNNERS,
        Null(1),
        "the times of a file that is open: by path they would be those of any file, for landlock has no say about times; so the \
         process itself opens the file first, about which it has",
    ),
];

/// With the network. Which ports these reach is decided by landlock, which knows of TCP alone: hence no other protocol.
const NET_CALLS: &[Call] = &[
    Call(
        SYS_socket,
        RUNNERS,
        Socket(&[AF_INET as u64, AF_INET6 as u64], SOCK_STREAM as u64, &[0, IPPROTO_TCP as u64]),
        "a connection's end; MPTCP and others would go past landlock",
    ),
    Call(
        SYS_socketpair,
        &[Zygote],
        If(&[int(0, AF_UNIX)]),
        "a worker's runtime makes one if the application has tokio's signals built in",
    ),
    Call(SYS_connect, RUNNERS, Always, "connects"),
    Call(SYS_bind, RUNNERS, Refused, "a guest may ask for an address of its own: none is granted"),
    Call(SYS_listen, RUNNERS, Refused, "nor does anybody listen"),
    Call(SYS_shutdown, RUNNERS, Always, "ends one direction"),
    Call(SYS_getsockopt, RUNNERS, Always, "whether a connection was made; a guest may ask for settings"),
    Call(
        SYS_setsockopt,
        RUNNERS,
        Setting(SETTINGS),
        "a guest's settings of a connection; others run programs in the kernel",
    ),
    Call(SYS_getsockname, RUNNERS, Always, "a guest may ask for it"),
    Call(SYS_getpeername, RUNNERS, Always, "the same"),
    Call(SYS_readv, RUNNERS, Always, "receives"),
    Call(SYS_epoll_ctl, RUNNERS, Always, "the runtime waits for connections"),
    Call(SYS_fcntl, RUNNERS, Any(FCNTL), "whether a call on a connection waits"),
    Call(SYS_ioctl, RUNNERS, If(&[word(1, FIONBIO)]), "the same"),
];

const SETTINGS: &[(c_int, c_int)] = &[
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

/// The parts of landlock that a list makes up for where the kernel lacks them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Landlock {
    /// Knows that opening a file may cut it off.
    pub(super) truncation: bool,
    /// Knows of signals.
    pub(super) scope: bool,
}

/// With directories for reading only, in place of a landlock that does not know that opening a file for reading may cut it off.
const UNTRUNCATED_CALLS: &[Call] = &[
    Call(SYS_openat, RUNNERS, If(&[without(2, CHANGING)]), "opens a file for reading, and changes nothing"),
    Call(
        SYS_openat2,
        RUNNERS,
        Refused,
        "its arguments are out of a filter's sight; paths are opened step by step then",
    ),
];

/// In place of a landlock that does not know of signals.
const UNSCOPED_CALLS: &[Call] = &[Call(
    SYS_tgkill,
    &[Zygote],
    Refused,
    "abort: its workers keep its list, and have other numbers, so that none can be named; they end by SIGSEGV then",
)];

/// What the lists say of each call. What comes with a grant stands in place of what is said without it.
fn calls(role: Role, grants: &Grants, landlock: Landlock) -> BTreeMap<i64, When> {
    let lists = [
        (CALLS, true),
        (DIR_CALLS, grants.has_dirs()),
        (WRITE_CALLS, grants.can_write()),
        (UNTRUNCATED_CALLS, grants.has_dirs() && !grants.can_write() && !landlock.truncation),
        (NET_CALLS, grants.can_connect()),
        (UNSCOPED_CALLS, !landlock.scope),
    ];
    let granted = lists.into_iter().filter(|(_, granted)| *granted).flat_map(|(list, _)| list);
    granted.filter(|call| call.1.contains(&role)).map(|Call(number, _, when, _)| (*number, *when)).collect()
}

/// Has the kernel hold all threads of this process to the list.
pub(super) fn filter(role: Role, grants: &Grants, landlock: Landlock) -> Result<(), String> {
    let program = program(&calls(role, grants, landlock))?;
    seccompiler::apply_filter_all_threads(&program).map_err(|e| e.to_string())
}

/// So many calls are compared with one after the other.
const GROUP_LEN: usize = 4;

/// A filter for whole ranges of numbers: from its number on, to that of the next.
type Range = (i64, BpfProgram);

/// The filter of all calls: a search leads to that of a few. `seccompiler` by itself compares a call's number with all that it knows, one after the
/// other, and the kernel has it do so for every number there is when the filter is installed: that was a good part of a worker's start.
fn program(calls: &BTreeMap<i64, When>) -> Result<BpfProgram, String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| e.to_string())?;
    let ranges = ranges(calls, arch).map_err(|e| e.to_string())?;
    let load_number = sock_filter { code: LOAD_WORD, jt: 0, jf: 0, k: 0 };
    Ok([vec![load_number], search(&ranges)].concat())
}

/// Filters that are each whole in itself; what is not on the list kills the process.
fn ranges(calls: &BTreeMap<i64, When>, arch: TargetArch) -> Result<Vec<Range>, seccompiler::BackendError> {
    let (kill, unknown) = (SeccompAction::KillProcess, SeccompAction::Errno(ENOSYS.unsigned_abs()));
    let program = |rules, otherwise, matching| -> Result<BpfProgram, seccompiler::BackendError> {
        SeccompFilter::new(rules, otherwise, matching, arch)?.try_into()
    };
    let nothing = || program(BTreeMap::new(), kill.clone(), SeccompAction::Allow);
    let mut ranges = vec![(0, nothing()?)];
    let mut group = BTreeMap::new();
    for (number, when) in calls {
        let is_refused = matches!(when, Refused | Null(_));
        if group.len() == GROUP_LEN || is_refused {
            let group = std::mem::take(&mut group);
            ranges.extend(
                first(&group)
                    .map(|first| Ok((first, program(group, kill.clone(), SeccompAction::Allow)?)))
                    .transpose()?,
            );
        }
        let rules = rules(*when)?;
        if is_refused {
            // By itself: other arguments may be allowed, other numbers are not.
            let (otherwise, matching) = match when {
                Null(_) => (SeccompAction::Allow, SeccompAction::Trap),
                _ => (kill.clone(), unknown.clone()),
            };
            ranges.push((*number, program(BTreeMap::from([(*number, rules)]), otherwise, matching)?));
            ranges.push((number + 1, nothing()?));
        } else {
            group.insert(*number, rules);
        }
    }
    ranges.extend(
        first(&group)
            .map(|first| Ok((first, program(group, kill.clone(), SeccompAction::Allow)?)))
            .transpose()?,
    );
    Ok(ranges)
}

fn first(group: &BTreeMap<i64, Vec<SeccompRule>>) -> Option<i64> {
    group.first_key_value().map(|(number, _)| *number)
}

/// Goes to the last of the filters whose first number is not over the one that is loaded. Two may begin with the same: the second counts.
fn search(ranges: &[Range]) -> BpfProgram {
    let (below, from) = ranges.split_at(ranges.len() / 2);
    let Some((first, filter)) = from.first() else { return Vec::new() };
    if below.is_empty() {
        return filter.clone();
    }
    let (below, from) = (search(below), search(from));
    let len = u32::try_from(below.len()).expect("a filter has at most a few thousand steps");
    let is_from = sock_filter {
        code: JUMP_IF_NOT_LESS,
        jt: 0,
        jf: 1,
        k: u32::try_from(*first).expect("the numbers of calls are small"),
    };
    let over_those_below = sock_filter { code: JUMP, jt: 0, jf: 0, k: len };
    [vec![is_from, over_those_below], below, from].concat()
}

/// Steps of the kernel's filter programs (`linux/filter.h`): the word at an offset in `seccomp_data`, which begins with the number of the call; jumps.
const LOAD_WORD: u16 = step(BPF_LD | BPF_W | BPF_ABS);
const JUMP_IF_NOT_LESS: u16 = step(BPF_JMP | BPF_JGE | BPF_K);
const JUMP: u16 = step(BPF_JMP | BPF_JA);

#[expect(clippy::cast_possible_truncation, reason = "a step's code has 16 bits; libc's constants have 32")]
const fn step(code: u32) -> u16 {
    code as u16
}

const LOW_BYTE: u64 = 0xff;

/// The alternatives of which one must hold; none at all means that the call is allowed whatever its arguments are.
fn rules(when: When) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let all = |args: &[Arg]| {
        let condition = |Arg(argument, mask, value): &Arg| {
            SeccompCondition::new(*argument, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(*mask), *value)
        };
        SeccompRule::new(args.iter().map(condition).collect::<Result<_, _>>()?)
    };
    Ok(match when {
        Always | Refused => vec![],
        If(args) => vec![all(args)?],
        Any(alternatives) => alternatives.iter().map(|args| all(args)).collect::<Result<_, _>>()?,
        Socket(families, kind, protocols) => {
            let pairs =
                families.iter().flat_map(|family| protocols.iter().map(move |protocol| (*family, *protocol)));
            let rule = |(family, protocol)| {
                all(&[Arg(0, INT, family), Arg(1, LOW_BYTE, kind), Arg(2, INT, protocol)])
            };
            pairs.map(rule).collect::<Result<_, _>>()?
        }
        Setting(pairs) => pairs
            .iter()
            .map(|(level, name)| all(&[int(1, *level), int(2, *name)]))
            .collect::<Result<_, _>>()?,
        // What is refused.
        Null(argument) => {
            let something = SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?;
            vec![SeccompRule::new(vec![something])?]
        }
        Self_(argument) => {
            let us = u64::from(std::process::id());
            let is_us = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, us)?;
            vec![SeccompRule::new(vec![is_us])?]
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL_LISTS: [&[Call]; 6] =
        [CALLS, DIR_CALLS, WRITE_CALLS, UNTRUNCATED_CALLS, NET_CALLS, UNSCOPED_CALLS];
    const WHOLE: Landlock = Landlock { truncation: true, scope: true };
    const LANDLOCKS: [Landlock; 2] = [WHOLE, Landlock { truncation: false, scope: false }];

    #[test]
    fn a_call_has_one_line_in_each_role_of_each_list() {
        for (list, role) in
            ALL_LISTS.iter().flat_map(|list| [Worker, Zygote, Compiler].map(|role| (list, role)))
        {
            let mut numbers: Vec<i64> =
                list.iter().filter(|call| call.1.contains(&role)).map(|call| call.0).collect();
            let count = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), count, "{role:?}");
        }
    }

    fn granted() -> [Grants; 4] {
        let dir = |access| crate::policy::Policy::sealed().dir("/etc", "/x", access);
        let policies = [
            crate::policy::Policy::sealed(),
            dir(crate::spec::DirAccess::ReadOnly),
            dir(crate::spec::DirAccess::ReadWrite),
            crate::policy::Policy::sealed().net("127.0.0.1:80"),
        ];
        policies.map(|policy| policy.resolve().unwrap().grants)
    }

    /// What the kernel would say to a call: the steps that these filters are made of.
    fn verdict(program: &[sock_filter], number: u32, args: [u64; 6], arch: u32) -> u32 {
        let mut data = [&number.to_ne_bytes()[..], &arch.to_ne_bytes(), &[0; 8]].concat();
        args.iter().for_each(|arg| data.extend_from_slice(&arg.to_ne_bytes()));
        let (mut at, mut a) = (0, 0u32);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            let branch = |holds: bool| usize::from(if holds { jt } else { jf });
            at += 1;
            match u32::from(code) {
                code if code == BPF_LD | BPF_W | BPF_ABS => {
                    a = u32::from_ne_bytes(data[k as usize..][..4].try_into().unwrap());
                }
                code if code == BPF_ALU | BPF_AND | BPF_K => a &= k,
                code if code == BPF_JMP | BPF_JA => at += k as usize,
                code if code == BPF_JMP | BPF_JEQ | BPF_K => at += branch(a == k),
                code if code == BPF_JMP | BPF_JGE | BPF_K => at += branch(a >= k),
                code if code == BPF_JMP | BPF_JGT | BPF_K => at += branch(a > k),
                code if code == BPF_RET | BPF_K => return k,
                other => panic!("an unknown step: {other:#x}"),
            }
        }
    }

    /// The same in three filters without a search: the refusals, what the process itself answers, and the list. Of their answers the kernel takes the
    /// hardest.
    fn three_filters(calls: &BTreeMap<i64, When>, arch: TargetArch) -> [BpfProgram; 3] {
        let (mut refused, mut answered, mut listed) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (number, when) in calls {
            let rules = rules(*when).unwrap();
            match when {
                Refused => drop(refused.insert(*number, rules.clone())),
                Null(_) => drop(answered.insert(*number, rules.clone())),
                _ => {}
            }
            listed.insert(*number, if let Null(_) = when { vec![] } else { rules });
        }
        let unknown = SeccompAction::Errno(ENOSYS.unsigned_abs());
        let refusals = SeccompFilter::new(refused, SeccompAction::Allow, unknown, arch).unwrap();
        let answers = SeccompFilter::new(answered, SeccompAction::Allow, SeccompAction::Trap, arch).unwrap();
        let list =
            SeccompFilter::new(listed, SeccompAction::KillProcess, SeccompAction::Allow, arch).unwrap();
        [refusals, answers, list].map(|filter| filter.try_into().unwrap())
    }

    #[test]
    fn searching_for_a_call_leads_to_what_is_said_of_it() {
        const KILL: u32 = 0x8000_0000;
        const ALLOW: u32 = 0x7fff_0000;
        let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
        let ours = if arch == TargetArch::x86_64 { 0xc000_003e } else { 0xc000_00b7 };
        let numbers: Vec<u32> = (0..600).chain([u32::MAX, 0x4000_0000]).collect();
        let args = [
            [0; 6],
            [1; 6],
            [2, 4, 2, 0, 0, 0],
            [u64::MAX; 6],
            [2, 1, 6, 0, 0, 0],
            [0, 0x5421, 0, 0, 0, 0],
            [0, 1030, 3, 2, 0, 0],
            [15, 1, 4, 0x22, 0, 0],
            [u64::MAX << 32; 6],
        ];
        let mut seen = BTreeMap::new();
        let cases =
            granted().into_iter().flat_map(|grants| LANDLOCKS.map(|landlock| (grants.clone(), landlock)));
        let cases = cases.flat_map(|(grants, landlock)| {
            [Worker, Zygote, Compiler].map(|role| (grants.clone(), landlock, role))
        });
        for (grants, landlock, role) in cases {
            let calls = calls(role, &grants, landlock);
            let (program, three) = (program(&calls).unwrap(), three_filters(&calls, arch));
            for (number, args) in numbers.iter().flat_map(|number| args.map(|args| (*number, args))) {
                let said = verdict(&program, number, args, ours);
                let [refusal, answer, listed] =
                    three.each_ref().map(|filter| verdict(filter, number, args, ours));
                let hardest = if listed == KILL { KILL } else { refusal.min(answer).min(listed) };
                assert_eq!(said, hardest, "{role:?} {number} {args:?}");
                *seen.entry(said).or_insert(0) += 1;
                assert_eq!(verdict(&program, number, args, 0x4000_0003), KILL, "of another kind of program");
            }
            assert!(program.len() < 2000, "{} steps", program.len());
        }
        assert!(seen.contains_key(&KILL) && seen.contains_key(&ALLOW) && seen.len() == 4, "{seen:x?}");
    }

    /// Whether a process with all grants may make this call. What the kernel does not read of an `int` decides nothing, neither way.
    #[test]
    fn f115_arguments_decide_and_what_is_beside_them_does_not() {
        let dir = crate::policy::Policy::sealed()
            .dir("/etc", "/x", crate::spec::DirAccess::ReadWrite)
            .net("127.0.0.1:80");
        let grants = dir.resolve().unwrap().grants;
        let ours = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
        let mut may = BTreeMap::new();
        for role in [Worker, Zygote, Compiler] {
            may.insert(format!("{role:?}"), program(&calls(role, &grants, WHOLE)).unwrap());
        }
        let high = 7 << 32;
        let bits = |n: c_int| u64::from(n.cast_unsigned());
        let map = |protection: c_int, flags: c_int| [0, 4096, bits(protection), bits(flags), u64::MAX, 0];
        let (data, anonymous) = (PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
        for (number, args, allowed_in) in [
            (SYS_fcntl, [0, bits(F_GETFL), 0, 0, 0, 0], "WZC"),
            (SYS_fcntl, [0, bits(F_GETFL) | high, 0, 0, 0, 0], "WZC"),
            (SYS_fcntl, [0, bits(F_SETFL), bits(O_NONBLOCK), 0, 0, 0], "WZC"),
            (SYS_fcntl, [0, bits(F_SETFL), bits(O_NONBLOCK | O_ASYNC), 0, 0, 0], ""),
            (SYS_fcntl, [0, bits(F_SETOWN) | high, 1, 0, 0, 0], ""),
            (SYS_mmap, map(data, anonymous | MAP_NORESERVE | MAP_FIXED), "WZC"),
            (SYS_mmap, map(PROT_NONE, anonymous | MAP_STACK), "WZC"),
            (SYS_mmap, map(data, MAP_SHARED), "Z"),
            (SYS_mmap, map(data, MAP_SHARED | MAP_ANONYMOUS), ""),
            (SYS_mmap, map(PROT_READ | PROT_EXEC, anonymous), "C"),
            (SYS_mmap, map(data | PROT_EXEC, anonymous), ""),
            (SYS_mmap, map(data, anonymous | MAP_GROWSDOWN), ""),
            (SYS_mmap, [0, 4096, bits(data), bits(anonymous) | high, 0, 0], ""),
            (
                SYS_futex,
                [0, bits(FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME), 0, 0, 0, 0],
                "WZC",
            ),
            (SYS_futex, [0, bits(FUTEX_CMP_REQUEUE | FUTEX_PRIVATE_FLAG), 0, 0, 0, 0], ""),
            (SYS_madvise, [0, 4096, bits(MADV_DONTNEED) | high, 0, 0, 0], "WZC"),
            (SYS_madvise, [0, 4096, bits(MADV_MERGEABLE), 0, 0, 0], ""),
            (SYS_sendto, [0, 0, 0, bits(MSG_NOSIGNAL | MSG_DONTWAIT) | high, 0, 0], "WZC"),
            (SYS_sendto, [0, 0, 0, bits(MSG_NOSIGNAL | MSG_OOB), 0, 0], ""),
            (SYS_sendto, [0, 0, 0, bits(MSG_NOSIGNAL), 1, 0], ""),
            (SYS_recvmsg, [0, 0, bits(MSG_CMSG_CLOEXEC), 0, 0, 0], "WZC"),
            (SYS_recvfrom, [0, 0, 0, bits(MSG_PEEK), 0, 0], ""),
            (SYS_ioctl, [0, FIONBIO, 0, 0, 0, 0], "WZ"),
            (SYS_ioctl, [0, TIOCSTI, 0, 0, 0, 0], ""),
            (SYS_prctl, [bits(PR_SET_NAME), 0, 0, 0, 0, 0], "ZC"),
            (SYS_prctl, [bits(PR_SET_PDEATHSIG), bits(SIGKILL), 0, 0, 0, 0], "Z"),
            (SYS_prctl, [bits(PR_SET_PDEATHSIG), 0, 0, 0, 0, 0], ""),
            (SYS_prctl, [bits(PR_SET_DUMPABLE), 1, 0, 0, 0, 0], ""),
            (SYS_seccomp, [1, SECCOMP_FILTER_FLAG_TSYNC, 0, 0, 0, 0], "Z"),
            (SYS_seccomp, [1, SECCOMP_FILTER_FLAG_NEW_LISTENER, 0, 0, 0, 0], ""),
            (SYS_tgkill, [1, 1, bits(SIGKILL), 0, 0, 0], ""),
            (SYS_setpgid, [0, 0, 0, 0, 0, 0], "Z"),
            (SYS_setpgid, [0, 5, 0, 0, 0, 0], ""),
        ] {
            for (role, program) in &may {
                let said = verdict(program, u32::try_from(number).unwrap(), args, ours) == 0x7fff_0000;
                assert_eq!(said, allowed_in.contains(&role[..1]), "{role}: {number} {args:x?}");
            }
        }
    }

    #[test]
    fn what_a_worker_may_do_its_zygote_may_too() {
        for (grants, landlock) in
            granted().iter().flat_map(|grants| LANDLOCKS.map(|landlock| (grants, landlock)))
        {
            let zygote = calls(Zygote, grants, landlock);
            for number in calls(Worker, grants, landlock).keys() {
                // A worker has another process number.
                assert!(zygote.get(number).is_some_and(|when| !matches!(when, Self_(_))), "{number}");
            }
        }
    }

    #[test]
    fn each_call_comes_with_the_grant_that_needs_it() {
        let of = |grants: &Grants, number| calls(Worker, grants, WHOLE).get(&number).copied();
        let [sealed, read, write, net] = granted();
        assert!(matches!(of(&sealed, SYS_openat), Some(Refused)));
        assert!(matches!(of(&net, SYS_openat), Some(Refused)));
        assert!(matches!(of(&read, SYS_openat), Some(Always)));
        for (number, grants) in
            [(SYS_openat2, &read), (SYS_pwrite64, &write), (SYS_socket, &net), (SYS_connect, &net)]
        {
            assert!(of(&sealed, number).is_none() && of(grants, number).is_some(), "{number}");
        }
        assert!(of(&read, SYS_pwrite64).is_none() && of(&write, SYS_openat2).is_some());
        assert!(of(&read, SYS_connect).is_none() && of(&net, SYS_statx).is_none());
        // A compiler has no guest.
        assert_eq!(calls(Compiler, &net, WHOLE).len(), calls(Compiler, &sealed, WHOLE).len());
    }
}
