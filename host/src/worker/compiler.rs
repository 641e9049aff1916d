//! The compiler process: module bytes in, artefact and description out. It runs no guest, and ends after one module.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use super::{Connection, guest, hello, refuse, say};
use crate::protocol::message::{self, FromWorker, ToWorker};
use crate::sandbox::{self, ProcessLimits, Status};

/// Of one compilation: a bomb meets these, an honest module of 30 MB of machine code does not.
const LIMITS: ProcessLimits = ProcessLimits { data: 4 << 30, cpu_secs: Some(240), file: 1 << 30, files: 64 };

pub(super) fn run(connection: &mut Connection<OwnedFd>, mut status: Status) -> i32 {
    sandbox::limit(&mut status, LIMITS);
    hello(connection);
    let Ok(frame) = connection.recv() else { return 0 };
    let (text, limits) = match message::read_control(frame) {
        Ok(ToWorker::Compile { version, text, limits }) if version == crate::protocol::VERSION => (text, limits),
        _ => return refuse(connection, "the compiler program is of another version of wpool".to_owned()),
    };
    let Some([source, artefact]) = connection.take_fds() else {
        return refuse(connection, "the request came without its descriptors".to_owned());
    };
    let mut bytes = Vec::new();
    if let Err(e) = File::from(source).read_to_end(&mut bytes) {
        return refuse(connection, format!("cannot read it: {e}"));
    }
    let answer = match guest::compile(&bytes, text, &limits) {
        Ok((info, code)) => match File::from(artefact).write_all(&code) {
            Ok(()) => FromWorker::Compiled(Box::new(info)),
            Err(e) => FromWorker::Refused { reason: format!("cannot keep its machine code: {e}") },
        },
        Err(reason) => FromWorker::Refused { reason },
    };
    say(connection, &answer);
    0
}
