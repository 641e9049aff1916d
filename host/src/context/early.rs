//! A zygote that is executed before its module is at hand: the program starts while the module is still being
//! loaded.

use std::sync::{Mutex, PoisonError};

use super::spawn::Executed;
#[cfg(feature = "cli")]
use super::{ProcessRole, Program};

/// A process that waits for its setup, and the coordinator's end of its socket, until a caller takes them. If
/// they are not taken, dropping this ends the process.
#[derive(Debug)]
pub(crate) struct Early(Mutex<Option<Executed>>);

impl Early {
    /// Starts the zygote. The calling thread must live as long as the zygote and its workers are wanted. A
    /// failure is not reported here: the later start of a zygote fails for the same reason and reports it.
    #[cfg(feature = "cli")]
    pub(crate) fn start(program: &Program) -> Early {
        Early(Mutex::new(Executed::start(program, ProcessRole::Zygote).ok()))
    }

    /// Whether the zygote has not been taken yet.
    pub(super) fn is_there(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Takes the zygote. Every call after the first returns `None`.
    pub(super) fn take(&self) -> Option<Executed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
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
