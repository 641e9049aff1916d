//! Finds a Rust toolchain that compiles for wasm32-wasip2, or makes one.
//!
//! Never changes the user's toolchains: adding a target to one of them is the user's decision.

use std::ffi::OsString;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// The target that guests are compiled for.
pub(crate) const TARGET: &str = "wasm32-wasip2";

const NOTICE: &str = "\
************************************************************************
* No Rust toolchain for WebAssembly guests was found. With rustup:     *
*                                                                      *
*     rustup target add wasm32-wasip2                                  *
*                                                                      *
* The components in guest/prebuilt need no toolchain. They are what    *
* their sources are, unless a source has changed.                      *
************************************************************************";

/// The toolchain that guests are compiled with.
pub(crate) enum Toolchain {
    /// The active toolchain of rustup.
    Active,
    /// A toolchain that mk-guest-toolchain.sh has made: the path of its `usr`.
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
    /// The toolchain that `WPOOL_GUEST_TOOLCHAIN` names, else the active one, else the one in target/, which
    /// is made if it is not there.
    pub(crate) fn find_or_make(root: &Path) -> Result<Self> {
        if let Some(chosen) = std::env::var_os("WPOOL_GUEST_TOOLCHAIN") {
            return Toolchain::chosen(Path::new(&chosen));
        }
        // Rustup's own standard library first: nothing to make, and it is the user's usual compiler.
        if Toolchain::Active.works() {
            return Ok(Toolchain::Active);
        }
        let directory = root.join("target/guest-toolchain");
        let private = Toolchain::Private(directory.join("usr"));
        if private.works() || (make(root, &directory) && private.works()) {
            return Ok(private);
        }
        eprintln!("{NOTICE}");
        bail!("the guests cannot be compiled: no toolchain has a standard library for {TARGET}")
    }

    /// The toolchain in a directory that the user has chosen. Never falls back on another one.
    fn chosen(directory: &Path) -> Result<Self> {
        let directory = std::path::absolute(directory)
            .with_context(|| format!("WPOOL_GUEST_TOOLCHAIN={} is no path", directory.display()))?;
        let private = Toolchain::Private(directory.join("usr"));
        if private.works() {
            return Ok(private);
        }
        bail!(
            "WPOOL_GUEST_TOOLCHAIN={0} is no guest toolchain; \
             `guest/builder/mk-guest-toolchain.sh {0}` makes one",
            directory.display()
        )
    }

    /// Whether this toolchain has a standard library for the target, and linkers.
    fn works(&self) -> bool {
        if let Toolchain::Private(usr) = self {
            // A link into one of rustup's toolchains. It dangles if rustup has removed that toolchain.
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

    /// The output of `rustc --version`.
    pub(crate) fn version(&self) -> Result<String> {
        let output = self.command("rustc").arg("--version").output().context("cannot run rustc")?;
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

/// A value for `LD_LIBRARY_PATH`: this directory, then those that the caller's environment names.
fn library_path(first: PathBuf) -> OsString {
    let others = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let paths = std::iter::once(first.clone()).chain(std::env::split_paths(&others));
    std::env::join_paths(paths).unwrap_or_else(|_| first.into_os_string())
}

/// Makes a toolchain from Debian packages. `false` on another distribution, and if the script has failed.
fn make(root: &Path, directory: &Path) -> bool {
    if !Path::new("/etc/debian_version").exists() {
        return false;
    }
    let script = root.join("guest/builder/mk-guest-toolchain.sh");
    let made = clean("bash").arg(script).arg(directory).current_dir(root).status();
    made.is_ok_and(|status| status.success())
}

/// A command without the variables that `cargo run` and the caller's own builds have set. They would choose
/// the compiler, its flags and its output directory for the guests, too.
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
    // These variables say where registries and caches are, and how to reach the network. The guests need the
    // same.
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
