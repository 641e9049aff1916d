//! The end of a run: what is said about it, and its exit.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::collect::Collector;
use super::state::{InputState, RunState};
use crate::cli::choices::{ExitRule, NoInput};
use crate::cli::exit::{CliError, WpoolExit};
use crate::cli::joblog::Writer;
use crate::cli::profile::Profiles;
use crate::cli::report::Report;
use crate::cli::settings::{HaltSettings, MapSettings};
use crate::cli::shares::RunningShares;
use crate::cli::signals::ReceivedSignal;
use crate::cli::tally::Tally;
use crate::cli::time;
use crate::pool::{Halt, HaltOn, Pool, Stats};

/// What runs beside the main thread.
pub(super) struct Threads {
    pub(super) pool: Arc<Pool>,
    pub(super) received: ReceivedSignal,
    pub(super) teller: JoinHandle<()>,
    pub(super) profiles: Profiles,
    pub(super) shares: RunningShares,
}

/// Writes what is left, ends the pool, reports, and returns the exit.
pub(super) fn end(
    mut collector: Collector<'_>,
    threads: Threads,
    state: &RunState,
) -> Result<WpoolExit, CliError> {
    // Before the pool ends: that can take as long as a guest's `shutdown`, and a reader of the output should
    // not wait for it.
    collector.flush();
    collector.failures.rest().iter().for_each(|line| collector.report.error(line));
    let Collector { settings, mut report, results, log, broken, started, .. } = collector;
    let (ambiguity, writing) = (results.ambiguity(), results.time());
    let log_path = log.as_ref().map(|log| log.path().to_owned());
    let written = results.finish();
    let logged = log.map_or(Ok(()), Writer::finish);
    let received = threads.received.clone();
    // A run whose output is lost has no use for an end in good order.
    let is_good = written.is_ok() && logged.is_ok() && received.get().is_none();
    let (stats, profiled, shared) = end_threads(threads, is_good, state, &mut report);

    let run = EndedRun { settings, report, state, log_path, started, stats, writing };
    if let Some(signal) = received.get() {
        return Ok(run.interrupted(signal, logged));
    }
    // Behind the end of all threads: an error must not leave workers behind.
    written?;
    logged?;
    shared?;
    profiled?;
    let input = state.input();
    if state.is_cut_off(&input) {
        return Ok(run.late(&input));
    }
    // The pool may have broken before any task could have that outcome.
    let broken = broken.or_else(|| state.tally.broken().cloned());
    run.finished(input, broken, ambiguity)
}

/// Ends the pool, the teller, the progress and the files of shared queues.
fn end_threads(
    threads: Threads,
    is_good: bool,
    state: &RunState,
    report: &mut Report,
) -> (Stats, Result<(), CliError>, Result<(), CliError>) {
    let Threads { pool, teller, profiles, shares, .. } = threads;
    // Workers that are still starting may be killed now: that is no death to count.
    state.tally.end();
    if is_good {
        // Workers end in good order: their guests' `shutdown` runs.
        pool.close();
    } else {
        pool.terminate();
    }
    let _closed_above = pool.join();
    // The pool has ended, so the teller's channel ends too.
    let _told_or_panicked = teller.join();
    report.end_progress();
    // Behind the end of the pool: a guest's `shutdown` may put items too.
    let shared = shares.finish(report);
    (pool.stats(), profiles.finish(report), shared)
}

/// A run whose threads have ended.
struct EndedRun<'a> {
    settings: &'a MapSettings,
    report: Report,
    state: &'a RunState,
    log_path: Option<PathBuf>,
    started: Instant,
    stats: Stats,
    /// The time that the writing of results took.
    writing: Duration,
}

