//! `forkserver`: each worker is forked by a zygote, which has already loaded the module.
//!
//! The zygote is a small process with one thread that runs no guest. Its workers are children of this
//! program, not of the zygote (see [`sys::fork_as_sibling`](crate::sys::fork_as_sibling)), so its death costs
//! no worker. It answers requests in their order.
//!
//! The zygote has loaded a module, so it is trusted as little as a worker. Only [`Zygote::fork`] waits for
//! it, and has a deadline. Its messages are read in bounded pieces. A process that it names is taken only if
//! it is a new child of this program, born in the zygote's session. All other processes of that session end
//! with the zygote.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::Pid;

use super::StartError;
use super::child::end_all;
use super::spawn::{Executed, second_pair, start_with};
use super::{Child, END_TIME, Launch, NotTaken};
use crate::clock;
use crate::policy::Granted;
use crate::protocol::connection::{self, RecvError};
use crate::protocol::frame::{self, Caps, Found, Violation};
use crate::protocol::message::{self, Identity, Setup, ToWorker};
use crate::protocol::outgoing::Outgoing;
use crate::protocol::session::{FromZygote, GaveUp, Heard, Session, ZygoteRole};
use crate::spec::{Exit, ProcessRole, Sandbox};
use crate::sys::{CoordinatorPage, limit_behind};

/// Cap on open requests. The socket holds all of them and their answers, so neither side waits for the other
/// to read.
const ASKED_MAX: usize = 16;
/// Bytes that one read takes, and the number of reads in one turn.
// The answers to 16 requests are shorter. What is left after a turn is reported again by the next poll, so
// that a zygote that talks without end holds up no worker.
const READ_LEN: usize = 4 << 10;
const ROUNDS: usize = 8;

/// A running zygote, and the requests to it.
pub(crate) struct Zygote {
    child: Child,
    /// How the zygote has ended; `None` until it has been reaped.
    exit: Option<Exit>,
    socket: OwnedFd,
    sandbox: Sandbox,
    /// Its workers have a second socket.
    has_exchange: bool,
    incoming: Vec<u8>,
    /// What the zygote may say, and the workers that it still owes an answer for.
    session: Session<ZygoteRole>,
    /// The thread that is the parent of the zygote and of its workers.
    thread: Pid,
    /// The part of its setup that the socket has not taken yet.
    unsent: Outgoing,
    /// The workers that have not been requested from the zygote yet.
    wanted: VecDeque<Identity>,
}

/// What has become of requests.
pub(crate) enum Answer {
    /// The zygote has been asked for this worker, which will use this socket and page.
    Asked {
        worker: u32,
        requested: Requested,
    },
    Forked {
        worker: u32,
        child: Child,
    },
    /// These workers will not be forked, all for the same reason.
    NotForked {
        workers: Vec<u32>,
        step: &'static str,
        reason: String,
    },
    /// The zygote cannot load the module, or cannot be confined as the sandbox requires.
    Refused {
        reason: String,
    },
}

/// Why a zygote cannot be used any more.
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
    /// The zygote cannot load the module, or cannot be confined as the sandbox requires.
    Refused,
    /// The zygote cannot be used any more.
    Unfit,
    /// The deadline passed.
    Late,
}

/// The coordinator's ends of what a requested worker will use.
pub(crate) struct Requested {
    pub(crate) socket: OwnedFd,
    pub(crate) exchange: Option<OwnedFd>,
    pub(crate) page: CoordinatorPage,
}

impl Zygote {
    /// Starts a zygote. The calling thread becomes the parent of the zygote and of its workers.
    pub(crate) fn start(launch: &Launch, setup: Setup, granted: &Granted) -> Result<Zygote, StartError> {
        let (program, has_exchange) = (&launch.program, setup.exchange);
        let fds: Vec<_> = [launch.artefact.as_fd()].into_iter().chain(granted.dirs()).collect();
        let Executed { socket, child, thread, unsent } =
            start_with(program, ProcessRole::Zygote, setup, &fds)?;
        Ok(Zygote {
            child,
            exit: None,
            socket,
            sandbox: program.sandbox,
            has_exchange,
            incoming: Vec::new(),
            session: Session::zygote(),
            thread,
            unsent,
            wanted: VecDeque::new(),
        })
    }

    /// Adds a worker to those that are wanted. One of the next [`turn`](Self::turn)s requests it.
    pub(crate) fn want(&mut self, identity: Identity) {
        self.wanted.push_back(identity);
    }

    /// Whether this worker is wanted or requested, and not answered for yet.
    pub(crate) fn owes(&self, worker: u32) -> bool {
        self.session.asked().contains(&worker) || self.wanted.iter().any(|identity| identity.index == worker)
    }

    /// Whether no worker is wanted or requested.
    pub(crate) fn is_idle(&self) -> bool {
        self.session.asked().is_empty() && self.wanted.is_empty()
    }

    /// Whether a turn has something to send when the socket takes more.
    pub(crate) fn wants_to_send(&self) -> bool {
        !self.unsent.is_empty() || (self.session.asked().len() < ASKED_MAX && !self.wanted.is_empty())
    }

    /// Reads some of the messages that have come and sends what the socket takes, without waiting. More
    /// messages may be left.
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

