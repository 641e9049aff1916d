//! Start methods: how workers come into being.
//!
//! Every worker process is the same program, executed again with a hidden first argument. [`Program::start`] executes it;
//! [`forkserver`] asks a running zygote for a fork; a pool has its own zygote, processes share those of a [`server`]. [`thread`] starts no
//! process at all, its workers are threads of this one. After the start all kinds of worker do the same.

mod child;
mod early;
mod error;
pub(crate) mod forkserver;
mod launch;
mod loader;
pub(crate) mod server;
pub(crate) mod spawn;
pub(crate) mod thread;
mod unenforced;

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags};

pub use self::child::while_stopped;
pub(crate) use self::child::{Child, END_TIME, NotTaken};
pub(crate) use self::early::Early;
pub(crate) use self::error::IN_FORK;
pub use self::error::StartError;
pub(crate) use self::launch::Launch;
pub use self::unenforced::unenforced;
use crate::spec::{ProcessRole, Sandbox};
use crate::sys;

/// How processes, and the workers of a pool, are started: Python's `context`. There is no `fork`: an application has threads.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let module = guest("upper")?;
/// use wpool::{Pool, StartMethod};
///
/// for method in [StartMethod::Forkserver, StartMethod::Spawn, StartMethod::Thread] {
///     let pool = Pool::builder(&module).processes(1).start_method(method).build()?;
///     let upper = pool.func::<&str, String>("run")?;
///     assert_eq!(pool.apply(&upper, "a")?, "A");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StartMethod {
    /// Workers are forked from a process that has the module loaded: about a third of a millisecond each. The default.
    #[default]
    Forkserver,
    /// Each worker is a program executed anew, which loads the module itself.
    Spawn,
    /// Each worker is a thread of this process: Python's `multiprocessing.dummy`. One wall instead of two; see the module `dummy` for all
    /// that is different. Needs the feature `worker`.
    Thread,
}

impl StartMethod {
    /// What becomes of a worker that does not stop by itself.
    pub(crate) fn last_resort(self) -> &'static str {
        match self {
            StartMethod::Forkserver | StartMethod::Spawn => "killed",
            StartMethod::Thread => "abandoned",
        }
    }
}

/// The first argument of a worker process. No user types it.
const ROLE_ARG: &str = "__wpool-worker";

/// Has the text parser take the older way to write a component's core items too, which most existing texts use.
const LENIENT_TEXT: (&str, &str) = ("WAST_STRICT_COMPONENT_INDICES", "0");

static INIT_CALLED: AtomicBool = AtomicBool::new(false);
/// There were other threads by then.
static INIT_TOO_LATE_HERE: AtomicBool = AtomicBool::new(false);

/// Makes this program its own worker. Call it first thing in `main`, as Python's `multiprocessing.freeze_support()`: in a worker process it
/// does not return.
///
/// Before any thread is started, that is: a worker is confined and forked while it has one thread. `#[tokio::main]` and its like start threads
/// before the first line of their `main`. Write a plain `main` instead, and build the runtime behind the call:
///
/// ```ignore
/// fn main() -> std::io::Result<()> {
///     wpool::init();
///     tokio::runtime::Runtime::new()?.block_on(serve());
///     Ok(())
/// }
/// ```
///
/// Not needed if modules are loaded with [`ModuleLoader::program`](crate::module::ModuleLoader::program).
///
/// ```standalone_crate
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     wpool::init();
///     // From here on the program is itself.
///     let module = wpool::Module::load("../guest/prebuilt/upper.wasm")?;
///     Ok(())
/// }
/// ```
pub fn init() {
    let mut args = std::env::args_os().skip(1);
    if args.next().as_deref() == Some(OsStr::new(ROLE_ARG)) {
        #[cfg(feature = "worker")]
        {
            let role = args.next().as_deref().and_then(ProcessRole::parse);
            let parent = args.next().and_then(|pid| pid.to_str()?.parse().ok());
            let sandbox = args.next().and_then(|choice| choice.to_str()?.parse().ok());
            crate::worker::main(role.zip(parent).zip(sandbox));
        }
        // Somebody started a program as a worker that cannot be one.
        #[cfg(not(feature = "worker"))]
        std::process::abort();
    }
    // While relative paths mean what they meant at the start.
    loader::get();
    INIT_TOO_LATE_HERE.store(sys::has_threads(), Ordering::Relaxed);
    INIT_CALLED.store(true, Ordering::Relaxed);
}

