//! Words of the status page by which the exchange and a worker agree without a message.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Mapping;

/// What lies on the page, in a cache line of its own.
#[repr(C, align(64))]
pub(super) struct Words {
    /// How many messages the exchange has sent for which the worker has not asked.
    notices: AtomicU32,
}

/// The exchange's side of one worker's words. The worker may write anything there.
#[derive(Debug)]
pub(crate) struct ExchangePage(pub(super) Arc<Mapping>);

impl ExchangePage {
    fn words(&self) -> &Words {
        &self.0.layout().exchange
    }

    /// Counts a message for which the worker has not asked.
    pub(crate) fn notify(&self) {
        self.words().notices.fetch_add(1, Ordering::Release);
    }
}

/// The worker's side.
#[cfg(feature = "worker")]
impl super::WorkerPage {
    /// How many messages the exchange has sent without being asked. The number starts again after the last.
    pub(crate) fn notices(&self) -> u32 {
        self.page.layout().exchange.notices.load(Ordering::Acquire)
    }
}
