//! Terminate, kill and interrupt.

use super::*;

over_start_methods! {
    every {
        p30_a_guest_that_has_returned_is_shut_down
        p30_an_endless_shutdown_meets_the_time_limit
        p33_exit_codes_tell_how_it_ended
        p33_exit_with_a_number_is_the_exit_code
        p33_an_interrupted_guest_that_looks_ends_in_its_own_way
    }
    processes {
        p25_terminate_gives_minus_15
        p25_terminate_is_not_lost_if_this_program_ignores_the_signal
        p26_kill_gives_minus_9
        p27_ending_what_has_ended_changes_nothing
        p29_a_terminated_guest_is_not_shut_down
        p30_without_a_time_limit_an_endless_shutdown_can_be_terminated
        p31_each_process_leads_a_group_of_its_own
        p32_many_processes_at_once
        p33_an_interrupted_guest_that_does_not_look_is_ended_after_the_grace
        a_time_limit_ends_a_process
    }
}

fn p25_terminate_gives_minus_15(method: StartMethod) {
    let mut process = started(hello(60_000, method));
    at_work(&process);
    process.terminate().unwrap();
    assert_eq!(process.join().unwrap(), signaled(15));
    // Also in the midst of a computation, or of the start.
    let mut process = started(failing("loop", method));
    process.terminate().unwrap();
    assert_eq!(process.join().unwrap(), signaled(15));
}

fn p25_terminate_is_not_lost_if_this_program_ignores_the_signal(method: StartMethod) {
    // What is ignored here is so in a program that was just executed, until it says otherwise.
    let output = under_shell("trap '' TERM; exec \"$@\"", &processes_command("end-codes", method));
    assert_eq!(numbers(&output), ("-15".to_owned(), "0".to_owned()));
}

fn p26_kill_gives_minus_9(method: StartMethod) {
    let mut process = started(hello(60_000, method));
    process.kill().unwrap();
    assert_eq!(process.join().unwrap(), signaled(9));
}

fn p27_ending_what_has_ended_changes_nothing(method: StartMethod) {
    let mut process = started(hello(60_000, method));
    process.kill().unwrap();
    process.kill().unwrap();
    process.join().unwrap();
    process.terminate().unwrap();
    process.interrupt().unwrap();
    assert_eq!(process.exitcode(), Some(-9));
}

fn p29_a_terminated_guest_is_not_shut_down(method: StartMethod) {
    let target = Target::func("wait");
    let process =
        Process::builder(&wat(ENDLESS_SHUTDOWN)).target(target).start_method(method).build().unwrap();
    let mut process = started(process);
    process.terminate().unwrap();
    assert_eq!(process.join().unwrap(), signaled(15));
    assert_eq!(process.result_bytes(), None);
}

fn p30_a_guest_that_has_returned_is_shut_down(method: StartMethod) {
    let process = Process::builder(&guest("counter"))
        .target(Target::func("run").arg(""))
        .start_method(method)
        .build()
        .unwrap();
    let mut process = started(process);
    assert_eq!(process.join().unwrap(), returned());
    assert_eq!(String::from_utf8(process.stdout()).unwrap(), "counted to 1\n");
}

fn p30_an_endless_shutdown_meets_the_time_limit(method: StartMethod) {
    let process = Process::builder(&wat(ENDLESS_SHUTDOWN)).target(Target::func("run")).start_method(method);
    let mut process = started(process.limits(timed(Duration::from_millis(200))).build().unwrap());
    assert_eq!(process.join().unwrap(), returned());
    assert_eq!(process.result::<u32>(), Some(7));
}

fn p30_without_a_time_limit_an_endless_shutdown_can_be_terminated(method: StartMethod) {
    let process = Process::builder(&wat(ENDLESS_SHUTDOWN)).target(Target::func("run")).start_method(method);
    let mut process = started(process.build().unwrap());
    wait_until("it has returned", Duration::from_secs(20), || process.result_bytes().is_some());
    assert_eq!(process.join_timeout(Duration::from_millis(20)), Ok(None));
    process.terminate().unwrap();
    assert_eq!(process.join().unwrap(), signaled(15));
}

