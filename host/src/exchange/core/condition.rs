//! A condition: a recursive lock, and those that have released it until they are notified.

use std::collections::VecDeque;

use super::event::Actor;
use super::lock::Lock;
use super::refusal::Refusal;
use super::serve::{Outcome, Serve, Taken};
use super::wait::{Line, Need, WaitId};
use crate::spec::exchange::{Act, Answer};

#[derive(Debug)]
pub(super) struct Condition {
    /// Its line: those that acquire it for the first time or again.
    lock: Lock,
    sleepers: Line,
    /// They were sleepers until now.
    notified: VecDeque<WaitId>,
}

impl Condition {
    pub(super) fn new() -> Condition {
        Condition { lock: Lock::new(true), sleepers: Line::new(), notified: VecDeque::new() }
    }

    fn sleep(&mut self, actor: Actor) -> Result<Need, Refusal> {
        self.lock.check_held_by(actor)?;
        Ok(Need::Notification { count: self.lock.release_all() })
    }

    fn notify(&mut self, count: u32) {
        let woken = (0..count).map_while(|_| self.sleepers.pop_first());
        self.notified.extend(woken);
    }
}

impl Serve for Condition {
    fn act(&mut self, actor: Actor, act: Act) -> Taken {
        match act {
            Act::Wait => match self.sleep(actor) {
                Ok(need) => Taken::Needs(need),
                Err(refusal) => Taken::Now(Err(refusal)),
            },
            Act::Notify { count } => Taken::Now(self.lock.check_held_by(actor).map(|()| {
                self.notify(count);
                Answer::Done
            })),
            Act::Acquire | Act::Release { .. } => self.lock.act(actor, act),
            _ => Taken::Now(Err(Refusal::unfit())),
        }
    }

    fn attempt(&mut self, actor: Actor, need: &mut Need) -> Option<Outcome> {
        match need {
            Need::Notification { .. } => None,
            Need::Reacquire { count, notified } => {
                self.lock.take(actor, *count).then_some(Outcome::Woken { notified: *notified })
            }
            need => self.lock.attempt(actor, need),
        }
    }

    fn line(&mut self, need: &Need) -> Option<&mut Line> {
        match need {
            Need::Notification { .. } => Some(&mut self.sleepers),
            need => self.lock.line(need),
        }
    }

    fn heads(&self) -> [Option<WaitId>; 3] {
        self.lock.heads()
    }

    fn passes_by(&self, actor: Actor) -> bool {
        self.lock.passes_by(actor)
    }

    fn withdraw(&mut self, need: &Need, wait: WaitId) {
        if let Some(line) = self.line(need) {
            line.remove(&wait);
        }
        if let Need::Reacquire { notified: true, .. } = need {
            self.pass_on();
        }
    }

    fn pop_notified(&mut self) -> Option<WaitId> {
        self.notified.pop_front()
    }

    fn pass_on(&mut self) {
        self.notify(1);
    }

    fn release_of(&mut self, actor: Actor) {
        self.lock.release_of(actor);
    }

    fn is_held_by(&self, actor: Actor) -> Option<bool> {
        self.lock.is_held_by(actor)
    }

    fn owner(&self) -> Option<Actor> {
        self.lock.owner()
    }
}
