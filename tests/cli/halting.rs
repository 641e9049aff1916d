//! Runs that stop before their end.

use super::*;

#[test]
fn enough_failures_stop_the_run() {
    let mut command = wpool(["map", &prebuilt("failing"), "--max-fail", "2", "-j", "1"]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut stdin = running.child.stdin.take().unwrap();
    stdin.write_all(b"good\nbad\nbad\n").unwrap();
    // The input is still open.
    let (status, stderr) = running.end();
    drop(stdin);
    assert_eq!(status.code(), Some(5), "{stderr}");
    assert!(stderr.contains("stopped by --max-fail 2: 2 tasks have failed\n"), "{stderr}");
}

#[test]
fn an_endless_input_ends_with_the_policy() {
    let failing = prebuilt("failing");
    for (records, halt, code, why) in [
        ("yes bad", "now,fail=1", 5, ": 1 task has failed\n"),
        ("yes bad", "soon,fail=1", 5, ": 1 task has failed\n"),
        ("echo good; yes bad", "now,fail=50%", 5, " tasks have failed\n"),
        ("yes good", "now,success=1", 0, ": 1 task has succeeded\n"),
        ("echo bad; yes good", "soon,success=1", 1, " succeeded\n"),
        ("yes good", "soon,done=1", 0, ": 1 task has been done\n"),
    ] {
        let script = format!("{{ {records}; }} | \"$0\" \"$@\"");
        let output = run(by_shell(&script, &["map", &failing, "-j", "1", "--halt", halt]));
        ends(&output, code, &format!("wpool: stopped by --halt {halt}: "));
        ends(&output, code, why);
        ends(&output, code, " not done");
        // A batch of short tasks is answered as one: there may be more than what was waited for.
        let done = records.contains("good");
        let results = out(&output);
        assert!(
            results.lines().all(|line| line == "good") && results.is_empty() != done,
            "{halt}: {results}"
        );
        assert!(results.lines().count() < 100, "{halt}");
    }
}

/// A task that takes `slow` milliseconds, one that fails, and one that has to wait for either.
fn halted(halt: &str, slow: u32) -> (ExitStatus, String, String) {
    let mut command = wpool(["map", &prebuilt("hello"), "-j", "2", "--halt", halt]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut stdin = running.child.stdin.take().unwrap();
    stdin.write_all(format!("slow:{slow}\nbroken:x\nthird:0\n").as_bytes()).unwrap();
    let mut stdout = String::new();
    running.lines.read_to_string(&mut stdout).unwrap();
    // The input is still open.
    let (status, stderr) = running.end();
    drop(stdin);
    (status, stdout, stderr)
}

#[test]
fn halting_soon_lets_running_tasks_end() {
    let (status, stdout, stderr) = halted("soon,fail=1", 1500);
    assert_eq!(status.code(), Some(5), "{stderr}");
    assert!(stdout.starts_with("hello slow") && stdout.lines().count() == 1, "{stdout}");
    assert!(stderr.contains("3 tasks: 1 ok, 1 failed, 1 not done in "), "{stderr}");
    assert!(stderr.contains("wpool: stopped by --halt soon,fail=1: 1 task has failed\n"), "{stderr}");
}

#[test]
fn halting_now_stops_running_tasks() {
    let started = Instant::now();
    let (status, stdout, stderr) = halted("now,fail=1", 60_000);
    assert_eq!((status.code(), &stdout[..]), (Some(5), ""), "{stderr}");
    assert!(stderr.contains("3 tasks: 0 ok, 1 failed, 2 not done in "), "{stderr}");
    assert!(!stderr.contains("died"), "{stderr}");
    assert!(started.elapsed() < LONG / 2, "it waited for the running task");
}
