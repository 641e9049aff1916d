//! Flags on guests: which function runs, its limits, its grants, and how its workers run.

use std::num::NonZeroU64;
use std::time::Duration;

use clap::Args;
use clap::builder::{NonEmptyStringValueParser, OsStringValueParser, TypedValueParser};

use crate::cli::choices::{DirArg, ProfileArg, QueueFile, ShareArg, UnknownImports, ValueForm};
use crate::cli::parse::{
    clock, count, dir, duration, name_and_value, payload_size, profile, queue_file, random, share, size,
    stack_size,
};
use crate::spec::{Clock, Random};

pub(super) const TARGET: &str = "What to run";
pub(super) const LIMITS: &str = "Limits of a task";
pub(super) const WORKERS: &str = "Workers";
pub(super) const MESSAGES: &str = "Messages";
pub(super) const SHARED: &str = "What guests share with each other";
const GRANTS: &str = "What guests are given (nothing by default)";

// The function, and the arguments that every task gets.
#[derive(Debug, Default, Args)]
pub(in crate::cli) struct TargetArgs {
    /// The function, by its name or its path `ns:pkg/interface#name`
    ///
    /// Without this option: the function `run`, else the command, else the only function that the module
    /// exports.
    #[arg(
        long,
        visible_alias = "target",
        value_name = "NAME",
        value_parser = NonEmptyStringValueParser::new(),
        help_heading = TARGET
    )]
    pub(in crate::cli) func: Option<String>,

    /// The next positional argument, in WAVE; a string needs no quotes
    ///
    /// Every task gets it; the record fills the remaining parameters. A command gets it as an argument
    /// before the record's.
    #[arg(long = "arg", value_name = "VALUE", allow_hyphen_values = true, help_heading = TARGET)]
    pub(in crate::cli) args: Vec<String>,

    /// An argument by its parameter's name, in WAVE
    #[arg(long = "kw", value_name = "NAME=VALUE", value_parser = name_and_value, help_heading = TARGET)]
    pub(in crate::cli) kwargs: Vec<(String, String)>,

    /// The form of results
    ///
    /// auto: bytes and strings as they are, all other types in WAVE. raw: the bytes as they are.
    /// wave, json: that form, with floats in their shortest notation.
    #[arg(long, value_enum, value_name = "FORM", default_value_t, help_heading = TARGET)]
    pub(in crate::cli) output_format: ValueForm,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LimitArgs {
    /// The time limit of one attempt at a task: 2s, 500ms, 1m30s, or seconds; 0 for no limit, the default
    ///
    /// The time starts when the instance is made. It covers the instance's start, the function, and its
    /// cleanup.
    #[arg(
        long,
        value_name = "TIME",
        value_parser = duration,
        env = "WPOOL_TIMEOUT",
        hide_env_values = true,
        help_heading = LIMITS
    )]
    pub(in crate::cli) timeout: Option<Duration>,

    /// How long a guest over its time limit may stay in a host call before its process is killed
    /// [default: 250ms]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = LIMITS)]
    pub(in crate::cli) grace: Option<Duration>,

    /// Memory of a guest, all its linear memories together: 64M, 1G (K, M, G are powers of 1024)
    /// [default: 256M]
    ///
    /// A request for more memory fails, and the guest may go on without it. If the guest traps afterwards,
    /// its task counts as one that reached this limit.
    #[arg(
        long,
        value_name = "SIZE",
        value_parser = size,
        env = "WPOOL_MEMORY",
        hide_env_values = true,
        help_heading = LIMITS
    )]
    pub(in crate::cli) memory: Option<u64>,

    /// Instructions of a task: 5000000, 2G (K, M, G, T are powers of 1000) [default: no limit, not counted]
    ///
    /// A task uses the same number in every run and on every machine; --format jsonl shows it. This option
    /// compiles the module a second time, and guests run slower.
    #[arg(long, value_name = "N", value_parser = count, help_heading = LIMITS)]
    pub(in crate::cli) fuel: Option<NonZeroU64>,

    /// Stack of guest code, 16K to 64M [default: 512K]
    #[arg(long, value_name = "SIZE", value_parser = stack_size, help_heading = LIMITS)]
    pub(in crate::cli) stack: Option<usize>,

    /// Elements of a guest's tables, all together [default: 100000]
    #[arg(long, value_name = "N", help_heading = LIMITS)]
    pub(in crate::cli) max_table_elements: Option<usize>,

    /// Bytes of one result [default: 256M]
    #[arg(long, value_name = "SIZE", value_parser = payload_size, help_heading = LIMITS)]
    pub(in crate::cli) max_output: Option<usize>,

    /// Bytes of one record, or input [default: 256M]
    #[arg(long, value_name = "SIZE", value_parser = payload_size, help_heading = LIMITS)]
    pub(in crate::cli) max_input: Option<usize>,

    /// Bytes that wpool keeps of a task's stdout, and of its stderr [default: 64K]
    ///
    /// --max-output is the limit instead where the stdout is the result.
    #[arg(long, value_name = "SIZE", value_parser = payload_size, help_heading = LIMITS)]
    pub(in crate::cli) max_stdout: Option<usize>,
}

