//! One worker process at a time, over the start methods: items P1 to P52 of Python's contract, as far as they
//! make sense here.

#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal};
use support::{
    assert_gone, assert_no_workers, example, guest, proc_state, repo, time_bound, wait_until, wat,
};
use wpool::process::{
    AlreadyStarted, ExitReason, ExitStatus, NotStarted, active_children, cpu_count, current_process,
    parent_process,
};
use wpool::{BuildError, Limit, Limits, Process, ProcessBuilder, StartError, StartMethod, Target, TaskError};

/// Makes a test of each function, once for each start method. Those under `processes` need a worker that is
/// an operating system process of its own: a signal ends it, it has descriptors, it dies with its parent.
macro_rules! over_start_methods {
    (every { $($every:ident)* } processes { $($process:ident)* }) => {
        over_start_methods!(@ forkserver Forkserver $($every)* $($process)*);
        over_start_methods!(@ spawn Spawn $($every)* $($process)*);
        over_start_methods!(@ thread Thread $($every)*);
    };
    (@ $module:ident $method:ident $($name:ident)*) => {
        mod $module {
            $(#[test]
            fn $name() {
                let _bound = super::time_bound();
                super::$name(wpool::StartMethod::$method)
            })*
        }
    };
}

mod ending;
mod life;
mod program;
mod sentinel;
mod streams;
mod waiting;
mod zygote;

/// Runs `run` of a prebuilt guest with that record.
fn builder(name: &str, record: &str, method: StartMethod) -> ProcessBuilder {
    Process::builder(&guest(name)).target(Target::func("run").arg(record)).start_method(method)
}

/// Says hello after that many milliseconds.
fn hello(millis: u64, method: StartMethod) -> Process {
    builder("hello", &format!("bob:{millis}"), method).build().unwrap()
}

fn failing(record: &str, method: StartMethod) -> Process {
    builder("failing", record, method).build().unwrap()
}

/// Has a `shutdown` that never ends.
const ENDLESS_SHUTDOWN: &str = r#"(component
    (core module $m
        (func (export "run") (result i32) (i32.const 7))
        (func (export "wait") (loop (br 0)))
        (func (export "shutdown") (loop (br 0))))
    (core instance $i (instantiate $m))
    (func (export "run") (result u32) (canon lift (core func $i "run")))
    (func (export "wait") (canon lift (core func $i "wait")))
    (func (export "shutdown") (canon lift (core func $i "shutdown"))))"#;

fn looking(method: StartMethod) -> Process {
    Process::builder(&wat(support::LOOKING)).start_method(method).build().unwrap()
}

fn started(mut process: Process) -> Process {
    process.start().unwrap();
    process
}

/// The guest is at work: it has printed its name, and sleeps.
fn at_work(process: &Process) {
    wait_until("the guest prints", Duration::from_secs(20), || !process.stdout().is_empty());
}

fn is_active(process: &Process) -> bool {
    active_children().iter().any(|child| Some(child.pid) == process.pid() && child.name == process.name())
}

fn returned() -> ExitStatus {
    ExitStatus { exitcode: 0, reason: ExitReason::Returned }
}

fn signaled(signal: i32) -> ExitStatus {
    ExitStatus { exitcode: -signal, reason: ExitReason::Signaled(signal) }
}

fn timed(time: Duration) -> Limits {
    let mut limits = Limits::default();
    limits.time = Some(time);
    limits
}

/// Has a shell run the command in its own way.
fn under_shell(script: &str, command: &Command) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.output().unwrap()
}

/// Has the program `processes` do something with processes.
fn processes_command(what: &str, method: StartMethod) -> Command {
    let mut command = Command::new(example("processes"));
    let method = if method == StartMethod::Spawn { "spawn" } else { "forkserver" };
    command
        .args([what, method])
        .args(["hello", "failing"].map(|name| repo(&format!("guest/prebuilt/{name}.wasm"))));
    command.env("WPOOL_CACHE_DIR", support::cache_dir());
    command
}

/// The last line: `A then B`.
#[track_caller]
fn numbers(output: &Output) -> (String, String) {
    let stdout = std::str::from_utf8(&output.stdout).unwrap();
    let line = stdout.lines().last().and_then(|line| line.split_once(" then "));
    let (before, after) = line.unwrap_or_else(|| panic!("{output:?}"));
    (before.to_owned(), after.to_owned())
}

/// The guest `hello`, with another program as worker.
fn served_by(script: &str, dir: &Path) -> wpool::Module {
    // Compiled by the right program, and found in the cache.
    drop(guest("hello"));
    support::loader()
        .program(support::script(dir, "program", script))
        .load(repo("guest/prebuilt/hello.wasm"))
        .unwrap()
}

/// Waits for its end, after which none of its processes may be left.
#[track_caller]
fn processes(what: &str, method: StartMethod) -> Output {
    let child =
        processes_command(what, method).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert_no_workers(pid);
    output
}

/// How many lines with a guest's name the output has.
fn said(output: &Output) -> usize {
    std::str::from_utf8(&output.stdout).unwrap().lines().filter(|line| line.contains("(process ")).count()
}
