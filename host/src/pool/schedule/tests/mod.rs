//! The schedule's tests: a model that drives it through anything, and examples to be read.

mod batches;
mod deaths;
mod jobs;
mod model;
mod staff;

use std::ops::Range;

use super::*;
use crate::pool::policy::Backoff;

/// A schedule and its clock, driven by hand.
struct Pool {
    schedule: Schedule,
    now: Duration,
    /// Answers so far, and the tasks that they are for.
    settled: Vec<(u64, Option<Answered>)>,
}

const ONE: Config = Config {
    processes: 1,
    cpus: 64,
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
        Pool { schedule: Schedule::new(config), now: Duration::ZERO, settled: Vec::new() }
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.schedule.on(self.now, event, &mut actions);
        actions
    }

    /// The worker returns results of its next `count` tasks. Gives the actions that follow.
    fn answer(&mut self, worker: WorkerId, count: u64) -> Vec<Action> {
        self.returned(Returned { worker, count, failed: 0 })
    }

    /// The worker's next task fails in a way that is not worth another attempt.
    fn fail(&mut self, worker: WorkerId) -> Vec<Action> {
        self.returned(Returned { worker, count: 1, failed: 1 })
    }

    fn returned(&mut self, returned: Returned) -> Vec<Action> {
        let (mut steps, mut last) = (Vec::new(), Vec::new());
        self.schedule.on_returned(self.now, returned, &mut steps);
        self.schedule.follow_up(self.now, &mut last);
        let mut actions = Vec::new();
        for step in steps {
            match step {
                AnswerStep::Settle { count, tasks } => self.settled.push((count, tasks)),
                AnswerStep::Act(action) => actions.push(action),
            }
        }
        actions.extend(last);
        actions
    }

    /// The worker's next task fails in a way that may be worth another attempt.
    fn fail_retriably(&mut self, worker: WorkerId) -> (Option<Retry>, Vec<Action>) {
        let mut actions = Vec::new();
        let retry = self.schedule.on_failed(self.now, worker, &mut actions);
        self.schedule.follow_up(self.now, &mut actions);
        (retry, actions)
    }

    fn submit(&mut self, count: u64) -> Vec<Action> {
        self.on(Event::Submitted { job: 1, count, bytes: count })
    }

    /// The worker returns everything that it holds. Gives the length of the batch that it gets then.
    fn batch_after(&mut self, busy: Duration) -> u64 {
        let count = self.schedule.unanswered(1);
        self.now += busy;
        let mut actions = self.answer(1, count);
        actions.extend(self.on(Event::BatchDone { worker: 1, busy }));
        actions
            .iter()
            .filter_map(|a| if let Action::Send { tasks, .. } = a { Some(number(tasks)) } else { None })
            .sum()
    }
}

fn gone(worker: WorkerId, started: u64) -> Event {
    Event::Gone { worker, started, retriable: true, exitcode: Some(-9), reason: "SIGKILL".to_owned() }
}

fn progress(worker: WorkerId, started: u64) -> Event {
    Event::Progress { started: vec![(worker, started)] }
}

fn settled(first: u64) -> (u64, Option<Answered>) {
    (1, Some(Answered { job: 1, first, attempt: 1 }))
}

fn retry(task: u64, attempt: u32, millis: u64) -> Retry {
    Retry { job: 1, task, attempt, delay: Duration::from_millis(millis) }
}

fn give(first: u64, count: u64, attempt: u32, verdict: NoResult) -> Action {
    Action::Give { job: 1, first, count, attempt, verdict }
}

fn send(worker: WorkerId, first: u64, count: u64, attempt: u32) -> Action {
    Action::Send { worker, job: 1, tasks: std::iter::once(first..first + count).collect(), attempt }
}

fn number(tasks: &[Range<u64>]) -> u64 {
    tasks.iter().map(|span| span.end - span.start).sum()
}

fn lost() -> NoResult {
    NoResult::Lost { exitcode: Some(-9), reason: "SIGKILL".to_owned() }
}
