//! The fork servers of a module. Each has one zygote, for the `Process` values that share limits and a
//! policy.
//!
//! The kernel sends a process its parent-death signal when the *thread* that is its parent ends. The workers
//! that a zygote forks are children of the thread that started the zygote. So each zygote is started by a
//! thread of its own, which outlives all workers of that zygote: the owner of a worker holds the
//! [`ForkServer`]. Any thread may ask a zygote for a worker, because asking through the server's thread would
//! cost each start two more wake-ups.

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
use crate::protocol::outgoing::Outgoing;
use crate::spec::Limits;
use crate::sys;

/// Idle fork servers that a module keeps: each is a process with the module in its memory.
// Enough for a program that alternates between a few sets of limits, and few enough not to fill the memory of
// one that makes up new limits for each call.
const SERVERS_KEPT: usize = 4;

/// How many zygotes one request may try, if they die under it. A zygote that dies for a lasting reason dies
/// each time.
const TRIES: u32 = 3;

/// The fork servers of one module, the most recently used one last.
#[derive(Default)]
pub(crate) struct ForkServers(Mutex<VecDeque<(Limits, Granted, Arc<ForkServer>)>>);

impl ForkServers {
    /// The server for these limits and this policy. A new server starts its zygote at its first request.
    pub(crate) fn get(&self, limits: &Limits, granted: &Granted) -> io::Result<Arc<ForkServer>> {
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |(its_limits, its_grants, server): &(Limits, Granted, Arc<ForkServer>)| {
            its_limits == limits && its_grants == granted && !server.has_ended()
        };
        let at = servers.iter().position(is_it);
        // The server moves to the end: the order is that of the last use.
        let found = match at.and_then(|at| servers.remove(at)) {
            Some(found) => found,
            None => (limits.clone(), granted.clone(), Arc::new(ForkServer::new()?)),
        };
        let server = found.2.clone();
        servers.push_back(found);
        let surplus = servers.len().saturating_sub(SERVERS_KEPT);
        let dropped: Vec<_> = servers.drain(..surplus).collect();
        // The lock is released first: other threads need not wait while these servers end.
        drop(servers);
        drop(dropped);
        Ok(server)
    }
}

/// A request for a zygote. It carries all that the zygote is started from, so a server keeps no artefact
/// open.
struct Start {
    launch: Launch,
    setup: Setup,
    granted: Granted,
    reply: mpsc::Sender<Result<Zygote, StartError>>,
}

/// Why a request has no worker.
#[derive(Debug)]
pub(crate) enum NotForked {
    /// No zygote lives long enough to fork. The caller executes a worker instead, which can report the
    /// reason.
    NoZygote,
    Failed(StartError),
}

/// A zygote, and the thread that starts it and then only stays alive. Both end when the server is dropped.
pub(crate) struct ForkServer {
    /// The thread that wants a worker asks the zygote itself. `None` before the first request, and after a
    /// zygote's death.
    zygote: Mutex<Option<Zygote>>,
    /// `None` only in `drop`.
    starts: Option<mpsc::Sender<Start>>,
    thread: Option<JoinHandle<()>>,
    /// The pid of the program that created it. A forked copy of this handle cannot use it.
    home: u32,
}

impl ForkServer {
    fn new() -> io::Result<ForkServer> {
        let (starts, wanted) = mpsc::channel::<Start>();
        let serve = move || {
            while let Ok(Start { launch, setup, granted, reply }) = wanted.recv() {
                let started = Zygote::start(&launch, setup, &granted);
                // Before the answer: the caller relies on it that nothing else holds the module open.
                drop((launch, granted));
                // If the request was given up, its zygote is dropped, and thereby ended, here.
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

    /// Has a worker forked; starts another zygote if the first one is dead. `setup` is the same in each call,
    /// except for fields that a zygote does not read.
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
        // Held to the end: the next thread's request comes behind this one. A fork takes a third of a
        // millisecond, so that more zygotes would win nothing.
        let mut zygote = self.zygote.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..TRIES {
            let asked = match &mut *zygote {
                Some(zygote) => zygote,
                none => none.insert(self.start_zygote(launch, setup, granted)?),
            };
            match asked.fork(identity.clone(), until) {
                Fate::Forked(child, Requested { socket, exchange, page }) => {
                    return Ok(Started { child, socket, exchange, page, unsent: Outgoing::default() });
                }
                Fate::NotForked { reason } => return Err(failed(io::Error::other(reason))),
                Fate::Refused => {
                    *zygote = None;
                    return Err(NotForked::NoZygote);
                }
                // Dropped before the next one is started: its end is waited for, and its children are swept.
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
            // A forked child has no such thread to join, and the zygote is not that child's own.
            // Dropping a `JoinHandle` detaches its thread, and this process has no such thread.
            std::mem::forget(self.thread.take());
            return;
        }
        // The zygote first: it must be reaped before the thread that is its parent ends.
        drop(self.zygote.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        // The closed channel is what ends the thread.
        drop(self.starts.take());
        let _panicked = self.thread.take().map(JoinHandle::join);
    }
}

fn failed(source: io::Error) -> NotForked {
    NotForked::Failed(StartError::Spawn { program: "a worker".to_owned(), source })
}
