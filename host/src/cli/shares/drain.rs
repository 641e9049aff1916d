//! `--drain`: the items of a queue become lines of a file, while they come.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread::JoinHandle;

use super::file::{RecordForm, StreamUse, cannot, place};
use crate::cli::choices::QueueFile;
use crate::cli::exit::{CliError, OrExit, WpoolExit};
use crate::cli::input::is_stdin;
use crate::cli::stdio::{self, GuestData};
use crate::exchange::ipc::Queue;

/// Items that are taken and written at once.
const ITEMS_MAX: usize = 256;

pub(super) struct OpenDrain {
    name: String,
    queue: Queue<Vec<u8>>,
    to: DrainTo,
    end: u8,
}

enum DrainTo {
    /// Standard output.
    Stdout,
    File {
        file: File,
        path: String,
    },
}

/// A thread that writes.
pub(super) struct Drain {
    name: String,
    writing: JoinHandle<Result<(), CliError>>,
}

impl OpenDrain {
    /// `used`: device and inode of the files that the run reads or writes otherwise.
    pub(super) fn open(
        file: &QueueFile,
        queue: Queue<Vec<u8>>,
        streams: StreamUse,
        form: RecordForm,
        used: &[(u64, u64)],
    ) -> Result<OpenDrain, CliError> {
        let QueueFile { queue: name, path } = file;
        let to = if is_stdin(path) {
            if !streams.stdout_is_free {
                return Err(CliError::usage(format!(
                    "--drain {name}=-: standard output has the results; name a file"
                )));
            }
            DrainTo::Stdout
        } else {
            // Cut to nothing only after the comparison: it may be an input.
            let opened = File::options().write(true).create(true).truncate(false).open(path);
            let opened = opened.map_err(|e| cannot("write", path, &e))?;
            let found = opened.metadata().map_err(|e| cannot("write", path, &e))?;
            if place(&found).is_some_and(|place| used.contains(&place)) {
                return Err(CliError::usage(format!("{} is used twice", path.display())));
            }
            if found.is_file() {
                opened.set_len(0).map_err(|e| cannot("write", path, &e))?;
            }
            DrainTo::File { file: opened, path: path.display().to_string() }
        };
        Ok(OpenDrain { name: name.clone(), queue, to, end: form.end })
    }

    pub(super) fn place(&self) -> Option<(u64, u64)> {
        match &self.to {
            DrainTo::Stdout => None,
            DrainTo::File { file, .. } => file.metadata().ok().as_ref().and_then(place),
        }
    }

    pub(super) fn start(self, end_run: impl Fn() + Send + 'static) -> Result<Drain, CliError> {
        let name = self.name.clone();
        let write = move || {
            let written = self.write_all();
            if written.is_err() {
                // Guests would wait for room in a queue from which nothing is taken.
                let _closed_before = self.queue.close();
                end_run();
            }
            written.map_err(|e| self.failed(e))
        };
        let writing = std::thread::Builder::new().name("wpool-drain".to_owned()).spawn(write);
        let writing = writing.or_exit(WpoolExit::Broken, || "cannot start a thread".to_owned())?;
        Ok(Drain { name, writing })
    }

    /// Writes items until the queue is closed and empty.
    fn write_all(&self) -> io::Result<()> {
        let mut to = match &self.to {
            DrainTo::Stdout => DrainWriter::Stdout(GuestData::to(rustix::stdio::stdout())),
            DrainTo::File { file, .. } => DrainWriter::File(file.as_fd()),
        };
        let mut lines = Vec::new();
        while let Ok(items) = self.queue.get_many(ITEMS_MAX) {
            lines.clear();
            // Bytes are never refused as items.
            for item in items.into_iter().flatten() {
                lines.extend_from_slice(&item);
                lines.push(self.end);
            }
            to.write(&lines)?;
        }
        Ok(())
    }

    fn failed(&self, error: io::Error) -> CliError {
        match &self.to {
            DrainTo::Stdout => CliError::output(error),
            DrainTo::File { path, .. } => {
                let failed = Err::<std::convert::Infallible, _>(error);
                let Err(failed) = failed.or_exit(WpoolExit::Io, || format!("cannot write {path}"));
                failed
            }
        }
    }
}

enum DrainWriter<'f> {
    Stdout(GuestData),
    File(BorrowedFd<'f>),
}

impl DrainWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            DrainWriter::Stdout(stdout) => stdout.write(bytes),
            DrainWriter::File(fd) => stdio::write_all(*fd, bytes),
        }
    }
}

impl Drain {
    pub(super) fn queue(&self) -> &str {
        &self.name
    }

    /// Waits until all is written. The queue is closed.
    pub(super) fn finish(self) -> Result<(), CliError> {
        self.writing.join().unwrap_or_else(|_panic| Err(CliError::new(WpoolExit::Own, "a thread has failed")))
    }
}
