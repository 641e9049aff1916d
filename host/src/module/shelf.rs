//! What the cache holds, and which entries are removed from it.
//!
//! The modification time of an entry's description is the entry's last use. A hit renews it once a day. When
//! an entry is added, entries that have been unused for too long are removed first, then the least recently
//! used ones until the rest fits. Removing a file removes only its name: a process that has opened an
//! artefact keeps it. A reader that looks between the two removals of an entry finds a miss, and compiles.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::digest::{Digest, unhex};
use super::entry::name_in;

/// A use is recorded again only after this time.
const NOTED_FOR: Duration = Duration::from_secs(24 * 3600);

/// The limits of the cache of compiled modules. They are applied when an entry is added, and by
/// [`ModuleLoader::clean_cache`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut limits = wpool::module::CacheLimits::default();
/// assert_eq!(limits.size, 2 << 30);
/// limits.size = 100 << 20;
/// let loader = wpool::Module::loader().cache_limits(limits);
/// # let _ = loader;
/// # Ok(())
/// # }
/// ```
///
/// [`ModuleLoader::clean_cache`]: crate::module::ModuleLoader::clean_cache
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheLimits {
    /// Bytes of all entries. The least recently used entries are removed first; an entry that was just added
    /// stays.
    pub size: u64,
    /// How long an unused entry stays.
    pub unused: Duration,
}

impl Default for CacheLimits {
    fn default() -> Self {
        CacheLimits { size: 2 << 30, unused: Duration::from_secs(30 * 24 * 3600) }
    }
}

/// A module in the cache, compiled with certain settings by one version: [`ModuleLoader::cached_modules`].
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let loader = loader();
/// let module = loader.load("../guest/prebuilt/upper.wasm")?;
/// let all = loader.cached_modules()?;
/// let cached = all.iter().find(|cached| module.cached() == Some(&cached.path));
/// let cached = cached.expect("it has been compiled");
/// assert_eq!(cached.digest, module.digest());
/// # Ok(())
/// # }
/// ```
///
/// [`ModuleLoader::cached_modules`]: crate::module::ModuleLoader::cached_modules
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CachedModule {
    /// The digest of the module's file.
    pub digest: Digest,
    /// The name of the file that was compiled; `None` if the module was loaded from bytes. A file with
    /// another name may have the same content.
    pub name: Option<String>,
    /// Bytes on disk.
    pub size: u64,
    /// The time of its last use, accurate to a day.
    pub used: SystemTime,
    /// The path of its machine code, as [`Module::cached`](crate::Module::cached) returns it.
    pub path: PathBuf,
}

/// All entries of a directory, the most recently used first. Files with other names are skipped.
pub(super) fn list(dir: &Path) -> io::Result<Vec<CachedModule>> {
    let mut found: HashMap<String, (u64, SystemTime)> = HashMap::new();
    for file in fs::read_dir(dir)? {
        let file = file?;
        let name = file.file_name();
        let Some(stem) = name.to_str().and_then(stem) else { continue };
        // Another process has removed the file meanwhile.
        let Ok(metadata) = file.metadata() else { continue };
        if !metadata.is_file() {
            continue;
        }
        // The modification time, since many file systems are mounted without access times.
        let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let entry = found.entry(stem.to_owned()).or_insert((0, used));
        *entry = (entry.0 + metadata.len(), entry.1.max(used));
    }
    let module = |(stem, (size, used)): (String, (u64, SystemTime))| {
        let digest = unhex(&stem[..64])?.try_into().ok().map(Digest)?;
        let (path, entry) = (dir.join(format!("{stem}.cwasm")), dir.join(format!("{stem}.json")));
        Some(CachedModule { digest, name: name_in(&entry), size, used, path })
    };
    let mut all: Vec<CachedModule> = found.into_iter().filter_map(module).collect();
    all.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.path.cmp(&b.path)));
    Ok(all)
}

/// The name that the two files of an entry share, without their extension.
fn stem(name: &str) -> Option<&str> {
    let stem = name.strip_suffix(".cwasm").or_else(|| name.strip_suffix(".json"))?;
    let (digest, rest) = stem.split_at_checked(64)?;
    let is_digest = digest.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    (is_digest && rest.starts_with('-')).then_some(stem)
}

