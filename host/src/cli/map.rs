//! `wpool map`.
//!
//! ```text
//!   reader thread: files ──Splitter──▶ Ledger, Labels, Inputs ══▶ pool ══▶ Outcomes ──▶ main thread: Output, failures, job log, Labels
//!   signals thread: first signal ──▶ Pool::terminate      ╚══▶ events ──▶ Tally ──▶ progress, status, summary
//!   clock thread: --global-timeout ──▶ Pool::terminate
//! ```
//!
//! The main thread is the only one that writes results; it writes them out whenever no more are there. It never waits for the reader:
//! that may hang in a read for ever.

use std::io::{self, IsTerminal};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::args::{ExitRule, MapArgs, NoInput, Show};
use super::exit::{Exit, Failure};
use super::failures::{Bounds, Failures, printed};
use super::input::{Sink, Source, Splitter, Stopped};
use super::joblog::{Chosen, Fact, JobLog, Ledger, Run, Writer};
use super::labels::{Label, Labels, SHORT};
use super::output::{Output, trace};
use super::profile::Profiles;
use super::report::{Report, quoted};
use super::settings;
use super::signals::{self, Ending, Received};
use super::stdio;
use super::tally::{self, LINES_MAX, Tally};
use super::time;
use crate::clock;
use crate::error::{Closed, TaskError};
use crate::escape::{OneLine, lines, shortened};
use crate::pool::events::PoolEvent;
use crate::pool::{Halt, HaltOn, HaltWhen, Inputs, Outcome, Outcomes, Pool, Stats};
use crate::target::resolve;

/// How old the progress that is shown may be while no outcomes come.
const PROGRESS_TIME: Duration = Duration::from_millis(200);

pub(super) fn run(args: &MapArgs, report: &Report) -> Result<Exit, Failure> {
    let begun = clock::now();
    let module =
        settings::load(&args.module.module, &args.module.load, &args.grants, report, settings::forks(args))?;
    if module.info().has_init() && !settings::says_state(args) {
        report.note("wpool: the module exports init: it is called in each task's own instance; --reuse or --init init keeps its state");
    }
    let target = settings::map_target(args, &module)?
        .timed(args.log.joblog.is_some() || matches!(args.format, super::args::OutputForm::Jsonl));
    let processes = settings::processes(args.jobs, report);
    let halt = settings::halt(&args.failures);
    let tally = Arc::new(Tally::new(halt.is_some_and(|halt| halt.when == HaltWhen::Now)));
    let (to_tell, lines) = std::sync::mpsc::sync_channel(LINES_MAX);
    let labels = Arc::new(Labels::new(if args.tag { usize::MAX } else { SHORT }));
    let (counted, verbose, named) = (tally.clone(), report.is_verbose(), labels.clone());
    let profiles = Profiles::open(args.profile.how.as_ref().filter(|_| !args.dry_run))?;
    let profiled = profiles.listener();
    let on_event = move |event: &PoolEvent| {
        profiled(event);
        let concerns_all = matches!(event, PoolEvent::WorkerSilent { .. });
        if counted.count(event) && (verbose || concerns_all) {
            // Nobody waits for a terminal that is slow.
            let line = shortened(&tally::line(event, |task| named.number(task)));
            let _told_or_too_many = to_tell.try_send((concerns_all, line));
        }
    };
    let pool = Arc::new(settings::pool(args, &module, processes, report)?.on_event(on_event).build()?);
    let (inputs, outcomes) = pool.stream(&target, !args.unordered)?;
    let export = module.info().target(args.target.func.as_deref()).map_err(crate::error::BuildError::from)?;
    // Only now that there is something to run: opening a file may wait, or have effects.
    let source = Source::open(args)?;
    let log = if args.dry_run { None } else { JobLog::open(&args.log, &source, report)? };
    let staff = format!("at most {processes} worker{}", if processes == 1 { "" } else { "s" });
    report.detail(&format!("calling {}, with {staff}", export.wit()));
    if args.dry_run {
        report.note(&format!("would call {} for each record, with {staff}", export.wit()));
        return Ok(Exit::Success);
    }

    let run = Run { module: module.digest(), export: &export.path, settings: settings::deciding(args) };
    let (log, ledger) = match log.map(|log| log.begin(run, report)).transpose()? {
        Some((writer, resumed)) => (Some(writer), Some(Ledger::new(resumed))),
        None => (None, None),
    };
    let mut report = report.clone();
    report.start_progress(args.progress);
    let shared = Arc::new(Shared {
        labels,
        pushed: AtomicU64::new(0),
        skipped: AtomicU64::new(0),
        skipped_failed: AtomicU64::new(0),
        tally,
        input: Mutex::new(Input::Reading),
        is_late: AtomicBool::new(false),
    });
    let teller = tally::tell(lines, report.clone()).map_err(no_thread)?;
    let drains = log.is_some() && !io::stdin().is_terminal();
    let received = watch(&pool, &shared, &report, drains)?;
    if let Some(end) = settings::global_timeout(args).and_then(|time| begun.checked_add(time)) {
        start_clock(end, &pool, &shared)?;
    }
    let output = Output::new(args, settings::is_command(args.target.func.as_deref(), &module), &report);
    let failures = Failures::new(Bounds::of(args.failure_output, report.is_verbose()));
    let mut map = Map {
        args,
        report,
        output,
        failures,
        log,
        shared: shared.clone(),
        pool,
        received,
        teller,
        halt,
        broken: None,
        run: None,
        started: Instant::now(),
        profiles: Some(profiles),
    };
    let has_values = resolve(&target, module.info()).is_ok_and(|resolved| resolved.takes_values());
    start_reader(args, has_values, source, inputs, ledger, shared)?;
    map.take(outcomes);
    map.end()
}

