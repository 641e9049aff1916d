//! `wpool:task/batch`: by `report`, a guest in `run-many` gives the outcome of each record.

use wasmtime::component::{Linker, WasmList, WasmStr};
use wasmtime::{StoreContext, StoreContextMut};

use crate::protocol::frame::{self, Kind};
use crate::protocol::message::Failure;
use crate::worker::guest::failure::{failed, output_limit};
use crate::worker::guest::many::{BATCH_NOW, ManyCall, NextRecord};
use crate::worker::guest::store::Ctx;

/// What the guest reports about the record that it has just run: its result, or its error.
type Reported = Result<WasmList<u8>, WasmStr>;

/// Adds the interface to a linker.
pub(crate) fn add_to_linker(linker: &mut Linker<Ctx>) -> wasmtime::Result<()> {
    linker.instance(BATCH_NOW)?.func_wrap("report", report)
}

/// Appends the outcome of the running record and begins the next one. Returns whether the guest shall run it.
fn report(mut store: StoreContextMut<'_, Ctx>, (reported,): (Reported,)) -> wasmtime::Result<(bool,)> {
    // Taken out, since its methods need the store too. It is put back on each path: `run_many` expects it.
    let mut many =
        store.data_mut().many.take().ok_or_else(|| wasmtime::Error::msg("report is only for run-many"))?;
    let accepted = accept(&mut many, (&store).into(), &reported);
    let ctx = store.data_mut();
    if accepted.is_ok() {
        many.begin_next(&ctx.process);
        // The time limit holds for each record, although there is one call.
        ctx.begin(many.limits().time);
    }
    let goes_on = many.next() == NextRecord::Running;
    ctx.many = Some(many);
    accepted.map(|()| (goes_on,))
}

/// Appends the outcome of the running record. An `Err` ends the guest, as it would if `run` had returned
/// this.
fn accept(many: &mut ManyCall, store: StoreContext<'_, Ctx>, reported: &Reported) -> wasmtime::Result<()> {
    if many.next() != NextRecord::Running {
        return Err(wasmtime::Error::msg("the guest reported an outcome after it had been told to return"));
    }
    let ctx = store.data();
    let (output, memory) = (&ctx.output, ctx.limiter.memory());
    let broken = match reported {
        Ok(result) => {
            let result = result.as_le_slice(store);
            if result.len() <= many.limits().output {
                many.answer(output, memory, |out| {
                    frame::write(out, Kind::Returned, |out| out.extend_from_slice(result))
                });
                return Ok(());
            }
            output_limit(result.len(), many.limits())
        }
        Err(message) => match message.to_str(store) {
            Ok(message) => {
                let (failure, _in_its_message) = ctx.limiter.refusals().beside(failed(message.into_owned()));
                many.fail(output, memory, failure);
                return Ok(());
            }
            Err(e) => Failure::BadResult { message: e.root_cause().to_string() },
        },
    };
    many.fail(output, memory, broken);
    // The call ends here: the guest's next reports could be as broken as this one.
    Err(wasmtime::Error::msg("the reported outcome is not valid"))
}
