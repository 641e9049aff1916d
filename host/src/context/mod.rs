//! Start methods: how worker processes and worker threads are started.
//!
//! Every worker process executes the same program with a hidden first argument; [`Program::start`] executes
//! it. [`forkserver`] asks a running zygote to fork a worker instead. A pool has its own zygote; `Process`
//! values share the zygotes of a [`server`]. [`thread`] starts no process: its workers are threads of this
//! program. All kinds of worker do the same after their start.

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
pub(crate) use self::child::{Child, END_TIME, LAST_BREATH, NotTaken};
pub(crate) use self::early::Early;
pub(crate) use self::error::IN_FORK;
pub use self::error::StartError;
pub(crate) use self::launch::Launch;
pub use self::unenforced::unenforced;
use crate::spec::{ProcessRole, Sandbox};
use crate::sys;

/// How processes, and the workers of a pool, are started: Python's `context`. There is no `fork` method,
/// because the fork of a program with several threads is unsafe.
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
    /// Workers are forked from a process that has already loaded the module: about a third of a millisecond
    /// each. The default.
    #[default]
    Forkserver,
    /// Each worker is a newly executed program, which loads the module itself.
    Spawn,
    /// Each worker is a thread of this program: Python's `multiprocessing.dummy`. WebAssembly is then the
    /// only wall around a guest; the module `dummy` lists all differences. Needs the feature `worker`.
    Thread,
}

impl StartMethod {
    /// What happens to a worker that does not stop by itself, as a word for messages.
    pub(crate) fn last_resort(self) -> &'static str {
        match self {
            StartMethod::Forkserver | StartMethod::Spawn => "killed",
            StartMethod::Thread => "abandoned",
        }
    }
}

/// The first argument of a worker process. Users never type it.
const ROLE_ARG: &str = "__wpool-worker";

/// An environment variable for the WebAssembly text parser: also accept the older syntax for a component's
/// core items, which most existing texts use.
const LENIENT_TEXT: (&str, &str) = ("WAST_STRICT_COMPONENT_INDICES", "0");

static INIT_CALLED: AtomicBool = AtomicBool::new(false);
/// Whether this program already had other threads when `init` was called.
static INIT_TOO_LATE_HERE: AtomicBool = AtomicBool::new(false);

/// Makes this program its own worker. Call it first in `main`, as Python's
/// `multiprocessing.freeze_support()`. In a worker process it does not return.
///
/// Call it before any thread is started: a worker is confined and forked while it has only one thread.
/// `#[tokio::main]` and similar macros start threads before the first line of their `main`. Write a plain
/// `main` instead, and build the runtime after the call:
///
/// ```ignore
/// fn main() -> std::io::Result<()> {
///     wpool::init();
///     tokio::runtime::Runtime::new()?.block_on(serve());
///     Ok(())
/// }
/// ```
///
/// A program that loads its modules with [`ModuleLoader::program`](crate::module::ModuleLoader::program) does
/// not need this call.
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
            // A wrong argument is not judged here: `worker::main` exits unless all three are there.
            let role = args.next().as_deref().and_then(ProcessRole::parse);
            let parent = args.next().and_then(|pid| pid.to_str()?.parse().ok());
            let sandbox = args.next().and_then(|choice| choice.to_str()?.parse().ok());
            crate::worker::main(role.zip(parent).zip(sandbox));
        }
        // This program was started as a worker, but is built without the engine.
        #[cfg(not(feature = "worker"))]
        std::process::abort();
    }
    // Now, because relative paths still mean what they meant at the start of the program.
    loader::get();
    // Noted, not an error: the program may never start a worker of its own. `Program::choose` judges it.
    INIT_TOO_LATE_HERE.store(sys::has_threads(), Ordering::Relaxed);
    INIT_CALLED.store(true, Ordering::Relaxed);
}

