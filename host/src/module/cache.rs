//! The artefact cache. The machine code on disk is executed later, so an entry is used only if a MAC proves
//! it.
//!
//! An entry is two files, named by the module's digest and the engine's fingerprint: `NAME.cwasm`, the
//! artefact, and `NAME.json`, the module's description and a MAC over both. The MAC's key lies in the same
//! directory, which only its owner may enter. The MAC distinguishes an entry that wpool wrote from one that
//! was copied there, cut off or altered. Files are written under a temporary name and renamed.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use hmac::{Hmac, Mac};
use sha2::{Digest as _, Sha256};

use super::digest::{Digest, hex, unhex};
use super::entry::{CacheEntry, open_to_read, read_entry};
use super::shelf::{self, CacheLimits};
use crate::spec::{Codegen, ModuleInfo};

/// A temporary file of this age belongs to a process that was killed: no file takes that long to write.
const STALE_AFTER: Duration = Duration::from_secs(3600);

/// `$WPOOL_CACHE_DIR`, `$XDG_CACHE_HOME/wpool` or `~/.cache/wpool`. `None` if no variable is set; the last
/// two need an absolute path.
pub(super) fn default_dir() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("WPOOL_CACHE_DIR").filter(|d| !d.is_empty()) {
        return Some(dir.into());
    }
    users_dir()
}

/// `$XDG_CACHE_HOME/wpool` or `~/.cache/wpool`: the cache of this user's other runs, even if this run uses
/// another one.
pub(super) fn users_dir() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    base.map(|base| base.join("wpool"))
}

pub(super) struct Cache {
    dir: PathBuf,
    key: [u8; 32],
}

pub(super) struct Hit {
    pub(super) info: ModuleInfo,
    pub(super) artefact: OwnedFd,
    pub(super) path: PathBuf,
}

impl Cache {
    /// Opens the cache at `dir`, and creates it if absent. Refuses a directory that other users may read or
    /// write.
    pub(super) fn open(dir: &Path) -> io::Result<Cache> {
        make_dirs(dir)?;
        let found = fs::symlink_metadata(dir)?;
        let refuse = |why: &str| Err(io::Error::other(why.to_owned()));
        if !found.is_dir() {
            return refuse("it is not a directory");
        }
        // The owner of a directory can replace what is in it, whatever the modes of the files say.
        if found.uid() != rustix::process::geteuid().as_raw() {
            return refuse("it belongs to another user");
        }
        if found.mode() & 0o077 != 0 {
            // Refused, not repaired: another user may have written there already.
            return refuse("other users have access to it (chmod 700 fixes that)");
        }
        Ok(Cache { dir: dir.to_owned(), key: open_key(&dir.join("key"))? })
    }

    /// The entry for a module, if a valid one exists. A damaged or foreign entry is a miss and a warning.
    pub(super) fn get(&self, digest: Digest, codegen: Codegen, warnings: &mut Vec<String>) -> Option<Hit> {
        let (artefact, entry) = self.paths(digest, codegen);
        match self.read(digest, codegen, &artefact, &entry) {
            Ok(hit) => {
                shelf::note_use(&entry);
                Some(hit)
            }
            // The common miss, without a warning. It is also how a concurrent clean-up looks.
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => {
                warnings.push(format!("{} is not used and will be replaced: {e}", entry.display()));
                None
            }
        }
    }

    fn read(
        &self,
        digest: Digest,
        codegen: Codegen,
        artefact_path: &Path,
        entry_path: &Path,
    ) -> io::Result<Hit> {
        let entry = read_entry(entry_path)?;
        let artefact = open_to_read(artefact_path)?;
        let metadata = artefact.metadata()?;
        // A writable artefact could change between the check of its MAC and its use.
        if !metadata.is_file() || metadata.mode() & 0o222 != 0 {
            return Err(io::Error::other("the artefact is not a read-only file"));
        }
        let info = self.verified(digest, codegen, &entry, &artefact)?;
        Ok(Hit { info, artefact: artefact.into(), path: artefact_path.to_owned() })
    }

