//! How waits end: served, or withdrawn.

use super::event::{Action, MemberId, ObjectId};
use super::graph::may_hang;
use super::member::Handed;
use super::refusal::{Refusal, failed, word};
use super::serve::{Next, Outcome, Serve};
use super::store::Stored;
use super::wait::{Asker, Awaited, Need, Wait, WaitId};
use super::{Exchange, ObjectSlot};
use crate::spec::exchange::{Act, Answer, Code, Granted};

impl Exchange {
    pub(super) fn object(&mut self, object: ObjectId) -> Option<&mut dyn Serve> {
        Some(self.objects.get_mut(&object)?.object.as_mut())
    }

    /// Serves the waits of an object while that is possible. Then none is left that could be served.
    pub(super) fn settle(&mut self, object: ObjectId, actions: &mut Vec<Action>) {
        while let Some(slot) = self.objects.get_mut(&object)
            && let Some(next) = slot.object.as_mut().next(&mut self.waits)
        {
            match next {
                Next::Served { wait, outcome } => self.serve(wait, outcome, actions),
                Next::Notified { wait } => self.reacquire(wait, true),
                Next::Advanced => {}
            }
        }
    }

    fn serve(&mut self, wait: WaitId, outcome: Outcome, actions: &mut Vec<Action>) {
        let Some(wait) = self.take_wait(wait) else { return };
        match wait.awaited {
            Awaited::One { object, .. } => {
                self.give_lease(wait.asker, wait.name, object, actions);
                self.reply(wait.asker, wait.name, object, outcome, actions);
                self.note_hold(wait.asker, object);
            }
            Awaited::Several { objects } => {
                let ready = self.ready(&objects);
                self.send(wait.asker, Answer::Ready(ready), actions);
            }
            Awaited::Call { .. } => {}
        }
    }

    /// Answers a request about an object.
    pub(super) fn reply(
        &mut self,
        asker: Asker,
        name: Option<Granted>,
        object: ObjectId,
        outcome: Outcome,
        actions: &mut Vec<Action>,
    ) {
        let answer = match outcome {
            Outcome::Answer(answer) => answer,
            Outcome::Items(items) => return self.hand_items(asker, object, items, actions),
            Outcome::Item(item) => return self.hand_item(asker, object, item, actions),
            Outcome::Woken { notified } => {
                if notified {
                    self.hand(asker, Handed::Notification { object });
                }
                Answer::Flag(notified)
            }
            Outcome::Ready => Answer::Ready(self.ready(&[object])),
            Outcome::Refused(refusal) => refusal.answer(&self.subject(asker, name, object)),
        };
        self.send(asker, answer, actions);
    }

    /// Gives the asker an item. A member may be given the next ones ahead.
    fn hand_item(&mut self, asker: Asker, object: ObjectId, stored: Stored, actions: &mut Vec<Action>) {
        let Asker::Task { member, .. } = asker else {
            return self.hand_items(asker, object, vec![stored], actions);
        };
        self.recall_other(member, object, actions);
        let mut items = vec![stored.item.clone()];
        self.hand(asker, Handed::Items { object, items: vec![stored] });
        items.extend(self.lay_ahead(member, object));
        self.send(asker, Answer::Items { items }, actions);
    }

    /// What a task has ahead of one object must not outlive what it is given of another. The taking of the
    /// one would acknowledge the other, and nothing would know.
    fn recall_other(&mut self, member: MemberId, object: ObjectId, actions: &mut Vec<Action>) {
        let ahead = self.members.get(&member).and_then(|known| known.ahead.object());
        if ahead.is_some_and(|other| other != object) {
            self.recall_from(member, actions);
        }
    }

    fn hand_items(&mut self, asker: Asker, object: ObjectId, stored: Vec<Stored>, actions: &mut Vec<Action>) {
        let items = match asker {
            Asker::Task { member, .. } => {
                self.recall_other(member, object, actions);
                let items = stored.iter().map(|stored| stored.item.clone()).collect();
                self.hand(asker, Handed::Items { object, items: stored });
                items
            }
            Asker::Host { .. } => {
                if let Some(store) = self.object(object).and_then(|served| served.store()) {
                    store.acknowledge(&stored);
                }
                stored.into_iter().map(|stored| stored.item).collect()
            }
        };
        self.send(asker, Answer::Items { items }, actions);
    }

    fn hand(&mut self, asker: Asker, handed: Handed) {
        if let Some(member) = asker.member().and_then(|member| self.members.get_mut(&member)) {
            member.handed = Some(handed);
        }
    }

