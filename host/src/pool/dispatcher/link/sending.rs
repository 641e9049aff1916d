//! What a worker is sent, and whether it is listened to.

use std::ops::Range;

use rustix::event::epoll::{self, EventData, EventFlags};

use super::inbox::Begun;
use super::{Link, Listening};
use crate::pool::dispatcher::Dispatcher;
use crate::pool::dispatcher::arena::Halves;
use crate::pool::dispatcher::jobs::OpenJob;
use crate::pool::events::PoolEvent;
use crate::pool::job::InputChunk;
use crate::pool::schedule::{Event, JobId, WorkerId};
use crate::pool::worker::WorkerState;
use crate::protocol::batch::{Batch, LARGE};
use crate::protocol::frame::Kind;
use crate::protocol::message::ToWorker;
use crate::protocol::outgoing::Outgoing;
use crate::sys::CoordinatorPage;

impl Dispatcher {
    pub(in crate::pool::dispatcher) fn send(
        &mut self,
        worker: WorkerId,
        job: JobId,
        tasks: Vec<Range<u64>>,
        attempt: u32,
    ) {
        let (Some(link), Some(open)) = (self.links.get_mut(&worker), self.jobs.get(&job)) else { return };
        let plan = open.plan.id;
        if !link.plans.knows(plan) {
            for id in link.plans.add(plan, open.plan.call.fixed.bytes().len()) {
                link.outgoing.say(&ToWorker::Forget { id });
            }
            link.outgoing.say(&ToWorker::Plan { id: plan, call: open.plan.call.clone() });
        }
        let count = tasks.iter().map(|span| span.end - span.start).sum();
        link.assign(count, open);
        link.session().sent_batch(count);
        let Link { outgoing, halves, page, .. } = link;
        halves.begin();
        outgoing.frame(Kind::Batch, |outgoing| {
            Batch::write_head(outgoing.buffer(), plan, attempt);
            for span in &tasks {
                write_records(open, span.clone(), halves, page, outgoing);
            }
        });
        for tasks in tasks {
            self.reports.tell(|| PoolEvent::TasksStarted { job, tasks, attempt, worker });
        }
        self.reports.ledger().holds(worker);
        self.reports.set_state(worker, WorkerState::Busy);
        self.flush(worker);
    }

    /// Sends what of its setup a worker has not got yet.
    pub(in crate::pool::dispatcher) fn send_rest(&mut self, worker: WorkerId, setup: Outgoing) {
        if let Some(link) = self.links.get_mut(&worker) {
            link.outgoing = setup;
            self.flush(worker);
        }
    }

    pub(in crate::pool::dispatcher) fn say(&mut self, worker: WorkerId, message: &ToWorker) {
        if let Some(link) = self.links.get_mut(&worker) {
            link.outgoing.say(message);
            self.flush(worker);
        }
    }

    /// Lets a worker forget a plan.
    pub(in crate::pool::dispatcher) fn forget(&mut self, worker: WorkerId, plan: u32) {
        if let Some(link) = self.links.get_mut(&worker) {
            link.plans.remove(plan);
            self.say(worker, &ToWorker::Forget { id: plan });
        }
    }

    /// Writes as much as the socket takes; the rest when it is ready for more.
    pub(super) fn flush(&mut self, worker: WorkerId) {
        let Some(link) = self.links.get_mut(&worker) else { return };
        // After an error it is dying; its process will tell.
        let _dying = link.outgoing.send(&link.socket);
        // Registered only while something waits: a socket that takes more is nearly always ready, and would
        // wake every wait.
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
        let is_heard = link.listening == Listening::Listens;
        let flags = flag(is_heard, EventFlags::IN) | flag(link.wants_write, EventFlags::OUT);
        let token = EventData::new_u64(u64::from(worker));
        let _gone = epoll::modify(&self.epoll.sockets, &link.socket, token, flags);
    }

    /// Listens to the paused workers for whose results there is room.
    pub(in crate::pool::dispatcher) fn resume(&mut self) {
        for worker in self.paused.iter().copied().collect::<Vec<_>>() {
            if self.may_read(worker) {
                self.paused.remove(&worker);
                if let Some(link) = self.links.get_mut(&worker) {
                    link.listening.resume();
                    self.watch(worker);
                    self.on(Event::Resumed { worker });
                }
            }
        }
    }

    /// Until there is room, what the worker has to say waits with it.
    pub(super) fn pause(&mut self, worker: WorkerId) {
        let Some(link) = self.links.get_mut(&worker) else { return };
        link.listening.pause();
        self.watch(worker);
        self.paused.insert(worker);
        if let Some(job) = self.schedule.front(worker) {
            self.note_full(job);
        }
        self.on(Event::Paused { worker });
    }

    /// Whether there is room for what the worker says next. The room for a large frame that has begun is
    /// reserved.
    pub(super) fn may_read(&mut self, worker: WorkerId) -> bool {
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

/// Adds the records of consecutive tasks to a batch.
fn write_records(
    open: &OpenJob,
    tasks: Range<u64>,
    halves: &mut Halves,
    page: &CoordinatorPage,
    outgoing: &mut Outgoing,
) {
    let mut first = tasks.start;
    while first < tasks.end {
        let at = open.chunks.partition_point(|c| c.first + c.count() <= first);
        let chunk = &open.chunks[at];
        let part = tasks.end.min(chunk.first + chunk.count()) - first;
        let records = chunk.records(first, part);
        if records.len() as u64 / part < LARGE as u64 {
            outgoing.buffer().extend_from_slice(records);
        } else {
            (first..first + part).for_each(|n| add_large(chunk, n, halves, page, outgoing));
        }
        first += part;
    }
}

/// Adds the record of task `n` to a batch: through the arena if it is large and there is room, otherwise
/// without copying it.
fn add_large(
    chunk: &InputChunk,
    n: u64,
    halves: &mut Halves,
    page: &CoordinatorPage,
    outgoing: &mut Outgoing,
) {
    let record = chunk.records(n, 1);
    match Batch::bytes_of(record).and_then(|bytes| Some((halves.put(page, bytes)?, bytes.len()))) {
        Some((offset, len)) => Batch::write_placed(outgoing.buffer(), offset, len),
        None => outgoing.share(chunk.data(), chunk.place(n, 1)),
    }
}
