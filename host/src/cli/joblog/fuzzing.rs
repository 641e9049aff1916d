//! Job logs, for [`crate::fuzzing`].

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::done::Rule;
use super::filter::{Chosen, RecordFilter, Resumed};
use super::line::{self, HEADER_LEN, LogLine, LogVersion, RunIdentity, header};
use super::place::{OutputPlace, Vouched, reopen};
use super::read::lines;
use super::writer::{Synced, Writer};
use super::{JobLog, LogMode, LoggedRun};
use crate::cli::choices::{LogMatch, UseColor};
use crate::cli::exit::CliError;
use crate::cli::output::Unwritten;
use crate::cli::record::InputDigest;
use crate::cli::report::Report;
use crate::fuzzing::choices::Choices;
use crate::module::Digest;

/// Takes bytes for a log, behind a header if the first byte is odd.
pub(crate) fn joblog(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let log = if choice % 2 == 0 { data.to_vec() } else { [header().as_bytes(), data].concat() };
    let is_before = log.starts_with(line::HEADER_BEFORE.as_bytes());
    let version = if is_before { LogVersion::WithoutOutput } else { LogVersion::WithOutput };
    let written = |line: &LogLine<'_>, of: &RunIdentity<&str>| {
        let [module, export, settings] = [of.module, of.export, of.settings].map(str::to_owned);
        let mut text = Vec::new();
        line.write(&RunIdentity { module, export, settings }.columns(), version, &mut text);
        text
    };
    let read = lines(&log[..], |_, line, identity| {
        let text = written(line, identity);
        let line = text.strip_suffix(b"\n").expect("a line ends");
        let (again, of) = LogLine::parse(line, version).expect("we read what we write");
        assert_eq!(written(&again, &of), text);
        Ok(())
    });
    if let Ok(extent) = read {
        assert!(extent.whole + u64::from(extent.is_cut) <= log.len() as u64);
        let vouched = extent.vouched();
        if let Vouched::Until(mark, to) = vouched {
            assert!((mark.from..=mark.to).contains(&to), "{vouched:?}");
        }
    }
}

/// What the output holds before the first run.
const BEFORE: &[u8] = b"before\n";

/// Runs over one input. A run may be killed at any place, and the next one resumes it. A record is run unless
/// a whole line of the log says otherwise, and the output has exactly the results of those lines. Between
/// runs, bytes of both files may be cut off, added or changed: that loses no result of an earlier write.
pub(crate) fn resume(data: &[u8]) {
    let mut choices = Choices(data);
    let records: Vec<u8> = (0..=choices.byte() % 8).map(|_| b'a' + choices.byte() % 4).collect();
    let rounds = 1 + choices.byte() % 4;
    let mut runs = Runs {
        files: Files { log: memory(), output: memory() },
        records,
        lines: Vec::new(),
        mark: None,
        is_whole: true,
    };
    (&runs.files.output).write_all(BEFORE).expect("memory can be written");
    for _ in 0..rounds {
        let rule = [Rule::New, Rule::NewAndFailed, Rule::Failed][usize::from(choices.byte() % 3)];
        let (writer, output, resumed) = runs.begin(rule);
        let chosen = runs.choose(rule, resumed, usize::from(choices.byte()));
        runs.run(writer, output, &chosen, &mut choices);
        match choices.byte() % 6 {
            0 | 1 => {}
            2 => runs.cut_log(&mut choices),
            3 => {
                let len = below(&mut choices, bytes(&runs.files.output).len() + 1);
                runs.files.output.set_len(len as u64).expect("memory can be cut");
                runs.is_whole = false;
            }
            4 => {
                let output = again(&runs.files.output, OpenOptions::new().append(true));
                (&output).write_all(b"of others").expect("memory can be written");
                runs.is_whole = false;
            }
            _ => return runs.change_log(rule, &mut choices),
        }
    }
    let (writer, output, resumed) = runs.begin(Rule::New);
    let chosen = runs.choose(Rule::New, resumed, 0);
    runs.run(writer, output, &chosen, &mut Choices(&[]));
    let (_, _, resumed) = runs.begin(Rule::New);
    assert_eq!(runs.choose(Rule::New, resumed, 1), [], "all is done");
}

