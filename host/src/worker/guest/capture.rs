//! What a guest writes to stdout and stderr: kept up to a limit, or sent to the coordinator at once.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::protocol::frame::{self, Kind};
use crate::worker::send::send_now;

/// Bytes that a guest may write at once.
const WRITE_LEN: usize = 64 << 10;
/// Bytes at the end of a stream that can be looked at afterwards, for the text of a panic, which a guest
/// chooses.
pub(super) const TAIL_MAX: usize = 4 << 10;

/// One output stream of a guest. Clones share it.
#[derive(Clone)]
pub(super) struct Capture(Arc<Mutex<CaptureState>>);

struct CaptureState {
    destination: Destination,
    /// Bytes written since the last [`Capture::take`].
    written: u64,
    /// The last bytes of what was sent at once: see [`Capture::tail`].
    sent: Vec<u8>,
}

enum Destination {
    /// Keeps the first `max` bytes, and counts the rest. If `closes`, the guest sees a closed stream instead.
    Keep { bytes: Vec<u8>, max: usize, closes: bool },
    /// Sends everything to the coordinator at once.
    Stream { socket: Arc<OwnedFd>, kind: Kind },
}

impl Capture {
    /// Keeps the first `max` bytes and drops the rest.
    pub(super) fn keep(max: usize) -> Capture {
        Capture::new(Destination::Keep { bytes: Vec::new(), max, closes: false })
    }

    /// Keeps the first `max` bytes. A guest that writes more finds the stream closed.
    pub(super) fn keep_or_close(max: usize) -> Capture {
        Capture::new(Destination::Keep { bytes: Vec::new(), max, closes: true })
    }

    /// Sends everything at once, in frames of this kind.
    pub(super) fn stream(socket: Arc<OwnedFd>, kind: Kind) -> Capture {
        Capture::new(Destination::Stream { socket, kind })
    }

    fn new(destination: Destination) -> Capture {
        Capture(Arc::new(Mutex::new(CaptureState { destination, written: 0, sent: Vec::new() })))
    }

    /// The bytes kept since the last call, and the number of bytes dropped since then.
    pub(super) fn take(&self) -> (Vec<u8>, u64) {
        let mut state = self.lock();
        let written = std::mem::take(&mut state.written);
        match &mut state.destination {
            Destination::Keep { bytes, .. } => {
                let kept = std::mem::take(bytes);
                let dropped = written - kept.len() as u64;
                (kept, dropped)
            }
            Destination::Stream { .. } => (Vec::new(), 0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, CaptureState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn accept(&self, new: &[u8]) {
        let mut state = self.lock();
        state.written += new.len() as u64;
        match &mut state.destination {
            Destination::Keep { bytes, max, .. } => {
                // What does not fit is counted and not an error: a guest that logs much should not fail for
                // that.
                let room = max.saturating_sub(bytes.len()).min(new.len());
                bytes.extend_from_slice(&new[..room]);
            }
            // Waits while the socket is full, so that a guest which prints without end is as fast as its
            // reader.
            Destination::Stream { socket, kind } => send_now(socket.as_fd(), *kind, new),
        }
        if matches!(state.destination, Destination::Stream { .. }) {
            let sent = &mut state.sent;
            sent.extend_from_slice(&new[new.len().saturating_sub(TAIL_MAX)..]);
            let cut = sent.len().saturating_sub(TAIL_MAX);
            sent.drain(..cut);
        }
    }

    /// The last bytes written, `most` of them at most, without those that were dropped. Of what is sent at
    /// once, [`TAIL_MAX`] are kept.
    pub(super) fn tail(&self, most: usize) -> Vec<u8> {
        let state = self.lock();
        let bytes = match &state.destination {
            Destination::Keep { bytes, .. } => bytes,
            Destination::Stream { .. } => &state.sent,
        };
        bytes[bytes.len().saturating_sub(most)..].to_vec()
    }

    /// Removes these bytes from the end of what is kept, if they are there.
    pub(super) fn take_back(&self, end: &[u8]) {
        let mut state = self.lock();
        if let Destination::Keep { bytes, .. } = &mut state.destination
            && bytes.ends_with(end)
        {
            let kept = bytes.len() - end.len();
            bytes.truncate(kept);
            state.written -= end.len() as u64;
        }
    }

    fn is_closed(&self) -> bool {
        let state = self.lock();
        match &state.destination {
            Destination::Keep { max, closes, .. } => *closes && state.written > *max as u64,
            Destination::Stream { .. } => false,
        }
    }
}

/// The two output streams of a guest. Both are `None` if it cannot write.
#[derive(Clone, Default)]
pub(super) struct OutputStreams {
    pub(super) stdout: Option<Capture>,
    pub(super) stderr: Option<Capture>,
}

impl OutputStreams {
    /// Streams that keep up to `max` bytes each, or that send everything through the socket `stream`.
    pub(super) fn new(max: usize, stream: Option<Arc<OwnedFd>>) -> OutputStreams {
        let (stdout, stderr) = match stream {
            Some(socket) => {
                (Capture::stream(socket.clone(), Kind::Stdout), Capture::stream(socket, Kind::Stderr))
            }
            None => (Capture::keep(max), Capture::keep(max)),
        };
        OutputStreams { stdout: Some(stdout), stderr: Some(stderr) }
    }

    /// Appends frames with what was written since the last call. `note`: a line from wpool before what is on
    /// stderr.
    #[inline]
    pub(super) fn report(&self, out: &mut Vec<u8>, note: Option<&str>) {
        for (kind, capture, note) in [(Kind::Stdout, &self.stdout, None), (Kind::Stderr, &self.stderr, note)]
        {
            let (kept, dropped) = capture.as_ref().map(Capture::take).unwrap_or_default();
            if kept.is_empty() && dropped == 0 && note.is_none() {
                continue;
            }
            frame::write(out, kind, |out| {
                if let Some(note) = note {
                    // Before the guest's own text, which may be cut off at its end.
                    out.extend_from_slice(format!("wpool: {note}\n").as_bytes());
                }
                out.extend_from_slice(&kept);
                if dropped > 0 {
                    out.extend_from_slice(format!("\n... {dropped} bytes more were not kept\n").as_bytes());
                }
            });
        }
    }
}

impl OutputStream for Capture {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.accept(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        if self.is_closed() { Err(StreamError::Closed) } else { Ok(WRITE_LEN) }
    }
}

#[async_trait]
impl Pollable for Capture {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Capture {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_closed() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.accept(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl IsTerminal for Capture {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Capture {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}
