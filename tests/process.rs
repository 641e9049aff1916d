//! One worker process at a time, over the start methods: items P1 to P52 of Python's contract, as far as they make sense here.

mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal};
use support::{
    assert_gone, assert_no_workers, example, guest, proc_state, repo, time_bound, wait_until, wat,
};
use wpool::process::{
    AlreadyStarted, ExitReason, ExitStatus, NotStarted, active_children, cpu_count, current_process,
    parent_process,
};
use wpool::{BuildError, Limit, Limits, Process, ProcessBuilder, StartError, StartMethod, Target, TaskError};

/// Makes a test of each function, once for each start method. Those under `processes` need a worker that is an operating system process of
/// its own: a signal ends it, it has descriptors, it dies with its parent.
macro_rules! over_start_methods {
    (every { $($every:ident)* } processes { $($process:ident)* }) => {
        over_start_methods!(@ forkserver Forkserver $($every)* $($process)*);
        over_start_methods!(@ spawn Spawn $($every)* $($process)*);
        over_start_methods!(@ thread Thread $($every)*);
    };
    (@ $module:ident $method:ident $($name:ident)*) => {
        mod $module {
            $(#[test] fn $name() { let _bound = super::time_bound(); super::$name(wpool::StartMethod::$method) })*
        }
    };
}

over_start_methods! {
    every {
        p1_p23_a_new_process_is_not_alive_and_has_neither_pid_nor_exitcode
        p2_p3_a_process_is_alive_from_start_to_join
        p4_arguments_arrive_as_they_are_given
        p5_keyword_arguments_arrive_by_name
        p10_names_need_not_be_unique
        p12_p13_the_daemon_flag_is_settled_by_the_start
        p16_a_process_is_started_once
        p18_p28_nothing_can_be_joined_or_ended_before_its_start
        p19_join_with_zero_timeout_returns_at_once
        p20_join_waits_no_longer_than_its_timeout
        p21_a_process_is_joined_any_number_of_times
        p30_a_guest_that_has_returned_is_shut_down
        p30_an_endless_shutdown_meets_the_time_limit
        p33_exit_codes_tell_how_it_ended
        p33_exit_with_a_number_is_the_exit_code
        p33_an_interrupted_guest_that_looks_ends_in_its_own_way
        p34_what_a_guest_prints_is_there_at_its_end
        what_a_guest_prints_is_passed_on_as_it_comes
        p36_a_guest_reads_the_input_it_is_given_or_none
        a_large_input_and_a_large_output
        p38_the_sentinel_is_readable_once_it_has_ended
        p39_a_wait_for_several_sentinels_tells_which_has_ended
        p40_a_living_process_is_not_closed
    }
    processes {
        p7_a_guest_sees_its_own_name_and_pid
        p24_an_ended_process_is_reaped_without_being_asked_for
        p25_terminate_gives_minus_15
        p25_terminate_is_not_lost_if_this_program_ignores_the_signal
        p26_kill_gives_minus_9
        a_start_that_fails_can_be_tried_again
        a_program_that_reaps_all_children_learns_what_its_processes_said
        p27_ending_what_has_ended_changes_nothing
        p29_a_terminated_guest_is_not_shut_down
        p30_without_a_time_limit_an_endless_shutdown_can_be_terminated
        p31_each_process_leads_a_group_of_its_own
        p32_many_processes_at_once
        p33_an_interrupted_guest_that_does_not_look_is_ended_after_the_grace
        a_time_limit_ends_a_process
        a_sink_that_panics_does_not_hang_join
        a_sink_whose_end_panics_does_not_hang_join
        p42_a_closed_process_leaves_no_descriptor
        p43_the_module_is_let_go_at_the_start
        p44_a_worker_has_no_more_descriptors_for_having_siblings
        p15_dropping_a_daemon_kills_it_and_dropping_another_waits
        p15_at_the_end_of_main_daemons_are_killed
        p15_at_the_end_of_main_others_are_waited_for
        p15_exit_and_panic_are_ends_of_main_too
        p15_an_exit_while_output_is_taken_waits_for_nothing
        p35_closed_output_changes_no_exit_code
        p45_processes_die_with_a_killed_parent_idle_and_busy
        a_worker_that_ends_without_a_word_is_reported
        f105_a_worker_whose_socket_outlives_it_has_ended
        a_worker_that_does_not_get_ready_is_killed
        f69_a_process_lives_on_when_the_thread_that_started_it_ends
        p48_debug_shows_name_pid_parent_and_state
        p50_a_worker_does_not_run_main
        p51_interrupted_waits_go_on
    }
}

/// Runs `run` of a prebuilt guest with that record.
fn builder(name: &str, record: &str, method: StartMethod) -> ProcessBuilder {
    Process::builder(&guest(name)).target(Target::func("run").arg(record)).start_method(method)
}

/// Says hello after that many milliseconds.
fn hello(millis: u64, method: StartMethod) -> Process {
    builder("hello", &format!("bob:{millis}"), method).build().unwrap()
}

fn failing(record: &str, method: StartMethod) -> Process {
    builder("failing", record, method).build().unwrap()
}

/// Has a `shutdown` that never ends.
const ENDLESS_SHUTDOWN: &str = r#"(component
    (core module $m
        (func (export "run") (result i32) (i32.const 7))
        (func (export "wait") (loop (br 0)))
        (func (export "shutdown") (loop (br 0))))
    (core instance $i (instantiate $m))
    (func (export "run") (result u32) (canon lift (core func $i "run")))
    (func (export "wait") (canon lift (core func $i "wait")))
    (func (export "shutdown") (canon lift (core func $i "shutdown"))))"#;

