//! The checked-in components of guest/prebuilt: they make wpool's tests independent of a toolchain for
//! guests.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::Build;
use crate::examples::{Example, Examples};
use crate::toolchain::TARGET;

/// The path of a guest's checked-in component.
pub(crate) fn component(root: &Path, example: &Example) -> PathBuf {
    directory(root).join(format!("{}.wasm", example.name))
}

fn directory(root: &Path) -> PathBuf {
    root.join("guest/prebuilt")
}

/// Replaces all checked-in components, and the README beside them.
pub(crate) fn update(root: &Path, build: &Build) -> Result<()> {
    // The text first: if it cannot be made, nothing is removed.
    let readme = readme(&build.examples, &build.toolchain.version()?)?;
    let directory = directory(root);
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    for path in checked_in(root)? {
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    for example in &build.examples.all {
        let path = component(root, example);
        std::fs::copy(build.examples.component(example), &path)
            .with_context(|| format!("cannot copy the component to {}", path.display()))?;
    }
    let path = directory.join("README.md");
    std::fs::write(&path, readme).with_context(|| format!("cannot write {}", path.display()))
}

/// The checked-in components, in the order of their names.
pub(crate) fn checked_in(root: &Path) -> Result<Vec<PathBuf>> {
    let directory = directory(root);
    let unreadable = || format!("cannot read the directory {}", directory.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&directory).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn readme(examples: &Examples, rustc: &str) -> Result<String> {
    let mut text = format!(
        "\
# Prebuilt guests

The guests of [`guest/examples`](../examples) as components: with them, trying and testing wpool needs no toolchain
for WebAssembly. `cargo guests update` has written this directory from a build of the sources. `cargo guests check
--wpool PATH` compares it with a fresh build: the exports of each component, and its results for the records of the
guest's `samples.txt`. The bytes differ from one toolchain to another.

- compiler: {rustc}
- target: {TARGET}, release profile of `guest/examples/Cargo.toml`

| component | bytes | |
|---|---:|---|
"
    );
    for example in &examples.all {
        let Example { name, description } = example;
        text += &format!(
            "| [`{name}.wasm`](../examples/{name}) | {} | {description} |\n",
            examples.size(example)?
        );
    }
    Ok(text)
}
