//! Records on their way from the jobs to the schedule, and outcomes on their way back.

use super::{Command, Dispatcher};
use crate::pool::job::{ResultChunk, Undelivered};
use crate::pool::schedule::{Event, JobId};

/// The dispatcher takes no more records from a job that has this many tasks queued. They wait in the job,
/// where its window bounds them.
const QUEUE_LEN: u64 = 1 << 14;

impl Dispatcher {
    /// Runs the commands of the pool's users.
    pub(super) fn run_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Job { job, call } => {
                    self.jobs.insert(job.clone(), call);
                    // Before any later `Close`: the pool finishes this job then.
                    self.on(Event::Opened { job: job.id, priority: job.priority });
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
