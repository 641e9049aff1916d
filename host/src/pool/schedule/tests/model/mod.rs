//! A model of the pool's users, its dispatcher and its workers. It drives the schedule through anything that
//! can happen, in any order, and checks what must always hold.
//!
//! [`Model`] is what the users and the workers know. [`op`] makes up what happens; `follow` follows and
//! checks each action of the schedule; `check` has what must hold after each event.

mod check;
mod follow;
mod op;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;

use self::op::Op;
use crate::pool::policy::{Halt, HaltOn};
use crate::pool::schedule::{Action, Config, Event, JobId, NoResult, Returned, Schedule, WorkerId};
use crate::target::Priority;

/// How a task stands, by the actions alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TaskState {
    /// Queued, or waiting for the end of its pause.
    Queued { attempt: u32 },
    /// A worker has it.
    Held { attempt: u32 },
    /// It has had its outcome.
    Done,
}

#[derive(Debug, Default)]
struct ModelJob {
    tasks: Vec<TaskState>,
    ended: bool,
    cancelled: bool,
    halted: bool,
    /// The pool was closed and its queued tasks cancelled. Nothing is left that a policy could halt.
    closed: bool,
    over: bool,
    ok: u64,
    failed: u64,
    /// The number of workers that have died over a task.
    deaths: BTreeMap<u64, u32>,
    /// When the pause before a task's next attempt is over.
    due: BTreeMap<u64, Duration>,
    /// The sizes of results that are not taken.
    results: BTreeMap<u64, u64>,
    /// The task whose result is waited for.
    waits_for: Option<u64>,
}

