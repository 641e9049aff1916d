//! Choose how strict the confinement of processes is, and ask what holds on this machine.
//!
//! [`Sandbox`] says how much of the confinement must hold: [`ModuleLoader::sandbox`]. [`doctor`] starts a worker and asks
//! it what is enforced in it: a [`Status`], with each [`Step`] that was taken and each [`Property`] that must hold.
//! [`doctor_with`] asks a worker with grants, [`doctor_of`] a process of another [`ProcessRole`]. [`unenforced`] lists what
//! the processes of this program have reported so far as not enforced. What each step is for is in `docs/SECURITY.md`.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

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
/// let module = loader().sandbox(wpool::sandbox::Sandbox::Off).from_bytes(b"(module)")?;
/// assert_eq!("strict".parse(), Ok(wpool::sandbox::Sandbox::Strict));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Sandbox {
    /// All that must hold of a process does, with what is granted to it, or nothing runs.
    Strict,
    /// What this machine's kernel offers. What does not hold is a warning, once. The default.
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

    /// The coordinator hears from a process what does not hold of it. An error, in words, if that may not be.
    pub(crate) fn judge(self, missing: Vec<Property>) -> Result<(), String> {
        let missing = missing.into_iter().take(SAID_MAX).map(Property::believable);
        match self {
            Sandbox::Strict => {
                let missing: Vec<String> = missing.map(|property| property.to_string()).collect();
                let missing = missing.join("; ");
                Err(format!("the sandbox is strict, and not all that must hold can be enforced: {missing}"))
            }
            Sandbox::Default => {
                let mut known = UNENFORCED.lock().unwrap_or_else(PoisonError::into_inner);
                for property in missing {
                    let is_known = known.iter().any(|known| known.name == property.name);
                    if !is_known && known.len() < SAID_MAX {
                        let Property { name, missing, .. } = &property;
                        let why = missing.as_deref().unwrap_or_default();
                        tracing::warn!(target: "wpool::sandbox", property = name, why, "not enforced in worker processes");
                        known.push(property);
                    }
                }
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

/// No process has more steps or properties, by far. One that was taken over may tell of a million, each of a megabyte, which are kept and shown.
const SAID_MAX: usize = 64;

/// What processes have said that does not hold of them.
static UNENFORCED: Mutex<Vec<Property>> = Mutex::new(Vec::new());

/// What this program's worker and compiler processes have reported so far as not enforced in them, with [`Sandbox::Default`]: each once. Empty if
/// all is well, or if no process has been started.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let _pool = pool("upper")?;
/// for property in wpool::sandbox::unenforced() {
///     eprintln!("not enforced: {} ({:?})", property.name, property.missing);
/// }
/// # Ok(())
/// # }
/// ```
pub fn unenforced() -> Vec<Property> {
    UNENFORCED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// What is enforced in a process: what was done, step by step, and what therefore holds.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let status = wpool::sandbox::doctor(&loader())?;
/// assert!(!status.steps.is_empty() && !status.properties.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Status {
    /// In the order in which the steps were taken.
    pub steps: Vec<Step>,
    /// What must hold of the process, with what is granted to it, and what sees to that. A step may be missing and all of them hold.
    pub properties: Vec<Property>,
}

/// One step of confinement. If it is missing, [`Property`] tells whether anything is open for it.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// for step in wpool::sandbox::doctor(&loader())?.steps {
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
    pub(crate) layer: Layer,
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
    pub(crate) fn note(&mut self, layer: Layer, name: &str, done: Result<(), impl fmt::Display>) {
        let missing = done.err().map(|e| e.to_string());
        match self.steps.iter_mut().find(|step| step.layer == layer) {
            Some(step) => step.missing = missing,
            None => self.steps.push(Step { name: name.to_owned(), missing, layer }),
        }
    }

    /// Whether a step was taken, and is enforced.
    #[cfg(feature = "worker")]
    pub(crate) fn has(&self, layer: Layer) -> bool {
        self.steps.iter().any(|step| step.layer == layer && step.missing.is_none())
    }

    /// After the last step: what holds.
    #[cfg(feature = "worker")]
    pub(crate) fn judge(&mut self, role: ProcessRole, granted: Shape) {
        self.properties = must::judge(&self.steps, role, granted);
    }

    /// What would hold of such a process with other grants.
    #[cfg(feature = "cli")]
    pub(crate) fn with(&self, role: ProcessRole, granted: Shape) -> Vec<Property> {
        must::judge(&self.steps, role, granted)
    }

    /// What does not hold.
    #[cfg(any(feature = "worker", feature = "cli"))]
    pub(crate) fn unheld(&self) -> Vec<Property> {
        self.properties.iter().filter(|property| property.missing.is_some()).cloned().collect()
    }

    /// As far as it can be shown.
    fn believable(self) -> Status {
        let step = |step: Step| Step {
            name: shortened(&step.name),
            missing: step.missing.as_deref().map(shortened),
            layer: step.layer,
        };
        Status {
            steps: self.steps.into_iter().take(SAID_MAX).map(step).collect(),
            properties: self.properties.into_iter().take(SAID_MAX).map(Property::believable).collect(),
        }
    }
}

/// Starts a worker, the program that `loader` names, and asks it what is enforced in it: what pools and processes on this machine can count on.
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
/// [`BuildError`] if no worker can be started, or it ends before it has answered.
pub fn doctor(loader: &ModuleLoader) -> Result<Status, BuildError> {
    doctor_with(loader, &Policy::sealed())
}

/// As [`doctor`], for a worker with this policy.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use wpool::policy::DirAccess;
/// use wpool::Policy;
///
/// let status = wpool::sandbox::doctor_with(&loader(), &Policy::sealed().dir("src", "/src", DirAccess::ReadOnly))?;
/// assert!(status.steps.iter().any(|step| step.name.contains("/src (read only)")));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`BuildError`] if the policy names what cannot be granted, if no worker can be started, or if it ends before it has answered.
pub fn doctor_with(loader: &ModuleLoader, policy: &Policy) -> Result<Status, BuildError> {
    doctor_of(loader, policy, ProcessRole::Worker)
}

/// As [`doctor_with`], for a process of another kind: each has a part of the confinement that is its own.
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
/// As [`doctor_with`].
pub fn doctor_of(loader: &ModuleLoader, policy: &Policy, role: ProcessRole) -> Result<Status, BuildError> {
    let granted = policy.resolve()?;
    let module = loader.clone().no_cache().from_bytes(b"(module)")?;
    let setup = Setup {
        version: VERSION,
        info: module.info().clone(),
        limits: Limits::default(),
        grants: granted.grants.clone(),
        isolation: Isolation::Fresh,
        initializer: None,
        identity: (role == ProcessRole::Worker).then(|| Identity { name: "doctor".to_owned(), index: 0 }),
        once: false,
        spins: false,
        profile: None,
        #[cfg(feature = "fault-points")]
        fault: None,
    };
    let failed =
        |why: String| StartError::Spawn { program: "a process".to_owned(), source: io::Error::other(why) };
    let (child, socket, unsent, _page) = match role {
        ProcessRole::Worker => {
            let spawn::Started { child, socket, page, unsent } = spawn::start(&module, setup, &granted)?;
            (child, socket, unsent, Some(page))
        }
        ProcessRole::Zygote => {
            let fds: Vec<_> = [module.artefact()].into_iter().chain(granted.dirs()).collect();
            let spawn::Executed { child, socket, unsent, .. } =
                spawn::start_with(module.program(), role, setup, &fds)?;
            (child, socket, unsent, None)
        }
        ProcessRole::Compiler => {
            let spawn::Executed { child, socket, unsent, .. } =
                spawn::Executed::start(module.program(), role)?;
            (child, socket, unsent, None)
        }
    };
    let answer = ask(socket, &unsent, role);
    child.kill();
    let exit = child.wait();
    answer.map_err(|why| match why {
        RecvError::Closed => failed(format!("it ended with {exit} before it had answered")).into(),
        why => failed(why.to_string()).into(),
    })
}

fn ask(socket: OwnedFd, setup: &[u8], role: ProcessRole) -> Result<Status, RecvError> {
    let mut connection = Connection::new(socket, Caps::IDLE);
    connection.send(setup)?;
    loop {
        match (message::read_control(connection.recv()?)?, role) {
            // A compiler does not say that it is ready: it waits to be told what to do.
            (FromWorker::Ready, ProcessRole::Worker | ProcessRole::Zygote)
            | (FromWorker::Hello { .. }, ProcessRole::Compiler) => {
                let mut request = Vec::new();
                message::write_control(&mut request, &ToWorker::Report);
                connection.send(&request)?;
            }
            (FromWorker::Report(status), _) => return Ok(status.believable()),
            (FromWorker::Refused { reason }, _) => {
                return Err(RecvError::Io(io::Error::other(shortened(&reason))));
            }
            _ => {}
        }
    }
}

// The confinement is a list of steps and a report. Each step is one function (in `enter`), which says what the kernel has
// enforced; the report is what the process itself saw, never a guess. `calls` lists the system calls that are left.
#[cfg(any(feature = "worker", feature = "cli"))]
mod must;
mod property;

#[cfg(any(feature = "worker", feature = "cli"))]
pub(crate) use self::must::Shape;
pub(crate) use self::property::Layer;
pub use self::property::{ProcessRole, Property};
#[cfg(feature = "worker")]
mod calls;
#[cfg(feature = "worker")]
mod enter;

#[cfg(feature = "worker")]
pub(crate) use self::enter::{Confinement, ProcessLimits, Reach, Verdict};
