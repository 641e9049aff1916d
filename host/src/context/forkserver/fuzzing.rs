//! Checks what a zygote may say, for [`crate::fuzzing`].

use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::process::Pid;

use super::{Answer, READ_LEN, Unfit, Zygote};
use crate::context::Child;
use crate::escape;
use crate::fuzzing::choices::Choices;
use crate::protocol::VERSION;
use crate::protocol::connection;
use crate::protocol::frame::Caps;
use crate::protocol::message::{self, Failure, FromWorker};
use crate::protocol::session::Session;
use crate::spec::{Exit, Sandbox};

/// A process id that no process has, as the id of the zygote's session.
const SESSION: i32 = i32::MAX;

/// Feeds messages of a zygote and then any bytes, in pieces. The zygote is believed only what it may say at
/// that point, and only for as many requests as are open. None of the processes that it names is a child of
/// this program. An incomplete message takes little memory.
pub(crate) fn zygote(data: &[u8]) {
    let mut choices = Choices(data);
    let asked = u32::from(choices.byte() % 17);
    let sandbox = [Sandbox::Default, Sandbox::Strict, Sandbox::Off][usize::from(choices.byte() % 3)];
    let piece = 1 + 8 * usize::from(choices.byte());
    let messages = messages(&mut choices);
    let (expected, is_wrong) = model(&messages, asked, sandbox);
    let mut stream = Vec::new();
    for message in &messages {
        message::write_control(&mut stream, message);
    }
    stream.extend_from_slice(choices.0);

    let (ours, theirs) = connection::pair().expect("there are descriptors");
    let mut theirs = UnixStream::from(theirs);
    let mut zygote = waiting(ours, sandbox, asked);
    let mut answers = Vec::new();
    let mut end = None;
    for piece in stream.chunks(piece) {
        theirs.write_all(piece).expect("what came before has been read");
        end = zygote.turn(&mut answers).err();
        let (room, most) = (zygote.incoming.capacity(), 2 * (Caps::IDLE.other + READ_LEN));
        assert!(room <= most, "{room} bytes of memory of {most}");
        if end.is_some() {
            break;
        }
    }
    drop(theirs);
    let end = end.or_else(|| zygote.turn(&mut answers).err()).expect("a zygote that says no more is dead");

    let answers: Vec<Told> = answers.into_iter().map(told).collect();
    assert!(answers.starts_with(&expected), "{answers:?} and not {expected:?}");
    let settled = answers.iter().filter(|answer| matches!(answer, Told::NotForked(_))).count();
    assert_eq!(settled + zygote.session.asked().len(), asked as usize);
    match end {
        Unfit::Violation(violation) => assert!(violation.to_string().chars().all(escape::is_plain)),
        Unfit::Died => assert!(!is_wrong, "{messages:?} were believed"),
    }
    assert!(!is_wrong || answers.len() == expected.len(), "{answers:?} and not {expected:?}");
}

/// A zygote with `asked` open requests. It counts as ended, so nothing tries to end it.
fn waiting(socket: std::os::fd::OwnedFd, sandbox: Sandbox, asked: u32) -> Zygote {
    let no_process = socket.try_clone().expect("there are descriptors");
    let mut session = Session::zygote();
    (0..asked).for_each(|worker| session.ask(worker));
    Zygote {
        child: Child::Process {
            pid: Pid::from_raw(SESSION).expect("a number"),
            pidfd: Arc::new(no_process),
            home: crate::sys::home(),
        },
        exit: Some(Exit::Unknown),
        socket,
        sandbox,
        has_exchange: false,
        incoming: Vec::new(),
        session,
        thread: rustix::thread::gettid(),
        unsent: crate::protocol::outgoing::Outgoing::default(),
        wanted: VecDeque::new(),
    }
}

