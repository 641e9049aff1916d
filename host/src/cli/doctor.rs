//! `wpool doctor`: what this machine offers, and what is enforced in a worker, from the worker's own report.

use std::fmt::Write;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::args::DoctorArgs;
use super::exit::{Exit, Failure};
use super::output::print;
use super::settings;
use crate::escape::OneLine;
use crate::module::Module;

pub(super) fn run(args: &DoctorArgs) -> Result<Exit, Failure> {
    let mut text = machine();
    text.push_str(&cache());
    let status = crate::doctor_with(&Module::loader(), &settings::policy(&args.grants))?;
    text.push_str("\nin a worker process:\n");
    for step in &status.steps {
        let verdict = step.missing.as_ref().map_or("enforced".to_owned(), |why| format!("MISSING: {why}"));
        line(&mut text, &format!("{}: {verdict}", step.name));
    }
    let all = status.steps.iter().all(|step| step.missing.is_none());
    text.push_str(if all { "\nall steps are enforced\n" } else { "\nsome steps are NOT enforced\n" });
    print(text.as_bytes())
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "  {}", OneLine(line)).expect("writing to a String does not fail");
}

fn machine() -> String {
    let system = rustix::system::uname();
    let mut text = format!("wpool {}\n\nthis machine:\n", env!("CARGO_PKG_VERSION"));
    let words = [system.sysname(), system.release(), system.machine()].map(|word| word.to_string_lossy().into_owned());
    line(&mut text, &format!("kernel: {}", words.join(" ")));
    line(&mut text, &format!("processors that wpool may use: {}", num_cpus::get()));
    let files = getrlimit(Resource::Nofile);
    let figure = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |n| n.to_string());
    line(&mut text, &format!("open files: {} (at most {})", figure(files.current), figure(files.maximum)));
    let modules = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let landlock = match modules.split(',').any(|name| name.trim() == "landlock") {
        true => "active",
        false if modules.is_empty() => "unknown (/sys/kernel/security is not readable)",
        false => "not active",
    };
    line(&mut text, &format!("landlock: {landlock}"));
    let seccomp = if Path::new("/proc/sys/kernel/seccomp/actions_avail").exists() { "available" } else { "unknown" };
    line(&mut text, &format!("seccomp filters: {seccomp}"));
    let namespaces = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    let namespaces = match namespaces.trim() {
        "" => "unknown",
        "0" => "none allowed",
        _ => "allowed by the kernel's settings",
    };
    line(&mut text, &format!("user namespaces: {namespaces}"));
    text
}

/// The cache, tried with the smallest of modules.
fn cache() -> String {
    let mut text = String::new();
    let verdict = match Module::from_bytes(b"(module)") {
        Ok(module) => match (module.cached().and_then(Path::parent), module.warnings()) {
            (Some(dir), _) => format!("{}, in use", dir.display()),
            (None, []) => "none: neither WPOOL_CACHE_DIR, XDG_CACHE_HOME nor HOME is set".to_owned(),
            (None, warnings) => warnings.join("; "),
        },
        Err(e) => format!("cannot be tried: {e}"),
    };
    line(&mut text, &format!("cache: {verdict}"));
    text
}
