//! Words of the status page by which the exchange and a worker agree without a message.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::Mapping;

/// What lies on the page, in a cache line of its own.
#[repr(C, align(64))]
pub(super) struct Words {
    /// How many messages the exchange has sent for which the worker has not asked.
    notices: AtomicU32,
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
}
