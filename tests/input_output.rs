//! Input and output as they come in life: rows F65 to F80 of the list of faults, through the command line.

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::command::*;
use support::{cpu_ticks, repo, wait_until, workers_of};

/// A number that a process is described by in `/proc`: `VmHWM` in KiB, `rchar` in bytes.
fn proc_number(pid: u32, file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn peak_mib(pid: u32) -> u64 {
    proc_number(pid, "status", "VmHWM") >> 10
}

/// Bytes that it has read so far, from whatever.
fn bytes_read(pid: u32) -> u64 {
    proc_number(pid, "io", "rchar")
}

/// Waits until it reads no more: nothing for as long as a hundred looks take.
fn until_it_stops_reading(pid: u32) -> u64 {
    let (mut last, mut same) = (0, 0);
    wait_until("it stops reading", LONG, || {
        let now = bytes_read(pid);
        same = if now == last && now > 0 { same + 1 } else { 0 };
        last = now;
        same >= 100
    });
    last
}

/// GNU parallel runs all that it has buffered; pebble ran all 2000 tasks, for 51 s.
#[test]
fn f65_an_endless_input_ends_when_the_reader_leaves() {
    let upper = prebuilt("upper");
    let call = ["map", &upper, "--reuse"];
    let output = run(by_shell("{ yes some line of text | \"$0\" \"$@\"; echo $? >&2; } | head -n 1", &call));
    assert_eq!((out(&output), err(&output)), ("SOME LINE OF TEXT\n".to_owned(), "141\n".to_owned()));
}

#[test]
fn f68_a_directory_as_input_is_named() {
    let upper = prebuilt("upper");
    for call in [&["map", &upper][..], &["map", &upper, "-"]] {
        let output = run(by_shell("exec \"$0\" \"$@\" </", call));
        ends(&output, 2, "wpool: cannot read standard input: it is a directory\n");
    }
}

#[test]
fn f68_standard_descriptors_that_were_closed_become_no_sockets() {
    let hello = prebuilt("hello");
    let running =
        Running::start(by_shell("exec \"$0\" \"$@\" <&- >&- 2>&-", &["map", &hello, "--items", "a:60000"]));
    let pid = running.child.id();
    wait_until("there is a worker", LONG, || !task_workers(pid).is_empty());
    for fd in 0..3 {
        assert_eq!(std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap().to_str(), Some("/dev/null"));
    }
    running.signal(Signal::TERM);
    assert_eq!(running.end().0.signal(), Some(libc::SIGTERM));
}

#[test]
fn f68_a_terminal_is_no_input_unless_it_is_asked_for() {
    let upper = prebuilt("upper");
    // `script` gives it a terminal.
    let script = |args: &str| {
        let mut command = by_shell("script -qec \"$0 $*\" /dev/null", &["map", &upper]);
        command.arg(args).stdin(Stdio::piped());
        with_input(command, b"typed\n\x04")
    };
    let output = script("");
    assert_eq!(output.status.code(), Some(2), "{}", out(&output));
    assert!(out(&output).contains("no input: name files of records"), "{}", out(&output));
    let output = script("-");
    assert!(output.status.success() && out(&output).contains("TYPED"), "{}", out(&output));
}

#[test]
fn f71_an_empty_input_needs_no_worker() {
    let output = run(wpool(["map", "-v", &prebuilt("upper"), "/dev/null"]));
    ends(&output, 0, "0 tasks: 0 ok, 0 failed in ");
    ends(&output, 0, "(0 workers)");
    assert!(output.stdout.is_empty());
}

#[test]
fn f73_a_line_of_100_mb_is_a_record_like_any_other() {
    let mut command = wpool(["map", &prebuilt("upper")]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let pid = running.child.id();
    let mut stdin = running.child.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || {
        let mut line = vec![b'x'; 100 << 20];
        line.push(b'\n');
        stdin.write_all(&line).unwrap();
        stdin
    });
    let mut result = Vec::new();
    running.lines.read_until(b'\n', &mut result).unwrap();
    assert!(result.len() == (100 << 20) + 1 && result[..100 << 20].iter().all(|b| *b == b'X'));
    let peak = peak_mib(pid);
    drop(feeder.join().unwrap());
    assert!(running.end().0.success());
    assert!(peak <= 3 * 100 + 64, "{peak} MiB");
}

#[test]
fn f73_a_line_of_5_gb_is_refused_while_it_is_read() {
    let dir = scratch();
    let input = file(&dir, "input", "");
    let sparse = File::options().write(true).open(&input).unwrap();
    sparse.write_all_at(b"\n", 5 << 30).unwrap();
    let mut running =
        Running::start(wpool(["map", &prebuilt("upper"), &path_text(&input), "--max-input", "64K"]));
    let pid = running.child.id();
    let mut stderr = BufReader::new(running.child.stderr.take().unwrap());
    let mut said = String::new();
    stderr.read_line(&mut said).unwrap();
    assert!(
        said.starts_with("wpool: task 1: input limit of 64 KiB reached by a longer record (--max-input"),
        "{said}"
    );
    let read = bytes_read(pid);
    assert!(read < 4 << 30, "{read} bytes were read before that");
    let peak = peak_mib(pid);
    assert!(peak <= 64, "{peak} MiB");
    // To read it to its end takes a while.
    running.signal(Signal::TERM);
    running.child.stderr = Some(stderr.into_inner());
    assert_eq!(running.end().0.signal(), Some(libc::SIGTERM));
}

#[test]
fn f74_an_endless_line_is_refused_and_needs_no_memory() {
    let upper = prebuilt("upper");
    let command = by_shell("exec \"$0\" \"$@\" </dev/zero", &["map", &upper, "--max-input", "1M"]);
    let mut running = Running::start(command);
    let pid = running.child.id();
    let mut stderr = BufReader::new(running.child.stderr.take().unwrap());
    let mut said = String::new();
    stderr.read_line(&mut said).unwrap();
    assert!(
        said.starts_with("wpool: task 1: input limit of 1 MiB reached by a longer record (--max-input"),
        "{said}"
    );
    wait_until("it has read a gigabyte", LONG, || bytes_read(pid) > 1 << 30);
    let peak = peak_mib(pid);
    assert!(peak <= 64, "{peak} MiB");
    running.child.stderr = Some(stderr.into_inner());
    running.signal(Signal::INT);
    let (status, stderr) = running.end();
    assert_eq!(status.signal(), Some(libc::SIGINT));
    assert!(stderr.contains("interrupted: 1 done, 0 not"), "{stderr}");
}

#[test]
fn f75_bytes_pass_unchanged_and_line_for_line() {
    let records: [&[u8]; 9] = [
        b"\xef\xbb\xbfwith a byte order mark",
        b"",
        b"carriage return\r",
        b"nul \0 inside",
        b"not \xff\xfe UTF-8 \xc3",
        b"",
        b"\r",
        "größe \u{202e}".as_bytes(),
        b"no newline at the end",
    ];
    for extra in [&[][..], &["--reuse"], &["-j", "5"], &["--threads"]] {
        let output = with_input(wpool(args(&["map", &example("echo")], extra)), &records.join(&b'\n'));
        ends(&output, 0, "9 tasks: 9 ok");
        assert_eq!(output.stdout, [&records.join(&b'\n'), &b"\n"[..]].concat(), "{extra:?}");
    }
    // With a newline inside, when records end with NUL.
    let output = with_input(wpool(["map", &example("echo"), "-0", "-z"]), b"two\nlines\0\0\xff\n\0");
    assert_eq!(output.stdout, b"two\nlines\0\0\xff\n\0");
}

/// Changes the input while the program cannot go on, because its output is not read.
fn with_changing_input(
    change: impl FnOnce(&std::path::Path),
) -> (Vec<String>, std::process::ExitStatus, String) {
    let dir = scratch();
    let lines: String = (0..400_000).map(|n| format!("the line of number {n}\n")).collect();
    let input = file(&dir, "input", &lines);
    let mut running = Running::start(wpool(["map", &prebuilt("upper"), &path_text(&input), "--reuse"]));
    let read = until_it_stops_reading(running.child.id());
    assert!(read < lines.len() as u64, "it has read all of it");
    change(&input);
    let mut results = String::new();
    running.lines.read_to_string(&mut results).unwrap();
    let (status, stderr) = running.end();
    (results.lines().map(str::to_owned).collect(), status, stderr)
}

fn result(n: usize) -> String {
    format!("THE LINE OF NUMBER {n}")
}

#[test]
fn f76_a_truncated_input_ends_at_what_was_read() {
    let (results, status, stderr) = with_changing_input(|input| File::create(input).map(drop).unwrap());
    assert!(status.success(), "{stderr}");
    let (last, whole) = results.split_last().unwrap();
    assert!(whole.len() > 1000 && whole.len() < 400_000, "{} results", whole.len());
    assert!(whole.iter().enumerate().all(|(n, line)| *line == result(n)));
    // What had been read of the next line is a line.
    assert!(result(whole.len()).starts_with(last.as_str()), "{last}");
}

#[test]
fn f76_a_deleted_or_growing_input_is_read_to_its_end() {
    let (results, status, stderr) = with_changing_input(|input| std::fs::remove_file(input).unwrap());
    assert!(status.success() && results.len() == 400_000, "{stderr}");
    assert!(results.iter().enumerate().all(|(n, line)| *line == result(n)));
    let (results, status, stderr) = with_changing_input(|input| {
        File::options().append(true).open(input).unwrap().write_all(b"one more\nand a half").unwrap();
    });
    assert!(status.success() && results.len() == 400_002, "{stderr}");
    assert_eq!(results[400_000..], ["ONE MORE", "AND A HALF"]);
}

#[test]
fn f77_a_stalled_input_costs_no_processor_and_ctrl_c_works() {
    let mut command = wpool(["map", &prebuilt("hello"), "-j", "2"]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut stdin = running.child.stdin.take().unwrap();
    stdin.write_all(b"a:0\nb:0\n").unwrap();
    assert!(running.line().starts_with("hello a") && running.line().starts_with("hello b"));
    let pid = running.child.id();
    let all = || [vec![pid], workers_of(pid)].concat();
    let used = || all().into_iter().map(cpu_ticks).sum::<u64>();
    let (before, began) = (used(), Instant::now());
    // Nothing is to happen, which no event announces.
    std::thread::sleep(Duration::from_millis(600));
    let (after, share) = (used(), began.elapsed().as_millis() as u64 / 10 / 10);
    assert!(after - before <= share.min(3), "{} hundredths of a second of processor time", after - before);
    running.signal(Signal::INT);
    let (status, stderr) = running.end();
    assert_eq!(status.signal(), Some(libc::SIGINT));
    assert!(stderr.contains("interrupted: 2 done, 0 not"), "{stderr}");
}

#[test]
fn f78_standard_input_that_is_the_output_is_refused() {
    let dir = scratch();
    let both = file(&dir, "both", "a\n");
    let upper = prebuilt("upper");
    for redirected in ["<both >>both", "<both 1<>both"] {
        let script = format!("cd \"$1\" && shift && exec \"$0\" \"$@\" {redirected}");
        let output = run(by_shell(&script, &[dir.path().to_str().unwrap(), "map", &upper]));
        ends(&output, 2, "standard input is both input and output");
        assert_eq!(std::fs::read(&both).unwrap(), b"a\n");
    }
    // A device is no file: a terminal is often both.
    ends(&run(by_shell("exec \"$0\" \"$@\" </dev/null >/dev/null", &["map", &upper])), 0, "0 tasks");
}

#[test]
fn f79_a_slow_reader_slows_the_reading_down() {
    let upper = prebuilt("upper");
    let command = by_shell("yes some line of text | \"$0\" \"$@\"", &["map", &upper, "--reuse"]);
    let mut running = Running::start(command);
    let shell = running.child.id();
    let mut pid = 0;
    wait_until("it runs", LONG, || {
        pid = child_named(shell, "wpool").unwrap_or(0);
        pid != 0 && !workers_of(pid).is_empty()
    });
    let mut before = until_it_stops_reading(pid);
    for _ in 0..3 {
        let mut some = vec![0; 1 << 20];
        running.lines.read_exact(&mut some).unwrap();
        let now = until_it_stops_reading(pid);
        // It reads on in its own steps, and no more than that.
        assert!(now > before && now - before < 8 << 20, "{} bytes more", now - before);
        before = now;
    }
    let peak = peak_mib(pid);
    assert!(peak <= 64, "{peak} MiB");
    kill(pid, Signal::KILL);
    running.end();
}

/// The child of that name.
fn child_named(parent: u32, name: &str) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    let mut children = children.split_whitespace().map(|pid| pid.parse::<u32>().unwrap());
    children.find(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
    })
}

