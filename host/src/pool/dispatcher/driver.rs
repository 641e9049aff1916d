//! The dispatcher's one owner at a time: its own thread, or for a moment a thread that calls `Pool::apply`.
//!
//! A task there and back costs four hand-overs between three threads: the caller wakes the dispatcher, which
//! sends the task; the worker's result wakes the dispatcher, which wakes the caller. In a quiet pool the
//! caller does the dispatcher's work itself ([`Driver::drive`]), and two hand-overs are left. It takes the
//! dispatcher's turns for as long as it would look for its outcome without a sleep; then the dispatcher's own
//! thread goes on. A round trip is about 1.4 times as fast (docs/performance.md).
//!
//! - The dispatcher lies behind a lock, which is held for a turn and never while a thread waits.
//! - Meanwhile the dispatcher's thread sleeps. It must not be woken by the worker's result, so that the
//!   sockets of the workers have an epoll of their own ([`Epolls`]), and the caller switches that off.
//! - A caller delays only itself, even if it gets no processor time while it drives: it takes turns only as
//!   long as its task is the only one. Another job wakes the dispatcher's thread as always, and ends the
//!   drive. So does all that only the dispatcher's thread may do: it starts workers, since the system ends
//!   the children of a thread with it; it waits for the ends of processes; and it keeps time limits.
//! - No function of the application runs in a turn of a caller: a pool with `on_event` or `retry_on` is never
//!   driven.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use rustix::event::epoll::{self, Event};

use super::epolls::Epolls;
use super::turn::AfterTurn;
use super::{Dispatcher, EVENTS};
use crate::pool::job::Job;
use crate::pool::schedule::JobId;
use crate::pool::waker::Waker;
use crate::{clock, spin};

/// After another job has ended a drive, this many calls are not driven: one thread that stays awake serves
/// several callers at less cost than callers that take turns.
const COMPANY_CALLS: u32 = 64;

thread_local! {
    /// The driver whose dispatcher this thread does the work of.
    static DRIVES: Cell<*const Driver> = const { Cell::new(ptr::null()) };
}

/// The dispatcher, and the right to do its work.
pub(in crate::pool) struct Driver {
    seat: Mutex<Seat>,
    epoll: Arc<Epolls>,
    waker: Waker,
    /// The application has no function that the dispatcher calls.
    may_drive: bool,
    /// The dispatcher's thread wants the lock: callers leave it free.
    is_wanted: AtomicBool,
    /// A caller drives. Meanwhile the dispatcher's thread looks for nothing before it sleeps.
    is_driven: AtomicBool,
    /// There were workers and no tasks at the end of the last turn.
    is_quiet: AtomicBool,
    /// The number of the next calls that are not driven.
    company: AtomicU32,
}

struct Seat {
    /// `None`: the pool is over.
    dispatcher: Option<Dispatcher>,
    /// The panic of a turn of a caller, for the dispatcher's thread.
    panic: Option<Box<dyn Any + Send>>,
}

impl Driver {
    pub(in crate::pool) fn new(dispatcher: Dispatcher) -> Driver {
        Driver {
            epoll: dispatcher.epoll.clone(),
            waker: dispatcher.waker.clone(),
            may_drive: dispatcher.calls_nothing(),
            seat: Mutex::new(Seat { dispatcher: Some(dispatcher), panic: None }),
            is_wanted: AtomicBool::new(false),
            is_driven: AtomicBool::new(false),
            is_quiet: AtomicBool::new(false),
            company: AtomicU32::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // For the dispatcher's thread.

    /// Runs until the pool is over and every worker is gone. Gives the reason if the pool broke.
    pub(in crate::pool) fn run(&self) -> Option<String> {
        // Dropped also if the dispatcher panics: its jobs end with it.
        let vacate = Vacate(self);
        self.with(Dispatcher::begin);
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        loop {
            let timeout = match self.with(|dispatcher| self.take_turns(dispatcher, &mut events)) {
                NextStep::Over => break,
                NextStep::Sleep { timeout } => timeout,
            };
            events.clear();
            let waited = clock::nap(timeout, |timeout| {
                epoll::wait(&self.epoll.all, rustix::buffer::spare_capacity(&mut events), Some(timeout))
            });
            match waited {
                // An interrupted wait is a turn without events.
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Some(self.with(Dispatcher::abandon)),
            }
            // As soon as it is awake: until then, each `wake` would cost a system call for nothing.
            self.waker.wake_up();
        }
        let dispatcher = vacate.take();
        dispatcher.and_then(Dispatcher::end)
    }

    /// Calls `act` with the dispatcher. The panic of a caller's turn goes on here.
    fn with<R>(&self, act: impl FnOnce(&mut Dispatcher) -> R) -> R {
        self.is_wanted.store(true, Ordering::Relaxed);
        let mut seat = self.lock();
        self.is_wanted.store(false, Ordering::Relaxed);
        if let Some(panic) = seat.panic.take() {
            drop(seat);
            resume_unwind(panic);
        }
        act(seat.dispatcher.as_mut().expect("only the dispatcher's thread takes it away, at its end"))
    }

    /// Takes turns until there is nothing to do now. `events`: what has happened.
    fn take_turns(&self, dispatcher: &mut Dispatcher, events: &mut Vec<Event>) -> NextStep {
        loop {
            dispatcher.turn(events);
            if dispatcher.is_finished() {
                return NextStep::Over;
            }
            events.clear();
            let busy = dispatcher.schedule.busy();
            self.is_quiet.store(busy == 0 && dispatcher.has_workers(), Ordering::Relaxed);
            let is_driven = || self.is_driven.load(Ordering::Relaxed);
            // An event is likely to come within a moment if a worker is busy. Looking for it needs a free
            // processor.
            if spin::pays(busy) && !is_driven() {
                spin::until(|| dispatcher.look(events) || self.waker.is_pending() || is_driven());
            }
            if !events.is_empty() || (self.waker.is_pending() && !is_driven()) {
                continue;
            }
            if self.waker.may_sleep() {
                return NextStep::Sleep { timeout: dispatcher.lie_down() };
            }
            dispatcher.look(events);
            self.waker.wake_up();
        }
    }

    // For callers.

    /// Lets the calling thread do the dispatcher's work for `job`, which has no task yet. `None`: the
    /// dispatcher's thread does it.
    pub(in crate::pool) fn drive(&self, job: &Arc<Job>) -> Option<Driving<'_>> {
        if !self.may_drive || !self.is_quiet.load(Ordering::Relaxed) || !spin::pays(1) || is_traced() {
            return None;
        }
        let less = |calls: u32| calls.checked_sub(1);
        if self.company.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            return None;
        }
        if self.is_driven.swap(true, Ordering::Relaxed) {
            return None;
        }
        // From here on the job does not wake the dispatcher: `Driving` does, at its end.
        job.set_driven(true);
        Some(Driving { driver: self, job: job.clone() })
    }

