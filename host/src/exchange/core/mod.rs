//! The pure core of the exchange: events in, actions out. It has no clock, no thread and no socket.

pub(crate) mod event;

use std::time::Duration;

use self::event::{Action, Event};

/// All shared objects of this program, and who waits for what.
#[derive(Debug, Default)]
pub(crate) struct Exchange {}

impl Exchange {
    /// Handles an event. `now` never goes back.
    pub(crate) fn on(&mut self, _now: Duration, _event: Event, _actions: &mut Vec<Action>) {
        unimplemented!()
    }

    /// When the next `Tick` is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        unimplemented!()
    }
}
