//! `wpool run`: one process. Its output goes to our own streams as it comes, escaped on a terminal. Its exit
//! code is ours.

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
use super::choices::ProfileArg;
use super::exit::{self, Cause, CliError, OrExit, WpoolExit};
use super::failures::say;
use super::profile::Profiles;
use super::report::Report;
use super::shares::{OpenShares, RecordForm, SharedObjects, StreamUse};
use super::{input, output, settings, signals, stdio};
use crate::context::StartMethod;
use crate::error::TaskError;
use crate::module::Module;
use crate::process::{ExitReason, ExitStatus, Process, ProcessBuilder};
use crate::target::resolve;

/// How long to wait for a process that was told to end. Its output may be stuck in a pipe.
const END_TIME: Duration = Duration::from_secs(2);

pub(super) fn run(args: &RunArgs, report: &Report) -> Result<WpoolExit, CliError> {
    let (path, argv) = command_line(args)?;
    let shared = SharedObjects::new(&args.shared, settings::policy(&args.grants))?;
    let policy = shared.policy();
    let loader = settings::loader(&args.load).policy(policy.clone());
    let module = settings::load(path, &loader, report)
        .map_err(|e| CliError::new(Cause::of_module(&e).exit_of_run(), e.to_string()))?;
    // Without --func, a module that has a command runs the command, whatever else it exports.
    let command = module.info().command().map(|command| command.path.as_str());
    let func = args.target.func.as_deref().or(command);
    let is_command = settings::is_command(func, &module);
    check_arguments(is_command, func, &argv, &module)?;
    let target = settings::target(func, &args.target, &module, path, &argv);
    let wakeups = Arc::new(Wakeups::new().map_err(own)?);
    let takes_record = resolve(&target, module.info()).is_ok_and(|resolved| !resolved.free().is_empty());
    let builder = Process::builder(&module).target(target).policy(policy.clone());
    let reads = Reads { is_command, takes_record, stdin_is_taken: shared.reads_stdin() };
    let builder = with_input(builder, args, reads)?;
    settings::warn_of_grants(&policy, &module, report);
    let profiles = Profiles::open(args.profile.how.as_ref()).map_err(own_if_io)?;
    let process = with_output(with_flags(builder, args), &wakeups)
        .build()
        .map_err(|e| CliError::new(Cause::of_build(&e).exit_of_run(), e.to_string()))?;
    let stdin_is_free = args.input.as_deref().is_none_or(|path| !input::is_stdin(path));
    let streams = StreamUse { stdin_is_free, ..StreamUse::ALL_FREE };
    let shares = shared.open(std::iter::empty(), streams, RecordForm::LINES)?;
    run_process(process, &wakeups, Beside { profiles, shares }, is_command, report)
}

/// What goes on beside the process.
struct Beside {
    profiles: Profiles,
    shares: OpenShares,
}

/// Runs the process to its end, and returns its exit as ours.
fn run_process(
    mut process: Process,
    wakeups: &Arc<Wakeups>,
    Beside { profiles, shares }: Beside,
    is_command: bool,
    report: &Report,
) -> Result<WpoolExit, CliError> {
    let to_wake = wakeups.clone();
    let on_end = move |_| {
        to_wake.wake();
        signals::Ending::Now
    };
    let received = signals::watch(on_end, || (), || ()).map_err(own)?;
    let to_end = wakeups.clone();
    let shares = shares.start(move || to_end.attempt(|| Err(std::io::ErrorKind::Other.into())));
    let shares = shares.map_err(own_if_io)?;
    process.start().map_err(|e| CliError::new(WpoolExit::Own, e.to_string()))?;
    let status = supervise(&mut process, wakeups, &received);
    profiles.add(process.name(), process.profile());
    let profiled = profiles.finish(report).map_err(own_if_io);
    let shared = shares.finish(report).map_err(own_if_io);
    if received.get().is_none() {
        shared?;
    }
    if received.get().is_none()
        && let Some(error) = wakeups.failed()
    {
        return Err(own_if_io(CliError::output(error)));
    }
    // A guest that was asked to stop may also return what it has.
    let has_returned = status.as_ref().is_some_and(|status| status.reason == ExitReason::Returned);
    if let (true, false, Some(result)) = (has_returned, is_command, process.result_bytes()) {
        output::print(&[&result, &b"\n"[..]].concat()).map_err(own_if_io)?;
    }
    profiled?;
    match (received.get(), status) {
        (Some(signal), _) => Ok(WpoolExit::Signal(signal)),
        (None, Some(status)) => Ok(end(&status, report)),
        (None, None) => Err(CliError::new(WpoolExit::Own, "the process does not end")),
    }
}

