//! Processes that die, output that cannot be written, signals.

use super::*;

/// Maps 120 records while workers are killed; gives the outcomes by record, and the end.
fn map_while_workers_are_killed(extra: &[&str]) -> (Vec<Value>, ExitStatus, String) {
    let mut command =
        wpool(args(&["map", &prebuilt("hello"), "-j", "4", "--unordered", "--format", "jsonl"], extra));
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let records: String = (1..=120).map(|n| format!("{n}:25\n")).collect();
    running.child.stdin.take().unwrap().write_all(records.as_bytes()).unwrap();
    let mut lines: Vec<Value> = Vec::new();
    for count in 1..=120 {
        lines.push(serde_json::from_str(&running.line()).unwrap());
        if count % 20 == 0 && count < 100 {
            // Not always the same one, and not the one that has just answered.
            let workers = task_workers(running.child.id());
            let victim = workers[count % workers.len()];
            kill(victim, Signal::KILL);
        }
    }
    assert_eq!(running.line(), "", "more outcomes than records");
    let (status, stderr) = running.end();
    lines.sort_by_key(|line| line["seq"].as_u64());
    assert_eq!(
        lines.iter().map(|l| l["seq"].as_u64().unwrap()).collect::<Vec<_>>(),
        (1..=120).collect::<Vec<_>>()
    );
    (lines, status, stderr)
}

#[test]
fn f44_a_killed_worker_costs_its_task_only_and_that_is_named() {
    let (lines, status, stderr) = map_while_workers_are_killed(&[]);
    let lost: Vec<&Value> = lines.iter().filter(|l| l["status"] == "worker-lost").collect();
    let ok = lines.iter().filter(|l| l["status"] == "ok").count();
    assert!((1..=4).contains(&lost.len()) && ok + lost.len() == 120, "{stderr}");
    assert_eq!(status.code(), Some(1));
    for line in lost {
        let named = format!("wpool: task {}: worker died: SIGKILL", line["seq"]);
        assert!(stderr.contains(&named), "no {named:?} in {stderr}");
        assert!(stderr.contains(&format!("(input \"{}:25\"", line["seq"])), "{stderr}");
    }
}

#[test]
fn f44_with_retries_a_killed_worker_costs_nothing() {
    let (lines, status, stderr) = map_while_workers_are_killed(&["--retries", "3"]);
    assert!(lines.iter().all(|l| l["status"] == "ok"), "{stderr}");
    assert!(status.success(), "{stderr}");
    assert!(stderr.contains("120 tasks: 120 ok, 0 failed"), "{stderr}");
    assert!(stderr.contains(" retried in ") && stderr.contains(" workers, 4 died)\n"), "{stderr}");
}

#[test]
fn f45_the_curious_are_told_of_a_worker_that_dies() {
    let mut command = wpool(["map", "-v", &prebuilt("hello"), "-j", "1", "--retries", "1"]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut stdin = running.child.stdin.take().unwrap();
    writeln!(stdin, "first:0").unwrap();
    running.line();
    let worker = task_workers(running.child.id())[0];
    kill(worker, Signal::ABORT);
    wait_until("the worker is gone", LONG, || task_workers(running.child.id()).is_empty());
    writeln!(stdin, "second:0").unwrap();
    assert!(running.line().contains("from PoolWorker-2 "));
    drop(stdin);
    let (status, stderr) = running.end();
    assert!(status.success(), "{stderr}");
    assert!(stderr.contains(&format!("wpool: worker 1 (process {worker}) died: SIGABRT\n")), "{stderr}");
    assert!(
        stderr.contains("2 tasks: 2 ok, 0 failed in ") && stderr.contains("(2 workers, 1 died)\n"),
        "{stderr}"
    );
}

#[test]
fn f65_a_reader_that_leaves_ends_the_run_quietly() {
    let dir = scratch();
    let inputs = file(&dir, "inputs", b"some line of text\n".repeat(300_000));
    let mut running = Running::start(wpool(["map", &prebuilt("upper"), &path_text(&inputs), "--reuse"]));
    assert_eq!(running.line(), "SOME LINE OF TEXT");
    let (status, stderr) = running.leave();
    assert_eq!(status.signal(), Some(libc::SIGPIPE), "{stderr}");
    assert_eq!(stderr, "");
}

#[test]
fn f66_a_full_disk_is_an_error_with_its_own_code() {
    for call in [
        &["map", &prebuilt("upper"), "--items", "a"][..],
        &["call", &example("add"), "add(1, 2)"],
        &["inspect", &example("add")],
        &["--generate", "man"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let child = wpool(call).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        ends(&child.wait_with_output().unwrap(), 4, "wpool: cannot write output: No space left on device\n");
    }
}

#[test]
fn f67_f68_closed_descriptors_change_nothing() {
    let failing = prebuilt("failing");
    let call = ["map", &failing, "--items", "good", "panic"];
    let output = run(by_shell("exec \"$0\" \"$@\" 2>&-", &call));
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(1), &b"good\n"[..]));
    let output = run(by_shell("exec \"$0\" \"$@\" 2>/dev/full", &call));
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(1), &b"good\n"[..]));
    let output = run(by_shell("exec \"$0\" \"$@\" <&-", &call));
    ends(&output, 1, "1 ok, 1 failed");
}

