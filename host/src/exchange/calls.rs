//! Calls of the application's functions, and the threads that run them.
//!
//! The exchange's own thread only queues a call: the code of the application may take any time. A call that
//! has begun is never interrupted.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::core::event::CallId;
use crate::spec::exchange::Answer;
use crate::spin;

/// Runs the function of this number with these arguments.
type RunFunction = dyn Fn(u32, &[u8]) -> Answer + Send + Sync;

/// The functions that the members of a site may call. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Functions {
    /// How many there are: a member names one by a number below this.
    pub(crate) count: usize,
    /// The most threads that run them. `None`: as many as the site has members.
    pub(crate) threads: Option<usize>,
    pub(crate) call: Arc<RunFunction>,
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Functions").field("count", &self.count).finish_non_exhaustive()
    }
}

/// Where calls come from, and where their answers go.
pub(super) trait Callers: Send + Sync {
    /// A function has returned.
    fn returned(&self, call: CallId, answer: Answer);

    /// Reads what members have sent, without waiting: there may be the next call.
    fn hear(&self);
}

/// The calls of a site.
pub(super) struct Calls {
    functions: Functions,
    callers: Box<dyn Callers>,
    state: Mutex<CallsState>,
    has_changed: Condvar,
}

#[derive(Debug, Default)]
struct CallsState {
    /// The calls that have not begun, in the order of their coming.
    queue: VecDeque<QueuedCall>,
    /// The most threads.
    most: usize,
    threads: usize,
    /// The threads that wait for a call.
    idle: usize,
    /// One of them looks for a call, and does not sleep.
    looks: bool,
    /// The site is gone: the threads end.
    is_over: bool,
}