/// Messages of a zygote, often in a valid order.
fn messages(choices: &mut Choices<'_>) -> Vec<FromWorker> {
    let mut kinds: Vec<u8> = match choices.byte() % 4 {
        0 => vec![],
        1 => vec![0, 2],
        2 => vec![0, 1, 2],
        _ => vec![0],
    };
    kinds.extend((0..choices.byte() % 24).map(|_| choices.byte()));
    let reason = String::from_utf8_lossy(&choices.0[..choices.0.len().min(100)]).repeat(9);
    let pids = [0, 1, -1, -7, i32::MIN, SESSION, own(), 1 << 30, SESSION - 1, parent()];
    let message = |kind: u8| match kind % 16 {
        0 => FromWorker::Hello { version: VERSION + u32::from(kind / 16 > 7) },
        1 => FromWorker::Unconfined { missing: Vec::new() },
        2 => FromWorker::Ready,
        3 => FromWorker::Refused { reason: reason.clone() },
        4 => FromWorker::WantsInput,
        5 => FromWorker::Thawed,
        6 => FromWorker::InitFailed { failure: Failure::Cancelled },
        7..12 => FromWorker::Forked { pid: pids[usize::from(kind / 16) % pids.len()] },
        _ => FromWorker::NotForked { reason: reason.clone() },
    };
    kinds.into_iter().map(message).collect()
}

fn own() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

fn parent() -> i32 {
    rustix::process::getppid().map_or(0, |parent| parent.as_raw_nonzero().get())
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    NotForked(u32),
    Refused,
}

fn told(answer: Answer) -> Told {
    let (heard, reason) = match answer {
        Answer::NotForked { workers, reason, .. } => match workers[..] {
            [worker] => (Told::NotForked(worker), reason),
            _ => panic!("an answer for {workers:?}"),
        },
        Answer::Refused { reason } => (Told::Refused, reason),
        Answer::Asked { worker, .. } | Answer::Forked { worker, .. } => {
            panic!("worker {worker} is none of a zygote's")
        }
    };
    assert!(reason.len() <= 16 << 10 && reason.chars().all(escape::is_plain), "{reason:?}");
    heard
}

/// What the coordinator makes of the messages, and whether one of them breaks the protocol.
fn model(messages: &[FromWorker], asked: u32, sandbox: Sandbox) -> (Vec<Told>, bool) {
    let (mut start, mut answers, mut next) = (String::new(), Vec::new(), 0);
    let mut has_refused = false;
    for message in messages {
        let step = match message {
            FromWorker::Hello { version: VERSION } => "hello ",
            FromWorker::Unconfined { .. } => "unconfined ",
            FromWorker::Ready => "ready ",
            FromWorker::Refused { .. } if has_refused => return (answers, true),
            FromWorker::Refused { .. } => {
                has_refused = true;
                answers.push(Told::Refused);
                continue;
            }
            // Not a process id, or a process that cannot be the zygote's child. Any other id is not a child
            // of this program, so the process counts as gone.
            FromWorker::Forked { pid } if *pid <= 1 || [own(), SESSION].contains(pid) => {
                return (answers, true);
            }
            FromWorker::Forked { .. } | FromWorker::NotForked { .. }
                if start.ends_with("ready ") && next < asked =>
            {
                answers.push(Told::NotForked(next));
                next += 1;
                continue;
            }
            _ => return (answers, true),
        };
        start += step;
        if !["hello ", "hello unconfined ", "hello ready ", "hello unconfined ready "].contains(&&start[..]) {
            return (answers, true);
        }
        if step == "unconfined " && sandbox == Sandbox::Strict {
            answers.push(Told::Refused);
        }
    }
    (answers, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::{self, Kind, Violation};

    /// The announced length is enough: no byte of the message needs to come.
    #[test]
    fn f111_a_zygote_that_announces_a_long_message_is_ended_at_once() {
        let len = Caps::IDLE.other + 1;
        let (ours, theirs) = connection::pair().unwrap();
        let mut zygote = waiting(ours, Sandbox::Default, 1);
        let mut head = Vec::new();
        frame::write_head(&mut head, Kind::Control, len);
        UnixStream::from(theirs.try_clone().unwrap()).write_all(&head).unwrap();
        match zygote.turn(&mut Vec::new()) {
            Err(Unfit::Violation(Violation::TooLong { len: told })) => assert_eq!(told, len),
            end => panic!("{end:?}"),
        }
    }
}
