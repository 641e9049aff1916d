//! Starting and ending workers.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::Shutdown;

use super::Dispatcher;
use super::epolls::{TOKEN_ZYGOTE, child_token};
use super::link::{LAST_ROUNDS, Link};
use crate::context::forkserver::{Answer, Requested, Unfit, Zygote};
use crate::context::{Child, END_TIME, LAST_BREATH, StartMethod, spawn, thread};
use crate::error::TaskError;
use crate::exchange::member::{Member, Notes};
use crate::pool::events::PoolEvent;
use crate::pool::schedule::{Event, NoResult, WorkerId};
use crate::pool::waker::MemberNote;
use crate::pool::worker::{WorkerInfo, WorkerState};
use crate::protocol::message::Identity;
use crate::spec::Exit;
use crate::sys::{CoordinatorPage, with_limit};

impl Dispatcher {
    fn identity(&self, worker: WorkerId) -> Identity {
        Identity { name: format!("{}-{worker}", self.spec.name), index: worker }
    }

    pub(super) fn start(&mut self, worker: WorkerId) {
        let started = match self.spec.start_method {
            StartMethod::Forkserver => self.request_fork(worker),
            StartMethod::Spawn | StartMethod::Thread => self.spawn(worker),
        };
        if let Err(reason) = started {
            self.not_started(vec![worker], reason);
        }
    }

    fn spawn(&mut self, worker: WorkerId) -> Result<(), String> {
        // Only an executed worker has its name in the setup. A zygote gets it with each request.
        let mut setup = self.spec.setup.clone();
        setup.identity = Some(self.identity(worker));
        let launch = &self.spec.launch;
        let started = match self.spec.start_method {
            StartMethod::Thread => thread::start(launch, setup, &self.spec.granted),
            StartMethod::Spawn | StartMethod::Forkserver => spawn::start(launch, setup, &self.spec.granted),
        };
        let started = started.map_err(|e| e.to_string())?;
        self.link(worker, started.socket, started.exchange, started.page)?;
        self.adopt(worker, started.child);
        self.send_rest(worker, started.unsent);
        Ok(())
    }

    fn request_fork(&mut self, worker: WorkerId) -> Result<(), String> {
        // A zygote that has died while it was idle costs this worker no try.
        if self.zygote.as_ref().is_some_and(Zygote::is_idle) {
            self.serve_zygote();
        }
        let identity = self.identity(worker);
        match &mut self.zygote {
            Some(zygote) => zygote.want(identity),
            None => {
                let mut zygote = self.start_zygote()?;
                zygote.want(identity);
                self.zygote = Some(zygote);
            }
        }
        self.serve_zygote();
        Ok(())
    }

    pub(super) fn start_zygote(&self) -> Result<Zygote, String> {
        let zygote = Zygote::start(&self.spec.launch, self.spec.setup.clone(), &self.spec.granted);
        let zygote = zygote.map_err(|e| e.to_string())?;
        epoll::add(&self.epoll.all, &zygote, EventData::new_u64(TOKEN_ZYGOTE), EventFlags::IN)
            .map_err(|e| with_limit("cannot watch the zygote", &e.into()))?;
        Ok(zygote)
    }

    fn link(
        &mut self,
        worker: WorkerId,
        socket: OwnedFd,
        exchange: Option<OwnedFd>,
        page: CoordinatorPage,
    ) -> Result<(), String> {
        // The dispatcher must never wait for one worker. The worker's own end keeps waiting: that setting
        // belongs to each end.
        rustix::io::ioctl_fionbio(&socket, true)
            .map_err(|e| with_limit("cannot watch the worker", &e.into()))?;
        let member =
            self.join(worker, exchange, &page).map_err(|e| with_limit("cannot listen to the worker", &e))?;
        self.links.insert(worker, Link::new(socket, page, member, &self.spec));
        Ok(())
    }

