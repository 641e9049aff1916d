//! `forkserver`: a zygote that has the module loaded forks each worker.
//!
//! The zygote is a small process with one thread that runs no guest. Its workers are our children, not its own (see
//! [`sys::fork_as_sibling`](crate::sys::fork_as_sibling)), so its death costs no worker. It answers requests in their order.
//!
//! It has loaded a module, and is believed as little as a worker: nothing here waits for it but [`Zygote::fork`], which has a deadline; what it
//! sends is read in bounded pieces; a process that it names is taken only if it is a new child of this program, born in the zygote's session;
//! and whatever else was born there ends with it.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::SendFlags;
use rustix::process::Pid;

use super::StartError;
use super::spawn::{Executed, start_with};
use super::{Child, Launch, NotTaken};
use crate::clock;
use crate::policy::Granted;
use crate::protocol::connection::{self, RecvError};
use crate::protocol::frame::{self, Caps, Found, Violation};
use crate::protocol::message::{self, Identity, Setup, ToWorker};
use crate::protocol::session::{FromZygote, GaveUp, Heard, Session, ZygoteRole};
use crate::spec::{Exit, ProcessRole, Sandbox};
use crate::sys::{CoordinatorPage, limit_behind};

/// So many requests are open at a time. They and their answers fit its socket: neither side has to wait until the other reads.
const ASKED_MAX: usize = 16;
/// How much is read from it at once, and how often in one turn.
const READ_LEN: usize = 4 << 10;
const ROUNDS: usize = 8;

/// A running zygote, and what it is to do.
pub(crate) struct Zygote {
    child: Child,
    /// How it has ended, once it was seen to.
    exit: Option<Exit>,
    socket: OwnedFd,
    sandbox: Sandbox,
    incoming: Vec<u8>,
    /// What it may say; the workers that it still has to answer for.
    session: Session<ZygoteRole>,
    /// The thread whose child it is, and so are its workers.
    thread: Pid,
    /// What of its setup the socket has not taken yet.
    unsent: Vec<u8>,
    /// The workers that it has not been asked for yet.
    wanted: VecDeque<Identity>,
}

/// What has become of requests.
pub(crate) enum Answer {
    /// The zygote has been asked for this worker, which will talk through this.
    Asked {
        worker: u32,
        requested: Requested,
    },
    Forked {
        worker: u32,
        child: Child,
    },
    /// These will not be, for one reason.
    NotForked {
        workers: Vec<u32>,
        step: &'static str,
        reason: String,
    },
    /// It cannot load the module, or not in the confinement that is wanted: why.
    Refused {
        reason: String,
    },
}

/// Why a zygote is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("it died")]
    Died,
    #[error("protocol error: {0}")]
    Violation(#[from] Violation),
}

/// What became of the request for one worker.
pub(crate) enum Fate {
    Forked(Child, Requested),
    NotForked {
        reason: String,
    },
    /// It cannot load the module, or not in the confinement that is wanted.
    Refused,
    /// The zygote is of no use any more.
    Unfit,
    /// It has taken too long.
    Late,
}

/// What a worker that has been asked for will talk through.
pub(crate) struct Requested {
    pub(crate) socket: OwnedFd,
    pub(crate) page: CoordinatorPage,
}

impl Zygote {
    /// By the thread whose children its workers are to be.
    pub(crate) fn start(launch: &Launch, setup: Setup, granted: &Granted) -> Result<Zygote, StartError> {
        let program = &launch.program;
        let fds: Vec<_> = [launch.artefact.as_fd()].into_iter().chain(granted.dirs()).collect();
        let Executed { socket, child, thread, unsent } =
            start_with(program, ProcessRole::Zygote, setup, &fds)?;
        Ok(Zygote {
            child,
            exit: None,
            socket,
            sandbox: program.sandbox,
            incoming: Vec::new(),
            session: Session::zygote(),
            thread,
            unsent,
            wanted: VecDeque::new(),
        })
    }

    /// Wants a worker. The next [`turn`](Self::turn) asks for it, or a later one.
    pub(crate) fn want(&mut self, identity: Identity) {
        self.wanted.push_back(identity);
    }

