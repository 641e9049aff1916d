//! A worker as the dispatcher sees it: what it is sent, and whether it is listened to.
//!
//! Nothing that a worker says is believed unchecked: [`inbox`] has each frame judged, and [`reading`] acts
//! on it.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod inbox;
mod instances;
mod reading;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::SendFlags;

use self::inbox::{Begun, Inbox};
pub(super) use self::instances::InstancesSeen;
use super::arena::Halves;
use super::heartbeat::Heartbeat;
use super::{Dispatcher, Spec, socket_token};
use crate::context::Child;
use crate::pool::events::PoolEvent;
use crate::pool::job::Reserved;
use crate::pool::schedule::{Event, JobId, WorkerId};
use crate::pool::worker::WorkerState;
use crate::protocol::frame::{self, Kind};
use crate::protocol::message::{self, Batch, LARGE, ToWorker};
use crate::protocol::session::{PoolWorkerRole, Session};
use crate::sys::CoordinatorPage;

/// How often in a row one worker is read before the others have their turn.
pub(super) const ROUNDS: usize = 8;
/// How often a worker is read whose process has ended. Its socket held a few hundred KiB at most. More can
/// only come from a process that it left behind, which is not listened to.
pub(super) const LAST_ROUNDS: usize = 64;
/// Bytes of memory that the buffer for what is sent keeps when it is empty.
const BUFFER_KEPT: usize = 1 << 20;

/// A worker as the coordinator sees it.
pub(super) struct Link {
    pub(super) socket: OwnedFd,
    pub(super) page: Arc<CoordinatorPage>,
    /// `None` until the zygote has said which process it is.
    pub(super) child: Option<Child>,
    inbox: Inbox,
    /// The room that its task's outcome has been given in advance.
    reserved: Option<Reserved>,
    outgoing: Vec<u8>,
    /// How much of `outgoing` is sent.
    sent: usize,
    /// The socket is registered for writing.
    wants_write: bool,
    /// The socket is registered for reading; if not, there is no room for what would come.
    wants_read: bool,
    halves: Halves,
    /// The plans that it was sent.
    plans: Vec<u32>,
    /// When its memory was looked at last.
    weighed: Instant,
    pub(super) heartbeat: Heartbeat,
    /// Why we ended it, if we did.
    pub(super) fault: Option<String>,
    /// What has come of its profile.
    pub(super) profile: Vec<u8>,
    /// It broke the protocol: what it says is not listened to any more.
    distrusted: bool,
    /// When its socket was shut to end it, since it may not be killed.
    pub(super) disconnected: Option<Instant>,
}

impl Link {
    pub(super) fn new(socket: OwnedFd, page: CoordinatorPage, spec: &Spec) -> Link {
        let is_profiled = spec.setup.profile.is_some_and(|profile| profile.interval().is_some());
        Link {
            socket,
            page: Arc::new(page),
            child: None,
            inbox: Inbox::new(&spec.limits, is_profiled),
            reserved: None,
            outgoing: Vec::new(),
            sent: 0,
            wants_write: false,
            wants_read: true,
            halves: Halves::default(),
            plans: Vec::new(),
            weighed: Instant::now(),
            heartbeat: Heartbeat::default(),
            fault: None,
            profile: Vec::new(),
            distrusted: false,
            disconnected: None,
        }
    }

    /// What the worker may say.
    fn session(&mut self) -> &mut Session<PoolWorkerRole> {
        &mut self.inbox.session
    }

    /// Lets the worker drop the first `until` tasks of its life.
    pub(super) fn cancel_until(&mut self, until: u64) {
        self.session().cancel_until(until);
        self.page.cancel_until(until);
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

    /// Bytes of memory that the worker shares with nobody. `None`: it is gone, or no process of its own.
    fn private_memory(&self) -> Option<u64> {
        let pid = self.child.as_ref().map(Child::pid).filter(|pid| *pid != std::process::id())?;
        let pages = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        let mut pages = pages.split(' ').skip(1).map(str::parse::<u64>);
        let (resident, shared) = (pages.next()?.ok()?, pages.next()?.ok()?);
        Some(resident.saturating_sub(shared).saturating_mul(rustix::param::page_size() as u64))
    }
}

impl Dispatcher {
    pub(super) fn send(&mut self, worker: WorkerId, job: JobId, first: u64, count: u64, attempt: u32) {
        let (Some(link), Some(open)) = (self.links.get_mut(&worker), self.jobs.get(&job)) else { return };
        let plan = open.job.plan;
        if !link.plans.contains(&plan)
            && let Some(call) = self.jobs.call(plan)
        {
            link.plans.push(plan);
            message::write_control(&mut link.outgoing, &ToWorker::Plan { id: plan, call: call.clone() });
        }
        link.session().sent_batch(count);
        let Link { outgoing, halves, page, .. } = link;
        halves.begin();
        frame::write(outgoing, Kind::Batch, |out| {
            Batch::write_head(out, plan, attempt);
            let (mut first, mut left) = (first, count);
            while left > 0 {
                let at = open.chunks.partition_point(|c| c.first + c.count() <= first);
                let chunk = &open.chunks[at];
                let part = left.min(chunk.first + chunk.count() - first);
                let records = chunk.records(first, part);
                if records.len() as u64 / part < LARGE as u64 {
                    out.extend_from_slice(records);
                } else {
                    (first..first + part).for_each(|n| add_large(chunk.records(n, 1), halves, page, out));
                }
                (first, left) = (first + part, left - part);
            }
        });
        self.reports.tell(|| PoolEvent::TasksStarted { job, tasks: first..first + count, attempt, worker });
        self.reports.ledger().holds(worker);
        self.reports.set_state(worker, WorkerState::Busy);
        self.flush(worker);
    }

