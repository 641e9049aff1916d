//! A semaphore: units that are taken and given back.

use std::collections::BTreeMap;

use super::event::Actor;
use super::refusal::Refusal;
use super::serve::{Outcome, Serve, Taken};
use super::wait::{Line, Need, WaitId};
use crate::spec::exchange::{Act, Answer};

#[derive(Debug)]
pub(super) struct Semaphore {
    value: u64,
    /// The most that a bounded semaphore may have.
    most: Option<u64>,
    /// How many units each actor holds. All threads of the host are one actor: each may give back what
    /// another has taken.
    held: BTreeMap<Actor, u64>,
    line: Line,
}

impl Semaphore {
    pub(super) fn new(value: u64, bounded: bool) -> Semaphore {
        Semaphore { value, most: bounded.then_some(value), held: BTreeMap::new(), line: Line::new() }
    }

    fn acquire(&mut self, actor: Actor) -> Option<Outcome> {
        self.value = self.value.checked_sub(1)?;
        *self.held.entry(holder(actor)).or_default() += 1;
        Some(Outcome::Answer(Answer::Done))
    }

    fn release(&mut self, actor: Actor, count: u32) -> Result<Answer, Refusal> {
        if count == 0 {
            return Err(Refusal::invalid("cannot take back 0 units"));
        }
        let value = self.value.checked_add(u64::from(count));
        let Some(value) = value.filter(|value| self.most.is_none_or(|most| *value <= most)) else {
            return Err(Refusal::invalid("would exceed its first value"));
        };
        self.value = value;
        self.give_back(holder(actor), u64::from(count));
        Ok(Answer::Done)
    }

    /// The units are the actor's own, then those of others: a unit that comes back is not given back once
    /// more when its holder ends.
    fn give_back(&mut self, actor: Actor, mut count: u64) {
        let mut next = self.held.contains_key(&actor).then_some(actor);
        while count > 0
            && let Some(holder) = next.or_else(|| self.held.keys().next().copied())
        {
            let units = self.held.remove(&holder).unwrap_or_default();
            let given = units.min(count);
            count -= given;
            if units > given {
                self.held.insert(holder, units - given);
            }
            next = None;
        }
    }
}

fn holder(actor: Actor) -> Actor {
    match actor {
        Actor::Task { .. } => actor,
        Actor::Host { .. } => Actor::Host { thread: 0 },
    }
}

impl Serve for Semaphore {
    fn act(&mut self, actor: Actor, act: Act) -> Taken {
        Taken::Now(match act {
            Act::Acquire => return Taken::Needs(Need::Acquire),
            Act::Release { count } => self.release(actor, count),
            Act::Status => Ok(Answer::Count(self.value)),
            _ => Err(Refusal::unfit()),
        })
    }

    fn attempt(&mut self, actor: Actor, need: &mut Need) -> Option<Outcome> {
        match need {
            Need::Acquire => self.acquire(actor),
            _ => Some(Outcome::Refused(Refusal::unfit())),
        }
    }

    fn line(&mut self, _need: &Need) -> Option<&mut Line> {
        Some(&mut self.line)
    }

    fn heads(&self) -> [Option<WaitId>; 3] {
        [self.line.first().copied(), None, None]
    }

    fn release_of(&mut self, actor: Actor) {
        self.value += self.held.remove(&holder(actor)).unwrap_or_default();
    }

    fn is_held_by(&self, actor: Actor) -> Option<bool> {
        Some(self.held.contains_key(&holder(actor)))
    }
}