fn below(choices: &mut Choices<'_>, bound: usize) -> usize {
    usize::from(u16::from_le_bytes(choices.number())) % bound
}

/// A task whose line is in the log.
struct Task {
    record: u8,
    is_ok: bool,
    is_rerun: bool,
    result: Vec<u8>,
    /// Where the task's result ends in the output.
    end: usize,
    /// Where the task's line ends in the log.
    line_end: usize,
}

/// The write that the header marks.
#[derive(Clone, Copy)]
struct LastWrite {
    /// Lines of the log before it.
    lines: usize,
    from: usize,
    to: usize,
    /// The lines before it are about results that were lost, or that lie behind `from`.
    is_moved: bool,
}

struct Files {
    log: File,
    output: File,
}

/// The state that the runs have left.
struct Runs {
    files: Files,
    records: Vec<u8>,
    lines: Vec<Task>,
    mark: Option<LastWrite>,
    /// Nothing but kills has touched the files.
    is_whole: bool,
}

impl Runs {
    /// Begins the next run, and checks what it does with the files.
    fn begin(&mut self, rule: Rule) -> (Writer, File, Resumed) {
        let (before, log_before) = (bytes(&self.files.output), bytes(&self.files.log));
        let expected = self.settled(before.len());
        let (begun, output) = self.files.begin(rule, LogMatch::Same);
        let (begun, output) = match expected {
            Some(_) => (begun, output),
            None => {
                assert!(begun.is_err(), "the output has not all that the log vouches for");
                assert!((bytes(&self.files.output), bytes(&self.files.log)) == (before.clone(), log_before));
                drop((begun, output));
                self.files.begin(rule, LogMatch::Force)
            }
        };
        let (mut writer, resumed) = begun.unwrap_or_else(|e| panic!("{e}"));
        let len = expected.unwrap_or(before.len());
        assert!(bytes(&self.files.output) == before[..len], "{len} bytes of {}", before.len());
        let log_len = self.log_len();
        assert_eq!(bytes(&self.files.log).len(), log_len);
        if self.is_whole {
            let results = self.lines.iter().map(|task| &task.result[..]);
            assert!(before[..len] == [BEFORE].into_iter().chain(results).collect::<Vec<_>>().concat());
        }
        self.mark =
            Some(LastWrite { lines: self.lines.len(), from: len, to: len, is_moved: self.ends_behind(len) });
        // Keeps the writer from syncing.
        writer.synced = Synced { at: Instant::now(), cost: Duration::from_secs(3600) };
        (writer, output, resumed.expect("it is resumed"))
    }

    /// Whether the last line's result ends behind an offset of the output.
    fn ends_behind(&self, at: usize) -> bool {
        self.lines.last().is_some_and(|task| task.end > at)
    }

    fn log_len(&self) -> usize {
        self.lines.last().map_or(HEADER_LEN, |task| task.line_end)
    }

    /// The length that an output of `len` bytes has when the next run has begun. `None`: results are missing.
    fn settled(&self, len: usize) -> Option<usize> {
        let Some(mark) = self.mark.filter(|mark| self.lines.len() >= mark.lines) else { return Some(len) };
        // Lines are missing: the last one is from before the write, and its result lies in the write.
        let is_of_it = |task: &Task| (mark.from + 1..=mark.to).contains(&task.end);
        if self.lines.len() == mark.lines && !mark.is_moved && self.lines.last().is_some_and(is_of_it) {
            assert!(!self.is_whole);
            return Some(len);
        }
        let vouched = self.lines[mark.lines..].last().map_or(mark.from, |task| task.end);
        let is_torn = vouched < mark.to && len <= mark.to;
        (len >= vouched).then_some(if is_torn { vouched } else { len })
    }

