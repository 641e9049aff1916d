//! Flags of `wpool map`.

use std::ffi::OsString;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{NonEmptyStringValueParser, OsStringValueParser, TypedValueParser};

use super::guest::{
    GrantArgs, LIMITS, LimitArgs, MESSAGES, ProfileArgs, SHARED, ShareArgs, TARGET, TargetArgs, WORKERS,
    WorkerArgs,
};
use super::module::ModuleArgs;
use crate::cli::choices::{
    AsArgs, ExitRule, Growth, JobCount, LogFile, LogMatch, NoInput, OutputForm, ProgressForm, Show,
    StartChoice, ValueForm,
};
use crate::cli::parse::{RetryKind, delimiter, duration, log_file, retry_kind, some_size};
use crate::pool::Halt;

pub(super) const EXAMPLES: &str = "\
Examples:
  wpool map module.wasm inputs.txt -j 5
  generate | wpool map module.wasm > results.txt
  find . -print0 | wpool map module.wasm -0 -z
  wpool map module.wasm inputs.txt --func scale --kw factor=2.5
  wpool map module.wasm inputs.txt --timeout 2s --retries 1 --format jsonl
  wpool map module.wasm inputs.txt --joblog log.tsv >> results.txt
  wpool map module.wasm inputs.txt --joblog log.tsv --resume >> results.txt

Tasks have numbers from 1 on; with one input of lines, the number is the line number.

Exit codes:
  0      every task succeeded (an empty input too, unless --no-input=fail)
  1      some tasks failed; all other results were delivered
  2      wrong usage, or nothing could be run: an input cannot be opened, the module is refused
  3      the pool is broken: workers cannot be started, or the initializer failed
  4      an input could not be read to its end, or output or the job log could not be written
  5      stopped by failures: --halt WHEN,fail=N or --max-fail
  124    the time limit of the whole run (--global-timeout); results of finished tasks are written
  125    an internal error
  1..101 with --exit-code count: the number of failed tasks, 101 for more than 100; the codes
         2 to 5 above become 102 to 105
  128+N  ended by signal N (130: Ctrl-C, 143: SIGTERM, 141: the reader of the results has closed
         its end)

Signals: the first Ctrl-C or SIGTERM ends the workers, and wpool writes the results of finished
tasks; the second ends everything at once. SIGHUP does the same. With a job log, and unless
standard input is a terminal, SIGHUP lets running tasks finish first. SIGUSR1 prints the state of
the run, SIGUSR2 shows or hides the progress. Ctrl-Z stops the workers too; the time until wpool is
continued counts for no time limit.";

const INPUT: &str = "Input";
const OUTPUT: &str = "Output";
const FAILURES: &str = "Failures";
const LOG: &str = "Log and resume";

#[derive(Debug, Args)]
pub(in crate::cli) struct MapArgs {
    #[command(flatten)]
    pub(in crate::cli) module: ModuleArgs,

    #[command(flatten)]
    pub(in crate::cli) options: MapOptions,
}

// What is mapped over which records, and how: all but the module.
#[derive(Debug, Args)]
pub(in crate::cli) struct MapOptions {
    /// Files of records, read one after the other; `-` is standard input
    ///
    /// A record is a line without its newline. Everything else passes unchanged, also a carriage return and
    /// bytes that are not text. An empty line is a record, and so is a last line without a newline. Without
    /// a file, wpool reads standard input, unless it is a terminal.
    pub(in crate::cli) inputs: Vec<PathBuf>,

