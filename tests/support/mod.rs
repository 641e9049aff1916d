//! What the integration tests share.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod command;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use wpool::module::ModuleLoader;
use wpool::process::{ExitReason, ExitStatus};
use wpool::{Module, TaskError};

/// The program under test, which is also the worker of every pool here.
pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_wpool"))
}

/// A file of the repository.
pub(crate) fn repo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A loader with the program under test as worker, and a cache of the build's own.
pub(crate) fn loader() -> ModuleLoader {
    Module::loader().program(program()).cache_dir(cache_dir())
}

/// A prebuilt guest.
pub(crate) fn guest(name: &str) -> Module {
    loader().load(repo(&format!("guest/prebuilt/{name}.wasm"))).unwrap()
}

/// A guest that uses every kind of shared object: its text says how.
pub(crate) fn exchange_guest() -> Module {
    wat(include_str!("guests/exchange.wat"))
}

/// A module from its text.
pub(crate) fn wat(text: &str) -> Module {
    loader().from_bytes(text.as_bytes()).unwrap()
}

/// The worker processes (zygotes and compilers too) that `parent` has started and that have not ended. One
/// that is older than this program belongs to another coordinator, which had the same number.
pub(crate) fn workers_of(parent: u32) -> Vec<u32> {
    let is_ours =
        |pid: &u32| parent_named(*pid) == Some(parent) && started_at(*pid) >= started_at(std::process::id());
    pids_of_all().into_iter().filter(is_ours).collect()
}

/// The clock tick at which a process was started; `None`: it is gone.
fn started_at(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

/// The parent that a worker's command line names; `None`: it is no worker.
fn parent_named(pid: u32) -> Option<u32> {
    let cmdline = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    let args: Vec<&str> = cmdline.split('\0').collect();
    args.get(3).filter(|_| args[1] == "__wpool-worker")?.parse().ok()
}

fn pids_of_all() -> Vec<u32> {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect()
}

/// The coordinators that tests of this program have started, and that have ended. Other programs on the
/// machine have their own.
static COORDINATORS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Workers that have outlived a coordinator of this program's tests.
fn orphans() -> Vec<u32> {
    let coordinators = COORDINATORS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let is_orphan = |pid: &u32| parent_named(*pid).is_some_and(|parent| proc_state(parent).is_none());
    coordinators.into_iter().flat_map(workers_of).filter(is_orphan).collect()
}

/// Fails unless every worker process of `parent` is gone within two seconds, and all that it could leave
/// behind too.
#[track_caller]
pub(crate) fn assert_no_workers(parent: u32) {
    COORDINATORS.lock().unwrap_or_else(PoisonError::into_inner).insert(parent);
    wait_until("no worker process is left", Duration::from_secs(2), || workers_of(parent).is_empty());
    assert_eq!(staying(orphans), [0; 0], "workers that have outlived their coordinator");
    assert_eq!(leftovers_of(parent), [""; 0], "left behind by {parent}");
}

/// What `pid` has left behind beside processes: shared memory, sockets with names, temporary files. There is
/// nothing with a name of ours at any time, but for files of the cache while they are written: these bear the
/// writer's number.
fn leftovers_of(pid: u32) -> Vec<String> {
    let ours = |place: &Path| names_in(place).into_iter().filter(|name| name.contains("wpool"));
    let shared = ours(Path::new("/dev/shm")).map(|name| format!("shared memory {name}"));
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let sockets = sockets.lines().filter(|line| line.contains("@wpool")).map(|line| format!("socket {line}"));
    let temporary = names_in(&tmp_of_runs()).into_iter().map(|name| format!("temporary file {name}"));
    let half_written = format!("tmp-{pid}-");
    let cached = names_in(&cache_dir()).into_iter().filter(|name| name.starts_with(&half_written));
    shared.chain(sockets).chain(temporary).chain(cached).collect()
}

/// The directory in which tests write: the build's, or the one that the environment names for a user without
/// access to the build.
pub(crate) fn tmp() -> PathBuf {
    std::env::var_os("TMPDIR_OF_TESTS").unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into()).into()
}

