//! Limits on the memories and tables of a store, all of them counted together. The engine's own limits are
//! for each memory, and a guest with many memories gets around them.

use wasmtime::ResourceLimiter;

use crate::protocol::message::Failure;
use crate::spec::{Limit, Limits, size};

/// Instances of a store. The same number is the cap on its memories and on its tables.
pub(super) const ITEMS_MAX: usize = 1_000;
/// Handles to resources of the host that a guest may hold at once.
pub(super) const RESOURCES_MAX: usize = 10_000;

/// What a task was refused, even if it went on without it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RefusedGrowth {
    /// The limit on memory, in bytes, if it was reached.
    memory: Option<u64>,
    /// The limit on tables, in elements, if it was reached.
    tables: Option<usize>,
}

impl RefusedGrowth {
    /// The failure of a task, with a note if the task was refused something: that may be why it failed.
    ///
    /// The note is a part of the message. A failure without a message, an exit code, gets it as the second
    /// value.
    pub(super) fn beside(self, mut failure: Failure) -> (Failure, Option<String>) {
        let Some(note) = self.note() else { return (failure, None) };
        match &mut failure {
            Failure::Failed { message } | Failure::Trap { message, .. } | Failure::BadResult { message } => {
                message.push_str(&format!("; {note}"));
                (failure, None)
            }
            Failure::Exited { .. } => (failure, Some(note)),
            Failure::Limit { .. }
            | Failure::BadRecord { .. }
            | Failure::NoInstance { .. }
            | Failure::Cancelled => (failure, None),
        }
    }

    fn note(self) -> Option<String> {
        let memory =
            self.memory.map(|at| format!("memory was refused at {} (--memory, Limits::memory)", size(at)));
        memory.or_else(|| {
            let tables = self.tables?;
            Some(format!(
                "a table was refused at {tables} elements (--max-table-elements, Limits::table_elements)"
            ))
        })
    }
}

/// Decides on each memory, GC heap and table of a store: on its first size, and on each growth.
pub(super) struct Limiter {
    memory_max: u64,
    tables_max: usize,
    memory: u64,
    tables: usize,
    /// What the guest was refused last, if nothing has grown since. It is the likely cause of a trap that
    /// follows.
    refused: Option<Limit>,
    /// All that the task was refused.
    refusals: RefusedGrowth,
}

impl Limiter {
    pub(super) fn new(limits: &Limits) -> Limiter {
        Limiter {
            memory_max: limits.memory,
            tables_max: limits.table_elements,
            memory: 0,
            tables: 0,
            refused: None,
            refusals: RefusedGrowth::default(),
        }
    }

    /// Begins another task, which has been refused nothing.
    pub(super) fn begin(&mut self) {
        (self.refused, self.refusals) = (None, RefusedGrowth::default());
    }

    /// Bytes that all memories may have together.
    pub(super) fn memory_max(&self) -> u64 {
        self.memory_max
    }

    pub(super) fn refusals(&self) -> RefusedGrowth {
        self.refusals
    }

    pub(super) fn refused(&self) -> Option<Limit> {
        self.refused
    }

    /// Bytes of all memories. Memories never shrink, so that this is also their largest size so far.
    pub(super) fn memory(&self) -> u64 {
        self.memory
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.memory.saturating_add(desired.saturating_sub(current) as u64);
        if total > self.memory_max {
            self.refused = Some(Limit::Memory);
            self.refusals.memory = Some(self.memory_max);
            return Ok(false);
        }
        // The engine would refuse growth over the memory's own maximum after this call. It must not be
        // counted.
        if max.is_some_and(|max| desired > max) {
            return Ok(false);
        }
        // A growth that succeeded clears the suspicion: the guest has got over the refusal.
        (self.memory, self.refused) = (total, None);
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.tables.saturating_add(desired.saturating_sub(current));
        if total > self.tables_max {
            self.refused = Some(Limit::Table);
            self.refusals.tables = Some(self.tables_max);
            return Ok(false);
        }
        if max.is_some_and(|max| desired > max) {
            return Ok(false);
        }
        (self.tables, self.refused) = (total, None);
        Ok(true)
    }

