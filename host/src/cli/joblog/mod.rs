//! The job log of `wpool map`: a line for each task that is done, and what a run that is resumed makes of it.
//!
//! ```text
//!   reader thread:  records ──Ledger──▶ those to run, with what the log will say of them (Fact)
//!   main thread:    results ──▶ stdout, then their lines ──▶ log, then both to the disk
//! ```
//!
//! Results go before their lines: a run that is killed at any moment has logged nothing that it has not delivered. What it had delivered
//! and not logged, that of the write it was killed in, is run again. The log is never read while it is written, and nobody else writes it.

mod done;
mod line;
mod read;
mod summary;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::{Flock, FlockType};
use sha2::{Digest as _, Sha256};

use self::done::{Done, Rule, Verdict};
pub(super) use self::line::InputDigest;
use self::line::{HEADER, Identity, Line, escaped, hex};
use self::read::{Extent, Refused, is_log, lines};
pub(super) use self::summary::report;
use super::args::{LogArgs, Match};
use super::exit::{Exit, Failure};
use super::input::Source;
use super::labels::{Label, SHORT};
use super::report::Report;
use super::stdio;
use crate::error::TaskError;
use crate::module::Digest;
use crate::pool::Outcome;

/// Takes bytes for a log, behind a header if the first of them is odd.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let log = match choice % 2 {
        0 => data.to_vec(),
        _ => [HEADER.as_bytes(), data].concat(),
    };
    let written = |line: &Line<'_>, of: &Identity<&str>| {
        let [module, export, settings] = [of.module, of.export, of.settings].map(str::to_owned);
        let mut text = Vec::new();
        line.write(&Identity { module, export, settings }, &mut text);
        text
    };
    let read = lines(&log[..], |_, line, identity| {
        let text = written(line, identity);
        let (again, of) = Line::parse(text.strip_suffix(b"\n").expect("a line ends")).expect("we read what we write");
        assert_eq!(written(&again, &of), text);
        Ok(())
    });
    if let Ok(extent) = read {
        assert!(extent.whole + u64::from(extent.is_cut) <= log.len() as u64);
    }
}

/// Lines are written out when so many bytes have come together, or with the results.
const BUFFER_LEN: usize = 128 << 10;
/// Writing through to the disk takes at most one part in this many of the time.
const SYNC_SHARE: u32 = 20;
/// Memory for records that are held back until one is found in the log.
const HELD_MAX: usize = 1 << 20;

/// A log that is ours to write, not begun yet.
#[derive(Debug)]
pub(super) struct JobLog {
    path: PathBuf,
    file: File,
    is_file: bool,
    start: Start,
}

/// How to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// Anew.
    Over,
    /// Behind what is there.
    Append,
    /// The same, without what has been done.
    Resume(Rule, Match),
}

/// How the options begin a log.
fn start(args: &LogArgs, append: bool) -> Start {
    let resume = |how: Option<Match>, rule| how.map(|how| Start::Resume(rule, how));
    let resumed = resume(args.resume, Rule::New)
        .or(resume(args.resume_failed, Rule::NewAndFailed))
        .or(resume(args.retry_failed, Rule::Failed));
    resumed.unwrap_or(if append { Start::Append } else { Start::Over })
}

impl JobLog {
    /// Opens the log that was asked for, so that what cannot be written is known before anything runs.
    pub(super) fn open(args: &LogArgs, source: &Source, report: &Report) -> Result<Option<JobLog>, Failure> {
        let Some(given) = &args.joblog else { return Ok(None) };
        let (path, start) = (given.path.clone(), start(args, given.append));
        let cannot = |why: &str| Failure::usage(format!("cannot use the job log {}: {why}", path.display()));
        let kind = std::fs::metadata(&path).ok().map(|found| found.file_type());
        // A pipe opened for reading too would never tell that its reader has left.
        let is_file = kind.is_none_or(|kind| kind.is_file());
        if !is_file && start != Start::Over {
            return Err(cannot("it is not a file, so that nothing can be read from it or appended"));
        }
        if kind.is_some_and(|kind| kind.is_dir()) {
            return Err(cannot("it is a directory"));
        }
        let mut options = OpenOptions::new();
        options.append(true).create(is_file).read(is_file);
        let file = options.open(&path).map_err(|e| cannot(&stdio::words(&e)))?;
        let found = file.metadata().map_err(|e| cannot(&stdio::words(&e)))?;
        let place = (found.dev(), found.ino());
        if is_file && source.files().any(|input| input == place) {
            return Err(cannot("it is also the input"));
        }
        let output = rustix::fs::fstat(rustix::stdio::stdout()).ok().map(|stdout| (stdout.st_dev, stdout.st_ino));
        if output == Some(place) && !found.file_type().is_char_device() {
            return Err(cannot("it is also the output"));
        }
        if is_file {
            lock(&file, report).map_err(|why| cannot(&why))?;
        }
        Ok(Some(JobLog { path, file, is_file, start }))
    }

