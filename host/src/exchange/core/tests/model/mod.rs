//! The exchange does what simple lists do, through anything that can happen in any order.
//!
//! [`op`] makes up what happens. [`reference`] says what follows. `check` has what must always hold, whatever
//! the reference says, and `flow` what a worker does without asking.

mod check;
mod flow;
mod hopeless;
mod op;
mod reference;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;

use self::op::{Does, Op};
use self::reference::{Given, Items, Reference, Thing, Waiter, Wants};
use crate::exchange::core::event::{
    Action, Actor, CallId, Event, Granting, Lessee, MemberId, ObjectId, ObjectSpec, SiteId,
};
use crate::exchange::core::tests::Word;
use crate::exchange::core::wait::Asker;
use crate::exchange::core::{Exchange, STALL_TIME};
use crate::spec::exchange::{self, Act, Answer, Ask, Bytes, Granted, Item, ObjectKind};
use crate::spec::lease::Lease;

/// The objects by their positions. An id is one more.
const QUEUE: usize = 0;
const SMALL_QUEUE: usize = 1;
const PIPE: usize = 2;
const LOCK: usize = 4;
const RLOCK: usize = 5;
const SEMAPHORE: usize = 6;
const CONDITION: usize = 7;
const FLAG: usize = 8;
const BARRIER: usize = 9;
const OBJECTS: usize = 10;
/// The objects before this are granted to both sites.
const FEW_OBJECTS: usize = RLOCK + 1;

/// Few, so that they are often reached.
const SMALL_LEN: u64 = 3;
const MAX_BYTES: u64 = 40;
/// So many that members are given credit.
const QUEUE_BYTES: u64 = 1 << 20;

/// A worker as it knows itself.
#[derive(Debug, Default)]
struct ModelMember {
    site: SiteId,
    task: u64,
    /// The task that has asked last.
    known: u64,
    cancelled: u64,
    /// The jobs of its tasks, and whether they are wanted.
    jobs: BTreeMap<u64, (u64, bool)>,
    /// The pool was told that this task waits.
    stalled: Option<u64>,
    /// The last task that is over.
    ended: Option<u64>,
    /// What its task has acquired by a lease and not released by it.
    by_lease: BTreeSet<Granted>,
    /// The object of the last request, if that was for one item.
    got_one_of: Option<usize>,
    /// The items that its worker has ahead, and their object.
    ahead: VecDeque<Item>,
    ahead_of: usize,
    word: Word,
    /// How many items it has taken from there.
    taken: u64,
    /// What its task may post.
    credits: BTreeMap<Granted, u64>,
}

impl ModelMember {
    fn is_unwanted(&self, task: u64) -> bool {
        self.jobs.get(&task).is_some_and(|(_, is_wanted)| !is_wanted)
    }

    fn is_cancelled(&self, task: u64) -> bool {
        (task <= self.cancelled || self.is_unwanted(task)) && self.ended.is_none_or(|ended| ended < task)
    }
}

/// Where an item is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// A put of it has begun.
    Put,
    /// A member was given it and has not acknowledged it.
    Given {
        member: MemberId,
    },
    Taken,
    /// Its end of the pipe is closed, or it was too long for its receiver, or it was never put.
    Gone,
}

struct Model {
    exchange: Exchange,
    reference: Reference,
    now: Duration,
    members: BTreeMap<MemberId, ModelMember>,
    /// What the words of the leases say.
    leases: BTreeMap<Lessee, Lease>,
    joined: u64,
    tickets: u64,
    calls: u64,
    /// Items by their contents.
    fates: Vec<Fate>,
    /// By object and producer: the last item that was given for the first time.
    seen: BTreeMap<(usize, u64), usize>,
    /// The object and the producer of each item.
    puts: Vec<(usize, u64)>,
    abandoned: BTreeSet<usize>,
    /// The objects of which the host has a handle.
    handles: BTreeSet<usize>,
    /// By site.
    capacities: BTreeMap<SiteId, u64>,
}

