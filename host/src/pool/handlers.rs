//! Threads for many jobs: those that draw the items of iterators, and those that collect results.
//!
//! In `multiprocessing.Pool` one thread handles the tasks of all jobs and one their results. Here each of the
//! two is a small set of threads, because a thread that is in an iterator of the application may block for
//! ever. A job's work is done in short turns ([`Chore`]); between two turns the job waits without a thread.
//!
//! At most [`AT_ONCE`] threads work side by side. A thread whose turn lasts longer than [`SLOW`] counts as
//! blocked: then the next chore gets another thread, up to [`THREADS_MAX`]. While chores wait for a thread,
//! one idle thread watches for that moment. Idle threads end after [`IDLE_TIME`].

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The number of threads that work side by side while none of them is blocked.
const AT_ONCE: usize = 4;
/// A turn that lasts longer than this is blocked: in an iterator that waits for something.
const SLOW: Duration = Duration::from_millis(2);
/// The largest number of threads of a set, and so of iterators that may block at the same time. The iterators
/// of further jobs wait until one of these goes on.
const THREADS_MAX: usize = 256;
/// A thread without work ends after this time.
const IDLE_TIME: Duration = Duration::from_millis(500);
/// A chore that goes on for this long lets others have their turn.
const TURN_TIME: Duration = Duration::from_millis(1);

/// The work of one job on a set of threads.
pub(super) trait Chore: Send {
    /// Works until there is nothing to do now, or until `until`.
    fn turn(&mut self, until: Instant) -> ChoreStep;

    /// Gives the chore back to the handlers once there is something to do for it.
    fn wait(self: Box<Self>, handlers: &Handlers);
}

/// What follows a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChoreStep {
    /// There is more to do now.
    Again,
    /// There is nothing to do until the job changes.
    Wait,
    /// The chore is over.
    Over,
}

/// A set of threads. The first starts with the first chore, and the last ends with the last chore.
#[derive(Clone)]
pub(super) struct Handlers(Arc<HandlerThreads>);

struct HandlerThreads {
    name: &'static str,
    most: usize,
    state: Mutex<HandlersState>,
    /// Announced when a chore is queued.
    queued: Condvar,
}

#[derive(Default)]
struct HandlersState {
    queue: VecDeque<Box<dyn Chore>>,
    /// The chores that are not over: queued, in their turn, or waiting with their job.
    chores: usize,
    threads: usize,
    /// The threads among them that wait for a turn.
    idle: usize,
    /// The turns that have begun and not ended, by number, and when they began.
    turns: BTreeMap<u64, Instant>,
    turns_begun: u64,
}

impl HandlersState {
    /// How long a thread leaves a queued chore to the threads that work. Zero: it takes the chore itself.
    fn patience(&self, now: Instant) -> Duration {
        let is_quick = |begun: &&Instant| now.saturating_duration_since(**begun) < SLOW;
        let quick = self.turns.values().rev().take_while(is_quick).take(AT_ONCE);
        match quick.enumerate().last() {
            Some((last, begun)) if last + 1 == AT_ONCE => SLOW - now.saturating_duration_since(*begun),
            _ => Duration::ZERO,
        }
    }

    fn begin_turn(&mut self, now: Instant) -> u64 {
        self.turns_begun += 1;
        self.turns.insert(self.turns_begun, now);
        self.turns_begun
    }
}

impl Handlers {
    pub(super) fn new(name: &'static str) -> Handlers {
        Self::with(name, THREADS_MAX)
    }

