//! The pool's one thread: it owns the workers' sockets and processes, turns what happens into events, and carries out what the
//! [`Schedule`] decides. It never blocks on a worker; a request to the zygote is small enough for its socket.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec};
use rustix::net::{RecvFlags, SendFlags};

use super::job::{By, InputChunk, Job, ResultChunk};
use super::schedule::{Action, Config, Event, JobId, Schedule, Verdict, WorkerId};
use super::{WorkerInfo, WorkerState};
use crate::context::forkserver::{Answer, Zygote};
use crate::context::{Child, Exit, StartMethod, spawn, thread};
use crate::limits::{Limit, Limits};
use crate::module::Module;
use crate::protocol::frame::{self, Frame, Kind, Violation};
use crate::protocol::message::{self, Batch, Call, Failure, FromWorker, Identity, Setup, ToWorker};
use crate::sys::StatusPage;

/// How much is read from a worker at once.
const READ_LEN: usize = 256 << 10;
/// How often in a row one worker is read before the others have their turn.
const ROUNDS: usize = 8;
/// How often a worker is read whose process has ended. Its socket held a few hundred KiB at most; whoever writes more is a process that it
/// left behind, and not listened to.
const LAST_ROUNDS: usize = 64;
/// No more input is taken from a job that has this many tasks queued: it waits on its own side, where its window bounds it.
const QUEUE_LEN: u64 = 1 << 14;
/// Bytes of any message of a worker's but a result, beside the output that it may hold. A failure's message is cut by the worker long before.
const MESSAGE_LEN_MAX: usize = 1 << 20;
/// What comes before a result: stdout, stderr and the time. A worker that sends them without end would fill our memory.
const ATTACHMENTS_MAX: usize = 3;
/// Bytes of memory a worker's read buffer keeps when it is empty.
const BUFFER_KEPT: usize = 1 << 20;

/// Wakes the dispatcher from any thread.
#[derive(Debug, Clone)]
pub(crate) struct Waker(Arc<OwnedFd>);