    /// Take these as the records, instead of files; for one that begins with a dash and is no number:
    /// --items=-x
    #[arg(
        long,
        value_name = "ITEM",
        num_args = 1..,
        allow_negative_numbers = true,
        conflicts_with_all = ["inputs", "null", "delimiter"],
        help_heading = INPUT
    )]
    pub(in crate::cli) items: Option<Vec<OsString>>,

    /// A NUL byte ends a record, instead of a newline
    #[arg(short = '0', long, conflicts_with = "delimiter", help_heading = INPUT)]
    pub(in crate::cli) null: bool,

    /// This character ends a record: one byte, or \t, \n, \0, \x1f
    #[arg(
        short,
        long,
        value_name = "CHAR",
        value_parser = delimiter,
        allow_hyphen_values = true,
        help_heading = INPUT
    )]
    pub(in crate::cli) delimiter: Option<u8>,

    #[command(flatten)]
    pub(in crate::cli) target: TargetArgs,

    /// The form of records
    ///
    /// auto: the bytes as they are if the function takes one string or byte list, else WAVE. wave: several
    /// parameters are a tuple, such as (7, 2.5). json: several parameters are an array, or an object by name;
    /// none is null, and in an option of an option, some(none) is {"some": null}; floats without a JSON
    /// number are "NaN", "Infinity" and "-Infinity". Both forms take whole numbers as 1.0 or 1e3, and WAVE
    /// also 0x1f, 0b101 and 1_000. In WAVE a string stands for bytes. Both skip a byte order mark before a
    /// value, and blank records at the end of an input.
    #[arg(long, value_enum, value_name = "FORM", default_value_t, help_heading = INPUT)]
    pub(in crate::cli) input_format: ValueForm,

    /// For a command: the record is its last argument, or with `=words` several, split at white space
    ///
    /// Without this option, the record is the command's standard input.
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "one",
        help_heading = TARGET
    )]
    pub(in crate::cli) as_args: Option<AsArgs>,

    /// For a command: exit codes that are a success, such as 0,10,20; the result is its whole stdout
    ///
    /// 0 is always a success. With any other code the task fails; --format jsonl shows the code as
    /// error.code.
    #[arg(long, value_name = "CODES", value_delimiter = ',', help_heading = TARGET)]
    pub(in crate::cli) ok_exit: Vec<u32>,

    /// How many workers: N, or relative to the processors: N%, +N (more) or -N (fewer); 0 for the default
    ///
    /// Workers start as tasks arrive. The default is the number of processors that wpool may use.
    #[arg(
        short,
        long,
        short_alias = 'P',
        value_name = "N",
        default_value = "0",
        allow_negative_numbers = true,
        env = "WPOOL_JOBS",
        hide_env_values = true,
        help_heading = WORKERS
    )]
    pub(in crate::cli) jobs: JobCount,

    /// Replace a worker process after this many tasks
    #[arg(long, value_name = "N", conflicts_with = "threads", help_heading = WORKERS)]
    pub(in crate::cli) max_tasks_per_child: Option<NonZeroU64>,

    /// Replace a worker process whose memory has grown beyond this, between tasks: 512M, 2G
    ///
    /// This limits what a process gathers over many tasks; --memory limits a single task. Pages shared with
    /// other processes do not count.
    #[arg(
        long,
        visible_alias = "rss",
        value_name = "SIZE",
        value_parser = some_size,
        conflicts_with = "threads",
        help_heading = WORKERS
    )]
    pub(in crate::cli) max_memory_per_child: Option<NonZeroU64>,

    /// End workers that have been idle for this time; 0 for never, the default
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = WORKERS)]
    pub(in crate::cli) idle_timeout: Option<Duration>,

    /// The time until a worker is ready; its initializer has --timeout in addition; 0 for no limit
    /// [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = WORKERS)]
    pub(in crate::cli) start_timeout: Option<Duration>,

    /// A function that each worker calls once before its first task; with --fresh, in the instance of each
    /// task
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), help_heading = TARGET)]
    pub(in crate::cli) init: Option<String>,

    /// An argument for the initializer, in WAVE; a string needs no quotes
    #[arg(long = "init-arg", value_name = "VALUE", allow_hyphen_values = true, help_heading = TARGET)]
    pub(in crate::cli) init_args: Vec<String>,

    /// A new instance of the guest for each task (the default without --init); an initializer is called in
    /// each
    #[arg(long, conflicts_with = "reuse", help_heading = TARGET)]
    pub(in crate::cli) fresh: bool,

    /// One instance per worker, which keeps its state from task to task (the default with --init or
    /// --init-arg); not with --deterministic
    ///
    /// A module cannot choose this by itself: if it exports `init` and none of these options is given, `init`
    /// is called in each task's own instance.
    #[arg(long, help_heading = TARGET)]
    pub(in crate::cli) reuse: bool,

    /// The time limit of a guest's `shutdown` when a worker ends; 0 for no limit [default: 5s]
    ///
    /// A worker calls `shutdown` in the instance that it keeps (--reuse, --init), when it ends in good order.
    /// It does not call it in the instance of a single task, nor after a signal, a time limit or --halt now.
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = WORKERS)]
    pub(in crate::cli) shutdown_timeout: Option<Duration>,

    /// How workers are started
    #[arg(
        long,
        value_enum,
        value_name = "METHOD",
        default_value_t,
        conflicts_with = "threads",
        help_heading = WORKERS
    )]
    pub(in crate::cli) start_method: StartChoice,

    #[command(flatten)]
    pub(in crate::cli) worker: WorkerArgs,

    /// How many records are read ahead of the results that have been written
    ///
    /// Two limits in bytes hold beside it: 16M for the records under way, and --buffer-bytes for the results
    /// that wait to be written.
    #[arg(long, value_name = "N", help_heading = INPUT)]
    pub(in crate::cli) buffer: Option<NonZeroUsize>,

    /// Bytes of results that may wait to be written, for a slow reader or an earlier record [default: 64M]
    ///
    /// Above this limit, wpool begins only the record whose result is the next to be written, and large
    /// results stay in their workers' memory.
    #[arg(long, value_name = "SIZE", value_parser = some_size, help_heading = OUTPUT)]
    pub(in crate::cli) buffer_bytes: Option<NonZeroU64>,

    #[command(flatten)]
    pub(in crate::cli) grants: GrantArgs,

    #[command(flatten)]
    pub(in crate::cli) shared: ShareArgs,

    /// Tasks that make tasks: what guests put into this shared queue becomes further records of the run
    ///
    /// The run ends when the inputs, the tasks and the queue are at their end, also when tasks fail, are
    /// tried again or die. Results come in the order in which records were taken: from the queue first, else
    /// from the inputs. A queue with a small limit may fill up while all tasks wait to put more into it,
    /// until their time limit: leave the limit of items out.
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with_all = ["resume", "resume_failed", "retry_failed"],
        help_heading = SHARED
    )]
    pub(in crate::cli) feed: Option<String>,

    #[command(flatten)]
    pub(in crate::cli) limits: LimitArgs,

    /// The time limit of the whole run, including the module's compilation; 0 for no limit, the default
    ///
    /// At the limit, wpool stops running tasks, writes the results of finished ones, and says how many tasks
    /// are done and how many are not. The exit code is 124.
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = LIMITS)]
    pub(in crate::cli) global_timeout: Option<Duration>,

    #[command(flatten)]
    pub(in crate::cli) failures: FailureArgs,

    #[command(flatten)]
    pub(in crate::cli) log: LogArgs,

    /// Results in the order of the records (the default)
    #[arg(short, long, overrides_with = "unordered", help_heading = OUTPUT)]
    pub(in crate::cli) keep_order: bool,

    /// Results in the order in which tasks finish
    #[arg(long, overrides_with = "keep_order", help_heading = OUTPUT)]
    pub(in crate::cli) unordered: bool,

    /// What stdout gets: the results as text, or one JSON object per task
    ///
    /// text: each result, byte for byte, and a newline; a failed task has no result. One line end at the end
    /// of a command's output is left out, as shells do (not with -z, and not in jsonl). A result that
    /// contains newlines looks like several results; the end of the run says how many did. For untrusted
    /// guests use jsonl, or -z if results are text. On a terminal, control characters are shown escaped.
    ///
    /// jsonl: one line for each task, whatever its result contains: {seq, status, output | output_b64, error:
    /// {kind, message, code, trace}, ms, fuel, mem_peak, worker, pid, attempt, stdout, stderr}. fuel is what
    /// the task used of --fuel, mem_peak the largest size of its memory in bytes; status is "ok" or the kind
    /// of error. Fields without a value are left out. output_b64 is for bytes that are not UTF-8.
    #[arg(long, value_enum, value_name = "FORM", default_value_t, help_heading = OUTPUT)]
    pub(in crate::cli) format: OutputForm,

    /// A NUL byte after each result, instead of a newline: results may contain newlines then, but no NUL
    #[arg(short = 'z', long, help_heading = OUTPUT)]
    pub(in crate::cli) print0: bool,

    /// The record as it is and a tab before each result; in jsonl, the record as `input`, or as `input_b64`
    /// if it is not UTF-8
    #[arg(long, help_heading = OUTPUT)]
    pub(in crate::cli) tag: bool,

    /// Whether to show what guests of successful tasks print (a command's stdout is its result)
    ///
    /// The values are those of --failure-output.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Show::Never, help_heading = OUTPUT)]
    pub(in crate::cli) success_output: Show,

    /// How much to show of failed tasks, and of what their guests print
    ///
    /// immediate: at each failure, the last 20 lines of the guest's output, at most 4K; ten failures with the
    /// same words, the others are counted; at most 1M in the whole run. With -v, the limits are 200 lines,
    /// 64K, a hundred failures and 16M. full: everything. never: the failures only. The end of the run says
    /// what was left out; --format jsonl has all of it.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Show::Immediate, help_heading = OUTPUT)]
    pub(in crate::cli) failure_output: Show,

    /// Whether an input without any record is a success, or gives exit code 2 and a message
    #[arg(long, value_enum, value_name = "VERDICT", default_value_t, help_heading = INPUT)]
    pub(in crate::cli) no_input: NoInput,

    /// Progress on stderr, if that is a terminal; auto is bar
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        default_value_t,
        env = "WPOOL_PROGRESS",
        hide_env_values = true,
        help_heading = MESSAGES
    )]
    pub(in crate::cli) progress: ProgressForm,

    /// Show at the end where the workers' time went: in the guest, in making instances, waiting for tasks or
    /// results in transit, without a task
    #[arg(long, help_heading = MESSAGES)]
    pub(in crate::cli) stats: bool,

    #[command(flatten)]
    pub(in crate::cli) profile: ProfileArgs,

    /// Check the module, the function, its arguments, its initializer, and that the inputs can be opened; run
    /// nothing
    ///
    /// wpool compiles the module and keeps it in the cache. It reads no record, so it does not find records
    /// of a wrong type.
    #[arg(long, help_heading = TARGET)]
    pub(in crate::cli) dry_run: bool,
}

