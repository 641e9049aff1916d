//! Debug output, interrupted waits, and the number of processors.

use super::*;

over_start_methods! {
    every {
    }
    processes {
        p48_debug_shows_name_pid_parent_and_state
        p50_a_worker_does_not_run_main
        p51_interrupted_waits_go_on
    }
}

fn p48_debug_shows_name_pid_parent_and_state(method: StartMethod) {
    let parent = std::process::id();
    let mut process = builder("hello", "bob:60000", method).name("W").daemon(true).build().unwrap();
    assert_eq!(format!("{process:?}"), format!("<Process name=\"W\" parent={parent} initial daemon>"));
    process.start().unwrap();
    let pid = process.pid().unwrap();
    assert_eq!(
        format!("{process:?}"),
        format!("<Process name=\"W\" pid={pid} parent={parent} started daemon>")
    );
    process.terminate().unwrap();
    process.join().unwrap();
    let stopped = format!("<Process name=\"W\" pid={pid} parent={parent} stopped exitcode=-SIGTERM daemon>");
    assert_eq!(format!("{process:?}"), stopped);
    let mut process = started(failing("bad", method));
    process.join().unwrap();
    assert!(format!("{process:?}").ends_with(" stopped exitcode=1>"));
}

fn p50_a_worker_does_not_run_main(method: StartMethod) {
    let output = processes("leak", method);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout.lines().filter(|line| *line == "main").count(), 1, "{stdout}");
}

fn p51_interrupted_waits_go_on(method: StartMethod) {
    handle_sigusr1();
    let joining = rustix::thread::gettid().as_raw_nonzero().get();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                signal_threads(joining);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let ended = std::panic::catch_unwind(|| started(hello(400, method)).join().unwrap());
        done.store(true, Ordering::Relaxed);
        assert_eq!(ended.unwrap(), returned());
    });
}

/// Has `SIGUSR1` interrupt whatever a thread waits for: it has a handler, and what it interrupts is not
/// restarted.
#[expect(unsafe_code, reason = "what sets handlers without unsafe code has them restart what they interrupt")]
fn handle_sigusr1() {
    extern "C" fn nothing(_signal: libc::c_int) {}
    // SAFETY: an all-zero sigaction is valid and has no flags; the handler does nothing; the old action is
    // not asked for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
}

/// Sends `SIGUSR1` to each thread of the library, and to that one.
#[expect(unsafe_code, reason = "there is no safe way to send a signal to a thread")]
fn signal_threads(also: i32) {
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let tid: i32 = task.file_name().to_str().unwrap().parse().unwrap();
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if tid == also || name.starts_with("wpool-") {
            // SAFETY: tgkill takes three integers and touches no memory of ours; SIGUSR1 has a handler.
            unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), tid, libc::SIGUSR1) };
        }
    }
}

#[test]
fn p52_cpu_count_heeds_the_affinity() {
    assert!(cpu_count() >= 1);
    // The processor time of this thread only.
    let mut one = rustix::thread::CpuSet::new();
    let mine = rustix::thread::sched_getaffinity(None).unwrap();
    one.set((0..rustix::thread::CpuSet::MAX_CPU).find(|cpu| mine.is_set(*cpu)).unwrap());
    rustix::thread::sched_setaffinity(None, &one).unwrap();
    assert_eq!(cpu_count(), 1);
}
