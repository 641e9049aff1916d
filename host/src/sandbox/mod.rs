//! The second wall: the confinement of a worker's operating system process.
//!
//! A list of steps and a report. Each step is one function that says what was really enforced, and the report is what the process itself
//! saw, never a guess. This is the first part of the wall; landlock, seccomp and namespaces take their place behind it.

use serde::{Deserialize, Serialize};

/// What is enforced in a process, step by step.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Status {
    /// In the order in which the steps were taken.
    pub steps: Vec<Step>,
}

/// One step of confinement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What it is.
    pub name: String,
    /// `None` if it is enforced, else why it is not.
    pub missing: Option<String>,
}

impl Status {
    #[cfg(feature = "worker")]
    fn note(&mut self, name: &str, done: Result<(), impl std::fmt::Display>) {
        self.steps.push(Step { name: name.to_owned(), missing: done.err().map(|e| e.to_string()) });
    }
}

#[cfg(feature = "worker")]
pub(crate) use self::enter::{ProcessLimits, begin, limit, watch_parent};

#[cfg(feature = "worker")]
mod enter {
    use super::*;
    use std::io;

    use rustix::process::{Pid, Resource, Rlimit, Signal};

    /// Limits of the process, beyond those of its tasks.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct ProcessLimits {
        /// Bytes of private memory that can be written to.
        pub(crate) data: u64,
        /// Seconds of processor time; `None`: none (a worker runs task after task).
        pub(crate) cpu_secs: Option<u64>,
        /// Bytes of any file that is written.
        pub(crate) file: u64,
        /// Open descriptors.
        pub(crate) files: u64,
    }

    /// The first steps of a fresh process, before it reads a byte.
    pub(crate) fn begin(parent: u32) -> Status {
        let mut status = Status::default();
        status.note("ends with its parent", watch_parent(parent));
        status.note("a session of its own, without a terminal", rustix::process::setsid().map(|_| ()));
        status.note("no inherited descriptors", crate::sys::close_from(3));
        status.note("empty environment", empty_environment());
        status.note("default signals", crate::sys::reset_signals());
        status.note("no new privileges", rustix::thread::set_no_new_privs(true));
        status
    }

    /// Asks for SIGKILL at the parent's death. If the parent was gone before that, there is nobody to wait for.
    pub(crate) fn watch_parent(parent: u32) -> io::Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        match rustix::process::getppid().map(Pid::as_raw_nonzero) {
            Some(pid) if pid.get().unsigned_abs() == parent => Ok(()),
            _ => crate::sys::exit_now(0),
        }
    }

    fn empty_environment() -> Result<(), String> {
        let ours = ["RUST_BACKTRACE", "WAST_STRICT_COMPONENT_INDICES"];
        match std::env::vars_os().find(|(name, _)| !ours.iter().any(|known| name == known)) {
            None => Ok(()),
            Some((name, _)) => Err(format!("{} is set", name.display())),
        }
    }

    /// Limits of the kernel on this process.
    pub(crate) fn limit(status: &mut Status, limits: ProcessLimits) {
        let ProcessLimits { data, cpu_secs, file, files } = limits;
        status.note("no core dumps", set(Resource::Core, 0));
        status.note(&format!("at most {} MiB of private memory", data >> 20), set(Resource::Data, data));
        status.note(&format!("files of at most {} MiB", file >> 20), set(Resource::Fsize, file));
        status.note(&format!("at most {files} descriptors"), set(Resource::Nofile, files));
        if let Some(secs) = cpu_secs {
            status.note(&format!("at most {secs} s of processor time"), set(Resource::Cpu, secs));
        }
    }

    /// Lowers a limit; one that is lower already stays.
    fn set(resource: Resource, wanted: u64) -> io::Result<()> {
        let had = rustix::process::getrlimit(resource).maximum;
        let limit = Some(had.map_or(wanted, |had| had.min(wanted)));
        Ok(rustix::process::setrlimit(resource, Rlimit { current: limit, maximum: limit })?)
    }
}
