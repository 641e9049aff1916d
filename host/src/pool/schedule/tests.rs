//! A model drives the schedule through anything that can happen, in any order, and checks what must always hold.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::pool::policy::{HaltOn, HaltWhen};

/// How a task stands, by the actions alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    /// Or waiting for the end of its pause, which is at `due`.
    Queued {
        attempt: u32,
    },
    Held {
        attempt: u32,
    },
    Done,
}

#[derive(Debug, Default)]
struct ModelJob {
    tasks: Vec<Task>,
    ended: bool,
    cancelled: bool,
    halted: bool,
    /// The pool was closed with what was queued given up. Nothing is left that a policy could halt.
    closed: bool,
    over: bool,
    ok: u64,
    failed: u64,
    /// Workers that have died over a task.
    deaths: BTreeMap<u64, u32>,
    /// When the pause before a task's next attempt is over.
    due: BTreeMap<u64, Duration>,
    /// Results that nobody has taken, and the task that somebody waits for.
    results: BTreeMap<u64, u64>,
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
    /// What the coordinator was told of that.
    told: u64,
    /// The task it was killed for, by its place in the worker's life.
    late: Option<u64>,
    /// It was told that nobody wants the first so many tasks of its life; since when.
    dropped: u64,
    dropping_since: Option<Duration>,
    /// It was killed because it would not drop them, or because the pool has become smaller.
    innocent: bool,
    /// It begins nothing more, since then.
    frozen: Option<Duration>,
    answered_at: Duration,
}

/// Little, so that it is often reached.
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
    /// Failures in the event at hand that no answer has been told to be yet: the first are.
    failures: u64,
    closed: bool,
    over: bool,
    finished: bool,
    /// What the dispatcher will say next.
    taken_back: VecDeque<(WorkerId, u64)>,
    undelivered: BTreeSet<JobId>,
}

/// What may happen to the pool. Workers and jobs are chosen by number among those that can meet it.
#[derive(Debug, Clone)]
enum Op {
    Submit { job: u64, count: u64, bytes: u64 },
    EndInput { job: u64 },
    Take { job: u64, in_order: bool },
    Pause { worker: usize, pauses: bool },
    Cancel { job: u64 },
    Ready { worker: usize },
    Begin { worker: usize, count: u64 },
    Return { worker: usize, count: u64, failed: u64 },
    Fail { worker: usize, retriable: bool },
    BatchDone { worker: usize, micros: u64 },
    RogueBatchDone { worker: usize, nanos: u64 },
    Progress { worker: usize, lie: Option<u64> },
    Die { worker: usize, lie: Option<u64>, code: Option<i32>, retriable: bool },
    Oversize { worker: usize },
    Thaw { worker: usize },
    Resize { processes: usize },
    NotStarted { count: usize },
    Pass { millis: u64 },
    Close,
    CloseQueued,
    Terminate,
    Break,
}

fn op() -> impl Strategy<Value = Op> {
    let worker = || 0usize..6;
    let lie =
        || prop_oneof![4 => Just(None), 1 => any::<u64>().prop_map(Some), 1 => (0u64..8).prop_map(Some)];
    prop_oneof![
        12 => (1u64..4, 1u64..30, 0u64..100_000).prop_map(|(job, count, bytes)| Op::Submit { job, count, bytes }),
        3 => (1u64..4).prop_map(|job| Op::EndInput { job }),
        8 => (1u64..4, any::<bool>()).prop_map(|(job, in_order)| Op::Take { job, in_order }),
        3 => (worker(), any::<bool>()).prop_map(|(worker, pauses)| Op::Pause { worker, pauses }),
        1 => (1u64..4).prop_map(|job| Op::Cancel { job }),
        14 => worker().prop_map(|worker| Op::Ready { worker }),
        16 => (worker(), 1u64..5).prop_map(|(worker, count)| Op::Begin { worker, count }),
        20 => (worker(), 1u64..12, 0u64..4).prop_map(|(worker, count, failed)| Op::Return { worker, count, failed }),
        6 => (worker(), any::<bool>()).prop_map(|(worker, retriable)| Op::Fail { worker, retriable }),
        14 => (worker(), 0u64..3000).prop_map(|(worker, micros)| Op::BatchDone { worker, micros }),
        1 => (worker(), any::<u64>()).prop_map(|(worker, nanos)| Op::RogueBatchDone { worker, nanos }),
        6 => (worker(), lie()).prop_map(|(worker, lie)| Op::Progress { worker, lie }),
        8 => (worker(), lie(), proptest::option::of(-9i32..3), proptest::bool::weighted(0.8))
            .prop_map(|(worker, lie, code, retriable)| Op::Die { worker, lie, code, retriable }),
        2 => worker().prop_map(|worker| Op::Oversize { worker }),
        6 => worker().prop_map(|worker| Op::Thaw { worker }),
        2 => (1usize..5).prop_map(|processes| Op::Resize { processes }),
        1 => (1usize..4).prop_map(|count| Op::NotStarted { count }),
        6 => prop_oneof![0u64..200, 900u64..70_000].prop_map(|millis| Op::Pass { millis }),
        1 => Just(Op::Close),
        1 => Just(Op::CloseQueued),
        1 => Just(Op::Terminate),
        1 => Just(Op::Break),
    ]
}

