//! Grant guests access to things outside their own memory.
//!
//! [`Policy::sealed`] grants nothing, and is the default. [`Policy::dir`] grants a directory ([`DirAccess`]),
//! [`Policy::env`] a variable, [`Policy::net`] connections to an address. [`Policy::clock`] and
//! [`Policy::random`] choose the clock ([`Clock`]) and the random numbers ([`Random`]) of a guest.
//! `PoolBuilder::policy` sets the policy of a pool, `ProcessBuilder::policy` that of a process.
//! [`Policy::function`] gives guests functions of this program.
//! [`ModuleInfo::grants`](crate::module::ModuleInfo::grants) tells for each import of a module whether a
//! policy provides it, and how ([`Grant`]). [`Policy::share`] gives guests the objects of [`ipc`](crate::ipc)
//! and [`sync`](crate::sync).

mod error;
mod function;
mod functions;
mod grants;
mod imports;
mod places;

use std::path::PathBuf;
use std::time::SystemTime;

pub(crate) use self::error::PolicyError;
use self::function::Function;
#[cfg(feature = "worker")]
pub(crate) use self::function::IN_INTERFACE;
pub(crate) use self::functions::{Misfit, misfit};
pub(crate) use self::grants::{Granted, OwnPlaces};
pub use self::imports::Grant;
#[cfg(all(test, feature = "worker"))]
pub(crate) use self::imports::PREVIEW1_FUNCTIONS;
pub(crate) use self::imports::missing;
#[cfg(feature = "worker")]
pub(crate) use self::imports::{BATCH, PREVIEW1, PROCESS, is_provided};
pub use crate::exchange::Shareable;
use crate::exchange::member::Share;
use crate::spec::Codegen;
pub use crate::spec::{Clock, DirAccess, Random};
use crate::value::HostFunc;

/// What the guests of a pool or a process may access. By default: no directory, no environment, no network,
/// no fine clock. Every guest gets its arguments, its record, random numbers and a clock with a resolution of
/// a millisecond.
///
/// The worker process gets exactly what its guests get: see `docs/SECURITY.md`.
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
    functions: Vec<Function>,
    function_threads: Option<usize>,
    shares: Vec<Share>,
}

/// A directory as the caller asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Dir {
    host: PathBuf,
    guest: String,
    access: DirAccess,
}

/// A variable of the environment as the caller asked for it.
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

/// The addresses `HOST:PORT` as the caller asked for them. If there are none, guests have sockets that cannot
/// connect.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Net(Vec<String>);

impl Policy {
    /// 1 GiB: the largest size of a file that a guest writes in a granted directory.
    pub const FILE: u64 = 1 << 30;

    /// A policy that grants nothing: the same as `Policy::default()`.
    pub fn sealed() -> Policy {
        Policy::default()
    }

    /// Grants a directory of this machine and everything below it, under the name `guest`. It is opened when
    /// the pool or process is built, and stays the same directory even if its name changes later. No path
    /// leads out of it: not `..`, not an absolute path, not a link.
    ///
    /// Some directories are refused: file systems of the kernel (proc, sysfs, devices, cgroups ..), also if
    /// one is mounted below the directory; for writing, a directory that contains wpool's cache or the
    /// running program, or lies in the cache; and every directory on a kernel without landlock, unless the
    /// sandbox is [`Off`](crate::sandbox::Sandbox::Off) or workers are threads.
    pub fn dir(mut self, host: impl Into<PathBuf>, guest: impl Into<String>, access: DirAccess) -> Policy {
        self.dirs.push(Dir { host: host.into(), guest: guest.into(), access });
        self
    }

