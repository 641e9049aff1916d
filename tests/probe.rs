//! What a worker that its attacker has taken over can do to this machine: attempts from inside the real
//! confinement, one process for each, in a worker of each start method, in a Process and in a compiler
//! process. Each must be refused, or be the end of the process.
//!
//! Needs the feature `fault-points`: `cargo test --release -p wpool --features fault-points --test probe`.
//! With `-- --nocapture` it prints what became of each attempt.

mod support;

use std::io::{Read, Seek};

use std::time::Duration;

use support::{assert_no_workers, guest, loader, program, repo, time_bound_of};
use wpool::events::PoolEvent;
use wpool::policy::DirAccess;
use wpool::process::ExitReason;
use wpool::sandbox::Sandbox;
use wpool::{
    Attempt, Fault, FaultAction, FaultPhase, Isolation, Module, ModuleError, Policy, Pool, Process,
    StartMethod, Target, TaskError,
};

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Killed,
    Refused,
    Allowed,
}

const SIGSYS: i32 = libc::SIGSYS;

impl Fate {
    fn of(exitcode: Option<i32>) -> Fate {
        match exitcode {
            Some(code) if code == -SIGSYS => Fate::Killed,
            Some(FaultAction::REFUSED) => Fate::Refused,
            Some(FaultAction::ALLOWED) => Fate::Allowed,
            other => panic!("the probe ended with {other:?}"),
        }
    }
}

fn fault(phase: FaultPhase, attempt: Attempt) -> Fault {
    Fault { phase, action: FaultAction::Try(attempt) }
}

/// In the first worker of a pool, in the midst of its first task.
fn in_worker(module: &Module, method: StartMethod, attempt: Attempt) -> Fate {
    at(FaultPhase::MidTask, module, method, attempt)
}

fn at(phase: FaultPhase, module: &Module, method: StartMethod, attempt: Attempt) -> Fate {
    with(Policy::sealed(), phase, module, method, attempt)
}

fn with(policy: Policy, phase: FaultPhase, module: &Module, method: StartMethod, attempt: Attempt) -> Fate {
    // A worker that ends before its first task costs no task: its end is an event.
    let (exited, exits) = std::sync::mpsc::channel();
    let pool = Pool::builder(module)
        .processes(1)
        .start_method(method)
        .isolation(Isolation::Fresh)
        .policy(policy)
        .fault(fault(phase, attempt))
        .on_event(move |event| {
            if let PoolEvent::WorkerExited { worker: 1, exitcode, reason, .. } = event {
                let _over = exited.send((*exitcode, reason.clone()));
            }
        })
        .build()
        .unwrap();
    let upper = pool.func::<&str, String>("run").unwrap();
    let lost = pool.apply(&upper, "x");
    let (exitcode, reason) = exits.recv().unwrap();
    let fate = Fate::of(exitcode);
    if fate == Fate::Killed {
        assert_eq!(reason, "SIGSYS (a system call that workers may not make)");
    }
    if phase == FaultPhase::MidTask {
        assert_eq!(lost, Err(TaskError::WorkerLost { exitcode, reason }));
    }
    fate
}

fn in_process(method: StartMethod, attempt: Attempt) -> Fate {
    let loader = loader().fault(fault(FaultPhase::MidTask, attempt));
    let module = loader.load(repo("guest/prebuilt/upper.wasm")).unwrap();
    let target = Target::func("run").arg("x");
    let mut process = Process::builder(&module).target(target).start_method(method).build().unwrap();
    process.start().unwrap();
    let status = process.join().unwrap();
    if status.exitcode == -SIGSYS {
        assert_eq!(status.reason, ExitReason::Signaled(SIGSYS));
    }
    Fate::of(Some(status.exitcode))
}

fn in_compiler(attempt: Attempt) -> Fate {
    let loader = Module::loader().program(program()).no_cache().fault(fault(FaultPhase::Compile, attempt));
    match loader.from_bytes(b"(module)") {
        Err(ModuleError::Compiler(said)) if said.contains("SIGSYS") => Fate::Killed,
        Err(ModuleError::Compiler(said)) => {
            let code = said.split_whitespace().find_map(|word| word.parse().ok());
            Fate::of(code)
        }
        other => panic!("{attempt:?}: {other:?}"),
    }
}

