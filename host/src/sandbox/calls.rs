//! The system calls that processes of ours may make: data, with a reason on each line.
//!
//! What is not on the list kills the process (`SIGSYS`): nothing of ours asks for it, so whoever does is not ours any more. A few calls are
//! refused instead, as by a kernel that does not know them, because libraries try them and do without.

use std::collections::BTreeMap;

use libc::*;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// What a process is from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs guests.
    Worker,
    /// Forks workers, which then restrict themselves further.
    Zygote,
    /// Compiles one module.
    Compiler,
}

use self::Role::{Compiler, Worker, Zygote};

const ALL: &[Role] = &[Worker, Zygote, Compiler];

/// When a call is allowed.
#[derive(Debug, Clone, Copy)]
enum When {
    Always,
    /// None of the bits is set in the argument.
    Without(u8, u64),
    /// All of the first bits are set in the argument, and none of the second.
    With(u8, u64, u64),
    /// The argument has this value.
    Is(u8, u64),
    /// Not both of the bits are set in the argument.
    NotBoth(u8, u64, u64),
    /// The argument is this process.
    Self_(u8),
    /// Never, but it is no reason to die.
    Refused,
}

use self::When::{Always, Is, NotBoth, Refused, Self_, With, Without};

struct Call(i64, &'static [Role], When, #[expect(dead_code, reason = "for the reader")] &'static str);

/// What would make memory executable, or put a child outside of this process's namespaces.
const EXEC: u64 = PROT_EXEC as u64;
const WRITE: u64 = PROT_WRITE as u64;
const NAMESPACES: u64 =
    (CLONE_NEWNS | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) as u64;

/// What makes a child a thread.
const THREAD: u64 = (CLONE_THREAD | CLONE_VM | CLONE_SIGHAND) as u64;

const CALLS: &[Call] = &[
    // The connection to the coordinator, and the timers' own descriptors.
    Call(SYS_recvmsg, ALL, Always, "messages with descriptors"),
    Call(SYS_recvfrom, ALL, Always, "messages"),
    Call(SYS_sendmsg, ALL, Always, "messages"),
    Call(SYS_sendto, ALL, Always, "results, also from the tick"),
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
    Call(SYS_futex, ALL, Always, "threads wait for each other"),
    Call(SYS_sched_yield, ALL, Always, "threads make way for each other"),
    // Memory: as much as the limits allow, but no new machine code.
    Call(SYS_mmap, &[Worker, Zygote], Without(2, EXEC), "memory of guests and of ours"),
    Call(SYS_mprotect, &[Worker, Zygote], Without(2, EXEC), "growing memories"),
    Call(SYS_mmap, &[Compiler], NotBoth(2, WRITE, EXEC), "memory"),
    Call(
        SYS_mprotect,
        &[Compiler],
        NotBoth(2, WRITE, EXEC),
        "the engine makes what it has compiled executable, though nothing runs it",
    ),
    Call(SYS_munmap, ALL, Always, "gives memory back"),
    Call(SYS_mremap, ALL, Always, "grows large buffers"),
    Call(SYS_madvise, ALL, Always, "resets memories between tasks"),
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
        Always,
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
    Call(SYS_clone, &[Zygote], Without(0, NAMESPACES), "forks workers, and the thread of a worker's runtime"),
    Call(SYS_clone, &[Compiler], With(0, THREAD, NAMESPACES), "threads, but no process"),
    Call(
        SYS_clone3,
        &[Zygote, Compiler],
        Refused,
        "its arguments are out of a filter's sight; libc falls back to clone",
    ),
    Call(SYS_set_robust_list, &[Zygote, Compiler], Always, "a thread begins"),
    Call(SYS_rseq, &[Zygote, Compiler], Always, "a thread begins"),
    Call(SYS_sched_getaffinity, &[Zygote, Compiler], Always, "how many threads; where a thread's stack is"),
    Call(SYS_prctl, &[Zygote], Always, "names of threads; the death signal of a worker; its own list"),
    Call(SYS_prctl, &[Compiler], Is(0, PR_SET_NAME as u64), "names of threads"),
    Call(SYS_seccomp, &[Zygote], Always, "a worker's own list"),
    Call(SYS_landlock_restrict_self, &[Zygote], Always, "a worker's own domain"),
    Call(SYS_setpgid, &[Zygote], Always, "a worker's own process group"),
    #[cfg(not(feature = "fault-points"))]
    Call(SYS_getppid, &[Zygote], Always, "a worker looks whether its coordinator lives"),
    #[cfg(feature = "fault-points")]
    Call(SYS_getppid, ALL, Always, "the same; probes of tests want to know whom to attack"),
    Call(SYS_fcntl, &[Zygote, Compiler], Always, "copies of a worker's socket; a look at a descriptor's flags"),
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

/// Has the kernel hold all threads of this process to the list.
pub(super) fn filter(role: Role) -> Result<(), String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| e.to_string())?;
    // The refusals first: the list itself forbids to add to it. Of several filters' answers the kernel takes the hardest.
    let mut refused = BTreeMap::new();
    let mut allowed: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for Call(number, roles, when, _) in CALLS {
        if !roles.contains(&role) {
            continue;
        }
        let rules = rules(*when).map_err(|e| e.to_string())?;
        if let Refused = when {
            refused.insert(*number, rules.clone());
        }
        allowed.entry(*number).or_default().extend(rules);
    }
    let unknown = SeccompAction::Errno(ENOSYS.unsigned_abs());
    let refusals = program(refused, SeccompAction::Allow, unknown, arch)?;
    let list = program(allowed, SeccompAction::KillProcess, SeccompAction::Allow, arch)?;
    for program in [refusals, list] {
        seccompiler::apply_filter_all_threads(&program).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matching: SeccompAction,
    arch: TargetArch,
) -> Result<BpfProgram, String> {
    let filter = SeccompFilter::new(rules, otherwise, matching, arch).map_err(|e| e.to_string())?;
    filter.try_into().map_err(|e: seccompiler::BackendError| e.to_string())
}

/// The alternatives of which one must hold; none at all means that the call is allowed whatever its arguments are.
fn rules(when: When) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let masked = |argument, mask, value| {
        let operator = SeccompCmpOp::MaskedEq(mask);
        SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, value)?])
    };
    Ok(match when {
        Always | Refused => vec![],
        Without(argument, bits) => vec![masked(argument, bits, 0)?],
        With(argument, bits, without) => vec![masked(argument, bits | without, bits)?],
        Is(argument, value) => vec![masked(argument, u64::MAX, value)?],
        NotBoth(argument, one, other) => vec![masked(argument, one, 0)?, masked(argument, other, 0)?],
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

    #[test]
    fn a_call_has_one_line_in_each_role() {
        for role in [Worker, Zygote, Compiler] {
            let mut numbers: Vec<i64> = CALLS.iter().filter(|call| call.1.contains(&role)).map(|call| call.0).collect();
            let count = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), count, "{role:?}");
        }
    }

    #[test]
    fn what_a_worker_may_do_its_zygote_may_too() {
        let of = |role| CALLS.iter().filter(move |call| call.1.contains(&role));
        for Call(number, _, _, _) in of(Worker) {
            let line = of(Zygote).find(|call| call.0 == *number);
            // A worker has another process number.
            assert!(line.is_some_and(|call| !matches!(call.2, Self_(_))), "{number}");
        }
    }
}
