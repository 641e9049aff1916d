//! The command line, through the real binary with real processes.

mod support;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use sha2::{Digest, Sha256};
use support::command::*;
use support::{assert_no_workers, wait_until, workers_of};

// The main job.

#[test]
fn the_first_use_gives_every_result_in_order_from_several_processes() {
    let dir = scratch();
    let inputs = file(&dir, "inputs.txt", (0..13).map(|n| format!("{n}\n")).collect::<String>());
    let output = run(wpool(["map", &prebuilt("hello"), &path_text(&inputs), "-j", "5"]));
    ends(&output, 0, "13 tasks: 13 ok, 0 failed in ");
    let stdout = out(&output);
    let names: Vec<&str> = stdout.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(names, (0..13).map(|n| n.to_string()).collect::<Vec<_>>());
    let pids: BTreeSet<&str> = stdout.lines().map(|line| line.rsplit("(process ").next().unwrap()).collect();
    assert!(pids.len() >= 2, "{stdout}");
    assert!(err(&output).contains(&format!("({} workers)", pids.len())), "{}", err(&output));
}

/// Lines as they come in life: empty, long, with carriage returns, without a newline at the end.
fn corpus() -> Vec<u8> {
    let mut text = Vec::new();
    for n in 0..20_000u32 {
        let word = Sha256::digest(n.to_le_bytes()).iter().map(|b| format!("{b:02x} ")).collect::<String>();
        text.extend_from_slice(&word.as_bytes()[..n as usize % 97]);
        text.extend_from_slice(if n % 7 == 0 { b"\tgr\xc3\xb6\xc3\x9fe\r\n" } else { b"\n" });
    }
    text.extend_from_slice(b"the last line");
    text
}

fn natively(each: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let lines = corpus();
    let results = lines.split(|b| *b == b'\n').map(|line| [&each(line)[..], b"\n"].concat());
    results.collect::<Vec<_>>().concat()
}

#[track_caller]
fn same_as_native(guest: &str, each: impl Fn(&[u8]) -> Vec<u8>) {
    for extra in [&["--fresh"][..], &["--reuse", "-j", "3"]] {
        let output = with_input(wpool(args(&["map", &prebuilt(guest), "-"], extra)), &corpus());
        ends(&output, 0, "20001 tasks: 20001 ok");
        assert!(output.stdout == natively(&each), "{guest} {extra:?} differs from the native result");
    }
}

#[test]
fn upper_casing_is_the_same_as_natively() {
    same_as_native("upper", <[u8]>::to_ascii_uppercase);
}

#[test]
fn counting_words_is_the_same_as_natively() {
    same_as_native("wordcount", |line| {
        std::str::from_utf8(line).unwrap().split_whitespace().count().to_string().into_bytes()
    });
}

#[test]
fn hashing_is_the_same_as_natively() {
    same_as_native("sha256", |line| {
        Sha256::digest(line).iter().map(|b| format!("{b:02x}")).collect::<String>().into_bytes()
    });
}

#[test]
fn every_kind_of_module_runs_by_the_same_command() {
    for (module, extra, record, result) in [
        (example("echo"), &[][..], "a component without imports", "a component without imports"),
        (prebuilt("upper"), &[], "of wasip2", "OF WASIP2"),
        (example("add"), &["--func", "add"], "(3, 4)", "7"),
        (example("upper-p1"), &[], "a command of preview 1", "A COMMAND OF PREVIEW 1"),
        (prebuilt("args"), &["--as-args"], "one more", "one more"),
        (prebuilt("args"), &["--as-args=words", "--arg", "0"], "two more", "0\ntwo\nmore"),
        (
            prebuilt("stats"),
            &[],
            r#"{"values": [4.5]}"#,
            r#"{"count":1,"min":4.5,"max":4.5,"mean":4.5,"deviation":0.0}"#,
        ),
    ] {
        let output = with_input(wpool(args(&["map", &module], extra)), record.as_bytes());
        ends(&output, 0, "1 task: 1 ok");
        assert_eq!(out(&output).trim_end(), result, "{module}");
    }
}

#[test]
fn arguments_that_are_fixed_leave_the_rest_to_the_record() {
    let output = with_input(wpool(["map", &example("add"), "--func", "add", "--arg", "-5"]), b"7\n5\n");
    ends(&output, 0, "");
    assert_eq!(out(&output), "2\n0\n");
    let output =
        with_input(wpool(["map", &example("add"), "--func", "add", "--input-format", "json"]), b"[1, 2]\n");
    assert_eq!(out(&output), "3\n");
}

#[test]
fn an_initializer_and_its_arguments_reach_every_worker() {
    let output =
        run(wpool(["map", &prebuilt("counter"), "--items", "a", "b", "-j", "1", "--init-arg", "40"]));
    ends(&output, 0, "");
    assert_eq!(out(&output), "41\n42\n");
    let output =
        run(wpool(["map", &prebuilt("counter"), "--items", "a", "b", "-j", "1", "--init-arg", "many"]));
    ends(&output, 3, "wpool: the pool is broken: the initializer failed: expected a number");
    assert_eq!(err(&output).matches("broken").count(), 1, "{}", err(&output));
}

