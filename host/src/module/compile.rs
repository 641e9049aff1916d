//! Compiling in a process of its own: a compile bomb, or a flaw of the compiler, ends there.

use std::io::{Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{MemfdFlags, SealFlags};

use super::ModuleError;
use super::source::without_mark;
use crate::context::{Program, StartError};
use crate::escape::shortened;
use crate::protocol::connection::{self, Connection, RecvError};
use crate::protocol::frame::Caps;
use crate::protocol::message::{self, FromWorker, PANICKED, ToWorker, UNFIT};
use crate::spec::{
    Codegen, CompileLimits, Exit, Import, Limits, ModuleInfo, ModuleKind, ProcessRole, Sandbox,
};
use crate::sys::limit_behind;
use crate::{clock, sys};

pub(super) struct Compiled {
    pub(super) info: ModuleInfo,
    /// A sealed memory file.
    pub(super) artefact: OwnedFd,
}

/// Compiles `bytes` with `program` as the compiler, unless `judge` refuses its imports.
pub(super) fn compile(
    program: &Program,
    bytes: &[u8],
    text: bool,
    codegen: Codegen,
    most: CompileLimits,
    judge: impl FnOnce(ModuleKind, &[Import]) -> Result<(), ModuleError>,
    under_way: &mut dyn FnMut(),
) -> Result<Compiled, ModuleError> {
    let code = if text { without_mark(bytes) } else { bytes };
    let source = memory_file("wpool-module", code).map_err(|e| {
        ModuleError::Compiler(format!("the module cannot be handed over: {e}{}", limit_behind(&e)))
    })?;
    let artefact =
        rustix::fs::memfd_create("wpool-artefact", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
            .map_err(|e| ModuleError::Io(e.into()))?;
    let artefact = sys::above_stdio(artefact).map_err(ModuleError::Io)?;
    let (ours, theirs) = connection::pair().map_err(ModuleError::Io)?;
    let child = program.start(ProcessRole::Compiler, theirs).map_err(ModuleError::Start)?;

    let mut request = Vec::new();
    message::write_control(
        &mut request,
        &ToWorker::Compile {
            version: crate::protocol::VERSION,
            text,
            limits: Limits::default(),
            codegen,
            most,
            #[cfg(feature = "fault-points")]
            fault: program.fault,
        },
    );
    // The request is small: it goes out whole, or the process is gone already, which is seen below.
    let _sent = connection::send_with_fds(&ours, &request, &[source.as_fd(), artefact.as_fd()]);

    let mut connection = Connection::new(ours, Caps::COMPILER);
    let deadline = clock::now().checked_add(most.wall());
    let mut answer = await_answer(&mut connection, program.sandbox, deadline, under_way);
    let mut judged = Ok(());
    if let Ok(Some(FromWorker::Imports { kind, imports })) = &answer {
        judged = judge(*kind, imports);
        if judged.is_ok() {
            answer = await_answer(&mut connection, program.sandbox, deadline, under_way);
        }
    }
    child.kill();
    // It has lost its connection, if it may not be killed.
    let exit = child.wait();
    judged?;
    match answer {
        Ok(Some(FromWorker::Compiled(info))) => {
            info.check().map_err(|what| ModuleError::Compiler(format!("it describes {what}")))?;
            let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
            rustix::fs::fcntl_add_seals(&artefact, seals).map_err(|e| ModuleError::Io(e.into()))?;
            Ok(Compiled { info: *info, artefact })
        }
        // Only if it may not be: see await_answer.
        Ok(Some(FromWorker::Unconfined { missing })) => {
            Err(ModuleError::Sandbox(program.sandbox.judge(missing).err().unwrap_or_default()))
        }
        // Whatever the module.
        Ok(Some(FromWorker::Refused { reason })) if reason.starts_with(UNFIT) => {
            Err(StartError::Place { reason: shortened(&reason) }.into())
        }
        // A flaw of ours, or a machine that has no more threads.
        Ok(Some(FromWorker::Refused { reason })) if reason.starts_with(PANICKED) => {
            Err(ModuleError::Compiler(shortened(&reason)))
        }
        // The engine's own word for a mapping that the kernel refused.
        Ok(Some(FromWorker::Refused { reason })) if reason.contains("Cannot allocate memory") => {
            Err(too_much_memory(most))
        }
        Ok(Some(FromWorker::Refused { reason })) => Err(ModuleError::Invalid(shortened(&reason))),
        Ok(Some(FromWorker::Needs { features, reason })) => {
            Err(ModuleError::NeedsFeatures { needs: features.iter().collect(), reason: shortened(&reason) })
        }
        Ok(Some(_)) => {
            Err(ModuleError::Compiler("it gave an answer to a question that was not asked".to_owned()))
        }
        Ok(None) => {
            Err(ModuleError::CompileLimit(format!("it took more than {:?}; {RAISES_TIME}", most.wall())))
        }
        Err(RecvError::Closed) => Err(died(exit, most)),
        Err(e) => Err(ModuleError::Compiler(e.to_string())),
    }
}

/// So often is told that a compilation is under way.
const TOLD_EVERY: Duration = Duration::from_millis(200);

/// `Ok(None)` when the time is up.
fn await_answer(
    connection: &mut Connection<OwnedFd>,
    sandbox: Sandbox,
    deadline: Option<Instant>,
    under_way: &mut dyn FnMut(),
) -> Result<Option<FromWorker>, RecvError> {
    loop {
        while connection.has_frame()? {
            match message::read_control(connection.recv()?)? {
                FromWorker::Hello { .. } => {}
                FromWorker::Unconfined { missing } if sandbox != Sandbox::Strict => {
                    let _told = sandbox.judge(missing);
                }
                answer => return Ok(Some(answer)),
            }
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(clock::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(None);
        }
        let mut fds = [PollFd::new(connection.carrier(), PollFlags::IN)];
        match clock::nap(Some(left.map_or(TOLD_EVERY, |left| left.min(TOLD_EVERY))), |timeout| {
            rustix::event::poll(&mut fds, Some(timeout))
        }) {
            // Not over yet, also if this program was stopped meanwhile.
            Ok(0) => under_way(),
            Ok(_) => {
                if connection.fill()? == 0 {
                    return Err(RecvError::Closed);
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(RecvError::Io(e.into())),
        }
    }
}

/// The answer of a compiler process that says `data`, and ends.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_answer(data: &[u8]) -> Result<Option<FromWorker>, RecvError> {
    let (ours, theirs) = connection::pair().map_err(RecvError::Io)?;
    let sent = connection::send_with_fds(&theirs, data, &[]).map_err(RecvError::Io)?;
    assert_eq!(sent, data.len(), "a socket takes it all");
    drop(theirs);
    await_answer(&mut Connection::new(ours, Caps::COMPILER), Sandbox::Default, None, &mut || ())
}

/// The compiler process ended without an answer: most likely one of its limits.
fn died(exit: Exit, most: CompileLimits) -> ModuleError {
    match exit {
        Exit::Signal(libc::SIGXCPU) => ModuleError::CompileLimit(format!(
            "it used more than {:?} of processor time; {RAISES_TIME}",
            most.time
        )),
        Exit::Signal(libc::SIGABRT) => too_much_memory(most),
        // It is the first that the kernel takes.
        Exit::Signal(libc::SIGKILL) => ModuleError::CompileLimit(
            "it was killed, most likely because the machine ran out of memory".to_owned(),
        ),
        Exit::Signal(libc::SIGSEGV) => {
            ModuleError::CompileLimit("it nests too deeply for the compiler's stack".to_owned())
        }
        Exit::Signal(libc::SIGXFSZ) => ModuleError::CompileLimit(format!(
            "its machine code is larger than {} MiB; CompileLimits::code raises that",
            most.code >> 20
        )),
        Exit::Code(code) => ModuleError::Compiler(format!(
            "it exited with code {code} and without an answer (is it a `wpool` program?)"
        )),
        exit => ModuleError::Compiler(format!("it ended with {exit}")),
    }
}

const RAISES_TIME: &str = "--compile-timeout, CompileLimits::time raise that";

fn too_much_memory(most: CompileLimits) -> ModuleError {
    let mib = most.memory >> 20;
    ModuleError::CompileLimit(format!(
        "it used more than {mib} MiB; --compile-memory, CompileLimits::memory raise that"
    ))
}

/// A sealed file in memory with these bytes.
pub(super) fn memory_file(name: &str, bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(sys::above_stdio(file)?);
    file.write_all(bytes)?;
    // The reader shares our position.
    file.rewind()?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}