/// A cache of the build's own, for all tests that do not test the cache.
pub(crate) fn cache_dir() -> PathBuf {
    tmp().join("cache")
}

/// The directory for temporary files that runs of the program get by their environment. They make no such
/// files.
pub(crate) fn tmp_of_runs() -> PathBuf {
    let dir = tmp().join("tmp-of-runs");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// What is there now and still is after ten seconds. What comes meanwhile may be another test's.
fn staying<T: PartialEq>(what: impl Fn() -> Vec<T>) -> Vec<T> {
    let end = Instant::now() + Duration::from_secs(10);
    let mut left = what();
    while !left.is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(2));
        let now = what();
        left.retain(|one| now.contains(one));
    }
    left
}

/// Waits for a condition that no event announces.
#[track_caller]
pub(crate) fn wait_until(what: &str, at_most: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + at_most;
    while !holds() {
        assert!(Instant::now() < end, "not within {at_most:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// While it lives, the test has a minute: a test that hangs must not hang the suite, and must say what it
/// hung on. When it ends, nothing of the test may be left in this process.
pub(crate) struct TimeBound {
    _ended: std::sync::mpsc::Sender<()>,
}

/// Tests of this process that are under way. What they have cannot be told apart: the last one to end looks
/// whether anything is left. If each test has a process of its own (`cargo nextest`), that is after every
/// test.
static UNDER_WAY: Mutex<usize> = Mutex::new(0);

/// Ends the test program with a report if the test takes more than a minute.
pub(crate) fn time_bound() -> TimeBound {
    time_bound_of(Duration::from_secs(60))
}

/// As [`time_bound`], for tests that are long.
pub(crate) fn time_bound_of(at_most: Duration) -> TimeBound {
    let (ended, end) = std::sync::mpsc::channel::<()>();
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    *UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    std::thread::spawn(move || {
        if end.recv_timeout(at_most) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            eprintln!("{test} takes more than {at_most:?}; the threads of this program, and its workers:");
            for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
                eprintln!("  {}", state_of(&task.path()));
            }
            for pid in workers_of(std::process::id()) {
                eprintln!("  worker {pid} {}", state_of(Path::new(&format!("/proc/{pid}"))));
            }
            std::process::abort();
        }
    });
    TimeBound { _ended: ended }
}

impl Drop for TimeBound {
    fn drop(&mut self) {
        let mut under_way = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
        *under_way -= 1;
        // Meanwhile no other test begins. One that has failed already may leave what it had.
        if *under_way > 0 || std::thread::panicking() {
            return;
        }
        assert_eq!(staying(held_by_us), [""; 0], "left behind in this process by its tests");
        assert_eq!(leftovers_of(std::process::id()), [""; 0], "left behind by this process's tests");
    }
}

/// Whether each test has a process of its own.
fn is_alone() -> bool {
    std::env::var_os("NEXTEST_EXECUTION_MODE").is_some_and(|mode| mode == "process-per-test")
}

/// The name of a process, as `ps` shows it.
pub(crate) fn comm(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default()
}

/// What this process has that can only be a pool's or a process's: children, memory that is shared with them,
/// their sockets.
fn held_by_us() -> Vec<String> {
    let pid = std::process::id();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let children: Vec<String> =
        tasks.flat_map(|task| std::fs::read_to_string(task.path().join("children"))).collect();
    let children =
        children.iter().flat_map(|pids| pids.split_whitespace()).filter_map(|pid| pid.parse::<u32>().ok());
    // Tests that run the program as a command are not counted here; alone in its process, a test has no
    // other's children.
    let is_ours =
        |pid: &u32| is_alone() || comm(*pid).starts_with("wpool-") || comm(*pid).starts_with("PoolWorker");
    let children: BTreeSet<u32> = children.filter(is_ours).chain(workers_of(pid)).chain(orphans()).collect();
    let children = children.into_iter().map(|pid| format!("process {pid} {}", comm(pid)));
    let open = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .filter_map(|fd| std::fs::read_link(fd.path()).ok());
    let open = open.map(|link| link.to_string_lossy().into_owned());
    let open =
        open.filter(|link| link.contains("memfd:wpool") || link.contains("pidfd") || link.contains("pid:["));
    children.chain(open).collect()
}

/// Name, state and place in the kernel of a process or thread.
fn state_of(proc: &Path) -> String {
    let read = |file: &str| std::fs::read_to_string(proc.join(file)).unwrap_or_default().trim().to_owned();
    let status = read("status");
    let state = status.lines().find(|line| line.starts_with("State")).unwrap_or_default();
    format!("{}: {state} in {}", read("comm"), read("wchan"))
}

/// The state letter of a process in `/proc`; `None` if it does not exist.
pub(crate) fn proc_state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// The processes that run this file.
pub(crate) fn running(program: &Path) -> Vec<u32> {
    let program = program.canonicalize().unwrap();
    // By the command line, which every user may read. Only root may read which file a worker executes.
    let is = |cmdline: Vec<u8>| {
        cmdline.split(|byte| *byte == 0).next() == Some(program.as_os_str().as_encoded_bytes())
    };
    pids_of_all()
        .into_iter()
        .filter(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(is))
        .collect()
}

/// Waits until the processes are gone, zombies too.
#[track_caller]
pub(crate) fn assert_gone(pids: &[u32]) {
    let end = Instant::now() + Duration::from_secs(2);
    loop {
        let left: Vec<u32> = pids.iter().copied().filter(|pid| proc_state(*pid).is_some()).collect();
        if left.is_empty() {
            return;
        }
        let states: Vec<String> =
            left.iter().map(|pid| state_of(Path::new(&format!("/proc/{pid}")))).collect();
        assert!(Instant::now() < end, "not gone after two seconds: {left:?}, {states:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sends a signal to a process that is known to live, or to be unreaped.
pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // It may have been reaped a moment ago.
    let _gone = rustix::process::kill_process(pid, signal);
}

/// A program that was built from `host/examples` or `tests/support`.
pub(crate) fn example(name: &str) -> PathBuf {
    let path = program().with_file_name("examples").join(name);
    assert!(
        path.exists(),
        "{} is not built: run `cargo test`, or `cargo build --release --examples` first",
        path.display()
    );
    path
}

/// A directory for one test, removed with its handle.
pub(crate) fn temp_dir() -> tempfile::TempDir {
    tempfile::tempdir_in(tmp()).unwrap()
}

/// The same program under a name of its own. A link where that may be: another user's program is copied.
pub(crate) fn renamed(program: &Path, name: &Path) {
    if std::fs::hard_link(program, name).is_err() {
        // Not by this process, for the reason that `script` has.
        let copied = std::process::Command::new("cp").arg(program).arg(name).status().unwrap();
        assert!(copied.success());
    }
}

/// The open descriptors of a process, as links. `None`: it may not be looked into, which only root may with a
/// worker.
pub(crate) fn descriptors(pid: u32) -> Option<Vec<PathBuf>> {
    match std::fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(fds) => Some(fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok()).collect()),
        Err(e) => {
            let is_root = rustix::process::geteuid().is_root();
            assert!(e.kind() == std::io::ErrorKind::PermissionDenied && !is_root, "{e}");
            None
        }
    }
}

/// A pipe whose writing end every child inherits by default. A process that has inherited it keeps the pipe
/// open.
pub(crate) struct Inheritable {
    read: std::os::fd::OwnedFd,
    write: std::os::fd::OwnedFd,
}

impl Inheritable {
    pub(crate) fn new() -> Inheritable {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        rustix::io::fcntl_setfd(&read, rustix::io::FdFlags::CLOEXEC).unwrap();
        Inheritable { read, write }
    }

    /// Fails if a process that has been started meanwhile has it. (Another test's child may, for the moment
    /// in which it starts.)
    #[track_caller]
    pub(crate) fn assert_not_inherited(self) {
        drop(self.write);
        let is_closed = || rustix::io::read(&self.read, &mut [0u8; 1]) == Ok(0);
        wait_until("no other process has the descriptor", Duration::from_secs(20), is_closed);
    }
}

/// Writes an executable shell script. It is run with an empty environment, as workers are.
pub(crate) fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    // Another process writes it: were it open for writing in this one, a worker forked at that moment would
    // inherit that, and the script could not be executed ("text file busy").
    let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$2" && chmod 755 "$2""#;
    let done = std::process::Command::new("sh").args(["-c", write, "sh", text]).arg(&path).status().unwrap();
    assert!(done.success());
    path
}

