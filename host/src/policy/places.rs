//! What a granted directory must not be or contain: file systems of the kernel, devices, and wpool's own
//! files.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::FsWord;

/// File systems that hold no user files: through them a process reaches other processes, the kernel's
/// settings, devices, or memory that no limit counts. Each has its name and the kernel's number for it
/// (`linux/magic.h`), or 0 if it has no number of its own.
const SPECIAL: [(&str, FsWord); 28] = [
    ("proc", 0x9fa0),
    ("sysfs", 0x6265_6572),
    ("devtmpfs", 0),
    ("devpts", 0x1cd1),
    ("cgroup", 0x27_e0eb),
    ("cgroup2", 0x6367_7270),
    ("cpuset", 0),
    ("debugfs", 0x6462_6720),
    ("tracefs", 0x7472_6163),
    ("securityfs", 0x7363_6673),
    ("selinuxfs", 0xf97c_ff8c),
    ("smackfs", 0x4341_5d53),
    ("apparmorfs", 0x5a3c_69f0),
    ("bpf", 0xcafe_4a11),
    ("configfs", 0x6265_6570),
    ("efivarfs", 0xde5e_81e4),
    ("pstore", 0x6165_676c),
    ("binfmt_misc", 0x4249_4e4d),
    ("fusectl", 0x6573_5543),
    ("mqueue", 0x1980_0202),
    ("hugetlbfs", 0x9584_58f6),
    ("nsfs", 0x6e73_6673),
    ("pidfs", 0x5049_4446),
    ("rpc_pipefs", 0x6759_6969),
    ("nfsd", 0x6e66_7364),
    ("resctrl", 0x0765_5821),
    ("binder", 0x6c6f_6f70),
    ("xenfs", 0xabba_1974),
];

fn special(name: &[u8]) -> Option<&'static str> {
    SPECIAL.iter().map(|(special, _)| *special).find(|special| special.as_bytes() == name)
}

/// The most names of a granted directory that are compared with the program.
const NAMES_MAX: usize = 10_000;

/// Identifies a directory independently of its name: device and inode number.
type Id = (u64, u64);

fn id(path: &Path) -> Option<Id> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// A directory that may be granted.
#[derive(Debug, Clone)]
pub(super) struct Place {
    path: PathBuf,
    /// The ids of the directory itself and of everything mounted below it.
    roots: Vec<Id>,
}

impl Place {
    /// Examines an open directory. An error is the reason why it cannot be granted.
    pub(super) fn of(dir: &File) -> Result<Place, String> {
        let untold = |e: io::Error| format!("what is mounted there cannot be learned: {e}");
        // First the file system of the directory itself, then those mounted below it: a grant covers both.
        let of_dir = rustix::fs::fstatfs(dir).map_err(|e| untold(e.into()))?.f_type;
        if let Some((name, _)) = SPECIAL.iter().find(|(_, magic)| *magic != 0 && *magic == of_dir) {
            return Err(format!("it is in a file system of the kernel's own ({name})"));
        }
        // The path of the open directory, not the one that was given: that may be a link.
        let path = fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd())).map_err(untold)?;
        let mounts = fs::read("/proc/self/mountinfo").map_err(untold)?;
        let below: Vec<Mount> = mounts.split(|byte| *byte == b'\n').filter_map(Mount::parse).collect();
        let below: Vec<Mount> = below.into_iter().filter(|mount| mount.at.starts_with(&path)).collect();
        // Landlock covers a directory with everything mounted below it, now and later.
        if let Some(mount) = below.iter().find(|mount| mount.special.is_some()) {
            let name = mount.special.unwrap_or_default();
            if mount.at == path {
                return Err(format!("it is a file system of the kernel's own ({name})"));
            }
            let at = mount.at.display();
            return Err(format!(
                "{at} below it is a file system of the kernel's own ({name}): grant directories beside it"
            ));
        }
        // Without a devtmpfs, device files are part of an ordinary file system.
        let dev = Path::new("/dev");
        let looked_at =
            below.iter().map(|mount| mount.at.as_path()).chain(dev.starts_with(&path).then_some(dev));
        if let Some(device) = looked_at.chain([path.as_path()]).find_map(device_in) {
            return Err(format!("{} is a device: grant directories beside it", device.display()));
        }
        let roots =
            below.iter().map(|mount| mount.at.as_path()).chain([path.as_path()]).filter_map(id).collect();
        Ok(Place { path, roots })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether `other` is below this place, by any of its names.
    pub(super) fn contains(&self, other: &Path) -> bool {
        above(other).any(|path| id(&path).is_some_and(|id| self.roots.contains(&id)))
    }

    /// Whether the directory itself has a name of the file `other`: a symbolic link to it, or another name of
    /// the same file. Names in directories below it are not looked for, since that could take for ever.
    pub(super) fn names(&self, other: &Path) -> bool {
        let Some(other) = id(other) else { return false };
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        entries.take(NAMES_MAX).any(|entry| id(&entry.path()) == Some(other))
    }

    /// Whether this place is `other`, or below it.
    pub(super) fn is_within(&self, other: &Path) -> bool {
        let Some(other) = id(other) else { return false };
        above(&self.path).any(|path| id(&path) == Some(other))
    }
}

