//! What a store may have of memories and tables, counted together: the engine's own limits are per memory, which a guest with many gets around.

use wasmtime::ResourceLimiter;

use crate::limits::{Limit, Limits};

/// Instances, memories, tables of a store (each).
pub(super) const ITEMS_MAX: usize = 1_000;

/// Decides about the memories, GC heaps and tables of a store: their first sizes, and each time that they grow.
pub(super) struct Limiter {
    memory_max: u64,
    tables_max: usize,
    memory: u64,
    tables: usize,
    /// What the guest was refused, if it has got nothing since: a trap that comes now is likely to come of that.
    refused: Option<Limit>,
}

impl Limiter {
    pub(super) fn new(limits: &Limits) -> Limiter {
        Limiter { memory_max: limits.memory, tables_max: limits.table_elements, memory: 0, tables: 0, refused: None }
    }

    /// Another task begins: what was refused before is not its fault.
    pub(super) fn begin(&mut self) {
        self.refused = None;
    }

    pub(super) fn refused(&self) -> Option<Limit> {
        self.refused
    }

    /// Bytes of all memories. They never shrink: it is also the most that they have been.
    pub(super) fn memory(&self) -> u64 {
        self.memory
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, max: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory.saturating_add(desired.saturating_sub(current) as u64);
        if total > self.memory_max {
            self.refused = Some(Limit::Memory);
            return Ok(false);
        }
        // Over its own maximum it does not grow, and must not be counted as if it had. The engine says so to the guest; we may as well.
        if max.is_some_and(|max| desired > max) {
            return Ok(false);
        }
        (self.memory, self.refused) = (total, None);
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, max: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.tables.saturating_add(desired.saturating_sub(current));
        if total > self.tables_max {
            self.refused = Some(Limit::Table);
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
