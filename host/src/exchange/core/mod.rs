//! The pure core of the exchange: events in, actions out. It has no clock, no thread and no socket.
//!
//! A request is served at once, or becomes a wait. Each object has a line of waits for each thing that is
//! done with it. After each change of an object `settle` serves the first of its lines while that is
//! possible.
//!
//! ```text
//! Request : asked --> answered
//!           asked --> waiting --served | time-out | end of the task's time | cancel | close--> answered
//!                     waiting --member gone--> dropped
//! Item    : put --> in the queue --> given to a member --acknowledged--> taken
//!                                    given to a member --member gone, task ended or cancelled-->
//!                                                                          in the queue, redelivered
//!                      in the queue --> ahead in the hands of a member --taken--> given to it
//!                                                                      --recalled--> in the queue
//! ```

mod ahead;
mod asking;
mod barrier;
mod cell;
mod condition;
mod credit;
mod dict;
pub(crate) mod event;
mod flag;
mod graph;
mod hand;
mod lease;
mod lock;
mod member;
mod object;
mod pipe;
mod queue;
mod refusal;
mod semaphore;
mod serve;
mod serving;
mod store;
mod wait;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use self::event::{Action, CallId, Event, MemberId, ObjectId, Post, SiteId};
pub(crate) use self::hand::Hand;
use self::member::{Assigned, KnownMember};
use self::object::Object;
use self::wait::{Due, WaitId, Waits};

/// A wait of a member that lasts this long is told to its pool.
const STALL_TIME: Duration = Duration::from_millis(1);

#[derive(Debug)]
struct ObjectSlot {
    object: Object,
    /// How many handles the host's code has.
    handles: u64,
}

/// A pool or a `Process`.
#[derive(Debug, Default)]
struct KnownSite {
    /// `None`: not known yet.
    capacity: Option<u64>,
    members: u64,
    /// What each of its members may use.
    granted: Vec<ObjectId>,
}

impl KnownSite {
    /// Whether it may have another member.
    fn has_room(&self) -> bool {
        self.capacity.is_none_or(|capacity| self.members < capacity)
    }
}

/// All shared objects of this program, and the waits for them.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    now: Duration,
    objects: BTreeMap<ObjectId, ObjectSlot>,
    members: BTreeMap<MemberId, KnownMember>,
    sites: BTreeMap<SiteId, KnownSite>,
    waits: Waits,
    /// The waits for host functions.
    calls: BTreeMap<CallId, WaitId>,
    last_call: CallId,
    /// Of which object which member has items ahead.
    in_hands: BTreeMap<ObjectId, MemberId>,
    /// When waits are looked at that may have no end.
    deadlock_check: Option<Duration>,
}

impl Exchange {
    /// Handles an event. `now` never goes back.
    pub(crate) fn on(&mut self, now: Duration, event: Event, actions: &mut Vec<Action>) {
        self.now = now;
        match event {
            Event::Made { object, spec } => self.made(object, spec),
            Event::Handles { object, count } => self.handles(object, count),
            Event::Abandoned { object } => self.abandoned(object, actions),
            Event::Joined { member, site, label, granted } => self.joined(member, site, label, granted),
            Event::Site { site, capacity, granted } => self.site(site, capacity, granted),
            Event::Asked { member, ask } => self.asked(member, ask, actions),
            Event::Posted { member, task, taken, object, items } => {
                self.posted(member, Post { task, taken, object, items }, actions);
            }
            Event::Ended { member, task, has_returned } => {
                self.ended(member, task, has_returned, actions);
            }
            Event::Assigned { member, tasks, job, is_wanted, answered } => {
                if let Some(known) = self.members.get_mut(&member) {
                    known.assign(Assigned { tasks, job, is_wanted }, answered);
                }
            }
            Event::Unwanted { site, job } => self.unwanted(site, job, actions),
            Event::Cancelled { member, tasks } => self.cancelled(member, tasks, actions),
            Event::Gone { member } => self.gone(member, actions),
            Event::HostAsked { ticket, thread, object, act, timeout } => {
                self.host_asked(wait::Asker::Host { ticket, thread }, object, act, timeout, actions);
            }
            Event::HostWaits { ticket, thread, objects, timeout } => {
                self.host_waits(wait::Asker::Host { ticket, thread }, objects, timeout, actions);
            }
            Event::Returned { call, answer } => self.returned(call, answer, actions),
            Event::Tick => {}
        }
        self.expire(actions);
        self.check_deadlocks(actions);
    }

    /// When the next `Tick` is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.waits.next_due().into_iter().chain(self.deadlock_check).min()
    }

    /// Ends the waits that are due.
    fn expire(&mut self, actions: &mut Vec<Action>) {
        while let Some((wait, due)) = self.waits.pop_due(self.now) {
            match due {
                Due::TimedOut => self.timed_out(wait, actions),
                Due::TimeIsOver => self.time_is_over(wait, actions),
                Due::Stalled => self.stalled(wait, actions),
            }
        }
    }

    fn made(&mut self, object: ObjectId, spec: event::ObjectSpec) {
        let made = Object::make(object, spec).into_iter();
        self.objects.extend(made.map(|(id, object)| (id, ObjectSlot { object, handles: 0 })));
    }

    fn handles(&mut self, object: ObjectId, count: u64) {
        if let Some(slot) = self.objects.get_mut(&object) {
            slot.handles = count;
            self.arm_deadlock_check();
        }
    }

    fn joined(&mut self, member: MemberId, site: SiteId, label: String, granted: Vec<event::Granting>) {
        self.sites.entry(site).or_default().members += 1;
        self.members.insert(member, KnownMember::new(site, label, granted));
    }

    fn site(&mut self, site: SiteId, capacity: u64, granted: Vec<ObjectId>) {
        let known = self.sites.entry(site).or_default();
        known.capacity = Some(capacity);
        known.granted = granted;
        self.arm_deadlock_check();
        self.forget_site_if_over(site);
    }

    fn forget_site_if_over(&mut self, site: SiteId) {
        if self.sites.get(&site).is_some_and(|site| site.capacity == Some(0) && site.members == 0) {
            self.sites.remove(&site);
        }
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        let Exchange { objects, members, sites, waits, calls, in_hands, .. } = self;
        let is_unused = waits.is_empty() && calls.is_empty() && in_hands.is_empty();
        objects.is_empty() && members.is_empty() && sites.is_empty() && is_unused
    }
}
