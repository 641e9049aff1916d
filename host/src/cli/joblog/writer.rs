//! Writes the lines of tasks, behind the results that they belong to.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::line::{self, LogLine, LogVersion, MARK_AT, escaped};
use super::place::{Mark, OutputPlace};
use crate::cli::exit::{CliError, OrExit, WpoolExit};
use crate::cli::labels::Label;
use crate::cli::output::Unwritten;
use crate::cli::stdio;
use crate::error::TaskError;
use crate::pool::Outcome;

/// Lines are written with the results, or when this many bytes are gathered.
// A line is several times as long as a short result. With less, the results would be written in small pieces,
// each with marks of its own.
const BUFFER_LEN: usize = 1 << 20;
/// Syncing to the disk takes at most one part in this many of the time.
// A sync can take milliseconds or seconds, depending on the disk. A share of the time bounds both cases,
// which a fixed period does not.
const SYNC_SHARE: u32 = 20;

/// Writes lines after the results that they belong to.
#[derive(Debug)]
pub(in crate::cli) struct Writer {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) is_file: bool,
    pub(super) version: LogVersion,
    /// Bytes of the log.
    pub(super) len: u64,
    /// The same file, opened for writing at any place: the header's mark is written through it.
    pub(super) marks: Option<File>,
    pub(super) place: OutputPlace,
    /// The end of the last result that earlier runs logged. `None` once this run has logged one.
    pub(super) last_end: Option<u64>,
    /// What is the same in all lines: see [`RunIdentity::columns`](line::RunIdentity::columns).
    pub(super) identity: String,
    pub(super) buffer: Vec<u8>,
    /// The first error. Nothing is written after it.
    pub(super) error: Option<io::Error>,
    pub(super) synced: Synced,
    pub(super) ended: LastTime,
}

/// A time, and the same since 1970. The outcomes of short tasks come many at once, with one time.
#[derive(Debug)]
pub(super) struct LastTime {
    at: SystemTime,
    since_epoch: Duration,
}

impl Default for LastTime {
    fn default() -> LastTime {
        LastTime { at: SystemTime::UNIX_EPOCH, since_epoch: Duration::ZERO }
    }
}

impl LastTime {
    fn since_epoch(&mut self, at: SystemTime) -> Duration {
        if at != self.at {
            let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            *self = LastTime { at, since_epoch };
        }
        self.since_epoch
    }
}

/// The last sync to the disk.
#[derive(Debug)]
pub(super) struct Synced {
    pub(super) at: Instant,
    /// How long it took.
    pub(super) cost: Duration,
}

impl Synced {
    pub(super) fn new() -> Synced {
        Synced { at: Instant::now(), cost: Duration::ZERO }
    }

    fn is_due(&self) -> bool {
        self.at.elapsed() >= self.cost * SYNC_SHARE
    }
}

impl Writer {
    /// Adds the line of a task that is done. It is written after the task's result. `pending`: bytes of
    /// results that are not written yet; the task's own result is the last.
    pub(in crate::cli) fn add(
        &mut self,
        outcome: &Outcome<'_>,
        result: &Result<&[u8], TaskError>,
        label: Label<'_>,
        pending: usize,
    ) {
        let Some(fact) = label.fact else { return };
        // The clock of the wall is read once, at the end: the beginning follows from the worker's own
        // measure.
        let took = outcome.took().unwrap_or_default();
        let ended = self.ended.since_epoch(outcome.ended());
        let (exitval, signal) = ended_with(result.as_ref().err());
        let shown = label.short();
        let line = LogLine {
            seq: label.number + 1,
            started: ended.saturating_sub(took),
            took,
            sent: fact.len,
            received: result.as_ref().map_or(0, |bytes| bytes.len() as u64),
            exitval,
            signal,
            command: &escaped(shown.text, shown.is_cut),
            kind: result.as_ref().err().map_or(line::OK, TaskError::kind),
            attempt: outcome.attempt(),
            rerun: fact.is_rerun,
            input: fact.digest,
            fuel: outcome.fuel(),
            memory: outcome.mem_peak(),
            output: Some(self.place.end(pending)),
        };
        line.write(&self.identity, self.version, &mut self.buffer);
    }

    /// Whether enough is gathered to be written.
    pub(in crate::cli) fn is_full(&self) -> bool {
        self.buffer.len() >= BUFFER_LEN
    }

    /// Marks the place of results that are about to be written.
    pub(in crate::cli) fn announce(&mut self, results: &Unwritten) {
        if results.len > 0 {
            let mark = self.place.announce(results.len, &results.tail, self.len);
            if mark.is_some() {
                self.mark(mark);
            }
        }
    }

    /// Writes a mark into the header, or clears it.
    pub(super) fn mark(&mut self, mark: Option<Mark>) {
        let is_moved = |from| self.last_end.is_some_and(|end| end > from);
        let mark = mark.map(|mark| Mark { is_moved: is_moved(mark.from), ..mark });
        if let (Some(marks), None) = (&self.marks, &self.error) {
            self.error = marks.write_all_at(Mark::text(mark).as_bytes(), MARK_AT).err();
        }
    }

    /// Writes the gathered lines. Their results have been written.
    pub(in crate::cli) fn flush(&mut self) {
        if !self.place.arrived() {
            self.mark(None);
        }
        if !self.buffer.is_empty() {
            self.write();
            // From now on the lines before the mark are this run's own.
            self.last_end = None;
            if self.synced.is_due() {
                self.sync();
            }
        }
    }

    /// Drops the gathered lines, because their results could not be written.
    pub(in crate::cli) fn forget(&mut self) {
        self.buffer.clear();
    }

    pub(super) fn write(&mut self) {
        if self.error.is_none() {
            self.error = stdio::write_all(self.file.as_fd(), &self.buffer).err();
            self.len += self.buffer.len() as u64;
        }
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_LEN * 2);
    }

    /// Syncs the results first, then their lines.
    fn sync(&mut self) {
        if !self.is_file || self.error.is_some() {
            return;
        }
        let began = Instant::now();
        // A pipe or a terminal cannot be synced: its error means nothing.
        // The output first: after a crash of the machine, a line on the disk must not vouch for a result that
        // is not there.
        let _only_files = rustix::fs::fdatasync(rustix::stdio::stdout());
        self.error = rustix::fs::fdatasync(&self.file).err().map(io::Error::from);
        self.synced = Synced { at: Instant::now(), cost: began.elapsed() };
    }

    pub(in crate::cli) fn has_failed(&self) -> bool {
        self.error.is_some()
    }

    pub(in crate::cli) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the rest.
    pub(in crate::cli) fn finish(mut self) -> Result<(), CliError> {
        self.flush();
        self.sync();
        self.checked()
    }

    /// The first error, if there is one.
    pub(super) fn checked(&mut self) -> Result<(), CliError> {
        let written = self.error.take().map_or(Ok(()), Err);
        written.or_exit(WpoolExit::Io, || format!("cannot write the job log {}", self.path.display()))
    }
}

/// Exit value and signal as GNU parallel logs them. A failure never has the exit value 0.
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