    pub(super) fn send(&self, asker: Asker, answer: Answer, actions: &mut Vec<Action>) {
        actions.push(match asker {
            Asker::Task { member, .. } => Action::Answer { member, answer },
            Asker::Host { ticket, .. } => Action::AnswerHost { ticket, answer },
        });
    }

    /// What the asker calls the object.
    pub(super) fn subject(&self, asker: Asker, name: Option<Granted>, object: ObjectId) -> String {
        let member = asker.member().and_then(|member| self.members.get(&member));
        match member.and_then(|member| member.granting(name?)) {
            Some(granting) => format!("{} {}", word(granting.kind), granting.name),
            None => {
                let kind = self.objects.get(&object).map(|slot| slot.object.kind());
                format!("the {}", kind.map_or("object", word))
            }
        }
    }

    /// The asker waits from now on.
    pub(super) fn note_wait(&mut self, asker: Asker, wait: WaitId) {
        if self.waits.get(wait).and_then(may_hang).is_some() {
            self.arm_deadlock_check();
        }
        if let Some(member) = asker.member().and_then(|member| self.members.get_mut(&member)) {
            member.wait = Some(wait);
        }
    }

    /// Puts a wait at the end of the line of what it needs.
    pub(super) fn enter_line(&mut self, id: WaitId) {
        if let Some(wait) = self.waits.get(id)
            && let Awaited::One { object, need } = &wait.awaited
            && let Some(slot) = self.objects.get_mut(object)
            && let Some(line) = slot.object.as_mut().line(need)
        {
            line.insert(id);
        }
    }

    /// Keeps the index of what the asker's task holds.
    pub(super) fn note_hold(&mut self, asker: Asker, object: ObjectId) {
        let held = self.objects.get(&object).and_then(|slot| slot.object.as_ref().is_held_by(asker.actor()));
        let Some(is_held) = held else { return };
        if let Asker::Task { member, task } = asker
            && let Some(known) = self.members.get_mut(&member)
        {
            if is_held {
                known.holds.insert(object, task);
            } else {
                known.holds.remove(&object);
            }
        }
    }

    /// Forgets a wait that is over. It is in no line of its object any more.
    pub(super) fn take_wait(&mut self, id: WaitId) -> Option<Wait> {
        let wait = self.waits.remove(id)?;
        if let Some(member) = wait.asker.member().and_then(|member| self.members.get_mut(&member)) {
            member.wait = None;
        }
        match &wait.awaited {
            Awaited::One { .. } => {}
            Awaited::Several { objects } => {
                for object in objects {
                    if let Some(watchers) = self.object(*object).and_then(|served| served.watchers()) {
                        watchers.remove(&id);
                    }
                }
            }
            Awaited::Call { call } => {
                self.calls.remove(call);
            }
        }
        Some(wait)
    }

    /// Ends a wait that was not served. Gives the asker that has no answer yet.
    pub(super) fn withdraw(&mut self, id: WaitId, actions: &mut Vec<Action>) -> Option<Asker> {
        let wait = self.take_wait(id)?;
        match wait.awaited {
            Awaited::One { object, need } => {
                if let Some(served) = self.object(object) {
                    served.withdraw(&need, id);
                }
                self.settle(object, actions);
            }
            Awaited::Several { .. } => {}
            Awaited::Call { call } => actions.push(Action::Forget { call }),
        }
        Some(wait.asker)
    }

    /// The wait's own time-out has passed.
    pub(super) fn timed_out(&mut self, id: WaitId, actions: &mut Vec<Action>) {
        let Some(wait) = self.waits.get(id) else { return };
        let failure = |exchange: &Exchange, object| {
            let subject = exchange.subject(wait.asker, wait.name, object);
            failed(Code::TimedOut, format!("the time-out passed: {subject}"))
        };
        let answer = match &wait.awaited {
            Awaited::One { object, need: Need::Notification { .. } } => {
                let object = *object;
                self.reacquire(id, false);
                return self.settle(object, actions);
            }
            Awaited::One { need: Need::Put { done, .. }, .. } if *done > 0 => Answer::Count(*done),
            Awaited::One { need: Need::Poll | Need::Set, .. } => Answer::Flag(false),
            Awaited::One { object, .. } => failure(self, *object),
            Awaited::Several { .. } => Answer::Ready(Vec::new()),
            Awaited::Call { .. } => failed(Code::TimedOut, "the time-out passed".to_owned()),
        };
        if let Some(asker) = self.withdraw(id, actions) {
            self.send(asker, answer, actions);
        }
    }

    pub(super) fn time_is_over(&mut self, id: WaitId, actions: &mut Vec<Action>) {
        if let Some(asker) = self.withdraw(id, actions) {
            self.send(asker, Answer::TimeIsOver, actions);
        }
    }