/// ProcessPoolExecutor and pebble buffer all that is done behind a slow task.
#[test]
fn f80_a_slow_first_task_holds_the_reading_up() {
    let hello = prebuilt("hello");
    let script = "exec \"$0\" \"$@\" <\"$INPUT\"";
    let dir = scratch();
    let input = file(&dir, "input", "slow:60000\n".to_owned() + &"x:0\n".repeat(500_000));
    let mut command = by_shell(script, &["map", &hello, "-j", "2", "--buffer", "2000"]);
    command.env("INPUT", &input);
    let mut running = Running::start(command);
    let pid = running.child.id();
    wait_until("there are workers", LONG, || !task_workers(pid).is_empty());
    let read = until_it_stops_reading(pid);
    assert!(read < 1 << 20, "{read} bytes were read ahead");
    let peak = peak_mib(pid);
    assert!(peak <= 64, "{peak} MiB");
    running.signal(Signal::INT);
    let mut results = String::new();
    running.lines.read_to_string(&mut results).unwrap();
    let (status, stderr) = running.end();
    assert_eq!(status.signal(), Some(libc::SIGINT));
    assert!(stderr.contains("interrupted: ") && results.lines().count() <= 2000, "{stderr}");
}

#[test]
fn f124_input_that_does_not_block_is_waited_for() {
    let (upper, p1) = (prebuilt("upper"), path_text(&repo("guest/examples/wat/upper-p1.wat")));
    for call in [&["map", &upper][..], &["run", &p1, "--input", "-"]] {
        let (theirs, ours) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        rustix::io::ioctl_fionbio(&theirs, true).unwrap();
        let mut command = wpool(call.iter().copied());
        command.stdin(theirs);
        let running = Running::start(command);
        let pid = running.child.id();
        // It has nothing to read, and sleeps.
        let tasks = |pid| std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let place =
            |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("wchan")).unwrap_or_default();
        let until = Instant::now() + Duration::from_secs(2);
        // On a machine that does not tell, less is tested.
        while Instant::now() < until
            && !tasks(pid)
                .map(place)
                .any(|place| place.starts_with("poll_sch") || place.ends_with("pipe_read"))
        {
            std::thread::sleep(Duration::from_millis(2));
        }
        File::from(ours).write_all(b"abc\n").unwrap();
        let (status, stderr) = running.end();
        assert!(status.success(), "{call:?}: {stderr}");
    }
}
