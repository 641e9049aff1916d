//! `wpool map`.
//!
//! ```text
//!   reader thread: files ─▶ Splitter ─▶ RecordFilter, Labels, Inputs ══▶ pool
//!   main thread:   pool ══▶ Outcomes ─▶ Collector: results, failures, job log
//!   pool's thread: events ─▶ Tally, profiles ─▶ teller thread: lines on stderr
//!   signals thread: the first signal ─▶ Pool::terminate
//!   clock thread: --global-timeout ─▶ Pool::terminate
//! ```
//!
//! Only the main thread writes results. It writes them whenever no more outcomes are there. It never waits
//! for the reader, because a read may hang for ever.

mod collect;
mod end;
mod events;
mod reader;
mod state;
mod threads;
mod watch;

use std::io::{self, IsTerminal};
use std::sync::Arc;

use self::collect::Collector;
use self::end::Threads;
use self::events::Events;
use self::reader::Feed;
use self::state::RunState;
use super::exit::{CliError, WpoolExit};
use super::input::{InputSource, Splitter};
use super::joblog::{JobLog, LoggedRun, RecordFilter};
use super::report::Report;
use super::settings::{self, MapSettings};
use crate::clock;
use crate::error::BuildError;
use crate::module::Module;
use crate::target::{Target, resolve};

pub(super) fn run(settings: &MapSettings, report: &Report) -> Result<WpoolExit, CliError> {
    let begun = clock::now();
    let module = settings::load(&settings.path, &settings.loader, report)?;
    note_init(settings, &module, report);
    let target = settings.target(&module)?;
    let processes = settings.processes(report);
    let events = Events::new(settings)?;
    let listener = events.listener(report.is_verbose());
    let pool = Arc::new(settings.pool(&module, processes, report)?.on_event(listener).build()?);
    let (inputs, outcomes) = pool.stream(&target, settings.is_ordered)?;
    let export = module.info().target(settings.func()).map_err(BuildError::from)?;
    // After the pool was built: opening an input may wait, or have effects.
    let source = InputSource::open(&settings.origin)?;
    let log = settings.log.as_ref().filter(|_| !settings.dry_run);
    let log = log.map(|log| JobLog::open(log, &source, report)).transpose()?;
    let staff = format!("at most {processes} worker{}", if processes == 1 { "" } else { "s" });
    report.detail(&format!("calling {}, with {staff}", export.wit()));
    // As late as possible: a dry run finds most of the mistakes that a run would find before its first task.
    if settings.dry_run {
        report.note(&format!("would call {} for each record, with {staff}", export.wit()));
        return Ok(WpoolExit::Success);
    }

    let shares = settings.open_shares(&source)?;
    let logged = LoggedRun { module: module.digest(), export: &export.path, settings: &settings.identity };
    let (writer, ledger) = match log.map(|log| log.begin(&logged, report)).transpose()? {
        Some((writer, resumed)) => (Some(writer), Some(RecordFilter::new(resumed))),
        None => (None, None),
    };
    let report = report.with_progress(settings.progress);
    let state = Arc::new(RunState::new(events.labels.clone(), events.tally.clone()));
    let (teller, profiles) = events.tell(&report)?;
    let drains = writer.is_some() && !io::stdin().is_terminal();
    // Before the reader: from the first record on, a signal must end the run in good order.
    let received = watch::signals(&pool, &state, &report, drains)?;
    // The time counts from the beginning: a user counts the compilation too.
    if let Some(end) = settings.global_timeout.and_then(|time| begun.checked_add(time)) {
        watch::clock(end, &pool, &state)?;
    }
    let shares = shares.start(watch::lost_file(&pool, &state))?;
    let is_command = settings::is_command(settings.func(), &module);
    let mut collector = Collector::new(settings, is_command, report, writer, state.clone(), pool.clone());
    let feed = Feed::new(inputs, ledger, state.clone(), settings.feed.as_ref());
    reader::start(source, splitter(settings, &target, &module), feed)?;
    collector.take_all(outcomes);
    end::end(collector, Threads { pool, received, teller, profiles, shares }, &state)
}

fn note_init(settings: &MapSettings, module: &Module, report: &Report) {
    if module.info().has_init() && !settings.says_state() {
        report.note(
            "wpool: the module exports init: it is called in each task's own instance; --reuse or --init \
             init keeps its state",
        );
    }
}

/// Records that are values have no blank record at the end of an input.
fn splitter(settings: &MapSettings, target: &Target, module: &Module) -> Splitter {
    let takes_values = resolve(target, module.info()).is_ok_and(|resolved| resolved.takes_values());
    let splitter = settings.splitter();
    if takes_values { splitter.without_blank_end() } else { splitter }
}
