//! A project in Rust: a package of cargo. Building it never changes a toolchain.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::ProjectFile;
use crate::cli::choices::World;
use crate::cli::exit::{CliError, OrExit, WpoolExit};
use crate::cli::report::Report;

/// The target that guests are compiled for.
const TARGET: &str = "wasm32-wasip2";

const TASK: &str = r#"/// Called for each record, which is a line of the input.
#[wpool_guest::task]
fn run(record: &str) -> Result<String, String> {
    if record.is_empty() {
        return Err("the record is empty".to_owned());
    }
    Ok(format!("hello {record}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_record_is_greeted() {
        assert_eq!(super::run("Ada").as_deref(), Ok("hello Ada"));
    }
}
"#;

const TYPED: &str = r#"/// Multiplies a number.
#[wpool_guest::task]
fn scale(x: f64, factor: f64) -> f64 {
    x * factor
}

/// Divides whole numbers.
#[wpool_guest::task]
fn divide(dividend: i64, divisor: i64) -> Result<i64, String> {
    dividend.checked_div(divisor).ok_or_else(|| format!("{dividend} / {divisor} has no result"))
}
"#;

const COMMAND: &str = r#"//! A command: its record is its standard input, and what it prints is the result.

use std::io::Read;

fn main() -> std::io::Result<()> {
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input)?;
    println!("{}", input.trim().to_uppercase());
    Ok(())
}
"#;

pub(super) fn files(name: &str, world: World, sdk: Option<&str>) -> Result<Vec<ProjectFile>, CliError> {
    let (library, dependency) = match world {
        World::Command => ("", String::new()),
        World::Task | World::Typed => ("[lib]\ncrate-type = [\"cdylib\"]\n\n", dependency(sdk)?),
    };
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\npublish = false\n\n\
         {library}[dependencies]\n{dependency}\n\
         # A project of its own, also below another one.\n[workspace]\n\n\
         # Small modules: each new instance pays for the memory that it touches.\n\
         [profile.release]\nopt-level = 3\nlto = true\ncodegen-units = 1\npanic = \"abort\"\n\
         strip = \"debuginfo\"\n"
    );
    let (path, source) = match world {
        World::Task => ("src/lib.rs", TASK),
        World::Typed => ("src/lib.rs", TYPED),
        World::Command => ("src/main.rs", COMMAND),
    };
    Ok(vec![
        ProjectFile { path: "Cargo.toml", text: manifest },
        ProjectFile { path, text: source.to_owned() },
        ProjectFile { path: ".gitignore", text: "/target\n".to_owned() },
    ])
}

/// The line of Cargo.toml for wpool-guest, which is not published: a directory or a repository.
fn dependency(sdk: Option<&str>) -> Result<String, CliError> {
    if let Some(url) = sdk.filter(|sdk| sdk.contains("://")) {
        return Ok(format!("wpool-guest = {{ git = {url:?} }}\n"));
    }
    // Without the option: the directory beside the one that this program was compiled from.
    let compiled_from = || Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("guest");
    let directory = sdk.map_or_else(compiled_from, PathBuf::from);
    let directory = std::path::absolute(&directory)
        .or_exit(WpoolExit::Usage, || format!("no path: {}", directory.display()))?;
    if !directory.join("Cargo.toml").is_file() {
        return Err(CliError::usage(format!(
            "{} is not the crate wpool-guest, which is not published: --sdk takes the directory `guest` of \
             wpool's repository, or the repository's URL",
            directory.display()
        )));
    }
    Ok(format!("wpool-guest = {{ path = {:?} }}\n", directory.display().to_string()))
}

/// The command that runs the new project's module.
pub(super) fn run_line(dir: &Path, name: &str, world: World) -> String {
    // Cargo names a library with underscores, and a program as the package.
    let file = if world == World::Command { name.to_owned() } else { name.replace('-', "_") };
    let module = dir.join("target").join(TARGET).join("release").join(format!("{file}.wasm"));
    let module = module.display();
    match world {
        World::Task => format!("wpool map {module} --items Ada Grace"),
        World::Typed => format!("wpool call {module} 'scale(7, 2.5)'"),
        World::Command => format!("wpool map {module} --items Ada Grace"),
    }
}

/// Builds the package with the first toolchain that can, and gives the path of its module. Cargo keeps what
/// has not changed.
pub(super) fn build(dir: &Path, report: &Report) -> Result<PathBuf, CliError> {
    let toolchain = Toolchain::find()?;
    report.detail(&format!("builds with {}", toolchain.name()));
    let mut cargo = toolchain.command("cargo");
    cargo.args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"]);
    let output = cargo.current_dir(dir).stderr(Stdio::inherit()).output();
    let output = output.or_exit(WpoolExit::Usage, || "cannot run cargo".to_owned())?;
    if !output.status.success() {
        return Err(CliError::usage("the project does not compile: cargo has said above why"));
    }
    module_of(&output.stdout)
        .ok_or_else(|| CliError::usage("cargo made no module: the package needs `crate-type = [\"cdylib\"]`"))
}

