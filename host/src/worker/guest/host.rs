//! The host's side of `wpool:process/current`.

use wasmtime::component::Linker;

use super::store::Ctx;

/// Adds the interface to a linker. If runs are to be deterministic, every worker and every attempt is the same.
pub(super) fn add_to_linker(linker: &mut Linker<Ctx>, deterministic: bool) -> wasmtime::Result<()> {
    let mut current = linker.instance("wpool:process/current@0.1.0")?;
    match deterministic {
        true => {
            current.func_wrap("name", |_, (): ()| Ok(("worker".to_owned(),)))?;
            for name in ["id", "worker-index", "attempt"] {
                current.func_wrap(name, |_, (): ()| Ok((1u32,)))?;
            }
        }
        false => {
            current.func_wrap("name", |store, (): ()| Ok((store.data().me.name.clone(),)))?;
            current.func_wrap("id", |_, (): ()| Ok((std::process::id(),)))?;
            current.func_wrap("worker-index", |store, (): ()| Ok((store.data().me.index,)))?;
            current.func_wrap("attempt", |store, (): ()| Ok((store.data().me.attempt(),)))?;
        }
    }
    current.func_wrap("should-stop", |store, (): ()| Ok((store.data().me.should_stop(),)))
}