    /// The description in an entry, if its MAC is right.
    fn verified(
        &self,
        digest: Digest,
        codegen: Codegen,
        entry: &[u8],
        artefact: &File,
    ) -> io::Result<ModuleInfo> {
        let entry: CacheEntry = serde_json::from_slice(entry)?;
        if entry.info.codegen != codegen {
            return Err(io::Error::other("it is of another kind than its name says"));
        }
        let mac = self.mac(digest, &entry.info, artefact)?;
        let given = unhex(&entry.mac).ok_or_else(|| io::Error::other("the entry is damaged"))?;
        mac.verify_slice(&given)
            .map_err(|_| io::Error::other("it was not written by this cache's owner, or it is damaged"))?;
        Ok(entry.info)
    }

    /// Adds an entry. A concurrent reader sees the whole entry or nothing.
    pub(super) fn put(
        &self,
        digest: Digest,
        info: &ModuleInfo,
        artefact: &OwnedFd,
        name: Option<&str>,
        limits: CacheLimits,
    ) -> io::Result<PathBuf> {
        let (artefact_path, entry_path) = self.paths(digest, info.codegen);
        let artefact = File::from(artefact.try_clone()?);
        let mac = self.mac(digest, info, &artefact)?;
        let entry = CacheEntry {
            mac: hex(&mac.finalize().into_bytes()),
            info: info.clone(),
            name: name.map(str::to_owned),
        };
        // At an addition, which comes after a compilation: a hit stays cheap.
        sweep(&self.dir);
        // The artefact first: an entry without its artefact is a miss with a warning, an artefact alone is
        // ignored.
        self.publish(&artefact_path, |file| for_each_block(&artefact, |block| file.write_all(block)))?;
        self.publish(&entry_path, |file| file.write_all(&serde_json::to_vec(&entry)?))?;
        // A file that cannot be removed now is tried again at the next addition.
        let _some_or_none = shelf::clean(&self.dir, limits, Some(&artefact_path));
        Ok(artefact_path)
    }

    fn publish(&self, path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let mut temporary = Temporary::create(&self.dir)?;
        fill(&mut temporary.file)?;
        // Before the rename: under its final name the artefact is never writable.
        temporary.file.set_permissions(Permissions::from_mode(0o444))?;
        // Without `fsync`: after a crash of the machine an entry may be cut off, and its MAC then makes it a
        // miss.
        fs::rename(&temporary.path, path)
    }

    /// The MAC covers the entry's name, the description and the artefact, so an entry proves nothing under
    /// another name.
    fn mac(&self, digest: Digest, info: &ModuleInfo, artefact: &File) -> io::Result<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        mac.update(entry_name(digest, info.codegen).as_bytes());
        let info = serde_json::to_vec(info)?;
        // The length marks where the description ends and the artefact begins.
        mac.update(&(info.len() as u64).to_le_bytes());
        mac.update(&info);
        for_each_block(artefact, |block| {
            mac.update(block);
            Ok(())
        })?;
        Ok(mac)
    }

    fn paths(&self, digest: Digest, codegen: Codegen) -> (PathBuf, PathBuf) {
        let name = entry_name(digest, codegen);
        (self.dir.join(format!("{name}.cwasm")), self.dir.join(format!("{name}.json")))
    }
}

/// Creates a directory and its missing parents with access for the owner only, whatever the umask is.
fn make_dirs(dir: &Path) -> io::Result<()> {
    match make_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            make_dirs(dir.parent().filter(|parent| !parent.as_os_str().is_empty()).ok_or(e)?)?;
            // Once more and no further: proc says "not found" of any new name, although its parent exists.
            make_dir(dir)
        }
        made => made,
    }
}

fn make_dir(dir: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => fs::set_permissions(dir, Permissions::from_mode(0o700)),
        // Its modes stay as they are: it may be a directory such as ~/.cache, which is not ours to change.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
    }
}

