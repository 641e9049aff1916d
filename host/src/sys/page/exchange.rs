//! Words of the status page by which the exchange and a worker agree without a message.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::Mapping;

/// What lies on the page, in a cache line of its own.
#[repr(C, align(64))]
pub(super) struct Words {
    /// How many messages the exchange has sent for which the worker has not asked.
    notices: AtomicU32,
    /// How many of the items that the worker was given ahead are left.
    ahead: AtomicU32,
    leases: Leases,
}

/// How many locks can be leased to a worker.
pub(crate) const LEASE_WORDS: usize = 64;

/// The words of the leases, in cache lines of their own. What a word means is no matter of this module.
#[repr(C, align(64))]
struct Leases([AtomicU64; LEASE_WORDS]);

impl Leases {
    fn word(&self, place: u32) -> Option<&AtomicU64> {
        self.0.get(place as usize)
    }
}

/// The exchange's side of one worker's words. The worker may write anything there.
#[derive(Debug, Clone)]
pub(crate) struct ExchangePage(pub(super) Arc<Mapping>);

impl ExchangePage {
    fn words(&self) -> &Words {
        &self.0.layout().exchange
    }

    /// Counts a message for which the worker has not asked.
    pub(crate) fn notify(&self) {
        self.words().notices.fetch_add(1, Ordering::Release);
    }

    /// Writes the word of a lease, which is 0 before.
    pub(crate) fn give_lease(&self, place: u32, word: u64) {
        // Release: the worker that sees the lease has no earlier step of the coordinator before it.
        self.words().leases.word(place).iter().for_each(|it| it.store(word, Ordering::Release));
    }

    /// Makes the word of a lease 0, and gives what it was.
    pub(crate) fn take_lease(&self, place: u32) -> u64 {
        // One operation: a step that the worker makes meanwhile comes before it, and is seen, or comes after
        // it, and fails.
        self.words().leases.word(place).map_or(0, |it| it.swap(0, Ordering::AcqRel))
    }

    /// Gives the worker this many items ahead.
    pub(crate) fn set_ahead(&self, count: u32) {
        self.words().ahead.store(count, Ordering::Release);
    }

    /// How many of the items that the worker was given ahead are left.
    pub(crate) fn ahead(&self) -> u32 {
        self.words().ahead.load(Ordering::Acquire)
    }

    /// Takes back what is left. Gives how many items that were.
    pub(crate) fn take_ahead(&self) -> u32 {
        // One operation: an item that the worker takes meanwhile is taken before it, and seen, or not at all.
        self.words().ahead.swap(0, Ordering::AcqRel)
    }
}

/// The worker's side.
#[cfg(feature = "worker")]
impl super::WorkerPage {
    /// How many messages the exchange has sent without being asked. The number starts again after the last.
    pub(crate) fn notices(&self) -> u32 {
        self.page.layout().exchange.notices.load(Ordering::Acquire)
    }

    /// The word of a lease. 0: there is none.
    pub(crate) fn lease(&self, place: u32) -> u64 {
        let word = self.page.layout().exchange.leases.word(place);
        word.map_or(0, |it| it.load(Ordering::Acquire))
    }

    /// Changes the word of a lease. `false`: the coordinator has taken the lease back since `old` was read.
    pub(crate) fn change_lease(&self, place: u32, old: u64, new: u64) -> bool {
        let word = self.page.layout().exchange.leases.word(place);
        word.is_some_and(|it| it.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok())
    }

    /// Whether this many items are still there that the exchange has given ahead.
    pub(crate) fn has_ahead(&self, left: u32) -> bool {
        left > 0 && self.page.layout().exchange.ahead.load(Ordering::Acquire) == left
    }

    /// Takes one of the last `left` items that the exchange has given ahead. `false`: it has taken them back.
    pub(crate) fn take_one_ahead(&self, left: u32) -> bool {
        let ahead = &self.page.layout().exchange.ahead;
        left > 0 && ahead.compare_exchange(left, left - 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}