impl Model {
    fn new() -> Model {
        let mut model = Model {
            exchange: Exchange::default(),
            reference: Reference::default(),
            now: Duration::ZERO,
            members: BTreeMap::new(),
            leases: BTreeMap::new(),
            joined: 0,
            tickets: 0,
            calls: 0,
            fates: Vec::new(),
            seen: BTreeMap::new(),
            puts: Vec::new(),
            abandoned: BTreeSet::new(),
            handles: (0..OBJECTS).collect(),
            capacities: BTreeMap::new(),
        };
        let lock = |is_recursive| Thing::Lock { is_recursive, owner: None, died: false };
        let end = |other| Thing::End { items: Items::new(4096, MAX_BYTES), other, is_last: false };
        model.reference.things = vec![
            Thing::Queue(Items::new(4096, QUEUE_BYTES)),
            Thing::Queue(Items::new(SMALL_LEN, MAX_BYTES)),
            end(PIPE + 1),
            end(PIPE),
            lock(false),
            lock(true),
            Thing::Semaphore { value: 2, most: Some(2), held: BTreeMap::new() },
            lock(true),
            Thing::Flag(false),
            Thing::Barrier { parties: 3, is_broken: false },
        ];
        let id = |place: usize| place as ObjectId + 1;
        let queue = |max_len, max_bytes| ObjectSpec::Queue { max_len, max_bytes, joinable: true };
        let ends = [id(PIPE), id(PIPE + 1)];
        let specs = [
            (QUEUE, queue(None, QUEUE_BYTES)),
            (SMALL_QUEUE, queue(Some(SMALL_LEN), MAX_BYTES)),
            (PIPE, ObjectSpec::Pipe { ends, duplex: true, max_bytes: MAX_BYTES }),
            (LOCK, ObjectSpec::Lock),
            (RLOCK, ObjectSpec::RLock),
            (SEMAPHORE, ObjectSpec::Semaphore { value: 2, bounded: true }),
            (CONDITION, ObjectSpec::Condition),
            (FLAG, ObjectSpec::Event),
            (BARRIER, ObjectSpec::Barrier { parties: 3 }),
        ];
        for (place, spec) in specs {
            model.event(Event::Made { object: id(place), spec });
        }
        for place in 0..OBJECTS {
            model.event(Event::Handles { object: id(place), count: 1 });
        }
        model.resize(1, 3);
        model.resize(2, 2);
        model
    }

    /// Tells the exchange. The reference knows already.
    fn event(&mut self, event: Event) {
        let mut actions = Vec::new();
        while let Some(lessee) = self.exchange.lease_before(&event) {
            let lease = self.leases.remove(&lessee).expect("only a lease that was given is taken back");
            self.exchange.recalled(lessee, lease);
        }
        self.exchange.on(self.now, event.clone(), &mut actions);
        actions.retain(|action| match action {
            Action::Lease { lessee, lease } => {
                self.members.get_mut(&lessee.member).unwrap().by_lease.insert(lessee.object);
                self.leases.insert(*lessee, *lease).is_some()
            }
            _ => true,
        });
        self.expire();
        self.check_deadlocks(&actions);
        actions.iter_mut().for_each(|action| self.keep_ahead(action));
        actions.retain(|action| !self.keep_credit(action));
        self.check_answers(&actions);
        let mut actions: Vec<Action> = actions.into_iter().map(without_message).collect();
        let mut expected = std::mem::take(&mut self.reference.expected);
        for list in [&mut actions, &mut expected] {
            list.sort_by_key(|action| format!("{action:?}"));
        }
        assert_eq!(actions, expected, "after {event:?}");
        self.check();
    }

    fn op(&mut self, op: Op) {
        match op {
            Op::Join { site } => self.join(site),
            Op::Resize { site, capacity } => self.resize(site, capacity),
            Op::Handles { object, has } => self.handles(object, has),
            Op::NoHandles => (0..OBJECTS).for_each(|object| self.handles(object, false)),
            Op::Ask { member, does, timeout, left } => self.member_asks(member, does, timeout, left),
            Op::HostAsk { thread, does, timeout } => self.host_asks(thread, does, timeout),
            Op::Return { call } => self.call_returns(call),
            Op::NextTask { member } => self.next_task(member),
            Op::End { member, has_returned } => self.end(member, has_returned),
            Op::Assign { member, count, job, is_wanted } => self.assign(member, count, job, is_wanted),
            Op::Unwant { site, job } => self.unwant(site, job),
            Op::Cancel { member, ahead } => self.cancel(member, ahead),
            Op::Die { member } => self.die(member),
            Op::Pass { millis } => {
                self.now += Duration::from_millis(millis);
                self.event(Event::Tick);
            }
            Op::PassLong => self.pass_long(),
            Op::Abandon { end } => self.abandon(PIPE + end),
        }
    }

