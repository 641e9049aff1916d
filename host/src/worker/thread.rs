//! A worker in a thread of the coordinator's own process: `multiprocessing.dummy`.
//!
//! It runs the same loop as a worker process, but changes nothing that belongs to the whole process: no
//! signals, no timer, no limits, no environment, no panic hook. The engine alone installs its handlers for
//! the signals by which machine code traps.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::SendFlags;

use super::exchange::Link;
use super::guest::{CurrentProcess, EngineTick, Guest, NoticeTick};
use super::life::Life;
use super::outbox::Outbox;
use super::send::{hello, refuse, report_panic};
use super::serve::{Ticks, serve};
use super::setup::tick_periods;
use crate::policy::Granted;
use crate::protocol::connection::Connection;
use crate::protocol::frame::Caps;
use crate::protocol::message::{Identity, Setup};
use crate::spec::{Exit, Property, Status};
use crate::sys::{AfterTick, TickPeriods, TickRate};

/// The time between two ticks of an abandoned worker. A tick still ends its guest once a call to the host
/// returns, but nothing waits for that end.
const TICK_ABANDONED: Duration = Duration::from_millis(100);

/// Runs a worker thread from its beginning to its end.
pub(crate) fn thread_main(life: &Arc<Life>, artefact: Arc<OwnedFd>, setup: &Setup, granted: &Granted) {
    let mut connection = Connection::new(life.socket().clone(), Caps::COORDINATOR);
    let code = report_panic(&mut connection, |connection| run(connection, life, artefact, setup, granted));
    life.end(Exit::Code(code));
}

fn run(
    connection: &mut Connection<Arc<OwnedFd>>,
    life: &Arc<Life>,
    artefact: Arc<OwnedFd>,
    setup: &Setup,
    granted: &Granted,
) -> i32 {
    hello(connection);
    let dirs: Vec<_> = granted.dirs().collect();
    let mut guest = match Guest::load(setup, &setup.limits, artefact.as_fd(), &dirs) {
        Ok(guest) => guest,
        Err(reason) => return refuse(connection, reason),
    };
    // The machine code is mapped. The descriptor is closed with the last reference.
    drop(artefact);
    let ticks = match TickThread::start(guest.engine_tick(), life.clone(), tick_periods(setup)) {
        Ok(ticks) => ticks,
        Err(e) => return refuse(connection, format!("cannot start a thread: {e}")),
    };
    let identity = setup.identity.clone().unwrap_or(Identity { name: "worker".to_owned(), index: 0 });
    let link = life.exchange().map(|socket| Link::new(socket.clone(), life.page().clone(), setup.spins));
    let process = CurrentProcess::new(identity, life.page().clone(), ticks.notice()).with_link(link);
    guest.enter(process, setup.once.then(|| life.socket().clone()));
    serve(connection, life.socket().clone(), &mut guest, &ticks, status())
}

/// The report of a worker thread: nothing is enforced.
fn status() -> Status {
    let missing = Some("a worker in a thread has this program's own rights".to_owned());
    let own = Property { name: "a process of its own".to_owned(), layers: vec![], absent: vec![], missing };
    Status { steps: vec![], properties: vec![own] }
}

/// The ticks of one worker thread, made by another thread, which sleeps while the worker is idle.
struct TickThread {
    state: Arc<TickState>,
    thread: Option<JoinHandle<()>>,
}

/// What the worker's thread and the thread of its ticks share.
struct TickState {
    engine: EngineTick,
    life: Arc<Life>,
    periods: TickPeriods,
    rate: TickRate,
    /// Whether the worker is busy.
    wanted: AtomicBool,
    /// Whether the thread of the ticks sleeps until it is woken. It sets this before it reads `wanted` for
    /// the last time, and the worker sets `wanted` before it reads this: at least one of the two sees the
    /// other's change.
    asleep: AtomicBool,
    over: AtomicBool,
    outbox: Outbox,
}

impl TickThread {
    fn start(engine: EngineTick, life: Arc<Life>, periods: TickPeriods) -> io::Result<TickThread> {
        let state = Arc::new(TickState {
            engine,
            life,
            periods,
            rate: TickRate::default(),
            wanted: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            over: AtomicBool::new(false),
            outbox: Outbox::default(),
        });
        let ticking = state.clone();
        let thread =
            std::thread::Builder::new().name("wpool-pulse".to_owned()).spawn(move || ticking.run())?;
        Ok(TickThread { state, thread: Some(thread) })
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    fn notice(&self) -> NoticeTick {
        let (state, thread) =
            (self.state.clone(), self.thread.as_ref().map(|thread| thread.thread().clone()));
        Box::new(move || {
            if state.rate.notice() {
                thread.iter().for_each(std::thread::Thread::unpark);
            }
        })
    }
}

impl Ticks for TickThread {
    fn start(&self) {
        self.state.wanted.store(true, Ordering::SeqCst);
        // A thread that is awake sees `wanted` by itself: a worker with many short batches wakes it for none
        // of them.
        if self.state.asleep.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    fn stop(&self) {
        self.state.wanted.store(false, Ordering::SeqCst);
    }

    fn outbox(&self) -> Outbox {
        self.state.outbox.clone()
    }
}

impl Drop for TickThread {
    /// Ends the thread, so that nothing else is sent behind the worker's last message.
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        self.wake();
        let _panicked = self.thread.take().map(JoinHandle::join);
    }
}

impl TickState {
    fn run(&self) {
        while !self.over.load(Ordering::SeqCst) {
            if self.wanted.load(Ordering::SeqCst) {
                let is_rare = self.rate.is_rare();
                std::thread::park_timeout(self.period(is_rare));
                // If the guest has woken this thread, the next tick is due one period later.
                if !is_rare || self.rate.is_rare() {
                    self.tick();
                }
            } else {
                self.asleep.store(true, Ordering::SeqCst);
                if !self.wanted.load(Ordering::SeqCst) && !self.over.load(Ordering::SeqCst) {
                    std::thread::park();
                }
            }
        }
    }

    fn period(&self, is_rare: bool) -> Duration {
        match (self.life.exit(), is_rare) {
            (Some(_), _) => TICK_ABANDONED,
            (None, true) => self.periods.waiting,
            (None, false) => self.periods.busy,
        }
    }

    fn tick(&self) {
        let is_all_sent = self.send_pending();
        if self.is_hung_up() {
            // A worker process exits here. A thread cannot: the guest ends at its next check of the epoch,
            // and then the loop finds the socket closed.
            self.life.cancel();
        }
        self.rate.tick(if is_all_sent { AfterTick::Nothing } else { AfterTick::Work });
        self.engine.advance();
    }

    /// Sends as much of the outbox as the socket takes without waiting. Returns whether that is all.
    fn send_pending(&self) -> bool {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        // An error counts as nothing sent. The worker meets it again when it sends the rest.
        self.outbox.send_some(|ready| rustix::net::send(&**self.life.socket(), ready, flags).unwrap_or(0))
    }

    fn is_hung_up(&self) -> bool {
        let mut socket = [PollFd::new(&**self.life.socket(), PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut socket, Some(&now)).is_ok_and(|ready| ready > 0)
    }
}
