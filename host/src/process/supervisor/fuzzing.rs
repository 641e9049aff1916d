//! A process in an attacker's hands under a real listener, for [`crate::fuzzing`].

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::event::EventfdFlags;
use rustix::process::Pid;

use super::listener::{Listener, Rules};
use super::request;
use crate::context::{Child, StartMethod};
use crate::error::TaskError;
use crate::escape;
use crate::fuzzing::choices::Choices;
use crate::fuzzing::session::{Script, Word};
use crate::process::state::{OutputFns, Running, Supervised};
use crate::process::{ExitReason, ExitStatus};
use crate::protocol::connection;
use crate::protocol::outgoing::Outgoing;
use crate::spec::{Call, Exit, FixedArgs, Input, Output, Sandbox};
use crate::sys::CoordinatorPage;

/// The bytes that a socket takes without a reader.
const SOCKET_LEN: usize = 32 << 10;

/// A process says what it may say, one thing that it may not, and any bytes: its status, its result, its
/// output and its profile are those of what it might say.
pub(crate) fn supervisor(data: &[u8]) {
    let mut choices = Choices(data);
    let script = Script::of_a_process(&mut choices);
    let mut stream = script.bytes();
    stream.extend_from_slice(choices.0);
    stream.truncate(SOCKET_LEN);

    let (ours, theirs) = connection::pair().expect("there are descriptors");
    rustix::io::ioctl_fionbio(&ours, true).expect("a socket");
    UnixStream::from(theirs).write_all(&stream).expect("the socket has room");
    let running = running();
    let shared = Supervised::new("Process-1".to_owned(), false);
    let rules = Rules {
        stdin: None,
        limits: script.start().limits(),
        sinks: OutputFns::default(),
        sandbox: Sandbox::Default,
        method: StartMethod::Spawn,
        start_timeout: Duration::MAX,
        is_profiled: script.start().is_profiled(),
    };
    let mut listener = Listener::new(&shared, &running, rules, None);
    listener.listen(ours, request(Outgoing::default(), call(), b"record".to_vec()));
    let status = listener.status(Exit::Unknown);
    compare(&script, &shared, &status);
}

/// One that is no process. Its end is never told.
fn running() -> Running {
    let event = || rustix::event::eventfd(0, EventfdFlags::CLOEXEC).expect("there are descriptors");
    let (page, _its_own) = CoordinatorPage::create().expect("there is memory");
    let pid = Pid::from_raw(i32::MAX).expect("a number");
    Running {
        child: Child::Process { pid, pidfd: Arc::new(event()), home: crate::sys::home() },
        page,
        interrupt: event().as_fd().try_clone_to_owned().expect("there are descriptors"),
        terminated: false.into(),
        hang_up: false.into(),
        fault: OnceLock::new(),
    }
}

fn call() -> Call {
    Call {
        path: "run".to_owned(),
        input: Input::Raw,
        output: Output::Raw,
        fixed: FixedArgs::default(),
        argv: vec![],
        ok_exit: vec![],
        timed: false,
    }
}

/// Only of a script that is heard to its end; what comes behind it are any bytes, which may be words too.
fn compare(script: &Script, shared: &Supervised, status: &ExitStatus) {
    let state = shared.lock();
    let many = |word: Word, text: &[u8]| {
        let count = script.words().iter().filter(|said| **said == word).count();
        text.repeat(count)
    };
    assert!(state.stdout.starts_with(&many(Word::Stdout, b"out")));
    assert!(state.stderr.starts_with(&many(Word::Stderr, b"err")));
    assert!(!script.has_said(Word::Returned) || state.result.as_deref() == Some(b"result"));
    let reason = format!("{:?}", status.reason);
    assert!(reason.chars().all(escape::is_plain) && reason.len() <= 256 << 10, "{reason}");
    if script.wrong().is_none() {
        return;
    }
    // Nothing counts behind what may not be said.
    assert_eq!(state.stdout, many(Word::Stdout, b"out"));
    assert_eq!(state.stderr, many(Word::Stderr, b"err"));
    assert_eq!(state.result.is_some(), script.has_said(Word::Returned));
    let is_violation = matches!(
        &status.reason,
        ExitReason::Failed(TaskError::Broken { reason }) if reason.starts_with("protocol error: ")
    );
    assert!(is_violation, "{reason} of {:?} behind {:?}", script.wrong(), script.words());
    let failed = [Word::Failed, Word::InitFailed].into_iter().any(|word| script.has_said(word));
    let exitcode = match (script.has_said(Word::Returned), failed) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => ExitStatus::UNKNOWN,
    };
    assert_eq!(status.exitcode, exitcode);
}
