//! `--fill`: the lines of a file become items of a queue, which is closed at its end.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::file::{RecordForm, StreamUse, cannot, place};
use crate::cli::choices::QueueFile;
use crate::cli::exit::{CliError, OrExit, WpoolExit};
use crate::cli::input::{RecordSink, Splitter, StoppedReading, is_stdin, readable_stdin};
use crate::cli::report::Report;
use crate::cli::stdio;
use crate::error::Closed;
use crate::exchange::ipc::Queue;

pub(super) struct OpenFill {
    queue: Queue<Vec<u8>>,
    /// `None`: standard input.
    file: Option<File>,
    name: String,
    form: RecordForm,
}

/// A thread that reads. It is detached: a read may hang for ever.
pub(super) struct Fill {
    name: String,
    state: Arc<Mutex<FillState>>,
}

/// How far a file has been read.
#[derive(Debug)]
enum FillState {
    Reading,
    /// Every line is in the queue.
    Read,
    /// The queue was closed before.
    Closed,
    Failed(io::Error),
}

impl OpenFill {
    pub(super) fn open(
        file: &QueueFile,
        queue: Queue<Vec<u8>>,
        streams: StreamUse,
        form: RecordForm,
    ) -> Result<OpenFill, CliError> {
        let QueueFile { queue: of, path } = file;
        if is_stdin(path) {
            if !streams.stdin_is_free {
                return Err(CliError::usage(format!(
                    "--fill {of}=-: standard input is read already; name a file"
                )));
            }
            readable_stdin()?;
            return Ok(OpenFill { queue, file: None, name: "standard input".to_owned(), form });
        }
        let opened = File::open(path).map_err(|e| cannot("read", path, &e))?;
        if opened.metadata().is_ok_and(|found| found.is_dir()) {
            return Err(CliError::usage(format!("cannot read {}: it is a directory", path.display())));
        }
        Ok(OpenFill { queue, file: Some(opened), name: path.display().to_string(), form })
    }

    pub(super) fn place(&self) -> Option<(u64, u64)> {
        self.file.as_ref().and_then(|file| file.metadata().ok()).as_ref().and_then(place)
    }

    pub(super) fn start(self, end_run: impl Fn() + Send + 'static) -> Result<Fill, CliError> {
        let state = Arc::new(Mutex::new(FillState::Reading));
        let fill = Fill { name: self.name.clone(), state: state.clone() };
        let read = move || {
            let read = self.read_all();
            let has_failed = matches!(read, FillState::Failed(_));
            // Before the queue is closed: guests may end the run then.
            *state.lock().unwrap_or_else(PoisonError::into_inner) = read;
            let _closed_before = self.queue.close();
            if has_failed {
                end_run();
            }
        };
        let started = std::thread::Builder::new().name("wpool-fill".to_owned()).spawn(read);
        started.or_exit(WpoolExit::Broken, || "cannot start a thread".to_owned())?;
        Ok(fill)
    }

    fn read_all(&self) -> FillState {
        let mut splitter = Splitter::new(self.form.delimiter, self.form.record_max);
        let read = |buf: &mut [u8]| match &self.file {
            Some(file) => stdio::read(file, buf),
            None => stdio::read(rustix::stdio::stdin(), buf),
        };
        match splitter.split(read, &mut Lines(&self.queue)) {
            Ok(()) => FillState::Read,
            Err(StoppedReading::Closed) => FillState::Closed,
            Err(StoppedReading::Read(e)) => FillState::Failed(e),
        }
    }
}

/// Puts lines into a queue.
struct Lines<'q>(&'q Queue<Vec<u8>>);

impl RecordSink for Lines<'_> {
    fn records(&mut self, bytes: &[u8], bounds: &[Range<usize>]) -> Result<(), Closed> {
        let items: Vec<Vec<u8>> = bounds.iter().map(|bound| bytes[bound.clone()].to_vec()).collect();
        self.0.put_many(&items).map_err(|_closed| Closed)
    }
}

impl Fill {
    /// Says whether lines were left over.
    pub(super) fn finish(self, report: &Report) -> Result<(), CliError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, FillState::Read) {
            FillState::Read => Ok(()),
            FillState::Reading | FillState::Closed => {
                report.warn(&format!("{} was not read to its end", self.name));
                Ok(())
            }
            FillState::Failed(error) => {
                Err(error).or_exit(WpoolExit::Io, || format!("cannot read {}", self.name))
            }
        }
    }
}