impl Waker {
    pub(super) fn new() -> io::Result<Waker> {
        Ok(Waker(Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    pub(crate) fn wake(&self) {
        // Full means that a wake-up is pending already.
        let _pending = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }

    fn clear(&self) {
        let _empty = rustix::io::read(&*self.0, &mut [0; 8]);
    }
}

/// What the pool's handle asks for.
pub(super) enum Command {
    Job { job: Arc<Job>, call: Option<Call> },
    Close,
    Terminate,
}

/// What every worker is started with.
pub(super) struct Spec {
    pub(super) module: Module,
    pub(super) limits: Limits,
    pub(super) start_method: StartMethod,
    pub(super) setup: Setup,
    pub(super) retry_on: fn(&Failure) -> bool,
    pub(super) name: String,
}

/// A worker as the coordinator sees it.
struct Link {
    socket: OwnedFd,
    page: StatusPage,
    /// `None` until the zygote has said which process it is.
    child: Option<Child>,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    /// How much of `outgoing` is sent.
    sent: usize,
    /// The socket is registered for writing.
    wants_write: bool,
    stage: Stage,
    plans: Vec<u32>,
    /// Why we ended it, if we did.
    fault: Option<String>,
    /// It broke the protocol: what it says is not listened to any more.
    distrusted: bool,
}

/// How far a worker's start has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Silent,
    Greeted,
    Ready,
}

/// A job and the records that are still needed.
struct OpenJob {
    job: Arc<Job>,
    chunks: VecDeque<InputChunk>,
    ended: bool,
    cancelled: bool,
}

impl Drop for OpenJob {
    /// Whatever becomes of the dispatcher, nobody waits for ever.
    fn drop(&mut self) {
        self.job.finish(&Failure::Cancelled);
    }
}

pub(super) struct Dispatcher {
    spec: Spec,
    schedule: Schedule,
    epoll: OwnedFd,
    waker: Waker,
    commands: Receiver<Command>,
    epoch: Instant,
    links: HashMap<WorkerId, Link>,
    jobs: HashMap<JobId, OpenJob>,
    plans: HashMap<u32, Call>,
    zygote: Option<Zygote>,
    directory: Arc<Mutex<Vec<WorkerInfo>>>,
    actions: Vec<Action>,
    /// What has happened while actions were being carried out. It waits: the actions at hand were decided without it.
    events: VecDeque<Event>,
    acting: bool,
    finished: bool,
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
        directory: Arc<Mutex<Vec<WorkerInfo>>>,
    ) -> io::Result<Dispatcher> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &*waker.0, EventData::new_u64(TOKEN_WAKER), EventFlags::IN)?;
        Ok(Dispatcher {
            spec,
            schedule: Schedule::new(config),
            epoll,
            waker,
            commands,
            epoch: Instant::now(),
            links: HashMap::new(),
            jobs: HashMap::new(),
            plans: HashMap::new(),
            zygote: None,
            directory,
            actions: Vec::new(),
            events: VecDeque::new(),
            acting: false,
            finished: false,
        })
    }

    /// Runs until the pool is over and every worker is gone. Gives the reason if it broke.
    pub(super) fn run(mut self) -> Option<String> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(64);
        while !self.finished {
            let timeout = self.schedule.next_tick().map(|due| due.saturating_sub(self.now()));
            let timeout = timeout.map(|t| Timespec::try_from(t).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 }));
            events.clear();
            // An interrupted or failed wait is a turn without events; the tick below is right in any case.
            let _interrupted = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref());
            for event in &events {
                self.dispatch(event.data.u64());
            }
            self.obey();
            self.feed();
            if self.schedule.next_tick().is_some_and(|due| due <= self.now()) {
                self.tick();
            }
        }
        // Jobs whose input never ended have records left that came too late even for the schedule.
        let verdict = self.schedule.verdict();
        let failure = self.failure(verdict.clone());
        for (_, open) in self.jobs.drain() {
            open.job.finish(&failure);
        }
        match verdict {
            Verdict::Broken { reason } => Some(reason),
            Verdict::Lost { .. } | Verdict::TimedOut | Verdict::Cancelled => None,
        }
        // The zygote ends with its handle.
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn dispatch(&mut self, token: u64) {
        match token {
            TOKEN_WAKER => self.waker.clear(),
            TOKEN_ZYGOTE => self.hear_zygote(),
            token => {
                let Ok(worker) = WorkerId::try_from((token - TOKEN_WORKERS) / 2) else { return };
                match token == socket_token(worker) {
                    true => self.serve_socket(worker, ROUNDS),
                    false => self.bury(worker),
                }
            }
        }
    }

    fn on(&mut self, event: Event) {
        self.events.push_back(event);
        if self.acting {
            return;
        }
        while let Some(event) = self.events.pop_front() {
            self.decide(event, Self::act);
        }
    }

    /// Asks the schedule about one event and carries out each action with `act`.
    fn decide(&mut self, event: Event, mut act: impl FnMut(&mut Self, Action)) {
        let mut actions = std::mem::take(&mut self.actions);
        self.schedule.on(self.now(), event, &mut actions);
        self.acting = true;
        for action in actions.drain(..) {
            act(self, action);
        }
        self.acting = false;
        self.actions = actions;
    }

    /// As [`Dispatcher::on`], for answers: `deliver` gets what the schedule assigns to them.
    fn on_answer(&mut self, event: Event, mut deliver: impl FnMut(&mut Self, JobId, u64, u64, u32)) {
        self.decide(event, |this, action| match action {
            Action::Deliver { job, first, count, attempt } => deliver(this, job, first, count, attempt),
            other => this.act(other),
        });
        while let Some(event) = self.events.pop_front() {
            self.decide(event, Self::act);
        }
    }

    fn tick(&mut self) {
        let busy: Vec<(WorkerId, u64)> = self
            .links
            .iter()
            .filter(|(id, _)| self.schedule.is_busy(**id))
            .map(|(id, link)| (*id, link.page.started()))
            .collect();
        for (worker, started) in busy {
            self.on(Event::Progress { worker, started });
        }
        self.on(Event::Tick);
    }

    // What comes from the pool's users.

    fn obey(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Job { job, call } => {
                    if let Some(call) = call {
                        self.plans.insert(job.plan, call);
                    }
                    let open = OpenJob { job: job.clone(), chunks: VecDeque::new(), ended: false, cancelled: false };
                    self.jobs.insert(job.id, open);
                    // Before any `Close` that was asked for after it.
                    self.on(Event::Opened { job: job.id });
                }
                Command::Close => self.on(Event::Close),
                Command::Terminate => self.on(Event::Terminate),
            }
        }
    }

    /// Takes records from the jobs as far as there is use for them.
    fn feed(&mut self) {
        // Of a thousand jobs most have given all they have, and are not to be looked into.
        let wants = |open: &OpenJob| !open.ended || (!open.cancelled && open.job.is_cancelled());
        let ids: Vec<JobId> = self.jobs.iter().filter(|(_, open)| wants(open)).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(open) = self.jobs.get_mut(&id) else { continue };
            if !open.cancelled && open.job.is_cancelled() {
                open.cancelled = true;
                self.take_from(id);
                self.on(Event::Cancelled { job: id });
            } else if self.schedule.queued(id) < QUEUE_LEN {
                self.take_from(id);
                // While tasks are queued, the end of a running one brings us here again. Otherwise the next record has to.
                while self.schedule.queued(id) == 0 && self.jobs.get(&id).is_some_and(|open| !open.job.await_input()) {
                    self.take_from(id);
                }
            }
        }
    }

    fn take_from(&mut self, id: JobId) {
        let Some(open) = self.jobs.get_mut(&id).filter(|open| !open.ended) else { return };
        let taken = open.job.take_input();
        open.ended = taken.ended;
        let (mut count, mut bytes) = (0, 0);
        for chunk in taken.chunks {
            count += chunk.count();
            bytes += chunk.bytes();
            open.chunks.push_back(chunk);
        }
        if count > 0 {
            self.on(Event::Submitted { job: id, count, bytes });
        }
        if taken.ended {
            self.on(Event::InputEnded { job: id });
        }
    }

    // What the schedule wants.

    fn act(&mut self, action: Action) {
        match action {
            Action::Start { worker } => self.start(worker),
            Action::Send { worker, job, first, count, attempt } => self.send(worker, job, first, count, attempt),
            Action::Deliver { .. } => {
                unreachable!("only answers of a worker deliver, and they go through on_answer")
            }
            Action::Retry { job, task, attempt } => {
                tracing::debug!(job, task, attempt, "task will be tried again");
            }
            Action::Give { job, first, count, attempt, verdict } => {
                let failure = self.failure(verdict);
                let by = By { attempt, ..By::default() };
                self.deliver(job, ResultChunk::failure(first, count, &failure, by));
            }
            Action::JobDone { job } => {
                // Dropped, and thereby finished.
                self.jobs.remove(&job);
            }
            Action::Retire { worker } => {
                self.set_state(worker, WorkerState::Retiring);
                self.tell(worker, &ToWorker::Shutdown);
            }
            Action::Kill { worker } => self.kill(worker),
            Action::Finished => self.finished = true,
        }
    }

    fn failure(&self, verdict: Verdict) -> Failure {
        match verdict {
            Verdict::Lost { exitcode, reason } => Failure::Lost { exitcode, reason },
            Verdict::TimedOut => Failure::Limit {
                limit: Limit::Time,
                message: format!(
                    "timeout after {:?} (it did not stop by itself: its worker was {})",
                    self.spec.limits.time.unwrap_or_default(),
                    self.spec.start_method.last_resort()
                ),
            },
            Verdict::Cancelled => Failure::Cancelled,
            Verdict::Broken { reason } => Failure::Broken { reason },
        }
    }

    /// Hands outcomes to whoever waits, and drops the records that nobody needs any more.
    fn deliver(&mut self, job: JobId, chunk: ResultChunk) {
        let Some(open) = self.jobs.get_mut(&job) else { return };
        let (mut first, mut left) = (chunk.first, chunk.count);
        let mut released = 0;
        while left > 0 {
            let at = open.chunks.partition_point(|c| c.first + c.count() <= first);
            let Some(input) = open.chunks.get_mut(at) else { break };
            let part = left.min(input.first + input.count() - first);
            input.open -= part;
            (first, left) = (first + part, left - part);
            if input.open == 0 {
                released += input.bytes() - 4 * input.count();
                // Wherever it is: one slow task at the front must not keep all that has been done behind it.
                open.chunks.remove(at);
            }
        }
        open.job.deliver(chunk, released);
    }

    // Starting and ending workers.

    fn identity(&self, worker: WorkerId) -> Identity {
        Identity { name: format!("{}-{worker}", self.spec.name), index: worker }
    }

    fn start(&mut self, worker: WorkerId) {
        let started = match self.spec.start_method {
            StartMethod::Forkserver => self.request_fork(worker),
            StartMethod::Spawn | StartMethod::Thread => self.spawn(worker),
        };
        if let Err(reason) = started {
            self.lose(vec![worker], reason);
        }
    }

    fn spawn(&mut self, worker: WorkerId) -> Result<(), String> {
        let mut setup = self.spec.setup.clone();
        setup.identity = Some(self.identity(worker));
        let module = &self.spec.module;
        let started = match self.spec.start_method {
            StartMethod::Thread => thread::start(module, setup),
            StartMethod::Spawn | StartMethod::Forkserver => spawn::start(module.program(), setup, module.artefact()),
        };
        let started = started.map_err(|e| e.to_string())?;
        self.link(worker, started.socket, started.page)?;
        self.adopt(worker, started.child);
        Ok(())
    }

    fn request_fork(&mut self, worker: WorkerId) -> Result<(), String> {
        let identity = self.identity(worker);
        let asked = self.zygote.as_mut().and_then(|zygote| zygote.request(identity.clone()).ok());
        let requested = match asked {
            Some(requested) => requested,
            None => {
                // One that does not listen any more has died this moment: that costs this worker no try.
                self.drop_zygote("it died");
                let mut zygote = self.start_zygote()?;
                let requested = zygote.request(identity);
                match requested {
                    Ok(requested) => {
                        self.zygote = Some(zygote);
                        requested
                    }
                    Err(e) => {
                        let (_, _, exit) = zygote.end();
                        return Err(format!("the zygote is gone: {e} ({exit})"));
                    }
                }
            }
        };
        self.link(worker, requested.socket, requested.page)
    }

    fn start_zygote(&self) -> Result<Zygote, String> {
        let module = &self.spec.module;
        let zygote =
            Zygote::start(module.program(), self.spec.setup.clone(), module.artefact()).map_err(|e| e.to_string())?;
        epoll::add(&self.epoll, &zygote, EventData::new_u64(TOKEN_ZYGOTE), EventFlags::IN)
            .map_err(|e| e.to_string())?;
        Ok(zygote)
    }

    fn link(&mut self, worker: WorkerId, socket: OwnedFd, page: StatusPage) -> Result<(), String> {
        rustix::io::ioctl_fionbio(&socket, true).map_err(|e| format!("cannot watch the worker: {e}"))?;
        let link = Link {
            socket,
            page,
            child: None,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
            wants_write: false,
            stage: Stage::Silent,
            plans: Vec::new(),
            fault: None,
            distrusted: false,
        };
        self.links.insert(worker, link);
        Ok(())
    }

    /// Takes charge of the process behind a worker, which is not listened to before.
    fn adopt(&mut self, worker: WorkerId, child: Child) {
        let Some(link) = self.links.get_mut(&worker) else {
            child.kill();
            child.wait();
            return;
        };
        let socket_token = EventData::new_u64(socket_token(worker));
        let watched = epoll::add(&self.epoll, &child, EventData::new_u64(child_token(worker)), EventFlags::IN)
            .and_then(|()| epoll::add(&self.epoll, &link.socket, socket_token, EventFlags::IN));
        if watched.is_err() || link.fault.is_some() {
            child.kill();
        }
        let info = WorkerInfo { index: worker, pid: child.pid(), state: WorkerState::Starting };
        link.child = Some(child);
        self.directory().push(info);
    }

    fn hear_zygote(&mut self) {
        let Some(zygote) = &mut self.zygote else { return };
        let mut answers = Vec::new();
        let open = zygote.read(|answer| answers.push(answer));
        self.heed(answers);
        if open != Ok(true) {
            self.drop_zygote("it died");
        }
    }

    fn heed(&mut self, answers: Vec<Answer>) {
        for answer in answers {
            match answer {
                Answer::Forked { worker, pid } => match Child::open(pid) {
                    Ok(child) => self.adopt(worker, child),
                    Err(e) => self.lose(vec![worker], format!("it was gone at once: {e}")),
                },
                Answer::NotForked { worker, reason } => self.lose(vec![worker], format!("cannot fork: {reason}")),
                Answer::Refused { reason } => {
                    self.on(Event::Broke { reason: format!("the module cannot be loaded: {reason}") })
                }
            }
        }
    }

    /// The zygote is gone: what it was asked for will not come. The next need starts another.
    fn drop_zygote(&mut self, why: &str) {
        let Some(zygote) = self.zygote.take() else { return };
        let _gone = epoll::delete(&self.epoll, &zygote);
        // Workers that it had forked already are ours to reap.
        let (answers, lost, exit) = zygote.end();
        self.heed(answers);
        if !lost.is_empty() {
            self.lose(lost, format!("the zygote is gone: {why} ({exit})"));
        }
    }

    /// Workers that never had a process that we know of.
    fn lose(&mut self, workers: Vec<WorkerId>, reason: String) {
        for worker in &workers {
            if let Some(link) = self.links.remove(worker) {
                let _gone = epoll::delete(&self.epoll, &link.socket);
            }
        }
        self.on(Event::NotStarted { workers, reason });
    }

    fn kill(&mut self, worker: WorkerId) {
        self.set_state(worker, WorkerState::Retiring);
        let Some(link) = self.links.get_mut(&worker) else { return };
        link.fault.get_or_insert_with(|| "it was killed".to_owned());
        link.page.ask_to_stop();
        match &link.child {
            Some(child) => child.kill(),
            // Not forked yet, or we have not heard. A zygote that is loading, or hangs, is not waited for.
            None => self.drop_zygote("its workers are not wanted"),
        }
    }

    /// The worker's process has ended: what it managed to say still counts.
    fn bury(&mut self, worker: WorkerId) {
        let Some(exit) = self.links.get(&worker).and_then(|l| l.child.as_ref()).and_then(Child::try_wait) else {
            return;
        };
        self.serve_socket(worker, LAST_ROUNDS);
        let Some(link) = self.links.remove(&worker) else { return };
        let _gone = epoll::delete(&self.epoll, &link.socket);
        if let Some(child) = &link.child {
            let _gone = epoll::delete(&self.epoll, child);
        }
        self.directory().retain(|w| w.index != worker);
        let reason = match (link.fault, exit) {
            (Some(fault), _) => fault,
            (None, Exit::Signal(libc::SIGKILL)) => {
                "SIGKILL (by someone else; perhaps the machine is out of memory)".to_owned()
            }
            (None, exit) => exit.to_string(),
        };
        self.on(Event::Gone { worker, started: link.page.started(), exitcode: exit.exitcode(), reason });
    }

    // Talking to workers.

    fn send(&mut self, worker: WorkerId, job: JobId, first: u64, count: u64, attempt: u32) {
        let (Some(link), Some(open)) = (self.links.get_mut(&worker), self.jobs.get(&job)) else { return };
        let plan = open.job.plan;
        if !link.plans.contains(&plan)
            && let Some(call) = self.plans.get(&plan)
        {
            link.plans.push(plan);
            message::write_control(&mut link.outgoing, &ToWorker::Plan { id: plan, call: call.clone() });
        }
        frame::write(&mut link.outgoing, Kind::Batch, |out| {
            Batch::write_head(out, plan, attempt);
            let (mut first, mut left) = (first, count);
            while left > 0 {
                let at = open.chunks.partition_point(|c| c.first + c.count() <= first);
                let chunk = &open.chunks[at];
                let part = left.min(chunk.first + chunk.count() - first);
                out.extend_from_slice(chunk.records(first, part));
                (first, left) = (first + part, left - part);
            }
        });
        self.set_state(worker, WorkerState::Busy);
        self.flush(worker);
    }

    fn tell(&mut self, worker: WorkerId, message: &ToWorker) {
        if let Some(link) = self.links.get_mut(&worker) {
            message::write_control(&mut link.outgoing, message);
            self.flush(worker);
        }
    }

    /// Writes as much as the socket takes; the rest when it is ready for more.
    fn flush(&mut self, worker: WorkerId) {
        let Some(link) = self.links.get_mut(&worker) else { return };
        while link.sent < link.outgoing.len() {
            match rustix::net::send(
                &link.socket,
                &link.outgoing[link.sent..],
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            ) {
                Ok(sent) => link.sent += sent,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                // It is dying; its process will tell.
                Err(_) => {
                    link.sent = link.outgoing.len();
                }
            }
        }
        if link.sent == link.outgoing.len() {
            link.sent = 0;
            link.outgoing.clear();
            link.outgoing.shrink_to(BUFFER_KEPT);
        }
        let wants_write = !link.outgoing.is_empty();
        if wants_write != link.wants_write {
            link.wants_write = wants_write;
            let flags = if wants_write { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            let _gone = epoll::modify(&self.epoll, &link.socket, EventData::new_u64(socket_token(worker)), flags);
        }
    }

    /// Reads up to `rounds` times, so that others have their turn too; what is left is reported again.
    fn serve_socket(&mut self, worker: WorkerId, rounds: usize) {
        self.flush(worker);
        for _ in 0..rounds {
            let Some(link) = self.links.get_mut(&worker) else { return };
            if link.distrusted || self.schedule.is_terminated() {
                // It has been killed. What it has still to say counts for nothing.
                let _gone = epoll::delete(&self.epoll, &link.socket);
                return;
            }
            link.incoming.reserve(READ_LEN);
            let received = rustix::net::recv(
                &link.socket,
                rustix::buffer::spare_capacity(&mut link.incoming),
                RecvFlags::DONTWAIT,
            );
            match received {
                Ok((_, 0)) => return self.hung_up(worker),
                Ok(_) => {
                    if let Err(violation) = self.read(worker) {
                        return self.punish(worker, &violation);
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => return self.hung_up(worker),
            }
        }
    }

    /// The worker closed its socket. It is ending; if it should not, it is ended.
    fn hung_up(&mut self, worker: WorkerId) {
        let Some(link) = self.links.get_mut(&worker) else { return };
        let _gone = epoll::delete(&self.epoll, &link.socket);
        // A process that is exiting already keeps its exit code.
        if let Some(child) = &link.child {
            child.kill();
        }
    }

    /// The worker broke the protocol: it may be the attacker's by now.
    fn punish(&mut self, worker: WorkerId, violation: &Violation) {
        tracing::warn!(worker, %violation, "protocol error");
        if let Some(link) = self.links.get_mut(&worker) {
            let _gone = epoll::delete(&self.epoll, &link.socket);
            link.incoming = Vec::new();
            link.fault = Some(format!("protocol error: {violation}"));
            link.distrusted = true;
        }
        self.kill(worker);
    }

    /// Handles the whole frames that have come from a worker.
    fn read(&mut self, worker: WorkerId) -> Result<(), Violation> {
        let Some(link) = self.links.get_mut(&worker) else { return Ok(()) };
        let bytes = std::mem::take(&mut link.incoming);
        let mut results = Results { from: 0, count: 0, attached: 0 };
        let mut at = 0;
        let read = loop {
            if let Err(violation) = self.check_len(&bytes[at..]) {
                break Err(violation);
            }
            let frame = match frame::parse(&bytes[at..]) {
                Ok(Some(frame)) => frame,
                Ok(None) => break Ok(()),
                Err(violation) => break Err(violation),
            };
            let end = at + frame.len();
            if let Err(violation) = self.handle(worker, frame, at, end, &bytes, &mut results) {
                break Err(violation);
            }
            at = end;
        };
        // Whole results go on now; attachments whose result has not come wait for it.
        let from = self.pass_on(worker, &bytes, &mut results);
        let kept = if read.is_err() { bytes.len() } else { from };
        if let Some(link) = self.links.get_mut(&worker) {
            link.incoming = bytes;
            link.incoming.drain(..kept);
            if link.incoming.is_empty() {
                link.incoming.shrink_to(BUFFER_KEPT);
            }
        }
        read
    }

    /// Refuses a frame that is longer than any that our own worker would send, as soon as it is announced.
    fn check_len(&self, bytes: &[u8]) -> Result<(), Violation> {
        let limits = &self.spec.limits;
        match frame::head(bytes)? {
            Some((Kind::Returned, len)) if len > limits.output => Err(Violation::TooLong { len }),
            Some((Kind::Returned, _)) | None => Ok(()),
            Some((_, len)) if len > limits.stdout.saturating_add(MESSAGE_LEN_MAX) => Err(Violation::TooLong { len }),
            Some(_) => Ok(()),
        }
    }

    fn handle(
        &mut self,
        worker: WorkerId,
        frame: Frame<'_>,
        at: usize,
        end: usize,
        bytes: &[u8],
        results: &mut Results,
    ) -> Result<(), Violation> {
        match frame.kind {
            Kind::Returned => {
                self.expect_answer(worker, results)?;
                results.count += 1;
                results.attached = 0;
                Ok(())
            }
            Kind::Failed => {
                self.expect_answer(worker, results)?;
                results.attached = 0;
                let failure = message::read_failure(frame.payload)?;
                if (self.spec.retry_on)(&failure) {
                    // May not be the last word, so that it goes its own way.
                    self.pass_on(worker, &bytes[..at], results);
                    let frames = &bytes[results.from..end];
                    self.fail(worker, frames);
                    results.from = end;
                } else {
                    results.count += 1;
                }
                Ok(())
            }
            Kind::Took if frame.payload.len() != 8 => {
                Err(Violation::Malformed("a duration that is not 8 bytes".to_owned()))
            }
            Kind::Stdout | Kind::Stderr | Kind::Took => {
                results.attached += 1;
                match results.attached > ATTACHMENTS_MAX {
                    true => Err(Violation::Unexpected("more output than a task has streams")),
                    false => Ok(()),
                }
            }
            Kind::BatchDone => {
                let nanos = frame
                    .payload
                    .try_into()
                    .map_err(|_| Violation::Malformed("a duration that is not 8 bytes".to_owned()))?;
                self.pass_on(worker, &bytes[..at], results);
                results.from = end;
                self.on(Event::BatchDone { worker, busy: Duration::from_nanos(u64::from_le_bytes(nanos)) });
                if !self.schedule.is_busy(worker) {
                    self.set_state(worker, WorkerState::Idle);
                }
                Ok(())
            }
            Kind::Control => {
                self.pass_on(worker, &bytes[..at], results);
                results.from = end;
                self.hear(worker, message::read_control(frame)?)
            }
            Kind::Batch => Err(Violation::Unexpected("a worker sent a batch")),
        }
    }

    fn expect_answer(&self, worker: WorkerId, results: &Results) -> Result<(), Violation> {
        match self.schedule.unanswered(worker) > results.count {
            true => Ok(()),
            false => Err(Violation::Unexpected("a result for a task that the worker does not hold")),
        }
    }

    fn hear(&mut self, worker: WorkerId, message: FromWorker) -> Result<(), Violation> {
        match message {
            FromWorker::Hello { version } if version == crate::protocol::VERSION => {
                self.set_stage(worker, Stage::Silent, Stage::Greeted)
            }
            FromWorker::Hello { .. } => Err(Violation::Unexpected("the worker is of another version")),
            FromWorker::Ready => {
                self.set_stage(worker, Stage::Greeted, Stage::Ready)?;
                self.set_state(worker, WorkerState::Idle);
                self.on(Event::Ready { worker });
                Ok(())
            }
            FromWorker::InitFailed { failure } => {
                self.set_stage(worker, Stage::Greeted, Stage::Greeted)?;
                let error = crate::error::TaskError::from(failure);
                self.on(Event::Broke { reason: format!("the initializer failed: {error}") });
                Ok(())
            }
            FromWorker::Refused { reason } => {
                if let Some(link) = self.links.get_mut(&worker)
                    && link.fault.replace(reason).is_some()
                {
                    return Err(Violation::Unexpected("the worker gave up twice"));
                }
                Ok(())
            }
            FromWorker::Compiled(_)
            | FromWorker::Forked { .. }
            | FromWorker::NotForked { .. }
            | FromWorker::Report(_) => Err(Violation::Unexpected("the worker spoke out of turn")),
        }
    }

    /// A worker's start goes step by step, once.
    fn set_stage(&mut self, worker: WorkerId, from: Stage, to: Stage) -> Result<(), Violation> {
        match self.links.get_mut(&worker) {
            Some(link) if link.stage != from => Err(Violation::Unexpected("the worker spoke out of turn")),
            Some(link) => {
                link.stage = to;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Passes the whole results in `bytes[results.from..]` on. Gives where attachments begin that have no result yet.
    fn pass_on(&mut self, worker: WorkerId, bytes: &[u8], results: &mut Results) -> usize {
        if results.count == 0 {
            return results.from;
        }
        let by = self.by(worker);
        let mut at = results.from;
        self.on_answer(Event::Returned { worker, count: results.count }, |this, job, first, count, attempt| {
            let end = at + len_of_outcomes(&bytes[at..], count);
            let chunk = ResultChunk { first, count, frames: bytes[at..end].to_vec(), by: By { attempt, ..by } };
            at = end;
            this.deliver(job, chunk);
        });
        results.count = 0;
        results.from = at;
        at
    }

    /// A task failed in a way that may be worth another try.
    fn fail(&mut self, worker: WorkerId, frames: &[u8]) {
        let by = self.by(worker);
        self.on_answer(Event::Failed { worker, retriable: true }, |this, job, first, count, attempt| {
            let by = By { attempt, ..by };
            this.deliver(job, ResultChunk { first, count, frames: frames.to_vec(), by });
        });
    }

    fn by(&self, worker: WorkerId) -> By {
        let pid = self.links.get(&worker).and_then(|l| l.child.as_ref()).map_or(0, Child::pid);
        By { worker, pid, attempt: 1 }
    }

    fn directory(&self) -> std::sync::MutexGuard<'_, Vec<WorkerInfo>> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_state(&self, worker: WorkerId, state: WorkerState) {
        if let Some(info) = self.directory().iter_mut().find(|w| w.index == worker) {
            info.state = state;
        }
    }
}

/// A run of answers within the bytes being read.
struct Results {
    /// Where the run begins.
    from: usize,
    /// Whole results in it so far.
    count: u64,
    /// Frames since the last result that belong to the next.
    attached: usize,
}

/// The bytes of the first `count` outcomes.
fn len_of_outcomes(bytes: &[u8], count: u64) -> usize {
    let mut at = 0;
    let mut left = count;
    while left > 0 {
        let Ok(Some(frame)) = frame::parse(&bytes[at..]) else { break };
        at += frame.len();
        left -= u64::from(matches!(frame.kind, Kind::Returned | Kind::Failed));
    }
    at
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
