//! The worker process that runs this guest: `multiprocessing.current_process()` in Python.
//!
//! Only a guest that calls one of these functions imports `wpool:process/current`. Outside WebAssembly, in a
//! guest's unit tests, they describe the process of the test.
//!
//! ```
//! use wpool_guest::process;
//!
//! #[wpool_guest::task]
//! fn whoami() -> String {
//!     format!("{} (process {}), attempt {}", process::name(), process::id(), process::attempt())
//! }
//! ```

#[cfg(target_arch = "wasm32")]
use crate::bindings::asking::wpool::process::current;

/// The name of the process: `PoolWorker-3` in a pool, `Process-1` or the name it was given for a Process.
pub fn name() -> String {
    current::name()
}

/// The process id of the worker.
pub fn id() -> u32 {
    current::id()
}

/// The number of this worker in its pool, from 1 on; 0 if there is no pool.
///
/// A worker that replaces another one has a new number.
pub fn worker_index() -> u32 {
    current::worker_index()
}

/// The number of the attempt at the current task: 1 for the first, more after a retry.
pub fn attempt() -> u32 {
    current::attempt()
}

/// Whether the host has asked this process to stop.
///
/// A guest that computes for long may call this now and then, and return early.
///
/// ```
/// # use wpool_guest::process;
/// #[wpool_guest::task]
/// fn search(limit: u64) -> Result<Option<u64>, &'static str> {
///     for candidate in 1..limit {
///         if candidate % 4096 == 0 && process::should_stop() {
///             return Err("stopped early");
///         }
///         # let found = |_| false;
///         if found(candidate) {
///             return Ok(Some(candidate));
///         }
///     }
///     Ok(None)
/// }
/// ```
pub fn should_stop() -> bool {
    current::should_stop()
}

/// The host's answers outside WebAssembly, where there is no host.
#[cfg(not(target_arch = "wasm32"))]
mod current {
    pub(super) fn name() -> String {
        "MainProcess".into()
    }

    pub(super) fn id() -> u32 {
        std::process::id()
    }

    pub(super) fn worker_index() -> u32 {
        0
    }

    pub(super) fn attempt() -> u32 {
        1
    }

    pub(super) fn should_stop() -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn outside_a_worker_a_guest_sees_its_own_process() {
        assert_eq!(super::name(), "MainProcess");
        assert_eq!(super::id(), std::process::id());
        assert_eq!((super::worker_index(), super::attempt(), super::should_stop()), (0, 1, false));
    }
}
