//! The pool's one thread: it owns the workers' sockets and processes, turns what happens into events, and carries out what the
//! [`Schedule`] decides. It never blocks on a worker, nor on the zygote.

mod arena;
mod link;
mod pulse;
mod staff;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec};
use rustix::io::Errno;

pub(super) use self::arena::Parked;
use self::link::{InstancesSeen, Link, ROUNDS};
use super::events::{PoolEvent, Sink};
use super::job::{By, InputChunk, Job, ResultChunk, Undelivered};
use super::schedule::{
    Action, AnswerStep, Answered, Config, Event, JobId, NoResult, Retry, Returned, Schedule, WorkerId,
};
use super::stats::Ledger;
use super::waker::Waker;
use super::worker::{WorkerInfo, WorkerState};
use crate::context::forkserver::Zygote;
use crate::context::{Launch, StartMethod};
use crate::error::TaskError;
use crate::policy::Granted;
use crate::protocol::message::{Failure, Setup, ToWorker};
use crate::spec::{Call, Limit, Limits};
use crate::{clock, sys};

/// No more input is taken from a job that has this many tasks queued: it waits on its own side, where its window bounds it.
const QUEUE_LEN: u64 = 1 << 14;

/// What the pool's handle asks for.
pub(super) enum Command {
    Job { job: Arc<Job>, call: Option<Call> },
    Resize(usize),
    Close,
    CloseQueued,
    Terminate,
}

/// What every worker is started with.
pub(super) struct Spec {
    pub(super) launch: Launch,
    pub(super) limits: Limits,
    pub(super) start_method: StartMethod,
    pub(super) setup: Setup,
    pub(super) granted: Granted,
    /// Whether a job may end by a failure or a success, so that it matters which come first.
    pub(super) tells_apart: bool,
    /// Which failures are worth another attempt, if there are to be any.
    pub(super) retry_on: Option<RetryOn>,
    pub(super) name: String,
    /// A worker with more private memory than this is replaced.
    pub(super) memory_max: Option<u64>,
    pub(super) sink: Sink,
    /// A worker at work that shows no sign of life for so long is told of.
    pub(super) heartbeat: Duration,
    /// Told once that so many workers are ready.
    pub(super) awaited: Option<(usize, Sender<()>)>,
}

pub(super) type RetryOn = Arc<dyn Fn(&TaskError) -> bool + Send + Sync>;

/// A job and the records that are still needed.
struct OpenJob {
    job: Arc<Job>,
    chunks: VecDeque<InputChunk>,
}

impl Drop for OpenJob {
    /// Whatever becomes of the dispatcher, nobody waits for ever.
    fn drop(&mut self) {
        self.job.finish(&TaskError::Cancelled);
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
    /// Those that may still get records. Of a thousand jobs most have given all they have, and are not to be looked into.
    open: HashSet<JobId>,
    plans: HashMap<u32, Call>,
    /// Jobs whose results find no room, or did not a moment ago.
    full: HashSet<JobId>,
    /// Workers that are not listened to until there is room for what they say.
    paused: HashSet<WorkerId>,
    zygote: Option<Zygote>,
    directory: Arc<Mutex<Vec<WorkerInfo>>>,
    /// When signs of life were last looked for.
    felt: Duration,
    ledger: Arc<Mutex<Ledger>>,
    actions: Vec<Action>,
    steps: Vec<AnswerStep>,
    /// What has happened while actions were being carried out. It waits: the actions at hand were decided without it.
    events: VecDeque<Event>,
    acting: bool,
    told_broken: bool,
    instances: InstancesSeen,
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
        ledger: Arc<Mutex<Ledger>>,
    ) -> io::Result<Dispatcher> {
        let epoll = sys::above_stdio(epoll::create(epoll::CreateFlags::CLOEXEC)?)?;
        epoll::add(&epoll, &waker, EventData::new_u64(TOKEN_WAKER), EventFlags::IN)?;
        Ok(Dispatcher {
            spec,
            schedule: Schedule::new(config),
            epoll,
            waker,
            commands,
            epoch: clock::now(),
            links: HashMap::new(),
            jobs: HashMap::new(),
            open: HashSet::new(),
            plans: HashMap::new(),
            full: HashSet::new(),
            paused: HashSet::new(),
            zygote: None,
            directory,
            felt: Duration::ZERO,
            ledger,
            actions: Vec::new(),
            steps: Vec::new(),
            events: VecDeque::new(),
            acting: false,
            told_broken: false,
            instances: InstancesSeen::None { failures: 0 },
            finished: false,
        })
    }

