//! The main job, and its records.

use super::*;

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
        "wpool: task 2: input limit of 1 KiB reached by a longer record \
         (--max-input, Limits::input) (input \"xxxx",
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