fn looking(method: StartMethod) -> Process {
    Process::builder(&wat(support::LOOKING)).start_method(method).build().unwrap()
}

fn started(mut process: Process) -> Process {
    process.start().unwrap();
    process
}

/// The guest is at work: it has printed its name, and sleeps.
fn at_work(process: &Process) {
    wait_until("the guest prints", Duration::from_secs(20), || !process.stdout().is_empty());
}

fn is_active(process: &Process) -> bool {
    active_children().iter().any(|child| Some(child.pid) == process.pid() && child.name == process.name())
}

fn returned() -> ExitStatus {
    ExitStatus { exitcode: 0, reason: ExitReason::Returned }
}

fn signaled(signal: i32) -> ExitStatus {
    ExitStatus { exitcode: -signal, reason: ExitReason::Signaled(signal) }
}

fn timed(time: Duration) -> Limits {
    let mut limits = Limits::default();
    limits.time = Some(time);
    limits
}

// From the beginning to the end.

fn p1_p23_a_new_process_is_not_alive_and_has_neither_pid_nor_exitcode(method: StartMethod) {
    let process = hello(0, method);
    assert_eq!((process.pid(), process.exitcode(), process.is_alive()), (None, None, false));
    assert_eq!(process.exit_status(), None);
    assert!(!is_active(&process));
}

fn p2_p3_a_process_is_alive_from_start_to_join(method: StartMethod) {
    let mut process = started(looking(method));
    assert!(process.is_alive() && process.exitcode().is_none() && is_active(&process));
    process.interrupt().unwrap();
    assert_eq!(process.join().unwrap(), returned());
    assert_eq!((process.exitcode(), process.is_alive(), is_active(&process)), (Some(0), false, false));
    assert_eq!(process.result::<u32>(), Some(7), "what it returns is not lost");
}

fn p4_arguments_arrive_as_they_are_given(method: StartMethod) {
    let module = support::loader().load(repo("guest/examples/wat/add.wat")).unwrap();
    let target = Target::func("add").arg(40).arg(2);
    let mut process = started(Process::builder(&module).target(target).start_method(method).build().unwrap());
    process.join().unwrap();
    assert_eq!(process.result::<i32>(), Some(42));
    assert_eq!(process.result_bytes().as_deref(), Some(&b"42"[..]));
    assert_eq!(process.result::<String>(), None, "a number is no text");
}

fn p5_keyword_arguments_arrive_by_name(method: StartMethod) {
    let text = r#"(component
        (core module $m (func (export "sub") (param i32 i32) (result i32) (i32.sub (local.get 0) (local.get 1))))
        (core instance $i (instantiate $m))
        (func (export "sub") (param "from" s32) (param "what" s32) (result s32) (canon lift (core func $i "sub"))))"#;
    let build = |target| Process::builder(&wat(text)).target(target).start_method(method).build();
    let mut process = started(build(Target::func("sub").kwarg("what", 2).kwarg("from", 9)).unwrap());
    process.join().unwrap();
    assert_eq!(process.result::<i32>(), Some(7));
    assert!(matches!(
        build(Target::func("sub").arg(1).kwarg("how", 2)).unwrap_err(),
        BuildError::Argument { .. }
    ));
    assert!(matches!(build(Target::func("sub").arg(1)).unwrap_err(), BuildError::MissingArguments { .. }));
    assert!(matches!(build(Target::func("sub").arg("x")).unwrap_err(), BuildError::Argument { .. }));
    assert!(matches!(build(Target::func("add")).unwrap_err(), BuildError::Target(_)));
}