#[test]
fn f124_a_closed_stdout_is_an_error() {
    // The result would be lost, and the code would say that all is well.
    let upper = prebuilt("upper");
    for call in [
        &["map", &upper, "--items", "a"][..],
        &["call", &upper, "run(\"a\")"],
        &["inspect", &upper],
        &["--version"],
    ] {
        ends(&run(by_shell("exec \"$0\" \"$@\" >&-", call)), 4, "wpool: cannot write output: it is closed\n");
        ends(&run(by_shell("exec \"$0\" \"$@\" <&- >&- 2>&-", call)), 4, "");
        // Opened for both, as many starters have it for what they do not want.
        ends(&run(by_shell("exec \"$0\" \"$@\" 1<>/dev/null", call)), 0, "");
    }
    let output = run(by_shell("exec \"$0\" \"$@\" >&-", &["run", "--func", "run", "--arg", "a", &upper]));
    ends(&output, 125, "wpool: cannot write output: it is closed\n");
}

/// ProcessPoolExecutor, loky and pebble are still there ten seconds after a Ctrl-C in long tasks.
#[test]
fn f61_f62_f63_a_signal_ends_the_run_with_what_is_done() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let (running, _stdin) = busy();
        let started = Instant::now();
        running.signal(signal);
        let (status, stderr) = running.end();
        assert_eq!(status.signal(), Some(signal.as_raw()), "{stderr}");
        assert!(stderr.contains("wpool: interrupted: 1 done, 1 not\n"), "{stderr}");
        assert!(started.elapsed() < LONG / 2, "it waited for the running task");
    }
}

#[test]
fn f62_a_second_signal_ends_it_at_once() {
    // The output is stuck, because it is not read.
    let dir = scratch();
    let inputs = file(&dir, "inputs", b"some line of text\n".repeat(300_000));
    let mut running = Running::start(wpool(["map", &prebuilt("upper"), &path_text(&inputs), "--reuse"]));
    running.line();
    running.signal(Signal::INT);
    running.signal(Signal::INT);
    let pid = running.child.id();
    let status = running.child.wait().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGINT));
    assert_no_workers(pid);
}

#[test]
fn f61_output_that_is_stuck_does_not_keep_a_terminated_run() {
    let dir = scratch();
    let inputs = file(&dir, "inputs", b"some line of text\n".repeat(300_000));
    let mut running = Running::start(wpool(["map", &prebuilt("upper"), &path_text(&inputs), "--reuse"]));
    running.line();
    running.signal(Signal::TERM);
    let pid = running.child.id();
    assert_eq!(running.child.wait().unwrap().signal(), Some(libc::SIGTERM));
    assert_no_workers(pid);
}

#[test]
fn f63_signals_that_were_ignored_at_the_start_stay_ignored() {
    let hello = prebuilt("hello");
    let mut command = by_shell("trap '' INT HUP; exec \"$0\" \"$@\"", &["map", &hello, "-j", "1"]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut stdin = running.child.stdin.take().unwrap();
    stdin.write_all(b"first:0\n").unwrap();
    running.line();
    running.signal(Signal::INT);
    running.signal(Signal::HUP);
    stdin.write_all(b"second:0\n").unwrap();
    assert!(running.line().starts_with("hello second"));
    drop(stdin);
    assert!(running.end().0.success());
}

#[test]
fn sigusr1_tells_how_things_are() {
    let (mut running, _stdin) = busy();
    running.signal(Signal::USR1);
    let mut stderr = BufReader::new(running.child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("busy") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
    }
    assert!(said.contains("wpool: 1 done, 0 failed, 1 under way\n  worker "), "{said}");
    running.child.stderr = Some(stderr.into_inner());
    running.signal(Signal::TERM);
    running.end();
}

#[test]
fn what_is_done_behind_a_running_task_is_counted_and_written_when_interrupted() {
    let mut command = wpool(["map", &prebuilt("hello"), "-j", "2", "--retries", "1"]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut stdin = running.child.stdin.take().unwrap();
    stdin.write_all(b"slow:60000\nbroken:x\n1:0\n2:0\n3:0\n").unwrap();
    let mut stderr = BufReader::new(running.child.stderr.take().unwrap());
    // Signals are watched by then.
    wait_until("there are workers", LONG, || !task_workers(running.child.id()).is_empty());
    let mut said = String::new();
    // One of them may wait in the worker of the task that is running.
    let status = |done: u64| format!("wpool: {done} done, 1 failed, {} under way, 1 retried\n", 5 - done);
    while ![3, 4].map(status).contains(&said) {
        said.clear();
        running.signal(Signal::USR1);
        // One line, then one for each worker that there is at that moment.
        assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
        std::thread::sleep(Duration::from_millis(10));
    }
    running.signal(Signal::INT);
    let mut stdout = String::new();
    running.lines.read_to_string(&mut stdout).unwrap();
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    let written = stdout.lines().count();
    assert!(written >= 2 && stdout.lines().all(|line| line.starts_with("hello ")), "{stdout}");
    let interrupted = format!("wpool: interrupted: {} done, {} not\n", written + 1, 4 - written);
    assert!(rest.contains("wpool: task 2: ") && rest.contains(&interrupted), "{written} are written: {rest}");
    assert_eq!(running.child.wait().unwrap().signal(), Some(libc::SIGINT));
}

#[test]
fn f60_the_workers_end_with_a_killed_program() {
    let (running, _stdin) = busy();
    wait_until("there are workers", LONG, || !task_workers(running.child.id()).is_empty());
    running.signal(Signal::KILL);
    assert_eq!(running.end().0.signal(), Some(libc::SIGKILL));
}
