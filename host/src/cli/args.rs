//! The flags as they are typed. What they mean together is the business of `settings`.

use std::ffi::{OsStr, OsString};
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::parse::{
    DirArg, Jobs, RetryKind, clock, count, delimiter, dir, duration, name_and_value, payload_size, random,
    retry_kind, size, some_size, stack_size,
};
use super::profile::ProfileArg;
use crate::pool::Halt;
use crate::spec::{Clock, Random, Sandbox};

const EXAMPLES: &str = "\
Examples:
  wpool map module.wasm inputs.txt -j 5         each line through the module, five workers
  wpool map module.wasm --items a b c           the same for three words
  wpool call module.wasm 'scale(7, 2.5)'        one call
  wpool run command.wasm one two                a command with two arguments
  wpool inspect module.wasm                     what it imports and exports

Exit codes: 0 all done, 1 some tasks failed, 2 nothing could be run, 3 the pool is broken, 4 input or output error.
See `wpool map --help` and `wpool run --help` for the rest.";

const MAP_EXAMPLES: &str = "\
Examples:
  wpool map module.wasm inputs.txt -j 5
  generate | wpool map module.wasm > results.txt
  find . -print0 | wpool map module.wasm -0 -z
  wpool map module.wasm inputs.txt --func scale --kw factor=2.5
  wpool map module.wasm inputs.txt --timeout 2s --retries 1 --format jsonl
  wpool map module.wasm inputs.txt --joblog log.tsv >> results.txt
  wpool map module.wasm inputs.txt --joblog log.tsv --resume >> results.txt

Tasks are numbered from 1 on; with one input of lines that is the line number.

Exit codes:
  0      every task succeeded (an empty input too, unless --no-input=fail)
  1      some tasks failed; all other results were delivered
  2      wrong usage, or nothing could be run: an input cannot be opened, the module is refused
  3      the pool is broken: workers cannot be started, or the initializer failed
  4      an input could not be read to its end, or output or the job log could not be written
  5      stopped by failures: --halt WHEN,fail=N or --max-fail
  124    the time of the whole run was over (--global-timeout); what was done is written
  125    an internal error
  1..101 with --exit-code count: so many tasks failed, 101 for more than 100; 2 to 5 of the above are 102 to 105 then
  128+N  ended by signal N (130: Ctrl-C, 143: SIGTERM, 141: the reader of the results has left)

Signals: the first Ctrl-C or SIGTERM ends the workers and writes out the results that there are; the second ends everything at once.
SIGHUP does the same; with a job log, and unless standard input is a terminal, running tasks come to their end first. SIGUSR1 prints
what is going on, SIGUSR2 shows or hides the progress. Ctrl-Z stops the workers too; the time until the program is continued counts for no time limit.";

const RUN_EXAMPLES: &str = "\
Examples:
  wpool run command.wasm one --two
  wpool run --dir . command.wasm --input data.txt      the guest has the directory, and two arguments
  wpool run --input data.txt command.wasm
  wpool run --func scale --arg 7 --arg 2.5 module.wasm

Exit codes:
  the guest's own code, its low eight bits, if it ended by itself; 1 for a component's command that failed, for a function that
  returned an error, and for a limit other than time
  124    the time limit
  125    wpool's own failure
  126    the module is refused
  127    there is no such module file, or no such function
  134    the guest trapped
  128+N  signal N killed the process
  2      wrong usage, or the input (--input) cannot be read or is over its limit

Signals: the first Ctrl-C asks the guest to stop, and ends it after the grace (--grace, at most 2 s) if it does not; SIGTERM ends it at once.
The second ends everything at once. Ctrl-Z stops the process too; the time until wpool is continued counts for no time limit.";

/// Run untrusted WebAssembly functions in a pool of sandboxed worker processes.
#[derive(Debug, Parser)]
#[command(name = "wpool", version, args_override_self = true, arg_required_else_help = true, after_help = EXAMPLES, max_term_width = 100)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) talk: Talk,

    /// Print a man page or the completions for a shell
    #[arg(long, value_enum, value_name = "KIND", exclusive = true)]
    pub(super) generate: Option<Generate>,

    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Generate {
    Man,
    CompleteBash,
    CompleteZsh,
    CompleteFish,
}

/// What is said on stderr, and how.
#[derive(Debug, Args)]
pub(super) struct Talk {
    /// No summary, no progress, no warnings; failed tasks are still named
    #[arg(short, long, global = true, help_heading = "Messages")]
    pub(super) quiet: bool,