fn p7_a_guest_sees_its_own_name_and_pid(method: StartMethod) {
    let mut process = started(builder("hello", "bob:0", method).name("Greeter").build().unwrap());
    process.join().unwrap();
    let said = format!("hello bob from Greeter (process {})", process.pid().unwrap());
    assert_eq!(process.result::<String>(), Some(said));
}

#[test]
fn p8_the_main_program_is_a_process_too() {
    let me = current_process();
    assert_eq!((me.name.as_str(), me.pid, me.daemon), ("MainProcess", std::process::id(), false));
}

#[test]
fn p9_processes_are_numbered() {
    let _bound = time_bound();
    let number = |process: &Process| process.name().strip_prefix("Process-").unwrap().parse::<u32>().unwrap();
    let unstarted = || hello(0, StartMethod::default());
    assert!(number(&unstarted()) < number(&unstarted()));
}

fn p10_names_need_not_be_unique(method: StartMethod) {
    let twin = || started(builder("hello", "bob:50", method).name("twin").build().unwrap());
    let (mut one, mut two) = (twin(), twin());
    assert_eq!((one.name(), two.name()), ("twin", "twin"));
    assert_eq!((one.join().unwrap().exitcode, two.join().unwrap().exitcode), (0, 0));
}

fn p12_p13_the_daemon_flag_is_settled_by_the_start(method: StartMethod) {
    let mut process = hello(0, method);
    assert!(!process.daemon());
    process.set_daemon(true).unwrap();
    assert!(process.daemon());
    process.start().unwrap();
    assert_eq!(process.set_daemon(false), Err(AlreadyStarted));
    assert!(process.daemon());
}

fn p16_a_process_is_started_once(method: StartMethod) {
    let mut process = started(hello(0, method));
    assert!(matches!(process.start(), Err(StartError::AlreadyStarted)));
    process.join().unwrap();
    assert!(matches!(process.start(), Err(StartError::AlreadyStarted)));
}

fn p18_p28_nothing_can_be_joined_or_ended_before_its_start(method: StartMethod) {
    let mut process = hello(0, method);
    assert_eq!(process.join(), Err(NotStarted));
    assert_eq!(process.join_timeout(Duration::ZERO), Err(NotStarted));
    assert_eq!(process.terminate(), Err(NotStarted));
    assert_eq!(process.kill(), Err(NotStarted));
    assert_eq!(process.interrupt(), Err(NotStarted));
    assert!(process.sentinel().is_err());
}

