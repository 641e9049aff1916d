//! Workers that are replaced or ended.

use super::*;

#[test]
fn workers_are_replaced_when_they_have_grown() {
    let call = ["map", "-v", &prebuilt("hello"), "-j", "1", "--items", "a:150", "b:150", "c:150"];
    for extra in ["--max-memory-per-child=1K", "--rss=1K"] {
        let output = run(wpool(args(&call, &[extra])));
        ends(&output, 0, "wpool: worker 1 is ended: it uses too much memory\n");
        assert!(workers_named(&out(&output)).len() > 1, "{}", out(&output));
        assert!(!err(&output).contains("died"), "{}", err(&output));
    }
    let output = run(wpool(args(&call, &["--rss=8G"])));
    ends(&output, 0, "(1 worker)");
}

#[test]
fn workers_that_have_run_their_share_are_replaced() {
    let call = [
        "map",
        "-v",
        &prebuilt("hello"),
        "-j",
        "1",
        "--max-tasks-per-child",
        "1",
        "--items",
        "a:0",
        "b:0",
        "c:0",
    ];
    let output = run(wpool(call));
    ends(&output, 0, "wpool: worker 2 is ended: it has run its share of tasks\n");
    ends(&output, 0, "3 tasks: 3 ok, 0 failed in ");
    ends(&output, 0, "(3 workers)");
    assert_eq!(workers_named(&out(&output)).len(), 3);
}

#[test]
fn workers_that_have_nothing_to_do_are_ended() {
    let mut command = wpool(["map", "-v", &prebuilt("hello"), "-j", "1", "--idle-timeout", "50ms"]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut stdin = running.child.stdin.take().unwrap();
    for n in 1..=2 {
        writeln!(stdin, "{n}:0").unwrap();
        assert!(running.line().contains(&format!("from PoolWorker-{n} ")));
        wait_until("the worker has ended", LONG, || task_workers(running.child.id()).is_empty());
    }
    drop(stdin);
    let (status, stderr) = running.end();
    assert!(status.success(), "{stderr}");
    assert!(stderr.contains("wpool: worker 2 is ended: it had nothing to do\n"), "{stderr}");
    assert!(stderr.contains("(2 workers)"), "{stderr}");
}

#[test]
fn workers_that_do_not_get_ready_in_time_break_the_pool() {
    let dir = scratch();
    let text = r#"(module (func (export "spin") (loop (br 0)))
      (func (export "same") (param i32) (result i32) (local.get 0)))"#;
    let spin = path_text(&file(&dir, "spin.wat", text));
    let call = ["map", &spin, "--func", "same", "--init", "spin", "--items", "1", "--start-timeout", "100ms"];
    ends(&run(wpool(call)), 3, "wpool: the pool is broken: ");
}