impl ModelJob {
    fn has_enough(&self, halt: Halt) -> bool {
        let done = self.ok + self.failed;
        match halt.on {
            HaltOn::Failures(n) => self.failed >= n.get(),
            HaltOn::Successes(n) => self.ok >= n.get(),
            HaltOn::Done(n) => done >= n.get(),
            HaltOn::FailureShare(percent) => {
                done >= 3 && self.failed > 0 && self.failed * 100 >= u64::from(percent.get()) * done
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ModelPhase {
    Starting,
    Serving,
    Retiring,
}

/// A worker process: it holds what it was sent, in order.
#[derive(Debug)]
struct ModelWorker {
    phase: ModelPhase,
    killed: bool,
    inbox: VecDeque<(JobId, u64, u32)>,
    batches: VecDeque<u64>,
    sent: u64,
    answered: u64,
    /// Tasks it has truly begun.
    started: u64,
    /// The number of them that the coordinator was told of.
    told: u64,
    /// The task that it was killed for, by its place in the worker's life.
    late: Option<u64>,
    /// It was told that the first `dropped` tasks of its life are cancelled.
    dropped: u64,
    /// Since when it drops them.
    dropping_since: Option<Duration>,
    /// It was killed because it did not drop them or did not thaw.
    innocent: bool,
    /// Since when it begins nothing more.
    frozen: Option<Duration>,
    answered_at: Duration,
}

/// A small number of bytes, so that it is often reached.
const RESULTS_MAX: u64 = 1000;

struct Model {
    schedule: Schedule,
    config: Config,
    now: Duration,
    jobs: BTreeMap<JobId, ModelJob>,
    workers: BTreeMap<WorkerId, ModelWorker>,
    starts: u64,
    /// The largest size that the pool has had.
    most: usize,
    /// Failures among the answers at hand that are not settled yet: the first answers are the failures.
    failures: u64,
    /// How often a worker has answered.
    answered: u64,
    closed: bool,
    over: bool,
    finished: bool,
    /// What the dispatcher will say next: tasks that were taken back.
    taken_back: VecDeque<(WorkerId, u64)>,
    /// And jobs whose results have become many.
    undelivered: BTreeSet<JobId>,
    /// The number of batches of other jobs since a job that waits was served.
    passed: BTreeMap<JobId, usize>,
}

fn is_holding(worker: &ModelWorker) -> bool {
    !worker.inbox.is_empty()
}

impl Model {
    fn new(config: Config) -> Model {
        Model {
            schedule: Schedule::new(config.clone()),
            most: config.processes,
            config,
            now: Duration::ZERO,
            jobs: BTreeMap::new(),
            workers: BTreeMap::new(),
            failures: 0,
            answered: 0,
            starts: 0,
            closed: false,
            over: false,
            finished: false,
            taken_back: VecDeque::new(),
            undelivered: BTreeSet::new(),
            passed: BTreeMap::new(),
        }
    }

    /// The n-th worker of those that `can`.
    fn worker(&self, n: usize, can: impl Fn(&ModelWorker) -> bool) -> Option<WorkerId> {
        let able: Vec<WorkerId> = self.workers.iter().filter(|(_, w)| can(w)).map(|(id, _)| *id).collect();
        able.get(n.checked_rem(able.len())?).copied()
    }

    fn apply(&mut self, op: &Op) {
        if self.finished {
            return;
        }
        // Only what is read at once may come between answers and their consequences.
        if !matches!(op, Op::Return { .. } | Op::Fail { .. }) {
            self.follow_up();
        }
        match *op {
            Op::Submit { job, count, bytes } => self.submit(job, count, bytes),
            Op::EndInput { job } => self.end_input(job),
            Op::Take { job, in_order } => self.take(job, in_order),
            Op::Cancel { job } => self.cancel(job),
            Op::Resize { processes } => {
                self.config.processes = processes;
                self.most = self.most.max(processes);
                self.event(Event::Resized { processes });
            }
            Op::Await => {
                self.config.eager = true;
                self.event(Event::Awaited);
            }
            Op::NotStarted { count } => self.refuse(count),
            Op::Pass { millis } => self.pass(millis),
            Op::Close => {
                self.closed = true;
                self.event(Event::Close);
            }
            Op::CloseQueued => {
                self.closed = true;
                self.event(Event::CloseQueued);
            }
            Op::Terminate => {
                self.over = true;
                self.event(Event::Terminate);
            }
            Op::Break => {
                self.over = true;
                self.event(Event::Broke { reason: "broken".to_owned() });
            }
            Op::Pause { .. }
            | Op::Ready { .. }
            | Op::Begin { .. }
            | Op::Return { .. }
            | Op::Fail { .. }
            | Op::BatchDone { .. }
            | Op::RogueBatchDone { .. }
            | Op::Progress { .. }
            | Op::Die { .. }
            | Op::Oversize { .. }
            | Op::Thaw { .. }
            | Op::Stall { .. } => {
                self.apply_to_worker(op);
            }
        }
    }

    /// What a worker does. `None`: there is none that can do it.
    fn apply_to_worker(&mut self, op: &Op) -> Option<()> {
        match *op {
            Op::Pause { worker, pauses } => {
                let worker = self.worker(worker, |w| w.phase == ModelPhase::Serving)?;
                self.event(if pauses { Event::Paused { worker } } else { Event::Resumed { worker } });
            }
            Op::Ready { worker } => {
                let worker = self.worker(worker, |w| w.phase == ModelPhase::Starting)?;
                let model = self.workers.get_mut(&worker)?;
                if !model.killed {
                    model.phase = ModelPhase::Serving;
                }
                self.event(Event::Ready { worker });
            }
            Op::Begin { worker, count } => {
                let worker = self.worker(worker, is_holding)?;
                let model = self.workers.get_mut(&worker)?;
                model.started = (model.started.max(model.answered) + count).min(model.sent);
            }
            Op::Return { worker, count, failed } => {
                let worker = self.worker(worker, is_holding)?;
                self.answer_with(worker, count, failed);
            }
            Op::Fail { worker, retriable } => {
                let worker = self.worker(worker, is_holding)?;
                let model = self.workers.get_mut(&worker)?;
                model.started = model.started.max(model.answered + 1);
                if retriable {
                    self.failed(worker);
                } else {
                    self.returned(Returned { worker, count: 1, failed: 1 });
                }
            }
            Op::BatchDone { worker, micros } => {
                let worker = self.worker(worker, |w| w.batches.front() == Some(&0))?;
                self.workers.get_mut(&worker)?.batches.pop_front();
                self.event(Event::BatchDone { worker, busy: Duration::from_micros(micros) });
            }
            Op::RogueBatchDone { worker, nanos } => {
                let worker = self.worker(worker, |_| true)?;
                self.event(Event::BatchDone { worker, busy: Duration::from_nanos(nanos) });
            }
            Op::Progress { worker, lie } => {
                let worker = self.worker(worker, is_holding)?;
                self.progress(vec![(worker, lie)]);
            }
            Op::Die { worker, lie, code, retriable } => {
                let worker = self.worker(worker, |_| true)?;
                self.die(worker, lie, code, retriable);
            }
            Op::Oversize { worker } => {
                let worker = self.worker(worker, |_| true)?;
                self.event(Event::Oversized { worker });
            }
            Op::Thaw { worker } => {
                let worker = self.worker(worker, |w| w.frozen.is_some())?;
                self.thaw(worker);
            }
            Op::Stall { worker } => {
                let worker = self.worker(worker, |_| true)?;
                self.stall(worker);
            }
            Op::Submit { .. }
            | Op::EndInput { .. }
            | Op::Take { .. }
            | Op::Cancel { .. }
            | Op::Resize { .. }
            | Op::Await
            | Op::NotStarted { .. }
            | Op::Pass { .. }
            | Op::Close
            | Op::CloseQueued
            | Op::Terminate
            | Op::Break => {}
        }
        Some(())
    }

    fn submit(&mut self, job: JobId, count: u64, bytes: u64) {
        if self.jobs.get(&job).is_some_and(|j| j.ended) {
            return;
        }
        // A second `Opened` changes nothing.
        let priority = [Priority::High, Priority::Normal, Priority::Low][usize::try_from(job % 3).unwrap()];
        self.event(Event::Opened { job, priority });
        let tasks = &mut self.jobs.entry(job).or_default().tasks;
        tasks.resize(tasks.len() + usize::try_from(count).unwrap(), TaskState::Queued { attempt: 1 });
        self.event(Event::Submitted { job, count, bytes });
    }

    fn cancel(&mut self, job: JobId) {
        let Some(model) = self.jobs.get_mut(&job).filter(|j| !j.over) else { return };
        model.cancelled = true;
        model.results.clear();
        self.event(Event::Cancelled { job });
        if !self.jobs[&job].over {
            self.tell_undelivered(job);
        }
        self.end_input(job);
    }

    /// The system refuses to start up to `count` workers.
    fn refuse(&mut self, count: usize) {
        let starting = self.workers.iter().filter(|(_, w)| w.phase == ModelPhase::Starting);
        let workers: Vec<WorkerId> = starting.map(|(id, _)| *id).take(count).collect();
        self.workers.retain(|id, _| !workers.contains(id));
        self.event(Event::NotStarted { workers, reason: "no more processes".to_owned() });
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        let watched: Vec<WorkerId> = self.schedule.watched_workers().collect();
        self.progress(watched.into_iter().map(|worker| (worker, None)).collect());
        self.event(Event::Tick);
        if let Some(due) = self.schedule.next_tick() {
            assert!(due > self.now, "a tick that is due again at once would spin");
        }
    }

    /// The worker answers up to `count` tasks, up to `failed` of them with failures.
    fn answer_with(&mut self, worker: WorkerId, count: u64, failed: u64) {
        let model = self.workers.get_mut(&worker).unwrap();
        let count = count.min(model.inbox.len() as u64);
        let failed = match self.config.halt {
            Some(halt) if failed > 0 && !matches!(halt.on, HaltOn::Done(_)) => count,
            _ => failed.min(count),
        };
        model.started = model.started.max(model.answered + count);
        self.returned(Returned { worker, count, failed });
    }

    /// Takes the results of a job: in the order of its tasks, or all.
    fn take(&mut self, id: JobId, in_order: bool) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| !job.over) else { return };
        let next = job.tasks.iter().take_while(|task| **task == TaskState::Done).count() as u64;
        job.waits_for = in_order.then_some(next);
        job.results.retain(|task, _| in_order && *task > next);
        self.tell_undelivered(id);
    }

    fn tell_undelivered(&mut self, id: JobId) {
        let job = &self.jobs[&id];
        let (bytes, waits_for) = (job.results.values().sum(), job.waits_for);
        self.event(Event::Undelivered { job: id, bytes, waits_for });
    }

    fn end_input(&mut self, job: JobId) {
        let Some(model) = self.jobs.get_mut(&job).filter(|j| !j.ended) else { return };
        model.ended = true;
        self.event(Event::InputEnded { job });
    }

    fn progress(&mut self, counts: Vec<(WorkerId, Option<u64>)>) {
        let mut tell = |(worker, lie): (WorkerId, Option<u64>)| {
            let model = self.workers.get_mut(&worker).unwrap();
            let started = lie.unwrap_or(model.started);
            model.told = model.told.max(started.min(model.sent));
            (worker, started)
        };
        let started = counts.into_iter().map(&mut tell).collect();
        self.event(Event::Progress { started });
    }

    fn thaw(&mut self, worker: WorkerId) {
        self.workers.get_mut(&worker).unwrap().frozen = None;
        assert!(self.schedule.is_frozen(worker));
        self.event(Event::Thawed { worker });
        assert!(
            !self.workers.contains_key(&worker)
                || self.workers[&worker].frozen.is_some()
                || !self.schedule.is_frozen(worker)
        );
    }

    /// The worker's task waits. What it holds behind that one is taken back, and it gets nothing further
    /// before it has answered.
    fn stall(&mut self, worker: WorkerId) {
        let model = &self.workers[&worker];
        let is_at_work = model.phase == ModelPhase::Serving && !model.killed && !model.inbox.is_empty();
        let is_told = model.frozen.is_some() || model.dropped > model.answered;
        let is_frozen = model.frozen.is_some() || is_at_work && !is_told;
        self.event(Event::Stalled { worker });
        assert_eq!(self.workers[&worker].frozen.is_some(), is_frozen);
    }

    /// Takes the tasks behind the first `started` tasks of its life from the worker.
    fn give_back(&mut self, id: WorkerId, started: u64) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let kept = started.clamp(worker.answered, worker.sent);
        worker.started = worker.started.min(kept);
        worker.told = worker.told.min(kept);
        let taken = worker.inbox.split_off(usize::try_from(kept - worker.answered).unwrap());
        worker.sent = kept;
        let mut left = taken.len() as u64;
        while left > 0 {
            let last = worker.batches.back_mut().expect("what it holds is of a batch");
            let part = left.min(*last);
            (*last, left) = (*last - part, left - part);
            // The worker will tell the end of a batch that it has begun.
            if *last == 0 && left > 0 || kept == worker.answered && worker.inbox.is_empty() && *last == 0 {
                worker.batches.pop_back();
            }
        }
        for (job, task, attempt) in taken {
            *self.task(job, task) = TaskState::Queued { attempt };
        }
        self.event(Event::TakenBack { worker: id, started });
    }

    fn die(&mut self, id: WorkerId, lie: Option<u64>, exitcode: Option<i32>, retriable: bool) {
        let worker = self.workers.remove(&id).unwrap();
        // Its tasks are queued again, unless an action says otherwise below.
        for (job, task, attempt) in &worker.inbox {
            *self.task(*job, *task) = TaskState::Queued { attempt: *attempt };
        }
        let started = lie.unwrap_or(worker.started);
        // Charged is the task that it was killed for, else the one that it says it was running, if it holds
        // that.
        let guilty = match worker.late {
            _ if worker.innocent => None,
            Some(late) => late.checked_sub(worker.answered + 1),
            None => started.min(worker.sent).checked_sub(worker.answered + 1),
        };
        let guilty =
            guilty.and_then(|at| worker.inbox.get(usize::try_from(at).unwrap())).map(|(j, t, _)| (*j, *t));
        // After a halt at once nothing is charged.
        let counts = |(job, _): &(JobId, u64)| self.schedule.jobs.get(job).is_some_and(|job| !job.discards);
        let guilty = guilty.filter(counts);
        if let (Some((job, task)), None) = (guilty, worker.late) {
            *self.jobs.get_mut(&job).unwrap().deaths.entry(task).or_default() += 1;
        }
        let event = Event::Gone { worker: id, started, retriable, exitcode, reason: "died".to_owned() };
        let actions = self.event(event);
        let charged: Vec<(JobId, u64)> = actions
            .iter()
            .filter_map(|action| match action {
                Action::Retry { retry, .. } => Some((retry.job, retry.task)),
                Action::Give { job, first, verdict: NoResult::Lost { .. } | NoResult::TimedOut, .. } => {
                    Some((*job, *first))
                }
                _ => None,
            })
            .collect();
        assert_eq!(charged, Vec::from_iter(guilty), "exactly the guilty task is charged");
    }

    fn task(&mut self, job: JobId, task: u64) -> &mut TaskState {
        &mut self.jobs.get_mut(&job).unwrap().tasks[usize::try_from(task).unwrap()]
    }

    /// Lets workers start, work and end as they should, until the pool has drained.
    fn drain(&mut self) {
        let jobs: Vec<JobId> = self.jobs.keys().copied().collect();
        for job in jobs {
            self.end_input(job);
        }
        self.settle();
        assert!(self.jobs.values().all(|job| job.over), "the pool did not drain");
        self.apply(&Op::Close);
        self.settle();
        assert!(self.finished, "the pool did not end");
        let tasks: BTreeSet<bool> =
            self.jobs.values().flat_map(|j| &j.tasks).map(|t| *t == TaskState::Done).collect();
        assert!(!tasks.contains(&false), "a task was lost");
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            self.follow_up();
            let is_settled = |w: &ModelWorker| {
                w.frozen.is_none() && w.phase == ModelPhase::Serving && w.inbox.is_empty() && !w.killed
            };
            match self.workers.iter().find(|(_, w)| !is_settled(w)).map(|(id, _)| *id) {
                Some(worker) => self.go_on(worker),
                None if self.wait() => {}
                None => return,
            }
        }
        panic!("it goes on for ever: {:?}", self.schedule);
    }

