//! How the dynamic loader found this program and its libraries. A worker is the same program executed again,
//! and must find the same libraries.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::sys;

/// What an execution of `/proc/self/exe` needs besides that path.
#[derive(Debug)]
pub(super) struct Loader {
    /// The loader's arguments before this program's own, if the loader was started by name (`ld-linux.so.2
    /// ./app`): its options, and the path of the program. `/proc/self/exe` is then the loader.
    pub(super) args: Vec<OsString>,
    /// The value of `LD_LIBRARY_PATH`, if libraries of this program were found through it.
    pub(super) libraries: Option<OsString>,
}

pub(super) fn get() -> Option<&'static Loader> {
    static LOADER: OnceLock<Loader> = OnceLock::new();
    Some(LOADER.get_or_init(|| Loader { args: args().unwrap_or_default(), libraries: libraries() }))
}

/// The arguments of the loader. `std::env::args` does not show them, because the loader removes its own
/// arguments; `/proc/self/cmdline` still has all of them.
fn args() -> Option<Vec<OsString>> {
    let exe = std::fs::read_link("/proc/self/exe").ok()?;
    if !is_loader(&exe) {
        return None;
    }
    let all = std::fs::read("/proc/self/cmdline").ok()?;
    let all = all.strip_suffix(&[0]).unwrap_or(&all);
    let all: Vec<OsString> =
        all.split(|byte| *byte == 0).map(|arg| OsString::from_vec(arg.to_vec())).collect();
    before_its_own(all, std::env::args_os().count(), |program| std::fs::canonicalize(program).ok())
}

/// The arguments before this program's `own` last ones, which begin with the program's name. The name stays
/// as the last element and becomes an absolute path, because a worker starts in another directory.
fn before_its_own(
    mut all: Vec<OsString>,
    own: usize,
    absolute: impl FnOnce(&OsString) -> Option<PathBuf>,
) -> Option<Vec<OsString>> {
    let program = all.len().checked_sub(own).filter(|program| *program > 0)?;
    all.truncate(program + 1);
    if let Some(path) = absolute(&all[program]) {
        all[program] = path.into();
    }
    all.remove(0);
    Some(all)
}

fn is_loader(exe: &Path) -> bool {
    let name = exe.file_name().unwrap_or_default().as_bytes();
    let ends = name.ends_with(b".so") || name.windows(4).any(|part| part == b".so.");
    ends && (name.starts_with(b"ld-") || name.starts_with(b"ld.") || name.starts_with(b"ld64."))
}

fn libraries() -> Option<OsString> {
    let value = std::env::var_os(sys::LIBRARIES).filter(|value| !value.is_empty())?;
    let maps = std::fs::read("/proc/self/maps").ok()?;
    let dirs: Vec<PathBuf> =
        std::env::split_paths(&value).filter_map(|dir| std::fs::canonicalize(dir).ok()).collect();
    let found = maps.split(|byte| *byte == b'\n').any(|line| {
        let path = line
            .iter()
            .position(|byte| *byte == b'/')
            .map(|at| Path::new(std::ffi::OsStr::from_bytes(&line[at..])));
        path.is_some_and(|path| dirs.iter().any(|dir| path.parent() == Some(dir)))
    });
    // Absolute, because a worker starts in another directory.
    found.then(|| std::env::join_paths(dirs).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f125_the_loaders_own_arguments_are_told_from_the_programs() {
        let all = |args: &[&str]| args.iter().map(OsString::from).collect::<Vec<_>>();
        let absolute = |program: &OsString| Some(Path::new("/here").join(program));
        let before = |args: &[&str], own| before_its_own(all(args), own, absolute);
        assert_eq!(before(&["ld.so", "app", "a", "b"], 3), Some(all(&["/here/app"])));
        assert_eq!(
            before(&["ld.so", "--library-path", "/l", "app"], 1),
            Some(all(&["--library-path", "/l", "/here/app"]))
        );
        assert_eq!(
            before(&["ld.so", "--argv0", "x", "app", "--", "a"], 3),
            Some(all(&["--argv0", "x", "/here/app"]))
        );
        // The loader has no arguments here.
        assert_eq!(before(&["app", "a"], 2), None);
        assert_eq!(before(&[], 1), None);
    }

    #[test]
    fn f125_a_loader_is_known_by_its_name() {
        for name in
            ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-2.31.so", "/lib/ld-musl-x86_64.so.1", "/usr/bin/ld.so"]
        {
            assert!(is_loader(Path::new(name)), "{name}");
        }
        for name in ["/usr/bin/ld", "/usr/bin/wpool", "/opt/ld-tool", "/lib/libc.so.6"] {
            assert!(!is_loader(Path::new(name)), "{name}");
        }
    }
}
