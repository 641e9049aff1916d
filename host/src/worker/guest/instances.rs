//! Instances of a module, whichever its binary format: made fresh for each task or kept for the next, initialized, run, thrown away.

use std::time::{Duration, Instant};

use wasmtime::{Engine, GuestProfiler, Store};

use super::Shared;
use super::capture::Capture;
use super::failure::{classify, output_limit, reached, without_instance};
use super::limiter::Refused;
use super::many::{Many, Next, Progress};
use super::plan::{Plan, write_returned};
use super::stdin::{Asked, Stdin};
use super::store::{Ctx, Output, is_out_of_fuel, refuel, used};
use super::wasi::Given;
use crate::protocol::frame::{self, Kind};
use crate::protocol::message::{Failure, Used};
use crate::spec::{Input, Isolation, Limit};
use crate::worker::outbox::Outbox;

/// A binary format: what a linked module of it can do.
pub(super) trait Format {
    type Instance;

    /// Gives a store what the module's imports need.
    fn provide(&self, ctx: Ctx, given: &Given, args: &[String], stdin: Stdin) -> Ctx;

    fn instantiate(&self, store: &mut Store<Ctx>) -> wasmtime::Result<Self::Instance>;

    /// What looks where its instances are, every `interval`.
    fn profiler(&self, engine: &Engine, name: &str, interval: Duration) -> wasmtime::Result<GuestProfiler>;

    /// Calls the plan's function with a record and appends its result to `out`.
    fn call(
        &self,
        live: &mut Live<Self::Instance>,
        plan: &Plan,
        record: &[u8],
        shared: &Shared,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure>;

    /// Calls the function that does many records, if the plan has one.
    fn call_many(
        &self,
        live: &mut Live<Self::Instance>,
        plan: &Plan,
        records: &[&[u8]],
    ) -> wasmtime::Result<()>;

    /// Calls the guest's `shutdown`, if it has one. It has no way to report: the worker is retired whatever it says.
    fn shutdown(&self, live: &mut Live<Self::Instance>);
}

/// An instance and its store.
pub(super) struct Live<I> {
    pub(super) store: Store<Ctx>,
    pub(super) instance: I,
}

impl<I> Live<I> {
    /// How a task ended that has come to an end of its own: not so if it used too much on the way.
    fn within_fuel(&self, ended: Result<(), Failure>, shared: &Shared) -> Result<(), Failure> {
        match &ended {
            Ok(()) | Err(Failure::Failed { .. } | Failure::Exited { .. })
                if is_out_of_fuel(&self.store, &shared.limits) =>
            {
                Err(reached(Limit::Fuel, &shared.limits))
            }
            _ => ended,
        }
    }
}

/// A linked module and, in reuse mode, its live instance.
pub(super) struct Instances<F: Format> {
    pub(super) format: F,
    initializer: Option<Plan>,
    live: Option<Live<F::Instance>>,
    /// What the last task used, until somebody asks.
    pub(super) used: Option<Used>,
    making: Duration,
}

impl<F: Format> Instances<F> {
    pub(super) fn new(format: F) -> Instances<F> {
        Instances { format, initializer: None, live: None, used: None, making: Duration::ZERO }
    }

    /// Runs the initializer in a first instance, so that its failure is known before any task.
    pub(super) fn initialize(&mut self, engine: &Engine, shared: &Shared, plan: Plan) -> Result<(), Failure> {
        self.initializer = Some(plan);
        let live = self.instantiate(engine, shared, &[], Stdin::EMPTY, shared.output())?;
        if shared.isolation == Isolation::Reuse {
            self.live = Some(live);
        }
        Ok(())
    }

    /// A new instance, its initializer run.
    fn instantiate(
        &mut self,
        engine: &Engine,
        shared: &Shared,
        args: &[String],
        stdin: Stdin,
        output: Output,
    ) -> Result<Live<F::Instance>, Failure> {
        let begun = Instant::now();
        let ctx = self.format.provide(shared.ctx(output), &shared.given, args, stdin);
        let mut store = ctx.store(engine, shared);
        let instance = match self.format.instantiate(&mut store) {
            Ok(instance) => instance,
            Err(e) => {
                self.used = Some(used(&store, &shared.limits));
                return Err(without_instance(&e, store.data(), &shared.limits));
            }
        };
        self.making += begun.elapsed();
        let mut live = Live { store, instance };
        if let Some(plan) = &self.initializer {
            let call = || self.format.call(&mut live, plan, &[], shared, &mut Vec::new());
            let initialized = shared.placement.unheard(call);
            initialized.inspect_err(|_| self.used = Some(used(&live.store, &shared.limits)))?;
        }
        Ok(live)
    }

