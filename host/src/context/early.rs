//! A zygote that is executed before its module is at hand: the program starts while the module is still being
//! loaded.

use std::sync::{Mutex, PoisonError};

use super::spawn::Executed;
#[cfg(feature = "cli")]
use super::{ProcessRole, Program};
#[cfg(feature = "cli")]
use crate::spec::Sandbox;

/// A process that waits for its setup, and the coordinator's end of its socket, until a caller takes them. If
/// they are not taken, dropping this ends the process.
#[derive(Debug)]
pub(crate) struct Early {
    /// How much confinement it was told to have.
    #[cfg(feature = "cli")]
    sandbox: Sandbox,
    process: Mutex<Option<Executed>>,
}

impl Early {
    /// Starts the zygote, of this program. The calling thread must live as long as the zygote and its workers
    /// are wanted. A failure is not reported here: the later start of a zygote fails for the same reason and
    /// reports it.
    #[cfg(feature = "cli")]
    pub(crate) fn start_with(sandbox: Sandbox) -> Option<Early> {
        let program = Program::choose(None, sandbox).ok()?;
        let process = Executed::start(&program, ProcessRole::Zygote).ok()?;
        Some(Early { sandbox, process: Mutex::new(Some(process)) })
    }

    #[cfg(feature = "cli")]
    pub(crate) fn sandbox(&self) -> Sandbox {
        self.sandbox
    }

    /// Whether the zygote has not been taken yet.
    pub(super) fn is_there(&self) -> bool {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Takes the zygote. Every call after the first returns `None`.
    pub(super) fn take(&self) -> Option<Executed> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        if let Some(unused) = self.take() {
            unused.child.kill_or_shut(&unused.socket);
            unused.child.wait();
        }
    }
}
