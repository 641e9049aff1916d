//! What a worker is sent, and whether it is listened to.

use std::ops::Range;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::SendFlags;

use super::inbox::Begun;
use super::{Link, Listening};
use crate::pool::dispatcher::arena::Halves;
use crate::pool::dispatcher::jobs::OpenJob;
use crate::pool::dispatcher::{Dispatcher, socket_token};
use crate::pool::events::PoolEvent;
use crate::pool::schedule::{Event, JobId, WorkerId};
use crate::pool::worker::WorkerState;
use crate::protocol::frame::{self, Kind};
use crate::protocol::message::{self, Batch, LARGE, ToWorker};
use crate::sys::CoordinatorPage;

/// Bytes of memory that the buffer for what is sent keeps when it is empty.
const BUFFER_KEPT: usize = 1 << 20;

impl Dispatcher {
    pub(in crate::pool::dispatcher) fn send(
        &mut self,
        worker: WorkerId,
        job: JobId,
        tasks: Vec<Range<u64>>,
        attempt: u32,
    ) {
        let (Some(link), Some(open)) = (self.links.get_mut(&worker), self.jobs.get(&job)) else { return };
        let plan = open.job.plan;
        if !link.plans.contains(&plan)
            && let Some(call) = self.jobs.call(plan)
        {
            link.plans.push(plan);
            message::write_control(&mut link.outgoing, &ToWorker::Plan { id: plan, call: call.clone() });
        }
        link.session().sent_batch(tasks.iter().map(|span| span.end - span.start).sum());
        let Link { outgoing, halves, page, .. } = link;
        halves.begin();
        frame::write(outgoing, Kind::Batch, |out| {
            Batch::write_head(out, plan, attempt);
            for span in &tasks {
                write_records(open, span.clone(), halves, page, out);
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
    pub(in crate::pool::dispatcher) fn send_rest(&mut self, worker: WorkerId, setup: Vec<u8>) {
        if let Some(link) = self.links.get_mut(&worker) {
            link.outgoing = setup;
            self.flush(worker);
        }
    }

    pub(in crate::pool::dispatcher) fn say(&mut self, worker: WorkerId, message: &ToWorker) {
        if let Some(link) = self.links.get_mut(&worker) {
            message::write_control(&mut link.outgoing, message);
            self.flush(worker);
        }
    }

    /// Writes as much as the socket takes; the rest when it is ready for more.
    pub(super) fn flush(&mut self, worker: WorkerId) {
        let Some(link) = self.links.get_mut(&worker) else { return };
        link.write_out();
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
        let _gone = epoll::modify(&self.epoll, &link.socket, EventData::new_u64(socket_token(worker)), flags);
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

impl Link {
    /// Writes as much as the socket takes.
    fn write_out(&mut self) {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        while self.sent < self.outgoing.len() {
            match rustix::net::send(&self.socket, &self.outgoing[self.sent..], flags) {
                Ok(sent) => self.sent += sent,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                // It is dying; its process will tell.
                Err(_) => self.sent = self.outgoing.len(),
            }
        }
        if self.sent == self.outgoing.len() {
            self.sent = 0;
            self.outgoing.clear();
            self.outgoing.shrink_to(BUFFER_KEPT);
        }
    }
}

/// Adds the records of consecutive tasks to a batch.
fn write_records(
    open: &OpenJob,
    tasks: Range<u64>,
    halves: &mut Halves,
    page: &CoordinatorPage,
    out: &mut Vec<u8>,
) {
    let mut first = tasks.start;
    while first < tasks.end {
        let at = open.chunks.partition_point(|c| c.first + c.count() <= first);
        let chunk = &open.chunks[at];
        let part = tasks.end.min(chunk.first + chunk.count()) - first;
        let records = chunk.records(first, part);
        if records.len() as u64 / part < LARGE as u64 {
            out.extend_from_slice(records);
        } else {
            (first..first + part).for_each(|n| add_large(chunk.records(n, 1), halves, page, out));
        }
        first += part;
    }
}

/// Adds a record to a batch, through the arena if it is large and there is room.
fn add_large(record: &[u8], halves: &mut Halves, page: &CoordinatorPage, out: &mut Vec<u8>) {
    match Batch::bytes_of(record).and_then(|bytes| Some((halves.put(page, bytes)?, bytes.len()))) {
        Some((offset, len)) => Batch::write_placed(out, offset, len),
        None => out.extend_from_slice(record),
    }
}
