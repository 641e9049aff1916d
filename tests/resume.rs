//! Runs that are killed and resumed into the same file: row F146 of the list of faults.

mod support;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use support::command::{args, ends, err, file, out, path_text, prebuilt, run, scratch, wpool};
use support::{assert_no_workers, time_bound_of};

/// An input, and the log and the output of its runs.
struct Job {
    _dir: tempfile::TempDir,
    module: String,
    input: PathBuf,
    log: PathBuf,
    output: PathBuf,
    options: Vec<String>,
}

impl Job {
    fn new(guest: &str, input: &[u8], options: &[&str]) -> Job {
        let dir = scratch();
        let (log, output) = (dir.path().join("log"), dir.path().join("output"));
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Job { module: prebuilt(guest), input: file(&dir, "input", input), log, output, options, _dir: dir }
    }

    /// The first record takes longer than all others, so that many results are written at once when it is
    /// done.
    fn with_slow_head() -> Job {
        let numbers = std::iter::once(20_000_000).chain(1..20);
        let input: String = numbers.map(|n: u32| format!("{n}\n")).collect();
        let mut job = Job::new("upper", input.as_bytes(), &["-j", "2"]);
        job.module = path_text(&file(&job._dir, "counting.wat", COUNTING));
        job
    }

    /// `wpool map .. --resume >> output`.
    fn command(&self) -> Command {
        let (input, log) = (path_text(&self.input), path_text(&self.log));
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        let mut command = wpool(args(&["map", &self.module, &input, "--joblog", &log, "--resume"], &options));
        command.stdout(self.append());
        command
    }

    fn append(&self) -> File {
        File::options().create(true).append(true).open(&self.output).unwrap()
    }

    #[track_caller]
    fn resume(&self) -> Output {
        let output = self.command().output().unwrap();
        ends(&output, 0, " 0 failed");
        output
    }

    fn written(&self) -> Vec<u8> {
        std::fs::read(&self.output).unwrap_or_default()
    }

    /// Puts other bytes into the same file.
    fn write(&self, bytes: &[u8]) {
        let mut file = File::options().create(true).write(true).truncate(true).open(&self.output).unwrap();
        file.write_all(bytes).unwrap();
    }

    fn logged(&self) -> Vec<u8> {
        std::fs::read(&self.log).unwrap()
    }

    /// The output of a run that is not killed. Log and output are removed afterwards.
    fn undisturbed(&self) -> Vec<u8> {
        self.resume();
        let written = self.written();
        self.forget();
        written
    }

    fn forget(&self) {
        for file in [&self.log, &self.output] {
            let _none = std::fs::remove_file(file);
        }
    }

    /// Runs with a slow head until the last write is one of several results: on a busy machine the head may be
    /// done before the others. Something that is in the output before stays. Gives the output, the log and its
    /// [`mark`].
    fn resume_to_a_long_write(&self, before: &[u8]) -> (Vec<u8>, Vec<u8>, [usize; 3]) {
        for _ in 0..50 {
            self.forget();
            self.write(before);
            self.resume();
            let (output, log) = (self.written(), self.logged());
            let [from, to, lines] = mark(&log);
            if to == output.len() && to - from > 4 && lines < log.len() {
                return (output, log, [from, to, lines]);
            }
        }
        panic!("no run has written several results at once");
    }

    /// Runs, and kills the run as soon as the output has `bytes` bytes. False if it ended before.
    #[track_caller]
    fn is_killed_at(&self, bytes: u64) -> bool {
        let mut child = self.command().stderr(Stdio::null()).spawn().unwrap();
        let is_killed = loop {
            if child.try_wait().unwrap().is_some() {
                break false;
            }
            if std::fs::metadata(&self.output).is_ok_and(|found| found.len() >= bytes) {
                child.kill().unwrap();
                child.wait().unwrap();
                break true;
            }
            std::thread::sleep(Duration::from_micros(100));
        };
        assert_no_workers(child.id());
        is_killed
    }
}