fn config() -> impl Strategy<Value = Config> {
    let millis = |range: std::ops::Range<u64>| range.prop_map(Duration::from_millis);
    let kill_after = prop_oneof![Just(None), Just(Some(Duration::MAX)), millis(1..2000).prop_map(Some)];
    let delay = prop_oneof![2 => Just(Duration::ZERO), 1 => millis(1..300)];
    let backoff =
        prop_oneof![Just(Backoff::Fixed), millis(0..900).prop_map(|max| Backoff::Exponential { max })];
    let on = prop_oneof![
        (1u64..20).prop_map(|n| HaltOn::Failures(n.try_into().unwrap())),
        (1u8..101).prop_map(|n| HaltOn::FailureShare(n.try_into().unwrap())),
        (1u64..20).prop_map(|n| HaltOn::Successes(n.try_into().unwrap())),
        (1u64..20).prop_map(|n| HaltOn::Done(n.try_into().unwrap())),
    ];
    let when = prop_oneof![Just(HaltWhen::Now), Just(HaltWhen::Soon)];
    let halt = proptest::option::weighted(0.3, (when, on).prop_map(|(when, on)| Halt { when, on }));
    let staff =
        (1usize..5, proptest::option::of(1u64..9), proptest::option::of(millis(1..2000)), any::<bool>());
    let again = (0u32..4, delay, backoff, 1u32..4);
    (staff, again, kill_after, millis(0..300), halt).prop_map(|(staff, again, kill_after, grace, halt)| {
        let (processes, max_tasks_per_child, idle_time, eager) = staff;
        let (retries, delay, backoff, poison_limit) = again;
        Config {
            processes,
            max_tasks_per_child,
            retries,
            delay,
            backoff,
            poison_limit,
            halt,
            results_max: RESULTS_MAX,
            kill_after,
            grace,
            start_time: Duration::from_secs(60),
            retire_time: Duration::from_secs(5),
            idle_time,
            eager,
        }
    })
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
            starts: 0,
            closed: false,
            over: false,
            finished: false,
            taken_back: VecDeque::new(),
            undelivered: BTreeSet::new(),
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
        let holding = |w: &ModelWorker| !w.inbox.is_empty();
        match *op {
            Op::Submit { job, count, bytes } => {
                if self.jobs.get(&job).is_some_and(|j| j.ended) {
                    return;
                }
                // An event too many changes nothing.
                self.event(Event::Opened { job });
                let tasks = &mut self.jobs.entry(job).or_default().tasks;
                tasks.resize(tasks.len() + usize::try_from(count).unwrap(), Task::Queued { attempt: 1 });
                self.event(Event::Submitted { job, count, bytes });
            }
            Op::EndInput { job } => self.end_input(job),
            Op::Take { job, in_order } => self.take(job, in_order),
            Op::Pause { worker, pauses } => {
                let Some(worker) = self.worker(worker, |w| w.phase == ModelPhase::Serving) else { return };
                self.event(if pauses { Event::Paused { worker } } else { Event::Resumed { worker } });
            }
            Op::Cancel { job } => {
                let Some(model) = self.jobs.get_mut(&job).filter(|j| !j.over) else { return };
                model.cancelled = true;
                model.results.clear();
                self.event(Event::Cancelled { job });
                if !self.jobs[&job].over {
                    self.tell_undelivered(job);
                }
                self.end_input(job);
            }
            Op::Ready { worker } => {
                let Some(worker) = self.worker(worker, |w| w.phase == ModelPhase::Starting) else { return };
                let model = self.workers.get_mut(&worker).unwrap();
                if !model.killed {
                    model.phase = ModelPhase::Serving;
                }
                self.event(Event::Ready { worker });
            }
            Op::Begin { worker, count } => {
                let Some(worker) = self.worker(worker, holding) else { return };
                let model = self.workers.get_mut(&worker).unwrap();
                model.started = (model.started.max(model.answered) + count).min(model.sent);
            }
            Op::Return { worker, count, failed } => {
                let Some(worker) = self.worker(worker, holding) else { return };
                let model = self.workers.get_mut(&worker).unwrap();
                let count = count.min(model.inbox.len() as u64);
                let failed = match self.config.halt {
                    Some(halt) if failed > 0 && !matches!(halt.on, HaltOn::Done(_)) => count,
                    _ => failed.min(count),
                };
                model.started = model.started.max(model.answered + count);
                self.event(Event::Returned { worker, count, failed });
            }
            Op::Fail { worker, retriable } => {
                let Some(worker) = self.worker(worker, holding) else { return };
                let model = self.workers.get_mut(&worker).unwrap();
                model.started = model.started.max(model.answered + 1);
                self.event(Event::Failed { worker, retriable });
            }
            Op::BatchDone { worker, micros } => {
                let Some(worker) = self.worker(worker, |w| w.batches.front() == Some(&0)) else { return };
                self.workers.get_mut(&worker).unwrap().batches.pop_front();
                self.event(Event::BatchDone { worker, busy: Duration::from_micros(micros) });
            }
            Op::RogueBatchDone { worker, nanos } => {
                let Some(worker) = self.worker(worker, |_| true) else { return };
                self.event(Event::BatchDone { worker, busy: Duration::from_nanos(nanos) });
            }
            Op::Progress { worker, lie } => {
                let Some(worker) = self.worker(worker, holding) else { return };
                self.progress(worker, lie);
            }
            Op::Die { worker, lie, code, retriable } => {
                let Some(worker) = self.worker(worker, |_| true) else { return };
                self.die(worker, lie, code, retriable);
            }
            Op::Oversize { worker } => {
                let Some(worker) = self.worker(worker, |_| true) else { return };
                self.event(Event::Oversized { worker });
            }
            Op::Thaw { worker } => {
                let Some(worker) = self.worker(worker, |w| w.frozen.is_some()) else { return };
                self.thaw(worker);
            }
            Op::Resize { processes } => {
                self.config.processes = processes;
                self.most = self.most.max(processes);
                self.event(Event::Resized { processes });
            }
            Op::NotStarted { count } => {
                let starting = self.workers.iter().filter(|(_, w)| w.phase == ModelPhase::Starting);
                let workers: Vec<WorkerId> = starting.map(|(id, _)| *id).take(count).collect();
                self.workers.retain(|id, _| !workers.contains(id));
                self.event(Event::NotStarted { workers, reason: "no more processes".to_owned() });
            }
            Op::Pass { millis } => {
                self.now += Duration::from_millis(millis);
                let busy: Vec<WorkerId> =
                    self.workers.iter().filter(|(_, w)| holding(w)).map(|(id, _)| *id).collect();
                for worker in busy {
                    self.progress(worker, None);
                }
                self.event(Event::Tick);
                if let Some(due) = self.schedule.next_tick() {
                    assert!(due > self.now, "a tick that is due again at once would spin");
                }
            }
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
        }
    }

    /// Somebody takes what results there are of a job, in the order of its tasks or all.
    fn take(&mut self, id: JobId, in_order: bool) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| !job.over) else { return };
        let next = job.tasks.iter().take_while(|task| **task == Task::Done).count() as u64;
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

    fn progress(&mut self, worker: WorkerId, lie: Option<u64>) {
        let model = self.workers.get_mut(&worker).unwrap();
        let started = lie.unwrap_or(model.started);
        model.told = model.told.max(started.min(model.sent));
        self.event(Event::Progress { worker, started });
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

    /// The tasks behind the first `started` of its life are not the worker's any more.
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
            // One that it has begun it will tell to be done.
            if *last == 0 && left > 0 || kept == worker.answered && worker.inbox.is_empty() && *last == 0 {
                worker.batches.pop_back();
            }
        }
        for (job, task, attempt) in taken {
            *self.task(job, task) = Task::Queued { attempt };
        }
        self.event(Event::TakenBack { worker: id, started });
    }

    fn die(&mut self, id: WorkerId, lie: Option<u64>, exitcode: Option<i32>, retriable: bool) {
        let worker = self.workers.remove(&id).unwrap();
        // Back in the queue, each as it was, unless an action says otherwise below.
        for (job, task, attempt) in &worker.inbox {
            *self.task(*job, *task) = Task::Queued { attempt: *attempt };
        }
        let started = lie.unwrap_or(worker.started);
        // Who pays: the task that it was killed for, else the one that it says it was running, if it holds that.
        let guilty = match worker.late {
            _ if worker.innocent => None,
            Some(late) => late.checked_sub(worker.answered + 1),
            None => started.min(worker.sent).checked_sub(worker.answered + 1),
        };
        let guilty =
            guilty.and_then(|at| worker.inbox.get(usize::try_from(at).unwrap())).map(|(j, t, _)| (*j, *t));
        // After a halt nothing counts any more.
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
                Action::Retry { job, task, .. } => Some((*job, *task)),
                Action::Give { job, first, verdict: Verdict::Lost { .. } | Verdict::TimedOut, .. } => {
                    Some((*job, *first))
                }
                _ => None,
            })
            .collect();
        assert_eq!(charged, Vec::from_iter(guilty), "exactly the guilty task is charged");
    }

    fn task(&mut self, job: JobId, task: u64) -> &mut Task {
        &mut self.jobs.get_mut(&job).unwrap().tasks[usize::try_from(task).unwrap()]
    }

    /// Passes an event on, and checks and follows every action.
    fn event(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.schedule.on(self.now, event.clone(), &mut actions);
        self.failures = match event {
            Event::Returned { failed, .. } => failed,
            Event::Failed { .. } => 1,
            _ => 0,
        };
        // It may break when there is nobody left to be told.
        let broke = self.schedule.broken.is_some();
        for action in &actions {
            self.over |= broke && *action == Action::Finished;
            self.follow(&event, action);
        }
        let jobs = &self.schedule.jobs;
        assert_eq!(self.schedule.queued, jobs.values().map(|job| job.open(self.config.halt)).sum::<u64>());
        let is_open = |job: &Job| job.open(self.config.halt) > 0;
        assert!(jobs.iter().filter(|(_, job)| is_open(job)).map(|(id, _)| id).eq(&self.schedule.waiting));
        assert_eq!(self.schedule.held_back, jobs.values().filter(|job| job.is_held_back()).count());
        assert_eq!(self.schedule.unwanted, jobs.values().filter(|job| job.wanted == Wanted::No).count());
        assert_eq!(self.schedule.delayed.len(), jobs.values().map(|job| job.pauses.len()).sum::<usize>());
        for (id, worker) in &self.workers {
            assert_eq!(self.schedule.unanswered(*id), worker.inbox.len() as u64, "worker {id}");
        }
        let live = self.workers.values().filter(|w| !w.killed && w.phase != ModelPhase::Retiring).count();
        // Those that are too many after a resize end with what they hold.
        let leaving = self.schedule.workers.values().filter(|w| w.is_hired() && w.leaving.is_some()).count();
        assert!(live <= self.config.processes + leaving && live <= self.most, "{live} workers at work");
        assert!(self.workers.len() <= 2 * self.most, "{} processes", self.workers.len());
        self.check_halts();
        self.check_room();
        while let Some((worker, started)) = self.taken_back.pop_front() {
            self.give_back(worker, started);
        }
        while let Some(job) = self.undelivered.pop_first() {
            self.tell_undelivered(job);
        }
        self.check_time();
        actions
    }

    /// Of a job whose results find no room, no worker begins anything but what it is at, or somebody waits for.
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
            let is_held_back = |job: &JobId| self.schedule.jobs.get(job).is_some_and(Job::is_held_back);
            let ahead = worker.inbox.iter().skip(1).any(|(job, ..)| is_held_back(job));
            assert!(!ahead, "it would begin what it must not");
        }
    }

    /// No job goes on when its policy says that enough is done.
    fn check_halts(&self) {
        let Some(halt) = self.config.halt.filter(|_| !self.over) else { return };
        let goes_on = |job: &&ModelJob| !job.over && !job.halted && !job.cancelled;
        assert!(!self.jobs.values().filter(goes_on).any(|job| job.has_enough(halt)), "it was not halted");
        for job in self.jobs.values().filter(|job| !job.cancelled && !job.closed) {
            let held = job.tasks.iter().filter(|task| matches!(task, Task::Held { .. })).count() as u64;
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

    /// Whatever is due is announced: nothing waits for an event that may never come.
    fn check_time(&self) {
        let next = self.schedule.next_tick();
        let is_announced = |due: Option<Duration>| due.is_none_or(|due| next.is_some_and(|next| next <= due));
        assert!(self.over || is_announced(self.schedule.delayed.keys().next().map(|(due, _)| *due)));
        for worker in self.workers.values().filter(|w| !w.killed) {
            assert!(is_announced(worker.dropping_since.map(|since| since + self.config.grace)));
        }
    }

    fn follow(&mut self, event: &Event, action: &Action) {
        assert!(!self.finished, "{action:?} after the end");
        match action.clone() {
            Action::Start { worker } => {
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
            Action::Send { worker, job, first, count, attempt } => {
                assert!(count > 0);
                let model = self.jobs.get_mut(&job).unwrap();
                assert!(!model.cancelled && !model.halted, "a task is begun that nobody wants");
                if self.schedule.is_full(job) {
                    assert_eq!((Some(first), count), (model.waits_for, 1), "there is no room for its result");
                }
                for task in first..first + count {
                    assert!(
                        model.due.remove(&task).is_none_or(|due| due <= self.now),
                        "its pause is not over"
                    );
                    let task = &mut model.tasks[usize::try_from(task).unwrap()];
                    assert_eq!(*task, Task::Queued { attempt });
                    *task = Task::Held { attempt };
                }
                let worker = self.workers.get_mut(&worker).expect("tasks go to a living worker");
                assert!(worker.phase == ModelPhase::Serving && !worker.killed && worker.frozen.is_none());
                worker.inbox.extend((first..first + count).map(|task| (job, task, attempt)));
                worker.batches.push_back(count);
                worker.sent += count;
                assert!(worker.sent <= self.config.max_tasks_per_child.unwrap_or(u64::MAX));
            }
            Action::Deliver { job, first, count, attempt } => {
                let (Event::Returned { worker, .. } | Event::Failed { worker, .. }) = *event else {
                    panic!("only answers deliver");
                };
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
                    assert_eq!(
                        self.answer(worker),
                        (job, task, attempt),
                        "answers are for what was sent, in order"
                    );
                    self.done(job, task, &[Task::Held { attempt }]);
                }
            }
            Action::Skip { count } => {
                let (Event::Returned { worker, .. } | Event::Failed { worker, .. }) = *event else {
                    panic!("only answers are skipped");
                };
                for _ in 0..count {
                    let (job, ..) = self.answer(worker);
                    let is_halted = self.jobs[&job].halted;
                    assert!(is_halted && self.config.halt.is_some_and(|halt| halt.when == HaltWhen::Now));
                }
                self.failures -= self.failures.min(count);
            }
            Action::Retry { job, task, attempt, delay, verdict } => {
                assert!(attempt <= self.config.retries, "attempt {} of {task}", attempt + 1);
                let model = self.jobs.get_mut(&job).unwrap();
                assert!(!model.cancelled && !model.halted, "nobody wants another attempt");
                match (event, &verdict) {
                    (Event::Failed { retriable, .. }, None) => assert!(retriable),
                    (Event::Gone { retriable, .. }, Some(Verdict::Lost { .. })) => {
                        assert!(*retriable && model.deaths[&task] < self.config.poison_limit);
                    }
                    (Event::Gone { retriable, .. }, Some(Verdict::TimedOut)) => assert!(*retriable),
                    other => panic!("no reason to try again: {other:?}"),
                }
                model.due.insert(task, self.now.saturating_add(delay));
                if let Event::Failed { worker, .. } = *event {
                    assert_eq!(self.answer(worker), (job, task, attempt));
                    *self.task(job, task) = Task::Queued { attempt };
                }
                let task = self.task(job, task);
                assert_eq!(*task, Task::Queued { attempt });
                *task = Task::Queued { attempt: attempt + 1 };
            }
            Action::Give { job, first, count, attempt, verdict } => {
                match verdict {
                    Verdict::Lost { .. } | Verdict::TimedOut => {
                        let Event::Gone { retriable, .. } = *event else { panic!("nobody has died") };
                        let model = self.jobs.get_mut(&job).unwrap();
                        let unwanted = model.cancelled || model.halted;
                        let hopeless = match verdict {
                            Verdict::TimedOut => !retriable,
                            _ => !retriable || model.deaths[&first] >= self.config.poison_limit,
                        };
                        assert!(count == 1);
                        assert!(
                            attempt == self.config.retries + 1 || unwanted || hopeless,
                            "it has tries left"
                        );
                        model.failed += 1;
                    }
                    Verdict::Cancelled => {
                        let model = &self.jobs[&job];
                        assert!(self.over || model.cancelled || model.halted);
                    }
                    Verdict::Broken { .. } => self.over = true,
                }
                for task in first..first + count {
                    self.done(job, task, &[Task::Queued { attempt }, Task::Held { attempt }]);
                }
            }
            Action::Halted { job } => {
                let model = self.jobs.get_mut(&job).unwrap();
                let was_halted = std::mem::replace(&mut model.halted, true);
                if *event == Event::CloseQueued {
                    model.closed = true;
                    return;
                }
                assert!(!was_halted && !model.cancelled);
                let halt = self.config.halt.expect("only a policy halts");
                assert!(model.has_enough(halt), "it was halted too early");
            }
            Action::Drop { worker, until } => {
                let model = self.workers.get_mut(&worker).expect("a living worker is told");
                assert!(
                    !model.killed && until > model.answered && until > model.dropped && until <= model.sent
                );
                let run = model.inbox.iter().take(usize::try_from(until - model.answered).unwrap());
                let unwanted = |job: &JobId| {
                    let job = &self.jobs[job];
                    job.cancelled || (job.halted && self.config.halt.is_some_and(|h| h.when == HaltWhen::Now))
                };
                assert!(run.map(|(job, ..)| job).all(unwanted), "somebody wants it");
                model.dropped = until;
                model.dropping_since.get_or_insert(self.now);
            }
            Action::TakeBack { worker } => {
                let idle =
                    |w: &ModelWorker| !w.killed && w.inbox.is_empty() && w.phase != ModelPhase::Retiring;
                let hired =
                    self.workers.values().filter(|w| !w.killed && w.phase != ModelPhase::Retiring).count();
                let is_held_back = |job: &JobId| self.schedule.jobs.get(job).is_some_and(Job::is_held_back);
                let must_not = self.workers[&worker].inbox.iter().any(|(job, ..)| is_held_back(job));
                let has_use = self.workers.values().any(idle) || hired < self.config.processes;
                assert!(has_use || must_not, "everybody is at work");
                let model = self.workers.get_mut(&worker).expect("a living worker is frozen");
                assert!(
                    !model.killed
                        && model.frozen.is_none()
                        && model.inbox.len() > 1
                        && model.dropped <= model.answered
                );
                model.frozen = Some(self.now);
                // One in the hands of an attacker says what it likes.
                let started = match model.sent % 7 {
                    3 => u64::MAX,
                    5 => 0,
                    _ => model.started.max(model.answered),
                };
                self.taken_back.push_back((worker, started));
            }
            Action::JobDone { job } => {
                let job = self.jobs.get_mut(&job).unwrap();
                assert!(!job.over && job.ended && job.tasks.iter().all(|t| *t == Task::Done));
                job.over = true;
            }
            Action::Retire { worker, why } => {
                let idle_time = self.config.idle_time;
                assert!(why != Some(Recycle::Idle) || idle_time.is_some() && !self.config.eager);
                let worker = self.workers.get_mut(&worker).expect("a living worker is retired");
                assert!(worker.phase == ModelPhase::Serving && !worker.killed && worker.inbox.is_empty());
                worker.phase = ModelPhase::Retiring;
            }
            Action::Kill { worker } => {
                let by_tick = *event == Event::Tick;
                let worker = self.workers.get_mut(&worker).expect("a living worker is killed");
                assert!(!worker.killed, "killed twice");
                worker.killed = true;
                let frozen_for_long = worker.inbox.is_empty()
                    && worker
                        .frozen
                        .is_some_and(|since| self.now >= since.max(worker.answered_at) + THAW_TIME);
                let grace_is_over = frozen_for_long
                    || worker.dropping_since.is_some_and(|t| self.now >= t + self.config.grace);
                match by_tick {
                    true if worker.phase == ModelPhase::Serving && grace_is_over => worker.innocent = true,
                    true if worker.phase == ModelPhase::Serving => {
                        worker.late = Some(worker.told.max(worker.answered + 1));
                    }
                    true => {}
                    // The end of the pool: everything held has its outcome.
                    false => {
                        self.over |= !self.closed || !worker.inbox.is_empty();
                        worker.answered += worker.inbox.len() as u64;
                        worker.inbox.clear();
                        worker.late = None;
                    }
                }
            }
            Action::Finished => {
                assert!(self.workers.is_empty() && (self.closed || self.over));
                self.finished = true;
            }
        }
        // A terminated pool gives up what its workers hold, also those that it had killed before.
        if self.over && self.schedule.is_terminated() {
            for worker in self.workers.values_mut() {
                worker.answered += worker.inbox.len() as u64;
                worker.inbox.clear();
                worker.late = None;
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

    fn done(&mut self, job: JobId, task: u64, from: &[Task]) {
        let task = self.task(job, task);
        assert!(from.contains(task), "{task:?} has a second outcome");
        *task = Task::Done;
    }

    /// From here on all is well: workers start, work and end as they should, and the pool drains.
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
            self.jobs.values().flat_map(|j| &j.tasks).map(|t| *t == Task::Done).collect();
        assert!(!tasks.contains(&false), "a task was lost");
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            let Some((&id, worker)) = self.workers.iter().find(|(_, w)| {
                w.frozen.is_some() || !(w.phase == ModelPhase::Serving && w.inbox.is_empty() && !w.killed)
            }) else {
                // Nobody is at work; pauses may still be running.
                let refused =
                    Some(self.schedule.hire_at).filter(|at| *at > self.now && self.schedule.queued > 0);
                if let Some(due) = earlier(self.schedule.delayed.keys().next().map(|(due, _)| *due), refused)
                {
                    assert!(
                        self.schedule.next_tick().is_some_and(|tick| tick <= due),
                        "a pause is forgotten"
                    );
                    self.now = self.now.max(due);
                    self.event(Event::Tick);
                    continue;
                }
                // Somebody takes what there is, and waits for the next.
                let full = self.jobs.iter().find(|(id, _)| self.schedule.is_full(**id)).map(|(id, _)| *id);
                match full {
                    Some(job) => self.take(job, true),
                    None => return,
                }
                continue;
            };
            match worker.phase {
                _ if worker.killed => self.die(id, None, Some(-9), true),
                ModelPhase::Starting => {
                    self.workers.get_mut(&id).unwrap().phase = ModelPhase::Serving;
                    self.event(Event::Ready { worker: id });
                }
                ModelPhase::Serving if worker.inbox.is_empty() => self.thaw(id),
                ModelPhase::Serving => {
                    let count = worker.inbox.len() as u64;
                    self.workers.get_mut(&id).unwrap().started = worker.sent;
                    self.event(Event::Returned { worker: id, count, failed: 0 });
                    let batches = &mut self.workers.get_mut(&id).unwrap().batches;
                    while batches.front() == Some(&0) {
                        batches.pop_front();
                    }
                    self.event(Event::BatchDone { worker: id, busy: Duration::from_micros(50) });
                }
                ModelPhase::Retiring => self.die(id, None, Some(0), true),
            }
        }
        panic!("it goes on for ever: {:?}", self.schedule);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8000, failure_persistence: None, ..ProptestConfig::default() })]

    /// One outcome per task, nothing lost or doubled, no attempt charged to a bystander, no worker too many; the pool drains.
    #[test]
    fn whatever_happens_every_task_has_one_outcome(config in config(), ops in proptest::collection::vec(op(), 0..120)) {
        let mut model = Model::new(config);
        for op in &ops {
            model.apply(op);
        }
        if !model.finished {
            model.drain();
        }
    }
}

