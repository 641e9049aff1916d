//! Components: linking, instances, typed and untyped calls.

use wasmtime::component::{Component, Func, Instance, InstancePre, Lift, Linker, Lower, Val};
use wasmtime::{Engine, Store};

use super::capture::Capture;
use super::failure::{classify, failed, output_limit};
use super::plan::{Fast, Plan, utf8, write_returned};
use super::store::{Ctx, Output};
use super::{Shared, host, values};
use crate::limits::Isolation;
use crate::module::ModuleInfo;
use crate::protocol::message::Failure;
use crate::value::Value;

pub(super) struct ComponentGuest {
    component: Component,
    pre: InstancePre<Ctx>,
    needs_wasi: bool,
    initializer: Option<Plan>,
    live: Option<Live>,
}

/// An instance and its store.
struct Live {
    store: Store<Ctx>,
    instance: Instance,
}

impl ComponentGuest {
    pub(super) fn load(engine: &Engine, info: &ModuleInfo, path: &str) -> Result<ComponentGuest, String> {
        // SAFETY: the bytes behind `path` were written by our own compiler process into a sealed memory file, or come from the cache with
        // a MAC that only its owner could make, into a file opened read-only in a directory that only its owner may enter. The engine
        // checks version, target and settings.
        #[expect(unsafe_code, reason = "the one artefact load")]
        let component = unsafe { Component::deserialize_file(engine, path) }.map_err(|e| format!("{e:#}"))?;
        let mut linker = Linker::new(engine);
        let needs_wasi = info.imports.iter().any(|i| i.name.starts_with("wasi:"));
        let linked = |e: wasmtime::Error| format!("cannot be linked: {e:#}");
        if needs_wasi {
            wasmtime_wasi::p2::add_to_linker_sync(&mut linker).map_err(linked)?;
        }
        if info.imports.iter().any(|i| i.name.starts_with(host::PROCESS)) {
            host::add_to_linker(&mut linker).map_err(linked)?;
        }
        let pre = linker.instantiate_pre(&component).map_err(linked)?;
        Ok(ComponentGuest { component, pre, needs_wasi, initializer: None, live: None })
    }

    /// Finds the function's place once.
    pub(super) fn prepare(&self, mut plan: Plan) -> Result<Plan, String> {
        let path = &plan.call.path;
        let index = match path.rsplit_once('#') {
            Some((interface, name)) => {
                let interface = self.component.get_export_index(None, interface);
                interface.and_then(|i| self.component.get_export_index(Some(&i), name))
            }
            None => self.component.get_export_index(None, path),
        };
        plan.index = Some(index.ok_or_else(|| format!("{path} is not exported"))?);
        Ok(plan)
    }

    pub(super) fn initialize(&mut self, engine: &Engine, shared: &Shared, plan: Plan) -> Result<(), Failure> {
        self.initializer = Some(plan);
        let live = self.instantiate(engine, shared, &[], Vec::new(), shared.output())?;
        if shared.isolation == Isolation::Reuse {
            self.live = Some(live);
        }
        Ok(())
    }

    /// A new instance, its initializer run.
    fn instantiate(
        &self,
        engine: &Engine,
        shared: &Shared,
        args: &[String],
        stdin: Vec<u8>,
        output: Output,
    ) -> Result<Live, Failure> {
        let mut ctx = shared.ctx(output);
        if self.needs_wasi {
            ctx = ctx.with_wasi(args, stdin);
        }
        let mut store = ctx.store(engine, shared);
        let instance = self.pre.instantiate(&mut store).map_err(|e| classify(&e, store.data(), &shared.limits))?;
        let mut live = Live { store, instance };
        if let Some(plan) = &self.initializer {
            let mut ignored = Vec::new();
            live.call(plan, &[], shared, &mut ignored)?;
        }
        Ok(live)
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
        let mut live = match self.live.take() {
            Some(mut live) => {
                live.store.set_epoch_deadline(shared.deadline);
                live
            }
            None => {
                let output = shared.output();
                match self.instantiate(engine, shared, &[], Vec::new(), output.clone()) {
                    Ok(live) => live,
                    Err(failure) => {
                        output.report(out);
                        return Err(failure);
                    }
                }
            }
        };
        let result_at = out.len();
        let called = live.call(plan, record, shared, out);
        if self.needs_wasi {
            report_before(&live.store.data().output, out, result_at);
        }
        // A function that returned, even its error, leaves a sound instance; after a trap or a limit the store is dead.
        let sound = matches!(called, Ok(()) | Err(Failure::Failed { .. } | Failure::BadRecord { .. }));
        if sound && shared.isolation == Isolation::Reuse {
            self.live = Some(live);
        }
        called
    }