/// Reads bytes as an entry: an entry is genuine if and only if it was made with the key, for this artefact
/// and this name.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz_entry(data: &[u8]) {
    let cache = Cache { dir: PathBuf::new(), key: [7; 32] };
    let (digest, codegen) = (Digest([7; 32]), Codegen::default());
    let in_memory = |bytes: &[u8]| {
        let memory = rustix::fs::memfd_create("wpool-fuzz", rustix::fs::MemfdFlags::CLOEXEC);
        let mut file = File::from(memory.expect("there is memory"));
        file.write_all(bytes).expect("memory can be written");
        file
    };
    let artefact = in_memory(data);
    assert!(
        cache.verified(digest, codegen, data, &artefact).is_err(),
        "an entry cannot be made without the key"
    );
    let Ok(CacheEntry { mac, info, .. }) = serde_json::from_slice(data) else { return };
    if let Some(bytes) = unhex(&mac) {
        assert_eq!(hex(&bytes), mac.to_ascii_lowercase());
    }
    let written = serde_json::to_vec(&CacheEntry { mac: String::new(), info: info.clone(), name: None })
        .expect("entries have a JSON form");
    let read: CacheEntry = serde_json::from_slice(&written).expect("what we write we can read");
    assert!(read.info == info);

    // An entry as its owner writes it, and entries that differ from it slightly.
    let codegen = info.codegen;
    let code = cache.mac(digest, &info, &artefact).expect("memory can be read").finalize().into_bytes();
    let entry = |code: &[u8]| {
        let entry = CacheEntry { mac: hex(code), info: info.clone(), name: None };
        serde_json::to_vec(&entry).expect("entries have a JSON form")
    };
    let right = entry(&code);
    assert!(cache.verified(digest, codegen, &right, &artefact).is_ok_and(|found| found == info));
    for at in 0..code.len() {
        let mut other = code;
        other[at] ^= 1 << (at % 8);
        assert!(cache.verified(digest, codegen, &entry(&other), &artefact).is_err());
    }
    for other in [&[][..], &code[..1], &code[..16], &code[..31], &[&code[..], &[0]].concat()] {
        assert!(cache.verified(digest, codegen, &entry(other), &artefact).is_err());
    }
    let longer = in_memory(&[data, b"x"].concat());
    assert!(cache.verified(digest, codegen, &right, &longer).is_err());
    assert!(cache.verified(Digest([8; 32]), codegen, &right, &artefact).is_err());
    assert!(cache.verified(digest, Codegen { fuel: !codegen.fuel, ..codegen }, &right, &artefact).is_err());
    let of_another = Cache { key: [8; 32], dir: PathBuf::new() };
    assert!(of_another.verified(digest, codegen, &right, &artefact).is_err());
}

/// A new file under a temporary name. It is removed on drop, unless it was renamed before.
struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    fn create(dir: &Path) -> io::Result<Temporary> {
        // A random part too: processes of several containers may share the directory and have the same
        // process id.
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let path = dir.join(format!("tmp-{}-{}", std::process::id(), hex(&random)));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let temporary = Temporary { path, file };
        // The umask may have removed even the owner's rights.
        temporary.file.set_permissions(Permissions::from_mode(0o600))?;
        Ok(temporary)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing to remove. A failure to remove has no reader to report to.
        let _removed = fs::remove_file(&self.path);
    }
}

/// Removes the temporary files of processes that were killed while they wrote.
fn sweep(dir: &Path) {
    let is_stale = |entry: &fs::DirEntry| {
        let age = entry.metadata().and_then(|m| m.modified()).map(|m| m.elapsed().unwrap_or_default());
        entry.file_name().to_string_lossy().starts_with("tmp-") && age.is_ok_and(|age| age > STALE_AFTER)
    };
    for entry in fs::read_dir(dir).into_iter().flatten().flatten().filter(is_stale) {
        let _another_process_was_quicker = fs::remove_file(entry.path());
    }
}

fn open_key(path: &Path) -> io::Result<[u8; 32]> {
    match read_key(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    let mut key = [0; 32];
    rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty())?;
    let mut temporary = Temporary::create(path.parent().unwrap_or(Path::new(".")))?;
    temporary.file.write_all(&key)?;
    // A link, not a rename: if several processes create the key at once, the first key stays and all use it.
    match fs::hard_link(&temporary.path, path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => read_key(path),
    }
}