    /// Runs until the pool is over and every worker is gone. Gives the reason if it broke.
    pub(super) fn run(mut self) -> Option<String> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(64);
        if self.spec.start_method == StartMethod::Forkserver && self.spec.launch.program.has_early() {
            // It loads the module while the first records are read. If it cannot, the first worker that is wanted will say why.
            self.zygote = self.start_zygote().ok();
        }
        // An eager pool begins without being asked.
        self.tick();
        while !self.finished {
            let due = self.schedule.next_tick().into_iter().chain(self.pulse_due()).min();
            let timeout = due.map(|due| due.saturating_sub(self.now()));
            events.clear();
            if self.may_spin() && crate::spin::until(|| self.look(&mut events) || self.waker.is_pending()) {
                // Somebody is answered without a wake-up.
            } else if self.waker.may_sleep() {
                let waited = clock::nap(timeout, |timeout| {
                    epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(timeout))
                });
                match waited {
                    // An interrupted wait is a turn without events; the tick below is right in any case.
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(_) => return Some(self.abandon()),
                }
            } else {
                self.look(&mut events);
            }
            self.waker.wake_up();
            for event in &events {
                self.dispatch(event.data.u64());
            }
            // What is left for it from here on is pending again.
            self.waker.begin_look();
            self.obey();
            self.feed();
            self.make_room();
            if self.schedule.next_tick().is_some_and(|due| due <= self.now()) {
                self.tick();
            }
            self.feel_pulses();
            self.give_up_survivors();
        }
        // Jobs whose input never ended have records left that came too late even for the schedule.
        let verdict = self.schedule.verdict();
        let failure = self.verdict(verdict.clone());
        for (_, open) in self.jobs.drain() {
            open.job.finish(&failure);
        }
        match verdict {
            NoResult::Broken { reason } => Some(reason),
            NoResult::Lost { .. } | NoResult::TimedOut | NoResult::Cancelled => None,
        }
        // The zygote ends with its handle.
    }

    /// The program has closed all descriptors, ours among them. What has their numbers now is not ours: nothing is closed, and nobody spoken
    /// to. The workers see the ends of their sockets, and of this thread. Gives the reason.
    fn abandon(&mut self) -> String {
        let reason = "its descriptors were closed by this program, which it cannot go on without".to_owned();
        let links = std::mem::take(&mut self.links);
        let running: Vec<(WorkerId, u64)> =
            links.iter().map(|(id, link)| (*id, link.page.started())).collect();
        std::mem::forget((links, self.zygote.take(), self.waker.clone()));
        if let Ok(unused) = rustix::event::eventfd(0, EventfdFlags::CLOEXEC) {
            std::mem::forget(std::mem::replace(&mut self.epoll, unused));
        }
        self.directory().clear();
        // Each task still has its outcome.
        self.on(Event::Broke { reason: reason.clone() });
        for (worker, started) in running {
            let reason = reason.clone();
            self.on(Event::Gone { worker, started, retriable: false, exitcode: None, reason });
        }
        let failure = TaskError::Broken { reason: reason.clone() };
        for (_, open) in self.jobs.drain() {
            open.job.finish(&failure);
        }
        reason
    }

    /// Whether an event is likely to come within a moment, and there is a processor to look for it on: a worker has just been sent something, or
    /// has answered, and not all processors are busy with workers.
    fn may_spin(&self) -> bool {
        crate::spin::pays(self.schedule.busy())
    }

    /// What has happened, without waiting; whether anything has.
    fn look(&self, events: &mut Vec<epoll::Event>) -> bool {
        let now = Timespec::default();
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&now))
            .is_ok_and(|count| count > 0)
    }

    fn now(&self) -> Duration {
        clock::now().saturating_duration_since(self.epoch)
    }

    /// Tells of an event, which is made only if somebody listens.
    fn tell(&self, event: impl FnOnce() -> PoolEvent) {
        if self.spec.sink.is_heard() {
            self.spec.sink.tell(&event());
        }
    }

    fn dispatch(&mut self, token: u64) {
        match token {
            TOKEN_WAKER => self.waker.clear(),
            TOKEN_ZYGOTE => self.serve_zygote(),
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
        self.catch_up();
    }

    /// Takes the events that have come while actions were carried out.
    fn catch_up(&mut self) {
        while let Some(event) = self.events.pop_front() {
            let mut actions = std::mem::take(&mut self.actions);
            self.schedule.on(self.now(), event, &mut actions);
            self.carry_out(actions);
        }
    }

    /// Carries out what the schedule has decided. Events that this causes wait for [`Dispatcher::catch_up`].
    fn carry_out(&mut self, mut actions: Vec<Action>) {
        self.tell_broken();
        self.acting = true;
        for action in actions.drain(..) {
            self.act(action);
        }
        self.acting = false;
        self.actions = actions;
    }

    /// Asks the schedule about a worker's answers. `deliver` gets the tasks that it assigns to the next answers, and
    /// their number; `None`: these answers do not count.
    fn on_answer(&mut self, returned: Returned, mut deliver: impl FnMut(&mut Self, u64, Option<Answered>)) {
        let (mut steps, mut actions) = (std::mem::take(&mut self.steps), std::mem::take(&mut self.actions));
        self.schedule.on_returned(self.now(), returned, &mut steps, &mut actions);
        self.tell_broken();
        self.acting = true;
        for step in steps.drain(..) {
            match step {
                AnswerStep::Settle { count, tasks } => deliver(self, count, tasks),
                AnswerStep::Act(action) => self.act(action),
            }
        }
        self.steps = steps;
        self.carry_out(actions);
        self.catch_up();
    }

    /// Whether the failed task that the worker answers next is tried again. If so, that was the answer to it.
    fn try_again(&mut self, worker: WorkerId, failure: &Failure) -> bool {
        let mut actions = std::mem::take(&mut self.actions);
        let retry = self.schedule.on_failed(self.now(), worker, &mut actions);
        if let Some(retry) = retry {
            self.tell_retried(retry, || TaskError::from(failure.clone()));
        }
        self.carry_out(actions);
        self.catch_up();
        retry.is_some()
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
                    self.open.insert(job.id);
                    self.jobs.insert(job.id, OpenJob { job: job.clone(), chunks: VecDeque::new() });
                    // Before any `Close` that was asked for after it.
                    self.on(Event::Opened { job: job.id });
                    // That may have been said before there was anything to cancel.
                    if job.is_cancelled() {
                        self.on(Event::Cancelled { job: job.id });
                    }
                }
                Command::Resize(processes) => self.on(Event::Resized { processes }),
                Command::Close => self.on(Event::Close),
                Command::CloseQueued => self.on(Event::CloseQueued),
                Command::Terminate => self.on(Event::Terminate),
            }
        }
    }

    /// Takes records from the jobs as far as there is use for them, and gives up jobs that nobody wants.
    fn feed(&mut self) {
        for id in self.waker.take_cancelled() {
            // First, so that nothing of it is begun now. What was pushed before still has an outcome.
            self.on(Event::Cancelled { job: id });
            self.take_from(id);
        }
        let ids: Vec<JobId> = self.open.iter().copied().collect();
        for id in ids {
            if self.schedule.queued(id) < QUEUE_LEN {
                self.take_from(id);
                // While tasks are queued, the end of a running one brings us here again. Otherwise the next record has to.
                while self.schedule.queued(id) == 0 && self.is_fed(id) {
                    self.take_from(id);
                }
            }
        }
    }

    /// Whether records have come to an open job since they were taken. If not, the next one wakes us.
    fn is_fed(&self, id: JobId) -> bool {
        self.open.contains(&id) && self.jobs.get(&id).is_some_and(|open| !open.job.await_input())
    }

    fn take_from(&mut self, id: JobId) {
        if !self.open.contains(&id) {
            return;
        }
        let Some(open) = self.jobs.get_mut(&id) else { return };
        let taken = open.job.take_input();
        let (mut count, mut bytes) = (0, 0);
        for chunk in taken.chunks {
            count += chunk.count();
            bytes += chunk.bytes();
            open.chunks.push_back(chunk);
        }
        if taken.ended {
            self.open.remove(&id);
        }
        if count > 0 {
            self.on(Event::Submitted { job: id, count, bytes });
        }
        if taken.ended {
            self.on(Event::InputEnded { job: id });
        }
    }

    // Results that nobody has taken.

    /// The job's results find no room: from now on it is looked at in each turn, and by each that is taken we are woken.
    fn note_full(&mut self, id: JobId) {
        if self.full.insert(id)
            && let Some(open) = self.jobs.get(&id)
        {
            self.tell_undelivered(id, open.job.watch(true));
        }
    }

    fn tell_undelivered(&mut self, job: JobId, undelivered: Undelivered) {
        let Undelivered { size, waits_for, .. } = undelivered;
        self.on(Event::Undelivered { job, bytes: size.here + size.parked, waits_for });
    }

    /// Looks what has been taken of the jobs that were full, and listens to workers for whose results there is room.
    fn make_room(&mut self) {
        if self.full.is_empty() && self.paused.is_empty() {
            return;
        }
        for id in self.full.iter().copied().collect::<Vec<_>>() {
            match self.jobs.get(&id).map(|open| open.job.undelivered()) {
                Some(undelivered) => self.tell_undelivered(id, undelivered),
                None => {
                    self.full.remove(&id);
                }
            }
        }
        self.resume();
        let is_paused_for =
            |id: &JobId| self.paused.iter().any(|worker| self.schedule.front(*worker) == Some(*id));
        let over: Vec<JobId> = self
            .full
            .iter()
            .copied()
            .filter(|id| !self.schedule.is_full(*id) && !is_paused_for(id))
            .collect();
        for id in over {
            self.full.remove(&id);
            if let Some(open) = self.jobs.get(&id) {
                open.job.watch(false);
            }
        }
    }

    // What the schedule wants.

    fn act(&mut self, action: Action) {
        match action {
            Action::Start { worker } => self.start(worker),
            Action::Send { worker, job, first, count, attempt } => {
                self.send(worker, job, first, count, attempt)
            }
            Action::Retry { retry, failure } => self.tell_retried(retry, || self.verdict(failure)),
            Action::Give { job, first, count, attempt, verdict } => {
                let (error, by) = (self.verdict(verdict), By { attempt, ..By::default() });
                self.deliver(job, ResultChunk::verdict(first, count, error, by), count);
            }
            Action::Halted { job } => {
                self.tell(|| PoolEvent::Halted { job });
                if let Some(open) = self.jobs.get(&job) {
                    open.job.halt();
                }
            }
            Action::JobDone { job } => {
                // Dropped, and thereby finished.
                self.jobs.remove(&job);
                self.open.remove(&job);
            }
            Action::Drop { worker, until } => {
                if let Some(link) = self.links.get_mut(&worker) {
                    link.cancel_until(until);
                }
            }
            Action::TakeBack { worker } => {
                let Some(started) = self.links.get_mut(&worker).map(Link::freeze) else { return };
                // On its way before anything else that the worker is sent.
                self.say(worker, &ToWorker::Thaw);
                self.on(Event::TakenBack { worker, started });
            }
            Action::Retire { worker, why } => {
                match (why, &self.zygote) {
                    (Some(why), _) => self.tell(|| PoolEvent::WorkerRecycled { worker, why }),
                    // The pool's own end: the two end at the same time.
                    (None, Some(zygote)) => zygote.end_if_idle(),
                    (None, None) => {}
                }
                self.set_state(worker, WorkerState::Retiring);
                if let Some(link) = self.links.get_mut(&worker) {
                    link.shut_down();
                }
                self.say(worker, &ToWorker::Shutdown);
            }
            Action::Kill { worker } => {
                if !self.schedule.is_terminated() {
                    self.explain_kill(worker);
                }
                self.kill(worker);
            }
            Action::Finished => self.finished = true,
        }
    }

    fn verdict(&self, verdict: NoResult) -> TaskError {
        match verdict {
            NoResult::Lost { exitcode, reason } => TaskError::WorkerLost { exitcode, reason },
            NoResult::TimedOut => {
                let (reached, ended) =
                    (self.spec.limits.reached(Limit::Time), self.spec.start_method.last_resort());
                let message = format!("{reached}; it did not stop by itself: its worker was {ended}");
                TaskError::Limit { limit: Limit::Time, message }
            }
            NoResult::Cancelled => TaskError::Cancelled,
            NoResult::Broken { reason } => TaskError::Broken { reason },
        }
    }

    /// Hands outcomes to whoever waits, and drops the records that nobody needs any more. `failed`: how many of them are errors.
    fn deliver(&mut self, job: JobId, chunk: ResultChunk, failed: u64) {
        self.ledger().add_tasks(chunk.count);
        if self.spec.sink.is_heard() {
            self.tell_finished(job, &chunk, failed);
        }
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
        if !open.job.deliver(chunk, released) {
            self.note_full(job);
        }
    }

    // What is told to listeners.

    fn tell_broken(&mut self) {
        if !self.told_broken
            && let Some(reason) = self.schedule.broken()
        {
            self.told_broken = true;
            self.tell(|| PoolEvent::Broken { reason: reason.to_owned() });
        }
    }

    fn tell_finished(&self, job: JobId, chunk: &ResultChunk, failed: u64) {
        let By { worker, attempt, .. } = chunk.by;
        let (mut at, mut task) = (0, chunk.first);
        // Failures are rare; without any, nothing is looked at.
        while failed > 0
            && task < chunk.first + chunk.count
            && let Some(outcome) = chunk.outcome(at)
        {
            if let Err(error) = outcome.said.result() {
                if let TaskError::Limit { limit: Limit::Time, .. } = error {
                    self.tell(|| PoolEvent::TaskTimedOut { job, task, attempt });
                }
                self.tell(|| PoolEvent::TaskFailed { job, task, attempt, error });
            }
            at += outcome.len;
            task += 1;
        }
        let tasks = chunk.first..chunk.first + chunk.count;
        self.tell(|| PoolEvent::TasksFinished { job, tasks, failed, attempt, worker });
    }

    fn tell_retried(&self, retry: Retry, error: impl FnOnce() -> TaskError) {
        if !self.spec.sink.is_heard() {
            return;
        }
        let Retry { job, task, attempt, delay } = retry;
        let error = error();
        if let TaskError::Limit { limit: Limit::Time, .. } = error {
            self.tell(|| PoolEvent::TaskTimedOut { job, task, attempt });
        }
        self.tell(|| PoolEvent::TaskRetried { job, task, attempt, delay, error });
    }

    /// Whether a failure of this kind is worth another attempt.
    fn is_worth_retrying(&self, error: &TaskError) -> bool {
        let Some(retry_on) = &self.spec.retry_on else { return false };
        // A bug in the application's function must not end the pool.
        catch_unwind(AssertUnwindSafe(|| retry_on(error))).unwrap_or(false)
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
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
