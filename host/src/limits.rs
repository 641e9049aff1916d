//! What a task may use, and the state it finds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::module::Codegen;
use crate::protocol::frame::FRAME_LEN_MAX;

/// Limits of one task. Every one of them has a default, so that no guest has the whole machine by oversight.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let module = guest("upper")?;
/// use std::time::Duration;
/// use wpool::{Limits, Pool};
///
/// let mut limits = Limits::default();
/// limits.time = Some(Duration::from_secs(2));
/// limits.memory = 64 << 20;
/// let pool = Pool::builder(&module).limits(limits).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Limits {
    /// The time that an attempt may take, counted from its start. `None`, the default: no limit.
    pub time: Option<Duration>,
    /// How long a guest that has reached its time limit may take to leave a host call before its worker is killed, and one that
    /// was asked to stop ([`Process::interrupt`](crate::Process::interrupt)) to return. Default 250 ms.
    pub grace: Duration,
    /// Bytes of linear memory, all memories of an instance together. Default [`Limits::MEMORY`].
    pub memory: u64,
    /// Instructions of a task, in the engine's count of them (most cost 1, and so does each byte or element of a bulk operation): the same
    /// task uses the same fuel every time, on every machine. The module is compiled once more for it, and runs slower. `None`, the default: no limit.
    pub fuel: Option<u64>,
    /// Bytes of the stack that guest code runs on. Default [`Limits::STACK`].
    pub stack: usize,
    /// Bytes of one result. Default [`Limits::OUTPUT`], at most [`Limits::RECORD_MAX`].
    pub output: usize,
    /// Bytes of one record. Default [`Limits::INPUT`], at most [`Limits::RECORD_MAX`].
    pub input: usize,
    /// Bytes kept of what a task writes to stdout and to stderr (each); a command's stdout is its result and has `output` as its limit.
    /// Default [`Limits::STDOUT`].
    pub stdout: usize,
}

impl Limits {
    /// 256 MiB.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// assert_eq!(wpool::Limits::default().memory, wpool::Limits::MEMORY);
    /// # Ok(())
    /// # }
    /// ```
    pub const MEMORY: u64 = 256 << 20;
    /// 512 KiB.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// assert_eq!(wpool::Limits::default().stack, wpool::Limits::STACK);
    /// # Ok(())
    /// # }
    /// ```
    pub const STACK: usize = 512 << 10;
    /// 256 MiB.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// assert_eq!(wpool::Limits::default().output, wpool::Limits::OUTPUT);
    /// # Ok(())
    /// # }
    /// ```
    pub const OUTPUT: usize = 256 << 20;
    /// 256 MiB.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// assert_eq!(wpool::Limits::default().input, wpool::Limits::INPUT);
    /// # Ok(())
    /// # }
    /// ```
    pub const INPUT: usize = 256 << 20;
    /// 64 KiB.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// assert_eq!(wpool::Limits::default().stdout, wpool::Limits::STDOUT);
    /// # Ok(())
    /// # }
    /// ```
    pub const STDOUT: usize = 64 << 10;
    /// 992 MiB: no record and no result can be longer, whatever the limits say.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// assert!(wpool::Limits::INPUT <= wpool::Limits::RECORD_MAX);
    /// # Ok(())
    /// # }
    /// ```
    pub const RECORD_MAX: usize = FRAME_LEN_MAX - (32 << 20);

    /// How the machine code must be made so that they hold.
    pub(crate) fn codegen(&self) -> Codegen {
        Codegen { fuel: self.fuel.is_some(), ..Codegen::default() }
    }

    /// With the most that is possible where more was asked for.
    pub(crate) fn possible(mut self) -> Limits {
        self.input = self.input.min(Self::RECORD_MAX);
        self.output = self.output.min(Self::RECORD_MAX);
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            time: None,
            grace: Duration::from_millis(250),
            memory: Self::MEMORY,
            fuel: None,
            stack: Self::STACK,
            output: Self::OUTPUT,
            input: Self::INPUT,
            stdout: Self::STDOUT,
        }
    }
}

/// Which limit a task has reached.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let module = guest("failing")?;
/// # let pool = wpool::Pool::builder(&module).task_timeout(std::time::Duration::from_millis(100)).build()?;
/// # let run = pool.func::<&str, String>("run")?;
/// use wpool::{Limit, TaskError};
///
/// let outcome = pool.apply(&run, "loop");
/// assert!(matches!(outcome, Err(TaskError::Limit { limit: Limit::Time, .. })));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Limit {
    /// [`Limits::time`].
    Time,
    /// [`Limits::memory`], or the number of memories, tables and instances.
    Memory,
    /// [`Limits::fuel`].
    Fuel,
    /// [`Limits::stack`].
    Stack,
    /// [`Limits::output`].
    Output,
}

/// Which state a task finds in its guest.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let counter = guest("counter")?;
/// use wpool::{Isolation, Pool};
///
/// // This guest counts its calls in a `static`.
/// let apart = Pool::builder(&counter).processes(1).isolation(Isolation::Fresh).build()?;
/// assert_eq!(apart.map(&apart.func::<&str, String>("run")?, ["", "", ""])?, ["1", "1", "1"]);
/// let together = Pool::builder(&counter).processes(1).isolation(Isolation::Reuse).build()?;
/// assert_eq!(together.map(&together.func::<&str, String>("run")?, ["", "", ""])?, ["1", "2", "3"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// A new instance for each task: no input can influence another's result. The default.
    Fresh,
    /// One instance per worker, until it traps, reaches a limit, is stopped by a cancel or its worker is retired: globals live on, as in Python's
    /// workers. The default with an initializer, named or the module's own `init`, since its state is its point.
    Reuse,
}
