//! Talking to workers: batches out, results in, and nothing of what they say believed unchecked.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::SendFlags;

use super::arena::{Halves, Parked};
use super::pulse::Pulse;
use super::{Answered, Dispatcher, socket_token};
use crate::context::Child;
use crate::error::TaskError;
use crate::escape::shortened;
use crate::pool::events::PoolEvent;
use crate::pool::job::{By, Reserved, ResultChunk};
use crate::pool::schedule::{Event, JobId, Returned, WorkerId};
use crate::pool::worker::WorkerState;
use crate::protocol::connection::{self, RecvError};
use crate::protocol::frame::{self, Caps, Frame, Kind, Violation};
use crate::protocol::message::{self, Batch, Failure, FromWorker, LARGE, ToWorker, Used};
use crate::spec::PROFILE_LEN_MAX;
use crate::sys::CoordinatorPage;

/// How much is read from a worker at once.
const READ_LEN: usize = 256 << 10;
/// How often in a row one worker is read before the others have their turn.
pub(super) const ROUNDS: usize = 8;
/// How often a worker is read whose process has ended. Its socket held a few hundred KiB at most; whoever writes more is a process that it
/// left behind, and not listened to.
pub(super) const LAST_ROUNDS: usize = 64;
/// What comes before a result: stdout, stderr, the time and what was used. A worker that sends them without end would fill our memory.
const ATTACHMENTS_MAX: usize = 4;
/// Bytes of memory a worker's read buffer keeps when it is empty.
const BUFFER_KEPT: usize = 1 << 20;

/// A worker's memory is looked at no more often than this.
const WEIGH_PERIOD: Duration = Duration::from_millis(100);

/// A worker as the coordinator sees it.
pub(super) struct Link {
    pub(super) socket: OwnedFd,
    pub(super) page: Arc<CoordinatorPage>,
    /// `None` until the zygote has said which process it is.
    pub(super) child: Option<Child>,
    incoming: Vec<u8>,
    /// The large frame that has begun to come, if one has.
    begun: Option<Begun>,
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
    stage: Stage,
    plans: Vec<u32>,
    /// It was told to end.
    pub(super) is_retiring: bool,
    /// When its memory was looked at last.
    weighed: Instant,
    /// It was asked for then. (Of a clock that goes on while this program is stopped: workers may not know of that.)
    since: Instant,
    pub(super) pulse: Pulse,
    /// Why we ended it, if we did.
    pub(super) fault: Option<String>,
    /// What has come of its profile.
    pub(super) profile: Vec<u8>,
    /// It broke the protocol: what it says is not listened to any more.
    distrusted: bool,
    /// When its socket was shut to end it, since it may not be killed.
    pub(super) disconnected: Option<Instant>,
}

/// The head of a frame longer than [`READ_LEN`], as far as it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Begun {
    /// Where in the incoming bytes.
    at: usize,
    missing: usize,
    /// There is room for it.
    is_granted: bool,
}

impl Begun {
    /// What has begun behind the whole frames, if it is large: `at` is their end. `before`: what had.
    fn find(incoming: &[u8], at: usize, before: Option<Begun>) -> Option<Begun> {
        let (_, len) = frame::head(&incoming[at..]).ok().flatten().filter(|(_, len)| *len > READ_LEN)?;
        let missing = (frame::HEADER_LEN + len).saturating_sub(incoming.len() - at);
        Some(Begun {
            at,
            missing,
            is_granted: before.is_some_and(|begun| begun.at == at && begun.is_granted),
        })
    }
}

/// So many failures to make an instance, and none ever made: there is no use in trying on. As many tries as workers have that do not start.
const NO_INSTANCE_MAX: u32 = 5;

/// Whether the module can be instantiated at all. That is the tasks' own word, so that no worker can end a pool in which others succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InstancesSeen {
    /// None so far, and so many failures.
    None {
        failures: u32,
    },
    Some,
}

impl InstancesSeen {
    /// Takes note of how a task has failed. `true`: that was the last failure that we wait for.
    fn note(&mut self, failure: &Failure) -> bool {
        match (&mut *self, failure) {
            (InstancesSeen::None { failures }, Failure::NoInstance { .. }) => {
                *failures += 1;
                *failures == NO_INSTANCE_MAX
            }
            // Not begun either, for reasons of its own.
            (_, Failure::BadRecord { .. } | Failure::Cancelled) | (InstancesSeen::Some, _) => false,
            (InstancesSeen::None { .. }, _) => {
                *self = InstancesSeen::Some;
                false
            }
        }
    }
}

