//! `wpool run`: one process. Its output goes where ours goes, as it comes (on a terminal without power over that); its exit code is ours.

use std::ffi::OsString;
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::pipe::PipeFlags;

use super::args::RunArgs;
use super::call::say;
use super::exit::{self, Exit, Failure};
use super::profile::Profiles;
use super::report::Report;
use super::{input, output, settings, signals, stdio};
use crate::context::StartMethod;
use crate::error::TaskError;
use crate::process::{ExitReason, ExitStatus, Process, ProcessBuilder};
use crate::spec::Limits;
use crate::target::resolve;

/// How long a process that was told to end may keep us: its output may be stuck in a pipe.
const END_TIME: Duration = Duration::from_secs(2);

pub(super) fn run(args: &RunArgs, report: &Report) -> Result<Exit, Failure> {
    let (path, argv) = command_line(args)?;
    let module = settings::load(path, &args.load, &args.grants, report, false)
        .map_err(|e| Failure::new(exit::of_module_error_in_run(&e), e.to_string()))?;
    // To run a module that is a command is to run that, whatever else there is.
    let func =
        args.target.func.as_deref().or_else(|| module.info().command().map(|command| command.path.as_str()));
    let is_command = settings::is_command(func, &module);
    let looks_like_ours = argv.first().is_some_and(|arg| arg.starts_with('-'));
    if !is_command && !argv.is_empty() && (looks_like_ours || module.info().target(func).is_ok()) {
        let message = "the module has no command that could take arguments: a function's are given with --arg or --kw, and \
             wpool's own options come before the module";
        return Err(Failure::usage(message));
    }
    let limits = settings::limits(&args.limits);
    let target = settings::target(func, &args.target, &module, path, &argv);
    let events = Arc::new(Events::new().map_err(own)?);
    let takes_record = resolve(&target, module.info()).is_ok_and(|resolved| !resolved.free().is_empty());
    let builder = Process::builder(&module).target(target).limits(limits.clone());
    let mut builder = with_input(builder, args, is_command, takes_record, &limits)?;
    builder = builder.policy(settings::granted(&args.grants, &module, report));
    builder = args.name.iter().fold(builder, |builder, name| builder.name(name));
    let mut stdout = Passed { to: stdio::Data::to(rustix::stdio::stdout()), events: events.clone() };
    let mut stderr = Passed { to: stdio::Data::to(rustix::stdio::stderr()), events: events.clone() };
    let builder = builder
        .daemon(true)
        .start_method(match args.worker.threads {
            true => StartMethod::Thread,
            // For one process, a zygote is one too many.
            false => StartMethod::Spawn,
        })
        .on_stdout(move |bytes| stdout.pass(bytes))
        .on_stderr(move |bytes| stderr.pass(bytes));
    let profiles = Profiles::open(args.profile.how.as_ref()).map_err(no_output)?;
    let builder = args.profile.how.iter().fold(builder, |builder, how| builder.profile(how.strategy()));
    let mut process =
        builder.build().map_err(|e| Failure::new(exit::of_build_error_in_run(&e), e.to_string()))?;

    let to_wake = events.clone();
    let on_end = move |_| {
        to_wake.wake();
        signals::Ending::Now
    };
    let received = signals::watch(on_end, || (), || ()).map_err(own)?;
    process.start().map_err(|e| Failure::new(Exit::Own, e.to_string()))?;
    let status = supervise(&mut process, &events, &received);
    profiles.add(process.name(), process.profile());
    let profiled = profiles.finish(report).map_err(no_output);
    if received.get().is_none()
        && let Some(error) = events.failed()
    {
        return Err(no_output(Failure::output(error)));
    }
    // Also of a guest that was asked to stop and has returned what it had.
    let has_returned = status.as_ref().is_some_and(|status| status.reason == ExitReason::Returned);
    if let (true, false, Some(result)) = (has_returned, is_command, process.result_bytes()) {
        output::print(&[&result, &b"\n"[..]].concat()).map_err(no_output)?;
    }
    profiled?;
    match (received.get(), status) {
        (Some(signal), _) => Ok(Exit::Signal(signal)),
        (None, Some(status)) => Ok(end(&status, report)),
        (None, None) => Err(Failure::new(Exit::Own, "the process does not end")),
    }
}

/// An exit code of `map` would look like the guest's own here.
fn no_output(failure: Failure) -> Failure {
    match failure.exit {
        Exit::Io => Failure { exit: Exit::Own, ..failure },
        _ => failure,
    }
}

fn own(error: impl Into<std::io::Error>) -> Failure {
    Failure::new(Exit::Own, format!("cannot run the process: {}", stdio::words(&error.into())))
}

