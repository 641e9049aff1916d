//! Records on their way from the jobs to the schedule, and outcomes on their way back.

use std::collections::HashSet;

use super::jobs::Intake;
use super::link::Link;
use super::{Command, Dispatcher};
use crate::exchange::member::Site;
use crate::pool::job::{ResultChunk, Undelivered};
use crate::pool::schedule::{Event, JobId, WorkerId};

/// The dispatcher takes no more records from a job that has this many tasks queued. They wait in the job,
/// where its window bounds them.
const QUEUE_LEN: u64 = 1 << 14;

impl Dispatcher {
    /// Takes what other threads have left: the commands of the pool's users, and the jobs that have changed.
    pub(super) fn take_changes(&mut self) {
        // The list comes before the commands: each job on it was opened by a command before.
        let mut changes = self.waker.take_changes(std::mem::take(&mut self.changes));
        if let Some(job) = self.turn.drive.job {
            let is_other = changes.changed.iter().any(|id| *id != job);
            self.turn.drive.has_company |= is_other || !changes.cancelled.is_empty();
        }
        self.run_commands();
        for id in changes.cancelled.drain(..) {
            // The cancellation comes first, so that no task is begun now. Each record still has its outcome.
            self.on(Event::Cancelled { job: id });
            self.jobs.look_at(id);
        }
        for id in changes.changed.drain(..) {
            let Some(open) = self.jobs.get(&id) else { continue };
            open.job.unlist();
            if self.jobs.full.contains(&id) {
                self.jobs.roomier.push(id);
            }
            self.jobs.look_at(id);
        }
        self.changes = changes;
    }

    fn run_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Job { job, plan } => {
                    let (id, priority) = (job.id, job.priority);
                    self.jobs.insert(job, plan);
                    // Before any later `Close`: the pool finishes this job then.
                    self.on(Event::Opened { job: id, priority });
                }
                Command::Resize(processes) => {
                    self.site.iter().for_each(|site| site.resize(processes));
                    self.on(Event::Resized { processes });
                    self.tell_ready();
                }
                Command::Ready(complete) => {
                    self.awaiting.push(complete);
                    self.on(Event::Awaited);
                    self.tell_ready();
                }
                Command::Close => self.on(Event::Close),
                Command::CloseQueued => self.on(Event::CloseQueued),
                Command::Terminate => {
                    // Before the first outcome that tells of it.
                    self.site.iter().for_each(Site::drop_all_jobs);
                    self.on(Event::Terminate);
                }
            }
        }
    }

    /// Lets the workers forget the plans that have no further use.
    pub(super) fn forget_plans(&mut self) {
        for plan in self.waker.take_forgotten() {
            let knows = |(worker, link): (&WorkerId, &Link)| link.plans.knows(plan).then_some(*worker);
            for worker in self.links.iter().filter_map(knows).collect::<Vec<_>>() {
                self.forget(worker, plan);
            }
        }
    }

    /// Takes records from the jobs that have changed or that have queued tasks, as far as there is use for
    /// the records. It comes last in a turn: whatever is sent in the turn may lead to a look.
    pub(super) fn feed(&mut self) {
        self.jobs.look_at_flowing();
        while let Some(id) = self.jobs.next_due() {
            self.take_from(id);
        }
    }

    /// Takes the records of one job.
    fn take_from(&mut self, id: JobId) {
        loop {
            let Some(open) = self.jobs.get(&id) else { return };
            match open.intake {
                Intake::Ended => return,
                // Sending a batch leads here again.
                Intake::Awaited | Intake::Flowing if self.schedule.queued(id) >= QUEUE_LEN => {
                    return self.jobs.set_intake(id, Intake::Flowing);
                }
                Intake::Awaited | Intake::Flowing => self.take_input(id),
            }
            let Some(open) = self.jobs.get(&id).filter(|open| open.intake != Intake::Ended) else { return };
            if self.schedule.queued(id) > 0 {
                return self.jobs.set_intake(id, Intake::Flowing);
            }
            // Nothing is queued whose end would lead here again, so the next record must.
            if open.job.await_input() {
                return self.jobs.set_intake(id, Intake::Awaited);
            }
        }
    }

    fn take_input(&mut self, id: JobId) {
        let Some(open) = self.jobs.by_id.get_mut(&id) else { return };
        let taken = open.job.take_input();
        let (mut count, mut bytes) = (0, 0);
        for chunk in taken.chunks {
            count += chunk.count();
            bytes += chunk.bytes();
            open.chunks.push_back(chunk);
        }
        if taken.ended {
            self.jobs.set_intake(id, Intake::Ended);
        }
        if count > 0 {
            self.on(Event::Submitted { job: id, count, bytes });
        }
        if taken.ended {
            self.on(Event::InputEnded { job: id });
        }
    }

    // Results that are not taken yet.

    /// There is no room for the job's results. From now on each result that is taken leads to a look at it.
    pub(super) fn note_full(&mut self, id: JobId) {
        let is_new = self.jobs.full.insert(id);
        if (is_new || !self.schedule.is_full(id))
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
        let roomier = std::mem::take(&mut self.jobs.roomier);
        if roomier.is_empty() && self.paused.is_empty() {
            return;
        }
        for &id in &roomier {
            if let Some(undelivered) = self.jobs.get(&id).map(|open| open.job.undelivered()) {
                self.tell_undelivered(id, undelivered);
            }
        }
        self.resume();
        let awaited: HashSet<JobId> =
            self.paused.iter().filter_map(|worker| self.schedule.front(*worker)).collect();
        for id in roomier {
            if !self.schedule.is_full(id)
                && !awaited.contains(&id)
                && self.jobs.full.remove(&id)
                && let Some(open) = self.jobs.get(&id)
            {
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
        let has_room = open.job.deliver(chunk, released);
        if self.jobs.delivered.last() != Some(&job) {
            self.jobs.delivered.push(job);
        }
        if !has_room {
            self.note_full(job);
        }
    }
}
