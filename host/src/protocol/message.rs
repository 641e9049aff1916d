//! What the frames mean.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::frame::{self, Frame, Kind, Violation};
use crate::escape::shortened;
#[cfg(feature = "fault-points")]
use crate::spec::Fault;
use crate::spec::{
    Call, Codegen, CompileLimits, Features, Grants, Import, Isolation, Limits, ModuleInfo, ModuleKind,
    ProfilingStrategy,
};

/// From the coordinator, in a [`Kind::Control`] frame.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToWorker {
    /// To a compiler process; the module and the file for the artefact are the descriptors beside it.
    Compile {
        version: u32,
        text: bool,
        limits: Limits,
        codegen: Codegen,
        /// What it may take.
        most: CompileLimits,
        /// What the compiler tries, in tests.
        #[cfg(feature = "fault-points")]
        fault: Option<Fault>,
    },
    /// To a zygote or an executed worker, as its first message. Beside it: the artefact, a worker's status
    /// page and second socket, and the granted directories.
    Setup(Box<Setup>),
    /// To a zygote: fork a worker. Beside it: the worker's socket, its status page, and its second socket if
    /// it has one.
    Fork(Identity),
    /// To a worker: how to run the records of plan `id`. The worker keeps it until it is told to forget it.
    Plan { id: u32, call: Call },
    /// To a worker: no batch of plan `id` comes before another message tells the plan again.
    Forget { id: u32 },
    /// To a worker that was frozen on its status page: it drops what it has not begun of the batches before
    /// this.
    Thaw,
    /// To a worker: end in good order. The guest's `shutdown` runs if there is an instance that has run.
    Shutdown,
    /// To any process, instead of work: what does it look like from inside?
    Report,
}

impl ToWorker {
    /// The call that the message holds.
    pub(crate) fn call(&self) -> Option<&Call> {
        match self {
            ToWorker::Setup(setup) => setup.initializer.as_ref(),
            ToWorker::Plan { call, .. } => Some(call),
            ToWorker::Compile { .. }
            | ToWorker::Fork(_)
            | ToWorker::Forget { .. }
            | ToWorker::Thaw
            | ToWorker::Shutdown
            | ToWorker::Report => None,
        }
    }
}

/// How the reason begins that a process gives up for if it met a bug of ours.
pub(crate) const PANICKED: &str = "it panicked";

/// The beginning of the reason of a process that cannot work where it was started, whatever the module.
pub(crate) const UNFIT: &str = "workers cannot run here";

/// What a program must change whose `init` came too late.
pub(crate) const INIT_TOO_LATE: &str = "call wpool::init() before any thread is started: first thing in a \
    plain `fn main`, which then builds the runtime (#[tokio::main] builds it before the first line), or point \
    to an installed `wpool` with ModuleLoader::program";

/// From a compiler, zygote or worker, in a [`Kind::Control`] frame.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromWorker {
    /// First of all.
    Hello { version: u32 },
    /// The compiler, before it begins: what the module imports.
    Imports { kind: ModuleKind, imports: Vec<Import> },
    /// The compiler: done.
    Compiled(Box<ModuleInfo>),
    /// The compiler: the module would be compiled with these turned on. The process ends.
    Needs { features: Features, reason: String },
    /// A zygote or worker is loaded; a worker has run its initializer.
    Ready,
    /// A zygote has forked the worker that was asked for.
    Forked { pid: i32 },
    /// A zygote could not fork. It lives on.
    NotForked { reason: String },
    /// The module cannot be compiled, loaded or linked. The process ends.
    Refused { reason: String },
    /// Some properties of the process are not enforced: these. If the sandbox is strict, the process ends.
    Unconfined { missing: Vec<crate::spec::Property> },
    /// The initializer failed. The process ends.
    InitFailed { failure: Failure },
    /// A Process whose guest reads its standard input: what comes next? The answer is a [`Kind::Input`].
    WantsInput,
    /// The answer to `Thaw`.
    Thawed,
    /// The answer to `Report`.
    Report(crate::spec::Status),
}

/// Who a worker is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// `PoolWorker-3`, `Process-1`.
    pub(crate) name: String,
    /// Number within the pool, from 1 on; 0 for a Process.
    pub(crate) index: u32,
}

