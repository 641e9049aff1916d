//! A loaded module and its instances. No other folder uses wasmtime.

mod capture;
mod component;
mod core;
mod current_process;
mod describe;
mod engine;
mod failure;
mod host;
mod instances;
mod limiter;
mod many;
mod panicking;
mod placement;
mod plan;
mod profile;
mod stdin;
mod store;
mod survey;
mod task;
mod template;
mod values;
mod wasi;

use std::collections::HashMap;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use wasmtime::Engine;

use self::component::ComponentFormat;
use self::core::CoreFormat;
pub(super) use self::current_process::{CurrentProcess, NoticeTick};
pub(super) use self::describe::{NotCompiled, compile};
pub(super) use self::engine::TABLE_ELEMENT_LEN;
use self::instances::{BinaryFormat, Instances};
pub(super) use self::many::Progress;
use self::placement::Placement;
use self::plan::ResolvedPlan;
use self::profile::Profile;
pub(super) use self::task::{TaskExit, TaskStart};
use self::template::StoreTemplate;
pub(super) use self::values::{ARGUMENTS_LEN_MAX, values_len_max};
use self::wasi::WasiGrants;
use crate::policy::PREVIEW1;
use crate::protocol::frame::{self, Kind};
use crate::protocol::message::{Failure, Setup, Used};
use crate::spec::{Call, FixedPieces, Limit, Limits, ModuleInfo, ModuleKind, ProfilingStrategy};
use crate::sys::WorkerPage;
use crate::worker::outbox::Outbox;

/// The part of the engine that a tick uses.
pub(super) struct EngineTick(Engine);

impl EngineTick {
    /// Advances the epoch. A signal handler may call this: it is one atomic addition.
    pub(super) fn advance(&self) {
        self.0.increment_epoch();
    }
}

/// The module, loaded and linked; in reuse mode with its live instance.
pub(super) struct Guest {
    engine: Engine,
    code: LinkedCode,
    template: StoreTemplate,
    plans: HashMap<u32, Result<ResolvedPlan, String>>,
    /// What has come of the fixed arguments of the next plan.
    fixed: FixedPieces,
    initializer: Option<Call>,
    /// A Process: the worker runs one task, then ends.
    once: bool,
    /// Whether to spin for the next task before the worker sleeps.
    spins: bool,
    /// The time between two samples of a profile, if one is taken.
    interval: Option<Duration>,
}

/// The two binary formats.
enum LinkedCode {
    Component(Instances<ComponentFormat>),
    Core(Instances<CoreFormat>),
}

