//! Components: linking, and calls with and without Rust types.

use std::time::Duration;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    Component, ComponentNamedList, Func, Instance, InstancePre, Lift, Linker, LinkerInstance, Lower,
    ResourceType, Val,
};
use wasmtime::{Engine, GuestProfiler, Store};

use super::failure::{classify, failed, is_too_much, unprovided, values_limit};
use super::instances::{BinaryFormat, LiveInstance};
use super::plan::{FastPath, ResolvedPlan, utf8, write_returned};
use super::stdin::GuestStdin;
use super::store::{Ctx, copy_max};
use super::template::StoreTemplate;
use super::wasi::WasiGrants;
use super::{host, many, values};
use crate::policy::{BATCH, IN_INTERFACE, PROCESS, is_provided};
use crate::protocol::message::Failure;
use crate::spec::{DirectResult, Grants, Import, ImportKind, ModuleInfo, ModuleKind};
use crate::value::{NameTables, Value};

pub(super) struct ComponentFormat {
    component: Component,
    pre: InstancePre<Ctx>,
    needs_wasi: bool,
    uses_exchange: bool,
}

impl ComponentFormat {
    pub(super) fn load(
        engine: &Engine,
        info: &ModuleInfo,
        grants: &Grants,
        path: &str,
    ) -> Result<ComponentFormat, String> {
        // SAFETY: our own compiler process wrote the bytes behind `path` into a sealed memory file; or they
        // come from the cache, with a MAC that only its owner could make, in a file opened read-only in a
        // directory that only its owner may enter. The engine checks the version, the target and the
        // settings.
        #[expect(unsafe_code, reason = "the one artefact load")]
        let component = unsafe { Component::deserialize_file(engine, path) }.map_err(|e| format!("{e:#}"))?;
        let pre = link(engine, &component, info, grants).map_err(|e| format!("cannot be linked: {e:#}"))?;
        Ok(ComponentFormat {
            component,
            pre,
            needs_wasi: imports(info, "wasi:"),
            uses_exchange: info.uses_exchange(grants),
        })
    }

    /// Looks up the function of a plan, once for all records.
    pub(super) fn prepare(&self, mut plan: ResolvedPlan, info: &ModuleInfo) -> Result<ResolvedPlan, String> {
        let path = &plan.call.path;
        let index = match path.rsplit_once('#') {
            Some((interface, name)) => {
                let interface = self.component.get_export_index(None, interface);
                interface.and_then(|i| self.component.get_export_index(Some(&i), name))
            }
            None => self.component.get_export_index(None, path),
        };
        // An index, not a function: functions belong to an instance, and each task may have a new one.
        plan.index = Some(index.ok_or_else(|| format!("{path} is not exported"))?);
        if plan.fast.is_some()
            && plan.call.fixed.is_empty()
            && many::is_provided(info, &plan.call, self.uses_exchange)
        {
            plan.many = self.component.get_export_index(None, many::companion(&plan.call.path));
        }
        Ok(plan)
    }
}

fn imports(info: &ModuleInfo, prefix: &str) -> bool {
    info.imports.iter().any(|import| import.name.starts_with(prefix))
}

/// Links the imports. An error if an import has another type than what is provided under its name.
pub(super) fn link(
    engine: &Engine,
    component: &Component,
    info: &ModuleInfo,
    grants: &Grants,
) -> wasmtime::Result<InstancePre<Ctx>> {
    let mut linker = provided(engine, info, grants)?;
    if grants.traps_unknown {
        trap_absent(&mut linker, info)?;
    }
    let mut definitions = Definitions { engine, grants, known: Vec::new() };
    for (name, item) in component.component_type().imports(engine) {
        let import = info.imports.iter().find(|import| import.name == name);
        // By the list of the coordinator (`is_provided`), not by the linker's failure: both sides must name
        // the same imports.
        let unprovided = import.filter(|import| !is_provided(ModuleKind::Component, &import.name));
        let is_defined = |import: &Import| {
            import.kind == ImportKind::Types || grants.traps_unknown || is_of_application(import, grants)
        };
        if unprovided.is_some_and(is_defined) {
            definitions.define(&mut linker.root(), name, &item.ty, name)?;
        } else {
            note_resources(engine, &item.ty, &mut definitions.known);
        }
    }
    linker.instantiate_pre(component)
}

