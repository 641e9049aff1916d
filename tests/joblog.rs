//! The job log and runs that are resumed: rows F81 to F83 of the list of faults.
//!
//! GNU parallel, measured: a log on a full disk is not noticed (exit code 0); of 60 jobs, 2 run twice after
//! its parent was killed.

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;
use support::command::{
    Running, args, by_shell, ends, err, example, file, out, path_text, prebuilt, run, scratch, with_input,
    wpool,
};
use support::{assert_no_workers, repo, time_bound, wait_until};

/// The columns of each line of a log, by their names.
#[track_caller]
fn lines(log: &Path) -> Vec<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(log).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    let mut lines = text.lines().map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>());
    let Some(names) = lines.next() else { return Vec::new() };
    let named = |line: Vec<String>| {
        assert_eq!(line.len(), names.len(), "{line:?}");
        names.iter().cloned().zip(line).collect()
    };
    lines.map(named).collect()
}

/// One column of all lines.
#[track_caller]
fn column(log: &Path, name: &str) -> Vec<String> {
    lines(log).into_iter().map(|mut line| line.remove(name).unwrap()).collect()
}

fn map(guest: &str, input: &str, log: &str, rest: &[&str]) -> Command {
    wpool(args(&["map", &prebuilt(guest), input, "--joblog", log], rest))
}

// What is in a log.

#[test]
fn a_log_has_the_columns_of_gnu_parallel_first() {
    let dir = scratch();
    let log = dir.path().join("log");
    let output =
        with_input(map("failing", "-", &path_text(&log), &["-j", "1"]), b"fine\nbad\ttab\npanic\nexit\n");
    ends(&output, 1, "4 tasks: 1 ok, 3 failed");
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(
        text.starts_with("Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\tKind\t"),
        "{text}"
    );
    assert_eq!(column(&log, "Seq"), ["1", "2", "3", "4"]);
    assert_eq!(column(&log, "Send"), ["4", "7", "5", "4"]);
    assert_eq!(column(&log, "Receive"), ["4", "0", "0", "0"]);
    assert_eq!(column(&log, "Exitval"), ["0", "1", "1", "1"]);
    assert_eq!(column(&log, "Command"), ["fine", "bad\\ttab", "panic", "exit"]);
    assert_eq!(column(&log, "Kind"), ["ok", "failed", "trap", "exit"]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    for (started, took) in column(&log, "Starttime").iter().zip(column(&log, "JobRuntime")) {
        let (started, took): (f64, f64) = (started.parse().unwrap(), took.parse().unwrap());
        assert!(started > now - 3600.0 && started <= now && took < 60.0, "{started} {took}");
    }
    let module = Command::new("sha256sum").arg(prebuilt("failing")).output().unwrap();
    assert!(out(&module).starts_with(&column(&log, "Module")[0]));
}

#[test]
fn a_task_that_is_tried_again_has_one_line_with_its_last_attempt() {
    let dir = scratch();
    let log = path_text(&dir.path().join("log"));
    let output = with_input(map("failing", "-", &log, &["--retries", "2", "--unordered"]), b"a\nbad\n");
    ends(&output, 1, "2 tasks: 1 ok, 1 failed");
    let mut found: Vec<_> =
        column(Path::new(&log), "Kind").into_iter().zip(column(Path::new(&log), "Attempt")).collect();
    found.sort();
    assert_eq!(found, [("failed".to_owned(), "3".to_owned()), ("ok".to_owned(), "1".to_owned())]);
}

#[test]
fn what_is_known_of_fuel_and_memory_is_in_the_log_and_a_long_record_is_not() {
    let dir = scratch();
    let log = dir.path().join("log");
    let record = "x".repeat(1000);
    let output =
        with_input(map("upper", "-", &path_text(&log), &["--fuel", "100000000", "--tag"]), record.as_bytes());
    ends(&output, 0, "1 ok");
    for name in ["Fuel", "Memory"] {
        assert!(column(&log, name)[0].parse::<u64>().unwrap() > 1000, "{name}");
    }
    assert_eq!(column(&log, "Command"), [format!("{}…", "x".repeat(48))]);
}

#[test]
fn what_was_given_up_is_not_in_the_log() {
    let dir = scratch();
    let log = path_text(&dir.path().join("log"));
    let input =
        (0..1000).map(|n| if n == 1 { "bad\n".to_owned() } else { format!("{n}\n") }).collect::<String>();
    let output = with_input(map("failing", "-", &log, &["-j", "1", "--max-fail", "1"]), input.as_bytes());
    ends(&output, 5, "stopped by --max-fail");
    let seqs = column(Path::new(&log), "Seq");
    let not_done =
        column(Path::new(&log), "Kind").iter().filter(|kind| !["ok", "failed"].contains(&&kind[..])).count();
    assert_eq!((not_done, out(&output).lines().count() + 1), (0, seqs.len()));
    // And the rest can be done later.
    let output = with_input(map("failing", "-", &log, &["--resume"]), input.as_bytes());
    ends(&output, 0, "(1 had failed)");
    let mut seqs: Vec<u64> = column(Path::new(&log), "Seq").iter().map(|seq| seq.parse().unwrap()).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=1000).collect::<Vec<_>>());
}

