//! The flags as they are typed, with their help texts. `settings` decides what they mean together.
//!
//! The arguments import `choices` and `parse`, and nothing else of the command line.

mod guest;
mod map;
mod module;
mod one;
mod project;
mod python;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub(super) use self::guest::{GrantArgs, LimitArgs, ShareArgs, TargetArgs};
use self::guest::{MESSAGES, SHARED};
pub(super) use self::map::{FailureArgs, LogArgs, MapArgs, MapOptions};
pub(super) use self::module::{CachePlaceArgs, CompilerArgs, LoadArgs, ModuleArgs, SandboxArgs};
pub(super) use self::one::{CallArgs, RunArgs};
pub(super) use self::project::{BuildArgs, NewArgs};
pub(super) use self::python::PythonArgs;
use super::choices::{Generate, ShareArg, UseColor};
use super::parse::{duration, share, size};

const EXAMPLES: &str = "\
Examples:
  wpool map module.wasm inputs.txt -j 5         each line through the module, five workers
  wpool map module.wasm --items a b c           the same for three words
  wpool call module.wasm 'scale(7, 2.5)'        one call
  wpool run command.wasm one two                a command with two arguments
  wpool python script.py inputs.txt --func f    each line through a Python function
  wpool inspect module.wasm                     what it imports and exports

Exit codes: 0 all done, 1 some tasks failed, 2 nothing could be run, 3 the pool is broken,
4 input or output error. See `wpool map --help` and `wpool run --help` for the rest.";

/// Run untrusted WebAssembly functions in a pool of sandboxed worker processes.
#[derive(Debug, Parser)]
#[command(
    name = "wpool",
    version,
    args_override_self = true,
    arg_required_else_help = true,
    after_help = EXAMPLES,
    max_term_width = 100
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) talk: TalkArgs,

    /// Print a man page or the completions for a shell
    #[arg(long, value_enum, value_name = "KIND", exclusive = true)]
    pub(super) generate: Option<Generate>,

    #[command(subcommand)]
    pub(super) command: Option<CliCommand>,
}

/// What wpool says on stderr.
#[derive(Debug, Args)]
pub(super) struct TalkArgs {
    /// No summary, no progress, no warnings; failed tasks are still named
    #[arg(short, long, global = true, help_heading = MESSAGES)]
    pub(super) quiet: bool,

    /// Say more about what wpool does
    #[arg(short, long, global = true, conflicts_with = "quiet", help_heading = MESSAGES)]
    pub(super) verbose: bool,

    /// Colour on stderr; auto: on a terminal, unless NO_COLOR is set
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value_t,
        env = "WPOOL_COLOR",
        hide_env_values = true,
        help_heading = MESSAGES
    )]
    pub(super) color: UseColor,
}

#[derive(Debug, Subcommand)]
pub(super) enum CliCommand {
    /// Run a function for every record of the inputs, in a pool of worker processes
    #[command(after_long_help = map::EXAMPLES)]
    Map(Box<MapArgs>),
    /// Run a Python script in the sandbox, or map one of its functions over records
    #[command(
        after_long_help = python::EXAMPLES,
        override_usage = "wpool python [OPTIONS] <SCRIPT.py|-c CODE> [INPUTS]..."
    )]
    Python(Box<PythonArgs>),
    /// Call a function once, with arguments in WAVE, and print its result
    Call(CallArgs),
    /// Run a command with arguments, or a function, in one worker process
    #[command(
        after_long_help = one::RUN_EXAMPLES,
        override_usage = "wpool run [OPTIONS] <MODULE> [ARGS]..."
    )]
    Run(RunArgs),
    /// Show what a module imports and exports, without running it
    Inspect(InspectArgs),
    /// Write a project for a guest, and print the two commands that build and run it
    New(NewArgs),
    /// Build the module of a project with the tools that are installed, and print its path
    Build(BuildArgs),
    /// Compile modules into the cache and print the paths of the entries
    Compile(CompileArgs),
    /// List the modules in the cache, remove them, or print the path of the cache
    Cache(CacheCommandArgs),
    /// Summarise a job log that `map --joblog` has written
    Report(ReportArgs),
    /// Show what this machine offers, and what is enforced in processes of each kind
    ///
    /// The exit code is 1 if a process lacks a property that it must have.
    Doctor(DoctorArgs),
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    #[command(flatten)]
    pub(super) module: ModuleArgs,

    #[command(flatten)]
    pub(super) grants: GrantArgs,

    /// Say which of these objects guests could open, as --share of map, run and call gives them
    #[arg(long = "share", value_name = "KIND:NAME[=N]", value_parser = share, help_heading = SHARED)]
    pub(super) shares: Vec<ShareArg>,

    /// Print one JSON object: {kind, digest, size, needs: [FEATURE], imports: [{name, granted, note}],
    /// exports: [{path, name, wit, role}]}
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct CacheCommandArgs {
    #[command(subcommand)]
    pub(super) what: Option<CacheCommand>,

    #[command(flatten)]
    pub(super) cache: CachePlaceArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum CacheCommand {
    /// One line for each module, with tabs between digest, size, last use and file name (the default)
    List,
    /// Remove modules that are unused for long, or that are more than the cache may hold
    Clean(CleanArgs),
    /// Print the path of the cache
    Dir,
}

#[derive(Debug, Args)]
pub(super) struct CleanArgs {
    /// Remove everything
    #[arg(long, conflicts_with_all = ["older_than", "max_size"])]
    pub(super) all: bool,

    /// Remove modules that were not used for this time: 30d, 12h [default: that of --cache-age]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) older_than: Option<Duration>,

    /// Remove the least recently used modules until the rest fits this size: 1G
    /// [default: that of --cache-size]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(super) max_size: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// The job log, also of a run that has not ended
    pub(super) log: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    pub(super) grants: GrantArgs,
}

#[derive(Debug, Args)]
pub(super) struct CompileArgs {
    /// The modules
    #[arg(required = true)]
    pub(super) modules: Vec<PathBuf>,

    #[command(flatten)]
    pub(super) cache: CachePlaceArgs,

    #[command(flatten)]
    pub(super) compiler: CompilerArgs,

    #[command(flatten)]
    pub(super) sandbox: SandboxArgs,
}
