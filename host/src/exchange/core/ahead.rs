//! Items that a member is given ahead of its next get. Its worker takes them one by one without asking.
//!
//! They are the head of their queue, or the next messages of an end of a pipe. Each one that is taken says
//! that the one before it is taken for good. When something else than that member wants to see the queue, the
//! items that are left go back to where they were, as if they had never left.

use super::Exchange;
use super::event::{Action, MemberId, ObjectId};
use super::hand::{AHEAD_BYTES_MAX, Hand};
use super::member::Handed;
use super::store::Stored;
use crate::spec::exchange::Item;

impl Exchange {
    /// The member has joined. It may be given items ahead.
    pub(crate) fn give_hand(&mut self, member: MemberId, hand: Box<dyn Hand>) {
        if let Some(known) = self.members.get_mut(&member) {
            known.ahead.set_hand(hand);
        }
    }

    /// Gives the member, which is given an item by the same answer, the items behind it.
    pub(super) fn lay_ahead(&mut self, member: MemberId, object: ObjectId) -> Vec<Item> {
        let (Some(known), Some(slot)) = (self.members.get_mut(&member), self.objects.get_mut(&object)) else {
            return Vec::new();
        };
        let most = known.ahead.next_most();
        let stored = slot.object.as_mut().ahead(most, AHEAD_BYTES_MAX);
        if stored.is_empty() {
            return Vec::new();
        }
        let items = stored.iter().map(|stored| stored.item.clone()).collect();
        known.ahead.lay(object, stored);
        self.in_hands.insert(object, member);
        items
    }

    /// Notes what the member has taken since the last look.
    pub(super) fn note_taken(&mut self, member: MemberId, actions: &mut Vec<Action>) {
        let Some(known) = self.members.get_mut(&member) else { return };
        let (object, taken) = known.ahead.note();
        if taken.is_empty() {
            return;
        }
        if known.ahead.object().is_none() {
            self.in_hands.remove(&object);
        }
        self.took(member, object, taken, actions);
    }

    /// Something wants to see the object as it is: all items of it that are not taken are there again.
    pub(super) fn recall(&mut self, object: ObjectId, actions: &mut Vec<Action>) {
        let Some(member) = self.in_hands.remove(&object) else { return };
        let Some(known) = self.members.get_mut(&member) else { return };
        let (taken, left) = known.ahead.take_back();
        if let Some(store) = self.object(object).and_then(|served| served.store()) {
            store.put_back(left);
        }
        self.took(member, object, taken, actions);
    }

    /// Takes back what the member has ahead.
    pub(super) fn recall_from(&mut self, member: MemberId, actions: &mut Vec<Action>) {
        if let Some(object) = self.members.get(&member).and_then(|known| known.ahead.object()) {
            self.recall(object, actions);
            self.settle(object, actions);
        }
    }

    /// The member has taken these items, one after the other. Each one acknowledges what was given before.
    fn took(
        &mut self,
        member: MemberId,
        object: ObjectId,
        mut taken: Vec<Stored>,
        actions: &mut Vec<Action>,
    ) {
        let (Some(last), Some(known)) = (taken.pop(), self.members.get_mut(&member)) else { return };
        let before = known.handed.replace(Handed::Items { object, items: vec![last] });
        if let Some(store) = self.object(object).and_then(|served| served.store()) {
            store.acknowledge(&taken);
        }
        self.settle_acknowledged(before, actions);
    }
}