// The consequences of failed tasks.
#[derive(Debug, Args)]
pub(in crate::cli) struct FailureArgs {
    /// How often a failed task is tried again; a record of the wrong type is not
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        env = "WPOOL_RETRIES",
        hide_env_values = true,
        help_heading = FAILURES
    )]
    pub(in crate::cli) retries: u32,

    /// The pause before a task is tried again, while other tasks run: 250ms, 1s [default: none]
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "retries", help_heading = FAILURES)]
    pub(in crate::cli) retry_delay: Option<Duration>,

    /// How pauses grow: fixed, or doubling (exponential)
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        default_value_t,
        requires = "retry_delay",
        help_heading = FAILURES
    )]
    pub(in crate::cli) backoff: Growth,

    /// The longest pause with --backoff exponential
    #[arg(
        long,
        value_name = "TIME",
        value_parser = duration,
        default_value = "1m",
        requires = "backoff",
        help_heading = FAILURES
    )]
    pub(in crate::cli) retry_max_delay: Duration,

    /// Try again only after failures of these kinds, with commas between them: lost, timeout, error
    ///
    /// lost: the worker died. timeout: the time limit. error: all others. Each of these has a name of its own
    /// too: failed, trap, exit, memory, fuel, stack, table, output, bad-result. The names are those of
    /// --format jsonl; its names for the first two, worker-lost and time, are accepted as well.
    #[arg(
        long,
        value_name = "KIND",
        value_parser = retry_kind,
        value_delimiter = ',',
        requires = "retries",
        help_heading = FAILURES
    )]
    pub(in crate::cli) retry_on: Option<Vec<RetryKind>>,

    /// Do not retry a task that has taken down this many workers [default: 3]
    #[arg(long, value_name = "N", requires = "retries", help_heading = FAILURES)]
    pub(in crate::cli) poison_limit: Option<NonZeroU32>,

    /// Stop before the end: now or soon, a comma, and fail=N, fail=N%, success=N or done=N
    ///
    /// now: running tasks are stopped, and outcomes after the deciding one do not count. soon: running tasks
    /// finish, their results are written, and they count too: fail=N may end with more than N failures.
    /// Nothing else is begun; with done=N, exactly N tasks are begun.
    /// fail=N% is the share of failures among the tasks that are done, from the third on. The exit code is 5
    /// if failures stopped the run. Otherwise the goal is reached, and the exit code is 0 or 1 as for a run
    /// to the end.
    #[arg(long, value_name = "WHEN,WHY", help_heading = FAILURES)]
    pub(in crate::cli) halt: Option<Halt>,

    /// The same as --halt now,fail=N
    #[arg(long, value_name = "N", conflicts_with = "halt", help_heading = FAILURES)]
    pub(in crate::cli) max_fail: Option<NonZeroU64>,

    /// The exit code after failed tasks: 1, or their number, 101 for more than 100
    ///
    /// With `count`, wpool's own exit codes 2 to 5 are 102 to 105, so that none looks like a number of tasks.
    #[arg(long, value_enum, value_name = "RULE", default_value_t, help_heading = FAILURES)]
    pub(in crate::cli) exit_code: ExitRule,
}

