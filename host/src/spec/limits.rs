//! What a task may use, and which instance it runs in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Codegen;

/// Limits of one task. Each field except `time` and `fuel` is bounded by default, so that no guest gets the
/// whole machine by oversight.
///
/// | Field | Limits | Default | Flag | A task that reaches it ends with |
/// |---|---|---|---|---|
/// | [`time`](Self::time) | wall clock: instantiation to result | none | `--timeout` | [`Limit::Time`] |
/// | [`grace`](Self::grace) | time until the worker is killed | 250 ms | `--grace` | |
/// | [`memory`](Self::memory) | all memories together | 256 MiB | `--memory` | [`Limit::Memory`], see below |
/// | [`fuel`](Self::fuel) | instructions | none | `--fuel` | [`Limit::Fuel`] |
/// | [`stack`](Self::stack) | stack of guest code | 512 KiB | `--stack` | [`Limit::Stack`] |
/// | [`table_elements`](Self::table_elements) | tables | 100000 | `--max-table-elements` | [`Limit::Table`] |
/// | [`output`](Self::output) | one result | 256 MiB | `--max-output` | [`Limit::Output`] |
/// | [`input`](Self::input) | one record | 256 MiB | `--max-input` | [`Limit::Input`] |
/// | [`stdout`](Self::stdout) | kept stdout, stderr | 64 KiB | `--max-stdout` | a count of the rest |
///
/// A guest that asks for more memory or table elements than its limit is refused, and may go on without. Only
/// if it then traps, as most allocators do, does the task end with [`Limit::Memory`] or [`Limit::Table`].
///
/// Some limits are fixed: 1,000 instances, memories and tables each (reported as [`Limit::Memory`]); 10,000
/// host resources that a guest holds (reported as [`Limit::Table`]); 16 MiB of random bytes in one call.
///
/// [`max_memory_per_child`](crate::PoolBuilder::max_memory_per_child) limits a whole worker process. To limit
/// the time of a whole map, take its outcomes [until a deadline](crate::pool::Outcomes::take_until) and then
/// [terminate](crate::Pool::terminate) the pool, as `wpool map --global-timeout` does.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let module = guest("upper")?;
/// use std::time::Duration;
/// use wpool::{Limits, Pool};
///
/// let mut limits = Limits::default().time(Duration::from_secs(2)).memory(64 << 20);
/// assert_eq!((limits.memory, limits.stack), (64 << 20, Limits::STACK));
/// limits.time = None; // a field has the name of its setter
/// let pool = Pool::builder(&module).limits(limits).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Limits {
    /// The time that an attempt may take, counted from its start. `None`, the default: no limit.
    pub time: Option<Duration>,
    /// How long a guest that has reached its time limit may take to leave a host call before its worker is
    /// killed. Also how long a guest that was [interrupted](crate::Process::interrupt) may take to return.
    /// Default 250 ms.
    pub grace: Duration,
    /// Bytes of linear memory, all memories of an instance together. Default [`Limits::MEMORY`].
    pub memory: u64,
    /// Instructions of a task, as the engine counts them: most cost 1, and each byte or element of a bulk
    /// operation costs 1. The same task uses the same fuel every time, on every machine. The module is
    /// compiled separately for fuel, and runs slower. `None`, the default: no limit.
    pub fuel: Option<u64>,
    /// Bytes of the stack that guest code runs on, from [`Limits::STACK_MIN`] to [`Limits::STACK_MAX`].
    /// Default [`Limits::STACK`].
    ///
    /// A worker process raises its own limit (`ulimit -s`) for this, as far as it may. If it may not raise it
    /// enough, guests get the limit of the process minus 128 KiB for calls to the host; a message about the
    /// stack says so.
    pub stack: usize,
    /// Elements of tables (references to functions and to other things), all tables of an instance together.
    /// Each element takes 8 bytes or more of the worker's memory, besides the guest's own. Default
    /// [`Limits::TABLE_ELEMENTS`].
    pub table_elements: usize,
    /// Bytes of one result. Default [`Limits::OUTPUT`], at most [`Limits::RECORD_MAX`].
    pub output: usize,
    /// Bytes of one record. Default [`Limits::INPUT`], at most [`Limits::RECORD_MAX`].
    pub input: usize,
    /// Bytes kept of a task's stdout, and of its stderr. A command's stdout is its result, and has `output`
    /// as its limit instead. Default [`Limits::STDOUT`].
    pub stdout: usize,
}