    /// Reads what there is, and begins to write. `Done` for a run that is resumed.
    pub(super) fn begin(mut self, run: Run<'_>, report: &Report) -> Result<(Writer, Option<Resumed>), Failure> {
        let refused = |why: &str| Failure::usage(format!("cannot use the job log {}: {why}", self.path.display()));
        let identity = run.identity();
        let mut resumed = None;
        let extent = match self.start {
            Start::Over => {
                let mut start = Vec::new();
                if self.is_file {
                    let read = (&self.file).take(HEADER.len() as u64).read_to_end(&mut start);
                    read.map_err(|e| refused(&Refused::Read(e).to_string()))?;
                }
                if !is_log(&start) {
                    let why = "it has something else in it, which is not written over: name another file, or remove it";
                    return Err(refused(why));
                }
                Extent::default()
            }
            Start::Append => lines(&self.file, |_, _, _| Ok(())).map_err(|e| refused(&e.to_string()))?,
            Start::Resume(rule, how) => {
                let ours = (how == Match::Same).then_some(&identity);
                let (done, extent) = done::read(&self.file, ours).map_err(|e| match e {
                    Refused::Other { .. } => refused(&format!("{e}{}", way_out(rule))),
                    e => refused(&e.to_string()),
                })?;
                report.detail(&format!("{}: {} tasks of earlier runs", self.path.display(), done.left()));
                resumed = Some(Resumed { done, rule, proof: proof(how) });
                extent
            }
        };
        if extent.is_cut {
            report.detail(&format!("{}: its last line was cut short, and is left out", self.path.display()));
        }
        let mut writer = Writer {
            path: std::mem::take(&mut self.path),
            file: self.file,
            is_file: self.is_file,
            identity,
            buffer: Vec::new(),
            error: None,
            synced: Synced::new(),
        };
        if self.is_file {
            let cut = writer.file.set_len(extent.whole).and_then(|()| writer.file.seek(SeekFrom::End(0)));
            cut.map_err(|e| writer.failure(&e))?;
        }
        if extent.whole == 0 {
            writer.buffer.extend_from_slice(HEADER.as_bytes());
            writer.write();
        }
        match writer.error.take() {
            Some(e) => Err(writer.failure(&e)),
            None => Ok((writer, resumed)),
        }
    }
}

/// Keeps other runs from the log, until we end. It belongs to our process: whoever opens the file here and closes it gives it up.
fn lock(file: &File, report: &Report) -> Result<(), String> {
    match rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::ACCESS | Errno::AGAIN) => {
            let by = rustix::process::fcntl_getlk(file, &Flock::from(FlockType::WriteLock)).ok().flatten();
            Err(match by.and_then(|by| by.pid) {
                Some(pid) => format!("it is in use by process {}", pid.as_raw_nonzero()),
                None => "it is in use by another process".to_owned(),
            })
        }
        Err(e) => {
            report.warn(&format!(
                "cannot lock the job log ({}): see to it that no other run uses it",
                stdio::words(&e.into())
            ));
            Ok(())
        }
    }
}

/// What is run, in all that decides about results.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) module: Digest,
    pub(super) export: &'a str,
    /// Whatever else makes a result what it is, each with its name. Limits do not: a task that was done within them is done.
    pub(super) settings: Vec<String>,
}

impl Run<'_> {
    fn identity(&self) -> Identity {
        let mut hash = Sha256::new();
        for setting in &self.settings {
            hash.update((setting.len() as u64).to_le_bytes());
            hash.update(setting);
        }
        Identity {
            module: self.module.to_string()[..32].to_owned(),
            export: escaped(self.export.as_bytes(), false).into_owned(),
            settings: hex(&hash.finalize()[..8]),
        }
    }
}