// Input.

#[test]
fn files_are_read_one_after_the_other_and_a_dash_is_stdin() {
    let dir = scratch();
    let (a, b) = (file(&dir, "a", "1\n2"), file(&dir, "b", "4\n"));
    let output =
        with_input(wpool(["map", &prebuilt("upper"), &path_text(&a), "-", &path_text(&b)]), b"\nx\r\n");
    ends(&output, 0, "5 tasks");
    assert_eq!(output.stdout, b"1\n2\n\nX\r\n4\n");
}

#[test]
fn records_end_where_they_are_told_to() {
    let output = with_input(wpool(["map", &prebuilt("upper"), "-0", "-z"]), b"a\nb\0\0c");
    assert_eq!(output.stdout, b"A\nB\0\0C\0");
    let output = with_input(wpool(["map", &prebuilt("upper"), "-d", "\\t"]), b"a\tb\n\t");
    assert_eq!(output.stdout, b"A\nB\n\n");
}

#[test]
fn stats_say_where_the_workers_time_went() {
    let output = run(wpool(["map", &prebuilt("upper"), "--stats", "-j", "1", "--items", "a", "b"]));
    assert_eq!(out(&output), "A\nB\n");
    for said in [
        "2 tasks: 2 ok",
        "where the time of 1 worker went",
        "in calls of the guest",
        "making instances",
        "without a task",
    ] {
        ends(&output, 0, said);
    }
    let output = run(wpool(["map", &prebuilt("upper"), "--items", "a", "b"]));
    assert!(!err(&output).contains("where the time"), "{}", err(&output));
}

#[test]
fn f71_an_empty_input_is_a_success_unless_it_must_not_be() {
    let output = run(wpool(["map", &prebuilt("upper")]));
    ends(&output, 0, "0 tasks: 0 ok, 0 failed");
    assert!(output.stdout.is_empty());
    let says_why = "wpool: the input has no records, which --no-input fail makes a failure\n";
    for quiet in [&["-v"][..], &["-q"]] {
        let output = run(wpool(args(&["map", &prebuilt("upper"), "--no-input=fail"], quiet)));
        ends(&output, 2, says_why);
    }
}

#[test]
fn a_record_over_the_limit_fails_and_its_neighbours_do_not() {
    let mut input = b"before\n".to_vec();
    input.extend(std::iter::repeat_n(b'x', 1 << 20));
    input.extend_from_slice(b"\nafter\n");
    let output = with_input(wpool(["map", &prebuilt("upper"), "--max-input", "1K"]), &input);
    ends(
        &output,
        1,
        "wpool: task 2: input limit of 1 KiB reached by a longer record (--max-input, Limits::input) (input \"xxxx",
    );
    assert_eq!(out(&output), "BEFORE\nAFTER\n");
}

