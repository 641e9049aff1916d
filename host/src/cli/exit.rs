//! The exit codes: what `wpool` promises to scripts.

use std::io;

use super::stdio;
use crate::error::{BuildError, TaskError};
use crate::module::ModuleError;
use crate::process::{ExitReason, ExitStatus};
use crate::spec::{Limit, TargetError};

/// How `wpool` ends. The first group is that of all subcommands but `run`, the second that of `run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// 0: every task succeeded; an empty input is one too.
    Success,
    /// 1: some tasks failed; all other results were delivered.
    TasksFailed,
    /// 1, `doctor`: not all holds that must.
    Open,
    /// 1 to 101 with `--exit-code=count`: so many tasks failed, 101 for more than 100.
    FailedCount(u8),
    /// 102 to 105 with `--exit-code=count`: 2 to 5, which would look like so many failed tasks.
    BesideCounts(u8),
    /// 2: the command line is wrong, or nothing could be run: an input cannot be opened, the module is refused.
    Usage,
    /// 3: the pool is broken: workers cannot be started, or the initializer failed.
    Broken,
    /// 4: an input could not be read to its end, or output could not be written.
    Io,
    /// 5: stopped by failures, with `--halt` or `--max-fail`.
    Halted,

    /// `run`: the guest's own exit code.
    Guest(u8),
    /// 124, `run`: the time limit. `map`: that of the whole run.
    TimeLimit,
    /// 125, `run`: wpool's own failure. In the other subcommands: an internal error.
    Own,
    /// 126, `run`: the module is refused.
    Refused,
    /// 127, `run`: there is no such module file, or no such export.
    NotFound,
    /// 134, `run`: the guest trapped.
    Trap,
    /// 128+N, `run`: signal N killed the process.
    Killed(u8),

    /// A signal ended `wpool`, which it raises again: shells see 128+N.
    Signal(i32),
}

impl Exit {
    /// What it becomes where the codes 1 to 101 are numbers of failed tasks.
    pub(super) fn beside_counts(self) -> Exit {
        match self {
            Exit::Usage | Exit::Broken | Exit::Io | Exit::Halted => Exit::BesideCounts(100 + self.code()),
            Exit::Success
            | Exit::TasksFailed
            | Exit::Open
            | Exit::FailedCount(_)
            | Exit::BesideCounts(_)
            | Exit::Guest(_)
            | Exit::TimeLimit
            | Exit::Own
            | Exit::Refused
            | Exit::NotFound
            | Exit::Trap
            | Exit::Killed(_)
            | Exit::Signal(_) => self,
        }
    }

    pub(super) fn code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::TasksFailed | Exit::Open => 1,
            Exit::Usage => 2,
            Exit::Broken => 3,
            Exit::Io => 4,
            Exit::Halted => 5,
            Exit::FailedCount(code) | Exit::BesideCounts(code) | Exit::Guest(code) => code,
            Exit::TimeLimit => 124,
            Exit::Own => 125,
            Exit::Refused => 126,
            Exit::NotFound => 127,
            Exit::Trap => 134,
            Exit::Killed(signal) => 128 + (signal & 0x7f),
            Exit::Signal(signal) => 128 + u8::try_from(signal & 0x7f).expect("seven bits fit a byte"),
        }
    }
}

/// Why a subcommand stopped short: one line for the user, and the exit code.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    /// Empty: all has been said.
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into() }
    }

    /// Nothing could be run.
    pub(super) fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// Our output did not go out. A reader that has left is no error to talk about.
    pub(super) fn output(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::new(Exit::Signal(libc::SIGPIPE), ""),
            _ => Failure::new(Exit::Io, format!("cannot write output: {}", stdio::words(&error))),
        }
    }
}

impl From<ModuleError> for Failure {
    fn from(error: ModuleError) -> Self {
        Failure::new(of_module_error(&error), error.to_string())
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        Failure::new(of_build_error(&error), error.to_string())
    }
}

fn of_module_error(error: &ModuleError) -> Exit {
    match error {
        ModuleError::Io(_)
        | ModuleError::NotWasm(_)
        | ModuleError::Invalid(_)
        | ModuleError::NeedsFeatures { .. }
        | ModuleError::MissingImports { .. }
        | ModuleError::CompileLimit(_) => Exit::Usage,
        ModuleError::Start(_) | ModuleError::Sandbox(_) | ModuleError::Compiler(_) => Exit::Broken,
        ModuleError::At { source, .. } => of_module_error(source),
    }
}

fn of_build_error(error: &BuildError) -> Exit {
    match error {
        BuildError::Module(error) => of_module_error(error),
        BuildError::Target(_)
        | BuildError::MissingImports { .. }
        | BuildError::Memory { .. }
        | BuildError::Limits { .. }
        | BuildError::Policy { .. }
        | BuildError::Argument { .. }
        | BuildError::TooManyArguments { .. }
        | BuildError::MissingArguments { .. }
        | BuildError::Type { .. }
        | BuildError::ResultType { .. }
        | BuildError::Format(_) => Exit::Usage,
        BuildError::Io(_) | BuildError::Start(_) | BuildError::Closed(_) | BuildError::Broken { .. } => {
            Exit::Broken
        }
    }
}

