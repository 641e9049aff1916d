//! A worker process: executed for itself (start method `spawn`), or forked by a zygote (`forkserver`).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::exchange::Link;
#[cfg(feature = "fault-points")]
use super::fault;
use super::fault::fault_point;
use super::guest::{CurrentProcess, Guest};
use super::send::{EXIT_SOFTWARE, hello, refuse};
use super::serve;
use super::setup::{load, may_go_on, receive_setup, take_dirs, take_exchange, tick_periods};
use crate::protocol::connection::{Connection, TakesFds};
use crate::protocol::message::{Identity, Setup};
use crate::sandbox::Confinement;
use crate::sys::{self, WorkerPage};

/// Bytes of a process's name that `ps` shows.
const NAME_LEN: usize = 15;

/// Runs a worker that was executed for itself.
pub(super) fn run(connection: &mut Connection<TakesFds>, mut confinement: Confinement) -> i32 {
    hello(connection);
    let (setup, [artefact, page], exchange, dirs) = match receive(connection) {
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
    become_worker(connection, guest, &setup, identity, WorkerFds { page, exchange }, confinement)
}

type ReceivedSetup = (Setup, [OwnedFd; 2], Option<OwnedFd>, Vec<OwnedFd>);

/// Receives the setup, the artefact and the status page, the second socket if there is one, and the granted
/// directories. `Err`: the exit code.
fn receive(connection: &mut Connection<TakesFds>) -> Result<ReceivedSetup, i32> {
    let (setup, fds) = receive_setup(connection)?;
    let exchange = take_exchange(connection, &setup)?;
    let dirs = take_dirs(connection, &setup)?;
    Ok((setup, fds, exchange, dirs))
}

/// The descriptors of one worker, beside its first socket.
pub(super) struct WorkerFds {
    /// The status page.
    pub(super) page: OwnedFd,
    /// The second socket.
    pub(super) exchange: Option<OwnedFd>,
}

/// The part that an executed and a forked worker have in common: takes the last steps of the confinement,
/// then serves.
pub(super) fn become_worker(
    connection: &mut Connection<TakesFds>,
    mut guest: Guest,
    setup: &Setup,
    identity: Identity,
    fds: WorkerFds,
    mut confinement: Confinement,
) -> i32 {
    // The order of the steps: what needs a new descriptor or mapping comes first; then the file system is
    // closed, for this thread and those that it starts; then the runtime starts its threads; the list of
    // system calls comes last, because all of this needs calls that are not on it.
    name_thread(&identity.name);
    let page = match WorkerPage::open(&fds.page) {
        Ok(page) => Arc::new(page),
        Err(e) => return refuse(connection, format!("cannot map the status page: {e}")),
    };
    let ticker = match serve::make_ticker(&guest, connection.carrier().socket(), &page, tick_periods(setup)) {
        Ok(ticker) => ticker,
        Err(e) => return refuse(connection, no_timer(&e)),
    };
    let sender = match connection.carrier().socket().try_clone() {
        Ok(sender) => sender,
        Err(e) => return refuse(connection, format!("cannot copy a descriptor: {e}")),
    };
    // A Process has a session of its own, so that Ctrl-C does not reach it. A SIGINT was sent to it on
    // purpose, and ends it, as it ends a process of Python's multiprocessing.
    if setup.once
        && let Err(e) = sys::die_of_interrupts()
    {
        return refuse(connection, format!("cannot set what a signal does: {e}"));
    }
    let stream = if setup.once { connection.carrier().socket().try_clone().ok() } else { None };
    // The page before the first line of a guest: the initializer may ask for its name, and can be cancelled.
    let link = fds.exchange.map(|socket| Link::new(Arc::new(socket), page.clone(), setup.spins));
    let process = CurrentProcess::new(identity, page, Box::new(|| ticker.notice())).with_link(link);
    guest.enter(process, stream.map(Arc::new));
    // Landlock holds for the thread that asks for it and for its later children only.
    confinement.close_files();
    // Not for every guest: a thread costs time at each start, and memory in each worker.
    if guest.may_wait()
        && let Err(e) = start_runtime(setup.grants.has_dirs(), setup.grants.can_connect())
    {
        return refuse(connection, format!("cannot start a thread: {e}"));
    }
    fault_point!(Unlisted);
    confinement.close_calls();
    let code = if may_go_on(connection, &confinement) {
        serve::serve(connection, sender, &mut guest, &ticker, confinement.status)
    } else {
        EXIT_SOFTWARE
    };
    // The kernel frees the guest with the process. Unmapping it piece by piece would only delay the end.
    std::mem::forget(guest);
    code
}

/// Why there is no timer. Each timer counts as a pending signal of its user.
fn no_timer(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => {
            "cannot make a timer: the limit on pending signals (ulimit -i) allows no more".to_owned()
        }
        _ => format!("cannot make a timer: {error}"),
    }
}

/// Starts a tokio runtime with one thread, on which the engine's WASI waits when a guest sleeps.
///
/// The engine would start a runtime by itself with the first task that waits. That is too late: the list of
/// system calls then allows no new thread, and the files that tell the number of processors cannot be opened.
/// A guest with files gets a second thread, which reads and writes the streams that the guest does not wait
/// for.
///
/// The runtime gets only the drivers that the guest needs. The application that this worker belongs to may
/// have tokio built with more of them, and those make system calls that are not on the list.
fn start_runtime(has_files: bool, connects: bool) -> io::Result<()> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let builder = builder.worker_threads(1).max_blocking_threads(1).thread_keep_alive(Duration::MAX);
    // Without `enable_io` unless it is needed: that driver listens for signals through a socket pair if the
    // application has tokio with signals.
    builder.enable_time();
    if connects {
        builder.enable_io();
    }
    let runtime = builder.build()?;
    // A thread that has run one task has made all system calls of its start.
    let _never_cancelled = runtime.block_on(runtime.spawn(async {}));
    if has_files {
        let _never_cancelled = runtime.block_on(runtime.spawn_blocking(|| ()));
    }
    // The runtime lives as long as the process.
    let runtime: &'static tokio::runtime::Runtime = Box::leak(Box::new(runtime));
    // The engine asks for the current runtime before it makes one of its own. The guard is forgotten because
    // its drop would leave this runtime again.
    std::mem::forget(runtime.enter());
    Ok(())
}

/// Sets the name that `ps` and `/proc/PID/comm` show.
pub(super) fn name_thread(name: &str) {
    let shown: Vec<u8> = name.bytes().filter(|byte| *byte != 0).take(NAME_LEN).collect();
    if let Ok(name) = std::ffi::CString::new(shown) {
        let _only_cosmetic = rustix::thread::set_name(&name);
    }
}