// Examples, to be read.

/// A pool whose actions are written down.
struct Pool {
    schedule: Schedule,
    now: Duration,
}

const ONE: Config = Config {
    processes: 1,
    max_tasks_per_child: None,
    retries: 0,
    delay: Duration::ZERO,
    backoff: Backoff::Fixed,
    poison_limit: 3,
    halt: None,
    results_max: 64 << 20,
    kill_after: None,
    grace: Duration::from_millis(250),
    start_time: Duration::from_secs(60),
    retire_time: Duration::from_secs(5),
    idle_time: None,
    eager: false,
};

impl Pool {
    fn new(config: Config) -> Pool {
        Pool { schedule: Schedule::new(config), now: Duration::ZERO }
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.schedule.on(self.now, event, &mut actions);
        actions
    }

    fn submit(&mut self, count: u64) -> Vec<Action> {
        self.on(Event::Submitted { job: 1, count, bytes: count })
    }

    /// The worker returns everything that it holds; the length of the batch that it gets then.
    fn batch_after(&mut self, busy: Duration) -> u64 {
        let count = self.schedule.unanswered(1);
        self.now += busy;
        let mut actions = self.on(returned(1, count));
        actions.extend(self.on(Event::BatchDone { worker: 1, busy }));
        actions
            .iter()
            .filter_map(|a| if let Action::Send { count, .. } = a { Some(*count) } else { None })
            .sum()
    }
}