    /// Say more about what is done
    #[arg(short, long, global = true, conflicts_with = "quiet", help_heading = "Messages")]
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
        help_heading = "Messages"
    )]
    pub(super) color: When,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum When {
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a function for every record of the inputs, by a pool of worker processes
    #[command(after_long_help = MAP_EXAMPLES)]
    Map(Box<MapArgs>),
    /// Call a function once, with arguments in WAVE, and print its result
    Call(CallArgs),
    /// Run a command with arguments, or a function, in one worker process
    #[command(after_long_help = RUN_EXAMPLES, override_usage = "wpool run [OPTIONS] <MODULE> [ARGS]...")]
    Run(RunArgs),
    /// Show what a module imports and exports, without running it
    Inspect(InspectArgs),
    /// Compile modules into the cache and print where they are
    Compile(CompileArgs),
    /// List the modules in the cache, remove them, or print where it is
    Cache(CacheCommandArgs),
    /// Sum up a job log that `map --joblog` has written
    Report(ReportArgs),
    /// Show what this machine offers, and what is enforced in processes of each kind; exit code 1: not all that must be
    Doctor(DoctorArgs),
}

/// A path from the environment may be empty, which means that it is not set.
fn maybe_empty_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

#[derive(Debug, Args)]
pub(super) struct CacheArgs {
    /// Compile always, and keep the machine code in memory only
    #[arg(long, help_heading = "Module cache")]
    pub(super) no_cache: bool,

    #[command(flatten)]
    pub(super) place: CachePlaceArgs,
}

/// Where the cache is, and what it may hold.
#[derive(Debug, Clone, Args)]
pub(super) struct CachePlaceArgs {
    /// Keep compiled modules in this directory [default: $XDG_CACHE_HOME/wpool or ~/.cache/wpool]
    #[arg(long, value_name = "DIR", value_parser = maybe_empty_path(), env = "WPOOL_CACHE_DIR", hide_env_values = true, global = true, help_heading = "Module cache")]
    pub(super) cache_dir: Option<PathBuf>,

    /// Bytes of all that is in the cache; what was used longest ago is removed when something is added; 0 for no limit [default: 2G]
    #[arg(long, value_name = "SIZE", value_parser = size, env = "WPOOL_CACHE_SIZE", hide_env_values = true, global = true, help_heading = "Module cache")]
    pub(super) cache_size: Option<u64>,

    /// How long a module stays in the cache that is not used; 0 for no limit [default: 30d]
    #[arg(long, value_name = "TIME", value_parser = duration, env = "WPOOL_CACHE_AGE", hide_env_values = true, global = true, help_heading = "Module cache")]
    pub(super) cache_age: Option<Duration>,
}

/// What compiling a module may take, which is done if the cache does not have it.
#[derive(Debug, Args)]
pub(super) struct CompilerArgs {
    /// Processor time for compiling the module; 0 for no limit [default: 2m]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Module cache")]
    pub(super) compile_timeout: Option<Duration>,

    /// Memory for compiling the module [default: 2G]
    #[arg(long, value_name = "SIZE", value_parser = some_size, help_heading = "Module cache")]
    pub(super) compile_memory: Option<NonZeroU64>,

    /// Let the module use these parts of WebAssembly, which are off by default: exceptions, gc
    ///
    /// `wpool inspect` tells which of them a module needs. What gc keeps counts as the guest's memory.
    #[arg(long, value_enum, value_name = "FEATURES", value_delimiter = ',', help_heading = "Module cache")]
    pub(super) wasm: Vec<Wasm>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Wasm {
    Exceptions,
    Gc,
}

#[derive(Debug, Args)]
pub(super) struct ModuleArgs {
    /// The module: a component, a core module, or the .wat text of either
    pub(super) module: PathBuf,

    #[command(flatten)]
    pub(super) load: LoadArgs,
}

/// How a module is loaded.
#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    #[command(flatten)]
    pub(super) cache: CacheArgs,

    #[command(flatten)]
    pub(super) compiler: CompilerArgs,

    #[command(flatten)]
    pub(super) sandbox: SandboxArgs,
}

#[derive(Debug, Args)]
pub(super) struct SandboxArgs {
    /// How much confinement worker and compiler processes must have
    ///
    /// strict: all that must hold of a process does (`wpool doctor` lists it), or nothing runs. default: what does not hold on this machine is a
    /// warning. off: only WebAssembly's own wall stands, for finding faults.
    #[arg(
        long = "sandbox",
        value_name = "strict|default|off",
        default_value_t,
        hide_default_value = true,
        env = "WPOOL_SANDBOX",
        hide_env_values = true,
        help_heading = "Workers"
    )]
    pub(super) choice: Sandbox,
}

