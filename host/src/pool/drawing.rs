//! Drawing the items of an iterator into a job.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::handlers::{Chore, ChoreStep, Handlers};
use super::stream::Inputs;
use crate::target::Resolved;
use crate::value::Args;

/// The time is looked at after this many items.
const ITEMS_PER_LOOK: usize = 32;
/// The memory that is kept for the next record while its caller waits.
pub(super) const RECORD_KEPT: usize = 4 << 10;

/// Draws items and pushes them, while there is room.
pub(super) struct Drawing<I> {
    /// `None`: the iterator has panicked.
    inputs: Option<Inputs>,
    resolved: Arc<Resolved>,
    /// The record of an item, kept for its memory.
    record: Vec<u8>,
    /// Dropped last: it may block.
    items: I,
}

impl<I> Drawing<I> {
    pub(super) fn new(inputs: Inputs, resolved: Arc<Resolved>, items: I) -> Drawing<I> {
        Drawing { inputs: Some(inputs), resolved, record: Vec::new(), items }
    }
}

impl<I: Iterator<Item: Args>> Drawing<I> {
    fn draw(&mut self, until: Instant) -> ChoreStep {
        let Drawing { inputs: Some(inputs), resolved, record, items } = self else { return ChoreStep::Over };
        let free = resolved.free();
        loop {
            for _ in 0..ITEMS_PER_LOOK {
                // Room first: an item is not drawn before it can be pushed.
                match inputs.room() {
                    Ok(true) => {}
                    Ok(false) => return ChoreStep::Wait,
                    Err(_closed) => return ChoreStep::Over,
                }
                let Some(args) = items.next() else { return ChoreStep::Over };
                record.clear();
                let encoded = args.encode(&free, record);
                if inputs.push_item(encoded.map(|()| &record[..])).is_err() {
                    return ChoreStep::Over;
                }
            }
            if Instant::now() >= until {
                return ChoreStep::Again;
            }
        }
    }
}

impl<I: Iterator<Item: Args> + Send + 'static> Chore for Drawing<I> {
    fn turn(&mut self, until: Instant) -> ChoreStep {
        let step = catch_unwind(AssertUnwindSafe(|| self.draw(until)));
        step.unwrap_or_else(|payload| {
            if let Some(inputs) = self.inputs.take() {
                inputs.panicked(payload);
            }
            ChoreStep::Over
        })
    }

    fn wait(mut self: Box<Self>, handlers: &Handlers) {
        self.record.clear();
        self.record.shrink_to(RECORD_KEPT);
        let Some(job) = self.inputs.as_ref().map(|inputs| inputs.job().clone()) else { return };
        let handlers = handlers.clone();
        job.when_room(move || handlers.go_on(self));
    }
}