/// A path and all directories above it, both as written and with links followed. A path that does not exist
/// yet is treated as below its nearest existing parent.
fn above(path: &Path) -> impl Iterator<Item = PathBuf> {
    // Both: a link may lead into the directory, and a name in the directory may be a link out of it.
    let written = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = written.ancestors().find_map(|path| fs::canonicalize(path).ok());
    let both: Vec<PathBuf> = [Some(written), there].into_iter().flatten().collect();
    both.into_iter().flat_map(|path| path.ancestors().map(Path::to_owned).collect::<Vec<_>>())
}

/// The first device file in a directory. An overlay marks a removed file by a device with the number 0, which
/// does not count.
fn device_in(dir: &Path) -> Option<PathBuf> {
    let is_device = |entry: &fs::DirEntry| {
        let kind = entry.file_type().is_ok_and(|kind| kind.is_char_device() || kind.is_block_device());
        kind && entry.metadata().is_ok_and(|metadata| metadata.rdev() != 0)
    };
    fs::read_dir(dir).ok()?.flatten().find(is_device).map(|entry| entry.path())
}

/// A line of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    at: PathBuf,
    special: Option<&'static str>,
}

impl Mount {
    /// Parses `36 35 98:0 /root /mounted/at options [..] - type source options`. `None` for any other form.
    fn parse(line: &[u8]) -> Option<Mount> {
        let mut fields = line.split(|byte| *byte == b' ');
        let at = unescape(fields.nth(4)?);
        // The number of optional fields before the `-` varies.
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        Some(Mount { at: std::ffi::OsString::from_vec(at).into(), special: special(kind) })
    }
}

/// Decodes blanks, line ends and backslashes, which the kernel writes as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after
            .get(..3)
            .filter(|digits| *first == b'\\' && digits.iter().all(|d| (b'0'..b'8').contains(d)));
        let code = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: impl AsRef<Path>) -> Result<Place, String> {
        Place::of(&File::open(path).unwrap())
    }

    #[test]
    fn f116_the_kernels_own_file_systems_are_no_places() {
        for path in ["/proc", "/proc/self", "/proc/sys/kernel", "/sys", "/sys/kernel", "/dev", "/dev/pts"] {
            if Path::new(path).exists() {
                let refused = of(path).unwrap_err();
                assert!(
                    refused.contains("of the kernel's own") || refused.contains("a device"),
                    "{path}: {refused}"
                );
            }
        }
        let refused = of("/").unwrap_err();
        assert!(
            refused.contains("/proc") || refused.contains("/sys") || refused.contains("/dev"),
            "{refused}"
        );
        for path in ["/usr", "/etc", "."] {
            assert!(of(path).is_ok(), "{path}: {:?}", of(path));
        }
    }

    #[test]
    fn f116_mounts_are_read_as_the_kernel_writes_them() {
        let read = |line: &str| Mount::parse(line.as_bytes());
        let plain = "36 35 98:0 / /mnt/a\\040b\\134c rw,noatime master:1 shared:2 - ext3 /dev/root rw";
        assert_eq!(read(plain), Some(Mount { at: "/mnt/a b\\c".into(), special: None }));
        let special = "25 30 0:23 / /x/proc rw - proc proc rw";
        assert_eq!(read(special), Some(Mount { at: "/x/proc".into(), special: Some("proc") }));
        let named = "25 30 0:23 / /x/- rw - fuse.proc - rw";
        assert_eq!(read(named), Some(Mount { at: "/x/-".into(), special: None }));
        for line in ["", "1 2 3", "1 2 3 4 5 6 7 8 -", "25 30 0:23 / /x rw proc proc rw"] {
            assert_eq!(read(line), None, "{line}");
        }
        assert_eq!(unescape(b"a\\0"), b"a\\0");
        assert_eq!(unescape(b"\\999\\1234"), b"\\999S4");
    }

    #[test]
    fn f152_a_file_is_found_by_a_link_in_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for made in ["real", "soft/below", "hard", "other"] {
            fs::create_dir_all(path(made)).unwrap();
        }
        fs::write(path("real/program"), "x").unwrap();
        fs::write(path("other/program"), "x").unwrap();
        std::os::unix::fs::symlink(path("real/program"), path("soft/any")).unwrap();
        fs::hard_link(path("real/program"), path("hard/any")).unwrap();
        let names = |place: &str| of(path(place)).unwrap().names(&path("real/program"));
        assert_eq!(
            ["real", "soft", "hard", "other", "soft/below"].map(names),
            [true, true, true, false, false]
        );
        assert!(!of(path("real")).unwrap().names(&path("none")));
    }

    #[test]
    fn f116_a_place_is_found_by_any_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("real/cache")).unwrap();
        fs::create_dir_all(path("home")).unwrap();
        std::os::unix::fs::symlink(path("real"), path("home/link")).unwrap();
        let within = |place: &str, other: &str| of(path(place)).unwrap().contains(&path(other));
        // By the directory itself, by the one that contains the link, and through the link.
        assert!(within("real/cache", "home/link/cache") && within("real", "home/link/cache"));
        assert!(within("home", "home/link/cache"), "a guest that writes there could change the link");
        assert!(!within("home", "real/cache") && !within("real/cache", "real"));
        // Paths that do not exist yet.
        assert!(within("home", "home/none/at/all") && within("real", "home/link/none"));
        assert!(of(path("real/cache")).unwrap().is_within(&path("home/link")));
        assert!(!of(path("real")).unwrap().is_within(&path("real/cache")));
    }
}
