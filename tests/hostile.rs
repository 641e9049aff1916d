//! Hostile guests, through the real binary: each ends as the first line of its file says, within its limit,
//! and costs its own task only.
//!
//! The guests are in `tests/hostile`; those that are too large to store are made in `tests/bombs.rs`. The
//! variable `WPOOL_HOSTILE_DIR` names a directory of more of them, in the same form.

mod support;

#[path = "support/hostile_guests.rs"]
mod hostile_guests;

use std::time::Duration;

use hostile_guests::*;
use support::command;
use support::{Ended, Scene, run_in, time_bound_of};

#[test]
fn guests_end_as_they_should() {
    check_all(|_, form| matches!(form, Form::AsIs | Form::Bare), &[]);
}

#[test]
fn guests_in_an_interface_end_as_they_should() {
    check_all(|_, form| form == Form::Interface, &[]);
}

#[test]
fn guests_cost_the_tasks_of_their_records_only() {
    check_all(|_, form| form == Form::Sometimes, &[]);
}

#[test]
fn guests_whose_instances_are_kept_cost_the_tasks_of_their_records_only() {
    check_all(|_, form| form == Form::Sometimes, &["--reuse"]);
}

#[test]
fn guests_in_executed_workers_end_as_they_should() {
    let is_quick = |guest: &Guest| !guest.expect.classes.contains(&Class::Timeout);
    check_all(
        |guest, form| matches!(form, Form::AsIs | Form::Sometimes) && is_quick(guest),
        &["--start-method", "spawn"],
    );
}

/// A thread that blocks in the host cannot be stopped there: see `--help`.
#[test]
fn guests_in_threads_end_as_they_should() {
    let is_quick = |guest: &Guest| !guest.expect.classes.contains(&Class::Timeout);
    check_all(|guest, form| matches!(form, Form::AsIs | Form::Sometimes) && is_quick(guest), &["--threads"]);
}

// The rows of the table of faults, one by one: what is said, and what else must hold.

/// Runs the records in one worker, with results as JSON.
#[track_caller]
fn tasks_of(number: &str, form: Form, records: &[&str], options: &[&str]) -> Vec<Task> {
    let scene = Scene::new();
    let options = [options, &["-j", "1"]].concat();
    let tasks = tasks(&run(&scene, &guest(number), form, records, &options));
    assert_eq!(tasks.len(), records.len());
    tasks
}

/// The same, told as text.
#[track_caller]
fn told(scene: &Scene, number: &str, form: Form, records: &[&str], options: &[&str]) -> Ended {
    let one: &[&str] = if options.contains(&"-j") { &[] } else { &["-j", "1"] };
    let options = [one, &["--format", "text"], options].concat();
    run(scene, &guest(number), form, records, &options)
}

/// Every task fails in these words, and the worker lives on.
#[track_caller]
fn all_fail_with(number: &str, kind: &str, message: &str) {
    let form = if guest(number).is_lowered() { Form::Bare } else { Form::AsIs };
    let tasks = tasks_of(number, form, &["one", "two", "three"], &[]);
    for task in &tasks {
        assert_eq!((task.kind.as_str(), task.message.as_str()), (kind, message), "{number}");
        assert_eq!(task.pid, tasks[0].pid, "{number}: the worker is another one");
    }
}

#[test]
fn f1_a_trap_in_one_task_of_a_thousand_costs_that_task_only() {
    let _bound = time_bound_of(Duration::from_secs(60));
    let records: Vec<String> =
        (1..=1000).map(|n| if n == 17 { "!17".to_owned() } else { n.to_string() }).collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    for (n, task) in tasks_of("01", Form::Sometimes, &records, &[]).iter().enumerate() {
        match n + 1 {
            17 => {
                assert_eq!((task.kind.as_str(), task.message.as_str()), ("trap", "trap: unreachable"));
                assert_eq!(task.trace.first().map(String::as_str), Some("hostile"), "{:?}", task.trace);
            }
            n => assert_eq!(task.output.as_deref(), Some(n.to_string().as_str())),
        }
    }
    let scene = Scene::new();
    let ended = told(&scene, "01", Form::Sometimes, &records, &[]);
    ended.with(1, "wpool: task 17: trap: unreachable (input \"!17\")\n    hostile\n");
    assert!(ended.stderr.contains("1000 tasks: 999 ok, 1 failed"), "{}", ended.stderr);
    assert!(ended.stderr.contains("(1 worker)"), "{}", ended.stderr);
    assert_eq!(ended.stdout.split(|b| *b == b'\n').count(), 999 + 1);
}

