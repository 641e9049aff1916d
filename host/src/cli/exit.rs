//! The exit codes: what `wpool` promises to scripts, and the errors that lead to them.

use std::fmt;
use std::io;

use super::stdio;
use crate::error::{BuildError, TaskError};
use crate::module::ModuleError;
use crate::process::{ExitReason, ExitStatus};
use crate::spec::{Limit, TargetError};

/// How `wpool` ends. The first group belongs to all subcommands but `run`, the second to `run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WpoolExit {
    /// 0: every task succeeded. An empty input is a success too.
    Success,
    /// 1: some tasks failed; all other results were delivered.
    TasksFailed,
    /// 1, `doctor`: a process lacks a property that it must have.
    Unconfined,
    /// 1 to 101 with `--exit-code=count`: the number of failed tasks, 101 for more than 100.
    FailedCount(u8),
    /// 102 to 105 with `--exit-code=count`: the codes 2 to 5, which would look like a number of failed tasks.
    BesideCounts(u8),
    /// 2: the command line is wrong, or nothing could be run: an input cannot be opened, the module is
    /// refused.
    Usage,
    /// 3: the pool is broken: workers cannot be started, or the initializer failed.
    Broken,
    /// 4: an input could not be read to its end, or output could not be written.
    Io,
    /// 5: stopped by failures, with `--halt` or `--max-fail`.
    Halted,

    /// `run`: the guest's own exit code.
    Guest(u8),
    /// 124, `run`: the time limit. `map`: the time limit of the whole run.
    TimeLimit,
    /// 125, `run`: wpool itself failed. In the other subcommands: an internal error.
    Own,
    /// 126, `run`: the module is refused.
    Refused,
    /// 127, `run`: there is no such module file, or no such export.
    NotFound,
    /// 134, `run`: the guest trapped.
    Trap,
    /// 128+N, `run`: signal N killed the process.
    Killed(u8),

    /// A signal ended `wpool`, which raises it again: shells see 128+N.
    Signal(i32),
}

impl WpoolExit {
    /// The exit where the codes 1 to 101 are numbers of failed tasks.
    pub(super) fn beside_counts(self) -> WpoolExit {
        match self {
            WpoolExit::Usage | WpoolExit::Broken | WpoolExit::Io | WpoolExit::Halted => {
                WpoolExit::BesideCounts(100 + self.code())
            }
            WpoolExit::Success
            | WpoolExit::TasksFailed
            | WpoolExit::Unconfined
            | WpoolExit::FailedCount(_)
            | WpoolExit::BesideCounts(_)
            | WpoolExit::Guest(_)
            | WpoolExit::TimeLimit
            | WpoolExit::Own
            | WpoolExit::Refused
            | WpoolExit::NotFound
            | WpoolExit::Trap
            | WpoolExit::Killed(_)
            | WpoolExit::Signal(_) => self,
        }
    }

    /// The documented exit code: the one place that has the numbers.
    pub(super) fn code(self) -> u8 {
        match self {
            WpoolExit::Success => 0,
            WpoolExit::TasksFailed | WpoolExit::Unconfined => 1,
            WpoolExit::Usage => 2,
            WpoolExit::Broken => 3,
            WpoolExit::Io => 4,
            WpoolExit::Halted => 5,
            WpoolExit::FailedCount(code) | WpoolExit::BesideCounts(code) | WpoolExit::Guest(code) => code,
            WpoolExit::TimeLimit => 124,
            WpoolExit::Own => 125,
            WpoolExit::Refused => 126,
            WpoolExit::NotFound => 127,
            WpoolExit::Trap => 134,
            WpoolExit::Killed(signal) => 128 + (signal & 0x7f),
            WpoolExit::Signal(signal) => 128 + u8::try_from(signal & 0x7f).expect("seven bits fit a byte"),
        }
    }
}

/// Why a subcommand stopped early: the exit, and what its error says on one line.
#[derive(Debug)]
pub(super) struct CliError {
    pub(super) exit: WpoolExit,
    /// `None`: there is nothing to say.
    pub(super) error: Option<anyhow::Error>,
}

impl CliError {
    pub(super) fn new(exit: WpoolExit, message: impl Into<String>) -> CliError {
        CliError { exit, error: Some(anyhow::Error::msg(message.into())) }
    }

    /// Nothing could be run.
    pub(super) fn usage(message: impl Into<String>) -> CliError {
        CliError::new(WpoolExit::Usage, message)
    }

