//! The main thread's part: it takes outcomes from the pool, writes results, reports failures, and fills the
//! job log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::state::RunState;
use crate::cli::choices::Show;
use crate::cli::failures::{Bounds, Failures, printed};
use crate::cli::joblog::Writer;
use crate::cli::jsonl::trace;
use crate::cli::labels::BlockLabels;
use crate::cli::output::ResultPrinter;
use crate::cli::report::Report;
use crate::cli::settings::MapSettings;
use crate::error::{TaskError, TimedOut};
use crate::escape::{OneLine, lines};
use crate::pool::{Outcome, Outcomes, Pool};

/// How often progress is drawn while no outcomes come.
const PROGRESS_TIME: Duration = Duration::from_millis(200);

pub(super) struct Collector<'a> {
    pub(super) settings: &'a MapSettings,
    pub(super) report: Report,
    pub(super) results: ResultPrinter,
    pub(super) failures: Failures,
    pub(super) log: Option<Writer>,
    /// Why the pool could not go on, if an outcome said so.
    pub(super) broken: Option<String>,
    pub(super) started: Instant,
    state: Arc<RunState>,
    pool: Arc<Pool>,
    /// The outcomes since the last turn: the index of the first, and their number.
    taken: Option<(u64, u64)>,
    /// The labels of the block that the last record belonged to.
    labels: Option<BlockLabels>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(
        settings: &'a MapSettings,
        is_command: bool,
        report: Report,
        log: Option<Writer>,
        state: Arc<RunState>,
        pool: Arc<Pool>,
    ) -> Collector<'a> {
        Collector {
            settings,
            results: ResultPrinter::new(settings.output, is_command, &report),
            failures: Failures::new(Bounds::of(settings.failure_output, report.is_verbose())),
            report,
            log,
            broken: None,
            started: Instant::now(),
            state,
            pool,
            taken: None,
            labels: None,
        }
    }

    /// Takes outcomes until the pool has no more.
    pub(super) fn take_all(&mut self, mut outcomes: Outcomes) {
        while self.take_some(&mut outcomes) {
            self.turn();
        }
    }

    /// Takes the outcomes that are there, or waits for some. Returns whether more may come.
    fn take_some(&mut self, outcomes: &mut Outcomes) -> bool {
        match outcomes.take_until(Some(Instant::now()), &mut |outcome| self.on(&outcome)) {
            Ok(more) => more,
            Err(TimedOut) => {
                // Nothing is there: what was gathered goes out before the wait.
                self.flush();
                self.stop_if_unwritable();
                // With results in order, a slow task holds back all later outcomes. The wait has a limit so
                // that progress is drawn meanwhile.
                let limit = self.report.may_show_progress().then(|| Instant::now() + PROGRESS_TIME);
                outcomes.take_until(limit, &mut |outcome| self.on(&outcome)).unwrap_or(true)
            }
        }
    }

    #[inline]
    fn on(&mut self, outcome: &Outcome<'_>) {
        let taken = self.taken.get_or_insert((outcome.index(), 0));
        taken.1 += 1;
        let result = outcome.result();
        match &result {
            Ok(_) => self.show_printed(outcome),
            // The task did not run: there is neither a result nor a failure.
            Err(TaskError::Cancelled | TaskError::Closed) => return,
            // Every task has this outcome; the end of the run says it once.
            Err(TaskError::Broken { reason }) => {
                self.broken.get_or_insert_with(|| reason.clone());
            }
            Err(error) => self.say_failed(outcome, error),
        }
        self.write(outcome, &result);
    }

    /// Adds a result to the output, and its line to the job log. A large result is written at once.
    #[inline]
    fn write(&mut self, outcome: &Outcome<'_>, result: &Result<&[u8], TaskError>) {
        let labels = if self.settings.tag || self.log.is_some() { self.labels_of(outcome) } else { None };
        let label = labels.as_ref().and_then(|labels| labels.get(outcome.index()));
        let number = label.map_or(outcome.index(), |label| label.number);
        let tag = label.filter(|_| self.settings.tag).map(|label| label.text);
        // Asked before anything is added: a large result must not share its write with small ones, so that
        // its mark covers it alone.
        let is_large = self.results.is_large(outcome, result, tag);
        if is_large {
            self.flush();
            if let Some(log) = &mut self.log {
                // `add` writes a part of this result before the next flush, so its mark comes first.
                self.results.measure(outcome, number, result, tag);
                log.announce(&self.results.pending());
            }
        }
        self.results.add(outcome, number, result, tag, is_large);
        if let (Some(log), Some(label)) = (&mut self.log, label)
            && !matches!(result, Err(TaskError::Broken { .. }))
        {
            log.add(outcome, result, label, self.results.pending_len());
        }
        if is_large || self.results.is_full() || self.log.as_ref().is_some_and(Writer::is_full) {
            self.flush();
        }
        self.labels = labels;
    }

    /// The labels of the record's block. They are taken out, so that the caller may use `self` beside them,
    /// and puts them back.
    #[inline]
    fn labels_of(&mut self, outcome: &Outcome<'_>) -> Option<BlockLabels> {
        let task = outcome.index();
        let last = self.labels.take().filter(|labels| labels.get(task).is_some());
        last.or_else(|| self.state.labels.of(task))
    }

    /// Writes the results, then their lines in the job log. The log's mark of this write comes before both.
    pub(super) fn flush(&mut self) {
        if let Some(log) = &mut self.log {
            log.announce(&self.results.pending());
        }
        self.results.flush();
        if let Some(log) = &mut self.log {
            if self.results.has_failed() {
                // No line without its result: a resumed run would leave the task out, and its result would be
                // nowhere.
                log.forget();
            } else {
                log.flush();
            }
        }
    }

    /// Says why a task has failed and what it printed, within the bounds of `--failure-output`.
    fn say_failed(&mut self, outcome: &Outcome<'_>, error: &TaskError) {
        // Asked before the message is built: a million equal failures must cost little.
        if !self.failures.is_news(error) {
            return;
        }
        let labels = self.state.labels.of(outcome.index());
        let label = labels.as_ref().and_then(|labels| labels.get(outcome.index())).unwrap_or_default();
        let number = label.number + 1;
        let attempt = match outcome.attempt() {
            0 | 1 => String::new(),
            attempt => format!(", attempt {attempt}"),
        };
        let (first, further) = lines(&error.message());
        let what = format!("task {number}: {first} (input {}{attempt})", label.short().quoted());
        let frames = trace(error).iter().map(|frame| format!("    {}", OneLine(frame)));
        let mut further: Vec<String> = further.into_iter().chain(frames).collect();
        let show = self.settings.failure_output;
        if show != Show::Never {
            let text = printed(outcome, number, Bounds::of(show, self.report.is_verbose()));
            further.extend(text.lines().map(str::to_owned));
        }
        if self.failures.may_say(what.len() + further.iter().map(|line| line.len() + 1).sum::<usize>()) {
            self.report.failure(&what, &further);
        }
    }

    /// Shows what a successful task has printed, with `--success-output`.
    fn show_printed(&self, outcome: &Outcome<'_>) {
        let show = self.settings.success_output;
        if show != Show::Never && !(outcome.stdout().is_empty() && outcome.stderr().is_empty()) {
            let bounds = Bounds::of(show, self.report.is_verbose());
            let number = self.state.labels.number(outcome.index());
            self.report.lines(&printed(outcome, number + 1, bounds));
        }
    }

    /// The work after some outcomes.
    fn turn(&mut self) {
        if let Some((first, count)) = self.taken.take() {
            self.state.labels.release(first, count);
            // It may have been the last that was in use: records may be long.
            self.labels = None;
        }
        let tally = &self.state.tally;
        self.report.progress(self.settings.progress, tally.done(), &tally.remarks(), self.state.total());
        self.stop_if_unwritable();
    }

    /// Ends the pool if results or log lines cannot be written any more.
    fn stop_if_unwritable(&mut self) {
        if self.results.has_failed() || self.log.as_ref().is_some_and(Writer::has_failed) {
            // First, so that the workers that are killed now do not count as dead.
            self.state.tally.end();
            self.pool.terminate();
        }
    }
}
