//! The guest programs of guest/examples: their list, their files, their build.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::Lock;
use crate::toolchain::{TARGET, Toolchain};

/// All guests, and their workspace.
pub(crate) struct Examples {
    pub(crate) all: Vec<Example>,
    root: PathBuf,
}

/// One guest: a package of the workspace guest/examples.
pub(crate) struct Example {
    pub(crate) name: String,
    /// The `description` of its Cargo.toml.
    pub(crate) description: String,
}

impl Examples {
    /// All packages, by name.
    pub(crate) fn list(root: &Path) -> Result<Self> {
        let mut examples = Examples { all: Vec::new(), root: root.to_owned() };
        let directory = examples.directory();
        let unreadable = || format!("cannot read the directory {}", directory.display());
        for entry in std::fs::read_dir(&directory).with_context(unreadable)? {
            let path = entry.with_context(unreadable)?.path();
            // Any other directory is no package: `target`, or the texts of `wat`.
            if let Ok(manifest) = std::fs::read_to_string(path.join("Cargo.toml")) {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let description = string_value(&manifest, "description").unwrap_or_default();
                examples.all.push(Example { name, description });
            }
        }
        examples.all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(examples)
    }

    fn directory(&self) -> PathBuf {
        self.root.join("guest/examples")
    }

    /// The compiled component of a guest.
    pub(crate) fn component(&self, example: &Example) -> PathBuf {
        self.directory().join(format!("target/{TARGET}/release/{}.wasm", example.name))
    }

    /// The size of the compiled component in bytes.
    pub(crate) fn size(&self, example: &Example) -> Result<u64> {
        let path = self.component(example);
        let metadata =
            std::fs::metadata(&path).with_context(|| format!("no component at {}", path.display()))?;
        Ok(metadata.len())
    }

    /// The file of records, one a line, by which two components of a guest are compared.
    pub(crate) fn samples(&self, example: &Example) -> PathBuf {
        self.directory().join(&example.name).join("samples.txt")
    }

    pub(crate) fn build(&self, toolchain: &Toolchain, lock: Lock) -> Result<()> {
        // Dependencies first: `remap_paths` lists the directories that they are unpacked into.
        self.fetch(toolchain, lock);
        let mut cargo = toolchain.command("cargo");
        cargo.args(["build", "--release", "--target", TARGET]).current_dir(self.directory());
        cargo.arg("--config").arg(self.remap_paths());
        if lock == Lock::Frozen {
            cargo.arg("--locked");
        }
        let status = cargo.status().context("cannot run cargo")?;
        ensure!(status.success(), "the guests do not compile: cargo has said above why");
        Ok(())
    }

    /// The flags that keep this machine's paths out of the components: messages of panics would show them.
    /// They go through `--config`, since RUSTFLAGS in the environment would replace the flags of the
    /// workspace's own configuration.
    fn remap_paths(&self) -> String {
        let mut remaps = vec![(self.root.clone(), "/wpool".to_owned())];
        if let Some(home) = cargo_home() {
            let registries = home.join("registry/src");
            remaps.push((home, "/cargo".to_owned()));
            // The compiler takes the last prefix that fits. A dependency is then shown by its name, without
            // the registry, whose directory differs between machines.
            remaps.extend(directories(&registries).map(|path| (path, "/cargo/registry".to_owned())));
        }
        let flag = |(from, to): (PathBuf, String)| format!("--remap-path-prefix={}={to}", from.display());
        let flags: Vec<String> = remaps.into_iter().map(flag).collect();
        format!("target.{TARGET}.rustflags={flags:?}")
    }

    /// Downloads the dependencies. Errors are ignored: the build meets the same ones, and reports them.
    fn fetch(&self, toolchain: &Toolchain, lock: Lock) {
        let mut cargo = toolchain.command("cargo");
        cargo.args(["fetch", "--quiet"]).current_dir(self.directory());
        if lock == Lock::Frozen {
            cargo.arg("--locked");
        }
        let _ = cargo.stderr(std::process::Stdio::null()).status();
    }
}

fn directories(path: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir())
}

fn cargo_home() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
}

/// The value of a line `name = "value"`. The manifests of guest/examples have one key a line, so this needs
/// no TOML parser.
fn string_value(manifest: &str, name: &str) -> Option<String> {
    manifest.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.trim_start().strip_prefix('=')?;
        Some(value.trim().trim_matches('"').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::string_value;

    #[test]
    fn a_description_is_found() {
        let manifest = "[package]\nname = \"a\"\ndescription = \"What it does\"\n";
        assert_eq!(string_value(manifest, "description").as_deref(), Some("What it does"));
        assert_eq!(string_value(manifest, "descr"), None);
        assert_eq!(string_value(manifest, "license"), None);
    }
}