// The function and the arguments that are the same for every task.
#[derive(Debug, Args)]
pub(super) struct TargetArgs {
    /// The function, by its name or its path `ns:pkg/interface#name`
    ///
    /// Without this: the function `run`, else the command, else the only function that the module exports.
    #[arg(long, visible_alias = "target", value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), help_heading = "What to run")]
    pub(super) func: Option<String>,

    /// The next positional argument, in WAVE; a string needs no quotes
    ///
    /// The same for every task; the record fills what is left. For a command: an argument that comes before the record's.
    #[arg(long = "arg", value_name = "VALUE", allow_hyphen_values = true, help_heading = "What to run")]
    pub(super) args: Vec<String>,

    /// An argument by its parameter's name, in WAVE
    #[arg(long = "kw", value_name = "NAME=VALUE", value_parser = name_and_value, help_heading = "What to run")]
    pub(super) kwargs: Vec<(String, String)>,

    /// The form of results
    ///
    /// auto: bytes and strings as they are, all other types in WAVE. raw: the bytes as they are. wave, json: those, with floats in their
    /// shortest form.
    #[arg(long, value_enum, value_name = "FORM", default_value_t, help_heading = "What to run")]
    pub(super) output_format: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Form {
    #[default]
    Auto,
    Raw,
    Wave,
    Json,
}

#[derive(Debug, Args)]
pub(super) struct LimitArgs {
    /// The time that an attempt at a task may take: 2s, 500ms, 1m30s, or seconds; 0 for no limit, the default
    ///
    /// It is counted from the making of the instance on, and covers all that runs in it: its start, the function, what cleans up after it.
    #[arg(long, value_name = "TIME", value_parser = duration, env = "WPOOL_TIMEOUT", hide_env_values = true, help_heading = "Limits of a task")]
    pub(super) timeout: Option<Duration>,

    /// How long a guest over its time limit may take to leave a host call before its process is killed [default: 250ms]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Limits of a task")]
    pub(super) grace: Option<Duration>,

    /// Memory of a guest, all its linear memories together: 64M, 1G (K, M, G are powers of 1024) [default: 256M]
    ///
    /// A guest that asks for more is refused, and may go on without. If it traps then, the task has reached this limit.
    #[arg(long, value_name = "SIZE", value_parser = size, env = "WPOOL_MEMORY", hide_env_values = true, help_heading = "Limits of a task")]
    pub(super) memory: Option<u64>,

    /// Instructions of a task: 5000000, 2G (K, M, G, T are powers of 1000) [default: no limit, and none are counted]
    ///
    /// The same task uses the same number every time and everywhere; --format jsonl tells it. The module is compiled once more for
    /// this, and runs slower.
    #[arg(long, value_name = "N", value_parser = count, help_heading = "Limits of a task")]
    pub(super) fuel: Option<NonZeroU64>,

    /// Stack of guest code, 16K to 64M [default: 512K]
    #[arg(long, value_name = "SIZE", value_parser = stack_size, help_heading = "Limits of a task")]
    pub(super) stack: Option<usize>,

    /// Elements of a guest's tables, all together [default: 100000]
    #[arg(long, value_name = "N", help_heading = "Limits of a task")]
    pub(super) max_table_elements: Option<usize>,

    /// Bytes of one result [default: 256M]
    #[arg(long, value_name = "SIZE", value_parser = payload_size, help_heading = "Limits of a task")]
    pub(super) max_output: Option<usize>,

    /// Bytes of one record, or input [default: 256M]
    #[arg(long, value_name = "SIZE", value_parser = payload_size, help_heading = "Limits of a task")]
    pub(super) max_input: Option<usize>,

    /// Bytes that are kept of what a task prints on stdout, and on stderr; what is a result has --max-output [default: 64K]
    #[arg(long, value_name = "SIZE", value_parser = payload_size, help_heading = "Limits of a task")]
    pub(super) max_stdout: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum UnknownImports {
    #[default]
    Refuse,
    Trap,
}

/// What guests are given beside their input.
#[derive(Debug, Args)]
pub(super) struct GrantArgs {
    /// Grant a directory, under the name GUEST or its own; `:ro` for reading only
    ///
    /// The guest reaches all that is below it, and nothing else. Several may be granted.
    #[arg(
        long = "dir",
        value_name = "HOST[::GUEST][:ro]",
        value_parser = OsStringValueParser::new().try_map(|text| dir(&text)),
        help_heading = "What guests are given (nothing by default)"
    )]
    pub(super) dirs: Vec<DirArg>,

