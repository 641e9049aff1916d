//! `wpool new` and `wpool build`: a project for a guest, and its module. One file for each language.

mod rust;

use std::path::{Path, PathBuf};

use super::args::{BuildArgs, NewArgs};
use super::choices::Language;
use super::exit::{CliError, OrExit, WpoolExit};
use super::output::print;
use super::report::Report;

/// A file of a new project: its path within the project, and its text.
struct ProjectFile {
    path: &'static str,
    text: String,
}

/// Writes a project, and prints the two commands that build and run it.
pub(super) fn new(args: &NewArgs) -> Result<WpoolExit, CliError> {
    let name = project_name(&args.dir)?;
    if std::fs::read_dir(&args.dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(CliError::usage(format!("{} exists and is not empty", args.dir.display())));
    }
    let files = match args.lang {
        Language::Rust => rust::files(&name, args.world, args.sdk.as_deref())?,
    };
    for file in files {
        let path = args.dir.join(file.path);
        let written = std::fs::create_dir_all(path.parent().unwrap_or(&args.dir))
            .and_then(|()| std::fs::write(&path, &file.text));
        written.or_exit(WpoolExit::Io, || format!("cannot write {}", path.display()))?;
    }
    let dir = args.dir.display();
    let run = match args.lang {
        Language::Rust => rust::run_line(&args.dir, &name, args.world),
    };
    print(format!("wpool build {dir}\n{run}\n").as_bytes())
}

/// Builds the module of a project, and prints its path.
pub(super) fn build(args: &BuildArgs, report: &Report) -> Result<WpoolExit, CliError> {
    let module: PathBuf = if args.dir.join("Cargo.toml").is_file() {
        rust::build(&args.dir, report)?
    } else {
        let dir = args.dir.display();
        return Err(CliError::usage(format!("{dir} has no Cargo.toml: `wpool new` makes a project")));
    };
    print(format!("{}\n", module.display()).as_bytes())
}

/// The last part of the path, which becomes the name of a package.
fn project_name(dir: &Path) -> Result<String, CliError> {
    let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(is_plain) {
        return Ok(name.to_owned());
    }
    let message = format!(
        "{name:?} is no name for a project: it begins with a letter, and has letters, digits, - and _"
    );
    Err(CliError::usage(message))
}
