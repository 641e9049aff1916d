//! Faults that tests order in a process. The product is built without this file.

use serde::{Deserialize, Serialize};

/// A place in the life of a worker, and what happens to it there. For tests: see `worker/fault.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[doc(hidden)]
pub struct Fault {
    pub phase: FaultPhase,
    pub action: FaultAction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[doc(hidden)]
pub enum FaultPhase {
    /// In a compiler process, before it reads its module.
    Compile,
    /// In a worker that was executed, between landlock and the list of system calls.
    Unlisted,
    Start,
    Handshake,
    Idle,
    GotTask,
    MidTask,
    BeforeWrite,
    MidWrite,
    AfterWrite,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[doc(hidden)]
pub enum FaultAction {
    Kill,
    Segv,
    Stop,
    Exit(i32),
    Abort,
    /// Tries what its confinement should refuse, and says by its end what came of it.
    Try(crate::sys::Attempt),
}

/// The exit codes after an attempt that was refused, and after one that was not.
impl FaultAction {
    #[doc(hidden)]
    pub const REFUSED: i32 = 77;
    #[doc(hidden)]
    pub const ALLOWED: i32 = 78;
}
