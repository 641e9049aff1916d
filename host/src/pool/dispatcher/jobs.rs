//! The jobs of a pool: records in, outcomes out.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::{Command, Dispatcher};
use crate::error::TaskError;
use crate::pool::job::{InputChunk, Job, ResultChunk, Undelivered};
use crate::pool::schedule::{Event, JobId};
use crate::spec::Call;

/// The dispatcher takes no more records from a job that has this many tasks queued. They wait in the job,
/// where its window bounds them.
const QUEUE_LEN: u64 = 1 << 14;

/// The jobs of a pool that are not done.
#[derive(Default)]
pub(super) struct Jobs {
    by_id: HashMap<JobId, OpenJob>,
    /// The jobs that may get more records. Of a thousand jobs, most have all of theirs and need no look.
    open: HashSet<JobId>,
    /// Jobs that have no room for results, or had none at the last look.
    full: HashSet<JobId>,
    /// The calls of all jobs so far, by their number.
    calls: HashMap<u32, Call>,
}

/// A job and the records that are still needed.
pub(super) struct OpenJob {
    pub(super) job: Arc<Job>,
    pub(super) chunks: VecDeque<InputChunk>,
}

impl Jobs {
    fn insert(&mut self, job: Arc<Job>, call: Option<Call>) {
        if let Some(call) = call {
            self.calls.insert(job.plan, call);
        }
        self.open.insert(job.id);
        self.by_id.insert(job.id, OpenJob { job, chunks: VecDeque::new() });
    }

    pub(super) fn remove(&mut self, id: JobId) {
        self.by_id.remove(&id);
        self.open.remove(&id);
    }

    pub(super) fn get(&self, id: &JobId) -> Option<&OpenJob> {
        self.by_id.get(id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The call with this number.
    pub(super) fn call(&self, plan: u32) -> Option<&Call> {
        self.calls.get(&plan)
    }

    /// Ends all jobs. `left`: the outcome of records that the dispatcher has not taken.
    pub(super) fn finish(&mut self, left: &TaskError) {
        for (_, open) in self.by_id.drain() {
            open.job.finish(left);
        }
    }
}

impl OpenJob {
    /// Drops the records of tasks that have their outcome. Gives the bytes that this frees.
    fn release(&mut self, mut first: u64, mut count: u64) -> u64 {
        let mut released = 0;
        while count > 0 {
            let at = self.chunks.partition_point(|c| c.first + c.count() <= first);
            let Some(input) = self.chunks.get_mut(at) else { break };
            let part = count.min(input.first + input.count() - first);
            input.open -= part;
            (first, count) = (first + part, count - part);
            if input.open == 0 {
                released += input.bytes() - 4 * input.count();
                // Wherever the chunk is: one slow task at the front must not keep all records behind it.
                self.chunks.remove(at);
            }
        }
        released
    }
}

impl Drop for OpenJob {
    /// A thread that waits for the job ends its wait, however the dispatcher ends.
    fn drop(&mut self) {
        self.job.finish(&TaskError::Cancelled);
    }
}

impl Dispatcher {
    /// Runs the commands of the pool's users.
    pub(super) fn run_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Job { job, call } => {
                    self.jobs.insert(job.clone(), call);
                    // Before any later `Close`: the pool finishes this job then.
                    self.on(Event::Opened { job: job.id });
                    // A cancellation before this found no job.
                    if job.is_cancelled() {
                        self.on(Event::Cancelled { job: job.id });
                    }
                }
                Command::Resize(processes) => self.on(Event::Resized { processes }),
                Command::Close => self.on(Event::Close),
                Command::CloseQueued => self.on(Event::CloseQueued),
                Command::Terminate => self.on(Event::Terminate),
            }
        }
    }

    /// Takes records from the jobs as far as there is use for them, and cancels jobs.
    pub(super) fn feed(&mut self) {
        for id in self.waker.take_cancelled() {
            // The cancellation comes first, so that no task is begun now. Each record still has its outcome.
            self.on(Event::Cancelled { job: id });
            self.take_from(id);
        }
        let ids: Vec<JobId> = self.jobs.open.iter().copied().collect();
        for id in ids {
            if self.schedule.queued(id) < QUEUE_LEN {
                self.take_from(id);
                // While tasks are queued, the end of a running task leads here again. Otherwise the next
                // record must.
                while self.schedule.queued(id) == 0 && self.is_fed(id) {
                    self.take_from(id);
                }
            }
        }
    }

    /// Whether records have come to an open job since they were taken. If not, the next record wakes the
    /// dispatcher.
    fn is_fed(&self, id: JobId) -> bool {
        self.jobs.open.contains(&id) && self.jobs.get(&id).is_some_and(|open| !open.job.await_input())
    }

    fn take_from(&mut self, id: JobId) {
        if !self.jobs.open.contains(&id) {
            return;
        }
        let Some(open) = self.jobs.by_id.get_mut(&id) else { return };
        let taken = open.job.take_input();
        let (mut count, mut bytes) = (0, 0);
        for chunk in taken.chunks {
            count += chunk.count();
            bytes += chunk.bytes();
            open.chunks.push_back(chunk);
        }
        if taken.ended {
            self.jobs.open.remove(&id);
        }
        if count > 0 {
            self.on(Event::Submitted { job: id, count, bytes });
        }
        if taken.ended {
            self.on(Event::InputEnded { job: id });
        }
    }

    // Results that are not taken yet.

    /// There is no room for the job's results. From now on each turn looks at it, and each result that is
    /// taken wakes the dispatcher.
    pub(super) fn note_full(&mut self, id: JobId) {
        if self.jobs.full.insert(id)
            && let Some(open) = self.jobs.get(&id)
        {
            self.tell_undelivered(id, open.job.watch(true));
        }
    }

    fn tell_undelivered(&mut self, job: JobId, undelivered: Undelivered) {
        let (size, waits_for) = (undelivered.size, undelivered.waits_for());
        self.on(Event::Undelivered { job, bytes: size.here + size.parked, waits_for });
    }

    /// Looks at what was taken of full jobs, and reads from paused workers again if there is room for their
    /// results.
    pub(super) fn make_room(&mut self) {
        if self.jobs.full.is_empty() && self.paused.is_empty() {
            return;
        }
        for id in self.jobs.full.iter().copied().collect::<Vec<_>>() {
            match self.jobs.get(&id).map(|open| open.job.undelivered()) {
                Some(undelivered) => self.tell_undelivered(id, undelivered),
                None => {
                    self.jobs.full.remove(&id);
                }
            }
        }
        self.resume();
        let is_paused_for =
            |id: &JobId| self.paused.iter().any(|worker| self.schedule.front(*worker) == Some(*id));
        let over: Vec<JobId> = self
            .jobs
            .full
            .iter()
            .copied()
            .filter(|id| !self.schedule.is_full(*id) && !is_paused_for(id))
            .collect();
        for id in over {
            self.jobs.full.remove(&id);
            if let Some(open) = self.jobs.get(&id) {
                open.job.watch(false);
            }
        }
    }

    /// Hands outcomes to their job, and drops the records that are not needed any more. `failed`: the number
    /// of failures among them.
    pub(super) fn deliver(&mut self, job: JobId, chunk: ResultChunk, failed: u64) {
        self.reports.tell_finished(job, &chunk, failed);
        let Some(open) = self.jobs.by_id.get_mut(&job) else { return };
        let released = open.release(chunk.first, chunk.count);
        if !open.job.deliver(chunk, released) {
            self.note_full(job);
        }
    }
}