/// What the three threads share.
#[derive(Debug)]
struct Shared {
    labels: Arc<Labels>,
    /// Records that have been read, without those that are skipped.
    pushed: AtomicU64,
    /// Records that an earlier run has done.
    skipped: AtomicU64,
    /// Of these, those that have failed.
    skipped_failed: AtomicU64,
    tally: Arc<Tally>,
    input: Mutex<Input>,
    /// The time of the whole run was over before it came to its end.
    is_late: AtomicBool,
}

impl Shared {
    fn pushed(&self) -> u64 {
        self.pushed.load(Ordering::SeqCst)
    }

    /// Those that were skipped, too.
    fn records(&self) -> u64 {
        self.pushed() + self.skipped.load(Ordering::SeqCst)
    }

    fn not_done(&self) -> u64 {
        self.pushed().saturating_sub(self.tally.done())
    }

    /// Whether the clock has ended the run, and not only seen its end.
    fn is_cut_off(&self, input: &Input) -> bool {
        let is_whole = matches!(input, Input::Read { .. }) && self.not_done() == 0;
        self.is_late.load(Ordering::SeqCst) && !is_whole
    }
}

/// How far the input has been read. Set before the end of the input is announced to the pool.
#[derive(Debug)]
enum Input {
    Reading,
    /// To its end; the job log has so many tasks that were not in it.
    Read {
        left: u64,
    },
    /// Which one could not be read to its end, and why.
    Failed(String),
    /// Why nothing was run: the job log is of another input.
    Refused(String),
}