    /// Set a variable in the guest's environment
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value, help_heading = "What guests are given (nothing by default)")]
    pub(super) env: Vec<(String, String)>,

    /// Pass on a variable of wpool's own environment, if it is set
    #[arg(long, value_name = "NAME", help_heading = "What guests are given (nothing by default)")]
    pub(super) inherit_env: Vec<String>,

    /// Let guests connect to this address over TCP; `none`: let them have sockets that connect to nothing
    ///
    /// HOST is a name, an IPv4 address, or an IPv6 address in brackets. Names are looked up once, before anything starts. `none` is for guests
    /// that bring the imports along without a use for them, as those in Python do.
    #[arg(long, value_name = "HOST:PORT|none", help_heading = "What guests are given (nothing by default)")]
    pub(super) net: Vec<String>,

    /// What becomes of a module that imports functions which nobody provides: it is refused, or each of them
    /// traps when it is called
    #[arg(
        long,
        value_enum,
        value_name = "refuse|trap",
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true,
        help_heading = "What guests are given (nothing by default)"
    )]
    pub(super) unknown_imports: UnknownImports,

    /// The clocks that guests see: coarse (milliseconds, the default), fine, or fixed=TIME, which stands still
    ///
    /// TIME is 2026-01-31T12:00:00Z, or seconds since 1970.
    #[arg(long, value_name = "CLOCK", value_parser = clock, help_heading = "What guests are given (nothing by default)")]
    pub(super) clock: Option<Clock>,

    /// Random numbers that follow from a seed: seed=N
    #[arg(long, value_name = "seed=N", value_parser = random, help_heading = "What guests are given (nothing by default)")]
    pub(super) random: Option<Random>,

    /// The same results in every run: --clock fixed=0, --random seed=0 (or as they are given), exact floating point
    ///
    /// Guests do not see either which worker they run in. For fresh instances; with --reuse, results may depend on what came before.
    #[arg(long, help_heading = "What guests are given (nothing by default)")]
    pub(super) deterministic: bool,
}

// What failures of tasks lead to.
#[derive(Debug, Args)]
pub(super) struct FailureArgs {
    /// How often a failed task is tried again; a record of the wrong type is not
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        env = "WPOOL_RETRIES",
        hide_env_values = true,
        help_heading = "Failures"
    )]
    pub(super) retries: u32,

    /// The pause before a task is tried again, in which others run: 250ms, 1s [default: none]
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "retries", help_heading = "Failures")]
    pub(super) retry_delay: Option<Duration>,

    /// Whether each pause of a task is as long as the one before, or twice that
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        default_value_t,
        requires = "retry_delay",
        help_heading = "Failures"
    )]
    pub(super) backoff: Growth,

    /// The longest pause with --backoff exponential
    #[arg(
        long,
        value_name = "TIME",
        value_parser = duration,
        default_value = "1m",
        requires = "backoff",
        help_heading = "Failures"
    )]
    pub(super) retry_max_delay: Duration,

    /// Try again only after failures of these kinds, with commas between them: lost, timeout, error
    ///
    /// lost: the worker died. timeout: the time limit. error: all others, which have names of their own, too: failed, trap, exit, memory,
    /// fuel, stack, table, output, bad-result. The kinds are those that --format jsonl gives; its words for the first two, worker-lost and time, are
    /// understood as well.
    #[arg(
        long,
        value_name = "KIND",
        value_parser = retry_kind,
        value_delimiter = ',',
        requires = "retries",
        help_heading = "Failures"
    )]
    pub(super) retry_on: Option<Vec<RetryKind>>,

    /// Do not try a task again that has taken down this many workers [default: 3]
    #[arg(long, value_name = "N", requires = "retries", help_heading = "Failures")]
    pub(super) poison_limit: Option<NonZeroU32>,

    /// Stop before the end: now or soon, a comma, and fail=N, fail=N%, success=N or done=N
    ///
    /// now: running tasks are stopped, and nothing counts that comes after the one that decided. soon: they run to their end, and their results
    /// are written. Nothing else is begun; of done=N, N tasks are begun and no more. A share of failures is one of the tasks that are done, from
    /// the third on. The exit code is 5 if failures stopped the run; otherwise what was wanted is there, and it is 0 or 1
    /// as for a run that came to its end.
    #[arg(long, value_name = "WHEN,WHY", help_heading = "Failures")]
    pub(super) halt: Option<Halt>,

    /// The same as --halt now,fail=N
    #[arg(long, value_name = "N", conflicts_with = "halt", help_heading = "Failures")]
    pub(super) max_fail: Option<NonZeroU64>,

    /// What a failed task does to the exit code: 1 in any case, or the number of them, 101 for more than 100
    ///
    /// With `count`, wpool's own exit codes 2 to 5 are 102 to 105, so that none of them looks like a number of tasks.
    #[arg(long, value_enum, value_name = "RULE", default_value_t, help_heading = "Failures")]
    pub(super) exit_code: ExitRule,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Growth {
    #[default]
    Fixed,
    Exponential,
}

