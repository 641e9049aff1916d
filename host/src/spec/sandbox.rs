//! How much confinement is asked for, and what a process reports about its own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::property::{Layer, Property, REPORTED_MAX};
use crate::escape::shortened;

/// How much confinement the processes of a module must have:
/// [`ModuleLoader::sandbox`](crate::module::ModuleLoader::sandbox).
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
    /// Every property must hold, apart from what the policy grants; otherwise nothing runs.
    Strict,
    /// As much as this machine's kernel offers. Each property that does not hold is a warning, once. The
    /// default.
    #[default]
    Default,
    /// No landlock, no system call filter, no namespaces: only WebAssembly's own wall and the limits remain.
    /// For finding faults.
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

/// What is enforced in a process: the steps that were taken, and the properties that therefore hold.
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
    /// What must hold of the process, apart from what the policy grants, and what enforces it. All of them
    /// can hold although a step is missing.
    pub properties: Vec<Property>,
}

/// One step of confinement. If it is missing, the [`Property`] values tell whether anything is open because
/// of it.
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
    /// What the step does.
    pub name: String,
    /// `None` if it is enforced, else the reason why it is not.
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
    /// Records a step. A step that is taken again after a fork keeps its place; only the newer result counts.
    #[cfg(feature = "worker")]
    pub(crate) fn note(&mut self, layer: Layer, name: &str, done: Result<(), impl fmt::Display>) {
        let missing = done.err().map(|e| e.to_string());
        match self.steps.iter_mut().find(|step| step.layer == layer) {
            Some(step) => step.missing = missing,
            None => self.steps.push(Step { name: name.to_owned(), missing, layer }),
        }
    }

    /// Whether a step was taken and is enforced.
    #[cfg(feature = "worker")]
    pub(crate) fn has(&self, layer: Layer) -> bool {
        self.steps.iter().any(|step| step.layer == layer && step.missing.is_none())
    }

    /// The properties that do not hold.
    #[cfg(any(feature = "worker", feature = "cli"))]
    pub(crate) fn unheld(&self) -> Vec<Property> {
        self.properties.iter().filter(|property| property.missing.is_some()).cloned().collect()
    }

    /// The texts made safe to show, because a compromised process may have reported them.
    pub(crate) fn made_safe(self) -> Status {
        let step = |step: Step| Step {
            name: shortened(&step.name),
            missing: step.missing.as_deref().map(shortened),
            layer: step.layer,
        };
        Status {
            steps: self.steps.into_iter().take(REPORTED_MAX).map(step).collect(),
            properties: self.properties.into_iter().take(REPORTED_MAX).map(Property::made_safe).collect(),
        }
    }
}
