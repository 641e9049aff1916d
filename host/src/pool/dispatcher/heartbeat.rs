//! Signs of life. A busy worker shows some, whatever its guest does. A worker that shows none for long is
//! reported: without a time limit, a process that was stopped keeps its task for ever.

use std::time::Duration;

/// The signs of life of one worker, as the coordinator has seen them.
#[derive(Debug, Default)]
pub(super) struct Heartbeat {
    beats: u32,
    /// When the number of beats last changed, or the worker held no tasks.
    seen: Duration,
    /// The worker's silence was reported.
    is_reported: bool,
}

impl Heartbeat {
    /// Notes the number of beats so far. Gives the time of a silence that is longer than `most`, once.
    pub(super) fn note(
        &mut self,
        beats: u32,
        is_busy: bool,
        now: Duration,
        most: Duration,
    ) -> Option<Duration> {
        if beats != self.beats || !is_busy {
            *self = Heartbeat { beats, seen: now, is_reported: false };
            return None;
        }
        let silent = now.saturating_sub(self.seen);
        let is_new = silent >= most && !self.is_reported;
        self.is_reported |= is_new;
        is_new.then_some(silent)
    }
}
