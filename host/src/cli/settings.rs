//! What the flags mean together: everything resolved, with the library's own types.

use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::args::{
    AsArgs, CacheArgs, CachePlaceArgs, CompilerArgs, FailureArgs, Form, GrantArgs, Growth, LimitArgs,
    LoadArgs, MapArgs, ModuleArgs, SandboxArgs, Start, TargetArgs, UnknownImports, Wasm,
};
use super::exit::Failure;
use super::parse::{DirArg, Jobs, TIME_MAX};
use super::report::Report;
use crate::context::StartMethod;
use crate::error::BuildError;
use crate::module::{CacheLimits, Module, ModuleError, ModuleLoader};
use crate::policy::Policy;
use crate::pool::{Backoff, Halt, HaltOn, HaltWhen, Pool, PoolBuilder};
use crate::spec::{CompileLimits, Isolation, Limits, Role, WasmFeature};
use crate::target::{CommandInput, Format, Target, wave_or_text};
use crate::value::{Type, Value};

/// More workers than this help nobody; a typing error should not fill the process table.
const JOBS_MAX: usize = 1024;
/// Descriptors that a worker costs us, and those for everything else.
const FDS_PER_WORKER: u64 = 5;
const FDS_OF_OURS: u64 = 32;

/// Loads the module to run it with these grants, and passes on what its cache had to say. `forks`: it will be
/// run by a pool whose workers are forked.
pub(super) fn load(
    path: &Path,
    args: &LoadArgs,
    grants: &GrantArgs,
    report: &Report,
    forks: bool,
) -> Result<Module, ModuleError> {
    let loader = loader(&args.cache, &args.compiler, &args.sandbox).policy(policy(grants));
    load_with(&if forks { loader.start_early() } else { loader }, path, report)
}

/// Loads the module to look at it, with all that it needs of WebAssembly.
pub(super) fn load_to_inspect(args: &ModuleArgs, report: &Report) -> Result<Module, ModuleError> {
    let LoadArgs { cache, compiler, sandbox } = &args.load;
    let loader = loader(cache, compiler, sandbox);
    match load_with(&loader, &args.module, report) {
        Err(ModuleError::At { source, path }) => match *source {
            ModuleError::NeedsFeatures { needs, .. } => {
                load_with(&loader.wasm_features(needs), &args.module, report)
            }
            other => Err(ModuleError::At { source: Box::new(other), path }),
        },
        loaded => loaded,
    }
}

fn load_with(loader: &ModuleLoader, path: &Path, report: &Report) -> Result<Module, ModuleError> {
    let shown = report.clone();
    let module = loader.clone().on_compile(move |compiling| shown.compiling(compiling)).load(path)?;
    for warning in module.warnings() {
        report.warn(warning);
    }
    let place = match module.cached() {
        Some(path) => format!("compiled at {}", path.display()),
        None => "compiled, not cached".to_owned(),
    };
    report.detail(&format!("{}: {}, sha256 {}, {place}", path.display(), module.kind(), module.digest()));
    Ok(module)
}

pub(super) fn loader(args: &CacheArgs, compiler: &CompilerArgs, sandbox: &SandboxArgs) -> ModuleLoader {
    let mut limits = CompileLimits::default();
    if let Some(time) = compiler.compile_timeout {
        limits.time = if time.is_zero() { Duration::MAX } else { time };
    }
    if let Some(memory) = compiler.compile_memory {
        limits.memory = memory.get();
    }
    let features = compiler.wasm.iter().map(|wasm| match wasm {
        Wasm::Exceptions => WasmFeature::Exceptions,
        Wasm::Gc => WasmFeature::Gc,
    });
    let loader = Module::loader().sandbox(sandbox.choice).compile_limits(limits).wasm_features(features);
    if args.no_cache { loader.no_cache() } else { with_cache(loader, &args.place) }
}

/// With the cache that was asked for.
pub(super) fn with_cache(loader: ModuleLoader, args: &CachePlaceArgs) -> ModuleLoader {
    let loader = loader.cache_limits(cache_limits(args));
    match &args.cache_dir {
        Some(dir) if !dir.as_os_str().is_empty() => loader.cache_dir(dir),
        _ => loader,
    }
}