fn a_start_that_fails_can_be_tried_again(method: StartMethod) {
    let dir = support::temp_dir();
    let module = served_by("exit 3", dir.path());
    let (program, away) = (dir.path().join("program"), dir.path().join("away"));
    let mut process = Process::builder(&module)
        .target(Target::func("run").arg("bob"))
        .start_method(method)
        .build()
        .unwrap();
    std::fs::rename(&program, &away).unwrap();
    let refused = process.start().unwrap_err();
    assert!(
        matches!(&refused, StartError::Spawn { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    );
    assert_eq!(
        (process.join(), process.is_alive(), process.set_daemon(true)),
        (Err(NotStarted), false, Ok(()))
    );
    std::fs::rename(&away, &program).unwrap();
    process.start().unwrap();
    assert_eq!(process.join().unwrap().exitcode, 3);
}

// Join.

fn p19_join_with_zero_timeout_returns_at_once(method: StartMethod) {
    let mut process = started(looking(method));
    assert_eq!(process.join_timeout(Duration::ZERO), Ok(None));
    assert!(process.is_alive());
    process.interrupt().unwrap();
}

fn p20_join_waits_no_longer_than_its_timeout(method: StartMethod) {
    let mut process = started(looking(method));
    let asked = Instant::now();
    assert_eq!(process.join_timeout(Duration::from_millis(50)), Ok(None));
    assert!(asked.elapsed() >= Duration::from_millis(50));
    process.interrupt().unwrap();
    assert_eq!(process.join_timeout(Duration::MAX), Ok(Some(returned())));
}

fn p21_a_process_is_joined_any_number_of_times(method: StartMethod) {
    let mut process = started(hello(0, method));
    let first = process.join().unwrap();
    assert_eq!(process.join(), Ok(first.clone()));
    assert_eq!(process.join_timeout(Duration::ZERO), Ok(Some(first)));
}

fn p24_an_ended_process_is_reaped_without_being_asked_for(method: StartMethod) {
    let process = started(hello(0, method));
    let pid = process.pid().unwrap();
    wait_until("it is reaped", Duration::from_secs(20), || proc_state(pid).is_none());
    wait_until("that is known", Duration::from_secs(20), || process.exitcode() == Some(0));
}

// Terminate, kill, interrupt.

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
    // Whoever inherits it may take its time to reap it.
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
    let ended = |record| started(failing(record, method)).join().unwrap();
    assert_eq!(ended("good"), returned());
    let bad = ExitReason::Failed(TaskError::Failed { message: "bad is bad".to_owned() });
    assert_eq!(ended("bad"), ExitStatus { exitcode: 1, reason: bad });
    let trapped = ended("panic");
    assert!(matches!(
        trapped,
        ExitStatus { exitcode: 1, reason: ExitReason::Failed(TaskError::Trap { .. }) }
    ));
    let exited = ExitReason::Failed(TaskError::Exited { code: 1 });
    assert_eq!(ended("exit"), ExitStatus { exitcode: 1, reason: exited });
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

// Input and output.

fn p34_what_a_guest_prints_is_there_at_its_end(method: StartMethod) {
    let mut process = started(failing("panic", method));
    process.join().unwrap();
    assert!(String::from_utf8(process.stderr()).unwrap().contains("panic, as told"));
    assert_eq!(process.stdout(), b"");
}

fn what_a_guest_prints_is_passed_on_as_it_comes(method: StartMethod) {
    let (printed, heard) = std::sync::mpsc::channel();
    let process =
        builder("hello", "bob:60000", method).on_stdout(move |bytes| printed.send(bytes.to_vec()).unwrap());
    let mut process = started(process.build().unwrap());
    let said = heard.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(said.starts_with(process.name().as_bytes()) && process.is_alive());
    process.kill().unwrap();
    process.join().unwrap();
    assert_eq!(process.stdout(), b"", "it was taken");
}

fn a_sink_that_panics_does_not_hang_join(method: StartMethod) {
    let process = builder("hello", "bob:60000", method).on_stdout(|_| panic!("this panic is part of a test"));
    let mut process = started(process.build().unwrap());
    let status = process.join().unwrap();
    assert!(matches!(
        status,
        ExitStatus { exitcode: -9, reason: ExitReason::Failed(TaskError::Broken { .. }) }
    ));
    assert_gone(&[process.pid().unwrap()]);
}

fn a_sink_whose_end_panics_does_not_hang_join(method: StartMethod) {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("this panic is part of a test");
        }
    }
    let panics = Panics;
    let process = builder("hello", "bob:0", method).on_stdout(move |_| assert_eq!(size_of_val(&panics), 0));
    assert_eq!(started(process.build().unwrap()).join().unwrap(), returned());
}

fn p36_a_guest_reads_the_input_it_is_given_or_none(method: StartMethod) {
    let command = |arg| {
        Process::builder(&guest("args")).target(Target::default().argv(["args", arg])).start_method(method)
    };
    for (input, said) in [("two\nthree", "one\ntwo\nthree"), ("", "one\n")] {
        let mut process = started(command("one").input(input).build().unwrap());
        assert_eq!(process.join().unwrap(), returned());
        assert_eq!(String::from_utf8(process.stdout()).unwrap(), said);
    }
    let mut process = started(command("3").build().unwrap());
    let status = process.join().unwrap();
    assert_eq!((status.exitcode, process.stdout().as_slice()), (1, &b"3\n"[..]));
}

fn a_large_input_and_a_large_output(method: StartMethod) {
    let total = Arc::new(Mutex::new(0));
    let counted = total.clone();
    let process =
        Process::builder(&guest("args")).target(Target::default().argv(["args"])).input(vec![b'x'; 20 << 20]);
    let process =
        process.on_stdout(move |bytes| *counted.lock().unwrap() += bytes.len()).start_method(method);
    let mut process = started(process.build().unwrap());
    assert_eq!(process.join().unwrap(), returned());
    assert_eq!(*total.lock().unwrap(), 20 << 20);
}

