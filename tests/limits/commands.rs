//! Limits on the command line.

use super::*;

// The command line.

fn file(dir: &tempfile::TempDir, text: &str) -> String {
    let path = dir.path().join("guest.wat");
    std::fs::write(&path, text).unwrap();
    text_of(&path)
}

fn text_of(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn prebuilt(name: &str) -> String {
    text_of(&repo(&format!("guest/prebuilt/{name}.wasm")))
}

#[track_caller]
fn ends(output: &Output, code: i32, said: &str) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(said), "no {said:?} in {stderr}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn every_limit_can_be_set_on_the_command_line_and_is_told() {
    let (_bound, dir) = (time_bound(), temp_dir());
    let deep = Parts { beside: DEEP, run: "(drop (call $deep (i32.const 0))) unreachable", ..ECHO };
    let trap = "(drop (memory.grow (i32.const 600))) (drop (table.grow $t (ref.null func) (i32.const 600))) unreachable";
    let greedy = Parts { beside: TABLE, run: trap, ..ECHO };
    let cases = [
        (&ECHO, "--fuel", "10", "fuel limit of 10 instructions reached (--fuel, Limits::fuel)"),
        (
            &ECHO,
            "--max-output",
            "3",
            "output limit of 3 bytes reached by a result of 4 bytes (--max-output, Limits::output)",
        ),
        (
            &deep,
            "--stack",
            "32K",
            "stack limit of 32 KiB reached: call stack exhausted (--stack, Limits::stack)",
        ),
        (
            &greedy,
            "--max-table-elements",
            "599",
            "table limit of 599 elements reached (--max-table-elements, Limits::table_elements)",
        ),
    ];
    for (parts, flag, value, said) in cases {
        let module = file(&dir, &parts.text());
        ends(
            &wpool(&["map", &module, "--items", "abcd", flag, value]),
            1,
            &format!("wpool: task 1: {said} (input \"abcd\")"),
        );
        ends(&wpool(&["call", &module, "run([1, 2, 3, 4])", "--output-format", "raw", flag, value]), 1, said);
        ends(&wpool(&["run", "--arg", "[1, 2, 3, 4]", flag, value, &module]), 1, said);
    }
    let module = file(&dir, &ECHO.text());
    let said = "input limit of 3 bytes reached by a longer record (--max-input, Limits::input)";
    ends(&wpool(&["map", &module, "--items", "abcd", "--max-input", "3"]), 1, said);
    ends(
        &wpool(&["map", &module, "--items", "a", "--memory", "64K"]),
        2,
        "asks for 128 KiB of memory, the limit is 64 KiB (--memory",
    );
}

#[test]
fn what_a_task_prints_is_kept_up_to_its_limit() {
    let _bound = time_bound();
    let hello = prebuilt("hello");
    let args = ["map", &hello, "--items", "bob:0", "--success-output", "immediate", "--max-stdout"];
    let said = String::from_utf8(wpool(&[&args[..], &["4"]].concat()).stderr).unwrap();
    assert!(said.contains("[task 1 stdout] Pool\n") && said.contains("bytes more were not kept"), "{said}");
    assert!(!said.contains("PoolWorker"), "{said}");
}

#[test]
fn f89_odd_times_are_no_limit_or_refused() {
    let _bound = time_bound();
    let module = prebuilt("upper");
    let map = |flag: &str, value: &str| wpool(&["map", &module, "--items", "a", &format!("{flag}={value}")]);
    for value in ["0", "1e18", "inf", "1000000y"] {
        for flag in ["--timeout", "--global-timeout"] {
            assert_eq!(ends(&map(flag, value), 0, "1 ok"), "A\n", "{flag} {value}");
        }
    }
    for value in ["NaN", "-1", "", "soon"] {
        for flag in ["--timeout", "--grace", "--global-timeout"] {
            ends(&map(flag, value), 2, "expected a time such as");
        }
    }
    for (flag, value, said) in [
        ("--stack", "0", "possible are 16K to 64M"),
        ("--stack", "10G", "possible are 16K to 64M"),
        ("--fuel", "0", "expected a number from 1 on"),
        ("--max-output", "4G", "the most is"),
        ("--memory", "0", "the limit is 0 bytes (--memory"),
        ("--memory", "-1", "expected a size"),
    ] {
        ends(&map(flag, value), 2, said);
    }
    let endless = prebuilt("failing");
    ends(&wpool(&["map", &endless, "--items", "loop", "--timeout", "1e-9"]), 1, "timeout after 1ns");
}