/// Two workers, started in this way.
pub(crate) fn builder(module: &Module, method: wpool::StartMethod) -> wpool::PoolBuilder {
    wpool::Pool::builder(module).start_method(method).processes(2)
}

/// Two workers for a prebuilt guest.
pub(crate) fn pool(module: &str, method: wpool::StartMethod) -> wpool::Pool {
    builder(&guest(module), method).build().unwrap()
}

/// The workers' processes.
pub(crate) fn pids(pool: &wpool::Pool) -> Vec<u32> {
    pool.workers().iter().map(|w| w.pid).collect()
}

/// Hundredths of a second that a process has computed.
pub(crate) fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap_or_default().1.split(' ').collect();
    fields.get(11..13).map_or(0, |times| times.iter().map(|t| t.parse::<u64>().unwrap_or(0)).sum())
}

/// Computes until it should stop, and returns 7.
pub(crate) const LOOKING: &str = r#"(component
    (import "wpool:process/current@0.1.0" (instance $current (export "should-stop" (func (result bool)))))
    (core func $should-stop (canon lower (func $current "should-stop")))
    (core module $m
        (import "host" "should-stop" (func $should-stop (result i32)))
        (func (export "run") (result i32)
            (loop $again (br_if $again (i32.eqz (call $should-stop))))
            (i32.const 7)))
    (core instance $i (instantiate $m (with "host" (instance (export "should-stop" (func $should-stop))))))
    (func (export "run") (result u32) (canon lift (core func $i "run"))))"#;

