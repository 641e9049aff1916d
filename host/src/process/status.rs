//! How a process ended, and the errors of a process in the wrong state.

#[cfg(doc)]
use super::Process;
use crate::error::TaskError;

/// How a process ended, in the guest's terms.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut process = process("failing", "panic")?;
/// use wpool::process::ExitReason;
/// use wpool::TaskError;
///
/// process.start()?;
/// match process.join()?.reason {
///     ExitReason::Returned => println!("it returned"),
///     ExitReason::Failed(TaskError::Trap { message, .. }) => println!("it trapped: {message}"),
///     ExitReason::Failed(error) => println!("it failed: {error}"),
///     ExitReason::Signaled(signal) => println!("signal {signal} ended it"),
///     reason => println!("{reason:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitReason {
    /// The target returned. A command that calls `exit(0)` has returned.
    Returned,
    /// The target failed, trapped, reached a limit, or called `exit` with another code.
    Failed(TaskError),
    /// A signal ended the process: that of [`Process::terminate`], [`Process::kill`] or
    /// [`Process::interrupt`], or one from outside this program.
    Signaled(i32),
    /// The process ended, and did not say why.
    Exited(i32),
    /// The process ended, did not say why, and has no known exit code: another part of this program took it,
    /// by a `wait` for any child or by ignoring `SIGCHLD`. The `exitcode` beside this is
    /// [`ExitStatus::UNKNOWN`].
    Unknown,
}

/// How a process ended: CPython's `exitcode`, and why.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut process = process("hello", "bob:0")?;
/// use wpool::process::ExitReason;
///
/// process.start()?;
/// let status = process.join()?;
/// assert_eq!((status.exitcode, status.reason), (0, ExitReason::Returned));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitStatus {
    /// As Python's `exitcode`: 0 if the target returned, 1 if it failed, the code of an `exit`, -N for signal
    /// N.
    pub exitcode: i32,
    /// Why.
    pub reason: ExitReason,
}

impl ExitStatus {
    /// The `exitcode` of [`ExitReason::Unknown`]. No process ends with it.
    pub const UNKNOWN: i32 = i32::MIN;
}

/// The process has not been started. Or it was started by the program of which this one is a forked child,
/// which has only a copy of the handle.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut process = process("hello", "bob:0")?;
/// assert_eq!(process.join(), Err(wpool::process::NotStarted));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the process has not been started by this program")]
pub struct NotStarted;

/// The process has been started, and can no longer be changed.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut process = process("hello", "bob:0")?;
/// process.start()?;
/// assert_eq!(process.set_daemon(true), Err(wpool::process::AlreadyStarted));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the process has already been started")]
pub struct AlreadyStarted;
