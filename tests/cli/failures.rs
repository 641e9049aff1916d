//! Tasks that fail, and their retries.

use super::*;

#[test]
fn a_failed_task_is_named_with_its_input_and_the_others_are_delivered() {
    let items = ["good", "bad \x1b[31m luck", "panic", "exit", "fine"];
    let output = run(wpool(args(&["map", &prebuilt("failing"), "--items"], &items)));
    ends(&output, 1, "5 tasks: 2 ok, 3 failed");
    assert_eq!(out(&output), "good\nfine\n");
    let stderr = err(&output);
    for said in [
        "wpool: task 2: bad \\x1b[31m luck is bad (input \"bad \\x1b[31m luck\")\n",
        "wpool: task 3: trap: panicked at failing/src/lib.rs:15:48: panic, as told (input \"panic\")\n    ",
        "[task 3 stderr] panic, as told\n",
        "wpool: task 4: exit: guest called exit(",
    ] {
        assert!(stderr.contains(said), "no {said:?} in {stderr}");
    }
    assert!(!stderr.contains('\x1b'), "{stderr}");
}

#[test]
fn exit_codes_count_failures_if_asked_to() {
    let call = ["map", &prebuilt("failing"), "--items", "bad", "bad", "good", "bad"];
    ends(&run(wpool(args(&call, &["--exit-code=count"]))), 3, "3 failed");
    ends(&run(wpool(args(&call, &["--exit-code=plain"]))), 1, "3 failed");
    let many =
        with_input(wpool(["map", &prebuilt("failing"), "--exit-code=count", "-q"]), &b"bad\n".repeat(120));
    ends(&many, 101, "wpool: task 10: bad is bad (input \"bad\")");
    ends(&many, 101, "wpool: 110 more tasks failed with the same words: bad is bad");
}

#[test]
fn f149_a_count_of_failures_is_no_error_of_wpools_own() {
    let failing = prebuilt("failing");
    let count = ["--exit-code", "count"];
    let dir = scratch();
    let traps = r#"(module (func (export "run") (param i32) (result i32) unreachable) (start $no) (func $no unreachable))"#;
    let traps = path_text(&file(&dir, "traps.wat", traps));
    let missing = path_text(&dir.path().join("missing"));
    for (own, code, said) in [
        (&["map", &failing, "--no-such-option"][..], 102, "unexpected argument"),
        (&["map", &failing, "--jobs", "many"], 102, "invalid value"),
        (&["map", "-q", &missing], 102, "No such file"),
        (&["map", &failing, &missing], 102, "No such file"),
        (&["map", &failing, "--no-input", "fail", "-q"], 102, "no records"),
        (&["map", &traps, "--items", "1", "2", "3", "4", "5", "6", "7", "8"], 103, "the pool is broken"),
        (&["map", &failing, "--max-fail", "1", "--items", "bad", "bad"], 105, "stopped by --max-fail"),
        (&["map", &failing, "--items", "bad", "good", "bad"], 2, "2 failed"),
        (&["map", &failing, "--items", "good"], 0, "1 ok"),
    ] {
        ends(&run(wpool(args(&[own[0]], &args(&count, &own[1..])))), code, said);
    }
    // A full disk.
    let full = run(by_shell(
        "exec \"$0\" \"$@\" > /dev/full",
        &["map", &failing, "--exit-code=count", "--items", "good"],
    ));
    ends(&full, 104, "cannot write output");
    // Elsewhere, and behind `--`, it is no such option.
    ends(&run(wpool(["run", &missing, "--exit-code=count"])), 127, "No such file");
    ends(&run(wpool(["map", &failing, "--", &missing, "--exit-code=count"])), 2, "No such file");
}

#[test]
fn f149_an_input_of_run_that_cannot_be_read_is_wrong_usage() {
    let dir = scratch();
    let guest = prebuilt("args");
    let missing = path_text(&dir.path().join("missing"));
    let large = path_text(&file(&dir, "large", [b'x'; 2000]));
    let through_a_file = format!("{large}/below");
    for (input, said) in [
        (&missing[..], "missing: No such file or directory"),
        (&path_text(dir.path()), "Is a directory"),
        (&through_a_file, "Not a directory"),
        (&large, "large is over the limit of 1024 bytes (--max-input)"),
    ] {
        ends(&run(wpool(["run", "--max-input", "1K", "--input", input, &guest, "0"])), 2, said);
    }
    for guest in [&guest, &prebuilt("upper")] {
        let mut command = wpool(["run", guest]);
        command.stdin(std::fs::File::open(dir.path()).unwrap());
        let ended = command.output().unwrap();
        ends(&ended, 2, "cannot read standard input: ");
    }
}

