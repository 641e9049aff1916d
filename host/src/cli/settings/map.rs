//! The settings of `wpool map`.

use std::ffi::OsString;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use super::guest::{format, given, is_command, limits, policy, target, warn_of_grants};
use super::module::loader;
use super::{identity, workers};
use crate::cli::args::{FailureArgs, LoadArgs, LogArgs, MapArgs, MapOptions, TargetArgs};
use crate::cli::choices::{
    AsArgs, ExitRule, Growth, JobCount, NoInput, OutputForm, ProfileArg, ProgressForm, Show, StartChoice,
    ValueForm,
};
use crate::cli::exit::CliError;
use crate::cli::input::{InputSource, Origin, Splitter, is_stdin};
use crate::cli::joblog::{LogMode, LogSettings, Rule};
use crate::cli::output::OutputSettings;
use crate::cli::parse::TIME_MAX;
use crate::cli::report::Report;
use crate::cli::shares::{OpenShares, RecordForm, SharedObjects, StreamUse};
use crate::context::{Early, StartMethod};
use crate::error::BuildError;
use crate::exchange::ipc::Queue;
use crate::module::{Module, ModuleLoader};
use crate::pool::{Backoff, Halt, HaltOn, HaltWhen, Pool, PoolBuilder};
use crate::spec::{Isolation, Limits};
use crate::target::{CommandInput, Target, wave_or_text};
use crate::value::{Type, Value};

/// Everything that the flags of `wpool map` decide, resolved. Only what depends on the module is a method.
pub(in crate::cli) struct MapSettings {
    pub(in crate::cli) path: PathBuf,
    pub(in crate::cli) loader: ModuleLoader,
    target: TargetSettings,
    pool: PoolSettings,
    jobs: JobCount,
    pub(in crate::cli) shared: SharedObjects,
    /// The queue whose items become further records.
    pub(in crate::cli) feed: Option<Queue<Vec<u8>>>,
    limits: Limits,
    pub(in crate::cli) origin: Origin,
    delimiter: u8,
    pub(in crate::cli) is_ordered: bool,
    pub(in crate::cli) output: OutputSettings,
    /// Results and failures carry the whole record.
    pub(in crate::cli) tag: bool,
    pub(in crate::cli) success_output: Show,
    pub(in crate::cli) failure_output: Show,
    pub(in crate::cli) progress: ProgressForm,
    pub(in crate::cli) stats: bool,
    pub(in crate::cli) log: Option<LogSettings>,
    /// The settings that decide about results, for the job log.
    pub(in crate::cli) identity: Vec<u8>,
    pub(in crate::cli) profile: Option<ProfileArg>,
    pub(in crate::cli) global_timeout: Option<Duration>,
    pub(in crate::cli) halt: Option<HaltSettings>,
    pub(in crate::cli) exit_rule: ExitRule,
    pub(in crate::cli) no_input: NoInput,
    pub(in crate::cli) dry_run: bool,
}

/// When the run stops before its end, and the flag that says so.
#[derive(Debug, Clone)]
pub(in crate::cli) struct HaltSettings {
    pub(in crate::cli) halt: Halt,
    pub(in crate::cli) flag: String,
}

/// The function, its arguments, and what becomes of a record.
struct TargetSettings {
    args: TargetArgs,
    input_format: ValueForm,
    as_args: Option<AsArgs>,
    ok_exit: Vec<u32>,
    init: Option<String>,
    init_args: Vec<String>,
}

/// How the pool runs its workers and retries tasks. `None` leaves the library's default.
struct PoolSettings {
    start_method: StartMethod,
    isolation: Option<Isolation>,
    max_tasks_per_child: Option<NonZeroU64>,
    max_memory_per_child: Option<u64>,
    idle_timeout: Option<Duration>,
    start_timeout: Option<Duration>,
    shutdown_timeout: Option<Duration>,
    buffer: Option<NonZeroUsize>,
    buffer_bytes: Option<u64>,
    retries: RetrySettings,
}

struct RetrySettings {
    retries: u32,
    delay: Option<Duration>,
    backoff: Backoff,
    /// Kinds of failures that are retried, all without it.
    on: Option<Vec<&'static str>>,
    poison_limit: Option<NonZeroU32>,
}

impl MapSettings {
    /// `early`: a fork server that may be the right one.
    pub(in crate::cli) fn resolve(args: MapArgs, early: Option<Early>) -> Result<MapSettings, CliError> {
        MapSettings::of(args.module.module, &args.module.load, args.options, early)
    }