/// Refuses arguments for a function that is no command. A function that does not exist is reported later,
/// unless the arguments look like options of wpool.
fn check_arguments(
    is_command: bool,
    func: Option<&str>,
    argv: &[String],
    module: &Module,
) -> Result<(), CliError> {
    let looks_like_ours = argv.first().is_some_and(|arg| arg.starts_with('-'));
    if !is_command && !argv.is_empty() && (looks_like_ours || module.info().target(func).is_ok()) {
        let message = "the module has no command that could take arguments: a function's are given with \
                       --arg or --kw, and wpool's own options come before the module";
        return Err(CliError::usage(message));
    }
    Ok(())
}

fn with_flags(builder: ProcessBuilder, args: &RunArgs) -> ProcessBuilder {
    // One process does not need a zygote.
    let method = if args.worker.threads { StartMethod::Thread } else { StartMethod::Spawn };
    let builder = builder.limits(settings::limits(&args.limits)).daemon(true).start_method(method);
    let builder = settings::given(builder, args.name.as_ref(), |builder, name| builder.name(name));
    let strategy = args.profile.how.as_ref().map(ProfileArg::strategy);
    settings::given(builder, strategy, ProcessBuilder::profile)
}

/// Passes the guest's streams to our own ones.
fn with_output(builder: ProcessBuilder, wakeups: &Arc<Wakeups>) -> ProcessBuilder {
    let passed = |fd| Passed { to: stdio::GuestData::to(fd), wakeups: wakeups.clone() };
    let (mut stdout, mut stderr) = (passed(rustix::stdio::stdout()), passed(rustix::stdio::stderr()));
    builder.on_stdout(move |bytes| stdout.pass(bytes)).on_stderr(move |bytes| stderr.pass(bytes))
}

/// Replaces an exit code of `map`, which would look like the guest's own.
fn own_if_io(failure: CliError) -> CliError {
    if failure.exit == WpoolExit::Io { CliError { exit: WpoolExit::Own, ..failure } } else { failure }
}

fn own(error: impl Into<std::io::Error>) -> CliError {
    let failed = Err::<std::convert::Infallible, _>(error.into());
    let Err(failure) = failed.or_exit(WpoolExit::Own, || "cannot run the process".to_owned());
    failure
}

/// Waits for the process to end. A signal, or an output that cannot be written, ends it. `None` if it does
/// not end.
fn supervise(
    process: &mut Process,
    wakeups: &Wakeups,
    received: &signals::ReceivedSignal,
) -> Option<ExitStatus> {
    loop {
        let sentinel = process.sentinel().expect("the process has been started");
        let mut fds = [PollFd::new(&sentinel, PollFlags::IN), PollFd::new(&wakeups.woken, PollFlags::IN)];
        // An interrupted wait is one more turn of the loop.
        let _interrupted = rustix::event::poll(&mut fds, None);
        if !fds[0].revents().is_empty() {
            return process.join().ok();
        }
        if received.get().is_some() || wakeups.has_failed() {
            let _ended_meanwhile = match received.get() {
                // Ctrl-C: a guest that looks for an interrupt may end by itself.
                Some(signal_hook::consts::SIGINT) => process.interrupt(),
                _ => process.terminate(),
            };
            return process.join_timeout(END_TIME).ok().flatten();
        }
    }
}

/// What the threads of the process and of the signals tell the main thread.
struct Wakeups {
    woken: OwnedFd,
    waker: OwnedFd,
    failed: Mutex<Option<std::io::Error>>,
}

