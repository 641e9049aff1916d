//! A worker as the user of a pool sees it.

use std::collections::BTreeMap;

/// A worker of a pool: its number, its process and its state at this moment.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = pool("upper")?;
/// # let upper = pool.func::<&str, String>("run")?;
/// pool.apply(&upper, "a")?;
/// for worker in pool.workers() {
///     println!("worker {} is process {}: {:?}", worker.index, worker.pid, worker.state);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerInfo {
    /// Its number, counted from 1 over the life of the pool: a replacement has a new one.
    pub index: u32,
    /// Its process id.
    pub pid: u32,
    /// What the worker does.
    pub state: WorkerState,
}

/// The workers of a pool by their numbers.
pub(super) type Directory = BTreeMap<u32, WorkerInfo>;

/// What a worker does.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = pool("upper")?;
/// # let upper = pool.func::<&str, String>("run")?;
/// use wpool::events::WorkerState;
///
/// pool.apply(&upper, "a")?;
/// let idle = pool.workers().iter().filter(|worker| worker.state == WorkerState::Idle).count();
/// # assert!(idle <= 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// The process exists. It loads the module or runs the initializer.
    Starting,
    /// The worker waits for tasks.
    Idle,
    /// The worker runs tasks.
    Busy,
    /// The worker was told to end.
    Retiring,
}