/// How far a worker's start has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Silent,
    Greeted,
    Ready,
}

impl Link {
    pub(super) fn new(socket: OwnedFd, page: CoordinatorPage) -> Link {
        Link {
            socket,
            page: Arc::new(page),
            child: None,
            incoming: Vec::new(),
            begun: None,
            reserved: None,
            outgoing: Vec::new(),
            sent: 0,
            wants_write: false,
            wants_read: true,
            halves: Halves::default(),
            stage: Stage::Silent,
            plans: Vec::new(),
            is_retiring: false,
            weighed: Instant::now(),
            since: Instant::now(),
            pulse: Pulse::default(),
            fault: None,
            profile: Vec::new(),
            distrusted: false,
            disconnected: None,
        }
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
            && let Some(call) = self.plans.get(&plan)
        {
            link.plans.push(plan);
            message::write_control(&mut link.outgoing, &ToWorker::Plan { id: plan, call: call.clone() });
        }
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
                match records.len() as u64 / part < LARGE as u64 {
                    true => out.extend_from_slice(records),
                    false => {
                        (first..first + part).for_each(|n| add_large(chunk.records(n, 1), halves, page, out))
                    }
                }
                (first, left) = (first + part, left - part);
            }
        });
        self.tell(|| PoolEvent::TasksStarted { job, tasks: first..first + count, attempt, worker });
        self.ledger().holds(worker);
        self.set_state(worker, WorkerState::Busy);
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

    /// Whether there is room for what the worker says next. For a large frame that has begun it is kept free from then on.
    fn may_read(&mut self, worker: WorkerId) -> bool {
        let Some(link) = self.links.get_mut(&worker) else { return true };
        // Whatever is no result is small.
        let Some(job) = self.schedule.front(worker).and_then(|job| self.jobs.get(&job)).map(|open| &open.job)
        else {
            return true;
        };
        let undelivered = job.undelivered();
        let is_awaited = |task| self.schedule.holds(worker, job.id, task);
        let begun = match &mut link.begun {
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

    /// Reads up to `rounds` times, so that others have their turn too; what is left is reported again.
    pub(super) fn serve_socket(&mut self, worker: WorkerId, rounds: usize) {
        self.flush(worker);
        for _ in 0..rounds {
            // Of one that has ended, little can be left.
            if rounds != LAST_ROUNDS && !self.may_read(worker) {
                return self.pause(worker);
            }
            let Some(link) = self.links.get_mut(&worker) else { return };
            if link.distrusted || self.schedule.is_terminated() {
                // It has been killed. What it has still to say counts for nothing.
                let _gone = epoll::delete(&self.epoll, &link.socket);
                return;
            }
            let most = match link.begun {
                // No more than that, so that it can be passed on without a copy.
                Some(Begun { missing, .. }) => {
                    link.incoming.reserve_exact(missing);
                    missing
                }
                None => READ_LEN,
            };
            let read = match connection::recv_onto(&link.socket, &mut link.incoming, most) {
                Ok(0) => return self.hung_up(worker),
                Ok(_) => self.read(worker),
                Err(RecvError::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(RecvError::Closed | RecvError::Io(_)) => return self.hung_up(worker),
                Err(RecvError::Violation(violation)) => Err(violation),
            };
            if let Err(violation) = read {
                return self.punish(worker, &violation);
            }
        }
    }

    /// The worker closed its socket. It is ending; if it should not, it is ended.
    fn hung_up(&mut self, worker: WorkerId) {
        let Some(link) = self.links.get_mut(&worker) else { return };
        let _gone = epoll::delete(&self.epoll, &link.socket);
        // A process that is exiting already keeps its exit code.
        if link.child.as_ref().is_some_and(|child| !child.kill()) {
            self.disconnect(worker);
        }
    }

    /// The worker broke the protocol: it may be the attacker's by now.
    fn punish(&mut self, worker: WorkerId, violation: &Violation) {
        if let Some(link) = self.links.get_mut(&worker) {
            let _gone = epoll::delete(&self.epoll, &link.socket);
            link.incoming = Vec::new();
            link.distrusted = true;
            // One that was ended already may speak out of turn: a thread says that it has dropped its task.
            if link.fault.is_none() {
                tracing::warn!(target: "wpool::pool", worker, %violation, "protocol error");
                link.fault = Some(format!("protocol error: {violation}"));
            }
        }
        self.kill(worker);
    }

    /// Handles the whole frames that have come from a worker.
    fn read(&mut self, worker: WorkerId) -> Result<(), Violation> {
        let Some(link) = self.links.get_mut(&worker) else { return Ok(()) };
        let bytes = std::mem::take(&mut link.incoming);
        let before = link.begun.take();
        let mut results = Results { from: 0, count: 0, failed: 0, attached: 0 };
        let caps = Caps::of_worker(&self.spec.limits);
        let mut at = 0;
        let read = loop {
            if let Err(violation) = caps.check(&bytes[at..]) {
                break Err(violation);
            }
            let frame = match frame::parse(&bytes[at..]) {
                Ok(Some(frame)) => frame,
                Ok(None) => break Ok(()),
                Err(violation) => break Err(violation),
            };
            let end = at + frame.len();
            if let Err(violation) = self.handle(worker, frame, at, end, &bytes, &mut results) {
                break Err(violation);
            }
            at = end;
        };
        let begun = Begun::find(&bytes, at, before);
        if results.count == 1 && results.from == 0 && at == bytes.len() && at > READ_LEN {
            self.pass_on_one(worker, bytes, results.failed);
            return read;
        }
        // Whole results go on now; attachments whose result has not come wait for it.
        let from = self.pass_on(worker, &bytes, &mut results);
        let kept = if read.is_err() { bytes.len() } else { from };
        if let Some(link) = self.links.get_mut(&worker) {
            link.incoming = bytes;
            link.incoming.drain(..kept);
            if link.incoming.is_empty() {
                link.incoming.shrink_to(BUFFER_KEPT);
            }
            link.begun = begun.filter(|_| read.is_ok()).map(|begun| Begun { at: begun.at - kept, ..begun });
        }
        read
    }

    /// Passes one result on as it is: it may be large.
    fn pass_on_one(&mut self, worker: WorkerId, frames: Vec<u8>, failed: u64) {
        let by = self.by(worker);
        let mut frames = Some(frames);
        self.on_answer(Returned { worker, count: 1, failed }, |this, count, answered| {
            let frames = frames.take().unwrap_or_default();
            if let Some(Answered { job, first, attempt }) = answered {
                this.deliver(job, ResultChunk::answered(first, count, frames, By { attempt, ..by }), failed);
            }
        });
    }

    fn handle(
        &mut self,
        worker: WorkerId,
        frame: Frame<'_>,
        at: usize,
        end: usize,
        bytes: &[u8],
        results: &mut Results,
    ) -> Result<(), Violation> {
        match frame.kind {
            Kind::Returned => {
                self.expect_answer(worker, results)?;
                self.unreserve(worker);
                if self.spec.tells_apart && results.failed > 0 {
                    self.pass_on(worker, &bytes[..at], results);
                }
                results.count += 1;
                results.attached = 0;
                self.instances = InstancesSeen::Some;
                Ok(())
            }
            Kind::Placed => {
                self.expect_answer(worker, results)?;
                self.unreserve(worker);
                self.pass_on(worker, &bytes[..at], results);
                self.fetch(worker, &bytes[results.from..at], frame.payload)?;
                results.from = end;
                results.attached = 0;
                Ok(())
            }
            Kind::Failed => {
                self.expect_answer(worker, results)?;
                self.unreserve(worker);
                results.attached = 0;
                let failure = message::read_failure(frame.payload)?;
                let has_dropped =
                    failure == Failure::Cancelled && results.count < self.schedule.droppable(worker);
                let may_say = failure.is_of_a_task() || has_dropped;
                if !may_say {
                    return Err(Violation::Unexpected("a failure that is not a worker's to tell"));
                }
                let never = self.instances.note(&failure).then(|| failure.clone());
                if self.spec.retry_on.is_some() && self.is_worth_retrying(&TaskError::from(failure.clone())) {
                    // May not be the last word, so that it goes its own way.
                    self.pass_on(worker, &bytes[..at], results);
                    let frames = &bytes[results.from..end];
                    self.fail(worker, frames, &failure);
                    results.from = end;
                } else {
                    if self.spec.tells_apart && results.failed < results.count {
                        self.pass_on(worker, &bytes[..at], results);
                    }
                    results.count += 1;
                    results.failed += 1;
                }
                if let Some(failure) = never {
                    self.pass_on(worker, &bytes[..end], results);
                    let error = TaskError::from(failure);
                    self.on(Event::Broke {
                        reason: format!("no task can be begun ({NO_INSTANCE_MAX} tries): {error}"),
                    });
                }
                Ok(())
            }
            Kind::Stdout | Kind::Stderr | Kind::Took | Kind::Used => {
                self.judge_figures(worker, frame)?;
                results.attached += 1;
                match results.attached > ATTACHMENTS_MAX {
                    true => Err(Violation::Unexpected("more output than a task has streams")),
                    false => Ok(()),
                }
            }
            Kind::BatchDone => {
                let (busy, instances) = message::read_batch_done(frame.payload)?;
                self.pass_on(worker, &bytes[..at], results);
                results.from = end;
                if !self.schedule.is_through(worker) {
                    return Err(Violation::Unexpected("the end of a batch that the worker does not hold"));
                }
                if let Some(link) = self.links.get_mut(&worker) {
                    link.halves.batch_done(&link.page);
                }
                self.on(Event::BatchDone { worker, busy });
                let is_busy = self.schedule.is_busy(worker);
                self.ledger().batch_done(worker, busy, instances, is_busy);
                if !is_busy {
                    self.set_state(worker, WorkerState::Idle);
                }
                self.weigh(worker);
                Ok(())
            }
            Kind::Control => {
                self.pass_on(worker, &bytes[..at], results);
                results.from = end;
                self.hear(worker, message::read_control(frame)?)
            }
            Kind::Profile => {
                self.pass_on(worker, &bytes[..at], results);
                results.from = end;
                self.hear_profile(worker, frame.payload)
            }
            Kind::Batch | Kind::Input => Err(Violation::Unexpected("a worker sent a batch")),
        }
    }

    /// What a worker says about a task's time and use must be possible.
    fn judge_figures(&self, worker: WorkerId, frame: Frame<'_>) -> Result<(), Violation> {
        let passed = self.links.get(&worker).map_or(Duration::ZERO, |link| link.since.elapsed());
        match frame.kind {
            Kind::Took => message::read_took(frame.payload, passed).map(drop),
            Kind::Used => Used::read_within(frame.payload, &self.spec.limits).map(drop),
            _ => Ok(()),
        }
    }

    /// A worker that was told to end hands its profile over, if there is one.
    fn hear_profile(&mut self, worker: WorkerId, piece: &[u8]) -> Result<(), Violation> {
        let Some(link) = self.links.get_mut(&worker) else { return Ok(()) };
        let is_profiled = self.spec.setup.profile.is_some_and(|profile| profile.interval().is_some());
        if !link.is_retiring || !is_profiled {
            return Err(Violation::Unexpected("the worker spoke out of turn"));
        }
        link.profile.extend_from_slice(piece);
        match link.profile.len() > PROFILE_LEN_MAX {
            true => Err(Violation::TooLong { len: link.profile.len() }),
            false => Ok(()),
        }
    }

    /// The outcome is whole: it is counted where it goes.
    fn unreserve(&mut self, worker: WorkerId) {
        if let Some(link) = self.links.get_mut(&worker) {
            link.reserved = None;
        }
    }

    fn expect_answer(&self, worker: WorkerId, results: &Results) -> Result<(), Violation> {
        match self.schedule.unanswered(worker) > results.count {
            true => Ok(()),
            false => Err(Violation::Unexpected("a result for a task that the worker does not hold")),
        }
    }

    fn hear(&mut self, worker: WorkerId, message: FromWorker) -> Result<(), Violation> {
        match message {
            FromWorker::Hello { version } if version == crate::protocol::VERSION => {
                self.set_stage(worker, Stage::Silent, Stage::Greeted)
            }
            FromWorker::Hello { .. } => Err(Violation::Unexpected("the worker is of another version")),
            FromWorker::Ready => {
                self.set_stage(worker, Stage::Greeted, Stage::Ready)?;
                self.set_state(worker, WorkerState::Idle);
                self.ledger().ready(worker);
                self.tell(|| PoolEvent::WorkerReady { worker });
                self.on(Event::Ready { worker });
                self.count_ready();
                Ok(())
            }
            FromWorker::InitFailed { failure } => {
                self.set_stage(worker, Stage::Greeted, Stage::Greeted)?;
                if !failure.is_of_a_task() {
                    return Err(Violation::Unexpected("a failure that is not a worker's to tell"));
                }
                let error = TaskError::from(failure.shortened());
                self.on(Event::Broke { reason: format!("the initializer failed: {error}") });
                Ok(())
            }
            FromWorker::Refused { reason } => {
                if let Some(link) = self.links.get_mut(&worker)
                    && link.fault.replace(shortened(&reason)).is_some()
                {
                    return Err(Violation::Unexpected("the worker gave up twice"));
                }
                Ok(())
            }
            FromWorker::Unconfined { missing } => {
                // Later it would be the guest's word.
                if self.links.get(&worker).is_none_or(|link| link.stage != Stage::Greeted) {
                    return Err(Violation::Unexpected("the worker spoke of its confinement out of turn"));
                }
                if let Err(reason) = self.spec.launch.program.sandbox.judge(missing) {
                    self.on(Event::Broke { reason });
                }
                Ok(())
            }
            FromWorker::Thawed if self.schedule.is_frozen(worker) => {
                if let Some(link) = self.links.get_mut(&worker) {
                    link.halves.all_done(&link.page);
                }
                self.on(Event::Thawed { worker });
                Ok(())
            }
            FromWorker::Thawed
            | FromWorker::Compiled(_)
            | FromWorker::Imports { .. }
            | FromWorker::WantsInput
            | FromWorker::Needs { .. }
            | FromWorker::Forked { .. }
            | FromWorker::NotForked { .. }
            | FromWorker::Report(_) => Err(Violation::Unexpected("the worker spoke out of turn")),
        }
    }

    /// A worker's start goes step by step, once.
    fn set_stage(&mut self, worker: WorkerId, from: Stage, to: Stage) -> Result<(), Violation> {
        match self.links.get_mut(&worker) {
            Some(link) if link.stage != from => Err(Violation::Unexpected("the worker spoke out of turn")),
            Some(link) => {
                link.stage = to;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Passes the whole results in `bytes[results.from..]` on. Gives where attachments begin that have no result yet.
    fn pass_on(&mut self, worker: WorkerId, bytes: &[u8], results: &mut Results) -> usize {
        if results.count == 0 {
            return results.from;
        }
        let by = self.by(worker);
        let mut at = results.from;
        let (count, mut failures) = (results.count, results.failed);
        self.on_answer(Returned { worker, count, failed: failures }, |this, count, answered| {
            let end = at + len_of_outcomes(&bytes[at..], count);
            let frames = &bytes[at..end];
            at = end;
            let failed = failures.min(count);
            failures -= failed;
            if let Some(Answered { job, first, attempt }) = answered {
                let chunk = ResultChunk::answered(first, count, frames.to_vec(), By { attempt, ..by });
                this.deliver(job, chunk, failed);
            }
        });
        results.count = 0;
        results.failed = 0;
        results.from = at;
        at
    }

    /// Passes on a result that lies in the arena: copied out if there is room for it, else as where it is. `attached`: the frames that belong to it.
    fn fetch(&mut self, worker: WorkerId, attached: &[u8], place: &[u8]) -> Result<(), Violation> {
        let wrong = || Violation::Malformed("a result at no place".to_owned());
        let Some(link) = self.links.get(&worker) else { return Ok(()) };
        let (offset, len) = place.split_first_chunk().ok_or_else(wrong)?;
        let len = u64::from_le_bytes(len.try_into().map_err(|_| wrong())?);
        let len =
            usize::try_from(len).ok().filter(|len| *len <= self.spec.limits.output).ok_or_else(wrong)?;
        let parked = Parked::new(&link.page, u64::from_le_bytes(*offset), len).map_err(|_| wrong())?;
        let job = self.schedule.front(worker).and_then(|job| self.jobs.get(&job));
        let mut frames = Vec::with_capacity(attached.len() + frame::HEADER_LEN);
        frames.extend_from_slice(attached);
        frame::write_head(&mut frames, Kind::Returned, len);
        if job.is_some_and(|open| open.job.undelivered().has_room(len as u64)) {
            parked.fetch(&mut frames).map_err(|_| wrong())?;
            self.pass_on_one(worker, frames, 0);
            return Ok(());
        }
        let by = self.by(worker);
        let mut chunk = Some((frames, parked));
        self.on_answer(Returned { worker, count: 1, failed: 0 }, |this, _, answered| {
            if let (Some((frames, parked)), Some(Answered { job, first, attempt })) = (chunk.take(), answered)
            {
                this.deliver(job, ResultChunk::parked(first, frames, parked, By { attempt, ..by }), 0);
            }
        });
        Ok(())
    }

    /// A task failed in a way that may be worth another try.
    fn fail(&mut self, worker: WorkerId, frames: &[u8], failure: &Failure) {
        if !self.try_again(worker, failure) {
            self.pass_on_one(worker, frames.to_vec(), 1);
        }
    }

    /// Looks at what a worker uses, if that is limited: between its batches, when no task's memory is in the way.
    fn weigh(&mut self, worker: WorkerId) {
        let Some(max) = self.spec.memory_max else { return };
        let Some(link) = self.links.get_mut(&worker).filter(|link| link.weighed.elapsed() >= WEIGH_PERIOD)
        else {
            return;
        };
        link.weighed = Instant::now();
        if link.private_memory().is_some_and(|bytes| bytes > max) {
            self.on(Event::Oversized { worker });
        }
    }

    /// Tells whoever waits for the pool to be complete.
    fn count_ready(&mut self) {
        if let Some((awaited, _)) = &mut self.spec.awaited {
            *awaited -= 1;
            if *awaited == 0
                && let Some((_, complete)) = self.spec.awaited.take()
            {
                let _nobody_waits = complete.send(());
            }
        }
    }

    fn by(&self, worker: WorkerId) -> By {
        let pid = self.links.get(&worker).and_then(|l| l.child.as_ref()).map_or(0, Child::pid);
        By { worker, pid, attempt: 1 }
    }
}

/// Adds a record to a batch, through the arena if it is large and there is room.
fn add_large(record: &[u8], halves: &mut Halves, page: &CoordinatorPage, out: &mut Vec<u8>) {
    match Batch::bytes_of(record).and_then(|bytes| Some((halves.put(page, bytes)?, bytes.len()))) {
        Some((offset, len)) => Batch::write_placed(out, offset, len),
        None => out.extend_from_slice(record),
    }
}

/// A run of answers within the bytes being read.
struct Results {
    /// Where the run begins.
    from: usize,
    /// Whole results in it so far.
    count: u64,
    /// Those of them that are failures.
    failed: u64,
    /// Frames since the last result that belong to the next.
    attached: usize,
}

/// The bytes of the first `count` outcomes.
fn len_of_outcomes(bytes: &[u8], count: u64) -> usize {
    let mut at = 0;
    let mut left = count;
    while left > 0 {
        let Ok(Some(frame)) = frame::parse(&bytes[at..]) else { break };
        at += frame.len();
        left -= u64::from(matches!(frame.kind, Kind::Returned | Kind::Failed));
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f6_only_a_module_of_which_there_never_was_an_instance_is_given_up() {
        let trap = || Failure::Trap { message: "unreachable".to_owned(), backtrace: vec![] };
        let unmade = || Failure::NoInstance { failure: Box::new(trap()) };
        let mut seen = InstancesSeen::None { failures: 0 };
        for _ in 1..NO_INSTANCE_MAX {
            assert!(!seen.note(&unmade()));
            // Says nothing about instances.
            assert!(!seen.note(&Failure::BadRecord { message: String::new() }));
        }
        assert!(seen.note(&unmade()), "that was the last one");

        let mut seen = InstancesSeen::None { failures: 0 };
        assert!(!seen.note(&unmade()));
        // It was there, and trapped.
        assert!(!seen.note(&trap()));
        assert!((0..100).all(|_| !seen.note(&unmade())));
    }
}