    /// The settings for the module at `path`. `early`: a fork server that may be the right one.
    pub(in crate::cli) fn of(
        path: PathBuf,
        load: &LoadArgs,
        args: MapOptions,
        early: Option<Early>,
    ) -> Result<MapSettings, CliError> {
        let identity = identity::bytes(&args);
        let pool = pool_settings(&args);
        let shared = SharedObjects::new(&args.shared, policy(&args.grants))?;
        let feed = args.feed.as_deref().map(|queue| shared.fed(queue)).transpose()?;
        let loader = loader(load).policy(shared.policy());
        let needs_log = args.log.joblog.is_some();
        Ok(MapSettings {
            loader: if forks(&args) { loader.start_early(early) } else { loader },
            path,
            target: TargetSettings {
                args: args.target,
                input_format: args.input_format,
                as_args: args.as_args,
                ok_exit: args.ok_exit,
                init: args.init,
                init_args: args.init_args,
            },
            pool,
            jobs: args.jobs,
            shared,
            feed,
            limits: limits(&args.limits),
            origin: origin(args.items, args.inputs),
            delimiter: if args.null { 0 } else { args.delimiter.unwrap_or(b'\n') },
            is_ordered: !args.unordered,
            output: OutputSettings {
                form: args.format,
                end: if args.print0 { 0 } else { b'\n' },
                needs_times: needs_log || args.format == OutputForm::Jsonl,
            },
            tag: args.tag,
            success_output: args.success_output,
            failure_output: args.failure_output,
            progress: args.progress,
            stats: args.stats,
            log: log(args.log),
            identity,
            profile: args.profile.how,
            global_timeout: args.global_timeout.filter(|time| !time.is_zero()),
            halt: halt(&args.failures),
            exit_rule: args.failures.exit_code,
            no_input: args.no_input,
            dry_run: args.dry_run,
        })
    }

    /// Opens the files at the ends of shared queues.
    pub(in crate::cli) fn open_shares(&self, source: &InputSource) -> Result<OpenShares, CliError> {
        let reads_stdin = match &self.origin {
            Origin::Items(_) => false,
            Origin::StandardInput => true,
            Origin::Files(files) => files.iter().any(|file| is_stdin(file)),
        };
        // Standard output has the results.
        let streams = StreamUse { stdin_is_free: !reads_stdin, stdout_is_free: false };
        let form =
            RecordForm { delimiter: self.delimiter, record_max: self.limits.input, end: self.output.end };
        self.shared.open(source.files(), streams, form)
    }

    /// Whether the flags say what becomes of a guest's state between tasks.
    pub(in crate::cli) fn says_state(&self) -> bool {
        self.pool.isolation.is_some() || self.target.init.is_some() || !self.target.init_args.is_empty()
    }

    pub(in crate::cli) fn func(&self) -> Option<&str> {
        self.target.args.func.as_deref()
    }

    /// Whether the run ends workers at once when it is halted.
    pub(in crate::cli) fn halts_now(&self) -> bool {
        self.halt.as_ref().is_some_and(|halt| halt.halt.when == HaltWhen::Now)
    }

    /// The number of workers. Warns if it is smaller than the one asked for.
    pub(in crate::cli) fn processes(&self, report: &Report) -> usize {
        workers::processes(self.jobs, report)
    }

    pub(in crate::cli) fn splitter(&self) -> Splitter {
        Splitter::new(self.delimiter, self.limits.input)
    }

    pub(in crate::cli) fn target(&self, module: &Module) -> Result<Target, CliError> {
        let of = &self.target;
        let target = target(self.func(), &of.args, module, &self.path, &[])
            .input(format(of.input_format))
            .ok_exit(of.ok_exit.iter().copied())
            .timed(self.output.needs_times);
        let Some(how) = of.as_args else { return Ok(target) };
        if !is_command(self.func(), module) && module.info().target(self.func()).is_ok() {
            return Err(CliError::usage(
                "--as-args is for commands; a function's parameters are filled from the record",
            ));
        }
        Ok(target.command_input(match how {
            AsArgs::One => CommandInput::Arg,
            AsArgs::Words => CommandInput::Words,
        }))
    }

    /// The pool, not started yet.
    pub(in crate::cli) fn pool(
        &self,
        module: &Module,
        processes: usize,
        report: &Report,
    ) -> Result<PoolBuilder, BuildError> {
        let policy = self.shared.policy();
        warn_of_grants(&policy, module, report);
        let of = &self.pool;
        let builder = Pool::builder(module)
            .processes(processes)
            .limits(self.limits.clone())
            .policy(policy)
            .start_method(of.start_method);
        let builder = given(builder, of.isolation, PoolBuilder::isolation);
        let builder = given(builder, of.max_tasks_per_child, PoolBuilder::max_tasks_per_child);
        let builder = given(builder, of.max_memory_per_child, PoolBuilder::max_memory_per_child);
        let builder = given(builder, of.idle_timeout, PoolBuilder::idle_timeout);
        let builder = given(builder, of.start_timeout, PoolBuilder::start_timeout);
        let builder = given(builder, of.shutdown_timeout, PoolBuilder::shutdown_timeout);
        let builder = given(builder, of.buffer, PoolBuilder::buffer);
        let builder = given(builder, of.buffer_bytes, PoolBuilder::buffer_bytes);
        let builder = given(builder, self.halt.as_ref().map(|halt| halt.halt), PoolBuilder::halt);
        let builder = given(builder, self.profile.as_ref().map(ProfileArg::strategy), PoolBuilder::profile);
        let builder = of.retries.apply(builder);
        let initargs = self.target.initargs(module)?;
        Ok(match &self.target.init {
            Some(func) => builder.initializer(func, initargs),
            None => builder.initargs(initargs),
        })
    }
}

