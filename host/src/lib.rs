//! Python's `multiprocessing` for code you do not trust.
//!
//! A guest function, compiled from any language to WebAssembly, is run over many inputs by a pool of worker processes. Two walls stand
//! between a task and the machine: the WebAssembly sandbox, and a confined operating system process per worker. A task that loops, traps, eats memory or takes its
//! worker down costs exactly that task.
//!
//! ```text
//!   your program ──exec──▶ compiler   once per module: machine code into the cache
//!        │───────exec──▶ zygote      loads the machine code, runs no guest
//!        │                  └─fork─▶ worker 1..n   run guests
//!        └── one socket pair per worker
//! ```
//!
//! ```standalone_crate
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     wpool::init(); // this program is its own worker
//!     # std::env::set_current_dir("../guest/prebuilt")?;
//!     let module = wpool::Module::load("hello.wasm")?;
//!     let pool = wpool::Pool::builder(&module).processes(5).build()?;
//!     let hello = pool.func::<String, String>("run")?;
//!     for result in pool.imap(&hello, (0..13).map(|n| n.to_string())) {
//!         println!("{}", result?);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! Who knows Python's `multiprocessing` finds all its words, and what is different here, in [`coming_from_multiprocessing`].

// Beside the workspace's lints, what concerns the product but not its tests and benchmarks.
#![warn(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::cast_possible_truncation
)]

#[cfg(not(target_os = "linux"))]
compile_error!("wpool runs on Linux: its workers need pidfds, memory files and parent-death signals");

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[doc = include_str!("../docs/coming-from-multiprocessing.md")]
pub mod coming_from_multiprocessing {}
mod clock;
mod context;
#[cfg(feature = "worker")]
pub mod dummy;
mod error;
mod escape;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod limits;
mod module;
mod policy;
mod pool;
mod process;
mod profiling;
mod protocol;
mod sandbox;
mod spin;
mod sys;
mod target;
mod value;
#[cfg(feature = "worker")]
mod worker;

pub use context::{StartMethod, init, while_stopped};
pub use error::{BuildError, Closed, MapError, ModuleError, StartError, StillRunning, TaskError, TimedOut};
pub use limits::{CompileLimits, Isolation, Limit, Limits};
pub use module::{
    CacheLimits, CachedModule, Compiling, Digest, Export, Grant, Import, ImportKind, Module, ModuleInfo,
    ModuleKind, ModuleLoader, Role, TargetError, WasmFeature,
};
pub use policy::{Clock, DirAccess, Policy, Random};
pub use pool::{
    AsyncResult, Backoff, Func, Halt, HaltError, HaltOn, HaltWhen, Imap, ImapUnordered, Inputs, Outcome,
    Outcomes, Pool, PoolBuilder, PoolEvent, Recycle, Stats, WorkerInfo, WorkerState,
};
pub use process::{
    AlreadyStarted, ExitReason, ExitStatus, NotStarted, Process, ProcessBuilder, ProcessInfo,
    active_children, cpu_count, current_process, parent_process,
};
pub use profiling::ProfilingStrategy;
#[cfg(feature = "fault-points")]
#[doc(hidden)]
pub use protocol::message::{Fault, FaultAction, FaultPhase};
pub use sandbox::{ProcessRole, Property, Sandbox, Status, Step, doctor, doctor_of, doctor_with, unenforced};
#[cfg(feature = "fault-points")]
#[doc(hidden)]
pub use sys::Attempt;
pub use target::{CommandInput, Format, Target};
pub use value::{Args, FromValue, FuncType, IntoValue, Param, Ret, Type, Value};