#[test]
fn an_input_over_its_limit_is_refused() {
    let _bound = time_bound();
    let mut limits = Limits::default();
    limits.input = 3;
    let build = |input: &str| Process::builder(&guest("upper")).input(input).limits(limits.clone()).build();
    assert!(build("abc").is_ok());
    assert!(build("abcd").unwrap_err().to_string().contains("over the limit of 3 bytes"));
}

// The sentinel.

/// Which of the processes have ended, within so many seconds.
fn ended(processes: &[&Process], secs: i64) -> Vec<bool> {
    let fds = processes.iter().map(|p| PollFd::from_borrowed_fd(p.sentinel().unwrap(), PollFlags::IN));
    let mut fds: Vec<PollFd<'_>> = fds.collect();
    rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: secs, tv_nsec: 0 })).unwrap();
    fds.iter().map(|fd| !fd.revents().is_empty()).collect()
}

fn p38_the_sentinel_is_readable_once_it_has_ended(method: StartMethod) {
    let mut process = started(looking(method));
    assert_eq!(ended(&[&process], 0), [false]);
    process.interrupt().unwrap();
    assert_eq!(ended(&[&process], 20), [true]);
    process.join().unwrap();
    assert_eq!(ended(&[&process], 0), [true]);
}

fn p39_a_wait_for_several_sentinels_tells_which_has_ended(method: StartMethod) {
    let (mut one, mut two) = (started(looking(method)), started(looking(method)));
    two.interrupt().unwrap();
    assert_eq!(ended(&[&one, &two], 20), [false, true]);
    one.interrupt().unwrap();
    one.join().unwrap();
    assert_eq!(ended(&[&one, &two], 0), [true, true]);
}

// Close.

fn p40_a_living_process_is_not_closed(method: StartMethod) {
    let process = started(looking(method));
    let mut process = process.close().unwrap_err();
    assert!(process.is_alive());
    process.interrupt().unwrap();
    process.join().unwrap();
    process.close().unwrap();
    hello(0, method).close().unwrap();
}

fn p42_a_closed_process_leaves_no_descriptor(method: StartMethod) {
    let (before, after) = numbers(&processes("descriptors", method));
    assert_eq!(before, after);
}

fn p43_the_module_is_let_go_at_the_start(method: StartMethod) {
    assert_eq!(numbers(&processes("references", method)), ("1".to_owned(), "0".to_owned()));
}

/// The last line: `A then B`.
#[track_caller]
fn numbers(output: &Output) -> (String, String) {
    let stdout = std::str::from_utf8(&output.stdout).unwrap();
    let line = stdout.lines().last().and_then(|line| line.split_once(" then "));
    let (before, after) = line.unwrap_or_else(|| panic!("{output:?}"));
    (before.to_owned(), after.to_owned())
}

fn p44_a_worker_has_no_more_descriptors_for_having_siblings(method: StartMethod) {
    let module = guest("hello");
    let sleeper = || {
        let process = Process::builder(&module).target(Target::func("run").arg("bob:60000")).daemon(true);
        let process = started(process.start_method(method).build().unwrap());
        at_work(&process);
        process
    };
    let inheritable = support::Inheritable::new();
    let all: Vec<Process> = (0..8).map(|_| sleeper()).collect();
    let counts: Vec<usize> =
        all.iter().filter_map(|process| Some(support::descriptors(process.pid()?)?.len())).collect();
    assert!(counts.iter().all(|count| *count == counts[0] && *count < 12), "{counts:?}");
    // What everybody may see.
    inheritable.assert_not_inherited();
}

// The end of this program.

/// Has the program `processes` do something with processes.
fn processes_command(what: &str, method: StartMethod) -> Command {
    let mut command = Command::new(example("processes"));
    let method = if method == StartMethod::Spawn { "spawn" } else { "forkserver" };
    command
        .args([what, method])
        .args(["hello", "failing"].map(|name| repo(&format!("guest/prebuilt/{name}.wasm"))));
    command.env("WPOOL_CACHE_DIR", support::cache_dir());
    command
}

/// Waits for its end, after which none of its processes may be left.
#[track_caller]
fn processes(what: &str, method: StartMethod) -> Output {
    let child =
        processes_command(what, method).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert_no_workers(pid);
    output
}