    /// The records that are run, by their numbers, with whether they have failed before.
    fn choose(&self, rule: Rule, resumed: Resumed, split: usize) -> Vec<(usize, bool)> {
        let mut ledger = RecordFilter::new(Some(resumed));
        let mut chosen = Vec::new();
        let bounds: Vec<_> = (0..self.records.len()).map(|at| at..at + 1).collect();
        // All records at once, or in two pieces. The first piece may have no record of the log.
        let (first, second) = bounds.split_at(split % (bounds.len() + 1));
        for bounds in [first, second] {
            let mut run = |bytes: &[u8], found: &Chosen| {
                for (bound, (number, fact)) in found.bounds.iter().zip(&found.logged) {
                    let record = &bytes[bound.clone()];
                    assert_eq!((fact.digest, fact.len), (InputDigest::of(record), record.len() as u64));
                    let number = usize::try_from(*number).expect("there are a few");
                    assert_eq!(record, [self.records[number]]);
                    chosen.push((number, fact.is_rerun));
                }
                Ok::<_, std::convert::Infallible>(())
            };
            let Ok(taken) = ledger.take(&self.records, bounds, &mut run);
            assert_eq!(taken, Ok(()));
        }
        assert_eq!(ledger.proven(), Ok(()));
        assert_eq!(chosen, self.to_run(rule));
        assert_eq!(ledger.skipped, (self.records.len() - chosen.len()) as u64);
        chosen
    }

    fn to_run(&self, rule: Rule) -> Vec<(usize, bool)> {
        let mut left: Vec<(u8, bool)> = Vec::new();
        let take = |left: &mut Vec<(u8, bool)>, record, is_ok| {
            let found = left.iter().position(|task| *task == (record, is_ok));
            found.map(|at| left.remove(at)).is_some()
        };
        for task in &self.lines {
            if task.is_rerun {
                take(&mut left, task.record, false);
            }
            left.push((task.record, task.is_ok));
        }
        let of_record = |(number, record): (usize, &u8)| {
            let run = |is_rerun| Some((number, is_rerun));
            match rule {
                Rule::New => (!take(&mut left, *record, true) && !take(&mut left, *record, false))
                    .then_some((number, false)),
                Rule::NewAndFailed if take(&mut left, *record, true) => None,
                Rule::NewAndFailed => run(take(&mut left, *record, false)),
                Rule::Failed if take(&mut left, *record, false) => run(true),
                Rule::Failed => {
                    take(&mut left, *record, true);
                    None
                }
            }
        };
        self.records.iter().enumerate().filter_map(of_record).collect()
    }

    /// Runs tasks, until it is killed or all are done.
    fn run(&mut self, mut writer: Writer, output: File, chosen: &[(usize, bool)], choices: &mut Choices<'_>) {
        let mut rest = chosen;
        let mut is_first = true;
        while !rest.is_empty() {
            let batch = rest
                .split_off(..(1 + usize::from(choices.byte() % 3)).min(rest.len()))
                .expect("it is within");
            let (lines_before, from) = (self.lines.len(), bytes(&self.files.output).len());
            let before = self.lines.last().map(|task| task.end);
            let mut results = Vec::new();
            let log_len = self.log_len();
            for (number, is_rerun) in batch {
                let record = self.records[*number];
                let choice = choices.byte();
                let is_ok = choice % 4 != 1;
                let len = if is_ok { 3 * usize::from(choice) } else { 0 };
                let result = format!("{number} of {from}: ")
                    .bytes()
                    .chain([record; 800])
                    .take(len)
                    .collect::<Vec<_>>();
                results.extend_from_slice(&result);
                let line = LogLine {
                    kind: if is_ok { line::OK } else { "trap" },
                    ..self.line(*number, *is_rerun, &result)
                };
                let line = LogLine { output: Some(writer.place.end(results.len())), ..line };
                line.write(&writer.identity, writer.version, &mut writer.buffer);
                let (end, line_end) = (from + results.len(), log_len + writer.buffer.len());
                self.lines.push(Task { record, is_ok, is_rerun: *is_rerun, result, end, line_end });
            }
            let mut pending = Unwritten::default();
            pending.write_all(&results).expect("it is counted only");
            writer.announce(&pending);
            if !results.is_empty() {
                let is_moved = is_first && before.is_some_and(|end| end > from);
                self.mark = Some(LastWrite { lines: lines_before, from, to: from + results.len(), is_moved });
            }
            is_first = false;
            let how = choices.byte() % 8;
            let arrived = if how == 1 { below(choices, results.len() + 1) } else { results.len() };
            (&output).write_all(&results[..arrived]).expect("memory can be written");
            if how == 1 {
                // Killed in its results.
                self.lines.truncate(lines_before);
                return;
            }
            writer.flush();
            assert!(!writer.has_failed());
            assert_eq!(bytes(&self.files.log).len(), self.log_len());
            if how == 2 {
                // Killed in its lines.
                let start = self.lines[..lines_before].last().map_or(HEADER_LEN, |task| task.line_end);
                let len = start + below(choices, self.log_len() - start);
                self.forget_behind(len);
                return;
            }
        }
    }