#[test]
fn a_log_is_not_said_to_have_other_tasks_by_a_run_that_was_stopped() {
    let dir = scratch();
    let log = path_text(&dir.path().join("log"));
    ends(&with_input(map("failing", "-", &log, &[]), b"a\nz\n"), 0, "2 ok");
    // More than is read ahead, so that its end is not seen.
    let input = format!("a\nbad\n{}z\n", "0123456789\n".repeat(200_000));
    let output =
        with_input(map("failing", "-", &log, &["-j", "1", "--max-fail", "1", "--resume"]), input.as_bytes());
    ends(&output, 5, "stopped by --max-fail");
    assert!(!err(&output).contains("warning"), "{}", err(&output));
}

#[test]
fn a_log_is_written_over_or_behind_what_is_there() {
    let dir = scratch();
    let log = dir.path().join("log");
    for (given, count) in [(path_text(&log), 1), (path_text(&log), 1), (format!("+{}", path_text(&log)), 2)] {
        ends(&run(wpool(["map", &prebuilt("upper"), "--items", "a", "--joblog", &given])), 0, "1 ok");
        assert_eq!(lines(&log).len(), count);
    }
}

#[test]
fn a_report_sums_a_log_up() {
    let dir = scratch();
    let log = path_text(&dir.path().join("log"));
    with_input(map("failing", "-", &log, &[]), b"a\nbad\nb\n");
    let output = run(wpool(["report", &log]));
    ends(&output, 0, "");
    assert!(out(&output).starts_with("3 runs: 1 failed, 2 ok\ntime: "), "{}", out(&output));
    ends(&run(wpool(["report", &prebuilt("upper")])), 2, "it is not a job log");
    ends(
        &run(wpool(["report", "/nowhere"])),
        2,
        "cannot report on /nowhere: it cannot be read: No such file",
    );
}

// Resuming.

#[test]
fn what_is_done_is_skipped_and_numbers_stay_those_of_the_input() {
    let dir = scratch();
    let log = path_text(&dir.path().join("log"));
    ends(&with_input(map("upper", "-", &log, &[]), b"a\nb\na\n"), 0, "3 tasks: 3 ok");
    // In another order, with a record before them and one more of each.
    let output =
        with_input(map("upper", "-", &log, &["--resume", "--format", "jsonl"]), b"new\nb\na\na\na\nb\n");
    ends(&output, 0, "6 tasks: 3 ok, 0 failed, 3 skipped in");
    let seqs: Vec<u64> = out(&output)
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, [1, 5, 6]);
    assert_eq!(column(Path::new(&log), "Seq"), ["1", "2", "3", "1", "5", "6"]);
    let output = with_input(map("upper", "-", &log, &["--resume"]), b"new\nb\na\na\na\nb\n");
    ends(&output, 0, "6 tasks: 0 ok, 0 failed, 6 skipped in");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_failed_task_is_named_by_its_number_in_the_input() {
    let dir = scratch();
    let log = path_text(&dir.path().join("log"));
    with_input(map("failing", "-", &log, &[]), b"a\nb\n");
    let output = with_input(map("failing", "-", &log, &["--resume", "--retries", "1", "-v"]), b"a\nb\nbad\n");
    ends(&output, 1, "wpool: task 3: bad is bad (input \"bad\", attempt 2)");
    assert!(err(&output).contains("task 3: attempt 1 failed"), "{}", err(&output));
}