/// Refused without killing: what libraries try and do without, and what there is nothing to do with.
const REFUSED: [Attempt; 4] =
    [Attempt::OpenRead, Attempt::OpenWrite, Attempt::OpenParentMemory, Attempt::WriteInherited];

/// System calls whose arguments reach out of a process, or to parts of the kernel that wpool does not need:
/// each ends the process, in every role and with any grant. Descriptor 0 is `/dev/null`.
fn reaching_calls() -> Vec<(&'static str, Attempt)> {
    use libc::*;
    let us = i64::from(std::process::id());
    let fcntl = |command: c_int, argument: i64| (SYS_fcntl, [0, command.into(), argument, 0, 0, 0]);
    let mmap = |flags: c_int| (SYS_mmap, [0, 4096, i64::from(PROT_READ | PROT_WRITE), flags.into(), -1, 0]);
    let private = MAP_PRIVATE | MAP_ANONYMOUS;
    let futex = |operation: c_int| (SYS_futex, [0, operation.into(), 1, 0, 0, 0]);
    let madvise = |advice: c_int| (SYS_madvise, [0, 4096, advice.into(), 0, 0, 0]);
    let ioctl = |request: i64| (SYS_ioctl, [0, request, 0, 0, 0, 0]);
    let prctl = |option: c_int, argument: i64| (SYS_prctl, [option.into(), argument, 0, 0, 0, 0]);
    let with = |number, args: [i64; 3]| (number, [args[0], args[1], args[2], 0, 0, 0]);
    let high = 1 << 32;
    let calls = [
        ("fcntl F_SETOWN", fcntl(F_SETOWN, us)),
        ("fcntl F_SETOWN, with bits that the kernel does not read", fcntl(F_SETOWN, us | high)),
        ("fcntl F_SETOWN_EX", fcntl(15, 0)),
        ("fcntl F_SETSIG", fcntl(10, SIGKILL.into())),
        ("fcntl F_SETFL O_ASYNC", fcntl(F_SETFL, O_ASYNC.into())),
        ("fcntl F_SETLEASE", fcntl(F_SETLEASE, F_WRLCK.into())),
        ("fcntl F_NOTIFY", fcntl(F_NOTIFY, 1)),
        ("fcntl F_SETLK", fcntl(F_SETLK, 0)),
        ("fcntl F_SETLKW", fcntl(F_SETLKW, 0)),
        ("fcntl F_OFD_SETLK", fcntl(F_OFD_SETLK, 0)),
        ("fcntl F_OFD_SETLKW", fcntl(F_OFD_SETLKW, 0)),
        ("fcntl F_SETPIPE_SZ", fcntl(F_SETPIPE_SZ, 1 << 20)),
        ("fcntl F_ADD_SEALS", fcntl(F_ADD_SEALS, F_SEAL_WRITE.into())),
        ("fcntl F_SETFD without FD_CLOEXEC alone", fcntl(F_SETFD, 2)),
        ("fcntl of an unknown kind", fcntl(2000, 0)),
        ("flock", with(SYS_flock, [0, LOCK_EX.into(), 0])),
        ("mmap MAP_SHARED", mmap(MAP_SHARED | MAP_ANONYMOUS)),
        ("mmap MAP_SHARED_VALIDATE", mmap(MAP_SHARED_VALIDATE | MAP_ANONYMOUS)),
        ("mmap MAP_GROWSDOWN", mmap(private | MAP_GROWSDOWN)),
        ("mmap MAP_HUGETLB", mmap(private | MAP_HUGETLB)),
        ("mmap MAP_LOCKED", mmap(private | MAP_LOCKED)),
        ("mprotect PROT_GROWSDOWN", with(SYS_mprotect, [0, 4096, i64::from(PROT_GROWSDOWN | PROT_READ)])),
        ("mremap MREMAP_FIXED", (SYS_mremap, [0, 4096, 4096, (MREMAP_FIXED | MREMAP_MAYMOVE).into(), 0, 0])),
        ("mremap MREMAP_DONTUNMAP", (SYS_mremap, [0, 4096, 4096, 4 | i64::from(MREMAP_MAYMOVE), 0, 0])),
        ("mlock", with(SYS_mlock, [0, 4096, 0])),
        ("send MSG_OOB", (SYS_sendto, [0, 0, 0, MSG_OOB.into(), 0, 0])),
        (
            "send MSG_OOB, with bits that the kernel does not read",
            (SYS_sendto, [0, 0, 0, i64::from(MSG_OOB) | high, 0, 0]),
        ),
        ("send MSG_ZEROCOPY", (SYS_sendto, [0, 0, 0, 0x400_0000, 0, 0])),
        ("send MSG_FASTOPEN", (SYS_sendto, [0, 0, 0, MSG_FASTOPEN.into(), 0, 0])),
        ("send to an address", (SYS_sendto, [0, 0, 0, 0, 1, 16])),
        ("sendmsg MSG_OOB", with(SYS_sendmsg, [0, 0, MSG_OOB.into()])),
        ("sendmmsg", with(SYS_sendmmsg, [0, 0, 0])),
        ("recv MSG_OOB", (SYS_recvfrom, [0, 0, 0, MSG_OOB.into(), 0, 0])),
        ("recvmsg MSG_ERRQUEUE", with(SYS_recvmsg, [0, 0, MSG_ERRQUEUE.into()])),
        ("futex FUTEX_LOCK_PI", futex(FUTEX_LOCK_PI)),
        ("futex FUTEX_LOCK_PI2", futex(13)),
        ("futex FUTEX_UNLOCK_PI", futex(FUTEX_UNLOCK_PI)),
        ("futex FUTEX_WAIT_REQUEUE_PI", futex(FUTEX_WAIT_REQUEUE_PI)),
        ("futex FUTEX_CMP_REQUEUE_PI", futex(FUTEX_CMP_REQUEUE_PI | FUTEX_PRIVATE_FLAG)),
        ("futex FUTEX_REQUEUE", futex(FUTEX_REQUEUE)),
        ("futex FUTEX_WAKE_OP", futex(FUTEX_WAKE_OP)),
        ("futex_waitv", with(449, [0, 0, 0])),
        ("madvise MADV_HWPOISON", madvise(MADV_HWPOISON)),
        ("madvise MADV_SOFT_OFFLINE", madvise(101)),
        ("madvise MADV_MERGEABLE", madvise(MADV_MERGEABLE)),
        ("madvise MADV_REMOVE", madvise(MADV_REMOVE)),
        ("madvise MADV_DOFORK", madvise(MADV_DOFORK)),
        ("madvise MADV_PAGEOUT", madvise(21)),
        ("process_madvise", with(440, [0, 0, 0])),
        ("ioctl TIOCSTI", ioctl(0x5412)),
        ("ioctl FIOASYNC", ioctl(0x5452)),
        ("ioctl FIOSETOWN", ioctl(0x8901)),
        ("ioctl SIOCSPGRP", ioctl(0x8902)),
        ("ioctl SIOCGIFCONF", ioctl(0x8912)),
        ("ioctl FICLONE", ioctl(0x4004_9409)),
        ("prctl PR_SET_DUMPABLE", prctl(PR_SET_DUMPABLE, 1)),
        ("prctl PR_SET_PDEATHSIG 0", prctl(PR_SET_PDEATHSIG, 0)),
        ("prctl PR_SET_PTRACER", prctl(PR_SET_PTRACER, us)),
        ("prctl PR_SET_MM", prctl(PR_SET_MM, 1)),
        ("prctl PR_SET_CHILD_SUBREAPER", prctl(PR_SET_CHILD_SUBREAPER, 1)),
        ("prctl PR_SET_SECCOMP", prctl(PR_SET_SECCOMP, 1)),
        ("tgkill of its coordinator", with(SYS_tgkill, [us, us, SIGKILL.into()])),
        ("rt_sigqueueinfo", with(SYS_rt_sigqueueinfo, [us, SIGKILL.into(), 0])),
        ("pidfd_getfd", with(438, [0, 0, 0])),
        ("setpgid", with(SYS_setpgid, [0, us, 0])),
        ("setsid", with(SYS_setsid, [0, 0, 0])),
        ("seccomp", with(SYS_seccomp, [1, 8, 0])),
        ("userfaultfd", with(SYS_userfaultfd, [0, 0, 0])),
        ("perf_event_open", with(SYS_perf_event_open, [0, 0, 0])),
        ("add_key", with(SYS_add_key, [0, 0, 0])),
        ("setns", with(SYS_setns, [0, 0, 0])),
        ("mount", with(SYS_mount, [0, 0, 0])),
        ("chmod", with(SYS_fchmodat, [AT_FDCWD.into(), 0, 0o777])),
        ("truncate", with(SYS_truncate, [0, 0, 0])),
        ("shmget", with(SYS_shmget, [0, 4096, 0o1600])),
        ("sched_setaffinity", with(SYS_sched_setaffinity, [0, 8, 0])),
    ];
    calls.into_iter().map(|(name, (number, args))| (name, Attempt::Call(number, args))).collect()
}