    /// Whether this worker is still to come from it.
    pub(crate) fn owes(&self, worker: u32) -> bool {
        self.session.asked().contains(&worker) || self.wanted.iter().any(|identity| identity.index == worker)
    }

    /// Whether it has nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.session.asked().is_empty() && self.wanted.is_empty()
    }

    /// Whether a turn has something to send as soon as the socket takes it.
    pub(crate) fn wants_to_send(&self) -> bool {
        !self.unsent.is_empty() || (self.session.asked().len() < ASKED_MAX && !self.wanted.is_empty())
    }

    /// Reads some of what has come and sends what the socket takes, without waiting. There may be more to read.
    pub(crate) fn turn(&mut self, answers: &mut Vec<Answer>) -> Result<(), Unfit> {
        self.read(answers)?;
        self.send(answers)
    }

    fn read(&mut self, answers: &mut Vec<Answer>) -> Result<(), Unfit> {
        for _ in 0..ROUNDS {
            match connection::recv_onto(&self.socket, &mut self.incoming, READ_LEN) {
                Ok(0) => return Err(Unfit::Died),
                Ok(_) => self.hear(answers)?,
                Err(RecvError::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(RecvError::Closed | RecvError::Io(_)) => return Err(Unfit::Died),
                Err(RecvError::Violation(violation)) => return Err(violation.into()),
            }
        }
        Ok(())
    }

    /// Handles the whole frames that have come.
    fn hear(&mut self, answers: &mut Vec<Answer>) -> Result<(), Violation> {
        let incoming = std::mem::take(&mut self.incoming);
        let mut rest = &incoming[..];
        while let Found::Whole(frame) = frame::find(rest, Caps::IDLE)? {
            rest = &rest[frame.len()..];
            let heard = self.session.on(frame)?;
            answers.extend(self.answer(heard)?);
        }
        self.incoming = rest.to_vec();
        Ok(())
    }

    /// What has become of a request, if that was heard.
    fn answer(&mut self, heard: Heard<FromZygote>) -> Result<Option<Answer>, Violation> {
        Ok(match heard {
            Heard::Greeted | Heard::Said(FromZygote::Ready) => None,
            Heard::Unconfined(missing) => {
                self.sandbox.judge(missing).err().map(|reason| Answer::Refused { reason })
            }
            Heard::Refused(GaveUp::Unfit(reason)) => Some(Answer::Refused { reason }),
            Heard::Refused(GaveUp::Panicked(reason) | GaveUp::Other(reason)) => {
                Some(Answer::Refused { reason: format!("the module cannot be loaded: {reason}") })
            }
            Heard::Said(FromZygote::Forked { worker, pid }) => Some(self.take_forked(worker, pid)?),
            Heard::Said(FromZygote::NotForked { worker, reason }) => {
                Some(Answer::NotForked { workers: vec![worker], step: "cannot fork", reason })
            }
        })
    }

    /// Takes charge of the process that the zygote says it has forked, if the kernel says the same.
    fn take_forked(&mut self, worker: u32, pid: i32) -> Result<Answer, Violation> {
        match Child::take_from(pid, &self.child) {
            Ok(child) => Ok(Answer::Forked { worker, child }),
            Err(NotTaken::Gone(e)) => {
                let reason = format!("{e}{}", limit_behind(&e));
                Ok(Answer::NotForked { workers: vec![worker], step: "it was gone at once", reason })
            }
            Err(NotTaken::Foreign(what)) => {
                self.session.disbelieve(worker);
                Err(Violation::Unexpected(what))
            }
        }
    }

    fn send(&mut self, answers: &mut Vec<Answer>) -> Result<(), Unfit> {
        while !self.unsent.is_empty() {
            match rustix::net::send(&self.socket, &self.unsent, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(_) => return Err(Unfit::Died),
            }
        }
        while self.session.asked().len() < ASKED_MAX
            && let Some(identity) = self.wanted.pop_front()
        {
            let worker = identity.index;
            match self.ask(&identity) {
                Ok(requested) => {
                    self.session.ask(worker);
                    answers.push(Answer::Asked { worker, requested });
                }
                Err(e) => {
                    self.wanted.push_front(identity);
                    match e.kind() {
                        io::ErrorKind::WouldBlock => return Ok(()),
                        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                            return Err(Unfit::Died);
                        }
                        _ => {}
                    }
                    // Those behind it would fare the same.
                    let workers = self.wanted.drain(..).map(|identity| identity.index).collect();
                    let reason = format!("{e}{}", limit_behind(&e));
                    answers.push(Answer::NotForked { workers, step: "cannot ask for a worker", reason });
                }
            }
        }
        Ok(())
    }

    /// Asks for a worker. The request waits in the socket while the zygote is still loading.
    fn ask(&self, identity: &Identity) -> io::Result<Requested> {
        let (page, page_fd) = CoordinatorPage::create()?;
        let (ours, theirs) = connection::pair()?;
        let mut bytes = Vec::new();
        message::write_control(&mut bytes, &ToWorker::Fork(identity.clone()));
        let sent = connection::send_with_fds(&self.socket, &bytes, &[theirs.as_fd(), page_fd.as_fd()])?;
        // A request is a hundred bytes; a stream socket takes that whole or not at all.
        match sent == bytes.len() {
            true => Ok(Requested { socket: ours, page }),
            false => Err(io::Error::from(io::ErrorKind::BrokenPipe)),
        }
    }

    /// Has one worker forked, by a zygote that nothing else is asked of meanwhile, and waits for that.
    pub(crate) fn fork(&mut self, identity: Identity, until: Option<Instant>) -> Fate {
        self.want(identity);
        let (mut asked, mut is_dead) = (None, self.exit.is_some());
        loop {
            let mut answers = Vec::new();
            let turned = if is_dead { Err(Unfit::Died) } else { self.turn(&mut answers) };
            if turned.is_err() {
                // A worker that it forked with its last breath is ours.
                answers.extend(self.stop());
            }
            for answer in answers {
                match answer {
                    Answer::Asked { requested, .. } => asked = Some(requested),
                    Answer::Forked { child, .. } => match asked {
                        Some(requested) => return Fate::Forked(child, requested),
                        None => {
                            end(&child);
                            return Fate::Unfit;
                        }
                    },
                    Answer::NotForked { reason, .. } => return Fate::NotForked { reason },
                    Answer::Refused { .. } => return Fate::Refused,
                }
            }
            if turned.is_err() {
                return Fate::Unfit;
            }
            let left = until.map(|until| until.saturating_duration_since(clock::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Fate::Late;
            }
            is_dead = !self.await_turn(left);
        }
    }

    /// Waits until a turn has something to do. `false`: it is dead. (Something else may hold its end of the socket.)
    fn await_turn(&self, left: Option<Duration>) -> bool {
        let flags = if self.wants_to_send() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut fds = [PollFd::new(&self.socket, flags), PollFd::new(&self.child, PollFlags::IN)];
        match clock::poll(&mut fds, left) {
            Ok(0) => true,
            Ok(_) => !fds[0].revents().is_empty(),
            Err(_) => false,
        }
    }

    /// Ends it unless it still has something to do. That it has ended is heard from it.
    pub(crate) fn end_if_idle(&self) {
        // If that is not allowed, it ends with its handle.
        let _is_allowed = self.is_idle() && self.child.kill();
    }

    /// Ends it. Gives its last answers, the workers that it will not fork any more, and how it ended.
    pub(crate) fn end(mut self) -> (Vec<Answer>, Vec<u32>, Exit) {
        let answers = self.stop();
        let wanted = self.wanted.drain(..).map(|identity| identity.index);
        let lost = self.session.end().into_iter().chain(wanted).collect();
        (answers, lost, self.exit.unwrap_or(Exit::Unknown))
    }

    /// Ends it, and all that was born in its session and nobody has taken charge of: a worker that it forked and died before it could say which,
    /// or what native code in its place has left. Gives its last answers.
    fn stop(&mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        if self.exit.is_none() {
            self.child.kill_or_shut(&self.socket);
            self.child.await_end();
            let _its_last_words = self.read(&mut answers);
            // Until it is reaped, its number names no other session.
            self.child.end_session(self.thread);
            self.exit = Some(self.child.wait());
        }
        answers
    }
}

fn end(child: &Child) {
    child.kill();
    child.wait();
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
        for answer in self.stop() {
            if let Answer::Forked { child, .. } = answer {
                end(&child);
            }
        }
    }
}
