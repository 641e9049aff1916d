//! Fault points, for tests only (feature `fault-points`): places where a test can make a worker die.
//!
//! Without the feature a fault point is nothing. With it, a point does only what its pool was built for, and
//! only in the worker with the index 1. The replacement of a dead worker has another index, and lives.

/// A place where a test can make the worker die. Compiles to nothing without the feature `fault-points`.
macro_rules! fault_point {
    ($phase:ident) => {
        #[cfg(feature = "fault-points")]
        $crate::worker::fault::hit($crate::spec::FaultPhase::$phase);
    };
}
pub(super) use fault_point;

#[cfg(feature = "fault-points")]
pub(super) use self::armed::{arm, hit, is_armed};

#[cfg(feature = "fault-points")]
mod armed {
    use std::sync::OnceLock;

    use rustix::process::Signal;

    use crate::spec::{Fault, FaultAction, FaultPhase};
    use crate::sys;

    static ARMED: OnceLock<Fault> = OnceLock::new();

    /// Has this process die at the point of `fault`, if it is the worker with the index 1.
    pub(crate) fn arm(fault: Option<Fault>, index: u32) {
        if let (Some(fault), 1) = (fault, index) {
            ARMED.get_or_init(|| fault);
        }
    }

    /// Whether this process is to die in this phase.
    pub(crate) fn is_armed(phase: FaultPhase) -> bool {
        ARMED.get().is_some_and(|fault| fault.phase == phase)
    }

    /// Ends or stops the process, if it is to die in this phase.
    pub(crate) fn hit(phase: FaultPhase) {
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
        // The engine's handler does not know the first SIGSEGV, and restores the default. The next one kills.
        for _ in 0..if signal == Signal::SEGV { 1000 } else { 1 } {
            let _sent = rustix::process::kill_process(rustix::process::getpid(), signal);
        }
    }
}
