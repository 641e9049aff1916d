//! Errors, by whose fault they are: the module's, the caller's, a task's, the pool's.
//!
//! Their texts quote modules, guests and workers. Each text is one line without characters that control a
//! terminal.

use std::borrow::Cow;
use std::io;

use crate::context::StartError;
use crate::escape::{list, shortened};
use crate::module::ModuleError;
use crate::policy::PolicyError;
use crate::protocol::message::Failure;
use crate::spec::{Limit, TargetError, size};
use crate::value::Type;

/// A [`Pool`](crate::Pool), [`Process`](crate::Process) or call cannot be built. Reported before anything
/// starts.
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
    /// The function was not found.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The module had to be compiled again for these limits or this policy, and that failed.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The module needs imports that no worker with this policy provides.
    #[error("the module needs what is not granted: {}", list(.missing, "; "))]
    MissingImports {
        /// Name and reason of each missing import.
        missing: Vec<String>,
    },
    /// An instance would start with more memory than a task may have.
    #[error(
        "the module asks for {} of memory, the limit is {} (--memory, Limits::memory)",
        size(*.asked), size(*.limit)
    )]
    Memory {
        /// Bytes asked for.
        asked: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// No guest can run with these limits.
    #[error("{reason}")]
    Limits {
        /// The limit, and the values that are possible.
        reason: String,
    },
    /// The policy names something that cannot be granted.
    #[error("{} cannot be granted: {}", shortened(.what), shortened(.reason))]
    Policy {
        /// What the policy names.
        what: String,
        /// The reason.
        reason: String,
    },
    /// A fixed argument does not have its parameter's type.
    #[error("argument {} of {}: {}", shortened(.index), shortened(.func), shortened(.reason))]
    Argument {
        /// The function.
        func: String,
        /// Its position, or its name.
        index: String,
        /// What was expected.
        reason: String,
    },
    /// There are more arguments than parameters.
    #[error("{} takes {}, {} given", shortened(.func), arguments(*.expected), is_or_are(*.given))]
    TooManyArguments {
        /// The function.
        func: String,
        /// The number of its parameters.
        expected: usize,
        /// The number of the arguments.
        given: usize,
    },
    /// Some parameters have no argument.
    #[error("{} needs a value for {}", shortened(.func), list(.missing, ", "))]
    MissingArguments {
        /// The function.
        func: String,
        /// The parameters, each as `argument 2 (factor: f64)`. Those of a core module have no names.
        missing: Vec<String>,
    },
    /// The Rust type of a [`Func`](crate::Func)'s arguments does not match the parameters that are not fixed.
    #[error("{} is {}, which does not take {}", shortened(.func), shortened(.wit), rust_type(rust))]
    Type {
        /// The function.
        func: String,
        /// Its type.
        wit: String,
        /// The Rust type.
        rust: &'static str,
    },
    /// The Rust type of a [`Func`](crate::Func)'s result does not match the function's result.
    #[error("{} is {}, which does not give {}", shortened(.func), shortened(.wit), rust_type(rust))]
    ResultType {
        /// The function.
        func: String,
        /// Its type.
        wit: String,
        /// The Rust type.
        rust: &'static str,
    },
    /// The Rust type of a function of the application does not fit the import that would get it:
    /// [`Policy::function`](crate::Policy::function).
    #[error(
        "the module imports {} as {}, which {} does not fit",
        shortened(.func), shortened(.wit), rust_type(rust)
    )]
    Function {
        /// The import.
        func: String,
        /// Its type.
        wit: String,
        /// The Rust type.
        rust: &'static str,
    },
    /// The function does not support this input or output format.
    #[error("{}", shortened(.0))]
    Format(String),
    /// The pool's own thread or files could not be created.
    #[error("cannot set up the pool: {0}")]
    Io(#[from] io::Error),
    /// A worker could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The pool takes no more tasks.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The pool was to start its workers at once, and they cannot run: see
    /// [`PoolBuilder::lazy`](crate::PoolBuilder::lazy).
    #[error("the pool is broken: {}", shortened(.reason))]
    Broken {
        /// The reason.
        reason: String,
    },
}

