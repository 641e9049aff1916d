//! Errors, by whose fault it is: the module's, the caller's, a task's, the pool's.
//!
//! Their texts quote modules, guests and workers. Each is one line, without characters that have power over a terminal.

use std::borrow::Cow;
use std::io;

use crate::context::StartError;
use crate::escape::{list, shortened};
use crate::module::ModuleError;
use crate::policy::PolicyError;
use crate::protocol::message::Failure;
use crate::spec::{Limit, TargetError, size};
use crate::value::Type;

/// A [`Pool`](crate::Pool), [`Process`](crate::Process) or call cannot be built: found before anything starts.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use wpool::{BuildError, TaskError};
/// # let pool = pool("failing")?;
/// # let run = pool.func::<&str, String>("run")?;
/// let missing = pool.func::<&str, String>("rum");
/// assert!(matches!(missing, Err(BuildError::Target(_))));
/// let mistaken = pool.func::<bool, String>("run");
/// assert!(matches!(mistaken, Err(BuildError::Type { .. })));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// There is no such function.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The limits need the module compiled in another way, and it could not be.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The module needs imports that no worker provides.
    #[error("the module needs what is not granted: {}", list(.missing, "; "))]
    MissingImports {
        /// Name and reason, for all of them.
        missing: Vec<String>,
    },
    /// An instance would begin with more memory than a task may have.
    #[error("the module asks for {} of memory, the limit is {} (--memory, Limits::memory)", size(*.asked), size(*.limit))]
    Memory {
        /// Bytes asked for.
        asked: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// Limits that no guest could run with.
    #[error("{reason}")]
    Limits {
        /// Which, and what is possible.
        reason: String,
    },
    /// The policy names what cannot be granted.
    #[error("{} cannot be granted: {}", shortened(.what), shortened(.reason))]
    Policy {
        /// What it names.
        what: String,
        /// Why not.
        reason: String,
    },
    /// An argument that is the same for every task is not of its parameter's type.
    #[error("argument {} of {}: {}", shortened(.index), shortened(.func), shortened(.reason))]
    Argument {
        /// The function.
        func: String,
        /// Position, or name.
        index: String,
        /// What was expected.
        reason: String,
    },
    /// More arguments than parameters.
    #[error("{} takes {expected} arguments, {given} are given", shortened(.func))]
    TooManyArguments {
        /// The function.
        func: String,
        /// How many parameters it has.
        expected: usize,
        /// How many were given.
        given: usize,
    },
    /// Parameters that nothing fills.
    #[error("{} needs a value for {}", shortened(.func), list(.missing, ", "))]
    MissingArguments {
        /// The function.
        func: String,
        /// The parameters, each as `argument 2 (factor: f64)`; those of a core module have no names.
        missing: Vec<String>,
    },
    /// The Rust type of a [`Func`](crate::Func)'s arguments does not match the parameters that are free.
    #[error("{} is {}, which does not take {}", shortened(.func), shortened(.wit), rust_type(rust))]
    Type {
        /// The function.
        func: String,
        /// Its type.
        wit: String,
        /// The Rust type.
        rust: &'static str,
    },
    /// The Rust type of a [`Func`](crate::Func)'s result does not match what the function gives.
    #[error("{} is {}, which does not give {}", shortened(.func), shortened(.wit), rust_type(rust))]
    ResultType {
        /// The function.
        func: String,
        /// Its type.
        wit: String,
        /// The Rust type.
        rust: &'static str,
    },
    /// An input or output format that does not go with the function.
    #[error("{}", shortened(.0))]
    Format(String),
    /// The pool's own thread or files could not be made.
    #[error("cannot set up the pool: {0}")]
    Io(#[from] io::Error),
    /// A worker could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The pool takes no more tasks.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The pool was to have its workers at once, and they cannot run: [`PoolBuilder::lazy`](crate::PoolBuilder::lazy).
    #[error("the pool is broken: {}", shortened(.reason))]
    Broken {
        /// Why.
        reason: String,
    },
}

impl From<PolicyError> for BuildError {
    fn from(PolicyError { what, reason }: PolicyError) -> BuildError {
        BuildError::Policy { what, reason }
    }
}

/// A Rust type's name without the paths of the standard library.
fn rust_type(name: &str) -> String {
    ["alloc::string::", "alloc::vec::", "core::option::", "core::result::"]
        .iter()
        .fold(name.to_owned(), |name, path| name.replace(path, ""))
}

/// Why a task has no result. Concerns this task only: others go on.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use wpool::{BuildError, TaskError};
/// # let pool = pool("failing")?;
/// # let run = pool.func::<&str, String>("run")?;
/// for outcome in pool.try_map(&run, ["good", "bad", "panic", "exit"]) {
///     match outcome {
///         Ok(value) => println!("{value}"),
///         Err(TaskError::Failed { message }) => println!("the function's own error: {message}"),
///         Err(TaskError::Trap { message, backtrace }) => println!("{message} in {backtrace:?}"),
///         Err(other) => println!("{}: {other}", other.kind()),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The function returned `err(..)`: what an exception is in Python.
    Failed {
        /// The error value; text as it is, other types as WAVE.
        message: String,
    },
    /// The guest trapped.
    Trap {
        /// The engine's word for the trap.
        message: String,
        /// The guest's frames, innermost first.
        backtrace: Vec<String>,
    },
    /// The task reached a limit of [`Limits`](crate::Limits).
    Limit {
        /// Which.
        limit: Limit,
        /// With the figure.
        message: String,
    },
    /// The guest called `exit`.
    Exited {
        /// Its argument. A component tells no other than 1, unless it imports `exit-with-code`.
        code: u32,
    },
    /// The record is not a value of the parameter's type.
    BadRecord {
        /// What was expected.
        message: String,
    },
    /// The guest's result breaks the rules of its type, or is not of the type asked for.
    BadResult {
        /// How.
        message: String,
    },
    /// The worker process died while it ran this task.
    WorkerLost {
        /// As Python's `exitcode`: -N for signal N.
        exitcode: Option<i32>,
        /// In words.
        reason: String,
    },
    /// The task was cancelled, or its pool terminated.
    Cancelled,
    /// The pool was closed or terminated before: it takes no more tasks.
    Closed,
    /// The pool cannot go on.
    Broken {
        /// Why.
        reason: String,
    },
}

