//! `wpool doctor`: what this machine offers, and what is enforced in processes of each kind, by their own
//! reports.

use std::fmt::Write;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::args::DoctorArgs;
use super::exit::{CliError, WpoolExit};
use super::output::print;
use super::settings;
use crate::error::BuildError;
use crate::escape::OneLine;
use crate::module::Module;
use crate::sandbox::GrantKinds;
use crate::spec::{ProcessRole, Property, Status};
use crate::sys;

pub(super) fn run(args: &DoctorArgs) -> Result<WpoolExit, CliError> {
    let policy = settings::policy(&args.grants);
    let of = |role| crate::doctor::doctor_of(&Module::loader(), &policy, role);
    let worker = of(ProcessRole::Worker)?;
    let others = [("zygote", of(ProcessRole::Zygote)?), ("compiler", of(ProcessRole::Compiler)?)];
    let granted = GrantKinds::of(&policy.resolve().map_err(BuildError::from)?.grants);

    let mut text = format!("wpool {}\n", env!("CARGO_PKG_VERSION"));
    section(&mut text, "this machine", machine());
    section(&mut text, "steps of a worker process", worker.steps.iter().map(step));
    for (name, status) in &others {
        let own = status.steps.iter().filter(|step| !worker.steps.contains(step));
        section(&mut text, &format!("steps of a {name} process that are not the same"), own.map(step));
    }
    let asked = if granted == GrantKinds::default() { "without grants" } else { "with these grants" };
    section(
        &mut text,
        &format!("what must hold of a worker, {asked}, and what sees to it"),
        rows(&worker.properties),
    );
    for (name, status) in &others {
        section(
            &mut text,
            &format!("of a {name}, otherwise"),
            other_rows(&status.properties, &worker.properties),
        );
    }
    for (grant, shape) in GRANTS {
        let properties = worker.with(ProcessRole::Worker, shape);
        section(
            &mut text,
            &format!("of a worker with {grant}, otherwise"),
            other_rows(&properties, &worker.properties),
        );
    }

    let unheld: Vec<Property> =
        [&worker].into_iter().chain(others.iter().map(|(_, it)| it)).flat_map(Status::unheld).collect();
    text.push_str(&verdict(asked, &unheld));
    print(text.as_bytes())?;
    Ok(if unheld.is_empty() { WpoolExit::Success } else { WpoolExit::Unconfined })
}

/// The kinds of grants that need other layers.
const GRANTS: [(&str, GrantKinds); 3] = [
    ("--dir HOST::GUEST:ro", GrantKinds { reads: true, writes: false, connects: false }),
    ("--dir HOST::GUEST", GrantKinds { reads: false, writes: true, connects: false }),
    ("--net HOST:PORT", GrantKinds { reads: false, writes: false, connects: true }),
];

fn section(text: &mut String, title: &str, lines: impl IntoIterator<Item = String>) {
    let mut lines = lines.into_iter().peekable();
    if lines.peek().is_none() {
        return;
    }
    writeln!(text, "\n{title}:").expect("writing to a String does not fail");
    for line in lines {
        writeln!(text, "  {}", OneLine(&line)).expect("writing to a String does not fail");
    }
}

fn step(step: &crate::spec::Step) -> String {
    let verdict = step.missing.as_ref().map_or("enforced".to_owned(), |why| format!("MISSING: {why}"));
    format!("{}: {verdict}", step.name)
}

/// A property, the layers that enforce it, and the layers that are missing.
fn row(property: &Property) -> String {
    let Property { name, layers, absent, missing } = property;
    match missing {
        Some(why) => format!("NOT HELD: {name}: {why}"),
        None if absent.is_empty() => format!("{name}: by {}", layers.join(", or ")),
        None => {
            format!("{name}: by {} (a further layer is missing: {})", layers.join(", or "), absent.join("; "))
        }
    }
}

fn rows(properties: &[Property]) -> Vec<String> {
    properties.iter().map(row).collect()
}

fn other_rows(properties: &[Property], known: &[Property]) -> Vec<String> {
    properties.iter().filter(|property| !known.contains(property)).map(row).collect()
}

fn verdict(asked: &str, unheld: &[Property]) -> String {
    if unheld.is_empty() {
        return format!("\nall holds that must, {asked}: --sandbox strict runs\n");
    }
    let mut names: Vec<String> = unheld.iter().map(|property| OneLine(&property.name).to_string()).collect();
    names.dedup();
    format!("\nnot all holds that must, {asked}: --sandbox strict refuses ({})\n", names.join("; "))
}

/// What wpool finds on this machine, a line each.
fn machine() -> Vec<String> {
    let system = rustix::system::uname();
    let words = [system.sysname(), system.release(), system.machine()]
        .map(|word| word.to_string_lossy().into_owned());
    let files = getrlimit(Resource::Nofile);
    let figure = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |n| n.to_string());
    [
        ("kernel", words.join(" ")),
        ("processors that wpool may use", crate::sys::cpu_count().to_string()),
        ("open files", format!("{} (at most {})", figure(files.current), figure(files.maximum))),
        ("pending signals, of which each worker needs one", pending_signals()),
        ("landlock", landlock()),
        ("seccomp filters", seccomp().to_owned()),
        ("user namespaces", namespaces().to_owned()),
        ("cache", cache()),
    ]
    .map(|(name, found)| format!("{name}: {found}"))
    .into()
}

fn pending_signals() -> String {
    match getrlimit(Resource::Sigpending).current {
        Some(0) => "none are allowed (ulimit -i): no worker can start".to_owned(),
        Some(most) => format!("at most {most}"),
        None => "unlimited".to_owned(),
    }
}

fn landlock() -> String {
    match sys::landlock_version() {
        0 => "none: this kernel does not have it, or it is not switched on (lsm=landlock,..)".to_owned(),
        version => format!("version {version}"),
    }
}

fn seccomp() -> &'static str {
    if Path::new("/proc/sys/kernel/seccomp/actions_avail").exists() { "available" } else { "unknown" }
}

fn namespaces() -> &'static str {
    let most = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    match most.trim() {
        "" => "unknown",
        "0" => "none allowed",
        _ => "allowed by the kernel's settings",
    }
}

/// A note if files in the cache cannot be mapped as machine code.
fn noexec(dir: &Path) -> &'static str {
    let found =
        rustix::fs::statvfs(dir).map(|place| place.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC));
    match found {
        Ok(true) => " (mounted noexec: each run copies its module's machine code into memory first)",
        Ok(false) | Err(_) => "",
    }
}

/// The cache, tried with the smallest module.
fn cache() -> String {
    match Module::from_bytes(b"(module)") {
        Ok(module) => match (module.cached().and_then(Path::parent), module.warnings()) {
            (Some(dir), _) => format!("{}, in use{}", dir.display(), noexec(dir)),
            (None, []) => "none: neither WPOOL_CACHE_DIR, XDG_CACHE_HOME nor HOME is set".to_owned(),
            (None, warnings) => warnings.join("; "),
        },
        Err(e) => format!("cannot be tried: {e}"),
    }
}
