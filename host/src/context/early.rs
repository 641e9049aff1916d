//! A zygote that is executed before its module is at hand: the program's start and the module's loading take their time together.

use std::sync::{Mutex, PoisonError};

use super::spawn::Executed;
#[cfg(feature = "cli")]
use super::{ProcessRole, Program};

/// A process that waits for its setup, and our end of its socket, until somebody takes them. It ends with this.
#[derive(Debug)]
pub(crate) struct Early(Mutex<Option<Executed>>);

impl Early {
    /// The thread that calls this must live as long as the zygote and its workers are wanted. If nothing can be started, whoever wants a zygote
    /// will hear why.
    #[cfg(feature = "cli")]
    pub(crate) fn start(program: &Program) -> Early {
        Early(Mutex::new(Executed::start(program, ProcessRole::Zygote).ok()))
    }

    /// Whether it waits.
    pub(super) fn is_there(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Once.
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