/// Adds the functions that an interface of wpool's does not have. A call of one is a trap.
fn trap_absent(linker: &mut Linker<Ctx>, info: &ModuleInfo) -> wasmtime::Result<()> {
    for import in &info.imports {
        let Some((interface, function)) = import.name.split_once(IN_INTERFACE) else { continue };
        let path = import.name.clone();
        linker
            .instance(&host::name_in_linker(interface))?
            .func_new(function, move |_, _, _, _| Err(wasmtime::Error::msg(unprovided(&path))))?;
    }
    Ok(())
}

/// What wpool provides of the imports.
fn provided(engine: &Engine, info: &ModuleInfo, grants: &Grants) -> wasmtime::Result<Linker<Ctx>> {
    let mut linker = Linker::new(engine);
    if imports(info, "wasi:") {
        // All of WASI is linked, and the context decides what works: a module that imports more than it uses
        // can still run.
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
        host::names::add_to_linker(&mut linker, grants)?;
    }
    if imports(info, PROCESS) {
        host::current::add_to_linker(&mut linker, grants.deterministic)?;
    }
    if imports(info, BATCH) {
        host::batch::add_to_linker(&mut linker)?;
    }
    for import in &info.imports {
        // Only those: each of them is a list of functions.
        match import.name.split_once('/').zip(import.name.split_once('@')) {
            Some((("wpool:ipc", _), (interface, "0.1.0"))) => {
                host::ipc::add_to_linker(&mut linker, interface)?
            }
            Some((("wpool:sync", _), (interface, "0.1.0"))) => {
                host::sync::add_to_linker(&mut linker, interface)?
            }
            _ => {}
        }
    }
    Ok(linker)
}

/// The functions that the component imports from interfaces of wpool's which do not have them, each as an
/// import of its own.
pub(super) fn absent(
    engine: &Engine,
    component: &Component,
    info: &ModuleInfo,
) -> wasmtime::Result<Vec<Import>> {
    let mut linker = provided(engine, info, &Grants::default())?;
    let mut absent = Vec::new();
    for (name, item) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        if !is_provided(ModuleKind::Component, name) {
            continue;
        }
        let mut interface = linker.instance(&host::name_in_linker(name))?;
        for (function, item) in instance.exports(engine) {
            // The linker does not tell what it has, but it takes no name twice.
            let is_function = matches!(item.ty, ComponentItem::ComponentFunc(_));
            if is_function && interface.func_new(function, |_, _, _, _| Ok(())).is_ok() {
                let name = format!("{name}{IN_INTERFACE}{function}");
                absent.push(Import { name, kind: ImportKind::Function, functions: Vec::new() });
            }
        }
    }
    Ok(absent)
}

/// The type of a resource of which no value exists.
struct NoResource;

/// Whether the application gives a function of this import.
fn is_of_application(import: &Import, grants: &Grants) -> bool {
    import.functions.iter().any(|function| grants.functions.contains(&import.path(function)))
}

/// The definitions of imports that wpool does not have.
struct Definitions<'l> {
    engine: &'l Engine,
    grants: &'l Grants,
    /// The resources that have a type already. The same resource can be imported under several names, and
    /// must have one type.
    known: Vec<ResourceType>,
}

impl Definitions<'_> {
    /// Defines an import: functions of the application, other functions, which trap, and resources without
    /// values.
    fn define(
        &mut self,
        linker: &mut LinkerInstance<'_, Ctx>,
        name: &str,
        item: &ComponentItem,
        path: &str,
    ) -> wasmtime::Result<()> {
        match item {
            ComponentItem::ComponentFunc(func) => {
                match self.grants.functions.iter().position(|given| given == path) {
                    Some(number) => host::functions::define(linker, name, number, values::func_type(func)),
                    None => {
                        let path = path.to_owned();
                        linker.func_new(name, move |_, _, _, _| Err(wasmtime::Error::msg(unprovided(&path))))
                    }
                }
            }
            ComponentItem::ComponentInstance(instance) => {
                let mut inner = linker.instance(name)?;
                for (name, item) in instance.exports(self.engine) {
                    self.define(&mut inner, name, &item.ty, &format!("{path}{IN_INTERFACE}{name}"))?;
                }
                Ok(())
            }
            ComponentItem::Resource(ty) if self.known.contains(ty) => Ok(()),
            ComponentItem::Resource(ty) => {
                self.known.push(*ty);
                // Its destructor is never called: no value exists.
                linker.resource(name, ResourceType::host::<NoResource>(), |_, _| Ok(()))
            }
            ComponentItem::CoreFunc(_)
            | ComponentItem::Module(_)
            | ComponentItem::Component(_)
            | ComponentItem::Type(_) => Ok(()),
        }
    }
}

