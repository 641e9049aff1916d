//! Counts a pool's events, and puts some of them into words.
//!
//! An event comes on the pool's own thread, before the outcome that it belongs to. So every result that is
//! written has been counted. That thread must not wait, so another thread writes the lines.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use super::report::Report;
use crate::error::TaskError;
use crate::pool::events::{PoolEvent, Recycle};

/// Lines that may wait for a slow terminal. More are dropped.
pub(super) const LINES_MAX: usize = 1024;

/// A line for stderr.
pub(super) struct Notice {
    pub(super) is_warning: bool,
    pub(super) line: String,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    ok: AtomicU64,
    failed: AtomicU64,
    retried: AtomicU64,
    timeouts: AtomicU64,
    /// Workers that have been given tasks.
    used: AtomicU64,
    died: AtomicU64,
    halted: AtomicBool,
    /// The pool is being ended: deaths of workers do not count any more.
    ending: AtomicBool,
    broken: OnceLock<String>,
    /// `--halt now`: a halt ends workers too, if they do not stop their tasks.
    halts_now: bool,
    /// The used workers whose processes live.
    workers: Mutex<BTreeSet<u32>>,
}

impl Tally {
    pub(super) fn new(halts_now: bool) -> Tally {
        Tally { halts_now, ..Tally::default() }
    }

    pub(super) fn ok(&self) -> u64 {
        self.ok.load(Ordering::Relaxed)
    }

    /// Tasks whose last attempt has failed. Tasks that were given up, because the pool ended or broke, do not
    /// count.
    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn done(&self) -> u64 {
        self.ok() + self.failed()
    }

    /// Whether `--halt` or `--max-fail` has stopped the run.
    pub(super) fn is_halted(&self) -> bool {
        self.halted.load(Ordering::Relaxed)
    }

