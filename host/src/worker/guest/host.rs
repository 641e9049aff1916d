//! The host's side of `wpool:process/current`.

use wasmtime::component::Linker;

use super::store::Ctx;

/// The interface's name, of any compatible version.
pub(super) const PROCESS: &str = "wpool:process/current";

/// Adds the interface to a linker.
pub(super) fn add_to_linker(linker: &mut Linker<Ctx>) -> wasmtime::Result<()> {
    let mut current = linker.instance("wpool:process/current@0.1.0")?;
    current.func_wrap("name", |store, (): ()| Ok((store.data().me.name.clone(),)))?;
    current.func_wrap("id", |_, (): ()| Ok((std::process::id(),)))?;
    current.func_wrap("worker-index", |store, (): ()| Ok((store.data().me.index,)))?;
    current.func_wrap("attempt", |store, (): ()| Ok((store.data().me.attempt(),)))?;
    current.func_wrap("should-stop", |store, (): ()| Ok((store.data().me.should_stop(),)))
}
