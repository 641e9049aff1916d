//! Opens a job log, and reads what it has if the run is resumed.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::{Flock, FlockType};
use sha2::{Digest as _, Sha256};

use super::done::{self, Rule};
use super::filter::{Resumed, way_out};
use super::line::{HEADER_LEN, LogVersion, RunIdentity, escaped, header, is_log};
use super::place::{OutputPlace, SettledOutput, UnsettledOutput, reopen};
use super::read::{Extent, LogRefused, lines};
use super::writer::{LastTime, Synced, Writer};
use crate::cli::choices::LogMatch;
use crate::cli::exit::{CliError, OrExit, WpoolExit};
use crate::cli::input::InputSource;
use crate::cli::record::hex;
use crate::cli::report::Report;
use crate::cli::stdio;
use crate::module::Digest;

/// The job log that the flags ask for.
#[derive(Debug)]
pub(in crate::cli) struct LogSettings {
    pub(in crate::cli) path: PathBuf,
    pub(in crate::cli) mode: LogMode,
}

/// How a run begins its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum LogMode {
    /// Removes the lines of an earlier run.
    Overwrite,
    /// Writes behind the lines of earlier runs.
    Append,
    /// The same, and leaves out the tasks that they have done.
    Resume(Rule, LogMatch),
}

/// What is run: everything that decides about results. The lines of a log say it, and a resumed run must have
/// the same.
#[derive(Debug)]
pub(in crate::cli) struct LoggedRun<'a> {
    pub(in crate::cli) module: Digest,
    pub(in crate::cli) export: &'a str,
    /// Arguments, forms and grants as bytes. Limits are not there: a task that was done within them is done.
    pub(in crate::cli) settings: &'a [u8],
}

impl LoggedRun<'_> {
    fn identity(&self) -> RunIdentity {
        RunIdentity {
            module: self.module.to_string()[..32].to_owned(),
            export: escaped(self.export.as_bytes(), false).into_owned(),
            settings: hex(&Sha256::digest(self.settings)[..RunIdentity::SETTINGS_LEN / 2]),
        }
    }
}

/// A log that is opened and locked, but not begun yet.
#[derive(Debug)]
pub(in crate::cli) struct JobLog {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) is_file: bool,
    pub(super) mode: LogMode,
    /// The same file, for its header: `file` is in append mode, and would write at the end.
    pub(super) marks: Option<File>,
    pub(super) place: OutputPlace,
}

impl JobLog {
    /// Opens the log, so that a run does not begin if the log cannot be written.
    pub(in crate::cli) fn open(
        settings: &LogSettings,
        source: &InputSource,
        report: &Report,
    ) -> Result<JobLog, CliError> {
        let LogSettings { path, mode } = settings;
        let opened = open(path, *mode, source, report);
        let (file, is_file) = opened.or_exit(WpoolExit::Usage, || cannot_use(path))?;
        // Closed only at the end, because closing any descriptor of the file gives up the lock.
        let marks = is_file.then(|| reopen(file.as_fd(), OpenOptions::new().write(true)).ok()).flatten();
        let place = match marks {
            Some(_) => OutputPlace::of(rustix::stdio::stdout(), rustix::stdio::stderr()),
            None => OutputPlace::default(),
        };
        Ok(JobLog { path: path.clone(), file, is_file, mode: *mode, marks, place })
    }

    /// Reads the log as far as its mode asks for, and begins to write. Returns also what a resumed run leaves
    /// out.
    pub(in crate::cli) fn begin(
        mut self,
        run: &LoggedRun<'_>,
        report: &Report,
    ) -> Result<(Writer, Option<Resumed>), CliError> {
        let identity = run.identity();
        let read = self.read(&identity, report);
        // Read in full before anything is written: a log of another run is left as it was.
        let (extent, resumed) = read.or_exit(WpoolExit::Usage, || cannot_use(&self.path))?;
        if extent.is_cut {
            report.detail(&format!("{}: its last line was cut short, and is left out", self.path.display()));
        }
        let mut writer = Writer {
            path: self.path,
            file: self.file,
            is_file: self.is_file,
            version: extent.version,
            len: extent.whole,
            marks: self.marks.filter(|_| extent.version == LogVersion::WithOutput),
            place: self.place,
            last_end: extent.last_end(),
            identity: identity.columns(),
            buffer: Vec::new(),
            error: None,
            synced: Synced::new(),
            ended: LastTime::default(),
        };
        if self.is_file {
            let cut = writer.file.set_len(extent.whole).and_then(|()| writer.file.seek(SeekFrom::End(0)));
            writer.error = cut.err();
            writer.checked()?;
        }
        if extent.whole == 0 {
            writer.buffer.extend_from_slice(header().as_bytes());
            writer.write();
        }
        // A mark of an earlier run would claim the lines of this one.
        writer.mark(writer.place.mark(writer.len));
        writer.checked()?;
        Ok((writer, resumed))
    }

