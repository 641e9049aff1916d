//! What must hold after each event, and at the end.

use super::reference::{Given, Wants, failed};
use super::{Fate, MAX_BYTES, Model, OBJECTS, PIPE, QUEUE, QUEUE_BYTES, SMALL_LEN, SMALL_QUEUE, number_of};
use crate::exchange::core::event::{Action, Event, ObjectId};
use crate::exchange::core::wait::{Asker, Due};
use crate::spec::exchange::{Answer, Code, Item};
use std::collections::BTreeSet;

impl Model {
    /// Ends the waits that are due, the earliest first.
    pub(super) fn expire(&mut self) {
        loop {
            let times = self.reference.waiters.iter().enumerate().flat_map(|(place, waiter)| {
                let times = [
                    (waiter.until, Due::TimedOut),
                    (waiter.limit, Due::TimeIsOver),
                    (waiter.stall, Due::Stalled),
                ];
                times.into_iter().filter_map(move |(at, due)| Some((at?, place, due)))
            });
            let Some((at, place, due)) = times.min() else { return };
            if at > self.now {
                assert!(self.exchange.next_due().is_some_and(|due| due <= at), "the next tick is announced");
                return;
            }
            match due {
                Due::TimedOut => self.time_out(place),
                Due::TimeIsOver => {
                    let asker = self.withdraw(place);
                    self.reference.answer(asker, Answer::TimeIsOver);
                }
                Due::Stalled => {
                    let waiter = &mut self.reference.waiters[place];
                    waiter.stall = None;
                    let Asker::Task { member, task } = waiter.asker else { panic!("the host has no pool") };
                    self.members.get_mut(&member).unwrap().stalled = Some(task);
                    self.reference.expected.push(Action::Stalled { member });
                }
            }
        }
    }

    fn time_out(&mut self, place: usize) {
        let answer = match &self.reference.waiters[place].wants {
            Wants::Sleep { .. } => {
                self.reference.wake(place, false);
                return self.reference.serve();
            }
            Wants::Put { done, .. } if *done > 0 => Answer::Count(*done),
            Wants::Poll { .. } | Wants::Set { .. } => Answer::Flag(false),
            Wants::Several { .. } => Answer::Ready(Vec::new()),
            _ => failed(Code::TimedOut),
        };
        let asker = self.withdraw(place);
        self.reference.answer(asker, answer);
    }

    /// Items go to one taker, in the order in which each actor has put them.
    pub(super) fn check_answers(&mut self, actions: &[Action]) {
        let mut answered = BTreeSet::new();
        for action in actions {
            let (answer, member) = match action {
                Action::Answer { member, answer } => (answer, Some(*member)),
                Action::AnswerHost { ticket, answer } => {
                    assert!(answered.insert((None, Some(*ticket))), "it is answered twice");
                    (answer, None)
                }
                Action::Lease { .. } => panic!("a lock is leased twice"),
                Action::Credit { .. }
                | Action::Stalled { .. }
                | Action::Call { .. }
                | Action::Forget { .. } => continue,
            };
            assert!(member.is_none() || answered.insert((member, None)), "it is answered twice");
            let Answer::Items { items } = answer else { continue };
            for item in items {
                let number = number_of(item);
                assert_eq!(self.fates[number], Fate::Put, "item {number} is given to two");
                self.fates[number] = member.map_or(Fate::Taken, |member| Fate::Given { member });
                if !item.redelivered {
                    let last = self.seen.insert(self.puts[number], number);
                    assert!(last < Some(number), "item {number} is out of order");
                }
            }
        }
    }

    pub(super) fn check(&mut self) {
        self.check_waits();
        self.check_items();
        self.check_holds();
        self.check_leases();
    }