impl Guest {
    /// Loads and links the machine code behind `artefact`, and opens the granted directories. No guest code
    /// runs.
    ///
    /// `limits`: those of the setup, lowered to what this process can give.
    pub(super) fn load(
        setup: &Setup,
        limits: &Limits,
        artefact: BorrowedFd<'_>,
        dirs: &[BorrowedFd<'_>],
    ) -> Result<Guest, String> {
        // Before the list of system calls, which does not have the call that reads limits.
        failure::prepare();
        let grants = WasiGrants::new(&setup.grants, dirs)?;
        // The engine takes a path, and maps the file: all workers share its pages.
        let path = format!("/proc/self/fd/{}", artefact.as_raw_fd());
        let (kind, codegen) = (setup.info.kind, setup.info.codegen);
        // The pooling allocator makes fresh instances several times faster, but its slots have a fixed size,
        // and it reserves much address space. A module that does not fit into it, or a process that has no
        // room for it, gets memory on demand.
        // An artefact fits both engines: the strategy of allocation is no part of the machine code.
        let load = |engine| Self::load_with(engine, kind, &setup.info, &grants, &path);
        let strategy = setup.profile;
        let pooled = engine::pooling(limits, codegen, strategy).and_then(load);
        let (engine, code) = match pooled {
            Ok(loaded) => loaded,
            // The reason does not matter here. If the module cannot be loaded at all, this second try says
            // why.
            Err(_) => load(engine::on_demand(limits, codegen, strategy)?)?,
        };
        Ok(Guest {
            engine,
            code,
            template: StoreTemplate {
                limits: limits.clone(),
                stack_wanted: setup.limits.stack,
                isolation: setup.isolation,
                info: setup.info.clone(),
                grants,
                process: Arc::new(CurrentProcess::unnamed()),
                stream: None,
                placement: Placement::default(),
            },
            plans: HashMap::new(),
            fixed: FixedPieces::default(),
            initializer: setup.initializer.clone(),
            once: setup.once,
            spins: setup.spins,
            interval: strategy.and_then(ProfilingStrategy::interval),
        })
    }

    fn load_with(
        engine: Engine,
        kind: ModuleKind,
        info: &ModuleInfo,
        grants: &WasiGrants,
        path: &str,
    ) -> Result<(Engine, LinkedCode), String> {
        let code = match kind {
            ModuleKind::Component => LinkedCode::Component(Instances::new(ComponentFormat::load(
                &engine,
                info,
                grants.spec(),
                path,
            )?)),
            ModuleKind::Core => {
                LinkedCode::Core(Instances::new(CoreFormat::load(&engine, info, grants.spec(), path)?))
            }
        };
        Ok((engine, code))
    }

    /// Tells the guest its worker. In a forked worker this comes after the fork.
    pub(super) fn enter(&mut self, mut process: CurrentProcess, stream: Option<Arc<OwnedFd>>) {
        if let Some(interval) = self.interval {
            let profiler = match &self.code {
                LinkedCode::Component(instances) => {
                    instances.format.profiler(&self.engine, &process.name, interval)
                }
                LinkedCode::Core(instances) => {
                    instances.format.profiler(&self.engine, &process.name, interval)
                }
            };
            // An engine that debugs has no profiler. Ours never does.
            // A profile is made of the worker's own ticks, so that each worker has one.
            process.profile = profiler.ok().map(|profiler| Profile::new(profiler, interval));
        }
        // The one result of a Process goes through its socket.
        let page = process.page().filter(|_| stream.is_none());
        self.template.placement =
            page.and_then(|page| page.take_writer()).map(Placement::new).unwrap_or_default();
        self.template.process = Arc::new(process);
        self.template.stream = stream;
    }

    /// The memory that is shared with the coordinator, if large records can lie there.
    pub(super) fn arena(&self) -> Option<Arc<WorkerPage>> {
        self.template.placement.page()
    }

    pub(super) fn engine_tick(&self) -> EngineTick {
        EngineTick(self.engine.clone())
    }

    /// Whether a call from the guest to the host can wait.
    pub(super) fn may_wait(&self) -> bool {
        let grants = self.template.grants.spec();
        let has_more = grants.has_dirs() || grants.can_connect();
        // Preview 1 has sleeping in the one interface that all of its guests import; preview 2 has it in
        // `wasi:io`.
        let waits = |name: &str| {
            name.starts_with("wasi:io/")
                || name.starts_with(PREVIEW1)
                || has_more && name.starts_with("wasi:")
        };
        self.template.info.imports.iter().any(|import| waits(&import.name))
    }

    /// Whether this is a Process, which ends after one task.
    pub(super) fn runs_once(&self) -> bool {
        self.once
    }

    /// Whether to spin for the next task before the worker sleeps.
    pub(super) fn spins(&self) -> bool {
        self.spins
    }

    /// Takes a piece of the fixed arguments of the next plan. `false`: they are too long for any plan.
    #[must_use]
    pub(super) fn add_fixed(&mut self, piece: &[u8]) -> bool {
        self.fixed.add(piece)
    }

    /// Adds a plan, whose fixed arguments have come. `false`: these are not its arguments.
    #[must_use]
    pub(super) fn add_plan(&mut self, id: u32, mut call: Call) -> bool {
        let is_whole = call.fixed.attach(std::mem::take(&mut self.fixed));
        if is_whole {
            let plan = self.prepare(call);
            self.plans.insert(id, plan);
        }
        is_whole
    }

    pub(super) fn forget_plan(&mut self, id: u32) {
        self.plans.remove(&id);
    }

    fn prepare(&self, call: Call) -> Result<ResolvedPlan, String> {
        let plan = ResolvedPlan::new(call, &self.template.info)?;
        match &self.code {
            LinkedCode::Component(instances) => instances.format.prepare(plan, &self.template.info),
            LinkedCode::Core(_) => Ok(plan),
        }
    }

    pub(super) fn is_timed(&self, plan: u32) -> bool {
        matches!(self.plans.get(&plan), Some(Ok(plan)) if plan.call.timed)
    }

    /// The time spent on making and dropping instances since the last call of this.
    pub(super) fn take_making(&mut self) -> Duration {
        match &mut self.code {
            LinkedCode::Component(instances) => instances.take_making(),
            LinkedCode::Core(instances) => instances.take_making(),
        }
    }

    /// Takes the usage of the last task, if its plan is timed and the task had an instance.
    pub(super) fn take_used(&mut self) -> Option<Used> {
        match &mut self.code {
            LinkedCode::Component(instances) => instances.used.take(),
            LinkedCode::Core(instances) => instances.used.take(),
        }
    }

    /// Counts the next task as started, and returns what to do with it.
    ///
    /// The count comes before everything else: if the worker dies, the coordinator knows the task that was
    /// running.
    pub(super) fn start_one(&self) -> TaskStart {
        if !self.template.process.start_one() {
            TaskStart::TakenBack
        } else if self.template.process.is_cancelled() {
            TaskStart::Cancelled
        } else {
            TaskStart::Run
        }
    }

    /// Allows tasks to start again after some were taken back.
    pub(super) fn thaw(&self) {
        self.template.process.thaw();
    }

    /// Runs the initializer in a first instance. Reuse mode keeps that instance.
    pub(super) fn initialize(&mut self) -> Result<(), Failure> {
        let Some(call) = self.initializer.clone() else { return Ok(()) };
        let plan = self.prepare(call).map_err(|message| Failure::BadRecord { message })?;
        let initialized = match &mut self.code {
            LinkedCode::Component(guest) => guest.initialize(&self.engine, &self.template, plan),
            LinkedCode::Core(guest) => guest.initialize(&self.engine, &self.template, plan),
        };
        self.template.process.end_task(&initialized);
        initialized.map_err(|failure| self.template.explain_stack(failure).shortened())
    }

    /// Runs one record. Appends to `out` the printed output, then one `Returned` or `Failed` frame.
    pub(super) fn run(&mut self, plan: u32, attempt: u32, record: &[u8], out: &mut Vec<u8>) -> TaskExit {
        self.template.process.set_attempt(attempt);
        // A task that gets no instance must not report the usage of the one before.
        let _of_another_task = self.take_used();
        let result_at = out.len();
        let outcome = match self.plans.get(&plan) {
            // The pool cuts a record one byte behind the limit: it is refused here, with the name of the
            // limit.
            _ if record.len() > self.template.limits.input => {
                Err(failure::reached(Limit::Input, &self.template.limits))
            }
            Some(Ok(plan)) => match &mut self.code {
                LinkedCode::Component(guest) => guest.run(&self.engine, &self.template, plan, record, out),
                LinkedCode::Core(guest) => guest.run(&self.engine, &self.template, plan, record, out),
            },
            Some(Err(message)) => Err(Failure::BadRecord { message: message.clone() }),
            None => Err(Failure::BadRecord { message: "the coordinator named an unknown plan".to_owned() }),
        };
        self.template.process.end_task(&outcome);
        let failure = match outcome {
            Ok(()) => return TaskExit { code: 0 },
            Err(failure) => self.template.explain_stack(failure).shortened(),
        };
        // A result that was written before the failure is removed. The printed output stays: it may explain
        // the failure.
        drop_results(out, result_at);
        crate::protocol::message::write_failure(out, &failure);
        match failure {
            // As the kernel does it: a process's exit code has eight bits.
            Failure::Exited { code } => TaskExit { code: (code & 0xff).cast_signed() },
            _ => TaskExit { code: 1 },
        }
    }

    /// Whether [`run_many`](Self::run_many) can run records of this plan now: the guest has a function for
    /// many records, and there is a live instance.
    pub(super) fn takes_many(&self, plan: u32) -> bool {
        match &self.code {
            LinkedCode::Component(guest) => {
                guest.is_live() && matches!(self.plans.get(&plan), Some(Ok(plan)) if plan.many.is_some())
            }
            LinkedCode::Core(_) => false,
        }
    }

    /// Whether a record of this plan is a string.
    pub(super) fn takes_string(&self, plan: u32) -> bool {
        match self.plans.get(&plan) {
            Some(Ok(plan)) => plan.fast.is_some_and(|fast| fast.takes_string[0]),
            _ => false,
        }
    }

    /// The most bytes of a record.
    pub(super) fn longest_record(&self) -> usize {
        self.template.limits.input
    }

    /// Runs records in one call. The call appends the outcome of each record to `outbox`, as
    /// [`run`](Self::run) would.
    ///
    /// The first record must have been started by [`start_one`](Self::start_one). The call starts each of the
    /// others.
    pub(super) fn run_many(
        &mut self,
        plan: u32,
        attempt: u32,
        records: &[&[u8]],
        outbox: &Outbox,
    ) -> Progress {
        self.template.process.set_attempt(attempt);
        match (&mut self.code, self.plans.get(&plan)) {
            (LinkedCode::Component(guest), Some(Ok(plan))) => {
                guest.run_many(&self.template, plan, records, outbox)
            }
            _ => unreachable!("callers ask `takes_many` before"),
        }
    }

    /// Takes the profile, if there is one.
    pub(super) fn take_profile(&self) -> Option<Vec<u8>> {
        self.template.process.profile.as_ref().and_then(Profile::finish)
    }

    /// Runs the guest's `shutdown`, if there is a live instance that has one.
    pub(super) fn shutdown(&mut self) {
        // This counts as one more task: a cancel of the last one must not end it.
        self.start_one();
        match &mut self.code {
            LinkedCode::Component(guest) => guest.shutdown(&self.template),
            LinkedCode::Core(guest) => guest.shutdown(&self.template),
        }
        // A `shutdown` that fails has no consequences.
        self.template.process.end_task(&Ok(()));
    }
}

/// Removes what was written of a result behind `from`. The printed output stays.
fn drop_results(out: &mut Vec<u8>, from: usize) {
    let mut at = from;
    while let Ok(Some(frame)) = frame::parse(&out[at..]) {
        match frame.kind {
            Kind::Stdout | Kind::Stderr => at += frame.len(),
            _ => break,
        }
    }
    out.truncate(at);
}
