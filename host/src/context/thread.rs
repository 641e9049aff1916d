//! `thread`: each worker is a thread of this program, for `multiprocessing.dummy`.
//!
//! The coordinator talks to it through a socket pair, as to a process, and all rules are the same but one: a
//! thread cannot be killed. It is told to end: its page says that its tasks are not wanted any more, and its
//! socket is shut. A guest that runs its own code stops at the next tick. A thread inside a call to the host
//! cannot notice the request. It is abandoned: it counts as gone at once, and ends by itself when the call
//! returns. It owns all that it holds until then; no pool waits for it or hears from it.

use super::Launch;
use super::StartError;
use super::spawn::Started;
#[cfg(feature = "worker")]
use super::spawn::second_pair;
use crate::policy::Granted;
use crate::protocol::message::Setup;
#[cfg(feature = "worker")]
use crate::protocol::outgoing::Outgoing;
#[cfg(feature = "worker")]
use crate::spec::Sandbox;
#[cfg(feature = "worker")]
use crate::worker::Life;

/// Bytes of a thread's stack besides the part that guests may use: for calls to the host, and for this
/// program's signal handlers.
#[cfg(feature = "worker")]
const STACK_BESIDE: usize = 2 << 20;

/// Starts a worker with its own copy of the setup, identity included.
#[cfg(feature = "worker")]
pub(crate) fn start(launch: &Launch, setup: Setup, granted: &Granted) -> Result<Started, StartError> {
    use std::sync::Arc;

    // A thread has the rights of the whole program. Strict means that nothing runs with less confinement than
    // promised.
    if launch.program.sandbox == Sandbox::Strict {
        return Err(StartError::ThreadUnconfined);
    }
    let failed = |source| StartError::Spawn { program: "a worker thread".to_owned(), source };
    let (exchange, its_exchange) = second_pair(setup.exchange).map_err(failed)?;
    let (life, socket, page) = Life::begin(its_exchange).map_err(failed)?;
    let life = Arc::new(life);
    let (its, artefact, granted) = (life.clone(), launch.artefact.clone(), granted.clone());
    // `Builder::spawn` panics on a name with a NUL. The kernel cuts such a name off anyway.
    let name = setup.identity.as_ref().map_or("wpool-worker", |identity| &identity.name).replace('\0', "");
    // The engine does not check that a thread has the stack that its guests may use: too small a one would be
    // a crash of the program.
    let stack = setup.limits.stack.saturating_add(STACK_BESIDE);
    let thread = std::thread::Builder::new().name(name).stack_size(stack);
    // Detached: an abandoned thread may never end, so no code may join it.
    thread.spawn(move || crate::worker::thread_main(&its, artefact, &setup, &granted)).map_err(failed)?;
    Ok(Started { child: super::Child::Thread(life), socket, exchange, page, unsent: Outgoing::default() })
}

/// Fails: this program has no engine.
#[cfg(not(feature = "worker"))]
pub(crate) fn start(_: &Launch, _: Setup, _: &Granted) -> Result<Started, StartError> {
    Err(StartError::NoThreads)
}
