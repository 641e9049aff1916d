//! The threads that may end a run early: signals, and the time limit of the whole run.

use std::sync::{Arc, Weak};
use std::time::Instant;

use super::state::RunState;
use super::threads::start_detached;
use crate::cli::exit::{CliError, OrExit, WpoolExit};
use crate::cli::report::Report;
use crate::cli::signals::{self, Ending, ReceivedSignal};
use crate::clock;
use crate::pool::Pool;

/// Starts the signals thread. The main thread may be waiting for the pool, so another one has to end it.
/// `drains`: SIGHUP lets running tasks finish.
pub(super) fn signals(
    pool: &Arc<Pool>,
    state: &Arc<RunState>,
    report: &Report,
    drains: bool,
) -> Result<ReceivedSignal, CliError> {
    let (to_end, tally) = (Arc::downgrade(pool), state.tally.clone());
    let on_end = move |signal| {
        let Some(pool) = to_end.upgrade() else { return Ending::Now };
        if signal == signal_hook::consts::SIGHUP && drains {
            pool.shutdown(true);
            return Ending::Drains;
        }
        tally.end();
        pool.terminate();
        Ending::Now
    };
    let (to_look, looked_at, shown) = (Arc::downgrade(pool), state.clone(), report.clone());
    let on_status = move || say_status(&to_look, &looked_at, &shown);
    let progress = report.clone();
    signals::watch(on_end, on_status, move || progress.toggle_progress())
        .or_exit(WpoolExit::Broken, || "cannot watch for signals".to_owned())
}

/// `SIGUSR1`: the counts, and a line for each worker.
fn say_status(pool: &Weak<Pool>, state: &RunState, report: &Report) {
    let Some(pool) = pool.upgrade() else { return };
    let tally = &state.tally;
    let (done, failed, under_way) = (tally.done(), tally.failed(), state.not_done());
    let died = if tally.died() > 0 { format!("; {}", tally.staff()) } else { String::new() };
    let mut text =
        format!("wpool: {done} done, {failed} failed, {under_way} under way{}{died}", tally.trouble());
    for worker in pool.workers() {
        let state = format!("{:?}", worker.state).to_lowercase();
        text.push_str(&format!("\n  worker {} (process {}): {state}", worker.index, worker.pid));
    }
    report.line(&text);
}

/// Ends the run if the file of a shared queue cannot be read or written any more.
pub(super) fn lost_file(pool: &Arc<Pool>, state: &Arc<RunState>) -> impl Fn() + Clone + Send + use<> {
    let (pool, state) = (Arc::downgrade(pool), state.clone());
    move || {
        if let Some(pool) = pool.upgrade() {
            state.tally.end();
            pool.terminate();
        }
    }
}

/// Starts a thread that ends the pool at `end`. The main thread may be waiting for the reader of the results.
pub(super) fn clock(end: Instant, pool: &Arc<Pool>, state: &Arc<RunState>) -> Result<(), CliError> {
    if clock::now() >= end {
        // Here: the run could be over before a thread is.
        end_late(pool, state);
        return Ok(());
    }
    let (pool, state) = (Arc::downgrade(pool), state.clone());
    start_detached("wpool-clock", move || {
        clock::sleep_until(end);
        if let Some(pool) = pool.upgrade() {
            end_late(&pool, &state);
        }
    })
}

fn end_late(pool: &Pool, state: &RunState) {
    state.set_late();
    state.tally.end();
    pool.terminate();
}