/// Signals end the pool, from another thread than the one that may be waiting for it.
/// One that hangs up lets running tasks come to their end if `drains`.
fn watch(pool: &Arc<Pool>, shared: &Arc<Shared>, report: &Report, drains: bool) -> Result<Received, Failure> {
    let weak: Weak<Pool> = Arc::downgrade(pool);
    let (to_end, to_look, shared, report) = (weak.clone(), weak, shared.clone(), report.clone());
    let progress = report.clone();
    let tally = shared.tally.clone();
    let end = move |signal| {
        let Some(pool) = to_end.upgrade() else { return Ending::Now };
        match signal == signal_hook::consts::SIGHUP && drains {
            true => {
                pool.shutdown(true);
                Ending::Drains
            }
            false => {
                tally.end();
                pool.terminate();
                Ending::Now
            }
        }
    };
    let status = move || {
        let Some(pool) = to_look.upgrade() else { return };
        let tally = &shared.tally;
        let (done, failed, under_way) = (tally.done(), tally.failed(), shared.not_done());
        let died = if tally.died() > 0 { format!("; {}", tally.staff()) } else { String::new() };
        let mut text =
            format!("wpool: {done} done, {failed} failed, {under_way} under way{}{died}", tally.trouble());
        for worker in pool.workers() {
            let state = format!("{:?}", worker.state).to_lowercase();
            text.push_str(&format!("\n  worker {} (process {}): {state}", worker.index, worker.pid));
        }
        report.line(&text);
    };
    signals::watch(end, status, move || progress.toggle_progress())
        .map_err(|e| Failure::new(Exit::Broken, format!("cannot watch for signals: {e}")))
}

/// Ends the pool at `end`, from a thread of its own: the main thread may be waiting for who reads the results.
fn start_clock(end: Instant, pool: &Arc<Pool>, shared: &Arc<Shared>) -> Result<(), Failure> {
    let (weak, shared) = (Arc::downgrade(pool), shared.clone());
    let wait = move || {
        // Again, if the run was stopped meanwhile.
        while let Some(left) = end.checked_duration_since(clock::now()).filter(|left| !left.is_zero()) {
            std::thread::sleep(left);
        }
        if let Some(pool) = weak.upgrade() {
            shared.is_late.store(true, Ordering::SeqCst);
            shared.tally.end();
            pool.terminate();
        }
    };
    // Detached: a run that ends before does not wait for it.
    let started = std::thread::Builder::new().name("wpool-clock".to_owned()).spawn(wait);
    started.map(|_detached| ()).map_err(no_thread)
}

/// Where the reader puts records.
struct Feed {
    inputs: Inputs,
    shared: Arc<Shared>,
    next: u64,
    /// With a job log.
    ledger: Option<Ledger>,
    /// Why nothing is read any more.
    refused: Option<String>,
}

impl Sink for Feed {
    fn records(&mut self, bytes: &[u8], bounds: &[Range<usize>]) -> Result<(), Closed> {
        let Some(mut ledger) = self.ledger.take() else { return self.push(bytes, bounds, Vec::new()) };
        let mut run = |bytes: &[u8], chosen: &Chosen| {
            let logged = chosen.numbers.iter().copied().zip(chosen.facts.iter().copied()).collect();
            self.push(bytes, &chosen.bounds, logged)
        };
        let taken = ledger.take(bytes, bounds, &mut run);
        self.shared.skipped.store(ledger.skipped, Ordering::SeqCst);
        self.shared.skipped_failed.store(ledger.skipped_failed, Ordering::SeqCst);
        self.ledger = Some(ledger);
        taken?.map_err(|other| {
            self.refused = Some(other.to_string());
            Closed
        })
    }
}

impl Feed {
    fn push(
        &mut self,
        bytes: &[u8],
        bounds: &[Range<usize>],
        logged: Vec<(u64, Fact)>,
    ) -> Result<(), Closed> {
        self.shared.labels.note(self.next, bytes, bounds, logged);
        self.next += bounds.len() as u64;
        // Before their outcomes can come, so that no count of what is under way is negative.
        self.shared.pushed.store(self.next, Ordering::SeqCst);
        self.inputs.push_all(bounds.iter().map(|bound| &bytes[bound.clone()]))
    }