    /// Whether the calling thread does the work of this dispatcher, so that it cannot wait for its end.
    pub(in crate::pool) fn is_mine(&self) -> bool {
        DRIVES.get() == ptr::from_ref(self)
    }

    /// Takes a turn, if no other thread takes one.
    fn take_turn(&self, job: JobId) -> AfterTurn {
        if self.is_wanted.load(Ordering::Relaxed) {
            return AfterTurn::GoOn;
        }
        let mut seat = match self.seat.try_lock() {
            Ok(seat) => seat,
            Err(TryLockError::WouldBlock) => return AfterTurn::GoOn,
            // The dispatcher's thread has panicked.
            Err(TryLockError::Poisoned(_)) => return AfterTurn::Leave,
        };
        let Seat { dispatcher: Some(dispatcher), panic: None } = &mut *seat else { return AfterTurn::Leave };
        DRIVES.set(self);
        let turn = catch_unwind(AssertUnwindSafe(|| dispatcher.turn_of_caller(job)));
        DRIVES.set(ptr::null());
        turn.unwrap_or_else(|panic| {
            // It ends the dispatcher's thread, and with it the pool, but not the caller.
            seat.panic = Some(panic);
            AfterTurn::Leave
        })
    }

    /// Hands the dispatcher back to its thread, which sleeps on if there is nothing to do.
    fn hand_back(&self) {
        let is_needed = match self.seat.lock() {
            Ok(mut seat) => match &mut *seat {
                Seat { dispatcher: Some(dispatcher), panic: None } => self.end_drive(dispatcher),
                Seat { panic, .. } => panic.is_some(),
            },
            // The dispatcher's thread has panicked, and ends.
            Err(_) => false,
        };
        self.is_driven.store(false, Ordering::Relaxed);
        if is_needed || self.waker.is_pending() {
            self.waker.wake();
        }
    }

    fn end_drive(&self, dispatcher: &mut Dispatcher) -> bool {
        if dispatcher.turn.drive.has_company {
            self.company.store(COMPANY_CALLS, Ordering::Relaxed);
        }
        self.is_quiet.store(dispatcher.schedule.busy() == 0, Ordering::Relaxed);
        dispatcher.end_drive()
    }
}

/// Whether `tracing` takes the pool's events: its subscriber belongs to the application.
fn is_traced() -> bool {
    tracing::enabled!(target: "wpool::pool", tracing::Level::WARN)
}

/// What the dispatcher's thread does next.
enum NextStep {
    Sleep {
        timeout: Option<Duration>,
    },
    /// The pool is over.
    Over,
}

/// Takes the dispatcher away at the end of its thread.
struct Vacate<'d>(&'d Driver);

impl Vacate<'_> {
    fn take(&self) -> Option<Dispatcher> {
        self.0.lock().dispatcher.take()
    }
}

impl Drop for Vacate<'_> {
    fn drop(&mut self) {
        // Dropped without the lock.
        drop(self.take());
    }
}

/// A caller that does the dispatcher's work. Its drop hands the work back.
pub(in crate::pool) struct Driving<'d> {
    driver: &'d Driver,
    job: Arc<Job>,
}

impl Driving<'_> {
    /// Takes turns until the job has its outcome, for a moment at most. `false`: that moment has passed.
    pub(in crate::pool) fn spin(self) -> bool {
        spin::until(|| self.driver.take_turn(self.job.id) == AfterTurn::Leave || self.job.is_seen_ready())
    }
}

impl Drop for Driving<'_> {
    fn drop(&mut self) {
        self.job.set_driven(false);
        self.driver.hand_back();
    }
}
