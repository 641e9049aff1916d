//! The instances of a module of either binary format: made for each task or kept for the next, initialized,
//! run, dropped.

use std::time::{Duration, Instant};

use wasmtime::{Engine, GuestProfiler, Store};

use super::capture::{Capture, OutputStreams};
use super::failure::{classify, output_limit, reached, without_instance};
use super::limiter::RefusedGrowth;
use super::many::{ManyCall, NextRecord, Progress};
use super::panicking;
use super::plan::{ResolvedPlan, write_returned};
use super::stdin::{AskedInput, GuestStdin};
use super::store::{Ctx, is_out_of_fuel, refuel, used};
use super::template::StoreTemplate;
use super::wasi::WasiGrants;
use crate::protocol::frame::{self, Kind};
use crate::protocol::message::{Failure, Used};
use crate::spec::{Input, Isolation, Limit};
use crate::worker::outbox::Outbox;

/// A binary format: what a linked module of this format can do.
pub(super) trait BinaryFormat {
    type Instance;

    /// Gives a store what the module's imports need.
    fn provide(&self, ctx: Ctx, grants: &WasiGrants, args: &[String], stdin: GuestStdin) -> Ctx;

    fn instantiate(&self, store: &mut Store<Ctx>) -> wasmtime::Result<Self::Instance>;

    /// What takes samples of its instances, one every `interval`.
    fn profiler(&self, engine: &Engine, name: &str, interval: Duration) -> wasmtime::Result<GuestProfiler>;

    /// Calls the plan's function with a record and appends its result to `out`.
    fn call(
        &self,
        live: &mut LiveInstance<Self::Instance>,
        plan: &ResolvedPlan,
        record: &[u8],
        template: &StoreTemplate,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure>;

    /// Calls the function that does many records, if the plan has one.
    fn call_many(
        &self,
        live: &mut LiveInstance<Self::Instance>,
        plan: &ResolvedPlan,
        records: &[&[u8]],
    ) -> wasmtime::Result<()>;

    /// Calls the guest's `shutdown`, if it has one. Its result is ignored: the worker ends in any case.
    fn shutdown(&self, live: &mut LiveInstance<Self::Instance>);
}

/// An instance and its store.
pub(super) struct LiveInstance<I> {
    pub(super) store: Store<Ctx>,
    pub(super) instance: I,
}

impl<I> LiveInstance<I> {
    /// The end of a task, or the fuel limit if the task ended by itself but has used too much.
    fn within_fuel(&self, ended: Result<(), Failure>, template: &StoreTemplate) -> Result<(), Failure> {
        match &ended {
            Ok(()) | Err(Failure::Failed { .. } | Failure::Exited { .. })
                if is_out_of_fuel(&self.store, &template.limits) =>
            {
                Err(reached(Limit::Fuel, &template.limits))
            }
            _ => ended,
        }
    }
}

/// A linked module and, in reuse mode, its live instance.
pub(super) struct Instances<F: BinaryFormat> {
    pub(super) format: F,
    initializer: Option<ResolvedPlan>,
    live: Option<LiveInstance<F::Instance>>,
    /// The usage of the last task, until it is taken.
    pub(super) used: Option<Used>,
    /// The time spent on making and dropping instances since the last [`take_making`](Self::take_making).
    making: Duration,
}

impl<F: BinaryFormat> Instances<F> {
    pub(super) fn new(format: F) -> Instances<F> {
        Instances { format, initializer: None, live: None, used: None, making: Duration::ZERO }
    }

    /// Runs the initializer in a first instance, so that its failure is known before any task.
    pub(super) fn initialize(
        &mut self,
        engine: &Engine,
        template: &StoreTemplate,
        plan: ResolvedPlan,
    ) -> Result<(), Failure> {
        self.initializer = Some(plan);
        let live = self.instantiate(engine, template, &[], GuestStdin::EMPTY, template.output())?;
        if template.isolation == Isolation::Reuse {
            self.live = Some(live);
        }
        Ok(())
    }

    /// A new instance, in which the initializer has run.
    fn instantiate(
        &mut self,
        engine: &Engine,
        template: &StoreTemplate,
        args: &[String],
        stdin: GuestStdin,
        output: OutputStreams,
    ) -> Result<LiveInstance<F::Instance>, Failure> {
        let begun = Instant::now();
        let ctx = self.format.provide(template.ctx(output), &template.grants, args, stdin);
        let mut store = ctx.store(engine, &template.limits);
        let instance = match self.format.instantiate(&mut store) {
            Ok(instance) => instance,
            Err(e) => {
                // A task that got no instance has used memory too, and that may be what it failed for.
                self.used = Some(used(&store, &template.limits));
                return Err(without_instance(&e, &store.data().limiter, &template.limits));
            }
        };
        // Without the initializer: this time is compared with that of the tasks, to tell a user whether
        // `--reuse` would help.
        self.making += begun.elapsed();
        let mut live = LiveInstance { store, instance };
        self.run_initializer(&mut live, template)?;
        Ok(live)
    }