impl RetrySettings {
    fn apply(&self, builder: PoolBuilder) -> PoolBuilder {
        let builder = builder.retries(self.retries).backoff(self.backoff);
        let builder = given(builder, self.delay, PoolBuilder::retry_delay);
        let builder = given(builder, self.poison_limit, PoolBuilder::poison_limit);
        given(builder, self.on.clone(), |builder, kinds| {
            builder.retry_on(move |error| kinds.contains(&error.kind()))
        })
    }
}

impl TargetSettings {
    /// The initializer's arguments, typed by its parameters. A function of one `list<string>` gets all of
    /// them in that list.
    fn initargs(&self, module: &Module) -> Result<Vec<Value>, BuildError> {
        let texts = || self.init_args.iter().cloned().map(Value::String).collect();
        let Some(func) = &self.init else { return Ok(texts()) };
        let export = module.info().target(Some(func))?;
        match &export.ty.params[..] {
            [only] if only.ty == Type::List(Box::new(Type::String)) => return Ok(texts()),
            params if params.len() < self.init_args.len() => {
                let (expected, given) = (params.len(), self.init_args.len());
                return Err(BuildError::TooManyArguments { func: export.path.clone(), expected, given });
            }
            _ => {}
        }
        let typed = export.ty.params.iter().zip(&self.init_args).enumerate().map(|(i, (param, text))| {
            let wrong = |reason| BuildError::Argument {
                func: export.path.clone(),
                index: (i + 1).to_string(),
                reason,
            };
            wave_or_text(text, &param.ty, module.info().kind.integers()).map_err(wrong)
        });
        typed.collect()
    }
}

/// Whether the workers are forked. A dry run starts none, and a profile that workers write themselves needs
/// processes that are executed.
fn forks(args: &MapOptions) -> bool {
    let writes_file = args.profile.how.as_ref().is_some_and(|how| how.strategy().writes_file());
    args.start_method == StartChoice::Forkserver && !(args.worker.threads || args.dry_run || writes_file)
}

fn pool_settings(args: &MapOptions) -> PoolSettings {
    let or_none = |time: Duration| if time.is_zero() { TIME_MAX } else { time };
    PoolSettings {
        start_method: match args.start_method {
            _ if args.worker.threads => StartMethod::Thread,
            StartChoice::Forkserver => StartMethod::Forkserver,
            StartChoice::Spawn => StartMethod::Spawn,
        },
        isolation: match (args.fresh, args.reuse) {
            (true, _) => Some(Isolation::Fresh),
            (false, true) => Some(Isolation::Reuse),
            (false, false) => None,
        },
        max_tasks_per_child: args.max_tasks_per_child,
        max_memory_per_child: args.max_memory_per_child.map(NonZeroU64::get),
        idle_timeout: args.idle_timeout.filter(|time| !time.is_zero()),
        start_timeout: args.start_timeout.map(or_none),
        shutdown_timeout: args.shutdown_timeout.map(or_none),
        buffer: args.buffer,
        buffer_bytes: args.buffer_bytes.map(NonZeroU64::get),
        retries: retries(&args.failures),
    }
}

fn retries(args: &FailureArgs) -> RetrySettings {
    RetrySettings {
        retries: args.retries,
        delay: args.retry_delay,
        backoff: match args.backoff {
            Growth::Fixed => Backoff::Fixed,
            Growth::Exponential => Backoff::Exponential { max: args.retry_max_delay },
        },
        on: args.retry_on.as_ref().map(|kinds| kinds.concat()),
        poison_limit: args.poison_limit,
    }
}

fn halt(args: &FailureArgs) -> Option<HaltSettings> {
    let by_count = |count| {
        let halt = Halt { when: HaltWhen::Now, on: HaltOn::Failures(count) };
        HaltSettings { halt, flag: format!("--max-fail {count}") }
    };
    let by_halt = args.halt.map(|halt| HaltSettings { halt, flag: format!("--halt {halt}") });
    by_halt.or(args.max_fail.map(by_count))
}

fn origin(items: Option<Vec<OsString>>, files: Vec<PathBuf>) -> Origin {
    match items {
        Some(items) => Origin::Items(items.into_iter().map(OsString::into_vec).collect()),
        None if files.is_empty() => Origin::StandardInput,
        None => Origin::Files(files),
    }
}

fn log(args: LogArgs) -> Option<LogSettings> {
    let file = args.joblog?;
    let resumed = args
        .resume
        .map(|how| (Rule::New, how))
        .or(args.resume_failed.map(|how| (Rule::NewAndFailed, how)))
        .or(args.retry_failed.map(|how| (Rule::Failed, how)));
    let mode = match resumed {
        Some((rule, how)) => LogMode::Resume(rule, how),
        None if file.append => LogMode::Append,
        None => LogMode::Overwrite,
    };
    Some(LogSettings { path: file.path, mode })
}
