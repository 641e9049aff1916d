//! What the exchange knows of an object, whatever its kind.

use super::event::{Actor, ObjectId};
use super::refusal::Refusal;
use super::store::Stored;
use super::wait::{Line, Need, WaitId, Waits};
use crate::spec::exchange::{Act, Answer, Bytes};

/// What an object makes of an act.
#[derive(Debug)]
pub(super) enum Taken {
    /// It is done, or refused.
    Now(Result<Answer, Refusal>),
    /// It may have to wait.
    Needs(Need),
}

/// How a request has ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Answer(Answer),
    /// They are the asker's once it has acknowledged them.
    Items(Vec<Stored>),
    /// The same, of one that was asked for alone. More can be given ahead.
    Item(Stored),
    /// A waiter for a notification holds the lock again.
    Woken {
        notified: bool,
    },
    /// One of several objects is ready.
    Ready,
    Refused(Refusal),
}

/// What an object does next for those that wait.
#[derive(Debug)]
pub(super) enum Next {
    Served {
        wait: WaitId,
        outcome: Outcome,
    },
    /// The wait is notified. It needs the lock now.
    Notified {
        wait: WaitId,
    },
    /// A put of several items has put some of them. Others can be served before it goes on.
    Advanced,
}

/// One shared object. Requests are served first come, first served.
pub(super) trait Serve {
    /// Does an act, or says what it needs.
    fn act(&mut self, actor: Actor, act: Act) -> Taken;

    /// Serves a need, if that is possible now. It is the first of its line.
    fn attempt(&mut self, _actor: Actor, _need: &mut Need) -> Option<Outcome> {
        Some(Outcome::Refused(Refusal::unfit()))
    }

    /// The line in which those wait that need this.
    fn line(&mut self, _need: &Need) -> Option<&mut Line> {
        None
    }

    /// The first of each line.
    fn heads(&self) -> [Option<WaitId>; 3] {
        [None; 3]
    }

    /// The need is served at once, although others wait for the same.
    fn passes_by(&self, _actor: Actor) -> bool {
        false
    }

    /// The wait is over and was not served.
    fn withdraw(&mut self, need: &Need, wait: WaitId) {
        if let Some(line) = self.line(need) {
            line.remove(&wait);
        }
    }

    /// The next wait that was notified.
    fn pop_notified(&mut self) -> Option<WaitId> {
        None
    }

    /// Whether a get would not wait.
    fn is_ready(&self) -> bool {
        false
    }

    /// Those that wait for this object or others to be ready.
    fn watchers(&mut self) -> Option<&mut Line> {
        None
    }

    /// What was taken from here by a member may come back.
    fn store(&mut self) -> Option<&mut super::store::Store> {
        None
    }

    /// Takes items for a member that is given the one before them, if nothing else wants any.
    fn ahead(&mut self, _most: usize, _bytes: u64) -> Vec<Stored> {
        Vec::new()
    }

    /// What a member may be given to post here.
    fn credit(&self) -> u64 {
        0
    }

    /// Puts items for which a member had credit.
    fn post(&mut self, _items: Vec<Bytes>) {}

    /// A notification was not received.
    fn pass_on(&mut self) {}

    /// The actor is over. What it holds is released.
    fn release_of(&mut self, _actor: Actor) {}

    /// `None`: nothing of this kind can be held.
    fn is_held_by(&self, _actor: Actor) -> Option<bool> {
        None
    }

    /// What holds the lock.
    fn owner(&self) -> Option<Actor> {
        None
    }

    /// An object by which others can end a wait for this one too.
    fn partner(&self) -> Option<ObjectId> {
        None
    }

    /// A request begins. It is served at once unless others wait for the same.
    fn begin(&mut self, actor: Actor, need: &mut Need) -> Option<Outcome> {
        let is_first = self.line(need).is_none_or(|line| line.is_empty());
        if is_first || self.passes_by(actor) { self.attempt(actor, need) } else { None }
    }

    /// Serves the next wait that can be served.
    fn next(&mut self, waits: &mut Waits) -> Option<Next> {
        if let Some(wait) = self.pop_notified() {
            return Some(Next::Notified { wait });
        }
        if self.is_ready()
            && let Some(wait) = self.watchers().and_then(Line::pop_first)
        {
            return Some(Next::Served { wait, outcome: Outcome::Ready });
        }
        self.heads().into_iter().flatten().find_map(|wait| {
            let (actor, need) = waits.need_mut(wait)?;
            let before = need.done();
            let Some(outcome) = self.attempt(actor, need) else {
                return (need.done() > before).then_some(Next::Advanced);
            };
            self.line(need)?.remove(&wait);
            Some(Next::Served { wait, outcome })
        })
    }
}
