//! `wpool:process/current`: what a guest learns about the worker that it runs in.

use wasmtime::component::Linker;

use crate::worker::guest::store::Ctx;

/// Adds the interface to a linker. `deterministic`: all workers and all attempts show the same values.
pub(crate) fn add_to_linker(linker: &mut Linker<Ctx>, deterministic: bool) -> wasmtime::Result<()> {
    let mut current = linker.instance("wpool:process/current@0.1.0")?;
    if deterministic {
        current.func_wrap("name", |_, (): ()| Ok(("worker".to_owned(),)))?;
        for name in ["id", "worker-index", "attempt"] {
            current.func_wrap(name, |_, (): ()| Ok((1u32,)))?;
        }
    } else {
        current.func_wrap("name", |store, (): ()| Ok((store.data().process.name.clone(),)))?;
        current.func_wrap("id", |_, (): ()| Ok((std::process::id(),)))?;
        current.func_wrap("worker-index", |store, (): ()| Ok((store.data().process.index,)))?;
        current.func_wrap("attempt", |store, (): ()| Ok((store.data().process.attempt(),)))?;
    }
    current.func_wrap("should-stop", |store, (): ()| Ok((store.data().process.should_stop(),)))
}
