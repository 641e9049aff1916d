//! The stack of guests in a worker process: that of its first thread, which the kernel lets grow to a limit
//! (`ulimit -s`).
//!
//! The engine is told the size of the stack, and ends a guest that reaches it. It does not ask whether the
//! stack can grow so large. If it cannot, the kernel ends the process.

use crate::spec::Limits;
use crate::sys;

/// Bytes of stack for the host's own functions, beside those of the guest: far more than any call needs.
const HOST_STACK_MIN: u64 = 128 << 10;
/// The same, where the limit of the process can be raised.
const HOST_STACK: u64 = 1 << 20;

/// The limits for guests in this process. Their stack is smaller than in `limits` if the process cannot have
/// as much.
pub(super) fn within_process(limits: &Limits) -> Limits {
    let wanted = limits.stack as u64 + HOST_STACK;
    let has = sys::raise_stack_limit(wanted);
    Limits { stack: usable(limits.stack, has), ..limits.clone() }
}

/// Bytes of `wanted` that a guest can have in a process whose stack is limited to `has`.
fn usable(wanted: usize, has: Option<u64>) -> usize {
    let most = has.map_or(wanted as u64, |has| has.saturating_sub(HOST_STACK_MIN).max(1));
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
        // Too little for any call: each of them then fails with the stack limit.
        assert_eq!((of(Some(64 << 10)), of(Some(0))), (1, 1));
    }
}