#[test]
fn f5_a_process_with_a_small_stack_is_not_ended_by_a_deep_guest() {
    let (_bound, dir) = (time_bound(), temp_dir());
    let deep = file(
        &dir,
        &Parts { beside: DEEP, run: "(drop (call $deep (i32.const 0))) unreachable", ..ECHO }.text(),
    );
    // Calls the host at every depth, the last one included.
    let writing = dir.path().join("writing.wat");
    std::fs::write(
        &writing,
        r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\10\00\00\00\01\00\00\00")
        (data (i32.const 16) "x")
        (func $deep (param i32) (result i32)
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
            (i32.add (call $deep (local.get 0)) (i32.const 1)))
        (func (export "_start") (drop (call $deep (i32.const 0)))))"#,
    )
    .unwrap();
    let writing = text_of(&writing);
    let program = text_of(program());
    let small = |args: &[&str]| {
        let script = ["-c", r#"ulimit -s 256; exec "$@""#, "sh", &program];
        ended(command(Path::new("sh"), &[&script[..], args].concat()))
    };
    for args in [
        &["map", &deep, "--items", "a", "b"][..],
        &["map", &deep, "--items", "a", "b", "--start-method", "spawn"],
        &["map", &deep, "--items", "a", "b", "--threads"],
        &["map", &deep, "--items", "a", "b", "--stack", "64M"],
        &["run", "--arg", "[1]", &deep],
        &["call", &deep, "run([1])"],
        &["map", &writing, "--items", "a", "b"],
        &["run", &writing],
    ] {
        ends(&small(args), 1, "reached: call stack exhausted (--stack, Limits::stack)");
    }
    assert_eq!(ends(&small(&["map", &prebuilt("upper"), "--items", "a"]), 0, "1 ok"), "A\n");
}

#[test]
fn fuel_and_memory_of_a_task_are_in_its_line() {
    let (_bound, dir) = (time_bound(), temp_dir());
    let module = file(&dir, &ECHO.text());
    let lines = |args: &[&str]| {
        let out = ends(
            &wpool(&[&["map", &module, "--items", "a", "b", "--format", "jsonl"], args].concat()),
            0,
            "2 ok",
        );
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    for line in lines(&[]) {
        assert_eq!((&line["fuel"], &line["mem_peak"]), (&Value::Null, &Value::from(128 << 10)));
    }
    let counted = lines(&["--fuel", "1M"]);
    assert!(counted[0]["fuel"].as_u64().is_some_and(|fuel| fuel > 0));
    assert_eq!(counted[0]["fuel"], counted[1]["fuel"]);
    assert_eq!(counted[0]["fuel"], lines(&["--fuel", "1G", "--threads"])[0]["fuel"]);
}

#[test]
fn a_whole_run_has_a_time_limit() {
    let _bound = time_bound();
    let failing = prebuilt("failing");
    let said = "wpool: the time of the whole run, 4s, was over (--global-timeout): 2 done, 1 not\n";
    let out = ends(
        &wpool(&["map", &failing, "--items", "good", "good", "loop", "-j2", "--global-timeout", "4s"]),
        124,
        said,
    );
    assert_eq!(out, "good\ngood\n");

    // The time that went by is no reason for fewer workers.
    let output = wpool(&["map", &failing, "--items", "loop", "-j1", "--global-timeout", "1s"]);
    ends(&output, 124, "0 done, 1 not");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!told.contains("fewer workers"), "{told}");

    // An input that never ends, and says nothing more.
    let begun = Instant::now();
    let mut child = command(program(), &["map", &failing, "--global-timeout", "3s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"good\n").unwrap();
    // `wait_with_output` would close it.
    let input = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(input);
    assert!(begun.elapsed() >= Duration::from_secs(3));
    let out = ends(&output, 124, "1 done, 0 not, and the rest of the input not read\n");
    assert_eq!(out, "good\n");

    ends(&wpool(&["map", &failing, "--items", "good", "bad", "--global-timeout", "1h"]), 1, "1 ok, 1 failed");
    ends(
        &wpool(&["map", &failing, "--items", "good", "--global-timeout", "1ns"]),
        124,
        "(--global-timeout): 0 done, ",
    );
}
