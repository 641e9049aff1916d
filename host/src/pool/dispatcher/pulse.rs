//! Signs of life: a worker at work shows some whatever its guest does. One that shows none for long is told of, since nothing else would:
//! without a time limit, a process that somebody has stopped keeps its task for ever.

use std::time::Duration;

use super::Dispatcher;
use crate::context::StartMethod;
use crate::pool::events::PoolEvent;

/// A worker's, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    beats: u32,
    /// When it was seen to live, or had nothing to do.
    seen: Duration,
    /// It has been told of.
    told: bool,
}

impl Dispatcher {
    /// When pulses are to be felt again, if anybody would hear of it. Threads have none.
    pub(super) fn pulse_due(&self) -> Option<Duration> {
        let is_heard = self.spec.sink.is_heard() && self.spec.start_method != StartMethod::Thread;
        (is_heard && !self.jobs.is_empty()).then(|| self.felt.saturating_add(self.spec.heartbeat / 4))
    }

    /// Tells of each worker that has been silent for too long, once.
    pub(super) fn feel_pulses(&mut self) {
        let now = self.now();
        if self.pulse_due().is_none_or(|due| now < due) {
            return;
        }
        self.felt = now;
        let mut silent = Vec::new();
        for (&worker, link) in &mut self.links {
            let (beats, pulse) = (link.page.beats(), &mut link.pulse);
            let time = now.saturating_sub(pulse.seen);
            if beats != pulse.beats || !self.schedule.is_busy(worker) {
                *pulse = Pulse { beats, seen: now, told: false };
            } else if time >= self.spec.heartbeat && !pulse.told {
                pulse.told = true;
                silent.extend(link.child.as_ref().map(|child| (worker, child.pid(), time)));
            }
        }
        for (worker, pid, time) in silent {
            self.tell(|| PoolEvent::WorkerSilent { worker, pid, time });
        }
    }
}