/// What a worker needs to know before its first task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) version: u32,
    pub(crate) info: ModuleInfo,
    pub(crate) limits: Limits,
    /// The directories are the last descriptors beside the message.
    pub(crate) grants: Grants,
    pub(crate) isolation: Isolation,
    pub(crate) initializer: Option<Call>,
    /// A zygote gets its workers' identities with each fork.
    pub(crate) identity: Option<Identity>,
    /// A Process: the guest's output is passed on as it comes, the process exits after its one task with the
    /// task's exit code, and `SIGINT` ends it.
    pub(crate) once: bool,
    /// There are processors enough for a worker to look for its next task for a moment before it sleeps.
    pub(crate) spins: bool,
    /// A busy worker that shows no sign of life for this long is reported.
    pub(crate) heartbeat: Duration,
    pub(crate) profile: Option<ProfilingStrategy>,
    /// The worker has a second socket, for what its guest asks of the coordinator in the middle of a task.
    /// Its descriptor is the one behind the status page.
    pub(crate) exchange: bool,
    /// Where the first worker dies, in tests.
    #[cfg(feature = "fault-points")]
    pub(crate) fault: Option<Fault>,
}

impl Setup {
    /// The setup of a worker of which nothing special is asked. Its starter changes the other fields.
    pub(crate) fn new(info: ModuleInfo, limits: Limits, grants: Grants) -> Setup {
        Setup {
            version: super::VERSION,
            exchange: info.uses_exchange(&grants),
            info,
            limits,
            grants,
            isolation: Isolation::Fresh,
            initializer: None,
            identity: None,
            once: false,
            spins: false,
            heartbeat: Duration::MAX,
            profile: None,
            #[cfg(feature = "fault-points")]
            fault: None,
        }
    }

    /// Whether the worker has files to write to.
    #[cfg(feature = "worker")]
    pub(crate) fn writes_files(&self) -> bool {
        self.grants.can_write() || self.profile.is_some_and(ProfilingStrategy::writes_file)
    }
}

/// Why a task did not return, as a worker tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// The function returned its error value.
    Failed {
        message: String,
    },
    Trap {
        message: String,
        backtrace: Vec<String>,
    },
    Limit {
        limit: crate::spec::Limit,
        message: String,
    },
    /// The guest called `exit`.
    Exited {
        code: u32,
    },
    /// The record is not a value of the parameter's type.
    BadRecord {
        message: String,
    },
    /// The guest broke a rule of the component model: a result outside its memory, or a string that is not
    /// UTF-8.
    BadResult {
        message: String,
    },
    /// The task was not begun, because its instance could not be made: a trap, a limit or a broken rule.
    NoInstance {
        failure: Box<Failure>,
    },
    /// The coordinator no longer wants the task, and has said so before.
    Cancelled,
}

/// Bytes of a failure's message: the guest's own words, or a quoted record. Without a cap, a guest could
/// send as much as a result may have for each of a million tasks.
const FAILURE_LEN_MAX: usize = 64 << 10;
/// Frames of a backtrace, and bytes of the name of each, which the module chooses. The engine gives at most
/// twenty frames.
const FRAMES_MAX: usize = 64;
const FRAME_NAME_MAX: usize = 200;

impl Failure {
    /// Whether the guest has come to its own end: it knew all that it had been given.
    pub(crate) fn is_returned(&self) -> bool {
        match self {
            Failure::Failed { .. } | Failure::Exited { .. } | Failure::BadResult { .. } => true,
            Failure::Trap { .. }
            | Failure::Limit { .. }
            | Failure::BadRecord { .. }
            | Failure::NoInstance { .. }
            | Failure::Cancelled => false,
        }
    }

    /// Cuts long texts and lists. The worker does it, and the coordinator again, since a worker may be taken
    /// over.
    pub(crate) fn shortened(mut self) -> Failure {
        match &mut self {
            Failure::Failed { message }
            | Failure::Limit { message, .. }
            | Failure::BadRecord { message }
            | Failure::BadResult { message } => cut(message, FAILURE_LEN_MAX),
            Failure::Trap { message, backtrace } => {
                cut(message, FAILURE_LEN_MAX);
                backtrace.truncate(FRAMES_MAX);
                backtrace.iter_mut().for_each(|name| cut(name, FRAME_NAME_MAX));
            }
            Failure::NoInstance { failure } => {
                let whole = std::mem::replace(&mut **failure, Failure::Cancelled);
                **failure = whole.shortened();
            }
            Failure::Exited { .. } | Failure::Cancelled => {}
        }
        self
    }