    fn join(&mut self, site: SiteId) {
        let members = self.members.values().filter(|member| member.site == site).count() as u64;
        if members >= self.capacities[&site] {
            return;
        }
        self.joined += 1;
        let member = self.joined;
        let granting = |object| Granting { name: String::new(), kind: ObjectKind::Queue, object };
        let granted = granted_of(site).into_iter().map(granting).collect();
        self.members.insert(member, ModelMember { site, task: 1, ..ModelMember::default() });
        self.event(Event::Joined { member, site, label: format!("PoolWorker-{member}"), granted });
        let word = self.members[&member].word.clone();
        self.exchange.give_hand(member, Box::new(word));
    }

    fn resize(&mut self, site: SiteId, capacity: u64) {
        self.capacities.insert(site, capacity);
        self.event(Event::Site { site, capacity, granted: granted_of(site) });
    }

    fn handles(&mut self, object: usize, has: bool) {
        // A thread of the host waits by a handle.
        let uses = |waiter: &Waiter| {
            let is_host = waiter.asker.member().is_none();
            let other = if object == PIPE { PIPE + 1 } else { PIPE };
            let is_about_end = (PIPE..LOCK).contains(&object) && waiter.wants.is_about(other);
            is_host && (is_about_end || waiter.wants.is_about(object))
        };
        if !has && self.reference.waiters.iter().any(uses) {
            return;
        }
        let count = u64::from(has);
        if has {
            self.handles.insert(object);
        } else {
            self.handles.remove(&object);
        }
        self.event(Event::Handles { object: object as ObjectId + 1, count });
    }

    fn any(&self, member: usize) -> Option<MemberId> {
        self.members.keys().copied().nth(member % self.members.len().max(1))
    }

    /// A member without an open request.
    fn idle(&self, member: usize) -> Option<MemberId> {
        self.any(member).filter(|member| self.waiter_of(*member).is_none())
    }

    fn waiter_of(&self, member: MemberId) -> Option<usize> {
        self.reference.waiters.iter().position(|waiter| waiter.asker.member() == Some(member))
    }

    /// The act, with new contents for the items that are put by `asker`.
    fn act(&mut self, does: &Does, asker: u64) -> Option<(usize, Act)> {
        match does {
            Does::Put { object, lens } => {
                let mut items = Vec::new();
                for len in lens {
                    let mut data = u32::try_from(self.fates.len()).unwrap().to_le_bytes().to_vec();
                    data.resize(*len, 0);
                    items.push(Bytes(data));
                    self.fates.push(Fate::Put);
                    self.puts.push((*object, asker));
                }
                Some((*object, Act::Put { items }))
            }
            Does::Act { object, act } => Some((*object, act.clone())),
            Does::Wait { .. } | Does::Call => None,
        }
    }

    /// What the member's worker does without a message. `false`: it must ask.
    fn acts_by_lease(&mut self, member: MemberId, object: Granted, act: &Act) -> bool {
        let model = &self.members[&member];
        let (task, is_cancelled) = (model.task, model.cancelled >= model.task);
        let lessee = Lessee { member, object };
        let Some(lease) = self.leases.get(&lessee).copied() else { return false };
        let (next, answer) = match act {
            Act::Acquire if !is_cancelled => match lease.acquired(task, object == granted(RLOCK)) {
                Some((next, owner_died)) => (next, Answer::Acquired { owner_died }),
                None => return false,
            },
            Act::Release { .. } => match lease.released(task) {
                Some(next) => (next, Answer::Done),
                None => return false,
            },
            Act::Status => (lease, Answer::Flag(lease.is_locked().unwrap())),
            _ => return false,
        };
        self.leases.insert(lessee, next);
        let by_lease = &mut self.members.get_mut(&member).unwrap().by_lease;
        match next {
            Lease::Held { .. } => by_lease.insert(object),
            Lease::None | Lease::Free | Lease::Died => by_lease.remove(&object),
        };
        let asker = Asker::Task { member, task };
        let wants = Wants::Call { call: 0 };
        let waiter = Waiter { asker, wants, until: None, limit: None, stall: None };
        self.reference.ask(waiter, (object as usize, act.clone()));
        let expected = std::mem::take(&mut self.reference.expected);
        assert_eq!(expected, [Action::Answer { member, answer }], "by a lease");
        true
    }