fn assert_killed(place: &str, attempt_in: impl Fn(Attempt) -> Fate) {
    for (name, attempt) in reaching_calls() {
        assert_eq!(attempt_in(attempt), Fate::Killed, "{place}: {name}");
    }
    assert_no_workers(std::process::id());
}

/// More addresses than an engine needs: the kernel's tables for them would be memory that no limit counts.
const TEBIBYTE: Attempt = Attempt::Call(
    libc::SYS_mmap,
    [
        0,
        1 << 40,
        libc::PROT_READ as i64,
        (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE) as i64,
        -1,
        0,
    ],
);

#[test]
fn f115_arguments_that_reach_out_of_a_worker_are_its_end() {
    let _lock = ONE_AT_A_TIME.lock();
    let _bound = time_bound_of(Duration::from_secs(240));
    let module = guest("upper");
    for method in [StartMethod::Forkserver, StartMethod::Spawn] {
        assert_killed(&format!("a worker, {method:?}"), |attempt| in_worker(&module, method, attempt));
        assert_eq!(in_worker(&module, method, TEBIBYTE), Fate::Refused);
    }
}

/// The calls that come with a grant come with these arguments and no others.
#[test]
fn f115_arguments_that_reach_out_of_a_worker_with_grants_are_its_end() {
    let _lock = ONE_AT_A_TIME.lock();
    let _bound = time_bound_of(Duration::from_secs(240));
    let module = guest("upper");
    let dir = support::temp_dir();
    let policy = Policy::sealed().dir(dir.path(), "/", DirAccess::ReadWrite).net("127.0.0.1:9");
    for method in [StartMethod::Forkserver, StartMethod::Spawn] {
        let fate = |attempt| with(policy.clone(), FaultPhase::MidTask, &module, method, attempt);
        assert_killed(&format!("a worker with grants, {method:?}"), fate);
        assert_eq!(fate(TEBIBYTE), Fate::Refused);
    }
}