    /// The exchange waits for what the reference waits for. No wait is left that could be served.
    fn check_waits(&mut self) {
        let waits: Vec<Asker> = self.exchange.waits.iter().map(|(_, wait)| wait.asker).collect();
        let expected: Vec<Asker> = self.reference.waiters.iter().map(|waiter| waiter.asker).collect();
        assert_eq!(waits, expected);
        for object in 1..=OBJECTS as ObjectId {
            let exchange = &mut self.exchange;
            if let Some(slot) = exchange.objects.get_mut(&object) {
                let next = slot.object.as_mut().next(&mut exchange.waits);
                assert!(next.is_none(), "{next:?} could have been done");
            }
        }
    }

    /// No item is lost: it is where it was put, or a member has it, or it was taken. Items and bytes
    /// are bounded.
    fn check_items(&mut self) {
        let mut there = BTreeSet::new();
        for object in QUEUE..PIPE + 2 {
            let reference = self.reference.items(object);
            let (list, handed) = (reference.list.clone(), reference.handed);
            let bytes: usize = list.iter().map(|(_, item)| item.data.0.len()).sum();
            let id = object as ObjectId + 1;
            let Some(served) = self.exchange.object(id) else { continue };
            let Some(store) = served.store() else { continue };
            let mut items: Vec<Item> = store.items().cloned().collect();
            let bytes_there = store.bytes();
            match self.exchange.in_hands.get(&id) {
                Some(member) => {
                    items.splice(0..0, self.exchange.members[member].ahead.items().cloned());
                    // What was taken since the last look counts on.
                    assert!(bytes_there >= bytes as u64 + handed);
                }
                None => assert_eq!(bytes_there, bytes as u64 + handed),
            }
            assert!(items.iter().eq(list.iter().map(|(_, item)| item)), "object {object}");
            assert!(bytes_there <= if object == QUEUE { QUEUE_BYTES } else { MAX_BYTES });
            let kept = list.iter().filter(|(_, item)| !item.redelivered).count() as u64;
            assert!(object != SMALL_QUEUE || kept <= SMALL_LEN);
            there.extend(list.iter().map(|(_, item)| number_of(item)));
        }
        let given = self.reference.given.values().flat_map(|given| match given {
            Given::Items(_, items) => items.iter().map(|(_, item)| number_of(item)).collect(),
            Given::Notification(_) => Vec::new(),
        });
        let given: BTreeSet<usize> = given.collect();
        for (number, fate) in self.fates.iter().enumerate() {
            assert_eq!(given.contains(&number), matches!(fate, Fate::Given { .. }), "item {number}");
            assert!(!there.contains(&number) || *fate == Fate::Put, "item {number} is there and taken");
        }
    }

    /// What is over holds nothing.
    fn check_holds(&self) {
        for slot in self.exchange.objects.values() {
            let owner = slot.object.as_ref().owner();
            if let Some(crate::exchange::core::event::Actor::Task { member, task }) = owner {
                let member = &self.members[&member];
                assert!([member.known, member.task].contains(&task), "{member:?} holds something");
            }
        }
    }

    /// A lock that is leased is leased to one member, which is there, and nothing waits for it.
    fn check_leases(&self) {
        let mut objects = BTreeSet::new();
        for lessee in self.leases.keys() {
            assert!(self.members.contains_key(&lessee.member));
            assert!(objects.insert(lessee.object), "object {} is leased twice", lessee.object);
            let object = lessee.object as usize;
            let waits = self.reference.waiters.iter().any(|waiter| waiter.wants.is_about(object));
            assert!(!waits, "something waits for object {object}, which is leased");
        }
    }

    /// Everything ends. Nothing is left.
    pub(super) fn finish(mut self) {
        while !self.members.is_empty() {
            self.op(super::Op::Die { member: 0 });
        }
        self.resize(1, 0);
        self.resize(2, 0);
        let Model { mut exchange, now, reference, .. } = self;
        let mut answered = 0;
        for object in 1..=OBJECTS as ObjectId {
            let mut actions = Vec::new();
            exchange.on(now, Event::Abandoned { object }, &mut actions);
            answered += actions.len();
        }
        assert_eq!(answered, reference.waiters.len(), "the waits of the host end with the objects");
        assert_eq!(exchange.waits.next_due(), None);
        assert!(exchange.is_empty(), "{exchange:?}");
    }
}
