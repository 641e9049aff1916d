//! A lock that is left to a worker: the worker acquires and releases it without a message, by a word of its
//! status page, until the coordinator takes the lease back.
//!
//! ```text
//! None --the coordinator gives the lease to the task that acquires--> Held
//! Held --release--> Free --acquire--> Held
//! Held --the task ends--> Died --acquire, the guest is told--> Held
//! any  --the coordinator takes the lease back, in one operation, and sees what it was--> None
//! ```
//!
//! Only the coordinator leaves `None`, and only the worker makes the other steps. So the two never disagree:
//! a step of the worker that comes too late finds `None`, and the worker then asks with a message.

use super::exchange::Granted;

/// What the word of a lease says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lease {
    /// There is no lease.
    None,
    /// Nothing holds the lock.
    Free,
    /// As `Free`. The last owner ended without a release, and the next is not told yet.
    Died,
    /// This task holds the lock `count` times. The number counts the tasks of the worker's life.
    Held { task: u64, count: u32 },
}

/// The objects that can be leased to a worker: the first that are granted to it.
pub(crate) const LEASES: Granted = 64;
const _: () = assert!(LEASES as usize == crate::sys::LEASE_WORDS);

// The word: the state in the lowest bits, then the count, then the task.
const STATE_BITS: u32 = 2;
const COUNT_BITS: u32 = 14;
const COUNT_MAX: u32 = (1 << COUNT_BITS) - 1;
const TASK_MAX: u64 = u64::MAX >> (STATE_BITS + COUNT_BITS);

impl Lease {
    /// `None`: this does not fit into a word.
    pub(crate) fn to_word(self) -> Option<u64> {
        match self {
            Lease::None => Some(0),
            Lease::Free => Some(1),
            Lease::Died => Some(2),
            Lease::Held { task, count } => {
                let fits = task <= TASK_MAX && (1..=COUNT_MAX).contains(&count);
                fits.then(|| task << (STATE_BITS + COUNT_BITS) | u64::from(count) << STATE_BITS | 3)
            }
        }
    }

    /// A worker may write any word.
    pub(crate) fn from_word(word: u64) -> Lease {
        let count = u32::try_from(word >> STATE_BITS & u64::from(COUNT_MAX)).unwrap_or(0);
        match (word & 3, count) {
            (0, _) => Lease::None,
            (1, _) => Lease::Free,
            (2, _) | (_, 0) => Lease::Died,
            (_, count) => Lease::Held { task: word >> (STATE_BITS + COUNT_BITS), count },
        }
    }
}

/// The steps of a worker.
#[cfg(any(test, feature = "worker"))]
impl Lease {
    /// The lock after `task` has acquired it, and whether the task is told that the last owner died. `None`:
    /// the task must ask.
    pub(crate) fn acquired(self, task: u64, is_recursive: bool) -> Option<(Lease, bool)> {
        match self {
            Lease::None => None,
            Lease::Free => Some((Lease::Held { task, count: 1 }, false)),
            Lease::Died => Some((Lease::Held { task, count: 1 }, true)),
            Lease::Held { task: owner, count } => {
                (is_recursive && owner == task).then_some((Lease::Held { task, count: count + 1 }, false))
            }
        }
    }

    /// The lock after `task` has released it once. `None`: the task must ask.
    pub(crate) fn released(self, task: u64) -> Option<Lease> {
        match self {
            Lease::Held { task: owner, count: 1 } if owner == task => Some(Lease::Free),
            Lease::Held { task: owner, count } if owner == task => {
                Some(Lease::Held { task, count: count - 1 })
            }
            Lease::None | Lease::Free | Lease::Died | Lease::Held { .. } => None,
        }
    }

    /// Whether the lock is locked. `None`: the coordinator knows.
    pub(crate) fn is_locked(self) -> Option<bool> {
        match self {
            Lease::None => None,
            Lease::Free | Lease::Died => Some(false),
            Lease::Held { .. } => Some(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_word_says_what_was_put_into_it_and_what_does_not_fit_is_no_word() {
        let held = |task, count| Lease::Held { task, count };
        let leases = [Lease::None, Lease::Free, Lease::Died, held(0, 1), held(TASK_MAX, COUNT_MAX)];
        for lease in leases {
            assert_eq!(Lease::from_word(lease.to_word().unwrap()), lease);
        }
        for lease in [held(TASK_MAX + 1, 1), held(1, COUNT_MAX + 1), held(1, 0)] {
            assert_eq!(lease.to_word(), None, "{lease:?}");
        }
    }

    #[test]
    fn l1_a_leased_lock_has_one_owner_and_l6_a_recursive_one_is_counted() {
        let held = |task, count| Lease::Held { task, count };
        assert_eq!(Lease::Free.acquired(7, false), Some((held(7, 1), false)));
        assert_eq!(Lease::Died.acquired(7, false), Some((held(7, 1), true)));
        assert_eq!(held(7, 1).acquired(7, false), None, "it would wait for itself");
        assert_eq!(held(7, 1).acquired(7, true), Some((held(7, 2), false)));
        assert_eq!(held(7, 1).acquired(8, true), None);
        assert_eq!(held(7, 2).released(7), Some(held(7, 1)));
        assert_eq!(held(7, 1).released(7), Some(Lease::Free));
        for lease in [Lease::None, Lease::Free, Lease::Died, held(8, 1)] {
            assert_eq!(lease.released(7), None, "{lease:?}");
        }
        let told = [Lease::None, Lease::Free, Lease::Died, held(1, 1)].map(Lease::is_locked);
        assert_eq!(told, [None, Some(false), Some(false), Some(true)]);
    }

    proptest! {
        #[test]
        fn any_word_means_something(word: u64, task: u64, is_recursive: bool) {
            let lease = Lease::from_word(word);
            prop_assert!(lease.to_word().is_some());
            let _ = (lease.acquired(task, is_recursive), lease.released(task), lease.is_locked());
        }
    }
}
