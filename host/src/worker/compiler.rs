//! The compiler process: gets the bytes of a module, gives machine code and a description. It runs no guest,
//! and ends after one module.

use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

#[cfg(feature = "fault-points")]
use super::fault;
use super::fault::fault_point;
use super::guest::{self, NotCompiled};
use super::send::{EXIT_SOFTWARE, hello, refuse, say};
use super::setup::may_go_on;
use crate::protocol::connection::{Connection, TakesFds};
use crate::protocol::message::{self, FromWorker, ToWorker};
use crate::sandbox::{Confinement, ProcessLimits};
use crate::spec::CompileLimits;

fn process_limits(most: CompileLimits) -> ProcessLimits {
    // Rounded up to whole seconds, the unit of the kernel's limit: half a second must not become none.
    let is_limited = most.time < Duration::MAX;
    let cpu_secs =
        is_limited.then(|| most.time.as_secs() + u64::from(most.time.subsec_nanos() > 0)).map(|s| s.max(1));
    ProcessLimits { data: most.memory, cpu_secs, file: most.code, files: 64 }
}

/// Takes all steps before the process reads the module: a hostile module could take over the compiler.
fn confine(confinement: &mut Confinement, most: CompileLimits) {
    confinement.limit(process_limits(most));
    confinement.isolate();
    confinement.close_files();
    confinement.close_calls();
}

/// Compiles one module, and returns the exit code.
pub(super) fn run(connection: &mut Connection<TakesFds>, mut confinement: Confinement) -> i32 {
    hello(connection);
    let Ok(frame) = connection.recv() else { return 0 };
    let (text, limits, codegen, most) = match message::read_control(frame) {
        Ok(ToWorker::Compile {
            version,
            text,
            limits,
            codegen,
            most,
            #[cfg(feature = "fault-points")]
            fault,
        }) if version == crate::protocol::VERSION => {
            #[cfg(feature = "fault-points")]
            fault::arm(fault, 1);
            (text, limits, codegen, most)
        }
        Ok(ToWorker::Report) => {
            // `doctor` asks what is enforced. Such a compiler confines itself as for a module, and gets none.
            confine(&mut confinement, CompileLimits::default());
            say(connection, &FromWorker::Report(confinement.status));
            return 0;
        }
        _ => return refuse(connection, "the compiler program is of another version of wpool".to_owned()),
    };
    // Two descriptors, not bytes in the message: a module may have a hundred megabytes, and its code more.
    let Some([source, artefact]) = connection.take_fds() else {
        return refuse(connection, "the request came without its descriptors".to_owned());
    };
    confine(&mut confinement, most);
    if !may_go_on(connection, &confinement) {
        return EXIT_SOFTWARE;
    }
    fault_point!(Compile);
    let mut bytes = Vec::new();
    if let Err(e) = File::from(source).read_to_end(&mut bytes) {
        return refuse(connection, format!("cannot read it: {e}"));
    }
    let tell =
        |kind, imports: &[_]| say(connection, &FromWorker::Imports { kind, imports: imports.to_vec() });
    // The machine code goes into the file before the answer: the coordinator seals the file when it has
    // heard.
    let answer = match guest::compile(&bytes, text, &limits, codegen, tell) {
        Ok((info, code)) => match File::from(artefact).write_all(&code) {
            Ok(()) => FromWorker::Compiled(Box::new(info)),
            Err(e) => FromWorker::Refused { reason: format!("cannot keep its machine code: {e}") },
        },
        Err(NotCompiled::Needs { features, reason }) => FromWorker::Needs { features, reason },
        Err(NotCompiled::Reason(reason)) => FromWorker::Refused { reason },
    };
    say(connection, &answer);
    0
}
