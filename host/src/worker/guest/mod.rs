//! A loaded module and its instances: the one place that speaks wasmtime.

mod capture;
mod component;
mod core;
mod describe;
mod engine;
mod failure;
mod host;
mod instances;
mod limiter;
mod many;
mod names;
mod placement;
mod plan;
mod profile;
mod stdin;
mod store;
mod survey;
mod values;
mod wasi;

use std::collections::HashMap;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use wasmtime::Engine;

use self::component::ComponentFormat;
use self::core::CoreFormat;
pub(super) use self::describe::{Refusal, compile};
pub(super) use self::engine::TABLE_ELEMENT_LEN;
use self::instances::{Format, Instances};
pub(super) use self::many::Progress;
use self::placement::Placement;
use self::plan::Plan;
use self::profile::Profile;
pub(super) use self::store::Me;
use self::store::{Ctx, Output};
pub(super) use self::values::values_len_max;
use self::wasi::Given;
use crate::policy::PREVIEW1;
use crate::protocol::frame::{self, Kind};
use crate::protocol::message::{Failure, Setup, Used};
use crate::spec::{Call, Isolation, Limit, Limits, ModuleInfo, ModuleKind, ProfilingStrategy, size};
use crate::sys::WorkerPage;
use crate::worker::outbox::Outbox;

/// How a task ended, as an exit code.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) code: i32,
}

/// What becomes of a task whose turn has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    Run,
    /// Nobody wants it any more.
    Unwanted,
    /// It is another worker's now, and so is all that came with it and behind it.
    TakenBack,
}

/// What the tick needs of the engine.
pub(super) struct EngineTick(Engine);

impl EngineTick {
    /// Advances the epoch. Safe in a signal handler: it is one atomic addition.
    pub(super) fn advance(&self) {
        self.0.increment_epoch();
    }
}

/// The module, loaded and linked; in reuse mode with its live instance.
pub(super) struct Guest {
    engine: Engine,
    code: Code,
    shared: Shared,
    plans: HashMap<u32, Result<Plan, String>>,
    initializer: Option<Call>,
    once: bool,
    spins: bool,
    /// How often to look where the guest is, if somebody wants to know.
    interval: Option<Duration>,
}

/// The two binary formats.
enum Code {
    Component(Instances<ComponentFormat>),
    Core(Instances<CoreFormat>),
}

/// What every new store is made from.
struct Shared {
    limits: Limits,
    /// Bytes of stack that guests would have if this process could give them.
    stack_wanted: usize,
    isolation: Isolation,
    info: ModuleInfo,
    given: Given,
    me: Arc<Me>,
    /// Where a Process's output goes as it comes.
    stream: Option<Arc<OwnedFd>>,
    placement: Placement,
}

