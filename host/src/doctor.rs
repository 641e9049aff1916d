//! Asks a process of each kind what is enforced in it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::clock;
use crate::context::{StartError, spawn};
use crate::error::BuildError;
use crate::module::ModuleLoader;
use crate::policy::Policy;
use crate::protocol::connection::{Connection, RecvError};
use crate::protocol::frame::Caps;
use crate::protocol::message::{self, Identity, Setup, ToWorker};
use crate::protocol::outgoing::Outgoing;
use crate::protocol::session::{FromReporter, Heard, ReporterRole, Session};
use crate::spec::{Limits, ProcessRole, Status};

/// Starts a worker from the program of `loader`, and asks it what is enforced in it. Pools and processes on
/// this machine have the same confinement.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let status = wpool::sandbox::doctor(&loader())?;
/// for step in status.steps {
///     println!("{}: {}", step.name, step.missing.as_deref().unwrap_or("enforced"));
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`BuildError`] if no worker can be started, or if it ends before it has answered.
pub fn doctor(loader: &ModuleLoader) -> Result<Status, BuildError> {
    doctor_with(loader, &Policy::sealed())
}

/// Like [`doctor`], for a worker with this policy.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use wpool::policy::DirAccess;
/// use wpool::Policy;
///
/// let policy = Policy::sealed().dir("src", "/src", DirAccess::ReadOnly);
/// let status = wpool::sandbox::doctor_with(&loader(), &policy)?;
/// assert!(status.steps.iter().any(|step| step.name.contains("/src (read only)")));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`BuildError`] if the policy cannot be granted, if no worker can be started, or if it ends before it has
/// answered.
pub fn doctor_with(loader: &ModuleLoader, policy: &Policy) -> Result<Status, BuildError> {
    doctor_of(loader, policy, ProcessRole::Worker)
}

/// Like [`doctor_with`], for a process of any kind: each kind has confinement of its own.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use wpool::sandbox::ProcessRole;
/// use wpool::Policy;
///
/// let status = wpool::sandbox::doctor_of(&loader(), &Policy::sealed(), ProcessRole::Compiler)?;
/// assert!(status.properties.iter().any(|property| property.name == "no new process"));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Like [`doctor_with`].
pub fn doctor_of(loader: &ModuleLoader, policy: &Policy, role: ProcessRole) -> Result<Status, BuildError> {
    let granted = policy.resolve()?;
    let module = loader.clone().no_cache().from_bytes(b"(module)")?;
    let setup = Setup {
        identity: (role == ProcessRole::Worker).then(|| Identity { name: "doctor".to_owned(), index: 0 }),
        ..Setup::new(module.info().clone(), Limits::default(), granted.grants.clone())
    };
    let failed =
        |why: String| StartError::Spawn { program: "a process".to_owned(), source: io::Error::other(why) };
    let (child, socket, unsent, _page) = match role {
        ProcessRole::Worker => {
            let spawn::Started { child, socket, page, unsent, .. } =
                spawn::start(module.launch(), setup, &granted)?;
            (child, socket, unsent, Some(page))
        }
        ProcessRole::Zygote => {
            let fds: Vec<_> = [module.launch().artefact.as_fd()].into_iter().chain(granted.dirs()).collect();
            let spawn::Executed { child, socket, unsent, .. } =
                spawn::start_with(&module.launch().program, role, setup, &fds)?;
            (child, socket, unsent, None)
        }
        ProcessRole::Compiler => {
            let spawn::Executed { child, socket, unsent, .. } =
                spawn::Executed::start(&module.launch().program, role)?;
            (child, socket, unsent, None)
        }
    };
    let answer = ask(socket, unsent, role, clock::now() + ANSWER_TIME);
    child.kill();
    let exit = child.wait();
    answer.map_err(|why| match why {
        RecvError::Io(e) if e.kind() == io::ErrorKind::TimedOut => {
            let (role, time) = (format!("{role:?}").to_lowercase(), ANSWER_TIME.as_secs());
            failed(format!("a {role} process has not answered within {time} s")).into()
        }
        RecvError::Closed => failed(format!("it ended with {exit} before it had answered")).into(),
        why => failed(why.to_string()).into(),
    })
}

/// How long a process may take to report what is enforced in it. Usually that takes milliseconds.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Reads until a whole frame is there. A process may also send a byte now and then: the time is that of all
/// of them together.
fn await_frame(connection: &mut Connection<OwnedFd>, until: Instant) -> Result<(), RecvError> {
    while !connection.has_frame()? {
        if !clock::await_readable(connection.carrier(), until) {
            return Err(RecvError::Io(io::ErrorKind::TimedOut.into()));
        }
        if connection.fill()? == 0 {
            return Err(RecvError::Closed);
        }
    }
    Ok(())
}

/// Asks a process that is starting for its report.
fn ask(socket: OwnedFd, mut setup: Outgoing, role: ProcessRole, until: Instant) -> Result<Status, RecvError> {
    // A process that reads nothing must not hold up a caller that has a deadline only for its answers.
    set_socket_timeout(&socket, Timeout::Send, Some(ANSWER_TIME)).map_err(io::Error::from)?;
    let mut connection = Connection::new(socket, Caps::IDLE);
    let mut session = Session::reporter(role);
    while !setup.is_empty() {
        connection.send(setup.front())?;
        let sent = setup.front().len();
        setup.advance(sent);
    }
    loop {
        await_frame(&mut connection, until)?;
        match session.on(connection.recv()?)? {
            // A compiler never says that it is ready: after its greeting it waits for a request.
            Heard::Greeted if role == ProcessRole::Compiler => request(&mut connection, &mut session)?,
            Heard::Said(FromReporter::Ready) => request(&mut connection, &mut session)?,
            // What does not hold is in the report too, and the report is what the caller wants.
            Heard::Greeted | Heard::Unconfined(_) => {}
            Heard::Said(FromReporter::Report(status)) => return Ok(status),
            Heard::Refused(why) => return Err(RecvError::Io(io::Error::other(why.into_reason()))),
        }
    }
}

fn request(connection: &mut Connection<OwnedFd>, session: &mut Session<ReporterRole>) -> io::Result<()> {
    let mut request = Vec::new();
    message::write_control(&mut request, &ToWorker::Report);
    session.ask_for_report();
    connection.send(&request)
}
