//! An `Event`: a flag that wakes all that wait for it. Here events are what happens to the exchange.

use super::event::Actor;
use super::refusal::Refusal;
use super::serve::{Outcome, Serve, Taken};
use super::wait::{Line, Need, WaitId};
use crate::spec::exchange::{Act, Answer};

#[derive(Debug, Default)]
pub(super) struct Flag {
    is_set: bool,
    line: Line,
}

impl Flag {
    fn store(&mut self, is_set: bool) -> Result<Answer, Refusal> {
        self.is_set = is_set;
        Ok(Answer::Done)
    }
}

impl Serve for Flag {
    fn act(&mut self, _actor: Actor, act: Act) -> Taken {
        Taken::Now(match act {
            Act::Wait => return Taken::Needs(Need::Set),
            Act::Set => self.store(true),
            Act::Clear => self.store(false),
            Act::Status => Ok(Answer::Flag(self.is_set)),
            _ => Err(Refusal::unfit()),
        })
    }

    fn attempt(&mut self, _actor: Actor, _need: &mut Need) -> Option<Outcome> {
        self.is_set.then_some(Outcome::Answer(Answer::Flag(true)))
    }

    fn line(&mut self, _need: &Need) -> Option<&mut Line> {
        Some(&mut self.line)
    }

    fn heads(&self) -> [Option<WaitId>; 3] {
        [self.line.first().copied(), None, None]
    }
}
