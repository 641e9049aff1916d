//! The exchange by its events and actions.

mod ahead;
mod credit;
mod deadlocks;
mod deaths;
mod ipc;
mod leases;
mod model;
mod sync;
mod waiting;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::event::{Action, Event, Granting, Lessee, MemberId, ObjectId, ObjectSpec};
use super::{Exchange, Hand};
use crate::spec::exchange::{
    Act, Answer, Ask, Bytes, Code, Content, Granted, Item, ObjectKind, Op, QueueStatus,
};
use crate::spec::lease::Lease;

/// The word of a worker's status page.
#[derive(Debug, Clone, Default)]
struct Word(Arc<AtomicU32>);

impl Word {
    fn set(&self, count: u32) {
        self.0.store(count, Ordering::Relaxed);
    }
}

impl Hand for Word {
    fn lay(&self, count: u32) {
        self.set(count);
    }

    fn left(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    fn take_back(&self) -> u32 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// The first object that a test makes is also the first that each member is granted.
const FIRST: Granted = 0;

/// Members 1, 2 and 3 of a site, and the host. Each has what the test makes, under the names `a`, `b` ..
struct Play {
    exchange: Exchange,
    now: Duration,
    granted: Vec<Granting>,
    last_ticket: u64,
    /// What the words of the leases say.
    leases: BTreeMap<Lessee, Lease>,
}

/// How a member's next task asks.
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    timeout: Option<Duration>,
    left: Option<Duration>,
}

impl Play {
    fn of(specs: &[ObjectSpec]) -> Play {
        let mut play = Play {
            exchange: Exchange::default(),
            now: Duration::ZERO,
            granted: Vec::new(),
            last_ticket: 0,
            leases: BTreeMap::new(),
        };
        for spec in specs {
            play.make(spec.clone());
        }
        play.resize(3);
        for member in 1..=3 {
            let (label, granted) = (format!("PoolWorker-{member}"), play.granted.clone());
            play.on(Event::Joined { member, site: 1, label, granted });
        }
        play
    }

    fn resize(&mut self, capacity: u64) -> Vec<Action> {
        let granted = self.granted.iter().map(|granting| granting.object).collect();
        self.on(Event::Site { site: 1, capacity, granted })
    }

    /// The host has no handle any more.
    fn drop_handles(&mut self) {
        for object in 1..=self.granted.len() as ObjectId {
            assert_eq!(self.on(Event::Handles { object, count: 0 }), []);
        }
    }

    fn make(&mut self, spec: ObjectSpec) {
        let object = 1 + self.granted.len() as ObjectId;
        let spec = match spec {
            ObjectSpec::Pipe { duplex, max_bytes, .. } => {
                ObjectSpec::Pipe { ends: [object, object + 1], duplex, max_bytes }
            }
            spec => spec,
        };
        let kind = match &spec {
            ObjectSpec::Queue { .. } => ObjectKind::Queue,
            ObjectSpec::Pipe { .. } => ObjectKind::Connection,
            ObjectSpec::Lock => ObjectKind::Lock,
            ObjectSpec::RLock => ObjectKind::RLock,
            ObjectSpec::Semaphore { .. } => ObjectKind::Semaphore,
            ObjectSpec::Event => ObjectKind::Event,
            ObjectSpec::Condition => ObjectKind::Condition,
            ObjectSpec::Barrier { .. } => ObjectKind::Barrier,
            ObjectSpec::Value { .. } => ObjectKind::Value,
            ObjectSpec::Dict { .. } => ObjectKind::Dict,
        };
        let ends = if matches!(spec, ObjectSpec::Pipe { .. }) { 2 } else { 1 };
        self.on(Event::Made { object, spec });
        for object in object..object + ends {
            self.on(Event::Handles { object, count: 1 });
            let name = char::from(b"abcdefgh"[self.granted.len() % 8]).to_string();
            self.granted.push(Granting { name, kind, object });
        }
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        match &event {
            Event::Asked { member, ask } if ask.task > 0 => self.end_leases(*member, ask.task - 1),
            Event::Ended { member, task, .. } => self.end_leases(*member, *task),
            _ => {}
        }
        while let Some(lessee) = self.exchange.lease_before(&event) {
            let lease = self.leases.remove(&lessee).unwrap_or(Lease::None);
            self.exchange.recalled(lessee, lease);
        }
        let mut actions = Vec::new();
        self.exchange.on(self.now, event, &mut actions);
        actions.retain(|action| match action {
            Action::Lease { lessee, lease } => {
                assert_eq!(self.leases.insert(*lessee, *lease), None);
                false
            }
            _ => true,
        });
        actions
    }

