//! Tasks that are queued or held together.

/// Consecutive tasks of a job at the same attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) attempt: u32,
    /// The number of workers that have died over it. A task that has killed a worker has a span of its own.
    pub(super) deaths: u32,
}
