//! Signs of life. A busy worker shows some, whatever its guest does. A worker that shows none for long is
//! reported: without a time limit, a process that was stopped keeps its task for ever.

use std::time::Duration;

use super::Dispatcher;
use crate::context::StartMethod;
use crate::pool::events::PoolEvent;

/// The signs of life of one worker, as the coordinator has seen them.
#[derive(Debug, Default)]
pub(super) struct Heartbeat {
    beats: u32,
    /// When the number of beats last changed, or the worker held no tasks.
    seen: Duration,
    /// The worker's silence was reported.
    is_reported: bool,
}

impl Dispatcher {
    /// When signs of life are to be looked at next. `None`: events have no receiver, or the workers are
    /// threads, which show no signs.
    pub(super) fn heartbeats_due(&self) -> Option<Duration> {
        let is_heard = self.reports.are_heard() && self.spec.start_method != StartMethod::Thread;
        let period = self.spec.heartbeat / 4;
        (is_heard && !self.jobs.is_empty()).then(|| self.reports.heartbeats_checked.saturating_add(period))
    }

    /// Reports each worker that is silent for too long, once.
    pub(super) fn check_heartbeats(&mut self) {
        let now = self.now();
        if self.heartbeats_due().is_none_or(|due| now < due) {
            return;
        }
        self.reports.heartbeats_checked = now;
        let mut silent = Vec::new();
        for (&worker, link) in &mut self.links {
            let (beats, heartbeat) = (link.page.beats(), &mut link.heartbeat);
            let time = now.saturating_sub(heartbeat.seen);
            if beats != heartbeat.beats || !self.schedule.is_busy(worker) {
                *heartbeat = Heartbeat { beats, seen: now, is_reported: false };
            } else if time >= self.spec.heartbeat && !heartbeat.is_reported {
                heartbeat.is_reported = true;
                silent.extend(link.child.as_ref().map(|child| (worker, child.pid(), time)));
            }
        }
        for (worker, pid, time) in silent {
            self.reports.tell(|| PoolEvent::WorkerSilent { worker, pid, time });
        }
    }
}
