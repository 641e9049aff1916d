//! The thread of a pool's callbacks. A slow callback delays other callbacks, but no result.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::condition::Condition;

/// A call of a callback with its result.
type Invocation = Box<dyn FnOnce() + Send>;

/// A handle to the thread. The thread starts with the first call, and ends with the last handle.
#[derive(Clone, Default)]
pub(super) struct Callbacks(Arc<CallbackThread>);

#[derive(Default)]
struct CallbackThread {
    state: Mutex<ThreadState>,
    none_left: Condition,
}

#[derive(Default)]
struct ThreadState {
    thread: Option<(Sender<Invocation>, ThreadId)>,
    /// How many promises are alive.
    promised: usize,
}

/// Stands for a callback that has not run. Joining the pool waits until all promises are dropped.
pub(super) struct Promise(Callbacks);

impl Callbacks {
    fn lock(&self) -> MutexGuard<'_, ThreadState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn promise(&self) -> Promise {
        self.lock().promised += 1;
        Promise(self.clone())
    }

    /// Runs `call` on the thread.
    pub(super) fn run(&self, call: impl FnOnce() + Send + 'static) {
        let mut state = self.lock();
        if state.thread.is_none() {
            let (sender, calls) = crossbeam_channel::unbounded::<Invocation>();
            let run = move || calls.iter().for_each(guarded);
            // Detached: `wait` waits for promises, not for the thread.
            let started = std::thread::Builder::new().name("wpool-callbacks".to_owned()).spawn(run);
            state.thread = started.ok().map(|thread| (sender, thread.thread().id()));
        }
        let sender = state.thread.as_ref().map(|(sender, _)| sender.clone());
        drop(state);
        match sender {
            Some(sender) => drop(sender.send(Box::new(call))),
            // No thread can be started. The callback delays this caller, but it must run.
            None => guarded(Box::new(call)),
        }
    }

    /// Waits until no promise is left. `false`: the deadline came first. On the thread of callbacks it does
    /// not wait.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> bool {
        let state = self.lock();
        if state.thread.as_ref().is_some_and(|(_, id)| *id == std::thread::current().id()) {
            return true;
        }
        self.0.none_left.wait_while(state, deadline, |state| state.promised > 0).promised == 0
    }
}

/// Runs a callback. A panic of it is logged: no caller could catch it.
fn guarded(call: Invocation) {
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        tracing::error!(target: "wpool::pool", "a callback panicked");
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.0.lock().promised -= 1;
        self.0.0.none_left.announce();
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Callbacks({} promised)", self.lock().promised)
    }
}
