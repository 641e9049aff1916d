//! Finds a Rust toolchain that compiles for wasm32-wasip2, or makes one. Never changes the user's toolchains: a target
//! that is added to one of them is for the user to add.

use std::ffi::OsString;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What guests are compiled for.
pub(crate) const TARGET: &str = "wasm32-wasip2";

const NOTICE: &str = "\
************************************************************************
* No Rust toolchain for WebAssembly guests was found. With rustup:     *
*                                                                      *
*     rustup target add wasm32-wasip2                                  *
*                                                                      *
* Until then the components in guest/prebuilt are as good, unless the  *
* guests have changed.                                                 *
************************************************************************";

/// What guests are compiled with.
pub(crate) enum Toolchain {
    /// The active one, which has a standard library for the target.
    Active,
    /// One in a directory of its own: its `usr`.
    Private(PathBuf),
}

impl Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Toolchain::Active => f.write_str("the active toolchain"),
            Toolchain::Private(usr) => write!(f, "{}", usr.display()),
        }
    }
}

impl Toolchain {
    pub(crate) fn find_or_make(root: &Path) -> Result<Self, String> {
        if let Some(chosen) = std::env::var_os("WPOOL_GUEST_TOOLCHAIN") {
            return Toolchain::chosen(Path::new(&chosen));
        }
        if Toolchain::Active.works() {
            return Ok(Toolchain::Active);
        }
        let directory = root.join("target/guest-toolchain");
        let private = Toolchain::Private(directory.join("usr"));
        if private.works() || (make(root, &directory) && private.works()) {
            return Ok(private);
        }
        eprintln!("{NOTICE}");
        Err(format!("the guests cannot be compiled: no standard library for {TARGET}"))
    }

    fn chosen(directory: &Path) -> Result<Self, String> {
        let directory = std::path::absolute(directory).map_err(|error| error.to_string())?;
        let private = Toolchain::Private(directory.join("usr"));
        if private.works() {
            return Ok(private);
        }
        Err(format!("WPOOL_GUEST_TOOLCHAIN={} is not a guest toolchain", directory.display()))
    }

    /// Whether it has a standard library for the target, and linkers.
    fn works(&self) -> bool {
        if let Toolchain::Private(usr) = self {
            // A link into one of rustup's toolchains, which may have gone with an update.
            let linkers = usr.join("lib/rustlib/x86_64-unknown-linux-gnu/bin");
            if !linkers.join("wasm-component-ld").exists() {
                return false;
            }
        }
        self.target_libdir().is_some_and(|directory| has_std(&directory))
    }

    fn target_libdir(&self) -> Option<PathBuf> {
        let mut rustc = self.command("rustc");
        let output = rustc.args(["--print", "target-libdir", "--target", TARGET]).output().ok()?;
        let path = output.status.success().then_some(output.stdout)?;
        Some(PathBuf::from(String::from_utf8(path).ok()?.trim()))
    }

    /// What `rustc --version` says.
    pub(crate) fn version(&self) -> Result<String, String> {
        let output = self.command("rustc").arg("--version").output();
        let output = output.map_err(|error| format!("rustc cannot be run: {error}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// A program of this toolchain: `rustc` or `cargo`.
    pub(crate) fn command(&self, program: &str) -> Command {
        match self {
            Toolchain::Active => clean(program),
            Toolchain::Private(usr) => {
                let mut command = clean(usr.join("bin").join(program));
                command.env("RUSTC", usr.join("bin/rustc"));
                command.env("RUSTDOC", usr.join("bin/rustdoc"));
                command.env("LD_LIBRARY_PATH", library_path(usr.join("lib")));
                command
            }
        }
    }
}

fn has_std(directory: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return false;
    };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
}

/// The toolchain's own libraries first, then those that are searched anyway.
fn library_path(first: PathBuf) -> OsString {
    let others = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let paths = std::iter::once(first.clone()).chain(std::env::split_paths(&others));
    std::env::join_paths(paths).unwrap_or_else(|_| first.into_os_string())
}

/// Makes a toolchain from Debian packages, where there are any.
fn make(root: &Path, directory: &Path) -> bool {
    if !Path::new("/etc/debian_version").exists() {
        return false;
    }
    let script = root.join("guest/builder/mk-guest-toolchain.sh");
    let made = clean("bash").arg(script).arg(directory).current_dir(root).status();
    made.is_ok_and(|status| status.success())
}

/// A command without what `cargo run` and the caller's own builds have put into the environment: it would choose the
/// compiler, its flags and the place of its output for the guests, too.
fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(belongs_to_another_build) {
            command.env_remove(name);
        }
    }
    command
}

fn belongs_to_another_build(name: &str) -> bool {
    const KEPT: [&str; 6] =
        ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_TERM_"];
    const DROPPED: [&str; 6] = ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "TARGET_"];
    DROPPED.iter().any(|start| name.starts_with(start)) && !KEPT.iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::belongs_to_another_build;

    #[test]
    fn the_environment_of_another_build_is_dropped_and_how_to_reach_the_registry_is_kept() {
        for name in [
            "CARGO",
            "CARGO_BUILD_TARGET",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_MANIFEST_DIR",
            "CARGO_TARGET_DIR",
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
        ] {
            assert!(belongs_to_another_build(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_REGISTRIES_X_INDEX", "RUSTUP_HOME", "PATH"] {
            assert!(!belongs_to_another_build(name), "{name}");
        }
    }
}