    /// How the input has ended.
    fn end(&self, read: Result<(), String>) -> Input {
        let proven = self.ledger.as_ref().map_or(Ok(()), Ledger::proven);
        match (&self.refused, proven, read) {
            (Some(why), ..) => Input::Refused(why.clone()),
            (None, _, Err(why)) => Input::Failed(why),
            (None, Err(other), Ok(())) => Input::Refused(other.to_string()),
            (None, Ok(()), Ok(())) => Input::Read { left: self.ledger.as_ref().map_or(0, Ledger::left) },
        }
    }
}

/// Starts the one thread that reads. Detached: the end of the run does not wait for a read that hangs.
/// `has_values`: records are values, of which none is blank.
fn start_reader(
    args: &MapArgs,
    has_values: bool,
    source: Source,
    inputs: Inputs,
    ledger: Option<Ledger>,
    shared: Arc<Shared>,
) -> Result<(), Failure> {
    let delimiter = if args.null { 0 } else { args.delimiter.unwrap_or(b'\n') };
    let splitter = Splitter::new(delimiter, settings::limits(&args.limits).input);
    let splitter = if has_values { splitter.without_blank_end() } else { splitter };
    let read = move || {
        let mut feed = Feed { inputs, shared: shared.clone(), next: 0, ledger, refused: None };
        let read = read_all(source, splitter, &mut feed);
        let input = feed.end(read);
        *shared.input.lock().unwrap_or_else(PoisonError::into_inner) = input;
        // Announced only now, with `inputs` dropped.
        drop(feed);
    };
    let started = std::thread::Builder::new().name("wpool-reader".to_owned()).spawn(read);
    started.map(|_detached| ()).map_err(no_thread)
}

#[expect(clippy::needless_pass_by_value, reason = "map_err passes a value")]
fn no_thread(error: io::Error) -> Failure {
    Failure::new(Exit::Broken, format!("cannot start a thread: {}", stdio::words(&error)))
}

/// Reads everything, or as long as there is use for it.
fn read_all(source: Source, mut splitter: Splitter, feed: &mut Feed) -> Result<(), String> {
    match source {
        Source::Items(items) => {
            for item in items {
                if feed.records(&item, std::slice::from_ref(&(0..item.len()))).is_err() {
                    break;
                }
            }
        }
        Source::Streams(streams) => {
            for stream in streams {
                let name = stream.name();
                let cannot = |e: io::Error| format!("cannot read {name}: {}", stdio::words(&e));
                match splitter.split(stream.reader().map_err(&cannot)?, feed) {
                    Ok(()) => {}
                    Err(Stopped::Closed) => break,
                    Err(Stopped::Read(e)) => return Err(cannot(e)),
                }
            }
        }
    }
    Ok(())
}

/// The main thread's side.
struct Map<'a> {
    args: &'a MapArgs,
    report: Report,
    output: Output,
    failures: Failures,
    log: Option<Writer>,
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    received: Received,
    /// Says on stderr what is worth it.
    teller: JoinHandle<()>,
    halt: Option<Halt>,
    /// Why the pool could not go on.
    broken: Option<String>,
    /// The outcomes of the present turn: first and count.
    run: Option<(u64, u64)>,
    started: Instant,
    profiles: Option<Profiles>,
}

