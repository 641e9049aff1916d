//! The guest `python`: guest/python as a component with a whole CPython.
//!
//! componentize-py makes it. It is installed into target/python, from the wheel that
//! guest/python/requirements.txt names with its hash. The user's own Python gets no packages.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// The world of the guest, and the folder of its WIT text.
const WORLD: &str = "python";

/// Says that the component was made of the same sources.
const STAMP: &str = "made-of.txt";

/// Everything that the component is made of, without the installed compiler.
struct Sources {
    root: PathBuf,
    /// The texts of all files, one after the other.
    text: String,
}

/// Makes the component unless it is there already, and returns its path.
pub(crate) fn build(root: &Path) -> Result<PathBuf> {
    let directory = root.join("target/python");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    // Tests may ask for the component at the same time. The lock ends with the file.
    let lock = File::create(directory.join("lock")).context("cannot make a lock file in target/python")?;
    lock.lock().context("cannot lock target/python")?;
    let sources = Sources::read(root)?;
    let (component, stamp) = (directory.join("python.wasm"), directory.join(STAMP));
    let made_of = std::fs::read_to_string(&stamp).unwrap_or_default();
    if component.exists() && made_of == sources.text {
        return Ok(component);
    }
    let compiler = compiler(root, &directory)?;
    // A component that is in use must not change: another file takes its name.
    let fresh = directory.join("fresh.wasm");
    let copies = copies(root, &directory)?;
    sources.compile(&compiler, &copies, &fresh)?;
    let _first = std::fs::remove_file(&stamp);
    std::fs::rename(&fresh, &component)
        .with_context(|| format!("cannot rename {} to {}", fresh.display(), component.display()))?;
    std::fs::write(&stamp, &sources.text).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(component)
}

impl Sources {
    fn read(root: &Path) -> Result<Self> {
        let mut text = String::new();
        for directory in ["guest/python", "wit/python", "wit/python/deps/cli"] {
            for path in files(&root.join(directory))? {
                text += &std::fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
            }
        }
        Ok(Sources { root: root.to_owned(), text })
    }

    fn compile(&self, compiler: &Compiler, copies: &Path, component: &Path) -> Result<()> {
        let mut command = Command::new(&compiler.program);
        command.arg("--quiet").arg("--wit-path").arg(self.root.join("wit/python")).args(["--world", WORLD]);
        command.args(["componentize", "app", "--python-path"]).arg(copies);
        command.arg("--output").arg(component);
        // Otherwise it looks for packages of the user, and the component would be another one elsewhere.
        command.env("VIRTUAL_ENV", &compiler.environment);
        run(command, "componentize-py has said above why")
    }
}

/// Copies the modules of the guest, and returns their directory. Python writes its `__pycache__` beside them.
fn copies(root: &Path, directory: &Path) -> Result<PathBuf> {
    let copies = directory.join("modules");
    std::fs::create_dir_all(&copies).with_context(|| format!("cannot make {}", copies.display()))?;
    for path in files(&root.join("guest/python"))? {
        if path.extension().is_some_and(|extension| extension == "py") {
            let copy = copies.join(path.file_name().unwrap_or_default());
            std::fs::copy(&path, &copy).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(copies)
}

/// The files of a directory, in the order of their names.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory)
        .with_context(|| format!("cannot read the directory {}", directory.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    Ok(files)
}

/// The installed componentize-py.
struct Compiler {
    environment: PathBuf,
    program: PathBuf,
}

/// Installs componentize-py, unless the environment of these requirements is there.
fn compiler(root: &Path, directory: &Path) -> Result<Compiler> {
    let environment = directory.join("venv");
    let program = environment.join("bin/componentize-py");
    let requirements = root.join("guest/python/requirements.txt");
    let wanted = std::fs::read_to_string(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let stamp = environment.join("requirements.txt");
    let compiler = Compiler { environment, program };
    if compiler.program.exists() && std::fs::read_to_string(&stamp).is_ok_and(|text| text == wanted) {
        return Ok(compiler);
    }
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear"]).arg(&compiler.environment);
    run(venv, "it needs python3 with venv; on Debian: apt-get install python3-venv")?;
    let mut pip = Command::new(compiler.environment.join("bin/python3"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.args(["--only-binary", ":all:", "--require-hashes", "--requirement"]).arg(&requirements);
    run(pip, "pip has said above why; there are wheels for Linux on x86_64 and aarch64")?;
    std::fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(compiler)
}

fn run(mut command: Command, hint: &str) -> Result<()> {
    let what = format!("{command:?}");
    let status = command.status().with_context(|| format!("cannot run {what}: {hint}"))?;
    ensure!(status.success(), "this failed: {what}: {hint}");
    Ok(())
}