#[test]
fn f77_results_appear_while_the_input_stalls() {
    let mut command = wpool(["map", &prebuilt("upper"), "--format", "jsonl"]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut stdin = running.child.stdin.take().unwrap();
    for record in ["one", "two"] {
        writeln!(stdin, "{record}").unwrap();
        assert!(running.line().contains(&record.to_uppercase()));
    }
    drop(stdin);
    assert!(running.end().0.success());
}

#[test]
fn f78_a_file_that_is_input_and_output_is_refused() {
    let dir = scratch();
    let both = file(&dir, "both", "a\n");
    let mut command = wpool(["map", &prebuilt("upper"), &path_text(&both)]);
    let append = File::options().append(true).open(&both).unwrap();
    let child = command.stdout(append).stderr(Stdio::piped()).spawn().unwrap();
    ends(&child.wait_with_output().unwrap(), 2, "is both input and output");
    assert_eq!(std::fs::read(&both).unwrap(), b"a\n");
}

// Bad input: one clear line, the documented code, nothing run.

#[test]
fn what_cannot_be_run_is_told_in_one_line() {
    let dir = scratch();
    let inputs = path_text(&file(&dir, "inputs", "a\n"));
    let upper = prebuilt("upper");
    let empty = path_text(&file(&dir, "empty.wasm", ""));
    let random = path_text(&file(&dir, "random.wasm", Sha256::digest(b"random")));
    let import =
        path_text(&file(&dir, "import.wat", r#"(module (import "env" "f" (func)) (func (export "run")))"#));
    let missing = path_text(&dir.path().join("missing"));
    let directory = path_text(dir.path());
    let add = example("add");
    for (args, said) in [
        (&["map", &missing, &inputs][..], "cannot read the module: No such file or directory"),
        (&["map", &directory, &inputs], "it is a directory"),
        (&["map", &empty, &inputs], "it is empty"),
        (&["map", &random, &inputs], "not a WebAssembly module"),
        (&["map", &import, &inputs], "the module needs what is not granted: env f"),
        (&["map", &upper, &missing], "cannot read"),
        (&["map", &upper, &directory], "it is a directory"),
        (&["map", &upper, &inputs, "--func", "nope"], "no function \"nope\" is exported; there is run"),
        (
            &["map", &add, &inputs],
            "no function `run` and no command is exported; name one of add, square, fib",
        ),
        (&["map", &add, &inputs, "--func", "add", "--arg", "x"], "argument 1 of add: expected s32"),
        (&["map", &add, &inputs, "--func", "add", "--kw", "a=1"], "no parameter has that name"),
        (&["map", &add, &inputs, "--func", "add", "--input-format", "raw"], "takes no raw bytes"),
        (&["map", &upper, &inputs, "--as-args"], "--as-args is for commands"),
        (&["map", &upper, &inputs, "--init", "nope"], "no function \"nope\" is exported"),
        (&["call", &add, "add(1)"], "add needs a value for argument 2 (s32)"),
        (&["call", &add, "add(1"], "is not a call"),
        (&["call", &add, "add(1, 2, 3)"], "add takes 2 arguments, 3 are given"),
        (&["inspect", &empty], "it is empty"),
        (&["compile", &random], "not a WebAssembly module"),
    ] {
        let output = run(wpool(args));
        ends(&output, 2, said);
        assert!(output.stdout.is_empty(), "{args:?}");
        let stderr = err(&output);
        assert!(stderr.starts_with("wpool: ") && stderr.trim_end().lines().count() == 1, "{stderr}");
    }
}

#[test]
fn wrong_usage_is_told_with_a_hint() {
    for (args, said) in [
        (&["map", "-j", "abc", "m.wasm"][..], "invalid value 'abc' for '--jobs <N>'"),
        (&["map", "-j", "-5%", "m.wasm"], "unexpected argument '-5'"),
        (&["map", "--jobs=-5%", "m.wasm"], "invalid value '-5%' for '--jobs <N>'"),
        (&["map", "m.wasm", "--unorderd"], "--unordered"),
        (&["mapp", "m.wasm"], "'map'"),
        (&["map"], "<MODULE>"),
        (&["map", "m.wasm", "--timeout", "NaN"], "expected a time"),
        (&["map", "m.wasm", "--max-input", "4G"], "the most is 992M"),
        (&["map", "m.wasm", "-d", "ab"], "expected one character"),
        (&["map", "m.wasm", "--kw", "x"], "expected NAME=VALUE"),
        (&["map", "m.wasm", "--halt", "later,fail=1"], "expected now|soon, a comma, and fail=N"),
        (&["map", "m.wasm", "--halt", "now,fail=0"], "invalid value 'now,fail=0' for '--halt <WHEN,WHY>'"),
        (&["map", "m.wasm", "--max-fail", "0"], "invalid value '0' for '--max-fail <N>'"),
        (
            &["map", "m.wasm", "--max-fail", "1", "--halt", "now,fail=1"],
            "cannot be used with '--halt <WHEN,WHY>'",
        ),
        (&["map", "m.wasm", "--retries", "1", "--retry-on", "lost,bad-input"], "invalid value 'bad-input'"),
        (
            &["map", "m.wasm", "--retries", "1", "--retry-on", "x"],
            "expected one of lost, timeout, error, worker-lost",
        ),
        (&["map", "m.wasm", "--retry-on", "lost"], "--retries <N>"),
        (&["map", "m.wasm", "--retry-delay", "1s"], "--retries <N>"),
        (&["map", "m.wasm", "--retries", "1", "--retry-delay", "soon"], "expected a time"),
        (&["map", "m.wasm", "--retries", "1", "--backoff", "exponential"], "--retry-delay <TIME>"),
        (&["map", "m.wasm", "--retries", "1", "--retry-delay", "1", "--backoff", "x"], "fixed, exponential"),
        (&["map", "m.wasm", "--retries", "1", "--retry-max-delay", "1s"], "--backoff <HOW>"),
        (
            &["map", "m.wasm", "--retries", "1", "--poison-limit", "0"],
            "invalid value '0' for '--poison-limit <N>'",
        ),
        (&["map", "m.wasm", "--max-memory-per-child", "0"], "expected more than 0"),
        (&["map", "m.wasm", "--rss", "much"], "expected a size"),
        (&["map", "m.wasm", "--rss", "1G", "--threads"], "cannot be used with '--threads'"),
        (&["map", "m.wasm", "--idle-timeout", "never"], "expected a time"),
        (&["map", "m.wasm", "--start-timeout=-1"], "expected a time"),
        (&["map", "m.wasm", "--shutdown-timeout", "x"], "expected a time"),
        (&["map", "m.wasm", "--start-method", "fork"], "forkserver, spawn"),
        (&["map", "m.wasm", "--progress", "much"], "auto, bar, counter, none"),
        (&[], "Usage: wpool"),
    ] {
        ends(&run(wpool(args)), 2, said);
    }
}

#[test]
fn help_version_and_generated_files_go_to_stdout() {
    for (args, said) in [
        (&["--version"][..], "wpool "),
        (&["-h"], "Usage: wpool"),
        (&["map", "--help"], "Exit codes:"),
        (&["--generate", "man"], "wpool\\-map"),
        (&["--generate", "complete-bash"], "_wpool"),
        (&["--generate", "complete-zsh"], "#compdef wpool"),
        (&["--generate", "complete-fish"], "complete -c wpool"),
    ] {
        let output = run(wpool(args));
        ends(&output, 0, "");
        assert!(out(&output).contains(said), "no {said:?} in what {args:?} prints");
    }
}

#[test]
fn a_cache_that_cannot_be_used_is_a_warning() {
    let dir = scratch();
    let cache = dir.path().join("cache");
    std::fs::create_dir(&cache).unwrap();
    std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(0o777)).unwrap();
    let cache = path_text(&cache);
    let call = ["map", &prebuilt("upper"), "--items", "a", "--cache-dir", &cache];
    let output = run(wpool(call));
    ends(&output, 0, "warning: the cache ");
    assert_eq!(out(&output), "A\n");
    assert!(err(&run(wpool(args(&call, &["--quiet"])))).is_empty());
    assert!(!err(&run(wpool(args(&call, &["--no-cache"])))).contains("warning"));
}

#[test]
fn f84_zero_jobs_are_the_default_and_too_many_are_cut() {
    for jobs in ["0", "50%", "+1", "-1", "-1000"] {
        ends(&run(wpool(["map", &prebuilt("upper"), "--items", "a", "-j", jobs])), 0, "1 ok");
    }
    let output = run(wpool(["map", &prebuilt("upper"), "--items", "a", "-j", "1000000000000"]));
    ends(&output, 0, "warning: ");
    ends(&output, 0, "instead of 1000000000000");
}

#[test]
fn a_dry_run_checks_and_runs_nothing() {
    let output = run(wpool(["map", &prebuilt("hello"), "--items", "a", "--dry-run"]));
    ends(&output, 0, "would call run: func");
    ends(&run(wpool(["map", &prebuilt("hello"), "--dry-run", "-j", "1"])), 0, "with at most 1 worker\n");
    assert!(output.stdout.is_empty());
    ends(
        &run(wpool(["map", &prebuilt("hello"), "--items", "a", "--dry-run", "--func", "x"])),
        2,
        "no function",
    );
    ends(
        &run(wpool(["map", &prebuilt("hello"), "--items", "a", "--dry-run", "--init", "x"])),
        2,
        "no function",
    );
    ends(
        &run(wpool(["map", &prebuilt("hello"), "/no/such/file", "--dry-run"])),
        2,
        "cannot read /no/such/file",
    );
}

#[test]
fn a_dry_run_compiles_the_module_and_reads_no_record() {
    let dir = scratch();
    let cache = path_text(&dir.path().join("cache"));
    let call =
        ["map", &example("add"), "--func", "add", "--dry-run", "--cache-dir", &cache, "--items", "no tuple"];
    ends(&run(wpool(call)), 0, "would call add: func");
    let is_module = |entry: &std::fs::DirEntry| entry.path().extension().is_some_and(|e| e == "cwasm");
    assert_eq!(std::fs::read_dir(&cache).unwrap().flatten().filter(is_module).count(), 1);
}

#[test]
fn items_may_begin_with_a_dash() {
    let output = run(wpool(["map", &prebuilt("upper"), "--items", "-5", "b", "-0.5", "-j", "1"]));
    ends(&output, 0, "3 tasks");
    assert_eq!(out(&output), "-5\nB\n-0.5\n");
    let output = run(wpool(["map", &prebuilt("upper"), "--items=-x", "--items=--help", "--items", "y"]));
    ends(&output, 0, "3 tasks");
    assert_eq!(out(&output), "-X\n--HELP\nY\n");
}

// Failed tasks.

#[test]
fn a_failed_task_is_named_with_its_input_and_the_others_are_delivered() {
    let items = ["good", "bad \x1b[31m luck", "panic", "exit", "fine"];
    let output = run(wpool(args(&["map", &prebuilt("failing"), "--items"], &items)));
    ends(&output, 1, "5 tasks: 2 ok, 3 failed");
    assert_eq!(out(&output), "good\nfine\n");
    let stderr = err(&output);
    for said in [
        "wpool: task 2: bad \\x1b[31m luck is bad (input \"bad \\x1b[31m luck\")\n",
        "wpool: task 3: trap: unreachable (input \"panic\")\n    ",
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
    let said = "wpool: task 2: worker died: SIGKILL (by someone else; perhaps the machine is out of memory); not tried again";
    assert!(stderr.contains(said), "{stderr}");
    assert!(stderr.contains("2 tasks: 1 ok, 1 failed in ") && stderr.contains(" died)\n"), "{stderr}");
}

/// Workers that have given the results, by their names.
fn workers_named(stdout: &str) -> BTreeSet<String> {
    stdout.lines().map(|line| line.split(' ').nth(3).unwrap().to_owned()).collect()
}

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

// Processes that die, output that cannot be written, signals.

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
    // The output is stuck: nobody reads it.
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

// The other subcommands.

#[test]
fn a_call_prints_its_result() {
    let call = |args: &[&str]| {
        let output = run(wpool(args));
        ends(&output, 0, "");
        out(&output)
    };
    let add = example("add");
    assert_eq!(call(&["call", &add, "add(3, -4)"]), "-1\n");
    assert_eq!(call(&["call", &add, "--func", "square", "--arg", "1.5"]), "2.25\n");
    assert_eq!(call(&["call", &prebuilt("upper"), "run(\"abc\")"]), "ABC\n");
    assert_eq!(call(&["call", &add, "add(3, -4)", "--output-format", "json"]), "-1\n");
    let output = run(wpool(["call", &prebuilt("failing"), "run(\"bad\")"]));
    ends(&output, 1, "wpool: bad is bad\n");
    ends(
        &run(wpool(["call", &prebuilt("failing"), "run(\"loop\")", "--timeout", "0.2"])),
        1,
        "timeout after 200ms",
    );
}

#[test]
fn a_command_runs_with_arguments_input_and_its_own_exit_code() {
    let dir = scratch();
    let input = path_text(&file(&dir, "input", "from a file\n"));
    let args_guest = prebuilt("args");
    let output = run(wpool(["run", "--input", &input, &args_guest, "0", "--two", "-j"]));
    ends(&output, 0, "");
    assert_eq!(out(&output), "0\n--two\n-j\nfrom a file\n");
    // Commands of preview 2 can only tell success from failure.
    ends(&run(wpool(["run", &args_guest, "7"])), 1, "");
    let output = with_input(wpool(["run", "--input", "-", &example("upper-p1")]), b"typed\n");
    ends(&output, 0, "");
    assert_eq!(out(&output), "TYPED\n");
    assert_eq!(out(&run(wpool(["run", &args_guest, "--", "0", "--help"]))), "0\n--help\n");
}

#[test]
fn a_process_ends_with_documented_codes() {
    let dir = scratch();
    let wat = |name: &str, text: &str| path_text(&file(&dir, name, text));
    let trap =
        wat("trap.wat", r#"(module (memory (export "memory") 1) (func (export "_start") unreachable))"#);
    let endless =
        wat("loop.wat", r#"(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))"#);
    let import = wat("import.wat", r#"(module (import "env" "f" (func)) (func (export "_start")))"#);
    let broken = wat("broken.wat", "(module (func (export \"run\") (result i32)))");
    let missing = path_text(&dir.path().join("missing"));
    let exit = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const 7))))"#;
    let exit = wat("exit.wat", exit);
    let failing = prebuilt("failing");
    let cases: &[(&[&str], i32, &str)] = &[
        (&["run", "--func", "run", "--arg", "good", &failing], 0, ""),
        (&["run", "--func", "run", "--arg", "bad", &failing], 1, "wpool: bad is bad"),
        (&["run", &exit], 7, ""),
        (&["run", &trap], 134, "trap: unreachable"),
        (&["run", "--timeout", "200ms", &endless], 124, "timeout after 200ms"),
        (&["run", &import], 126, "not granted"),
        (&["run", &broken], 126, "the module is refused"),
        (&["run", &missing], 127, "No such file"),
        (&["run", "--func", "nope", &trap], 127, "no function \"nope\""),
        (&["run", "--input", &missing, &trap], 2, "cannot read"),
        (&["run", &failing, "an", "argument"], 2, "given with --arg"),
    ];
    for (args, code, said) in cases {
        ends(&run(wpool(*args)), *code, said);
    }
}

#[test]
fn a_process_streams_its_output_and_ends_with_signals() {
    let endless = r#"(module
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "\08\00\00\00\03\00\00\00hi\0a")
      (func (export "_start")
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
        (loop (br 0))))"#;
    let dir = scratch();
    let endless = path_text(&file(&dir, "endless.wat", endless));
    let start = || {
        let mut running = Running::start(wpool(["run", &endless]));
        assert_eq!(running.line(), "hi");
        running
    };
    for signal in [Signal::INT, Signal::TERM] {
        let running = start();
        running.signal(signal);
        assert_eq!(running.end().0.signal(), Some(signal.as_raw()));
    }

    let running = start();
    let workers = workers_of(running.child.id());
    kill(workers[0], Signal::KILL);
    let (status, stderr) = running.end();
    assert_eq!(status.code(), Some(137), "{stderr}");
    assert!(stderr.contains("ended by SIGKILL"), "{stderr}");
}