    /// A command: an instance of its own, the record as input, stdout as the result.
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
        let ended = self.instantiate(engine, shared, &args, stdin, output.clone()).and_then(|mut live| {
            let mut ignored = Vec::new();
            live.call(plan, &[], shared, &mut ignored)
        });
        finish_command(ended, result.as_ref(), &output, shared, out)
    }

    pub(super) fn shutdown(&mut self, shared: &Shared) {
        let Some(mut live) = self.live.take() else { return };
        live.store.set_epoch_deadline(shared.deadline);
        if let Some(func) = live.instance.get_func(&mut live.store, "shutdown") {
            // It has no way to report: the worker is retired whatever it says.
            let _ignored = func.call(&mut live.store, &[], &mut []);
        }
    }
}

/// What ended a command, as its outcome. `exit(0)` is a command's ordinary end.
pub(super) fn finish_command(
    ended: Result<(), Failure>,
    result: Option<&Capture>,
    output: &Output,
    shared: &Shared,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    let (stdout, dropped) = result.map(Capture::take).unwrap_or_default();
    if dropped > 0 {
        output.report(out);
        return Err(output_limit(
            usize::try_from(dropped).unwrap_or(usize::MAX).saturating_add(stdout.len()),
            &shared.limits,
        ));
    }
    match ended {
        Ok(()) | Err(Failure::Exited { code: 0 }) => {
            output.report(out);
            write_returned(&stdout, &shared.limits, out)
        }
        Err(failure) => {
            // The output of a command that failed is not its result, but it may say why.
            if !stdout.is_empty() {
                let kept = &stdout[..stdout.len().min(shared.limits.stdout)];
                crate::protocol::frame::write(out, crate::protocol::frame::Kind::Stdout, |out| {
                    out.extend_from_slice(kept)
                });
            }
            output.report(out);
            Err(failure)
        }
    }
}

/// Puts what was printed before the result that was written at `result_at`: attachments precede their result.
fn report_before(output: &Output, out: &mut Vec<u8>, result_at: usize) {
    let end = out.len();
    output.report(out);
    if out.len() > end {
        out[result_at..].rotate_left(end - result_at);
    }
}

impl Live {
    fn call(&mut self, plan: &Plan, record: &[u8], shared: &Shared, out: &mut Vec<u8>) -> Result<(), Failure> {
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
            (true, false) => self.typed::<P, Result<Vec<u8>, String>>(func, input, shared)?.map_err(failed)?,
            (true, true) => self.typed::<P, Result<String, String>>(func, input, shared)?.map_err(failed)?.into_bytes(),
        };
        write_returned(&result, &shared.limits, out)
    }

    fn typed<P: Lower + Send + Sync, R: Lift + Send + Sync + 'static>(
        &mut self,
        func: Func,
        input: P,
        shared: &Shared,
    ) -> Result<R, Failure> {
        let called = func.typed::<(P,), (R,)>(&self.store).and_then(|func| func.call(&mut self.store, (input,)));
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
        let args: Vec<Val> = values.into_iter().zip(&plan.ty.params).map(|(v, p)| values::to_val(v, &p.ty)).collect();
        let mut results = vec![Val::Bool(false); usize::from(plan.ty.result.is_some())];
        func.call(&mut self.store, &args, &mut results).map_err(|e| classify(&e, self.store.data(), &shared.limits))?;
        let result = results.pop().map(|val| values::from_val(val).ok_or_else(handle)).transpose()?;
        match (plan.is_command, &result) {
            (true, Some(Value::Result(Err(_)))) => Err(Failure::Exited { code: 1 }),
            _ => plan.write_result(result, &shared.limits, out),
        }
    }
}

fn handle() -> Failure {
    Failure::BadResult { message: "a handle cannot leave its instance".to_owned() }
}