fn gone(worker: WorkerId, started: u64) -> Event {
    Event::Gone { worker, started, retriable: true, exitcode: Some(-9), reason: "SIGKILL".to_owned() }
}

fn returned(worker: WorkerId, count: u64) -> Event {
    Event::Returned { worker, count, failed: 0 }
}

fn retry(task: u64, attempt: u32, millis: u64, verdict: Option<Verdict>) -> Action {
    Action::Retry { job: 1, task, attempt, delay: Duration::from_millis(millis), verdict }
}

fn give(first: u64, count: u64, attempt: u32, verdict: Verdict) -> Action {
    Action::Give { job: 1, first, count, attempt, verdict }
}

fn send(worker: WorkerId, first: u64, count: u64, attempt: u32) -> Action {
    Action::Send { worker, job: 1, first, count, attempt }
}

fn lost() -> Verdict {
    Verdict::Lost { exitcode: Some(-9), reason: "SIGKILL".to_owned() }
}

#[test]
fn workers_are_started_as_tasks_come() {
    let mut pool = Pool::new(Config { processes: 3, ..ONE });
    assert_eq!(pool.submit(2), [Action::Start { worker: 1 }, Action::Start { worker: 2 }]);
    assert_eq!(pool.submit(9), [Action::Start { worker: 3 }]);
    assert_eq!(pool.on(Event::Ready { worker: 2 }), [send(2, 0, 1, 1)]);
}

