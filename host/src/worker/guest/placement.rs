//! Large results go through the memory that is shared with the coordinator, instead of the socket.

use std::cell::Cell;
use std::sync::Arc;

use crate::protocol::batch::LARGE;
use crate::sys::{ResultWriter, WorkerPage};

/// Cap on results not yet copied out (one larger result excepted): touched pages stay resident. Further
/// results go through the socket, which makes the worker wait for the coordinator.
const BEGIN_MAX: u64 = 64 << 20;

/// The worker's side of the memory for results. They lie one behind the other, and begin again at the start
/// when the coordinator has copied out all of them.
#[derive(Default)]
pub(super) struct Placement {
    writer: Option<ResultWriter>,
    /// The number of results that were placed.
    placed: Cell<u64>,
    /// The place of the next result.
    head: Cell<u64>,
}

impl Placement {
    pub(super) fn new(writer: ResultWriter) -> Placement {
        Placement { writer: Some(writer), ..Placement::default() }
    }

    pub(super) fn page(&self) -> Option<Arc<WorkerPage>> {
        self.writer.as_ref().map(|writer| writer.page().clone())
    }

    /// Calls `call`, and forgets the results that it places: the coordinator does not hear of them.
    pub(super) fn discarding<R>(&self, call: impl FnOnce() -> R) -> R {
        let (placed, head) = (self.placed.get(), self.head.get());
        let result = call();
        self.placed.set(placed);
        self.head.set(head);
        result
    }

    /// Places a result, if it is large and there is room. Returns its place.
    pub(super) fn put(&self, result: &[u8]) -> Option<u64> {
        let writer = self.writer.as_ref().filter(|_| result.len() >= LARGE)?;
        let len = result.len() as u64;
        // Not a ring, which would need the length of each result that is not copied out. Usually the
        // coordinator has copied all of them before the next one comes.
        let at = if writer.taken() == self.placed.get() { 0 } else { self.head.get() };
        if at > BEGIN_MAX || !writer.put(at, result) {
            return None;
        }
        self.head.set(at + len);
        self.placed.set(self.placed.get() + 1);
        Some(at)
    }
}
