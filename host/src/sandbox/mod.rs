//! The second wall: the confinement of a worker's operating system process.
//!
//! A list of steps and a report. Each step is one function that says what was really enforced, and the report is what the process itself
//! saw, never a guess. This is the first part of the wall; landlock, seccomp and namespaces take their place behind it.

use std::io;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::context::spawn;
use crate::error::{ModuleError, StartError};
use crate::limits::{Isolation, Limits};
use crate::module::ModuleLoader;
use crate::protocol::VERSION;
use crate::protocol::connection::{Connection, RecvError};
use crate::protocol::message::{self, FromWorker, Identity, Setup, ToWorker};

/// What is enforced in a process, step by step.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let status = wpool::doctor(&loader())?;
/// assert!(!status.steps.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Status {
    /// In the order in which the steps were taken.
    pub steps: Vec<Step>,
}

/// One step of confinement.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// for step in wpool::doctor(&loader())?.steps {
///     if let Some(reason) = step.missing {
///         println!("{} is not enforced: {reason}", step.name);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What it is.
    pub name: String,
    /// `None` if it is enforced, else why it is not.
    pub missing: Option<String>,
}

impl Status {
    #[cfg(feature = "worker")]
    fn note(&mut self, name: &str, done: Result<(), impl std::fmt::Display>) {
        self.steps.push(Step { name: name.to_owned(), missing: done.err().map(|e| e.to_string()) });
    }
}

/// Starts a worker, the program that `loader` names, and asks it what is enforced in it: what pools and processes on this machine can count on.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let status = wpool::doctor(&loader())?;
/// for step in status.steps {
///     println!("{}: {}", step.name, step.missing.as_deref().unwrap_or("enforced"));
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`ModuleError`] if no worker can be started, or it ends before it has answered.
pub fn doctor(loader: &ModuleLoader) -> Result<Status, ModuleError> {
    let module = loader.clone().no_cache().from_bytes(b"(module)")?;
    let setup = Setup {
        version: VERSION,
        info: module.info().clone(),
        limits: Limits::default(),
        isolation: Isolation::Fresh,
        initializer: None,
        identity: Some(Identity { name: "doctor".to_owned(), index: 0 }),
        once: false,
        #[cfg(feature = "fault-points")]
        fault: None,
    };
    let spawn::Started { child, socket, page: _kept } = spawn::start(module.program(), setup, module.artefact())?;
    let answer = ask(socket);
    child.kill();
    let exit = child.wait();
    let failed = |why: String| StartError::Spawn { program: "a worker".to_owned(), source: io::Error::other(why) };
    answer.map_err(|why| match why {
        RecvError::Closed => failed(format!("it ended with {exit} before it had answered")).into(),
        why => failed(why.to_string()).into(),
    })
}

fn ask(socket: OwnedFd) -> Result<Status, RecvError> {
    let mut connection = Connection::new(socket);
    loop {
        match message::read_control(connection.recv()?)? {
            FromWorker::Ready => {
                let mut request = Vec::new();
                message::write_control(&mut request, &ToWorker::Report);
                connection.send(&request)?;
            }
            FromWorker::Report(status) => return Ok(status),
            FromWorker::Refused { reason } => return Err(RecvError::Io(io::Error::other(reason))),
            _ => {}
        }
    }
}

#[cfg(feature = "worker")]
pub(crate) use self::enter::{ProcessLimits, begin, limit, watch_parent};

#[cfg(feature = "worker")]
mod enter {
    use super::*;

    use rustix::process::{Pid, Resource, Rlimit, Signal};

    /// Limits of the process, beyond those of its tasks.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct ProcessLimits {
        /// Bytes of private memory that can be written to.
        pub(crate) data: u64,
        /// Seconds of processor time; `None`: none (a worker runs task after task).
        pub(crate) cpu_secs: Option<u64>,
        /// Bytes of any file that is written.
        pub(crate) file: u64,
        /// Open descriptors.
        pub(crate) files: u64,
    }

    /// The first steps of a fresh process, before it reads a byte.
    pub(crate) fn begin(parent: u32) -> Status {
        let mut status = Status::default();
        status.note("ends with its parent", watch_parent(parent));
        status.note("a session of its own, without a terminal", rustix::process::setsid().map(|_| ()));
        status.note("no inherited descriptors", crate::sys::close_from(3));
        status.note("empty environment", empty_environment());
        status.note("default signals", crate::sys::reset_signals());
        status.note("no new privileges", rustix::thread::set_no_new_privs(true));
        status
    }

    /// Asks for SIGKILL at the parent's death. If the parent was gone before that, there is nobody to wait for.
    pub(crate) fn watch_parent(parent: u32) -> io::Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        match rustix::process::getppid().map(Pid::as_raw_nonzero) {
            Some(pid) if pid.get().unsigned_abs() == parent => Ok(()),
            _ => crate::sys::exit_now(0),
        }
    }

    fn empty_environment() -> Result<(), String> {
        let ours = ["RUST_BACKTRACE", "WAST_STRICT_COMPONENT_INDICES"];
        match std::env::vars_os().find(|(name, _)| !ours.iter().any(|known| name == known)) {
            None => Ok(()),
            Some((name, _)) => Err(format!("{} is set", name.display())),
        }
    }

    /// Limits of the kernel on this process.
    pub(crate) fn limit(status: &mut Status, limits: ProcessLimits) {
        let ProcessLimits { data, cpu_secs, file, files } = limits;
        status.note("no core dumps", set(Resource::Core, 0));
        status.note(&format!("at most {} MiB of private memory", data >> 20), set(Resource::Data, data));
        status.note(&format!("files of at most {} MiB", file >> 20), set(Resource::Fsize, file));
        status.note(&format!("at most {files} descriptors"), set(Resource::Nofile, files));
        if let Some(secs) = cpu_secs {
            status.note(&format!("at most {secs} s of processor time"), set(Resource::Cpu, secs));
        }
    }

    /// Lowers a limit; one that is lower already stays.
    fn set(resource: Resource, wanted: u64) -> io::Result<()> {
        let had = rustix::process::getrlimit(resource).maximum;
        let limit = Some(had.map_or(wanted, |had| had.min(wanted)));
        Ok(rustix::process::setrlimit(resource, Rlimit { current: limit, maximum: limit })?)
    }
}
