//! A value: an integer, or bytes.

use super::event::Actor;
use super::refusal::Refusal;
use super::serve::{Serve, Taken};
use crate::spec::exchange::{Act, Answer, Code, Content};

#[derive(Debug)]
pub(super) struct Cell {
    content: Content,
    max_bytes: u64,
}

impl Cell {
    pub(super) fn new(content: Content, max_bytes: u64) -> Cell {
        Cell { content, max_bytes }
    }

    /// A value stays an integer, or bytes: its other users rely on that.
    fn check(&self, new: &Content) -> Result<(), Refusal> {
        match (&self.content, new) {
            (Content::Integer(_), Content::Integer(_)) => Ok(()),
            (Content::Integer(_), Content::Bytes(_)) => Err(Refusal::invalid("is an integer")),
            (Content::Bytes(_), Content::Integer(_)) => Err(Refusal::invalid("is not an integer")),
            (Content::Bytes(_), Content::Bytes(new)) if new.0.len() as u64 > self.max_bytes => {
                Err(Refusal::new(Code::TooLarge, format!("takes {} bytes at most", self.max_bytes)))
            }
            (Content::Bytes(_), Content::Bytes(_)) => Ok(()),
        }
    }

    fn store(&mut self, content: Content) -> Result<Answer, Refusal> {
        self.check(&content)?;
        self.content = content;
        Ok(Answer::Done)
    }

    fn add(&mut self, amount: i64) -> Result<Answer, Refusal> {
        match &mut self.content {
            Content::Integer(value) => {
                *value = value.wrapping_add(amount);
                Ok(Answer::Content(Content::Integer(*value)))
            }
            Content::Bytes(_) => Err(Refusal::invalid("is not an integer")),
        }
    }

    fn swap(&mut self, expected: &Content, new: Content) -> Result<Answer, Refusal> {
        self.check(&new)?;
        let is_expected = self.content == *expected;
        let old = if is_expected { std::mem::replace(&mut self.content, new) } else { self.content.clone() };
        Ok(Answer::Content(old))
    }
}

impl Serve for Cell {
    fn act(&mut self, _actor: Actor, act: Act) -> Taken {
        Taken::Now(match act {
            Act::Load => Ok(Answer::Content(self.content.clone())),
            Act::Store { content } => self.store(content),
            Act::Add { amount } => self.add(amount),
            Act::Swap { expected, new } => self.swap(&expected, new),
            _ => Err(Refusal::unfit()),
        })
    }
}