#[test]
fn inspect_describes_a_module() {
    let output = run(wpool(["inspect", &prebuilt("hello")]));
    ends(&output, 0, "");
    for said in
        ["component, ", "sha256 ", "wasi:cli/stdout@", "granted", "run: func(input: list<u8>)", "(default)"]
    {
        assert!(out(&output).contains(said), "no {said:?} in {}", out(&output));
    }
    let output = run(wpool(["inspect", &example("add"), "--json"]));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let bytes = std::fs::read(example("add")).unwrap();
    let digest: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!((&json["kind"], &json["size"]), (&Value::from("core"), &Value::from(bytes.len())));
    assert_eq!(json["digest"], digest);
    assert_eq!(json["exports"][0]["name"], "add");
    assert_eq!(json["exports"][0]["wit"], "add: func(s32, s32) -> s32");
    assert_eq!(json["exports"][0]["role"], "function");
    let dir = scratch();
    let import = file(&dir, "import.wat", r#"(module (import "env" "f" (func)))"#);
    let output = run(wpool(["inspect", &path_text(&import), "--json"]));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&json["imports"][0]["name"], &json["imports"][0]["granted"]),
        (&"env f".into(), &false.into())
    );
}

#[test]
fn compile_fills_the_cache_and_says_where() {
    let dir = scratch();
    let cache = path_text(&dir.path().join("new"));
    let output = run(wpool(["compile", "--cache-dir", &cache, &example("add"), &example("echo")]));
    ends(&output, 0, "");
    let places: Vec<String> =
        out(&output).lines().map(|l| l.rsplit(": ").next().unwrap().to_owned()).collect();
    assert_eq!(places.len(), 2);
    assert!(places.iter().all(|place| place.starts_with(&cache) && Path::new(place).exists()));
    std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(0o755)).unwrap();
    ends(&run(wpool(["compile", "--cache-dir", &cache, &example("add")])), 4, "compiled, but not cached");
}

