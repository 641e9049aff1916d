//! Faults that tests make a process act out. The product is built without this file.

use serde::{Deserialize, Serialize};

/// A place in the life of a worker, and the fault that happens there. For tests: see `worker/fault.rs`.
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
    /// In an executed worker, after landlock is applied and before the system call filter is.
    Unlisted,
    Start,
    Handshake,
    Idle,
    GotTask,
    MidTask,
    BeforeWrite,
    MidWrite,
    AfterWrite,
    /// Before a request to a shared object is sent, but not before one that opens the object.
    BeforeAsk,
    /// A part of the request is sent.
    MidAsk,
    AfterAsk,
    /// The same for a put that needs no answer. It is never the first request of a task.
    MidPost,
    AfterPost,
    /// The answer has come, and the guest has not seen it.
    Answered,
    /// The guest has taken an item that it was given ahead, and has not seen it.
    TakenAhead,
    /// The task has asked something and is over, and the coordinator has not been told.
    BeforeEnded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[doc(hidden)]
pub enum FaultAction {
    Kill,
    Segv,
    Stop,
    Exit(i32),
    Abort,
    /// Tries an action that the confinement should refuse, and reports the answer by its exit code.
    Try(crate::sys::Attempt),
}

/// The exit codes after an attempt that was refused, and after one that was allowed.
impl FaultAction {
    #[doc(hidden)]
    pub const REFUSED: i32 = 77;
    #[doc(hidden)]
    pub const ALLOWED: i32 = 78;
}