/// Adds the resources of a provided import to `known`.
fn note_resources(engine: &Engine, item: &ComponentItem, known: &mut Vec<ResourceType>) {
    match item {
        ComponentItem::Resource(ty) => known.push(*ty),
        ComponentItem::ComponentInstance(instance) => {
            instance.exports(engine).for_each(|(_, item)| note_resources(engine, &item.ty, known));
        }
        ComponentItem::ComponentFunc(_)
        | ComponentItem::CoreFunc(_)
        | ComponentItem::Module(_)
        | ComponentItem::Component(_)
        | ComponentItem::Type(_) => {}
    }
}

impl BinaryFormat for ComponentFormat {
    type Instance = Instance;

    fn provide(&self, ctx: Ctx, grants: &WasiGrants, args: &[String], stdin: GuestStdin) -> Ctx {
        // A store without WASI costs much less.
        if self.needs_wasi { ctx.with_wasi(grants, args, stdin) } else { ctx }
    }

    fn instantiate(&self, store: &mut Store<Ctx>) -> wasmtime::Result<Instance> {
        self.pre.instantiate(store)
    }

    fn profiler(&self, engine: &Engine, name: &str, interval: Duration) -> wasmtime::Result<GuestProfiler> {
        GuestProfiler::new_component(engine, name, interval, self.component.clone(), [])
    }

    fn call(
        &self,
        live: &mut LiveInstance<Instance>,
        plan: &ResolvedPlan,
        record: &[u8],
        template: &StoreTemplate,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        live.call(plan, record, template, out)
    }

    fn call_many(
        &self,
        live: &mut LiveInstance<Instance>,
        plan: &ResolvedPlan,
        records: &[&[u8]],
    ) -> wasmtime::Result<()> {
        let index =
            plan.many.ok_or_else(|| wasmtime::Error::msg("the plan has no function for many records"))?;
        // Not kept from call to call: the lookup by an index costs some 30 ns, and a typed function is bound
        // to a store.
        let func = live.instance.get_typed_func::<(&[&[u8]],), ()>(&mut live.store, index)?;
        func.call(&mut live.store, (records,))
    }

    fn shutdown(&self, live: &mut LiveInstance<Instance>) {
        if let Some(func) = live.instance.get_func(&mut live.store, "shutdown") {
            let _ignored = func.call(&mut live.store, &[], &mut []);
        }
    }
}

/// What a typed call gives.
enum TypedResult {
    Bytes(Vec<u8>),
    Value(Option<Value>),
}

impl LiveInstance<Instance> {
    fn call(
        &mut self,
        plan: &ResolvedPlan,
        record: &[u8],
        template: &StoreTemplate,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let index = plan.index.expect("the plan of a component was prepared");
        let func = self
            .instance
            .get_func(&mut self.store, index)
            .ok_or_else(|| Failure::BadRecord { message: format!("{} is not a function", plan.call.path) })?;
        match plan.fast {
            Some(fast) => self.call_fast(func, plan, fast, record, template, out),
            None => self.call_dynamic(func, plan, record, template, out),
        }
    }

    fn call_fast(
        &mut self,
        func: Func,
        plan: &ResolvedPlan,
        fast: FastPath,
        record: &[u8],
        template: &StoreTemplate,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let text = |bytes| utf8(bytes).map_err(|message| Failure::BadRecord { message });
        let (first, second) = plan.raw_arguments(record);
        let gives = fast.gives;
        let returned = match (fast.takes_string, second) {
            ([false, _], None) => self.call_with(func, gives, (first,), template),
            ([true, _], None) => self.call_with(func, gives, (text(first)?,), template),
            ([false, false], Some(second)) => self.call_with(func, gives, (first, second), template),
            ([false, true], Some(second)) => self.call_with(func, gives, (first, text(second)?), template),
            ([true, false], Some(second)) => self.call_with(func, gives, (text(first)?, second), template),
            ([true, true], Some(second)) => {
                self.call_with(func, gives, (text(first)?, text(second)?), template)
            }
        };
        match returned? {
            TypedResult::Bytes(bytes) => write_returned(&bytes, template, out),
            TypedResult::Value(value) => plan.write_result(value, template, out),
        }
    }