    /// Makes a worker with a second socket known to the exchange.
    fn join(
        &self,
        worker: WorkerId,
        socket: Option<OwnedFd>,
        page: &CoordinatorPage,
    ) -> io::Result<Option<Member>> {
        let Some((site, socket)) = self.site.as_ref().zip(socket) else { return Ok(None) };
        // Any thread calls these: they only leave a note.
        let (of_stall, of_fault) = (self.waker.clone(), self.waker.clone());
        let notes = Notes {
            on_stall: Box::new(move || of_stall.leave_note(MemberNote::Stalled(worker))),
            on_fault: Box::new(move |reason| of_fault.leave_note(MemberNote::Fault(worker, reason))),
        };
        site.join(socket, page.exchange(), &self.identity(worker).name, notes).map(Some)
    }

    /// Takes the notes of the exchange.
    pub(super) fn take_notes(&mut self) {
        for note in self.waker.take_notes() {
            match note {
                MemberNote::Stalled(worker) => self.on(Event::Stalled { worker }),
                MemberNote::Fault(worker, reason) => self.end_distrusted(worker, reason),
            }
        }
    }

    /// Takes charge of the process of a worker. The worker's socket is not read before.
    fn adopt(&mut self, worker: WorkerId, child: Child) {
        let Some(link) = self.links.get_mut(&worker) else {
            child.kill();
            child.wait();
            return;
        };
        let (of_child, of_socket) = (child_token(worker), EventData::new_u64(u64::from(worker)));
        // The process before the socket: if the second call fails, the end of the process is still noticed.
        let watched = epoll::add(&self.epoll.all, &child, EventData::new_u64(of_child), EventFlags::IN)
            .and_then(|()| epoll::add(&self.epoll.sockets, &link.socket, of_socket, EventFlags::IN));
        // It may have been killed, in the schedule's eyes, before its process id came.
        if watched.is_err() || link.fault.is_some() {
            child.kill();
        }
        let info = WorkerInfo { index: worker, pid: child.pid(), state: WorkerState::Starting };
        link.child = Some(child);
        self.reports.directory().insert(worker, info);
        self.reports.tell(|| PoolEvent::WorkerStarted { worker, pid: info.pid });
    }