#[test]
fn failed_tasks_are_skipped_run_again_or_all_that_is_run() {
    let input = b"a\nbad\nbad\npanic\n";
    let more = [&input[..], b"z\n"].concat();
    for (option, results, said) in [
        ("--resume", "z\n", "5 tasks: 1 ok, 0 failed, 4 skipped (3 had failed) in"),
        ("--resume-failed", "z\n", "5 tasks: 1 ok, 3 failed, 1 skipped in"),
        ("--retry-failed", "", "5 tasks: 0 ok, 3 failed, 2 skipped in"),
    ] {
        let dir = scratch();
        let log = path_text(&dir.path().join("log"));
        with_input(map("failing", "-", &log, &[]), input);
        // Twice: what failed again has failed once, not twice.
        for round in 0..2 {
            let output = with_input(map("failing", "-", &log, &[option]), &more);
            if round == 0 {
                ends(&output, i32::from(option != "--resume"), said);
                assert_eq!(out(&output), results, "{option}");
            }
        }
        let again = column(Path::new(&log), "Rerun").iter().filter(|rerun| *rerun == "1").count();
        assert_eq!(again, if option == "--resume" { 0 } else { 6 });
        let output = with_input(map("failing", "-", &log, &["--resume"]), &more);
        ends(
            &output,
            0,
            if option == "--retry-failed" {
                ", 4 skipped (3 had failed)"
            } else {
                ", 5 skipped (3 had failed)"
            },
        );
    }
}

#[test]
fn a_log_that_is_not_there_or_empty_is_resumed_from_the_start() {
    let dir = scratch();
    for log in [dir.path().join("none"), file(&dir, "empty", ""), file(&dir, "begun", "Seq\tHo")] {
        let output = with_input(map("upper", "-", &path_text(&log), &["--resume"]), b"a\n");
        ends(&output, 0, "1 task: 1 ok");
        assert_eq!(lines(&log).len(), 1);
    }
}

#[test]
fn resuming_needs_a_log_and_one_way() {
    ends(&run(wpool(["map", &prebuilt("upper"), "--items", "a", "--resume"])), 2, "--joblog <FILE>");
    let both = ["map", &prebuilt("upper"), "--items", "a", "--joblog", "x", "--resume", "--retry-failed"];
    ends(&run(wpool(both)), 2, "cannot be used with");
}

#[test]
fn a_dry_run_leaves_the_log_alone() {
    let dir = scratch();
    let log = dir.path().join("log");
    let output =
        run(wpool(["map", &prebuilt("upper"), "--items", "a", "--dry-run", "--joblog", &path_text(&log)]));
    ends(&output, 0, "would call");
    assert!(!log.exists());
}

// F81.

#[test]
fn f81_a_log_on_a_full_disk_is_an_error() {
    let output = run(wpool(["map", &prebuilt("upper"), "--items", "a", "--joblog", "/dev/full"]));
    ends(&output, 4, "wpool: cannot write the job log /dev/full: No space left on device");
}