    /// Runs one record: appends what the guest printed and, if it returned, its result.
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
                live.store.data_mut().begin(shared.limits.time);
                refuel(&mut live.store, &shared.limits);
                live
            }
            None => {
                let output = shared.output();
                self.instantiate(engine, shared, &[], Stdin::EMPTY, output.clone())
                    .inspect_err(|_| output.report(out, None))?
            }
        };
        let result_at = out.len();
        let called = self.format.call(&mut live, plan, record, shared, out);
        let called = live.within_fuel(called, shared);
        if plan.call.timed {
            self.used = Some(used(&live.store, &shared.limits));
        }
        let (called, note) = match called {
            Ok(()) => (Ok(()), None),
            Err(failure) => {
                let (failure, note) = live.store.data().limiter.refusals().beside(failure);
                (Err(failure), note)
            }
        };
        report_before(&live.store.data().output, note.as_deref(), out, result_at);
        // A function that returned, even its error, leaves a sound instance; after a trap or a limit the store is dead.
        let sound = matches!(called, Ok(()) | Err(Failure::Failed { .. } | Failure::BadRecord { .. }));
        if sound && shared.isolation == Isolation::Reuse {
            self.live = Some(live);
        } else {
            let begun = Instant::now();
            drop(live);
            self.making += begun.elapsed();
        }
        called
    }

    /// How long it has taken, since this was asked last, to make instances and to throw them away.
    pub(super) fn take_making(&mut self) -> Duration {
        std::mem::take(&mut self.making)
    }

    /// Whether there is an instance from before.
    pub(super) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// Runs many records in the instance from before.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn run_many(
        &mut self,
        shared: &Shared,
        plan: &Plan,
        records: &[&[u8]],
        outbox: &Outbox,
    ) -> Progress {
        let many = Many::new(records.len(), &shared.limits, outbox);
        let mut live = self.live.take().expect("only asked to if there is one");
        live.store.data_mut().begin(shared.limits.time);
        live.store.data_mut().many = Some(Box::new(many));
        let called = self.format.call_many(&mut live, plan, records);
        let mut many = live.store.data_mut().many.take().expect("who takes it puts it back");
        let output = &live.store.data().output;
        let mut begun = false;
        let sound = match (called, many.next()) {
            (Ok(()), Next::Waiting) => true,
            (Ok(()), Next::Cancelled) => {
                many.cancel();
                true
            }
            (Ok(()), Next::Running) => {
                many.fail(
                    output,
                    Failure::BadResult { message: "run-many returned before it was told to".to_owned() },
                );
                false
            }
            (Err(_), Next::Waiting) => false,
            (Err(_), Next::Cancelled) => {
                many.cancel();
                false
            }
            (Err(e), Next::Running) => {
                // The records behind it and the one function more have their part in how much it took of these. By itself it may have enough; and
                // nobody has seen yet what it has done, if it can do nothing outside of its instance.
                let unseen = !shared.given.grants().has_dirs() && !shared.given.grants().can_connect();
                match classify(&e, live.store.data(), &shared.limits) {
                    Failure::Limit { limit: Limit::Memory | Limit::Stack, .. } if unseen => begun = true,
                    failure => {
                        let (failure, _in_its_message) = live.store.data().limiter.refusals().beside(failure);
                        many.fail(output, shared.explained(failure));
                    }
                }
                false
            }
        };
        if sound {
            self.live = Some(live);
        }
        many.progress(begun)
    }

    /// A command: an instance of its own, the record as input, stdout as the result.
    fn run_command(
        &mut self,
        engine: &Engine,
        shared: &Shared,
        plan: &Plan,
        record: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let (args, stdin) = plan.command_input(record)?;
        let stdin = match &shared.stream {
            Some(socket) if plan.call.input == Input::Asked => Stdin::Asked(Asked::new(socket.clone())),
            _ => Stdin::Bytes(stdin),
        };
        let mut output = shared.output();
        // A Process passes stdout on as it comes.
        let result = shared.stream.is_none().then(|| Capture::keep_or_close(shared.limits.output));
        if let Some(result) = &result {
            output.stdout = Some(result.clone());
        }
        let instance = self.instantiate(engine, shared, &args, stdin, output.clone());
        let mut refused = Refused::default();
        let ended = instance.and_then(|mut live| {
            let ended = self.format.call(&mut live, plan, &[], shared, &mut Vec::new());
            let ended = live.within_fuel(ended, shared);
            self.used = Some(used(&live.store, &shared.limits));
            refused = live.store.data().limiter.refusals();
            ended
        });

        let (stdout, dropped) = result.as_ref().map(Capture::take).unwrap_or_default();
        if dropped > 0 {
            output.report(out, None);
            let len = usize::try_from(dropped).unwrap_or(usize::MAX).saturating_add(stdout.len());
            return Err(output_limit(len, &shared.limits));
        }
        match ended {
            // `exit(0)` is a command's ordinary end, and so are other codes that somebody expects.
            Ok(()) | Err(Failure::Exited { code: 0 }) => {
                output.report(out, None);
                write_returned(&stdout, shared, out)
            }
            Err(Failure::Exited { code }) if plan.call.ok_exit.contains(&code) => {
                output.report(out, None);
                write_returned(&stdout, shared, out)
            }
            Err(failure) => {
                // The output of a command that failed is not its result, but it may say why.
                if !stdout.is_empty() {
                    let kept = &stdout[..stdout.len().min(shared.limits.stdout)];
                    frame::write(out, Kind::Stdout, |out| out.extend_from_slice(kept));
                }
                let (failure, note) = refused.beside(failure);
                output.report(out, note.as_deref());
                Err(failure)
            }
        }
    }

    pub(super) fn shutdown(&mut self, shared: &Shared) {
        if let Some(mut live) = self.live.take() {
            live.store.data_mut().begin(shared.limits.time);
            refuel(&mut live.store, &shared.limits);
            self.format.shutdown(&mut live);
        }
    }
}

/// Puts what was printed before the result that was written at `result_at`: attachments precede their result.
fn report_before(output: &Output, note: Option<&str>, out: &mut Vec<u8>, result_at: usize) {
    let end = out.len();
    output.report(out, note);
    if out.len() > end {
        out[result_at..].rotate_left(end - result_at);
    }
}
