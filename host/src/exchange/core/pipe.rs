//! An end of a pipe.
//!
//! The messages that this end receives wait here. Those that send to it wait here too, although they use the
//! other end.

use super::event::{Actor, ObjectId};
use super::refusal::Refusal;
use super::serve::{Outcome, Serve, Taken};
use super::store::{Store, Stored};
use super::wait::{Line, Need, WaitId};
use crate::spec::exchange::{Act, Answer, Bytes, Code};

/// Whether an end can still be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PipeState {
    Open,
    Closed,
    /// Closed, and nothing can reach it any more.
    Abandoned,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) other: ObjectId,
    state: PipeState,
    /// The other end is closed.
    is_last: bool,
    receives: bool,
    sends: bool,
    store: Store,
    receivers: Line,
    senders: Line,
    pollers: Line,
    watchers: Line,
}

impl Connection {
    pub(super) fn new(other: ObjectId, receives: bool, sends: bool, max_bytes: u64) -> Connection {
        Connection {
            other,
            state: PipeState::Open,
            is_last: false,
            receives,
            sends,
            store: Store::new(None, max_bytes),
            receivers: Line::new(),
            senders: Line::new(),
            pollers: Line::new(),
            watchers: Line::new(),
        }
    }

    /// Whether something can be sent by this end. It is then put at the other end.
    pub(super) fn check_sends(&self) -> Result<(), Refusal> {
        match self.state {
            PipeState::Open if self.sends => Ok(()),
            PipeState::Open => Err(Refusal::invalid("only receives")),
            PipeState::Closed | PipeState::Abandoned => Err(closed()),
        }
    }

    pub(super) fn check_receives(&self) -> Result<(), Refusal> {
        match self.state {
            PipeState::Open if self.receives => Ok(()),
            PipeState::Open => Err(Refusal::invalid("only sends")),
            PipeState::Closed | PipeState::Abandoned => Err(closed()),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state != PipeState::Open
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.state == PipeState::Abandoned
    }

    pub(super) fn abandon(&mut self) {
        self.close();
        self.state = PipeState::Abandoned;
    }

    fn close(&mut self) {
        if self.state == PipeState::Open {
            self.state = PipeState::Closed;
            self.store.clear();
        }
    }

    /// The other end has been closed.
    pub(super) fn other_is_closed(&mut self) {
        self.is_last = true;
    }

    fn receive(&mut self, longest: u64) -> Option<Outcome> {
        if self.is_closed() {
            return Some(Outcome::Refused(closed()));
        }
        match self.store.first() {
            Some(item) if item.data.0.len() as u64 > longest => {
                let len = item.data.0.len();
                let dropped = self.store.take(1, u64::MAX);
                self.store.acknowledge(&dropped);
                let why = format!("had a message of {len} bytes, which is dropped");
                Some(Outcome::Refused(Refusal::new(Code::TooLarge, why)))
            }
            Some(_) => self.store.take_first().map(Outcome::Item),
            None => self
                .is_last
                .then(|| Outcome::Refused(Refusal::new(Code::Eof, "is at its end: the other end is closed"))),
        }
    }

    /// The end that sends must be open: `check_sends`.
    fn put(&mut self, need: &mut Need) -> Option<Outcome> {
        let Need::Put { items, .. } = need else { return Some(Outcome::Refused(Refusal::unfit())) };
        if self.is_last {
            return Some(Outcome::Refused(closed()));
        }
        if self.is_closed() {
            let why = "cannot send: the other end is closed";
            return Some(Outcome::Refused(Refusal::new(Code::Closed, why)));
        }
        self.store.put(items);
        items.is_empty().then_some(Outcome::Answer(Answer::Count(1)))
    }

    fn need(&self, act: Act) -> Result<Need, Refusal> {
        match act {
            // `self` is the other end of the one that is asked to send.
            Act::Put { items } if items.len() == 1 => {
                Ok(Need::Put { items: self.store.admit(items)?, done: 0 })
            }
            Act::Put { .. } => Err(Refusal::invalid("sends one message at a time")),
            Act::Get { longest, .. } => self.check_receives().map(|()| Need::Get { most: 1, longest }),
            Act::Poll => self.check_receives().map(|()| Need::Poll),
            _ => Err(Refusal::unfit()),
        }
    }
}

impl Serve for Connection {
    fn act(&mut self, _actor: Actor, act: Act) -> Taken {
        if act == Act::Close {
            self.close();
            return Taken::Now(Ok(Answer::Done));
        }
        match self.need(act) {
            Ok(need) => Taken::Needs(need),
            Err(refusal) => Taken::Now(Err(refusal)),
        }
    }

    fn attempt(&mut self, _actor: Actor, need: &mut Need) -> Option<Outcome> {
        match need {
            Need::Get { longest, .. } => self.receive(*longest),
            Need::Poll if self.is_closed() => Some(Outcome::Refused(closed())),
            Need::Poll => self.is_ready().then_some(Outcome::Answer(Answer::Flag(true))),
            need => self.put(need),
        }
    }

    fn line(&mut self, need: &Need) -> Option<&mut Line> {
        match need {
            Need::Put { .. } => Some(&mut self.senders),
            Need::Get { .. } => Some(&mut self.receivers),
            Need::Poll => Some(&mut self.pollers),
            _ => None,
        }
    }

    fn heads(&self) -> [Option<WaitId>; 3] {
        // A poll is answered before its message is taken.
        [&self.pollers, &self.receivers, &self.senders].map(|line| line.first().copied())
    }

    fn is_ready(&self) -> bool {
        self.is_closed() || self.is_last || !self.store.is_empty()
    }

    fn watchers(&mut self) -> Option<&mut Line> {
        Some(&mut self.watchers)
    }

    fn partner(&self) -> Option<ObjectId> {
        Some(self.other)
    }

    /// `self` is the end that receives. `check_sends` has asked the other.
    fn credit(&self) -> u64 {
        let is_fit = !self.is_closed() && !self.is_last && self.senders.is_empty();
        if is_fit { self.store.credit() } else { 0 }
    }

    /// What comes to a closed end is dropped.
    fn post(&mut self, items: Vec<Bytes>) {
        if !self.is_closed() {
            self.store.post(items);
        }
    }

    fn ahead(&mut self, most: usize, bytes: u64) -> Vec<Stored> {
        let lines = [&self.receivers, &self.senders, &self.pollers, &self.watchers];
        let is_fit = !self.is_closed() && lines.iter().all(|line| line.is_empty());
        if is_fit { self.store.take(most, bytes) } else { Vec::new() }
    }

    /// What comes back to a closed end is dropped.
    fn store(&mut self) -> Option<&mut Store> {
        (!self.is_closed()).then_some(&mut self.store)
    }
}

fn closed() -> Refusal {
    Refusal::new(Code::Closed, "is closed")
}
