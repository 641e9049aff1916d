//! The worker side: what runs in a compiler, zygote or worker process, and in a worker thread; nowhere else.
//!
//! [`main`] confines the process as far as it can before it reads anything, then plays its role. [`thread_main`] is the other way in, which
//! confines nothing. The only side that knows the engine.

mod compiler;
#[cfg(feature = "fault-points")]
mod fault;
mod guest;
mod life;
mod outbox;
mod serve;
mod stack;
mod thread;
mod zygote;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use self::guest::{Guest, Me};
pub(crate) use self::life::Life;
pub(crate) use self::thread::thread_main;
use crate::policy::Policy;
use crate::protocol::connection::{Carrier, Connection, TakesFds};
use crate::protocol::frame::Caps;
use crate::protocol::message::{self, FromWorker, Identity, Setup, ToWorker};
use crate::sandbox::{Confinement, ProcessLimits, Reach, Verdict};
use crate::spec::{ProcessRole, ProfilingStrategy, Sandbox};
use crate::sys::{self, WorkerPage};

/// A place where a test can have the worker die; nothing without the feature `fault-points`.
macro_rules! fault_point {
    ($phase:ident) => {
        #[cfg(feature = "fault-points")]
        $crate::worker::fault::hit($crate::spec::FaultPhase::$phase);
    };
}
use fault_point;

/// The version of the engine that this program is linked with.
pub(crate) const ENGINE_VERSION: &str = wasmtime_environ::VERSION;

/// The exit code of a worker that met an error of ours rather than of its guest (sysexits' EX_SOFTWARE).
const EXIT_SOFTWARE: i32 = 70;

/// The time between two ticks, unless a short time limit asks for more precision.
const TICK: Duration = Duration::from_millis(10);

/// What a zygote is called in `ps`, and a worker until it knows its name.
const ZYGOTE_NAME: &str = "wpool-zygote";

/// As much of a worker's name as `ps` shows: 15 bytes.
fn comm_of(name: &str) -> Vec<u8> {
    name.bytes().filter(|byte| *byte != 0).take(15).collect()
}

/// The whole life of a worker process. `None`: the arguments were not ours.
pub(crate) fn main(args: Option<((ProcessRole, u32), Sandbox)>) -> ! {
    let Some(((role, parent), sandbox)) = args else { sys::exit_now(EXIT_SOFTWARE) };
    sys::keep_freed_memory();
    // Before anything is changed that other threads may rely on.
    let unfit = unfit();
    if unfit.is_none() {
        // What found the libraries of this program has done its work. Without a NUL in it, the name is a C string.
        std::ffi::CString::new(crate::sys::LIBRARIES).iter().for_each(|name| sys::forget_variable(name));
    }
    let confinement = Confinement::begin(sandbox, role, parent);
    name_thread(match role {
        ProcessRole::Compiler => "wpool-compiler",
        ProcessRole::Zygote => ZYGOTE_NAME,
        ProcessRole::Worker => "wpool-worker",
    });
    // Nobody reads a worker's stderr: a panic is told to the coordinator as what ended this process.
    std::panic::set_hook(Box::new(|_| {}));
    let code = match take_socket() {
        Ok(socket) => {
            let mut connection = Connection::new(TakesFds::new(socket), Caps::COORDINATOR);
            let code = match unfit {
                Some(why) => refuse(&mut connection, format!("{}: {why}", message::UNFIT)),
                None => play(role, confinement, &mut connection),
            };
            // Open to the last: a coordinator that sees it closed makes sure that the process ends, and takes its exit code from it.
            std::mem::forget(connection);
            code
        }
        Err(_) => EXIT_SOFTWARE,
    };
    // No destructors: an engine with signal handlers and half-read sockets has nothing to say any more.
    sys::exit_now(code)
}

/// Why no worker can do its work in this process, however it goes on.
fn unfit() -> Option<String> {
    if crate::sys::has_threads() {
        return Some(crate::protocol::message::INIT_TOO_LATE.to_owned());
    }
    // The engine would find out in the midst of loading, and call it a fault of the module's.
    let why = sys::may_make_code().err()?;
    Some(format!(
        "this process may not make machine code executable ({why}): MemoryDenyWriteExecute of systemd, PR_SET_MDWE, SELinux or a filter of \
         system calls forbids it"
    ))
}

/// Moves the socket from standard input out of a guest's way.
fn take_socket() -> rustix::io::Result<OwnedFd> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(socket)
}

fn play(role: ProcessRole, confinement: Confinement, connection: &mut Connection<TakesFds>) -> i32 {
    contained(connection, |connection| match role {
        ProcessRole::Compiler => compiler::run(connection, confinement),
        ProcessRole::Zygote => zygote::run(connection, confinement),
        ProcessRole::Worker => run_worker(connection, confinement),
    })
}