#[test]
fn f115_arguments_that_reach_out_of_a_process_or_a_compiler_are_its_end() {
    let _lock = ONE_AT_A_TIME.lock();
    let _bound = time_bound_of(Duration::from_secs(240));
    assert_killed("a process", |attempt| in_process(StartMethod::Forkserver, attempt));
    assert_killed("a compiler", in_compiler);
    assert_eq!(in_compiler(TEBIBYTE), Fate::Refused);
}

/// A worker at the start of its life is what its zygote is: the same code on the same list.
#[test]
fn f115_arguments_that_reach_out_of_a_zygote_are_its_end() {
    let _lock = ONE_AT_A_TIME.lock();
    let _bound = time_bound_of(Duration::from_secs(240));
    let module = guest("upper");
    assert_killed("a zygote", |attempt| at(FaultPhase::Start, &module, StartMethod::Forkserver, attempt));
}

/// Tries everything, with a descriptor left open for children.
fn probe(place: &str, attempt_in: impl Fn(Attempt) -> Fate) {
    let _bound = time_bound_of(Duration::from_secs(120));
    let secret = Inherited::open();
    for attempt in Attempt::ALL {
        let fate = attempt_in(attempt);
        println!("{place}: {attempt:?}: {fate:?}");
        let expected = match attempt {
            _ if REFUSED.contains(&attempt) => Fate::Refused,
            // A compiler makes what it has compiled executable, though it never runs it.
            Attempt::MapExecutable | Attempt::MakeExecutable if place == "compiler" => Fate::Allowed,
            _ => Fate::Killed,
        };
        assert_eq!(fate, expected, "{place}: {attempt:?}");
    }
    secret.assert_untouched();
    assert_no_workers(std::process::id());
}