impl From<Failure> for TaskError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Failed { message } => TaskError::Failed { message },
            Failure::Trap { message, backtrace } => TaskError::Trap { message, backtrace },
            Failure::Limit { limit, message } => TaskError::Limit { limit, message },
            Failure::Exited { code } => TaskError::Exited { code },
            Failure::BadRecord { message } => TaskError::BadRecord { message },
            Failure::BadResult { message } => TaskError::BadResult { message },
            Failure::NoInstance { failure } => TaskError::from(*failure).without_instance(),
            Failure::Cancelled => TaskError::Cancelled,
        }
    }
}

impl std::fmt::Display for TaskError {
    /// [`TaskError::message`] on one line, and cut off where it gets long: for people, terminals and logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&shortened(&self.message()))
    }
}

impl TaskError {
    /// The whole message, with the guest's own words exactly as they are: with its newlines, and whatever else it may have thought of to
    /// confuse a terminal. [`Display`](std::fmt::Display) shows the same on one line, escaped and shortened.
    pub fn message(&self) -> Cow<'_, str> {
        match self {
            TaskError::Failed { message } | TaskError::Limit { message, .. } => message.into(),
            TaskError::Trap { message, .. } => format!("trap: {message}").into(),
            // More than this the host does not learn: see `wasi:cli/exit`.
            TaskError::Exited { code: 1 } => {
                "exit: guest called exit(1), which from a component is any code but 0".into()
            }
            TaskError::Exited { code } => format!("exit: guest called exit({code})").into(),
            TaskError::BadRecord { message } => format!("bad input: {message}").into(),
            TaskError::BadResult { message } => format!("bad result: {message}").into(),
            TaskError::WorkerLost { reason, .. } => format!("worker died: {reason}").into(),
            TaskError::Cancelled => "cancelled".into(),
            TaskError::Closed => "the pool is not running".into(),
            TaskError::Broken { reason } => format!("the pool is broken: {reason}").into(),
        }
    }

    /// One word for the kind of error, stable, for machines: `failed`, `trap`, `time`, `memory`, ...
    pub fn kind(&self) -> &'static str {
        match self {
            TaskError::Failed { .. } => "failed",
            TaskError::Trap { .. } => "trap",
            TaskError::Limit { limit, .. } => match limit {
                Limit::Time => "time",
                Limit::Memory => "memory",
                Limit::Fuel => "fuel",
                Limit::Stack => "stack",
                Limit::Table => "table",
                Limit::Output => "output",
                Limit::Input => "input",
            },
            TaskError::Exited { .. } => "exit",
            TaskError::BadRecord { .. } => "bad-input",
            TaskError::BadResult { .. } => "bad-result",
            TaskError::WorkerLost { .. } => "worker-lost",
            TaskError::Cancelled => "cancelled",
            TaskError::Closed => "closed",
            TaskError::Broken { .. } => "broken",
        }
    }

    /// What happened while the instance was made, of which the text tells.
    fn without_instance(mut self) -> TaskError {
        if let TaskError::Trap { message, .. }
        | TaskError::Limit { message, .. }
        | TaskError::BadResult { message } = &mut self
        {
            message.insert_str(0, "cannot instantiate: ");
        }
        self
    }

    pub(crate) fn wrong_result(result: Option<&Type>) -> TaskError {
        let message = match result {
            Some(ty) => format!("a value of type {ty} that does not fit the type asked for"),
            None => "there is none".to_owned(),
        };
        TaskError::BadResult { message }
    }
}

