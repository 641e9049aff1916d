//! Whether a module can be instantiated at all.

use crate::protocol::message::Failure;

/// Instantiation failures before the pool breaks, if none ever succeeded. Workers that do not start have as
/// many tries.
pub(super) const NO_INSTANCE_MAX: u32 = 5;

/// What the tasks so far say of the module's instances. One success counts more than any failures, so that no
/// worker can end a pool in which others succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pool::dispatcher) enum InstancesSeen {
    /// None was made.
    None {
        /// The tries that failed.
        failures: u32,
    },
    /// There was one.
    Some,
}

impl InstancesSeen {
    /// Takes note of a task's failure. `true`: there is no use in another try.
    pub(super) fn note(&mut self, failure: &Failure) -> bool {
        match (&mut *self, failure) {
            (InstancesSeen::None { failures }, Failure::NoInstance { .. }) => {
                *failures += 1;
                *failures == NO_INSTANCE_MAX
            }
            // These tasks have not begun either, for reasons of their own.
            (_, Failure::BadRecord { .. } | Failure::Cancelled) | (InstancesSeen::Some, _) => false,
            (InstancesSeen::None { .. }, _) => {
                *self = InstancesSeen::Some;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f6_only_a_module_of_which_there_never_was_an_instance_is_given_up() {
        let trap = || Failure::Trap { message: "unreachable".to_owned(), backtrace: vec![] };
        let unmade = || Failure::NoInstance { failure: Box::new(trap()) };
        let mut seen = InstancesSeen::None { failures: 0 };
        for _ in 1..NO_INSTANCE_MAX {
            assert!(!seen.note(&unmade()));
            // Says nothing about instances.
            assert!(!seen.note(&Failure::BadRecord { message: String::new() }));
        }
        assert!(seen.note(&unmade()), "that was the last one");

        let mut seen = InstancesSeen::None { failures: 0 };
        assert!(!seen.note(&unmade()));
        // It was there, and trapped.
        assert!(!seen.note(&trap()));
        assert!((0..100).all(|_| !seen.note(&unmade())));
    }
}