/// What guests are given beside their input.
#[derive(Debug, Args)]
pub(in crate::cli) struct GrantArgs {
    /// Grant a directory, under the name GUEST or its own; `:ro` for reading only
    ///
    /// The guest reaches everything below the directory, and nothing else. The option can be repeated.
    #[arg(
        long = "dir",
        value_name = "HOST[::GUEST][:ro]",
        value_parser = OsStringValueParser::new().try_map(|text| dir(&text)),
        help_heading = GRANTS
    )]
    pub(in crate::cli) dirs: Vec<DirArg>,

    /// Set a variable in the guest's environment
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value, help_heading = GRANTS)]
    pub(in crate::cli) env: Vec<(String, String)>,

    /// Pass on a variable of wpool's own environment, if it is set
    #[arg(long, value_name = "NAME", help_heading = GRANTS)]
    pub(in crate::cli) inherit_env: Vec<String>,

    /// Let guests connect to this address over TCP; `none`: guests have sockets that connect to nothing
    ///
    /// HOST is a name, an IPv4 address, or an IPv6 address in brackets. wpool looks up names once, before
    /// anything starts. `none` is for guests that import sockets without using them, such as those in Python.
    #[arg(long, value_name = "HOST:PORT|none", help_heading = GRANTS)]
    pub(in crate::cli) net: Vec<String>,

    /// A module that imports functions which wpool does not provide is refused, or each of them traps when
    /// it is called
    #[arg(
        long,
        value_enum,
        value_name = "refuse|trap",
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true,
        help_heading = GRANTS
    )]
    pub(in crate::cli) unknown_imports: UnknownImports,

    /// The clocks that guests see: coarse (milliseconds, the default), fine, or fixed=TIME, which stands
    /// still
    ///
    /// TIME is 2026-01-31T12:00:00Z, or seconds since 1970.
    #[arg(long, value_name = "CLOCK", value_parser = clock, help_heading = GRANTS)]
    pub(in crate::cli) clock: Option<Clock>,

    /// Random numbers that follow from a seed: seed=N
    #[arg(long, value_name = "seed=N", value_parser = random, help_heading = GRANTS)]
    pub(in crate::cli) random: Option<Random>,

    /// The same results in every run: --clock fixed=0, --random seed=0 (or as they are given), exact floating
    /// point
    ///
    /// Guests do not see which worker they run in either. This holds for fresh instances; with --reuse,
    /// results may depend on earlier tasks.
    #[arg(long, help_heading = GRANTS)]
    pub(in crate::cli) deterministic: bool,
}

/// Objects that guests of one run use at the same time.
#[derive(Debug, Args)]
pub(in crate::cli) struct ShareArgs {
    /// Give guests an object under a name: queue:found=1000, lock:db, semaphore:n=4; the option can be
    /// repeated
    ///
    /// queue:NAME[=MOST], jqueue:NAME[=MOST]: a queue of MOST items at most, the second with task-done and
    /// join. pipe:NAME: two connections, NAME.a and NAME.b. value:NAME[=FIRST]: a number, or a text.
    /// dict:NAME [=MOST]: bytes by keys. lock:NAME, rlock:NAME, event:NAME, condition:NAME.
    /// semaphore:NAME[=UNITS], bsemaphore:NAME[=UNITS]: the second never has more units than at first.
    /// barrier:NAME=PARTIES. A queue and a dict hold 64M at most. Guests open an object by its kind and name
    /// (wpool:ipc, wpool:sync), and reach no other. What a task holds is released when it ends, however it
    /// ends. wpool says what is left in a queue at the end.
    #[arg(long = "share", value_name = "KIND:NAME[=N]", value_parser = share, help_heading = SHARED)]
    pub(in crate::cli) shares: Vec<ShareArg>,

    /// Write what guests put into a shared queue to a file, an item a line, while it comes
    ///
    /// The bytes of each item are written as they are, and a newline (with -z a NUL). `-` is standard output
    /// where it has no results: in `run` and `call`.
    #[arg(
        long = "drain",
        value_name = "NAME=FILE",
        value_parser = OsStringValueParser::new().try_map(|text| queue_file(&text)),
        help_heading = SHARED
    )]
    pub(in crate::cli) drains: Vec<QueueFile>,

    /// Put each line of a file into a shared queue, and close the queue at the end; `-` is standard input
    #[arg(
        long = "fill",
        value_name = "NAME=FILE",
        value_parser = OsStringValueParser::new().try_map(|text| queue_file(&text)),
        help_heading = SHARED
    )]
    pub(in crate::cli) fills: Vec<QueueFile>,
}

/// Looking where guests spend their time.
#[derive(Debug, Args)]
pub(in crate::cli) struct ProfileArgs {
    /// Show where guests spend their time: guest[,PATH[,INTERVAL]], perfmap or jitdump
    ///
    /// guest: samples each worker's guest every INTERVAL (1ms), and writes PATH (wpool-guest-profile.json)
    /// for profiler.firefox.com. It shows loops and calls of the guest's own code, not the inside of calls to
    /// the host; a worker that is killed leaves no profile. perfmap, jitdump: each worker writes
    /// /tmp/perf-PID.map, or /tmp/jit-PID.dump, for Linux perf, and keeps the file open while guests run.
    #[arg(long = "profile", value_name = "HOW", value_parser = profile, help_heading = MESSAGES)]
    pub(in crate::cli) how: Option<ProfileArg>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct WorkerArgs {
    /// Run guests in threads of wpool itself instead of worker processes: less isolation
    ///
    /// WebAssembly's own sandbox and all limits hold, but no process confines a guest that escapes from it,
    /// and a crash of the engine ends everything. wpool cannot interrupt a guest inside a call to the host,
    /// such as a sleep: it gives up the thread, which lasts until the call returns. For trusted guests, and
    /// for systems that allow no more processes.
    #[arg(long, help_heading = WORKERS)]
    pub(in crate::cli) threads: bool,
}