#[test]
fn f2_memory_out_of_bounds_is_a_trap() {
    let _bound = time_bound_of(Duration::from_secs(60));
    for number in ["02", "03", "19"] {
        all_fail_with(number, "trap", "trap: out of bounds memory access");
    }
}

#[test]
fn f3_arithmetic_without_a_result_is_a_trap() {
    let _bound = time_bound_of(Duration::from_secs(60));
    all_fail_with("04", "trap", "trap: integer divide by zero");
    all_fail_with("05", "trap", "trap: integer overflow");
    all_fail_with("06", "trap", "trap: invalid conversion to integer");
}

#[test]
fn f4_indirect_calls_to_nothing_are_traps() {
    let _bound = time_bound_of(Duration::from_secs(60));
    all_fail_with("07", "trap", "trap: uninitialized element");
    all_fail_with("08", "trap", "trap: undefined element: out of bounds table access");
    all_fail_with("09", "trap", "trap: indirect call type mismatch");
}

#[test]
fn f5_a_stack_overflow_ends_the_task_in_every_process_and_thread() {
    let _bound = time_bound_of(Duration::from_secs(120));
    for number in ["10", "11", "15"] {
        for options in [&[][..], &["--threads"], &["--start-method", "spawn"], &["--reuse"]] {
            for task in tasks_of(number, Form::Bare, &["one", "two"], options) {
                assert_eq!(task.kind, "stack", "{number} {options:?}");
                assert!(task.message.contains("call stack exhausted"), "{}", task.message);
            }
        }
    }
}

#[test]
fn f5_ten_thousand_stack_overflows_leak_nothing() {
    let _bound = time_bound_of(Duration::from_secs(120));
    let scene = Scene::new();
    let module = support::loader().load(guest("10").module(&scene, Form::Bare)).unwrap();
    let pool = wpool::Pool::builder(&module).processes(1).build().unwrap();
    let run = pool.func::<Vec<u8>, Vec<u8>>("run").unwrap();
    let memory_after = |count: usize| {
        let outcomes = pool.try_map(&run, vec![Vec::new(); count]);
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(wpool::TaskError::Limit { .. }))));
        let pids = support::pids(&pool);
        assert_eq!(pids.len(), 1);
        (pids[0], support::memory_peak_kib(pids[0]))
    };
    let (worker, first) = memory_after(200);
    let (same_worker, last) = memory_after(10_000);
    assert_eq!(worker, same_worker);
    assert!(last < first + (4 << 10), "{first} KiB, then {last} KiB");
}

#[test]
fn f6_a_module_that_cannot_be_instantiated_ends_the_run_early() {
    let _bound = time_bound_of(Duration::from_secs(60));
    let said = [
        ("12", "trap: cannot instantiate: unreachable"),
        ("13", "trap: cannot instantiate: out of bounds memory access"),
        ("14", "trap: cannot instantiate: undefined element: out of bounds table access"),
    ];
    let many: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (number, message) in said {
        all_fail_with(number, "trap", message);
        let scene = Scene::new();
        for options in [&["-j", "1"], &["-j", "4"], &["--retries", "9"], &["--start-method", "spawn"]] {
            let ended = told(&scene, number, Form::Bare, &many, options);
            ended.with(3, &format!("the pool is broken: no task can be begun (5 tries): {message}"));
            assert!(ended.stderr.lines().count() < 60, "{}", ended.stderr);
            let few = ["(1 worker)", "(2 workers)", "(3 workers)", "(4 workers)"];
            assert!(few.iter().any(|workers| ended.stderr.contains(workers)), "{}", ended.stderr);
        }
    }
}

