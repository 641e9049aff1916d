//! Grant guests what they may reach outside of their own memory.
//!
//! [`Policy::sealed`] grants nothing, and is the default. [`Policy::dir`] grants a directory ([`DirAccess`]),
//! [`Policy::env`] a variable, [`Policy::net`] connections to an address. [`Policy::clock`] and [`Policy::random`] choose
//! what a guest sees of time ([`Clock`]) and chance ([`Random`]). The policy of a pool is `PoolBuilder::policy`, that of a
//! process `ProcessBuilder::policy`. [`ModuleInfo::grants`](crate::module::ModuleInfo::grants) tells which import of a module
//! a policy meets, and how ([`Grant`]).

mod error;
mod grants;
mod imports;
mod places;

use std::path::PathBuf;
use std::time::SystemTime;

pub(crate) use self::error::PolicyError;
pub(crate) use self::grants::{Granted, OwnPlaces};
pub use self::imports::Grant;
#[cfg(all(test, feature = "worker"))]
pub(crate) use self::imports::PREVIEW1_FUNCTIONS;
pub(crate) use self::imports::missing;
#[cfg(feature = "worker")]
pub(crate) use self::imports::{BATCH, PREVIEW1, PROCESS, is_provided};
use crate::spec::Codegen;
pub use crate::spec::{Clock, DirAccess, Random};

/// What the guests of a pool or a process are given. Nothing by default: no directory, no environment, no network, no fine clock. (What
/// reaches a guest in any case are its arguments, its record, random numbers and a clock of milliseconds.)
///
/// Whatever is granted to guests is granted to the worker process too, and nothing else: see `docs/SECURITY.md`.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let module = guest("upper")?;
/// use wpool::policy::{Clock, DirAccess};
/// use wpool::{Policy, Pool};
///
/// let policy = Policy::sealed()
///     .dir(".", "/data", DirAccess::ReadOnly)
///     .env("LANG", "C")
///     .inherit_env("TZ")
///     .clock(Clock::Fine);
/// assert!(policy.warnings(&module).is_empty());
/// let pool = Pool::builder(&module).policy(policy).build()?;
///
/// // Connections to one server; and the same results in every run.
/// let online = Policy::sealed().net("example.org:443");
/// let pool = Pool::builder(&module).policy(Policy::sealed().deterministic()).build()?;
/// # let run = pool.func::<&str, String>("run")?;
/// # assert_eq!(pool.apply(&run, "a")?, "A");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "a policy grants nothing until it is given to a builder"]
pub struct Policy {
    dirs: Vec<Dir>,
    env: Vec<Variable>,
    net: Option<Net>,
    clock: Clock,
    random: Random,
    deterministic: bool,
    traps_unknown: bool,
}

/// A directory, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Dir {
    host: PathBuf,
    guest: String,
    access: DirAccess,
}

/// A variable of the environment, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Variable {
    Set(String, String),
    Inherited(String),
}

impl Variable {
    fn name(&self) -> &str {
        match self {
            Variable::Set(name, _) | Variable::Inherited(name) => name,
        }
    }
}

/// The network, as it was asked for: `HOST:PORT`, any number of them. None at all: sockets that connect to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Net(Vec<String>);

impl Policy {
    /// 1 GiB: no file in a granted directory is written beyond that.
    pub const FILE: u64 = 1 << 30;

    /// Nothing is granted: the same as `Policy::default()`.
    pub fn sealed() -> Policy {
        Policy::default()
    }

    /// Grants a directory of this machine, all below it included, under the name `guest`. It is opened when the pool or process is built, and stays the one that was
    /// granted, whatever its name comes to mean afterwards. No path leads out of it: neither `..`, nor an absolute one, nor a link.
    ///
    /// Refused are: file systems of the kernel's own (proc, sysfs, devices, cgroups ..), also where one is mounted below the directory; for
    /// writing, whatever has wpool's cache or the running program in it, or lies in the cache; and any directory on a kernel without landlock,
    /// unless the sandbox is [`Off`](crate::sandbox::Sandbox::Off) or workers are threads.
    pub fn dir(mut self, host: impl Into<PathBuf>, guest: impl Into<String>, access: DirAccess) -> Policy {
        self.dirs.push(Dir { host: host.into(), guest: guest.into(), access });
        self
    }

    /// Sets a variable of the guest's environment. Of two with one name the later counts.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Policy {
        self.env.push(Variable::Set(name.into(), value.into()));
        self
    }

    /// Passes on a variable of this program's own environment, with the value that it has when the pool or process is built. One that is not
    /// set here is not set there.
    pub fn inherit_env(mut self, name: impl Into<String>) -> Policy {
        self.env.push(Variable::Inherited(name.into()));
        self
    }

    /// Lets guests connect to `HOST:PORT` over TCP: a name, an IPv4 address, or an IPv6 address in brackets. A name is looked up once, when the
    /// pool or process is built; guests may look it up and get those addresses. Neither other names, nor UDP, nor listening is ever granted.
    pub fn net(mut self, address: impl Into<String>) -> Policy {
        self.net.get_or_insert_default().0.push(address.into());
        self
    }

    /// Gives guests the interfaces of sockets, every use of which is refused, unless [`net`](Self::net) grants it: for guests
    /// whose language brings those imports along (Python does), and that never connect. Without this, or a grant, such a guest is refused before
    /// anything starts.
    pub fn refuse_net(mut self) -> Policy {
        self.net.get_or_insert_default();
        self
    }

    /// Gives guests functions in place of those that they import and nobody provides: each ends the task when
    /// it is called. For modules that import more than they use, as Ruby does, or one whose only missing
    /// import is a logger. Memories, tables and globals cannot be met so, and what could be granted (sockets)
    /// still has to be.
    pub fn trap_unknown_imports(mut self) -> Policy {
        self.traps_unknown = true;
        self
    }

    /// Which clocks guests see. Default [`Clock::Coarse`].
    pub fn clock(mut self, clock: Clock) -> Policy {
        self.clock = clock;
        self
    }

    /// Where guests' random numbers come from. Default [`Random::Secure`].
    pub fn random(mut self, random: Random) -> Policy {
        self.random = random;
        self
    }

    /// The same record gives the same result, byte for byte, in every run, on every machine, with any number of workers: a fixed clock (1970, unless
    /// [`clock`](Self::clock) says otherwise), seeded random numbers (0, unless [`random`](Self::random) says otherwise), floating point without liberties, and a
    /// worker that tells guests nothing of itself (name `worker`, index 1, process 1, attempt 1).
    ///
    /// That holds for limits that are not reached, except those of fuel, memory, stack and output, which are
    /// exact; files are as they are. Each task has an instance of its own, with an initializer too;
    /// [`Isolation::Reuse`](crate::Isolation::Reuse) is refused, because results could depend on what the
    /// worker has done before.
    pub fn deterministic(mut self) -> Policy {
        self.deterministic = true;
        if !matches!(self.clock, Clock::Fixed(_)) {
            self.clock = Clock::Fixed(SystemTime::UNIX_EPOCH);
        }
        if !matches!(self.random, Random::Seeded(_)) {
            self.random = Random::Seeded(0);
        }
        self
    }

    /// How machine code must be made for it.
    pub(crate) fn codegen(&self, other: Codegen) -> Codegen {
        Codegen { deterministic: self.deterministic, ..other }
    }

    /// Finds all that it names.
    pub(crate) fn resolve(&self) -> Result<Granted, PolicyError> {
        grants::resolve(self)
    }
}
