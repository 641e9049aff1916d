//! `run-many`: many records in one call of the guest, which reports each outcome as soon as it has one. Any
//! function from a record to a result may have such a companion: `shout-many` for `shout`.
//!
//! The coordinator and the user see no difference to one call for each record. The host knows which record is
//! running, so that the time limit, a cancel, a death and the printed output belong to that record. An
//! outcome that was reported is kept, whatever happens to later records.

use std::time::Instant;

use super::capture::OutputStreams;
use super::current_process::CurrentProcess;
use crate::protocol::message::{self, Failure, Used};
use crate::spec::{Call, Limits, ModuleInfo};
use crate::value::{FuncType, Type};
use crate::worker::fault::fault_point;
use crate::worker::outbox::Outbox;

/// The interface by which a guest reports.
pub(super) const BATCH_NOW: &str = "wpool:task/batch@0.1.0";
/// The name of the function that takes many records is that of the function of one record, with this at its
/// end.
const MANY: &str = "-many";

/// Whether this export can be called in place of another function: by its name and its exact type.
pub(super) fn is_run_many(path: &str, ty: &FuncType) -> bool {
    let is_records = |ty: &Type| matches!(ty, Type::List(each) if each.is_bytes());
    let is_companion = path.strip_suffix(MANY).is_some_and(|of| !of.is_empty() && !of.contains('#'));
    is_companion && ty.result.is_none() && matches!(&ty.params[..], [param] if is_records(&param.ty))
}

/// The name of the function that takes many records for this one.
pub(super) fn companion(path: &str) -> String {
    format!("{path}{MANY}")
}

/// Whether the guest can take many records of `call` at once.
///
/// Not if the engine counts fuel: it would count what the guest does between two records. Not if the guest
/// asks the coordinator in mid-task: what a record holds is released at its end, and a record may wait for
/// what a later one puts.
pub(super) fn is_provided(info: &ModuleInfo, call: &Call, uses_exchange: bool) -> bool {
    let companion = companion(&call.path);
    !info.codegen.fuel
        && !uses_exchange
        && info.imports.iter().any(|import| import.name == BATCH_NOW)
        && info.exports.iter().any(|export| export.path == companion && is_run_many(&companion, &export.ty))
        && info.exports.iter().any(|export| export.path == call.path && is_of_records(&export.ty))
}

/// Whether this is the type of a function from a record to a result: each is bytes or a string, and an error
/// is a message.
fn is_of_records(ty: &FuncType) -> bool {
    let is_record = |ty: &Type| ty.is_bytes() || *ty == Type::String;
    let is_result = |ty: &Type| match ty {
        Type::Result(Some(ok), Some(err)) => is_record(ok) && **err == Type::String,
        plain => is_record(plain),
    };
    matches!(&ty.params[..], [param] if is_record(&param.ty)) && ty.result.as_ref().is_some_and(is_result)
}

/// How far a call for many records has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The number of records that have outcomes, from the first on.
    pub(crate) answered: usize,
    /// The next record had begun when the call failed. Run it alone: the other records may be to blame.
    pub(crate) begun: bool,
}

/// A call for many records while it lasts.
pub(super) struct ManyCall {
    /// The number of records that have outcomes, from the first on.
    answered: usize,
    /// The number of records of the call.
    count: usize,
    next: NextRecord,
    /// With a timed plan: when the running record has begun. The first record begins with the call, so its
    /// time has the handing over of all records.
    begun: Option<Instant>,
    outbox: Outbox,
    limits: Limits,
}

/// The state of the first record that has no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextRecord {
    Running,
    /// The coordinator has cancelled it. The guest was told to return.
    Cancelled,
    /// It has not begun, or there is none. The guest was told to return.
    Waiting,
}

impl ManyCall {
    /// A call for `count` records, the first of which begins now.
    pub(super) fn new(count: usize, is_timed: bool, limits: &Limits, outbox: &Outbox) -> ManyCall {
        fault_point!(MidTask);
        ManyCall {
            answered: 0,
            count,
            next: NextRecord::Running,
            begun: is_timed.then(Instant::now),
            outbox: outbox.clone(),
            limits: limits.clone(),
        }
    }

    pub(super) fn next(&self) -> NextRecord {
        self.next
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Appends the outcome of the running record: its figures if they are asked for, the printed output, then
    /// what `write` writes. `memory`: that of the instance.
    #[inline]
    pub(super) fn answer(&mut self, output: &OutputStreams, memory: u64, write: impl FnOnce(&mut Vec<u8>)) {
        // One reading of the clock for each record: one ends as the next begins.
        let begun = self.begun;
        self.begun = begun.map(|_| Instant::now());
        let took = self.begun.zip(begun).map(|(end, begun)| end - begun);
        self.outbox.append(|out| {
            if let Some(took) = took {
                message::write_took(out, took);
                Used { memory, fuel: None }.write(out);
            }
            output.report(out, None);
            write(out);
        });
        self.answered += 1;
        self.next = NextRecord::Waiting;
    }

    /// Appends `failure` as the outcome of the running record.
    pub(super) fn fail(&mut self, output: &OutputStreams, memory: u64, failure: Failure) {
        self.answer(output, memory, |out| message::write_failure(out, &failure.shortened()));
    }

    /// Appends that the first record without an outcome is cancelled.
    pub(super) fn cancel(&mut self) {
        self.outbox.append(|out| message::write_failure(out, &Failure::Cancelled));
        self.answered += 1;
        self.next = NextRecord::Waiting;
    }

    pub(super) fn progress(&self, begun: bool) -> Progress {
        Progress { answered: self.answered, begun }
    }

    /// Begins the next record, if there is one and the outbox has room.
    ///
    /// A full outbox ends the call, because the serve loop cannot send results while the guest runs.
    #[inline]
    pub(super) fn begin_next(&mut self, process: &CurrentProcess) {
        // The count first: with no record left, `start_one` would count one that does not exist.
        if self.answered == self.count || self.outbox.is_full() {
            return;
        }
        if !process.start_one() {
            // The coordinator has taken this record back.
            return;
        }
        if process.is_cancelled() {
            // It is counted as started, so that it needs an outcome from this worker. `end_many` gives it.
            self.next = NextRecord::Cancelled;
            return;
        }
        fault_point!(MidTask);
        self.next = NextRecord::Running;
    }
}
