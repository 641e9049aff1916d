//! `wpool compile`: fills the cache.

use super::args::{CacheArgs, CompileArgs};
use super::exit::{Exit, Failure};
use super::output::print;
use super::report::Report;
use super::settings;
use crate::escape::OneLine;

pub(super) fn run(args: &CompileArgs, report: &Report) -> Result<Exit, Failure> {
    let cache = CacheArgs { no_cache: false, place: args.cache.clone() };
    let shown = report.clone();
    let loader = settings::loader(&cache, &args.compiler, &args.sandbox);
    let loader = loader.on_compile(move |compiling| shown.compiling(compiling));
    // One that is refused does not stop the others; the first problem is the exit code.
    let mut exit = Exit::Success;
    let mut fail = |new: Exit| exit = if exit == Exit::Success { new } else { exit };
    for path in &args.modules {
        let module = match loader.load(path) {
            Ok(module) => module,
            Err(error) => {
                let Failure { exit, message } = error.into();
                report.error(&message);
                fail(exit);
                continue;
            }
        };
        for warning in module.warnings() {
            report.warn(warning);
        }
        match module.cached() {
            Some(place) => {
                let line = format!("{}: {}", path.display(), place.display());
                print(format!("{}\n", OneLine(line)).as_bytes())?;
            }
            None => {
                let why = if module.warnings().is_empty() {
                    ": no cache directory is known (--cache-dir)"
                } else {
                    ""
                };
                report.error(&format!("{}: compiled, but not cached{why}", path.display()));
                fail(Exit::Io);
            }
        }
    }
    Ok(exit)
}