/// The last module that cargo's messages name: that of the package itself.
fn module_of(messages: &[u8]) -> Option<PathBuf> {
    let messages = messages.split(|&byte| byte == b'\n');
    let artifacts = messages.filter_map(|message| serde_json::from_slice::<Value>(message).ok());
    let files = artifacts.filter_map(|artifact| match artifact.get("filenames")? {
        Value::Array(files) => Some(files.clone()),
        _ => None,
    });
    let mut modules = files.flatten().filter_map(|file| file.as_str().map(PathBuf::from));
    modules.rfind(|path| path.extension().is_some_and(|extension| extension == "wasm"))
}

/// What compiles a guest.
enum Toolchain {
    /// The one that `rustc` and `cargo` mean here.
    Active,
    /// The `usr` of a directory that mk-guest-toolchain.sh of wpool's repository has made.
    Private(PathBuf),
}

impl Toolchain {
    fn find() -> Result<Self, CliError> {
        if let Some(directory) = std::env::var_os("WPOOL_GUEST_TOOLCHAIN").filter(|value| !value.is_empty()) {
            let private = Toolchain::Private(Path::new(&directory).join("usr"));
            return if private.has_target() {
                Ok(private)
            } else {
                let directory = Path::new(&directory).display();
                Err(CliError::usage(format!("WPOOL_GUEST_TOOLCHAIN={directory} is no guest toolchain")))
            };
        }
        // In a checkout of wpool's repository, `cargo guests` has made one where it was needed.
        let made = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target/guest-toolchain/usr");
        let candidates = [Toolchain::Active, Toolchain::Private(made)];
        candidates.into_iter().find(Toolchain::has_target).ok_or_else(missing)
    }

    fn name(&self) -> String {
        match self {
            Toolchain::Active => "the active Rust toolchain".to_owned(),
            Toolchain::Private(usr) => usr.display().to_string(),
        }
    }

    /// Whether it has a standard library for the target.
    fn has_target(&self) -> bool {
        let mut rustc = self.command("rustc");
        let output = rustc.args(["--print", "target-libdir", "--target", TARGET]).output();
        let Some(output) = output.ok().filter(|output| output.status.success()) else { return false };
        let directory = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let mut entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = match self {
            Toolchain::Active => Command::new(program),
            Toolchain::Private(usr) => Command::new(usr.join("bin").join(program)),
        };
        // Left from a `cargo run`, these would choose another compiler, and flags for another target.
        for name in ["RUSTC", "CARGO", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR"] {
            command.env_remove(name);
        }
        if let Toolchain::Private(usr) = self {
            command.env("RUSTC", usr.join("bin/rustc")).env("LD_LIBRARY_PATH", library_path(usr));
        }
        command
    }
}

/// The libraries of a private toolchain before those of the caller's environment.
fn library_path(usr: &Path) -> OsString {
    let mut path = usr.join("lib").into_os_string();
    if let Some(others) = std::env::var_os("LD_LIBRARY_PATH") {
        path.push(":");
        path.push(others);
    }
    path
}

/// The error if nothing here compiles guests. wpool never installs it itself.
fn missing() -> CliError {
    CliError::usage(format!(
        "no Rust toolchain here has a standard library for {TARGET}.\n\
         With rustup: rustup target add {TARGET}\n\
         On Debian without it: guest/builder/mk-guest-toolchain.sh DIR, of wpool's repository, makes one in \
         DIR; then set WPOOL_GUEST_TOOLCHAIN=DIR"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_the_last_one_that_cargo_names() {
        let messages = b"{\"reason\":\"compiler-artifact\",\"filenames\":[\"/a/libx.rlib\"]}\nno json\n\
            {\"reason\":\"compiler-artifact\",\"filenames\":[\"/a/x.d\",\"/a/x.wasm\"]}\n\
            {\"reason\":\"build-finished\"}\n";
        assert_eq!(module_of(messages), Some(PathBuf::from("/a/x.wasm")));
        assert_eq!(module_of(b"{}"), None);
    }

    #[test]
    fn a_command_needs_no_sdk_and_another_project_names_it() {
        let text = |world, sdk| files("my-guest", world, sdk).unwrap().remove(0).text;
        assert!(!text(World::Command, None).contains("wpool-guest"));
        let git = text(World::Typed, Some("https://example.org/wpool"));
        assert!(git.contains("wpool-guest = { git = \"https://example.org/wpool\" }"), "{git}");
        let error = files("a", World::Task, Some("/no/such")).err().unwrap().to_string();
        assert!(error.contains("is not published"), "{error}");
    }
}