    /// Whether the task itself came to this end. `Cancelled` is the answer to the coordinator's own wish.
    pub(crate) fn is_of_a_task(&self) -> bool {
        match self {
            Failure::Failed { .. }
            | Failure::Trap { .. }
            | Failure::Limit { .. }
            | Failure::Exited { .. }
            | Failure::BadRecord { .. }
            | Failure::BadResult { .. } => true,
            Failure::NoInstance { failure } => failure.is_of_a_task(),
            Failure::Cancelled => false,
        }
    }
}

/// What a task used: `memory: u64 LE`, then `fuel: u64 LE` if that was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Used {
    /// Bytes of its instance's memories at their largest.
    pub(crate) memory: u64,
    pub(crate) fuel: Option<u64>,
}

impl Used {
    /// Appends a [`Kind::Used`] frame.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        frame::write(out, Kind::Used, |out| {
            out.extend_from_slice(&self.memory.to_le_bytes());
            if let Some(fuel) = self.fuel {
                out.extend_from_slice(&fuel.to_le_bytes());
            }
        });
    }

    /// Reads a [`Kind::Used`] frame's payload, of a task with these limits.
    pub(crate) fn read_within(payload: &[u8], limits: &Limits) -> Result<Used, Violation> {
        let used = Used::read(payload)?;
        let has_fuel = match (used.fuel, limits.fuel) {
            (Some(used), Some(most)) => used <= most,
            // Fuel that is told without a limit, or is missing with one, is a lie too: the engine counts it
            // exactly then.
            (used, most) => used.is_some() == most.is_some(),
        };
        if used.memory <= limits.memory && has_fuel {
            Ok(used)
        } else {
            Err(Violation::Unexpected("a task that used more than it may"))
        }
    }

    /// Reads a [`Kind::Used`] frame's payload.
    pub(crate) fn read(payload: &[u8]) -> Result<Used, Violation> {
        let read = payload.split_first_chunk().and_then(|(memory, rest)| {
            let fuel = match rest {
                [] => None,
                rest => Some(u64::from_le_bytes(rest.try_into().ok()?)),
            };
            Some(Used { memory: u64::from_le_bytes(*memory), fuel })
        });
        read.ok_or_else(|| Violation::Malformed("what a task used, which is not 8 or 16 bytes".to_owned()))
    }
}

/// A text of at most `most` bytes; of a longer one the beginning, and how long it was.
fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let end = format!("... ({} bytes)", text.len());
        text.truncate(text.floor_char_boundary(most - end.len()));
        text.push_str(&end);
    }
}

/// Appends `message` as a control frame.
pub(crate) fn write_control(out: &mut Vec<u8>, message: &impl Serialize) {
    frame::write(out, Kind::Control, |out| {
        serde_json::to_writer(out, message)
            .expect("our own messages have a JSON form, and writing to a Vec does not fail");
    });
}

/// Reads a control frame.
pub(crate) fn read_control<'f, M: Deserialize<'f>>(frame: Frame<'f>) -> Result<M, Violation> {
    match frame.kind {
        // JSON, since control messages are rare. What is sent for each task has a binary form.
        Kind::Control => serde_json::from_slice(frame.payload).map_err(malformed),
        _ => Err(Violation::Unexpected("a control message was expected")),
    }
}

/// Appends a [`Kind::Took`] frame.
#[cfg(feature = "worker")]
pub(crate) fn write_took(out: &mut Vec<u8>, took: Duration) {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    frame::write(out, Kind::Took, |out| out.extend_from_slice(&micros.to_le_bytes()));
}

/// Reads a [`Kind::Took`] frame's payload: the time that a task has taken, which is at most the time that
/// has passed.
pub(crate) fn read_took(payload: &[u8], passed: Duration) -> Result<Duration, Violation> {
    let micros =
        payload.try_into().map_err(|_| Violation::Malformed("a duration that is not 8 bytes".to_owned()))?;
    let took = Duration::from_micros(u64::from_le_bytes(micros));
    if took <= passed {
        Ok(took)
    } else {
        Err(Violation::Unexpected("a task that took longer than its worker has lived"))
    }
}

