//! A worker as the dispatcher sees it: what it is sent, and whether it is listened to.
//!
//! Nothing that a worker says is believed unchecked: [`inbox`] has each frame judged, and [`reading`] acts
//! on it.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod inbox;
mod instances;
mod plans;
mod reading;
mod sending;

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Instant;

use self::inbox::Inbox;
pub(super) use self::instances::InstancesSeen;
use self::plans::KnownPlans;
use super::arena::Halves;
use super::command::Spec;
use super::heartbeat::Heartbeat;
use super::jobs::OpenJob;
use crate::context::Child;
use crate::exchange::member::Member;
use crate::pool::job::{Job, Reserved};
use crate::protocol::outgoing::Outgoing;
use crate::protocol::session::{PoolWorkerRole, Session};
use crate::sys::CoordinatorPage;

/// How often in a row one worker is read before the others have their turn.
pub(super) const ROUNDS: usize = 8;
/// How often a worker is read whose process has ended. Its socket held a few hundred KiB at most. More can
/// only come from a process that it left behind, which is not listened to.
pub(super) const LAST_ROUNDS: usize = 64;

/// A worker as the coordinator sees it.
pub(super) struct Link {
    pub(super) socket: OwnedFd,
    pub(super) page: Arc<CoordinatorPage>,
    /// `None` until the zygote has said which process it is.
    pub(super) child: Option<Child>,
    /// What the worker is to the exchange, if its guest may use shared objects.
    pub(super) member: Option<Member>,
    /// The jobs of its tasks, by the numbers of the tasks in its life. Only of a member.
    assigned: Vec<(Range<u64>, Weak<Job>)>,
    inbox: Inbox,
    /// The room that its task's outcome has been given in advance.
    reserved: Option<Reserved>,
    outgoing: Outgoing,
    /// The socket is registered for writing.
    wants_write: bool,
    listening: Listening,
    halves: Halves,
    /// The plans that it knows.
    pub(super) plans: KnownPlans,
    /// When its memory was looked at last.
    weighed: Instant,
    pub(super) heartbeat: Heartbeat,
    /// Why we ended it, if we did.
    pub(super) fault: Option<String>,
    /// What has come of its profile.
    pub(super) profile: Vec<u8>,
}

/// Whether a worker is listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listening {
    /// The socket is registered for reading.
    Listens,
    /// There is no room for what would come.
    Paused,
    /// Never again: the worker broke the protocol.
    Distrusts,
}

impl Listening {
    // A worker that is read for the last time may be both paused and distrusted: room for results must not
    // make it heard again.
    fn pause(&mut self) {
        *self = match *self {
            Listening::Listens | Listening::Paused => Listening::Paused,
            Listening::Distrusts => Listening::Distrusts,
        };
    }

    fn resume(&mut self) {
        *self = match *self {
            Listening::Listens | Listening::Paused => Listening::Listens,
            Listening::Distrusts => Listening::Distrusts,
        };
    }
}

impl Link {
    pub(super) fn new(socket: OwnedFd, page: CoordinatorPage, member: Option<Member>, spec: &Spec) -> Link {
        let is_profiled = spec.setup.profile.is_some_and(|profile| profile.interval().is_some());
        Link {
            socket,
            page: Arc::new(page),
            child: None,
            member,
            assigned: Vec::new(),
            inbox: Inbox::new(&spec.limits, is_profiled),
            reserved: None,
            outgoing: Outgoing::default(),
            wants_write: false,
            listening: Listening::Listens,
            halves: Halves::default(),
            plans: KnownPlans::default(),
            weighed: Instant::now(),
            heartbeat: Heartbeat::default(),
            fault: None,
            profile: Vec::new(),
        }
    }

    /// What the worker may say.
    fn session(&mut self) -> &mut Session<PoolWorkerRole> {
        &mut self.inbox.session
    }

    /// The worker is about to be sent tasks of a job. The exchange must know which: from the moment in which
    /// they are cancelled they are given nothing more.
    pub(super) fn assign(&mut self, count: u64, open: &OpenJob) {
        let (sent, answered) = self.session().progress();
        let Some(member) = &self.member else { return };
        let tasks = sent + 1..sent + 1 + count;
        member.assign(tasks.clone(), open.job.id, answered, || open.job.is_wanted());
        // Those that were taken back had the same numbers.
        self.assigned.retain(|(of, _)| of.end > answered + 1 && of.start < tasks.start);
        if let Some((last, _)) = self.assigned.last_mut() {
            last.end = last.end.min(tasks.start);
        }
        self.assigned.push((tasks, Arc::downgrade(&open.job)));
    }

    /// Called before answers are judged. The exchange may have ended tasks of jobs whose cancel is not known
    /// here yet.
    pub(super) fn note_unwanted(&mut self) {
        if self.member.is_some() {
            let is_unwanted = |job: &Weak<Job>| job.upgrade().is_some_and(|job| !job.is_wanted());
            let unwanted = self.assigned.iter().filter(|(_, job)| is_unwanted(job));
            let unwanted = unwanted.map(|(tasks, _)| tasks.clone()).collect();
            self.session().may_drop(unwanted);
        }
    }

    /// Lets the worker drop the first `until` tasks of its life.
    pub(super) fn cancel_until(&mut self, until: u64) {
        self.session().cancel_until(until);
        self.page.cancel_until(until);
        // Behind the page: a guest whose wait ends by this must not begin the next cancelled task.
        self.member.iter().for_each(|member| member.cancel_until(until));
    }

    /// Lets the worker begin nothing more that it holds. Gives how many tasks it says it has begun.
    pub(super) fn freeze(&mut self) -> u64 {
        let started = self.page.freeze();
        self.session().take_back(started);
        started
    }

    /// The worker is about to be told to end.
    pub(super) fn shut_down(&mut self) {
        self.session().shut_down();
    }

    /// Whether the worker was told to end.
    pub(super) fn is_leaving(&self) -> bool {
        self.inbox.session.is_leaving()
    }

    /// Bytes of memory that only the worker uses. `None`: the process is gone, or the worker is a thread.
    fn private_memory(&self) -> Option<u64> {
        let pid = self.child.as_ref().map(Child::pid).filter(|pid| *pid != std::process::id())?;
        let pages = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        let mut pages = pages.split(' ').skip(1).map(str::parse::<u64>);
        let (resident, shared) = (pages.next()?.ok()?, pages.next()?.ok()?);
        Some(resident.saturating_sub(shared).saturating_mul(rustix::param::page_size() as u64))
    }
}