/// Gives the exit code of `role`. A panic is told to the coordinator as what ended it.
fn contained<C: Carrier>(
    connection: &mut Connection<C>,
    role: impl FnOnce(&mut Connection<C>) -> i32,
) -> i32 {
    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| role(connection)));
    match played {
        Ok(code) => code,
        Err(panic) => {
            let text =
                panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            refuse(connection, format!("{}: {}", message::PANICKED, text.unwrap_or("without a word")))
        }
    }
}

/// Says why this worker gives up, and gives the exit code to end with.
fn refuse(connection: &mut Connection<impl Carrier>, reason: String) -> i32 {
    say(connection, &FromWorker::Refused { reason });
    EXIT_SOFTWARE
}

/// Sends a message. A coordinator that is gone needs none.
fn say(connection: &mut Connection<impl Carrier>, message: &FromWorker) {
    let mut bytes = Vec::new();
    message::write_control(&mut bytes, message);
    let _gone = connection.send(&bytes);
}

fn hello(connection: &mut Connection<impl Carrier>) {
    say(connection, &FromWorker::Hello { version: crate::protocol::VERSION });
}

/// The setup and the descriptors beside it, those of directories last, or the exit code to end with.
fn receive_setup<const N: usize>(
    connection: &mut Connection<TakesFds>,
) -> Result<(Setup, [OwnedFd; N], Vec<OwnedFd>), i32> {
    let Ok(frame) = connection.recv() else { return Err(0) };
    match message::read_control(frame) {
        Ok(ToWorker::Setup(setup)) if setup.version == crate::protocol::VERSION => {
            let count = setup.grants.dirs.len();
            match connection.take_fds().and_then(|fds| Some((fds, connection.take_many_fds(count)?))) {
                Some((fds, dirs)) => Ok((*setup, fds, dirs)),
                None => Err(refuse(connection, "the setup came without its descriptors".to_owned())),
            }
        }
        _ => Err(refuse(connection, "the worker program is of another version of wpool".to_owned())),
    }
}

/// The descriptors of a worker whose guest can reach nothing, and of one that has files and connections.
const FILES: u64 = 64;
const FILES_GRANTED: u64 = 1024;

/// The limits of a process that runs guests. Generous: the store's own limits are the ones that a guest meets first.
fn worker_limits(setup: &Setup) -> ProcessLimits {
    let Setup { limits, grants, .. } = setup;
    let payloads = (limits.input as u64).saturating_add(limits.output as u64);
    // A result travels as it is, or is taken apart into values.
    let payloads = payloads.saturating_mul(3).max(payloads.saturating_add(guest::values_len_max(limits)));
    let tables = (limits.table_elements as u64).saturating_mul(guest::TABLE_ELEMENT_LEN);
    let data = limits
        .memory
        .saturating_mul(2)
        .saturating_add(payloads)
        .saturating_add(tables)
        .saturating_add(512 << 20);
    let file = if setup.writes_files() { Policy::FILE } else { 0 };
    let files = if grants.has_dirs() || grants.can_connect() { FILES_GRANTED } else { FILES };
    ProcessLimits { data, cpu_secs: None, file, files }
}

/// A worker that was executed for itself (start method `spawn`).
fn run_worker(connection: &mut Connection<TakesFds>, mut confinement: Confinement) -> i32 {
    hello(connection);
    let (setup, [artefact, page], dirs) = match receive_setup(connection) {
        Ok(received) => received,
        Err(code) => return code,
    };
    let guest = match load(&setup, artefact, dirs, &mut confinement) {
        Ok(guest) => guest,
        Err(reason) => return refuse(connection, reason),
    };
    let identity = setup.identity.clone().unwrap_or(Identity { name: "worker".to_owned(), index: 0 });
    #[cfg(feature = "fault-points")]
    fault::arm(setup.fault, if setup.once { 1 } else { identity.index });
    fault_point!(Start);
    become_worker(connection, guest, &setup, identity, page, confinement)
}

/// Confines the process as far as it can before it has seen anything of its module, and loads that.
fn load(
    setup: &Setup,
    artefact: OwnedFd,
    dirs: Vec<OwnedFd>,
    confinement: &mut Confinement,
) -> Result<Guest, String> {
    confinement.limit(worker_limits(setup));
    if setup.writes_files() {
        sys::outlive_large_files().map_err(|e| format!("cannot set what a signal does: {e}"))?;
        sys::answer_for_times().map_err(|e| format!("cannot set what a signal does: {e}"))?;
    }
    confinement.isolate();
    let open: Vec<_> = dirs.iter().map(AsFd::as_fd).collect();
    if setup.profile == Some(ProfilingStrategy::JitDump) {
        // The engine makes its file where the process is. Beside those for `perf`'s maps is the place for it.
        std::env::set_current_dir("/tmp").map_err(|e| format!("cannot write a profile to /tmp: {e}"))?;
    }
    let guest = Guest::load(setup, &stack::within_process(&setup.limits), artefact.as_fd(), &open)?;
    if setup.profile == Some(ProfilingStrategy::JitDump) {
        std::env::set_current_dir("/").map_err(|e| format!("cannot leave /tmp: {e}"))?;
    }
    confinement.grant(Reach::new(setup.grants.clone(), dirs));
    Ok(guest)
}

