//! A worker in a thread of the coordinator's own process: `multiprocessing.dummy`.
//!
//! It does what a worker process does, in the same loop, but touches nothing that is the process's: no signals, no timer, no limits, no
//! environment, no panic hook. What it does bring along is the engine's handlers for the signals by which machine code traps.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::SendFlags;

use super::guest::{EngineTick, Guest, Me};
use super::life::Life;
use super::outbox::Outbox;
use super::serve::{Ticks, serve};
use super::{contained, hello, period, refuse};
use crate::policy::Granted;
use crate::protocol::connection::Connection;
use crate::protocol::frame::Caps;
use crate::protocol::message::{Identity, Setup};
use crate::spec::{Exit, Property, Status};

/// The time between two ticks of a worker that is abandoned: its guest is ended when a call to the host returns, but nobody waits for that.
const TICK_ABANDONED: Duration = Duration::from_millis(100);

/// The whole life of a worker thread.
pub(crate) fn thread_main(life: &Arc<Life>, artefact: Arc<OwnedFd>, setup: &Setup, granted: &Granted) {
    let mut connection = Connection::new(life.socket().clone(), Caps::COORDINATOR);
    let code = contained(&mut connection, |connection| run(connection, life, artefact, setup, granted));
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
    drop(artefact);
    let pulse = match Pulse::new(guest.engine_tick(), life.clone(), period(setup)) {
        Ok(pulse) => pulse,
        Err(e) => return refuse(connection, format!("cannot start a thread: {e}")),
    };
    let identity = setup.identity.clone().unwrap_or(Identity { name: "worker".to_owned(), index: 0 });
    guest.enter(Me::new(identity, life.page().clone()), setup.once.then(|| life.socket().clone()));
    serve(connection, life.socket().clone(), &mut guest, &pulse, status())
}

/// What is enforced: nothing.
fn status() -> Status {
    let missing = Some("a worker in a thread has this program's own rights".to_owned());
    let own = Property { name: "a process of its own".to_owned(), layers: vec![], absent: vec![], missing };
    Status { steps: vec![], properties: vec![own] }
}

/// The ticks of one worker thread: another thread, which sleeps while the worker is idle.
struct Pulse {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    engine: EngineTick,
    life: Arc<Life>,
    period: Duration,
    /// The worker is busy.
    wanted: AtomicBool,
    /// The pulse sleeps until it is woken. Set before the last look at `wanted`, so that one of the two sides sees the other.
    asleep: AtomicBool,
    over: AtomicBool,
    outbox: Outbox,
}

impl Pulse {
    fn new(engine: EngineTick, life: Arc<Life>, period: Duration) -> io::Result<Pulse> {
        let shared = Arc::new(Shared {
            engine,
            life,
            period,
            wanted: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            over: AtomicBool::new(false),
            outbox: Outbox::default(),
        });
        let beating = shared.clone();
        let thread =
            std::thread::Builder::new().name("wpool-pulse".to_owned()).spawn(move || beating.run())?;
        Ok(Pulse { shared, thread: Some(thread) })
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Ticks for Pulse {
    fn start(&self) {
        self.shared.wanted.store(true, Ordering::SeqCst);
        // Awake, it is only looked at: a worker with many short batches wakes nobody for each.
        if self.shared.asleep.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    fn stop(&self) {
        self.shared.wanted.store(false, Ordering::SeqCst);
    }

    fn outbox(&self) -> Outbox {
        self.shared.outbox.clone()
    }
}

impl Drop for Pulse {
    /// When the worker says its last words, nobody else speaks through its socket any more.
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.wake();
        let _panicked = self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn run(&self) {
        while !self.over.load(Ordering::SeqCst) {
            if self.wanted.load(Ordering::SeqCst) {
                let abandoned = self.life.exit().is_some();
                std::thread::park_timeout(if abandoned { TICK_ABANDONED } else { self.period });
                self.tick();
            } else {
                self.asleep.store(true, Ordering::SeqCst);
                if !self.wanted.load(Ordering::SeqCst) && !self.over.load(Ordering::SeqCst) {
                    std::thread::park();
                }
            }
        }
    }

    fn tick(&self) {
        self.send_pending();
        if self.is_hung_up() {
            // A process would end here. The guest's next look at the epoch ends it, and the loop finds the socket closed.
            self.life.cancel();
        }
        self.engine.advance();
    }

    /// Sends what is pending, as far as the socket takes it at once.
    fn send_pending(&self) {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        // An error is for the worker to find, when it sends the rest.
        self.outbox.send_some(|ready| rustix::net::send(&**self.life.socket(), ready, flags).unwrap_or(0));
    }

    fn is_hung_up(&self) -> bool {
        let mut socket = [PollFd::new(&**self.life.socket(), PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut socket, Some(&now)).is_ok_and(|ready| ready > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::connection;
    use crate::protocol::message::{FromWorker, read_control};

    #[test]
    fn a_panic_is_told_as_the_reason() {
        let (ours, theirs) = connection::pair().unwrap();
        let mut worker = Connection::new(Arc::new(theirs), Caps::COORDINATOR);
        let code = contained(&mut worker, |_| panic!("no {} (this panic is part of a test)", "reason"));
        assert_eq!(code, crate::worker::EXIT_SOFTWARE);
        drop(worker);
        let mut coordinator = Connection::new(ours, Caps::IDLE);
        let FromWorker::Refused { reason } = read_control(coordinator.recv().unwrap()).unwrap() else {
            panic!("something else was said")
        };
        assert_eq!(reason, "it panicked: no reason (this panic is part of a test)");
        assert!(coordinator.recv().is_err(), "these were its last words");
    }
}