    /// When no worker has anything to do: waits for the end of a pause, or takes results. `false`: there is
    /// neither.
    fn wait(&mut self) -> bool {
        let refused = Some(self.schedule.hire_at).filter(|at| *at > self.now && self.schedule.queued > 0);
        let delayed = self.schedule.delayed.keys().next().map(|(due, _)| *due);
        if let Some(due) = delayed.into_iter().chain(refused).min() {
            assert!(self.schedule.next_tick().is_some_and(|tick| tick <= due), "a pause is forgotten");
            self.now = self.now.max(due);
            self.event(Event::Tick);
            return true;
        }
        // Takes the results that there are, and waits for the next.
        let full = self.jobs.iter().find(|(id, _)| self.schedule.is_full(**id)).map(|(id, _)| *id);
        full.inspect(|job| self.take(*job, true)).is_some()
    }

    /// Lets a worker do what it should do next.
    fn go_on(&mut self, id: WorkerId) {
        let worker = &self.workers[&id];
        match worker.phase {
            _ if worker.killed => self.die(id, None, Some(-9), true),
            ModelPhase::Starting => {
                self.workers.get_mut(&id).unwrap().phase = ModelPhase::Serving;
                self.event(Event::Ready { worker: id });
            }
            ModelPhase::Serving if worker.inbox.is_empty() => self.thaw(id),
            ModelPhase::Serving => {
                let count = worker.inbox.len() as u64;
                let sent = worker.sent;
                self.workers.get_mut(&id).unwrap().started = sent;
                self.returned(Returned { worker: id, count, failed: 0 });
                let batches = &mut self.workers.get_mut(&id).unwrap().batches;
                while batches.front() == Some(&0) {
                    batches.pop_front();
                }
                self.event(Event::BatchDone { worker: id, busy: Duration::from_micros(50) });
            }
            ModelPhase::Retiring => self.die(id, None, Some(0), true),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 8000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// One outcome per task, nothing lost or doubled, no attempt charged to a bystander, no worker too many;
    /// the pool drains.
    #[test]
    fn whatever_happens_every_task_has_one_outcome(
        config in op::config(),
        ops in proptest::collection::vec(op::op(), 0..120),
    ) {
        let mut model = Model::new(config);
        for op in &ops {
            model.apply(op);
        }
        if !model.finished {
            model.drain();
        }
    }
}