#[derive(Debug)]
struct QueuedCall {
    id: CallId,
    function: u32,
    args: Vec<u8>,
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Calls {
    pub(super) fn new(functions: Functions, callers: impl Callers + 'static) -> Arc<Calls> {
        let (state, has_changed) = (Mutex::default(), Condvar::new());
        Arc::new(Calls { functions, callers: Box::new(callers), state, has_changed })
    }

    /// How many functions there are.
    pub(super) fn count(&self) -> usize {
        self.functions.count
    }

    /// The site has this many members at most from now on; 0: it is gone. Threads that are too many go on
    /// until the end of the site.
    pub(super) fn resize(&self, capacity: usize) {
        let mut state = self.state();
        state.is_over = capacity == 0;
        state.most = self.functions.threads.unwrap_or(capacity);
        drop(state);
        self.has_changed.notify_all();
    }

    /// Queues a call. [`run`](Self::run) begins it.
    pub(super) fn push(&self, id: CallId, function: u32, args: Vec<u8>) {
        self.state().queue.push_back(QueuedCall { id, function, args });
    }

    /// The task that has called is over. A call that has not begun never does.
    pub(super) fn forget(&self, id: CallId) {
        self.state().queue.retain(|call| call.id != id);
    }

    /// Lets a thread run the next call. It may be a new one, which is started by the caller: not under the
    /// lock of the exchange.
    pub(super) fn run(self: &Arc<Self>) {
        let mut state = self.state();
        if state.queue.len() <= state.idle || state.threads >= state.most {
            drop(state);
            self.has_changed.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        let calls = self.clone();
        let name = "wpool-function".to_owned();
        if let Err(error) = std::thread::Builder::new().name(name).spawn(move || calls.serve()) {
            self.refuse(&error);
        }
    }

    /// There is no memory for another thread. The calls wait for those that there are; without any, they
    /// fail.
    fn refuse(&self, error: &std::io::Error) {
        let mut state = self.state();
        state.threads -= 1;
        let lost = if state.threads == 0 { std::mem::take(&mut state.queue) } else { VecDeque::new() };
        drop(state);
        for call in lost {
            let message = format!("no thread can be started to call a function: {error}");
            self.callers.returned(call.id, Answer::Trapped { message });
        }
    }

    /// The work of one thread.
    fn serve(&self) {
        while let Some(call) = self.next() {
            let answer = (self.functions.call)(call.function, &call.args);
            self.callers.returned(call.id, answer);
            self.look();
        }
    }

    /// Looks for the next call for a moment: a guest often calls again at once. This thread hears of it
    /// itself then, which saves two wake-ups of threads.
    fn look(&self) {
        // The guest that may call runs on another processor.
        if !spin::pays(1) {
            return;
        }
        let mut state = self.state();
        if std::mem::replace(&mut state.looks, true) {
            return;
        }
        // A call that comes now needs no other thread.
        state.idle += 1;
        drop(state);
        spin::until(|| {
            self.callers.hear();
            !self.state().queue.is_empty()
        });
        let mut state = self.state();
        (state.idle, state.looks) = (state.idle - 1, false);
    }

    /// Waits for a call. `None`: the site is gone.
    fn next(&self) -> Option<QueuedCall> {
        let mut state = self.state();
        loop {
            if let Some(call) = state.queue.pop_front() {
                return Some(call);
            }
            if state.is_over {
                return None;
            }
            state.idle += 1;
            state = self.has_changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    fn state(&self) -> MutexGuard<'_, CallsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::spec::exchange::Bytes;

    impl Callers for mpsc::Sender<CallId> {
        fn returned(&self, call: CallId, _: Answer) {
            self.send(call).unwrap();
        }

        fn hear(&self) {}
    }

    /// Calls of a function that tells of its beginning, and waits until it may return its argument.
    struct Scene {
        calls: Arc<Calls>,
        begun: mpsc::Receiver<u32>,
        go: mpsc::Sender<()>,
        returned: mpsc::Receiver<CallId>,
    }

    impl Scene {
        fn new(threads: Option<usize>, capacity: usize) -> Scene {
            let (begin, begun) = mpsc::channel();
            let (go, may_go) = mpsc::channel();
            let (give, returned) = mpsc::channel();
            let may_go = Mutex::new(may_go);
            let call = move |function, args: &[u8]| {
                begin.send(function).unwrap();
                may_go.lock().unwrap().recv().unwrap();
                Answer::Returned(Bytes(args.to_vec()))
            };
            let functions = Functions { count: 9, threads, call: Arc::new(call) };
            let calls = Calls::new(functions, give);
            calls.resize(capacity);
            Scene { calls, begun, go, returned }
        }

        fn call(&self, id: CallId) {
            self.calls.push(id, u32::try_from(id).unwrap(), vec![]);
            self.calls.run();
        }
    }

    #[test]
    fn x14_calls_run_at_the_same_time_on_as_many_threads_as_there_are_members() {
        let scene = Scene::new(None, 2);
        (1..=3).for_each(|id| scene.call(id));
        let mut begun = [scene.begun.recv().unwrap(), scene.begun.recv().unwrap()];
        begun.sort_unstable();
        assert_eq!(begun, [1, 2]);
        assert_eq!(scene.calls.state().threads, 2);
        assert!(scene.begun.try_recv().is_err());
        (0..3).for_each(|_| scene.go.send(()).unwrap());
        let mut returned: Vec<CallId> = scene.returned.iter().take(3).collect();
        returned.sort_unstable();
        assert_eq!(returned, [1, 2, 3]);
    }

    #[test]
    fn x14_a_thread_serves_one_call_after_the_other_and_ends_with_the_site() {
        let scene = Scene::new(Some(1), 8);
        (1..=3).for_each(|id| scene.call(id));
        (0..3).for_each(|_| scene.go.send(()).unwrap());
        assert_eq!(scene.returned.iter().take(3).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(scene.calls.state().threads, 1);
        scene.calls.resize(0);
        let Scene { calls, returned, .. } = scene;
        let weak = Arc::downgrade(&calls);
        drop(calls);
        // The thread drops what it has: the other end of this channel.
        assert!(returned.recv().is_err() && weak.upgrade().is_none());
    }

    #[test]
    fn x15_a_call_that_is_forgotten_before_it_begins_never_does() {
        let scene = Scene::new(Some(1), 8);
        (1..=3).for_each(|id| scene.call(id));
        assert_eq!(scene.begun.recv(), Ok(1));
        scene.calls.forget(2);
        // This one has begun, so that nothing can be done about it.
        scene.calls.forget(1);
        (0..2).for_each(|_| scene.go.send(()).unwrap());
        assert_eq!(scene.returned.iter().take(2).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(scene.begun.recv(), Ok(3));
    }
}
