//! The dispatcher. It owns the sockets and processes of the workers, turns what happens into events, and
//! carries out what the [`Schedule`] decides. It never blocks on a worker or on the zygote.
//!
//! Its thread does its work; for a moment a thread that waits for the outcome of its one task may do it
//! instead (see [`driver`]).

mod act;
mod arena;
mod command;
mod driver;
mod epolls;
mod feed;
mod heartbeat;
mod jobs;
mod link;
mod reports;
mod staff;
mod turn;

use std::collections::{HashMap, HashSet};
use std::io;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};

pub(super) use self::arena::Parked;
pub(super) use self::command::{Command, RetryOn, Spec};
pub(super) use self::driver::Driver;
use self::epolls::{Epolls, TOKEN_CHILDREN, TOKEN_SOCKETS, TOKEN_WAKER, TOKEN_ZYGOTE};
use self::jobs::Jobs;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::link::fuzzing::link as fuzz_link;
use self::link::{InstancesSeen, Link, ROUNDS};
use self::reports::Reports;
use self::turn::{AfterTurn, Drive, Turn};
use super::schedule::{Config, Event, JobId, NoResult, Schedule, WorkerId};
use super::stats::Ledger;
use super::waker::{Changes, Waker};
use super::worker::Directory;
use crate::clock;
use crate::context::StartMethod;
use crate::context::forkserver::Zygote;
use crate::error::TaskError;
use crate::exchange::member::Site;

/// The state of the dispatcher.
pub(super) struct Dispatcher {
    spec: Spec,
    schedule: Schedule,
    turn: Turn,
    epoll: Arc<Epolls>,
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
    /// Workers that have said that they give up, and when each is killed unless it has ended.
    given_up: HashMap<WorkerId, Duration>,
    zygote: Option<Zygote>,
    instances: InstancesSeen,
    /// Who waits until all workers are ready.
    awaiting: Vec<Sender<()>>,
    reports: Reports,
    /// What its workers are to the exchange. `None`: their guests share no objects.
    site: Option<Site>,
    /// When its thread, which sleeps, wakes by itself. `None`: not for what is due.
    wakes_at: Option<Duration>,
}

/// The most events of one look.
const EVENTS: usize = 64;

impl Dispatcher {
    pub(super) fn new(
        spec: Spec,
        config: Config,
        waker: Waker,
        commands: Receiver<Command>,
        directory: Arc<Mutex<Directory>>,
        ledger: Arc<Mutex<Ledger>>,
    ) -> io::Result<Dispatcher> {
        let epoll = Epolls::new()?;
        epoll::add(&epoll.all, &waker, EventData::new_u64(TOKEN_WAKER), EventFlags::IN)?;
        let site = spec.setup.exchange.then(|| Site::new(spec.granted.shares().clone(), config.processes));
        site.iter().for_each(|site| waker.set_site(site.name()));
        Ok(Dispatcher {
            site,
            reports: Reports::new(spec.sink.clone(), directory, ledger),
            spec,
            schedule: Schedule::new(config),
            turn: Turn::default(),
            epoll: Arc::new(epoll),
            waker,
            commands,
            epoch: clock::now(),
            jobs: Jobs::default(),
            changes: Changes::default(),
            links: HashMap::new(),
            paused: HashSet::new(),
            disconnected: HashMap::new(),
            given_up: HashMap::new(),
            zygote: None,
            instances: InstancesSeen::None { failures: 0 },
            awaiting: Vec::new(),
            wakes_at: None,
        })
    }

    /// Whether no function of the application is called by the dispatcher.
    fn calls_nothing(&self) -> bool {
        self.spec.retry_on.is_none() && !self.spec.sink.has_listener()
    }

    /// Its thread has started.
    fn begin(&mut self) {
        if self.spec.start_method == StartMethod::Forkserver && self.spec.launch.program.has_early() {
            // The zygote loads the module while the first records are read. If it cannot start now, the start
            // of the first worker will give the reason.
            self.zygote = self.start_zygote().ok();
        }
        // An eager pool begins without a command.
        self.tick();
    }