pub(super) fn cache_limits(args: &CachePlaceArgs) -> CacheLimits {
    let mut limits = CacheLimits::default();
    if let Some(size) = args.cache_size {
        limits.size = if size == 0 { u64::MAX } else { size };
    }
    if let Some(age) = args.cache_age {
        limits.unused = if age.is_zero() { Duration::MAX } else { age };
    }
    limits
}

/// The function `func` with its fixed arguments. `argv`: those of a command that come before `--arg`.
pub(super) fn target(
    func: Option<&str>,
    args: &TargetArgs,
    module: &Module,
    path: &Path,
    argv: &[String],
) -> Target {
    let target = func.map_or_else(Target::default, Target::func).output(format(args.output_format));
    let target = args.kwargs.iter().fold(target, |target, (name, value)| target.kwarg_wave(name, value));
    if is_command(func, module) {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        return target.argv([name].iter().chain(argv).chain(&args.args));
    }
    args.args.iter().fold(target, Target::arg_wave)
}

/// Whether the function is a command, which has arguments of another kind. A function that does not exist is found out later.
pub(super) fn is_command(func: Option<&str>, module: &Module) -> bool {
    module.info().target(func).is_ok_and(|export| export.role == Role::Command)
}

pub(super) fn format(form: Form) -> Format {
    match form {
        Form::Auto => Format::Auto,
        Form::Raw => Format::Raw,
        Form::Wave => Format::Wave,
        Form::Json => Format::Json,
    }
}

pub(super) fn limits(args: &LimitArgs) -> Limits {
    let mut limits = Limits::default();
    limits.time = args.timeout.filter(|time| !time.is_zero());
    limits.grace = args.grace.unwrap_or(limits.grace);
    limits.memory = args.memory.unwrap_or(limits.memory);
    limits.fuel = args.fuel.map(NonZeroU64::get);
    limits.stack = args.stack.unwrap_or(limits.stack);
    limits.table_elements = args.max_table_elements.unwrap_or(limits.table_elements);
    limits.output = args.max_output.unwrap_or(limits.output);
    limits.input = args.max_input.unwrap_or(limits.input);
    limits.stdout = args.max_stdout.unwrap_or(limits.stdout);
    limits
}

/// The time that the whole run may take.
pub(super) fn global_timeout(args: &MapArgs) -> Option<Duration> {
    args.global_timeout.filter(|time| !time.is_zero())
}

/// What guests are given.
pub(super) fn policy(args: &GrantArgs) -> Policy {
    let policy = Policy::sealed();
    let mut policy = if args.deterministic { policy.deterministic() } else { policy };
    for DirArg { host, guest, access } in &args.dirs {
        policy = policy.dir(host, guest, *access);
    }
    policy = args.inherit_env.iter().fold(policy, Policy::inherit_env);
    policy = args.env.iter().fold(policy, |policy, (name, value)| policy.env(name, value));
    policy = args.net.iter().fold(policy, |policy, address| match address.as_str() {
        "none" => policy.refuse_net(),
        address => policy.net(address),
    });
    policy = match args.unknown_imports {
        UnknownImports::Refuse => policy,
        UnknownImports::Trap => policy.trap_unknown_imports(),
    };
    policy = args.clock.into_iter().fold(policy, Policy::clock);
    args.random.into_iter().fold(policy, Policy::random)
}

/// The same, for a module. What of it may not be meant is told.
pub(super) fn granted(args: &GrantArgs, module: &Module, report: &Report) -> Policy {
    let policy = policy(args);
    for warning in policy.warnings(module) {
        report.warn(&warning);
    }
    policy
}