#[test]
fn f81_a_log_that_fails_in_mid_run_ends_it_and_what_is_delivered_stands() {
    let _bound = time_bound();
    let dir = scratch();
    let log = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&log).status().unwrap().success());
    let mut command = wpool(["map", &prebuilt("upper"), "--joblog", &path_text(&log)]);
    let mut running = Running::start({
        command.stdin(Stdio::piped());
        command
    });
    let mut stdin = running.child.stdin.take().unwrap();
    let mut reader = BufReader::new(File::open(&log).unwrap());
    let mut header = String::new();
    reader.read_line(&mut header).unwrap();
    assert!(header.starts_with("Seq\t"));
    drop(reader);
    stdin.write_all(b"a\n").unwrap();
    assert_eq!(running.line(), "A");
    // The input is still open.
    let (status, said) = running.end();
    assert_eq!(status.code(), Some(4), "{said}");
    assert!(said.contains("cannot write the job log") && said.contains("Broken pipe"), "{said}");
    drop(stdin);
}

#[test]
fn f81_a_log_that_cannot_be_used_is_refused_before_anything_runs() {
    let dir = scratch();
    let input = path_text(&file(&dir, "input", "a\n"));
    for (log, said) in [
        ("/nowhere/log", "cannot use the job log /nowhere/log: No such file or directory"),
        (&path_text(dir.path())[..], "it is a directory"),
        (&input, "it is also the input"),
        ("", "expected the name of a file"),
        ("+", "expected the name of a file"),
        ("+/dev/null", "it is not a file, so that nothing can be read from it"),
    ] {
        let output = run(map("upper", &input, log, &[]));
        ends(&output, 2, said);
        assert!(output.stdout.is_empty());
    }
    assert_eq!(std::fs::read(&input).unwrap(), b"a\n");
    let output = path_text(&dir.path().join("output"));
    let script = format!("exec \"$0\" \"$@\" > {output}");
    let same = run(by_shell(&script, &["map", &prebuilt("upper"), &input, "--joblog", &output]));
    ends(&same, 2, "it is also the output");
    ends(&run(map("upper", &input, "/dev/null", &[])), 0, "1 ok");
}

// F82.

/// How many records are done by runs that are killed.
const KILLED: usize = 150;

/// Runs until `kills` times enough results were there, and then to the end. Gives how often each record's
/// result was delivered.
fn killed_and_resumed(kills: usize, extra: &[&str]) -> BTreeMap<String, usize> {
    let dir = scratch();
    let log = path_text(&dir.path().join("log"));
    let input =
        path_text(&file(&dir, "input", (0..KILLED).map(|n| format!("r{n}:20\n")).collect::<String>()));
    let extra = args(&["-j", "4", "--buffer", "8", "--resume"], extra);
    let mut delivered = BTreeMap::new();
    let mut count = |text: &str| {
        for line in text.lines() {
            *delivered.entry(line.split(' ').nth(1).unwrap().to_owned()).or_default() += 1;
        }
    };
    for _ in 0..kills {
        let mut running = Running::start(map("hello", &input, &log, &extra));
        for _ in 0..10 {
            // None, if all was done before this program was given time to look.
            count(&running.line());
        }
        running.signal(Signal::KILL);
        let mut rest = String::new();
        running.lines.read_to_string(&mut rest).unwrap();
        // A result that was cut in the middle of its line was not delivered.
        count(rest.rsplit_once('\n').map_or("", |(whole, _)| whole));
        let pid = running.child.id();
        running.child.wait().unwrap();
        assert_no_workers(pid);
    }
    let output = run(map("hello", &input, &log, &extra));
    ends(&output, 0, &format!("{KILLED} tasks: "));
    count(&out(&output));
    assert_eq!(column(Path::new(&log), "Kind").len(), KILLED);
    delivered
}

#[test]
fn f82_a_run_that_is_killed_again_and_again_does_every_task_and_few_of_them_twice() {
    let _bound = time_bound();
    for extra in [&[][..], &["--unordered"]] {
        let kills = 3;
        let delivered = killed_and_resumed(kills, extra);
        assert_eq!(delivered.len(), KILLED, "{delivered:?}");
        let twice: usize = delivered.values().map(|count| count - 1).sum();
        // At most the tasks that were under way: this many are read ahead of the results.
        assert!(twice <= kills * 8, "{twice}: {delivered:?}");
    }
}