/// Waits for the end, which a signal or a closed output brings about. `None` if even that does not.
fn supervise(process: &mut Process, events: &Events, received: &signals::Received) -> Option<ExitStatus> {
    loop {
        let sentinel = process.sentinel().expect("the process has been started");
        let mut fds = [PollFd::new(&sentinel, PollFlags::IN), PollFd::new(&events.woken, PollFlags::IN)];
        // An interrupted wait is a turn like any other.
        let _interrupted = rustix::event::poll(&mut fds, None);
        if !fds[0].revents().is_empty() {
            return process.join().ok();
        }
        if received.get().is_some() || events.has_failed() {
            let _ended_meanwhile = match received.get() {
                // Ctrl-C: a guest that looks may end in its own way.
                Some(signal_hook::consts::SIGINT) => process.interrupt(),
                _ => process.terminate(),
            };
            return process.join_timeout(END_TIME).ok().flatten();
        }
    }
}

/// What the process's and the signals' threads tell the main thread.
struct Events {
    woken: OwnedFd,
    waker: OwnedFd,
    failed: Mutex<Option<std::io::Error>>,
}

impl Events {
    fn new() -> rustix::io::Result<Events> {
        let (woken, waker) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Events { woken, waker, failed: Mutex::new(None) })
    }

    fn wake(&self) {
        // Full means that a wake-up is pending already.
        let _pending = rustix::io::write(&self.waker, b"!");
    }

    /// Does a write for the guest. The first error ends the process.
    fn attempt(&self, write: impl FnOnce() -> std::io::Result<()>) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.is_none()
            && let Err(e) = write()
        {
            *failed = Some(e);
            self.wake();
        }
    }

    /// Never waits: the lock is held while a write is stuck.
    fn has_failed(&self) -> bool {
        self.failed.try_lock().is_ok_and(|failed| failed.is_some())
    }

    fn failed(&self) -> Option<std::io::Error> {
        self.failed.try_lock().ok()?.take()
    }
}

/// One of the guest's streams, and where it goes. It ends when it is dropped.
struct Passed {
    to: stdio::Data,
    events: Arc<Events>,
}

impl Passed {
    fn pass(&mut self, bytes: &[u8]) {
        let Passed { to, events } = self;
        events.attempt(|| to.write(bytes));
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        let Passed { to, events } = self;
        events.attempt(|| to.finish());
    }
}

/// The module, and the arguments of its command.
fn command_line(args: &RunArgs) -> Result<(&Path, Vec<String>), Failure> {
    let (path, argv) = args.command.split_first().expect("clap wants one at least");
    // Right behind the module it ends nothing, and is what many are used to write there.
    let argv = argv.strip_prefix(&[OsString::from("--")]).unwrap_or(argv);
    let text = |arg: &OsString| {
        let text = arg.to_str().map(str::to_owned);
        text.ok_or_else(|| Failure::usage(format!("{arg:?} is not UTF-8, as a guest's argument must be")))
    };
    Ok((Path::new(path), argv.iter().map(text).collect::<Result<_, _>>()?))
}

/// Adds the input. What comes from outside is not waited for before a command starts: it may never read it.
fn with_input(
    builder: ProcessBuilder,
    args: &RunArgs,
    is_command: bool,
    takes_record: bool,
    limits: &Limits,
) -> Result<ProcessBuilder, Failure> {
    let stdin = Path::new("-");
    let is_wanted = (is_command || takes_record) && !std::io::stdin().is_terminal();
    let from = args.input.as_deref().or_else(|| is_wanted.then_some(stdin));
    match from {
        None => Ok(builder),
        Some(path) if is_command && input::is_stdin(path) => Ok(builder.stdin(Stdin)),
        Some(path) => Ok(builder.input(read_input(path, limits)?)),
    }
}

/// Our standard input, as it comes.
struct Stdin;

impl Read for Stdin {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        stdio::read(rustix::stdio::stdin(), buf)
    }
}

/// A whole input: it is sent with the task.
fn read_input(path: &Path, limits: &Limits) -> Result<Vec<u8>, Failure> {
    let name = if input::is_stdin(path) { "standard input".to_owned() } else { path.display().to_string() };
    let cannot = |e: std::io::Error| Failure::usage(format!("cannot read {name}: {}", stdio::words(&e)));
    let most = limits.input as u64;
    let mut bytes = Vec::new();
    let read = match input::is_stdin(path) {
        true => Stdin.take(most + 1).read_to_end(&mut bytes),
        false => File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)),
    };
    read.map_err(cannot)?;
    match bytes.len() as u64 > most {
        true => Err(Failure::usage(format!("{name} is over the limit of {most} bytes (--max-input)"))),
        false => Ok(bytes),
    }
}

/// Says what the guest has not said itself.
fn end(status: &ExitStatus, report: &Report) -> Exit {
    match &status.reason {
        ExitReason::Returned | ExitReason::Failed(TaskError::Exited { .. }) => {}
        ExitReason::Failed(error) => say(error, report),
        ExitReason::Signaled(signal) => {
            report.error(&format!("the process was ended by {}", crate::spec::Exit::Signal(*signal)))
        }
        ExitReason::Unknown => report.error("the process ended without a word, and how is unknown"),
        ExitReason::Exited(code) => {
            report.error(&format!("the process ended without a word, with exit code {code}"))
        }
    }
    exit::of_process(status)
}