// The job log.
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// Write a line into this file for each task that is done, in the form of GNU parallel's job log; +FILE: behind what it holds
    ///
    /// Nine columns as GNU parallel has them, with tabs between: Seq, Host, Starttime, JobRuntime, Send and Receive (bytes of record and
    /// result), Exitval, Signal, Command (the beginning of the record); then Kind (ok or the kind of error), Attempt, Rerun, Input, Module,
    /// Export, Settings (digests of the record, of the module and of arguments, forms and grants), Fuel, Memory and Output (where its result
    /// ends: in a file, or in what this run has written into a pipe). A line is written when its result has been, so that a run that was
    /// killed at any moment can be resumed; the last column's name goes on with the place of the last write of results. A log that is there
    /// is written over, a file that is none is not.
    #[arg(long, value_name = "FILE", value_parser = LogFile::parser(), help_heading = "Log and resume")]
    pub(super) joblog: Option<LogFile>,

    /// Skip what is in the job log, done or failed, and go on behind it
    ///
    /// Records are known by their content, wherever they stand in the input; of equal records as many are skipped as the log has. Numbers
    /// stay those of the input. Module, function, arguments and grants must be those of the log, and the input must begin with something
    /// that is in it; `=force` goes on all the same.
    ///
    /// Results go on in the same file with `>> FILE`: what a run that was killed had written and not logged is cut off its end, and run again.
    /// In a pipe, or another file, such results come twice. A file that holds less than the log vouches for, as after `> FILE`, is an error.
    #[arg(long, value_enum, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "same", hide_possible_values = true, requires = "joblog", conflicts_with_all = ["resume_failed", "retry_failed"], help_heading = "Log and resume")]
    pub(super) resume: Option<Match>,

    /// The same, but run again what has failed
    #[arg(long, value_enum, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "same", hide_possible_values = true, requires = "joblog", conflicts_with = "retry_failed", help_heading = "Log and resume")]
    pub(super) resume_failed: Option<Match>,

    /// Run again what has failed, and nothing else
    #[arg(long, value_enum, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "same", hide_possible_values = true, requires = "joblog", help_heading = "Log and resume")]
    pub(super) retry_failed: Option<Match>,
}

/// Whether a log must be one of the same module, function, settings and input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Match {
    Same,
    Force,
}

/// Where a job log is, and whether it is written behind what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogFile {
    pub(super) path: PathBuf,
    pub(super) append: bool,
}

impl LogFile {
    fn parser() -> impl TypedValueParser<Value = LogFile> {
        OsStringValueParser::new().try_map(|text| {
            let (path, append) = match text.as_bytes().strip_prefix(b"+") {
                Some(path) => (OsStr::from_bytes(path).into(), true),
                None => (PathBuf::from(text), false),
            };
            match path.as_os_str().is_empty() {
                true => Err("expected the name of a file"),
                false => Ok(LogFile { path, append }),
            }
        })
    }
}

#[derive(Debug, Args)]
pub(super) struct MapArgs {
    #[command(flatten)]
    pub(super) module: ModuleArgs,

    /// Files of records, read one after the other; `-` is standard input
    ///
    /// A record is a line, without its newline; everything else passes unchanged, a carriage return and bytes that are no text included.
    /// An empty line is a record, and a last line without a newline is one too. Without any file, standard input is read, unless it is a
    /// terminal.
    pub(super) inputs: Vec<PathBuf>,

    /// These are the records, instead of files; one that begins with a dash and is no number: --items=-x
    #[arg(long, value_name = "ITEM", num_args = 1.., allow_negative_numbers = true, conflicts_with_all = ["inputs", "null", "delimiter"], help_heading = "Input")]
    pub(super) items: Option<Vec<OsString>>,

    /// A NUL byte ends a record, instead of a newline
    #[arg(short = '0', long, conflicts_with = "delimiter", help_heading = "Input")]
    pub(super) null: bool,

    /// This character ends a record: one byte, or \t, \n, \0, \x1f
    #[arg(short, long, value_name = "CHAR", value_parser = delimiter, allow_hyphen_values = true, help_heading = "Input")]
    pub(super) delimiter: Option<u8>,

