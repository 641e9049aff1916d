//! A process for each measurement, and what all measurements need: guests, pools, the command, and the
//! kernel's figures.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use wpool::{Module, Pool};

use super::machine;
use super::measurements::{COMPARISONS, Case, FUNCTIONS, Function};

/// The first argument of a process that measures.
const ASK: &str = "--measure";

/// Measures if the arguments ask for it: `--measure FUNCTION ARGS...`. The figures go to stdout.
pub(crate) fn asked() -> Option<ExitCode> {
    let mut args = std::env::args().skip(1);
    (args.next()? == ASK).then(|| {
        let (name, args) = (args.next().unwrap_or_default(), args.collect::<Vec<_>>());
        let measured = function(&name).ok_or(format!("there is no function {name}")).and_then(|f| f(&args));
        match measured {
            Ok(figures) => {
                println!("{}", figures.iter().map(f64::to_string).collect::<Vec<_>>().join(" "));
                ExitCode::SUCCESS
            }
            Err(why) => {
                println!("{why}");
                ExitCode::FAILURE
            }
        }
    })
}

fn function(name: &str) -> Option<Function> {
    let mut all = FUNCTIONS.into_iter().chain(COMPARISONS);
    all.find(|(known, _)| *known == name).map(|(_, function)| function)
}

/// Runs the case in a process of its own.
pub(crate) fn measure(case: &Case, cache: &Path) -> Result<Vec<f64>, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut command = Command::new(program);
    command.args([ASK, case.function]).args(&case.args).env("XDG_CACHE_HOME", cache);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(|e| e.to_string())?;
    let ended = wait_at_most(&mut child, case.at_most);
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    if !ended {
        return Err(format!("{}: no result after {:?}", case.label, case.at_most));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    // A guest's or the library's own lines can stand before the figures.
    let last = text.lines().last().unwrap_or_default();
    if !output.status.success() {
        return Err(format!("{}: {}: {last}", case.label, output.status));
    }
    last.split(' ').map(|figure| figure.parse().map_err(|_| format!("{}: {last}", case.label))).collect()
}

/// Waits for the end of a process that writes little. Kills it at the end of its time.
fn wait_at_most(child: &mut Child, at_most: Duration) -> bool {
    let end = Instant::now() + at_most;
    while Instant::now() < end {
        if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // Its workers end with it.
    let _it_may_have_ended = child.kill();
    false
}

pub(crate) fn number(args: &[String], at: usize) -> Result<usize, String> {
    args.get(at).and_then(|arg| arg.parse().ok()).ok_or_else(|| format!("argument {at} must be a number"))
}

pub(crate) fn repo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

pub(crate) fn load(path: &str) -> Result<Module, String> {
    Module::load(repo(path)).map_err(|e| e.to_string())
}

pub(crate) fn pool(module: &Module, workers: usize) -> Result<Pool, String> {
    Pool::builder(module).processes(workers).lazy(false).build().map_err(|e| e.to_string())
}

pub(crate) const UPPER: &str = "host/benches/guests/upper.wat";
pub(crate) const MIXED: &str = "host/benches/guests/mixed.wat";
pub(crate) const XORSHIFT: &str = "host/benches/guests/xorshift.wat";

/// The command, with the cache of the run.
pub(crate) fn wpool(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wpool"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Waits for the end of a command, and gives the peak of its memory in KiB. The exit code must be `code`.
pub(crate) fn peak_of(mut child: Child, code: i32) -> Result<f64, String> {
    let (status, peak) = machine::wait_with_peak(&mut child)?;
    match status.code() {
        Some(found) if found == code => Ok(peak),
        _ => Err(format!("wpool ended with {status}")),
    }
}

/// The peak of this process's memory in KiB.
pub(crate) fn own_peak() -> f64 {
    machine::peak_kib(std::process::id()).unwrap_or(0.0)
}

/// A field of `/proc/PID/status` in KiB, such as `VmRSS:`.
pub(crate) fn status_kib(pid: u32, key: &str) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
}

/// The processor time of all threads of a process, in seconds. `None`: it has ended.
pub(crate) fn cpu_secs(pid: u32) -> Option<f64> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    Some(threads.filter_map(|thread| secs_of(&thread.path())).sum())
}

/// The processor time of this process's threads with this name, in seconds. The kernel keeps 15 bytes of it.
pub(crate) fn thread_secs(name: &str) -> f64 {
    let name = &name[..name.len().min(15)];
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let is_it = |comm: String| comm.trim_end() == name;
    let named = threads.filter(|thread| std::fs::read_to_string(thread.path().join("comm")).is_ok_and(is_it));
    named.filter_map(|thread| secs_of(&thread.path())).sum()
}

/// The processor time of a thread by its folder in `/proc`, in seconds.
fn secs_of(thread: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(thread.join("schedstat")).ok()?;
    text.split(' ').next()?.parse::<f64>().map(|nanos| nanos / 1e9).ok()
}

/// Waits until the condition holds, at most a minute.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        if Instant::now() > end {
            return Err(format!("not within a minute: {what}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
