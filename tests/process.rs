//! One worker process at a time: items P1 to P48 of Python's contract, as far as they make sense here.

mod support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;
use support::{assert_gone, guest, proc_state, time_bound, time_bound_of, wait_until, wat};
use wpool::{
    AlreadyStarted, BuildError, ExitReason, ExitStatus, Limit, NotStarted, Process, StartError, Target, TaskError,
    active_children, current_process,
};

/// Says hello after that many milliseconds.
fn hello(millis: u64) -> Process {
    Process::builder(&guest("hello")).target(Target::func("run").arg(format!("bob:{millis}"))).build().unwrap()
}

fn failing(record: &str) -> Process {
    Process::builder(&guest("failing")).target(Target::func("run").arg(record)).build().unwrap()
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

#[test]
fn p1_a_new_process_has_neither_pid_nor_exitcode() {
    let process = hello(0);
    assert_eq!((process.pid(), process.exitcode(), process.is_alive()), (None, None, false));
    assert_eq!(process.exit_status(), None);
}

#[test]
fn p2_p3_a_process_is_alive_from_start_to_join() {
    let _bound = time_bound();
    let mut process = started(hello(300));
    assert!(process.is_alive() && process.exitcode().is_none() && is_active(&process));
    let status = process.join().unwrap();
    assert_eq!(status, ExitStatus { exitcode: 0, reason: ExitReason::Returned });
    assert_eq!((process.exitcode(), process.is_alive(), is_active(&process)), (Some(0), false, false));
    assert!(process.result::<String>().unwrap().starts_with("hello bob from "));
}

#[test]
fn p4_arguments_arrive_as_they_are_given() {
    let _bound = time_bound();
    let module = support::loader().load(support::repo("guest/examples/wat/add.wat")).unwrap();
    let mut process = started(Process::builder(&module).target(Target::func("add").arg(40).arg(2)).build().unwrap());
    process.join().unwrap();
    assert_eq!(process.result::<i32>(), Some(42));
    assert_eq!(process.result_bytes().as_deref(), Some(&b"42"[..]));
    assert_eq!(process.result::<String>(), None, "a number is no text");
}

#[test]
fn p5_keyword_arguments_arrive_by_name() {
    let _bound = time_bound();
    let text = r#"(component
        (core module $m (func (export "sub") (param i32 i32) (result i32) (i32.sub (local.get 0) (local.get 1))))
        (core instance $i (instantiate $m))
        (func (export "sub") (param "from" s32) (param "what" s32) (result s32) (canon lift (core func $i "sub"))))"#;
    let build = |target| Process::builder(&wat(text)).target(target).build();
    let mut process = started(build(Target::func("sub").kwarg("what", 2).kwarg("from", 9)).unwrap());
    process.join().unwrap();
    assert_eq!(process.result::<i32>(), Some(7));
    assert!(matches!(build(Target::func("sub").arg(1).kwarg("how", 2)).unwrap_err(), BuildError::Argument { .. }));
    assert!(matches!(build(Target::func("sub").arg(1)).unwrap_err(), BuildError::MissingArguments { .. }));
    assert!(matches!(build(Target::func("sub").arg("x")).unwrap_err(), BuildError::Argument { .. }));
    assert!(matches!(build(Target::func("add")).unwrap_err(), BuildError::Target(_)));
}

#[test]
fn p7_a_guest_sees_its_own_name_and_pid() {
    let _bound = time_bound();
    let module = guest("hello");
    let target = Target::func("run").arg("bob:0");
    let mut process = started(Process::builder(&module).target(target).name("Greeter").build().unwrap());
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
    let number = |process: &Process| process.name().strip_prefix("Process-").unwrap().parse::<u32>().unwrap();
    assert!(number(&hello(0)) < number(&hello(0)));
}

#[test]
fn p10_names_need_not_be_unique() {
    let _bound = time_bound();
    let build = || Process::builder(&guest("hello")).target(Target::func("run").arg("bob:50")).name("twin").build();
    let (mut one, mut two) = (started(build().unwrap()), started(build().unwrap()));
    assert_eq!((one.name(), two.name()), ("twin", "twin"));
    assert_eq!((one.join().unwrap().exitcode, two.join().unwrap().exitcode), (0, 0));
}

