//! The compiler process: module bytes in, artefact and description out. It runs no guest, and ends after one module.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use super::{Connection, EXIT_SOFTWARE, fault_point, guest, hello, may_go_on, refuse, say};
use crate::protocol::message::{self, FromWorker, ToWorker};
use crate::sandbox::{Confinement, ProcessLimits, Role};

/// Of one compilation: a bomb meets these, an honest module of 30 MB of machine code does not.
const LIMITS: ProcessLimits = ProcessLimits { data: 4 << 30, cpu_secs: Some(240), file: 1 << 30, files: 64 };

pub(super) fn run(connection: &mut Connection<OwnedFd>, mut confinement: Confinement) -> i32 {
    confinement.limit(LIMITS);
    confinement.isolate();
    confinement.close_files(Role::Compiler);
    confinement.close_calls(Role::Compiler);
    hello(connection);
    let Ok(frame) = connection.recv() else { return 0 };
    let (text, limits, codegen) = match message::read_control(frame) {
        Ok(ToWorker::Compile {
            version,
            text,
            limits,
            codegen,
            #[cfg(feature = "fault-points")]
            fault,
        }) if version == crate::protocol::VERSION => {
            #[cfg(feature = "fault-points")]
            super::fault::arm(fault, 1);
            (text, limits, codegen)
        }
        _ => return refuse(connection, "the compiler program is of another version of wpool".to_owned()),
    };
    let Some([source, artefact]) = connection.take_fds() else {
        return refuse(connection, "the request came without its descriptors".to_owned());
    };
    // Before it looks at the module, which is what may turn it against us.
    if !may_go_on(connection, &confinement) {
        return EXIT_SOFTWARE;
    }
    fault_point!(Compile);
    let mut bytes = Vec::new();
    if let Err(e) = File::from(source).read_to_end(&mut bytes) {
        return refuse(connection, format!("cannot read it: {e}"));
    }
    let answer = match guest::compile(&bytes, text, &limits, codegen) {
        Ok((info, code)) => match File::from(artefact).write_all(&code) {
            Ok(()) => FromWorker::Compiled(Box::new(info)),
            Err(e) => FromWorker::Refused { reason: format!("cannot keep its machine code: {e}") },
        },
        Err(reason) => FromWorker::Refused { reason },
    };
    say(connection, &answer);
    0
}