/// Whether a worker sleeps in a call that it makes for its guest, rather than waits for its next task.
pub(crate) fn sleeps_in_a_call(pid: u32) -> bool {
    let place = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    proc_state(pid) == Some('S') && !place.contains("unix_stream")
}

/// A place for runs of the program: all that they may leave behind lies in it, and is looked for afterwards.
pub(crate) struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    pub(crate) fn new() -> Scene {
        let dir = temp_dir();
        for name in ["tmp", "home", "work"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        Scene { dir }
    }

    /// Where the tests' own files lie: what is in here is not looked at.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("work").join(name)
    }

    /// Writes one of the tests' own files.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    /// The program under test, with nothing in its environment but this place.
    pub(crate) fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(program());
        command.args(args).env_clear().current_dir(self.dir.path().join("work"));
        command.env("WPOOL_CACHE_DIR", self.cache()).env("HOME", self.dir.path().join("home"));
        command.env("TMPDIR", self.dir.path().join("tmp"));
        command
    }

    /// Fails if the run of `pid`, which has ended, left a process, shared memory, a socket or a temporary
    /// file.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self, pid: u32) {
        assert_no_workers(pid);
        let unnamed: Vec<u32> = with_open_file_in(self.dir.path());
        assert_eq!(unnamed, [] as [u32; 0], "processes that have files of the run open");
        for name in ["tmp", "home"] {
            assert_eq!(names_in(&self.dir.path().join(name)), [""; 0], "left in {name}");
        }
        let in_cache = |name: &String| name.starts_with("tmp-");
        let left: Vec<String> = names_in(&self.cache()).into_iter().filter(in_cache).collect();
        assert_eq!(left, [""; 0], "left in the cache");
        let sockets = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
        let place = self.dir.path().to_str().unwrap();
        let named: Vec<&str> = sockets.lines().filter(|line| line.contains(place)).collect();
        assert_eq!(named, [""; 0], "sockets with names");
    }
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The processes, but this one, that have their directory or an open file below `dir`: whatever they call
/// themselves.
fn with_open_file_in(dir: &Path) -> Vec<u32> {
    let links = |pid: &u32| {
        let open =
            std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().map(|e| e.path());
        open.chain([PathBuf::from(format!("/proc/{pid}/cwd"))]).collect::<Vec<_>>()
    };
    let is_below = |link: &PathBuf| std::fs::read_link(link).is_ok_and(|target| target.starts_with(dir));
    let others = pids_of_all().into_iter().filter(|pid| *pid != std::process::id());
    others.filter(|pid| links(pid).iter().any(is_below)).collect()
}