    fn instances(&self) -> usize {
        ITEMS_MAX
    }

    fn tables(&self) -> usize {
        ITEMS_MAX
    }

    fn memories(&self) -> usize {
        ITEMS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 64 << 10;

    fn limiter(pages: usize, elements: usize) -> Limiter {
        Limiter::new(&Limits { memory: (pages * PAGE) as u64, table_elements: elements, ..Limits::default() })
    }

    #[test]
    fn all_memories_count_together_first_sizes_too() {
        let mut limiter = limiter(5, 0);
        assert!(limiter.memory_growing(0, 2 * PAGE, None).unwrap());
        assert!(limiter.memory_growing(0, 2 * PAGE, None).unwrap());
        assert!(!limiter.memory_growing(0, 2 * PAGE, None).unwrap());
        assert_eq!(limiter.refused(), Some(Limit::Memory));
        assert!(limiter.memory_growing(2 * PAGE, 3 * PAGE, None).unwrap());
        assert_eq!((limiter.refused(), limiter.memory()), (None, 5 * PAGE as u64));
    }

    #[test]
    fn all_tables_count_together() {
        let mut limiter = limiter(0, 100);
        assert!(limiter.table_growing(0, 60, None).unwrap());
        assert!(limiter.table_growing(0, 40, None).unwrap());
        assert!(!limiter.table_growing(40, 41, None).unwrap());
        assert_eq!(limiter.refused(), Some(Limit::Table));
        limiter.begin();
        assert_eq!(limiter.refused(), None);
    }

    #[test]
    fn f134_what_was_refused_is_told_of_a_task_that_got_something_afterwards() {
        let mut limiter = limiter(5, 5);
        assert!(!limiter.memory_growing(0, 6 * PAGE, None).unwrap());
        assert!(limiter.memory_growing(0, PAGE, None).unwrap());
        let note = "memory was refused at 320 KiB (--memory, Limits::memory)";
        let (failed, beside) = limiter.refusals().beside(Failure::Failed { message: "no room".to_owned() });
        assert_eq!((failed, beside), (Failure::Failed { message: format!("no room; {note}") }, None));
        let (_, beside) = limiter.refusals().beside(Failure::Exited { code: 1 });
        assert_eq!(beside.as_deref(), Some(note));
        // The next task was refused nothing.
        limiter.begin();
        assert_eq!(
            limiter.refusals().beside(Failure::Exited { code: 1 }),
            (Failure::Exited { code: 1 }, None)
        );
    }

    #[test]
    fn what_did_not_grow_for_its_own_maximum_is_not_counted() {
        let mut limiter = limiter(5, 5);
        assert!(limiter.memory_growing(0, PAGE, Some(PAGE)).unwrap());
        assert!(limiter.table_growing(0, 1, Some(1)).unwrap());
        for _ in 0..10 {
            assert!(!limiter.memory_growing(PAGE, 2 * PAGE, Some(PAGE)).unwrap());
            assert!(!limiter.table_growing(1, 2, Some(1)).unwrap());
        }
        assert_eq!((limiter.memory(), limiter.refused()), (PAGE as u64, None));
        assert!(limiter.memory_growing(0, 4 * PAGE, None).unwrap());
        assert!(limiter.table_growing(0, 4, None).unwrap());
    }

    #[test]
    fn sizes_beyond_all_numbers_are_refused() {
        let mut limiter = limiter(usize::MAX / PAGE, usize::MAX - 1);
        assert!(limiter.memory_growing(0, PAGE, None).unwrap());
        assert!(!limiter.memory_growing(0, usize::MAX, None).unwrap());
        assert!(!limiter.table_growing(0, usize::MAX, None).unwrap());
    }
}
