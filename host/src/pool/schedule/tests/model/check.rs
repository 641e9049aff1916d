//! What must hold after each event.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Model, ModelJob, ModelPhase, ModelWorker, RESULTS_MAX, TaskState};
use crate::pool::policy::{HaltOn, HaltWhen};
use crate::pool::schedule::{JobId, ScheduledJob, Wanted};

impl Model {
    /// Checks what must hold, and lets the dispatcher say what follows.
    pub(super) fn check(&mut self) {
        self.check_counts();
        self.check_groups();
        self.check_staff();
        self.check_halts();
        self.check_room();
        while let Some((worker, started)) = self.taken_back.pop_front() {
            self.give_back(worker, started);
        }
        while let Some(job) = self.undelivered.pop_first() {
            self.tell_undelivered(job);
        }
        self.check_time();
    }

    /// The numbers that the schedule keeps are those that counting gives.
    fn check_counts(&self) {
        let jobs = &self.schedule.jobs;
        assert_eq!(self.schedule.queued, jobs.values().map(|job| job.open(self.config.halt)).sum::<u64>());
        let is_open = |job: &ScheduledJob| job.open(self.config.halt) > 0;
        let waiting: BTreeSet<JobId> = self.schedule.turns.iter().collect();
        assert!(jobs.iter().filter(|(_, job)| is_open(job)).map(|(id, _)| id).eq(&waiting));
        assert_eq!(self.schedule.held_back, jobs.values().filter(|job| job.is_held_back()).count());
        assert_eq!(self.schedule.unwanted, jobs.values().filter(|job| job.wanted == Wanted::No).count());
        assert_eq!(self.schedule.delayed.len(), jobs.values().map(|job| job.pauses.len()).sum::<usize>());
        for (id, worker) in &self.workers {
            assert_eq!(self.schedule.unanswered(*id), worker.inbox.len() as u64, "worker {id}");
        }
    }

    /// What the schedule does for the workers of some groups, or for those that have changed, leaves nothing
    /// to do for any worker.
    fn check_groups(&self) {
        assert!(self.schedule.workers.is_consistent());
        if self.schedule.is_terminated() {
            return;
        }
        for (id, worker) in self.schedule.workers.iter() {
            assert!(!self.schedule.is_too_far_ahead(worker), "worker {id} is too far ahead");
            assert_eq!(self.schedule.to_drop(worker), None, "worker {id} has cancelled tasks");
            let is_through = worker.is_serving() && worker.held.is_empty();
            assert!(!is_through || worker.leaving().is_none(), "worker {id} is not told to end");
            let is_free = worker.takes_tasks() && worker.batches_held() == 0;
            assert!(!is_free || self.schedule.next_job(self.now, false).is_none(), "worker {id} has no task");
            assert!(!is_free || self.schedule.queued == 0 || self.schedule.next_gathered().is_some());
        }
    }

    /// There are no more workers than places.
    fn check_staff(&self) {
        let live = self.workers.values().filter(|w| !w.killed && w.phase != ModelPhase::Retiring).count();
        // Those that are too many after a resize end with what they hold.
        let leaving = self.schedule.workers.iter().filter(|(_, w)| w.is_hired() && !w.stays()).count();
        assert!(live <= self.config.processes + leaving && live <= self.most, "{live} workers at work");
        assert!(self.workers.len() <= 2 * self.most, "{} processes", self.workers.len());
    }

    /// If there is no room for a job's results, a worker begins only the task that it is at or that is waited
    /// for.
    fn check_room(&self) {
        if self.over || self.schedule.is_terminated() {
            return;
        }
        for (job, model) in self.jobs.iter().filter(|(_, job)| !job.over) {
            let bytes: u64 = model.results.values().sum();
            let is_full = self.schedule.is_full(*job);
            assert!(is_full || bytes < RESULTS_MAX || self.undelivered.contains(job), "{bytes} bytes");
            assert!(!is_full || bytes >= RESULTS_MAX - RESULTS_MAX / 4 || model.cancelled);
        }
        let begins = |w: &&ModelWorker| w.phase == ModelPhase::Serving && !w.killed && w.frozen.is_none();
        for worker in self.workers.values().filter(begins).filter(|w| w.dropped <= w.answered) {
            let is_held_back =
                |job: &JobId| self.schedule.jobs.get(job).is_some_and(ScheduledJob::is_held_back);
            let ahead = worker.inbox.iter().skip(1).any(|(job, ..)| is_held_back(job));
            assert!(!ahead, "it would begin what it must not");
        }
    }

    /// A job goes on only until its policy halts it.
    fn check_halts(&self) {
        let Some(halt) = self.config.halt.filter(|_| !self.over) else { return };
        let goes_on = |job: &&ModelJob| !job.over && !job.halted && !job.cancelled;
        assert!(!self.jobs.values().filter(goes_on).any(|job| job.has_enough(halt)), "it was not halted");
        for job in self.jobs.values().filter(|job| !job.cancelled && !job.closed) {
            let held = job.tasks.iter().filter(|task| matches!(task, TaskState::Held { .. })).count() as u64;
            match halt.on {
                HaltOn::Done(n) => {
                    assert!(job.ok + job.failed + held <= n.get(), "more are begun than count")
                }
                HaltOn::Failures(n) => assert!(job.failed <= n.get() || halt.when == HaltWhen::Soon),
                HaltOn::Successes(n) => assert!(job.ok <= n.get() || halt.when == HaltWhen::Soon),
                HaltOn::FailureShare(_) => {}
            }
        }
    }

    /// Whatever is due is announced by `next_tick`: nothing waits for an event that may never come.
    fn check_time(&self) {
        let next = self.schedule.next_tick();
        let is_announced = |due: Option<Duration>| due.is_none_or(|due| next.is_some_and(|next| next <= due));
        assert!(self.over || is_announced(self.schedule.delayed.keys().next().map(|(due, _)| *due)));
        for worker in self.workers.values().filter(|w| !w.killed) {
            assert!(is_announced(worker.dropping_since.map(|since| since + self.config.grace)));
        }
    }
}