/// The executable that worker processes run.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    /// It is the very program that runs now.
    is_this: bool,
    /// How much confinement its processes must have.
    pub(crate) sandbox: Sandbox,
    /// A zygote that has been started already.
    early: Option<Arc<Early>>,
    /// What its compiler and its Processes do, in tests.
    #[cfg(feature = "fault-points")]
    pub(crate) fault: Option<crate::spec::Fault>,
}

impl Program {
    fn at(path: PathBuf, sandbox: Sandbox) -> Program {
        Program {
            path,
            is_this: false,
            sandbox,
            early: None,
            #[cfg(feature = "fault-points")]
            fault: None,
        }
    }

    /// The given program, or this one. An error, before any process starts, if this one cannot be a worker.
    pub(crate) fn choose(given: Option<&Path>, sandbox: Sandbox) -> Result<Program, StartError> {
        match given {
            Some(path) => {
                let missing = |source| StartError::Spawn { program: path.display().to_string(), source };
                Ok(Program::at(std::fs::canonicalize(path).map_err(missing)?, sandbox))
            }
            None if cfg!(not(feature = "worker")) => Err(StartError::NoWorker),
            None if !INIT_CALLED.load(Ordering::Relaxed) => Err(StartError::InitNotCalled),
            None if INIT_TOO_LATE_HERE.load(Ordering::Relaxed) => Err(StartError::InitTooLate),
            // Stays right when the file is replaced or removed while we run.
            None => Ok(Program { is_this: true, ..Program::at("/proc/self/exe".into(), sandbox) }),
        }
    }

    /// Whether there is a zygote that has been started and waits for its setup.
    pub(crate) fn has_early(&self) -> bool {
        self.early.as_ref().is_some_and(|early| early.is_there())
    }

    /// With a zygote that has been started already.
    pub(crate) fn with_early(self, early: Option<Arc<Early>>) -> Program {
        Program { early, ..self }
    }

    #[cfg(feature = "fault-points")]
    pub(crate) fn with_fault(self, fault: Option<crate::spec::Fault>) -> Program {
        Program { fault, ..self }
    }

    /// Executes the program in a role, with `socket` as its standard input: the one descriptor besides two times /dev/null that it inherits.
    ///
    /// The calling thread must live as long as the process is wanted: the kernel sends the death signal when that *thread* ends.
    pub(crate) fn start(&self, role: ProcessRole, socket: OwnedFd) -> Result<Child, StartError> {
        let failed = |source| StartError::Spawn { program: self.path.display().to_string(), source };
        // Not by the standard library, whose own would take the numbers of standard streams that this program has closed.
        let null = || {
            let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
            Ok(Stdio::from(sys::above_stdio(null)?))
        };
        let mut command = Command::new(&self.path);
        // Before the environment that is this program's own is cleared.
        let loader = loader::get().filter(|_| self.is_this);
        let spawned = command
            .args(loader.iter().flat_map(|loader| &loader.args))
            .args([ROLE_ARG, role.as_str(), &std::process::id().to_string(), self.sandbox.as_str()])
            .env_clear()
            // A worker must never symbolise a backtrace of its own: that opens files and takes locks.
            .env("RUST_BACKTRACE", "0")
            .envs((role == ProcessRole::Compiler).then_some(LENIENT_TEXT))
            .envs(loader.iter().flat_map(|loader| &loader.libraries).map(|path| (sys::LIBRARIES, path)))
            .current_dir("/")
            .stdin(Stdio::from(socket))
            .stdout(null().map_err(failed)?)
            .stderr(null().map_err(failed)?)
            .spawn();
        let child = spawned.map_err(failed)?;
        Child::open(i32::try_from(child.id()).expect("a process id is a positive i32")).map_err(failed)
    }
}