    /// What the member's worker does at the end of a task. `false`: the coordinator must be told of the end,
    /// since it knows what the task holds.
    fn end_leases(&mut self, member: MemberId) -> bool {
        let model = self.members.get_mut(&member).unwrap();
        let mut is_all = true;
        for object in std::mem::take(&mut model.by_lease) {
            match self.leases.get_mut(&Lessee { member, object }) {
                Some(lease @ Lease::Held { .. }) => {
                    *lease = Lease::Died;
                    let Thing::Lock { owner, died, .. } = &mut self.reference.things[object as usize] else {
                        panic!("not a lock")
                    };
                    (*owner, *died) = (None, true);
                }
                Some(_) => {}
                None => is_all = false,
            }
        }
        self.reference.serve();
        is_all
    }

    fn next_task(&mut self, number: usize) {
        let Some(member) = self.idle(number) else { return };
        if self.end_leases(member) {
            let model = self.members.get_mut(&member).unwrap();
            model.task += 1;
            model.ahead.clear();
            model.credits.clear();
        } else {
            self.end(number, true);
        }
    }

    fn member_asks(&mut self, member: usize, does: Does, timeout: Option<u64>, left: Option<u64>) {
        let Some(member) = self.idle(member) else { return };
        let model = &self.members[&member];
        let (task, granted_count) = (model.task, granted_of(model.site).len());
        if does.objects().iter().any(|object| *object >= granted_count) {
            return;
        }
        if let Does::Act { object, act } = &does
            && self.acts_by_lease(member, granted(*object), act)
        {
            return;
        }
        let act = self.act(&does, member);
        let needs_no_answer = match &act {
            Some((object, Act::Get { most: 1, longest })) => self.takes_ahead(member, *object, *longest),
            Some((object, Act::Put { items })) => self.posts(member, *object, items),
            _ => false,
        };
        if needs_no_answer {
            return;
        }
        self.members.get_mut(&member).unwrap().got_one_of = match act {
            Some((object, Act::Get { most, .. })) if most == 1 || object >= PIPE => Some(object),
            _ => None,
        };
        let op = match (&does, &act) {
            (_, Some((object, act))) => exchange::Op::On { object: granted(*object), act: act.clone() },
            (Does::Wait { objects }, _) => {
                let objects = objects.iter().copied().map(granted).collect();
                exchange::Op::Wait { objects }
            }
            _ => exchange::Op::Call { function: 0, args: Vec::new() },
        };
        let millis = Duration::from_millis;
        let ask = Ask { task, timeout: timeout.map(millis), left: left.map(millis), op };
        let is_cancelled = self.members[&member].is_cancelled(task);
        if is_cancelled {
            self.give_back(member);
        } else {
            self.acknowledge(member);
        }
        let model = self.members.get_mut(&member).unwrap();
        if task > model.known {
            let actor = Actor::Task { member, task: model.known };
            model.known = task;
            self.reference.release_of(actor);
        }
        let asker = Asker::Task { member, task };
        let model = &self.members[&member];
        if is_cancelled {
            self.reference.answer(asker, Answer::Cancelled);
        } else {
            let stall = (model.stalled != Some(task)).then_some(self.now + STALL_TIME);
            let waiter = Waiter {
                asker,
                wants: Wants::Call { call: 0 },
                until: ask.timeout.map(|time| self.now + time),
                limit: ask.left.map(|time| self.now + time),
                stall,
            };
            self.request(waiter, &does, act);
        }
        self.event(Event::Asked { member, ask });
    }

    /// Lets the reference have a request.
    fn request(&mut self, waiter: Waiter, does: &Does, act: Option<(usize, Act)>) {
        match (does, act) {
            (_, Some(act)) => self.reference.ask(waiter, act),
            (Does::Wait { objects }, _) => {
                self.reference.begin(Waiter { wants: Wants::Several { of: objects.clone() }, ..waiter });
            }
            _ => {
                self.calls += 1;
                let (call, member) = (self.calls, waiter.asker.member().unwrap());
                self.reference.expected.push(Action::Call { call, member, function: 0, args: vec![] });
                self.reference.begin(Waiter { wants: Wants::Call { call }, ..waiter });
            }
        }
    }