    fn with(name: &'static str, most: usize) -> Handlers {
        Handlers(Arc::new(HandlerThreads { name, most, state: Mutex::default(), queued: Condvar::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, HandlersState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a chore. `false`: there is no thread, and none can be started. The chore was dropped.
    pub(super) fn start(&self, chore: Box<dyn Chore>) -> bool {
        let mut state = self.lock();
        state.queue.push_back(chore);
        state.chores += 1;
        self.provide(&mut state);
        if state.threads > 0 {
            return true;
        }
        let chore = state.queue.pop_back();
        state.chores -= 1;
        drop(state);
        drop(chore);
        false
    }

    /// Goes on with a chore that has waited. There is a thread for it: the last one ends with the last chore.
    pub(super) fn go_on(&self, chore: Box<dyn Chore>) {
        let mut state = self.lock();
        state.queue.push_back(chore);
        self.provide(&mut state);
    }

    /// Wakes or starts a thread for a queued chore.
    fn provide(&self, state: &mut HandlersState) {
        if state.idle > 0 {
            self.0.queued.notify_one();
        } else if state.threads < self.0.most {
            let handlers = self.clone();
            let run = move || handlers.run();
            // Detached: a blocked iterator may keep the thread for ever, and no other waits for it.
            let started = std::thread::Builder::new().name(self.0.name.to_owned()).spawn(run);
            state.threads += usize::from(started.is_ok());
        }
    }

    /// The life of a thread.
    fn run(&self) {
        let mut state = self.lock();
        loop {
            let (next, chore) = self.next(state);
            state = next;
            let Some(mut chore) = chore else { break };
            let begun = Instant::now();
            let turn = state.begin_turn(begun);
            if !state.queue.is_empty() {
                self.provide(&mut state);
            }
            drop(state);
            let step =
                catch_unwind(AssertUnwindSafe(|| chore.turn(begun + TURN_TIME))).unwrap_or(ChoreStep::Over);
            state = self.end_turn(turn, chore, step);
        }
        state.threads -= 1;
    }

    fn end_turn(&self, turn: u64, chore: Box<dyn Chore>, step: ChoreStep) -> MutexGuard<'_, HandlersState> {
        // This may take long: a job gets its results, and an iterator may even block in its drop.
        match step {
            ChoreStep::Over => drop(catch_unwind(AssertUnwindSafe(|| drop(chore)))),
            ChoreStep::Wait => chore.wait(self),
            ChoreStep::Again => self.lock().queue.push_back(chore),
        }
        let mut state = self.lock();
        state.turns.remove(&turn);
        if step == ChoreStep::Over {
            state.chores -= 1;
            if state.chores == 0 {
                self.0.queued.notify_all();
            }
        }
        state
    }

    /// Waits for a chore. `None`: the thread is not needed any more.
    fn next<'h>(
        &'h self,
        mut state: MutexGuard<'h, HandlersState>,
    ) -> (MutexGuard<'h, HandlersState>, Option<Box<dyn Chore>>) {
        loop {
            let timeout = if !state.queue.is_empty() {
                state.patience(Instant::now())
            } else if state.idle == 0 && state.chores > 0 {
                // One thread stays: a chore that waits with its job may go on at any time.
                Duration::MAX
            } else {
                IDLE_TIME
            };
            if timeout.is_zero() {
                let chore = state.queue.pop_front();
                return (state, chore);
            }
            state.idle += 1;
            let waited = self.0.queued.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
            state.idle -= 1;
            let is_spare = state.idle > 0 || state.chores == 0;
            if waited.1.timed_out() && state.queue.is_empty() && is_spare {
                return (state, None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crossbeam_channel::{Receiver, Sender, unbounded};

    use super::*;

    /// A chore that works for some turns, each of which begins with a wait for a word, if it has to wait.
    struct Counting {
        turns: usize,
        gate: Option<Receiver<()>>,
        begun: Arc<AtomicUsize>,
        over: Sender<()>,
    }

    impl Chore for Counting {
        fn turn(&mut self, _until: Instant) -> ChoreStep {
            self.begun.fetch_add(1, Ordering::SeqCst);
            if let Some(gate) = &self.gate {
                let _opened = gate.recv();
            }
            self.turns -= 1;
            match self.turns {
                0 => ChoreStep::Over,
                odd if odd % 2 == 1 => ChoreStep::Wait,
                _ => ChoreStep::Again,
            }
        }

        fn wait(self: Box<Self>, handlers: &Handlers) {
            handlers.go_on(self);
        }
    }

    impl Drop for Counting {
        fn drop(&mut self) {
            let _gone = self.over.send(());
        }
    }

    fn wait_for_end(handlers: &Handlers) {
        while handlers.lock().threads > 0 {
            std::thread::yield_now();
        }
        let state = handlers.lock();
        assert_eq!((state.chores, state.idle, state.queue.len(), state.turns.len()), (0, 0, 0, 0));
    }

    #[test]
    fn many_chores_share_a_few_threads_which_end_with_them() {
        let handlers = Handlers::with("wpool-test", 6);
        let (over, ends) = unbounded();
        let begun = Arc::new(AtomicUsize::new(0));
        for round in 1..=2 {
            for _ in 0..2_000 {
                let chore = Counting { turns: 5, gate: None, begun: begun.clone(), over: over.clone() };
                assert!(handlers.start(Box::new(chore)));
                assert!(handlers.lock().threads <= 6);
            }
            assert_eq!(ends.iter().take(2_000).count(), 2_000);
            assert_eq!(begun.load(Ordering::SeqCst), round * 10_000);
            wait_for_end(&handlers);
        }
    }

    #[test]
    fn blocked_chores_stop_no_others_until_they_are_as_many_as_threads_may_be() {
        const MOST: usize = 12;
        let handlers = Handlers::with("wpool-test", MOST);
        let (open, gate) = unbounded::<()>();
        let (over, ends) = unbounded();
        let blocked = Arc::new(AtomicUsize::new(0));
        let quick = Arc::new(AtomicUsize::new(0));
        let start = |gate: Option<&Receiver<()>>| {
            let begun = if gate.is_some() { &blocked } else { &quick };
            let chore = Counting { turns: 1, gate: gate.cloned(), begun: begun.clone(), over: over.clone() };
            assert!(handlers.start(Box::new(chore)));
        };
        (1..MOST).for_each(|_| start(Some(&gate)));
        (0..100).for_each(|_| start(None));
        // All but one thread are blocked, and this one does the work.
        assert_eq!(ends.iter().take(100).count(), 100);
        // Now all are blocked: more work waits until one of them goes on.
        start(Some(&gate));
        while blocked.load(Ordering::SeqCst) < MOST {
            std::thread::yield_now();
        }
        (0..100).for_each(|_| start(None));
        assert_eq!((quick.load(Ordering::SeqCst), handlers.lock().threads), (100, MOST));
        open.send(()).unwrap();
        assert_eq!(ends.iter().take(101).count(), 101);
        // The rest goes on once nothing can be sent any more.
        drop(open);
        wait_for_end(&handlers);
    }

    #[test]
    fn a_panic_ends_its_chore_only() {
        struct Panicking(bool);
        impl Chore for Panicking {
            fn turn(&mut self, _until: Instant) -> ChoreStep {
                assert!(self.0, "this panic is part of a test");
                ChoreStep::Over
            }
            fn wait(self: Box<Self>, _handlers: &Handlers) {}
        }
        impl Drop for Panicking {
            fn drop(&mut self) {
                assert!(!self.0, "this panic is part of a test");
            }
        }
        let handlers = Handlers::with("wpool-test", 1);
        let (over, ends) = unbounded();
        for in_drop in [true, false] {
            assert!(handlers.start(Box::new(Panicking(in_drop))));
        }
        let chore = Counting { turns: 3, gate: None, begun: Arc::default(), over };
        assert!(handlers.start(Box::new(chore)));
        assert_eq!(ends.iter().count(), 1);
        wait_for_end(&handlers);
    }
}
