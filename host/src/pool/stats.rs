//! Where the time of a pool's workers went.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::schedule::WorkerId;

/// Where the time of a pool's workers has gone so far: [`Pool::stats`](crate::Pool::stats).
///
/// The times are sums over all workers. What a batch has cost is known when it is done; until then its time counts as `waiting`.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = pool("upper")?;
/// # let upper = pool.func::<&str, String>("run")?;
/// pool.map(&upper, ["a", "b"])?;
/// let stats = pool.stats();
/// assert_eq!(stats.tasks, 2);
/// println!("{:?} in guests, {:?} for their instances", stats.calls, stats.instances);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Tasks that have had an outcome.
    pub tasks: u64,
    /// Workers that have become ready.
    pub workers: u64,
    /// In calls of guests, and what goes with a call: passing the record in and the result out.
    pub calls: Duration,
    /// Making instances and throwing them away. With [`Isolation::Reuse`](crate::Isolation::Reuse) there is next to none.
    pub instances: Duration,
    /// A worker held tasks but was not at work on them: they were on their way to it, their results on the way back.
    pub waiting: Duration,
    /// A worker held no task: there was none for it.
    pub idle: Duration,
}

/// What the dispatcher writes down.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    tasks: u64,
    workers: u64,
    /// By the workers' own word.
    busy: Duration,
    instances: Duration,
    /// Of workers and times that are over.
    held: Duration,
    alive: Duration,
    live: HashMap<WorkerId, Live>,
}

#[derive(Debug)]
struct Live {
    since: Instant,
    /// Since when it has held tasks without a pause.
    holding: Option<Instant>,
    /// What it has said of its batches so far.
    busy: Duration,
}

impl Ledger {
    pub(super) fn add_tasks(&mut self, count: u64) {
        self.tasks += count;
    }

    pub(super) fn ready(&mut self, worker: WorkerId) {
        self.workers += 1;
        self.live.insert(worker, Live { since: Instant::now(), holding: None, busy: Duration::ZERO });
    }

    pub(super) fn holds(&mut self, worker: WorkerId) {
        if let Some(live) = self.live.get_mut(&worker) {
            live.holding.get_or_insert_with(Instant::now);
        }
    }

    /// A worker says what a batch has cost. It may lie, but not about more time than has passed, in all.
    pub(super) fn batch_done(
        &mut self,
        worker: WorkerId,
        busy: Duration,
        instances: Duration,
        holds_more: bool,
    ) {
        let Some(live) = self.live.get_mut(&worker) else { return };
        let busy = busy.min(live.since.elapsed().saturating_sub(live.busy));
        live.busy += busy;
        self.busy += busy;
        self.instances += instances.min(busy);
        if !holds_more {
            self.held += live.holding.take().map(|since| since.elapsed()).unwrap_or_default();
        }
    }

    pub(super) fn gone(&mut self, worker: WorkerId) {
        if let Some(live) = self.live.remove(&worker) {
            self.alive += live.since.elapsed();
            self.held += live.holding.map(|since| since.elapsed()).unwrap_or_default();
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let alive = self.alive + self.live.values().map(|live| live.since.elapsed()).sum::<Duration>();
        let held =
            self.live.values().filter_map(|live| live.holding).map(|since| since.elapsed()).sum::<Duration>();
        let held = self.held + held;
        Stats {
            tasks: self.tasks,
            workers: self.workers,
            calls: self.busy.saturating_sub(self.instances),
            instances: self.instances,
            waiting: held.saturating_sub(self.busy),
            idle: alive.saturating_sub(held.max(self.busy)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workers_word_counts_for_no_more_than_the_time_that_has_passed() {
        let mut ledger = Ledger::default();
        ledger.ready(1);
        ledger.holds(1);
        ledger.batch_done(1, Duration::MAX, Duration::MAX, false);
        ledger.batch_done(7, Duration::MAX, Duration::MAX, false);
        ledger.gone(1);
        ledger.gone(1);
        let stats = ledger.stats();
        assert!(stats.calls + stats.instances < Duration::from_secs(3600), "{stats:?}");
        assert_eq!((stats.workers, stats.calls), (1, Duration::ZERO));
    }

    #[test]
    fn what_is_neither_calls_nor_instances_nor_idle_is_waiting() {
        let mut ledger = Ledger::default();
        ledger.add_tasks(3);
        ledger.ready(1);
        let begun = Instant::now();
        ledger.holds(1);
        while begun.elapsed() < Duration::from_millis(3) {}
        ledger.batch_done(1, Duration::from_millis(2), Duration::from_millis(1), false);
        let stats = ledger.stats();
        assert_eq!(
            (stats.tasks, stats.calls, stats.instances),
            (3, Duration::from_millis(1), Duration::from_millis(1))
        );
        assert!(stats.waiting >= Duration::from_millis(1), "{stats:?}");
    }
}
