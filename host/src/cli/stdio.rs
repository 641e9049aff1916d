//! The three standard streams by their descriptors, without the locks, buffers and panics of the standard
//! library.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::escape::ForTerminal;

/// Writes all of `bytes`. Waits for a stream that another process has made non-blocking.
pub(super) fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(e) => retry(fd, PollFlags::OUT, e)?,
        }
    }
    Ok(())
}

/// Bytes that are escaped for a terminal at once.
// The escaped text is a copy, several times as long: a result of many megabytes is shown piece by piece.
const PIECE_LEN: usize = 128 << 10;

/// Data for stdout or stderr that a guest may have chosen. It goes out byte for byte; on a terminal, control
/// characters are escaped. `| cat` shows it as it is.
pub(super) struct GuestData {
    fd: BorrowedFd<'static>,
    terminal: Option<ForTerminal>,
}

impl GuestData {
    pub(super) fn to(fd: BorrowedFd<'static>) -> GuestData {
        GuestData { fd, terminal: fd.is_terminal().then(ForTerminal::default) }
    }

    /// Writes all of `bytes`. On a terminal, the beginning of a character waits for its rest.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.terminal {
            // Only a terminal acts on what it shows. A file or a pipe gets the bytes of the result unchanged.
            Some(terminal) => {
                bytes.chunks(PIECE_LEN).try_for_each(|piece| write_all(self.fd, &terminal.show(piece)))
            }
            None => write_all(self.fd, bytes),
        }
    }

    /// Writes the beginning of a character that has no rest.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        match &mut self.terminal {
            Some(terminal) => write_all(self.fd, &terminal.finish()),
            None => Ok(()),
        }
    }
}

/// Reads some bytes; 0 at the end.
pub(super) fn read(fd: impl AsFd, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::io::read(fd.as_fd(), &mut *buf) {
            Ok(read) => return Ok(read),
            Err(e) => retry(fd.as_fd(), PollFlags::IN, e)?,
        }
    }
}

fn retry(fd: BorrowedFd<'_>, wanted: PollFlags, error: Errno) -> io::Result<()> {
    match error {
        Errno::INTR => Ok(()),
        Errno::AGAIN => {
            // The next attempt finds out whether the wait has helped.
            let _tried_again = rustix::event::poll(&mut [PollFd::new(&fd, wanted)], None);
            Ok(())
        }
        error => Err(error.into()),
    }
}

/// Makes writes to stdout fail if it was closed when this program was started, so that lost output is an
/// error. A closed stdin is an empty input. Messages on a closed stderr are lost, as the caller wanted.
pub(super) fn close_again() {
    // Open for reading only: a write fails, and the descriptor is not free for another file.
    if crate::sys::was_stdout_closed()
        && let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    {
        let _as_it_was = rustix::stdio::dup2_stdout(&null);
    }
}

/// Writes to stderr. An error is dropped, because it could only be reported there.
pub(super) fn say(bytes: &[u8]) {
    let _cannot_be_reported = write_all(rustix::stdio::stderr(), bytes);
}

/// The system's words for an error, without its number.
pub(super) fn words(error: &io::Error) -> String {
    if error.raw_os_error() == Some(libc::EBADF) {
        return "it is closed".to_owned();
    }
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}