    pub(super) fn stalled(&mut self, id: WaitId, actions: &mut Vec<Action>) {
        if let Some(wait) = self.waits.get(id)
            && let Asker::Task { member, task } = wait.asker
            && let Some(known) = self.members.get_mut(&member)
        {
            known.stall(task);
            actions.push(Action::Stalled { member });
        }
    }

    /// A wait for a notification needs the lock again, behind those that need it already. It has no time-out
    /// of its own any more.
    fn reacquire(&mut self, id: WaitId, notified: bool) {
        let Some(mut wait) = self.waits.remove(id) else { return };
        if let Awaited::One { object, need } = &mut wait.awaited {
            if let Some(served) = self.object(*object) {
                served.withdraw(need, id);
            }
            if let Need::Notification { count } = *need {
                *need = Need::Reacquire { count, notified };
            }
        }
        wait.times.until = None;
        wait.since = self.now;
        let asker = wait.asker;
        let id = self.waits.insert(wait);
        self.note_wait(asker, id);
        self.enter_line(id);
    }

    pub(super) fn check_watchable(&mut self, object: ObjectId) -> Result<(), Refusal> {
        let Some(slot) = self.objects.get_mut(&object) else { return Err(Refusal::unfit()) };
        if let Some(connection) = slot.object.as_connection() {
            // A closed one is ready: the error comes from the call that follows.
            return if connection.is_closed() { Ok(()) } else { connection.check_receives() };
        }
        slot.object.as_mut().watchers().map(|_| ()).ok_or_else(Refusal::unfit)
    }

    /// The positions of those that are ready.
    pub(super) fn ready(&self, objects: &[ObjectId]) -> Vec<u32> {
        let is_ready = |object| self.objects.get(object).is_none_or(|slot| slot.object.as_ref().is_ready());
        (0u32..).zip(objects).filter(|(_, object)| is_ready(object)).map(|(place, _)| place).collect()
    }

    /// Where the act is done: what is sent by an end of a pipe is put at the other end.
    pub(super) fn sending_place(&mut self, object: ObjectId, act: &Act) -> Result<ObjectId, Refusal> {
        let connection = match act {
            Act::Put { .. } => self.objects.get_mut(&object).and_then(|slot| slot.object.as_connection()),
            _ => None,
        };
        match connection {
            Some(connection) => connection.check_sends().map(|()| connection.other),
            None => Ok(object),
        }
    }

    /// An end of a pipe may have been closed.
    pub(super) fn tell_other_end(&mut self, object: ObjectId, actions: &mut Vec<Action>) {
        let closed = self.objects.get_mut(&object).and_then(|slot| slot.object.as_connection());
        let Some(other) = closed.filter(|end| end.is_closed()).map(|end| end.other) else { return };
        if let Some(end) = self.objects.get_mut(&other).and_then(|slot| slot.object.as_connection()) {
            end.other_is_closed();
            self.settle(other, actions);
        }
    }

    /// Nothing can reach the object any more.
    pub(super) fn abandoned(&mut self, object: ObjectId, actions: &mut Vec<Action>) {
        self.recall(object, actions);
        self.revoke_credits(object, actions);
        let Some(slot) = self.objects.get_mut(&object) else { return };
        let Some(connection) = slot.object.as_connection() else {
            self.objects.remove(&object);
            return self.end_waits_of(object, actions);
        };
        connection.abandon();
        let other = connection.other;
        self.tell_other_end(object, actions);
        self.settle(object, actions);
        let is_abandoned =
            |slot: &mut ObjectSlot| slot.object.as_connection().is_some_and(|end| end.is_abandoned());
        if self.objects.get_mut(&other).is_none_or(is_abandoned) {
            self.objects.remove(&object);
            self.objects.remove(&other);
        }
    }

    /// The object is gone. There should be no waits for what nothing reaches; one that is left would last for
    /// ever.
    fn end_waits_of(&mut self, object: ObjectId, actions: &mut Vec<Action>) {
        let is_for = |wait: &Wait| match &wait.awaited {
            Awaited::One { object: other, .. } => *other == object,
            Awaited::Several { objects } => objects.contains(&object),
            Awaited::Call { .. } => false,
        };
        let waits: Vec<WaitId> =
            self.waits.iter().filter(|(_, wait)| is_for(wait)).map(|(id, _)| id).collect();
        for id in waits {
            if let Some(asker) = self.withdraw(id, actions) {
                let answer = failed(Code::Closed, "the object does not exist any more".to_owned());
                self.send(asker, answer, actions);
            }
        }
    }
}
