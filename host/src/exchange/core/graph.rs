//! Waits that nothing can end.
//!
//! A member that does not wait may end any wait for what it is granted, and will release the locks that it
//! holds. So may a wait with a time-out of its own, since it ends; a worker that is started later; and the
//! host by a handle. What none of these can end, directly or by ending the waits of others, is a deadlock.
//! The end of a task's time counts for nothing: a task that is ended by it learns nothing.
//!
//! A wait for a lock ends only by the lock's owner, whatever handles there are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::event::{Action, Actor, MemberId, ObjectId, SiteId};
use super::refusal::failed;
use super::wait::{Awaited, Need, Wait, WaitId};
use super::{Exchange, ObjectSlot};
use crate::spec::exchange::Code;

/// A wait is looked at after this time. A wait that another worker would end may begin before that worker
/// starts.
pub(super) const DEADLOCK_TIME: Duration = Duration::from_millis(200);

/// The tasks that a message names.
const NAMED_MAX: usize = 8;

/// What can go on, and the waits that it cannot end as far as is known.
struct Graph<'e> {
    exchange: &'e Exchange,
    /// Waits without an end of their own, each with its member.
    waits: BTreeMap<WaitId, (MemberId, &'e Wait)>,
    /// The waits that the owner of a lock may end.
    by_owner: BTreeMap<MemberId, Vec<WaitId>>,
    /// The waits that a user of an object may end.
    by_object: BTreeMap<ObjectId, Vec<WaitId>>,
    live_members: BTreeSet<MemberId>,
    /// Some member of them is live. All members of a site have the same objects.
    live_sites: BTreeSet<SiteId>,
    /// Something that is live can use them.
    live_objects: BTreeSet<ObjectId>,
    /// Waits that may have an end now.
    touched: Vec<WaitId>,
}

impl<'e> Graph<'e> {
    fn new(exchange: &'e Exchange) -> Graph<'e> {
        let waits = exchange.waits.iter().filter_map(|(id, wait)| Some((id, (may_hang(wait)?, wait))));
        let mut graph = Graph {
            exchange,
            waits: waits.collect(),
            by_owner: BTreeMap::new(),
            by_object: BTreeMap::new(),
            live_members: BTreeSet::new(),
            live_sites: BTreeSet::new(),
            live_objects: BTreeSet::new(),
            touched: exchange.waits.iter().map(|(id, _)| id).collect(),
        };
        if !graph.waits.is_empty() {
            graph.index();
            graph.begin();
        }
        graph
    }

    fn index(&mut self) {
        for (id, (_, wait)) in &self.waits {
            for object in self.exchange.objects_of(wait) {
                self.by_object.entry(object).or_default().push(*id);
                if let Some(owner) = self.exchange.owner_of(object) {
                    self.by_owner.entry(owner).or_default().push(*id);
                }
            }
        }
    }

    /// What goes on whatever becomes of the waits.
    fn begin(&mut self) {
        let held = self.exchange.objects.iter().filter(|(_, slot)| slot.handles > 0);
        self.live_objects.extend(held.map(|(id, _)| *id));
        for site in self.exchange.sites.values().filter(|site| site.has_room()) {
            self.live_objects.extend(&site.granted);
        }
        let hanging: BTreeSet<MemberId> = self.waits.values().map(|(member, _)| *member).collect();
        for member in self.exchange.members.keys().filter(|member| !hanging.contains(member)) {
            self.add_member(*member);
        }
    }

    /// This member goes on.
    fn add_member(&mut self, member: MemberId) {
        self.live_members.insert(member);
        self.touched.extend(self.by_owner.get(&member).into_iter().flatten());
        let Some(known) = self.exchange.members.get(&member) else { return };
        if self.live_sites.insert(known.site) {
            for granting in known.granted() {
                self.live_objects.insert(granting.object);
                self.touched.extend(self.by_object.get(&granting.object).into_iter().flatten());
            }
        }
    }

    /// The youngest of the waits that nothing can end.
    fn youngest(&mut self) -> Option<WaitId> {
        while let Some(id) = self.touched.pop() {
            if let Some((member, wait)) = self.waits.get(&id)
                && self.can_end(wait)
            {
                let member = *member;
                self.waits.remove(&id);
                self.add_member(member);
            }
        }
        self.waits.keys().next_back().copied()
    }

    /// The wait fails, and its task goes on.
    fn fail(&mut self, id: WaitId) {
        if let Some((member, _)) = self.waits.remove(&id) {
            self.add_member(member);
        }
    }

    /// Whether something that is live can end the wait.
    fn can_end(&self, wait: &Wait) -> bool {
        let is_live = |object: ObjectId| self.live_objects.contains(&object);
        let mut objects = self.exchange.objects_of(wait);
        let Awaited::One { object, need } = &wait.awaited else { return objects.any(is_live) };
        let owner = self.exchange.owner_of(*object);
        let is_free = owner.is_none_or(|owner| self.live_members.contains(&owner));
        match need {
            Need::Acquire | Need::Reacquire { .. } if self.exchange.is_owned(*object) => is_free,
            // A notification is sent by a holder of the lock.
            Need::Notification { .. } => is_free && objects.any(is_live),
            Need::Acquire
            | Need::Reacquire { .. }
            | Need::Put { .. }
            | Need::Get { .. }
            | Need::Poll
            | Need::Join
            | Need::Set
            | Need::Parties => objects.any(is_live),
        }
    }
}

impl Exchange {
    /// The graph has changed: look at it soon.
    pub(super) fn arm_deadlock_check(&mut self) {
        if self.waits.is_empty() {
            return;
        }
        let at = self.now.saturating_add(DEADLOCK_TIME);
        self.deadlock_check.get_or_insert(at);
    }

