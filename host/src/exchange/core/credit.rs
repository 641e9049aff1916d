//! Credit: a task that puts to a queue again and again need not wait for an answer each time.

use super::Exchange;
use super::event::{Action, MemberId, ObjectId};
use super::queue::Queue;
use super::wait::Asker;
use crate::spec::exchange::{Bytes, Granted, cost};

/// Less credit than this saves nothing.
const CREDIT_MIN: u64 = 4 << 10;

impl Exchange {
    fn queue(&mut self, object: ObjectId) -> Option<&mut Queue> {
        self.objects.get_mut(&object)?.object.as_queue()
    }

    /// Gives the asker credit for a queue that it has just put to.
    pub(super) fn give_credit(
        &mut self,
        asker: Asker,
        name: Option<Granted>,
        object: ObjectId,
        actions: &mut Vec<Action>,
    ) {
        let (Asker::Task { member, .. }, Some(name)) = (asker, name) else { return };
        let credit = self.queue(object).map_or(0, |queue| queue.credit());
        let Some(known) = self.members.get_mut(&member) else { return };
        let held = known.credits.get(&object).map_or(0, |(_, credit)| *credit);
        let more = credit.saturating_sub(held);
        if more < CREDIT_MIN {
            return;
        }
        known.credits.insert(object, (name, held + more));
        if let Some(store) = self.object(object).and_then(|served| served.store()) {
            store.reserve(more);
        }
        actions.push(Action::Credit { member, object: name, credit: more });
    }

    pub(super) fn posted(
        &mut self,
        member: MemberId,
        task: u64,
        object: Granted,
        items: Vec<Bytes>,
        actions: &mut Vec<Action>,
    ) {
        self.acknowledged(member, actions);
        self.begin_task(member, task, actions);
        let Some(known) = self.members.get_mut(&member) else { return };
        let Some(id) = known.granting(object).map(|granting| granting.object) else { return };
        // The judge of the socket has counted the credit, too.
        let Some((_, credit)) = known.credits.get_mut(&id) else { return };
        let taken = items.iter().map(|data| cost(data.0.len())).sum::<u64>().min(*credit);
        *credit -= taken;
        let Some(queue) = self.queue(id) else { return };
        queue.post(items);
        if let Some(store) = self.object(id).and_then(|served| served.store()) {
            store.release(taken);
        }
        self.settle(id, actions);
    }

    /// The member's task is over, and its credit with it.
    pub(super) fn take_credits(&mut self, member: MemberId, actions: &mut Vec<Action>) {
        let Some(known) = self.members.get_mut(&member) else { return };
        for (object, (_, credit)) in std::mem::take(&mut known.credits) {
            if let Some(store) = self.object(object).and_then(|served| served.store()) {
                store.release(credit);
                self.settle(object, actions);
            }
        }
    }

    /// The queue is closed: no member may post to it without being told.
    pub(super) fn revoke_credits(&mut self, object: ObjectId, actions: &mut Vec<Action>) {
        for (member, known) in &self.members {
            // The credit itself stays until the task ends: items may be on their way.
            if let Some((name, _)) = known.credits.get(&object) {
                actions.push(Action::Credit { member: *member, object: *name, credit: 0 });
            }
        }
    }
}
