//! What a worker does without asking: it takes items that it has ahead, and posts.

use super::reference::{Waiter, Wants};
use super::{Model, granted};
use crate::exchange::core::Hand;
use crate::exchange::core::event::{Action, Event, MemberId};
use crate::exchange::core::wait::Asker;
use crate::spec::exchange::{self, Act, Answer, Bytes, Item};

impl Model {
    /// Keeps what an answer gives behind the one item that was asked for.
    pub(super) fn keep_ahead(&mut self, action: &mut Action) {
        if let Action::Answer { member, answer: Answer::Items { items } } = action
            && let Some(model) = self.members.get_mut(member)
            && let Some(object) = model.got_one_of
            && items.len() > 1
        {
            (model.ahead_of, model.ahead) = (object, items.drain(1..).collect());
        }
    }

    /// Whether an action is about credit. How much there is, is no matter of the reference.
    pub(super) fn keep_credit(&mut self, action: &Action) -> bool {
        let Action::Credit { member, object, credit } = action else { return false };
        let held = self.members.get_mut(member).unwrap().credits.entry(*object).or_default();
        *held = if *credit == 0 { 0 } else { *held + credit };
        true
    }

    /// Whether the worker has credit for a put. Then that is the same as a request without an answer.
    pub(super) fn posts(&mut self, member: MemberId, object: usize, items: &[Bytes]) -> bool {
        let model = self.members.get_mut(&member).unwrap();
        let cost = items.iter().map(|data| exchange::cost(data.0.len())).sum();
        let held = model.credits.entry(granted(object)).or_default();
        let Some(left) = held.checked_sub(cost) else { return false };
        *held = left;
        let (task, taken) = (model.task, model.taken);
        self.acknowledge(member);
        let (asker, wants) = (Asker::Task { member, task }, Wants::Call { call: 0 });
        let waiter = Waiter { asker, wants, until: None, limit: None, stall: None };
        self.reference.ask(waiter, (object, Act::Put { items: items.to_vec() }));
        let is_its_own =
            |action: &Action| matches!(action, Action::Answer { member: of, .. } if *of == member);
        self.reference.expected.retain(|action| !is_its_own(action));
        let (object, items) = (granted(object), items.to_vec());
        self.event(Event::Posted { member, task, taken, object, items });
        true
    }

    /// Whether the worker takes an item that it has ahead. That is the same as a request for one.
    pub(super) fn takes_ahead(&mut self, member: MemberId, object: usize, longest: u64) -> bool {
        let model = self.members.get_mut(&member).unwrap();
        let left = u32::try_from(model.ahead.len()).unwrap();
        let fits = |item: &Item| item.data.0.len() as u64 <= longest;
        if model.ahead_of != object || !model.ahead.front().is_some_and(fits) {
            return false;
        }
        if model.word.left() != left {
            model.ahead.clear();
            return false;
        }
        model.word.set(left - 1);
        model.taken += 1;
        let items = vec![model.ahead.pop_front().unwrap()];
        let asker = Asker::Task { member, task: model.task };
        self.acknowledge(member);
        let wants = Wants::Call { call: 0 };
        let waiter = Waiter { asker, wants, until: None, limit: None, stall: None };
        self.reference.ask(waiter, (object, Act::Get { most: 1, longest }));
        let actions = [Action::Answer { member, answer: Answer::Items { items } }];
        assert_eq!(std::mem::take(&mut self.reference.expected), actions);
        self.check_answers(&actions);
        self.check();
        true
    }
}