    fn line(&self, number: usize, rerun: bool, result: &[u8]) -> LogLine<'static> {
        LogLine {
            seq: number as u64 + 1,
            started: Duration::ZERO,
            took: Duration::ZERO,
            sent: 1,
            received: result.len() as u64,
            exitval: 0,
            signal: 0,
            command: "",
            kind: line::OK,
            attempt: 1,
            rerun,
            input: InputDigest::of(&[self.records[number]]),
            fuel: None,
            memory: None,
            output: None,
        }
    }

    /// Cuts the log off anywhere.
    fn cut_log(&mut self, choices: &mut Choices<'_>) {
        let len = below(choices, bytes(&self.files.log).len() + 1);
        self.forget_behind(len);
        self.is_whole = false;
        if len < HEADER_LEN {
            self.mark = None;
        }
    }

    fn forget_behind(&mut self, len: usize) {
        self.files.log.set_len(len as u64).expect("memory can be cut");
        self.lines.retain(|task| task.line_end <= len);
    }

    /// Changes a byte of the log. A log that is still accepted has no more tasks than lines, and no result of
    /// an earlier write is lost.
    fn change_log(&self, rule: Rule, choices: &mut Choices<'_>) {
        let (before, mut log) = (bytes(&self.files.output), bytes(&self.files.log));
        let at = below(choices, log.len());
        log[at] ^= choices.byte().max(1);
        self.files.log.write_all_at(&log, 0).expect("memory can be written");
        let (begun, _output) = self.files.begin(rule, LogMatch::Force);
        let after = bytes(&self.files.output);
        assert!(before.starts_with(&after));
        let kept = self.mark.map_or(before.len(), |mark| mark.from.min(before.len()));
        assert!(after.len() >= kept, "{} of {kept} bytes are left", after.len());
        match begun {
            Ok((_, resumed)) => {
                let lines = log.iter().filter(|byte| **byte == b'\n').count() as u64;
                assert!(RecordFilter::new(resumed).left() < lines.max(1));
            }
            Err(_) => assert!(after == before && bytes(&self.files.log) == log),
        }
    }
}

impl Files {
    /// Begins a run as `wpool map` does, with the output of the runs before.
    fn begin(&self, rule: Rule, how: LogMatch) -> (Result<(Writer, Option<Resumed>), CliError>, File) {
        let output = again(&self.output, OpenOptions::new().append(true));
        let log = JobLog {
            path: "a log".into(),
            file: again(&self.log, OpenOptions::new().read(true).append(true)),
            is_file: true,
            mode: LogMode::Resume(rule, how),
            marks: Some(again(&self.log, OpenOptions::new().write(true))),
            place: OutputPlace::of(output.as_fd(), self.log.as_fd()),
        };
        let run = LoggedRun { module: Digest::of(b"a module"), export: "run", settings: &[] };
        (log.begin(&run, &Report::new(true, false, UseColor::Never)), output)
    }
}

fn memory() -> File {
    rustix::fs::memfd_create("wpool-fuzz", rustix::fs::MemfdFlags::CLOEXEC).expect("there is memory").into()
}

fn again(file: &File, how: &OpenOptions) -> File {
    reopen(file.as_fd(), how).expect("a memory file can be opened again")
}

fn bytes(file: &File) -> Vec<u8> {
    let len = file.metadata().expect("a file has a length").len();
    let mut bytes = vec![0; usize::try_from(len).expect("it is short")];
    file.read_exact_at(&mut bytes, 0).expect("memory can be read");
    bytes
}
