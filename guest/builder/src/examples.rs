//! The guest programs: where they are, how they are compiled.

use std::path::{Path, PathBuf};

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
    /// What its Cargo.toml says of it.
    pub(crate) description: String,
}

impl Examples {
    /// All packages, by name.
    pub(crate) fn list(root: &Path) -> Result<Self, String> {
        let mut examples = Examples { all: Vec::new(), root: root.to_owned() };
        let directory = examples.directory();
        let unreadable = |error| format!("{} cannot be read: {error}", directory.display());
        for entry in std::fs::read_dir(&directory).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
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
    pub(crate) fn size(&self, example: &Example) -> Result<u64, String> {
        let path = self.component(example);
        let metadata = std::fs::metadata(&path);
        metadata.map(|metadata| metadata.len()).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Records for comparing two components of a guest, one a line.
    pub(crate) fn samples(&self, example: &Example) -> PathBuf {
        self.directory().join(&example.name).join("samples.txt")
    }

    pub(crate) fn build(&self, toolchain: &Toolchain, lock: Lock) -> Result<(), String> {
        // First, since the paths of the dependencies are part of the flags.
        self.fetch(toolchain, lock);
        let mut cargo = toolchain.command("cargo");
        cargo.args(["build", "--release", "--target", TARGET]).current_dir(self.directory());
        cargo.arg("--config").arg(self.remap_paths());
        if lock == Lock::Frozen {
            cargo.arg("--locked");
        }
        let status = cargo.status().map_err(|error| format!("cargo cannot be run: {error}"))?;
        if status.success() { Ok(()) } else { Err("the guests do not compile".into()) }
    }

    /// Keeps this machine's paths out of the components, where the messages of panics would show them. By --config, since
    /// the environment's RUSTFLAGS would replace the flags in the workspace's own configuration.
    fn remap_paths(&self) -> String {
        let mut remaps = vec![(self.root.clone(), "/wpool".to_owned())];
        if let Some(home) = cargo_home() {
            let registries = home.join("registry/src");
            remaps.push((home, "/cargo".to_owned()));
            // The last one that fits counts: dependencies by their names, whichever registry they come from.
            remaps.extend(directories(&registries).map(|path| (path, "/cargo/registry".to_owned())));
        }
        let flag = |(from, to): (PathBuf, String)| format!("--remap-path-prefix={}={to}", from.display());
        let flags: Vec<String> = remaps.into_iter().map(flag).collect();
        format!("target.{TARGET}.rustflags={flags:?}")
    }

    /// Downloads the dependencies. What goes wrong here goes wrong in the build, too, which says so.
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

/// The value of `name = "value"` on a line of its own, which is how our manifests are written.
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