/// A file that this program has left open for its children, under a number that they would know.
struct Inherited(std::fs::File);

static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

impl Inherited {
    fn open() -> Inherited {
        let file = tempfile::tempfile().unwrap();
        #[expect(
            unsafe_code,
            reason = "no safe function makes a descriptor of a chosen number that children inherit"
        )]
        // SAFETY: nothing else uses the number: tests of this program hold a lock, and nothing here has so
        // many descriptors.
        let made = unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&file), Attempt::INHERITED) };
        assert_eq!(made, Attempt::INHERITED);
        Inherited(file)
    }

    fn assert_untouched(mut self) {
        let mut text = String::new();
        self.0.rewind().unwrap();
        self.0.read_to_string(&mut text).unwrap();
        assert_eq!(text, "");
    }
}

#[test]
fn f103_a_forked_worker_is_refused_everything() {
    let _lock = ONE_AT_A_TIME.lock();
    let _bound = time_bound_of(Duration::from_secs(180));
    let module = guest("upper");
    probe("forked worker", |attempt| in_worker(&module, StartMethod::Forkserver, attempt));
}

#[test]
fn f103_an_executed_worker_is_refused_everything() {
    let _lock = ONE_AT_A_TIME.lock();
    let _bound = time_bound_of(Duration::from_secs(180));
    let module = guest("upper");
    probe("executed worker", |attempt| in_worker(&module, StartMethod::Spawn, attempt));
}

#[test]
fn f103_a_process_is_refused_everything() {
    let _lock = ONE_AT_A_TIME.lock();
    let _bound = time_bound_of(Duration::from_secs(180));
    probe("forked process", |attempt| in_process(StartMethod::Forkserver, attempt));
    probe("executed process", |attempt| in_process(StartMethod::Spawn, attempt));
}

#[test]
fn f103_a_compiler_is_refused_what_it_does_not_need() {
    let _lock = ONE_AT_A_TIME.lock();
    let _bound = time_bound_of(Duration::from_secs(180));
    probe("compiler", in_compiler);
}

/// The properties that landlock alone enforces are tested only where the kernel has all of landlock.
fn lacks_a_step() -> bool {
    wpool::sandbox::doctor(&loader()).unwrap().steps.iter().any(|step| step.missing.is_some())
}

