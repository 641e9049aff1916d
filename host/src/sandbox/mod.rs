//! The second wall: the confinement of a worker's operating system process.
//!
//! A list of steps and a report. Each step is one function that says what was really enforced, and the report is what the process itself
//! saw, never a guess. The steps are in `enter`, the system calls that are left in `calls`; what each is for is in `docs/SECURITY.md`.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::context::spawn;
use crate::error::{BuildError, StartError};
use crate::escape::shortened;
use crate::limits::{Isolation, Limits};
use crate::module::ModuleLoader;
use crate::policy::Policy;
use crate::protocol::VERSION;
use crate::protocol::connection::{Connection, RecvError};
use crate::protocol::frame::Caps;
use crate::protocol::message::{self, FromWorker, Identity, Setup, ToWorker};

/// How much confinement the processes of a module must have: [`ModuleLoader::sandbox`].
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let module = loader().sandbox(wpool::Sandbox::Off).from_bytes(b"(module)")?;
/// assert_eq!("strict".parse(), Ok(wpool::Sandbox::Strict));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Sandbox {
    /// All of it, or nothing runs.
    Strict,
    /// What this machine's kernel offers. What is missing is a warning, once. The default.
    #[default]
    Default,
    /// No landlock, no list of system calls, no namespaces: only WebAssembly's own wall stands, and limits. For finding faults.
    Off,
}

impl Sandbox {
    const ALL: [(Sandbox, &'static str); 3] =
        [(Sandbox::Strict, "strict"), (Sandbox::Default, "default"), (Sandbox::Off, "off")];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Sandbox::Strict => "strict",
            Sandbox::Default => "default",
            Sandbox::Off => "off",
        }
    }

    /// The coordinator hears from a process what is not enforced in it. An error, in words, if that may not be.
    pub(crate) fn judge(self, missing: Vec<Step>) -> Result<(), String> {
        let missing = believable(missing);
        match self {
            Sandbox::Strict => {
                let steps: Vec<String> = missing.iter().map(Step::to_string).collect();
                Err(format!("the sandbox is strict, and not all of it can be enforced: {}", steps.join("; ")))
            }
            Sandbox::Default => {
                UNENFORCED.get_or_init(|| {
                    for Step { name, missing } in &missing {
                        let why = missing.as_deref().unwrap_or_default();
                        tracing::warn!(target: "wpool::sandbox", step = name, why, "not enforced in worker processes");
                    }
                    missing
                });
                Ok(())
            }
            Sandbox::Off => Ok(()),
        }
    }
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Sandbox {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Sandbox::ALL.iter().find(|(_, name)| *name == text);
        found.map(|(sandbox, _)| *sandbox).ok_or("expected strict, default or off")
    }
}

/// No process has more steps, by far. Whoever has taken one over may tell of a million, each of a megabyte, which are kept and shown.
const STEPS_MAX: usize = 64;

/// What a process says of its confinement, as far as it can be shown.
fn believable(steps: Vec<Step>) -> Vec<Step> {
    let step = |step: Step| Step { name: shortened(&step.name), missing: step.missing.as_deref().map(shortened) };
    steps.into_iter().take(STEPS_MAX).map(step).collect()
}

/// What the first process that lacked something has said. It is the same kernel for all of them.
static UNENFORCED: OnceLock<Vec<Step>> = OnceLock::new();

/// What this program's worker and compiler processes have reported so far as not enforced in them, with [`Sandbox::Default`]. Empty if all
/// is well, or if none has been started.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let _pool = pool("upper")?;
/// for step in wpool::unenforced() {
///     eprintln!("not enforced: {} ({:?})", step.name, step.missing);
/// }
/// # Ok(())
/// # }
/// ```
pub fn unenforced() -> &'static [Step] {
    UNENFORCED.get().map_or(&[], Vec::as_slice)
}

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

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.missing {
            None => f.write_str(&self.name),
            Some(why) => write!(f, "{} ({why})", self.name),
        }
    }
}

impl Status {
    /// A step that is taken again, after a fork, stands where it was; it is enforced if it was enforced this time.
    #[cfg(feature = "worker")]
    pub(crate) fn note(&mut self, name: &str, done: Result<(), impl fmt::Display>) {
        let missing = done.err().map(|e| e.to_string());
        match self.steps.iter_mut().find(|step| step.name == name) {
            Some(step) => step.missing = missing,
            None => self.steps.push(Step { name: name.to_owned(), missing }),
        }
    }

    /// The steps that are not enforced.
    #[cfg(feature = "worker")]
    pub(crate) fn missing(&self) -> Vec<Step> {
        self.steps.iter().filter(|step| step.missing.is_some()).cloned().collect()
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
/// [`BuildError`] if no worker can be started, or it ends before it has answered.
pub fn doctor(loader: &ModuleLoader) -> Result<Status, BuildError> {
    doctor_with(loader, &Policy::sealed())
}

/// As [`doctor`], for a worker with this policy.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use wpool::{DirAccess, Policy};
///
/// let status = wpool::doctor_with(&loader(), &Policy::sealed().dir("src", "/src", DirAccess::ReadOnly))?;
/// assert!(status.steps.iter().any(|step| step.name.contains("/src (read only)")));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`BuildError`] if the policy names what cannot be granted, if no worker can be started, or if it ends before it has answered.
pub fn doctor_with(loader: &ModuleLoader, policy: &Policy) -> Result<Status, BuildError> {
    let granted = policy.resolve()?;
    let module = loader.clone().no_cache().from_bytes(b"(module)")?;
    let setup = Setup {
        version: VERSION,
        info: module.info().clone(),
        limits: Limits::default(),
        grants: granted.grants.clone(),
        isolation: Isolation::Fresh,
        initializer: None,
        identity: Some(Identity { name: "doctor".to_owned(), index: 0 }),
        once: false,
        spins: false,
        profile: None,
        #[cfg(feature = "fault-points")]
        fault: None,
    };
    let spawn::Started { child, socket, page: _kept } = spawn::start(&module, setup, &granted)?;
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
    let mut connection = Connection::new(socket, Caps::IDLE);
    loop {
        match message::read_control(connection.recv()?)? {
            FromWorker::Ready => {
                let mut request = Vec::new();
                message::write_control(&mut request, &ToWorker::Report);
                connection.send(&request)?;
            }
            FromWorker::Report(status) => return Ok(Status { steps: believable(status.steps) }),
            FromWorker::Refused { reason } => return Err(RecvError::Io(io::Error::other(shortened(&reason)))),
            _ => {}
        }
    }
}

#[cfg(feature = "worker")]
mod calls;
#[cfg(feature = "worker")]
mod enter;

#[cfg(feature = "worker")]
pub(crate) use self::calls::Role;
#[cfg(feature = "worker")]
pub(crate) use self::enter::{Confinement, ProcessLimits, Reach, Verdict, watch_parent};