/// Removes entries until the cache is within its limits, and returns them. The artefact `added` always stays.
pub(super) fn clean(dir: &Path, limits: CacheLimits, added: Option<&Path>) -> io::Result<Vec<CachedModule>> {
    let all = list(dir)?;
    let is_added = |module: &CachedModule| added == Some(&module.path);
    let mut size = all.iter().find(|module| is_added(module)).map_or(0, |module| module.size);
    let mut removed = Vec::new();
    // `list` sorts by last use, so the most recently used entries get the room first.
    for module in all.into_iter().filter(|module| !is_added(module)) {
        // A time in the future comes from a wrong clock, and says nothing about age.
        let is_old = module.used.elapsed().is_ok_and(|age| age > limits.unused);
        if is_old || size.saturating_add(module.size) > limits.size {
            remove(&module.path)?;
            removed.push(module);
        } else {
            size += module.size;
        }
    }
    Ok(removed)
}

/// Removes both files of an entry. The description first: an artefact without a description is ignored.
fn remove(artefact: &Path) -> io::Result<()> {
    for file in [&artefact.with_extension("json"), artefact] {
        match fs::remove_file(file) {
            // Another process has removed it already.
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Records that an entry is used now.
pub(super) fn note_use(entry: &Path) {
    let renew = || {
        // Opened for reading: the owner of a file may set its times through any descriptor.
        let file = File::open(entry)?;
        match file.metadata()?.modified()?.elapsed() {
            Ok(age) if age > NOTED_FOR => file.set_modified(SystemTime::now()),
            _ => Ok(()),
        }
    };
    // If the use cannot be recorded, the entry is only removed earlier than it should be.
    let _noted: io::Result<()> = renew();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with entries of 10 bytes; each number is the days since an entry's last use.
    fn filled(days: &[u64]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for day in days {
            for (extension, len) in [("cwasm", 7), ("json", 3)] {
                let path = dir.path().join(format!("{}-0{day}.{extension}", "ab".repeat(32)));
                fs::write(&path, vec![b'x'; len]).unwrap();
                let used = SystemTime::now() - Duration::from_secs(day * 24 * 3600 + 60);
                File::open(&path).unwrap().set_modified(used).unwrap();
            }
        }
        for other in ["key", "notes.json", "tmp-1-2", &format!("{}-x.cwasm", "zz".repeat(32))] {
            fs::write(dir.path().join(other), b"other").unwrap();
        }
        dir
    }

    fn days(modules: &[CachedModule]) -> Vec<u64> {
        modules.iter().map(|module| module.used.elapsed().unwrap().as_secs() / (24 * 3600)).collect()
    }

    #[test]
    fn f150_what_was_used_longest_ago_goes_first_and_what_is_old_in_any_case() {
        for (size, unused, added, gone) in [
            (1000, 1000, None, vec![]),
            (1000, 30, None, vec![31, 40]),
            (30, 1000, None, vec![31, 40]),
            (29, 1000, None, vec![29, 31, 40]),
            // An entry that does not fit does not push out smaller ones, but no entry is larger here.
            (0, 1000, None, vec![0, 1, 29, 31, 40]),
            (10, 1000, Some(40), vec![0, 1, 29, 31]),
            (0, 0, Some(40), vec![0, 1, 29, 31]),
        ] {
            let dir = filled(&[1, 31, 29, 0, 40]);
            let limits = CacheLimits { size, unused: Duration::from_secs(unused * 24 * 3600) };
            let added = added.map(|day: u64| dir.path().join(format!("{}-0{day}.cwasm", "ab".repeat(32))));
            let removed = clean(dir.path(), limits, added.as_deref()).unwrap();
            assert_eq!(days(&removed), gone, "{size} {unused}");
            let stay = list(dir.path()).unwrap();
            assert_eq!(stay.len() + removed.len(), 5);
            assert!(stay.iter().all(|module| module.path.exists() && module.size == 10));
            // Files that are not entries stay.
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2 * stay.len() + 4);
        }
    }

    #[test]
    fn f150_a_use_is_noted_once_a_day() {
        let dir = filled(&[0, 2]);
        for module in list(dir.path()).unwrap() {
            note_use(&module.path.with_extension("json"));
        }
        let all = list(dir.path()).unwrap();
        assert_eq!(days(&all), [0, 0]);
        let ages: Vec<u64> = all.iter().map(|module| module.used.elapsed().unwrap().as_secs()).collect();
        assert!(ages[0] < 60 && ages[1] >= 60, "{ages:?}");
    }
}