/// Writes lines behind the results that they are about.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    file: File,
    is_file: bool,
    identity: Identity,
    buffer: Vec<u8>,
    error: Option<io::Error>,
    synced: Synced,
}

/// When the disk was last waited for, and how long.
#[derive(Debug)]
struct Synced {
    at: Instant,
    cost: Duration,
}

impl Synced {
    fn new() -> Synced {
        Synced { at: Instant::now(), cost: Duration::ZERO }
    }

    fn is_due(&self) -> bool {
        self.at.elapsed() >= self.cost * SYNC_SHARE
    }
}

impl Writer {
    /// Adds the line of a task that is done, to be written out behind its result.
    pub(super) fn add(&mut self, outcome: &Outcome<'_>, result: &Result<&[u8], TaskError>, label: &Label) {
        let Some(fact) = label.fact else { return };
        let took = outcome.took().unwrap_or_default();
        let ended = outcome.ended().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (exitval, signal) = ended_with(result.as_ref().err());
        let shown = label.text.len().min(SHORT);
        let line = Line {
            seq: label.number + 1,
            started: ended.saturating_sub(took),
            took,
            sent: fact.len,
            received: result.as_ref().map_or(0, |bytes| bytes.len() as u64),
            exitval,
            signal,
            command: &escaped(&label.text[..shown], label.is_cut || shown < label.text.len()),
            kind: result.as_ref().err().map_or(line::OK, TaskError::kind),
            attempt: outcome.attempt(),
            rerun: fact.is_rerun,
            input: fact.digest,
            fuel: outcome.fuel(),
            memory: outcome.mem_peak(),
        };
        line.write(&self.identity, &mut self.buffer);
    }

    /// Whether enough has come together to be written out.
    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() >= BUFFER_LEN
    }

    /// Writes out what there is; the results are out. After the first error nothing more is tried.
    pub(super) fn flush(&mut self) {
        if !self.buffer.is_empty() {
            self.write();
            if self.synced.is_due() {
                self.sync();
            }
        }
    }

    /// Leaves out what there is: its results could not be delivered.
    pub(super) fn forget(&mut self) {
        self.buffer.clear();
    }

    fn write(&mut self) {
        if self.error.is_none() {
            self.error = stdio::write_all(self.file.as_fd(), &self.buffer).err();
        }
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_LEN * 8);
    }

    /// Results before lines, here too.
    fn sync(&mut self) {
        if !self.is_file || self.error.is_some() {
            return;
        }
        let began = Instant::now();
        // Of a pipe or a terminal nothing can be made sure.
        let _only_files = rustix::fs::fdatasync(rustix::stdio::stdout());
        self.error = rustix::fs::fdatasync(&self.file).err().map(io::Error::from);
        self.synced = Synced { at: Instant::now(), cost: began.elapsed() };
    }

    pub(super) fn has_failed(&self) -> bool {
        self.error.is_some()
    }

    pub(super) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Writes out the rest.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        self.flush();
        self.sync();
        self.error.take().map_or(Ok(()), |e| Err(self.failure(&e)))
    }

    fn failure(&self, error: &io::Error) -> Failure {
        let (path, why) = (self.path.display(), stdio::words(error));
        Failure::new(Exit::Io, format!("cannot write the job log {path}: {why}"))
    }
}

/// Exit value and signal as GNU parallel has them, but no failure has the exit value 0.
fn ended_with(error: Option<&TaskError>) -> (u8, u8) {
    match error {
        None => (0, 0),
        Some(TaskError::Exited { code }) => (u8::try_from(code & 0xff).ok().filter(|code| *code != 0).unwrap_or(1), 0),
        Some(TaskError::WorkerLost { exitcode: Some(code), .. }) => (1, u8::try_from(-i64::from(*code)).unwrap_or(0)),
        Some(_) => (1, 0),
    }
}

/// What the log will say of a record, as soon as it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fact {
    pub(super) digest: InputDigest,
    /// Bytes of the whole record.
    pub(super) len: u64,
    pub(super) is_rerun: bool,
}

/// The tasks of a log that is resumed, and what they mean.
#[derive(Debug)]
pub(super) struct Resumed {
    done: Done,
    rule: Rule,
    proof: Proof,
}

/// Whether the log is one of this input.
#[derive(Debug)]
enum Proof {
    /// No record of the log has been seen. All are held back, in so much memory: nothing may run yet.
    None(Vec<Held>, usize),
    /// One has been seen, or it does not matter.
    Given,
}