    /// An error, if what would be written over is no job log.
    fn check_overwritten(&self) -> anyhow::Result<()> {
        let mut start = Vec::new();
        if self.is_file {
            let read = (&self.file).take(HEADER_LEN as u64).read_to_end(&mut start);
            read.map_err(LogRefused::Read)?;
        }
        if !is_log(&start) {
            bail!("it has something else in it, which is not written over: name another file, or remove it");
        }
        Ok(())
    }

    fn read(&mut self, identity: &RunIdentity, report: &Report) -> anyhow::Result<(Extent, Option<Resumed>)> {
        match self.mode {
            LogMode::Overwrite => {
                self.check_overwritten()?;
                Ok((Extent::default(), None))
            }
            LogMode::Append => Ok((lines(&self.file, |_, _, _| Ok(()))?, None)),
            LogMode::Resume(rule, how) => {
                let ours = (how == LogMatch::Same).then_some(identity);
                let (done, extent) = done::read(&self.file, ours).map_err(|e| match e {
                    LogRefused::Other { .. } => anyhow!("{e}{}", way_out(rule)),
                    e => e.into(),
                })?;
                report.detail(&format!("{}: {} tasks of earlier runs", self.path.display(), done.left()));
                let settled = self.place.settle(extent.vouched(), how == LogMatch::Force);
                tell(&settled.map_err(|e| anyhow!(unsettled(&e, rule)))?, report);
                Ok((extent, Some(Resumed::new(done, rule, how))))
            }
        }
    }
}

fn cannot_use(path: &Path) -> String {
    format!("cannot use the job log {}", path.display())
}

/// Opens and locks the file. Returns also whether it is a regular file.
fn open(path: &Path, mode: LogMode, source: &InputSource, report: &Report) -> anyhow::Result<(File, bool)> {
    let kind = std::fs::metadata(path).ok().map(|found| found.file_type());
    let is_file = kind.is_none_or(|kind| kind.is_file());
    if !is_file && mode != LogMode::Overwrite {
        bail!("it is not a file, so that nothing can be read from it or appended");
    }
    if kind.is_some_and(|kind| kind.is_dir()) {
        bail!("it is a directory");
    }
    // A pipe is opened for writing only: opened for reading too, it would never report that its reader has
    // left.
    // Append mode, not a seek to the end: a line of another process, if the lock does not hold, is then not
    // written over.
    let file = OpenOptions::new().append(true).create(is_file).read(is_file).open(path)?;
    // The metadata is that of the open file: its path may lead elsewhere by now.
    refuse_other_use(&file.metadata()?, is_file, source)?;
    if is_file {
        lock(&file, report)?;
    }
    Ok((file, is_file))
}

/// Refuses a log that is also the input or the output.
fn refuse_other_use(log: &Metadata, is_file: bool, source: &InputSource) -> anyhow::Result<()> {
    let place = (log.dev(), log.ino());
    if is_file && source.files().any(|input| input == place) {
        bail!("it is also the input");
    }
    let output = rustix::fs::fstat(rustix::stdio::stdout()).ok().map(|stdout| (stdout.st_dev, stdout.st_ino));
    // A terminal or /dev/null may well be both.
    if output == Some(place) && !log.file_type().is_char_device() {
        bail!("it is also the output");
    }
    Ok(())
}

/// Reports what was done with the output of the earlier run, if anything.
fn tell(settled: &SettledOutput, report: &Report) {
    match settled {
        SettledOutput::AsItIs => {}
        SettledOutput::Cut { from, to } => report.note(&format!(
            "wpool: the output was cut from {from} to {to} bytes: what lay behind is not in the job log, and \
             is run again"
        )),
        SettledOutput::Elsewhere { to } => report.warn(&format!(
            "the output is not that of the run before, which may have more than the {to} bytes that the \
             job log vouches for: what lies behind them is run again"
        )),
        SettledOutput::Changed => report.warn(
            "the output, or the job log, has been changed by something else: nothing is cut off, and results \
             may be cut short or come twice where the run before ended",
        ),
    }
}

/// Why results cannot go on in this output, and what the user can do.
fn unsettled(unsettled: &UnsettledOutput, rule: Rule) -> String {
    let option = rule.option();
    match unsettled {
        UnsettledOutput::Shorter { len, to } => format!(
            "it vouches for {to} bytes of results, of which the output has {len} (`>` empties a file, `>>` \
             goes on behind what it holds); {option}=force goes on all the same, without {option} all is \
             done anew"
        ),
        UnsettledOutput::Cut { to, error } => format!(
            "the output cannot be cut to the {to} bytes that it vouches for: {}; results can go on in \
             another output",
            stdio::words(error)
        ),
    }
}

/// Locks the log against other runs until this process ends. The lock belongs to the process: closing any
/// descriptor of the file gives it up.
fn lock(file: &File, report: &Report) -> anyhow::Result<()> {
    match rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        // A lock of `fcntl`, not of `flock`: it works on NFS, and names the process that holds it.
        Err(Errno::ACCESS | Errno::AGAIN) => {
            let by = rustix::process::fcntl_getlk(file, &Flock::from(FlockType::WriteLock)).ok().flatten();
            match by.and_then(|by| by.pid) {
                Some(pid) => bail!("it is in use by process {}", pid.as_raw_nonzero()),
                None => bail!("it is in use by another process"),
            }
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
