//! The job log of `wpool map`: a line for each task that is done, and what a run that is resumed makes of it.
//!
//! ```text
//!   reader thread:  records ──Ledger──▶ those to run, with what the log will say of them (Fact)
//!   main thread:    place of results ──▶ log's header, results ──▶ stdout, their lines ──▶ log, then both to the disk
//! ```
//!
//! Results go before their lines: a run that is killed at any moment has logged nothing that it has not delivered. What it
//! had delivered and not logged, that of the write it was killed in, is cut off the output and run again. The log is never
//! read while it is written, and nobody else writes it.

mod done;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod ledger;
mod line;
mod place;
mod read;
mod summary;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::{Flock, FlockType};
use sha2::{Digest as _, Sha256};

use self::done::Rule;
use self::ledger::way_out;
pub(super) use self::ledger::{Chosen, Fact, Ledger, Resumed};
#[cfg(test)]
pub(super) use self::line::InputDigest;
use self::line::{Form, HEADER_LEN, Identity, Line, MARK_AT, escaped, header, hex, is_log};
use self::place::{Mark, Place, Settled, Unsettled, reopen};
use self::read::{Extent, Refused, lines};
pub(super) use self::summary::report;
use super::args::{LogArgs, Match};
use super::exit::{Exit, Failure};
use super::input::Source;
use super::labels::{Label, SHORT};
use super::output::Pending;
use super::report::Report;
use super::stdio;
use crate::error::TaskError;
use crate::module::Digest;
use crate::pool::Outcome;

/// Lines are written out when so many bytes have come together, or with the results.
const BUFFER_LEN: usize = 128 << 10;
/// Writing through to the disk takes at most one part in this many of the time.
const SYNC_SHARE: u32 = 20;

