//! A member's second socket: what has come through it, and what waits to be sent.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::epoll::EventFlags;

use super::calls::Calls;
use super::core::Hand;
use crate::protocol::connection::{self, RecvError};
use crate::protocol::frame::{self, Caps, FRAME_LEN_MAX, Found, HEADER_LEN, Kind, Violation};
use crate::protocol::outgoing::Outgoing;
use crate::protocol::session::{FromMember, MemberSession};
use crate::spec::exchange::{Answer, Code, Granted};
use crate::sys::ExchangePage;

/// Bytes of one read. A long frame is read in larger steps, which never exceed what of it is missing.
const READ_LEN: usize = 8 << 10;
const READ_LEN_MAX: usize = 1 << 20;
/// Bytes of memory that are kept for the next frames.
const BUFFER_KEPT: usize = 64 << 10;

/// Whom a member's pool or `Process` wants to hear of. Called by threads that hold no lock of the exchange.
pub(crate) struct Notes {
    /// The member's task has waited for a millisecond.
    pub(crate) on_stall: Box<dyn Fn() + Send + Sync>,
    /// The member has broken the protocol, in these words.
    pub(crate) on_fault: Box<dyn Fn(String) + Send + Sync>,
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notes").finish_non_exhaustive()
    }
}

/// A member, as the exchange hears of it.
#[derive(Debug)]
pub(super) struct Peer {
    socket: OwnedFd,
    page: ExchangePage,
    session: MemberSession,
    incoming: Vec<u8>,
    /// Bytes of `incoming` that were taken.
    taken: usize,
    /// Bytes of the frame at the head that have not come.
    missing: usize,
    outgoing: Outgoing,
    /// `outgoing` holds an answer, or its end.
    is_answering: bool,
    /// What the socket is watched for.
    flags: EventFlags,
    /// In how many turns in a row it has posted, and asked for nothing.
    pub(super) posting: u32,
    /// It has posted in this turn.
    pub(super) has_posted: bool,
    /// The socket is not watched for what it posts. It is read now and then.
    pub(super) is_muted: bool,
    notes: Arc<Notes>,
    /// The functions that it may call.
    calls: Option<Arc<Calls>>,
}

/// What a read has given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadResult {
    /// As much as there was room for.
    Full,
    Some,
    Nothing,
    /// The member says nothing more.
    End,
}

/// The worker takes its items ahead by a word of its status page.
impl Hand for ExchangePage {
    fn lay(&self, count: u32) {
        self.set_ahead(count);
    }

    fn left(&self) -> u32 {
        self.ahead()
    }

    fn take_back(&self) -> u32 {
        self.take_ahead()
    }
}

impl Peer {
    /// `objects`: how many the member may name.
    pub(super) fn new(
        socket: OwnedFd,
        page: ExchangePage,
        objects: usize,
        calls: Option<Arc<Calls>>,
        notes: Notes,
    ) -> Peer {
        let functions = calls.as_ref().map_or(0, |calls| calls.count());
        Peer {
            socket,
            page,
            session: MemberSession::new(objects, functions),
            incoming: Vec::new(),
            taken: 0,
            missing: 0,
            outgoing: Outgoing::default(),
            is_answering: false,
            flags: EventFlags::IN,
            posting: 0,
            has_posted: false,
            is_muted: false,
            notes: Arc::new(notes),
            calls,
        }
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub(super) fn page(&self) -> &ExchangePage {
        &self.page
    }

    pub(super) fn notes(&self) -> &Arc<Notes> {
        &self.notes
    }

    /// The functions that it may call.
    pub(super) fn calls(&self) -> Option<&Arc<Calls>> {
        self.calls.as_ref()
    }

    /// Reads once, without waiting.
    pub(super) fn receive(&mut self) -> Result<ReadResult, Violation> {
        let most = self.missing.clamp(READ_LEN, READ_LEN_MAX);
        match connection::recv_onto(&self.socket, &mut self.incoming, most) {
            Ok(0) => Ok(ReadResult::End),
            Ok(len) if len == most => Ok(ReadResult::Full),
            Ok(_) => Ok(ReadResult::Some),
            Err(RecvError::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => Ok(ReadResult::Nothing),
            Err(RecvError::Closed | RecvError::Io(_)) => Ok(ReadResult::End),
            Err(RecvError::Violation(violation)) => Err(violation),
        }
    }

    /// The next of what the member has said.
    pub(super) fn next(&mut self) -> Result<Option<FromMember>, Violation> {
        match frame::find(&self.incoming[self.taken..], Caps::MEMBER)? {
            Found::Whole(frame) => {
                self.taken += frame.len();
                self.session.on(frame).map(Some)
            }
            // A worker that waits says nothing: not even the beginning of a long frame is kept.
            Found::Begun { .. } if self.session.is_waiting() => Err(MemberSession::OUT_OF_TURN),
            Found::Begun { missing, .. } => {
                self.make_room(missing);
                Ok(None)
            }
            Found::Nothing => {
                self.make_room(0);
                Ok(None)
            }
        }
    }

    /// Moves what is left to the beginning.
    fn make_room(&mut self, missing: usize) {
        self.incoming.drain(..self.taken);
        (self.taken, self.missing) = (0, missing);
        if self.incoming.is_empty() && self.incoming.capacity() > BUFFER_KEPT {
            self.incoming = Vec::new();
        }
    }

    /// Answers the member's request, as far as the socket takes it.
    pub(super) fn answer(&mut self, answer: &Answer) {
        let payload = encoded(answer);
        self.outgoing.frame(Kind::Answer, |outgoing| outgoing.buffer().extend_from_slice(&payload));
        self.is_answering = true;
        self.flush();
    }

    /// Gives the member credit for a queue; takes all of it if that is zero. Credit goes with the answer that
    /// follows.
    pub(super) fn credit(&mut self, object: Granted, credit: u64) {
        self.session.credit(object, credit);
        self.outgoing.frame(Kind::Credit, |outgoing| {
            outgoing.buffer().extend_from_slice(&object.to_le_bytes());
            outgoing.buffer().extend_from_slice(&credit.to_le_bytes());
        });
        if credit == 0 {
            self.page.notify();
            self.flush();
        }
    }

    /// Sends what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self) {
        if self.outgoing.is_empty() {
            return;
        }
        // After an error the member is dying; the end of its socket will tell.
        let _dying = self.outgoing.send(&self.socket);
        if self.outgoing.is_empty() && std::mem::take(&mut self.is_answering) {
            self.session.answered();
        }
    }

    /// What the socket is to be watched for, if that has changed.
    pub(super) fn new_flags(&mut self) -> Option<EventFlags> {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, !self.is_muted);
        flags.set(EventFlags::OUT, !self.outgoing.is_empty());
        (std::mem::replace(&mut self.flags, flags) != flags).then_some(flags)
    }
}

/// The wire form of an answer. One that is too long for a frame becomes an error.
fn encoded(answer: &Answer) -> Vec<u8> {
    let encode = |answer: &Answer| postcard::to_allocvec(answer).expect("an answer has a wire form");
    let payload = encode(answer);
    if payload.len() <= FRAME_LEN_MAX - HEADER_LEN {
        return payload;
    }
    let message = format!("an answer of {} bytes is too long for a worker", payload.len());
    encode(&Answer::Failed { code: Code::TooLarge, message })
}