fn read_key(path: &Path) -> io::Result<[u8; 32]> {
    let mut key = [0; 32];
    match open_to_read(path)?.read_exact(&mut key) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            Err(io::Error::other(format!("its key is damaged (remove {})", path.display())))
        }
        read => read.map(|()| key),
    }
}

/// Bytes read at once.
const BLOCK_LEN: usize = 256 << 10;

fn for_each_block(file: &File, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    // Most artefacts are short, and zeroing an unused part of the buffer costs as much as reading the
    // artefact.
    let len = usize::try_from(file.metadata()?.len()).unwrap_or(BLOCK_LEN);
    let mut block = vec![0; len.clamp(1, BLOCK_LEN)];
    let mut at = 0;
    loop {
        match file.read_at(&mut block, at)? {
            0 => return Ok(()),
            len => {
                each(&block[..len])?;
                at += len as u64;
            }
        }
    }
}

fn entry_name(digest: Digest, codegen: Codegen) -> String {
    format!("{digest}-{}{}", fingerprint(), codegen.suffix())
}

/// What an artefact depends on besides the module: wpool's version (which fixes the engine's version and
/// settings) and the processor. The engine checks all of it again when it loads an artefact.
fn fingerprint() -> String {
    let mut hash = Sha256::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    hash.update(ENGINE);
    hash.update(SETTINGS.to_le_bytes());
    hash.update(DESCRIPTION.to_le_bytes());
    hash.update(std::env::consts::ARCH);
    hash.update(cpu_flags());
    hex(&hash.finalize()[..8])
}

/// Increased with each change to the engine's settings.
const SETTINGS: u32 = 6;
/// Increased when a description tells more than before: an older entry would lack it.
const DESCRIPTION: u32 = 1;

/// The version of the linked engine; the requirement in Cargo.toml allows several. A program without the
/// engine lets an installed `wpool` compile, which has the version that this program was tested with.
#[cfg(feature = "worker")]
const ENGINE: &str = crate::worker::ENGINE_VERSION;
#[cfg(not(feature = "worker"))]
const ENGINE: &str = "48.0.8";

