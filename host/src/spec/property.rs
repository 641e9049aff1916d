//! The words that describe a process: its role, its layers of confinement, and the properties that must hold.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::escape::shortened;

/// The purpose of a process of wpool: [`doctor_of`](crate::sandbox::doctor_of) examines each kind.
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

/// What one step of confinement sets up.
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

/// Cap on reported steps and properties; no process has nearly that many. A compromised process might report
/// a million of them, each of a megabyte, and the coordinator keeps and shows them.
pub(crate) const REPORTED_MAX: usize = 64;

/// What must hold of a process, and what enforces it.
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
    /// What enforces it: each layer is enough by itself.
    pub layers: Vec<String>,
    /// The layers that could enforce it but do not, each with the reason.
    pub absent: Vec<String>,
    /// `None` if it holds, else the reason why it does not.
    pub missing: Option<String>,
}

impl Property {
    /// The texts made safe to show, because a compromised process may have reported them.
    pub(crate) fn made_safe(self) -> Property {
        let all = |texts: Vec<String>| texts.iter().take(REPORTED_MAX).map(|text| shortened(text)).collect();
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