/// From here on a forked and an executed worker are the same.
fn become_worker(
    connection: &mut Connection<TakesFds>,
    mut guest: Guest,
    setup: &Setup,
    identity: Identity,
    page: OwnedFd,
    mut confinement: Confinement,
) -> i32 {
    name_thread(&identity.name);
    let page = match WorkerPage::open(&page) {
        Ok(page) => Arc::new(page),
        Err(e) => return refuse(connection, format!("cannot map the status page: {e}")),
    };
    let ticker = match serve::make_ticker(&guest, connection.carrier().socket(), &page, period(setup)) {
        Ok(ticker) => ticker,
        Err(e) => return refuse(connection, no_timer(&e)),
    };
    let sender = match connection.carrier().socket().try_clone() {
        Ok(sender) => sender,
        Err(e) => return refuse(connection, format!("cannot copy a descriptor: {e}")),
    };
    // A session of its own: no Ctrl-C reaches it, only who means it.
    if setup.once
        && let Err(e) = sys::die_of_interrupts()
    {
        return refuse(connection, format!("cannot set what a signal does: {e}"));
    }
    let stream = if setup.once { connection.carrier().socket().try_clone().ok() } else { None };
    guest.enter(Me::new(identity, page), stream.map(Arc::new));
    confinement.close_files();
    if guest.may_wait()
        && let Err(e) = start_runtime(setup.grants.has_dirs(), setup.grants.can_connect())
    {
        return refuse(connection, format!("cannot start a thread: {e}"));
    }
    fault_point!(Unlisted);
    confinement.close_calls();
    let code = match may_go_on(connection, &confinement) {
        true => serve::serve(connection, sender, &mut guest, &ticker, confinement.status),
        false => EXIT_SOFTWARE,
    };
    // It ends with the process, all at once.
    std::mem::forget(guest);
    code
}

/// Each worker's timer counts as a signal that waits.
fn no_timer(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => {
            "cannot make a timer: the limit on pending signals (ulimit -i) allows no more".to_owned()
        }
        _ => format!("cannot make a timer: {error}"),
    }
}

/// Tells the coordinator what of the confinement is missing, if anything is. `false`: without it, nothing may be run.
fn may_go_on(connection: &mut Connection<impl Carrier>, confinement: &Confinement) -> bool {
    match confinement.verdict() {
        Verdict::Whole => true,
        Verdict::Lacking { missing, go_on } => {
            say(connection, &FromWorker::Unconfined { missing });
            go_on
        }
    }
}

/// Starts what the engine's WASI waits with, when a guest sleeps: a runtime with one thread. It would start one by itself, but too late: with
/// the first task there are no new threads any more, nor files that say how many processors there are. If the guest has files, there is one
/// more thread: streams that are not waited for are read and written there.
///
/// Of the runtime's drivers it gets those that a guest needs: the program that this worker is may have been built with others, which
/// make calls that are not on the list.
fn start_runtime(has_files: bool, connects: bool) -> std::io::Result<()> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let builder = builder.worker_threads(1).max_blocking_threads(1).thread_keep_alive(Duration::MAX);
    builder.enable_time();
    if connects {
        builder.enable_io();
    }
    let runtime = builder.build()?;
    // Once a thread has done something, all that a thread does at its beginning is done.
    let _never_cancelled = runtime.block_on(runtime.spawn(async {}));
    if has_files {
        let _never_cancelled = runtime.block_on(runtime.spawn_blocking(|| ()));
    }
    // For the whole life of the process.
    let runtime: &'static tokio::runtime::Runtime = Box::leak(Box::new(runtime));
    std::mem::forget(runtime.enter());
    Ok(())
}

/// The time between two ticks.
fn period(setup: &Setup) -> Duration {
    let limit = setup.limits.time.map_or(TICK, |time| (time / 20).clamp(Duration::from_millis(1), TICK));
    let looks = setup.profile.and_then(ProfilingStrategy::interval);
    looks.map_or(limit, |interval| interval.min(limit))
}

/// Shown by `ps` and in `/proc/PID/comm`.
fn name_thread(name: &str) {
    if let Ok(name) = std::ffi::CString::new(comm_of(name)) {
        let _only_cosmetic = rustix::thread::set_name(&name);
    }
}