/// The target of `map`.
pub(super) fn map_target(args: &MapArgs, module: &Module) -> Result<Target, Failure> {
    let target = target(args.target.func.as_deref(), &args.target, module, &args.module.module, &[])
        .input(format(args.input_format));
    let target = target.ok_exit(args.ok_exit.iter().copied());
    let Some(how) = args.as_args else { return Ok(target) };
    if !is_command(args.target.func.as_deref(), module)
        && module.info().target(args.target.func.as_deref()).is_ok()
    {
        return Err(Failure::usage(
            "--as-args is for commands; a function's parameters are filled from the record",
        ));
    }
    Ok(target.command_input(match how {
        AsArgs::One => CommandInput::Arg,
        AsArgs::Words => CommandInput::Words,
    }))
}

/// What decides about results, beside the module and the records: a run that is resumed must have the same. Limits are not here: a task that
/// was done within them is done, and one that was not is why somebody raises them.
pub(super) fn deciding(args: &MapArgs) -> Vec<String> {
    let target = &args.target;
    let forms = [
        format!("input-format={:?}", args.input_format),
        format!("output-format={:?}", target.output_format),
        format!("as-args={:?}", args.as_args),
        format!("ok-exit={:?}", args.ok_exit),
        format!("init={:?}", args.init),
        format!("fresh={} reuse={}", args.fresh, args.reuse),
        format!("grants={:?}", policy(&args.grants)),
    ];
    let args = target
        .args
        .iter()
        .map(|arg| format!("arg={arg}"))
        .chain(args.init_args.iter().map(|arg| format!("init-arg={arg}")));
    let kwargs = target.kwargs.iter().map(|(name, value)| format!("kw={name}={value}"));
    forms.into_iter().chain(args).chain(kwargs).collect()
}

/// Whether `map` will have its workers forked.
pub(super) fn forks(args: &MapArgs) -> bool {
    let by_itself = args.profile.how.as_ref().is_some_and(|how| how.strategy().writes_file());
    args.start_method == Start::Forkserver && !(args.worker.threads || args.dry_run || by_itself)
}

/// Whether it was said what becomes of a guest's state.
pub(super) fn says_state(args: &MapArgs) -> bool {
    args.fresh || args.reuse || args.init.is_some() || !args.init_args.is_empty()
}

/// The pool of `map`, not started yet.
pub(super) fn pool(
    args: &MapArgs,
    module: &Module,
    processes: usize,
    report: &Report,
) -> Result<PoolBuilder, BuildError> {
    let policy = granted(&args.grants, module, report);
    let mut builder = Pool::builder(module).processes(processes).limits(limits(&args.limits)).policy(policy);
    builder = builder.start_method(match args.start_method {
        _ if args.worker.threads => StartMethod::Thread,
        Start::Forkserver => StartMethod::Forkserver,
        Start::Spawn => StartMethod::Spawn,
    });
    builder = match (args.fresh, args.reuse) {
        (true, _) => builder.isolation(Isolation::Fresh),
        (_, true) => builder.isolation(Isolation::Reuse),
        _ => builder,
    };
    builder = args.max_tasks_per_child.into_iter().fold(builder, PoolBuilder::max_tasks_per_child);
    let memory = args.max_memory_per_child.map(NonZeroU64::get);
    builder = memory.into_iter().fold(builder, PoolBuilder::max_memory_per_child);
    let idle = args.idle_timeout.filter(|time| !time.is_zero());
    builder = idle.into_iter().fold(builder, PoolBuilder::idle_timeout);
    let or_none = |time: Duration| if time.is_zero() { TIME_MAX } else { time };
    builder = args.start_timeout.map(or_none).into_iter().fold(builder, PoolBuilder::start_timeout);
    builder = args.shutdown_timeout.map(or_none).into_iter().fold(builder, PoolBuilder::shutdown_timeout);
    builder = failures(&args.failures, builder);
    builder = args.profile.how.iter().fold(builder, |builder, how| builder.profile(how.strategy()));
    builder = args.buffer.into_iter().fold(builder, PoolBuilder::buffer);
    builder = args.buffer_bytes.map(NonZeroU64::get).into_iter().fold(builder, PoolBuilder::buffer_bytes);
    let initargs = initargs(args, module)?;
    Ok(match &args.init {
        Some(func) => builder.initializer(func, initargs),
        None => builder.initargs(initargs),
    })
}

