//! How a task starts and ends in a worker.

/// What becomes of a task when its turn comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskStart {
    Run,
    /// The coordinator has cancelled the task.
    Cancelled,
    /// The coordinator has taken back this task and all that were sent with it and after it, for another
    /// worker.
    TakenBack,
}

/// How a task ended, as the exit code of a Process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TaskExit {
    pub(crate) code: i32,
}