    /// Handles the complete frames that have come.
    fn hear(&mut self, answers: &mut Vec<Answer>) -> Result<(), Violation> {
        // Taken out, since the frames borrow it while `answer` needs all of `self`.
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

    /// The answer in a message, if it holds one.
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

    /// Takes over the process that the zygote says it has forked, if the kernel confirms it.
    fn take_forked(&mut self, worker: u32, pid: i32) -> Result<Answer, Violation> {
        match Child::take_from(pid, &self.child) {
            // The kernel's word, not the zygote's: `take_from` asks whose child the process is.
            Ok(child) => Ok(Answer::Forked { worker, child }),
            Err(NotTaken::Gone(e)) => {
                let reason = format!("{e}{}", limit_behind(&e));
                Ok(Answer::NotForked { workers: vec![worker], step: "it was gone at once", reason })
            }
            Err(NotTaken::Foreign(what)) => {
                // The worker is still owed: it must be among the lost ones when the zygote is ended for this.
                self.session.ask_again(worker);
                Err(Violation::Unexpected(what))
            }
        }
    }

    fn send(&mut self, answers: &mut Vec<Answer>) -> Result<(), Unfit> {
        self.unsent.send(&self.socket).map_err(|_| Unfit::Died)?;
        if !self.unsent.is_empty() {
            return Ok(());
        }
        // Behind the setup, which must come first: descriptors travel with the byte they were sent with.
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
                    // Back to the front: the order of requests is the order of answers.
                    self.wanted.push_front(identity);
                    match e.kind() {
                        io::ErrorKind::WouldBlock => return Ok(()),
                        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                            return Err(Unfit::Died);
                        }
                        _ => {}
                    }
                    // The requests behind it would fail for the same reason.
                    let workers = self.wanted.drain(..).map(|identity| identity.index).collect();
                    let reason = format!("{e}{}", limit_behind(&e));
                    answers.push(Answer::NotForked { workers, step: "cannot ask for a worker", reason });
                }
            }
        }
        Ok(())
    }

    /// Requests a worker. The request waits in the socket while the zygote is still loading.
    fn ask(&self, identity: &Identity) -> io::Result<Requested> {
        let (page, page_fd) = CoordinatorPage::create()?;
        // Made anew at each attempt. They are cheap, and a full socket is rare.
        let (socket, its_socket) = connection::pair()?;
        let (exchange, its_exchange) = second_pair(self.has_exchange)?;
        let mut bytes = Vec::new();
        message::write_control(&mut bytes, &ToWorker::Fork(identity.clone()));
        let fds: Vec<_> = [its_socket.as_fd(), page_fd.as_fd()]
            .into_iter()
            .chain(its_exchange.as_ref().map(AsFd::as_fd))
            .collect();
        let sent = connection::send_with_fds(&self.socket, &bytes, &fds)?;
        // A request is about a hundred bytes; a stream socket takes all of it or nothing.
        if sent != bytes.len() {
            // The kernel broke its rule, or the zygote died in between. Half a request would shift all that
            // follow.
            return Err(io::Error::from(io::ErrorKind::BrokenPipe));
        }
        Ok(Requested { socket, exchange, page })
    }

    /// Has one worker forked and waits for it. No other worker may be wanted at the same time.
    pub(crate) fn fork(&mut self, identity: Identity, until: Option<Instant>) -> Fate {
        self.want(identity);
        let (mut asked, mut is_dead) = (None, self.exit.is_some());
        loop {
            let mut answers = Vec::new();
            let turned = if is_dead { Err(Unfit::Died) } else { self.turn(&mut answers) };
            if turned.is_err() {
                // The zygote may have forked the worker before it died.
                answers.extend(self.stop());
            }
            for answer in answers {
                match answer {
                    Answer::Asked { requested, .. } => asked = Some(requested),
                    Answer::Forked { child, .. } => match asked {
                        Some(requested) => return Fate::Forked(child, requested),
                        None => {
                            // A fork that was not asked for: the zygote cannot be trusted with another one.
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
            // The next round ends it, and reads what it said before its death.
            is_dead = !self.await_turn(left);
        }
    }

    /// Waits until a turn has something to do. Returns `false` if the zygote is dead: another process may
    /// still hold its end of the socket, so the end of the socket is no sign of that.
    fn await_turn(&self, left: Option<Duration>) -> bool {
        let flags = if self.wants_to_send() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut fds = [PollFd::new(&self.socket, flags), PollFd::new(&self.child, PollFlags::IN)];
        match clock::poll(&mut fds, left) {
            Ok(0) => true,
            Ok(_) => !fds[0].revents().is_empty(),
            Err(_) => false,
        }
    }

    /// Ends the zygote if no worker is wanted or requested. Its socket then tells that it has ended.
    pub(crate) fn end_if_idle(&self) {
        // A zygote that may not be killed ends when this value is dropped.
        let _is_allowed = self.is_idle() && self.child.kill();
    }

    /// Ends the zygote. Returns its last answers, the workers that it will not fork any more, and how it
    /// ended.
    pub(crate) fn end(mut self) -> (Vec<Answer>, Vec<u32>, Exit) {
        let answers = self.stop();
        let wanted = self.wanted.drain(..).map(|identity| identity.index);
        let lost = self.session.end().into_iter().chain(wanted).collect();
        (answers, lost, self.exit.unwrap_or(Exit::Unknown))
    }

    /// Ends the zygote and every process of its session that was not taken over: a worker that it forked but
    /// died before it could name, or what a compromised zygote has started. Returns its last answers.
    fn stop(&mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        if self.exit.is_none() {
            self.child.kill_or_shut(&self.socket);
            // Only a process that has ended forks no more. The sweep below then finds all.
            self.child.await_end();
            let _its_last_words = self.read(&mut answers);
            // The session is swept before the zygote is reaped: until then its id cannot name another
            // session.
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
    /// The zygote's socket, which is readable when an answer has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Zygote {
    /// Ends the zygote, and the workers that it has forked but that were not handed over.
    fn drop(&mut self) {
        let of = |answer| if let Answer::Forked { child, .. } = answer { Some(child) } else { None };
        let forked: Vec<Child> = self.stop().into_iter().filter_map(of).collect();
        end_all(&forked, clock::now() + END_TIME);
    }
}