    /// Everything is over. Gives the reason if the pool broke.
    fn end(mut self) -> Option<String> {
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

    fn is_finished(&self) -> bool {
        self.turn.is_finished
    }

    fn has_workers(&self) -> bool {
        !self.links.is_empty()
    }

    /// A turn of its thread: handles what has happened, and what other threads have left.
    fn turn(&mut self, events: &[epoll::Event]) {
        for worker in std::mem::take(&mut self.turn.drive.starts) {
            self.start(worker);
        }
        for event in events {
            self.dispatch(event.data.u64());
            self.jobs.announce();
        }
        self.catch_up_with_others();
    }

    /// Handles what other threads have left, and what is due.
    fn catch_up_with_others(&mut self) {
        // What is left for the dispatcher from here on is pending again.
        self.waker.begin_look();
        // Behind `begin_look`: what comes after this look sets the flag again, so that the next turn does
        // not sleep.
        self.take_changes();
        self.take_notes();
        self.forget_plans();
        self.make_room();
        // Last: a worker's answer that has come counts, although its time is over by now.
        if self.schedule.next_tick().is_some_and(|due| due <= self.now()) {
            self.tick();
        }
        self.check_heartbeats();
        self.abandon_survivors();
        self.end_given_up();
        self.feed();
        self.jobs.announce();
    }

    /// A turn of the thread that waits for this job.
    fn turn_of_caller(&mut self, job: JobId) -> AfterTurn {
        if self.is_finished() || !self.begin_drive(job) {
            return AfterTurn::Leave;
        }
        self.turn.drive.is_on = true;
        let has_served = self.serve_sockets();
        if self.waker.is_pending() {
            self.catch_up_with_others();
        } else if has_served {
            self.feed();
        }
        self.turn.drive.is_on = false;
        let Drive { has_company, starts, .. } = &self.turn.drive;
        // A worker that gives up has a deadline, which the dispatcher's thread keeps.
        let is_over = *has_company || !starts.is_empty() || !self.given_up.is_empty() || self.is_finished();
        if is_over { AfterTurn::Leave } else { AfterTurn::GoOn }
    }

    /// `false`: other jobs need the dispatcher.
    fn begin_drive(&mut self, job: JobId) -> bool {
        if self.turn.drive.job == Some(job) {
            return !self.turn.drive.has_company;
        }
        // The dispatcher's thread may have sent the job's own task already. The task is held then: the job is
        // open, and nothing of it is queued.
        let holds_it = self.jobs.get(&job).is_some() && self.schedule.queued(job) == 0;
        let is_alone = self.schedule.busy() <= usize::from(holds_it);
        if is_alone {
            self.turn.drive.job = Some(job);
            self.epoll.hear_sockets(false);
        } else {
            self.turn.drive.has_company = true;
        }
        is_alone
    }

    /// The caller goes. Whether the dispatcher's thread must not sleep on.
    fn end_drive(&mut self) -> bool {
        let drive = &mut self.turn.drive;
        drive.has_company = false;
        if drive.job.take().is_some() {
            self.epoll.hear_sockets(true);
        }
        let is_earlier = |due| self.wakes_at.is_none_or(|wakes_at| due < wakes_at);
        !self.turn.drive.starts.is_empty() || self.is_finished() || self.next_due().is_some_and(is_earlier)
    }

    /// Its thread is about to sleep. Gives the time until something is due.
    fn lie_down(&mut self) -> Option<Duration> {
        // The caller that drives may get no processor time: only its own job waits for it.
        if self.turn.drive.job.is_some() && self.turn.drive.has_company {
            self.epoll.hear_sockets(true);
        }
        self.wakes_at = self.next_due();
        self.wakes_at.map(|due| due.saturating_sub(self.now()))
    }

    fn next_due(&self) -> Option<Duration> {
        let given_up = self.given_up.values().copied();
        self.schedule.next_tick().into_iter().chain(self.heartbeats_due()).chain(given_up).min()
    }

    /// Looks for what has happened, without waiting. `false`: nothing has.
    fn look(&self, events: &mut Vec<epoll::Event>) -> bool {
        let now = Timespec::default();
        epoll::wait(&self.epoll.all, rustix::buffer::spare_capacity(events), Some(&now))
            .is_ok_and(|count| count > 0)
    }

    /// Reads what workers have sent. `false`: nothing has come.
    fn serve_sockets(&mut self) -> bool {
        let mut room = [const { MaybeUninit::uninit() }; EVENTS];
        let now = Timespec::default();
        let looked = epoll::wait(&self.epoll.sockets, &mut room, Some(&now));
        // The others come with the next look.
        let Ok((events, _)) = looked else { return false };
        for event in &*events {
            if let Ok(worker) = WorkerId::try_from(event.data.u64()) {
                self.serve_socket(worker, ROUNDS);
                self.jobs.announce();
            }
        }
        !events.is_empty()
    }

    /// Ends the pool after this program has closed all descriptors, those of the dispatcher among them. Their
    /// numbers may belong to other files now, so that no descriptor is closed or written to. The workers see
    /// the ends of their sockets, and of this thread. Gives the reason.
    fn abandon(&mut self) -> String {
        let reason = "its descriptors were closed by this program, which it cannot go on without".to_owned();
        let links = std::mem::take(&mut self.links);
        let running: Vec<(WorkerId, u64)> =
            links.iter().map(|(id, link)| (*id, link.page.started())).collect();
        std::mem::forget((links, self.zygote.take(), self.waker.clone(), self.epoll.clone()));
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
        let clock = || clock::now().saturating_duration_since(self.epoch);
        self.turn.read_at.unwrap_or_else(clock)
    }

    fn dispatch(&mut self, token: u64) {
        match token {
            TOKEN_WAKER => self.waker.clear(),
            TOKEN_ZYGOTE => self.serve_zygote(),
            TOKEN_SOCKETS => {
                self.serve_sockets();
            }
            token => {
                if let Ok(worker) = WorkerId::try_from(token - TOKEN_CHILDREN) {
                    self.reap(worker);
                }
            }
        }
    }
}