    /// The member's worker ends tasks.
    fn end_leases(&mut self, of: MemberId, last: u64) {
        for (_, lease) in self.leases.iter_mut().filter(|(lessee, _)| lessee.member == of) {
            if matches!(lease, Lease::Held { task, .. } if *task <= last) {
                *lease = Lease::Died;
            }
        }
    }

    fn ask(&mut self, member: MemberId, task: u64, times: Times, op: Op) -> Vec<Action> {
        let Times { timeout, left } = times;
        self.on(Event::Asked { member, ask: Ask { task, timeout, left, op } })
    }

    /// The member's first task does this with the object.
    fn act(&mut self, member: MemberId, object: Granted, act: Act) -> Vec<Action> {
        self.act_in(member, 1, object, act)
    }

    fn act_in(&mut self, member: MemberId, task: u64, object: Granted, act: Act) -> Vec<Action> {
        self.ask(member, task, Times::default(), Op::On { object, act })
    }

    /// The same, for `ms` milliseconds at most.
    fn act_for(&mut self, member: MemberId, object: Granted, act: Act, ms: u64) -> Vec<Action> {
        let times = Times { timeout: Some(Duration::from_millis(ms)), left: None };
        self.ask(member, 1, times, Op::On { object, act })
    }

    /// The host does this. Its tickets are 1, 2 ..
    fn host(&mut self, object: ObjectId, act: Act, timeout_ms: Option<u64>) -> Vec<Action> {
        self.host_in(1, object, act, timeout_ms)
    }

    fn host_in(&mut self, thread: u64, object: ObjectId, act: Act, timeout_ms: Option<u64>) -> Vec<Action> {
        self.last_ticket += 1;
        let timeout = timeout_ms.map(Duration::from_millis);
        self.on(Event::HostAsked { ticket: self.last_ticket, thread, object, act, timeout })
    }

    fn pass(&mut self, ms: u64) -> Vec<Action> {
        self.now += Duration::from_millis(ms);
        self.on(Event::Tick)
    }

    fn ended(&mut self, member: MemberId, task: u64) -> Vec<Action> {
        self.on(Event::Ended { member, task, has_returned: true })
    }

    /// The task is ended: by a trap, a limit or a cancel.
    fn was_ended(&mut self, member: MemberId, task: u64) -> Vec<Action> {
        self.on(Event::Ended { member, task, has_returned: false })
    }

    fn gone(&mut self, member: MemberId) -> Vec<Action> {
        self.on(Event::Gone { member })
    }
}

fn queue(max_len: Option<u64>) -> ObjectSpec {
    ObjectSpec::Queue { max_len, max_bytes: 1000, joinable: true }
}

fn pipe() -> ObjectSpec {
    ObjectSpec::Pipe { ends: [0, 0], duplex: true, max_bytes: 1000 }
}

fn put(items: &[&str]) -> Act {
    Act::Put { items: items.iter().map(|item| bytes(item)).collect() }
}

fn get() -> Act {
    get_many(1)
}

fn get_many(most: u32) -> Act {
    Act::Get { most, longest: u64::MAX }
}

fn bytes(text: &str) -> Bytes {
    Bytes(text.as_bytes().to_vec())
}

fn answer(member: MemberId, answer: Answer) -> Action {
    Action::Answer { member, answer }
}

fn answer_host(ticket: u64, answer: Answer) -> Action {
    Action::AnswerHost { ticket, answer }
}

fn items(texts: &[&str]) -> Answer {
    Answer::Items { items: texts.iter().map(|text| Item { data: bytes(text), redelivered: false }).collect() }
}

fn again(texts: &[&str]) -> Answer {
    Answer::Items { items: texts.iter().map(|text| Item { data: bytes(text), redelivered: true }).collect() }
}

fn acquired(owner_died: bool) -> Answer {
    Answer::Acquired { owner_died }
}

fn failed(code: Code, message: &str) -> Answer {
    Answer::Failed { code, message: message.to_owned() }
}

fn status(len: u64, max_len: Option<u64>, unfinished: u64) -> Answer {
    Answer::Queue(QueueStatus { len, max_len, unfinished, is_closed: false })
}

fn integer(value: i64) -> Content {
    Content::Integer(value)
}