#[test]
fn p31_what_a_process_has_started_ends_with_it() {
    let _bound = time_bound();
    let dir = support::temp_dir();
    let file = dir.path().join("started");
    // No guest can do this. As a worker does, it leads a session, and so a process group.
    let script = format!("exec setsid sh -c 'sleep 50 & echo $! > {}; exit 3'", file.display());
    let process = Process::builder(&served_by(&script, dir.path())).target(Target::func("run").arg("bob"));
    let mut process = started(process.start_method(StartMethod::Spawn).build().unwrap());
    assert_eq!(process.join().unwrap().exitcode, 3);
    let descendant = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
    // The process that inherits the child may reap it later.
    wait_until("it has ended", Duration::from_secs(2), || matches!(proc_state(descendant), None | Some('Z')));
}

fn p31_each_process_leads_a_group_of_its_own(method: StartMethod) {
    let process = started(builder("hello", "bob:60000", method).daemon(true).build().unwrap());
    at_work(&process);
    let pid = Pid::from_raw(i32::try_from(process.pid().unwrap()).unwrap());
    assert_eq!(rustix::process::getpgid(pid).ok(), pid);
}

fn p32_many_processes_at_once(method: StartMethod) {
    // An executed worker costs a hundred times what a forked one does.
    let count = if method == StartMethod::Spawn { 20 } else { 100 };
    let module = guest("hello");
    let all = |record: &str| -> Vec<Process> {
        let target = || Target::func("run").arg(record);
        let process = || Process::builder(&module).target(target()).start_method(method).build().unwrap();
        (0..count).map(|_| started(process())).collect()
    };
    assert!(all("bob:10").iter_mut().all(|p| p.join().unwrap() == returned()));
    let mut sleepers = all("bob:60000");
    sleepers.iter_mut().for_each(|p| p.terminate().unwrap());
    assert!(sleepers.iter_mut().all(|p| p.join().unwrap() == signaled(15)));
}

fn p33_exit_codes_tell_how_it_ended(method: StartMethod) {
    support::assert_exit_codes(|record| started(failing(record, method)).join().unwrap());
}

fn p33_exit_with_a_number_is_the_exit_code(method: StartMethod) {
    let exit_with = |code: u32| {
        let text = format!(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const {code}))))"#
        );
        started(Process::builder(&wat(&text)).start_method(method).build().unwrap()).join().unwrap()
    };
    assert_eq!(exit_with(0), returned());
    let exited = |code| ExitReason::Failed(TaskError::Exited { code });
    assert_eq!(exit_with(8), ExitStatus { exitcode: 8, reason: exited(8) });
}

fn p33_an_interrupted_guest_that_looks_ends_in_its_own_way(method: StartMethod) {
    let mut limits = Limits::default();
    // It need not be forced.
    limits.grace = Duration::from_secs(600);
    let process =
        Process::builder(&wat(support::LOOKING)).limits(limits).start_method(method).build().unwrap();
    let mut process = started(process);
    process.interrupt().unwrap();
    assert_eq!(process.join().unwrap(), returned());
    assert_eq!(process.result::<u32>(), Some(7));
}

fn p33_an_interrupted_guest_that_does_not_look_is_ended_after_the_grace(method: StartMethod) {
    let mut limits = Limits::default();
    limits.grace = Duration::from_millis(150);
    for (module, record) in [("failing", "loop"), ("hello", "bob:60000")] {
        let mut process = started(builder(module, record, method).limits(limits.clone()).build().unwrap());
        let asked = Instant::now();
        process.interrupt().unwrap();
        process.interrupt().unwrap();
        assert_eq!(process.join().unwrap(), signaled(2));
        assert!(asked.elapsed() >= limits.grace);
    }
}

fn a_time_limit_ends_a_process(method: StartMethod) {
    let limits = timed(Duration::from_millis(200));
    for (module, record, exitcode) in [("failing", "loop", 1), ("hello", "bob:60000", -9)] {
        let mut process = started(builder(module, record, method).limits(limits.clone()).build().unwrap());
        let status = process.join().unwrap();
        assert_eq!(status.exitcode, exitcode);
        assert!(
            matches!(status.reason, ExitReason::Failed(TaskError::Limit { limit: Limit::Time, .. })),
            "{status:?}"
        );
    }
    let mut process =
        started(builder("failing", "good", method).limits(timed(Duration::MAX)).build().unwrap());
    assert_eq!(process.join().unwrap(), returned());
}