    /// Sets a variable of the guest's environment. If a name is set twice, the later value counts.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Policy {
        self.env.push(Variable::Set(name.into(), value.into()));
        self
    }

    /// Passes on a variable of this program's environment, with its value at the time when the pool or
    /// process is built. A variable that is not set then is not set for guests.
    pub fn inherit_env(mut self, name: impl Into<String>) -> Policy {
        self.env.push(Variable::Inherited(name.into()));
        self
    }

    /// Allows guests to connect to `HOST:PORT` over TCP. The host is a name, an IPv4 address, or an IPv6
    /// address in brackets. A name is looked up once, when the pool or process is built; guests that look it
    /// up get those addresses. Other names, UDP and listening are never granted.
    pub fn net(mut self, address: impl Into<String>) -> Policy {
        self.net.get_or_insert_default().0.push(address.into());
        self
    }

    /// Provides the interfaces of sockets but refuses every use of them, unless [`net`](Self::net) grants it.
    /// For guests that never connect but whose language always imports sockets, as Python does. Without this
    /// or a grant, such a guest is refused before anything starts.
    pub fn refuse_net(mut self) -> Policy {
        self.net.get_or_insert_default();
        self
    }

    /// Provides unknown imported functions as functions that end the task when they are called. For modules
    /// that import more than they use, as Ruby does, or whose only missing import is a logger. This also
    /// holds for a function that a component imports from an interface of wpool's which does not have it.
    /// Memories, tables and globals cannot be provided like this, and imports that a policy can grant
    /// (sockets) still need that grant.
    pub fn trap_unknown_imports(mut self) -> Policy {
        self.traps_unknown = true;
        self
    }

    /// Gives guests a function of this program: `acme:shop/prices#price` is the function `price` of the
    /// interface `acme:shop/prices`, and `price` alone a function that a component imports by itself. If a
    /// path is given twice, the later function counts.
    ///
    /// The types are those of calls, seen from the other side: a parameter is any type that a result of a
    /// guest can have ([`HostArg`](crate::value::HostArg)), the result any type that an argument can have
    /// ([`HostRet`](crate::value::HostRet)). A closure's parameters need their types written out. Whether
    /// they fit what a module imports is checked when a pool or process is built
    /// ([`BuildError::Function`](crate::BuildError::Function)). A function that a module does not import does
    /// no harm, so that one policy can serve several modules.
    ///
    /// A path without a version gives the function to imports of any version. One with a version,
    /// `acme:shop/prices@1.2.0#price`, gives it to imports of compatible versions (1.0.0, 1.9.0; for 0.2.1
    /// all of 0.2; for 0.0.1 only itself). If several paths fit an import, the same version counts first,
    /// then the highest compatible one.
    ///
    /// - An `Err` becomes the import's error value, if its result has one of that type. Otherwise it is a
    ///   trap with the error as its message. A panic is a trap, too: it ends the task that has called, not
    ///   this program.
    /// - The task waits meanwhile, and its time limit goes on. When the time is over, or the task is
    ///   cancelled, the task ends and its worker lives on. The function is not interrupted; what it gives is
    ///   dropped. A call that still waits for a thread is not begun any more.
    /// - Calls run on threads of their own ([`function_threads`](Self::function_threads)), several at the
    ///   same time. A task that is tried again calls again.
    /// - Arguments come from a guest that is not trusted. The function runs in this program, outside of every
    ///   sandbox: what it does with them is up to you.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use wpool::Policy;
    ///
    /// let policy = Policy::sealed()
    ///     .function("acme:shop/prices#price", |sku: &str| -> Result<f64, String> {
    ///         if sku == "tea" { Ok(2.5) } else { Err(format!("nobody sells {sku}")) }
    ///     })
    ///     .function("acme:shop/prices#log", |line: String| println!("{line}"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn function<P>(mut self, path: impl Into<String>, function: impl HostFunc<P>) -> Policy {
        let function = Function::new(path.into(), function);
        self.functions.retain(|known| known.path != function.path);
        self.functions.push(function);
        self
    }

    /// The most calls of [functions](Self::function) that run at the same time, each on a thread of its own.
    /// Other calls wait. By default there are as many as workers, so that none waits. 0 is an error. Each
    /// pool and each process has its own threads, which start when they are needed and end with it.
    pub fn function_threads(mut self, threads: usize) -> Policy {
        self.function_threads = Some(threads);
        self
    }

    /// Gives guests an object of [`ipc`](crate::ipc) or [`sync`](crate::sync) under a name. A guest opens it
    /// by that name and its kind, and reaches no other object; so a queue and a lock may have the same name.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let module = guest("upper")?;
    /// let (found, db) = (wpool::ipc::Queue::<String>::bounded(1000), wpool::sync::Lock::new());
    /// let policy = wpool::Policy::sealed().share("found", &found).share("db", &db);
    /// let pool = wpool::Pool::builder(&module).policy(policy).build()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The object may be given to several pools and processes, and lives as long as one of them, a policy or
    /// a handle of it.
    pub fn share(mut self, name: impl Into<String>, object: &impl Shareable) -> Policy {
        self.shares.push(Share { name: name.into(), object: crate::exchange::object(object) });
        self
    }

    /// The clocks that guests see. Default [`Clock::Coarse`].
    pub fn clock(mut self, clock: Clock) -> Policy {
        self.clock = clock;
        self
    }

    /// The source of guests' random numbers. Default [`Random::Secure`].
    pub fn random(mut self, random: Random) -> Policy {
        self.random = random;
        self
    }

    /// Makes results repeatable: the same record gives the same result, byte for byte, in every run, on every
    /// machine, with any number of workers. The clock is fixed (1970, unless [`clock`](Self::clock) sets
    /// another time), random numbers are seeded (0, unless [`random`](Self::random) sets another seed),
    /// floating point is exact, and guests learn nothing about their worker (name `worker`, index 1, process
    /// 1, attempt 1).
    ///
    /// This does not cover a limit that is reached, except fuel, memory, stack and output, which are exact;
    /// nor the content of files. Each task has its own instance, even with an initializer.
    /// [`Isolation::Reuse`](crate::Isolation::Reuse) is refused, because results could depend on earlier
    /// tasks of the worker.
    pub fn deterministic(mut self) -> Policy {
        self.deterministic = true;
        // A fixed clock or a seed that the caller has set before stays.
        if !matches!(self.clock, Clock::Fixed(_)) {
            self.clock = Clock::Fixed(SystemTime::UNIX_EPOCH);
        }
        if !matches!(self.random, Random::Seeded(_)) {
            self.random = Random::Seeded(0);
        }
        self
    }

    /// How machine code must be compiled for this policy.
    pub(crate) fn codegen(&self, other: Codegen) -> Codegen {
        Codegen { deterministic: self.deterministic, ..other }
    }

    /// Opens and looks up everything that the policy names.
    pub(crate) fn resolve(&self) -> Result<Granted, PolicyError> {
        grants::resolve(self)
    }
}