impl From<PolicyError> for BuildError {
    fn from(PolicyError { what, reason }: PolicyError) -> BuildError {
        BuildError::Policy { what, reason }
    }
}

/// The name of a Rust type without the paths of the standard library.
fn rust_type(name: &str) -> String {
    ["alloc::string::", "alloc::vec::", "core::option::", "core::result::"]
        .iter()
        .fold(name.to_owned(), |name, path| name.replace(path, ""))
}

/// Why a task has no result. The error concerns this task only; other tasks go on.
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
    /// The function returned `err(..)`, which corresponds to an exception in Python.
    Failed {
        /// The error value: text unchanged, other types as WAVE.
        message: String,
    },
    /// The guest trapped.
    Trap {
        /// The engine's description of the trap.
        message: String,
        /// The guest's stack frames, innermost first.
        backtrace: Vec<String>,
    },
    /// The task reached a limit of [`Limits`](crate::Limits).
    Limit {
        /// The limit.
        limit: Limit,
        /// A message with the limit's figure.
        message: String,
    },
    /// The guest called `exit`.
    Exited {
        /// The code. A component can report no code but 1, unless it imports `exit-with-code`.
        code: u32,
    },
    /// The record is not a value of the parameter's type.
    BadRecord {
        /// What was expected.
        message: String,
    },
    /// The guest's result is not a valid value of its type, or does not fit the type that the caller asked
    /// for.
    BadResult {
        /// What is wrong with it.
        message: String,
    },
    /// The worker process died while it ran this task.
    WorkerLost {
        /// Like Python's `exitcode`: -N for signal N.
        exitcode: Option<i32>,
        /// The reason as text.
        reason: String,
    },
    /// The task was cancelled, or its pool was terminated.
    Cancelled,
    /// The pool was closed or terminated before; it takes no more tasks.
    Closed,
    /// The pool cannot continue.
    Broken {
        /// The reason.
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
    /// [`TaskError::message`] on one line, shortened if it is long: for people, terminals and logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&shortened(&self.message()))
    }
}

impl TaskError {
    /// The whole message, with the guest's text unchanged: it may contain newlines and characters that
    /// control a terminal. [`Display`](std::fmt::Display) shows the same on one line, escaped and shortened.
    pub fn message(&self) -> Cow<'_, str> {
        match self {
            TaskError::Failed { message } | TaskError::Limit { message, .. } => message.into(),
            TaskError::Trap { message, .. } => format!("trap: {message}").into(),
            // `wasi:cli/exit` tells the host only success or failure, so the real code is unknown.
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

    /// A stable word for the kind of error, for programs: `failed`, `trap`, `time`, `memory`, ...
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

    /// Marks an error that happened during instantiation, if its message has room for that.
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

/// [`Pool::map`](crate::Pool::map) or [`Pool::starmap`](crate::Pool::starmap) had a task that failed.
///
/// Every task ran to its end, as in CPython, whose `MapResult` raises the first exception.
/// [`Pool::try_map`](crate::Pool::try_map) returns every outcome instead. `error` is the first failure by
/// index; [`TaskError::Cancelled`] only if no task failed otherwise.
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
    /// The index of the failed task's item, from 0.
    pub index: usize,
    /// The task's error.
    pub error: TaskError,
    /// The number of all failed tasks.
    pub failed: usize,
}

/// The answer did not come in time. The task goes on; the caller may ask again later.
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

/// [`Pool::join`](crate::Pool::join) was called before [`close`](crate::Pool::close) or
/// [`terminate`](crate::Pool::terminate).
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

/// `1 argument`, `2 arguments`.
fn arguments(count: usize) -> String {
    if count == 1 { "1 argument".to_owned() } else { format!("{count} arguments") }
}

/// `1 is`, `2 are`.
fn is_or_are(count: usize) -> String {
    if count == 1 { "1 is".to_owned() } else { format!("{count} are") }
}
