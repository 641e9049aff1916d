//! `thread`: each worker is a thread of this process, for `multiprocessing.dummy`.
//!
//! It is spoken to through a socket pair, as a process is, and lives by the same rules; only its death is different. A thread cannot be
//! killed. It is told to end (its page says that nobody wants its tasks, its socket is shut), which a guest in its own code obeys
//! at the next tick. One that is inside a call to the host cannot hear: it is abandoned, which means that it counts as gone at
//! once and ends by itself whenever the call returns. All it holds until then is its own: no pool waits for it or hears of it.

use super::Launch;
use super::StartError;
use super::spawn::Started;
use crate::policy::Granted;
use crate::protocol::message::Setup;
#[cfg(feature = "worker")]
use crate::spec::Sandbox;
#[cfg(feature = "worker")]
use crate::worker::Life;

/// What a thread's stack has beside the part that guests may use: for calls to the host, and for this program's signal handlers.
#[cfg(feature = "worker")]
const STACK_BESIDE: usize = 2 << 20;

/// Starts a worker with its own copy of the setup, identity included.
#[cfg(feature = "worker")]
pub(crate) fn start(launch: &Launch, setup: Setup, granted: &Granted) -> Result<Started, StartError> {
    use std::sync::Arc;

    if launch.program.sandbox == Sandbox::Strict {
        return Err(StartError::ThreadUnconfined);
    }
    let failed = |source| StartError::Spawn { program: "a worker thread".to_owned(), source };
    let (life, socket, page) = Life::begin().map_err(failed)?;
    let life = Arc::new(life);
    let (its, artefact, granted) = (life.clone(), launch.artefact.clone(), granted.clone());
    // A name with a NUL in it would be a panic here, and is cut off by the kernel anywhere.
    let name = setup.identity.as_ref().map_or("wpool-worker", |identity| &identity.name).replace('\0', "");
    let stack = setup.limits.stack.saturating_add(STACK_BESIDE);
    let thread = std::thread::Builder::new().name(name).stack_size(stack);
    // Detached: nobody may ever have to wait for a thread that is abandoned.
    thread.spawn(move || crate::worker::thread_main(&its, artefact, &setup, &granted)).map_err(failed)?;
    Ok(Started { child: super::Child::Thread(life), socket, page, unsent: Vec::new() })
}

/// Says that there is no engine in this program.
#[cfg(not(feature = "worker"))]
pub(crate) fn start(_: &Launch, _: Setup, _: &Granted) -> Result<Started, StartError> {
    Err(StartError::NoThreads)
}
