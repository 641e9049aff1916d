//! Core modules: numeric functions, and WASI preview 1 commands.

use wasmtime::{Engine, Instance, InstancePre, Linker, Module, Store, Val};

use super::capture::Capture;
use super::component::finish_command;
use super::failure::classify;
use super::plan::Plan;
use super::store::{Ctx, Output};
use super::{Shared, values};
use crate::limits::Isolation;
use crate::module::ModuleInfo;
use crate::protocol::message::Failure;
use crate::value::{Type, Value};

/// The name that preview 1 modules import from.
pub(super) const PREVIEW1: &str = "wasi_snapshot_preview1";

pub(super) struct CoreGuest {
    pre: InstancePre<Ctx>,
    needs_wasi: bool,
    initializer: Option<Plan>,
    live: Option<(Store<Ctx>, Instance)>,
}

impl CoreGuest {
    pub(super) fn load(engine: &Engine, info: &ModuleInfo, path: &str) -> Result<CoreGuest, String> {
        // SAFETY: as for components: the bytes are our own compiler's, unaltered.
        #[expect(unsafe_code, reason = "the one artefact load, for the other binary format")]
        let module = unsafe { Module::deserialize_file(engine, path) }.map_err(|e| format!("{e:#}"))?;
        let mut linker = Linker::new(engine);
        let needs_wasi = info.imports.iter().any(|i| i.name.starts_with(PREVIEW1));
        let linked = |e: wasmtime::Error| format!("cannot be linked: {e:#}");
        if needs_wasi {
            wasmtime_wasi::p1::add_to_linker_sync(&mut linker, Ctx::p1).map_err(linked)?;
        }
        let pre = linker.instantiate_pre(&module).map_err(linked)?;
        Ok(CoreGuest { pre, needs_wasi, initializer: None, live: None })
    }

    pub(super) fn initialize(&mut self, engine: &Engine, shared: &Shared, plan: Plan) -> Result<(), Failure> {
        self.initializer = Some(plan);
        let live = self.instantiate(engine, shared, &[], Vec::new(), shared.output())?;
        if shared.isolation == Isolation::Reuse {
            self.live = Some(live);
        }
        Ok(())
    }

    fn instantiate(
        &self,
        engine: &Engine,
        shared: &Shared,
        args: &[String],
        stdin: Vec<u8>,
        output: Output,
    ) -> Result<(Store<Ctx>, Instance), Failure> {
        let mut ctx = shared.ctx(output);
        if self.needs_wasi {
            ctx = ctx.with_p1(args, stdin);
        }
        let mut store = ctx.store(engine, shared);
        let instance = self.pre.instantiate(&mut store).map_err(|e| classify(&e, store.data(), &shared.limits))?;
        if let Some(plan) = &self.initializer {
            call(&mut store, &instance, plan, &[], shared)?;
        }
        Ok((store, instance))
    }

    pub(super) fn run(
        &mut self,
        engine: &Engine,
        shared: &Shared,
        plan: &Plan,
        record: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        if plan.is_command {
            return self.run_command(engine, shared, plan, record, out);
        }
        let (mut store, instance) = match self.live.take() {
            Some((mut store, instance)) => {
                store.set_epoch_deadline(shared.deadline);
                (store, instance)
            }
            None => self.instantiate(engine, shared, &[], Vec::new(), shared.output())?,
        };
        let called = call(&mut store, &instance, plan, record, shared);
        store.data().output.report(out);
        let result = called?;
        if shared.isolation == Isolation::Reuse {
            self.live = Some((store, instance));
        }
        plan.write_result(result, &shared.limits, out)
    }

    fn run_command(
        &self,
        engine: &Engine,
        shared: &Shared,
        plan: &Plan,
        record: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let (args, stdin) = plan.command_input(record)?;
        let mut output = shared.output();
        let result = match shared.stream {
            Some(_) => None,
            None => {
                output.stdout = Capture::keep_or_close(shared.limits.output);
                Some(output.stdout.clone())
            }
        };
        let ended = self
            .instantiate(engine, shared, &args, stdin, output.clone())
            .and_then(|(mut store, instance)| call(&mut store, &instance, plan, &[], shared).map(|_| ()));
        finish_command(ended, result.as_ref(), &output, shared, out)
    }
}

/// Calls the plan's function; several results are a tuple.
fn call(
    store: &mut Store<Ctx>,
    instance: &Instance,
    plan: &Plan,
    record: &[u8],
    shared: &Shared,
) -> Result<Option<Value>, Failure> {
    let args: Vec<Val> = plan.arguments(record)?.iter().map(values::to_core).collect();
    let func = instance
        .get_func(&mut *store, &plan.call.path)
        .ok_or_else(|| Failure::BadRecord { message: format!("{} is not exported", plan.call.path) })?;
    let count = match &plan.ty.result {
        None => 0,
        Some(Type::Tuple(types)) => types.len(),
        Some(_) => 1,
    };
    let mut results = vec![Val::I32(0); count];
    func.call(&mut *store, &args, &mut results).map_err(|e| classify(&e, store.data(), &shared.limits))?;
    let unsupported = || Failure::BadResult { message: "a reference cannot leave its instance".to_owned() };
    let mut values: Vec<Value> =
        results.iter().map(values::from_core).collect::<Option<_>>().ok_or_else(unsupported)?;
    Ok(match &plan.ty.result {
        Some(Type::Tuple(_)) => Some(Value::Tuple(values)),
        _ => values.pop(),
    })
}
