//! A barrier: all parties wait until each of them waits.

use super::event::Actor;
use super::refusal::Refusal;
use super::serve::{Outcome, Serve, Taken};
use super::wait::{Line, Need, WaitId};
use crate::spec::exchange::{Act, Answer, BarrierStatus, Code};

/// What becomes of those that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BarrierState {
    /// They wait for more.
    Filling,
    /// All parties are there. The next to leave has this number.
    Draining { next: u32 },
    /// The barrier was reset: they fail.
    Resetting,
    /// They fail, and those that come later too.
    Broken,
}

#[derive(Debug)]
pub(super) struct Barrier {
    parties: u32,
    state: BarrierState,
    line: Line,
}

impl Barrier {
    pub(super) fn new(parties: u32) -> Barrier {
        Barrier { parties: parties.max(1), state: BarrierState::Filling, line: Line::new() }
    }

    fn status(&self) -> BarrierStatus {
        BarrierStatus {
            parties: self.parties,
            waiting: u32::try_from(self.line.len()).unwrap_or(u32::MAX),
            is_broken: self.state == BarrierState::Broken,
        }
    }

    fn reset(&mut self) {
        self.state = if self.line.is_empty() { BarrierState::Filling } else { BarrierState::Resetting };
    }

    /// The wait at the head is over. The last to leave closes the door.
    fn leave(&mut self, next: BarrierState) {
        self.state = if self.line.len() > 1 { next } else { BarrierState::Filling };
    }
}

impl Serve for Barrier {
    fn act(&mut self, _actor: Actor, act: Act) -> Taken {
        Taken::Now(match act {
            Act::Wait => return Taken::Needs(Need::Parties),
            Act::Abort => {
                self.state = BarrierState::Broken;
                Ok(Answer::Done)
            }
            Act::Reset => {
                self.reset();
                Ok(Answer::Done)
            }
            Act::Status => Ok(Answer::Barrier(self.status())),
            _ => Err(Refusal::unfit()),
        })
    }

    fn attempt(&mut self, _actor: Actor, _need: &mut Need) -> Option<Outcome> {
        let broken = || Outcome::Refused(Refusal::new(Code::Broken, "is broken"));
        match self.state {
            BarrierState::Broken => Some(broken()),
            BarrierState::Resetting => {
                self.leave(BarrierState::Resetting);
                Some(broken())
            }
            BarrierState::Filling if self.line.len() < self.parties as usize => None,
            BarrierState::Filling => {
                self.leave(BarrierState::Draining { next: 1 });
                Some(Outcome::Answer(Answer::Count(0)))
            }
            BarrierState::Draining { next } => {
                self.leave(BarrierState::Draining { next: next + 1 });
                Some(Outcome::Answer(Answer::Count(u64::from(next))))
            }
        }
    }

    fn line(&mut self, _need: &Need) -> Option<&mut Line> {
        Some(&mut self.line)
    }

    fn heads(&self) -> [Option<WaitId>; 3] {
        [self.line.first().copied(), None, None]
    }

    /// A party that does not wait any more breaks the barrier.
    fn withdraw(&mut self, _need: &Need, wait: WaitId) {
        self.line.remove(&wait);
        self.state = BarrierState::Broken;
    }
}
