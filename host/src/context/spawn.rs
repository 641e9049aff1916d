//! `spawn`: each worker is executed and told which module to load.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::Pid;

use super::StartError;
use super::{Child, Launch, Program};
use crate::policy::Granted;
use crate::protocol::connection;
use crate::protocol::message::{Setup, ToWorker};
use crate::protocol::outgoing::Outgoing;
use crate::spec::ProcessRole;
use crate::sys::CoordinatorPage;

/// A started worker: its process, the coordinator's ends of its sockets, and the page that both share.
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) socket: OwnedFd,
    /// The coordinator's end of its second socket, if its guest may use shared objects.
    pub(crate) exchange: Option<OwnedFd>,
    pub(crate) page: CoordinatorPage,
    /// The part of its setup that the socket has not taken yet.
    pub(crate) unsent: Outgoing,
}

/// A process that has been executed, the coordinator's end of its socket, and the thread that is its parent.
#[derive(Debug)]
pub(crate) struct Executed {
    pub(crate) socket: OwnedFd,
    pub(crate) child: Child,
    pub(super) thread: Pid,
    /// The part of its setup that the socket has not taken yet.
    pub(crate) unsent: Outgoing,
}

impl Executed {
    /// Executes the program as a child of the calling thread.
    pub(crate) fn start(program: &Program, role: ProcessRole) -> Result<Executed, StartError> {
        let failed = |source| StartError::Spawn { program: "a worker".to_owned(), source };
        let (socket, theirs) = connection::pair().map_err(failed)?;
        Ok(Executed {
            socket,
            child: program.start(role, theirs)?,
            thread: rustix::thread::gettid(),
            unsent: Outgoing::default(),
        })
    }
}

/// Starts a worker with its own copy of the setup, identity included.
pub(crate) fn start(launch: &Launch, setup: Setup, granted: &Granted) -> Result<Started, StartError> {
    let failed = |source| StartError::Spawn { program: "a worker".to_owned(), source };
    let (page, page_fd) = CoordinatorPage::create().map_err(failed)?;
    let (exchange, its_exchange) = second_pair(setup.exchange).map_err(failed)?;
    let fds: Vec<_> = [launch.artefact.as_fd(), page_fd.as_fd()]
        .into_iter()
        .chain(its_exchange.as_ref().map(AsFd::as_fd))
        .chain(granted.dirs())
        .collect();
    let Executed { socket, child, unsent, .. } =
        start_with(&launch.program, ProcessRole::Worker, setup, &fds)?;
    Ok(Started { child, socket, exchange, page, unsent })
}

/// The coordinator's end of a second socket pair, and the worker's, if the worker is to have one.
pub(super) fn second_pair(is_wanted: bool) -> io::Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    let pair = if is_wanted { Some(connection::pair()?) } else { None };
    Ok(pair.unzip())
}

/// Starts a process in a role and sends as much of its setup as the socket takes at once. If the process dies
/// before it reads the setup, this function does not fail: the reader of its socket notices the end.
pub(crate) fn start_with(
    program: &Program,
    role: ProcessRole,
    setup: Setup,
    fds: &[BorrowedFd<'_>],
) -> Result<Executed, StartError> {
    // An early zygote has been executed with the same arguments, and waits for exactly this message.
    let early = program.early.as_ref().filter(|_| role == ProcessRole::Zygote).and_then(|early| early.take());
    let mut started = match early {
        Some(early) => early,
        None => Executed::start(program, role)?,
    };
    let mut outgoing = Outgoing::default();
    outgoing.say(&ToWorker::Setup(Box::new(setup)));
    // The descriptors go with the first bytes.
    match connection::send_with_fds(&started.socket, outgoing.front(), fds) {
        // A setup with the descriptions of many functions is larger than a socket's buffer. The caller sends
        // the rest between other work, since the process may be slow to read.
        Ok(sent) => {
            outgoing.advance(sent);
            started.unsent = outgoing;
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {}
        Err(e) => {
            // Reaped here: no caller has a handle on it yet.
            started.child.kill_or_shut(&started.socket);
            started.child.wait();
            return Err(StartError::Spawn { program: "a worker".to_owned(), source: e });
        }
    }
    Ok(started)
}