#[test]
fn batches_grow_with_fast_tasks_and_stay_single_with_slow_ones() {
    let mut pool = Pool::new(ONE);
    pool.submit(100_000);
    assert_eq!(pool.on(Event::Ready { worker: 1 }), [send(1, 0, 1, 1)]);
    let micros = Duration::from_micros;
    let lens: Vec<u64> = (0..6).map(|_| pool.batch_after(micros(1))).collect();
    assert!(lens.is_sorted() && lens[5] > 50, "{lens:?}");
    // Two batches are under way, each at most four times the one before.
    assert!(lens.windows(2).all(|pair| pair[1] <= pair[0] * 16), "{lens:?}");

    let mut pool = Pool::new(ONE);
    pool.submit(1000);
    pool.on(Event::Ready { worker: 1 });
    assert!((0..6).all(|_| pool.batch_after(Duration::from_millis(5)) == 1));
}

#[test]
fn f112_a_worker_that_says_it_took_no_time_gets_no_more_than_its_batches_have_taken() {
    // By itself it decides alone, within what was seen.
    for (took, most) in [(Duration::from_millis(5), 2), (Duration::from_secs(3600), 1)] {
        let mut pool = Pool::new(ONE);
        pool.submit(100_000);
        pool.on(Event::Ready { worker: 1 });
        for _ in 0..20 {
            pool.now += took;
            let held = pool.schedule.unanswered(1);
            assert!(held <= most, "{held} tasks for one that needs {took:?} for each batch");
            pool.on(returned(1, held));
            pool.on(Event::BatchDone { worker: 1, busy: Duration::ZERO });
        }
    }
    // One that answers at once has as many at a time as all others, and no more than that.
    let mut pool = Pool::new(Config { processes: 4, ..ONE });
    pool.submit(1_000_000);
    for worker in 1..=4 {
        pool.on(Event::Ready { worker });
    }
    let mut most = 0;
    for _ in 0..50 {
        for worker in 2..=4 {
            pool.now += Duration::from_micros(1);
            let held = pool.schedule.unanswered(1);
            most = most.max(held);
            pool.on(returned(1, held));
            pool.on(Event::BatchDone { worker: 1, busy: Duration::ZERO });
            let held = pool.schedule.unanswered(worker);
            pool.now += Duration::from_micros(10 * held);
            pool.on(returned(worker, held));
            while pool.schedule.is_through(worker) {
                pool.on(Event::BatchDone { worker, busy: Duration::from_micros(10 * held) });
            }
        }
    }
    // 400 microseconds' work of the others is 40 tasks, two batches of which may be under way.
    assert!(most <= 120, "{most} tasks at a time");
}

#[test]
fn f112_the_time_that_a_worker_says_its_batch_took_is_at_most_what_has_passed() {
    let mut pool = Pool::new(Config { processes: 2, ..ONE });
    pool.submit(100_000);
    pool.on(Event::Ready { worker: 1 });
    for _ in 0..10 {
        let held = pool.schedule.unanswered(1);
        pool.now += Duration::from_micros(held);
        pool.on(returned(1, held));
        while pool.schedule.is_through(1) {
            pool.on(Event::BatchDone { worker: 1, busy: Duration::MAX });
        }
    }
    assert!(pool.schedule.unanswered(1) > 100, "{}", pool.schedule.unanswered(1));
}

#[test]
fn f112_a_batch_ends_once_and_after_its_last_answer() {
    let mut pool = Pool::new(ONE);
    pool.submit(100);
    assert!(!pool.schedule.is_through(1), "there is no such worker");
    pool.on(Event::Ready { worker: 1 });
    assert!(!pool.schedule.is_through(1));
    pool.on(returned(1, 1));
    assert!(pool.schedule.is_through(1));
    pool.on(Event::BatchDone { worker: 1, busy: Duration::from_micros(1) });
    // It holds two batches by now.
    let held = pool.schedule.unanswered(1);
    assert!(held > 1 && !pool.schedule.is_through(1));
    let first = pool.schedule.workers[&1].batches[0].count;
    pool.on(returned(1, first - 1));
    assert!(!pool.schedule.is_through(1));
    pool.on(returned(1, 1));
    assert!(pool.schedule.is_through(1));
    pool.on(Event::BatchDone { worker: 1, busy: Duration::from_micros(1) });
    assert!(!pool.schedule.is_through(1));
}

#[test]
fn a_second_batch_waits_at_a_worker_only_if_the_first_is_short() {
    for (busy, held) in [(Duration::from_micros(100), 2), (Duration::from_millis(10), 1)] {
        let mut pool = Pool::new(ONE);
        pool.submit(1000);
        pool.on(Event::Ready { worker: 1 });
        pool.now += busy;
        pool.on(returned(1, 1));
        pool.on(Event::BatchDone { worker: 1, busy });
        assert_eq!(pool.schedule.workers[&1].held.len(), held, "{busy:?}");
    }
}