    /// Reads the zygote's answers and sends it requests, as far as that goes without waiting.
    pub(super) fn serve_zygote(&mut self) {
        let Some(zygote) = &mut self.zygote else { return };
        let mut answers = Vec::new();
        match zygote.turn(&mut answers) {
            Ok(()) => {
                let flags =
                    if zygote.wants_to_send() { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
                let _gone = epoll::modify(&self.epoll.all, &*zygote, EventData::new_u64(TOKEN_ZYGOTE), flags);
                self.handle_answers(answers);
            }
            Err(unfit) => {
                if let Unfit::Violation(violation) = &unfit {
                    tracing::warn!(target: "wpool::pool", %violation, "protocol error of the zygote");
                }
                self.end_zygote(answers, &unfit.to_string());
            }
        }
    }

    fn handle_answers(&mut self, answers: Vec<Answer>) {
        for answer in answers {
            match answer {
                Answer::Asked { worker, requested } => {
                    let Requested { socket, exchange, page } = requested;
                    if let Err(reason) = self.link(worker, socket, exchange, page) {
                        self.not_started(vec![worker], reason);
                    }
                }
                Answer::Forked { worker, child } => self.adopt(worker, child),
                Answer::NotForked { workers, step, reason } => {
                    self.not_started(workers, format!("{step}: {reason}"))
                }
                Answer::Refused { reason } => self.on(Event::Broke { reason }),
            }
        }
    }

    /// Ends the zygote: what it was asked for will not come. The next worker starts another zygote.
    fn drop_zygote(&mut self, why: &str) {
        self.end_zygote(Vec::new(), why);
    }

    /// As [`drop_zygote`](Self::drop_zygote). `answers`: its last answers, which are not handled yet.
    fn end_zygote(&mut self, mut answers: Vec<Answer>, why: &str) {
        let Some(zygote) = self.zygote.take() else { return };
        let _gone = epoll::delete(&self.epoll.all, &zygote);
        // The coordinator reaps the workers that it has forked.
        // The workers that it has forked in the meantime are taken over, since their requests count as open.
        let (last, lost, exit) = zygote.end();
        answers.extend(last);
        self.handle_answers(answers);
        if !lost.is_empty() {
            self.not_started(lost, format!("the zygote is gone: {why} ({exit})"));
        }
    }

    /// Tells the callers that wait for it that all workers are ready, if they are.
    pub(super) fn tell_ready(&mut self) {
        if !self.awaiting.is_empty() && self.schedule.is_staffed() {
            for complete in self.awaiting.drain(..) {
                let _given_up_meanwhile = complete.send(());
            }
        }
    }

    /// These workers have no process that the coordinator knows.
    fn not_started(&mut self, workers: Vec<WorkerId>, reason: String) {
        for worker in &workers {
            // Asked of the zygote already: its socket is there, and no process will ever use it.
            if let Some(link) = self.links.remove(worker) {
                let _gone = epoll::delete(&self.epoll.sockets, &link.socket);
            }
        }
        self.on(Event::NotStarted { workers, reason });
    }

    /// Notes why a worker is killed while the pool goes on, if the reason is its `shutdown`.
    pub(super) fn explain_kill(&mut self, worker: WorkerId) {
        if let Some(link) = self.links.get_mut(&worker)
            && link.is_leaving()
        {
            link.fault.get_or_insert_with(|| "its shutdown took too long: it was killed".to_owned());
            tracing::warn!(target: "wpool::pool", worker, "the guest's `shutdown` took too long");
        }
    }

    pub(super) fn kill(&mut self, worker: WorkerId) {
        self.reports.set_state(worker, WorkerState::Retiring);
        if let Some(link) = self.links.get_mut(&worker) {
            // The first reason stays: a worker that broke the protocol is killed for that.
            link.fault.get_or_insert_with(|| "it was killed".to_owned());
            // For a worker that this program may not kill: a guest that asks whether it should stop ends by
            // itself.
            link.page.ask_to_stop();
            if link.child.as_ref().is_some_and(|child| !child.kill()) {
                self.disconnect(worker);
            }
        }
        if self.turn.drive.starts.contains(&worker) {
            self.turn.drive.starts.retain(|start| *start != worker);
            self.not_started(vec![worker], "it is not wanted any more".to_owned());
        }
        // The worker is not forked yet, or its process id has not come. The dispatcher does not wait for a
        // zygote that loads or hangs.
        if self.zygote.as_ref().is_some_and(|zygote| zygote.owes(worker)) {
            self.drop_zygote("its workers are not wanted");
        }
    }

    /// Ends a worker that this program may not kill, since it has changed its user: the worker ends with its
    /// socket.
    pub(super) fn disconnect(&mut self, worker: WorkerId) {
        let Some(link) = self.links.get(&worker) else { return };
        let _closed_before = rustix::net::shutdown(&link.socket, Shutdown::Both);
        self.disconnected.entry(worker).or_insert_with(Instant::now);
    }

    /// Lets go of workers that have not ended with their sockets. The pool does not wait for them.
    pub(super) fn abandon_survivors(&mut self) {
        if self.disconnected.is_empty() {
            return;
        }
        let is_survivor = |(_, since): &(&WorkerId, &Instant)| since.elapsed() > END_TIME;
        let survivors: Vec<WorkerId> =
            self.disconnected.iter().filter(is_survivor).map(|(id, _)| *id).collect();
        for worker in survivors {
            let reason =
                "it may not be killed by this program any more, and does not end by itself".to_owned();
            tracing::warn!(target: "wpool::pool", worker, "{reason}");
            self.let_go(worker, Exit::Unknown, Some(reason));
        }
    }

    /// The worker has said that it gives up. It only has to end, for which it has little time: in an
    /// attacker's hands it would hold its place and its tasks for ever.
    pub(super) fn give_up(&mut self, worker: WorkerId) {
        self.given_up.insert(worker, self.now().saturating_add(LAST_BREATH));
    }

    /// Kills the workers that have given up and have not ended in time.
    pub(super) fn end_given_up(&mut self) {
        if self.given_up.is_empty() {
            return;
        }
        let now = self.now();
        let overdue: Vec<WorkerId> =
            self.given_up.extract_if(|_, until| *until <= now).map(|(worker, _)| worker).collect();
        for worker in overdue {
            self.kill(worker);
        }
    }

    /// The worker's process has ended. What is still in its socket counts.
    pub(super) fn reap(&mut self, worker: WorkerId) {
        let Some(exit) = self.links.get(&worker).and_then(|l| l.child.as_ref()).and_then(Child::try_wait)
        else {
            return;
        };
        // Results that were sent before the death count. The order matters: behind `let_go` there is no link
        // to read from.
        self.serve_socket(worker, LAST_ROUNDS);
        self.let_go(worker, exit, None);
    }

    /// Forgets a worker that has ended, or that is given up for `reason`.
    fn let_go(&mut self, worker: WorkerId, exit: Exit, reason: Option<String>) {
        let Some(mut link) = self.links.remove(&worker) else { return };
        // Before a task has its outcome: what the worker held is then free, and what it had not taken is
        // back.
        drop(link.member.take());
        self.disconnected.remove(&worker);
        self.given_up.remove(&worker);
        let _gone = epoll::delete(&self.epoll.sockets, &link.socket);
        // The profile of a killed worker is not complete.
        // The event before `WorkerExited`, which is a worker's last one.
        if !link.profile.is_empty() && matches!(exit, Exit::Code(_)) {
            let profile: Arc<[u8]> = std::mem::take(&mut link.profile).into();
            self.reports.tell(|| PoolEvent::WorkerProfiled { worker, profile });
        }
        if let Some(child) = &link.child {
            let _gone = epoll::delete(&self.epoll.all, child);
        }
        self.reports.directory().remove(&worker);
        self.reports.ledger().gone(worker);
        let reason = reason.or(link.fault).unwrap_or_else(|| unasked_end(exit));
        let (pid, exitcode) = (link.child.as_ref().map_or(0, Child::pid), exit.exitcode());
        self.reports.tell(|| PoolEvent::WorkerExited { worker, pid, exitcode, reason: reason.clone() });
        // `retry_on` is asked only if the worker held a task.
        let retriable = self.schedule.is_busy(worker)
            && self.is_worth_retrying(&if self.schedule.has_timed_out(worker) {
                self.verdict(NoResult::TimedOut)
            } else {
                TaskError::WorkerLost { exitcode, reason: reason.clone() }
            });
        // Read after the death: the count cannot change any more.
        self.on(Event::Gone { worker, started: link.page.started(), retriable, exitcode, reason });
    }

    /// When signs of life are to be looked at next. `None`: events have no receiver, or the workers are
    /// threads, which show no signs.
    pub(super) fn heartbeats_due(&self) -> Option<Duration> {
        let is_heard = self.reports.are_heard() && self.spec.start_method != StartMethod::Thread;
        // Four looks in the time: a silence is then noticed after five quarters of it at the latest.
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
            let is_busy = self.schedule.is_busy(worker);
            let time = link.heartbeat.note(link.page.beats(), is_busy, now, self.spec.heartbeat);
            silent.extend(link.child.as_ref().zip(time).map(|(child, time)| (worker, child.pid(), time)));
        }
        for (worker, pid, time) in silent {
            self.reports.tell(|| PoolEvent::WorkerSilent { worker, pid, time });
        }
    }
}

/// The reason of an end that the coordinator has not caused.
fn unasked_end(exit: Exit) -> String {
    match exit {
        Exit::Signal(libc::SIGKILL) => {
            "SIGKILL (not from wpool; perhaps the machine is out of memory)".to_owned()
        }
        exit => exit.to_string(),
    }
}