/// The processor's features: a cache in a shared home directory serves different machines. Computed once,
/// because the kernel needs a while to write them.
fn cpu_flags() -> &'static str {
    static FLAGS: OnceLock<String> = OnceLock::new();
    FLAGS.get_or_init(|| {
        let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let flags = text.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
        flags.unwrap_or_default().to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ModuleKind;

    fn artefact(bytes: &[u8]) -> OwnedFd {
        let mut file: File =
            rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap().into();
        file.write_all(bytes).unwrap();
        file.into()
    }

    fn info() -> ModuleInfo {
        ModuleInfo::of(ModuleKind::Core, vec![])
    }

    const DIGEST: Digest = Digest([7; 32]);

    fn filled() -> (tempfile::TempDir, Cache, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("cache")).unwrap();
        let path =
            cache.put(DIGEST, &info(), &artefact(b"machine code"), None, CacheLimits::default()).unwrap();
        (dir, cache, path)
    }

    fn overwrite(path: &Path, bytes: &[u8]) {
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
        fs::write(path, bytes).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o444)).unwrap();
    }

    #[track_caller]
    fn misses_with(cache: &Cache, digest: Digest, said: &str) {
        let mut warnings = Vec::new();
        assert!(cache.get(digest, Codegen::default(), &mut warnings).is_none());
        assert!(warnings.iter().any(|w| w.contains(said)), "{warnings:?}");
    }

    #[test]
    fn what_was_put_is_found_by_a_second_opening() {
        let (dir, _, path) = filled();
        let hit = Cache::open(&dir.path().join("cache"))
            .unwrap()
            .get(DIGEST, Codegen::default(), &mut vec![])
            .unwrap();
        assert_eq!((hit.info, hit.path), (info(), path));
        let mut found = Vec::new();
        File::from(hit.artefact).read_to_end(&mut found).unwrap();
        assert_eq!(found, b"machine code");
        assert!(
            fs::read_dir(dir.path().join("cache")).unwrap().all(|e| !e
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with("tmp"))
        );
    }

    #[test]
    fn f39_a_cut_or_altered_artefact_is_a_miss() {
        let (_dir, cache, path) = filled();
        overwrite(&path, b"machine cod");
        misses_with(&cache, DIGEST, "damaged");
        overwrite(&path, b"machine c0de");
        misses_with(&cache, DIGEST, "damaged");
        cache.put(DIGEST, &info(), &artefact(b"machine code"), None, CacheLimits::default()).unwrap();
        assert!(cache.get(DIGEST, Codegen::default(), &mut vec![]).is_some());
    }

    #[test]
    fn each_way_to_compile_has_an_entry_of_its_own() {
        let (_dir, cache, _) = filled();
        let codegen = Codegen { fuel: true, ..Codegen::default() };
        assert!(cache.get(DIGEST, codegen, &mut vec![]).is_none());
        let metered = ModuleInfo { codegen, ..info() };
        cache
            .put(DIGEST, &metered, &artefact(b"counting machine code"), None, CacheLimits::default())
            .unwrap();
        assert_eq!(cache.get(DIGEST, codegen, &mut vec![]).unwrap().info, metered);
        assert_eq!(cache.get(DIGEST, Codegen::default(), &mut vec![]).unwrap().info, info());
    }

    #[test]
    fn f40_an_entry_of_another_cache_or_under_another_name_is_a_miss() {
        let (_other_dir, other, _) = filled();
        let (_dir, cache, _) = filled();
        let (artefact, entry) = cache.paths(DIGEST, Codegen::default());
        let (foreign_artefact, foreign_entry) = other.paths(DIGEST, Codegen::default());
        fs::rename(foreign_artefact, artefact).unwrap();
        fs::rename(foreign_entry, entry).unwrap();
        misses_with(&cache, DIGEST, "not written by this cache's owner");

        let (_dir, cache, _) = filled();
        let renamed = Digest([8; 32]);
        fs::rename(cache.paths(DIGEST, Codegen::default()).0, cache.paths(renamed, Codegen::default()).0)
            .unwrap();
        fs::rename(cache.paths(DIGEST, Codegen::default()).1, cache.paths(renamed, Codegen::default()).1)
            .unwrap();
        misses_with(&cache, renamed, "not written by this cache's owner");
    }

    #[test]
    fn f42_an_entry_that_could_not_be_written_whole_is_not_there() {
        let (_dir, cache, path) = filled();
        let before = fs::read_dir(&cache.dir).unwrap().count();
        let full = |file: &mut File| {
            file.write_all(b"the first ")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        };
        let error = cache.publish(&path, full).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"machine code");
        assert_eq!(fs::read_dir(&cache.dir).unwrap().count(), before);
        // The artefact exists, but its description and MAC do not.
        fs::remove_file(path.with_extension("json")).unwrap();
        assert!(cache.get(DIGEST, Codegen::default(), &mut vec![]).is_none());
    }

    #[test]
    fn f41_a_directory_that_others_may_enter_or_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        assert!(Cache::open(&open).err().unwrap().to_string().contains("other users"));
        let link = dir.path().join("link");
        fs::set_permissions(&open, Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink(&open, &link).unwrap();
        assert!(Cache::open(&link).err().unwrap().to_string().contains("not a directory"));
    }

    #[test]
    fn f126_a_pipe_in_a_cache_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        let pipe = |name: &str| {
            let path = dir.path().join(name);
            rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
            path
        };
        pipe("key");
        assert!(Cache::open(dir.path()).err().unwrap().to_string().contains("its key is damaged"));
        fs::remove_file(dir.path().join("key")).unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let name = entry_name(DIGEST, Codegen::default());
        pipe(&format!("{name}.json"));
        pipe(&format!("{name}.cwasm"));
        let mut warnings = Vec::new();
        assert!(cache.get(DIGEST, Codegen::default(), &mut warnings).is_none());
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }

    #[test]
    fn f126_a_cache_where_no_directory_can_be_made_is_an_error() {
        for dir in ["/proc/wpool-test", "/proc/wpool-test/cache", "/sys/wpool-test/cache", "/dev/null/cache"]
        {
            assert!(Cache::open(Path::new(dir)).is_err(), "{dir}");
        }
    }
}
