//! Compiles in a process of its own, so that a compile bomb or a flaw of the compiler harms only that
//! process.

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
use crate::protocol::frame::{Caps, Violation};
use crate::protocol::message::{self, ToWorker};
use crate::protocol::session::{CompilerRole, FromCompiler, GaveUp, Heard, Session};
use crate::spec::{
    Codegen, CompileLimits, Exit, Import, Limits, ModuleInfo, ModuleKind, ProcessRole, Sandbox,
};
use crate::sys::limit_behind;
use crate::{clock, sys};

pub(super) struct Compiled {
    pub(super) info: ModuleInfo,
    /// A sealed memory file with the machine code.
    pub(super) artefact: OwnedFd,
}

/// Compiles `bytes` with `program` as the compiler, unless `judge` refuses the module's imports.
pub(super) fn compile(
    program: &Program,
    bytes: &[u8],
    text: bool,
    codegen: Codegen,
    most: CompileLimits,
    judge: impl FnMut(ModuleKind, &[Import]) -> Result<(), ModuleError>,
    under_way: &mut dyn FnMut(),
) -> Result<Compiled, ModuleError> {
    let code = if text { without_mark(bytes) } else { bytes };
    // A sealed copy in memory: the compiler opens no file of the user, and what it reads is what the digest
    // names.
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
    // The request is small, so the socket takes all of it. If that fails, the process has ended, and
    // `await_description` fails.
    let _sent = connection::send_with_fds(&ours, &request, &[source.as_fd(), artefact.as_fd()]);

    let info = Conversation::new(ours, program.sandbox, most).await_description(judge, under_way);
    // Also after an answer: a compiler has nothing left to do, and must not go on in the hands of an
    // attacker.
    child.kill();
    // A process that may not be killed ends too, because it has lost its connection.
    let exit = child.wait();
    let info = info.map_err(|why| why.into_error(exit, most))?;
    // Before anything is stored: the description may be the attacker's.
    info.check().map_err(|what| ModuleError::Compiler(format!("it describes {what}")))?;
    // Only now, because the compiler writes into it. It is dead, so that no write is under way.
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&artefact, seals).map_err(|e| ModuleError::Io(e.into()))?;
    Ok(Compiled { info: *info, artefact })
}

/// How often the caller is told that a compilation is in progress.
const TOLD_EVERY: Duration = Duration::from_millis(200);

/// The conversation with a compiler process that has got its module.
struct Conversation {
    connection: Connection<OwnedFd>,
    session: Session<CompilerRole>,
    sandbox: Sandbox,
    /// The time by which the process must have answered.
    deadline: Option<Instant>,
}

/// Why a compiler process has not described its module.
enum Undescribed {
    /// A reason that already is an error.
    Because(ModuleError),
    GaveUp(GaveUp),
    Late,
    /// The process ended, or broke the protocol.
    Unheard(RecvError),
}

impl From<RecvError> for Undescribed {
    fn from(error: RecvError) -> Undescribed {
        Undescribed::Unheard(error)
    }
}

impl From<Violation> for Undescribed {
    fn from(violation: Violation) -> Undescribed {
        Undescribed::Unheard(violation.into())
    }
}

impl Undescribed {
    fn into_error(self, exit: Exit, most: CompileLimits) -> ModuleError {
        match self {
            Undescribed::Because(error) => error,
            Undescribed::GaveUp(GaveUp::Unfit(reason)) => StartError::Place { reason }.into(),
            Undescribed::GaveUp(GaveUp::Panicked(reason)) => ModuleError::Compiler(reason),
            // The engine's text for a mapping that the kernel refused.
            Undescribed::GaveUp(GaveUp::Other(reason)) if reason.contains("Cannot allocate memory") => {
                too_much_memory(most)
            }
            Undescribed::GaveUp(GaveUp::Other(reason)) => ModuleError::Invalid(reason),
            Undescribed::Late => {
                ModuleError::CompileLimit(format!("it took more than {:?}; {RAISES_TIME}", most.wall()))
            }
            Undescribed::Unheard(RecvError::Closed) => died(exit, most),
            Undescribed::Unheard(error) => ModuleError::Compiler(error.to_string()),
        }
    }
}

