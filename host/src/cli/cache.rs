//! `wpool cache`: lists the compiled modules, and removes them.

use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use indicatif::HumanBytes;

use super::args::{CacheCommand, CacheCommandArgs, CleanArgs};
use super::exit::{CliError, OrExit, WpoolExit};
use super::output::print;
use super::report::Report;
use super::settings;
use crate::escape::shortened;
use crate::module::{CacheLimits, CachedModule, Module};

pub(super) fn run(args: &CacheCommandArgs, report: &Report) -> Result<WpoolExit, CliError> {
    let loader = settings::with_cache(Module::loader(), &args.cache);
    let dir =
        loader.cache_path().ok_or_else(|| CliError::usage("no cache directory is known (--cache-dir)"))?;
    let cannot = || format!("cannot use the cache {}", dir.display());
    match &args.what {
        Some(CacheCommand::Dir) => print(&[dir.as_os_str().as_bytes(), b"\n"].concat()),
        None | Some(CacheCommand::List) => {
            let all = loader.cached_modules().or_exit(WpoolExit::Io, cannot)?;
            let most = settings::cache_limits(&args.cache);
            let most = if most.size == u64::MAX {
                String::new()
            } else {
                format!(" of at most {}", HumanBytes(most.size))
            };
            report.note(&format!("{}{most}, in {}", total(&all), dir.display()));
            print(all.iter().map(line).collect::<String>().as_bytes())
        }
        Some(CacheCommand::Clean(clean)) => {
            let loader = loader.cache_limits(limits(clean, settings::cache_limits(&args.cache)));
            let removed = loader.clean_cache().or_exit(WpoolExit::Io, cannot)?;
            let left = loader.cached_modules().or_exit(WpoolExit::Io, cannot)?;
            report.note(&format!("removed {}; there are {} left", total(&removed), total(&left)));
            Ok(WpoolExit::Success)
        }
    }
}

/// The limits that the cleaned cache must keep.
fn limits(args: &CleanArgs, kept: CacheLimits) -> CacheLimits {
    let mut limits = kept;
    limits.size = if args.all { 0 } else { args.max_size.unwrap_or(limits.size) };
    limits.unused = args.older_than.unwrap_or(limits.unused);
    limits
}

fn total(modules: &[CachedModule]) -> String {
    let size = modules.iter().map(|module| module.size).sum();
    let s = if modules.len() == 1 { "" } else { "s" };
    format!("{} compiled module{s}, {}", modules.len(), HumanBytes(size))
}

/// The line of a module: digest, size, last use and name, with tabs between.
fn line(module: &CachedModule) -> String {
    let age = SystemTime::now().duration_since(module.used).unwrap_or(Duration::ZERO);
    let used = match age.as_secs() / (24 * 3600) {
        0 => "today".to_owned(),
        1 => "yesterday".to_owned(),
        days => format!("{days} days ago"),
    };
    let name = module.name.as_deref().map_or("-".to_owned(), shortened);
    format!("{}\t{}\t{used}\t{name}\n", module.digest, HumanBytes(module.size))
}
