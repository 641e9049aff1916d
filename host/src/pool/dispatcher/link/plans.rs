//! The plans that a worker knows.

use std::collections::HashMap;

use crate::spec::FixedArgs;

/// The plans that a worker was sent and was not told to forget, each with the bytes of its fixed arguments.
#[derive(Debug, Default)]
pub(in crate::pool::dispatcher) struct KnownPlans {
    len_of: HashMap<u32, usize>,
    len: usize,
}

impl KnownPlans {
    pub(in crate::pool::dispatcher) fn knows(&self, plan: u32) -> bool {
        self.len_of.contains_key(&plan)
    }

    /// The worker is sent a plan with `len` bytes of fixed arguments. Gives the plans that it must forget
    /// before: a worker has memory for [`FixedArgs::LEN_MAX`] bytes of them. A later batch of such a plan
    /// sends it again.
    pub(super) fn add(&mut self, plan: u32, len: usize) -> Vec<u32> {
        let mut forgotten = Vec::new();
        if self.len + len > FixedArgs::LEN_MAX {
            forgotten.extend(self.len_of.iter().filter(|(_, len)| **len > 0).map(|(plan, _)| *plan));
            forgotten.iter().for_each(|plan| self.remove(*plan));
        }
        self.len_of.insert(plan, len);
        self.len += len;
        forgotten
    }

    pub(super) fn remove(&mut self, plan: u32) {
        self.len -= self.len_of.remove(&plan).unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_holds_no_more_fixed_arguments_than_it_has_memory_for() {
        let mut plans = KnownPlans::default();
        let half = FixedArgs::LEN_MAX / 2;
        for (plan, len) in [(1, half), (2, 0), (3, half)] {
            assert!(plans.add(plan, len).is_empty());
        }
        let mut forgotten = plans.add(4, 1);
        forgotten.sort_unstable();
        assert_eq!(forgotten, [1, 3]);
        assert!(plans.knows(2) && plans.knows(4) && !plans.knows(1));
        plans.remove(4);
        plans.remove(4);
        assert_eq!((plans.len, plans.knows(4)), (0, false));
    }
}