    fn call_with<P: ComponentNamedList + Lower + Send + Sync>(
        &mut self,
        func: Func,
        gives: DirectResult,
        input: P,
        template: &StoreTemplate,
    ) -> Result<TypedResult, Failure> {
        macro_rules! typed {
            ($ty:ty) => {
                self.typed::<P, ($ty,)>(func, input, template)?.0
            };
        }
        let value = match gives {
            DirectResult::Bytes => return Ok(TypedResult::Bytes(typed!(Vec<u8>))),
            DirectResult::Text => return Ok(TypedResult::Bytes(typed!(String).into_bytes())),
            DirectResult::BytesOr => {
                return typed!(Result<Vec<u8>, String>).map(TypedResult::Bytes).map_err(failed);
            }
            DirectResult::TextOr => {
                let text = typed!(Result<String, String>).map_err(failed)?;
                return Ok(TypedResult::Bytes(text.into_bytes()));
            }
            DirectResult::Nothing => {
                self.typed::<P, ()>(func, input, template)?;
                return Ok(TypedResult::Value(None));
            }
            DirectResult::Bool => Value::Bool(typed!(bool)),
            DirectResult::S8 => Value::S8(typed!(i8)),
            DirectResult::U8 => Value::U8(typed!(u8)),
            DirectResult::S16 => Value::S16(typed!(i16)),
            DirectResult::U16 => Value::U16(typed!(u16)),
            DirectResult::S32 => Value::S32(typed!(i32)),
            DirectResult::U32 => Value::U32(typed!(u32)),
            DirectResult::S64 => Value::S64(typed!(i64)),
            DirectResult::U64 => Value::U64(typed!(u64)),
            DirectResult::F32 => Value::F32(typed!(f32)),
            DirectResult::F64 => Value::F64(typed!(f64)),
            DirectResult::Char => Value::Char(typed!(char)),
        };
        Ok(TypedResult::Value(Some(value)))
    }

    fn typed<P, R>(&mut self, func: Func, input: P, template: &StoreTemplate) -> Result<R, Failure>
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let called = func.typed::<P, R>(&self.store).and_then(|func| func.call(&mut self.store, input));
        called.map_err(|e| classify(&e, &self.store.data().limiter, &template.limits))
    }

    fn call_dynamic(
        &mut self,
        func: Func,
        plan: &ResolvedPlan,
        record: &[u8],
        template: &StoreTemplate,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let values = plan.arguments(record)?;
        let names = NameTables::default();
        let values = values.into_iter().zip(&plan.ty.params);
        let args: Vec<Val> = values.map(|(v, p)| values::to_val(v, &p.ty, &names)).collect();
        let mut results = vec![Val::Bool(false); usize::from(plan.ty.result.is_some())];
        let as_values = values::values_len(&template.limits, plan.values_max());
        // The engine counts each value of a dynamic result with the size of `Val`: without more fuel, a
        // result within the user's limit would be refused.
        self.store.set_hostcall_fuel(as_values.max(copy_max(&template.limits)));
        let called = func.call(&mut self.store, &args, &mut results);
        self.store.set_hostcall_fuel(copy_max(&template.limits));
        called.map_err(|e| {
            if is_too_much(&e) {
                values_limit(&template.limits, plan.values_max())
            } else {
                classify(&e, &self.store.data().limiter, &template.limits)
            }
        })?;
        let result = match results.pop() {
            Some(val) if plan.gives_bytes() => match values::into_bytes(val) {
                Ok(bytes) => return write_returned(&bytes, template, out),
                Err(other) => Some(other),
            },
            other => other,
        };
        let result = result.map(|val| values::from_val(val).ok_or_else(handle)).transpose()?;
        match (plan.is_command, &result) {
            (true, Some(Value::Result(Err(_)))) => Err(Failure::Exited { code: 1 }),
            _ => plan.write_result(result, template, out),
        }
    }
}

fn handle() -> Failure {
    Failure::BadResult { message: "a handle cannot leave its instance".to_owned() }
}
