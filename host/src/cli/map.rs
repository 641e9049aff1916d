//! `wpool map`.
//!
//! ```text
//!   reader thread: files ──Splitter──▶ Labels, Inputs ══▶ pool ══▶ Outcomes ──▶ main thread: Output, failures, Labels
//!   signals thread: first signal ──▶ Pool::terminate
//! ```
//!
//! The main thread is the only one that writes results; it writes them out whenever no more are there. It never waits for the reader:
//! that may hang in a read for ever.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use super::args::{ExitRule, MapArgs, NoInput, Show};
use super::exit::{Exit, Failure};
use super::input::{Sink, Source, Splitter, Stopped};
use super::labels::{Labels, SHORT};
use super::output::{Output, trace};
use super::report::{Report, one_line, quoted};
use super::settings;
use super::signals::{self, Received};
use super::stdio;
use crate::error::{Closed, TaskError};
use crate::pool::{Inputs, Outcome, Outcomes, Pool};

pub(super) fn run(args: &MapArgs, report: &Report) -> Result<Exit, Failure> {
    let source = Source::open(args)?;
    let module = settings::load(&args.module, report)?;
    let target = settings::map_target(args, &module)?.timed(matches!(args.format, super::args::OutputForm::Jsonl));
    let processes = settings::processes(args.jobs, report);
    let pool = Arc::new(settings::pool(args, &module, processes)?.build()?);
    let (inputs, outcomes) = pool.stream(&target, !args.unordered)?;
    let export = module.info().target(args.target.func.as_deref()).map_err(crate::BuildError::from)?;
    report.detail(&format!("calling {}, with at most {processes} workers", export.wit()));
    if args.dry_run {
        report.note(&format!("would call {} for each record, with at most {processes} workers", export.wit()));
        return Ok(Exit::Success);
    }

    let mut report = report.clone();
    report.start_progress(args.progress);
    let shared = Arc::new(Shared {
        labels: Labels::new(if args.tag { usize::MAX } else { SHORT }),
        counts: Counts::default(),
        input: Mutex::new(Input::Reading),
    });
    let received = watch(&pool, &shared, &report)?;
    let mut map = Map {
        args,
        report,
        output: Output::new(args),
        shared: shared.clone(),
        pool,
        received,
        broken: None,
        halted: false,
        workers: BTreeSet::new(),
        run: None,
        started: Instant::now(),
    };
    start_reader(args, source, inputs, shared)?;
    map.take(outcomes);
    map.end()
}

/// What the three threads share.
#[derive(Debug)]
struct Shared {
    labels: Labels,
    counts: Counts,
    input: Mutex<Input>,
}

#[derive(Debug, Default)]
struct Counts {
    pushed: AtomicU64,
    ok: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    fn ok(&self) -> u64 {
        self.ok.load(Ordering::Relaxed)
    }

    fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    fn pushed(&self) -> u64 {
        self.pushed.load(Ordering::SeqCst)
    }

    fn done(&self) -> u64 {
        self.ok() + self.failed()
    }

    fn not_done(&self) -> u64 {
        self.pushed().saturating_sub(self.done())
    }
}

/// How far the input has been read. Set before the end of the input is announced to the pool.
#[derive(Debug)]
enum Input {
    Reading,
    Read,
    /// Which one could not be read to its end, and why.
    Failed(String),
}

/// Signals end the pool, from another thread than the one that may be waiting for it.
fn watch(pool: &Arc<Pool>, shared: &Arc<Shared>, report: &Report) -> Result<Received, Failure> {
    let weak: Weak<Pool> = Arc::downgrade(pool);
    let (to_end, to_look, shared, report) = (weak.clone(), weak, shared.clone(), report.clone());
    let end = move || {
        if let Some(pool) = to_end.upgrade() {
            pool.terminate();
        }
    };
    let status = move || {
        let Some(pool) = to_look.upgrade() else { return };
        let counts = &shared.counts;
        let mut text =
            format!("wpool: {} done, {} failed, {} under way", counts.done(), counts.failed(), counts.not_done());
        for worker in pool.workers() {
            let state = format!("{:?}", worker.state).to_lowercase();
            text.push_str(&format!("\n  worker {} (process {}): {state}", worker.index, worker.pid));
        }
        report.line(&text);
    };
    signals::watch(end, status).map_err(|e| Failure::new(Exit::Broken, format!("cannot watch for signals: {e}")))
}