    fn host_asks(&mut self, thread: u64, does: Does, timeout: Option<u64>) {
        let is_waiting = |w: &Waiter| matches!(w.asker, Asker::Host { thread: other, .. } if other == thread);
        let has_handles = does.objects().iter().all(|object| self.handles.contains(object));
        let is_waiting = self.reference.waiters.iter().any(is_waiting);
        if is_waiting || !has_handles || matches!(does, Does::Call) {
            return;
        }
        self.tickets += 1;
        let ticket = self.tickets;
        let act = self.act(&does, 1000 + thread);
        let timeout = timeout.map(Duration::from_millis);
        let until = timeout.map(|time| self.now + time);
        let asker = Asker::Host { ticket, thread };
        let waiter = Waiter { asker, wants: Wants::Call { call: 0 }, until, limit: None, stall: None };
        self.request(waiter, &does, act.clone());
        self.event(match (does, act) {
            (Does::Wait { objects }, _) => {
                let objects = objects.into_iter().map(|object| object as ObjectId + 1).collect();
                Event::HostWaits { ticket, thread, objects, timeout }
            }
            (_, act) => {
                let (object, act) = act.expect("a host calls no function");
                Event::HostAsked { ticket, thread, object: object as ObjectId + 1, act, timeout }
            }
        });
    }

    /// A call of any time: most are over.
    fn call_returns(&mut self, call: usize) {
        let call: CallId = self.calls.saturating_sub(call as u64);
        let waits = self.reference.waiters.iter().position(|waiter| waiter.wants == Wants::Call { call });
        if let Some(place) = waits {
            let waiter = self.reference.waiters.remove(place);
            self.reference.answer(waiter.asker, Answer::Done);
        }
        self.event(Event::Returned { call, answer: Answer::Done });
    }

    fn end(&mut self, member: usize, has_returned: bool) {
        let Some(member) = self.idle(member) else { return };
        let model = &self.members[&member];
        if has_returned && !model.is_unwanted(model.task) {
            self.acknowledge(member);
        } else {
            self.give_back(member);
        }
        self.end_leases(member);
        let model = self.members.get_mut(&member).unwrap();
        let (task, known) = (model.task, model.known);
        model.ended = Some(task);
        model.task += 1;
        model.ahead.clear();
        model.credits.clear();
        for task in [known, task] {
            self.reference.release_of(Actor::Task { member, task });
        }
        self.event(Event::Ended { member, task, has_returned });
    }

    fn cancel(&mut self, member: usize, ahead: u64) {
        let Some(member) = self.any(member) else { return };
        let model = self.members.get_mut(&member).unwrap();
        let tasks = model.task + ahead - 1;
        model.cancelled = model.cancelled.max(tasks);
        self.end_cancelled_wait(member);
        self.event(Event::Cancelled { member, tasks });
    }

    fn end_cancelled_wait(&mut self, member: MemberId) {
        let model = &self.members[&member];
        let is_cancelled = model.is_cancelled(model.known);
        if let Some(place) = self.waiter_of(member).filter(|_| is_cancelled) {
            let asker = self.withdraw(place);
            self.reference.answer(asker, Answer::Cancelled);
        }
    }

    /// The member is sent tasks behind those that it has; or instead of those that it has not begun, which
    /// were taken back.
    fn assign(&mut self, member: usize, count: u64, job: u64, is_wanted: bool) {
        let Some(member) = self.any(member) else { return };
        let model = self.members.get_mut(&member).unwrap();
        let last = model.jobs.keys().next_back().map_or(model.task, |last| (*last).max(model.task));
        let first = if count == 1 { model.task + 1 } else { last + 1 };
        model.jobs.split_off(&first);
        model.jobs.extend((first..first + count).map(|task| (task, (job, is_wanted))));
        let (tasks, answered) = (first..first + count, model.ended.unwrap_or(0));
        self.event(Event::Assigned { member, tasks, job, is_wanted, answered });
    }