/// A grant is a hole of its own shape: whatever is beside it stays refused, to native code too.
#[test]
fn f103_a_worker_with_grants_reaches_them_and_nothing_else() {
    let _lock = ONE_AT_A_TIME.lock();
    let _bound = time_bound_of(Duration::from_secs(120));
    let module = guest("upper");
    if lacks_a_step() {
        println!("skipped: not all of the sandbox is enforced here");
        return;
    }
    // All but what a grant lets through, and what is known to be: names and sizes of files.
    let all_but = |allowed: &[Attempt]| -> Vec<Attempt> {
        let all = Attempt::ALL.into_iter().chain([
            Attempt::TcpConnectToPort9,
            Attempt::TcpFastOpen,
            Attempt::MultipathTcp,
            Attempt::TcpListen,
            Attempt::SocketProgram,
            Attempt::TimesOfAnyFile,
            Attempt::MakePipe,
        ]);
        all.filter(|attempt| !allowed.contains(attempt)).collect()
    };
    let read = |host: &str| Policy::sealed().dir(host, "/", DirAccess::ReadOnly);
    let written = Attempt::DIR;
    std::fs::create_dir_all(written).unwrap();
    // There is one, and it is this user's: it is not missing that saves it.
    let another = std::path::Path::new(Attempt::ANOTHER_FILE);
    std::fs::write(another, "").unwrap();
    let grants = [
        // The file that is read is in there; the one that is written would be.
        (
            "etc for reading",
            read("/etc"),
            vec![Attempt::OpenRead, Attempt::OpenByAnotherCall, Attempt::Stat, Attempt::ReadLink],
        ),
        ("beside it for reading", read(written), vec![Attempt::Stat, Attempt::ReadLink]),
        (
            "beside it for writing",
            Policy::sealed().dir(written, "/", DirAccess::ReadWrite),
            vec![Attempt::OpenWrite, Attempt::Stat, Attempt::ReadLink],
        ),
        ("another port", Policy::sealed().net("127.0.0.1:8"), vec![]),
        ("port 9", Policy::sealed().net("127.0.0.1:9"), vec![Attempt::TcpConnectToPort9]),
        ("sockets in vain", Policy::sealed().refuse_net(), vec![]),
    ];
    for (name, policy, allowed) in grants {
        for method in [StartMethod::Forkserver, StartMethod::Spawn] {
            let fate = |attempt| with(policy.clone(), FaultPhase::MidTask, &module, method, attempt);
            for attempt in all_but(&allowed) {
                assert_ne!(fate(attempt), Fate::Allowed, "{name}, {method:?}: {attempt:?}");
            }
            for attempt in &allowed {
                assert_eq!(fate(*attempt), Fate::Allowed, "{name}, {method:?}: {attempt:?}");
            }
            let _not_made = std::fs::remove_file(std::path::Path::new(written).join("file"));
        }
    }
}

/// landlock alone: what the list of calls lets through is refused for what it is.
#[test]
fn landlock_alone_holds_grants_to_their_shape() {
    let _lock = ONE_AT_A_TIME.lock();
    let _bound = time_bound_of(Duration::from_secs(180));
    let module = guest("upper");
    if lacks_a_step() {
        println!("skipped: not all of the sandbox is enforced here");
        return;
    }
    let fate =
        |policy: Policy, attempt| with(policy, FaultPhase::Unlisted, &module, StartMethod::Spawn, attempt);
    let dir = |host: &str, access| Policy::sealed().dir(host, "/", access);
    std::fs::create_dir_all(Attempt::DIR).unwrap();
    // Writing where only reading is granted, executing, pipes, and the same in another directory.
    assert_eq!(fate(dir(Attempt::DIR, DirAccess::ReadOnly), Attempt::OpenWrite), Fate::Refused);
    assert_eq!(fate(dir("/etc", DirAccess::ReadOnly), Attempt::OpenRead), Fate::Allowed);
    assert_eq!(fate(dir(Attempt::DIR, DirAccess::ReadWrite), Attempt::OpenRead), Fate::Refused);
    assert_eq!(fate(dir(Attempt::DIR, DirAccess::ReadWrite), Attempt::MakePipe), Fate::Refused);
    assert_eq!(fate(dir("/usr", DirAccess::ReadOnly), Attempt::Execute), Fate::Refused);
    assert_eq!(fate(Policy::sealed().net("127.0.0.1:8"), Attempt::TcpConnectToPort9), Fate::Refused);
    assert_eq!(fate(Policy::sealed().net("127.0.0.1:9"), Attempt::TcpConnectToPort9), Fate::Allowed);
}

#[test]
fn a_worker_may_still_abort() {
    let _lock = ONE_AT_A_TIME.lock();
    let _bound = time_bound_of(Duration::from_secs(180));
    let module = guest("upper");
    // A zygote that no landlock keeps from signalling others may not signal at all, nor then may its workers:
    // an abort is a trap there.
    let steps = wpool::sandbox::doctor(&loader()).unwrap().steps;
    let is_scoped = steps.iter().any(|step| step.name.contains("signal outside") && step.missing.is_none());
    for method in [StartMethod::Forkserver, StartMethod::Spawn] {
        let fault = Fault { phase: FaultPhase::MidTask, action: FaultAction::Abort };
        let pool = Pool::builder(&module).processes(1).start_method(method).fault(fault).build().unwrap();
        let upper = pool.func::<&str, String>("run").unwrap();
        let lost = pool.apply(&upper, "x");
        let (exitcode, reason) = match method == StartMethod::Spawn || is_scoped {
            true => (Some(-libc::SIGABRT), "SIGABRT".to_owned()),
            false => (Some(-libc::SIGSEGV), "SIGSEGV".to_owned()),
        };
        assert_eq!(lost, Err(TaskError::WorkerLost { exitcode, reason }), "{method:?}");
    }
}