/// Where the reader puts records.
struct Feed {
    inputs: Inputs,
    shared: Arc<Shared>,
    next: u64,
}

impl Sink for Feed {
    fn records(&mut self, bytes: &[u8], bounds: &[Range<usize>]) -> Result<(), Closed> {
        self.shared.labels.note(self.next, bytes, bounds);
        self.next += bounds.len() as u64;
        // Before their outcomes can come, so that no count of what is under way is negative.
        self.shared.counts.pushed.store(self.next, Ordering::SeqCst);
        self.inputs.push_all(bounds.iter().map(|bound| &bytes[bound.clone()]))
    }
}

/// Starts the one thread that reads. Detached: the end of the run does not wait for a read that hangs.
fn start_reader(args: &MapArgs, source: Source, inputs: Inputs, shared: Arc<Shared>) -> Result<(), Failure> {
    let delimiter = if args.null { 0 } else { args.delimiter.unwrap_or(b'\n') };
    let splitter = Splitter::new(delimiter, settings::limits(&args.limits).input);
    let read = move || {
        let mut feed = Feed { inputs, shared: shared.clone(), next: 0 };
        let input = match read_all(source, splitter, &mut feed) {
            Ok(()) => Input::Read,
            Err(why) => Input::Failed(why),
        };
        *shared.input.lock().unwrap_or_else(PoisonError::into_inner) = input;
        // Announced only now, with `inputs` dropped.
        drop(feed);
    };
    let started = std::thread::Builder::new().name("wpool-reader".to_owned()).spawn(read);
    let failed = |e: io::Error| Failure::new(Exit::Broken, format!("cannot start a thread: {}", stdio::words(&e)));
    started.map(|_detached| ()).map_err(failed)
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
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    received: Received,
    /// Why the pool could not go on.
    broken: Option<String>,
    halted: bool,
    /// Those that have answered.
    workers: BTreeSet<u32>,
    /// The outcomes of the present turn: first and count.
    run: Option<(u64, u64)>,
    started: Instant,
}

