//! The fork servers of a module: each is a thread that owns a zygote, for the processes that share its limits and its policy.
//!
//! The kernel sends a process its death signal when the *thread* that is its parent ends, and the workers that a zygote forks are children
//! of the thread that started the zygote. So the thread has to outlive them: whoever looks after a worker holds its [`ForkServer`].

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use super::Child;
use super::forkserver::{Answer, Requested, Silence, Zygote};
use super::spawn::Started;
use crate::error::StartError;
use crate::limits::Limits;
use crate::module::Module;
use crate::policy::Granted;
use crate::protocol::message::{Identity, Setup};

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

/// A request for one worker. The module comes with it, so that a server does not keep one.
struct Request {
    module: Module,
    setup: Setup,
    granted: Granted,
    identity: Identity,
    until: Option<Instant>,
    reply: mpsc::Sender<Result<Started, NotForked>>,
}

/// Why there is no worker.
#[derive(Debug)]
pub(crate) enum NotForked {
    /// No zygote lives long enough to fork: what is wrong can be learned from a worker that is executed.
    NoZygote,
    Failed(StartError),
}

/// A handle of the thread. The thread and its zygote end with it.
pub(crate) struct ForkServer {
    /// `None` only in `drop`.
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl ForkServer {
    fn new() -> io::Result<ForkServer> {
        let (requests, requested) = mpsc::channel();
        let thread =
            std::thread::Builder::new().name("wpool-forkserver".to_owned()).spawn(move || serve(&requested))?;
        Ok(ForkServer { requests: Some(requests), thread: Some(thread) })
    }

    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Has a worker forked. `setup` is the same in each call but for what the zygote does not look at.
    ///
    /// The caller keeps `self` until it has reaped the worker, and `module` until this returns.
    pub(crate) fn fork(
        &self,
        module: &Module,
        setup: Setup,
        granted: &Granted,
        identity: Identity,
        until: Option<Instant>,
    ) -> Result<Started, NotForked> {
        let (reply, replied) = mpsc::channel();
        let request = Request { module: module.clone(), setup, granted: granted.clone(), identity, until, reply };
        let gone = || failed(io::Error::other("the fork server's thread has ended"));
        self.requests.as_ref().ok_or_else(gone)?.send(request).map_err(|_| gone())?;
        replied.recv().map_err(|_| gone())?
    }
}

impl Drop for ForkServer {
    fn drop(&mut self) {
        drop(self.requests.take());
        // So that the zygote is gone when this returns. A thread that has panicked has dropped its zygote too.
        let _panicked = self.thread.take().map(JoinHandle::join);
    }
}

fn failed(source: io::Error) -> NotForked {
    NotForked::Failed(StartError::Spawn { program: "a worker".to_owned(), source })
}

fn serve(requests: &mpsc::Receiver<Request>) {
    let mut zygote = None;
    while let Ok(Request { module, setup, granted, identity, until, reply }) = requests.recv() {
        let forked = fork(&mut zygote, &module, &setup, &granted, &identity, until);
        // Before the reply: were this the last handle of the module, its end would wait for this very thread.
        drop(module);
        if let Err(mpsc::SendError(Ok(unwanted))) = reply.send(forked) {
            unwanted.child.kill();
            unwanted.child.wait();
        }
    }
}

/// Asks the zygote, or if that is dead, another.
fn fork(
    zygote: &mut Option<Zygote>,
    module: &Module,
    setup: &Setup,
    granted: &Granted,
    identity: &Identity,
    until: Option<Instant>,
) -> Result<Started, NotForked> {
    for _ in 0..TRIES {
        let asked = match zygote {
            Some(zygote) => zygote,
            None => {
                let started = Zygote::start(module, setup.clone(), granted);
                zygote.insert(started.map_err(NotForked::Failed)?)
            }
        };
        let Ok(requested) = asked.request(identity.clone()) else {
            *zygote = None;
            continue;
        };
        let answer = match asked.wait_for_answer(until) {
            Ok(answer) => Some(answer),
            // A worker that it forked with its last breath is ours.
            Err(Silence::Gone) => zygote.take().and_then(|zygote| zygote.end().0.pop()),
            Err(Silence::Late) => {
                *zygote = None;
                return Err(failed(io::Error::new(io::ErrorKind::TimedOut, "its fork server does not get ready")));
            }
        };
        match answer {
            Some(Answer::Forked { pid, .. }) => return adopt(pid, requested),
            Some(Answer::NotForked { reason, .. }) => return Err(failed(io::Error::other(reason))),
            Some(Answer::Refused { .. }) => {
                *zygote = None;
                return Err(NotForked::NoZygote);
            }
            None => {}
        }
    }
    Err(NotForked::NoZygote)
}

fn adopt(pid: i32, requested: Requested) -> Result<Started, NotForked> {
    let Requested { socket, page } = requested;
    Ok(Started { child: Child::open(pid).map_err(failed)?, socket, page })
}