/// A number, counted up to.
const COUNTING: &str = r#"(module (func (export "run") (param i32) (result i32) (local i32)
  (block $out (loop $on
    (br_if $out (i32.eq (local.get 1) (local.get 0)))
    (local.set 1 (i32.add (local.get 1) (i32.const 1)))
    (br $on)))
  (local.get 1)))"#;

/// The same numbers in every run of the test.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// Kills runs at random moments until there were `kills` kills.
#[track_caller]
fn killed_again_and_again(job: &Job, kills: usize, step: u64, is_same: impl Fn(&[u8]) -> bool) {
    let mut random = Random(146);
    let mut count = 0;
    while count < kills {
        let at = job.written().len() as u64 + random.below(step);
        if job.is_killed_at(at) {
            count += 1;
            continue;
        }
        assert!(is_same(&job.written()), "after {count} kills");
        job.forget();
    }
    job.resume();
    assert!(is_same(&job.written()), "after {count} kills");
}

fn records(count: usize) -> Vec<u8> {
    (0..count).flat_map(|n| format!("record {n} {}\n", "x".repeat(n % 40)).into_bytes()).collect()
}

#[test]
fn f146_a_run_that_is_killed_again_and_again_writes_each_result_once_and_whole() {
    let _bound = time_bound_of(Duration::from_secs(300));
    let job = Job::new("upper", &records(20_000), &["-j", "2"]);
    let expected = job.undisturbed();
    killed_again_and_again(&job, 60, 250_000, |written| written == expected);
}

#[test]
fn f146_so_does_one_whose_results_come_in_any_order() {
    let _bound = time_bound_of(Duration::from_secs(300));
    let job = Job::new("upper", &records(20_000), &["-j", "2", "--unordered", "-z"]);
    let sorted = |written: &[u8]| {
        let mut results: Vec<Vec<u8>> = written.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        results.sort();
        results
    };
    let expected = sorted(&job.undisturbed());
    killed_again_and_again(&job, 30, 250_000, |written| sorted(written) == expected);
}

#[test]
fn f146_so_does_one_of_results_of_four_megabytes() {
    let _bound = time_bound_of(Duration::from_secs(300));
    let input: Vec<u8> =
        (b'a'..=b'f').flat_map(|letter| [vec![letter; 4 << 20], vec![b'\n']].concat()).collect();
    let job = Job::new("upper", &input, &["-j", "2"]);
    let expected = job.undisturbed();
    killed_again_and_again(&job, 20, 12 << 20, |written| written == expected);
}

#[test]
fn f146_so_does_one_of_json_lines_with_failures_among_them() {
    let _bound = time_bound_of(Duration::from_secs(300));
    let line = |n| if n % 7 == 0 { "bad\n".to_owned() } else { format!("{n}\n") };
    let input: String = (0..3000).map(line).collect();
    let job = Job::new("failing", input.as_bytes(), &["-j", "2", "--format", "jsonl", "--tag"]);
    let numbers = |written: &[u8]| {
        let text = String::from_utf8(written.to_vec()).unwrap();
        let seq =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap();
        text.lines().map(seq).collect::<Vec<_>>()
    };
    let is_same = |written: &[u8]| numbers(written) == (1..=3000).collect::<Vec<_>>();
    let mut random = Random(7);
    for _ in 0..15 {
        job.forget();
        job.is_killed_at(random.below(300_000));
        let output = job.command().output().unwrap();
        assert!(matches!(output.status.code(), Some(0 | 1)), "{}", err(&output));
        assert!(is_same(&job.written()));
    }
}

/// The last mark of a log: from where to where results were written, and how long the log was.
fn mark(log: &[u8]) -> [usize; 3] {
    let header = log.split(|byte| *byte == b'\n').next().unwrap();
    let at = header.iter().rposition(|byte| *byte == b':').unwrap() + 1;
    let text = std::str::from_utf8(&header[at..]).unwrap();
    let mut numbers = text.split('-').map(|digits| usize::from_str_radix(digits, 16).unwrap());
    std::array::from_fn(|_| numbers.next().unwrap())
}