#[test]
fn p12_p13_the_daemon_flag_is_settled_by_the_start() {
    let _bound = time_bound();
    let mut process = hello(0);
    assert!(!process.daemon());
    process.set_daemon(true).unwrap();
    assert!(process.daemon());
    process.start().unwrap();
    assert_eq!(process.set_daemon(false), Err(AlreadyStarted));
    assert!(process.daemon());
}

#[test]
fn p15_dropping_a_daemon_kills_it_and_dropping_another_waits() {
    let _bound = time_bound();
    let mut daemon = hello(60_000);
    daemon.set_daemon(true).unwrap();
    let daemon = started(daemon);
    at_work(&daemon);
    let (pid, dropped) = (daemon.pid().unwrap(), Instant::now());
    drop(daemon);
    assert!(dropped.elapsed() < Duration::from_secs(2));
    assert_gone(&[pid]);

    let asked = Instant::now();
    let process = started(hello(300));
    let pid = process.pid().unwrap();
    drop(process);
    assert!(asked.elapsed() >= Duration::from_millis(300));
    assert_gone(&[pid]);
    drop(hello(0));
}

#[test]
fn p16_a_process_is_started_once() {
    let _bound = time_bound();
    let mut process = started(hello(0));
    assert!(matches!(process.start(), Err(StartError::AlreadyStarted)));
    process.join().unwrap();
    assert!(matches!(process.start(), Err(StartError::AlreadyStarted)));
}

#[test]
fn p18_p28_nothing_can_be_joined_or_ended_before_its_start() {
    let mut process = hello(0);
    assert_eq!(process.join(), Err(NotStarted));
    assert_eq!(process.join_timeout(Duration::ZERO), Err(NotStarted));
    assert_eq!(
        (process.terminate(), process.kill(), process.interrupt()),
        (Err(NotStarted), Err(NotStarted), Err(NotStarted))
    );
    assert!(process.sentinel().is_err());
}

#[test]
fn p19_join_with_zero_timeout_returns_at_once() {
    let _bound = time_bound();
    let mut process = started(hello(60_000));
    assert_eq!(process.join_timeout(Duration::ZERO), Ok(None));
    assert!(process.is_alive());
    process.kill().unwrap();
}

#[test]
fn p20_join_waits_no_longer_than_its_timeout() {
    let _bound = time_bound();
    let mut process = started(hello(60_000));
    let asked = Instant::now();
    assert_eq!(process.join_timeout(Duration::from_millis(50)), Ok(None));
    assert!(asked.elapsed() >= Duration::from_millis(50));
    process.kill().unwrap();
    assert_eq!(process.join_timeout(Duration::MAX).unwrap().unwrap().exitcode, -9);
}

#[test]
fn p21_a_process_is_joined_any_number_of_times() {
    let _bound = time_bound();
    let mut process = started(hello(0));
    let first = process.join().unwrap();
    assert_eq!(process.join(), Ok(first.clone()));
    assert_eq!(process.join_timeout(Duration::ZERO), Ok(Some(first)));
}

#[test]
fn p24_an_ended_process_is_reaped_without_being_asked_for() {
    let _bound = time_bound();
    let process = started(hello(0));
    let pid = process.pid().unwrap();
    wait_until("it is reaped", Duration::from_secs(20), || proc_state(pid).is_none());
    assert_eq!(process.exitcode(), Some(0));
}

#[test]
fn p25_terminate_gives_minus_15() {
    let _bound = time_bound();
    let mut process = started(hello(60_000));
    at_work(&process);
    process.terminate().unwrap();
    let ended = process.join().unwrap();
    assert_eq!(ended, ExitStatus { exitcode: -15, reason: ExitReason::Signaled(15) });
    // Also in the midst of a computation.
    let mut process = started(failing("loop"));
    process.terminate().unwrap();
    assert_eq!(process.join().unwrap().exitcode, -15);
}

#[test]
fn p26_kill_gives_minus_9() {
    let _bound = time_bound();
    let mut process = started(hello(60_000));
    process.kill().unwrap();
    assert_eq!(process.join().unwrap(), ExitStatus { exitcode: -9, reason: ExitReason::Signaled(9) });
}

