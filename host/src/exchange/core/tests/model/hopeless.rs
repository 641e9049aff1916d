//! Which waits cannot end: found by doing all that others could do.

use std::collections::BTreeSet;

use super::reference::{Reference, Thing, Waiter, Wants, failed};
use super::{CONDITION, LOCK, Model, PIPE, QUEUE};
use crate::exchange::core::event::{Action, Actor, Event, MemberId};
use crate::exchange::core::graph::DEADLOCK_TIME;
use crate::exchange::core::wait::Asker;
use crate::spec::exchange::{Act, Answer, Bytes, Code};

/// A worker that may be started, and a thread of the host: more than there are.
const ANOTHER: MemberId = u64::MAX;
const THREAD: u64 = u64::MAX;

impl Model {
    /// The waits that were told to be a deadlock can end by nothing, and each was the youngest.
    pub(super) fn check_deadlocks(&mut self, actions: &[Action]) {
        for action in actions {
            let Action::Answer { member, answer: Answer::Failed { code: Code::Deadlock, message } } = action
            else {
                continue;
            };
            assert!(!message.is_empty());
            let youngest = self.hopeless().into_iter().max().expect("its wait has an end");
            assert_eq!(self.reference.waiters[youngest].asker.member(), Some(*member));
            let asker = self.withdraw(youngest);
            self.reference.answer(asker, failed(Code::Deadlock));
        }
    }

    /// Time-outs pass, and then the time in which deadlocks are found.
    pub(super) fn pass_long(&mut self) {
        for _ in 0..3 {
            self.now += DEADLOCK_TIME;
            self.event(Event::Tick);
        }
        let hopeless = self.hopeless();
        assert!(hopeless.is_empty(), "{hopeless:?} wait for ever");
    }

    /// The waits that are left once all others have done all that they can do.
    fn hopeless(&self) -> Vec<usize> {
        let hangs = |waiter: &&Waiter| {
            let is_member = waiter.asker.member().is_some();
            is_member && waiter.until.is_none() && !matches!(waiter.wants, Wants::Call { .. })
        };
        let mut left: BTreeSet<MemberId> =
            self.reference.waiters.iter().filter(hangs).filter_map(|w| w.asker.member()).collect();
        let mut reference = self.reference.clone();
        // Other waits end: by their time-outs, by a return, by the host.
        reference.waiters.retain(|waiter| waiter.asker.member().is_some_and(|m| left.contains(&m)));
        reference.serve();
        loop {
            let before = left.len();
            // Twice: some need what others release.
            for (actor, objects) in [self.actors(&left), self.actors(&left)].concat() {
                do_all(&mut reference, actor, &objects);
            }
            let waits = |member: &MemberId| {
                reference.waiters.iter().any(|waiter| waiter.asker.member() == Some(*member))
            };
            left.retain(waits);
            if left.len() == before {
                let is_left = |waiter: &Waiter| waiter.asker.member().is_some_and(|m| left.contains(&m));
                return (0..self.reference.waiters.len())
                    .filter(|place| is_left(&self.reference.waiters[*place]))
                    .collect();
            }
        }
    }

    /// All that can act, with what each can use.
    fn actors(&self, left: &BTreeSet<MemberId>) -> Vec<(Asker, Vec<usize>)> {
        let few_or_all = |site| (0..super::granted_of(site).len()).collect::<Vec<_>>();
        let members = self.members.iter().filter(|(member, _)| !left.contains(member));
        let mut actors: Vec<(Asker, Vec<usize>)> = members
            .flat_map(|(member, model)| {
                // Its task may hold a lock that was leased, and have asked nothing.
                let tasks =
                    if model.task == model.known { vec![model.task] } else { vec![model.known, model.task] };
                let of_task = |task| (Asker::Task { member: *member, task }, few_or_all(model.site));
                tasks.into_iter().map(of_task).collect::<Vec<_>>()
            })
            .collect();
        for (site, capacity) in &self.capacities {
            let members = self.members.values().filter(|member| member.site == *site).count() as u64;
            if members < *capacity {
                actors.push((Asker::Task { member: ANOTHER, task: 1 }, few_or_all(*site)));
            }
        }
        // Threads of the host release what they hold, whatever handles there are.
        let owners = self.reference.things.iter().filter_map(|thing| match thing {
            Thing::Lock { owner: Some((Actor::Host { thread }, _)), .. } => Some(*thread),
            _ => None,
        });
        actors.extend(owners.map(|thread| (Asker::Host { ticket: 0, thread }, Vec::new())));
        let handles = self.handles.iter().copied().collect();
        actors.push((Asker::Host { ticket: 0, thread: THREAD }, handles));
        actors
    }
}

/// The actor does all that could help others, and does not wait.
fn do_all(reference: &mut Reference, asker: Asker, objects: &[usize]) {
    reference.release_of(asker.actor());
    for object in objects.iter().copied() {
        let acts = match object {
            QUEUE..PIPE => vec![
                Act::Get { most: 9, longest: u64::MAX },
                Act::Put { items: vec![Bytes(vec![0; 4])] },
                Act::TaskDone { count: 1 },
                Act::Close,
            ],
            CONDITION => vec![Act::Acquire, Act::Notify { count: 99 }, Act::Release { count: 1 }],
            PIPE..LOCK => vec![
                Act::Get { most: 1, longest: u64::MAX },
                Act::Put { items: vec![Bytes(vec![0; 4])] },
                Act::Close,
            ],
            _ => vec![Act::Release { count: 1 }, Act::Set, Act::Abort],
        };
        for act in acts {
            for _ in 0..if act == (Act::TaskDone { count: 1 }) { 200 } else { 1 } {
                try_one(reference, asker, object, act.clone());
            }
        }
    }
}

fn try_one(reference: &mut Reference, asker: Asker, object: usize, act: Act) {
    let wants = Wants::Call { call: 0 };
    reference.ask(Waiter { asker, wants, until: None, limit: None, stall: None }, (object, act));
    reference.waiters.retain(|waiter| waiter.asker != asker);
    reference.serve();
    // What it was given, it has taken.
    if let Some(member) = asker.member()
        && let Some(super::Given::Items(of, items)) = reference.given.remove(&member)
    {
        let bytes: usize = items.iter().map(|(_, item)| item.data.0.len()).sum();
        reference.items(of).handed -= bytes as u64;
    }
}
