//! Where the time of a pool's workers goes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::schedule::WorkerId;

/// Where the time of a pool's workers has gone so far. [`Pool::stats`](crate::Pool::stats) gives it.
///
/// The times are sums over all workers. The cost of a batch is known at its end; until then its time counts
/// as `waiting`.
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
/// if stats.instances > stats.calls {
///     println!("Isolation::Reuse would save most of the time");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// The number of tasks that have an outcome.
    pub tasks: u64,
    /// The number of workers that have become ready.
    pub workers: u64,
    /// Time in calls of guests, which includes passing the record in and the result out.
    pub calls: Duration,
    /// Time to make instances and to drop them. [`Isolation::Reuse`](crate::Isolation::Reuse) makes it almost
    /// nothing.
    pub instances: Duration,
    /// Time in which a worker had tasks and did not run any: they were on their way to it, or results on
    /// their way back.
    pub waiting: Duration,
    /// Time in which a worker had no task.
    pub idle: Duration,
}

/// The dispatcher's record of times.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    tasks: u64,
    workers: u64,
    /// As the workers say.
    busy: Duration,
    instances: Duration,
    /// The sums over the workers that have ended, and over the times that have ended.
    held: Duration,
    alive: Duration,
    live: HashMap<WorkerId, Live>,
}

#[derive(Debug)]
struct Live {
    since: Instant,
    /// Since when it has had tasks without a pause.
    holding: Option<Instant>,
    /// The sum of what it has said about its batches.
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

    /// Adds what a batch has cost, as the worker says. A lie counts for no more than the time that the worker
    /// has lived.
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
        ledger.holds(1);
        // Begun after the worker holds the batch: however late this thread goes on, the batch takes longer.
        let begun = Instant::now();
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