#[test]
fn compile_goes_on_behind_a_module_that_is_refused() {
    let dir = scratch();
    let cache = path_text(&dir.path().join("new"));
    let empty = path_text(&file(&dir, "empty.wasm", ""));
    let output = run(wpool(["compile", "--cache-dir", &cache, "/no/such/module", &empty, &example("add")]));
    ends(&output, 2, "wpool: /no/such/module: cannot read the module: No such file or directory");
    ends(&output, 2, "it is empty");
    assert!(
        out(&output).starts_with(&example("add")) && out(&output).lines().count() == 1,
        "{}",
        out(&output)
    );
}

#[test]
fn the_sandbox_is_a_choice_and_off_is_loud() {
    let upper = support::repo("guest/prebuilt/upper.wasm");
    let upper = upper.to_str().unwrap();
    for choice in ["default", "off"] {
        let output = run(wpool(["map", "--sandbox", choice, upper, "--items", "a", "b"]));
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"A\nB\n"[..]), "{}", err(&output));
        let said = err(&output).matches("the sandbox is OFF").count();
        assert_eq!(said, usize::from(choice == "off"), "{}", err(&output));
    }
    let output = run(wpool(["call", "--sandbox", "maybe", upper, "run(\"a\")"]));
    ends(&output, 2, "expected strict, default or off");
    let output = run(wpool(["map", "--sandbox", "strict", "--threads", upper, "--items", "a"]));
    ends(&output, 3, "the sandbox is strict");
}

