//! What the pool's users learn of it: events, the list of workers, figures.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::TaskError;
use crate::pool::events::{PoolEvent, Sink};
use crate::pool::job::{By, ResultChunk};
use crate::pool::schedule::{JobId, Retry, WorkerId};
use crate::pool::stats::Ledger;
use crate::pool::worker::{Directory, WorkerState};
use crate::spec::Limit;

pub(super) struct Reports {
    sink: Sink,
    directory: Arc<Mutex<Directory>>,
    ledger: Arc<Mutex<Ledger>>,
    has_told_broken: bool,
    /// When the signs of life of the workers were last looked at.
    pub(super) heartbeats_checked: Duration,
}

impl Reports {
    pub(super) fn new(sink: Sink, directory: Arc<Mutex<Directory>>, ledger: Arc<Mutex<Ledger>>) -> Reports {
        Reports { sink, directory, ledger, has_told_broken: false, heartbeats_checked: Duration::ZERO }
    }

    /// Whether events have a receiver.
    pub(super) fn are_heard(&self) -> bool {
        self.sink.is_heard()
    }

    /// Tells an event, which is made only if it has a receiver.
    pub(super) fn tell(&self, event: impl FnOnce() -> PoolEvent) {
        if self.are_heard() {
            self.sink.tell(&event());
        }
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn directory(&self) -> MutexGuard<'_, Directory> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_state(&self, worker: WorkerId, state: WorkerState) {
        if let Some(info) = self.directory().get_mut(&worker) {
            info.state = state;
        }
    }

    /// Tells once that the pool broke, if it did.
    pub(super) fn tell_broken(&mut self, reason: Option<&str>) {
        if let Some(reason) = reason
            && !self.has_told_broken
        {
            self.has_told_broken = true;
            self.tell(|| PoolEvent::Broken { reason: reason.to_owned() });
        }
    }

    /// Counts outcomes and tells of them. `failed`: the number of failures among them.
    pub(super) fn tell_finished(&self, job: JobId, chunk: &ResultChunk, failed: u64) {
        // Counted without a receiver too: the figures of a pool can be asked for at any time.
        self.ledger().add_tasks(chunk.count);
        if !self.are_heard() {
            return;
        }
        let By { worker, attempt, .. } = chunk.by;
        let (mut at, mut task) = (0, chunk.first);
        // Failures are rare. Without any, the outcomes are not read.
        while failed > 0
            && task < chunk.first + chunk.count
            && let Some(outcome) = chunk.outcome(at)
        {
            if let Err(error) = outcome.said.result() {
                self.tell_timed_out(job, task, attempt, &error);
                self.tell(|| PoolEvent::TaskFailed { job, task, attempt, error });
            }
            at += outcome.len;
            task += 1;
        }
        let tasks = chunk.first..chunk.first + chunk.count;
        self.tell(|| PoolEvent::TasksFinished { job, tasks, failed, attempt, worker });
    }

    pub(super) fn tell_retried(&self, retry: Retry, error: impl FnOnce() -> TaskError) {
        if !self.are_heard() {
            return;
        }
        let Retry { job, task, attempt, delay } = retry;
        let error = error();
        self.tell_timed_out(job, task, attempt, &error);
        self.tell(|| PoolEvent::TaskRetried { job, task, attempt, delay, error });
    }

    fn tell_timed_out(&self, job: JobId, task: u64, attempt: u32, error: &TaskError) {
        if let TaskError::Limit { limit: Limit::Time, .. } = error {
            self.tell(|| PoolEvent::TaskTimedOut { job, task, attempt });
        }
    }
}
