//! Passes events on to the schedule, and follows and checks each of its actions.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use super::{Model, ModelPhase, ModelWorker, RESULTS_MAX, TaskState};
use crate::pool::policy::HaltWhen;
use crate::pool::schedule::{
    Action, AnswerStep, Answered, Event, JobId, NoResult, Recycle, Retry, Returned, ScheduledJob, THAW_TIME,
    WorkerId,
};

/// What an action follows.
#[derive(Debug, Clone, Copy)]
enum Cause<'e> {
    Event(&'e Event),
    Answers,
}

impl Model {
    pub(super) fn event(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.schedule.on(self.now, event.clone(), &mut actions);
        self.follow_all(Cause::Event(&event), &actions);
        self.check();
        actions
    }

    /// A worker answers tasks.
    pub(super) fn returned(&mut self, returned: Returned) {
        let mut steps = Vec::new();
        self.schedule.on_returned(self.now, returned, &mut steps);
        self.failures = returned.failed;
        for step in steps {
            match step {
                AnswerStep::Settle { count, tasks: Some(tasks) } => {
                    self.settle_answers(returned.worker, count, tasks);
                }
                AnswerStep::Settle { count, tasks: None } => self.skip_answers(returned.worker, count),
                AnswerStep::Act(action) => self.follow(Cause::Answers, action),
            }
        }
        self.follow_up_sometimes();
    }

    /// Every third time the consequences of answers come with the next event, as if more answers had been
    /// read at once.
    fn follow_up_sometimes(&mut self) {
        self.answered += 1;
        if !self.answered.is_multiple_of(3) {
            self.follow_up();
        }
    }

    pub(super) fn follow_up(&mut self) {
        let mut actions = Vec::new();
        self.schedule.follow_up(self.now, &mut actions);
        self.follow_all(Cause::Answers, &actions);
        self.check();
    }

    /// A worker's next task has failed in a way that may be worth another attempt.
    pub(super) fn failed(&mut self, worker: WorkerId) {
        let mut actions = Vec::new();
        match self.schedule.on_failed(self.now, worker, &mut actions) {
            Some(retry) => {
                let (job, task, attempt) = self.answer(worker);
                assert_eq!((retry.job, retry.task, retry.attempt), (job, task, attempt));
                *self.task(job, task) = TaskState::Queued { attempt };
                self.retry(retry);
                self.follow_all(Cause::Answers, &actions);
                self.follow_up_sometimes();
            }
            None => {
                assert_eq!(actions, [], "nothing has changed");
                self.returned(Returned { worker, count: 1, failed: 1 });
            }
        }
    }

    fn follow_all(&mut self, cause: Cause<'_>, actions: &[Action]) {
        // The pool may break when there is no task left to be told.
        let broke = self.schedule.broken.is_some();
        for action in actions {
            self.over |= broke && *action == Action::Finished;
            self.follow(cause, action.clone());
        }
    }

    fn follow(&mut self, cause: Cause<'_>, action: Action) {
        assert!(!self.finished, "{action:?} after the end");
        match action {
            Action::Start { worker } => self.start(worker),
            Action::Send { worker, job, tasks, attempt } => self.send(worker, job, &tasks, attempt),
            Action::Retry { retry, failure } => {
                let Cause::Event(Event::Gone { retriable: true, .. }) = cause else {
                    panic!("no reason to try again: {cause:?}")
                };
                match failure {
                    NoResult::Lost { .. } => {
                        let deaths = self.jobs[&retry.job].deaths[&retry.task];
                        assert!(deaths < self.config.poison_limit);
                    }
                    NoResult::TimedOut => {}
                    NoResult::Cancelled | NoResult::Broken { .. } => panic!("no reason to try again"),
                }
                self.retry(retry);
            }
            Action::Give { job, first, count, attempt, verdict } => {
                self.check_verdict(cause, job, first, count, attempt, &verdict);
                for task in first..first + count {
                    self.done(job, task, &[TaskState::Queued { attempt }, TaskState::Held { attempt }]);
                }
            }
            Action::Halted { job } => self.halted(cause, job),
            Action::Drop { worker, until } => self.drop_tasks(worker, until),
            Action::TakeBack { worker } => self.freeze(cause, worker),
            Action::JobDone { job } => {
                let job = self.jobs.get_mut(&job).unwrap();
                assert!(!job.over && job.ended && job.tasks.iter().all(|t| *t == TaskState::Done));
                job.over = true;
            }
            Action::Retire { worker, why } => {
                let idle_time = self.config.idle_time;
                assert!(why != Some(Recycle::Idle) || idle_time.is_some() && !self.config.eager);
                let worker = self.workers.get_mut(&worker).expect("a living worker is retired");
                assert!(worker.phase == ModelPhase::Serving && !worker.killed && worker.inbox.is_empty());
                worker.phase = ModelPhase::Retiring;
            }
            Action::Kill { worker } => self.kill(cause, worker),
            Action::Finished => {
                assert!(self.workers.is_empty() && (self.closed || self.over));
                self.finished = true;
            }
        }
        // A terminated pool ends what its workers hold, also workers that it had killed before.
        if self.over && self.schedule.is_terminated() {
            self.workers.values_mut().for_each(give_up);
        }
    }

