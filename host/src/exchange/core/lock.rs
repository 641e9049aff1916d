//! A lock that one actor holds at a time, once or several times.

use super::event::{Actor, Lessee};
use super::refusal::Refusal;
use super::serve::{Outcome, Serve, Taken};
use super::wait::{Line, Need, WaitId};
use crate::spec::exchange::{Act, Answer};
use crate::spec::lease::Lease;

#[derive(Debug)]
pub(super) struct Lock {
    is_recursive: bool,
    owner: Option<Actor>,
    /// How often its owner has acquired it.
    count: u32,
    /// The last owner ended without a release, and the next is not told yet.
    owner_died: bool,
    /// The lock is leased. It has no owner here then, and nothing waits for it.
    lessee: Option<Lessee>,
    line: Line,
}

impl Lock {
    pub(super) fn new(is_recursive: bool) -> Lock {
        Lock { is_recursive, owner: None, count: 0, owner_died: false, lessee: None, line: Line::new() }
    }

    pub(super) fn is_recursive(&self) -> bool {
        self.is_recursive
    }

    fn acquire(&mut self, actor: Actor) -> Option<Outcome> {
        if self.is_recursive && self.owner == Some(actor) {
            let Some(count) = self.count.checked_add(1) else {
                return Some(Outcome::Refused(Refusal::invalid("is acquired too often")));
            };
            self.count = count;
            return Some(Outcome::Answer(Answer::Acquired { owner_died: false }));
        }
        self.take(actor, 1).then(|| {
            let owner_died = std::mem::take(&mut self.owner_died);
            Outcome::Answer(Answer::Acquired { owner_died })
        })
    }

    /// The actor holds the lock `count` times, if it is free.
    pub(super) fn take(&mut self, actor: Actor, count: u32) -> bool {
        debug_assert!(self.lessee.is_none(), "a lease is taken back before anything wants the lock");
        let is_free = self.owner.is_none();
        if is_free {
            self.owner = Some(actor);
            self.count = count;
        }
        is_free
    }

    pub(super) fn release(&mut self, actor: Actor) -> Result<Answer, Refusal> {
        self.check_held_by(actor)?;
        self.count -= 1;
        if self.count == 0 {
            self.owner = None;
        }
        Ok(Answer::Done)
    }

    /// Gives how often the actor held it.
    pub(super) fn release_all(&mut self) -> u32 {
        self.owner = None;
        std::mem::take(&mut self.count)
    }

    pub(super) fn lessee(&self) -> Option<Lessee> {
        self.lessee
    }

    /// Leases the lock to the member whose task owns it, if nothing waits for it. Gives what the word of the
    /// lease says first.
    pub(super) fn lease_to(&mut self, lessee: Lessee) -> Option<Lease> {
        let Some(Actor::Task { member, task }) = self.owner else { return None };
        let lease = Lease::Held { task, count: self.count };
        if member != lessee.member || !self.line.is_empty() || lease.to_word().is_none() {
            return None;
        }
        self.release_all();
        self.lessee = Some(lessee);
        Some(lease)
    }

    /// The lease was taken back. `lease`: what it was.
    pub(super) fn recalled(&mut self, lease: Lease) {
        let Some(lessee) = self.lessee.take() else { return };
        match lease {
            Lease::Free => {}
            // A worker that has overwritten the word may have changed what the lock protects.
            Lease::Died | Lease::None => self.owner_died = true,
            Lease::Held { task, count } => {
                self.owner = Some(Actor::Task { member: lessee.member, task });
                self.count = count;
            }
        }
    }

    pub(super) fn check_held_by(&self, actor: Actor) -> Result<(), Refusal> {
        match (self.owner, actor) {
            (Some(owner), actor) if owner == actor => Ok(()),
            // A thread of the application may release what another has acquired, as in Python.
            (Some(Actor::Host { .. }), Actor::Host { .. }) if !self.is_recursive => Ok(()),
            (Some(_), Actor::Task { .. }) => Err(Refusal::invalid("is not held by this task")),
            (Some(_), Actor::Host { .. }) => Err(Refusal::invalid("is not held by this thread")),
            (None, _) => Err(Refusal::invalid("is not acquired")),
        }
    }
}

impl Serve for Lock {
    fn act(&mut self, actor: Actor, act: Act) -> Taken {
        Taken::Now(match act {
            Act::Acquire => return Taken::Needs(Need::Acquire),
            Act::Release { count: 1 } => self.release(actor),
            Act::Release { .. } => Err(Refusal::invalid("is released once at a time")),
            Act::Status => Ok(Answer::Flag(self.owner.is_some())),
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

    /// An owner would wait for itself.
    fn passes_by(&self, actor: Actor) -> bool {
        self.is_recursive && self.owner == Some(actor)
    }

    fn release_of(&mut self, actor: Actor) {
        if self.owner == Some(actor) {
            self.release_all();
            self.owner_died = true;
        }
    }

    fn is_held_by(&self, actor: Actor) -> Option<bool> {
        Some(self.owner == Some(actor))
    }

    fn owner(&self) -> Option<Actor> {
        self.owner
    }
}