#[test]
fn what_waits_behind_a_slow_task_goes_to_a_worker_that_has_nothing_to_do() {
    let mut pool = Pool::new(Config { processes: 2, ..ONE });
    pool.on(Event::Submitted { job: 1, count: 1, bytes: 1 });
    pool.on(Event::Ready { worker: 1 });
    pool.on(returned(1, 1));
    pool.on(Event::BatchDone { worker: 1, busy: Duration::from_nanos(100) });
    // Many at once are taken for as quick as the first was.
    pool.on(Event::Submitted { job: 1, count: 31, bytes: 31 });
    let held = pool.schedule.unanswered(1);
    assert!(held > 2, "{held}");
    pool.on(Event::Ready { worker: 2 });
    let rest = pool.schedule.unanswered(2);
    pool.on(returned(2, rest));
    // The rest is handed out and done, and the first worker has told of nothing.
    while pool.schedule.unanswered(2) > 0 {
        let rest = pool.schedule.unanswered(2);
        pool.on(returned(2, rest));
    }
    let held = pool.schedule.unanswered(1);
    assert_eq!(pool.on(Event::Tick), []);
    let due = pool.schedule.next_tick().expect("an idle worker waits for it");
    assert_eq!(due, TAKE_BACK_TIME);
    pool.now = due;
    assert_eq!(pool.on(Event::Tick), [Action::TakeBack { worker: 1 }]);
    assert!(pool.schedule.is_frozen(1));
    // It is at its second task.
    let actions = pool.on(Event::TakenBack { worker: 1, started: 2 });
    let Action::Send { worker: 2, job: 1, first, attempt: 1, .. } = actions[0] else { panic!("{actions:?}") };
    assert_eq!((first, pool.schedule.unanswered(1)), (2, 1));
    let moved = pool.schedule.queued(1) + pool.schedule.unanswered(2);
    assert_eq!(moved, held - 1);
    // It gets nothing until it has heard of that, and has all it needs then.
    pool.on(returned(1, 1));
    assert_eq!(pool.schedule.unanswered(1), 0);
    assert!(pool.schedule.next_tick().is_some(), "it may not keep silent for ever");
    pool.on(Event::Thawed { worker: 1 });
    assert!(pool.schedule.unanswered(1) > 0 || pool.schedule.queued(1) == 0);
}

#[test]
fn a_quick_task_says_nothing_about_a_worker_that_has_been_at_its_own_for_long() {
    let mut pool = Pool::new(Config { processes: 2, ..ONE });
    pool.submit(9);
    pool.on(Event::Ready { worker: 1 });
    pool.now = Duration::from_millis(100);
    pool.on(Event::Ready { worker: 2 });
    pool.now += Duration::from_micros(50);
    pool.on(returned(2, 1));
    pool.on(Event::BatchDone { worker: 2, busy: Duration::from_micros(1) });
    assert_eq!(
        pool.schedule.workers[&1].held.len(),
        1,
        "what waits behind the slow one could be run elsewhere"
    );
    assert_eq!(pool.schedule.workers[&2].held.len(), 2);
}

#[test]
fn o44_a_death_is_charged_to_the_task_that_was_running_and_the_rest_goes_back() {
    let mut pool = Pool::new(ONE);
    pool.submit(100);
    pool.on(Event::Ready { worker: 1 });
    for _ in 0..3 {
        pool.batch_after(Duration::from_micros(1));
    }
    let (answered, held) = (pool.schedule.workers[&1].answered, pool.schedule.unanswered(1));
    assert!(held > 3);
    // Two more have been finished, but their results went down with the worker: they are run again. The third was running.
    let actions = pool.on(gone(1, answered + 3));
    let given = Action::Give { job: 1, first: answered + 2, count: 1, attempt: 1, verdict: lost() };
    assert_eq!(actions, [given, Action::Start { worker: 2 }]);
    assert_eq!(pool.on(Event::Ready { worker: 2 })[0], send(2, answered, 2, 1));
}

#[test]
fn a_charged_task_is_tried_again_as_often_as_was_asked_for() {
    let mut pool = Pool::new(Config { retries: 1, ..ONE });
    pool.submit(1);
    pool.on(Event::Ready { worker: 1 });
    assert_eq!(pool.on(gone(1, 1)), [retry(0, 1, 0, Some(lost())), Action::Start { worker: 2 }]);
    assert_eq!(pool.on(Event::Ready { worker: 2 }), [send(2, 0, 1, 2)]);
    let given = Action::Give { job: 1, first: 0, count: 1, attempt: 2, verdict: lost() };
    assert_eq!(pool.on(gone(2, 1)), [given]);
}

#[test]
fn f54_five_deaths_without_a_task_begun_break_the_pool() {
    let mut pool = Pool::new(ONE);
    pool.submit(3);
    for worker in 1..5 {
        assert_eq!(pool.on(gone(worker, 0)), [Action::Start { worker: worker + 1 }]);
    }
    let reason = "workers cannot run: SIGKILL (5 tries)".to_owned();
    let verdict = Verdict::Broken { reason };
    let given = Action::Give { job: 1, first: 0, count: 3, attempt: 1, verdict };
    assert_eq!(pool.on(gone(5, 0)), [given, Action::Finished]);
}

#[test]
fn p46_workers_that_were_lost_together_are_one_failed_try() {
    let mut pool = Pool::new(Config { processes: 8, ..ONE });
    pool.submit(8);
    let reason = "the zygote died".to_owned();
    let actions = pool.on(Event::NotStarted { workers: (1..9).collect(), reason });
    assert_eq!(actions.len(), 8);
    assert!(actions.iter().all(|a| matches!(a, Action::Start { worker: 9.. })));
}

#[test]
fn f86_what_the_system_refuses_is_asked_for_again_less_and_less_often() {
    let mut pool = Pool::new(Config { processes: 2, ..ONE });
    let refused =
        |worker| Event::NotStarted { workers: vec![worker], reason: "no more processes".to_owned() };
    pool.submit(9);
    pool.on(Event::Ready { worker: 1 });
    // At once, the first time.
    assert_eq!(pool.on(refused(2)), [Action::Start { worker: 3 }]);
    for (worker, pause) in (3..).zip([10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000]) {
        assert_eq!(pool.on(refused(worker)), []);
        let due = pool.schedule.next_tick().unwrap();
        assert_eq!(due - pool.now, Duration::from_millis(pause));
        pool.now = due;
        assert_eq!(pool.on(Event::Tick), [Action::Start { worker: worker + 1 }]);
    }
    // The one that there is does all the work, and the pool is not broken.
    assert!(pool.schedule.broken().is_none());
    pool.on(Event::Ready { worker: 13 });
    pool.on(gone(13, 1));
    assert_eq!(pool.on(refused(14)), [Action::Start { worker: 15 }]);
}

#[test]
fn f45_idle_workers_that_are_killed_do_not_break_the_pool() {
    let mut pool = Pool::new(Config { processes: 8, ..ONE });
    pool.submit(8);
    pool.on(Event::Ready { worker: 1 });
    for task in 0..8 {
        assert_eq!(pool.on(returned(1, 1))[0], Action::Deliver { job: 1, first: task, count: 1, attempt: 1 });
    }
    for worker in 2..9 {
        assert_eq!(pool.on(Event::Ready { worker }), []);
    }
    for worker in 2..9 {
        assert_eq!(pool.on(gone(worker, 0)), []);
    }
    assert_eq!(pool.submit(1), [send(1, 8, 1, 1)]);
}

#[test]
fn f45_workers_that_are_all_killed_at_once_do_not_break_the_pool() {
    let mut pool = Pool::new(Config { processes: 8, ..ONE });
    pool.submit(8);
    for worker in 1..9 {
        assert_eq!(pool.on(Event::Ready { worker }).len(), 1);
    }
    // They had been idle, and dead, when the tasks were sent to them.
    let starts: Vec<Action> = (1..9).flat_map(|worker| pool.on(gone(worker, 0))).collect();
    assert_eq!(starts, (9..17).map(|worker| Action::Start { worker }).collect::<Vec<_>>());
}

