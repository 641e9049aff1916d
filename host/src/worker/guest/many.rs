//! `run-many`: many records in one call of the guest, which reports each outcome as soon as it has it.
//!
//! The reports make it look like one call for each record: the host knows which one is running, so that the time limit, a cancel, a
//! death and what is printed are that one's; and what was reported before is on its way, whatever comes after.

use wasmtime::component::{Linker, WasmList, WasmStr};
use wasmtime::{StoreContext, StoreContextMut};

use super::failure::{failed, output_limit};
use super::store::{Ctx, Output};
use crate::protocol::frame::{self, Kind};
use crate::protocol::message::{self, Failure};
use crate::spec::{Call, Limits, ModuleInfo};
use crate::value::{FuncType, Type};
use crate::worker::fault_point;
use crate::worker::outbox::Outbox;

/// The interface by which a guest reports.
const BATCH_NOW: &str = "wpool:task/batch@0.1.0";
/// The function of many records, and the one that it stands in for.
pub(super) const RUN_MANY: &str = "run-many";
const RUN: &str = "run";

/// Adds the interface to a linker.
pub(super) fn add_to_linker(linker: &mut Linker<Ctx>) -> wasmtime::Result<()> {
    linker.instance(BATCH_NOW)?.func_wrap("report", report)
}

/// Whether this is the function that may be called in place of [`RUN`]: by its name and its exact type.
pub(super) fn is_run_many(path: &str, ty: &FuncType) -> bool {
    let is_records = |ty: &Type| matches!(ty, Type::List(each) if each.is_bytes());
    path == RUN_MANY && ty.result.is_none() && matches!(&ty.params[..], [param] if is_records(&param.ty))
}

/// Whether the guest can do many records of such a call at once. Not if what each uses is counted: what it does between two records would
/// count, too.
pub(super) fn is_provided(info: &ModuleInfo, call: &Call) -> bool {
    let run = |ty: &FuncType| {
        let result =
            Type::Result(Some(Box::new(Type::List(Box::new(Type::U8)))), Some(Box::new(Type::String)));
        matches!(&ty.params[..], [param] if param.ty.is_bytes()) && ty.result.as_ref() == Some(&result)
    };
    call.path == RUN
        && !call.timed
        && !info.codegen.fuel
        && info.imports.iter().any(|import| import.name == BATCH_NOW)
        && info.exports.iter().any(|export| is_run_many(&export.path, &export.ty))
        && info.exports.iter().any(|export| export.path == RUN && run(&export.ty))
}

/// How far a call for many records has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::worker) struct Progress {
    /// The first so many have their outcomes.
    pub(in crate::worker) answered: usize,
    /// The next one has been started, and is to be run by itself: what ended it may be due to its company.
    pub(in crate::worker) begun: bool,
}

/// The records that the guest has been given in one call.
pub(super) struct Many {
    /// So many have their outcomes, of so many.
    answered: usize,
    count: usize,
    next: Next,
    outbox: Outbox,
    limits: Limits,
}

/// What became of the first record that has no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Running,
    /// Nobody wants it; the guest was told to return.
    Cancelled,
    /// It has not been begun, or there is none. The guest was told to return.
    Waiting,
}

impl Many {
    /// The first record begins now.
    pub(super) fn new(count: usize, limits: &Limits, outbox: &Outbox) -> Many {
        fault_point!(MidTask);
        Many { answered: 0, count, next: Next::Running, outbox: outbox.clone(), limits: limits.clone() }
    }

    pub(super) fn next(&self) -> Next {
        self.next
    }

    /// Appends the outcome of the running record: what was printed, then what `write` writes.
    fn answer(&mut self, output: &Output, write: impl FnOnce(&mut Vec<u8>)) {
        self.outbox.append(|out| {
            output.report(out, None);
            write(out);
        });
        self.answered += 1;
        self.next = Next::Waiting;
    }

    pub(super) fn fail(&mut self, output: &Output, failure: Failure) {
        self.answer(output, |out| message::write_failure(out, &failure.shortened()));
    }

    /// The first record without an outcome is not wanted.
    pub(super) fn cancel(&mut self) {
        self.outbox.append(|out| message::write_failure(out, &Failure::Cancelled));
        self.answered += 1;
        self.next = Next::Waiting;
    }

    pub(super) fn progress(&self, begun: bool) -> Progress {
        Progress { answered: self.answered, begun }
    }

    /// The guest's own word on the record that it has just run. An error ends it, as it would if `run` had returned such an outcome.
    fn reported(&mut self, store: StoreContext<'_, Ctx>, outcome: &Outcome) -> wasmtime::Result<()> {
        if self.next != Next::Running {
            return Err(wasmtime::Error::msg(
                "the guest reported an outcome after it had been told to return",
            ));
        }
        let output = &store.data().output;
        let refusals = store.data().limiter.refusals();
        let broken = match outcome {
            Ok(result) => {
                let result = result.as_le_slice(store);
                if result.len() <= self.limits.output {
                    self.answer(output, |out| {
                        frame::write(out, Kind::Returned, |out| out.extend_from_slice(result))
                    });
                    return Ok(());
                }
                output_limit(result.len(), &self.limits)
            }
            Err(message) => match message.to_str(store) {
                Ok(message) => {
                    let (failure, _in_its_message) = refusals.beside(failed(message.into_owned()));
                    self.fail(output, failure);
                    return Ok(());
                }
                Err(e) => Failure::BadResult { message: e.root_cause().to_string() },
            },
        };
        self.fail(output, broken);
        Err(wasmtime::Error::msg("the outcome was no outcome"))
    }

    /// Begins the next record, if there is one and if the results need not go out first.
    fn begin(&mut self, ctx: &Ctx) {
        if self.answered == self.count || self.outbox.is_full() {
            return;
        }
        if !ctx.me.start_one() {
            // It was taken back.
            return;
        }
        if ctx.me.is_cancelled() {
            self.next = Next::Cancelled;
            return;
        }
        fault_point!(MidTask);
        self.next = Next::Running;
    }
}

type Outcome = Result<WasmList<u8>, WasmStr>;

/// `wpool:task/batch`'s `report`.
fn report(mut store: StoreContextMut<'_, Ctx>, (outcome,): (Outcome,)) -> wasmtime::Result<(bool,)> {
    let mut many =
        store.data_mut().many.take().ok_or_else(|| wasmtime::Error::msg("report is only for run-many"))?;
    let reported = many.reported((&store).into(), &outcome);
    let ctx = store.data_mut();
    if reported.is_ok() {
        many.begin(ctx);
        ctx.begin(many.limits.time);
    }
    let goes_on = many.next == Next::Running;
    ctx.many = Some(many);
    reported.map(|()| (goes_on,))
}