#[test]
fn f82_nothing_is_logged_that_was_not_delivered() {
    let _bound = time_bound();
    let dir = scratch();
    let log = path_text(&dir.path().join("log"));
    let records = (0..100).map(|n| format!("{n:03}{}\n", "x".repeat(10_000))).collect::<String>();
    let mut running = Running::start(map("upper", &path_text(&file(&dir, "input", records)), &log, &[]));
    // The output is not read: no more is delivered than the pipe holds.
    let mut stdout = running.lines.into_inner();
    // Not by its bytes: a result that is written by itself leaves a part of its last page empty.
    let path = format!("/proc/{}/fd/1", running.child.id());
    let writer = File::options().write(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap();
    let now = Timespec::default();
    let is_full = || rustix::event::poll(&mut [PollFd::new(&writer, PollFlags::OUT)], Some(&now)) == Ok(0);
    wait_until("the pipe is full", Duration::from_secs(30), is_full);
    drop(writer);
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    let mut delivered = String::new();
    stdout.read_to_string(&mut delivered).unwrap();
    let delivered: Vec<&str> =
        delivered.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(|line| &line[..3]).collect();
    assert!(!delivered.is_empty() && delivered.len() < 100);
    for logged in column(Path::new(&log), "Command") {
        assert!(delivered.contains(&&logged[..3]), "{logged} is not in {delivered:?}");
    }
    assert_no_workers(running.child.id());
}

#[test]
fn f82_an_interrupted_run_has_logged_what_it_has_delivered_and_says_how_to_go_on() {
    let _bound = time_bound();
    for signal in [Signal::INT, Signal::TERM] {
        let dir = scratch();
        let log = path_text(&dir.path().join("log"));
        let mut command = wpool(["map", &prebuilt("hello"), "-j", "2", "--joblog", &log]);
        command.stdin(Stdio::piped());
        let mut running = Running::start(command);
        let mut stdin = running.child.stdin.take().unwrap();
        stdin.write_all(b"first:0\nsecond:60000\n").unwrap();
        assert!(running.line().starts_with("hello first"));
        running.signal(signal);
        let (status, said) = running.end();
        assert_eq!(status.signal(), Some(signal.as_raw()), "{said}");
        assert!(
            said.contains(&format!("interrupted: 1 done, 1 not; add --resume to go on by {log}")),
            "{said}"
        );
        assert_eq!(column(Path::new(&log), "Command"), ["first:0"]);
        let output = with_input(map("hello", "-", &log, &["--resume"]), b"first:0\nsecond:0\n");
        ends(&output, 0, "2 tasks: 1 ok, 0 failed, 1 skipped");
    }
}

/// GNU parallel does the same, with the exit code 0.
#[test]
fn f82_a_run_with_a_log_that_is_hung_up_lets_running_tasks_come_to_their_end() {
    let _bound = time_bound();
    let dir = scratch();
    let log = path_text(&dir.path().join("log"));
    let mut command = wpool(["map", &prebuilt("hello"), "-j", "2", "--unordered", "--joblog", &log]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut stdin = running.child.stdin.take().unwrap();
    // Longer than the end in good order may take for other signals.
    stdin.write_all(b"long:2500\nshort:0\n").unwrap();
    let mut results = running.line();
    running.signal(Signal::HUP);
    running.lines.read_to_string(&mut results).unwrap();
    assert!(results.contains("hello long") && results.contains("hello short"), "{results}");
    let (status, said) = running.end();
    assert_eq!(status.signal(), Some(libc::SIGHUP), "{said}");
    assert!(said.contains("interrupted: 2 done, 0 not"), "{said}");
    assert_eq!(column(Path::new(&log), "Kind"), ["ok", "ok"]);
}

// F83.

/// A log of the records `a` and `b`.
fn log_of_two(dir: &tempfile::TempDir) -> std::path::PathBuf {
    let log = dir.path().join("log");
    ends(&with_input(map("upper", "-", &path_text(&log), &["-j", "1"]), b"a\nb\n"), 0, "2 ok");
    log
}

#[test]
fn f83_a_line_that_was_cut_is_written_anew() {
    let dir = scratch();
    let log = log_of_two(&dir);
    let whole = std::fs::read(&log).unwrap();
    std::fs::write(&log, &whole[..whole.len() - 10]).unwrap();
    let output = with_input(map("upper", "-", &path_text(&log), &["--resume", "-v"]), b"a\nb\n");
    ends(&output, 0, "2 tasks: 1 ok, 0 failed, 1 skipped");
    assert!(err(&output).contains("its last line was cut short, and is left out"), "{}", err(&output));
    assert_eq!((out(&output), column(&log, "Seq")), ("B\n".to_owned(), vec!["1".to_owned(), "2".to_owned()]));
    // And behind a log that is only appended to.
    std::fs::write(&log, &whole[..whole.len() - 10]).unwrap();
    let appended = format!("+{}", path_text(&log));
    ends(&with_input(map("upper", "-", &appended, &[]), b"c\n"), 0, "1 ok");
    assert_eq!(column(&log, "Command"), ["a", "c"]);
}

#[test]
fn f83_a_log_that_is_damaged_is_refused_with_the_line() {
    let dir = scratch();
    let log = log_of_two(&dir);
    let text = std::fs::read_to_string(&log).unwrap();
    let mut all: Vec<&str> = text.lines().collect();
    all.insert(2, "garbage\x1b[31m");
    std::fs::write(&log, all.join("\n")).unwrap();
    let before = std::fs::read(&log).unwrap();
    for given in [&["--resume"][..], &["--resume=force"], &["--retry-failed"]] {
        let output = with_input(map("upper", "-", &path_text(&log), given), b"a\nb\n");
        ends(
            &output,
            2,
            "it is damaged: line 3 has control characters in it; without that line, the others can be used",
        );
        assert!(output.stdout.is_empty());
    }
    assert_eq!(std::fs::read(&log).unwrap(), before);
}

#[test]
fn f83_what_is_no_log_is_neither_resumed_nor_written_over() {
    let dir = scratch();
    let parallels = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n\
                     1\t:\t1.0\t0.1\t0\t0\t0\t0\techo a\n";
    let cut = "no newline";
    for (content, resumed) in [
        ("dear diary\n", "it is not a job log"),
        (cut, "it is not a job log"),
        (parallels, "it is a job log of GNU parallel"),
    ] {
        let log = file(&dir, "log", content);
        ends(&with_input(map("upper", "-", &path_text(&log), &["--resume"]), b"a\n"), 2, resumed);
        ends(&with_input(map("upper", "-", &format!("+{}", path_text(&log)), &[]), b"a\n"), 2, resumed);
        ends(&with_input(map("upper", "-", &path_text(&log), &[]), b"a\n"), 2, "which is not written over");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), content);
    }
}