impl Guest {
    /// Loads the artefact behind `artefact` and links it, and takes the directories that are granted. No guest code runs. `limits`: those of the
    /// setup, as far as this process can give what they allow.
    pub(super) fn load(
        setup: &Setup,
        limits: &Limits,
        artefact: BorrowedFd<'_>,
        dirs: &[BorrowedFd<'_>],
    ) -> Result<Guest, String> {
        failure::prepare();
        let given = Given::new(&setup.grants, dirs)?;
        let path = format!("/proc/self/fd/{}", artefact.as_raw_fd());
        let (kind, codegen) = (setup.info.kind, setup.info.codegen);
        // The pooling allocator is several times faster for fresh instances, but has a fixed shape; a module that does not fit it gets memory on demand.
        // Nor may there be address space for it, in a process that has other uses for that.
        let load = |engine| Self::load_with(engine, kind, &setup.info, &given, &path);
        let strategy = setup.profile;
        let pooled = engine::pooling(limits, codegen, strategy).and_then(load);
        let (engine, code) = match pooled {
            Ok(loaded) => loaded,
            Err(_) => load(engine::on_demand(limits, codegen, strategy)?)?,
        };
        Ok(Guest {
            engine,
            code,
            shared: Shared {
                limits: limits.clone(),
                stack_wanted: setup.limits.stack,
                isolation: setup.isolation,
                info: setup.info.clone(),
                given,
                me: Arc::new(Me::nobody()),
                stream: None,
                placement: Placement::default(),
            },
            plans: HashMap::new(),
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
        given: &Given,
        path: &str,
    ) -> Result<(Engine, Code), String> {
        let code = match kind {
            ModuleKind::Component => {
                Code::Component(Instances::new(ComponentFormat::load(&engine, info, given.grants(), path)?))
            }
            ModuleKind::Core => {
                Code::Core(Instances::new(CoreFormat::load(&engine, info, given.grants(), path)?))
            }
        };
        Ok((engine, code))
    }

    /// Learns who it is, after the fork.
    pub(super) fn enter(&mut self, mut me: Me, stream: Option<Arc<OwnedFd>>) {
        if let Some(interval) = self.interval {
            let profiler = match &self.code {
                Code::Component(instances) => instances.format.profiler(&self.engine, &me.name, interval),
                Code::Core(instances) => instances.format.profiler(&self.engine, &me.name, interval),
            };
            // There is always one, but for an engine that debugs.
            me.profile = profiler.ok().map(|profiler| Profile::new(profiler, interval));
        }
        // The one result of a Process goes the short way.
        let page = me.page().filter(|_| stream.is_none());
        self.shared.placement =
            page.and_then(|page| page.take_writer()).map(Placement::new).unwrap_or_default();
        self.shared.me = Arc::new(me);
        self.shared.stream = stream;
    }

    /// The memory that is shared with the coordinator, if large records may lie there.
    pub(super) fn arena(&self) -> Option<Arc<WorkerPage>> {
        self.shared.placement.page()
    }

    pub(super) fn engine_tick(&self) -> EngineTick {
        EngineTick(self.engine.clone())
    }

    /// Whether the guest can wait for something in a call to the host.
    pub(super) fn may_wait(&self) -> bool {
        let grants = self.shared.given.grants();
        let has_more = grants.has_dirs() || grants.can_connect();
        let waits = |name: &str| {
            name.starts_with("wasi:io/")
                || name.starts_with(PREVIEW1)
                || has_more && name.starts_with("wasi:")
        };
        self.shared.info.imports.iter().any(|import| waits(&import.name))
    }

    /// A Process: one task, then the end.
    pub(super) fn runs_once(&self) -> bool {
        self.once
    }

    /// Whether to look for the next task before sleeping.
    pub(super) fn spins(&self) -> bool {
        self.spins
    }

    pub(super) fn add_plan(&mut self, id: u32, call: Call) {
        let plan = self.prepare(call);
        self.plans.insert(id, plan);
    }

    fn prepare(&self, call: Call) -> Result<Plan, String> {
        let plan = Plan::new(call, &self.shared.info)?;
        match &self.code {
            Code::Component(instances) => instances.format.prepare(plan, &self.shared.info),
            Code::Core(_) => Ok(plan),
        }
    }

    pub(super) fn is_timed(&self, plan: u32) -> bool {
        matches!(self.plans.get(&plan), Some(Ok(plan)) if plan.call.timed)
    }

    /// How long it has taken, since this was asked last, to make instances and to throw them away.
    pub(super) fn take_making(&mut self) -> Duration {
        match &mut self.code {
            Code::Component(instances) => instances.take_making(),
            Code::Core(instances) => instances.take_making(),
        }
    }

    /// What the task used that has just been run, if its plan is timed and it came to have an instance. Once.
    pub(super) fn take_used(&mut self) -> Option<Used> {
        match &mut self.code {
            Code::Component(instances) => instances.used.take(),
            Code::Core(instances) => instances.used.take(),
        }
    }

    /// Says that a task starts now, and hears what is to become of it.
    pub(super) fn start_one(&self) -> Start {
        match self.shared.me.start_one() {
            false => Start::TakenBack,
            true if self.shared.me.is_cancelled() => Start::Unwanted,
            true => Start::Run,
        }
    }

    /// What comes from now on may be started again.
    pub(super) fn thaw(&self) {
        self.shared.me.thaw();
    }

    /// Runs the initializer in a first instance, which reuse mode keeps.
    pub(super) fn initialize(&mut self) -> Result<(), Failure> {
        let Some(call) = self.initializer.clone() else { return Ok(()) };
        let plan = self.prepare(call).map_err(|message| Failure::BadRecord { message })?;
        let initialized = match &mut self.code {
            Code::Component(guest) => guest.initialize(&self.engine, &self.shared, plan),
            Code::Core(guest) => guest.initialize(&self.engine, &self.shared, plan),
        };
        initialized.map_err(|failure| self.shared.explained(failure).shortened())
    }

    /// Runs one record and appends its result to `out`: what the guest printed, then one `Returned` or `Failed` frame.
    pub(super) fn run(&mut self, plan: u32, attempt: u32, record: &[u8], out: &mut Vec<u8>) -> Ended {
        self.shared.me.set_attempt(attempt);
        let _of_another_task = self.take_used();
        let result_at = out.len();
        let outcome = match self.plans.get(&plan) {
            _ if record.len() > self.shared.limits.input => {
                Err(failure::reached(Limit::Input, &self.shared.limits))
            }
            Some(Ok(plan)) => match &mut self.code {
                Code::Component(guest) => guest.run(&self.engine, &self.shared, plan, record, out),
                Code::Core(guest) => guest.run(&self.engine, &self.shared, plan, record, out),
            },
            Some(Err(message)) => Err(Failure::BadRecord { message: message.clone() }),
            None => Err(Failure::BadRecord { message: "the coordinator named an unknown plan".to_owned() }),
        };
        let failure = match outcome {
            Ok(()) => return Ended { code: 0 },
            Err(failure) => self.shared.explained(failure).shortened(),
        };
        // Whatever of a result was written before the failure is taken back; printed output stays, it explains.
        drop_results(out, result_at);
        let code = match &failure {
            Failure::Exited { code } => (code & 0xff).cast_signed(),
            _ => 1,
        };
        crate::protocol::message::write_failure(out, &failure);
        Ended { code }
    }

    /// Whether records of this plan may be run by [`run_many`](Self::run_many) now: there is a function for it, and an instance whose
    /// state they are to find.
    pub(super) fn takes_many(&self, plan: u32) -> bool {
        match &self.code {
            Code::Component(guest) => {
                guest.is_live() && matches!(self.plans.get(&plan), Some(Ok(plan)) if plan.many.is_some())
            }
            Code::Core(_) => false,
        }
    }

    /// No record may be longer.
    pub(super) fn longest_record(&self) -> usize {
        self.shared.limits.input
    }

    /// Runs records in one call, in which the outcome of each is appended to `outbox` as [`run`](Self::run) would have done it. The first has been
    /// started; each of the others is before it begins.
    pub(super) fn run_many(
        &mut self,
        plan: u32,
        attempt: u32,
        records: &[&[u8]],
        outbox: &Outbox,
    ) -> Progress {
        self.shared.me.set_attempt(attempt);
        match (&mut self.code, self.plans.get(&plan)) {
            (Code::Component(guest), Some(Ok(plan))) => guest.run_many(&self.shared, plan, records, outbox),
            _ => unreachable!("only asked to if the plan takes many"),
        }
    }

    /// Where the guest has spent its time, if somebody wants to know. Once.
    pub(super) fn take_profile(&self) -> Option<Vec<u8>> {
        self.shared.me.profile.as_ref().and_then(Profile::finish)
    }

    /// Runs the guest's `shutdown`, if there is a live instance that has one.
    pub(super) fn shutdown(&mut self) {
        // Counts as one more task, lest the cancel of the last one ends it.
        self.start_one();
        match &mut self.code {
            Code::Component(guest) => guest.shutdown(&self.shared),
            Code::Core(guest) => guest.shutdown(&self.shared),
        }
    }
}

/// Removes a half-written result behind `from`, keeping the guest's own output.
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

impl Shared {
    /// With what stands in the way of raising the limit.
    fn explained(&self, mut failure: Failure) -> Failure {
        if let Failure::Limit { limit: Limit::Stack, message } = &mut failure
            && self.limits.stack < self.stack_wanted
        {
            let wanted = size(self.stack_wanted as u64);
            message.push_str(&format!("; {wanted} are allowed, but the process has no more (ulimit -s)"));
        }
        failure
    }

    /// The state of a new store.
    fn ctx(&self, output: Output) -> Ctx {
        Ctx::new(&self.limits, self.me.clone(), output)
    }

    /// Where a new store's output goes. A module that does not import WASI can print nothing.
    fn output(&self) -> Output {
        let may_print = self.info.imports.iter().any(|import| import.name.starts_with("wasi"));
        match may_print {
            true => Output::new(self.limits.stdout, self.stream.clone()),
            false => Output::default(),
        }
    }
}
