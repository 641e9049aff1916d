//! `forkserver`: a zygote that has the module loaded forks each worker.
//!
//! The zygote is a small process with one thread that runs no guest. Its workers are our children, not its own (see
//! [`sys::fork_as_sibling`](crate::sys::fork_as_sibling)), so its death costs no worker. It answers requests in their order.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Pid;

use super::spawn::{Executed, start_with};
use super::{Child, Exit, ProgramRole, ZYGOTE_NAME, comm_of};
use crate::clock;
use crate::error::StartError;
use crate::escape::shortened;
use crate::module::Module;
use crate::policy::Granted;
use crate::protocol::connection;
use crate::protocol::frame::{self, Caps, Violation};
use crate::protocol::message::{self, FromWorker, Identity, Setup, ToWorker};
use crate::sandbox::Sandbox;
use crate::sys::StatusPage;

/// A running zygote, and what it has been asked for.
pub(crate) struct Zygote {
    child: Child,
    socket: OwnedFd,
    sandbox: Sandbox,
    incoming: Vec<u8>,
    /// The thread whose child it is, and so are its workers.
    thread: Pid,
    /// The workers it has been asked for and has not answered for, in order.
    asked: VecDeque<Identity>,
    /// The latest that it has answered for. They may not have taken their own names yet.
    born: VecDeque<i32>,
}

/// So many workers at the most have been forked a moment ago.
const BORN_MAX: usize = 64;

/// What became of a request.
pub(crate) enum Answer {
    Forked {
        worker: u32,
        pid: i32,
    },
    NotForked {
        worker: u32,
        reason: String,
    },
    /// It cannot load the module, or not in the confinement that is wanted: why.
    Refused {
        reason: String,
    },
}

/// Why no answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    /// It is dead, or talks nonsense.
    Gone,
    /// It has taken too long.
    Late,
}

/// What a worker that has been asked for will talk through. Its process id follows by the zygote's answer.
pub(crate) struct Requested {
    pub(crate) socket: OwnedFd,
    pub(crate) page: StatusPage,
}

impl Zygote {
    pub(crate) fn start(module: &Module, setup: Setup, granted: &Granted) -> Result<Zygote, StartError> {
        let program = module.program();
        let fds: Vec<_> = [module.artefact()].into_iter().chain(granted.dirs()).collect();
        let Executed { socket, child, thread } = start_with(program, ProgramRole::Zygote, setup, &fds)?;
        let (incoming, asked, born) = (Vec::new(), VecDeque::new(), VecDeque::new());
        Ok(Zygote { child, socket, sandbox: program.sandbox, incoming, thread, asked, born })
    }

    /// Asks for a worker. The request waits in the socket while the zygote is still loading.
    pub(crate) fn request(&mut self, identity: Identity) -> io::Result<Requested> {
        let (page, page_fd) = StatusPage::create()?;
        let (ours, theirs) = connection::pair()?;
        let mut bytes = Vec::new();
        message::write_control(&mut bytes, &ToWorker::Fork(identity.clone()));
        let sent = connection::send_with_fds(&self.socket, &bytes, &[theirs.as_fd(), page_fd.as_fd()])?;
        // A request is a hundred bytes; a stream socket takes that whole or not at all.
        match sent == bytes.len() {
            true => {
                self.asked.push_back(identity);
                Ok(Requested { socket: ours, page })
            }
            false => Err(io::Error::from(io::ErrorKind::WriteZero)),
        }
    }

