//! What runs in a guest, with which limits and which grants.

use std::num::NonZeroU64;
use std::path::Path;

use crate::cli::args::{GrantArgs, LimitArgs, TargetArgs};
use crate::cli::choices::{DirArg, UnknownImports, ValueForm};
use crate::cli::report::Report;
use crate::module::Module;
use crate::policy::Policy;
use crate::spec::{Limits, Role};
use crate::target::{Format, Target};

/// The function `func` with its fixed arguments. `argv`: a command's arguments before those of `--arg`.
pub(in crate::cli) fn target(
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

/// Whether the function is a command, which takes arguments of another kind. A function that does not exist
/// is reported later.
pub(in crate::cli) fn is_command(func: Option<&str>, module: &Module) -> bool {
    module.info().target(func).is_ok_and(|export| export.role == Role::Command)
}

pub(in crate::cli) fn format(form: ValueForm) -> Format {
    match form {
        ValueForm::Auto => Format::Auto,
        ValueForm::Raw => Format::Raw,
        ValueForm::Wave => Format::Wave,
        ValueForm::Json => Format::Json,
    }
}

pub(in crate::cli) fn limits(args: &LimitArgs) -> Limits {
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

/// What guests are given.
pub(in crate::cli) fn policy(args: &GrantArgs) -> Policy {
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
    policy = given(policy, args.clock, Policy::clock);
    given(policy, args.random, Policy::random)
}

/// Warns of grants that the user may not have meant for this module.
pub(in crate::cli) fn warn_of_grants(policy: &Policy, module: &Module, report: &Report) {
    for warning in policy.warnings(module) {
        report.warn(&warning);
    }
}

/// Applies a flag if it was given. Without it the library's own default stays.
pub(in crate::cli) fn given<B, T>(builder: B, flag: Option<T>, set: impl FnOnce(B, T) -> B) -> B {
    match flag {
        Some(value) => set(builder, value),
        None => builder,
    }
}
