//! The zygote: loads the module, then forks a worker for each request. One thread, no guest code, for all its life.

use std::os::fd::OwnedFd;

use super::{
    Connection, EXIT_SOFTWARE, Guest, become_worker, fault_point, hello, load, may_go_on, receive_setup,
    refuse, say,
};
use crate::protocol::connection::TakesFds;
use crate::protocol::frame::Caps;
use crate::protocol::message::{self, FromWorker, Identity, Setup, ToWorker};
use crate::sandbox::Confinement;
use crate::spec::Status;
use crate::sys::{self, Fork};

/// What a forked child needs to go on as a worker.
struct Born {
    identity: Identity,
    socket: OwnedFd,
    page: OwnedFd,
}

/// Serves until its coordinator is gone; in a forked child, becomes that worker.
pub(super) fn run(connection: &mut Connection<TakesFds>, mut confinement: Confinement) -> i32 {
    hello(connection);
    let (setup, [artefact], dirs) = match receive_setup(connection) {
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
    say(connection, &FromWorker::Ready);
    match serve(connection, &confinement.status) {
        Err(code) => code,
        Ok(born) => live(connection, born, guest, &setup, confinement),
    }
}

/// Forks for each request. Returns in the child with what it is to be, in the zygote with an exit code.
fn serve(connection: &mut Connection<TakesFds>, status: &Status) -> Result<Born, i32> {
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
        let Some([socket, page]) = connection.take_fds() else {
            return Err(refuse(connection, "a request for a fork came without its descriptors".to_owned()));
        };
        match sys::fork_as_sibling() {
            Ok(Fork::Child) => return Ok(Born { identity, socket, page }),
            Ok(Fork::Parent(pid)) => say(connection, &FromWorker::Forked { pid: pid.as_raw_nonzero().get() }),
            Err(e) => {
                let reason = format!("{e}{}", crate::sys::limit_behind(&e));
                say(connection, &FromWorker::NotForked { reason });
            }
        }
    }
}

/// The forked child: its own worker from now on.
fn live(
    connection: &mut Connection<TakesFds>,
    born: Born,
    guest: Guest,
    setup: &Setup,
    mut confinement: Confinement,
) -> i32 {
    let Born { identity, socket, page } = born;
    // The zygote's own socket is closed here: who held it could ask for siblings, or lie about them, and would hide the zygote's death.
    *connection = Connection::new(TakesFds::new(socket), Caps::COORDINATOR);
    // A fork does not inherit the wish to end with the parent. Its parent is ours, not the zygote.
    confinement.become_worker();
    #[cfg(feature = "fault-points")]
    super::fault::arm(setup.fault, if setup.once { 1 } else { identity.index });
    fault_point!(Start);
    confinement.lead_group();
    hello(connection);
    become_worker(connection, guest, setup, identity, page, confinement)
}
