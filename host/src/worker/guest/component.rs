//! Components: linking, typed and untyped calls.

use std::time::Duration;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    Component, Func, Instance, InstancePre, Lift, Linker, LinkerInstance, Lower, ResourceType, Val,
};
use wasmtime::{Engine, GuestProfiler, Store};

use super::failure::{classify, failed, is_too_much, unprovided, values_limit};
use super::instances::{Format, Live};
use super::plan::{Fast, Plan, utf8, write_returned};
use super::stdin::Stdin;
use super::store::{Ctx, bytes_at_once};
use super::wasi::Given;
use super::{Shared, host, many, names, values};
use crate::policy::{BATCH, PROCESS, is_provided};
use crate::protocol::message::Failure;
use crate::spec::{Grants, ImportKind, ModuleInfo, ModuleKind};
use crate::value::Value;

pub(super) struct ComponentFormat {
    component: Component,
    pre: InstancePre<Ctx>,
    needs_wasi: bool,
}

impl ComponentFormat {
    pub(super) fn load(
        engine: &Engine,
        info: &ModuleInfo,
        grants: &Grants,
        path: &str,
    ) -> Result<ComponentFormat, String> {
        // SAFETY: the bytes behind `path` were written by our own compiler process into a sealed memory file, or come from the cache with
        // a MAC that only its owner could make, into a file opened read-only in a directory that only its owner may enter. The engine
        // checks version, target and settings.
        #[expect(unsafe_code, reason = "the one artefact load")]
        let component = unsafe { Component::deserialize_file(engine, path) }.map_err(|e| format!("{e:#}"))?;
        let pre = link(engine, &component, info, grants).map_err(|e| format!("cannot be linked: {e:#}"))?;
        Ok(ComponentFormat { component, pre, needs_wasi: imports(info, "wasi:") })
    }

    /// Finds the function's place once.
    pub(super) fn prepare(&self, mut plan: Plan, info: &ModuleInfo) -> Result<Plan, String> {
        let path = &plan.call.path;
        let index = match path.rsplit_once('#') {
            Some((interface, name)) => {
                let interface = self.component.get_export_index(None, interface);
                interface.and_then(|i| self.component.get_export_index(Some(&i), name))
            }
            None => self.component.get_export_index(None, path),
        };
        plan.index = Some(index.ok_or_else(|| format!("{path} is not exported"))?);
        if plan.fast.is_some() && many::is_provided(info, &plan.call) {
            plan.many = self.component.get_export_index(None, many::RUN_MANY);
        }
        Ok(plan)
    }
}

fn imports(info: &ModuleInfo, prefix: &str) -> bool {
    info.imports.iter().any(|import| import.name.starts_with(prefix))
}

/// Meets the imports. An error if one of them is not what is there under its name.
pub(super) fn link(
    engine: &Engine,
    component: &Component,
    info: &ModuleInfo,
    grants: &Grants,
) -> wasmtime::Result<InstancePre<Ctx>> {
    let mut linker = Linker::new(engine);
    if imports(info, "wasi:") {
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
        names::add_to_linker(&mut linker, grants)?;
    }
    if imports(info, PROCESS) {
        host::add_to_linker(&mut linker, grants.deterministic)?;
    }
    if imports(info, BATCH) {
        many::add_to_linker(&mut linker)?;
    }
    let mut known = Vec::new();
    for (name, item) in component.component_type().imports(engine) {
        let import = info.imports.iter().find(|import| import.name == name);
        let unprovided = import.filter(|import| !is_provided(ModuleKind::Component, &import.name));
        match unprovided.is_some_and(|import| import.kind == ImportKind::Types || grants.traps_unknown) {
            true => stand_in(&mut linker.root(), engine, name, &item.ty, name, &mut known)?,
            false => learn(engine, &item.ty, &mut known),
        }
    }
    linker.instantiate_pre(component)
}

/// A resource of which there is none.
struct Nothing;

/// Puts something in the place of what nobody provides: functions that trap, and types of which there are no
/// values. `known`: the resources that have a type already, under whichever name.
fn stand_in(
    linker: &mut LinkerInstance<'_, Ctx>,
    engine: &Engine,
    name: &str,
    item: &ComponentItem,
    path: &str,
    known: &mut Vec<ResourceType>,
) -> wasmtime::Result<()> {
    match item {
        ComponentItem::ComponentFunc(_) => {
            let path = path.to_owned();
            linker.func_new(name, move |_, _, _, _| Err(wasmtime::Error::msg(unprovided(&path))))
        }
        ComponentItem::ComponentInstance(instance) => {
            let mut inner = linker.instance(name)?;
            for (name, item) in instance.exports(engine) {
                stand_in(&mut inner, engine, name, &item.ty, &format!("{path}#{name}"), known)?;
            }
            Ok(())
        }
        ComponentItem::Resource(ty) if known.contains(ty) => Ok(()),
        ComponentItem::Resource(ty) => {
            known.push(*ty);
            linker.resource(name, ResourceType::host::<Nothing>(), |_, _| Ok(()))
        }
        ComponentItem::CoreFunc(_)
        | ComponentItem::Module(_)
        | ComponentItem::Component(_)
        | ComponentItem::Type(_) => Ok(()),
    }
}

