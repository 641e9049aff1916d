//! What a worker is told about the policy of its guests.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// What a guest may do in a granted directory.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let module = guest("upper")?;
/// use wpool::policy::DirAccess;
/// use wpool::{Policy, Pool};
///
/// let results = std::env::temp_dir().join("wpool-results");
/// std::fs::create_dir_all(&results)?;
/// let policy = Policy::sealed()
///     .dir("src", "/src", DirAccess::ReadOnly)
///     .dir(results, "/results", DirAccess::ReadWrite);
/// let pool = Pool::builder(&module).policy(policy).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DirAccess {
    /// Files can be read and directories listed.
    ReadOnly,
    /// Files, directories and links can also be written, made and removed. A file grows to
    /// [`Policy::FILE`](crate::Policy::FILE) at most.
    ReadWrite,
}

/// The clocks that a guest sees. Sleeping takes real time in every case.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let module = guest("upper")?;
/// use std::time::SystemTime;
/// use wpool::policy::Clock;
/// use wpool::{Policy, Pool};
///
/// let policy = Policy::sealed().clock(Clock::Fixed(SystemTime::UNIX_EPOCH));
/// let pool = Pool::builder(&module).policy(policy).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// Rounded down to [`Clock::RESOLUTION`], so that a guest cannot measure effects inside the processor.
    /// The default.
    #[default]
    Coarse,
    /// As fine as the kernel's clocks.
    Fine,
    /// The time of day never changes. The clock for durations starts at 0 in each instance, and advances by
    /// [`Clock::RESOLUTION`] whenever it is read, so a guest that waits for it does make progress.
    Fixed(SystemTime),
}

impl Clock {
    /// One millisecond.
    pub const RESOLUTION: Duration = Duration::from_millis(1);
}

/// Where a guest's random numbers come from.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let module = guest("upper")?;
/// use wpool::policy::Random;
/// use wpool::{Policy, Pool};
///
/// let pool = Pool::builder(&module).policy(Policy::sealed().random(Random::Seeded(7))).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Random {
    /// The kernel's random numbers. The default.
    #[default]
    Secure,
    /// Computed from this number alone: each instance draws the same numbers. They are useless as secrets.
    Seeded(u64),
}

/// Cap on granted directories: each is a descriptor in every worker, and is sent beside its first message.
pub(crate) const DIRS_MAX: usize = 32;

/// What a worker is told about its policy. The directories themselves are descriptors, sent beside it in this
/// order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Grants {
    pub(crate) dirs: Vec<DirGrant>,
    pub(crate) env: Vec<(String, String)>,
    /// `None`: guests have no sockets at all.
    pub(crate) net: Option<Vec<NetGrant>>,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) deterministic: bool,
    /// Whether unknown imports are provided as functions that trap when they are called.
    pub(crate) traps_unknown: bool,
    /// The paths of the imported functions that the application gives. The position of a path is the number
    /// by which a worker asks for a call.
    pub(crate) functions: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DirGrant {
    pub(crate) guest: String,
    pub(crate) access: DirAccess,
    /// Device and inode number: two policies are equal only if they mean the same directories.
    pub(crate) file: (u64, u64),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetGrant {
    /// The host as the caller gave it, without the port.
    pub(crate) host: String,
    pub(crate) addresses: Vec<SocketAddr>,
}

impl Grants {
    /// All addresses that guests may connect to.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.net.iter().flatten().flat_map(|net| net.addresses.iter().copied())
    }
}

#[cfg(any(feature = "worker", test))]
impl Grants {
    /// Whether guests can reach any file.
    pub(crate) fn has_dirs(&self) -> bool {
        !self.dirs.is_empty()
    }

    pub(crate) fn can_write(&self) -> bool {
        self.dirs.iter().any(|dir| dir.access == DirAccess::ReadWrite)
    }

    pub(crate) fn can_connect(&self) -> bool {
        self.addresses().next().is_some()
    }
}