    /// Reads what has come, without blocking, and gives each answer to `each`. `Ok(false)` at the end of the stream.
    pub(crate) fn read(&mut self, mut each: impl FnMut(Answer)) -> Result<bool, Violation> {
        let mut buf = [0; 4096];
        let open = loop {
            match rustix::net::recv(&self.socket, &mut buf, rustix::net::RecvFlags::DONTWAIT) {
                Ok((0, _)) => break false,
                Ok((len, _)) => self.incoming.extend_from_slice(&buf[..len]),
                Err(rustix::io::Errno::AGAIN) => break true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break false,
            }
        };
        let mut start = 0;
        loop {
            Caps::IDLE.check(&self.incoming[start..])?;
            let Some(frame) = frame::parse(&self.incoming[start..])? else { break };
            start += frame.len();
            let unasked = Violation::Unexpected("the zygote answered what it was not asked");
            each(match message::read_control(frame)? {
                FromWorker::Hello { .. } | FromWorker::Ready => continue,
                FromWorker::Forked { pid } => {
                    let worker = self.asked.pop_front().ok_or(unasked)?.index;
                    self.born.truncate(BORN_MAX - 1);
                    self.born.push_front(pid);
                    Answer::Forked { worker, pid }
                }
                FromWorker::NotForked { reason } => {
                    let worker = self.asked.pop_front().ok_or(unasked)?.index;
                    Answer::NotForked { worker, reason: shortened(&reason) }
                }
                FromWorker::Refused { reason } => {
                    Answer::Refused { reason: format!("the module cannot be loaded: {}", shortened(&reason)) }
                }
                FromWorker::Unconfined { missing } => match self.sandbox.judge(missing) {
                    Ok(()) => continue,
                    Err(reason) => Answer::Refused { reason },
                },
                FromWorker::Compiled(_)
                | FromWorker::InitFailed { .. }
                | FromWorker::Thawed
                | FromWorker::Report(_) => return Err(unasked),
            });
        }
        self.incoming.drain(..start);
        Ok(open)
    }

    /// Waits for the answer to the one request that is open.
    pub(crate) fn wait_for_answer(&mut self, until: Option<Instant>) -> Result<Answer, Silence> {
        loop {
            let left = until.map(|until| until.saturating_duration_since(clock::now()));
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&self.child, PollFlags::IN)];
            match rustix::event::poll(&mut fds, timeout.as_ref()) {
                Ok(0) if left.is_some_and(|left| left.is_zero()) => return Err(Silence::Late),
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                // Something else may hold its end of the socket.
                Ok(_) if fds[0].revents().is_empty() => return Err(Silence::Gone),
                Ok(_) => {}
                Err(_) => return Err(Silence::Gone),
            }
            let mut answered = None;
            let open = self.read(|answer| answered = Some(answer));
            match (answered, open) {
                (Some(answer), _) => return Ok(answer),
                (None, Ok(true)) => {}
                (None, Ok(false) | Err(_)) => return Err(Silence::Gone),
            }
        }
    }

    /// Ends it unless it still has something to do. That it has ended is heard from it.
    pub(crate) fn end_if_idle(&self) {
        if self.asked.is_empty() {
            self.child.kill();
        }
    }

    /// Ends it. Gives its last answers, the workers that it will not fork any more, and how it ended.
    pub(crate) fn end(mut self) -> (Vec<Answer>, Vec<u32>, Exit) {
        let (answers, exit) = self.stop();
        let lost = self.asked.drain(..).map(|identity| identity.index).collect();
        (answers, lost, exit)
    }

    fn stop(&mut self) -> (Vec<Answer>, Exit) {
        self.child.kill();
        let exit = self.child.wait();
        let mut answers = Vec::new();
        let _broken = self.read(|answer| answers.push(answer));
        if !self.asked.is_empty() {
            self.end_unanswered();
        }
        (answers, exit)
    }

    /// It may have forked a worker and died before it could say which. That is our child all the same, and nobody else will reap it. Known by the thread
    /// that it is a child of, and by its name: the zygote's until it has taken its own.
    fn end_unanswered(&self) {
        let path = format!("/proc/self/task/{}/children", self.thread.as_raw_nonzero());
        // Without that file, which some kernels do not have, it stays a zombie until this program ends.
        let children = std::fs::read_to_string(path).unwrap_or_default();
        for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            let comm = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
            let comm = comm.trim_ascii_end();
            let is_unanswered = |identity: &Identity| comm == ZYGOTE_NAME.as_bytes() || comm == comm_of(&identity.name);
            if self.asked.iter().any(is_unanswered)
                && !self.born.contains(&pid)
                && let Ok(child) = Child::open(pid)
            {
                child.kill();
                child.wait();
            }
        }
    }
}

impl AsFd for Zygote {
    /// Its socket: readable when an answer has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Zygote {
    /// Ends it, with all that it has forked and nobody has heard of.
    fn drop(&mut self) {
        for answer in self.stop().0 {
            if let Answer::Forked { pid, .. } = answer
                && let Ok(child) = Child::open(pid)
            {
                child.kill();
                child.wait();
            }
        }
    }
}
