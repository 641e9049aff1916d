//! Workers that use objects, and the pools and `Process`es that start them.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::calls::{Calls, Functions};
use super::core::event::{Event, Granting, JobId, MemberId, SiteId};
use super::host::ObjectRef;
pub(crate) use super::peer::Notes;
use super::peer::Peer;
use super::shared::Shared;
use super::thread;
use crate::sys::ExchangePage;

/// What a policy grants of this program: objects, each under a name, and functions. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shares {
    objects: Arc<[Share]>,
    functions: Option<Functions>,
}

/// An object that is granted under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) name: String,
    pub(crate) object: ObjectRef,
}

impl Shares {
    pub(crate) fn new(shares: impl IntoIterator<Item = Share>) -> Shares {
        Shares { objects: shares.into_iter().collect(), functions: None }
    }

    /// The same, with functions that members may call.
    pub(crate) fn with_functions(self, functions: Functions) -> Shares {
        Shares { functions: Some(functions), ..self }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Share> {
        self.objects.iter()
    }
}

/// A pool or a `Process` whose workers are members.
#[derive(Debug)]
pub(crate) struct Site {
    shared: &'static Shared,
    id: SiteId,
    shares: Shares,
    calls: Option<Arc<Calls>>,
}

impl Site {
    /// `capacity`: the most members that it will have at a time.
    pub(crate) fn new(shares: Shares, capacity: usize) -> Site {
        let shared = Shared::here();
        let calls = shares.functions.as_ref().map(|functions| Calls::new(functions.clone(), shared));
        let site = Site { shared, id: shared.new_id(), shares, calls };
        site.resize(capacity);
        site
    }

    /// No outcome of any task is wanted any more.
    pub(crate) fn drop_all_jobs(&self) {
        let site = self.id;
        let _in_fork = self.shared.with(|state| {
            state.hear_all();
            state.on(Event::Unwanted { site, job: None });
        });
    }

    /// By which other threads than its owner's tell the exchange of its jobs.
    pub(crate) fn name(&self) -> SiteName {
        SiteName { shared: self.shared, id: self.id }
    }

    pub(crate) fn resize(&self, capacity: usize) {
        self.calls.iter().for_each(|calls| calls.resize(capacity));
        let (site, capacity) = (self.id, capacity as u64);
        let granted = self.shares.iter().map(|share| share.object.id()).collect();
        let _in_fork = self.shared.with(|state| state.on(Event::Site { site, capacity, granted }));
    }

    /// A worker becomes a member. `socket`: the coordinator's end of its second socket. `page`: a part of its
    /// status page. `label`: how messages name the worker.
    pub(crate) fn join(
        &self,
        socket: OwnedFd,
        page: ExchangePage,
        label: &str,
        notes: Notes,
    ) -> io::Result<Member> {
        let member = self.shared.new_id();
        // The member's own end keeps waiting: that setting belongs to each end.
        rustix::io::ioctl_fionbio(&socket, true)?;
        // An object of a process that this one is a fork of stays granted, and unknown to the core.
        let granted = self.shares.iter().map(|share| Granting {
            name: share.name.clone(),
            kind: share.object.kind(),
            object: share.object.id(),
        });
        let granted: Vec<Granting> = granted.collect();
        let hand = Box::new(page.clone());
        let peer = Peer::new(socket, page, granted.len(), self.calls.clone(), notes);
        let (site, label) = (self.id, label.to_owned());
        let joined = self.shared.with(|state| {
            state.join(member, peer, |ears| thread::start(self.shared, ears))?;
            state.on(Event::Joined { member, site, label, granted });
            state.give_hand(member, hand);
            io::Result::Ok(())
        });
        joined.unwrap_or_else(|| Err(io::Error::other("the exchange has ended")))?;
        Ok(Member { shared: self.shared, id: member, _shares: self.shares.clone() })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.resize(0);
    }
}

/// A pool, for threads that cancel what it does. It may be gone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SiteName {
    shared: &'static Shared,
    id: SiteId,
}

impl SiteName {
    /// From the return of this on, the tasks of the job are given nothing more.
    pub(crate) fn drop_job(&self, job: JobId) {
        let site = self.id;
        let _in_fork = self.shared.with(|state| {
            // What the tasks have said until now was before.
            state.hear_all();
            state.on(Event::Unwanted { site, job: Some(job) });
        });
    }
}

/// A worker that may use objects. Its drop says that the worker is gone: what is still in its socket counts.
#[derive(Debug)]
pub(crate) struct Member {
    shared: &'static Shared,
    id: MemberId,
    /// The objects live as long as a worker may use them.
    _shares: Shares,
}

impl Member {
    /// The worker is about to be sent these tasks of a job, by their numbers in its life. It has answered the
    /// first `answered` of its tasks. `is_wanted`: asked under the lock, so that [`SiteName::drop_job`] comes
    /// before or behind this.
    pub(crate) fn assign(
        &self,
        tasks: Range<u64>,
        job: JobId,
        answered: u64,
        is_wanted: impl FnOnce() -> bool,
    ) {
        let member = self.id;
        let _in_fork = self.shared.with(|state| {
            // What the answered tasks have said was before their answers.
            state.hear_of(member);
            let is_wanted = is_wanted();
            state.on(Event::Assigned { member, tasks, job, is_wanted, answered });
        });
    }

    /// The first `tasks` tasks of the worker's life are not wanted any more.
    pub(crate) fn cancel_until(&self, tasks: u64) {
        let member = self.id;
        let _in_fork = self.shared.with(|state| state.on(Event::Cancelled { member, tasks }));
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _in_fork = self.shared.with(|state| state.leave(self.id));
    }
}