impl Conversation {
    fn new(socket: OwnedFd, sandbox: Sandbox, most: CompileLimits) -> Conversation {
        Conversation {
            connection: Connection::new(socket, Caps::COMPILER),
            session: Session::compiler(),
            sandbox,
            deadline: clock::now().checked_add(most.wall()),
        }
    }

    /// Waits for the description of the module. `judge` sees the imports before the compiler spends time on
    /// the module.
    fn await_description(
        &mut self,
        mut judge: impl FnMut(ModuleKind, &[Import]) -> Result<(), ModuleError>,
        under_way: &mut dyn FnMut(),
    ) -> Result<Box<ModuleInfo>, Undescribed> {
        loop {
            match self.next(under_way)? {
                Heard::Greeted => {}
                Heard::Unconfined(missing) => {
                    let judged = self.sandbox.judge(missing).map_err(ModuleError::Sandbox);
                    judged.map_err(Undescribed::Because)?;
                }
                Heard::Refused(why) => return Err(Undescribed::GaveUp(why)),
                Heard::Said(FromCompiler::Imports { kind, imports }) => {
                    judge(kind, &imports).map_err(Undescribed::Because)?;
                }
                Heard::Said(FromCompiler::Compiled(info)) => return Ok(info),
                Heard::Said(FromCompiler::Needs { features, reason }) => {
                    let needs = features.iter().collect();
                    let reason = shortened(&reason);
                    return Err(Undescribed::Because(ModuleError::NeedsFeatures { needs, reason }));
                }
            }
        }
    }

    /// Waits for the next message of the process.
    fn next(&mut self, under_way: &mut dyn FnMut()) -> Result<Heard<FromCompiler>, Undescribed> {
        loop {
            if let Some(frame) = self.connection.next()? {
                return Ok(self.session.on(frame)?);
            }
            let left = self.deadline.map(|deadline| deadline.saturating_duration_since(clock::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(Undescribed::Late);
            }
            let mut fds = [PollFd::new(self.connection.carrier(), PollFlags::IN)];
            let told_in = left.map_or(TOLD_EVERY, |left| left.min(TOLD_EVERY));
            match clock::poll(&mut fds, Some(told_in)) {
                // The timeout of `poll`, not necessarily the deadline: this program may have been stopped
                // meanwhile.
                Ok(0) => under_way(),
                Ok(_) => {
                    if self.connection.fill()? == 0 {
                        return Err(RecvError::Closed.into());
                    }
                }
                Err(e) => return Err(RecvError::Io(e.into()).into()),
            }
        }
    }
}

/// The result of a compiler process that sends `data` and ends, and the imports that were judged.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_answer(data: &[u8]) -> (Option<Vec<Import>>, Result<Box<ModuleInfo>, ModuleError>) {
    let (ours, theirs) = connection::pair().expect("there are descriptors");
    let sent = connection::send_with_fds(&theirs, data, &[]).expect("a socket takes it");
    assert_eq!(sent, data.len(), "a socket takes it all");
    drop(theirs);
    let most = CompileLimits::default();
    let mut judged = None;
    let judge = |_, imports: &[Import]| {
        judged = Some(imports.to_vec());
        Ok(())
    };
    let info = Conversation::new(ours, Sandbox::Default, most).await_description(judge, &mut || ());
    (judged, info.map_err(|why| why.into_error(Exit::Unknown, most)))
}

/// The compiler process ended without an answer: most likely it reached one of its limits.
fn died(exit: Exit, most: CompileLimits) -> ModuleError {
    match exit {
        Exit::Signal(libc::SIGXCPU) => ModuleError::CompileLimit(format!(
            "it used more than {:?} of processor time; {RAISES_TIME}",
            most.time
        )),
        // Rust aborts when an allocation fails, and RLIMIT_DATA makes it fail.
        Exit::Signal(libc::SIGABRT) => too_much_memory(most),
        // The kernel kills a compiler first when memory runs out, because its score for that is the highest.
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

/// A sealed memory file with these bytes.
pub(super) fn memory_file(name: &str, bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(sys::above_stdio(file)?);
    file.write_all(bytes)?;
    // The reader's descriptor shares this file's position.
    file.rewind()?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}