#[test]
fn landlock_alone_holds_what_it_is_for() {
    let _lock = ONE_AT_A_TIME.lock();
    let _bound = time_bound_of(Duration::from_secs(180));
    let module = guest("upper");
    if lacks_a_step() {
        println!("skipped: not all of the sandbox is enforced here");
        return;
    }
    for attempt in [
        Attempt::OpenRead,
        Attempt::OpenWrite,
        Attempt::OpenByAnotherCall,
        Attempt::ListDirectory,
        Attempt::Execute,
        Attempt::TcpConnect,
        Attempt::AbstractSocket,
        Attempt::TraceParent,
        Attempt::ReadParentMemory,
        Attempt::OpenParentMemory,
        Attempt::SignalParent,
        Attempt::SignalParentByDescriptor,
        Attempt::WriteInherited,
    ] {
        assert_eq!(
            at(FaultPhase::Unlisted, &module, StartMethod::Spawn, attempt),
            Fate::Refused,
            "{attempt:?}"
        );
    }
    // What it is not for.
    for attempt in [Attempt::Stat, Attempt::Fork, Attempt::MapWritableAndExecutable] {
        assert_eq!(
            at(FaultPhase::Unlisted, &module, StartMethod::Spawn, attempt),
            Fate::Allowed,
            "{attempt:?}"
        );
    }
}

#[test]
fn without_a_sandbox_the_same_attempts_succeed() {
    let _lock = ONE_AT_A_TIME.lock();
    let _bound = time_bound_of(Duration::from_secs(180));
    let module = loader().sandbox(Sandbox::Off).load(repo("guest/prebuilt/upper.wasm")).unwrap();
    // Those that need no privilege, and nothing of the machine.
    for attempt in [
        Attempt::OpenRead,
        Attempt::Stat,
        Attempt::ReadLink,
        Attempt::ListDirectory,
        Attempt::Fork,
        Attempt::UdpSend,
        Attempt::SignalParent,
        Attempt::SignalParentByDescriptor,
        Attempt::LoosenLimit,
        Attempt::MapWritableAndExecutable,
        Attempt::MakeExecutable,
        Attempt::BecomeTraceable,
        Attempt::MemoryFile,
    ] {
        assert_eq!(in_worker(&module, StartMethod::Forkserver, attempt), Fate::Allowed, "{attempt:?}");
    }
}

/// A worker at the start of its life is what its zygote is: the same code on the same list.
#[test]
fn f111_a_zygote_has_no_children_of_its_own_and_what_it_leaves_ends_with_its_pool() {
    let _bound = time_bound_of(Duration::from_secs(60));
    let module = guest("upper");
    let in_zygote = |attempt| at(FaultPhase::Start, &module, StartMethod::Forkserver, attempt);
    assert_eq!(in_zygote(Attempt::Fork), Fate::Killed);
    assert_eq!(in_zygote(Attempt::Thread), Fate::Killed, "a child that shares files");
    // What it may do for its coordinator, it may do without being asked.
    assert_eq!(in_zygote(Attempt::LeaveSibling), Fate::Allowed);
    // A zygote's name, and a group that it leads in another's session. A worker of another test has both for
    // a moment.
    let is_left = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let ids: Vec<&str> =
            stat.rsplit_once(") ").map_or_else(Vec::new, |(_, rest)| rest.split(' ').collect());
        stat.contains("(wpool-zygote)") && ids.get(2) != ids.get(3)
    };
    support::wait_until("nothing is left", Duration::from_secs(5), || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let mut children = tasks.flat_map(|task| std::fs::read_to_string(task.path().join("children")));
        !children.any(|children| children.split_whitespace().any(is_left))
    });
}
