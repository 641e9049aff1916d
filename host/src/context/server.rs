//! The fork servers of a module: each is a zygote, for the processes that share its limits and its policy.
//!
//! The kernel sends a process its death signal when the *thread* that is its parent ends, and the workers that a zygote forks are children
//! of the thread that started the zygote. So a thread of its own starts each zygote and outlives all that it has forked: whoever looks after a worker
//! holds its [`ForkServer`]. Asking a zygote for a worker is nobody's privilege: that saves each start two wake-ups.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use super::Launch;
use super::StartError;
use super::forkserver::{Fate, Requested, Zygote};
use super::spawn::Started;
use crate::policy::Granted;
use crate::protocol::message::{Identity, Setup};
use crate::spec::Limits;
use crate::sys;

/// A module keeps so many fork servers that nobody uses at the moment: each of them is a process with the module in its memory.
const SERVERS_KEPT: usize = 4;

/// So often a zygote that has died under a request is replaced. One that dies for a reason dies each time.
const TRIES: u32 = 3;

/// The fork servers of one module, the one that was used last at the end.
#[derive(Default)]
pub(crate) struct ForkServers(Mutex<VecDeque<(Limits, Granted, Arc<ForkServer>)>>);

impl ForkServers {
    /// The server for these limits and this policy. It has no zygote before its first request.
    pub(crate) fn get(&self, limits: &Limits, granted: &Granted) -> io::Result<Arc<ForkServer>> {
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |(its_limits, its_grants, server): &(Limits, Granted, Arc<ForkServer>)| {
            its_limits == limits && its_grants == granted && !server.has_ended()
        };
        let at = servers.iter().position(is_it);
        let found = match at.and_then(|at| servers.remove(at)) {
            Some(found) => found,
            None => (limits.clone(), granted.clone(), Arc::new(ForkServer::new()?)),
        };
        let server = found.2.clone();
        servers.push_back(found);
        let surplus = servers.len().saturating_sub(SERVERS_KEPT);
        let dropped: Vec<_> = servers.drain(..surplus).collect();
        // Whoever else wants a server need not wait for the ends of these.
        drop(servers);
        drop(dropped);
        Ok(server)
    }
}

/// A request for a zygote. What it is started from comes with it, so that a server keeps no artefact open.
struct Start {
    launch: Launch,
    setup: Setup,
    granted: Granted,
    reply: mpsc::Sender<Result<Zygote, StartError>>,
}

/// Why there is no worker.
#[derive(Debug)]
pub(crate) enum NotForked {
    /// No zygote lives long enough to fork: what is wrong can be learned from a worker that is executed.
    NoZygote,
    Failed(StartError),
}

/// A zygote, and the thread that starts it and then does nothing but live. Both end with this.
pub(crate) struct ForkServer {
    /// Whoever wants a worker asks for it himself. `None` before the first, and after a zygote's death.
    zygote: Mutex<Option<Zygote>>,
    /// `None` only in `drop`.
    starts: Option<mpsc::Sender<Start>>,
    thread: Option<JoinHandle<()>>,
    /// The process that its thread is in. A fork of that cannot use it.
    home: u32,
}

impl ForkServer {
    fn new() -> io::Result<ForkServer> {
        let (starts, wanted) = mpsc::channel::<Start>();
        let serve = move || {
            while let Ok(Start { launch, setup, granted, reply }) = wanted.recv() {
                let started = Zygote::start(&launch, setup, &granted);
                // Nobody wants it any more: it ends here.
                let _dropped = reply.send(started);
            }
        };
        let thread = std::thread::Builder::new().name("wpool-forkserver".to_owned()).spawn(serve)?;
        Ok(ForkServer {
            zygote: Mutex::new(None),
            starts: Some(starts),
            thread: Some(thread),
            home: sys::home(),
        })
    }

    fn has_ended(&self) -> bool {
        self.home != sys::home() || self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn start_zygote(&self, launch: &Launch, setup: &Setup, granted: &Granted) -> Result<Zygote, NotForked> {
        let (reply, replied) = mpsc::channel();
        let start = Start { launch: launch.clone(), setup: setup.clone(), granted: granted.clone(), reply };
        let gone = || failed(io::Error::other("the fork server's thread has ended"));
        self.starts.as_ref().ok_or_else(gone)?.send(start).map_err(|_| gone())?;
        replied.recv().map_err(|_| gone())?.map_err(NotForked::Failed)
    }

    /// Has a worker forked, by another zygote if the first is dead. `setup` is the same in each call but for what the zygote does not look at.
    ///
    /// The caller keeps `self` until it has reaped the worker.
    pub(crate) fn fork(
        &self,
        launch: &Launch,
        setup: &Setup,
        granted: &Granted,
        identity: &Identity,
        until: Option<Instant>,
    ) -> Result<Started, NotForked> {
        let mut zygote = self.zygote.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..TRIES {
            let asked = match &mut *zygote {
                Some(zygote) => zygote,
                none => none.insert(self.start_zygote(launch, setup, granted)?),
            };
            match asked.fork(identity.clone(), until) {
                Fate::Forked(child, Requested { socket, page }) => {
                    return Ok(Started { child, socket, page, unsent: Vec::new() });
                }
                Fate::NotForked { reason } => return Err(failed(io::Error::other(reason))),
                Fate::Refused => {
                    *zygote = None;
                    return Err(NotForked::NoZygote);
                }
                Fate::Unfit => *zygote = None,
                Fate::Late => {
                    *zygote = None;
                    return Err(failed(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "its fork server does not get ready",
                    )));
                }
            }
        }
        Err(NotForked::NoZygote)
    }
}

impl Drop for ForkServer {
    fn drop(&mut self) {
        if self.home != sys::home() {
            // In a forked child there is no such thread to wait for, and the zygote is not its own.
            std::mem::forget(self.thread.take());
            return;
        }
        // Its thread ends after it.
        drop(self.zygote.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        drop(self.starts.take());
        let _panicked = self.thread.take().map(JoinHandle::join);
    }
}

fn failed(source: io::Error) -> NotForked {
    NotForked::Failed(StartError::Spawn { program: "a worker".to_owned(), source })
}