    fn start(&mut self, worker: WorkerId) {
        assert!(!self.over, "a worker is started after the end");
        self.starts += 1;
        let new = ModelWorker {
            phase: ModelPhase::Starting,
            killed: false,
            inbox: VecDeque::new(),
            batches: VecDeque::new(),
            sent: 0,
            answered: 0,
            started: 0,
            told: 0,
            late: None,
            dropped: 0,
            dropping_since: None,
            innocent: false,
            frozen: None,
            answered_at: self.now,
        };
        assert!(self.workers.insert(worker, new).is_none(), "a worker's number is used twice");
    }

    fn send(&mut self, worker: WorkerId, job: JobId, tasks: &[Range<u64>], attempt: u32) {
        assert!(!tasks.is_empty() && tasks.iter().all(|span| !span.is_empty()));
        let all = || tasks.iter().cloned().flatten();
        let count = all().count() as u64;
        let model = self.jobs.get_mut(&job).unwrap();
        assert!(!model.cancelled && !model.halted, "a task is begun that is not wanted");
        if self.schedule.is_full(job) {
            assert_eq!(
                (Some(tasks[0].start), count),
                (model.waits_for, 1),
                "there is no room for its result"
            );
        }
        for task in all() {
            assert!(
                count == 1 || !model.deaths.contains_key(&task),
                "a task that has killed a worker comes alone"
            );
            assert!(model.due.remove(&task).is_none_or(|due| due <= self.now), "its pause is not over");
            let task = &mut model.tasks[usize::try_from(task).unwrap()];
            assert_eq!(*task, TaskState::Queued { attempt });
            *task = TaskState::Held { attempt };
        }
        let worker = self.workers.get_mut(&worker).expect("tasks go to a living worker");
        assert!(worker.phase == ModelPhase::Serving && !worker.killed && worker.frozen.is_none());
        worker.inbox.extend(all().map(|task| (job, task, attempt)));
        worker.batches.push_back(count);
        worker.sent += count;
        assert!(worker.sent <= self.config.max_tasks_per_child.unwrap_or(u64::MAX));
        self.check_turns(job);
    }

    /// A job that waits gets a batch after a bounded number of others, whatever the priorities are.
    fn check_turns(&mut self, served: JobId) {
        let waits: BTreeSet<JobId> =
            self.schedule.turns.iter().filter(|job| *job != served && !self.schedule.is_full(*job)).collect();
        self.passed.retain(|job, _| waits.contains(job));
        for job in waits {
            let passed = self.passed.entry(job).or_default();
            *passed += 1;
            // A job of the highest priority goes up by a sixteenth of one of the lowest.
            assert!(*passed <= 17 * self.jobs.len(), "job {job} is outrun");
        }
    }

    fn settle_answers(&mut self, worker: WorkerId, count: u64, tasks: Answered) {
        assert!(!self.finished, "answers after the end");
        let Answered { job, first, attempt } = tasks;
        let failed = self.failures.min(count);
        self.failures -= failed;
        let model = self.jobs.get_mut(&job).unwrap();
        model.failed += failed;
        model.ok += count - failed;
        if !model.cancelled {
            model.results.extend((first..first + count).map(|task| (task, task * 37 % 300)));
            if model.results.values().sum::<u64>() >= RESULTS_MAX {
                self.undelivered.insert(job);
            }
        }
        for task in first..first + count {
            let answer = self.answer(worker);
            assert_eq!(answer, (job, task, attempt), "answers are for what was sent, in order");
            self.done(job, task, &[TaskState::Held { attempt }]);
        }
    }

    fn skip_answers(&mut self, worker: WorkerId, count: u64) {
        assert!(!self.finished, "answers after the end");
        for _ in 0..count {
            let (job, ..) = self.answer(worker);
            let is_halted = self.jobs[&job].halted;
            assert!(is_halted && self.config.halt.is_some_and(|halt| halt.when == HaltWhen::Now));
        }
        self.failures -= self.failures.min(count);
    }

    fn retry(&mut self, retry: Retry) {
        assert!(!self.finished, "{retry:?} after the end");
        let Retry { job, task, attempt, delay } = retry;
        assert!(attempt <= self.config.retries, "attempt {} of {task}", attempt + 1);
        let model = self.jobs.get_mut(&job).unwrap();
        assert!(!model.cancelled && !model.halted, "another attempt is not wanted");
        model.due.insert(task, self.now.saturating_add(delay));
        let task = self.task(job, task);
        assert_eq!(*task, TaskState::Queued { attempt });
        *task = TaskState::Queued { attempt: attempt + 1 };
    }

