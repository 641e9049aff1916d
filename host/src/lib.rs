//! Python's `multiprocessing` for code you do not trust.
//!
//! A pool of worker processes runs a guest function, compiled from any language to WebAssembly, over many
//! inputs. Two walls stand between a task and the machine: the WebAssembly sandbox, and a confined operating
//! system process for each worker. A task that loops, traps, fills its memory or takes its worker down costs
//! exactly that task.
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
//! The names that most programs use are at the top. The others are in modules; the page of each module begins
//! with its purpose:
//!
//! - [`module`]: how a module is loaded, cached and compiled, and what it imports and exports;
//! - [`target`] and [`value`]: which function runs, on which records, and the values that go in and out;
//! - [`policy`]: the files, variables and connections that a guest may reach;
//! - [`pool`] and [`process`]: streams, retries and halting; exit statuses and the list of active children;
//! - [`events`]: what a pool reports while it works: its workers, its figures, profiles;
//! - [`ipc`] and [`sync`]: queues, pipes, locks and the rest, which guests and this program share;
//! - [`sandbox`]: how strict the confinement of processes is, and what holds on this machine;
//! - [`dummy`]: the same interface over threads.
//!
//! If you know Python's `multiprocessing`: [`coming_from_multiprocessing`] maps every name and lists the
//! differences.

// Lints for the product but not for its tests and benchmarks, besides the workspace's lints.
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
mod condition;
mod context;
mod doctor;
#[cfg(feature = "worker")]
pub mod dummy;
mod error;
mod escape;
pub mod events;
mod exchange;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod module;
pub mod policy;
pub mod pool;
pub mod process;
mod protocol;
pub mod sandbox;
mod spec;
mod spin;
mod sys;
pub mod target;
pub mod value;
#[cfg(feature = "worker")]
mod worker;

pub use context::{StartError, StartMethod, init};
pub use error::{BuildError, Closed, MapError, StillRunning, TaskError, TimedOut};
pub use exchange::{ipc, sync};
#[doc(inline)]
pub use module::{Module, ModuleError};
#[doc(inline)]
pub use policy::Policy;
#[doc(inline)]
pub use pool::{AsyncResult, Func, Imap, ImapUnordered, Pool, PoolBuilder};
#[doc(inline)]
pub use process::{Process, ProcessBuilder};
#[cfg(feature = "fault-points")]
#[doc(hidden)]
pub use spec::{Fault, FaultAction, FaultPhase};
pub use spec::{Isolation, Limit, Limits};
#[cfg(feature = "fault-points")]
#[doc(hidden)]
pub use sys::Attempt;
#[doc(inline)]
pub use target::Target;
