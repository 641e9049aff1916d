//! Requests that cannot be answered yet, and when each of them ends at the latest.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::event::{Actor, CallId, MemberId, ObjectId, Ticket};
use crate::spec::exchange::{Bytes, Granted};

/// Names a wait. One that begins later has a larger number.
pub(super) type WaitId = u64;

/// Waits in the order in which they began.
pub(super) type Line = BTreeSet<WaitId>;

/// Where an answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    Task { member: MemberId, task: u64 },
    Host { ticket: Ticket, thread: u64 },
}

impl Asker {
    pub(super) fn actor(self) -> Actor {
        match self {
            Asker::Task { member, task } => Actor::Task { member, task },
            Asker::Host { thread, .. } => Actor::Host { thread },
        }
    }

    pub(super) fn member(self) -> Option<MemberId> {
        match self {
            Asker::Task { member, .. } => Some(member),
            Asker::Host { .. } => None,
        }
    }
}

/// What is needed of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Need {
    /// `done` items are put, `items` are not.
    Put {
        items: VecDeque<Bytes>,
        done: u64,
    },
    Get {
        most: usize,
        longest: u64,
    },
    Poll,
    Join,
    Acquire,
    /// Of an `Event`.
    Set,
    /// Of a `Condition`. The waiter held the lock `count` times.
    Notification {
        count: u32,
    },
    /// Of a `Condition`, after a notification or a time-out.
    Reacquire {
        count: u32,
        notified: bool,
    },
    /// Of a `Barrier`.
    Parties,
}

impl Need {
    /// How many items are put.
    pub(super) fn done(&self) -> u64 {
        match self {
            Need::Put { done, .. } => *done,
            Need::Get { .. }
            | Need::Poll
            | Need::Join
            | Need::Acquire
            | Need::Set
            | Need::Notification { .. }
            | Need::Reacquire { .. }
            | Need::Parties => 0,
        }
    }
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Awaited {
    One { object: ObjectId, need: Need },
    Several { objects: Vec<ObjectId> },
    Call { call: CallId },
}

/// The times at which something happens to a wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Times {
    /// Its own time-out.
    pub(super) until: Option<Duration>,
    /// The end of its task's time.
    pub(super) limit: Option<Duration>,
    /// The pool is to be told that the task waits.
    pub(super) stall: Option<Duration>,
}

/// What happens to a wait at one of its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    TimedOut,
    TimeIsOver,
    Stalled,
}

impl Times {
    fn next(&self) -> Option<(Duration, Due)> {
        let all = [(self.until, Due::TimedOut), (self.limit, Due::TimeIsOver), (self.stall, Due::Stalled)];
        all.into_iter().filter_map(|(at, due)| Some((at?, due))).min()
    }
}

#[derive(Debug)]
pub(super) struct Wait {
    pub(super) asker: Asker,
    /// By which the asker names the object.
    pub(super) name: Option<Granted>,
    pub(super) awaited: Awaited,
    pub(super) times: Times,
    pub(super) since: Duration,
}

/// All waits, and their times in order.
#[derive(Debug, Default)]
pub(super) struct Waits {
    all: BTreeMap<WaitId, Wait>,
    last: WaitId,
    /// The next time of each wait that has one.
    due: BTreeSet<(Duration, WaitId)>,
}

impl Waits {
    pub(super) fn insert(&mut self, wait: Wait) -> WaitId {
        self.last += 1;
        if let Some((at, _)) = wait.times.next() {
            self.due.insert((at, self.last));
        }
        self.all.insert(self.last, wait);
        self.last
    }

    pub(super) fn remove(&mut self, id: WaitId) -> Option<Wait> {
        let wait = self.all.remove(&id)?;
        if let Some((at, _)) = wait.times.next() {
            self.due.remove(&(at, id));
        }
        Some(wait)
    }

    pub(super) fn get(&self, id: WaitId) -> Option<&Wait> {
        self.all.get(&id)
    }

    /// The actor that waits, and what it needs.
    pub(super) fn need_mut(&mut self, id: WaitId) -> Option<(Actor, &mut Need)> {
        let wait = self.all.get_mut(&id)?;
        match &mut wait.awaited {
            Awaited::One { need, .. } => Some((wait.asker.actor(), need)),
            Awaited::Several { .. } | Awaited::Call { .. } => None,
        }
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (WaitId, &Wait)> {
        self.all.iter().map(|(id, wait)| (*id, wait))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn next_due(&self) -> Option<Duration> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The next wait to which something happens by `now`, without that time from now on.
    pub(super) fn pop_due(&mut self, now: Duration) -> Option<(WaitId, Due)> {
        let (at, id) = *self.due.first().filter(|(at, _)| *at <= now)?;
        self.due.pop_first();
        let times = &mut self.all.get_mut(&id)?.times;
        let (_, due) = times.next().filter(|(next, _)| *next == at)?;
        match due {
            Due::TimedOut => times.until = None,
            Due::TimeIsOver => times.limit = None,
            Due::Stalled => times.stall = None,
        }
        if let Some((next, _)) = times.next() {
            self.due.insert((next, id));
        }
        Some((id, due))
    }
}