    /// Our output could not be written. If its reader has closed its end, there is nothing to say.
    pub(super) fn output(error: io::Error) -> CliError {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return CliError { exit: WpoolExit::Signal(libc::SIGPIPE), error: None };
        }
        let error = anyhow::Error::new(error).context("cannot write output");
        CliError { exit: WpoolExit::Io, error: Some(error) }
    }

    pub(super) fn has_message(&self) -> bool {
        self.error.is_some()
    }
}

/// The error after each of its contexts, with a colon between.
impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, cause) in self.error.iter().flat_map(anyhow::Error::chain).enumerate() {
            let separator = if n > 0 { ": " } else { "" };
            match cause.downcast_ref::<io::Error>() {
                Some(error) => write!(f, "{separator}{}", stdio::words(error))?,
                None => write!(f, "{separator}{cause}")?,
            }
        }
        Ok(())
    }
}

/// Turns an error into a [`CliError`].
pub(super) trait OrExit<T> {
    /// `context` says what wpool could not do.
    fn or_exit(self, exit: WpoolExit, context: impl FnOnce() -> String) -> Result<T, CliError>;
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: WpoolExit, context: impl FnOnce() -> String) -> Result<T, CliError> {
        self.map_err(|error| CliError { exit, error: Some(error.into().context(context())) })
    }
}

impl From<ModuleError> for CliError {
    fn from(error: ModuleError) -> Self {
        CliError::new(Cause::of_module(&error).exit(), error.to_string())
    }
}

impl From<BuildError> for CliError {
    fn from(error: BuildError) -> Self {
        CliError::new(Cause::of_build(&error).exit(), error.to_string())
    }
}

/// The kind of error that keeps a module or a function from running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The module's file cannot be read.
    NoModule,
    /// The module does not have the function.
    NoExport,
    /// The module cannot run here, or not with these grants.
    Module,
    /// The flags do not fit the module, or each other.
    Flags,
    /// wpool could not start or confine its processes.
    Own,
}

impl Cause {
    /// The exit of all subcommands but `run`.
    fn exit(self) -> WpoolExit {
        match self {
            Cause::NoModule | Cause::NoExport | Cause::Module | Cause::Flags => WpoolExit::Usage,
            Cause::Own => WpoolExit::Broken,
        }
    }

    /// The exit of `run`, whose codes must not look like a guest's own.
    pub(super) fn exit_of_run(self) -> WpoolExit {
        match self {
            Cause::NoModule | Cause::NoExport => WpoolExit::NotFound,
            Cause::Module => WpoolExit::Refused,
            Cause::Flags => WpoolExit::Usage,
            Cause::Own => WpoolExit::Own,
        }
    }

    pub(super) fn of_module(error: &ModuleError) -> Cause {
        match error {
            ModuleError::Io(_) => Cause::NoModule,
            ModuleError::NotWasm(_)
            | ModuleError::Invalid(_)
            | ModuleError::NeedsFeatures { .. }
            | ModuleError::MissingImports { .. }
            | ModuleError::CompileLimit(_) => Cause::Module,
            ModuleError::Start(_) | ModuleError::Sandbox(_) | ModuleError::Compiler(_) => Cause::Own,
            ModuleError::At { source, .. } => Cause::of_module(source),
        }
    }

    pub(super) fn of_build(error: &BuildError) -> Cause {
        match error {
            BuildError::Module(error) => Cause::of_module(error),
            BuildError::Target(
                TargetError::Unknown { .. } | TargetError::Ambiguous { .. } | TargetError::NoDefault { .. },
            ) => Cause::NoExport,
            BuildError::Target(TargetError::Uncallable { .. })
            | BuildError::MissingImports { .. }
            | BuildError::Memory { .. } => Cause::Module,
            BuildError::Limits { .. }
            | BuildError::Policy { .. }
            | BuildError::Argument { .. }
            | BuildError::TooManyArguments { .. }
            | BuildError::MissingArguments { .. }
            | BuildError::Type { .. }
            | BuildError::ResultType { .. }
            | BuildError::Function { .. }
            | BuildError::Format(_) => Cause::Flags,
            BuildError::Io(_) | BuildError::Start(_) | BuildError::Closed(_) | BuildError::Broken { .. } => {
                Cause::Own
            }
        }
    }
}

