//! What a zygote and a worker process do alike before a guest runs: receive the setup, limit the process,
//! load the module.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::guest::{self, Guest};
use super::send::{refuse, say};
use super::stack;
use crate::policy::Policy;
use crate::protocol::connection::{Carrier, Connection, TakesFds};
use crate::protocol::frame::Kind;
use crate::protocol::message::{self, FromWorker, Setup, ToWorker};
use crate::sandbox::{Confinement, Enforcement, ProcessLimits, Reach};
use crate::spec::{FixedPieces, ProfilingStrategy};
use crate::sys::{self, TickPeriods};

/// The time between two ticks, unless a short time limit or a profile needs more of them.
const TICK: Duration = Duration::from_millis(10);
/// The time between two ticks while the guest waits. They only show that the worker lives, and notice that
/// its coordinator is gone.
const TICK_WAITING: Duration = Duration::from_secs(1);

/// Descriptors of a worker whose guest can reach nothing.
const FILES: u64 = 64;
/// Descriptors of a worker whose guest has files or connections.
const FILES_GRANTED: u64 = 1024;

const WITHOUT_FDS: &str = "a message came without its descriptors";

/// Receives the setup and its first `N` descriptors. Others may be behind these. `Err`: the exit code.
pub(super) fn receive_setup<const N: usize>(
    connection: &mut Connection<TakesFds>,
) -> Result<(Setup, [OwnedFd; N]), i32> {
    let too_long = "the arguments of the initializer are too long";
    let mut fixed = FixedPieces::default();
    let frame = loop {
        match connection.recv() {
            Ok(frame) if frame.kind != Kind::Fixed => break frame,
            Ok(piece) if fixed.add(piece.payload) => {}
            Ok(_) => return Err(refuse(connection, too_long.to_owned())),
            Err(_) => return Err(0),
        }
    };
    match message::read_control(frame) {
        Ok(ToWorker::Setup(mut setup)) if setup.version == crate::protocol::VERSION => {
            if let Some(call) = &mut setup.initializer
                && !call.fixed.attach(fixed)
            {
                return Err(refuse(connection, "the setup came without its arguments".to_owned()));
            }
            match connection.take_fds() {
                Some(fds) => Ok((*setup, fds)),
                None => Err(refuse(connection, WITHOUT_FDS.to_owned())),
            }
        }
        _ => Err(refuse(connection, "the worker program is of another version of wpool".to_owned())),
    }
}

/// Takes the second socket, if the worker gets one. `Err`: the exit code.
pub(super) fn take_exchange(
    connection: &mut Connection<TakesFds>,
    setup: &Setup,
) -> Result<Option<OwnedFd>, i32> {
    if !setup.exchange {
        return Ok(None);
    }
    match connection.take_fds() {
        Some([exchange]) => Ok(Some(exchange)),
        None => Err(refuse(connection, WITHOUT_FDS.to_owned())),
    }
}

/// Takes the descriptors of the granted directories, which come last. `Err`: the exit code.
pub(super) fn take_dirs(connection: &mut Connection<TakesFds>, setup: &Setup) -> Result<Vec<OwnedFd>, i32> {
    let dirs = connection.take_many_fds(setup.grants.dirs.len());
    dirs.ok_or_else(|| refuse(connection, WITHOUT_FDS.to_owned()))
}

/// Confines the process as far as possible before it has read a byte of its module, then loads the module.
pub(super) fn load(
    setup: &Setup,
    artefact: OwnedFd,
    dirs: Vec<OwnedFd>,
    confinement: &mut Confinement,
) -> Result<Guest, String> {
    confinement.limit(worker_limits(setup));
    // SIGXFSZ stays deadly in other workers: nothing in them writes a file, so that it would be the sign of
    // an attack.
    if setup.writes_files() {
        sys::outlive_large_files().map_err(|e| format!("cannot set what a signal does: {e}"))?;
        sys::answer_for_times().map_err(|e| format!("cannot set what a signal does: {e}"))?;
    }
    confinement.isolate();
    let open: Vec<_> = dirs.iter().map(AsFd::as_fd).collect();
    if setup.profile == Some(ProfilingStrategy::JitDump) {
        // The engine writes this file into the current directory. `/tmp` is where the maps for `perf` are,
        // too.
        std::env::set_current_dir("/tmp").map_err(|e| format!("cannot write a profile to /tmp: {e}"))?;
    }
    let guest = Guest::load(setup, &stack::within_process(&setup.limits), artefact.as_fd(), &open)?;
    if setup.profile == Some(ProfilingStrategy::JitDump) {
        std::env::set_current_dir("/").map_err(|e| format!("cannot leave /tmp: {e}"))?;
    }
    // Behind the load, which opens the directories once more for the guest's file system.
    confinement.grant(Reach::new(setup.grants.clone(), dirs));
    Ok(guest)
}

/// The limits of a process that runs guests. They are generous: a guest meets the limits of its store first,
/// and those end its task only.
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
        .saturating_add(guest::ARGUMENTS_LEN_MAX)
        .saturating_add(512 << 20);
    let file = if setup.writes_files() { Policy::FILE } else { 0 };
    let files = if grants.has_dirs() || grants.can_connect() { FILES_GRANTED } else { FILES };
    ProcessLimits { data, cpu_secs: None, file, files }
}

/// Tells the coordinator what is missing of the confinement, if anything is. `false`: the process must not
/// run a module.
pub(super) fn may_go_on(connection: &mut Connection<impl Carrier>, confinement: &Confinement) -> bool {
    match confinement.enforcement() {
        Enforcement::Complete => true,
        Enforcement::Lacking { missing, go_on } => {
            say(connection, &FromWorker::Unconfined { missing });
            go_on
        }
    }
}

/// The times between two ticks. While the guest computes: a twentieth of the time limit, so that a limit is
/// kept to within 5 %. While it waits: at most a quarter of the time within which the coordinator expects a
/// sign of life.
pub(super) fn tick_periods(setup: &Setup) -> TickPeriods {
    let limit = setup.limits.time.map_or(TICK, |time| (time / 20).clamp(Duration::from_millis(1), TICK));
    // A profile cannot have more samples than there are ticks.
    let samples = setup.profile.and_then(ProfilingStrategy::interval);
    let busy = samples.map_or(limit, |interval| interval.min(limit));
    // When a stopped process goes on, the time since the last tick is forgiven: no more than the limit.
    let forgiven = setup.limits.time.unwrap_or(TICK_WAITING);
    let waiting = TICK_WAITING.min(setup.heartbeat / 4).min(forgiven).max(busy);
    TickPeriods { busy, waiting }
}