/// How often a guest has said who it is.
fn said(output: &Output) -> usize {
    std::str::from_utf8(&output.stdout).unwrap().lines().filter(|line| line.contains("(process ")).count()
}

fn p15_dropping_a_daemon_kills_it_and_dropping_another_waits(method: StartMethod) {
    let mut daemon = hello(60_000, method);
    daemon.set_daemon(true).unwrap();
    let daemon = started(daemon);
    at_work(&daemon);
    let pid = daemon.pid().unwrap();
    drop(daemon);
    assert_gone(&[pid]);

    let asked = Instant::now();
    let process = started(hello(300, method));
    let pid = process.pid().unwrap();
    drop(process);
    assert!(asked.elapsed() >= Duration::from_millis(300));
    assert_gone(&[pid]);
    drop(hello(0, method));
}

fn p15_at_the_end_of_main_daemons_are_killed(method: StartMethod) {
    let output = processes("leak-daemon", method);
    assert_eq!(output.status.code(), Some(0));
    let pids: Vec<u32> =
        String::from_utf8(output.stderr).unwrap().lines().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    assert_gone(&pids);
}

fn p15_at_the_end_of_main_others_are_waited_for(method: StartMethod) {
    let started = Instant::now();
    let output = processes("leak", method);
    assert_eq!((output.status.code(), said(&output)), (Some(0), 1), "{output:?}");
    assert!(started.elapsed() >= Duration::from_millis(300));
}

fn p15_exit_and_panic_are_ends_of_main_too(method: StartMethod) {
    for (what, code) in [("leak-and-exit", 7), ("leak-and-panic", 101)] {
        let started = Instant::now();
        let output = processes(what, method);
        assert_eq!((output.status.code(), said(&output)), (Some(code), 1), "{output:?}");
        assert!(started.elapsed() >= Duration::from_millis(300));
    }
}

fn p15_an_exit_while_output_is_taken_waits_for_nothing(method: StartMethod) {
    let output = processes("exit-in-a-sink", method);
    assert_eq!(output.status.code(), Some(8), "{output:?}");
}

fn p35_closed_output_changes_no_exit_code(method: StartMethod) {
    let output = under_shell("exec \"$@\" >&- 2>&-", &processes_command("leak", method));
    assert_eq!(output.status.code(), Some(0));
}

/// Has a shell run the command in its own way.
fn under_shell(script: &str, command: &Command) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.output().unwrap()
}

#[test]
fn p45_there_is_no_parent_process_here() {
    assert_eq!(parent_process(), None);
}

fn p45_processes_die_with_a_killed_parent_idle_and_busy(method: StartMethod) {
    let mut parent = processes_command("hold", method)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let parent = parent.as_mut().unwrap();
    let mut pids = std::io::BufRead::lines(std::io::BufReader::new(parent.stderr.take().unwrap()));
    let pids = [(); 2].map(|()| pids.next().unwrap().unwrap().parse::<u32>().unwrap());
    // The one that sleeps has said who it is, the other computes.
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(parent.stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains("(process ")));
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_until("all are gone", Duration::from_secs(2), || {
        pids.iter().all(|pid| !matches!(proc_state(*pid), Some('R' | 'S' | 'D' | 'T')))
    });
    assert_no_workers(parent.id());
}

fn a_program_that_reaps_all_children_learns_what_its_processes_said(method: StartMethod) {
    // Where SIGCHLD is ignored, the kernel reaps, and nobody learns how a process has ended.
    let output = under_shell("exec env --ignore-signal=CHLD \"$@\"", &processes_command("end-codes", method));
    assert_eq!(numbers(&output), (wpool::process::ExitStatus::UNKNOWN.to_string(), "0".to_owned()));
}

// The fork server.

fn hello_of(module: &wpool::Module, millis: u64) -> Process {
    let target = Target::func("run").arg(format!("bob:{millis}"));
    Process::builder(module)
        .target(target)
        .daemon(true)
        .start_method(StartMethod::Forkserver)
        .build()
        .unwrap()
}

/// The process that has forked this one, whose session it shares.
fn zygote_of(process: &Process) -> u32 {
    let pid = Pid::from_raw(i32::try_from(process.pid().unwrap()).unwrap());
    rustix::process::getsid(pid).unwrap().as_raw_nonzero().get().unsigned_abs()
}

