//! What a worker sends beside results: control messages, and the output of a Process while its guest writes
//! it.
//!
//! A coordinator that is gone needs no message: errors of a send are ignored here. The next receive finds the
//! closed socket, and ends the worker.

use std::os::fd::BorrowedFd;

use rustix::net::SendFlags;

use crate::protocol::connection::{Carrier, Connection};
use crate::protocol::frame::{self, Kind};
use crate::protocol::message::{self, FromWorker};

/// The exit code after an error of wpool itself, not of the guest (`EX_SOFTWARE` of `sysexits.h`).
pub(super) const EXIT_SOFTWARE: i32 = 70;

/// Sends a control message.
pub(super) fn say(connection: &mut Connection<impl Carrier>, message: &FromWorker) {
    let mut bytes = Vec::new();
    message::write_control(&mut bytes, message);
    let _gone = connection.send(&bytes);
}

/// Sends the first message of each process.
pub(super) fn hello(connection: &mut Connection<impl Carrier>) {
    say(connection, &FromWorker::Hello { version: crate::protocol::VERSION });
}

/// Tells the coordinator why this worker gives up. Returns the exit code.
pub(super) fn refuse(connection: &mut Connection<impl Carrier>, reason: String) -> i32 {
    say(connection, &FromWorker::Refused { reason });
    EXIT_SOFTWARE
}

/// Runs `role`, and returns its exit code. A panic in it is sent to the coordinator as the reason of the end.
pub(super) fn report_panic<C: Carrier>(
    connection: &mut Connection<C>,
    role: impl FnOnce(&mut Connection<C>) -> i32,
) -> i32 {
    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| role(connection)));
    played.unwrap_or_else(|panic| {
        let text =
            panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        refuse(connection, format!("{}: {}", message::PANICKED, text.unwrap_or("without a message")))
    })
}

/// Sends one frame through the bare socket: a piece of the output of a Process, while its guest runs.
pub(super) fn send_now(socket: BorrowedFd<'_>, kind: Kind, bytes: &[u8]) {
    let mut out = Vec::with_capacity(bytes.len() + frame::HEADER_LEN);
    frame::write(&mut out, kind, |out| out.extend_from_slice(bytes));
    send_all(socket, &out);
}

/// Sends all of `rest` through the bare socket.
pub(super) fn send_all(socket: BorrowedFd<'_>, mut rest: &[u8]) {
    while let Ok(sent) = rustix::io::retry_on_intr(|| rustix::net::send(socket, rest, SendFlags::NOSIGNAL)) {
        rest = &rest[sent..];
        if rest.is_empty() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::protocol::connection;
    use crate::protocol::frame::Caps;
    use crate::protocol::message::read_control;

    #[test]
    fn a_panic_is_told_as_the_reason() {
        let (ours, theirs) = connection::pair().unwrap();
        let mut worker = Connection::new(Arc::new(theirs), Caps::COORDINATOR);
        let code = report_panic(&mut worker, |_| panic!("no {} (this panic is part of a test)", "reason"));
        assert_eq!(code, EXIT_SOFTWARE);
        drop(worker);
        let mut coordinator = Connection::new(ours, Caps::IDLE);
        let FromWorker::Refused { reason } = read_control(coordinator.recv().unwrap()).unwrap() else {
            panic!("something else was said")
        };
        assert_eq!(reason, "it panicked: no reason (this panic is part of a test)");
        assert!(coordinator.recv().is_err(), "these were its last words");
    }
}