#[test]
fn doctor_tells_what_is_enforced() {
    let output = run(wpool(["doctor"]));
    ends(&output, 0, "");
    for said in [
        "kernel: Linux ",
        "steps of a worker process:",
        "no new privileges: enforced",
        "no connection: by seccomp",
        "of a compiler, otherwise:",
        "of a worker with --net HOST:PORT, otherwise:",
        "all holds that must, without grants: --sandbox strict runs",
    ] {
        assert!(out(&output).contains(said), "no {said:?} in {}", out(&output));
    }
    let status = support::loader().from_bytes(b"(module)").map(|_| ());
    assert!(status.is_ok());
}

#[test]
fn colour_is_used_only_where_it_is_wanted() {
    let call = ["map", &prebuilt("failing"), "--items", "bad"];
    assert!(!err(&run(wpool(call))).contains('\x1b'));
    assert!(err(&run(wpool(args(&call, &["--color", "always"])))).contains("\x1b[31mwpool:\x1b[0m task 1"));
    let mut forced = wpool(call);
    forced.env("CLICOLOR_FORCE", "1");
    assert!(err(&run(forced)).contains('\x1b'));
    let mut refused = wpool(call);
    refused.env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1");
    assert!(!err(&run(refused)).contains('\x1b'));
}

#[test]
fn wrong_arguments_of_a_process_are_wrong_usage() {
    let add = example("add");
    for (given, said) in [
        (&["--arg", "x", "--arg", "1"][..], "expected s32"),
        (&["--arg", "1"], "needs a value"),
        (&["--arg", "1", "--arg", "2", "--arg", "3"], "takes 2 arguments, 3 are given"),
        (&["--kw", "zz=2"], "no parameter has that name"),
    ] {
        let output = run(wpool(
            args(&["run", "--func", "add", &add], &[]).iter().take(3).chain(given).chain(&[&add[..]]),
        ));
        ends(&output, 2, said);
    }
}

