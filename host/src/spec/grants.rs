//! What a worker is told of the policy of its guests.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// What may be done in a granted directory.
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
/// let policy = Policy::sealed().dir("src", "/src", DirAccess::ReadOnly).dir(results, "/results", DirAccess::ReadWrite);
/// let pool = Pool::builder(&module).policy(policy).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DirAccess {
    /// Files are read, directories listed.
    ReadOnly,
    /// Also: files are written, made and removed, and so are directories and links. A file grows to [`Policy::FILE`](crate::Policy::FILE) at most.
    ReadWrite,
}

/// The clocks that a guest sees. Sleeping takes its time in any case.
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
    /// Rounded down to [`Clock::RESOLUTION`], so that nobody measures with it what happens in the processor. The default.
    #[default]
    Coarse,
    /// As fine as the kernel's.
    Fine,
    /// It is always this time of day. The clock for durations starts at 0 with each instance and goes on by [`Clock::RESOLUTION`] whenever it
    /// is read, so that what waits for it to move does not wait for ever.
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
    /// From the kernel. The default.
    #[default]
    Secure,
    /// From this number alone: each instance draws the same ones. No secret can be made of them.
    Seeded(u64),
}

/// More directories than this are not granted: each is a descriptor in every worker, and travels beside the first message to it.
pub(crate) const DIRS_MAX: usize = 32;

/// What a worker is told of its policy. The directories themselves are descriptors, which come beside it in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Grants {
    pub(crate) dirs: Vec<DirGrant>,
    pub(crate) env: Vec<(String, String)>,
    /// `None`: there are no sockets at all.
    pub(crate) net: Option<Vec<NetGrant>>,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) deterministic: bool,
    /// Imports that nobody provides are there, and trap when they are called.
    pub(crate) traps_unknown: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DirGrant {
    pub(crate) guest: String,
    pub(crate) access: DirAccess,
    /// Device and number: two policies are the same only if they mean the same directories.
    pub(crate) file: (u64, u64),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetGrant {
    /// As it was asked for, without the port.
    pub(crate) host: String,
    pub(crate) addresses: Vec<SocketAddr>,
}

impl Grants {
    /// All addresses that may be connected to.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.net.iter().flatten().flat_map(|net| net.addresses.iter().copied())
    }
}

#[cfg(any(feature = "worker", test))]
impl Grants {
    /// Whether there is a file to be reached.
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
