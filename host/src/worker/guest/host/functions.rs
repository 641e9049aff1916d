//! Functions of the application: what the guest passes goes to the coordinator, which calls the function.

use wasmtime::component::{LinkerInstance, Val};

use super::exchange::{self, Guest};
use crate::spec::exchange::ITEM_LEN_MAX;
use crate::spec::size;
use crate::value::{FuncType, NameTables, args_to_wire, result_from_wire};
use crate::worker::guest::store::Ctx;
use crate::worker::guest::values::{from_val, to_val};

/// Defines an imported function. `number`: what the coordinator knows it by. `ty`: its type.
pub(crate) fn define(
    linker: &mut LinkerInstance<'_, Ctx>,
    name: &str,
    number: usize,
    ty: FuncType,
) -> wasmtime::Result<()> {
    let number = u32::try_from(number)?;
    linker.func_new(name, move |guest, _, args, results| call(&guest, number, &ty, args, results))
}

/// Calls the function. An error is a trap, or the end of the task.
fn call(
    guest: &Guest<'_>,
    number: u32,
    ty: &FuncType,
    args: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let args: Option<Vec<_>> = args.iter().cloned().map(from_val).collect();
    let args = args.ok_or_else(|| wasmtime::Error::msg("a handle cannot leave its instance"))?;
    let args = args_to_wire(args, &ty.params).map_err(wasmtime::Error::msg)?;
    // The coordinator takes no more from a worker.
    if args.len() > ITEM_LEN_MAX {
        let (len, most) = (size(args.len() as u64), size(ITEM_LEN_MAX as u64));
        return Err(wasmtime::Error::msg(format!(
            "arguments of {len} for the application: the most is {most}"
        )));
    }
    let result = exchange::call(guest, number, args)?;
    let result = result_from_wire(&result, ty.result.as_ref()).map_err(wasmtime::Error::msg)?;
    let result = result.zip(ty.result.as_ref());
    for (slot, (value, ty)) in results.iter_mut().zip(result) {
        *slot = to_val(value, ty, &NameTables::default());
    }
    Ok(())
}