#[test]
fn p46_a_killed_zygote_is_replaced_on_the_next_need() {
    let _bound = time_bound();
    let module = guest("hello");
    let mut first = started(hello_of(&module, 60_000));
    let zygote = zygote_of(&first);
    let second = started(hello_of(&module, 60_000));
    assert_eq!(zygote_of(&second), zygote, "one serves them all");

    support::signal(zygote, Signal::INT);
    assert_eq!(started(hello_of(&module, 0)).join().unwrap(), returned());
    support::signal(zygote, Signal::KILL);
    let mut third = started(hello_of(&module, 60_000));
    assert_ne!(zygote_of(&third), zygote);
    assert_gone(&[zygote]);
    assert!(first.is_alive() && second.is_alive(), "its death costs nobody anything");
    at_work(&third);
    first.terminate().unwrap();
    third.terminate().unwrap();
    assert_eq!((first.join().unwrap(), third.join().unwrap()), (signaled(15), signaled(15)));
}

#[test]
fn p46_a_zygote_that_hangs_is_replaced_too() {
    let _bound = time_bound();
    let module = guest("hello");
    let process = started(hello_of(&module, 60_000));
    let zygote = zygote_of(&process);
    support::signal(zygote, Signal::STOP);
    let target = Target::func("run").arg("bob:0");
    let late = Process::builder(&module).target(target).start_method(StartMethod::Forkserver);
    let refused = late.start_timeout(Duration::from_millis(50)).build().unwrap().start().unwrap_err();
    assert!(
        matches!(refused, StartError::Spawn { source, .. } if source.kind() == std::io::ErrorKind::TimedOut)
    );
    assert_eq!(started(hello_of(&module, 0)).join().unwrap(), returned());
    assert_gone(&[zygote]);
    assert!(process.is_alive());
}

#[test]
fn p46_a_zygote_ends_with_the_last_that_needs_it() {
    let _bound = time_bound();
    let module = guest("hello");
    let process = started(hello_of(&module, 60_000));
    let zygote = zygote_of(&process);
    drop(module);
    assert!(proc_state(zygote).is_some() && process.is_alive());
    drop(process);
    assert_gone(&[zygote]);
}

#[test]
fn p46_zygotes_that_are_not_used_do_not_pile_up() {
    let _bound = time_bound();
    let module = guest("hello");
    let zygotes: Vec<u32> = (0..12)
        .map(|n| {
            let target = Target::func("run").arg("bob:60000");
            let mut limits = Limits::default();
            limits.output += n;
            let process = Process::builder(&module).target(target).limits(limits).daemon(true);
            zygote_of(&started(process.start_method(StartMethod::Forkserver).build().unwrap()))
        })
        .collect();
    let alive = || zygotes.iter().filter(|pid| proc_state(**pid).is_some()).count();
    wait_until("most are gone", Duration::from_secs(2), || alive() <= 4);
    assert!(alive() > 0, "some are kept for the next need");
    drop(module);
    assert_gone(&zygotes);
}

#[test]
fn p47_nobody_else_can_reach_a_zygote() {
    let _bound = time_bound();
    let module = guest("hello");
    let process = started(hello_of(&module, 60_000));
    let zygote = zygote_of(&process);
    // Whatever we are connected with, nobody else can connect to.
    let me =
        rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty()).unwrap();
    for fd in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let number = fd.file_name().to_str().unwrap().parse().unwrap();
        // It may be another test's, and closed by now.
        let Ok(fd) = rustix::process::pidfd_getfd(&me, number, rustix::process::PidfdGetfdFlags::empty())
        else {
            continue;
        };
        if let Ok(Some(peer)) = rustix::net::getpeername(&fd)
            && let Ok(peer) = rustix::net::SocketAddrUnix::try_from(peer)
        {
            let name = [peer.path_bytes(), peer.abstract_name()].map(Option::unwrap_or_default).concat();
            assert!(name.iter().all(|byte| *byte == 0), "{peer:?}");
        }
    }
    if support::descriptors(zygote).is_none() {
        return;
    }
    let sockets = || -> Vec<String> {
        let links = support::descriptors(zygote).unwrap_or_default();
        let links = links.iter().filter_map(|link| link.to_str());
        links.filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect()
    };
    // It closes the worker's after it has told us.
    wait_until("it has its connection with us alone", Duration::from_secs(20), || sockets().len() == 1);
    let sockets = sockets();
    let table = std::fs::read_to_string("/proc/net/unix").unwrap();
    let row = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    let row = row.into_iter().find(|row| row.get(6) == Some(&sockets[0].as_str())).unwrap();
    assert_eq!(row.len(), 7, "a name would be the eighth column: {row:?}");
}