/// [`Pool::map`](crate::Pool::map) and [`Pool::starmap`](crate::Pool::starmap) found a task that failed. All tasks were run to their end (the source is CPython's
/// `MapResult`, which raises the first exception); [`Pool::try_map`](crate::Pool::try_map) gives every outcome.
///
/// It is the first failure in the order of the items; one that was only cancelled stands back for any that explains why.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use wpool::{BuildError, TaskError};
/// # let pool = pool("failing")?;
/// # let run = pool.func::<&str, String>("run")?;
/// let error = pool.map(&run, ["good", "bad", "worse", "panic"]).unwrap_err();
/// assert_eq!((error.index, error.failed), (1, 2));
/// assert_eq!(error.to_string(), "task 1: bad is bad");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("task {index}: {error}")]
pub struct MapError {
    /// Which task: the position of its input, from 0 on.
    pub index: usize,
    /// What happened to it.
    pub error: TaskError,
    /// How many tasks failed in all.
    pub failed: usize,
}

/// An answer did not come in time. The task goes on; asking again later is fine.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use wpool::{BuildError, TaskError};
/// # let pool = pool("failing")?;
/// # let run = pool.func::<&str, String>("run")?;
/// let mut task = pool.apply_async(&run, "loop");
/// assert_eq!(task.get_timeout(std::time::Duration::from_millis(10)), Err(wpool::TimedOut));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub struct TimedOut;

/// The pool takes no more tasks: it was closed or terminated, or it broke.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use wpool::{BuildError, TaskError};
/// # let pool = pool("failing")?;
/// # let run = pool.func::<&str, String>("run")?;
/// let (mut inputs, outcomes) = pool.stream(&"run".into(), true)?;
/// pool.terminate();
/// pool.join()?;
/// assert_eq!(inputs.push(b"good"), Err(wpool::Closed));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pool is not running")]
pub struct Closed;

/// [`Pool::join`](crate::Pool::join) before [`close`](crate::Pool::close) or [`terminate`](crate::Pool::terminate).
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use wpool::{BuildError, TaskError};
/// # let pool = pool("failing")?;
/// # let run = pool.func::<&str, String>("run")?;
/// assert_eq!(pool.join(), Err(wpool::StillRunning));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pool is still running")]
pub struct StillRunning;