/// How a run of the program ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    /// The most memory that the coordinator has had, in MiB.
    pub(crate) peak_mib: u64,
    pub(crate) took: Duration,
}

impl Ended {
    /// The exit code, and what stderr must contain.
    #[track_caller]
    pub(crate) fn with(&self, code: i32, said: &str) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert!(self.stderr.contains(said), "no {said:?} in {}", self.stderr);
    }
}

/// Runs `command` to its end with `input`, under a watchdog. Afterwards none of its processes may be left.
#[track_caller]
pub(crate) fn run_in(scene: &Scene, mut command: std::process::Command, input: &[u8]) -> Ended {
    use std::io::{Read, Write};
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;

    let began = Instant::now();
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    // A program that does not read all of it is fine.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        out.read_to_end(&mut bytes).map(|_| bytes)
    });
    let talk = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        err.read_to_end(&mut bytes).map(|_| bytes)
    });
    let mut peak_kib = 0;
    let status = loop {
        // It only ever grows: the last look before the end is the best.
        peak_kib = peak_kib.max(memory_peak_kib(pid));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("it did not end within a minute: {command:?}");
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    feeder.join().unwrap();
    let ended = Ended {
        code: status.code(),
        signal: status.signal(),
        stdout: reader.join().unwrap().unwrap(),
        stderr: String::from_utf8(talk.join().unwrap().unwrap()).expect("stderr is text"),
        peak_mib: peak_kib >> 10,
        took: began.elapsed(),
    };
    scene.assert_nothing_left(pid);
    assert_harmless(&ended.stderr);
    ended
}

/// The most memory that a process has had so far.
pub(crate) fn memory_peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).map_or(0, |kib| kib.parse().unwrap())
}

/// The memory that a process shares with no other one.
pub(crate) fn private_memory_kib(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let lines = rollup.lines().filter(|line| line.starts_with("Private_"));
    lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

/// Fails if the text has power over a terminal: control characters, or ones that change the direction of
/// writing.
#[track_caller]
pub(crate) fn assert_harmless(text: &str) {
    let has_power = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let found: Vec<char> = text.chars().filter(|c| has_power(*c)).collect();
    assert!(found.is_empty(), "{found:?} in {text:?}");
}

/// Checks the exit codes of the guest `failing`. `ended`: runs it with a record, as a process of some kind.
pub(crate) fn assert_exit_codes(ended: impl Fn(&str) -> ExitStatus) {
    let failed = |error| ExitStatus { exitcode: 1, reason: ExitReason::Failed(error) };
    assert_eq!(ended("good"), ExitStatus { exitcode: 0, reason: ExitReason::Returned });
    assert_eq!(ended("bad"), failed(TaskError::Failed { message: "bad is bad".to_owned() }));
    let trapped = ended("panic");
    assert!(matches!(
        trapped,
        ExitStatus { exitcode: 1, reason: ExitReason::Failed(TaskError::Trap { .. }) }
    ));
    // The guest's exit, not that of this program.
    assert_eq!(ended("exit"), failed(TaskError::Exited { code: 1 }));
}