    #[command(flatten)]
    pub(super) target: TargetArgs,

    /// The form of records
    ///
    /// auto: as they are for a function of one string or byte list, else WAVE. wave: several parameters are a tuple, such as (7, 2.5). json:
    /// several parameters are an array, or an object by name; none is null, and where an option is in an option, some(none) is
    /// {"some": null}; floats for which JSON has no number are "NaN", "Infinity" and "-Infinity". In both, whole numbers may be written 1.0 or
    /// 1e3, in WAVE also 0x1f, 0b101 or 1_000; a string stands for bytes in WAVE; a byte order mark before a value is skipped, and blank
    /// records at the end of an input are none.
    #[arg(long, value_enum, value_name = "FORM", default_value_t, help_heading = "Input")]
    pub(super) input_format: Form,

    /// For a command: the record is its last argument, or with `=words` several, split at white space
    ///
    /// Without this, the record is the command's standard input.
    #[arg(long, value_enum, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "one", help_heading = "What to run")]
    pub(super) as_args: Option<AsArgs>,

    /// For a command: exit codes with which it has a result, its whole stdout: 0,10,20. 0 is one in any case
    ///
    /// With any other code the task has failed; --format jsonl tells it as error.code.
    #[arg(long, value_name = "CODES", value_delimiter = ',', help_heading = "What to run")]
    pub(super) ok_exit: Vec<u32>,

