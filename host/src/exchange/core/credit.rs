//! Credit: a task that puts to a queue, or sends, again and again need not wait for an answer each time.

use super::Exchange;
use super::event::{Action, MemberId, ObjectId, Post};
use super::wait::Asker;
use crate::spec::exchange::{Granted, cost};

/// Less credit than this saves nothing.
const CREDIT_MIN: u64 = 4 << 10;

impl Exchange {
    /// Gives the asker credit for a queue or an end of a pipe, to which it has just put by this name.
    pub(super) fn give_credit(
        &mut self,
        asker: Asker,
        name: Option<Granted>,
        object: ObjectId,
        actions: &mut Vec<Action>,
    ) {
        let (Asker::Task { member, .. }, Some(name)) = (asker, name) else { return };
        let credit = self.object(object).map_or(0, |served| served.credit());
        let Some(known) = self.members.get_mut(&member) else { return };
        let held = known.credits.get(&name).map_or(0, |(_, credit)| *credit);
        let more = credit.saturating_sub(held);
        if more < CREDIT_MIN {
            return;
        }
        known.credits.insert(name, (object, held + more));
        if let Some(store) = self.object(object).and_then(|served| served.store()) {
            store.reserve(more);
        }
        actions.push(Action::Credit { member, object: name, credit: more });
    }

    /// Whether anything waits for an object to which the member may post.
    pub(crate) fn is_awaited(&mut self, member: MemberId) -> bool {
        let Some(known) = self.members.get(&member) else { return false };
        known.credits.values().any(|(object, _)| {
            self.objects.get_mut(object).is_some_and(|slot| {
                let served = slot.object.as_mut();
                let is_watched = served.watchers().is_some_and(|watchers| !watchers.is_empty());
                is_watched || served.heads().iter().any(Option::is_some)
            })
        })
    }

    pub(super) fn posted(&mut self, member: MemberId, post: Post, actions: &mut Vec<Action>) {
        let Post { task, taken, object, items } = post;
        // What it has taken since it said this, it may still lose.
        self.note_taken(member, actions);
        if self.members.get(&member).is_some_and(|known| taken >= known.ahead.taken()) {
            self.acknowledged(member, actions);
        }
        self.begin_task(member, task, actions);
        let Some(known) = self.members.get_mut(&member) else { return };
        // The judge of the socket has counted the credit, too.
        let Some((place, credit)) = known.credits.get_mut(&object) else { return };
        let place = *place;
        let taken = items.iter().map(|data| cost(data.0.len())).sum::<u64>().min(*credit);
        *credit -= taken;
        let Some(served) = self.object(place) else { return };
        if let Some(store) = served.store() {
            store.release(taken);
        }
        served.post(items);
        self.settle(place, actions);
    }

    /// The member's task is over, and its credit with it.
    pub(super) fn take_credits(&mut self, member: MemberId, actions: &mut Vec<Action>) {
        let Some(known) = self.members.get_mut(&member) else { return };
        for (object, credit) in std::mem::take(&mut known.credits).into_values() {
            if let Some(store) = self.object(object).and_then(|served| served.store()) {
                store.release(credit);
                self.settle(object, actions);
            }
        }
    }

    /// The object is closed: no member may post to it, or by it, without being told.
    pub(super) fn revoke_credits(&mut self, object: ObjectId, actions: &mut Vec<Action>) {
        for (member, known) in &self.members {
            let is_by = |name| known.granting(name).is_some_and(|granting| granting.object == object);
            for (name, (place, _)) in &known.credits {
                // The credit itself stays until the task ends: items may be on their way.
                if *place == object || is_by(*name) {
                    actions.push(Action::Credit { member: *member, object: *name, credit: 0 });
                }
            }
        }
    }
}