impl Limits {
    /// 256 MiB.
    pub const MEMORY: u64 = 256 << 20;
    /// 512 KiB.
    pub const STACK: usize = 512 << 10;
    /// 16 KiB: guests fail at once with less.
    pub const STACK_MIN: usize = 16 << 10;
    /// 64 MiB: every machine has room for a stack of this size in a process.
    pub const STACK_MAX: usize = 64 << 20;
    /// 100,000.
    pub const TABLE_ELEMENTS: usize = 100_000;
    /// 256 MiB.
    pub const OUTPUT: usize = 256 << 20;
    /// 256 MiB.
    pub const INPUT: usize = 256 << 20;
    /// 64 KiB.
    pub const STDOUT: usize = 64 << 10;
    /// 992 MiB: no record and no result can be longer, even if a limit is higher.
    pub const RECORD_MAX: usize = (1 << 30) - (32 << 20);

    /// Sets [`time`](Self::time); `None` for no limit.
    #[must_use]
    pub fn time(mut self, time: impl Into<Option<Duration>>) -> Limits {
        self.time = time.into();
        self
    }

    /// Sets [`grace`](Self::grace).
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Limits {
        self.grace = grace;
        self
    }

    /// Sets [`memory`](Self::memory), in bytes.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Limits {
        self.memory = bytes;
        self
    }

    /// Sets [`fuel`](Self::fuel), in instructions; `None` for no limit.
    #[must_use]
    pub fn fuel(mut self, instructions: impl Into<Option<u64>>) -> Limits {
        self.fuel = instructions.into();
        self
    }

    /// Sets [`stack`](Self::stack), in bytes.
    #[must_use]
    pub fn stack(mut self, bytes: usize) -> Limits {
        self.stack = bytes;
        self
    }

    /// Sets [`table_elements`](Self::table_elements).
    #[must_use]
    pub fn table_elements(mut self, elements: usize) -> Limits {
        self.table_elements = elements;
        self
    }

    /// Sets [`output`](Self::output), in bytes.
    #[must_use]
    pub fn output(mut self, bytes: usize) -> Limits {
        self.output = bytes;
        self
    }

    /// Sets [`input`](Self::input), in bytes.
    #[must_use]
    pub fn input(mut self, bytes: usize) -> Limits {
        self.input = bytes;
        self
    }

    /// Sets [`stdout`](Self::stdout), in bytes.
    #[must_use]
    pub fn stdout(mut self, bytes: usize) -> Limits {
        self.stdout = bytes;
        self
    }

    /// How machine code must be compiled so that these limits can be enforced.
    pub(crate) fn codegen(&self) -> Codegen {
        Codegen { fuel: self.fuel.is_some(), ..Codegen::default() }
    }

    /// These limits, with `input` and `output` cut to [`Limits::RECORD_MAX`].
    pub(crate) fn possible(mut self) -> Limits {
        self.input = self.input.min(Self::RECORD_MAX);
        self.output = self.output.min(Self::RECORD_MAX);
        self
    }

    /// The reason why no guest can run with these limits, or why no process can offer them.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (least, most) = (Self::STACK_MIN, Self::STACK_MAX);
        if (least..=most).contains(&self.stack) {
            return Ok(());
        }
        Err(format!(
            "a stack of {} is not possible: it can be {} to {} (--stack, Limits::stack)",
            size(self.stack as u64),
            size(least as u64),
            size(most as u64)
        ))
    }

    /// The message that a task has reached this limit, with the limit's figure and the option that raises it.
    pub(crate) fn reached(&self, limit: Limit) -> String {
        match limit {
            Limit::Time => {
                format!("timeout after {:?} (--timeout, Limits::time)", self.time.unwrap_or_default())
            }
            Limit::Memory => {
                format!("memory limit of {} reached (--memory, Limits::memory)", size(self.memory))
            }
            Limit::Fuel => {
                let fuel = self.fuel.unwrap_or_default();
                format!("fuel limit of {fuel} instructions reached (--fuel, Limits::fuel)")
            }
            Limit::Stack => {
                let stack = size(self.stack as u64);
                format!("stack limit of {stack} reached: call stack exhausted (--stack, Limits::stack)")
            }
            Limit::Table => {
                let elements = self.table_elements;
                let raised_by = "--max-table-elements, Limits::table_elements";
                format!("table limit of {elements} elements reached ({raised_by})")
            }
            Limit::Output => self.output_reached("a longer result"),
            Limit::Input => {
                let input = size(self.input as u64);
                format!("input limit of {input} reached by a longer record (--max-input, Limits::input)")
            }
        }
    }

    /// The message for the limit of results. `by` names what is too long.
    pub(crate) fn output_reached(&self, by: &str) -> String {
        let output = size(self.output as u64);
        format!("output limit of {output} reached by {by} (--max-output, Limits::output)")
    }
}

