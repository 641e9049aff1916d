//! What a guest writes to stdout and stderr: kept up to a limit, or passed on as it comes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::protocol::frame::Kind;
use crate::worker::serve::send_now;

/// What a guest may write at once.
const WRITE_LEN: usize = 64 << 10;

/// One output stream of a guest. Clones share it.
#[derive(Clone)]
pub(super) struct Capture(Arc<Mutex<Inner>>);

struct Inner {
    sink: Sink,
    written: u64,
}

enum Sink {
    /// Keeps the first `max` bytes. What comes later is counted; if `closes`, the guest sees a closed stream instead.
    Keep { bytes: Vec<u8>, max: usize, closes: bool },
    /// Sends everything to the coordinator at once.
    Stream { socket: Arc<OwnedFd>, kind: Kind },
}

impl Capture {
    /// Keeps the first `max` bytes and drops the rest.
    pub(super) fn keep(max: usize) -> Capture {
        Capture::new(Sink::Keep { bytes: Vec::new(), max, closes: false })
    }

    /// Keeps `max` bytes; a guest that writes more finds the stream closed.
    pub(super) fn keep_or_close(max: usize) -> Capture {
        Capture::new(Sink::Keep { bytes: Vec::new(), max, closes: true })
    }

    pub(super) fn stream(socket: Arc<OwnedFd>, kind: Kind) -> Capture {
        Capture::new(Sink::Stream { socket, kind })
    }

    fn new(sink: Sink) -> Capture {
        Capture(Arc::new(Mutex::new(Inner { sink, written: 0 })))
    }

    /// What was kept since the last call, and how many bytes more there were.
    pub(super) fn take(&self) -> (Vec<u8>, u64) {
        let mut inner = self.lock();
        let written = std::mem::take(&mut inner.written);
        match &mut inner.sink {
            Sink::Keep { bytes, .. } => {
                let kept = std::mem::take(bytes);
                let dropped = written - kept.len() as u64;
                (kept, dropped)
            }
            Sink::Stream { .. } => (Vec::new(), 0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(&self, new: &[u8]) {
        let mut inner = self.lock();
        inner.written += new.len() as u64;
        match &mut inner.sink {
            Sink::Keep { bytes, max, .. } => {
                let room = max.saturating_sub(bytes.len()).min(new.len());
                bytes.extend_from_slice(&new[..room]);
            }
            Sink::Stream { socket, kind } => send_now(socket.as_fd(), *kind, new),
        }
    }

    fn is_closed(&self) -> bool {
        let inner = self.lock();
        matches!(&inner.sink, Sink::Keep { max, closes: true, .. } if inner.written > *max as u64)
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
        match self.is_closed() {
            true => Err(StreamError::Closed),
            false => Ok(WRITE_LEN),
        }
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
