//! `cargo guests`: compiles the guest programs of guest/examples, and keeps their components in guest/prebuilt.
//!
//! Guests are compiled for wasm32-wasip2 while the rest of the project is compiled for this machine, at times with another
//! toolchain; `toolchain` finds or makes it. Nothing here changes the user's own toolchains.

#[cfg(feature = "bindings")]
mod bindings;
mod check;
mod examples;
mod json;
mod prebuilt;
mod toolchain;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::examples::Examples;
use crate::toolchain::Toolchain;

const HELP: &str = "\
usage: cargo guests COMMAND

  build                compile the guests of guest/examples to components
  update               build, and copy the components to guest/prebuilt
  check --wpool PATH   build, and compare with the components of guest/prebuilt: what they export, and what
                       this wpool gets from them for each guest's samples.txt
  toolchain            find or make the toolchain, and print it
  bindings [--check]   write guest/src/bindings from wit/, or only compare
                       (as `cargo run -p wpool-guests --features bindings -- bindings`)
  help                 print this

The toolchain is the first of these:
  $WPOOL_GUEST_TOOLCHAIN       a directory that `guest/builder/mk-guest-toolchain.sh DIRECTORY` has made
  the active one               if it has a standard library for wasm32-wasip2
  target/guest-toolchain       made there from Debian packages where that is possible (140 MB to download)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is well; `false` where the output has already said what is not.
fn run(arguments: &[&str]) -> Result<bool, String> {
    let root = root();
    match arguments {
        ["build"] => build(&root, Lock::MayChange).map(|_| true),
        ["update"] => prebuilt::update(&root, &build(&root, Lock::MayChange)?).map(|()| true),
        ["check", "--wpool", wpool] => check::check(&root, &build(&root, Lock::Frozen)?.examples, Path::new(wpool)),
        ["toolchain"] => {
            let toolchain = Toolchain::find_or_make(&root)?;
            println!("{toolchain}\n{}", toolchain.version()?);
            Ok(true)
        }
        ["bindings"] => write_bindings(&root, false),
        ["bindings", "--check"] => write_bindings(&root, true),
        ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(true)
        }
        _ => Err(format!("these arguments are not understood\n\n{HELP}")),
    }
}

/// The root of the project. Cargo says where this package is, which may have moved since it was compiled.
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

/// The compiled guests, and with what.
struct Build {
    examples: Examples,
    toolchain: Toolchain,
}

fn build(root: &Path, lock: Lock) -> Result<Build, String> {
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

#[cfg(feature = "bindings")]
fn write_bindings(root: &Path, check: bool) -> Result<bool, String> {
    let stale = bindings::bindings(root, check).map_err(|error| format!("{error:#}"))?;
    for path in &stale {
        println!("{} {path}", if check { "differs from wit/:" } else { "written:" });
    }
    Ok(!check || stale.is_empty())
}

#[cfg(not(feature = "bindings"))]
fn write_bindings(_root: &Path, _check: bool) -> Result<bool, String> {
    Err("the generator is not compiled in; run `cargo run -p wpool-guests --features bindings -- bindings`".into())
}
