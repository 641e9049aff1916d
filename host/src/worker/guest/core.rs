//! Core modules: numeric functions, and WASI preview 1 commands.

use std::time::Duration;

use wasmtime::{
    Caller, Engine, ExternType, GuestProfiler, Instance, InstancePre, Linker, Module, Store, Val,
};
use wasmtime_wasi::I32Exit;

use super::failure::{classify, unprovided};
use super::instances::{BinaryFormat, LiveInstance};
use super::plan::ResolvedPlan;
use super::stdin::GuestStdin;
use super::store::Ctx;
use super::template::StoreTemplate;
use super::values;
use super::wasi::WasiGrants;
use crate::policy::{PREVIEW1, is_provided};
use crate::protocol::message::Failure;
use crate::spec::{Grants, ModuleInfo, ModuleKind, Role};
use crate::value::{Type, Value};

pub(super) struct CoreFormat {
    pre: InstancePre<Ctx>,
    needs_wasi: bool,
    /// The module is a library, whose [`INITIALIZE`] is called before any other function.
    is_reactor: bool,
}

/// The function that a library has and a command has not: a command begins with its `_start`.
const INITIALIZE: &str = "_initialize";

fn is_reactor(module: &Module, info: &ModuleInfo) -> bool {
    let is_command = info.exports.iter().any(|export| export.role == Role::Command);
    let takes_nothing =
        |ty: ExternType| ty.func().is_some_and(|f| f.params().len() == 0 && f.results().len() == 0);
    !is_command && module.get_export(INITIALIZE).is_some_and(takes_nothing)
}

impl CoreFormat {
    pub(super) fn load(
        engine: &Engine,
        info: &ModuleInfo,
        grants: &Grants,
        path: &str,
    ) -> Result<CoreFormat, String> {
        // SAFETY: as for components. The bytes are those that our own compiler process wrote.
        #[expect(unsafe_code, reason = "the one artefact load, for the other binary format")]
        let module = unsafe { Module::deserialize_file(engine, path) }.map_err(|e| format!("{e:#}"))?;
        let pre = link(engine, &module, info, grants).map_err(|e| format!("cannot be linked: {e:#}"))?;
        Ok(CoreFormat { pre, needs_wasi: needs_wasi(info), is_reactor: is_reactor(&module, info) })
    }
}

fn needs_wasi(info: &ModuleInfo) -> bool {
    info.imports.iter().any(|import| import.name.starts_with(PREVIEW1))
}

/// Links the imports. An error if an import has another type than what is provided under its name.
pub(super) fn link(
    engine: &Engine,
    module: &Module,
    info: &ModuleInfo,
    grants: &Grants,
) -> wasmtime::Result<InstancePre<Ctx>> {
    let mut linker = Linker::new(engine);
    if needs_wasi(info) {
        wasmtime_wasi::p1::add_to_linker_sync(&mut linker, Ctx::p1)?;
        // The engine's own function accepts exit codes below 126 only.
        // Only for this one name: elsewhere, a second definition is a mistake.
        linker.allow_shadowing(true);
        linker.func_wrap(PREVIEW1, "proc_exit", |code: i32| -> wasmtime::Result<()> {
            Err(I32Exit(code).into())
        })?;
        linker.allow_shadowing(false);
    }
    if grants.traps_unknown {
        for import in module.imports() {
            let path = format!("{} {}", import.module(), import.name());
            // Memories, tables and globals have no stand-in. The module is refused for those before it gets
            // here.
            if let (ExternType::Func(ty), false) = (import.ty(), is_provided(ModuleKind::Core, &path)) {
                let trap = move |_: Caller<'_, Ctx>, _: &[Val], _: &mut [Val]| {
                    Err(wasmtime::Error::msg(unprovided(&path)))
                };
                linker.func_new(import.module(), import.name(), ty, trap)?;
            }
        }
    }
    linker.instantiate_pre(module)
}

impl BinaryFormat for CoreFormat {
    type Instance = Instance;

    fn provide(&self, ctx: Ctx, grants: &WasiGrants, args: &[String], stdin: GuestStdin) -> Ctx {
        if self.needs_wasi { ctx.with_p1(grants, args, stdin) } else { ctx }
    }

    fn instantiate(&self, store: &mut Store<Ctx>) -> wasmtime::Result<Instance> {
        let instance = self.pre.instantiate(&mut *store)?;
        // In each new instance, and before the initializer of the user: libraries of C and C++ run their
        // constructors there.
        if self.is_reactor {
            instance.get_typed_func::<(), ()>(&mut *store, INITIALIZE)?.call(&mut *store, ())?;
        }
        Ok(instance)
    }

    fn profiler(&self, engine: &Engine, name: &str, interval: Duration) -> wasmtime::Result<GuestProfiler> {
        let module = self.pre.module();
        let label = module.name().unwrap_or("guest").to_owned();
        GuestProfiler::new(engine, name, interval, [(label, module.clone())])
    }

    fn call(
        &self,
        live: &mut LiveInstance<Instance>,
        plan: &ResolvedPlan,
        record: &[u8],
        template: &StoreTemplate,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let args: Vec<Val> = plan.arguments(record)?.iter().map(values::to_core).collect();
        let func = live
            .instance
            .get_func(&mut live.store, &plan.call.path)
            .ok_or_else(|| Failure::BadRecord { message: format!("{} is not exported", plan.call.path) })?;
        let count = match &plan.ty.result {
            None => 0,
            Some(Type::Tuple(types)) => types.len(),
            Some(_) => 1,
        };
        let mut results = vec![Val::I32(0); count];
        func.call(&mut live.store, &args, &mut results)
            .map_err(|e| classify(&e, &live.store.data().limiter, &template.limits))?;
        let unsupported =
            || Failure::BadResult { message: "a reference cannot leave its instance".to_owned() };
        let mut values: Vec<Value> =
            results.iter().map(values::from_core).collect::<Option<_>>().ok_or_else(unsupported)?;
        let result = match &plan.ty.result {
            // Several results make one tuple.
            Some(Type::Tuple(_)) => Some(Value::Tuple(values)),
            _ => values.pop(),
        };
        plan.write_result(result, template, out)
    }

    /// Never called: a core module has no such function, and no plan of one has it.
    fn call_many(
        &self,
        _live: &mut LiveInstance<Instance>,
        _plan: &ResolvedPlan,
        _records: &[&[u8]],
    ) -> wasmtime::Result<()> {
        Err(wasmtime::Error::msg("a core module has no function for many records"))
    }

    fn shutdown(&self, _live: &mut LiveInstance<Instance>) {}
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::policy::PREVIEW1_FUNCTIONS;

    /// The coordinator judges imports by its own list, which must agree with the linker.
    #[test]
    fn f142_preview_1_has_the_functions_that_the_engine_provides() {
        let engine = Engine::default();
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p1::add_to_linker_sync(&mut linker, |ctx| ctx).unwrap();
        let mut store = Store::new(&engine, wasmtime_wasi::WasiCtxBuilder::new().build_p1());
        let provided = linker.iter(&mut store).map(|(module, name, _)| (module.to_owned(), name.to_owned()));
        let provided: BTreeSet<(String, String)> = provided.collect();
        let named = PREVIEW1_FUNCTIONS.map(|name| (PREVIEW1.to_owned(), name.to_owned()));
        assert_eq!(provided, BTreeSet::from(named));
    }
}