#[test]
fn a_process_whose_result_cannot_be_written_ends_with_wpools_own_code() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = wpool(["run", "--func", "add", "--arg", "1", "--arg", "2", &example("add")]);
    let output = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    ends(&output, 125, "cannot write output: No space left on device");
}

#[test]
fn an_empty_cache_directory_in_the_environment_is_none() {
    let home = scratch();
    let mut command = wpool(["compile", &example("add")]);
    command.env("WPOOL_CACHE_DIR", "").env_remove("XDG_CACHE_HOME").env("HOME", home.path());
    let output = run(command);
    ends(&output, 0, "");
    assert!(out(&output).contains(".cache/wpool/"), "{}", out(&output));
}

#[test]
fn a_damaged_cache_key_is_named_and_nothing_else_goes_wrong() {
    let home = scratch();
    let cached = || {
        let mut command = wpool(["call", &example("add"), "add(1, 2)"]);
        command.env("WPOOL_CACHE_DIR", home.path().join("cache"));
        run(command)
    };
    ends(&cached(), 0, "");
    let key = home.path().join("cache/key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&key, "short").unwrap();
    let output = cached();
    ends(&output, 0, "its key is damaged (remove ");
    assert_eq!(out(&output), "3\n");
}

#[test]
fn ctrl_c_lets_a_process_that_looks_return_what_it_has() {
    let dir = scratch();
    let looking = path_text(&file(&dir, "looking.wat", support::LOOKING));
    let mut running = Running::start(wpool(["run", &looking]));
    // From its start on, `wpool` hears signals, and there is a worker only after that.
    let pid = running.child.id();
    wait_until("the process is there", Duration::from_secs(20), || {
        process_name(pid) == Some("Process-1".to_owned())
    });
    running.signal(Signal::INT);
    assert_eq!(running.line(), "7");
    assert_eq!(running.end().0.signal(), Some(libc::SIGINT));
}

/// The name of the one worker of `parent`, once it has one.
fn process_name(parent: u32) -> Option<String> {
    let [worker] = workers_of(parent)[..] else { return None };
    Some(std::fs::read_to_string(format!("/proc/{worker}/comm")).ok()?.trim_end().to_owned())
}

/// The names that `wpool cache` lists, and what it says.
fn cached(dir: &str) -> (Vec<String>, String) {
    let output = run(wpool(["cache", "--cache-dir", dir]));
    ends(&output, 0, "");
    let name = |line: &str| line.split('\t').nth(3).unwrap().to_owned();
    let mut names: Vec<String> = out(&output).lines().map(name).collect();
    names.sort();
    (names, err(&output))
}

#[test]
fn f150_the_cache_is_listed_and_cleaned() {
    let dir = scratch();
    let cache = path_text(&dir.path().join("cache"));
    let module = |name: &str, n: u32| {
        let text = format!("(module (func (export \"run\") (result i32) (i32.const {n})))");
        path_text(&file(&dir, name, text))
    };
    let modules = [module("one.wat", 1), module("two\x1b[2J.wat", 2), module("three.wat", 3)];
    // Nothing is made only to look at it.
    assert_eq!(cached(&cache).0, Vec::<String>::new());
    ends(&run(wpool(["cache", "clean", "--all", "--cache-dir", &cache])), 0, "removed 0 compiled modules");
    assert!(!Path::new(&cache).exists());

    let all = [&["compile", "--cache-dir", &cache][..], &modules.each_ref().map(String::as_str)].concat();
    ends(&run(wpool(&all)), 0, "");
    let (names, said) = cached(&cache);
    assert_eq!(names, ["one.wat", "three.wat", "two\\x1b[2J.wat"]);
    assert!(said.contains("3 compiled modules, ") && said.contains(" of at most 2.00 GiB, in "), "{said}");
    let digest = std::process::Command::new("sha256sum").arg(&modules[0]).output().unwrap();
    let listed = run(wpool(["cache", "list", "--cache-dir", &cache]));
    assert!(out(&listed).lines().any(|line| line.starts_with(&out(&digest)[..64])), "{}", out(&listed));
    assert_eq!(out(&run(wpool(["cache", "dir", "--cache-dir", &cache]))), format!("{cache}\n"));

    // By the limits, nothing is to be done yet.
    ends(&run(wpool(["cache", "clean", "--cache-dir", &cache])), 0, "removed 0 compiled modules");
    ends(
        &run(wpool(["cache", "clean", "--older-than", "1h", "--cache-dir", &cache])),
        0,
        "there are 3 compiled modules",
    );
    ends(
        &run(wpool(["cache", "--cache-dir", &cache, "clean", "--max-size", "1"])),
        0,
        "removed 3 compiled modules",
    );
    assert!(cached(&cache).0.is_empty());
    // And they are compiled again.
    ends(&run(wpool(["call", &modules[0], "run", "--cache-dir", &cache])), 0, "");
    assert_eq!(cached(&cache).0, ["one.wat"]);
}

#[test]
fn f150_what_is_added_to_a_full_cache_drives_out_what_was_used_longest_ago() {
    let dir = scratch();
    let cache = path_text(&dir.path().join("cache"));
    let module = |n: u32| {
        let text = format!("(module (func (export \"run\") (result i32) (i32.const {n})))");
        path_text(&file(&dir, &format!("{n}.wat"), text))
    };
    for n in 1..=3 {
        ends(&run(wpool(["compile", &module(n), "--cache-dir", &cache, "--cache-size", "1"])), 0, "");
        assert_eq!(cached(&cache).0, [format!("{n}.wat")]);
    }
    let mut by_environment = wpool(["compile", &module(4), "--cache-dir", &cache]);
    by_environment.env("WPOOL_CACHE_SIZE", "1");
    ends(&run(by_environment), 0, "");
    assert_eq!(cached(&cache).0, ["4.wat"]);
    // No limit.
    ends(
        &run(wpool(["compile", &module(5), "--cache-dir", &cache, "--cache-size", "0", "--cache-age", "0"])),
        0,
        "",
    );
    assert_eq!(cached(&cache).0.len(), 2);
}

#[test]
fn f150_a_run_goes_on_when_its_module_is_removed_from_the_cache() {
    let dir = scratch();
    let cache = path_text(&dir.path().join("cache"));
    let mut command =
        wpool(["map", &prebuilt("upper"), "--cache-dir", &cache, "-j", "2", "--max-tasks-per-child", "1"]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut stdin = running.child.stdin.take().unwrap();
    stdin.write_all(b"a\n").unwrap();
    assert_eq!(running.line(), "A");
    ends(&run(wpool(["cache", "clean", "--all", "--cache-dir", &cache])), 0, "removed 1 compiled module,");
    stdin.write_all(b"b\nc\nd\n").unwrap();
    assert_eq!([running.line(), running.line(), running.line()], ["B", "C", "D"]);
    drop(stdin);
    let (status, said) = running.end();
    assert!(status.success(), "{said}");
}

/// A module that takes a while, whose compiler is stopped as soon as it is there. Also its process.
fn stopped_compiler(dir: &tempfile::TempDir, stderr: Stdio) -> (Child, u32) {
    let body = "(local.set 0 (i64.mul (i64.add (local.get 0) (i64.const 7)) (local.get 0)))".repeat(50);
    let function = format!("(func (export \"f0\") (param i64) (result i64) {body} (local.get 0))");
    let functions: String = (0..1500).map(|n| function.replacen("f0", &format!("f{n}"), 1)).collect();
    let module = path_text(&file(dir, "large.wat", format!("(module {functions})")));
    let cache = path_text(&dir.path().join("cache"));
    let mut command = wpool(["compile", &module, "--cache-dir", &cache]);
    let child = command.env("TERM", "xterm").stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
    drop(command);
    let mut compiler = 0;
    wait_until("the compiler runs", LONG, || {
        compiler = workers_of(child.id()).first().copied().unwrap_or(0);
        compiler != 0
    });
    kill(compiler, Signal::STOP);
    (child, compiler)
}

#[test]
fn f148_a_compilation_that_takes_long_is_told_once_where_there_is_no_terminal() {
    let dir = scratch();
    let (mut child, compiler) = stopped_compiler(&dir, Stdio::piped());
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.starts_with("wpool: compiling large.wat (") && line.ends_with(" MiB) ... 1 s\n"), "{line}");
    kill(compiler, Signal::CONT);
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    assert!(child.wait().unwrap().success());
}

#[test]
fn f148_a_compilation_that_takes_long_has_a_line_on_a_terminal_until_it_is_over() {
    let dir = scratch();
    let (mut ours, theirs) = terminal();
    let (mut child, compiler) = stopped_compiler(&dir, theirs.into());
    let mut said = Vec::new();
    let has = |said: &[u8], text: &[u8]| said.windows(text.len()).any(|window| window == text);
    // Drawn anew, with another time.
    while !(has(&said, b"... 1 s") && has(&said, b"... 2 s")) {
        let mut some = [0; 1000];
        let len = ours.read(&mut some).unwrap();
        said.extend_from_slice(&some[..len]);
    }
    assert!(has(&said, b"\r\x1b[2Kcompiling large.wat ("), "{}", String::from_utf8_lossy(&said));
    kill(compiler, Signal::CONT);
    // The end of a terminal that nobody has open any more is an error.
    let _end = ours.read_to_end(&mut said);
    assert!(said.ends_with(b"\r\x1b[2K"), "{}", String::from_utf8_lossy(&said));
    assert!(child.wait().unwrap().success());
}