#[test]
fn a_task_that_takes_too_long_is_stopped_and_the_pool_goes_on() {
    let items = ["loop", "good"];
    let output =
        run(wpool(args(&["map", &prebuilt("failing"), "--timeout", "200ms", "-j", "1", "--items"], &items)));
    ends(&output, 1, "wpool: task 1: timeout after 200ms (--timeout, Limits::time) (input \"loop\")");
    ends(&output, 1, "2 tasks: 1 ok, 1 failed, 1 timeout in ");
    assert_eq!(out(&output), "good\n");
}

#[test]
fn retries_are_counted_and_told() {
    let output = run(wpool(["map", &prebuilt("failing"), "--retries", "2", "--items", "bad", "good"]));
    ends(&output, 1, "wpool: task 1: bad is bad (input \"bad\", attempt 3)");
    ends(&output, 1, "2 tasks: 1 ok, 1 failed, 1 retried in ");
    assert_eq!(out(&output), "good\n");
}

#[test]
fn pauses_between_retries_are_those_asked_for() {
    let call =
        ["map", "-v", &prebuilt("failing"), "--items", "bad", "--retries", "4", "--retry-delay", "10ms"];
    for (extra, pauses) in [
        (&[][..], [10, 10, 10, 10]),
        (&["--backoff", "fixed"], [10, 10, 10, 10]),
        (&["--backoff", "exponential"], [10, 20, 40, 80]),
        (&["--backoff", "exponential", "--retry-max-delay", "35ms"], [10, 20, 35, 35]),
    ] {
        let started = Instant::now();
        let output = run(wpool(args(&call, extra)));
        ends(&output, 1, "1 task: 0 ok, 1 failed, 1 retried in ");
        for (attempt, pause) in (1..).zip(pauses) {
            let said =
                format!("wpool: task 1: attempt {attempt} failed and is repeated in {pause}ms: bad is bad\n");
            assert!(err(&output).contains(&said), "no {said:?} in {}", err(&output));
        }
        assert!(started.elapsed() >= Duration::from_millis(pauses.iter().sum()), "{extra:?}");
    }
}

#[test]
fn only_the_kinds_asked_for_are_tried_again() {
    let call = [
        "map",
        &prebuilt("failing"),
        "--timeout",
        "200ms",
        "--retries",
        "1",
        "--items",
        "bad",
        "panic",
        "loop",
    ];
    for (kinds, retried) in [
        ("trap", [false, true, false]),
        ("error", [true, true, false]),
        ("lost,timeout", [false, false, true]),
        ("time,failed", [true, false, true]),
        ("lost", [false, false, false]),
    ] {
        let output = run(wpool(args(&call, &["--retry-on", kinds])));
        ends(&output, 1, "3 tasks: 0 ok, 3 failed");
        let stderr = err(&output);
        for (item, retried) in ["bad", "panic", "loop"].into_iter().zip(retried) {
            let said = format!("(input \"{item}\"{})", if retried { ", attempt 2" } else { "" });
            assert!(stderr.contains(&said), "{kinds}: no {said:?} in {stderr}");
        }
    }
}

#[test]
fn f57_a_task_that_takes_down_workers_is_given_up() {
    let mut command = wpool(["map", &prebuilt("hello"), "-j", "1", "--retries", "5", "--poison-limit", "1"]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    running.child.stdin.take().unwrap().write_all(b"first:0\nsecond:60000\n").unwrap();
    assert!(running.line().starts_with("hello first"));
    // Not before the worker has begun the task: its death would not be the task's fault.
    wait_until("the task has taken down a worker", LONG, || {
        std::thread::sleep(Duration::from_millis(500));
        for worker in task_workers(running.child.id()) {
            kill(worker, Signal::KILL);
        }
        running.child.try_wait().unwrap().is_some()
    });
    let (status, stderr) = running.end();
    assert_eq!(status.code(), Some(1), "{stderr}");
    let said = "wpool: task 2: worker died: SIGKILL (not from wpool; \
                perhaps the machine is out of memory); not tried again";
    assert!(stderr.contains(said), "{stderr}");
    assert!(stderr.contains("2 tasks: 1 ok, 1 failed in ") && stderr.contains(" died)\n"), "{stderr}");
}