    fn check_verdict(
        &mut self,
        cause: Cause<'_>,
        job: JobId,
        first: u64,
        count: u64,
        attempt: u32,
        verdict: &NoResult,
    ) {
        match verdict {
            NoResult::Lost { .. } | NoResult::TimedOut => {
                let Cause::Event(Event::Gone { retriable, .. }) = cause else { panic!("no worker has died") };
                let model = self.jobs.get_mut(&job).unwrap();
                let unwanted = model.cancelled || model.halted;
                let hopeless = match verdict {
                    NoResult::TimedOut => !retriable,
                    _ => !retriable || model.deaths[&first] >= self.config.poison_limit,
                };
                assert!(count == 1);
                assert!(attempt == self.config.retries + 1 || unwanted || hopeless, "it has tries left");
                model.failed += 1;
            }
            NoResult::Cancelled => {
                let model = &self.jobs[&job];
                assert!(self.over || model.cancelled || model.halted);
            }
            NoResult::Broken { .. } => self.over = true,
        }
    }

    fn halted(&mut self, cause: Cause<'_>, job: JobId) {
        let model = self.jobs.get_mut(&job).unwrap();
        let was_halted = std::mem::replace(&mut model.halted, true);
        if matches!(cause, Cause::Event(Event::CloseQueued)) {
            model.closed = true;
            return;
        }
        assert!(!was_halted && !model.cancelled);
        let halt = self.config.halt.expect("only a policy halts");
        assert!(model.has_enough(halt), "it was halted too early");
    }

    fn drop_tasks(&mut self, worker: WorkerId, until: u64) {
        let model = self.workers.get_mut(&worker).expect("a living worker is told");
        assert!(!model.killed && until > model.answered && until > model.dropped && until <= model.sent);
        let run = model.inbox.iter().take(usize::try_from(until - model.answered).unwrap());
        let unwanted = |job: &JobId| {
            let job = &self.jobs[job];
            job.cancelled || (job.halted && self.config.halt.is_some_and(|h| h.when == HaltWhen::Now))
        };
        assert!(run.map(|(job, ..)| job).all(unwanted), "a wanted task is dropped");
        model.dropped = until;
        model.dropping_since.get_or_insert(self.now);
    }

    fn freeze(&mut self, cause: Cause<'_>, worker: WorkerId) {
        let waits = matches!(cause, Cause::Event(Event::Stalled { worker: stalled }) if *stalled == worker);
        let idle = |w: &ModelWorker| !w.killed && w.inbox.is_empty() && w.phase != ModelPhase::Retiring;
        let hired = self.workers.values().filter(|w| !w.killed && w.phase != ModelPhase::Retiring).count();
        let is_held_back = |job: &JobId| self.schedule.jobs.get(job).is_some_and(ScheduledJob::is_held_back);
        let must_not = self.workers[&worker].inbox.iter().any(|(job, ..)| is_held_back(job));
        let has_use = self.workers.values().any(idle) || hired < self.config.processes;
        assert!(has_use || must_not || waits, "every worker is at work");
        let model = self.workers.get_mut(&worker).expect("a living worker is frozen");
        assert!(!model.killed && model.frozen.is_none());
        assert!(model.inbox.len() > usize::from(!waits) && model.dropped <= model.answered);
        model.frozen = Some(self.now);
        // A worker in the hands of an attacker may give any number.
        let started = match model.sent % 7 {
            3 => u64::MAX,
            5 => 0,
            _ => model.started.max(model.answered),
        };
        self.taken_back.push_back((worker, started));
    }

    fn kill(&mut self, cause: Cause<'_>, worker: WorkerId) {
        let by_tick = matches!(cause, Cause::Event(Event::Tick));
        let worker = self.workers.get_mut(&worker).expect("a living worker is killed");
        assert!(!worker.killed, "killed twice");
        worker.killed = true;
        if !by_tick {
            // The end of the pool: everything held has its outcome.
            self.over |= !self.closed || !worker.inbox.is_empty();
            give_up(worker);
            return;
        }
        let is_over = |since| self.now >= std::cmp::max(since, worker.answered_at) + THAW_TIME;
        let frozen_for_long = worker.inbox.is_empty() && worker.frozen.is_some_and(is_over);
        let grace_is_over =
            frozen_for_long || worker.dropping_since.is_some_and(|t| self.now >= t + self.config.grace);
        if worker.phase == ModelPhase::Serving {
            if grace_is_over {
                worker.innocent = true;
            } else {
                worker.late = Some(worker.told.max(worker.answered + 1));
            }
        }
    }

    fn answer(&mut self, worker: WorkerId) -> (JobId, u64, u32) {
        let now = self.now;
        let worker = self.workers.get_mut(&worker).expect("a living worker answers");
        worker.answered += 1;
        worker.answered_at = now;
        worker.dropping_since =
            worker.dropping_since.filter(|_| worker.answered < worker.dropped).map(|_| now);
        let batch = worker.batches.iter_mut().find(|left| **left > 0).expect("an answer is part of a batch");
        *batch -= 1;
        worker.inbox.pop_front().expect("an answer is for something held")
    }

    fn done(&mut self, job: JobId, task: u64, from: &[TaskState]) {
        let task = self.task(job, task);
        assert!(from.contains(task), "{task:?} has a second outcome");
        *task = TaskState::Done;
    }
}

/// What the worker holds has its outcome.
fn give_up(worker: &mut ModelWorker) {
    worker.answered += worker.inbox.len() as u64;
    worker.inbox.clear();
    worker.late = None;
}
