//! The values of flags that are a choice among a few names, and the small types that flags are read into.
//!
//! `args` reads them, `settings` passes them on, and the module that acts on one takes it from here. So no
//! module that reports, writes or reads has to import the arguments, and the arguments import none of those.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use crate::spec::{DirAccess, ProfilingStrategy};

/// `--generate`: what is printed instead of running a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Generate {
    Man,
    CompleteBash,
    CompleteZsh,
    CompleteFish,
}

/// `--lang`: the language of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    Rust,
}

/// `--world`: what a project exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum World {
    #[default]
    Task,
    Typed,
    Command,
}

/// `--color`: whether stderr is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum UseColor {
    #[default]
    Auto,
    Always,
    Never,
}

/// `--wasm`: parts of WebAssembly that are off by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Wasm {
    Exceptions,
    Gc,
}

/// `--input-format` and `--output-format`: the text form of records and of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum ValueForm {
    #[default]
    Auto,
    Raw,
    Wave,
    Json,
}

/// `--unknown-imports`: what becomes of a module that imports functions which the host does not provide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum UnknownImports {
    #[default]
    Refuse,
    Trap,
}

/// `--backoff`: how the pauses between the attempts at a task grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Growth {
    #[default]
    Fixed,
    Exponential,
}

/// The value of `--resume` and its siblings: whether the job log must be one of the same module, function,
/// settings and input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogMatch {
    Same,
    Force,
}

/// `--as-args`: how a record becomes arguments of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum AsArgs {
    One,
    Words,
}

/// `--start-method`: how worker processes are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum StartChoice {
    /// Fork them from a process that has the module loaded
    #[default]
    Forkserver,
    /// Execute each anew
    Spawn,
}

/// `--format`: what stdout gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum OutputForm {
    #[default]
    Text,
    Jsonl,
}

/// `--success-output` and `--failure-output`: how much of a task's output stderr gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Show {
    Never,
    #[value(alias = "short")]
    Immediate,
    Full,
}

/// `--exit-code`: what failed tasks do to the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum ExitRule {
    #[default]
    Plain,
    Count,
}

/// `--no-input`: whether an input without records is a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum NoInput {
    #[default]
    Ok,
    Fail,
}

/// `--progress`: how progress is shown on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum ProgressForm {
    #[default]
    Auto,
    Bar,
    Counter,
    None,
}

/// `-j`: a number of workers, absolute or relative to the number of processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JobCount {
    Default,
    Exactly(usize),
    Percent(usize),
    More(usize),
    Fewer(usize),
}

/// `--dir`: a granted directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DirArg {
    pub(super) host: PathBuf,
    pub(super) guest: String,
    pub(super) access: DirAccess,
}

/// `--joblog`: the path of a job log, and whether the run appends to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogFile {
    pub(super) path: PathBuf,
    pub(super) append: bool,
}

/// `--profile`: how guests are profiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ProfileArg {
    Guest { path: PathBuf, interval: Duration },
    PerfMap,
    JitDump,
}

impl ProfileArg {
    pub(super) fn strategy(&self) -> ProfilingStrategy {
        match self {
            ProfileArg::Guest { interval, .. } => ProfilingStrategy::Guest { interval: *interval },
            ProfileArg::PerfMap => ProfilingStrategy::PerfMap,
            ProfileArg::JitDump => ProfilingStrategy::JitDump,
        }
    }
}

/// `--share`: an object that guests open by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShareArg {
    /// As it is typed.
    pub(super) text: String,
    pub(super) what: ShareKind,
    pub(super) name: String,
}

/// What is shared, and what it is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ShareKind {
    Queue { max_len: Option<usize> },
    JoinableQueue { max_len: Option<usize> },
    Pipe,
    Value { text: String },
    Dict { max_len: Option<usize> },
    Lock,
    RLock,
    Semaphore { value: u64 },
    BoundedSemaphore { value: u64 },
    Event,
    Condition,
    Barrier { parties: u32 },
}

/// `--drain`, `--fill`: a queue by its name, and a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueueFile {
    pub(super) queue: String,
    pub(super) path: PathBuf,
}