/// Notes the resources that an import brings which is provided.
fn learn(engine: &Engine, item: &ComponentItem, known: &mut Vec<ResourceType>) {
    match item {
        ComponentItem::Resource(ty) => known.push(*ty),
        ComponentItem::ComponentInstance(instance) => {
            instance.exports(engine).for_each(|(_, item)| learn(engine, &item.ty, known));
        }
        ComponentItem::ComponentFunc(_)
        | ComponentItem::CoreFunc(_)
        | ComponentItem::Module(_)
        | ComponentItem::Component(_)
        | ComponentItem::Type(_) => {}
    }
}

impl Format for ComponentFormat {
    type Instance = Instance;

    fn provide(&self, ctx: Ctx, given: &Given, args: &[String], stdin: Stdin) -> Ctx {
        match self.needs_wasi {
            true => ctx.with_wasi(given, args, stdin),
            // A store without WASI is a good part cheaper.
            false => ctx,
        }
    }

    fn instantiate(&self, store: &mut Store<Ctx>) -> wasmtime::Result<Instance> {
        self.pre.instantiate(store)
    }

    fn profiler(&self, engine: &Engine, name: &str, interval: Duration) -> wasmtime::Result<GuestProfiler> {
        GuestProfiler::new_component(engine, name, interval, self.component.clone(), [])
    }

    fn call(
        &self,
        live: &mut Live<Instance>,
        plan: &Plan,
        record: &[u8],
        shared: &Shared,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        live.call(plan, record, shared, out)
    }

    fn call_many(&self, live: &mut Live<Instance>, plan: &Plan, records: &[&[u8]]) -> wasmtime::Result<()> {
        let index =
            plan.many.ok_or_else(|| wasmtime::Error::msg("the plan has no function of many records"))?;
        let func = live.instance.get_typed_func::<(&[&[u8]],), ()>(&mut live.store, index)?;
        func.call(&mut live.store, (records,))
    }

    fn shutdown(&self, live: &mut Live<Instance>) {
        if let Some(func) = live.instance.get_func(&mut live.store, "shutdown") {
            let _ignored = func.call(&mut live.store, &[], &mut []);
        }
    }
}

impl Live<Instance> {
    fn call(
        &mut self,
        plan: &Plan,
        record: &[u8],
        shared: &Shared,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let index = plan.index.expect("the plan of a component was prepared");
        let func = self
            .instance
            .get_func(&mut self.store, index)
            .ok_or_else(|| Failure::BadRecord { message: format!("{} is not a function", plan.call.path) })?;
        match plan.fast {
            Some(fast) => self.call_fast(func, fast, record, shared, out),
            None => self.call_dynamic(func, plan, record, shared, out),
        }
    }

    fn call_fast(
        &mut self,
        func: Func,
        fast: Fast,
        record: &[u8],
        shared: &Shared,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        if fast.takes_string {
            let text = utf8(record).map_err(|message| Failure::BadRecord { message })?;
            self.call_with(func, fast, text, shared, out)
        } else {
            self.call_with(func, fast, record, shared, out)
        }
    }

    fn call_with<P: Lower + Send + Sync>(
        &mut self,
        func: Func,
        fast: Fast,
        input: P,
        shared: &Shared,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let result = match (fast.fallible, fast.gives_string) {
            (false, false) => self.typed::<P, Vec<u8>>(func, input, shared)?,
            (false, true) => self.typed::<P, String>(func, input, shared)?.into_bytes(),
            (true, false) => {
                self.typed::<P, Result<Vec<u8>, String>>(func, input, shared)?.map_err(failed)?
            }
            (true, true) => {
                self.typed::<P, Result<String, String>>(func, input, shared)?.map_err(failed)?.into_bytes()
            }
        };
        write_returned(&result, shared, out)
    }

    fn typed<P: Lower + Send + Sync, R: Lift + Send + Sync + 'static>(
        &mut self,
        func: Func,
        input: P,
        shared: &Shared,
    ) -> Result<R, Failure> {
        let called =
            func.typed::<(P,), (R,)>(&self.store).and_then(|func| func.call(&mut self.store, (input,)));
        called.map(|(result,)| result).map_err(|e| classify(&e, self.store.data(), &shared.limits))
    }

    fn call_dynamic(
        &mut self,
        func: Func,
        plan: &Plan,
        record: &[u8],
        shared: &Shared,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let values = plan.arguments(record)?;
        let args: Vec<Val> =
            values.into_iter().zip(&plan.ty.params).map(|(v, p)| values::to_val(v, &p.ty)).collect();
        let mut results = vec![Val::Bool(false); usize::from(plan.ty.result.is_some())];
        let as_values = values::values_len(&shared.limits, plan.values_max());
        self.store.set_hostcall_fuel(as_values.max(bytes_at_once(&shared.limits)));
        let called = func.call(&mut self.store, &args, &mut results);
        self.store.set_hostcall_fuel(bytes_at_once(&shared.limits));
        called.map_err(|e| match is_too_much(&e) {
            true => values_limit(&shared.limits, plan.values_max()),
            false => classify(&e, self.store.data(), &shared.limits),
        })?;
        let result = match results.pop() {
            Some(val) if plan.gives_bytes() => match values::into_bytes(val) {
                Ok(bytes) => return write_returned(&bytes, shared, out),
                Err(other) => Some(other),
            },
            other => other,
        };
        let result = result.map(|val| values::from_val(val).ok_or_else(handle)).transpose()?;
        match (plan.is_command, &result) {
            (true, Some(Value::Result(Err(_)))) => Err(Failure::Exited { code: 1 }),
            _ => plan.write_result(result, shared, out),
        }
    }
}

fn handle() -> Failure {
    Failure::BadResult { message: "a handle cannot leave its instance".to_owned() }
}