    /// How many workers: N, or by the processors N%, +N (so many more), -N (so many fewer); 0 for the default
    ///
    /// Workers are started as tasks come. Default: the number of processors that wpool may use.
    #[arg(
        short,
        long,
        short_alias = 'P',
        value_name = "N",
        default_value = "0",
        allow_negative_numbers = true,
        env = "WPOOL_JOBS",
        hide_env_values = true,
        help_heading = "Workers"
    )]
    pub(super) jobs: Jobs,

    /// Replace a worker process after this many tasks
    #[arg(long, value_name = "N", conflicts_with = "threads", help_heading = "Workers")]
    pub(super) max_tasks_per_child: Option<NonZeroU64>,

    /// Replace a worker process that has grown to more memory than this, between tasks: 512M, 2G
    ///
    /// This is for what gathers in a process over many tasks; --memory limits a single one. Pages shared with other processes do not count.
    #[arg(long, visible_alias = "rss", value_name = "SIZE", value_parser = some_size, conflicts_with = "threads", help_heading = "Workers")]
    pub(super) max_memory_per_child: Option<NonZeroU64>,

    /// End workers that have had nothing to do for this time; 0 for never, the default
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Workers")]
    pub(super) idle_timeout: Option<Duration>,

    /// The time that a worker may take until it is ready, and --timeout on top for its initializer; 0 for no limit [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Workers")]
    pub(super) start_timeout: Option<Duration>,

    /// A function that each worker calls once before its first task; with --fresh, in the instance of each task
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), help_heading = "What to run")]
    pub(super) init: Option<String>,

    /// An argument for the initializer, in WAVE; a string needs no quotes
    #[arg(long = "init-arg", value_name = "VALUE", allow_hyphen_values = true, help_heading = "What to run")]
    pub(super) init_args: Vec<String>,

    /// A new instance of the guest for each task (the default without --init); an initializer is called in
    /// each
    #[arg(long, conflicts_with = "reuse", help_heading = "What to run")]
    pub(super) fresh: bool,

    /// One instance per worker, whose state lives on from task to task (the default with --init or
    /// --init-arg); not with --deterministic
    ///
    /// No module chooses this for itself: one that exports `init` and is given none of these has it called in
    /// each task's own instance.
    #[arg(long, help_heading = "What to run")]
    pub(super) reuse: bool,

    /// The time that a guest's `shutdown` may take when a worker ends; 0 for no limit [default: 5s]
    ///
    /// It is called in the instance that a worker keeps (--reuse, --init), when the worker ends in good order. The instance of
    /// a single task is dropped without, and so is all that a signal, a time limit or --halt now ends.
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Workers")]
    pub(super) shutdown_timeout: Option<Duration>,

    /// How workers are started
    #[arg(
        long,
        value_enum,
        value_name = "METHOD",
        default_value_t,
        conflicts_with = "threads",
        help_heading = "Workers"
    )]
    pub(super) start_method: Start,

    #[command(flatten)]
    pub(super) worker: WorkerArgs,

    /// How many records are read ahead of the results that have been written
    ///
    /// Beside that, records under way may be 16M, and results that wait to be written what --buffer-bytes says.
    #[arg(long, value_name = "N", help_heading = "Input")]
    pub(super) buffer: Option<NonZeroUsize>,

    /// Bytes of results that may wait to be written, for a slow reader or an earlier record [default: 64M]
    ///
    /// Over that, nothing is begun but the record whose result is waited for, and large results stay in their workers' memory.
    #[arg(long, value_name = "SIZE", value_parser = some_size, help_heading = "Output")]
    pub(super) buffer_bytes: Option<NonZeroU64>,

    #[command(flatten)]
    pub(super) grants: GrantArgs,

    #[command(flatten)]
    pub(super) limits: LimitArgs,

    /// The time that the whole run may take, compiling the module included; 0 for no limit, the default
    ///
    /// When it is over, running tasks are stopped, the results that there are are written, and a message says how many tasks were done and how
    /// many not. The exit code is 124.
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Limits of a task")]
    pub(super) global_timeout: Option<Duration>,

    #[command(flatten)]
    pub(super) failures: FailureArgs,

    #[command(flatten)]
    pub(super) log: LogArgs,

    /// Results in the order of the records (the default)
    #[arg(short, long, overrides_with = "unordered", help_heading = "Output")]
    pub(super) keep_order: bool,

    /// Results as they come
    #[arg(long, overrides_with = "keep_order", help_heading = "Output")]
    pub(super) unordered: bool,

    /// What stdout gets: the results as text, or one JSON object per task
    ///
    /// text: each result, byte for byte, and a newline; a failed task has none. Of what a command prints, one line end at its end is left
    /// out, as shells do (with -z and in jsonl it is not). A result that holds newlines itself looks like several
    /// (the end of the run tells how many did that): where guests are not to be trusted with that, use jsonl, or -z for results that are
    /// text. On a terminal, what could control it is shown escaped. jsonl: one line for each task, whatever is in it: {seq, status,
    /// output | output_b64, error: {kind, message, code, trace}, ms, fuel, mem_peak, worker, pid, attempt, stdout, stderr}; fuel is what the task
    /// used of --fuel, mem_peak the largest size of its memory in bytes; status is "ok" or the kind of error; what is absent is left out;
    /// output_b64 is for bytes that are not UTF-8.
    #[arg(long, value_enum, value_name = "FORM", default_value_t, help_heading = "Output")]
    pub(super) format: OutputForm,

    /// A NUL byte after each result, instead of a newline: results may hold newlines then, but no NUL
    #[arg(short = 'z', long, help_heading = "Output")]
    pub(super) print0: bool,

    /// The record as it is and a tab before each result; in jsonl, the record as `input`, or as `input_b64` if it is not UTF-8
    #[arg(long, help_heading = "Output")]
    pub(super) tag: bool,

    /// Whether to show what guests print, for tasks that succeed (a command's stdout is its result)
    ///
    /// As --failure-output.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Show::Never, help_heading = "Output")]
    pub(super) success_output: Show,

    /// How much to show of tasks that fail, and of what their guests print
    ///
    /// immediate: as each fails, the last 20 lines of it and no more than 4K; failures with the same words ten times, the others are counted;
    /// of all of them 1M. With -v, 200 lines, 64K, a hundred times and 16M. full: everything. never: the failures only. What is left out is told
    /// at the end; --format jsonl has all of it.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Show::Immediate, help_heading = "Output")]
    pub(super) failure_output: Show,

    /// Whether an input without any record is a success, or exit code 2 and a line that says so
    #[arg(long, value_enum, value_name = "VERDICT", default_value_t, help_heading = "Input")]
    pub(super) no_input: NoInput,

    /// Progress on stderr, if that is a terminal; auto is bar
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        default_value_t,
        env = "WPOOL_PROGRESS",
        hide_env_values = true,
        help_heading = "Messages"
    )]
    pub(super) progress: ProgressForm,

    /// Say at the end where the workers' time went: in the guest, in making its instances, with tasks on their way, without a task
    #[arg(long, help_heading = "Messages")]
    pub(super) stats: bool,

    #[command(flatten)]
    pub(super) profile: ProfileArgs,

    /// Check the module, the function, its arguments and its initializer's, and that the inputs can be opened; run nothing
    ///
    /// The module is compiled, and kept in the cache. No record is read, so that those of a wrong type are not found.
    #[arg(long, help_heading = "What to run")]
    pub(super) dry_run: bool,
}

