//! A Process's standard input, when the coordinator has to be asked for it.
//!
//! The guest's one thread sends the question and waits for the answer: nothing else comes over the socket
//! while the task runs. A coordinator that is gone gives no answer, and the input ends.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdinStream};
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError, StreamResult};

use crate::protocol::frame::{self, HEADER_LEN, Kind};
use crate::protocol::message::{self, FromWorker};
use crate::worker::serve::send_all;

/// The most that the coordinator sends at once. More is not believed.
const PIECE_LEN_MAX: usize = 1 << 20;

/// The stream. Clones share it.
#[derive(Clone)]
pub(super) struct Asked(Arc<Mutex<Inner>>);

struct Inner {
    socket: Arc<OwnedFd>,
    /// What has come and has not been read.
    left: VecDeque<u8>,
    is_over: bool,
}

impl Asked {
    pub(super) fn new(socket: Arc<OwnedFd>) -> Asked {
        Asked(Arc::new(Mutex::new(Inner { socket, left: VecDeque::new(), is_over: false })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next bytes, `size` at most; none at the end. Waits for them.
    fn next(&self, size: usize) -> Vec<u8> {
        let mut inner = self.lock();
        if size > 0 && inner.left.is_empty() && !inner.is_over {
            match inner.ask() {
                Some(piece) if !piece.is_empty() => inner.left = piece.into(),
                _ => inner.is_over = true,
            }
        }
        let len = size.min(inner.left.len());
        inner.left.drain(..len).collect()
    }

    fn is_over(&self) -> bool {
        let inner = self.lock();
        inner.is_over && inner.left.is_empty()
    }
}

impl Inner {
    fn ask(&self) -> Option<Vec<u8>> {
        let mut question = Vec::new();
        message::write_control(&mut question, &FromWorker::WantsInput);
        send_all(self.socket.as_fd(), &question);
        let mut head = [0; HEADER_LEN];
        self.receive(&mut head)?;
        let (kind, len) = frame::head(&head).ok()??;
        if kind != Kind::Input || len > PIECE_LEN_MAX {
            return None;
        }
        let mut piece = vec![0; len];
        self.receive(&mut piece)?;
        Some(piece)
    }

    /// Fills the buffer. `None`: no more comes.
    fn receive(&self, mut buf: &mut [u8]) -> Option<()> {
        while !buf.is_empty() {
            let read = rustix::io::retry_on_intr(|| rustix::io::read(&*self.socket, &mut *buf)).ok()?;
            buf = buf.get_mut(read..).filter(|_| read > 0)?;
        }
        Some(())
    }
}

impl InputStream for Asked {
    fn read(&mut self, size: usize) -> StreamResult<bytes::Bytes> {
        let bytes = self.next(size);
        match bytes.is_empty() && self.is_over() {
            true => Err(StreamError::Closed),
            false => Ok(bytes.into()),
        }
    }
}

#[async_trait]
impl Pollable for Asked {
    /// A read waits.
    async fn ready(&mut self) {}
}

impl AsyncRead for Asked {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        buf.put_slice(&self.next(buf.remaining()));
        Poll::Ready(Ok(()))
    }
}

impl IsTerminal for Asked {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Asked {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

/// What a guest finds on its standard input.
pub(super) enum Stdin {
    Bytes(Vec<u8>),
    Asked(Asked),
}

impl Stdin {
    pub(super) const EMPTY: Stdin = Stdin::Bytes(Vec::new());
}