#[test]
fn f83_the_log_of_another_module_function_or_argument_is_refused_unless_it_is_forced() {
    let dir = scratch();
    let log = path_text(&log_of_two(&dir));
    let output = with_input(map("sha256", "-", &log, &["--resume"]), b"a\nb\n");
    ends(&output, 2, "line 2 is of another module (sha256 ");
    assert!(
        err(&output).contains("; --resume=force takes its tasks for done all the same"),
        "{}",
        err(&output)
    );
    ends(
        &with_input(map("sha256", "-", &log, &["--resume=force"]), b"a\nb\n"),
        0,
        "0 ok, 0 failed, 2 skipped",
    );
    ends(
        &with_input(map("upper", "-", &log, &["--resume", "--reuse"]), b"a\nb\n"),
        2,
        "line 2 is of other arguments",
    );
    // What only says how long a task may take is no other run.
    ends(
        &with_input(map("upper", "-", &log, &["--resume", "--timeout", "9s", "-j", "7"]), b"a\nb\n"),
        0,
        "2 skipped",
    );

    let (module, log) = (example("add"), path_text(&dir.path().join("add")));
    let sum = |rest: &[&str]| {
        let first = ["map", &module, "--func", "add", "--joblog", &log];
        with_input(wpool(args(&first, rest)), b"7\n")
    };
    ends(&sum(&["--arg", "1"]), 0, "1 ok");
    ends(&sum(&["--arg", "2", "--resume-failed"]), 2, "line 2 is of other arguments");
    ends(&sum(&["--arg", "1", "--resume-failed"]), 0, "1 skipped");
}

