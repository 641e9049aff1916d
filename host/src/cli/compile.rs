//! `wpool compile`: fills the cache.

use super::args::CompileArgs;
use super::exit::{CliError, WpoolExit};
use super::output::print;
use super::report::Report;
use super::settings;
use crate::escape::OneLine;

pub(super) fn run(args: &CompileArgs, report: &Report) -> Result<WpoolExit, CliError> {
    let shown = report.clone();
    let loader = settings::with_cache(settings::compiler(&args.compiler, &args.sandbox), &args.cache);
    let loader = loader.on_compile(move |compiling| shown.compiling(compiling));
    // A module that is refused does not stop the others. The first problem decides the exit code.
    let mut exit = WpoolExit::Success;
    let mut fail = |new: WpoolExit| exit = if exit == WpoolExit::Success { new } else { exit };
    for path in &args.modules {
        let module = match loader.load(path) {
            Ok(module) => module,
            Err(error) => {
                let failure = CliError::from(error);
                report.error(&failure.to_string());
                fail(failure.exit);
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
                fail(WpoolExit::Io);
            }
        }
    }
    Ok(exit)
}
