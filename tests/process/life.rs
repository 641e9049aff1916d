//! From the beginning to the end of a process, and joining it.

use super::*;

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
    }
    processes {
        p7_a_guest_sees_its_own_name_and_pid
        p24_an_ended_process_is_reaped_without_being_asked_for
        a_start_that_fails_can_be_tried_again
    }
}

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