#[test]
fn f146_every_state_that_a_kill_can_leave_is_gone_on_with() {
    let _bound = time_bound_of(Duration::from_secs(300));
    // Something that is there already stays.
    for before in [&b""[..], b"before\n"] {
        let job = Job::with_slow_head();
        let (output, log, [from, to, lines]) = job.resume_to_a_long_write(before);
        // Killed in the write of results, or in that of their lines.
        let of_results = (from..=to).map(|len| (len, lines));
        let of_lines = (lines..=log.len()).step_by(37).map(|len| (to, len));
        for (written, logged) in of_results.chain(of_lines).chain([(to, log.len() - 1)]) {
            job.write(&output[..written]);
            std::fs::write(&job.log, &log[..logged]).unwrap();
            job.resume();
            assert_eq!(job.written(), output, "{written} {logged}");
        }
    }
}

/// A job whose output ends in the middle of a result, after a kill. With its whole output, and the length of
/// what is vouched for.
fn torn() -> (Job, Vec<u8>, usize) {
    let job = Job::with_slow_head();
    let (output, log, [from, to, lines]) = job.resume_to_a_long_write(b"");
    job.write(&output[..to - 2]);
    std::fs::write(&job.log, &log[..lines]).unwrap();
    (job, output, from)
}

#[test]
fn f146_what_is_cut_off_is_told() {
    let (job, whole, vouched) = torn();
    let said = err(&job.resume());
    assert!(said.contains(&format!("cut from {} to {vouched} bytes", whole.len() - 2)), "{said}");
    assert_eq!(job.written(), whole);
    let said = err(&job.resume());
    assert!(!said.contains("cut") && said.contains("20 skipped"), "{said}");
}

#[test]
fn f146_what_another_program_has_written_stays() {
    // Behind what the killed run had in its hands.
    let (job, whole, vouched) = torn();
    let foreign = [&job.written()[..], &b"of another program\n".repeat(20)].concat();
    job.write(&foreign);
    let said = err(&job.resume());
    assert!(
        said.contains("warning: the output, or the job log, has been changed by something else"),
        "{said}"
    );
    assert_eq!(job.written(), [&foreign[..], &whole[vouched..]].concat());

    // Behind the results of a run that came to its end.
    let foreign = [&job.written()[..], b"next week\n"].concat();
    job.write(&foreign);
    let said = err(&job.resume());
    assert!(!said.contains("warning") && said.contains("20 skipped"), "{said}");
    assert_eq!(job.written(), foreign);
}

#[test]
fn f146_an_output_that_is_written_to_by_others_too_is_not_cut() {
    let job = Job::with_slow_head();
    let mut command = job.command();
    // What is said goes to the same file.
    let status = command.stderr(job.append()).status().unwrap();
    assert!(status.success());
    let written = job.written();
    let log = job.logged();
    std::fs::write(&job.log, &log[..log.len() - 10]).unwrap();
    assert!(!err(&job.resume()).contains("cut from"));
    assert!(job.written().starts_with(&written));
}

#[test]
fn f146_an_output_that_was_emptied_is_not_taken_for_the_one_that_was_written() {
    let (job, whole, vouched) = torn();
    job.write(&whole[..vouched]);
    job.resume();
    // By a shell, of `> output`.
    job.write(b"");
    let output = job.command().output().unwrap();
    ends(&output, 2, &format!("vouches for {} bytes of results, of which the output has 0", whole.len()));
    let forced = job.command().arg("--resume=force").output().unwrap();
    ends(&forced, 0, "20 skipped");
    // A new file is another output, which is fine.
    std::fs::rename(&job.output, job.output.with_extension("before")).unwrap();
    let said = err(&job.resume());
    assert!(!said.contains("warning"), "{said}");
}