/// Looking where guests spend their time.
#[derive(Debug, Args)]
pub(super) struct ProfileArgs {
    /// Show where guests spend their time: guest[,PATH[,INTERVAL]], perfmap or jitdump
    ///
    /// guest: looks every INTERVAL (1ms) where each worker's guest is, and writes PATH (wpool-guest-profile.json) for profiler.firefox.com. It
    /// sees loops and calls of the guest's own code, not the inside of calls to the host; a worker that is killed leaves no profile. perfmap,
    /// jitdump: each worker writes /tmp/perf-PID.map, or /tmp/jit-PID.dump, for Linux perf, and keeps the file open while guests run.
    #[arg(long = "profile", value_name = "HOW", value_parser = ProfileArg::parse, help_heading = "Messages")]
    pub(super) how: Option<ProfileArg>,
}

#[derive(Debug, Args)]
pub(super) struct WorkerArgs {
    /// Run guests in threads of wpool itself instead of worker processes: one wall only
    ///
    /// WebAssembly's own sandbox and all limits hold, but no process confines a guest that breaks out of it, and a crash of the engine
    /// ends everything. A guest that sleeps or is otherwise inside a call to the host cannot be interrupted: it is given up, and its
    /// thread lasts until the call returns. For guests that are trusted, and systems that allow no more processes.
    #[arg(long, help_heading = "Workers")]
    pub(super) threads: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum AsArgs {
    One,
    Words,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Start {
    /// Fork them from a process that has the module loaded
    #[default]
    Forkserver,
    /// Execute each anew
    Spawn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum OutputForm {
    #[default]
    Text,
    Jsonl,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Show {
    Never,
    #[value(alias = "short")]
    Immediate,
    Full,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum ExitRule {
    #[default]
    Plain,
    Count,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum NoInput {
    #[default]
    Ok,
    Fail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum ProgressForm {
    #[default]
    Auto,
    Bar,
    Counter,
    None,
}

#[derive(Debug, Args)]
pub(super) struct CallArgs {
    #[command(flatten)]
    pub(super) module: ModuleArgs,

    /// The call, with arguments in WAVE: 'scale(7, 2.5)'; a name alone is a call without arguments
    #[arg(conflicts_with = "func")]
    pub(super) call: Option<String>,

    #[command(flatten)]
    pub(super) target: TargetArgs,

    #[command(flatten)]
    pub(super) worker: WorkerArgs,

    #[command(flatten)]
    pub(super) profile: ProfileArgs,

    #[command(flatten)]
    pub(super) grants: GrantArgs,

    #[command(flatten)]
    pub(super) limits: LimitArgs,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The module (a component, a core module, or the .wat text of either), then the arguments of its command
    ///
    /// wpool's own options come before the module. All that follows it is the guest's, options too; but for
    /// one `--` right behind the module, which is left out.
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, value_name = "MODULE [ARGS]")]
    pub(super) command: Vec<OsString>,

    #[command(flatten)]
    pub(super) load: LoadArgs,

    #[command(flatten)]
    pub(super) target: TargetArgs,

    /// A file for the command's standard input, or the function's free parameter; `-` is standard input
    ///
    /// Without this, it is standard input, unless that is a terminal. A command gets of that what it reads,
    /// when it does; what is for a function is read to its end before the process starts, and so is a file.
    /// In a shell's `while read` loop, a command that reads takes the loop's input, as any program does: `<
    /// /dev/null` keeps it from that.
    #[arg(long, value_name = "FILE")]
    pub(super) input: Option<PathBuf>,

    /// The process's name, which the guest can ask for [default: Process-1]
    #[arg(long)]
    pub(super) name: Option<String>,

    #[command(flatten)]
    pub(super) worker: WorkerArgs,

    #[command(flatten)]
    pub(super) profile: ProfileArgs,

    #[command(flatten)]
    pub(super) grants: GrantArgs,

    #[command(flatten)]
    pub(super) limits: LimitArgs,
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    #[command(flatten)]
    pub(super) module: ModuleArgs,

    #[command(flatten)]
    pub(super) grants: GrantArgs,

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
    /// One line for each: digest of the module, size, last use, name of its file, with tabs between (the default)
    List,
    /// Remove what has not been used for long, and what is too much
    Clean(CleanArgs),
    /// Print where the cache is
    Dir,
}

#[derive(Debug, Args)]
pub(super) struct CleanArgs {
    /// Remove everything
    #[arg(long, conflicts_with_all = ["older_than", "max_size"])]
    pub(super) all: bool,

    /// Remove what has not been used for this time: 30d, 12h [default: that of --cache-age]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) older_than: Option<Duration>,

    /// Remove what was used longest ago until no more than this is left: 1G [default: that of --cache-size]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(super) max_size: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// The job log; that of a run that is under way, too
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
