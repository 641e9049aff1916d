//! The processes of this program: the list of those that run, and their end when the program exits.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::{ProcessState, Supervised};
use crate::sys;

/// How long an exit waits for the daemons that it has killed. A daemon whose output is stuck must not keep
/// the program alive.
const DAEMONS_END: Duration = Duration::from_secs(1);

/// The processes that have been started and have not ended.
static CHILDREN: Mutex<Vec<Weak<Supervised>>> = Mutex::new(Vec::new());

thread_local! {
    /// Whether this thread supervises a process. The type has no destructor, since `end_children` may run
    /// after those of the thread.
    static SUPERVISES: Cell<bool> = const { Cell::new(false) };
}

fn children() -> MutexGuard<'static, Vec<Weak<Supervised>>> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes an exit of this program end its processes. To be called before the first process is started.
pub(super) fn prepare_for_exit() {
    if let Err(e) = sys::at_exit(end_children) {
        tracing::warn!("processes will not be waited for when this program exits: {e}");
    }
}

/// The pid of the program that `CHILDREN` belongs to. A forked child must not touch the lock: it may be held
/// for ever.
static HOME: AtomicU32 = AtomicU32::new(0);

/// Lists a process as running, until [`unregister`].
pub(super) fn register(shared: &Arc<Supervised>) {
    HOME.store(sys::home(), Ordering::Relaxed);
    children().push(Arc::downgrade(shared));
}

/// Marks the calling thread as the supervisor of a process.
pub(super) fn supervise() {
    SUPERVISES.set(true);
}

pub(super) fn unregister(shared: &Arc<Supervised>) {
    children().retain(|child| !std::ptr::eq(child.as_ptr(), Arc::as_ptr(shared)));
}

fn running() -> Vec<Arc<Supervised>> {
    if HOME.load(Ordering::Relaxed) != sys::home() {
        return Vec::new();
    }
    children().iter().filter_map(Weak::upgrade).filter(|shared| !shared.is_in_fork()).collect()
}

/// CPython's `_exit_function`: kills the daemons and waits for the others, also for those whose
/// [`Process`](super::Process) is lost.
///
/// An exit on the thread of a supervisor (a function that takes output calls `exit`) cannot wait for itself:
/// it kills all.
fn end_children() {
    let (running, can_wait) = (running(), !SUPERVISES.get());
    let (daemons, others): (Vec<_>, Vec<_>) =
        running.into_iter().partition(|shared| shared.is_daemon() || !can_wait);
    // The daemons first: they end while the others are waited for.
    daemons.iter().for_each(|shared| shared.kill());
    if can_wait {
        others.iter().for_each(|shared| drop(shared.wait(None)));
        let until = Instant::now().checked_add(DAEMONS_END);
        daemons.iter().for_each(|shared| drop(shared.wait(until)));
    }
}

/// A process of this program, at the time of the call.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut process = process("hello", "bob:60000")?;
/// process.start()?;
/// let me = wpool::process::active_children().into_iter().find(|child| child.name == process.name());
/// assert_eq!(me.map(|child| child.pid), process.pid());
/// # process.kill()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its name.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// Whether it is a daemon.
    pub daemon: bool,
}

/// The processes that were started and have not ended: `multiprocessing.active_children()`. The workers of
/// pools are not among them.
///
/// Python joins ended processes with this call. Here a process is reaped as soon as it ends.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut process = process("hello", "bob:60000")?;
/// process.start()?;
/// assert_eq!(wpool::process::active_children().len(), 1);
/// process.kill()?;
/// process.join()?;
/// assert_eq!(wpool::process::active_children().len(), 0);
/// # Ok(())
/// # }
/// ```
pub fn active_children() -> Vec<ProcessInfo> {
    let info = |shared: Arc<Supervised>| match &shared.lock().state {
        ProcessState::Started(running) => Some(ProcessInfo {
            name: shared.name.clone(),
            pid: running.child.pid(),
            daemon: shared.is_daemon(),
        }),
        ProcessState::Initial | ProcessState::Stopped(_) => None,
    };
    running().into_iter().filter_map(info).collect()
}

/// This program itself: `multiprocessing.current_process()` of the main process. A guest learns about its own
/// process by `wpool:process`.
///
/// ```
/// let me = wpool::process::current_process();
/// assert_eq!((me.name.as_str(), me.pid), ("MainProcess", std::process::id()));
/// ```
pub fn current_process() -> ProcessInfo {
    ProcessInfo { name: "MainProcess".to_owned(), pid: std::process::id(), daemon: false }
}

/// The process that started this one: `multiprocessing.parent_process()` of the main process, which is
/// `None`. The code of an application never runs in a worker, so there is no other answer.
///
/// ```
/// assert_eq!(wpool::process::parent_process(), None);
/// ```
pub fn parent_process() -> Option<ProcessInfo> {
    None
}