/// Logs of earlier builds have 16 digits of a digest of other bytes, which say nothing about these settings.
#[test]
fn f83_the_settings_of_an_older_log_are_not_compared_and_force_goes_on() {
    let dir = scratch();
    let log = log_of_two(&dir);
    let settings = column(&log, "Settings").remove(0);
    assert_eq!(settings.len(), 32);
    let text = std::fs::read_to_string(&log).unwrap().replace(&settings, &settings[..16]);
    std::fs::write(&log, text).unwrap();
    let log = path_text(&log);
    let output = with_input(map("upper", "-", &log, &["--resume"]), b"a\nb\n");
    ends(&output, 2, "line 2 is of an earlier version of wpool, which logged arguments, forms and grants");
    ends(&output, 2, "--resume=force takes its tasks for done all the same");
    ends(&with_input(map("upper", "-", &log, &["--resume=force"]), b"a\nb\n"), 0, "2 skipped");
    ends(&run(wpool(["report", &log])), 0, "");
}

#[test]
fn f83_the_log_of_another_input_is_refused_unless_it_is_forced() {
    let dir = scratch();
    let log = path_text(&log_of_two(&dir));
    let before = std::fs::read(&log).unwrap();
    let output = with_input(map("upper", "-", &log, &["--resume"]), b"x\ny\nz\n");
    ends(
        &output,
        2,
        "the job log is of another input: it does not have any of the first 3 records; --resume=force",
    );
    assert!(output.stdout.is_empty());
    assert_eq!(std::fs::read(&log).unwrap(), before);
    let output = with_input(map("upper", "-", &log, &["--resume=force"]), b"x\n");
    ends(&output, 0, "1 task: 1 ok, 0 failed in");
    assert!(
        err(&output).contains("warning: the job log has 2 tasks that the input has not"),
        "{}",
        err(&output)
    );
}

#[test]
fn f83_a_log_in_use_is_refused_with_the_process_that_uses_it() {
    let _bound = time_bound();
    let dir = scratch();
    let log = path_text(&dir.path().join("log"));
    let mut command = wpool(["map", &prebuilt("upper"), "--joblog", &log]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut stdin = running.child.stdin.take().unwrap();
    stdin.write_all(b"a\n").unwrap();
    assert_eq!(running.line(), "A");
    let said = format!("it is in use by process {}", running.child.id());
    for second in [&[][..], &["--resume"], &["--retry-failed"]] {
        let output: Output = with_input(map("upper", "-", &log, second), b"a\n");
        ends(&output, 2, &said);
    }
    drop(stdin);
    let (status, _) = running.end();
    assert!(status.success());
    assert_eq!(lines(Path::new(&log)).len(), 1);
    ends(&with_input(map("upper", "-", &log, &["--resume"]), b"a\n"), 0, "1 skipped");
}

#[test]
fn the_readme_and_the_help_name_the_options() {
    let help = out(&run(wpool(["map", "--help"])));
    let readme = std::fs::read_to_string(repo("README.md")).unwrap();
    for option in ["--joblog", "--resume", "--resume-failed", "--retry-failed"] {
        assert!(help.contains(option) && readme.contains(option), "{option}");
    }
}