#[test]
fn f7_an_allocator_that_traps_or_lies_costs_its_task_only() {
    let _bound = time_bound_of(Duration::from_secs(60));
    all_fail_with("16", "trap", "trap: unreachable");
    for number in ["51", "54", "55"] {
        all_fail_with(number, "bad-result", "bad result: realloc return: beyond end of memory");
    }
}

#[test]
fn f11_one_slow_task_of_a_thousand_costs_itself_only() {
    let _bound = time_bound_of(Duration::from_secs(60));
    let records: Vec<String> =
        (0..1000).map(|n| if n == 500 { "slow".to_owned() } else { n.to_string() }).collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let tasks = tasks_of("28", Form::Bare, &records, &[]);
    for (task, record) in tasks.iter().zip(records) {
        match record {
            "slow" => assert_eq!(task.kind, "time"),
            record => assert_eq!(task.output.as_deref(), Some(record)),
        }
    }
}

#[test]
fn f13_ctrl_c_ends_a_guest_that_never_would() {
    let _bound = time_bound_of(Duration::from_secs(60));
    let scene = Scene::new();
    let module = guest("20").module(&scene, Form::Bare);
    let run = command::Running::start(command::wpool([
        "map",
        module.to_str().unwrap(),
        "-j2",
        "--items",
        "1",
        "2",
    ]));
    let works = |pid: &u32| support::cpu_ticks(*pid) > 2;
    support::wait_until("both compute", Duration::from_secs(20), || {
        command::task_workers(run.child.id()).iter().filter(|pid| works(pid)).count() == 2
    });
    run.signal(rustix::process::Signal::INT);
    let (status, said) = run.end();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGINT), "{said}");
    assert!(said.contains("interrupted: 0 done, 2 not"), "{said}");
}

#[test]
fn f15_memory_that_begins_over_the_limit_is_refused_with_both_figures() {
    let _bound = time_bound_of(Duration::from_secs(60));
    let scene = Scene::new();
    for (number, asked) in [("31", "4 GiB"), ("35", "1024 GiB")] {
        let ended = told(&scene, number, Form::Bare, &["one"], &[]);
        ended.with(2, asked);
        assert!(ended.stderr.contains("64 MiB") && ended.stderr.contains("--memory"), "{}", ended.stderr);
    }
}

#[test]
fn f18_f36_garbage_collection_is_off_and_that_is_said() {
    let _bound = time_bound_of(Duration::from_secs(60));
    let scene = Scene::new();
    for number in ["67", "68"] {
        told(&scene, number, Form::Bare, &["one"], &[]).with(2, "gc types are disabled");
    }
}

#[test]
fn f20_many_tasks_that_dirty_memory_leave_the_worker_as_it_was() {
    let _bound = time_bound_of(Duration::from_secs(120));
    let scene = Scene::new();
    let module = support::loader().load(guest("38").module(&scene, Form::Bare)).unwrap();
    let pool = wpool::Pool::builder(&module).processes(1).build().unwrap();
    let run = pool.func::<Vec<u8>, Vec<u8>>("run").unwrap();
    let peak_after = |count: usize| {
        pool.map(&run, (0..count).map(|n| n.to_string().into_bytes())).unwrap();
        support::memory_peak_kib(support::pids(&pool)[0])
    };
    let first = peak_after(200);
    let last = peak_after(20_000);
    assert!(last < first + (4 << 10), "{first} KiB, then {last} KiB");
}

