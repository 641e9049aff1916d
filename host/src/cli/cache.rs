//! `wpool cache`: what has been compiled, and how to be rid of it.

use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use indicatif::HumanBytes;

use super::args::{CacheCommand, CacheCommandArgs, CleanArgs};
use super::exit::{Exit, Failure};
use super::output::print;
use super::report::Report;
use super::{settings, stdio};
use crate::escape::shortened;
use crate::module::{CacheLimits, CachedModule, Module};

pub(super) fn run(args: &CacheCommandArgs, report: &Report) -> Result<Exit, Failure> {
    let loader = settings::with_cache(Module::loader(), &args.cache);
    let dir =
        loader.cache_path().ok_or_else(|| Failure::usage("no cache directory is known (--cache-dir)"))?;
    let cannot = |e: std::io::Error| {
        Failure::new(Exit::Io, format!("cannot use the cache {}: {}", dir.display(), stdio::words(&e)))
    };
    match &args.what {
        Some(CacheCommand::Dir) => print(&[dir.as_os_str().as_bytes(), b"\n"].concat()),
        None | Some(CacheCommand::List) => {
            let all = loader.cached_modules().map_err(cannot)?;
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
            let removed = loader.clean_cache().map_err(cannot)?;
            let left = loader.cached_modules().map_err(cannot)?;
            report.note(&format!("removed {}; there are {} left", total(&removed), total(&left)));
            Ok(Exit::Success)
        }
    }
}

/// What is to stay.
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

/// Digest, size, last use and name, with tabs between.
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
