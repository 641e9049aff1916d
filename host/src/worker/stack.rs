//! The stack that guests run on in a worker process: that of its first thread, which the kernel lets grow to a limit (`ulimit -s`).
//!
//! The engine ends a guest that comes to the end of the stack that it was told of, and does not ask whether there is as much. If there is less, the kernel
//! ends the process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::spec::Limits;

/// What calls to the host may take, beside what guests have: far more than any of them does.
const BESIDE: u64 = 128 << 10;
/// The same where the limit can be raised.
const BESIDE_WANTED: u64 = 1 << 20;

/// The limits for guests of this process: with as much stack as it has, if that is less.
pub(super) fn within_process(limits: &Limits) -> Limits {
    let wanted = limits.stack as u64 + BESIDE_WANTED;
    let now = getrlimit(Resource::Stack);
    if now.current.is_some_and(|current| current < wanted) {
        let current = Some(now.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
        // It stays as it is where even that is not allowed; what there is counts.
        let _as_it_was = setrlimit(Resource::Stack, Rlimit { current, maximum: now.maximum });
    }
    let has = getrlimit(Resource::Stack).current;
    Limits { stack: usable(limits.stack, has), ..limits.clone() }
}

/// What guests may have of `wanted` in a process with a stack of `has`.
fn usable(wanted: usize, has: Option<u64>) -> usize {
    let most = has.map_or(wanted as u64, |has| has.saturating_sub(BESIDE).max(1));
    wanted.min(usize::try_from(most).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_have_what_there_is_beside_calls_to_the_host() {
        let of = |has: Option<u64>| usable(512 << 10, has);
        assert_eq!((of(None), of(Some(8 << 20)), of(Some(640 << 10))), (512 << 10, 512 << 10, 512 << 10));
        assert_eq!(of(Some(256 << 10)), 128 << 10);
        // So little that every call is one too many, which is said as such.
        assert_eq!((of(Some(64 << 10)), of(Some(0))), (1, 1));
    }
}
