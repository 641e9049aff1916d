//! Asking the schedule, and carrying out what it decides.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Dispatcher;
use super::link::Link;
use crate::error::TaskError;
use crate::pool::events::{PoolEvent, Recycle};
use crate::pool::job::{By, ResultChunk};
use crate::pool::schedule::{Action, AnswerStep, Answered, Event, NoResult, Returned, WorkerId};
use crate::pool::worker::WorkerState;
use crate::protocol::message::{Failure, ToWorker};
use crate::spec::Limit;

impl Dispatcher {
    /// Tells the schedule of an event, and carries out what it decides. While actions are carried out, the
    /// event waits: these actions were decided without it.
    pub(super) fn on(&mut self, event: Event) {
        // A queue, not recursion: the schedule must see the events in the order in which things happened.
        self.turn.events.push_back(event);
        if self.turn.is_acting {
            return;
        }
        self.catch_up();
    }

    /// Takes the events that have come while actions were carried out.
    fn catch_up(&mut self) {
        while let Some(event) = self.turn.events.pop_front() {
            let mut actions = std::mem::take(&mut self.turn.actions);
            self.schedule.on(self.now(), event, &mut actions);
            self.turn.owes_follow_up = false;
            self.carry_out(actions);
        }
    }

    /// Carries out what the schedule has decided. Events that this causes wait for [`Dispatcher::catch_up`].
    fn carry_out(&mut self, mut actions: Vec<Action>) {
        self.reports.tell_broken(self.schedule.broken());
        self.turn.is_acting = true;
        for action in actions.drain(..) {
            self.act(action);
        }
        self.turn.is_acting = false;
        self.turn.actions = actions;
    }

    /// Asks the schedule about a worker's answers. `deliver` gets the tasks that it assigns to the next
    /// answers, and their number; `None`: these answers do not count. [`Dispatcher::follow_up`] comes after
    /// the last of the answers that were read at once.
    pub(super) fn on_answer(
        &mut self,
        returned: Returned,
        mut deliver: impl FnMut(&mut Self, u64, Option<Answered>),
    ) {
        let mut steps = std::mem::take(&mut self.turn.steps);
        self.schedule.on_returned(self.now(), returned, &mut steps);
        self.turn.owes_follow_up = true;
        self.reports.tell_broken(self.schedule.broken());
        self.turn.is_acting = true;
        for step in steps.drain(..) {
            match step {
                AnswerStep::Settle { count, tasks } => deliver(self, count, tasks),
                AnswerStep::Act(action) => self.act(action),
            }
        }
        self.turn.is_acting = false;
        self.turn.steps = steps;
        self.catch_up();
    }

    /// Carries out what follows from the answers of a worker: it gets more tasks, or is let go.
    pub(super) fn follow_up(&mut self) {
        if !std::mem::take(&mut self.turn.owes_follow_up) {
            return;
        }
        let mut actions = std::mem::take(&mut self.turn.actions);
        self.schedule.follow_up(self.now(), &mut actions);
        self.carry_out(actions);
        self.catch_up();
    }

    /// Whether the failed task that the worker answers next is tried again. If so, that was the answer to it.
    pub(super) fn try_again(&mut self, worker: WorkerId, failure: &Failure) -> bool {
        let mut actions = std::mem::take(&mut self.turn.actions);
        let retry = self.schedule.on_failed(self.now(), worker, &mut actions);
        self.turn.owes_follow_up |= retry.is_some();
        if let Some(retry) = retry {
            self.reports.tell_retried(retry, || TaskError::from(failure.clone()));
        }
        self.carry_out(actions);
        self.catch_up();
        retry.is_some()
    }

    /// Tells the schedule the time, and before that how far the workers have come whose counts matter.
    pub(super) fn tick(&mut self) {
        let count = |worker| self.links.get(&worker).map(|link| (worker, link.page.started()));
        let started: Vec<(WorkerId, u64)> = self.schedule.watched_workers().filter_map(count).collect();
        if !started.is_empty() {
            self.on(Event::Progress { started });
        }
        self.on(Event::Tick);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Start { worker } if self.turn.drive.is_on => self.turn.drive.starts.push(worker),
            Action::Start { worker } => self.start(worker),
            Action::Send { worker, job, tasks, attempt } => {
                self.send(worker, job, tasks, attempt);
                self.jobs.queue_shrunk(job);
            }
            Action::Retry { retry, failure } => self.reports.tell_retried(retry, || self.verdict(failure)),
            Action::Give { job, first, count, attempt, verdict } => {
                let (error, by) = (self.verdict(verdict), By { attempt, ..By::default() });
                self.deliver(job, ResultChunk::verdict(first, count, error, by), count);
                self.jobs.queue_shrunk(job);
            }
            Action::Halted { job } => {
                self.reports.tell(|| PoolEvent::Halted { job });
                if let Some(open) = self.jobs.get(&job) {
                    open.job.halt();
                }
            }
            Action::JobDone { job } => {
                // The drop finishes it.
                self.jobs.remove(job);
            }
            Action::Drop { worker, until } => {
                if let Some(link) = self.links.get_mut(&worker) {
                    // On the page, not by a message: the worker sees it between two records, and its guest at
                    // the next tick.
                    link.cancel_until(until);
                }
            }
            Action::TakeBack { worker } => {
                let Some(started) = self.links.get_mut(&worker).map(Link::freeze) else { return };
                // Sent before anything else that the worker may begin.
                self.say(worker, &ToWorker::Thaw);
                self.on(Event::TakenBack { worker, started });
            }
            Action::Retire { worker, why } => self.retire(worker, why),
            Action::Kill { worker } => {
                if !self.schedule.is_terminated() {
                    self.explain_kill(worker);
                }
                self.kill(worker);
            }
            Action::Finished => self.turn.is_finished = true,
        }
    }

    /// Tells a worker to end.
    fn retire(&mut self, worker: WorkerId, why: Option<Recycle>) {
        match (why, &self.zygote) {
            (Some(why), _) => self.reports.tell(|| PoolEvent::WorkerRecycled { worker, why }),
            // At the end of the pool, the zygote and the workers end at the same time.
            (None, Some(zygote)) => zygote.end_if_idle(),
            (None, None) => {}
        }
        self.reports.set_state(worker, WorkerState::Retiring);
        if let Some(link) = self.links.get_mut(&worker) {
            // Before the message: from then on the worker may send its profile.
            link.shut_down();
        }
        self.say(worker, &ToWorker::Shutdown);
    }

    /// The error that a task without a result gets.
    pub(super) fn verdict(&self, verdict: NoResult) -> TaskError {
        match verdict {
            NoResult::Lost { exitcode, reason } => TaskError::WorkerLost { exitcode, reason },
            NoResult::TimedOut => {
                let (reached, ended) =
                    (self.spec.limits.reached(Limit::Time), self.spec.start_method.last_resort());
                let message = format!("{reached}; it did not stop by itself: its worker was {ended}");
                TaskError::Limit { limit: Limit::Time, message }
            }
            NoResult::Cancelled => TaskError::Cancelled,
            NoResult::Broken { reason } => TaskError::Broken { reason },
        }
    }

    /// Whether a failure of this kind is worth another attempt.
    pub(super) fn is_worth_retrying(&self, error: &TaskError) -> bool {
        let Some(retry_on) = &self.spec.retry_on else { return false };
        // A bug in the application's function must not end the pool.
        catch_unwind(AssertUnwindSafe(|| retry_on(error))).unwrap_or(false)
    }
}
