//! The words in which a process is spoken of: what it is for, what its steps put up, and what holds of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::escape::shortened;

/// What a process of wpool is for: [`doctor_of`](crate::sandbox::doctor_of) looks at each kind.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use wpool::sandbox::ProcessRole;
/// use wpool::Policy;
///
/// for role in [ProcessRole::Worker, ProcessRole::Zygote, ProcessRole::Compiler] {
///     let status = wpool::sandbox::doctor_of(&loader(), &Policy::sealed(), role)?;
///     println!("{role:?}: {} properties", status.properties.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessRole {
    /// Runs guests.
    Worker,
    /// Forks workers, which then restrict themselves further.
    Zygote,
    /// Compiles one module.
    Compiler,
}

impl ProcessRole {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ProcessRole::Compiler => "compiler",
            ProcessRole::Zygote => "zygote",
            ProcessRole::Worker => "worker",
        }
    }

    #[cfg(feature = "worker")]
    pub(crate) fn parse(text: &std::ffi::OsStr) -> Option<ProcessRole> {
        [ProcessRole::Compiler, ProcessRole::Zygote, ProcessRole::Worker]
            .into_iter()
            .find(|r| text == r.as_str())
    }
}

/// What a step of confinement puts up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Layer {
    ParentDeath,
    Session,
    Group,
    Descriptors,
    Environment,
    Signals,
    NoNewPrivileges,
    OutOfMemory,
    NoCore,
    Data,
    Addresses,
    FileSize,
    FileCount,
    ProcessorTime,
    Namespaces,
    NoCapabilities,
    NotTraceable,
    LandlockFiles,
    LandlockTruncation,
    LandlockTcp,
    LandlockScope,
    Calls,
}

/// No process has more steps or properties, by far. One that was taken over may tell of a million, each of a megabyte, which are kept and shown.
pub(crate) const SAID_MAX: usize = 64;

/// What must hold of a process, and what sees to it.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// for property in wpool::sandbox::doctor(&loader())?.properties {
///     match &property.missing {
///         None => println!("{} (by {})", property.name, property.layers.join(", or ")),
///         Some(why) => println!("NOT: {} ({why})", property.name),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Property {
    /// What must hold.
    pub name: String,
    /// What sees to it: each is enough by itself.
    pub layers: Vec<String>,
    /// What else could, but is not enforced, and why not.
    pub absent: Vec<String>,
    /// `None` if it holds, else why it does not.
    pub missing: Option<String>,
}

impl Property {
    /// As far as it can be shown, if a process says it that may have been taken over.
    pub(crate) fn believable(self) -> Property {
        let all = |texts: Vec<String>| texts.iter().take(SAID_MAX).map(|text| shortened(text)).collect();
        Property {
            name: shortened(&self.name),
            layers: all(self.layers),
            absent: all(self.absent),
            missing: self.missing.as_deref().map(shortened),
        }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.missing {
            None => f.write_str(&self.name),
            Some(why) => write!(f, "{} ({why})", self.name),
        }
    }
}