/// For `run`, whose own codes must not look like a guest's.
pub(super) fn of_module_error_in_run(error: &ModuleError) -> Exit {
    match error {
        ModuleError::Io(_) => Exit::NotFound,
        ModuleError::NotWasm(_)
        | ModuleError::Invalid(_)
        | ModuleError::NeedsFeatures { .. }
        | ModuleError::MissingImports { .. }
        | ModuleError::CompileLimit(_) => Exit::Refused,
        ModuleError::Start(_) | ModuleError::Sandbox(_) | ModuleError::Compiler(_) => Exit::Own,
        ModuleError::At { source, .. } => of_module_error_in_run(source),
    }
}

/// For `run`.
pub(super) fn of_build_error_in_run(error: &BuildError) -> Exit {
    match error {
        BuildError::Module(error) => of_module_error_in_run(error),
        BuildError::Target(
            TargetError::Unknown { .. } | TargetError::Ambiguous { .. } | TargetError::NoDefault { .. },
        ) => Exit::NotFound,
        BuildError::Target(TargetError::Uncallable { .. })
        | BuildError::MissingImports { .. }
        | BuildError::Memory { .. } => Exit::Refused,
        BuildError::Limits { .. }
        | BuildError::Policy { .. }
        | BuildError::Argument { .. }
        | BuildError::TooManyArguments { .. }
        | BuildError::MissingArguments { .. }
        | BuildError::Type { .. }
        | BuildError::ResultType { .. }
        | BuildError::Format(_) => Exit::Usage,
        BuildError::Io(_) | BuildError::Start(_) | BuildError::Closed(_) | BuildError::Broken { .. } => {
            Exit::Own
        }
    }
}

/// For `run`: the end of its process.
pub(super) fn of_process(status: &ExitStatus) -> Exit {
    match &status.reason {
        ExitReason::Returned => Exit::Guest(low_byte(status.exitcode)),
        ExitReason::Failed(error) => of_task_error(error),
        ExitReason::Signaled(signal) => Exit::Killed(low_byte(*signal)),
        ExitReason::Exited(_) | ExitReason::Unknown => Exit::Own,
    }
}

fn of_task_error(error: &TaskError) -> Exit {
    match error {
        TaskError::Failed { .. } | TaskError::BadResult { .. } => Exit::Guest(1),
        TaskError::Limit { limit: Limit::Time, .. } => Exit::TimeLimit,
        TaskError::Limit {
            limit: Limit::Memory | Limit::Fuel | Limit::Stack | Limit::Table | Limit::Output | Limit::Input,
            ..
        } => Exit::Guest(1),
        TaskError::Trap { .. } => Exit::Trap,
        TaskError::Exited { code } => Exit::Guest(low_byte(code.cast_signed())),
        TaskError::WorkerLost { exitcode: Some(code), .. } if *code < 0 => Exit::Killed(low_byte(-code)),
        TaskError::WorkerLost { .. }
        | TaskError::BadRecord { .. }
        | TaskError::Cancelled
        | TaskError::Closed
        | TaskError::Broken { .. } => Exit::Own,
    }
}

/// What a parent process sees of an exit code.
fn low_byte(code: i32) -> u8 {
    u8::try_from(code & 0xff).expect("eight bits fit a byte")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_what_is_documented() {
        let codes = [
            (Exit::Success, 0),
            (Exit::TasksFailed, 1),
            (Exit::Open, 1),
            (Exit::FailedCount(101), 101),
            (Exit::Usage, 2),
            (Exit::Broken, 3),
            (Exit::Io, 4),
            (Exit::Halted, 5),
            (Exit::Guest(7), 7),
            (Exit::TimeLimit, 124),
            (Exit::Own, 125),
            (Exit::Refused, 126),
            (Exit::NotFound, 127),
            (Exit::Trap, 134),
            (Exit::Killed(9), 137),
            (Exit::Signal(2), 130),
        ];
        for (exit, code) in codes {
            assert_eq!(exit.code(), code, "{exit:?}");
        }
    }

    #[test]
    fn no_code_of_ours_looks_like_a_number_of_failed_tasks() {
        let ours =
            [Exit::Usage, Exit::Broken, Exit::Io, Exit::Halted, Exit::TimeLimit, Exit::Own, Exit::Signal(15)];
        let codes = ours.map(|exit| exit.beside_counts().code());
        assert_eq!(codes, [102, 103, 104, 105, 124, 125, 143]);
        assert_eq!(Exit::FailedCount(2).beside_counts().code(), 2);
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
