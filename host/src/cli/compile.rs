//! `wpool compile`: fills the cache.

use super::args::{CacheArgs, CompileArgs};
use super::exit::{Exit, Failure};
use super::output::print;
use super::report::Report;
use super::settings;

pub(super) fn run(args: &CompileArgs, report: &Report) -> Result<Exit, Failure> {
    let loader = settings::loader(&CacheArgs { no_cache: false, cache_dir: args.cache_dir.clone() });
    let mut exit = Exit::Success;
    for path in &args.modules {
        let module = loader.load(path)?;
        for warning in module.warnings() {
            report.warn(warning);
        }
        match module.cached() {
            Some(place) => {
                print(format!("{}: {}\n", path.display(), place.display()).as_bytes())?;
            }
            None => {
                let why = if module.warnings().is_empty() { ": no cache directory is known (--cache-dir)" } else { "" };
                report.error(&format!("{}: compiled, but not cached{why}", path.display()));
                exit = Exit::Io;
            }
        }
    }
    Ok(exit)
}