/// Appends a [`Kind::Placed`] frame: a result of `len` bytes is at `offset` of the arena's part for results.
#[cfg(feature = "worker")]
pub(crate) fn write_placed(out: &mut Vec<u8>, offset: u64, len: usize) {
    frame::write(out, Kind::Placed, |out| {
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(&(len as u64).to_le_bytes());
    });
}

/// Reads a [`Kind::Placed`] frame's payload: the offset and the length of a result.
pub(crate) fn read_placed(payload: &[u8]) -> Result<(u64, usize), Violation> {
    let place = payload.split_first_chunk().and_then(|(offset, len)| {
        let len = u64::from_le_bytes(len.try_into().ok()?);
        Some((u64::from_le_bytes(*offset), usize::try_from(len).ok()?))
    });
    place.ok_or_else(|| Violation::Malformed("a result at no place".to_owned()))
}

/// Appends a [`Kind::BatchDone`] frame.
#[cfg(feature = "worker")]
pub(crate) fn write_batch_done(out: &mut Vec<u8>, busy: Duration, instances: Duration) {
    frame::write(out, Kind::BatchDone, |out| {
        for time in [busy, instances] {
            out.extend_from_slice(&u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).to_le_bytes());
        }
    });
}

/// Reads a [`Kind::BatchDone`] frame's payload: the time of the batch, and the part of it for instances.
pub(crate) fn read_batch_done(payload: &[u8]) -> Result<(Duration, Duration), Violation> {
    let nanos = payload.split_first_chunk().and_then(|(busy, rest)| Some((*busy, rest.try_into().ok()?)));
    let (busy, instances) =
        nanos.ok_or_else(|| Violation::Malformed("a batch's end that is not 16 bytes".to_owned()))?;
    Ok((Duration::from_nanos(u64::from_le_bytes(busy)), Duration::from_nanos(u64::from_le_bytes(instances))))
}

/// Appends a [`Kind::Failed`] frame.
pub(crate) fn write_failure(out: &mut Vec<u8>, failure: &Failure) {
    frame::write(out, Kind::Failed, |out| {
        serde_json::to_writer(out, failure)
            .expect("a failure has a JSON form, and writing to a Vec does not fail");
    });
}

/// Reads a [`Kind::Failed`] frame's payload.
pub(crate) fn read_failure(payload: &[u8]) -> Result<Failure, Violation> {
    let failure: Result<Failure, _> = serde_json::from_slice(payload);
    failure.map(Failure::shortened).map_err(malformed)
}

/// What cannot be read. The parser quotes it, and it may be long.
fn malformed(error: serde_json::Error) -> Violation {
    Violation::Malformed(shortened(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_task_uses_no_more_memory_and_fuel_than_its_limits() {
        let with_fuel = |fuel| Limits { memory: 100, fuel, ..Limits::default() };
        let is_possible = |memory, fuel, limit| {
            let mut bytes = Vec::new();
            Used { memory, fuel }.write(&mut bytes);
            Used::read_within(frame::parse(&bytes).unwrap().unwrap().payload, &with_fuel(limit)).is_ok()
        };
        assert!(is_possible(100, None, None) && !is_possible(101, None, None));
        assert!(is_possible(1, Some(7), Some(7)) && !is_possible(1, Some(8), Some(7)));
        assert!(!is_possible(1, None, Some(7)) && !is_possible(1, Some(1), None));
    }

    proptest! {
        #[test]
        fn what_a_task_used_comes_out_as_it_went_in(memory: u64, fuel: Option<u64>) {
            let used = Used { memory, fuel };
            let mut bytes = Vec::new();
            used.write(&mut bytes);
            let frame = frame::parse(&bytes).unwrap().unwrap();
            prop_assert_eq!((frame.kind, frame.len()), (Kind::Used, bytes.len()));
            prop_assert_eq!(Used::read(frame.payload), Ok(used));
        }

        #[test]
        fn what_a_task_used_is_eight_or_sixteen_bytes(
            payload in proptest::collection::vec(any::<u8>(), 0..24)
        ) {
            prop_assert_eq!(Used::read(&payload).is_ok(), matches!(payload.len(), 8 | 16));
        }
    }
}
