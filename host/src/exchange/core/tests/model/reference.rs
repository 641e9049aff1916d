//! Objects and waits as simple lists: what the exchange must do, without any thought for its speed.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::exchange::core::event::{Action, Actor, CallId};
use crate::exchange::core::wait::Asker;
use crate::spec::exchange::{Act, Answer, BarrierStatus, Bytes, Code, Item, QueueStatus};

/// An item, and the place at which it was put.
pub(super) type Numbered = (u64, Item);

#[derive(Debug, Clone)]
pub(super) enum Thing {
    Queue(Box<Items>),
    End { items: Box<Items>, other: usize, is_last: bool },
    Lock { is_recursive: bool, owner: Option<(Actor, u32)>, died: bool },
    Semaphore { value: u64, most: Option<u64>, held: BTreeMap<Actor, u64> },
    Flag(bool),
    Barrier { parties: usize, is_broken: bool },
}

#[derive(Debug, Clone)]
pub(super) struct Items {
    pub(super) list: Vec<Numbered>,
    pub(super) max_len: u64,
    pub(super) max_bytes: u64,
    /// Of items that may come back.
    pub(super) handed: u64,
    pub(super) is_closed: bool,
    pub(super) unfinished: u64,
    pub(super) last: u64,
}

impl Items {
    pub(super) fn new(max_len: u64, max_bytes: u64) -> Box<Items> {
        let list = Vec::new();
        Box::new(Items { list, max_len, max_bytes, handed: 0, is_closed: false, unfinished: 0, last: 0 })
    }

    fn has_room(&self, data: &Bytes) -> bool {
        let bytes: usize = self.list.iter().map(|(_, item)| item.data.0.len()).sum();
        (self.list.len() as u64) < self.max_len
            && self.handed + (bytes + data.0.len()) as u64 <= self.max_bytes
    }