impl Map<'_> {
    /// Takes outcomes to the end.
    fn take(&mut self, mut outcomes: Outcomes) {
        loop {
            // Without waiting as long as there are any; before waiting, what we have goes out.
            let more = match outcomes.take_until(Some(Instant::now()), &mut |outcome| self.on(&outcome)) {
                Ok(more) => more,
                Err(crate::error::TimedOut) => {
                    self.flush();
                    self.check();
                    // In order, a slow task holds up the outcomes of all behind it; progress does not wait for it.
                    let look = self.report.may_show_progress().then(|| Instant::now() + PROGRESS_TIME);
                    outcomes.take_until(look, &mut |outcome| self.on(&outcome)).unwrap_or(true)
                }
            };
            if !more {
                break;
            }
            self.turn();
        }
    }

    fn on(&mut self, outcome: &Outcome<'_>) {
        let run = self.run.get_or_insert((outcome.index(), 0));
        run.1 += 1;
        let result = outcome.result();
        match &result {
            Ok(_) => {}
            // Not done: neither a result nor a failure.
            Err(TaskError::Cancelled | TaskError::Closed) => return,
            Err(TaskError::Broken { reason }) => {
                // One line for all of them, at the end.
                self.broken.get_or_insert_with(|| reason.clone());
            }
            Err(error) => self.say_failed(outcome, error),
        }
        if result.is_ok() {
            self.show_printed(outcome);
        }
        let label = (self.args.tag || self.log.is_some()).then(|| self.label(outcome));
        let number = label.as_ref().map_or(outcome.index(), |label| label.number);
        let tag = label.as_ref().filter(|_| self.args.tag).map(|label| &label.text[..]);
        let is_large = self.output.is_large(outcome, &result, tag);
        if is_large {
            self.flush();
            if let Some(log) = &mut self.log {
                // What is written before the next flush has its mark before.
                self.output.measure(outcome, number, &result, tag);
                log.announce(&self.output.pending());
            }
        }
        self.output.add(outcome, number, &result, tag, is_large);
        if let (Some(log), Some(label)) = (&mut self.log, &label)
            && !matches!(result, Err(TaskError::Broken { .. }))
        {
            log.add(outcome, &result, label, self.output.pending_len());
        }
        if is_large || self.output.is_full() || self.log.as_ref().is_some_and(Writer::is_full) {
            self.flush();
        }
    }

    fn label(&self, outcome: &Outcome<'_>) -> Label {
        self.shared.labels.get(outcome.index()).unwrap_or_default()
    }

    /// Results, then their lines in the job log, which knows where the results will be.
    fn flush(&mut self) {
        if let Some(log) = &mut self.log {
            log.announce(&self.output.pending());
        }
        self.output.flush();
        if let Some(log) = &mut self.log {
            match self.output.has_failed() {
                true => log.forget(),
                false => log.flush(),
            }
        }
    }

    /// Says why a task has failed and what it printed, as far as that is not more of the same.
    fn say_failed(&mut self, outcome: &Outcome<'_>, error: &TaskError) {
        if !self.failures.is_news(error) {
            return;
        }
        let mut label = self.label(outcome);
        let number = label.number + 1;
        label.is_cut |= label.text.len() > SHORT;
        label.text.truncate(SHORT);
        let attempt = match outcome.attempt() {
            0 | 1 => String::new(),
            attempt => format!(", attempt {attempt}"),
        };
        let (first, further) = lines(&error.message());
        let what = format!("task {number}: {first} (input {}{attempt})", quoted(&label));
        let frames = trace(error).iter().map(|frame| format!("    {}", OneLine(frame)));
        let mut further: Vec<String> = further.into_iter().chain(frames).collect();
        let show = self.args.failure_output;
        if show != Show::Never {
            let text = printed(outcome, number, Bounds::of(show, self.report.is_verbose()));
            further.extend(text.lines().map(str::to_owned));
        }
        if self.failures.may_say(what.len() + further.iter().map(|line| line.len() + 1).sum::<usize>()) {
            self.report.failure(&what, &further);
        }
    }

    /// Shows what a task has printed that succeeded, if that is wanted.
    fn show_printed(&self, outcome: &Outcome<'_>) {
        let show = self.args.success_output;
        if show != Show::Never && !(outcome.stdout().is_empty() && outcome.stderr().is_empty()) {
            let bounds = Bounds::of(show, self.report.is_verbose());
            self.report.lines(&printed(outcome, self.label(outcome).number + 1, bounds));
        }
    }

    /// After some outcomes.
    fn turn(&mut self) {
        if let Some((first, count)) = self.run.take() {
            self.shared.labels.release(first, count);
        }
        let total = match *self.shared.input.lock().unwrap_or_else(PoisonError::into_inner) {
            Input::Reading => None,
            Input::Read { .. } | Input::Failed(_) | Input::Refused(_) => Some(self.shared.pushed()),
        };
        self.report.progress(self.args.progress, &self.shared.tally, total);
        self.check();
    }

    /// Ends the pool if there is no use for more.
    fn check(&mut self) {
        if self.output.has_failed() || self.log.as_ref().is_some_and(Writer::has_failed) {
            self.shared.tally.end();
            self.pool.terminate();
        }
    }

    fn end(mut self) -> Result<Exit, Failure> {
        self.flush();
        let (ambiguity, writing) = (self.output.ambiguity(), self.output.time());
        self.failures.rest().iter().for_each(|line| self.report.error(line));
        let path = self.log.as_ref().map(|log| log.path().to_owned());
        let written = self.output.finish();
        let logged = self.log.take().map_or(Ok(()), Writer::finish);
        let tally = &self.shared.tally;
        // Workers that were not needed in the end may be killed while they start.
        tally.end();
        if written.is_ok() && logged.is_ok() && self.received.get().is_none() {
            // Workers end in good order: their guests' `shutdown` runs.
            self.pool.close();
        } else {
            self.pool.terminate();
        }
        let _closed_above = self.pool.join();
        // With the pool, the last line to tell is there.
        let _told_or_panicked = self.teller.join();
        self.report.end_progress();
        let profiled = self.profiles.take().map_or(Ok(()), |profiles| profiles.finish(&self.report));
        let told = epilogue(&self.shared, self.started, &self.pool.stats(), self.args.stats, writing);
        if let Some(signal) = self.received.get() {
            let resume = how_to_resume(path.as_deref());
            self.report.error(&format!(
                "interrupted: {} done, {} not{resume}",
                tally.done(),
                self.shared.not_done()
            ));
            if let Err(failure) = logged {
                self.report.error(&failure.message);
            }
            return Ok(Exit::Signal(signal));
        }
        written?;
        logged?;
        profiled?;
        let input = std::mem::replace(
            &mut *self.shared.input.lock().unwrap_or_else(PoisonError::into_inner),
            Input::Reading,
        );
        if self.shared.is_cut_off(&input) {
            let time = self.args.global_timeout.unwrap_or_default();
            told.iter().for_each(|line| self.report.note(line));
            self.report.error(&format!(
                "{}{}",
                lateness(&self.shared, time, &input),
                how_to_resume(path.as_deref())
            ));
            return Ok(Exit::TimeLimit);
        }
        match &input {
            Input::Failed(why) => self.report.error(why),
            Input::Refused(why) => return Err(Failure::usage(why)),
            // One that was stopped has not looked at all of the input.
            Input::Read { left } if *left > 0 && self.broken.is_none() && !tally.is_halted() => {
                let tasks = if *left == 1 { "1 task".to_owned() } else { format!("{left} tasks") };
                self.report.warn(&format!("the job log has {tasks} that the input has not"));
            }
            Input::Read { .. } | Input::Reading => {}
        }
        // It may have been before there was a task to tell of it.
        self.broken = self.broken.take().or_else(|| tally.broken().cloned());
        if let Some(reason) = &self.broken {
            self.report.error(&format!("the pool is broken: {reason}"));
        }
        if let Some(ambiguity) = ambiguity {
            self.report.warn(&ambiguity);
        }
        told.iter().for_each(|line| self.report.note(line));
        let halted = self.halt.filter(|_| tally.is_halted());
        let by_failures =
            halted.is_some_and(|halt| matches!(halt.on, HaltOn::Failures(_) | HaltOn::FailureShare(_)));
        if let Some(halt) = halted {
            let option =
                self.args.failures.max_fail.map_or(format!("--halt {halt}"), |n| format!("--max-fail {n}"));
            match format!("stopped by {option}: {}", reached(halt, tally)) {
                why if by_failures => self.report.error(&why),
                why => self.report.note(&format!("wpool: {why}")),
            }
        }
        let failures = &self.args.failures;
        Ok(match input {
            _ if self.broken.is_some() => Exit::Broken,
            _ if by_failures => Exit::Halted,
            Input::Failed(_) => Exit::Io,
            // The reader is gone without a word: it panicked.
            Input::Reading if halted.is_none() => Exit::Own,
            Input::Reading | Input::Read { .. } | Input::Refused(_) => {
                let records = self.shared.records();
                if records == 0 && self.args.no_input == NoInput::Fail {
                    self.report.error("the input has no records, which --no-input fail makes a failure");
                }
                of_counts(records, tally.failed(), failures.exit_code, self.args.no_input)
            }
        })
    }
}

