//! The error of starting a process or a worker thread.

use std::io;

use crate::escape::{OneLine, shortened};
use crate::sys::limit_behind;

/// A worker process cannot be started.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use wpool::{Module, ModuleError, StartError};
///
/// // Neither `init` was called nor a program named.
/// let forgotten = Module::from_bytes(b"(module)");
/// assert!(matches!(forgotten, Err(ModuleError::Start(StartError::InitNotCalled))));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// This program would be its own worker, but has not called [`init`](crate::init).
    #[error(
        "call wpool::init() first thing in main(), so that this program can be its own worker, \
         or point to an installed `wpool` with ModuleLoader::program"
    )]
    InitNotCalled,
    /// This program already had threads when it called [`init`](crate::init). Its worker would be started in
    /// the same state.
    #[error("{}", crate::protocol::message::INIT_TOO_LATE)]
    InitTooLate,
    /// No worker can run where this program runs.
    #[error("{reason}")]
    Place {
        /// What forbids it.
        reason: String,
    },
    /// This program was built without the engine.
    #[error(
        "this program was built without the `worker` feature of wpool and cannot be its own worker: \
         point to an installed `wpool` with ModuleLoader::program"
    )]
    NoWorker,
    /// A worker was to be a thread of this program.
    #[error(
        "this program was built without the `worker` feature of wpool \
         and cannot run guests in its own threads"
    )]
    NoThreads,
    /// A worker was to be a thread of this program. The strict sandbox does not allow that.
    #[error("the sandbox is strict, and a worker in a thread has this program's own rights")]
    ThreadUnconfined,
    /// The operating system refused.
    #[error(
        "cannot start {}: {}{}", OneLine(.program), shortened(&.source.to_string()), limit_behind(source)
    )]
    Spawn {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// [`Process::start`](crate::Process::start) was called in a forked child of the program that made the
    /// process.
    #[error("{}", IN_FORK)]
    InFork,
    /// [`Process::start`](crate::Process::start) was called twice.
    #[error("the process has already been started")]
    AlreadyStarted,
}

/// What a pool, a process or their results report in a forked child of the program that made them.
pub(crate) const IN_FORK: &str =
    "it belongs to the program that made it, and cannot be used in a forked child of that: make one here";
