//! Leases: a lock that nothing waits for is left to the member that has acquired it last. Until something
//! else wants the lock, its state is known to the member alone.

use super::Exchange;
use super::event::{Action, Event, Lessee, MemberId, ObjectId};
use super::lock::Lock;
use super::wait::Asker;
use crate::spec::exchange::{Ask, Granted, Op};
use crate::spec::lease::{LEASES, Lease};

impl Exchange {
    /// A lease that must be taken back before this event: the caller asks until there is none, and tells each
    /// by [`recalled`](Exchange::recalled).
    pub(crate) fn lease_before(&self, event: &Event) -> Option<Lessee> {
        match event {
            Event::Asked { member, ask: Ask { op: Op::On { object, .. }, .. } } => {
                self.lease_of(self.members.get(member)?.granting(*object)?.object)
            }
            Event::HostAsked { object, .. } => self.lease_of(*object),
            Event::Gone { member } => self.lease_to_member(*member),
            // These touch no lock that is leased: there are no waits for it, and what a task holds by a lease
            // is given up by its worker before the end of the task is told.
            Event::Asked { .. }
            | Event::Made { .. }
            | Event::Handles { .. }
            | Event::Abandoned { .. }
            | Event::Joined { .. }
            | Event::Site { .. }
            | Event::Posted { .. }
            | Event::Ended { .. }
            | Event::Assigned { .. }
            | Event::Unwanted { .. }
            | Event::Cancelled { .. }
            | Event::HostWaits { .. }
            | Event::Returned { .. }
            | Event::Tick => None,
        }
    }

    fn lease_of(&self, object: ObjectId) -> Option<Lessee> {
        self.objects.get(&object)?.object.as_lock()?.lessee()
    }

    fn lease_to_member(&self, member: MemberId) -> Option<Lessee> {
        let granted = self.members.get(&member)?.granted().iter().take(LEASES as usize);
        granted.filter_map(|granting| self.lease_of(granting.object)).find(|lessee| lessee.member == member)
    }

    /// A lease was taken back. `lease`: what it was at that moment.
    pub(crate) fn recalled(&mut self, lessee: Lessee, lease: Lease) {
        let Some(known) = self.members.get_mut(&lessee.member) else { return };
        let Some(object) = known.granting(lessee.object).map(|granting| granting.object) else { return };
        if let Lease::Held { task, .. } = lease {
            known.holds.insert(object, task);
        }
        if let Some(lock) = self.lock(object) {
            lock.recalled(lease);
        }
    }

    /// Leaves a lock to the member whose task has acquired it just now, if nothing waits for it.
    pub(super) fn give_lease(
        &mut self,
        asker: Asker,
        name: Option<Granted>,
        object: ObjectId,
        actions: &mut Vec<Action>,
    ) {
        let (Asker::Task { member, .. }, Some(name)) = (asker, name.filter(|name| *name < LEASES)) else {
            return;
        };
        let lessee = Lessee { member, object: name };
        if let Some(lease) = self.lock(object).and_then(|lock| lock.lease_to(lessee)) {
            actions.push(Action::Lease { lessee, lease });
        }
    }

    fn lock(&mut self, object: ObjectId) -> Option<&mut Lock> {
        self.objects.get_mut(&object)?.object.as_lock_mut()
    }
}
