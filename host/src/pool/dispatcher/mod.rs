//! The pool's one thread. It owns the sockets and processes of the workers, turns what happens into events,
//! and carries out what the [`Schedule`] decides. It never blocks on a worker or on the zygote.

mod act;
mod arena;
mod command;
mod feed;
mod heartbeat;
mod jobs;
mod link;
mod reports;
mod staff;
mod turn;

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec};
use rustix::io::Errno;

pub(super) use self::arena::Parked;
pub(super) use self::command::{Command, RetryOn, Spec};
use self::jobs::Jobs;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::link::fuzzing::link as fuzz_link;
use self::link::{InstancesSeen, Link, ROUNDS};
use self::reports::Reports;
use self::turn::Turn;
use super::schedule::{Config, Event, NoResult, Schedule, WorkerId};
use super::stats::Ledger;
use super::waker::{Changes, Waker};
use super::worker::Directory;
use crate::context::StartMethod;
use crate::context::forkserver::Zygote;
use crate::error::TaskError;
use crate::{clock, sys};

/// The state of the pool's thread.
pub(super) struct Dispatcher {
    spec: Spec,
    schedule: Schedule,
    turn: Turn,
    /// Tells what it waits for: the waker, the zygote, and each worker's socket and process.
    epoll: OwnedFd,
    waker: Waker,
    commands: Receiver<Command>,
    /// The beginning of the schedule's time.
    epoch: Instant,
    jobs: Jobs,
    /// A buffer, kept for its memory.
    changes: Changes,
    links: HashMap<WorkerId, Link>,
    /// Workers that are not read until there is room for their results.
    paused: HashSet<WorkerId>,
    /// Workers that this program may not kill, and since when their sockets are shut.
    disconnected: HashMap<WorkerId, Instant>,
    zygote: Option<Zygote>,
    instances: InstancesSeen,
    /// Who waits until all workers are ready.
    awaiting: Vec<Sender<()>>,
    reports: Reports,
}

const TOKEN_WAKER: u64 = 0;
const TOKEN_ZYGOTE: u64 = 1;
const TOKEN_WORKERS: u64 = 2;

fn socket_token(worker: WorkerId) -> u64 {
    TOKEN_WORKERS + u64::from(worker) * 2
}

fn child_token(worker: WorkerId) -> u64 {
    socket_token(worker) + 1
}

impl Dispatcher {
    pub(super) fn new(
        spec: Spec,
        config: Config,
        waker: Waker,
        commands: Receiver<Command>,
        directory: Arc<Mutex<Directory>>,
        ledger: Arc<Mutex<Ledger>>,
    ) -> io::Result<Dispatcher> {
        let epoll = sys::above_stdio(epoll::create(epoll::CreateFlags::CLOEXEC)?)?;
        epoll::add(&epoll, &waker, EventData::new_u64(TOKEN_WAKER), EventFlags::IN)?;
        Ok(Dispatcher {
            reports: Reports::new(spec.sink.clone(), directory, ledger),
            spec,
            schedule: Schedule::new(config),
            turn: Turn::default(),
            epoll,
            waker,
            commands,
            epoch: clock::now(),
            jobs: Jobs::default(),
            changes: Changes::default(),
            links: HashMap::new(),
            paused: HashSet::new(),
            disconnected: HashMap::new(),
            zygote: None,
            instances: InstancesSeen::None { failures: 0 },
            awaiting: Vec::new(),
        })
    }