    /// Fails the youngest wait of each deadlock.
    pub(super) fn check_deadlocks(&mut self, actions: &mut Vec<Action>) {
        if self.deadlock_check.is_none_or(|at| at > self.now) {
            return;
        }
        self.deadlock_check = None;
        for id in self.deadlocks() {
            let Some(wait) = self.waits.get(id) else { continue };
            let due = wait.since.saturating_add(DEADLOCK_TIME);
            if due > self.now {
                self.deadlock_check = Some(due);
                return;
            }
            let message = self.describe(wait);
            if let Some(asker) = self.withdraw(id, actions) {
                self.send(asker, failed(Code::Deadlock, message), actions);
            }
        }
    }

    /// The waits that must fail so that all can go on.
    fn deadlocks(&self) -> Vec<WaitId> {
        let mut graph = Graph::new(self);
        let mut failing = Vec::new();
        while let Some(youngest) = graph.youngest() {
            graph.fail(youngest);
            failing.push(youngest);
        }
        failing
    }

    /// The objects by which a wait may be ended.
    fn objects_of(&self, wait: &Wait) -> impl Iterator<Item = ObjectId> {
        let objects: &[ObjectId] = match &wait.awaited {
            Awaited::One { object, .. } => std::slice::from_ref(object),
            Awaited::Several { objects } => objects,
            Awaited::Call { .. } => &[],
        };
        objects.iter().flat_map(|object| {
            let slot = self.objects.get(object);
            std::iter::once(*object).chain(slot.and_then(|slot| slot.object.as_ref().partner()))
        })
    }

    /// The member that holds a lock.
    fn owner_of(&self, object: ObjectId) -> Option<MemberId> {
        match self.objects.get(&object)?.object.as_ref().owner()? {
            Actor::Task { member, .. } => Some(member),
            Actor::Host { .. } => None,
        }
    }

    fn is_owned(&self, object: ObjectId) -> bool {
        self.objects.get(&object).is_some_and(|ObjectSlot { object, .. }| object.as_ref().owner().is_some())
    }

    /// The deadlock in words, for the wait that fails.
    fn describe(&self, wait: &Wait) -> String {
        match self.lock_owner(wait) {
            Some(owner) => self.describe_ring(wait, owner),
            None => self.describe_crowd(wait),
        }
    }

    /// `lock a is held by PoolWorker-1, which waits for lock b, held by PoolWorker-2`.
    fn describe_ring(&self, first: &Wait, owner: MemberId) -> String {
        let this = first.asker.member();
        if Some(owner) == this {
            return format!("{} is held by this task itself", self.what(first));
        }
        let mut text = format!("{} is held by {}", self.what(first), self.label(owner));
        let (mut owner, mut seen) = (owner, BTreeSet::new());
        while seen.len() < NAMED_MAX
            && seen.insert(owner)
            && let Some(wait) = self.wait_of(owner)
        {
            text += &format!(", which waits for {}", self.what(wait));
            let Some(next) = self.lock_owner(wait) else {
                text += ", as all do that could end this";
                break;
            };
            if Some(next) == this {
                return text + ", held by this task";
            }
            text += &format!(", held by {}", self.label(next));
            owner = next;
        }
        text
    }

    /// `all that could end the wait for queue jobs wait too: PoolWorker-1 for queue jobs`.
    fn describe_crowd(&self, wait: &Wait) -> String {
        let objects: BTreeSet<ObjectId> = self.objects_of(wait).collect();
        let could_end = |member: &MemberId| {
            self.members[member].granted().iter().any(|granting| objects.contains(&granting.object))
        };
        let others = self.members.keys().copied().filter(|member| wait.asker.member() != Some(*member));
        let others: Vec<MemberId> = others.filter(could_end).collect();
        if others.is_empty() {
            return format!("nothing else can use {}", self.what(wait));
        }
        let name = |member: &MemberId| match self.wait_of(*member) {
            Some(wait) => format!("{} for {}", self.label(*member), self.what(wait)),
            None => self.label(*member).to_owned(),
        };
        let mut names: Vec<String> = others.iter().take(NAMED_MAX).map(name).collect();
        if others.len() > NAMED_MAX {
            names.push(format!("{} others", others.len() - NAMED_MAX));
        }
        format!("all that could end the wait for {} wait too: {}", self.what(wait), names.join(", "))
    }

    fn wait_of(&self, member: MemberId) -> Option<&Wait> {
        self.waits.get(self.members.get(&member)?.wait?)
    }

    fn label(&self, member: MemberId) -> &str {
        self.members.get(&member).map_or("a worker that is gone", |member| &member.label)
    }

    /// What the wait is for.
    fn what(&self, wait: &Wait) -> String {
        match &wait.awaited {
            Awaited::One { object, .. } => self.subject(wait.asker, wait.name, *object),
            Awaited::Several { objects } => format!("one of {} objects", objects.len()),
            Awaited::Call { .. } => "a function of the application".to_owned(),
        }
    }

    /// The member that holds the lock that is waited for.
    fn lock_owner(&self, wait: &Wait) -> Option<MemberId> {
        match wait.awaited {
            Awaited::One { object, need: Need::Acquire | Need::Reacquire { .. } } => self.owner_of(object),
            Awaited::One { .. } | Awaited::Several { .. } | Awaited::Call { .. } => None,
        }
    }
}

/// The member that waits, if nothing but an actor can end the wait. The host waits by a handle.
pub(super) fn may_hang(wait: &Wait) -> Option<MemberId> {
    let has_end = wait.times.until.is_some() || matches!(wait.awaited, Awaited::Call { .. });
    wait.asker.member().filter(|_| !has_end)
}