// The job log.
#[derive(Debug, Args)]
pub(in crate::cli) struct LogArgs {
    /// Write a line into this file for each task that is done, in the form of GNU parallel's job log; +FILE
    /// appends
    ///
    /// The first nine columns are those of GNU parallel, with tabs between: Seq, Host, Starttime, JobRuntime,
    /// Send and Receive (bytes of record and result), Exitval, Signal, Command (the beginning of the record).
    /// Then come Kind (ok or the kind of error), Attempt, Rerun, Input, Module, Export, Settings (digests of
    /// the record, of the module and of arguments, forms and grants), Fuel, Memory and Output (where the
    /// result ends: in a file, or in what this run has written into a pipe). wpool writes a line after the
    /// line's result, so a run that was killed at any moment can be resumed. The header ends with the place
    /// of the last write of results. An existing log is overwritten; a file that is no log is not.
    #[arg(
        long,
        value_name = "FILE",
        value_parser = OsStringValueParser::new().try_map(log_file),
        help_heading = LOG
    )]
    pub(in crate::cli) joblog: Option<LogFile>,

    /// Skip the tasks in the job log, done or failed, and append the others to it
    ///
    /// A record is recognised by its content, at any place of the input; equal records are skipped as often
    /// as the log has them. Records keep their numbers in the input. Module, function, arguments and grants
    /// must be those of the log, and the input must begin with a record of the log; `=force` resumes all the
    /// same.
    ///
    /// With `>> FILE`, results go on in the same file: results that a killed run wrote but did not log are
    /// cut off its end, and their tasks run again. In a pipe, or in another file, such results come twice. A
    /// file that holds less than the log vouches for, as after `> FILE`, is an error.
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "same",
        hide_possible_values = true,
        requires = "joblog",
        conflicts_with_all = ["resume_failed", "retry_failed"],
        help_heading = LOG
    )]
    pub(in crate::cli) resume: Option<LogMatch>,

    /// The same, but run failed tasks again
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "same",
        hide_possible_values = true,
        requires = "joblog",
        conflicts_with = "retry_failed",
        help_heading = LOG
    )]
    pub(in crate::cli) resume_failed: Option<LogMatch>,

    /// Run only the failed tasks of the job log again
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "same",
        hide_possible_values = true,
        requires = "joblog",
        help_heading = LOG
    )]
    pub(in crate::cli) retry_failed: Option<LogMatch>,
}
