//! The zygote: loads the module, then forks a worker for each request. It has one thread, and never runs
//! guest code.

use std::os::fd::OwnedFd;

#[cfg(feature = "fault-points")]
use super::fault;
use super::fault::fault_point;
use super::guest::Guest;
use super::process::{WorkerFds, become_worker};
use super::send::{EXIT_SOFTWARE, hello, refuse, say};
use super::setup::{load, may_go_on, receive_setup, take_dirs, take_exchange};
use crate::protocol::connection::{Connection, TakesFds};
use crate::protocol::frame::Caps;
use crate::protocol::message::{self, FromWorker, Identity, Setup, ToWorker};
use crate::sandbox::Confinement;
use crate::spec::Status;
use crate::sys::{self, Fork};

/// What a forked child needs in order to become a worker.
struct ForkedWorker {
    identity: Identity,
    socket: OwnedFd,
    fds: WorkerFds,
}

/// Runs the zygote until its coordinator is gone. In each forked child, runs that worker instead.
pub(super) fn run(connection: &mut Connection<TakesFds>, mut confinement: Confinement) -> i32 {
    hello(connection);
    let received = receive_setup(connection)
        .and_then(|(setup, [artefact])| Ok((take_dirs(connection, &setup)?, setup, artefact)));
    let (dirs, setup, artefact) = match received {
        Ok(received) => received,
        Err(code) => return code,
    };
    let guest = match load(&setup, artefact, dirs, &mut confinement) {
        Ok(guest) => guest,
        Err(reason) => return refuse(connection, reason),
    };
    confinement.close_files();
    confinement.close_calls();
    if !may_go_on(connection, &confinement) {
        return EXIT_SOFTWARE;
    }
    // The confinement comes before the first fork: each worker inherits it, and adds what a fork loses.
    say(connection, &FromWorker::Ready);
    match serve(connection, &setup, &confinement.status) {
        Err(code) => code,
        Ok(forked) => run_forked(connection, forked, guest, &setup, confinement),
    }
}

/// Forks a worker for each request. Returns `Ok` in each child, and `Err` with the exit code in the zygote.
fn serve(connection: &mut Connection<TakesFds>, setup: &Setup, status: &Status) -> Result<ForkedWorker, i32> {
    loop {
        let Ok(frame) = connection.recv() else { return Err(0) };
        let identity = match message::read_control(frame) {
            Ok(ToWorker::Fork(identity)) => identity,
            Ok(ToWorker::Report) => {
                say(connection, &FromWorker::Report(status.clone()));
                continue;
            }
            _ => {
                return Err(refuse(
                    connection,
                    "a zygote was asked for something else than a fork".to_owned(),
                ));
            }
        };
        // Descriptors come with the first byte of their message, which has been read whole.
        let Some([socket, page]) = connection.take_fds() else {
            return Err(refuse(connection, "a request for a fork came without its descriptors".to_owned()));
        };
        let fds = WorkerFds { page, exchange: take_exchange(connection, setup)? };
        match sys::fork_as_sibling() {
            Ok(Fork::Child) => return Ok(ForkedWorker { identity, socket, fds }),
            // The descriptors of this request are dropped here: a zygote that kept a socket would hide the
            // worker's end.
            Ok(Fork::Parent(pid)) => say(connection, &FromWorker::Forked { pid: pid.as_raw_nonzero().get() }),
            Err(e) => {
                let reason = format!("{e}{}", sys::limit_behind(&e));
                say(connection, &FromWorker::NotForked { reason });
            }
        }
    }
}

/// Runs the worker that a forked child becomes.
fn run_forked(
    connection: &mut Connection<TakesFds>,
    forked: ForkedWorker,
    guest: Guest,
    setup: &Setup,
    mut confinement: Confinement,
) -> i32 {
    let ForkedWorker { identity, socket, fds } = forked;
    // This closes the child's copy of the zygote's socket. A worker that held it could ask for siblings or
    // send false answers about them, and the coordinator would not see the zygote's end.
    *connection = Connection::new(TakesFds::new(socket), Caps::COORDINATOR);
    // A fork loses the parent-death signal. The child's parent is the coordinator, not the zygote.
    confinement.become_worker();
    #[cfg(feature = "fault-points")]
    fault::arm(setup.fault, if setup.once { 1 } else { identity.index });
    fault_point!(Start);
    confinement.lead_group();
    hello(connection);
    become_worker(connection, guest, setup, identity, fds, confinement)
}