/// What to do about a run that was cut short, if it has a job log.
fn how_to_resume(log: Option<&Path>) -> String {
    log.map_or(String::new(), |path| format!("; add --resume to go on by {}", path.display()))
}

/// That the time of the whole run was over.
fn lateness(shared: &Shared, time: Duration, input: &Input) -> String {
    let (done, not_done) = (shared.tally.done(), shared.not_done());
    let rest = if matches!(input, Input::Reading) { ", and the rest of the input not read" } else { "" };
    format!(
        "the time of the whole run, {time:?}, was over (--global-timeout): {done} done, {not_done} not{rest}"
    )
}

/// The last lines: what has been done, and where the time went, if that is asked or can be changed.
fn epilogue(shared: &Shared, started: Instant, stats: &Stats, asked: bool, writing: Duration) -> Vec<String> {
    let trouble = shared.tally.timeouts() > 0 || shared.tally.died() > 0;
    let where_it_went = if asked { Some(time::table(stats, writing)) } else { time::hint(stats, trouble) };
    let mut lines = vec![summary(shared, started.elapsed().as_secs_f64())];
    lines.extend(where_it_went.iter().flat_map(|text| text.lines()).map(str::to_owned));
    lines
}

/// `13 tasks: 13 ok, 0 failed, 2 retried in 0.45 s (5 workers, 1 died)`.
fn summary(shared: &Shared, secs: f64) -> String {
    let (tally, tasks) = (&shared.tally, shared.records());
    let (ok, failed, trouble, staff) = (tally.ok(), tally.failed(), tally.trouble(), tally.staff());
    let not_done = match shared.not_done() {
        0 => String::new(),
        count => format!(", {count} not done"),
    };
    let skipped = match (shared.skipped.load(Ordering::SeqCst), shared.skipped_failed.load(Ordering::SeqCst))
    {
        (0, _) => String::new(),
        (skipped, 0) => format!(", {skipped} skipped"),
        (skipped, failed) => format!(", {skipped} skipped ({failed} had failed)"),
    };
    let s = if tasks == 1 { "" } else { "s" };
    format!("{tasks} task{s}: {ok} ok, {failed} failed{skipped}{not_done}{trouble} in {secs:.2} s ({staff})")
}

/// What has halted the run.
fn reached(halt: Halt, tally: &Tally) -> String {
    let tasks = |count: u64| if count == 1 { "1 task has".to_owned() } else { format!("{count} tasks have") };
    match halt.on {
        HaltOn::Failures(_) => format!("{} failed", tasks(tally.failed())),
        HaltOn::FailureShare(_) => format!("{} of {} tasks have failed", tally.failed(), tally.done()),
        HaltOn::Successes(_) => format!("{} succeeded", tasks(tally.ok())),
        HaltOn::Done(_) => format!("{} been done", tasks(tally.done())),
    }
}

/// The exit code of a run that came to its end.
fn of_counts(tasks: u64, failed: u64, rule: ExitRule, no_input: NoInput) -> Exit {
    match (failed, rule) {
        (0, _) if tasks == 0 && no_input == NoInput::Fail => Exit::Usage,
        (0, _) => Exit::Success,
        (_, ExitRule::Plain) => Exit::TasksFailed,
        (failed, ExitRule::Count) => {
            Exit::FailedCount(u8::try_from(failed).map_or(101, |failed| failed.min(101)))
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