/// The guest `hello`, whose workers are another program.
fn served_by(script: &str, dir: &Path) -> wpool::Module {
    // Compiled by the right program, and found in the cache.
    drop(guest("hello"));
    support::loader()
        .program(support::script(dir, "program", script))
        .load(repo("guest/prebuilt/hello.wasm"))
        .unwrap()
}

fn a_worker_that_ends_without_a_word_is_reported(method: StartMethod) {
    let dir = support::temp_dir();
    let mut process =
        Process::builder(&served_by("exit 3", dir.path())).target(Target::func("run").arg("bob"));
    process = process.start_method(method);
    let status = started(process.build().unwrap()).join().unwrap();
    assert_eq!(status, ExitStatus { exitcode: 3, reason: ExitReason::Exited(3) });
}

fn f105_a_worker_whose_socket_outlives_it_has_ended(method: StartMethod) {
    let dir = support::temp_dir();
    // Something that it has started holds its end of the socket.
    let module = served_by("exec 3<&0; sleep 10 & exit 3", dir.path());
    let process = Process::builder(&module)
        .target(Target::func("run").arg("bob"))
        .start_method(method)
        .build()
        .unwrap();
    let asked = Instant::now();
    assert_eq!(started(process).join().unwrap().exitcode, 3);
    assert!(asked.elapsed() < Duration::from_secs(10));
}

#[test]
fn f105_a_worker_that_closes_its_socket_and_goes_on_is_killed() {
    let _bound = time_bound();
    let dir = support::temp_dir();
    let process =
        Process::builder(&served_by("exec sleep 50 <&-", dir.path())).target(Target::func("run").arg("bob"));
    let status = started(process.start_method(StartMethod::Spawn).build().unwrap()).join().unwrap();
    assert_eq!(status.exitcode, -9);
    assert!(matches!(status.reason, ExitReason::Failed(TaskError::Broken { .. })), "{status:?}");
}

fn a_worker_that_does_not_get_ready_is_killed(method: StartMethod) {
    let dir = support::temp_dir();
    let module = served_by("exec sleep 60", dir.path());
    let process = Process::builder(&module).target(Target::func("run").arg("bob")).start_method(method);
    let mut process = process.start_timeout(Duration::from_millis(100)).build().unwrap();
    match (process.start(), method) {
        (Ok(()), _) => {
            let ExitStatus { exitcode, reason } = process.join().unwrap();
            assert_eq!(exitcode, -9);
            let reason = format!("{reason:?}");
            assert!(reason.contains("it was not ready after 100ms"), "{reason}");
        }
        // Where there is nothing yet that could be killed.
        (Err(StartError::Spawn { source, .. }), StartMethod::Forkserver) => {
            assert_eq!(source.kind(), std::io::ErrorKind::TimedOut);
        }
        (Err(other), _) => panic!("{other}"),
    }
    assert!(!process.is_alive());
}

fn f69_a_process_lives_on_when_the_thread_that_started_it_ends(method: StartMethod) {
    let mut process = std::thread::spawn(move || started(hello(300, method))).join().unwrap();
    assert_eq!(process.join().unwrap(), returned());
}

// What is left.

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

/// Has `SIGUSR1` interrupt whatever a thread waits for: it has a handler, and what it interrupts is not restarted.
#[expect(unsafe_code, reason = "what sets handlers without unsafe code has them restart what they interrupt")]
fn handle_sigusr1() {
    extern "C" fn nothing(_signal: libc::c_int) {}
    // SAFETY: an all-zero sigaction is valid and has no flags; the handler does nothing; the old action is not asked for.
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
    // Of this thread only.
    let mut one = rustix::thread::CpuSet::new();
    let mine = rustix::thread::sched_getaffinity(None).unwrap();
    one.set((0..rustix::thread::CpuSet::MAX_CPU).find(|cpu| mine.is_set(*cpu)).unwrap());
    rustix::thread::sched_setaffinity(None, &one).unwrap();
    assert_eq!(cpu_count(), 1);
}
