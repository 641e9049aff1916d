//! What a member has ahead, and the hand from which its worker takes it.

use std::collections::VecDeque;
use std::fmt;

use super::event::ObjectId;
use super::store::Stored;
#[cfg(test)]
use crate::spec::exchange::Item;

/// The most items that are given ahead.
const AHEAD_MAX: usize = 64;
/// The most bytes of all of them.
pub(super) const AHEAD_BYTES_MAX: u64 = 16 << 10;

/// Where a worker takes its items from, one by one. The worker may write any number there. It is believed as
/// far as there are items.
pub(crate) trait Hand: fmt::Debug + Send {
    /// Lays this many items there. The worker has an open request: it takes nothing meanwhile.
    fn lay(&self, count: u32);

    /// How many are left.
    fn left(&self) -> u32;

    /// Takes back what is left. Gives how many that were. Of the worker and this, which both want an item,
    /// one gets it.
    fn take_back(&self) -> u32;
}

/// What a member has ahead.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// `None`: it is given nothing ahead.
    hand: Option<Box<dyn Hand>>,
    /// Where the items come from.
    object: ObjectId,
    /// Those that are not known to be taken.
    items: VecDeque<Stored>,
    /// How many items the worker has taken in its life, as far as it is known.
    taken: u64,
    /// How many are given by the next answer.
    most: usize,
}

impl Ahead {
    pub(super) fn set_hand(&mut self, hand: Box<dyn Hand>) {
        self.hand = Some(hand);
    }

    /// Where its items come from, if there are any.
    pub(super) fn object(&self) -> Option<ObjectId> {
        (!self.items.is_empty()).then_some(self.object)
    }

    /// How many items the worker has taken in its life, as far as it is known.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// How many to give now. The number grows as long as nothing is taken back.
    pub(super) fn next_most(&mut self) -> usize {
        if self.hand.is_none() || !self.items.is_empty() {
            return 0;
        }
        let most = self.most;
        self.most = (2 * most).clamp(1, AHEAD_MAX);
        most
    }

    /// The items that are in the worker's hand.
    #[cfg(test)]
    pub(super) fn items(&self) -> impl Iterator<Item = &Item> {
        let left = self.hand.as_ref().map_or(0, |hand| hand.left()) as usize;
        self.items.iter().skip(self.items.len().saturating_sub(left)).map(|stored| &stored.item)
    }

    pub(super) fn lay(&mut self, object: ObjectId, items: Vec<Stored>) {
        (self.object, self.items) = (object, items.into());
        if let Some(hand) = &self.hand {
            hand.lay(u32::try_from(self.items.len()).expect("there are AHEAD_MAX at most"));
        }
    }

    /// Gives the items that were taken since the last look, and where they come from.
    pub(super) fn note(&mut self) -> (ObjectId, Vec<Stored>) {
        let taken = match &self.hand {
            Some(hand) if !self.items.is_empty() => self.split(hand.left()),
            Some(_) | None => Vec::new(),
        };
        (self.object, taken)
    }

    /// Takes back what is left. Gives what was taken since the last look, and what was not.
    pub(super) fn take_back(&mut self) -> (Vec<Stored>, Vec<Stored>) {
        let left = self.hand.as_ref().map_or(0, |hand| hand.take_back());
        let taken = self.split(left);
        let left = std::mem::take(&mut self.items);
        if !left.is_empty() {
            self.most = 0;
        }
        (taken, left.into())
    }

    /// Gives all items but the last `left`.
    fn split(&mut self, left: u32) -> Vec<Stored> {
        let count = self.items.len().saturating_sub(left as usize);
        self.taken += count as u64;
        self.items.drain(..count).collect()
    }
}