/// The executable that worker processes run.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    /// Whether `path` is the program that runs now.
    is_this: bool,
    /// How much confinement its processes must have.
    pub(crate) sandbox: Sandbox,
    /// A zygote that was started before its module was at hand.
    early: Option<Arc<Early>>,
    /// The fault that its compiler and its `Process` children act out, in tests.
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

    /// The given program, or this one. Fails before any process starts if this program cannot be a worker.
    pub(crate) fn choose(given: Option<&Path>, sandbox: Sandbox) -> Result<Program, StartError> {
        match given {
            Some(path) => {
                // An absolute path, because processes start in `/`.
                // Found out here, not at the first task: a misspelt path is the caller's mistake.
                let missing = |source| StartError::Spawn { program: path.display().to_string(), source };
                Ok(Program::at(std::fs::canonicalize(path).map_err(missing)?, sandbox))
            }
            None if cfg!(not(feature = "worker")) => Err(StartError::NoWorker),
            None if !INIT_CALLED.load(Ordering::Relaxed) => Err(StartError::InitNotCalled),
            // A worker's `main` runs the same code up to `init`: it would have the same threads, and could be
            // neither forked nor confined as a whole.
            None if INIT_TOO_LATE_HERE.load(Ordering::Relaxed) => Err(StartError::InitTooLate),
            // `/proc/self/exe` stays right when the file is replaced or removed while this program runs.
            None => Ok(Program { is_this: true, ..Program::at("/proc/self/exe".into(), sandbox) }),
        }
    }

    /// Whether a zygote has been started early and still waits for its setup.
    pub(crate) fn has_early(&self) -> bool {
        self.early.as_ref().is_some_and(|early| early.is_there())
    }

    /// The same program, with a zygote that was started early.
    pub(crate) fn with_early(self, early: Option<Arc<Early>>) -> Program {
        Program { early, ..self }
    }

    #[cfg(feature = "fault-points")]
    pub(crate) fn with_fault(self, fault: Option<crate::spec::Fault>) -> Program {
        Program { fault, ..self }
    }

    /// Executes the program in a role, with `socket` as its standard input. Besides `socket`, the process
    /// inherits only two descriptors of /dev/null.
    ///
    /// The calling thread must live as long as the process is wanted: the kernel sends the parent-death
    /// signal when that *thread* ends, not when the program ends.
    pub(crate) fn start(&self, role: ProcessRole, socket: OwnedFd) -> Result<Child, StartError> {
        let failed = |source| StartError::Spawn { program: self.path.display().to_string(), source };
        let mut command = Command::new(&self.path);
        // The loader's variables are read before `env_clear` removes them from the command.
        let loader = loader::get().filter(|_| self.is_this);
        let spawned = command
            .args(loader.iter().flat_map(|loader| &loader.args))
            // The sandbox choice is an argument, not part of the setup: the first steps come before a byte is
            // read.
            .args([ROLE_ARG, role.as_str(), &std::process::id().to_string(), self.sandbox.as_str()])
            .env_clear()
            // A worker must never symbolise a backtrace of its own: that opens files and takes locks.
            .env("RUST_BACKTRACE", "0")
            .envs((role == ProcessRole::Compiler).then_some(LENIENT_TEXT))
            .envs(loader.iter().flat_map(|loader| &loader.libraries).map(|path| (sys::LIBRARIES, path)))
            // Not the caller's directory: a process that stays in it keeps its file system from being
            // unmounted.
            .current_dir("/")
            .stdin(Stdio::from(socket))
            .stdout(dev_null().map_err(failed)?)
            .stderr(dev_null().map_err(failed)?)
            .spawn();
        let child = spawned.map_err(failed)?;
        Child::open(i32::try_from(child.id()).expect("a process id is a positive i32")).map_err(failed)
    }
}

/// Not `Stdio::null()`: if this program has closed its standard streams, the standard library's descriptor
/// would get one of their numbers.
fn dev_null() -> std::io::Result<Stdio> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    Ok(Stdio::from(sys::above_stdio(null)?))
}