    /// Runs until the pool is over and every worker is gone. Gives the reason if the pool broke.
    pub(super) fn run(mut self) -> Option<String> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(64);
        if self.spec.start_method == StartMethod::Forkserver && self.spec.launch.program.has_early() {
            // The zygote loads the module while the first records are read. If it cannot start now, the start
            // of the first worker will give the reason.
            self.zygote = self.start_zygote().ok();
        }
        // An eager pool begins without a command.
        self.tick();
        while !self.turn.is_finished {
            events.clear();
            if self.wait(&mut events).is_err() {
                return Some(self.abandon());
            }
            // As soon as it is awake: until then, each `wake` would cost a system call for nothing.
            self.waker.wake_up();
            for event in &events {
                self.dispatch(event.data.u64());
                self.jobs.announce();
            }
            // What is left for the dispatcher from here on is pending again.
            self.waker.begin_look();
            // Behind `begin_look`: what comes after this look sets the flag again, so that the next turn does
            // not sleep.
            self.take_changes();
            self.forget_plans();
            self.make_room();
            // Last: a worker's answer that has come counts, although its time is over by now.
            if self.schedule.next_tick().is_some_and(|due| due <= self.now()) {
                self.tick();
            }
            self.check_heartbeats();
            self.abandon_survivors();
            self.feed();
            self.jobs.announce();
        }
        // These jobs have records that came too late even for the schedule: their input has not ended.
        let verdict = self.schedule.verdict();
        let error = self.verdict(verdict.clone());
        self.jobs.finish(&error);
        match verdict {
            NoResult::Broken { reason } => Some(reason),
            NoResult::Lost { .. } | NoResult::TimedOut | NoResult::Cancelled => None,
        }
        // The zygote ends with its handle.
    }

    /// Waits until something has happened or is due: first for a moment without sleeping, if that pays.
    fn wait(&mut self, events: &mut Vec<epoll::Event>) -> Result<(), Errno> {
        let due = self.schedule.next_tick().into_iter().chain(self.heartbeats_due()).min();
        let timeout = due.map(|due| due.saturating_sub(self.now()));
        // An event is likely to come within a moment if a worker is busy. Looking for it needs a free
        // processor.
        let may_spin = crate::spin::pays(self.schedule.busy());
        if may_spin && crate::spin::until(|| self.look(events) || self.waker.is_pending()) {
            return Ok(());
        }
        if !self.waker.may_sleep() {
            self.look(events);
            return Ok(());
        }
        let waited = clock::nap(timeout, |timeout| {
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(timeout))
        });
        match waited {
            // An interrupted wait is a turn without events.
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Looks for what has happened, without waiting. `false`: nothing has.
    fn look(&self, events: &mut Vec<epoll::Event>) -> bool {
        let now = Timespec::default();
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&now))
            .is_ok_and(|count| count > 0)
    }

    /// Ends the pool after this program has closed all descriptors, those of the dispatcher among them. Their
    /// numbers may belong to other files now, so that no descriptor is closed or written to. The workers see
    /// the ends of their sockets, and of this thread. Gives the reason.
    fn abandon(&mut self) -> String {
        let reason = "its descriptors were closed by this program, which it cannot go on without".to_owned();
        let links = std::mem::take(&mut self.links);
        let running: Vec<(WorkerId, u64)> =
            links.iter().map(|(id, link)| (*id, link.page.started())).collect();
        std::mem::forget((links, self.zygote.take(), self.waker.clone()));
        if let Ok(unused) = rustix::event::eventfd(0, EventfdFlags::CLOEXEC) {
            std::mem::forget(std::mem::replace(&mut self.epoll, unused));
        }
        self.reports.directory().clear();
        // Each task still has its outcome.
        self.on(Event::Broke { reason: reason.clone() });
        for (worker, started) in running {
            let reason = reason.clone();
            self.on(Event::Gone { worker, started, retriable: false, exitcode: None, reason });
        }
        self.jobs.finish(&TaskError::Broken { reason: reason.clone() });
        reason
    }

    fn now(&self) -> Duration {
        clock::now().saturating_duration_since(self.epoch)
    }

    fn dispatch(&mut self, token: u64) {
        match token {
            TOKEN_WAKER => self.waker.clear(),
            TOKEN_ZYGOTE => self.serve_zygote(),
            token => {
                let Ok(worker) = WorkerId::try_from((token - TOKEN_WORKERS) / 2) else { return };
                if token == socket_token(worker) {
                    self.serve_socket(worker, ROUNDS);
                } else {
                    self.reap(worker);
                }
            }
        }
    }
}