/// What the pool does about failures.
fn failures(args: &FailureArgs, builder: PoolBuilder) -> PoolBuilder {
    let mut builder = builder.retries(args.retries).backoff(match args.backoff {
        Growth::Fixed => Backoff::Fixed,
        Growth::Exponential => Backoff::Exponential { max: args.retry_max_delay },
    });
    builder = args.retry_delay.into_iter().fold(builder, PoolBuilder::retry_delay);
    builder = args.poison_limit.into_iter().fold(builder, PoolBuilder::poison_limit);
    builder = halt(args).into_iter().fold(builder, PoolBuilder::halt);
    match &args.retry_on {
        Some(kinds) => {
            let kinds = kinds.concat();
            builder.retry_on(move |error| kinds.contains(&error.kind()))
        }
        None => builder,
    }
}

/// When the run stops before its end.
pub(super) fn halt(args: &FailureArgs) -> Option<Halt> {
    args.halt.or(args.max_fail.map(|count| Halt { when: HaltWhen::Now, on: HaltOn::Failures(count) }))
}

/// The initializer's arguments, by its parameters: a function of one `list<string>` gets all of them in it.
fn initargs(args: &MapArgs, module: &Module) -> Result<Vec<Value>, BuildError> {
    let texts = || args.init_args.iter().cloned().map(Value::String).collect();
    let Some(func) = &args.init else { return Ok(texts()) };
    let export = module.info().target(Some(func))?;
    match &export.ty.params[..] {
        [only] if only.ty == Type::List(Box::new(Type::String)) => return Ok(texts()),
        params if params.len() < args.init_args.len() => {
            let (expected, given) = (params.len(), args.init_args.len());
            return Err(BuildError::TooManyArguments { func: export.path.clone(), expected, given });
        }
        _ => {}
    }
    let typed = export.ty.params.iter().zip(&args.init_args).enumerate().map(|(i, (param, text))| {
        let wrong =
            |reason| BuildError::Argument { func: export.path.clone(), index: (i + 1).to_string(), reason };
        wave_or_text(text, &param.ty, module.info().kind.integers()).map_err(wrong)
    });
    typed.collect()
}

/// The number of workers, within what the machine allows.
pub(super) fn processes(jobs: Jobs, report: &Report) -> usize {
    let wanted = resolve_jobs(jobs, num_cpus::get());
    let by_files =
        usize::try_from(raise_files().saturating_sub(FDS_OF_OURS) / FDS_PER_WORKER).unwrap_or(usize::MAX);
    let (most, why) = match by_files < JOBS_MAX {
        true => (by_files.max(1), "the limit on open files (ulimit -n) allows no more"),
        false => (JOBS_MAX, "more are of no use"),
    };
    if wanted > most {
        report.warn(&format!("at most {most} at a time instead of {wanted} workers: {why}"));
    }
    wanted.min(most)
}

fn resolve_jobs(jobs: Jobs, processors: usize) -> usize {
    let wanted = match jobs {
        Jobs::Default => processors,
        Jobs::Exactly(n) => n,
        Jobs::Percent(percent) => processors.saturating_mul(percent) / 100,
        Jobs::More(n) => processors.saturating_add(n),
        Jobs::Fewer(n) => processors.saturating_sub(n),
    };
    wanted.max(1)
}

/// Takes as many descriptors as we may have, and gives their number.
fn raise_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(_) => limit.current.unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_follow_the_processors_and_are_never_none() {
        let of = |jobs| resolve_jobs(jobs, 4);
        assert_eq!(of(Jobs::Default), 4);
        assert_eq!(of(Jobs::Exactly(7)), 7);
        assert_eq!((of(Jobs::Percent(50)), of(Jobs::Percent(1))), (2, 1));
        assert_eq!((of(Jobs::More(2)), of(Jobs::More(usize::MAX))), (6, usize::MAX));
        assert_eq!((of(Jobs::Fewer(1)), of(Jobs::Fewer(9))), (3, 1));
    }
}
