//! Where large results go: into the memory that is shared with the coordinator, instead of its socket.

use std::cell::Cell;
use std::sync::Arc;

use crate::protocol::message::LARGE;
use crate::sys::{ResultWriter, WorkerPage};

/// No result begins behind this while the coordinator has not copied out what is before: there may be no room for it yet. Further results go through
/// the socket, which makes the worker wait.
const BEGIN_MAX: u64 = 64 << 20;

/// The worker's side of the part for results: one behind the other, and from the start again when all have been copied out.
#[derive(Default)]
pub(super) struct Placement {
    writer: Option<ResultWriter>,
    /// How many results have been placed.
    placed: Cell<u64>,
    /// Where the next one goes.
    head: Cell<u64>,
}

impl Placement {
    pub(super) fn new(writer: ResultWriter) -> Placement {
        Placement { writer: Some(writer), ..Placement::default() }
    }

    pub(super) fn page(&self) -> Option<Arc<WorkerPage>> {
        self.writer.as_ref().map(|writer| writer.page().clone())
    }

    /// Calls `call`, of whose results the coordinator never hears.
    pub(super) fn unheard<R>(&self, call: impl FnOnce() -> R) -> R {
        let (placed, head) = (self.placed.get(), self.head.get());
        let result = call();
        self.placed.set(placed);
        self.head.set(head);
        result
    }

    /// Places a result, if it is large and there is room. Gives where it is.
    pub(super) fn put(&self, result: &[u8]) -> Option<u64> {
        let writer = self.writer.as_ref().filter(|_| result.len() >= LARGE)?;
        let len = result.len() as u64;
        let at = if writer.taken() == self.placed.get() { 0 } else { self.head.get() };
        if at > BEGIN_MAX || !writer.put(at, result) {
            return None;
        }
        self.head.set(at + len);
        self.placed.set(self.placed.get() + 1);
        Some(at)
    }
}