/// The lines of the log tell places in the output that was, and nothing about the one that is written now.
#[test]
fn f146_a_kill_after_the_output_was_shortened_or_is_another_tears_nothing() {
    for is_new_file in [false, true] {
        let mut job = Job::with_slow_head();
        let numbers = [5, 200_000_000].into_iter().chain(1..20);
        let input: String = numbers.map(|n: u32| format!("{n}\n")).collect();
        job.input = file(&job._dir, "numbers", input);
        job.write(b"twenty bytes before\n");
        job.resume();
        // Only the first result is logged, which ended at byte 22.
        let log = job.logged();
        let lines: Vec<&[u8]> = log.split_inclusive(|byte| *byte == b'\n').collect();
        let first_two = lines[..2].concat();
        // Again, if on a busy machine the slow task was done before all others.
        let resumed = std::iter::repeat_with(|| {
            std::fs::write(&job.log, &first_two).unwrap();
            if is_new_file {
                std::fs::rename(&job.output, job.output.with_extension("before")).unwrap();
            } else {
                job.write(b"");
            }
            ends(&job.command().arg("--resume=force").output().unwrap(), 0, "1 skipped");
            (job.written(), job.logged())
        });
        let is_one_write = |(written, logged): &(Vec<u8>, Vec<u8>)| mark(logged)[..2] == [0, written.len()];
        let (written, logged) = resumed.take(50).find(is_one_write).expect("a run with one write");
        let [from, to, moved] = mark(&logged);
        assert!(to > 22, "{to}");
        // The highest bit says that the lines before it are about another output.
        let lines = moved & (usize::MAX >> 1);
        assert!(lines < moved, "{moved:x}");
        for len in (from..=to).step_by(9).chain([to - 1]) {
            job.write(&written[..len]);
            std::fs::write(&job.log, &logged[..lines]).unwrap();
            job.resume();
            assert_eq!(job.written(), written, "killed at {len}");
        }
    }
}

#[test]
fn f146_another_output_is_gone_on_with_and_what_the_old_one_has_too_much_is_told() {
    let (job, whole, vouched) = torn();
    let piped = job.command().stdout(Stdio::piped()).output().unwrap();
    let said = format!("may have more than the {vouched} bytes that the job log vouches for");
    ends(&piped, 0, &said);
    assert_eq!(piped.stdout, whole[vouched..]);
}

#[test]
fn f146_a_log_without_the_place_of_results_is_gone_on_with_as_it_is() {
    let job = Job::with_slow_head();
    let whole = job.undisturbed();
    job.resume();
    let text = String::from_utf8(job.logged()).unwrap();
    let before: String =
        text.lines().take(6).map(|line| format!("{}\n", line.rsplit_once('\t').unwrap().0)).collect();
    std::fs::write(&job.log, &before).unwrap();
    let five: usize = whole.split_inclusive(|byte| *byte == b'\n').take(5).map(<[u8]>::len).sum();
    job.write(&[&whole[..five], b"to"].concat());
    let said = err(&job.resume());
    assert!(said.contains("5 skipped") && !said.contains("cut"), "{said}");
    assert_eq!(job.written(), [&whole[..five], b"to", &whole[five..]].concat());
    let lines = String::from_utf8(job.logged()).unwrap();
    assert!(
        lines.starts_with(&before) && lines.lines().all(|line| line.split('\t').count() == 18),
        "{lines}"
    );
}

#[test]
fn f146_where_each_result_ends_is_in_the_log() {
    let dir = scratch();
    let log = path_text(&dir.path().join("log"));
    // In a pipe, offsets are bytes of the run.
    let output = run(wpool(["map", &prebuilt("upper"), "--joblog", &log, "--items", "a", "bc", "def"]));
    ends(&output, 0, "3 ok");
    let text = std::fs::read_to_string(&log).unwrap();
    let ends: Vec<&str> = text.lines().skip(1).map(|line| line.rsplit('\t').next().unwrap()).collect();
    assert_eq!((out(&output), ends), ("A\nBC\nDEF\n".to_owned(), vec!["2", "5", "9"]));
    assert!(text.lines().next().unwrap().contains("\tMemory\tOutput:-"), "{text}");
}