/// For `run`: the end of its process.
pub(super) fn of_process(status: &ExitStatus) -> WpoolExit {
    match &status.reason {
        ExitReason::Returned => WpoolExit::Guest(low_byte(status.exitcode)),
        ExitReason::Failed(error) => of_task_error(error),
        ExitReason::Signaled(signal) => WpoolExit::Killed(low_byte(*signal)),
        ExitReason::Exited(_) | ExitReason::Unknown => WpoolExit::Own,
    }
}

fn of_task_error(error: &TaskError) -> WpoolExit {
    match error {
        TaskError::Failed { .. } | TaskError::BadResult { .. } => WpoolExit::Guest(1),
        TaskError::Limit { limit: Limit::Time, .. } => WpoolExit::TimeLimit,
        TaskError::Limit {
            limit: Limit::Memory | Limit::Fuel | Limit::Stack | Limit::Table | Limit::Output | Limit::Input,
            ..
        } => WpoolExit::Guest(1),
        TaskError::Trap { .. } => WpoolExit::Trap,
        TaskError::Exited { code } => WpoolExit::Guest(low_byte(code.cast_signed())),
        TaskError::WorkerLost { exitcode: Some(code), .. } if *code < 0 => WpoolExit::Killed(low_byte(-code)),
        TaskError::WorkerLost { .. }
        | TaskError::BadRecord { .. }
        | TaskError::Cancelled
        | TaskError::Closed
        | TaskError::Broken { .. } => WpoolExit::Own,
    }
}

/// The part of an exit code that a parent process sees.
fn low_byte(code: i32) -> u8 {
    u8::try_from(code & 0xff).expect("eight bits fit a byte")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_what_is_documented() {
        let codes = [
            (WpoolExit::Success, 0),
            (WpoolExit::TasksFailed, 1),
            (WpoolExit::Unconfined, 1),
            (WpoolExit::FailedCount(101), 101),
            (WpoolExit::Usage, 2),
            (WpoolExit::Broken, 3),
            (WpoolExit::Io, 4),
            (WpoolExit::Halted, 5),
            (WpoolExit::Guest(7), 7),
            (WpoolExit::TimeLimit, 124),
            (WpoolExit::Own, 125),
            (WpoolExit::Refused, 126),
            (WpoolExit::NotFound, 127),
            (WpoolExit::Trap, 134),
            (WpoolExit::Killed(9), 137),
            (WpoolExit::Signal(2), 130),
        ];
        for (exit, code) in codes {
            assert_eq!(exit.code(), code, "{exit:?}");
        }
    }

    #[test]
    fn a_failure_says_what_could_not_be_done_and_why_without_the_errors_number() {
        let error = io::Error::from_raw_os_error(libc::ENOENT);
        let failure = Err::<(), _>(error).or_exit(WpoolExit::Io, || "cannot read x".to_owned()).unwrap_err();
        assert_eq!(failure.to_string(), "cannot read x: No such file or directory");
        let error = anyhow::Error::msg("it is a directory");
        let failure = Err::<(), _>(error).or_exit(WpoolExit::Usage, || "cannot read y".to_owned());
        assert_eq!(failure.unwrap_err().to_string(), "cannot read y: it is a directory");
        assert!(!CliError::output(io::ErrorKind::BrokenPipe.into()).has_message());
    }

    #[test]
    fn no_code_of_ours_looks_like_a_number_of_failed_tasks() {
        let ours = [
            WpoolExit::Usage,
            WpoolExit::Broken,
            WpoolExit::Io,
            WpoolExit::Halted,
            WpoolExit::TimeLimit,
            WpoolExit::Own,
            WpoolExit::Signal(15),
        ];
        let codes = ours.map(|exit| exit.beside_counts().code());
        assert_eq!(codes, [102, 103, 104, 105, 124, 125, 143]);
        assert_eq!(WpoolExit::FailedCount(2).beside_counts().code(), 2);
    }

    #[test]
    fn a_process_ends_with_the_guests_code_or_one_that_tells_why_not() {
        let of = |reason| of_process(&ExitStatus { exitcode: 0, reason }).code();
        assert_eq!(of(ExitReason::Returned), 0);
        assert_eq!(of(ExitReason::Signaled(9)), 137);
        assert_eq!(of(ExitReason::Failed(TaskError::Exited { code: 3 })), 3);
        assert_eq!(
            of(ExitReason::Failed(TaskError::Trap { message: String::new(), backtrace: vec![] })),
            134
        );
        let limit = |limit| ExitReason::Failed(TaskError::Limit { limit, message: String::new() });
        assert_eq!((of(limit(Limit::Time)), of(limit(Limit::Memory))), (124, 1));
    }
}