impl Map<'_> {
    /// Takes outcomes to the end.
    fn take(&mut self, mut outcomes: Outcomes) {
        loop {
            // Without waiting as long as there are any; before waiting, what we have goes out.
            let more = match outcomes.take_until(Some(Instant::now()), &mut |outcome| self.on(&outcome)) {
                Ok(more) => more,
                Err(crate::TimedOut) => {
                    self.flush();
                    self.check();
                    outcomes.take_into(&mut |outcome| self.on(&outcome))
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
            Ok(_) => {
                self.shared.counts.ok.fetch_add(1, Ordering::Relaxed);
            }
            // Not done: neither a result nor a failure.
            Err(TaskError::Cancelled) => return,
            Err(TaskError::Broken { reason }) => {
                // One line for all of them, at the end.
                self.broken.get_or_insert_with(|| reason.clone());
            }
            Err(error) => {
                self.shared.counts.failed.fetch_add(1, Ordering::Relaxed);
                self.say_failed(outcome, error);
            }
        }
        if outcome.worker() != 0 {
            self.workers.insert(outcome.worker());
        }
        let tag = self.args.tag.then(|| self.shared.labels.get(outcome.index()).unwrap_or_default().text);
        self.output.add(outcome, &result, tag.as_deref());
        if self.output.is_full() {
            self.flush();
        }
        self.show_guest(outcome, result.is_ok());
    }

    fn flush(&mut self) {
        self.report.beside_progress(|| self.output.flush());
    }

    fn say_failed(&self, outcome: &Outcome<'_>, error: &TaskError) {
        let number = outcome.index() + 1;
        let mut label = self.shared.labels.get(outcome.index()).unwrap_or_default();
        label.is_cut |= label.text.len() > SHORT;
        label.text.truncate(SHORT);
        let attempt = match outcome.attempt() {
            0 | 1 => String::new(),
            attempt => format!(", attempt {attempt}"),
        };
        let message = one_line(&error.to_string());
        // `error` escapes once more, which changes nothing: there is nothing left to escape.
        self.report.error(&format!("task {number}: {message} (input {}{attempt})", quoted(&label)));
        let frames: Vec<String> = trace(error).iter().map(|frame| format!("    {}", one_line(frame))).collect();
        if !frames.is_empty() {
            self.report.line(&frames.join("\n"));
        }
    }

    fn show_guest(&self, outcome: &Outcome<'_>, ok: bool) {
        let show = if ok { self.args.success_output } else { self.args.failure_output };
        if show == Show::Immediate {
            let number = outcome.index() + 1;
            for (stream, bytes) in [("stdout", outcome.stdout()), ("stderr", outcome.stderr())] {
                if !bytes.is_empty() {
                    self.report.guest_output(&format!("task {number} {stream}"), bytes);
                }
            }
        }
    }

    /// After some outcomes.
    fn turn(&mut self) {
        if let Some((first, count)) = self.run.take() {
            self.shared.labels.release(first, count);
        }
        let counts = &self.shared.counts;
        let total = match *self.shared.input.lock().unwrap_or_else(PoisonError::into_inner) {
            Input::Reading => None,
            Input::Read | Input::Failed(_) => Some(counts.pushed()),
        };
        self.report.progress(self.args.progress, counts.done(), counts.failed(), total);
        self.check();
    }

    /// Ends the pool if there is no use for more.
    fn check(&mut self) {
        let enough = self.args.max_fail.is_some_and(|max| self.shared.counts.failed() >= max.get());
        if (enough && !self.halted) || self.output.has_failed() {
            self.halted |= enough;
            self.pool.terminate();
        }
    }

    fn end(mut self) -> Result<Exit, Failure> {
        self.flush();
        let written = self.output.finish();
        if written.is_ok() && self.received.get().is_none() {
            // Workers end in good order: their guests' `shutdown` runs.
            self.pool.close();
        } else {
            self.pool.terminate();
        }
        let _closed_above = self.pool.join();
        self.report.end_progress();
        let counts = &self.shared.counts;
        if let Some(signal) = self.received.get() {
            self.report.error(&format!("interrupted: {} done, {} not", counts.done(), counts.not_done()));
            return Ok(Exit::Signal(signal));
        }
        written?;
        let input =
            std::mem::replace(&mut *self.shared.input.lock().unwrap_or_else(PoisonError::into_inner), Input::Reading);
        if let Input::Failed(why) = &input {
            self.report.error(why);
        }
        if let Some(reason) = &self.broken {
            self.report.error(&format!("the pool is broken: {reason}"));
        }
        self.report.note(&summary(counts, self.started.elapsed().as_secs_f64(), self.workers.len()));
        if self.halted {
            self.report.error(&format!("stopped after {} failed tasks (--max-fail)", counts.failed()));
        }
        Ok(match input {
            _ if self.broken.is_some() => Exit::Broken,
            _ if self.halted => Exit::Halted,
            Input::Failed(_) => Exit::Io,
            // The reader is gone without a word: it panicked.
            Input::Reading => Exit::Own,
            Input::Read => of_counts(counts.pushed(), counts.failed(), self.args.exit_code, self.args.no_input),
        })
    }
}

/// `13 tasks: 13 ok, 0 failed in 0.45 s (5 workers)`.
fn summary(counts: &Counts, secs: f64, workers: usize) -> String {
    let plural = |n: u64| if n == 1 { "" } else { "s" };
    let (tasks, ok, failed, not_done) = (counts.pushed(), counts.ok(), counts.failed(), counts.not_done());
    let not_done = if not_done > 0 { format!(", {not_done} not done") } else { String::new() };
    let s = plural(workers as u64);
    format!("{tasks} task{}: {ok} ok, {failed} failed{not_done} in {secs:.2} s ({workers} worker{s})", plural(tasks))
}

/// The exit code of a run that came to its end.
fn of_counts(tasks: u64, failed: u64, rule: ExitRule, no_input: NoInput) -> Exit {
    match (failed, rule) {
        (0, _) if tasks == 0 && no_input == NoInput::Fail => Exit::Usage,
        (0, _) => Exit::Success,
        (_, ExitRule::Plain) => Exit::TasksFailed,
        (failed, ExitRule::Count) => Exit::FailedCount(u8::try_from(failed).map_or(101, |failed| failed.min(101))),
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
        assert_eq!((of_counts(0, 0, Plain, NoInput::Ok).code(), of_counts(0, 0, Plain, NoInput::Fail).code()), (0, 2));
    }
}