#[test]
fn f45_workers_of_an_earlier_round_do_not_count_as_a_second_one() {
    let mut pool = Pool::new(Config { processes: 8, ..ONE });
    pool.submit(100);
    // The first dies, and its replacement is of another round than the others. Then there is progress.
    assert_eq!(pool.on(gone(1, 0)), [Action::Start { worker: 9 }]);
    pool.on(Event::Ready { worker: 2 });
    pool.on(returned(2, 1));
    // All that are starting are killed: no replacement is among them.
    let starts: Vec<Action> =
        [9, 3, 4, 5, 6, 7, 8].into_iter().flat_map(|worker| pool.on(gone(worker, 0))).collect();
    assert_eq!(starts, (10..17).map(|worker| Action::Start { worker }).collect::<Vec<_>>());
}

#[test]
fn f12_a_worker_that_takes_too_long_is_killed_and_its_task_told_why() {
    let mut pool = Pool::new(Config { kill_after: Some(Duration::from_millis(500)), ..ONE });
    pool.submit(2);
    pool.on(Event::Ready { worker: 1 });
    // Looked at every 50 ms, and never twice at once.
    for millis in (50..500).step_by(50) {
        assert_eq!(pool.schedule.next_tick(), Some(Duration::from_millis(millis)));
        pool.now = Duration::from_millis(millis);
        assert_eq!(pool.on(Event::Tick), []);
    }
    pool.now = Duration::from_millis(500);
    assert_eq!(pool.on(Event::Tick), [Action::Kill { worker: 1 }, Action::Start { worker: 2 }]);
    let given = Action::Give { job: 1, first: 0, count: 1, attempt: 1, verdict: Verdict::TimedOut };
    assert_eq!(pool.on(gone(1, 1)), [given]);
}

#[test]
fn a_task_begun_while_its_worker_was_being_killed_for_another_is_not_charged() {
    let mut pool = Pool::new(Config { kill_after: Some(Duration::from_secs(1)), ..ONE });
    pool.submit(100);
    pool.on(Event::Ready { worker: 1 });
    for _ in 0..3 {
        pool.batch_after(Duration::from_micros(1));
    }
    let answered = pool.schedule.workers[&1].answered;
    pool.now += Duration::from_secs(1);
    assert_eq!(pool.on(Event::Tick)[0], Action::Kill { worker: 1 });
    // It came through at the last moment, and the next one began.
    pool.on(returned(1, 1));
    assert_eq!(pool.on(gone(1, answered + 2)), []);
}

#[test]
fn a_worker_gets_no_more_time_by_counting_on() {
    let mut pool = Pool::new(Config { kill_after: Some(Duration::from_millis(100)), ..ONE });
    pool.submit(1);
    pool.on(Event::Ready { worker: 1 });
    pool.on(Event::Progress { worker: 1, started: 1 });
    for started in 2..40 {
        pool.now = Duration::from_millis(started * 5);
        pool.on(Event::Progress { worker: 1, started });
    }
    assert_eq!(pool.on(Event::Tick)[0], Action::Kill { worker: 1 });
}

#[test]
fn o40_a_worker_is_retired_after_its_share() {
    let mut pool = Pool::new(Config { max_tasks_per_child: Some(2), ..ONE });
    pool.submit(3);
    assert_eq!(pool.on(Event::Ready { worker: 1 }), [send(1, 0, 1, 1)]);
    assert_eq!(pool.on(returned(1, 1))[1..], [send(1, 1, 1, 1)]);
    let actions = pool.on(returned(1, 1));
    assert_eq!(actions[1..], [Action::Retire { worker: 1, why: Some(Recycle::Quota) }]);
    assert_eq!(pool.on(Event::Tick), [Action::Start { worker: 2 }]);
    assert_eq!(pool.on(Event::Ready { worker: 2 }), [send(2, 2, 1, 1)]);
}

#[test]
fn workers_that_will_not_end_do_not_gather() {
    let mut pool = Pool::new(Config { processes: 2, max_tasks_per_child: Some(1), ..ONE });
    pool.submit(100);
    let mut started = 2;
    for worker in 1..20 {
        let mut actions = pool.on(Event::Ready { worker });
        actions.extend(pool.on(returned(worker, 1)));
        actions.extend(pool.on(Event::Tick));
        started += actions.iter().filter(|a| matches!(a, Action::Start { .. })).count();
    }
    assert_eq!(started, 4);
    pool.now = ONE.retire_time;
    assert_eq!(pool.on(Event::Tick).len(), 4);
}

#[test]
fn o30_a_closed_pool_finishes_what_was_opened_before() {
    let mut pool = Pool::new(ONE);
    assert_eq!(pool.on(Event::Opened { job: 1 }), []);
    assert_eq!(pool.on(Event::Close), []);
    assert_eq!(pool.submit(1), [Action::Start { worker: 1 }]);
    assert_eq!(pool.on(Event::InputEnded { job: 1 }), []);
    pool.on(Event::Ready { worker: 1 });
    let delivered = Action::Deliver { job: 1, first: 0, count: 1, attempt: 1 };
    let rest = [delivered, Action::JobDone { job: 1 }, Action::Retire { worker: 1, why: None }];
    assert_eq!(pool.on(returned(1, 1)), rest);
    assert_eq!(pool.on(gone(1, 1)), [Action::Finished]);
}

#[test]
fn o52_a_cancelled_task_is_not_tried_again() {
    let mut pool = Pool::new(Config { retries: 5, ..ONE });
    pool.submit(2);
    pool.on(Event::Ready { worker: 1 });
    let cancelled = give(1, 1, 1, Verdict::Cancelled);
    assert_eq!(pool.on(Event::Cancelled { job: 1 }), [cancelled, Action::Drop { worker: 1, until: 1 }]);
    let delivered = Action::Deliver { job: 1, first: 0, count: 1, attempt: 1 };
    assert_eq!(pool.on(Event::Failed { worker: 1, retriable: true }), [delivered]);
    let late = Action::Give { job: 1, first: 2, count: 1, attempt: 1, verdict: Verdict::Cancelled };
    assert_eq!(pool.submit(1), [late]);
}

#[test]
fn o33_terminate_gives_every_task_its_outcome_at_once() {
    let mut pool = Pool::new(ONE);
    pool.submit(10_000);
    pool.on(Event::Ready { worker: 1 });
    let actions = pool.on(Event::Terminate);
    let given: u64 = actions
        .iter()
        .filter_map(|a| if let Action::Give { count, .. } = a { Some(*count) } else { None })
        .sum();
    assert_eq!((given, actions.contains(&Action::Kill { worker: 1 })), (10_000, true));
    assert_eq!(pool.on(gone(1, 1)), [Action::Finished]);
}

#[test]
fn jobs_take_turns() {
    let mut pool = Pool::new(ONE);
    pool.submit(10);
    pool.on(Event::Submitted { job: 2, count: 10, bytes: 10 });
    let mut jobs = Vec::new();
    let mut actions = pool.on(Event::Ready { worker: 1 });
    for _ in 0..4 {
        jobs.extend(
            actions.iter().filter_map(|a| if let Action::Send { job, .. } = a { Some(*job) } else { None }),
        );
        actions = pool.on(returned(1, 1));
    }
    assert_eq!(jobs, [1, 2, 1, 2]);
}

