//! `wpool python`: finds the guest `python`, and is `map` or `run` of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::args::{LoadArgs, MapOptions, PythonArgs, RunArgs, TargetArgs};
use super::choices::ValueForm;
use super::exit::{CliError, OrExit, WpoolExit};
use super::report::Report;
use super::settings::MapSettings;
use super::{map, run as command};

/// The variable that names the guest.
const VARIABLE: &str = "WPOOL_PYTHON";
const FILE: &str = "python.wasm";
/// The stack of a task. Python itself stops a recursion that is too deep, if the stack is not at its end
/// before.
const STACK: usize = 32 << 20;
/// A longer script is a mistake, such as the name of a data file.
const SCRIPT_MAX: u64 = 16 << 20;

pub(super) fn run(args: PythonArgs, report: &Report) -> Result<WpoolExit, CliError> {
    let PythonArgs { script, code, load, options } = args;
    let mut options = options;
    refuse_flags_of_modules(&options)?;
    options.limits.stack.get_or_insert(STACK);
    if options.grants.net.is_empty() {
        options.grants.net.push("none".to_owned());
    }
    let script = match (code, script) {
        (Some(source), first) => {
            options.inputs.splice(..0, first);
            Script { name: "<string>".to_owned(), source }
        }
        (None, Some(path)) => Script::read(&path)?,
        (None, None) => return Err(CliError::usage("name a script, or give code with -c")),
    };
    let guest = find()?;
    let func = options.target.func.take().or_else(|| script.own_func());
    if func.is_none() && options.inputs.is_empty() && options.items.is_none() {
        return command::run(&program(&guest, script, load, options)?, report);
    }
    let job = Job::new(&script, func, &options);
    let job = serde_json::to_string(&job).or_exit(WpoolExit::Own, || "cannot write the job".to_owned())?;
    options.target = TargetArgs { func: Some("apply".to_owned()), args: vec![job], ..TargetArgs::default() };
    options.input_format = ValueForm::Auto;
    map::run(&MapSettings::of(guest, &load, options, None)?, report)
}

/// What the guest's function `apply` gets beside each record; see wit/python/python.wit.
#[derive(Debug, Serialize)]
struct Job<'a> {
    source: &'a str,
    name: &'a str,
    /// `None`: the script is a program.
    func: Option<String>,
    args: Vec<String>,
    kwargs: BTreeMap<String, String>,
    input: &'static str,
    output: &'static str,
}

impl<'a> Job<'a> {
    fn new(script: &'a Script, func: Option<String>, options: &MapOptions) -> Job<'a> {
        let target = &options.target;
        Job {
            source: &script.source,
            name: &script.name,
            func,
            args: target.args.clone(),
            kwargs: target.kwargs.iter().cloned().collect(),
            input: form(options.input_format),
            output: form(target.output_format),
        }
    }
}

fn form(form: ValueForm) -> &'static str {
    match form {
        // WAVE is refused before.
        ValueForm::Auto | ValueForm::Wave => "auto",
        ValueForm::Raw => "raw",
        ValueForm::Json => "json",
    }
}

struct Script {
    /// For tracebacks.
    name: String,
    source: String,
}

impl Script {
    fn read(path: &Path) -> Result<Script, CliError> {
        let cannot = || format!("cannot read the script {}", path.display());
        let len = std::fs::metadata(path).or_exit(WpoolExit::Usage, cannot)?.len();
        if len > SCRIPT_MAX {
            return Err(CliError::usage(format!("{}: a script has at most 16 MiB", path.display())));
        }
        let source = std::fs::read(path).or_exit(WpoolExit::Usage, cannot)?;
        let source = String::from_utf8(source)
            .map_err(|_| CliError::usage(format!("{}: a script is text in UTF-8", path.display())))?;
        // Python skips a byte order mark too.
        let source = source.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(source);
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Script { name, source })
    }

    /// `run`, if the script defines it at the top level.
    fn own_func(&self) -> Option<String> {
        let is_run = |line: &str| {
            let name = line.strip_prefix("def ").map(str::trim_start);
            let rest = name.and_then(|name| name.strip_prefix("run"));
            rest.is_some_and(|rest| rest.trim_start().starts_with('('))
        };
        self.source.lines().any(is_run).then(|| "run".to_owned())
    }
}

/// The script as a program that runs once: the guest's command.
fn program(guest: &Path, script: Script, load: LoadArgs, options: MapOptions) -> Result<RunArgs, CliError> {
    if !(options.target.args.is_empty() && options.target.kwargs.is_empty()) {
        return Err(CliError::usage("--arg and --kw are for a function: name it with --func"));
    }
    let argv = ["--name", &script.name, "-c", &script.source].map(OsString::from);
    Ok(RunArgs {
        command: [guest.as_os_str().to_owned()].into_iter().chain(argv).collect(),
        load,
        target: TargetArgs::default(),
        input: None,
        name: None,
        worker: options.worker,
        profile: options.profile,
        grants: options.grants,
        shared: options.shared,
        limits: options.limits,
    })
}

/// Refuses options that mean functions and values of WebAssembly.
fn refuse_flags_of_modules(options: &MapOptions) -> Result<(), CliError> {
    let given = [
        (options.init.is_some() || !options.init_args.is_empty(), "--init and --init-arg"),
        (options.as_args.is_some(), "--as-args"),
        (!options.ok_exit.is_empty(), "--ok-exit"),
        (options.input_format == ValueForm::Wave, "--input-format wave"),
        (options.target.output_format == ValueForm::Wave, "--output-format wave"),
    ];
    match given.iter().find(|(is_given, _)| *is_given) {
        Some((_, flags)) => Err(CliError::usage(format!("{flags}: not for Python; use `wpool map`"))),
        None => Ok(()),
    }
}

/// The guest's file.
fn find() -> Result<PathBuf, CliError> {
    if let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        let missing = format!("{VARIABLE} names no file: {}", path.display());
        return if path.is_file() { Ok(path) } else { Err(CliError::usage(missing)) };
    }
    let places = places();
    if let Some(found) = places.iter().find(|path| path.is_file()) {
        return Ok(found.clone());
    }
    let places = places.iter().map(|path| format!("\n  {}", path.display())).collect::<String>();
    Err(CliError::usage(format!(
        "the guest `python` is not installed: in the repository of wpool, `cargo guests build python` makes \
         target/python/{FILE}; copy it to one of these places, or name it with {VARIABLE}:{places}"
    )))
}

/// Where the guest may be installed: for the user, or with the program.
fn places() -> Vec<PathBuf> {
    let data = std::env::var_os("XDG_DATA_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let data = data.or_else(|| std::env::home_dir().map(|home| home.join(".local/share")));
    let beside = std::env::current_exe().ok();
    let beside = beside.as_deref().and_then(Path::parent);
    let with_program = beside.into_iter().flat_map(|directory| {
        let above = directory.parent().unwrap_or(directory);
        // The last place is that of a build of wpool itself: target/release beside target/python.
        [directory.join(FILE), above.join("share/wpool").join(FILE), above.join("python").join(FILE)]
    });
    data.map(|data| data.join("wpool").join(FILE)).into_iter().chain(with_program).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_that_defines_run_is_called_by_it() {
        let own = |source: &str| Script { name: String::new(), source: source.to_owned() }.own_func();
        assert_eq!(own("import re\n\ndef run(x): return x").as_deref(), Some("run"));
        assert_eq!(own("def  run (x):\n  return x").as_deref(), Some("run"));
        for none in ["def runs(x): pass", "class A:\n    def run(self): pass", "print('def run(')", ""] {
            assert_eq!(own(none), None, "{none}");
        }
    }
}