fn proof(how: Match) -> Proof {
    match how {
        Match::Same => Proof::None(Vec::new(), 0),
        Match::Force => Proof::Given,
    }
}

/// Records that wait.
#[derive(Debug)]
struct Held {
    bytes: Vec<u8>,
    bounds: Vec<Range<usize>>,
}

/// Decides which records are run, and numbers them.
#[derive(Debug)]
pub(super) struct Ledger {
    resumed: Option<Resumed>,
    /// Records so far.
    number: u64,
    pub(super) skipped: u64,
    /// Of these, those that have failed before.
    pub(super) skipped_failed: u64,
    chosen: Chosen,
}

/// Records to run, in their bytes: place, number, and what the log will say.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    pub(super) bounds: Vec<Range<usize>>,
    pub(super) numbers: Vec<u64>,
    pub(super) facts: Vec<Fact>,
}

/// None of the first records of the input, or of all, is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OtherInput {
    records: u64,
    rule: Rule,
}

impl std::fmt::Display for OtherInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let records = match self.records {
            1 => "the first record".to_owned(),
            count => format!("any of the first {count} records"),
        };
        write!(f, "the job log is of another input: it does not have {records}{}", way_out(self.rule))
    }
}

/// What to do about a log of another run.
fn way_out(rule: Rule) -> String {
    format!("; {}=force takes its tasks for done all the same, another --joblog begins anew", rule.option())
}

impl Ledger {
    pub(super) fn new(resumed: Option<Resumed>) -> Ledger {
        let resumed = resumed.map(|resumed| match resumed.done.left() {
            // An empty log is of any input.
            0 => Resumed { proof: Proof::Given, ..resumed },
            _ => resumed,
        });
        Ledger { resumed, number: 0, skipped: 0, skipped_failed: 0, chosen: Chosen::default() }
    }

    /// Takes records in, and gives to `run` those that are to be run: now, or when it is known that the log is one of theirs.
    pub(super) fn take<E>(
        &mut self,
        bytes: &[u8],
        bounds: &[Range<usize>],
        run: &mut impl FnMut(&[u8], &Chosen) -> Result<(), E>,
    ) -> Result<Result<(), OtherInput>, E> {
        let Some(Resumed { done, proof: Proof::None(held, memory), .. }) = &mut self.resumed else {
            return self.choose(bytes, bounds, run).map(Ok);
        };
        if bounds.iter().any(|bound| done.contains(InputDigest::of(&bytes[bound.clone()]))) {
            let held = std::mem::take(held);
            self.resumed.iter_mut().for_each(|resumed| resumed.proof = Proof::Given);
            for Held { bytes, bounds } in &held {
                self.choose(bytes, bounds, run)?;
            }
            return self.choose(bytes, bounds, run).map(Ok);
        }
        let (start, end) = (bounds.first().map_or(0, |b| b.start), bounds.last().map_or(0, |b| b.end));
        let moved = bounds.iter().map(|b| b.start - start..b.end - start).collect();
        held.push(Held { bytes: bytes[start..end].to_vec(), bounds: moved });
        *memory += end - start + size_of_val(bounds);
        let is_enough = *memory > HELD_MAX;
        Ok(if is_enough { self.proven() } else { Ok(()) })
    }

    /// Whether the log is one of the input. To be asked at its end.
    pub(super) fn proven(&self) -> Result<(), OtherInput> {
        match &self.resumed {
            Some(Resumed { proof: Proof::None(held, _), rule, .. }) if !held.is_empty() => {
                let records = held.iter().map(|held| held.bounds.len() as u64).sum();
                Err(OtherInput { records, rule: *rule })
            }
            _ => Ok(()),
        }
    }

    /// Tasks of the log that no record was found for.
    pub(super) fn left(&self) -> u64 {
        self.resumed.as_ref().map_or(0, |resumed| resumed.done.left())
    }