#[test]
fn a_worker_that_does_not_drop_what_nobody_wants_is_killed_and_nobody_is_charged() {
    let mut pool = Pool::new(Config { retries: 1, ..ONE });
    pool.submit(1);
    pool.on(Event::Submitted { job: 2, count: 1, bytes: 1 });
    pool.on(Event::Ready { worker: 1 });
    let told = [Action::Drop { worker: 1, until: 1 }];
    assert_eq!(pool.on(Event::Cancelled { job: 1 }), told);
    assert_eq!(pool.schedule.next_tick(), Some(ONE.grace));
    pool.now = ONE.grace;
    assert_eq!(pool.on(Event::Tick)[0], Action::Kill { worker: 1 });
    assert_eq!(pool.on(gone(1, 1)), [give(0, 1, 1, Verdict::Cancelled)]);
    assert_eq!(
        pool.on(Event::Ready { worker: 2 }),
        [Action::Send { worker: 2, job: 2, first: 0, count: 1, attempt: 1 }]
    );
}

#[test]
fn a_failed_task_waits_for_the_end_of_its_pause_while_others_go_on() {
    let millis = Duration::from_millis;
    let backoff = Backoff::Exponential { max: millis(500) };
    let mut pool = Pool::new(Config { retries: 2, delay: millis(100), backoff, ..ONE });
    pool.submit(2);
    pool.on(Event::Ready { worker: 1 });
    let failed = Event::Failed { worker: 1, retriable: true };
    assert_eq!(pool.on(failed.clone()), [retry(0, 1, 100, None), send(1, 1, 1, 1)]);
    assert_eq!(pool.on(returned(1, 1)).len(), 1);
    assert_eq!(pool.schedule.next_tick(), Some(millis(100)));
    pool.now = millis(100);
    assert_eq!(pool.on(Event::Tick), [send(1, 0, 1, 2)]);
    assert_eq!(pool.on(failed), [retry(0, 2, 200, None)]);
    assert_eq!(pool.on(Event::Cancelled { job: 1 }), [give(0, 1, 3, Verdict::Cancelled)]);
    assert_eq!(pool.schedule.next_tick(), None);
}

#[test]
fn a_task_that_has_taken_down_three_workers_is_not_tried_a_fourth_time() {
    let mut pool = Pool::new(Config { retries: 99, ..ONE });
    pool.submit(1);
    for worker in 1..3 {
        pool.on(Event::Ready { worker });
        assert_eq!(pool.on(gone(worker, 1))[0], retry(0, worker, 0, Some(lost())));
    }
    pool.on(Event::Ready { worker: 3 });
    let actions = pool.on(gone(3, 1));
    let [Action::Give { verdict: Verdict::Lost { reason, .. }, attempt: 3, .. }] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(reason, "SIGKILL; not tried again, for it has taken down 3 workers");
}

#[test]
fn a_job_is_halted_when_enough_has_failed_and_what_is_running_ends() {
    for (policy, told) in
        [("soon,fail=2", vec![]), ("now,fail=2", vec![Action::Drop { worker: 2, until: 1 }])]
    {
        let mut pool = Pool::new(Config { processes: 2, halt: Some(policy.parse().unwrap()), ..ONE });
        pool.submit(10);
        pool.on(Event::Ready { worker: 1 });
        pool.on(Event::Ready { worker: 2 });
        pool.on(Event::Failed { worker: 1, retriable: false });
        let actions = pool.on(Event::Failed { worker: 1, retriable: false });
        let mut expected =
            vec![Action::Deliver { job: 1, first: 2, count: 1, attempt: 1 }, Action::Halted { job: 1 }];
        expected.push(give(3, 7, 1, Verdict::Cancelled));
        expected.extend(told);
        assert_eq!(actions, expected, "{policy}");
        // What comes too late has an outcome too.
        assert_eq!(pool.submit(1), [give(10, 1, 1, Verdict::Cancelled)]);
        pool.on(returned(2, 1));
        assert_eq!(pool.on(Event::InputEnded { job: 1 }), [Action::JobDone { job: 1 }]);
    }
}

#[test]
fn idle_workers_leave_after_a_while_and_come_back_when_needed() {
    let mut pool = Pool::new(Config { idle_time: Some(Duration::from_secs(5)), ..ONE });
    pool.submit(1);
    pool.on(Event::Ready { worker: 1 });
    pool.now = Duration::from_secs(1);
    pool.on(returned(1, 1));
    assert_eq!(pool.schedule.next_tick(), Some(Duration::from_secs(6)));
    pool.now = Duration::from_secs(6);
    assert_eq!(pool.on(Event::Tick), [Action::Retire { worker: 1, why: Some(Recycle::Idle) }]);
    assert_eq!(pool.on(gone(1, 1)), []);
    assert_eq!(pool.submit(1), [Action::Start { worker: 2 }]);
}

#[test]
fn a_pool_grows_and_shrinks_while_it_runs() {
    let mut pool = Pool::new(ONE);
    pool.submit(10);
    pool.on(Event::Ready { worker: 1 });
    let started = [2, 3].map(|worker| Action::Start { worker });
    assert_eq!(pool.on(Event::Resized { processes: 3 }), started);
    pool.on(Event::Ready { worker: 2 });
    // The one that has not begun leaves when it has come up; of the others one when it is through.
    assert_eq!(pool.on(Event::Resized { processes: 1 }), []);
    let through = pool.on(returned(1, 1));
    assert_eq!(through[1..], [Action::Retire { worker: 1, why: Some(Recycle::Resize) }]);
    assert_eq!(
        pool.on(Event::Ready { worker: 3 }),
        [Action::Retire { worker: 3, why: Some(Recycle::Resize) }]
    );
    assert_eq!(pool.on(gone(3, 0)), []);
    assert_eq!(pool.on(gone(1, 1)), []);
    assert_eq!(pool.on(returned(2, 1))[1..], [send(2, 2, 1, 1)]);
}

#[test]
fn a_worker_that_has_grown_too_large_is_replaced_once_it_is_through() {
    let mut pool = Pool::new(ONE);
    pool.submit(2);
    pool.on(Event::Ready { worker: 1 });
    assert_eq!(pool.on(Event::Oversized { worker: 1 }), []);
    assert_eq!(pool.on(returned(1, 1))[1..], [Action::Retire { worker: 1, why: Some(Recycle::Memory) }]);
    assert_eq!(pool.on(Event::Tick), [Action::Start { worker: 2 }]);
}

#[test]
fn o2_an_eager_pool_has_all_its_workers_at_once() {
    let mut pool =
        Pool::new(Config { processes: 3, eager: true, idle_time: Some(Duration::from_secs(1)), ..ONE });
    assert_eq!(pool.on(Event::Tick), [1, 2, 3].map(|worker| Action::Start { worker }));
    pool.on(Event::Ready { worker: 2 });
    assert_eq!(pool.on(gone(2, 0)), [Action::Start { worker: 4 }]);
    pool.now = Duration::from_secs(9);
    assert_eq!(pool.on(Event::Tick), []);
}

#[test]
fn f54_an_eager_pool_whose_workers_die_as_soon_as_they_are_ready_gives_up() {
    let mut pool = Pool::new(Config { eager: true, ..ONE });
    assert_eq!(pool.on(Event::Tick), [Action::Start { worker: 1 }]);
    for worker in 1..5 {
        pool.on(Event::Ready { worker });
        assert_eq!(pool.on(gone(worker, 0)), [Action::Start { worker: worker + 1 }]);
    }
    pool.on(Event::Ready { worker: 5 });
    assert_eq!(pool.on(gone(5, 0)), [Action::Finished]);
    assert_eq!(pool.schedule.broken(), Some("workers cannot run: SIGKILL (5 tries)"));
}