#[test]
fn f21_no_task_sees_what_another_left_unless_that_is_asked_for() {
    let _bound = time_bound_of(Duration::from_secs(60));
    let outputs = |number, options: &[&str]| {
        let outputs = tasks_of(number, Form::Bare, &["secret-1", "secret-2", "secret-3"], options);
        outputs.into_iter().map(|task| task.output.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(outputs("36", &[]), ["\u{1}\0\0\0"; 3]);
    assert_eq!(outputs("37", &[]), ["\0\0\0\0\0\0\0\0"; 3]);
    assert_eq!(outputs("36", &["--reuse"]), ["\u{1}\0\0\0", "\u{2}\0\0\0", "\u{3}\0\0\0"]);
    assert_eq!(outputs("37", &["--reuse"]), ["\0\0\0\0\0\0\0\0", "secret-1", "secret-2"]);
}

#[test]
fn f22_results_that_lie_are_bad_results() {
    let _bound = time_bound_of(Duration::from_secs(120));
    for (number, said) in [
        ("40", "list pointer/length out of bounds of memory"),
        ("41", "list pointer/length out of bounds of memory"),
        ("42", "pointer out of bounds of memory"),
        ("43", "invalid expected discriminant"),
        ("44", "return pointer not aligned"),
        ("45", "list pointer/length out of bounds of memory"),
        ("56", "list pointer/length out of bounds of memory"),
        ("d02", "converted integer out of range for `char`"),
        ("d03", "converted integer out of range for `char`"),
        ("d05", "discriminant 9 out of range [0..3)"),
        ("d07", "discriminant 200 out of range [0..2)"),
        ("d08", "discriminant 7 out of range [0..2)"),
        ("d09", "invalid utf-8 sequence of 1 bytes from index 0"),
        ("d10", "string pointer/length out of bounds of memory"),
        ("d11", "list pointer/length out of bounds of memory"),
        ("d12", "list pointer is not aligned"),
        ("d13", "list pointer/length out of bounds of memory"),
        ("d14", "pointer out of bounds of memory"),
        ("d17", "discriminant 3 out of range [0..2)"),
    ] {
        all_fail_with(number, "bad-result", &format!("bad result: {said}"));
    }
}

#[test]
fn f22_nothing_is_allocated_for_a_length_that_lies() {
    let _bound = time_bound_of(Duration::from_secs(60));
    let scene = Scene::new();
    for number in ["40", "45"] {
        let module = support::loader().load(guest(number).module(&scene, Form::Bare)).unwrap();
        let pool = wpool::Pool::builder(&module).processes(1).build().unwrap();
        let run = pool.func::<Vec<u8>, Vec<u8>>("run").unwrap();
        assert!(matches!(pool.apply(&run, Vec::new()), Err(wpool::TaskError::BadResult { .. })));
        let peak = support::memory_peak_kib(support::pids(&pool)[0]);
        assert!((1..48 << 10).contains(&peak), "{number}: {peak} KiB");
    }
}

#[test]
fn f26_a_result_over_the_limit_is_told_with_both_figures() {
    let _bound = time_bound_of(Duration::from_secs(60));
    for task in tasks_of("49", Form::Bare, &["one", "two"], &[]) {
        assert_eq!(task.kind, "output");
        for said in ["48 MiB", "16 MiB", "--max-output"] {
            assert!(task.message.contains(said), "{}", task.message);
        }
    }
    let scene = Scene::new();
    let ended = told(&scene, "49", Form::Bare, &["one"], &["--max-output", "48M"]);
    assert_eq!((ended.code, ended.stdout.len()), (Some(0), (48 << 20) + 1), "{}", ended.stderr);
}

#[test]
fn f28_an_allocator_that_overlaps_or_moves_memory_harms_its_guest_only() {
    let _bound = time_bound_of(Duration::from_secs(60));
    let long = "x".repeat(300_000);
    for task in tasks_of("53", Form::Bare, &[&long, "two"], &[]).iter().zip([&long, "two"]) {
        assert_eq!(task.0.output.as_deref(), Some(task.1));
    }
    assert!(tasks_of("52", Form::Bare, &["one", "two"], &[]).iter().all(|task| task.kind == "ok"));
}

#[test]
fn f29_a_flood_of_output_is_cut_and_leaves_the_coordinator_as_it_is() {
    let _bound = time_bound_of(Duration::from_secs(60));
    let scene = Scene::new();
    let module = guest("c11").module(&scene, Form::AsIs);
    let args = ["map", module.to_str().unwrap(), "-", "--timeout", "1s", "-j", "2"];
    let ended = run_in(&scene, scene.command(&args), b"one\ntwo\n");
    ended.with(1, "task 2: timeout after 1s");
    assert!(
        ended.stderr.contains("[task 1 stdout]") && ended.stderr.contains("bytes more were not kept"),
        "{}",
        ended.stderr
    );
    assert!(ended.stdout.is_empty());
    assert!(ended.stderr.len() < 10_000, "{} bytes are said", ended.stderr.len());
    assert!(ended.peak_mib < 32, "{} MiB", ended.peak_mib);
}

#[test]
fn f31_a_function_that_exits_has_failed_whatever_its_code() {
    let _bound = time_bound_of(Duration::from_secs(60));
    all_fail_with("c04", "exit", "exit: guest called exit(0)");
    all_fail_with("c05", "exit", "exit: guest called exit(1), which from a component is any code but 0");
    all_fail_with("d25", "exit", "exit: guest called exit(0)");
}

#[test]
fn f32_a_poisonous_input_is_tried_as_often_as_asked_for() {
    let _bound = time_bound_of(Duration::from_secs(60));
    let tasks = tasks_of("17", Form::Bare, &["one", "poison", "three", "four"], &["--retries", "3"]);
    let ends: Vec<(&str, u64)> = tasks.iter().map(|task| (task.kind.as_str(), task.attempt)).collect();
    assert_eq!(ends, [("ok", 1), ("trap", 4), ("ok", 1), ("ok", 1)]);
}

#[test]
fn f95_clocks_and_random_bytes_are_what_they_should_be() {
    let _bound = time_bound_of(Duration::from_secs(60));
    let scene = Scene::new();
    let ended = told(&scene, "c09", Form::AsIs, &["one"], &[]);
    ended.with(1, "exceeds limit");
    assert!(ended.peak_mib < 32, "{} MiB", ended.peak_mib);
    assert_eq!(tasks_of("c10", Form::AsIs, &["one"], &[])[0].output.as_deref(), Some(" \0\0\0"));
    assert_ne!(tasks_of("c08", Form::AsIs, &["one"], &[])[0].output.as_deref(), Some("\u{2}\0\0\0"));
}

#[test]
fn f96_the_records_are_out_of_a_guests_reach() {
    let _bound = time_bound_of(Duration::from_secs(60));
    for number in ["c13", "c14"] {
        let tasks = tasks_of(number, Form::AsIs, &["one", "two", "three"], &[]);
        // A stream that is closed: 1000, or no bytes.
        let closed = ["\u{e8}\u{3}\0\0", "\0\0\0\0"];
        for task in &tasks {
            assert_eq!(task.kind, "ok", "{number}: {}", task.message);
            assert!(
                task.output.as_deref().is_none_or(|output| closed.contains(&output)),
                "{number}: {:?}",
                task.output
            );
        }
    }
}

#[test]
fn f101_f36_threads_and_memory_that_they_share_are_refused() {
    let _bound = time_bound_of(Duration::from_secs(60));
    let scene = Scene::new();
    told(&scene, "66", Form::Bare, &["one"], &[]).with(2, "threads must be enabled for shared memories");
    told(&scene, "64", Form::AsIs, &["one"], &[]).with(2, "wasi thread-spawn");
}

#[test]
fn the_first_lines_are_understood() {
    let classes = |line: &str| Expect::parse(line).unwrap().classes;
    assert_eq!(classes(";; EXPECT trap/err: result list"), [Class::Trap, Class::Err].into());
    assert_eq!(
        classes(";; EXPECT reject-compile (threads off), else timeout: x"),
        [Class::RejectCompile, Class::Timeout].into()
    );
    assert_eq!(classes(";; EXPECT task error \"exit(0)\": never a trap"), [Class::Err].into());
    let poison =
        Expect::parse(";; EXPECT ok (echo) for every input but the bytes \"poison\", for which: trap x. ok")
            .unwrap();
    assert_eq!((poison.of("a"), poison.of("poison")), (&[Class::Ok].into(), &[Class::Trap].into()));
    assert!(poison.is_echo);
    assert_eq!(Expect::parse("(module)"), None);
}
