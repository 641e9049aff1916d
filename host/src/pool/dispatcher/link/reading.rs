//! Reading what a worker says, and acting on it.

use std::io;
use std::time::Duration;

use rustix::event::epoll;

use super::inbox::{NextFrame, OutcomeRun, READ_LEN, len_of_outcomes};
use super::instances::{InstancesSeen, NO_INSTANCE_MAX};
use super::{LAST_ROUNDS, Link, Listening};
use crate::context::Child;
use crate::error::TaskError;
use crate::pool::dispatcher::Dispatcher;
use crate::pool::dispatcher::arena::Parked;
use crate::pool::events::PoolEvent;
use crate::pool::job::{By, ResultChunk};
use crate::pool::schedule::{Answered, Event, Returned, WorkerId};
use crate::pool::worker::WorkerState;
use crate::protocol::connection::{self, RecvError};
use crate::protocol::frame::{self, Frame, Kind, Violation};
use crate::protocol::message::Failure;
use crate::protocol::session::{FromPoolWorker, Heard};

/// A worker's memory is measured at most once in this time.
const WEIGH_PERIOD: Duration = Duration::from_millis(100);

impl Dispatcher {
    /// Reads up to `rounds` times. Then the other workers have their turn: epoll reports again what is left.
    pub(in crate::pool::dispatcher) fn serve_socket(&mut self, worker: WorkerId, rounds: usize) {
        // The same event tells that the socket takes more. What waits goes first: the worker may have nothing
        // to do without it.
        self.flush(worker);
        for _ in 0..rounds {
            // A worker that has ended has left little, which is read without a look at the room for it.
            if rounds != LAST_ROUNDS && !self.may_read(worker) {
                return self.pause(worker);
            }
            let Some(link) = self.links.get_mut(&worker) else { return };
            if link.listening == Listening::Distrusts || self.schedule.is_terminated() {
                // The worker was killed. What it still says does not count.
                let _gone = epoll::delete(&self.epoll.sockets, &link.socket);
                return;
            }
            let most = link.inbox.read_len();
            let mut is_all = false;
            let read = match connection::recv_onto(&link.socket, &mut link.inbox.bytes, most) {
                Ok(0) => return self.hung_up(worker),
                Ok(len) => {
                    // Asking the socket for more is a system call, for next to nothing. What comes later is
                    // reported again, except of a worker that has ended.
                    is_all = len < most && rounds != LAST_ROUNDS;
                    self.read(worker)
                }
                Err(RecvError::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(RecvError::Closed | RecvError::Io(_)) => return self.hung_up(worker),
                Err(RecvError::Violation(violation)) => Err(violation),
            };
            if let Err(violation) = read {
                return self.end_for_violation(worker, &violation);
            }
            if is_all {
                return;
            }
        }
    }

    /// The worker closed its socket. It is ending, or it is killed now.
    fn hung_up(&mut self, worker: WorkerId) {
        let Some(link) = self.links.get_mut(&worker) else { return };
        let _gone = epoll::delete(&self.epoll.sockets, &link.socket);
        // A process that is already exiting keeps its exit code.
        if link.child.as_ref().is_some_and(|child| !child.kill()) {
            self.disconnect(worker);
        }
    }

    /// The worker broke the protocol: an attacker may have taken it over.
    fn end_for_violation(&mut self, worker: WorkerId, violation: &Violation) {
        self.end_distrusted(worker, format!("protocol error: {violation}"));
    }

    /// Ends a worker that is not trusted any more. Nothing further that it says counts.
    pub(in crate::pool::dispatcher) fn end_distrusted(&mut self, worker: WorkerId, reason: String) {
        if let Some(link) = self.links.get_mut(&worker) {
            let _gone = epoll::delete(&self.epoll.sockets, &link.socket);
            link.inbox.clear();
            link.listening = Listening::Distrusts;
            // A worker that is being ended may speak out of turn: a thread reports its dropped task.
            if link.fault.is_none() {
                tracing::warn!(target: "wpool::pool", worker, "{reason}");
                link.fault = Some(reason);
            }
        }
        self.kill(worker);
    }

    /// Handles the whole frames that have come from a worker.
    fn read(&mut self, worker: WorkerId) -> Result<(), Violation> {
        let Some(link) = self.links.get_mut(&worker) else { return Ok(()) };
        link.note_unwanted();
        let (bytes, run) = link.inbox.take();
        self.turn.read_at = Some(self.now());
        let heard = self.read_bytes(worker, bytes, run);
        // Once for all answers: with retries, each failure would otherwise have consequences of its own.
        self.follow_up();
        self.turn.read_at = None;
        heard
    }

    fn read_bytes(&mut self, worker: WorkerId, bytes: Vec<u8>, mut run: OutcomeRun) -> Result<(), Violation> {
        let begun = self.hear_all(worker, &bytes, &mut run);
        // A single large result is given away with its buffer. A copy of it would be the largest cost of its
        // way.
        if run.count == 1 && run.from == 0 && run.to == bytes.len() && run.to > READ_LEN {
            self.pass_on_one(worker, bytes, run.failed);
            return begun.map(drop);
        }
        // Whole outcomes go on now, also those before a violation. Attachments wait for their outcome.
        self.pass_on(worker, &bytes, &mut run);
        let begun = begun?;
        if let Some(link) = self.links.get_mut(&worker) {
            link.inbox.put_back(bytes, run, begun);
        }
        Ok(())
    }

    /// Handles all whole frames in `bytes` except the outcomes at their end, which are left in `run`. Gives
    /// the payload's length of the frame that has begun behind them, and how much of it is missing.
    fn hear_all(
        &mut self,
        worker: WorkerId,
        bytes: &[u8],
        run: &mut OutcomeRun,
    ) -> Result<Option<(usize, usize)>, Violation> {
        loop {
            let Some(link) = self.links.get_mut(&worker) else { return Ok(None) };
            let before = run.count;
            let next = link.inbox.next(bytes, run, self.spec.tells_apart);
            if run.count > before {
                // The outcome is whole: it is counted where it goes.
                link.reserved = None;
                self.instances = InstancesSeen::Some;
            }
            match next? {
                NextFrame::Nothing { begun } => return Ok(begun),
                NextFrame::Heard(Heard::Said(said), frame) if is_answer(&said) => {
                    link.reserved = None;
                    self.take_answer(worker, said, frame, bytes, run)?;
                }
                NextFrame::Heard(heard, frame) => {
                    self.pass_on(worker, bytes, run);
                    run.begin(run.at + frame.len());
                    self.hear(worker, heard, frame.payload);
                }
            }
        }
    }

    /// Handles an answer that could not simply be added to the run.
    fn take_answer(
        &mut self,
        worker: WorkerId,
        said: FromPoolWorker,
        frame: Frame<'_>,
        bytes: &[u8],
        run: &mut OutcomeRun,
    ) -> Result<(), Violation> {
        let end = run.at + frame.len();
        match said {
            FromPoolWorker::Failed(failure) => self.take_failure(worker, failure, bytes, end, run),
            FromPoolWorker::Placed { offset, len } => {
                self.pass_on(worker, bytes, run);
                self.fetch(worker, &bytes[run.from..run.at], offset, len)?;
                run.begin(end);
                self.instances = InstancesSeen::Some;
            }
            // A result behind failures that must be told apart from it.
            _ => {
                self.pass_on(worker, bytes, run);
                run.add(end, false);
                self.instances = InstancesSeen::Some;
            }
        }
        Ok(())
    }

    /// A task failed. `end`: of its frame in `bytes`.
    fn take_failure(
        &mut self,
        worker: WorkerId,
        failure: Failure,
        bytes: &[u8],
        end: usize,
        run: &mut OutcomeRun,
    ) {
        // Counted even if the task is tried again: otherwise a pool with endless retries would never notice
        // that no instance can be made.
        let never = self.instances.note(&failure).then(|| failure.clone());
        // `retry_on` is the application's function, and is asked once for each failure.
        if self.spec.retry_on.is_some() && self.is_worth_retrying(&TaskError::from(failure.clone())) {
            // The task may be tried again, so this failure may not be its outcome.
            self.pass_on(worker, bytes, run);
            self.fail(worker, &bytes[run.from..end], &failure);
            run.begin(end);
        } else {
            if self.spec.tells_apart && run.failed < run.count {
                self.pass_on(worker, bytes, run);
            }
            run.add(end, true);
        }
        if let Some(failure) = never {
            self.pass_on(worker, bytes, run);
            let error = TaskError::from(failure);
            let reason = format!("no task can be begun ({NO_INSTANCE_MAX} tries): {error}");
            self.on(Event::Broke { reason });
        }
    }

    /// Handles a message that is no answer. `payload`: that of its frame.
    fn hear(&mut self, worker: WorkerId, heard: Heard<FromPoolWorker>, payload: &[u8]) {
        let Some(link) = self.links.get_mut(&worker) else { return };
        match heard {
            Heard::Greeted => {}
            Heard::Unconfined(missing) => {
                if let Err(reason) = self.spec.launch.program.sandbox.judge(missing) {
                    self.on(Event::Broke { reason });
                }
            }
            // No more than a reason: its end has the consequences.
            Heard::Refused(why) => {
                link.fault = Some(why.into_reason());
                self.give_up(worker);
            }
            Heard::Said(FromPoolWorker::Ready) => self.is_ready(worker),
            Heard::Said(FromPoolWorker::InitFailed(failure)) => {
                let error = TaskError::from(failure);
                self.on(Event::Broke { reason: format!("the initializer failed: {error}") });
            }
            Heard::Said(FromPoolWorker::BatchDone { busy, instances }) => {
                self.batch_done(worker, busy, instances)
            }
            Heard::Said(FromPoolWorker::Thawed) => {
                // The worker has dropped what it held: no batch of it is read any more, and both halves are
                // free.
                link.halves.all_done(&link.page);
                self.on(Event::Thawed { worker });
            }
            Heard::Said(FromPoolWorker::Profile) => link.profile.extend_from_slice(payload),
            // `take_answer` handles answers, and the inbox their attachments.
            Heard::Said(
                FromPoolWorker::Returned
                | FromPoolWorker::Placed { .. }
                | FromPoolWorker::Failed(_)
                | FromPoolWorker::Attached,
            ) => {}
        }
    }

    fn is_ready(&mut self, worker: WorkerId) {
        self.reports.set_state(worker, WorkerState::Idle);
        self.reports.ledger().ready(worker);
        self.reports.tell(|| PoolEvent::WorkerReady { worker });
        self.on(Event::Ready { worker });
        self.tell_ready();
    }

    fn batch_done(&mut self, worker: WorkerId, busy: Duration, instances: Duration) {
        if let Some(link) = self.links.get_mut(&worker) {
            link.halves.batch_done(&link.page);
        }
        // Before the ledger looks: the event decides whether the worker is still busy.
        self.on(Event::BatchDone { worker, busy });
        let is_busy = self.schedule.is_busy(worker);
        self.reports.ledger().batch_done(worker, busy, instances, is_busy);
        if !is_busy {
            self.reports.set_state(worker, WorkerState::Idle);
        }
        self.check_memory(worker);
    }

    /// Passes one outcome on without a copy, because it may be large.
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

    /// Passes the outcomes of the run on.
    fn pass_on(&mut self, worker: WorkerId, bytes: &[u8], run: &mut OutcomeRun) {
        if run.count == 0 {
            return;
        }
        let by = self.by(worker);
        let mut rest = &bytes[run.from..run.to];
        let (mut left, mut failures) = (run.count, run.failed);
        let answers = Returned { worker, count: run.count, failed: run.failed };
        self.on_answer(answers, |this, count, answered| {
            // Usually all outcomes belong to one job.
            // Only the other case has to look for the borders of outcomes once more.
            let len = if count == left { rest.len() } else { len_of_outcomes(rest, count) };
            let frames;
            (frames, rest) = rest.split_at(len);
            left = left.saturating_sub(count);
            let failed = failures.min(count);
            failures -= failed;
            if let Some(Answered { job, first, attempt }) = answered {
                let chunk = ResultChunk::answered(first, count, frames.to_vec(), By { attempt, ..by });
                this.deliver(job, chunk, failed);
            }
        });
        run.clear();
    }

    /// Passes on a result that lies in the arena. It is copied out if there is room; otherwise its place is
    /// passed on.
    /// `attached`: the frames that belong to it.
    fn fetch(&mut self, worker: WorkerId, attached: &[u8], offset: u64, len: usize) -> Result<(), Violation> {
        let nowhere = |_| Violation::Malformed("a result at no place".to_owned());
        let Some(link) = self.links.get(&worker) else { return Ok(()) };
        // Before the answer is counted: a place outside of the arena breaks the protocol.
        let parked = Parked::new(&link.page, offset, len).map_err(nowhere)?;
        let job = self.schedule.front(worker).and_then(|job| self.jobs.get(&job));
        let mut frames = Vec::with_capacity(attached.len() + frame::HEADER_LEN);
        frames.extend_from_slice(attached);
        frame::write_head(&mut frames, Kind::Returned, len);
        if job.is_some_and(|open| open.job.undelivered().has_room(len as u64)) {
            parked.fetch(&mut frames).map_err(nowhere)?;
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

    /// Measures the worker's memory, if that is limited. This is between its batches, so that no task's
    /// memory counts.
    fn check_memory(&mut self, worker: WorkerId) {
        let Some(max) = self.spec.memory_max else { return };
        let is_due = |link: &&mut Link| link.weighed.elapsed() >= WEIGH_PERIOD;
        // Not after each batch: a look into /proc is several system calls.
        let Some(link) = self.links.get_mut(&worker).filter(is_due) else { return };
        link.weighed = std::time::Instant::now();
        if link.private_memory().is_some_and(|bytes| bytes > max) {
            self.on(Event::Oversized { worker });
        }
    }

    fn by(&self, worker: WorkerId) -> By {
        let pid = self.links.get(&worker).and_then(|l| l.child.as_ref()).map_or(0, Child::pid);
        By { worker, pid, attempt: 1 }
    }
}

/// Whether the frame is the outcome of a task.
fn is_answer(said: &FromPoolWorker) -> bool {
    match said {
        FromPoolWorker::Returned | FromPoolWorker::Placed { .. } | FromPoolWorker::Failed(_) => true,
        FromPoolWorker::Ready
        | FromPoolWorker::InitFailed(_)
        | FromPoolWorker::Attached
        | FromPoolWorker::BatchDone { .. }
        | FromPoolWorker::Thawed
        | FromPoolWorker::Profile => false,
    }
}