#[test]
fn p27_ending_what_has_ended_changes_nothing() {
    let _bound = time_bound();
    let mut process = started(hello(60_000));
    process.kill().unwrap();
    process.kill().unwrap();
    process.join().unwrap();
    process.terminate().unwrap();
    process.interrupt().unwrap();
    assert_eq!(process.exitcode(), Some(-9));
}

#[test]
fn p32_many_processes_at_once() {
    let _bound = time_bound_of(Duration::from_secs(120));
    let mut sleepers: Vec<Process> = (0..20).map(|_| started(hello(10))).collect();
    assert!(sleepers.iter_mut().all(|p| p.join().unwrap().exitcode == 0));
    let mut sleepers: Vec<Process> = (0..20).map(|_| started(hello(60_000))).collect();
    // A signal may come before the process has set how it takes it.
    sleepers.iter().for_each(at_work);
    sleepers.iter_mut().for_each(|p| p.terminate().unwrap());
    assert!(sleepers.iter_mut().all(|p| p.join().unwrap().exitcode == -15));
}

#[test]
fn p33_exit_codes_tell_how_it_ended() {
    let _bound = time_bound();
    let ended = |record| started(failing(record)).join().unwrap();
    assert_eq!(ended("good").exitcode, 0);
    let bad = ExitReason::Failed(TaskError::Failed { message: "bad is bad".to_owned() });
    assert_eq!(ended("bad"), ExitStatus { exitcode: 1, reason: bad });
    let trapped = ended("panic");
    assert!(matches!(trapped, ExitStatus { exitcode: 1, reason: ExitReason::Failed(TaskError::Trap { .. }) }));
    let exited = ExitReason::Failed(TaskError::Exited { code: 1 });
    assert_eq!(ended("exit"), ExitStatus { exitcode: 1, reason: exited });
}

#[test]
fn p34_what_a_guest_prints_is_kept() {
    let _bound = time_bound();
    let mut process = started(failing("panic"));
    process.join().unwrap();
    assert!(String::from_utf8(process.stderr()).unwrap().contains("panic, as told"));
    assert_eq!(process.stdout(), b"");
}

#[test]
fn what_a_guest_prints_is_passed_on_as_it_comes() {
    let _bound = time_bound();
    let (printed, heard) = std::sync::mpsc::channel();
    let target = Target::func("run").arg("bob:60000");
    let process =
        Process::builder(&guest("hello")).target(target).on_stdout(move |bytes| printed.send(bytes.to_vec()).unwrap());
    let mut process = started(process.build().unwrap());
    let said = heard.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(said.starts_with(process.name().as_bytes()) && process.is_alive());
    process.kill().unwrap();
    process.join().unwrap();
    assert_eq!(process.stdout(), b"", "it was taken");
}

#[test]
fn a_sink_that_panics_does_not_hang_join() {
    let _bound = time_bound();
    let target = Target::func("run").arg("bob:60000");
    let process =
        Process::builder(&guest("hello")).target(target).on_stdout(|_| panic!("this panic is part of a test"));
    let mut process = started(process.build().unwrap());
    let status = process.join().unwrap();
    assert!(matches!(status, ExitStatus { exitcode: -9, reason: ExitReason::Failed(TaskError::Broken { .. }) }));
    assert_gone(&[process.pid().unwrap()]);
}

#[test]
fn p36_a_guest_reads_the_input_it_is_given_or_none() {
    let _bound = time_bound();
    for (input, said) in [("two\nthree", "one\ntwo\nthree"), ("", "one\n")] {
        let target = Target::default().argv(["args", "one"]);
        let mut process = started(Process::builder(&guest("args")).target(target).input(input).build().unwrap());
        assert_eq!(process.join().unwrap().exitcode, 0);
        assert_eq!(String::from_utf8(process.stdout()).unwrap(), said);
    }
    let target = Target::default().argv(["args", "3"]);
    let mut process = started(Process::builder(&guest("args")).target(target).build().unwrap());
    let status = process.join().unwrap();
    assert_eq!((status.exitcode, process.stdout().as_slice()), (1, &b"3\n"[..]));
}

