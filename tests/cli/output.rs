//! The form of results.

use super::*;

#[test]
fn unordered_results_come_when_they_are_there_and_are_named_right() {
    let mut command = wpool(["map", &prebuilt("hello"), "-j", "2", "--unordered", "--tag"]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut stdin = running.child.stdin.take().unwrap();
    stdin.write_all(b"slow:2000\nfast:0\nbroken:x\n").unwrap();
    drop(stdin);
    assert!(running.line().starts_with("fast:0\thello fast"), "the slow one must not come first");
    assert!(running.line().starts_with("slow:2000\thello slow"));
    let (status, stderr) = running.end();
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("wpool: task 3: ") && stderr.contains("(input \"broken:x\")"), "{stderr}");
}

#[test]
fn jsonl_has_one_object_for_each_task() {
    let output = with_input(wpool(["map", &prebuilt("failing"), "--format", "jsonl"]), b"good\nbad\npanic\n");
    ends(&output, 1, "");
    let lines: Vec<Value> = out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|l| l["seq"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(
        lines.iter().map(|l| l["status"].as_str().unwrap()).collect::<Vec<_>>(),
        ["ok", "failed", "trap"]
    );
    assert_eq!((&lines[0]["output"], &lines[0]["attempt"]), (&Value::from("good"), &Value::from(1)));
    assert!(lines[0]["ms"].is_number() && lines[0]["pid"].is_u64() && lines[0]["worker"].is_u64());
    assert_eq!(lines[1]["error"]["message"], "bad is bad");
    assert!(lines[2]["error"]["trace"].as_array().is_some_and(|t| !t.is_empty()));
    assert!(lines[2]["stderr"].as_str().unwrap().contains("panic, as told"));

    assert!(lines.iter().all(|l| l.get("input").is_none()));

    let output = with_input(wpool(["map", &prebuilt("upper"), "--format", "jsonl"]), b"\xff\xfe");
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["output_b64"], "//4=");
}

#[test]
fn jsonl_holds_the_record_if_asked_for() {
    let call = ["map", &prebuilt("failing"), "--format", "jsonl", "--tag", "--unordered"];
    let output = with_input(wpool(call), b"good\nbad\n\xff\xfe\n\n");
    let lines: Vec<Value> = out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |seq: u64| lines.iter().find(|line| line["seq"] == seq).unwrap();
    assert_eq!((&of(1)["input"], &of(1)["output"]), (&"good".into(), &"good".into()));
    assert_eq!((&of(2)["input"], &of(2)["status"]), (&"bad".into(), &"failed".into()));
    assert_eq!((of(3).get("input"), &of(3)["input_b64"]), (None, &"//4=".into()));
    assert_eq!(of(4)["input"], "");
}

#[test]
fn what_guests_print_is_shown_when_asked_for_and_never_mixes_with_results() {
    let call = ["map", &prebuilt("hello"), "--items", "a:0"];
    let output = run(wpool(args(&call, &["--success-output=immediate"])));
    ends(&output, 0, "[task 1 stdout] PoolWorker-1 (process ");
    assert!(out(&output).starts_with("hello a from ") && out(&output).lines().count() == 1);
    assert!(!err(&run(wpool(call))).contains("stdout"));
}
