//! A queue: items first in, first out, and the work for them counted.

use std::collections::VecDeque;

use super::event::Actor;
use super::refusal::Refusal;
use super::serve::{Outcome, Serve, Taken};
use super::store::{Store, Stored};
use super::wait::{Line, Need, WaitId};
use crate::spec::exchange::{Act, Answer, Bytes, Code, QueueStatus};

/// Bytes of all items that one answer gives, unless the first alone is longer: they must fit into a frame.
const GET_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug)]
pub(super) struct Queue {
    store: Store,
    max_len: Option<u64>,
    is_joinable: bool,
    is_closed: bool,
    unfinished: u64,
    getters: Line,
    putters: Line,
    joiners: Line,
    watchers: Line,
}

impl Queue {
    pub(super) fn new(max_len: Option<u64>, max_bytes: u64, is_joinable: bool) -> Queue {
        Queue {
            store: Store::new(max_len, max_bytes),
            max_len,
            is_joinable,
            is_closed: false,
            unfinished: 0,
            getters: Line::new(),
            putters: Line::new(),
            joiners: Line::new(),
            watchers: Line::new(),
        }
    }

    fn get(&mut self, most: usize, longest: u64) -> Option<Outcome> {
        let Some(first) = self.store.first() else { return self.is_closed.then(closed) };
        let len = first.data.0.len() as u64;
        if len > longest {
            let why = format!("has an item of {len} bytes, which is too long for the caller");
            return Some(Outcome::Refused(Refusal::new(Code::TooLarge, why)));
        }
        if most == 1 {
            return self.store.take_first().map(Outcome::Item);
        }
        Some(Outcome::Items(self.store.take(most, longest.min(GET_BYTES_MAX.max(len)))))
    }

    /// Puts what there is room for.
    fn put(&mut self, items: &mut VecDeque<Bytes>, done: &mut u64) -> Option<Outcome> {
        if self.is_closed {
            // The caller must know of items that were put. Its next put is refused.
            return Some(if *done == 0 { closed() } else { Outcome::Answer(Answer::Count(*done)) });
        }
        let put = self.store.put(items);
        *done += put;
        if self.is_joinable {
            self.unfinished += put;
        }
        items.is_empty().then_some(Outcome::Answer(Answer::Count(*done)))
    }

    fn task_done(&mut self, count: u32) -> Result<Answer, Refusal> {
        self.check_joinable()?;
        match self.unfinished.checked_sub(u64::from(count)) {
            Some(rest) => self.unfinished = rest,
            None => return Err(Refusal::invalid("has fewer unfinished items than were reported as done")),
        }
        Ok(Answer::Done)
    }

    fn check_joinable(&self) -> Result<(), Refusal> {
        if self.is_joinable { Ok(()) } else { Err(Refusal::invalid("is not joinable")) }
    }

    fn status(&self) -> QueueStatus {
        QueueStatus {
            len: self.store.len(),
            max_len: self.max_len,
            unfinished: self.unfinished,
            is_closed: self.is_closed,
        }
    }

    fn need(&self, act: Act) -> Result<Need, Refusal> {
        match act {
            Act::Put { items } => Ok(Need::Put { items: self.store.admit(items)?, done: 0 }),
            Act::Get { most: 0, .. } => Err(Refusal::invalid("cannot give 0 items")),
            Act::Get { most, longest } => Ok(Need::Get { most: most as usize, longest }),
            Act::Join => self.check_joinable().map(|()| Need::Join),
            _ => Err(Refusal::unfit()),
        }
    }
}

impl Serve for Queue {
    fn act(&mut self, _actor: Actor, act: Act) -> Taken {
        Taken::Now(match act {
            Act::TaskDone { count } => self.task_done(count),
            Act::Close => {
                self.is_closed = true;
                Ok(Answer::Done)
            }
            Act::Status => Ok(Answer::Queue(self.status())),
            act => match self.need(act) {
                Ok(need) => return Taken::Needs(need),
                Err(refusal) => Err(refusal),
            },
        })
    }

    fn attempt(&mut self, _actor: Actor, need: &mut Need) -> Option<Outcome> {
        match need {
            Need::Put { items, done } => self.put(items, done),
            Need::Get { most, longest } => self.get(*most, *longest),
            Need::Join => (self.unfinished == 0).then_some(Outcome::Answer(Answer::Done)),
            _ => Some(Outcome::Refused(Refusal::unfit())),
        }
    }

    fn line(&mut self, need: &Need) -> Option<&mut Line> {
        match need {
            Need::Put { .. } => Some(&mut self.putters),
            Need::Get { .. } => Some(&mut self.getters),
            Need::Join => Some(&mut self.joiners),
            _ => None,
        }
    }

    fn heads(&self) -> [Option<WaitId>; 3] {
        [&self.getters, &self.putters, &self.joiners].map(|line| line.first().copied())
    }

    fn is_ready(&self) -> bool {
        self.is_closed || !self.store.is_empty()
    }

    fn watchers(&mut self) -> Option<&mut Line> {
        Some(&mut self.watchers)
    }

    fn store(&mut self) -> Option<&mut Store> {
        Some(&mut self.store)
    }

    /// None if items may have to wait: the member cannot hear that the queue is full.
    fn credit(&self) -> u64 {
        let is_fit = self.max_len.is_none() && !self.is_closed && self.putters.is_empty();
        if is_fit { self.store.credit() } else { 0 }
    }

    /// A queue that was closed meanwhile takes them too: the member had put them before it could know.
    fn post(&mut self, items: Vec<Bytes>) {
        if self.is_joinable {
            self.unfinished += items.len() as u64;
        }
        self.store.post(items);
    }

    /// Of a queue with a limit of items none: more than the limit could be put and not be taken.
    fn ahead(&mut self, most: usize, bytes: u64) -> Vec<Stored> {
        let lines = [&self.getters, &self.putters, &self.watchers];
        let is_fit = self.max_len.is_none() && lines.iter().all(|line| line.is_empty());
        if is_fit { self.store.take(most, bytes) } else { Vec::new() }
    }
}

fn closed() -> Outcome {
    Outcome::Refused(Refusal::new(Code::Closed, "is closed"))
}
