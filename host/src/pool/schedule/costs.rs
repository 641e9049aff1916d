//! The cost of a job's tasks, and the credit of its workers: how many tasks each may be handed.
//!
//! A worker in an attacker's hands answers at once, without looking at its records, and says that it took no
//! time. If it were handed a batch after each answer, it would get nearly the whole job. Therefore each
//! worker has credit, counted in tasks. It begins with the credit for one long batch. Each task that it is
//! handed costs one. The time in which it holds tasks, by the coordinator's own clock, earns twice the tasks
//! that the worker in the middle answers in that time: an honest worker may be twice as fast as others. A
//! worker without credit still gets one task after the other, because no worker may idle while there is work.
//! Such a batch is short only for lack of credit, and most of its time may be the handing over. It may show
//! that tasks take less time than was known, never that they take more: otherwise short batches would make
//! every worker look slow, and slow workers would earn short batches.

use std::collections::BTreeMap;
use std::time::Duration;

use super::worker::SentBatch;
use super::{BATCH_LEN_MAX, WorkerId};

/// A worker earns this many times the tasks that the worker in the middle answers in the same time.
const EARNED: u128 = 2;
/// The credit that a worker begins with.
const CREDIT_FIRST: i64 = BATCH_LEN_MAX as i64;
/// The largest credit: two batches, because a worker may hold two.
const CREDIT_MAX: i64 = 2 * CREDIT_FIRST;
/// If all other workers have been at their first batch for [`UNPROVEN_TIME`], a worker without credit gets
/// this many tasks at a time.
pub(super) const UNPROVEN_LEN: u64 = 8;
pub(super) const UNPROVEN_TIME: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
pub(super) struct Costs {
    accounts: BTreeMap<WorkerId, Account>,
    /// The number of costs in the accounts.
    known: u32,
    /// Their sum.
    sum: Duration,
    /// Their mean. It outlives the workers.
    mean: Option<Duration>,
    /// The pace of the worker in the middle. It outlives the workers.
    usual: Option<Duration>,
    /// Batches since `usual` was computed. It is not computed at each batch, because there may be a thousand
    /// workers.
    noted: u32,
}

#[derive(Debug)]
struct Account {
    /// The time of a task by the worker's own word, within bounds.
    cost: Option<Duration>,
    /// The time of a task by the coordinator's clock. It includes the handing over.
    pace: Option<Duration>,
    /// The time in which it has held tasks and that has earned it nothing yet.
    held: Duration,
    credit: i64,
}

impl Costs {
    /// The time that a task takes; `None` before the first batch. Each worker counts once: a worker that
    /// answers at once does not make the batches of others as long as it likes.
    pub(super) fn mean(&self) -> Option<Duration> {
        self.mean
    }

    /// Notes a batch that the worker held for the time `held` and worked at for `busy`.
    pub(super) fn note(&mut self, worker: WorkerId, batch: &SentBatch, busy: Duration, held: Duration) {
        let count = u32::try_from(batch.count.max(1)).unwrap_or(u32::MAX);
        let mean_of = |old: Option<Duration>, new: Duration| match old {
            None => new,
            Some(old) if batch.lacked_credit && new > old => old,
            // This follows a change within a few batches, and one outlier counts little.
            Some(old) => (old + new) / 2,
        };
        let cost = mean_of(self.take_cost(worker), busy / count);
        self.sum += cost;
        self.known += 1;
        self.mean = Some(self.sum / self.known);
        let account = self.accounts.entry(worker).or_default();
        account.cost = Some(cost);
        account.pace = Some(mean_of(account.pace, held / count));
        account.held += held;
        self.noted += 1;
        if self.known > 1 && (self.noted >= self.known || self.usual.is_none()) {
            self.usual = self.median_pace();
            self.noted = 0;
        }
        if let Some(usual) = self.usual
            && let Some(account) = self.accounts.get_mut(&worker)
        {
            account.earn(usual);
        }
    }

    /// Forgets what was noted of this worker.
    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.take_cost(worker);
        self.accounts.remove(&worker);
    }

    fn take_cost(&mut self, worker: WorkerId) -> Option<Duration> {
        let cost = self.accounts.get_mut(&worker)?.cost.take()?;
        self.sum -= cost;
        self.known -= 1;
        Some(cost)
    }

    /// The pace in the middle, or the slower of the two in the middle: of two workers, the one that does not
    /// answer at once.
    fn median_pace(&self) -> Option<Duration> {
        let mut paces: Vec<Duration> = self.accounts.values().filter_map(|account| account.pace).collect();
        let middle = paces.len() / 2;
        (middle < paces.len()).then(|| *paces.select_nth_unstable(middle).1)
    }

    pub(super) fn hand_out(&mut self, worker: WorkerId, count: u64) {
        let account = self.accounts.entry(worker).or_default();
        account.credit = account.credit.saturating_sub(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(super) fn take_back(&mut self, worker: WorkerId, count: u64) {
        let account = self.accounts.entry(worker).or_default();
        account.credit = account.credit.saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The credit of one of `workers` workers, at a job with `submitted` tasks so far.
    pub(super) fn credit(&self, worker: WorkerId, workers: u64, submitted: u64) -> u64 {
        if workers < 2 {
            return u64::MAX;
        }
        let credit = self.accounts.get(&worker).map_or(CREDIT_FIRST, |account| account.credit);
        // Until the pace of a second worker is known, each may have an equal share.
        let share = if self.is_known() { 0 } else { i64::try_from(submitted / workers).unwrap_or(i64::MAX) };
        u64::try_from(credit.saturating_add(share)).unwrap_or(0)
    }

    /// Whether more than one worker has shown how fast it is.
    pub(super) fn is_known(&self) -> bool {
        self.usual.is_some()
    }
}

impl Default for Account {
    fn default() -> Account {
        Account { cost: None, pace: None, held: Duration::ZERO, credit: CREDIT_FIRST }
    }
}

impl Account {
    fn earn(&mut self, usual: Duration) {
        let held = std::mem::take(&mut self.held);
        let earned = held.as_nanos() * EARNED / usual.as_nanos().max(1);
        let credit = self.credit.saturating_add(i64::try_from(earned).unwrap_or(i64::MAX));
        self.credit = credit.min(CREDIT_MAX);
    }
}
