//! Fault points, for tests only (feature `fault-points`): places where the first worker of a pool can be made to die.
//!
//! Without the feature nothing of this is compiled. A point does nothing but what its pool was built for, in the worker with the index 1,
//! and that does not survive it: a replacement has another index.

use std::sync::OnceLock;

use rustix::process::Signal;

use crate::spec::{Fault, FaultAction, FaultPhase};
use crate::sys;

static ARMED: OnceLock<Fault> = OnceLock::new();

/// This process dies at its point.
pub(super) fn arm(fault: Option<Fault>, index: u32) {
    if let (Some(fault), 1) = (fault, index) {
        ARMED.get_or_init(|| fault);
    }
}

/// Whether this is where it dies.
pub(super) fn is_armed(phase: FaultPhase) -> bool {
    ARMED.get().is_some_and(|fault| fault.phase == phase)
}

/// Dies, or stands still, if this is the place.
pub(super) fn hit(phase: FaultPhase) {
    let Some(fault) = ARMED.get().filter(|fault| fault.phase == phase) else { return };
    let signal = match fault.action {
        FaultAction::Exit(code) => sys::exit_now(code),
        FaultAction::Kill => Signal::KILL,
        FaultAction::Segv => Signal::SEGV,
        FaultAction::Stop => Signal::STOP,
        FaultAction::Abort => std::process::abort(),
        FaultAction::Try(attempt) => sys::exit_now(match attempt.make() {
            Ok(()) => FaultAction::ALLOWED,
            Err(_) => FaultAction::REFUSED,
        }),
    };
    // The engine's handler takes the first SIGSEGV for one of the kinds that it does not know, and makes way for the next.
    for _ in 0..if signal == Signal::SEGV { 1000 } else { 1 } {
        let _sent = rustix::process::kill_process(rustix::process::getpid(), signal);
    }
}
