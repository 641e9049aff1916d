//! The three standard streams, by their descriptors: no locks, no buffers behind our back, no panics.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::escape::ForTerminal;

/// Writes all of `bytes`. A stream that somebody has made non-blocking is waited for.
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

/// So much is made fit for a terminal at once.
const PIECE_LEN: usize = 128 << 10;

/// Data for stdout or stderr, which may be a guest's: byte for byte, but on a terminal without power over that. `| cat` shows it as it is.
pub(super) struct Data {
    fd: BorrowedFd<'static>,
    terminal: Option<ForTerminal>,
}

impl Data {
    pub(super) fn to(fd: BorrowedFd<'static>) -> Data {
        Data { fd, terminal: fd.is_terminal().then(ForTerminal::default) }
    }

    /// Writes all of `bytes`, but for the beginning of a character on a terminal.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.terminal {
            Some(terminal) => {
                bytes.chunks(PIECE_LEN).try_for_each(|piece| write_all(self.fd, &terminal.show(piece)))
            }
            None => write_all(self.fd, bytes),
        }
    }

    /// Writes what is left at the end.
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
            // Whatever the wait says, the next attempt knows better.
            let _tried_again = rustix::event::poll(&mut [PollFd::new(&fd, wanted)], None);
            Ok(())
        }
        error => Err(error.into()),
    }
}

/// Has writing to stdout fail if that was closed when this program was started: what would go there is lost, which is an error and no
/// success. A closed stdin is an empty one, and talk on a closed stderr is lost, as whoever closed it wants it.
pub(super) fn close_again() {
    // Open the wrong way round: an error for whoever writes, and no number that a file of ours could get.
    if crate::sys::was_stdout_closed()
        && let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    {
        let _as_it_was = rustix::stdio::dup2_stdout(&null);
    }
}

/// Writes to stderr. If that is closed or full, there is nobody left to tell.
pub(super) fn say(bytes: &[u8]) {
    let _nobody_to_tell = write_all(rustix::stdio::stderr(), bytes);
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