    fn choose<E>(
        &mut self,
        bytes: &[u8],
        bounds: &[Range<usize>],
        run: &mut impl FnMut(&[u8], &Chosen) -> Result<(), E>,
    ) -> Result<(), E> {
        let Chosen { bounds: kept, numbers, facts } = &mut self.chosen;
        kept.clear();
        numbers.clear();
        facts.clear();
        for bound in bounds {
            let record = &bytes[bound.clone()];
            let digest = InputDigest::of(record);
            let verdict = self.resumed.as_mut().map_or(Verdict::Run, |log| log.done.verdict(log.rule, digest));
            match verdict {
                Verdict::Skip => self.skipped += 1,
                Verdict::SkipFailed => {
                    self.skipped += 1;
                    self.skipped_failed += 1;
                }
                Verdict::Run | Verdict::RunAgain => {
                    kept.push(bound.clone());
                    numbers.push(self.number);
                    let is_rerun = verdict == Verdict::RunAgain;
                    facts.push(Fact { digest, len: record.len() as u64, is_rerun });
                }
            }
            self.number += 1;
        }
        match self.chosen.bounds.is_empty() {
            true => Ok(()),
            false => run(bytes, &self.chosen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(done: &[&str], how: Match) -> Ledger {
        let mut text = HEADER.as_bytes().to_vec();
        let identity = Identity { module: "ab".to_owned(), export: "run".to_owned(), settings: "cd".to_owned() };
        for record in done {
            let line = Line {
                seq: 1,
                started: Duration::ZERO,
                took: Duration::ZERO,
                sent: 0,
                received: 0,
                exitval: 0,
                signal: 0,
                command: "",
                kind: line::OK,
                attempt: 1,
                rerun: false,
                input: InputDigest::of(record.as_bytes()),
                fuel: None,
                memory: None,
            };
            line.write(&identity, &mut text);
        }
        let done = done::read(&text[..], None).unwrap().0;
        Ledger::new(Some(Resumed { done, rule: Rule::New, proof: proof(how) }))
    }

    /// Gives one record after the other, and gathers what is run, with its number.
    fn run(ledger: &mut Ledger, records: &[&str]) -> Result<Vec<(u64, String)>, OtherInput> {
        let mut ran = Vec::new();
        for record in records {
            let mut each = |bytes: &[u8], chosen: &Chosen| {
                for (bound, number) in chosen.bounds.iter().zip(&chosen.numbers) {
                    ran.push((*number, String::from_utf8(bytes[bound.clone()].to_vec()).unwrap()));
                }
                Ok::<(), std::convert::Infallible>(())
            };
            let bound = 1..record.len() + 1;
            let bounds = std::slice::from_ref(&bound);
            let Ok(known) = ledger.take(format!("-{record}-").as_bytes(), bounds, &mut each);
            known?;
        }
        ledger.proven().map(|()| ran)
    }

    #[test]
    fn records_that_are_done_are_left_out_and_the_others_keep_their_numbers() {
        let mut ledger = ledger(&["a", "b", "a"], Match::Same);
        let ran = run(&mut ledger, &["x", "y", "a", "b", "z", "a", "a"]).unwrap();
        let expected = [(0, "x"), (1, "y"), (4, "z"), (6, "a")].map(|(n, r)| (n, r.to_owned()));
        assert_eq!((ran, ledger.skipped, ledger.left()), (expected.to_vec(), 3, 0));
    }

    #[test]
    fn f83_nothing_runs_of_an_input_that_has_no_record_in_common_with_the_log() {
        assert_eq!(run(&mut ledger(&["a"], Match::Same), &["x", "y"]), Err(OtherInput { records: 2, rule: Rule::New }));
        let long = "x".repeat(HELD_MAX);
        assert_eq!(
            run(&mut ledger(&["a"], Match::Same), &["x", &long, "a"]),
            Err(OtherInput { records: 2, rule: Rule::New })
        );
        assert_eq!(run(&mut ledger(&["a"], Match::Force), &["x"]), Ok(vec![(0, "x".to_owned())]));
        assert_eq!(run(&mut ledger(&[], Match::Same), &["x"]), Ok(vec![(0, "x".to_owned())]));
        assert_eq!(run(&mut ledger(&["a"], Match::Same), &[]), Ok(vec![]));
    }

    #[test]
    fn a_failure_has_an_exit_value_or_a_signal_as_parallel_gives_them() {
        assert_eq!(ended_with(None), (0, 0));
        assert_eq!(ended_with(Some(&TaskError::Exited { code: 3 })), (3, 0));
        assert_eq!(ended_with(Some(&TaskError::Exited { code: 256 })), (1, 0));
        let lost = |code| TaskError::WorkerLost { exitcode: Some(code), reason: String::new() };
        assert_eq!((ended_with(Some(&lost(-9))), ended_with(Some(&lost(4)))), ((1, 9), (1, 0)));
    }
}