    fn unwant(&mut self, site: u64, job: Option<u64>) {
        let of_site = self.members.iter_mut().filter(|(_, member)| member.site == site);
        let mut members = Vec::new();
        for (member, model) in of_site {
            let of_job = model.jobs.values_mut().filter(|(of, _)| job.is_none_or(|job| job == *of));
            of_job.for_each(|(_, is_wanted)| *is_wanted = false);
            members.push(*member);
        }
        members.into_iter().for_each(|member| self.end_cancelled_wait(member));
        self.event(Event::Unwanted { site, job });
    }

    fn die(&mut self, member: usize) {
        let Some(member) = self.any(member) else { return };
        if let Some(place) = self.waiter_of(member) {
            self.withdraw(place);
        }
        self.give_back(member);
        let model = self.members.remove(&member).unwrap();
        for task in [model.known, model.task] {
            self.reference.release_of(Actor::Task { member, task });
        }
        self.event(Event::Gone { member });
    }

    /// The member has not taken what it was given.
    fn give_back(&mut self, member: MemberId) {
        match self.reference.given.remove(&member) {
            Some(Given::Items(of, items)) => {
                let store = self.reference.items(of);
                for (number, mut item) in items {
                    store.handed -= item.data.0.len() as u64;
                    item.redelivered = true;
                    let is_gone = store.is_closed && of >= PIPE;
                    self.fates[number_of(&item)] = if is_gone { Fate::Gone } else { Fate::Put };
                    if !is_gone {
                        store.list.push((number, item));
                    }
                }
                store.list.sort_by_key(|(number, _)| *number);
            }
            Some(Given::Notification(of)) => self.reference.notify(of, 1),
            None => return,
        }
        self.reference.serve();
    }

    fn abandon(&mut self, end: usize) {
        if self.abandoned.is_empty() {
            self.abandoned.insert(end);
            self.reference.close_end(end);
            self.reference.serve();
            self.event(Event::Abandoned { object: end as ObjectId + 1 });
        }
    }

    /// The member has taken what it was given.
    fn acknowledge(&mut self, member: MemberId) {
        if let Some(Given::Items(of, items)) = self.reference.given.remove(&member) {
            for (_, item) in items {
                self.reference.items(of).handed -= item.data.0.len() as u64;
                self.fates[number_of(&item)] = Fate::Taken;
            }
            self.reference.serve();
        }
    }

    /// A wait ends without being served.
    fn withdraw(&mut self, place: usize) -> Asker {
        let waiter = self.reference.waiters.remove(place);
        match waiter.wants {
            Wants::Reacquire { of, notified: true, .. } => self.reference.notify(of, 1),
            Wants::Parties { of } => {
                self.reference.things[of] = Thing::Barrier { parties: 3, is_broken: true };
            }
            Wants::Call { call } => self.reference.expected.push(Action::Forget { call }),
            _ => {}
        }
        self.reference.serve();
        waiter.asker
    }
}

/// The second site is granted only some objects.
fn granted_of(site: SiteId) -> Vec<ObjectId> {
    let count = if site == 1 { OBJECTS } else { FEW_OBJECTS };
    (1..=count as ObjectId).collect()
}

/// By which a member names the object at this position.
fn granted(position: usize) -> Granted {
    Granted::try_from(position).unwrap()
}

/// The number of an item is its content.
fn number_of(item: &Item) -> usize {
    u32::from_le_bytes(item.data.0[..4].try_into().unwrap()) as usize
}

fn without_message(mut action: Action) -> Action {
    if let Action::Answer { answer: Answer::Failed { message, .. }, .. }
    | Action::AnswerHost { answer: Answer::Failed { message, .. }, .. } = &mut action
    {
        message.clear();
    }
    action
}

fn run(ops: Vec<Op>) {
    let mut model = Model::new();
    for op in ops {
        model.op(op);
    }
    model.finish();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]


    #[test]
    fn the_exchange_does_what_simple_lists_do(ops in proptest::collection::vec(op::op(), 1..120)) {
        run(ops);
    }

    #[test]
    fn x7_items_that_are_given_ahead_are_never_missed_nor_lost_nor_given_twice(
        ops in proptest::collection::vec(op::flowing_op(), 1..120),
    ) {
        run(ops);
    }

    #[test]
    fn x12_a_deadlock_is_told_if_and_only_if_nothing_can_end_a_wait(
        ops in proptest::collection::vec(op::hanging_op(), 1..60),
    ) {
        run(ops);
    }
}
