//! The components that are checked in, for those who have no toolchain for guests.

use std::path::{Path, PathBuf};

use crate::Build;
use crate::examples::{Example, Examples};
use crate::toolchain::TARGET;

/// Where the checked-in component of a guest is.
pub(crate) fn component(root: &Path, example: &Example) -> PathBuf {
    directory(root).join(format!("{}.wasm", example.name))
}

fn directory(root: &Path) -> PathBuf {
    root.join("guest/prebuilt")
}

/// Replaces all of them, and the README beside them.
pub(crate) fn update(root: &Path, build: &Build) -> Result<(), String> {
    let readme = readme(&build.examples, &build.toolchain.version()?)?;
    replace(root, &build.examples, &readme).map_err(|error| format!("guest/prebuilt: {error}"))
}

fn replace(root: &Path, examples: &Examples, readme: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(directory(root))?;
    for path in checked_in(root)? {
        std::fs::remove_file(path)?;
    }
    for example in &examples.all {
        std::fs::copy(examples.component(example), component(root, example))?;
    }
    std::fs::write(directory(root).join("README.md"), readme)
}

/// The components that are there, by name.
pub(crate) fn checked_in(root: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory(root))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn readme(examples: &Examples, rustc: &str) -> Result<String, String> {
    let mut text = format!(
        "\
# Prebuilt guests

The guests of [`guest/examples`](../examples) as components, for trying wpool and for running its tests without a toolchain
for WebAssembly. Each is what `cargo guests build` makes of its source; `cargo guests update` has written this directory, and
`cargo guests check --wpool PATH` compares it with a fresh build: what each component exports, and its results for the
records in the guest's `samples.txt`. The bytes differ from one toolchain to another.

- compiler: {rustc}
- target: {TARGET}, release profile of `guest/examples/Cargo.toml`

| component | bytes | |
|---|---:|---|
"
    );
    for example in &examples.all {
        let Example { name, description } = example;
        text += &format!("| [`{name}.wasm`](../examples/{name}) | {} | {description} |\n", examples.size(example)?);
    }
    Ok(text)
}
