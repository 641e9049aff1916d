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

/// A worker that holds no tasks of the job counts for this many further batches at least.
const COUNTED_MIN: u64 = 64;

#[derive(Debug, Default)]
pub(super) struct Costs {
    accounts: BTreeMap<WorkerId, Account>,
    /// The time that a task takes in the worker in the middle. It outlives the workers.
    cost: Option<Duration>,
    /// The pace of the worker in the middle of several. It outlives the workers.
    usual: Option<Duration>,
    /// The number of batches that were noted.
    noted: u64,
    /// The number at which `cost` and `usual` are computed again. Not at each batch, because there may be a
    /// thousand workers.
    due: u64,
}

#[derive(Debug)]
struct Account {
    /// Known after the first batch.
    speed: Option<Speed>,
    /// The number of tasks that it holds of the batches that it has not ended.
    open: u64,
    /// The time in which it has held tasks and that has earned it nothing yet.
    held: Duration,
    credit: i64,
}

/// What the last batches of a worker say.
#[derive(Debug, Clone, Copy)]
struct Speed {
    /// The time of a task by the worker's own word, within bounds.
    cost: Duration,
    /// The time of a task by the coordinator's clock. It includes the handing over.
    pace: Duration,
    /// [`Costs::noted`] after its last batch.
    noted: u64,
}

impl Costs {
    /// The time that a task takes; `None` before the first batch. Each worker counts once: a worker that
    /// answers at once does not make the batches of others as long as it likes. Nor does a worker that had to
    /// wait for a processor make them short: among hundreds there is always one.
    pub(super) fn cost(&self) -> Option<Duration> {
        self.cost
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
        self.noted += 1;
        let account = self.accounts.entry(worker).or_default();
        account.speed = Some(Speed {
            cost: mean_of(account.speed.map(|speed| speed.cost), busy / count),
            pace: mean_of(account.speed.map(|speed| speed.pace), held / count),
            noted: self.noted,
        });
        account.held += held;
        account.open = account.open.saturating_sub(batch.count);
        if self.noted >= self.due || self.usual.is_none() {
            self.compare();
        }
        if let Some(usual) = self.usual
            && let Some(account) = self.accounts.get_mut(&worker)
        {
            account.add_credit(usual);
        }
    }

    /// Computes what is usual among the workers.
    fn compare(&mut self) {
        let speeds = self.accounts.values().filter_map(|account| account.speed);
        let (mut costs, mut paces): (Vec<Duration>, Vec<Duration>) =
            speeds.map(|speed| (speed.cost, speed.pace)).unzip();
        let known = costs.len() as u64;
        self.cost = in_the_middle(&mut costs).or(self.cost);
        if known > 1 {
            self.usual = in_the_middle(&mut paces);
        }
        self.due = self.noted + (known / 4).max(1);
        // A worker that has had no part in the job for a while says nothing about the present. Its first
        // tasks, which took longer, would count for ever.
        let of_old = self.noted.saturating_sub(known + COUNTED_MIN);
        for account in self.accounts.values_mut().filter(|account| account.open == 0) {
            account.speed = account.speed.filter(|speed| speed.noted >= of_old);
        }
    }

    /// Forgets what was noted of this worker.
    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.accounts.remove(&worker);
    }

    pub(super) fn hand_out(&mut self, worker: WorkerId, count: u64) {
        let account = self.accounts.entry(worker).or_default();
        account.open += count;
        account.credit = account.credit.saturating_sub(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(super) fn take_back(&mut self, worker: WorkerId, count: u64) {
        let account = self.accounts.entry(worker).or_default();
        account.open = account.open.saturating_sub(count);
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

/// The value in the middle, or the larger of the two in the middle: of two workers, the one that does not
/// answer at once.
fn in_the_middle(values: &mut [Duration]) -> Option<Duration> {
    let middle = values.len() / 2;
    (middle < values.len()).then(|| *values.select_nth_unstable(middle).1)
}

impl Default for Account {
    fn default() -> Account {
        Account { speed: None, open: 0, held: Duration::ZERO, credit: CREDIT_FIRST }
    }
}

impl Account {
    fn add_credit(&mut self, usual: Duration) {
        let held = std::mem::take(&mut self.held);
        let earned = held.as_nanos() * EARNED / usual.as_nanos().max(1);
        let credit = self.credit.saturating_add(i64::try_from(earned).unwrap_or(i64::MAX));
        self.credit = credit.min(CREDIT_MAX);
    }
}