    /// Calls the initializer, if there is one.
    fn run_initializer(
        &mut self,
        live: &mut LiveInstance<F::Instance>,
        template: &StoreTemplate,
    ) -> Result<(), Failure> {
        let Some(plan) = &self.initializer else { return Ok(()) };
        let call = || self.format.call(live, plan, &[], template, &mut Vec::new());
        // The initializer's result goes nowhere. A large one must not stay counted in the shared memory.
        let initialized = template.placement.discarding(call);
        initialized.inspect_err(|_| self.used = Some(used(&live.store, &template.limits)))
    }

    /// Runs one record. Appends the printed output and, if the function returned, its result.
    pub(super) fn run(
        &mut self,
        engine: &Engine,
        template: &StoreTemplate,
        plan: &ResolvedPlan,
        record: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        if plan.is_command {
            return self.run_command(engine, template, plan, record, out);
        }
        // Taken out, and put back only if it is sound: on each early return the instance is gone.
        let mut live = match self.live.take() {
            Some(mut live) => {
                live.store.data_mut().begin(template.limits.time);
                refuel(&mut live.store, &template.limits);
                live
            }
            None => {
                let output = template.output();
                // Start functions and initializers can print: what they printed explains why there is no
                // instance.
                self.instantiate(engine, template, &[], GuestStdin::EMPTY, output.clone())
                    .inspect_err(|_| output.report(out, None))?
            }
        };
        let result_at = out.len();
        let called = self.format.call(&mut live, plan, record, template, out);
        // Before the usage is read, and before the instance may be kept: a task over its fuel has failed.
        let called = live.within_fuel(called, template);
        if plan.call.timed {
            self.used = Some(used(&live.store, &template.limits));
        }
        // A guest often swallows a refused growth, and fails later with a message that does not mention
        // memory.
        let (called, note) = match called {
            Ok(()) => (Ok(()), None),
            Err(failure) => {
                let failure = panicking::explain(failure, &live.store.data().output);
                let (failure, note) = live.store.data().limiter.refusals().beside(failure);
                (Err(failure), note)
            }
        };
        report_before(&live.store.data().output, note.as_deref(), out, result_at);
        // An instance is sound after its function has returned, also with an error. After a trap or a limit
        // it is not.
        let sound = matches!(called, Ok(()) | Err(Failure::Failed { .. } | Failure::BadRecord { .. }));
        if sound && template.isolation == Isolation::Reuse {
            self.live = Some(live);
        } else {
            let begun = Instant::now();
            drop(live);
            self.making += begun.elapsed();
        }
        called
    }

    /// The time spent on making and dropping instances since the last call of this.
    pub(super) fn take_making(&mut self) -> Duration {
        std::mem::take(&mut self.making)
    }

    /// Whether there is an instance from an earlier task.
    pub(super) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// Runs many records in the instance from an earlier task.
    ///
    /// # Panics
    /// If there is no such instance.
    pub(super) fn run_many(
        &mut self,
        template: &StoreTemplate,
        plan: &ResolvedPlan,
        records: &[&[u8]],
        outbox: &Outbox,
    ) -> Progress {
        let many = ManyCall::new(records.len(), plan.call.timed, &template.limits, outbox);
        let mut live = self.live.take().expect("callers ask `is_live` before");
        live.store.data_mut().begin(template.limits.time);
        // Boxed: a store without such a call carries a pointer, not the whole state.
        live.store.data_mut().many = Some(Box::new(many));
        let called = self.format.call_many(&mut live, plan, records);
        let mut many = live.store.data_mut().many.take().expect("`report` puts it back when it returns");
        // A guest that returned in the middle of a record has not followed the protocol: its state says
        // nothing.
        let is_sound = called.is_ok() && many.next() != NextRecord::Running;
        let begun = end_many(&mut many, called, &live.store, template);
        if is_sound {
            self.live = Some(live);
        }
        many.progress(begun)
    }