    /// Sends what of its setup a worker has not got yet.
    pub(super) fn send_rest(&mut self, worker: WorkerId, setup: Vec<u8>) {
        if let Some(link) = self.links.get_mut(&worker) {
            link.outgoing = setup;
            self.flush(worker);
        }
    }

    pub(super) fn say(&mut self, worker: WorkerId, message: &ToWorker) {
        if let Some(link) = self.links.get_mut(&worker) {
            message::write_control(&mut link.outgoing, message);
            self.flush(worker);
        }
    }

    /// Writes as much as the socket takes; the rest when it is ready for more.
    fn flush(&mut self, worker: WorkerId) {
        let Some(link) = self.links.get_mut(&worker) else { return };
        while link.sent < link.outgoing.len() {
            match rustix::net::send(
                &link.socket,
                &link.outgoing[link.sent..],
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            ) {
                Ok(sent) => link.sent += sent,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                // It is dying; its process will tell.
                Err(_) => {
                    link.sent = link.outgoing.len();
                }
            }
        }
        if link.sent == link.outgoing.len() {
            link.sent = 0;
            link.outgoing.clear();
            link.outgoing.shrink_to(BUFFER_KEPT);
        }
        let wants_write = !link.outgoing.is_empty();
        if wants_write != link.wants_write {
            link.wants_write = wants_write;
            self.watch(worker);
        }
    }

    /// Registers the socket for what is wanted of it.
    fn watch(&self, worker: WorkerId) {
        let Some(link) = self.links.get(&worker) else { return };
        let flag = |wanted, flag| if wanted { flag } else { EventFlags::empty() };
        let flags = flag(link.wants_read, EventFlags::IN) | flag(link.wants_write, EventFlags::OUT);
        let _gone = epoll::modify(&self.epoll, &link.socket, EventData::new_u64(socket_token(worker)), flags);
    }

    /// Listens to the paused workers for whose results there is room.
    pub(super) fn resume(&mut self) {
        for worker in self.paused.iter().copied().collect::<Vec<_>>() {
            if self.may_read(worker) {
                self.paused.remove(&worker);
                if let Some(link) = self.links.get_mut(&worker) {
                    link.wants_read = true;
                    self.watch(worker);
                    self.on(Event::Resumed { worker });
                }
            }
        }
    }

    /// Until there is room, what the worker has to say waits with it.
    fn pause(&mut self, worker: WorkerId) {
        let Some(link) = self.links.get_mut(&worker) else { return };
        link.wants_read = false;
        self.watch(worker);
        self.paused.insert(worker);
        if let Some(job) = self.schedule.front(worker) {
            self.note_full(job);
        }
        self.on(Event::Paused { worker });
    }

    /// Whether there is room for what the worker says next. The room for a large frame that has begun is
    /// reserved.
    fn may_read(&mut self, worker: WorkerId) -> bool {
        let Some(link) = self.links.get_mut(&worker) else { return true };
        // Whatever is no result is small.
        let Some(job) = self.schedule.front(worker).and_then(|job| self.jobs.get(&job)).map(|open| &open.job)
        else {
            return true;
        };
        let undelivered = job.undelivered();
        let is_awaited = |task| self.schedule.holds(worker, job.id, task);
        let begun = match &mut link.inbox.begun {
            None => return undelivered.may_come(is_awaited),
            Some(Begun { is_granted: true, .. }) => return true,
            Some(begun) => begun,
        };
        let missing = begun.missing as u64;
        begun.is_granted = undelivered.has_room(missing) || undelivered.is_wanted(is_awaited);
        match &mut link.reserved {
            _ if !begun.is_granted => {}
            Some(reserved) => reserved.add(missing),
            None => link.reserved = Some(job.reserve(missing)),
        }
        begun.is_granted
    }
}

/// Adds a record to a batch, through the arena if it is large and there is room.
fn add_large(record: &[u8], halves: &mut Halves, page: &CoordinatorPage, out: &mut Vec<u8>) {
    match Batch::bytes_of(record).and_then(|bytes| Some((halves.put(page, bytes)?, bytes.len()))) {
        Some((offset, len)) => Batch::write_placed(out, offset, len),
        None => out.extend_from_slice(record),
    }
}