#[test]
fn a_large_input_and_a_large_output() {
    let _bound = time_bound();
    let total = Arc::new(Mutex::new(0));
    let counted = total.clone();
    let process = Process::builder(&guest("args")).target(Target::default().argv(["args"])).input(vec![b'x'; 20 << 20]);
    let process = process.on_stdout(move |bytes| *counted.lock().unwrap() += bytes.len());
    let mut process = started(process.build().unwrap());
    assert_eq!(process.join().unwrap().exitcode, 0);
    assert_eq!(*total.lock().unwrap(), 20 << 20);
}

#[test]
fn p38_the_sentinel_is_readable_once_it_has_ended() {
    let _bound = time_bound();
    let mut process = started(hello(60_000));
    let ready = |process: &Process, secs| {
        let mut fds = [PollFd::from_borrowed_fd(process.sentinel().unwrap(), PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: secs, tv_nsec: 0 })).unwrap()
    };
    assert_eq!(ready(&process, 0), 0);
    process.kill().unwrap();
    assert_eq!(ready(&process, 20), 1);
    process.join().unwrap();
    assert_eq!(ready(&process, 0), 1);
}

#[test]
fn p40_a_living_process_is_not_closed() {
    let _bound = time_bound();
    let process = started(hello(60_000));
    let mut process = process.close().unwrap_err();
    assert!(process.is_alive());
    process.kill().unwrap();
    process.join().unwrap();
    process.close().unwrap();
    hello(0).close().unwrap();
}

#[test]
fn p48_debug_shows_name_pid_parent_and_state() {
    let _bound = time_bound();
    let parent = std::process::id();
    let target = Target::func("run").arg("bob:60000");
    let mut process = Process::builder(&guest("hello")).target(target).name("W").daemon(true).build().unwrap();
    assert_eq!(format!("{process:?}"), format!("<Process name=\"W\" parent={parent} initial daemon>"));
    process.start().unwrap();
    let pid = process.pid().unwrap();
    assert_eq!(format!("{process:?}"), format!("<Process name=\"W\" pid={pid} parent={parent} started daemon>"));
    at_work(&process);
    process.terminate().unwrap();
    process.join().unwrap();
    let stopped = format!("<Process name=\"W\" pid={pid} parent={parent} stopped exitcode=-SIGTERM daemon>");
    assert_eq!(format!("{process:?}"), stopped);
    let mut process = started(failing("bad"));
    process.join().unwrap();
    assert!(format!("{process:?}").ends_with(" stopped exitcode=1>"));
}

#[test]
fn p51_interrupted_waits_go_on() {
    let _bound = time_bound();
    let mut process = started(hello(400));
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let storm = {
        let done = done.clone();
        let me = std::process::id();
        // SIGCONT interrupts waits and does nothing else.
        std::thread::spawn(move || {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                support::signal(me, Signal::CONT);
                std::thread::sleep(Duration::from_millis(1));
            }
        })
    };
    assert_eq!(process.join().unwrap().exitcode, 0);
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    storm.join().unwrap();
}

#[test]
fn a_time_limit_ends_a_process() {
    let _bound = time_bound();
    let mut limits = wpool::Limits::default();
    limits.time = Some(Duration::from_millis(200));
    for (module, record, exitcode) in [("failing", "loop", 1), ("hello", "bob:60000", -9)] {
        let target = Target::func("run").arg(record);
        let mut process =
            started(Process::builder(&guest(module)).target(target).limits(limits.clone()).build().unwrap());
        let status = process.join().unwrap();
        assert_eq!(status.exitcode, exitcode);
        assert!(matches!(status.reason, ExitReason::Failed(TaskError::Limit { limit: Limit::Time, .. })), "{status:?}");
    }
    limits.time = Some(Duration::MAX);
    let target = Target::func("run").arg("good");
    let mut process = started(Process::builder(&guest("failing")).target(target).limits(limits).build().unwrap());
    assert_eq!(process.join().unwrap().exitcode, 0);
}

#[test]
fn f69_a_process_lives_on_when_the_thread_that_started_it_ends() {
    let _bound = time_bound();
    let mut process = std::thread::spawn(|| started(hello(300))).join().unwrap();
    assert_eq!(process.join().unwrap().exitcode, 0);
}