impl Wakeups {
    fn new() -> rustix::io::Result<Wakeups> {
        let (woken, waker) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Wakeups { woken, waker, failed: Mutex::new(None) })
    }

    fn wake(&self) {
        // Full means that a wake-up is pending already.
        let _pending = rustix::io::write(&self.waker, b"!");
    }

    /// Writes for the guest. The first error ends the process.
    fn attempt(&self, write: impl FnOnce() -> std::io::Result<()>) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.is_none()
            && let Err(e) = write()
        {
            *failed = Some(e);
            self.wake();
        }
    }

    /// Never waits, because a write that is stuck holds the lock.
    fn has_failed(&self) -> bool {
        self.failed.try_lock().is_ok_and(|failed| failed.is_some())
    }

    fn failed(&self) -> Option<std::io::Error> {
        self.failed.try_lock().ok()?.take()
    }
}

/// One of the guest's streams, and where it goes. The stream ends when this is dropped.
struct Passed {
    to: stdio::GuestData,
    wakeups: Arc<Wakeups>,
}

impl Passed {
    fn pass(&mut self, bytes: &[u8]) {
        let Passed { to, wakeups } = self;
        wakeups.attempt(|| to.write(bytes));
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        let Passed { to, wakeups } = self;
        wakeups.attempt(|| to.finish());
    }
}

/// The module, and the arguments of its command.
fn command_line(args: &RunArgs) -> Result<(&Path, Vec<String>), CliError> {
    let (path, argv) = args.command.split_first().expect("clap requires at least one");
    // A `--` directly behind the module: many users write one there, and the guest should not get it.
    let argv = argv.strip_prefix(&[OsString::from("--")]).unwrap_or(argv);
    let text = |arg: &OsString| {
        let text = arg.to_str().map(str::to_owned);
        text.ok_or_else(|| CliError::usage(format!("{arg:?} is not UTF-8, as a guest's argument must be")))
    };
    Ok((Path::new(path), argv.iter().map(text).collect::<Result<_, _>>()?))
}

/// What a process takes as its input.
#[derive(Debug, Clone, Copy)]
struct Reads {
    is_command: bool,
    takes_record: bool,
    /// `--fill NAME=-` reads standard input.
    stdin_is_taken: bool,
}

/// Adds the input. A command starts before its standard input is read, because it may never read it.
fn with_input(builder: ProcessBuilder, args: &RunArgs, reads: Reads) -> Result<ProcessBuilder, CliError> {
    let Reads { is_command, takes_record, stdin_is_taken } = reads;
    let stdin = Path::new("-");
    let is_wanted = (is_command || takes_record) && !stdin_is_taken && !std::io::stdin().is_terminal();
    let from = args.input.as_deref().or_else(|| is_wanted.then_some(stdin));
    match from {
        None => Ok(builder),
        Some(path) if is_command && input::is_stdin(path) => {
            input::readable_stdin()?;
            Ok(builder.stdin(OwnStdin))
        }
        Some(path) => Ok(builder.input(read_input(path, settings::limits(&args.limits).input)?)),
    }
}

/// Our standard input, as it comes.
struct OwnStdin;

impl Read for OwnStdin {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        stdio::read(rustix::stdio::stdin(), buf)
    }
}

/// Reads a whole input, which is sent with the task. `most`: the limit in bytes.
fn read_input(path: &Path, most: usize) -> Result<Vec<u8>, CliError> {
    let name = if input::is_stdin(path) { "standard input".to_owned() } else { path.display().to_string() };
    let mut bytes = Vec::new();
    // One byte more than the limit shows that the input is over it.
    let limit = (most as u64).saturating_add(1);
    let read = if input::is_stdin(path) {
        OwnStdin.take(limit).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.or_exit(WpoolExit::Usage, || format!("cannot read {name}"))?;
    if bytes.len() > most {
        return Err(CliError::usage(format!("{name} is over the limit of {most} bytes (--max-input)")));
    }
    Ok(bytes)
}

/// Reports an end that the guest has not reported itself.
fn end(status: &ExitStatus, report: &Report) -> WpoolExit {
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