impl EndedRun<'_> {
    /// A signal ended the run.
    fn interrupted(&self, signal: i32, logged: Result<(), CliError>) -> WpoolExit {
        let (done, not_done) = (self.state.tally.done(), self.state.not_done());
        let resume = how_to_resume(self.log_path.as_deref());
        self.report.error(&format!("interrupted: {done} done, {not_done} not{resume}"));
        if let Err(failure) = logged {
            self.report.error(&failure.to_string());
        }
        WpoolExit::Signal(signal)
    }

    /// `--global-timeout` ended the run.
    fn late(&self, input: &InputState) -> WpoolExit {
        self.say_epilogue();
        let limit = self.settings.global_timeout.unwrap_or_default();
        let (done, not_done) = (self.state.tally.done(), self.state.not_done());
        let is_reading = matches!(input, InputState::Reading);
        let rest = if is_reading { ", and the rest of the input not read" } else { "" };
        self.report.error(&format!(
            "the time of the whole run, {limit:?}, was over (--global-timeout): {done} done, {not_done} \
             not{rest}{}",
            how_to_resume(self.log_path.as_deref())
        ));
        WpoolExit::TimeLimit
    }

    /// The run came to its end, by itself or by `--halt`.
    fn finished(
        &self,
        input: InputState,
        broken: Option<String>,
        ambiguity: Option<String>,
    ) -> Result<WpoolExit, CliError> {
        let tally = &self.state.tally;
        match &input {
            InputState::Failed(why) => self.report.error(why),
            InputState::Refused(why) => return Err(CliError::usage(why)),
            // A run that was stopped has not looked at all of the input.
            InputState::Read { left } if *left > 0 && broken.is_none() && !tally.is_halted() => {
                let tasks = if *left == 1 { "1 task".to_owned() } else { format!("{left} tasks") };
                self.report.warn(&format!("the job log has {tasks} that the input has not"));
            }
            InputState::Read { .. } | InputState::Reading => {}
        }
        if let Some(reason) = &broken {
            self.report.error(&format!("the pool is broken: {reason}"));
        }
        if let Some(ambiguity) = ambiguity {
            self.report.warn(&ambiguity);
        }
        self.say_epilogue();
        let halted = self.settings.halt.as_ref().filter(|_| tally.is_halted());
        let by_failures = halted.is_some_and(|halt| self.say_halted(halt));
        Ok(match input {
            // A broken pool explains everything else, and the other codes would hide it.
            _ if broken.is_some() => WpoolExit::Broken,
            _ if by_failures => WpoolExit::Halted,
            InputState::Failed(_) => WpoolExit::Io,
            // The reader thread ended without setting the state: it has panicked.
            InputState::Reading if halted.is_none() => WpoolExit::Own,
            InputState::Reading | InputState::Read { .. } | InputState::Refused(_) => self.by_counts(),
        })
    }

    /// Says which flag stopped the run. Returns whether failures did.
    fn say_halted(&self, halted: &HaltSettings) -> bool {
        let HaltSettings { halt, flag } = halted;
        let why = format!("stopped by {flag}: {}", reached(*halt, &self.state.tally));
        let by_failures = matches!(halt.on, HaltOn::Failures(_) | HaltOn::FailureShare(_));
        if by_failures {
            self.report.error(&why);
        } else {
            self.report.note(&format!("wpool: {why}"));
        }
        by_failures
    }

    fn by_counts(&self) -> WpoolExit {
        let (records, no_input) = (self.state.records(), self.settings.no_input);
        if records == 0 && no_input == NoInput::Fail {
            self.report.error("the input has no records, which --no-input fail makes a failure");
        }
        of_counts(records, self.state.tally.failed(), self.settings.exit_rule, no_input)
    }

    /// The last lines: what was done; and where the time went, with `--stats` or if a flag can change it.
    fn say_epilogue(&self) {
        let tally = &self.state.tally;
        self.report.note(&summary(self.state, self.started.elapsed().as_secs_f64()));
        // A run that was cut short or halted has stopped tasks too.
        let was_stopped = self.state.is_late() || tally.is_halted();
        let had_trouble = was_stopped || tally.timeouts() > 0 || tally.died() > 0;
        let where_it_went = if self.settings.stats {
            Some(time::table(&self.stats, self.writing))
        } else {
            time::hint(&self.stats, had_trouble)
        };
        where_it_went.iter().flat_map(|text| text.lines()).for_each(|line| self.report.note(line));
    }
}

/// What to do about a run that was cut short, if it has a job log.
fn how_to_resume(log: Option<&Path>) -> String {
    log.map_or(String::new(), |path| format!("; add --resume to go on by {}", path.display()))
}

/// `13 tasks: 13 ok, 0 failed, 2 retried in 0.45 s (5 workers, 1 died)`.
fn summary(state: &RunState, secs: f64) -> String {
    let (tally, tasks) = (&state.tally, state.records());
    let (ok, failed, trouble, staff) = (tally.ok(), tally.failed(), tally.trouble(), tally.staff());
    let not_done = match state.not_done() {
        0 => String::new(),
        count => format!(", {count} not done"),
    };
    let skipped = match state.skipped() {
        (0, _) => String::new(),
        (skipped, 0) => format!(", {skipped} skipped"),
        (skipped, failed) => format!(", {skipped} skipped ({failed} had failed)"),
    };
    let s = if tasks == 1 { "" } else { "s" };
    format!("{tasks} task{s}: {ok} ok, {failed} failed{skipped}{not_done}{trouble} in {secs:.2} s ({staff})")
}

/// The count that has halted the run.
fn reached(halt: Halt, tally: &Tally) -> String {
    let tasks = |count: u64| if count == 1 { "1 task has".to_owned() } else { format!("{count} tasks have") };
    match halt.on {
        HaltOn::Failures(_) => format!("{} failed", tasks(tally.failed())),
        HaltOn::FailureShare(_) => format!("{} of {} tasks have failed", tally.failed(), tally.done()),
        HaltOn::Successes(_) => format!("{} succeeded", tasks(tally.ok())),
        HaltOn::Done(_) => format!("{} been done", tasks(tally.done())),
    }
}

/// The exit of a run that came to its end.
fn of_counts(tasks: u64, failed: u64, rule: ExitRule, no_input: NoInput) -> WpoolExit {
    match (failed, rule) {
        (0, _) if tasks == 0 && no_input == NoInput::Fail => WpoolExit::Usage,
        (0, _) => WpoolExit::Success,
        (_, ExitRule::Plain) => WpoolExit::TasksFailed,
        (failed, ExitRule::Count) => {
            WpoolExit::FailedCount(u8::try_from(failed).map_or(101, |failed| failed.min(101)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_follows_the_failures_and_the_rules() {
        use ExitRule::*;
        assert_eq!(of_counts(5, 0, Plain, NoInput::Fail).code(), 0);
        assert_eq!(of_counts(5, 2, Plain, NoInput::Ok).code(), 1);
        assert_eq!(of_counts(5, 2, Count, NoInput::Ok).code(), 2);
        assert_eq!(of_counts(5000, 100, Count, NoInput::Ok).code(), 100);
        assert_eq!(of_counts(5000, 5000, Count, NoInput::Ok).code(), 101);
        assert_eq!(
            (of_counts(0, 0, Plain, NoInput::Ok).code(), of_counts(0, 0, Plain, NoInput::Fail).code()),
            (0, 2)
        );
    }
}