/// A log that is ours to write, not begun yet.
#[derive(Debug)]
pub(super) struct JobLog {
    path: PathBuf,
    file: File,
    is_file: bool,
    start: Start,
    /// The same file, for its header alone: what is written goes where it should, and not behind the end.
    marks: Option<File>,
    /// The output.
    place: Place,
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
        let output =
            rustix::fs::fstat(rustix::stdio::stdout()).ok().map(|stdout| (stdout.st_dev, stdout.st_ino));
        if output == Some(place) && !found.file_type().is_char_device() {
            return Err(cannot("it is also the output"));
        }
        if is_file {
            lock(&file, report).map_err(|why| cannot(&why))?;
        }
        // Closed at the end only, because that gives up the lock.
        let marks = is_file.then(|| reopen(file.as_fd(), OpenOptions::new().write(true)).ok()).flatten();
        let place = match marks {
            Some(_) => Place::of(rustix::stdio::stdout(), rustix::stdio::stderr()),
            None => Place::default(),
        };
        Ok(Some(JobLog { path, file, is_file, start, marks, place }))
    }

    /// Reads what there is, and begins to write. `Done` for a run that is resumed.
    pub(super) fn begin(
        mut self,
        run: Run<'_>,
        report: &Report,
    ) -> Result<(Writer, Option<Resumed>), Failure> {
        let refused =
            |why: &str| Failure::usage(format!("cannot use the job log {}: {why}", self.path.display()));
        let identity = run.identity();
        let mut resumed = None;
        let extent = match self.start {
            Start::Over => {
                let mut start = Vec::new();
                if self.is_file {
                    let read = (&self.file).take(HEADER_LEN as u64).read_to_end(&mut start);
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
                resumed = Some(Resumed::new(done, rule, how));
                let settled = self.place.settle(extent.vouched(), how == Match::Force);
                tell(&settled.map_err(|e| refused(&unsettled(&e, rule)))?, report);
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
            form: extent.form,
            len: extent.whole,
            marks: self.marks.filter(|_| extent.form == Form::Present),
            place: self.place,
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
            writer.buffer.extend_from_slice(header().as_bytes());
            writer.write();
        }
        // Lines of this run are not taken for those of the results that an earlier one has marked.
        writer.mark(writer.place.mark(writer.len));
        match writer.error.take() {
            Some(e) => Err(writer.failure(&e)),
            None => Ok((writer, resumed)),
        }
    }
}

/// Says what has become of the output, if that is of interest.
fn tell(settled: &Settled, report: &Report) {
    match settled {
        Settled::AsItIs => {}
        Settled::Cut { from, to } => report.note(&format!(
            "wpool: the output was cut from {from} to {to} bytes: what lay behind is not in the job log, and is run again"
        )),
        Settled::Elsewhere { to } => report.warn(&format!(
            "the output is not that of the run before, which may have more than the {to} bytes that the job log vouches \
             for: what lies behind them is run again"
        )),
        Settled::Changed => report.warn(
            "the output, or the job log, has been changed by something else: nothing is cut off, and results may be cut \
             short or come twice where the run before ended",
        ),
    }
}

/// Why the output cannot be gone on with, and what to do.
fn unsettled(unsettled: &Unsettled, rule: Rule) -> String {
    let option = rule.option();
    match unsettled {
        Unsettled::Shorter { len, to } => format!(
            "it vouches for {to} bytes of results, of which the output has {len} (`>` empties a file, `>>` goes on behind \
             what it holds); {option}=force goes on all the same, without {option} all is done anew"
        ),
        Unsettled::Cut { to, error } => format!(
            "the output cannot be cut to the {to} bytes that it vouches for: {}; another output can be gone on with",
            stdio::words(error)
        ),
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
    form: Form,
    /// Bytes of it.
    len: u64,
    marks: Option<File>,
    place: Place,
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
    /// Adds the line of a task that is done, to be written out behind its result. `pending`: bytes of results that are not
    /// written yet, its own at their end.
    pub(super) fn add(
        &mut self,
        outcome: &Outcome<'_>,
        result: &Result<&[u8], TaskError>,
        label: &Label,
        pending: usize,
    ) {
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
            output: Some(self.place.end(pending)),
        };
        line.write(&self.identity, self.form, &mut self.buffer);
    }

    /// Whether enough has come together to be written out.
    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() >= BUFFER_LEN
    }

    /// Marks the place of results that are about to be written.
    pub(super) fn announce(&mut self, results: &Pending) {
        if results.len > 0 {
            let mark = self.place.announce(results.len, &results.tail, self.len);
            if mark.is_some() {
                self.mark(mark);
            }
        }
    }

    /// Puts a mark into the header, or none.
    fn mark(&mut self, mark: Option<Mark>) {
        if let (Some(marks), None) = (&self.marks, &self.error) {
            self.error = marks.write_all_at(Mark::text(mark).as_bytes(), MARK_AT).err();
        }
    }

    /// Writes out what there is; the results are out. After the first error nothing more is tried.
    pub(super) fn flush(&mut self) {
        if !self.place.arrived() {
            self.mark(None);
        }
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
            self.len += self.buffer.len() as u64;
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
        Some(TaskError::Exited { code }) => {
            (u8::try_from(code & 0xff).ok().filter(|code| *code != 0).unwrap_or(1), 0)
        }
        Some(TaskError::WorkerLost { exitcode: Some(code), .. }) => {
            (1, u8::try_from(-i64::from(*code)).unwrap_or(0))
        }
        Some(_) => (1, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_an_exit_value_or_a_signal_as_parallel_gives_them() {
        assert_eq!(ended_with(None), (0, 0));
        assert_eq!(ended_with(Some(&TaskError::Exited { code: 3 })), (3, 0));
        assert_eq!(ended_with(Some(&TaskError::Exited { code: 256 })), (1, 0));
        let lost = |code| TaskError::WorkerLost { exitcode: Some(code), reason: String::new() };
        assert_eq!((ended_with(Some(&lost(-9))), ended_with(Some(&lost(4)))), ((1, 9), (1, 0)));
    }
}