/// Bytes in the largest unit that leaves no fraction, so that a message shows a limit as it was set.
pub(crate) fn size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    // 0 has 64 trailing zeros, but is shown in bytes.
    let whole = |(shift, _): &(u32, &str)| bytes > 0 && bytes.trailing_zeros() >= *shift;
    match units.into_iter().find(whole) {
        Some((shift, unit)) => format!("{} {unit}", bytes >> shift),
        None if bytes == 1 => "1 byte".to_owned(),
        None => format!("{bytes} bytes"),
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
            table_elements: Self::TABLE_ELEMENTS,
            output: Self::OUTPUT,
            input: Self::INPUT,
            stdout: Self::STDOUT,
        }
    }
}

/// What the compilation of a module may use, in a process of its own:
/// [`ModuleLoader::compile_limits`](crate::module::ModuleLoader::compile_limits). A module that needs more is
/// refused with [`ModuleError::CompileLimit`](crate::ModuleError::CompileLimit).
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut limits = wpool::module::CompileLimits::default();
/// limits.time = std::time::Duration::from_secs(20);
/// limits.memory = 512 << 20;
/// let module = loader().compile_limits(limits).load("../guest/prebuilt/upper.wasm")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CompileLimits {
    /// Processor time, in whole seconds. The wall-clock time is capped at 1.25 times that plus 10 s. Default
    /// 120 s.
    pub time: Duration,
    /// Bytes of memory. Default 2 GiB.
    pub memory: u64,
    /// Bytes of machine code. Default 1 GiB.
    pub code: u64,
}

impl CompileLimits {
    /// The cap on wall-clock time.
    pub(crate) fn wall(&self) -> Duration {
        // More than the processor time, because a busy machine gives the compiler less than a whole
        // processor.
        self.time.saturating_add(self.time / 4).saturating_add(Duration::from_secs(10))
    }
}

impl Default for CompileLimits {
    fn default() -> Self {
        CompileLimits { time: Duration::from_secs(120), memory: 2 << 30, code: 1 << 30 }
    }
}

/// The limit that a task has reached.
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
    /// [`Limits::table_elements`], or the number of host resources that a guest holds.
    Table,
    /// [`Limits::output`].
    Output,
    /// [`Limits::input`].
    Input,
}

/// Which instance of its guest a task runs in.
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
    /// One instance per worker: globals live on, as in Python's workers. The instance is replaced when it
    /// traps, reaches a limit or is stopped by a cancel, and when its worker is retired. The default if an
    /// initializer is set, because its state is the purpose of an initializer; never the default because a
    /// module exports `init`.
    ///
    /// A guest made with `wpool-guest` is called once for many short records if that is faster. Each task
    /// still has its own outcome, time limit, output and place in the order.
    Reuse,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_shown_as_it_was_set() {
        let shown = [0, 1, 1000, 1024, 1536, 64 << 20, (64 << 20) + 1, 1536 << 20, 4 << 30].map(size);
        let expected = [
            "0 bytes",
            "1 byte",
            "1000 bytes",
            "1 KiB",
            "1536 bytes",
            "64 MiB",
            "67108865 bytes",
            "1536 MiB",
            "4 GiB",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_limit_that_was_reached_is_told_with_its_figure_and_what_raises_it() {
        let limits = Limits { time: Some(Duration::from_millis(1500)), fuel: Some(7), ..Limits::default() };
        let told = [
            Limit::Time,
            Limit::Memory,
            Limit::Fuel,
            Limit::Stack,
            Limit::Table,
            Limit::Output,
            Limit::Input,
        ];
        assert_eq!(
            told.map(|limit| limits.reached(limit)),
            [
                "timeout after 1.5s (--timeout, Limits::time)",
                "memory limit of 256 MiB reached (--memory, Limits::memory)",
                "fuel limit of 7 instructions reached (--fuel, Limits::fuel)",
                "stack limit of 512 KiB reached: call stack exhausted (--stack, Limits::stack)",
                "table limit of 100000 elements reached (--max-table-elements, Limits::table_elements)",
                "output limit of 256 MiB reached by a longer result (--max-output, Limits::output)",
                "input limit of 256 MiB reached by a longer record (--max-input, Limits::input)",
            ]
        );
    }

    #[test]
    fn a_stack_that_cannot_be_is_refused() {
        for stack in [0, Limits::STACK_MIN - 1, Limits::STACK_MAX + 1, usize::MAX] {
            let refused = Limits { stack, ..Limits::default() }.check().unwrap_err().to_string();
            assert!(refused.contains("it can be 16 KiB to 64 MiB (--stack, Limits::stack)"), "{refused}");
        }
        for stack in [Limits::STACK_MIN, Limits::STACK, Limits::STACK_MAX] {
            assert!(Limits { stack, ..Limits::default() }.check().is_ok());
        }
    }
}
