//! The program run as a command: what the tests of the command line share.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{assert_no_workers, cache_dir, comm, program, repo, tmp_of_runs, workers_of};

/// Longer than anything here takes on a loaded machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) fn prebuilt(name: &str) -> String {
    path_text(&repo(&format!("guest/prebuilt/{name}.wasm")))
}

pub(crate) fn example(name: &str) -> String {
    path_text(&repo(&format!("guest/examples/wat/{name}.wat")))
}

pub(crate) fn path_text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// The program, in an environment of our own.
pub(crate) fn wpool<A: AsRef<str>>(args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(program());
    command.args(args.into_iter().map(|a| a.as_ref().to_owned()));
    prepare(&mut command);
    command
}

#[expect(unsafe_code, reason = "there is no safe way to set signals in a child before it executes")]
pub(crate) fn prepare(command: &mut Command) {
    for name in
        ["WPOOL_JOBS", "WPOOL_TIMEOUT", "WPOOL_MEMORY", "WPOOL_RETRIES", "WPOOL_COLOR", "WPOOL_PROGRESS"]
    {
        command.env_remove(name);
    }
    command.env("WPOOL_CACHE_DIR", cache_dir()).env("TMPDIR", tmp_of_runs());
    command.env_remove("CLICOLOR_FORCE").stdin(Stdio::null());
    // A test runner in the background may ignore these, and children inherit that.
    // SAFETY: signal() is async-signal-safe, and SIG_DFL runs no code of ours.
    unsafe {
        command.pre_exec(|| {
            for signal in [libc::SIGINT, libc::SIGHUP, libc::SIGTERM, libc::SIGPIPE] {
                libc::signal(signal, libc::SIG_DFL);
            }
            Ok(())
        });
    }
}

pub(crate) fn args<'a>(first: &'a [&'a str], rest: &'a [&'a str]) -> Vec<&'a str> {
    [first, rest].concat()
}

/// Runs to the end with `input` on stdin.
#[track_caller]
pub(crate) fn with_input(mut command: Command, input: &[u8]) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let _watchdog = Watchdog::over(&child);
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program that does not read all of it is fine.
    let feeder = std::thread::spawn(move || {
        let _closed = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    assert_no_workers(pid);
    output
}

#[track_caller]
pub(crate) fn run(command: Command) -> Output {
    with_input(command, b"")
}

pub(crate) fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The exit code, and what stderr must contain.
#[track_caller]
pub(crate) fn ends(output: &Output, code: i32, said: &str) {
    let stderr = err(output);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(said), "no {said:?} in {stderr}");
    assert!(!stderr.contains("internal error"), "{stderr}");
}

pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(super::tmp()).unwrap()
}

pub(crate) fn file(dir: &tempfile::TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// Kills a program that hangs, so that its test fails instead of hanging too.
pub(crate) struct Watchdog {
    _alive: mpsc::Sender<()>,
}

impl Watchdog {
    pub(crate) fn over(child: &Child) -> Watchdog {
        let (alive, ended) = mpsc::channel();
        let pid = child.id();
        std::thread::spawn(move || {
            if ended.recv_timeout(LONG) == Err(mpsc::RecvTimeoutError::Timeout) {
                kill(pid, Signal::KILL);
            }
        });
        Watchdog { _alive: alive }
    }
}

/// Sends a signal to a child of ours that has not been reaped. The child may have just ended.
pub(crate) fn kill(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ended_already = kill_process(pid, signal);
}

/// A program that is running.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) lines: BufReader<std::process::ChildStdout>,
    _watchdog: Watchdog,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let _watchdog = Watchdog::over(&child);
        Running { child, lines, _watchdog }
    }

    /// Waits for a line of stdout.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end_matches('\n').to_owned()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.child.id(), signal);
    }

    /// Leaves the rest of stdout unread, and closes it.
    #[track_caller]
    pub(crate) fn leave(self) -> (ExitStatus, String) {
        let Running { child, lines, _watchdog } = self;
        drop(lines);
        finish(child)
    }

    /// Waits for the end; gives the status and what was said on stderr.
    #[track_caller]
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let mut rest = Vec::new();
        self.lines.read_to_end(&mut rest).unwrap();
        finish(self.child)
    }
}

#[track_caller]
pub(crate) fn finish(mut child: Child) -> (ExitStatus, String) {
    let pid = child.id();
    let mut rest = String::new();
    child.stderr.take().unwrap().read_to_string(&mut rest).unwrap();
    let status = child.wait().unwrap();
    assert_no_workers(pid);
    (status, rest)
}

/// The workers of `pid` that run tasks: not its zygote.
pub(crate) fn task_workers(pid: u32) -> Vec<u32> {
    workers_of(pid).into_iter().filter(|pid| comm(*pid).starts_with("PoolWorker")).collect()
}

/// The program started by a shell that has done something to its descriptors or signals first.
pub(crate) fn by_shell(script: &str, args: &[&str]) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(program()).args(args);
    prepare(&mut command);
    command
}

/// One finished task, one that takes a minute, and an input that is still open.
pub(crate) fn busy() -> (Running, std::process::ChildStdin) {
    let mut command = wpool(["map", &prebuilt("hello"), "-j", "2"]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut stdin = running.child.stdin.take().unwrap();
    stdin.write_all(b"first:0\nsecond:60000\n").unwrap();
    assert!(running.line().starts_with("hello first"));
    (running, stdin)
}

/// A new terminal: our end, and that of a program.
#[expect(unsafe_code, reason = "there is no safe way to open a terminal without a further dependency")]
pub(crate) fn terminal() -> (File, OwnedFd) {
    let (mut ours, mut theirs) = (-1, -1);
    let none = std::ptr::null_mut();
    // SAFETY: the first two point to integers of ours; the others may be null.
    let opened = unsafe { libc::openpty(&raw mut ours, &raw mut theirs, none, none.cast(), none.cast()) };
    assert_eq!(opened, 0);
    // SAFETY: openpty has just opened both, and nothing else has them.
    unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) }
}