    fn is_too_long(&self, data: &Bytes) -> bool {
        data.0.len() as u64 > self.max_bytes
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wants {
    Put { to: usize, items: Vec<Bytes>, done: u64 },
    Get { of: usize, most: u32, longest: u64 },
    Poll { of: usize },
    Join { of: usize },
    Acquire { of: usize },
    Set { of: usize },
    Sleep { of: usize, count: u32 },
    Reacquire { of: usize, count: u32, notified: bool },
    Parties { of: usize },
    Several { of: Vec<usize> },
    Call { call: CallId },
}

impl Wants {
    pub(super) fn is_about(&self, object: usize) -> bool {
        match self {
            Wants::Several { of } => of.contains(&object),
            Wants::Call { .. } => false,
            other => other.line().1 == Some(object),
        }
    }

    /// Waits with the same line are served in their order.
    fn line(&self) -> (u8, Option<usize>) {
        match self {
            Wants::Several { .. } => (0, None),
            Wants::Poll { of } => (1, Some(*of)),
            Wants::Get { of, .. } => (2, Some(*of)),
            Wants::Put { to, .. } => (3, Some(*to)),
            Wants::Join { of } => (4, Some(*of)),
            Wants::Acquire { of } | Wants::Reacquire { of, .. } => (5, Some(*of)),
            Wants::Set { of } => (6, Some(*of)),
            Wants::Parties { of } => (7, Some(*of)),
            Wants::Sleep { of, .. } => (8, Some(*of)),
            Wants::Call { .. } => (9, None),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Waiter {
    pub(super) asker: Asker,
    pub(super) wants: Wants,
    pub(super) until: Option<Duration>,
    pub(super) limit: Option<Duration>,
    pub(super) stall: Option<Duration>,
}

/// What a member has been given, and may give back.
#[derive(Debug, Clone)]
pub(super) enum Given {
    Items(usize, Vec<Numbered>),
    Notification(usize),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Reference {
    pub(super) things: Vec<Thing>,
    /// In the order in which they began.
    pub(super) waiters: Vec<Waiter>,
    /// By member.
    pub(super) given: BTreeMap<u64, Given>,
    pub(super) expected: Vec<Action>,
    /// Items that were put. A put of several may go on after a get.
    puts: u64,
}

impl Reference {
    pub(super) fn items(&mut self, thing: usize) -> &mut Items {
        match &mut self.things[thing] {
            Thing::Queue(items) | Thing::End { items, .. } => items,
            other => panic!("{other:?} has no items"),
        }
    }

    pub(super) fn answer(&mut self, asker: Asker, answer: Answer) {
        self.expected.push(match asker {
            Asker::Task { member, .. } => Action::Answer { member, answer },
            Asker::Host { ticket, .. } => Action::AnswerHost { ticket, answer },
        });
    }

    /// The actor asks, and waits if it cannot be served at once.
    pub(super) fn ask(&mut self, waiter: Waiter, act: (usize, Act)) {
        let asker = waiter.asker;
        match self.wants(asker.actor(), act) {
            Ok(wants) => self.begin(Waiter { wants, ..waiter }),
            Err(answer) => {
                self.answer(asker, answer);
                self.serve();
            }
        }
    }

    pub(super) fn begin(&mut self, waiter: Waiter) {
        // An owner would wait for itself.
        let is_owner = match waiter.wants {
            Wants::Acquire { of } => matches!(self.things[of],
                Thing::Lock { is_recursive: true, owner: Some((owner, _)), .. }
                    if owner == waiter.asker.actor()),
            _ => false,
        };
        let place = if is_owner { 0 } else { self.waiters.len() };
        self.waiters.insert(place, waiter);
        self.serve();
    }

    /// What the act must wait for, or its answer.
    fn wants(&mut self, actor: Actor, (of, act): (usize, Act)) -> Result<Wants, Answer> {
        if let Act::Put { items } = &act {
            return self.wants_to_put(of, items.clone());
        }
        match &self.things[of] {
            Thing::Queue(_) => self.wants_of_queue(of, act),
            Thing::End { .. } => self.wants_of_end(of, act),
            Thing::Lock { .. } => self.wants_of_lock(actor, of, act),
            Thing::Semaphore { .. } => self.wants_of_semaphore(actor, of, act),
            Thing::Flag(_) => self.wants_of_flag(of, act),
            Thing::Barrier { .. } => self.wants_of_barrier(of, act),
        }
    }

    fn wants_of_queue(&mut self, of: usize, act: Act) -> Result<Wants, Answer> {
        let items = self.items(of);
        match act {
            Act::Get { most, longest } => return Ok(Wants::Get { of, most, longest }),
            Act::Join => return Ok(Wants::Join { of }),
            Act::TaskDone { count } => match items.unfinished.checked_sub(count.into()) {
                Some(rest) => items.unfinished = rest,
                None => return Err(failed(Code::Invalid)),
            },
            Act::Status => {
                return Err(Answer::Queue(QueueStatus {
                    len: items.list.len() as u64,
                    max_len: (items.max_len < 4096).then_some(items.max_len),
                    unfinished: items.unfinished,
                    is_closed: items.is_closed,
                }));
            }
            Act::Close => items.is_closed = true,
            _ => return Err(failed(Code::Invalid)),
        }
        Err(Answer::Done)
    }

    fn wants_of_end(&mut self, of: usize, act: Act) -> Result<Wants, Answer> {
        let is_closed = self.items(of).is_closed;
        match act {
            Act::Close => {
                self.close_end(of);
                Err(Answer::Done)
            }
            Act::Get { .. } | Act::Poll if is_closed => Err(failed(Code::Closed)),
            Act::Get { longest, .. } => Ok(Wants::Get { of, most: 1, longest }),
            Act::Poll => Ok(Wants::Poll { of }),
            _ => Err(failed(Code::Invalid)),
        }
    }

    fn wants_of_lock(&mut self, actor: Actor, of: usize, act: Act) -> Result<Wants, Answer> {
        let Thing::Lock { is_recursive, owner, .. } = &mut self.things[of] else { panic!("not a lock") };
        let is_held = owner.as_ref().is_some_and(|(holder, _)| may_release(*holder, actor, *is_recursive));
        match (act, owner) {
            (Act::Acquire, _) => Ok(Wants::Acquire { of }),
            (Act::Status, owner) if of != super::CONDITION => Err(Answer::Flag(owner.is_some())),
            (Act::Release { .. }, lock @ Some(_)) if is_held => {
                *lock = lock.map(|(holder, count)| (holder, count - 1)).filter(|(_, count)| *count > 0);
                Err(Answer::Done)
            }
            (Act::Wait, lock @ Some(_)) if is_held && of == super::CONDITION => {
                let (_, count) = lock.take().expect("it is held");
                Ok(Wants::Sleep { of, count })
            }
            (Act::Notify { count }, _) if is_held && of == super::CONDITION => {
                self.notify(of, count);
                Err(Answer::Done)
            }
            _ => Err(failed(Code::Invalid)),
        }
    }

    fn wants_of_semaphore(&mut self, actor: Actor, of: usize, act: Act) -> Result<Wants, Answer> {
        let Thing::Semaphore { value, most, held } = &mut self.things[of] else { panic!("no semaphore") };
        match act {
            Act::Acquire => Ok(Wants::Acquire { of }),
            Act::Status => Err(Answer::Count(*value)),
            Act::Release { count } if most.is_none_or(|most| *value + u64::from(count) <= most) => {
                *value += u64::from(count);
                for _ in 0..count {
                    let own = Some(holder(actor)).filter(|own| held.contains_key(own));
                    let Some(from) = own.or(held.keys().next().copied()) else { break };
                    *held.get_mut(&from).unwrap() -= 1;
                    held.retain(|_, units| *units > 0);
                }
                Err(Answer::Done)
            }
            _ => Err(failed(Code::Invalid)),
        }
    }

    fn wants_of_flag(&mut self, of: usize, act: Act) -> Result<Wants, Answer> {
        let Thing::Flag(flag) = &mut self.things[of] else { panic!("not a flag") };
        match act {
            Act::Wait => return Ok(Wants::Set { of }),
            Act::Status => return Err(Answer::Flag(*flag)),
            Act::Set | Act::Clear => *flag = act == Act::Set,
            _ => return Err(failed(Code::Invalid)),
        }
        Err(Answer::Done)
    }

    fn wants_of_barrier(&mut self, of: usize, act: Act) -> Result<Wants, Answer> {
        let waiting = self.parties_of(of).len();
        let Thing::Barrier { parties, is_broken } = &mut self.things[of] else { panic!("not a barrier") };
        match act {
            Act::Wait => return Ok(Wants::Parties { of }),
            Act::Abort | Act::Reset => *is_broken = act == Act::Abort,
            Act::Status => {
                let [parties, waiting] = [*parties, waiting].map(|number| u32::try_from(number).unwrap());
                return Err(Answer::Barrier(BarrierStatus { parties, waiting, is_broken: *is_broken }));
            }
            _ => return Err(failed(Code::Invalid)),
        }
        self.break_waiters(of);
        Err(Answer::Done)
    }

    fn wants_to_put(&mut self, of: usize, mut items: Vec<Bytes>) -> Result<Wants, Answer> {
        let to = match &self.things[of] {
            Thing::End { items, .. } if items.is_closed => return Err(failed(Code::Closed)),
            Thing::End { other, .. } => *other,
            _ => of,
        };
        let store = self.items(to);
        let fitting = items.iter().take_while(|data| !store.is_too_long(data)).count();
        if fitting == 0 {
            return Err(failed(Code::TooLarge));
        }
        items.truncate(fitting);
        Ok(Wants::Put { to, items, done: 0 })
    }

    pub(super) fn close_end(&mut self, of: usize) {
        let Thing::End { items, other, .. } = &mut self.things[of] else { panic!("not an end") };
        items.is_closed = true;
        items.list.clear();
        let other = *other;
        let Thing::End { is_last, .. } = &mut self.things[other] else { panic!("not an end") };
        *is_last = true;
    }

    pub(super) fn notify(&mut self, of: usize, count: u32) {
        for _ in 0..count {
            let is_asleep = |w: &Waiter| matches!(w.wants, Wants::Sleep { of: other, .. } if other == of);
            let Some(place) = self.waiters.iter().position(is_asleep) else { return };
            self.wake(place, true);
        }
    }

    /// A sleeper needs the lock of its condition again.
    pub(super) fn wake(&mut self, place: usize, notified: bool) {
        let mut waiter = self.waiters.remove(place);
        let Wants::Sleep { of, count } = waiter.wants else { panic!("it does not sleep") };
        waiter.wants = Wants::Reacquire { of, count, notified };
        waiter.until = None;
        self.waiters.push(waiter);
    }

    fn parties_of(&self, of: usize) -> Vec<usize> {
        let waits = |place: &usize| self.waiters[*place].wants == Wants::Parties { of };
        (0..self.waiters.len()).filter(waits).collect()
    }

    pub(super) fn break_waiters(&mut self, of: usize) {
        while let Some(place) = self.waiters.iter().position(|w| w.wants == Wants::Parties { of }) {
            let waiter = self.waiters.remove(place);
            self.answer(waiter.asker, failed(Code::Broken));
        }
    }

    pub(super) fn is_ready(&self, thing: usize) -> bool {
        match &self.things[thing] {
            Thing::Queue(items) => items.is_closed || !items.list.is_empty(),
            Thing::End { items, is_last, .. } => items.is_closed || *is_last || !items.list.is_empty(),
            _ => false,
        }
    }

    /// Serves waits until none is left that can be served.
    pub(super) fn serve(&mut self) {
        loop {
            let before = self.puts;
            let mut order: Vec<usize> = (0..self.waiters.len()).collect();
            order.sort_by_key(|place| (self.waiters[*place].wants.line().0, *place));
            let is_first = |place: usize| {
                let line = self.waiters[place].wants.line();
                line.1.is_none() || !self.waiters[..place].iter().any(|w| w.wants.line() == line)
            };
            let firsts: Vec<usize> = order.into_iter().filter(|place| is_first(*place)).collect();
            let served = firsts.into_iter().find_map(|place| Some((place, self.attempt(place)?)));
            let Some((place, answer)) = served else {
                if self.puts == before {
                    return;
                }
                continue;
            };
            let waiter = self.waiters.remove(place);
            self.answer(waiter.asker, answer);
        }
    }

    fn attempt(&mut self, place: usize) -> Option<Answer> {
        let Waiter { asker, wants, .. } = self.waiters[place].clone();
        let actor = asker.actor();
        match wants {
            Wants::Several { of } => {
                let ready = |(place, thing): (u32, &usize)| self.is_ready(*thing).then_some(place);
                let ready: Vec<u32> = (0..).zip(&of).filter_map(ready).collect();
                (!ready.is_empty()).then_some(Answer::Ready(ready))
            }
            Wants::Poll { of } if self.items(of).is_closed => Some(failed(Code::Closed)),
            Wants::Poll { of } => self.is_ready(of).then_some(Answer::Flag(true)),
            Wants::Get { of, most, longest } => self.get(asker, of, most, longest),
            Wants::Put { to, .. } => self.put(place, to),
            Wants::Join { of } => (self.items(of).unfinished == 0).then_some(Answer::Done),
            Wants::Set { of } => match self.things[of] {
                Thing::Flag(flag) => flag.then_some(Answer::Flag(true)),
                _ => panic!("not a flag"),
            },
            Wants::Acquire { of } => self.acquire(of, actor, 1),
            Wants::Reacquire { of, count, notified } => {
                let Thing::Lock { died, .. } = &self.things[of] else { panic!("not a condition") };
                let died_before = *died;
                self.acquire(of, actor, count)?;
                if let Thing::Lock { died, .. } = &mut self.things[of] {
                    *died = died_before;
                }
                if let (Asker::Task { member, .. }, true) = (asker, notified) {
                    self.given.insert(member, Given::Notification(of));
                }
                Some(Answer::Flag(notified))
            }
            Wants::Parties { of } => self.pass_barrier(of),
            Wants::Sleep { .. } | Wants::Call { .. } => None,
        }
    }

    /// All parties are answered at once; the last of them by the caller.
    fn pass_barrier(&mut self, of: usize) -> Option<Answer> {
        let Thing::Barrier { parties, is_broken } = self.things[of] else { panic!("not a barrier") };
        if is_broken {
            return Some(failed(Code::Broken));
        }
        let waiting = self.parties_of(of);
        if waiting.len() < parties {
            return None;
        }
        for (number, place) in waiting.iter().enumerate().skip(1).rev() {
            let waiter = self.waiters.remove(*place);
            self.answer(waiter.asker, Answer::Count(number as u64));
        }
        Some(Answer::Count(0))
    }

    fn acquire(&mut self, of: usize, actor: Actor, count: u32) -> Option<Answer> {
        match &mut self.things[of] {
            Thing::Lock { is_recursive: true, owner: Some((owner, held)), .. } if *owner == actor => {
                *held += count;
                Some(Answer::Acquired { owner_died: false })
            }
            Thing::Lock { owner: owner @ None, died, .. } => {
                *owner = Some((actor, count));
                Some(Answer::Acquired { owner_died: std::mem::take(died) })
            }
            Thing::Semaphore { value, held, .. } if *value > 0 => {
                *value -= 1;
                *held.entry(holder(actor)).or_default() += 1;
                Some(Answer::Done)
            }
            _ => None,
        }
    }

    fn get(&mut self, asker: Asker, of: usize, most: u32, longest: u64) -> Option<Answer> {
        let (is_end, is_last) = match &self.things[of] {
            Thing::End { is_last, .. } => (true, *is_last),
            _ => (false, false),
        };
        let items = self.items(of);
        let Some((_, first)) = items.list.first() else {
            return match (items.is_closed, is_last) {
                (true, _) => Some(failed(Code::Closed)),
                (false, true) => Some(failed(Code::Eof)),
                (false, false) => None,
            };
        };
        if first.data.0.len() as u64 > longest {
            if is_end {
                items.list.remove(0);
            }
            return Some(failed(Code::TooLarge));
        }
        let mut taken: Vec<Numbered> = Vec::new();
        let mut bytes = 0;
        while let Some((_, item)) = items.list.first()
            && taken.len() < most as usize
            && (is_end || bytes + item.data.0.len() as u64 <= longest)
        {
            bytes += item.data.0.len() as u64;
            taken.push(items.list.remove(0));
        }
        if let Asker::Task { member, .. } = asker {
            items.handed += bytes;
            self.given.insert(member, Given::Items(of, taken.clone()));
        }
        Some(Answer::Items { items: taken.into_iter().map(|(_, item)| item).collect() })
    }

    fn put(&mut self, place: usize, to: usize) -> Option<Answer> {
        if let Thing::End { items, is_last, .. } = &self.things[to]
            && (items.is_closed || *is_last)
        {
            return Some(failed(Code::Closed));
        }
        let Wants::Put { mut items, mut done, .. } = self.waiters[place].wants.clone() else {
            panic!("it does not put")
        };
        let mut puts = self.puts;
        let store = self.items(to);
        if store.is_closed {
            return Some(if done == 0 { failed(Code::Closed) } else { Answer::Count(done) });
        }
        while !items.is_empty() && store.has_room(&items[0]) {
            store.last += 1;
            store.unfinished += 1;
            store.list.push((store.last, Item { data: items.remove(0), redelivered: false }));
            done += 1;
            puts += 1;
        }
        self.puts = puts;
        let is_done = items.is_empty();
        self.waiters[place].wants = Wants::Put { to, items, done };
        is_done.then_some(Answer::Count(done))
    }

    /// The task is over.
    pub(super) fn release_of(&mut self, actor: Actor) {
        for thing in &mut self.things {
            match thing {
                Thing::Lock { owner, died, .. } if owner.is_some_and(|(owner, _)| owner == actor) => {
                    *owner = None;
                    *died = true;
                }
                Thing::Semaphore { value, held, .. } => *value += held.remove(&actor).unwrap_or_default(),
                _ => {}
            }
        }
        self.serve();
    }
}

fn holder(actor: Actor) -> Actor {
    match actor {
        Actor::Host { .. } => Actor::Host { thread: 0 },
        Actor::Task { .. } => actor,
    }
}

fn may_release(owner: Actor, actor: Actor, is_recursive: bool) -> bool {
    let is_host = |actor| matches!(actor, Actor::Host { .. });
    owner == actor || !is_recursive && is_host(owner) && is_host(actor)
}

pub(super) fn failed(code: Code) -> Answer {
    Answer::Failed { code, message: String::new() }
}
