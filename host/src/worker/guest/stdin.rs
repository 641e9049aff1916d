//! The standard input of a guest. A Process may have to ask its coordinator for each piece of it.
//!
//! The one thread of the guest sends the question and waits for the answer. The coordinator sends nothing
//! else while the task runs. A coordinator that is gone gives no answer, and the input ends.

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
use crate::worker::send::send_all;

/// The most bytes that the coordinator sends at once. A longer piece breaks the protocol, and ends the input.
const PIECE_LEN_MAX: usize = 1 << 20;

/// A standard input that asks the coordinator. Clones share its state.
#[derive(Clone)]
pub(super) struct AskedInput(Arc<Mutex<AskedState>>);

struct AskedState {
    socket: Arc<OwnedFd>,
    /// Bytes that have arrived and are not read.
    left: VecDeque<u8>,
    is_over: bool,
}

impl AskedInput {
    pub(super) fn new(socket: Arc<OwnedFd>) -> AskedInput {
        AskedInput(Arc::new(Mutex::new(AskedState { socket, left: VecDeque::new(), is_over: false })))
    }

    fn lock(&self) -> MutexGuard<'_, AskedState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next bytes, and returns `size` of them at most. None: the input has ended.
    fn next(&self, size: usize) -> Vec<u8> {
        let mut inner = self.lock();
        if size > 0 && inner.left.is_empty() && !inner.is_over {
            match inner.ask() {
                Some(piece) if !piece.is_empty() => inner.left = piece.into(),
                // An answer that breaks the protocol counts as the end of the input.
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

impl AskedState {
    fn ask(&self) -> Option<Vec<u8>> {
        let mut question = Vec::new();
        message::write_control(&mut question, &FromWorker::WantsInput);
        // Not through the outbox: the tick sends that at any time, and this question must be out before the
        // wait begins.
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

    /// Fills the buffer. `None`: the stream has ended.
    fn receive(&self, mut buf: &mut [u8]) -> Option<()> {
        while !buf.is_empty() {
            let read = rustix::io::retry_on_intr(|| rustix::io::read(&*self.socket, &mut *buf)).ok()?;
            buf = buf.get_mut(read..).filter(|_| read > 0)?;
        }
        Some(())
    }
}

impl InputStream for AskedInput {
    fn read(&mut self, size: usize) -> StreamResult<bytes::Bytes> {
        let bytes = self.next(size);
        if bytes.is_empty() && self.is_over() { Err(StreamError::Closed) } else { Ok(bytes.into()) }
    }
}

#[async_trait]
impl Pollable for AskedInput {
    /// Always ready: `read` itself waits.
    async fn ready(&mut self) {}
}

impl AsyncRead for AskedInput {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        buf.put_slice(&self.next(buf.remaining()));
        Poll::Ready(Ok(()))
    }
}

impl IsTerminal for AskedInput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for AskedInput {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

/// The standard input of a guest.
pub(super) enum GuestStdin {
    Bytes(Vec<u8>),
    Asked(AskedInput),
}

impl GuestStdin {
    pub(super) const EMPTY: GuestStdin = GuestStdin::Bytes(Vec::new());
}
