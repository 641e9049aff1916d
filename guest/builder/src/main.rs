//! `cargo guests`: compiles the guest programs of guest/examples, and keeps their components in
//! guest/prebuilt.
//!
//! Guests are compiled for wasm32-wasip2, the rest of the project for this machine. If the active toolchain
//! has no standard library for wasm32-wasip2, `toolchain` makes another one. The user's own toolchains stay
//! as they are.

#[cfg(feature = "bindings")]
mod bindings;
mod check;
mod examples;
mod json;
mod prebuilt;
mod python;
mod toolchain;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::examples::Examples;
use crate::toolchain::Toolchain;

const HELP: &str = "\
usage: cargo guests COMMAND

  build                compile the guests of guest/examples to components
  build python         make the guest of `wpool python`, a whole CPython, in target/python; needs python3
                       with venv, and downloads componentize-py (17 MB) into target/python
  update               build, then copy the components to guest/prebuilt
  check --wpool PATH   build, then compare with the components of guest/prebuilt: their exports, and their
                       results when this wpool maps them over each guest's samples.txt
  toolchain            find or make the toolchain, then print its path and its version
  bindings [--check]   write guest/src/bindings from wit/, or only name the files that differ
                       (needs the generator: `cargo run -p wpool-guests --features bindings -- bindings`)
  help                 print this text

The toolchain is the first of these that is there:
  $WPOOL_GUEST_TOOLCHAIN       a directory that `guest/builder/mk-guest-toolchain.sh DIRECTORY` has made
  the active toolchain         if it has a standard library for wasm32-wasip2
  target/guest-toolchain       made from Debian packages when needed, on Debian only (140 MB to download)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // The alternate form: the context, then each cause.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one command. `Ok(false)`: something differs, and the output has named it.
fn run(arguments: &[&str]) -> Result<bool> {
    let root = root();
    match arguments {
        ["build"] => build(&root, Lock::MayChange).map(|_| true),
        ["build", "python"] => build_python(&root).map(|()| true),
        // Only `check` insists on the lock file as it is: it must build the dependencies that the components
        // were made of.
        ["update"] => prebuilt::update(&root, &build(&root, Lock::MayChange)?).map(|()| true),
        ["check", "--wpool", wpool] => {
            check::check(&root, &build(&root, Lock::Frozen)?.examples, Path::new(wpool))
        }
        ["toolchain"] => {
            let toolchain = Toolchain::find_or_make(&root)?;
            println!("{toolchain}\n{}", toolchain.version()?);
            Ok(true)
        }
        ["bindings"] => write_bindings(&root),
        ["bindings", "--check"] => check_bindings(&root),
        ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(true)
        }
        [] => bail!("no command is given\n\n{HELP}"),
        others => bail!("unknown arguments: {}\n\n{HELP}", others.join(" ")),
    }
}

/// The root of the project. The environment of `cargo run` comes first: the project may have moved since this
/// program was compiled.
fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR");
    let package = package.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.ancestors().nth(2).map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Whether a build may write guest/examples/Cargo.lock.
#[derive(Clone, Copy, PartialEq)]
enum Lock {
    MayChange,
    Frozen,
}

/// The compiled guests, and the toolchain that has compiled them.
struct Build {
    examples: Examples,
    toolchain: Toolchain,
}

/// Compiles all guests, and prints the size and the path of each component.
fn build(root: &Path, lock: Lock) -> Result<Build> {
    let toolchain = Toolchain::find_or_make(root)?;
    let examples = Examples::list(root)?;
    examples.build(&toolchain, lock)?;
    for example in &examples.all {
        let path = examples.component(example);
        let path = path.strip_prefix(root).unwrap_or(&path);
        println!("{:>9}  {}", examples.size(example)?, path.display());
    }
    Ok(Build { examples, toolchain })
}

fn build_python(root: &Path) -> Result<()> {
    let path = python::build(root)?;
    let size = std::fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?.len();
    println!("{size:>9}  {}", path.strip_prefix(root).unwrap_or(&path).display());
    Ok(())
}

#[cfg(feature = "bindings")]
fn write_bindings(root: &Path) -> Result<bool> {
    for file in bindings::stale(root)? {
        file.write()?;
        println!("written: {}", file.path.display());
    }
    Ok(true)
}

#[cfg(feature = "bindings")]
fn check_bindings(root: &Path) -> Result<bool> {
    let stale = bindings::stale(root)?;
    for file in &stale {
        println!("differs from wit/: {}", file.path.display());
    }
    Ok(stale.is_empty())
}

#[cfg(not(feature = "bindings"))]
fn write_bindings(_root: &Path) -> Result<bool> {
    bail!("the generator is not compiled in; run `cargo run -p wpool-guests --features bindings -- bindings`")
}

#[cfg(not(feature = "bindings"))]
use write_bindings as check_bindings;