    /// Runs a command: in an instance of its own, with the record as input and stdout as the result.
    fn run_command(
        &mut self,
        engine: &Engine,
        template: &StoreTemplate,
        plan: &ResolvedPlan,
        record: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let (args, stdin) = plan.command_input(record)?;
        let stdin = match &template.stream {
            Some(socket) if plan.call.input == Input::Asked => {
                GuestStdin::Asked(AskedInput::new(socket.clone()))
            }
            _ => GuestStdin::Bytes(stdin),
        };
        let mut output = template.output();
        // Without a stream, stdout is kept: it is the result. A Process sends it at once instead.
        let result = template.stream.is_none().then(|| Capture::keep_or_close(template.limits.output));
        if let Some(result) = &result {
            output.stdout = Some(result.clone());
        }
        // A command's state is its process's state: two commands never share an instance, whatever the
        // isolation.
        let instance = self.instantiate(engine, template, &args, stdin, output.clone());
        let mut refused = RefusedGrowth::default();
        let ended = instance.and_then(|mut live| {
            let ended = self.format.call(&mut live, plan, &[], template, &mut Vec::new());
            let ended = live.within_fuel(ended, template);
            self.used = Some(used(&live.store, &template.limits));
            refused = live.store.data().limiter.refusals();
            ended
        });

        // Checked first: a guest with too long an output ends by its own error about a closed stream, and
        // that error would hide the limit.
        let (stdout, dropped) = result.as_ref().map(Capture::take).unwrap_or_default();
        if dropped > 0 {
            output.report(out, None);
            let len = usize::try_from(dropped).unwrap_or(usize::MAX).saturating_add(stdout.len());
            return Err(output_limit(len, &template.limits));
        }
        match ended {
            // `exit(0)` is the ordinary end of a command.
            Ok(()) | Err(Failure::Exited { code: 0 }) => {
                output.report(out, None);
                write_returned(&stdout, template, out)
            }
            Err(Failure::Exited { code }) if plan.call.ok_exit.contains(&code) => {
                output.report(out, None);
                write_returned(&stdout, template, out)
            }
            Err(failure) => {
                // The output of a failed command is no result, but it may tell why the command failed.
                if !stdout.is_empty() {
                    let kept = &stdout[..stdout.len().min(template.limits.stdout)];
                    frame::write(out, Kind::Stdout, |out| out.extend_from_slice(kept));
                }
                let (failure, note) = refused.beside(panicking::explain(failure, &output));
                output.report(out, note.as_deref());
                Err(failure)
            }
        }
    }

    /// Runs the `shutdown` of the live instance, if there is one, and drops the instance.
    pub(super) fn shutdown(&mut self, template: &StoreTemplate) {
        if let Some(mut live) = self.live.take() {
            // `shutdown` has the limits of a task: a guest must not keep its worker from ending.
            live.store.data_mut().begin(template.limits.time);
            refuel(&mut live.store, &template.limits);
            self.format.shutdown(&mut live);
        }
    }
}

/// Gives the first record without an outcome what a call of `run-many` has left for it. Returns whether that
/// record has begun and is to be run alone.
fn end_many(
    many: &mut ManyCall,
    called: wasmtime::Result<()>,
    store: &Store<Ctx>,
    template: &StoreTemplate,
) -> bool {
    let (output, limiter) = (&store.data().output, &store.data().limiter);
    let memory = limiter.memory();
    match (many.next(), called) {
        (NextRecord::Waiting, Ok(()) | Err(_)) => false,
        (NextRecord::Cancelled, Ok(()) | Err(_)) => {
            many.cancel();
            false
        }
        (NextRecord::Running, Ok(())) => {
            let message = "run-many returned before it was told to".to_owned();
            many.fail(output, memory, Failure::BadResult { message });
            false
        }
        (NextRecord::Running, Err(e)) => {
            // The other records of the call, and the call itself, use a part of the memory and of the stack.
            // Alone, this record may have enough of both. It may run a second time if nothing outside of the
            // instance can have seen the first.
            let grants = template.grants.spec();
            let is_unseen = !grants.has_dirs() && !grants.can_connect();
            match classify(&e, limiter, &template.limits) {
                Failure::Limit { limit: Limit::Memory | Limit::Stack, .. } if is_unseen => true,
                failure => {
                    let failure = panicking::explain(failure, output);
                    let (failure, _in_its_message) = limiter.refusals().beside(failure);
                    many.fail(output, memory, template.explain_stack(failure));
                    false
                }
            }
        }
    }
}

/// Moves the printed output before the result that was written at `result_at`: the protocol has attachments
/// first.
fn report_before(output: &OutputStreams, note: Option<&str>, out: &mut Vec<u8>, result_at: usize) {
    let end = out.len();
    output.report(out, note);
    if out.len() > end {
        out[result_at..].rotate_left(end - result_at);
    }
}