    /// Records that workers end from now on because wpool ends them.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
    }

    /// Why the pool broke, also if no task has that outcome.
    pub(super) fn broken(&self) -> Option<&String> {
        self.broken.get()
    }

    /// `, 1 failed, 2 retried, 1 timeout`: what the progress shows beside the count.
    pub(super) fn remarks(&self) -> String {
        let failed = if self.failed() > 0 { format!(", {} failed", self.failed()) } else { String::new() };
        failed + &self.trouble()
    }

    /// `, 2 retried, 1 timeout`, each only if there is one.
    pub(super) fn trouble(&self) -> String {
        let (retried, timeouts) =
            (self.retried.load(Ordering::Relaxed), self.timeouts.load(Ordering::Relaxed));
        let s = if timeouts == 1 { "" } else { "s" };
        let retried = if retried > 0 { format!(", {retried} retried") } else { String::new() };
        let timeouts = if timeouts > 0 { format!(", {timeouts} timeout{s}") } else { String::new() };
        retried + &timeouts
    }

    /// `5 workers, 1 died`.
    pub(super) fn staff(&self) -> String {
        let (used, died) = (self.used.load(Ordering::Relaxed), self.died());
        let s = if used == 1 { "" } else { "s" };
        let died = if died > 0 { format!(", {died} died") } else { String::new() };
        format!("{used} worker{s}{died}")
    }

    pub(super) fn timeouts(&self) -> u64 {
        self.timeouts.load(Ordering::Relaxed)
    }

    pub(super) fn died(&self) -> u64 {
        self.died.load(Ordering::Relaxed)
    }

    /// Counts an event. Returns whether `--verbose` reports it.
    pub(super) fn count(&self, event: &PoolEvent) -> bool {
        match event {
            PoolEvent::TasksStarted { worker, .. } => self.use_worker(*worker),
            PoolEvent::TasksFinished { tasks, failed, .. } => {
                add(&self.ok, (tasks.end - tasks.start).saturating_sub(*failed));
            }
            PoolEvent::TaskFailed {
                error: TaskError::Cancelled | TaskError::Closed | TaskError::Broken { .. },
                ..
            } => {}
            PoolEvent::TaskFailed { .. } => add(&self.failed, 1),
            PoolEvent::TaskRetried { attempt, .. } => {
                // Tasks are counted, not attempts.
                add(&self.retried, u64::from(*attempt == 1));
                return true;
            }
            PoolEvent::TaskTimedOut { .. } => add(&self.timeouts, 1),
            PoolEvent::WorkerRecycled { .. } | PoolEvent::WorkerSilent { .. } => return true,
            PoolEvent::WorkerExited { worker, exitcode, .. } => return self.end_worker(*worker, *exitcode),
            PoolEvent::Halted { .. } => {
                self.halted.store(true, Ordering::Relaxed);
                if self.halts_now {
                    self.end();
                }
            }
            PoolEvent::Broken { reason } => {
                self.broken.get_or_init(|| reason.clone());
                self.end();
            }
            PoolEvent::WorkerStarted { .. }
            | PoolEvent::WorkerReady { .. }
            | PoolEvent::WorkerProfiled { .. } => {}
        }
        false
    }

    fn workers(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn use_worker(&self, worker: u32) {
        let is_new = self.workers().insert(worker);
        add(&self.used, u64::from(is_new));
    }

    /// Returns whether the worker has died by itself. A worker whose exit code is unknown does not count as
    /// dead.
    fn end_worker(&self, worker: u32, exitcode: Option<i32>) -> bool {
        self.workers().remove(&worker);
        // Ends with 0 are ends in good order: a worker retires or was told to go.
        let died = exitcode.is_some_and(|code| code != 0) && !self.ending.load(Ordering::SeqCst);
        add(&self.died, u64::from(died));
        died
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Starts the thread that writes the notices to stderr. It ends when the pool has dropped its listener.
pub(super) fn tell(notices: Receiver<Notice>, report: Report) -> std::io::Result<JoinHandle<()>> {
    let tell = move || {
        for Notice { is_warning, line } in notices {
            if is_warning {
                report.warn(&line);
            } else {
                report.detail(&line);
            }
        }
    };
    std::thread::Builder::new().name("wpool-teller".to_owned()).spawn(tell)
}

/// An event in words. `number` maps a task to the number of its record in the input, from 0 on.
pub(super) fn line(event: &PoolEvent, number: impl Fn(u64) -> u64) -> String {
    match event {
        PoolEvent::TaskRetried { task, attempt, delay, error, .. } => {
            let when = if delay.is_zero() { String::new() } else { format!(" in {delay:?}") };
            format!("task {}: attempt {attempt} failed and is repeated{when}: {error}", number(*task) + 1)
        }
        PoolEvent::WorkerRecycled { worker, why } => format!("worker {worker} is ended: {}", reason(*why)),
        PoolEvent::WorkerExited { worker, pid, reason, .. } => {
            format!("worker {worker} (process {pid}) died: {reason}")
        }
        PoolEvent::WorkerSilent { worker, pid, time } => format!(
            "worker {worker} (process {pid}) has shown no sign of life for {} s: is it stopped?",
            time.as_secs()
        ),
        other => format!("{other:?}"),
    }
}

fn reason(why: Recycle) -> &'static str {
    match why {
        Recycle::Quota => "it has run its share of tasks",
        Recycle::Memory => "it uses too much memory",
        Recycle::Idle => "it had nothing to do",
        Recycle::Resize => "the pool has become smaller",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn finished(tasks: std::ops::Range<u64>, failed: u64) -> PoolEvent {
        PoolEvent::TasksFinished { job: 1, tasks, failed, attempt: 1, worker: 1 }
    }

    fn failed(error: TaskError) -> PoolEvent {
        PoolEvent::TaskFailed { job: 1, task: 0, attempt: 1, error }
    }

    fn retried(attempt: u32) -> PoolEvent {
        let error = TaskError::Exited { code: 1 };
        PoolEvent::TaskRetried { job: 1, task: 0, attempt, delay: Duration::from_millis(250), error }
    }

    fn started(worker: u32) -> PoolEvent {
        PoolEvent::TasksStarted { job: 1, tasks: 0..1, attempt: 1, worker }
    }

    fn exited(worker: u32, exitcode: Option<i32>) -> PoolEvent {
        PoolEvent::WorkerExited { worker, pid: 4711, exitcode, reason: "SIGKILL".to_owned() }
    }

    #[test]
    fn tasks_that_were_given_up_are_neither_ok_nor_failed() {
        let tally = Tally::new(false);
        for event in [
            failed(TaskError::Exited { code: 1 }),
            finished(0..5, 1),
            failed(TaskError::Cancelled),
            failed(TaskError::Broken { reason: String::new() }),
            finished(5..7, 2),
        ] {
            assert!(!tally.count(&event));
        }
        assert_eq!((tally.ok(), tally.failed(), tally.done()), (4, 1, 5));
    }

    #[test]
    fn a_task_counts_as_retried_once_for_any_number_of_retries() {
        let tally = Tally::new(false);
        assert_eq!((tally.trouble(), tally.staff()), (String::new(), "0 workers".to_owned()));
        for event in [retried(1), retried(2), retried(1)] {
            assert!(tally.count(&event));
        }
        assert_eq!(tally.trouble(), ", 2 retried");
        tally.count(&PoolEvent::TaskTimedOut { job: 1, task: 0, attempt: 1 });
        assert_eq!(tally.trouble(), ", 2 retried, 1 timeout");
        let said = "task 1: attempt 1 failed and is repeated in 250ms: exit: guest called exit(1), \
                    which from a component is any code but 0";
        assert_eq!(line(&retried(1), |task| task), said);
        assert!(line(&retried(1), |task| task + 6).starts_with("task 7: "));
    }

    #[test]
    fn only_workers_that_end_by_themselves_have_died() {
        let tally = Tally::new(false);
        for event in [started(1), started(1), started(2), started(3)] {
            tally.count(&event);
        }
        assert!(tally.count(&exited(1, Some(-9))));
        assert!(!tally.count(&exited(2, None)), "its exit code is unknown");
        assert!(!tally.count(&exited(3, Some(0))));
        assert!(tally.count(&exited(4, Some(1))), "a worker without tasks");
        assert_eq!(tally.staff(), "3 workers, 2 died");
        tally.end();
        assert!(!tally.count(&exited(5, Some(-9))));
        assert_eq!(tally.staff(), "3 workers, 2 died");
    }

    #[test]
    fn a_policy_that_stops_running_tasks_may_end_their_workers() {
        for halts_now in [true, false] {
            let tally = Tally::new(halts_now);
            tally.count(&PoolEvent::Halted { job: 1 });
            assert!(tally.is_halted());
            assert_eq!(tally.count(&exited(1, Some(-9))), !halts_now);
        }
    }
}
