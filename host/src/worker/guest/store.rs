//! The data of a guest's store: its worker, its limits, its WASI, its output; and the store made from it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store, Trap, UpdateDeadline};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::capture::OutputStreams;
use super::current_process::CurrentProcess;
use super::failure::Cancelled;
use super::limiter::{Limiter, RESOURCES_MAX};
use super::many::ManyCall;
use super::stdin::GuestStdin;
use super::wasi::WasiGrants;
use crate::clock;
use crate::protocol::message::Used;
use crate::spec::Limits;

/// Random bytes that a guest gets at once. The host makes them in its own memory before the guest has room
/// for them.
const RANDOM_LEN_MAX: u64 = 16 << 20;

/// The data of a store.
pub(super) struct Ctx {
    pub(super) process: Arc<CurrentProcess>,
    pub(super) limiter: Limiter,
    pub(super) output: OutputStreams,
    /// The end of the task's time.
    deadline: Option<Instant>,
    /// The call of `run-many`, while it lasts.
    pub(super) many: Option<Box<ManyCall>>,
    /// The handles to shared objects that the guest has.
    pub(super) handles: usize,
    table: ResourceTable,
    wasi: Option<WasiCtx>,
    p1: Option<WasiP1Ctx>,
}

impl Ctx {
    pub(super) fn new(limits: &Limits, process: Arc<CurrentProcess>, output: OutputStreams) -> Ctx {
        let limiter = Limiter::new(limits);
        Ctx {
            process,
            limiter,
            output,
            deadline: None,
            many: None,
            handles: 0,
            table: ResourceTable::new(),
            wasi: None,
            p1: None,
        }
    }

    /// Begins a task: its time runs from now.
    pub(super) fn begin(&mut self, time: Option<Duration>) {
        self.process.runs();
        self.deadline = time.and_then(|time| clock::now().checked_add(time));
        self.limiter.begin();
    }

    /// Whether the guest may go on. The engine calls this after each tick, once the guest is in its own code.
    fn check_deadline(&self) -> wasmtime::Result<UpdateDeadline> {
        self.process.runs();
        self.left().map(|_| UpdateDeadline::Continue(1))
    }

    /// What is left of the task's time, if that is limited. An error if the task must end.
    pub(super) fn left(&self) -> wasmtime::Result<Option<Duration>> {
        // A cancel before the deadline: a cancelled task must not be reported as too slow.
        if self.process.is_cancelled() {
            return Err(wasmtime::Error::new(Cancelled));
        }
        let Some(deadline) = self.deadline else { return Ok(None) };
        let left = deadline.saturating_duration_since(clock::now());
        if left.is_zero() { Err(wasmtime::Error::new(Trap::Interrupt)) } else { Ok(Some(left)) }
    }

    /// Gives the guest WASI preview 2, with its grants.
    pub(super) fn with_wasi(mut self, grants: &WasiGrants, args: &[String], stdin: GuestStdin) -> Ctx {
        // Each handle is memory of the host, which the limiter does not count.
        self.table.set_max_capacity(RESOURCES_MAX);
        let mut wasi = self.builder(grants, args, stdin).build();
        grants.share(&mut wasi);
        self.wasi = Some(wasi);
        self
    }

    /// Gives the guest WASI preview 1, with its grants.
    pub(super) fn with_p1(mut self, grants: &WasiGrants, args: &[String], stdin: GuestStdin) -> Ctx {
        let mut p1 = self.builder(grants, args, stdin).build_p1();
        grants.share(WasiView::ctx(&mut p1).ctx);
        self.p1 = Some(p1);
        self
    }

    fn builder(&self, grants: &WasiGrants, args: &[String], stdin: GuestStdin) -> WasiCtxBuilder {
        let mut builder = WasiCtxBuilder::new();
        builder.args(args).max_random_size(RANDOM_LEN_MAX);
        grants.configure(&mut builder);
        if let Some(stdout) = &self.output.stdout {
            builder.stdout(stdout.clone());
        }
        if let Some(stderr) = &self.output.stderr {
            builder.stderr(stderr.clone());
        }
        match stdin {
            // The default of the builder: a closed stream.
            GuestStdin::Bytes(bytes) if bytes.is_empty() => {}
            GuestStdin::Bytes(bytes) => {
                builder.stdin(MemoryInputPipe::new(bytes));
            }
            GuestStdin::Asked(input) => {
                builder.stdin(input);
            }
        }
        builder
    }

    pub(super) fn p1(&mut self) -> &mut WasiP1Ctx {
        self.p1.as_mut().expect("preview 1 is linked only for modules whose stores are made with it")
    }

    /// A store with this data, with its limits in force.
    pub(super) fn store(mut self, engine: &Engine, limits: &Limits) -> Store<Ctx> {
        self.begin(limits.time);
        let mut store = Store::new(engine, self);
        // Before the first instance: the first sizes of its memories and tables count as well.
        store.limiter(|ctx| &mut ctx.limiter);
        store.epoch_deadline_callback(|store| {
            if let Some(profile) = &store.data().process.profile {
                profile.sample(&store);
            }
            store.data().check_deadline()
        });
        // One tick: the callback runs at each of them, and reads the clock only there.
        store.set_epoch_deadline(1);
        // Again: a tick before this is none that the guest could notice.
        store.data().process.runs();
        refuel(&mut store, limits);
        store.set_hostcall_fuel(copy_max(limits));
        store
    }
}

/// Bytes that one call may copy out of a guest: all that it can have. A result has a limit of its own.
pub(super) fn copy_max(limits: &Limits) -> usize {
    usize::try_from(limits.memory).unwrap_or(usize::MAX)
}

/// Gives a task its fuel and one unit more. The engine traps at zero, and a task may use all that its limit
/// says.
pub(super) fn refuel(store: &mut Store<Ctx>, limits: &Limits) {
    if let Some(fuel) = limits.fuel {
        store
            .set_fuel(fuel.saturating_add(1))
            .expect("a module is compiled to count fuel if there is a limit");
    }
}

/// Whether the task has used more fuel than its limit. The engine checks in loops and calls only, so that it
/// does not see what is used after the last of them.
pub(super) fn is_out_of_fuel(store: &Store<Ctx>, limits: &Limits) -> bool {
    limits.fuel.is_some() && store.get_fuel().is_ok_and(|left| left == 0)
}

/// The memory and the fuel that the task has used so far.
pub(super) fn used(store: &Store<Ctx>, limits: &Limits) -> Used {
    let of =
        |full: u64| full.saturating_add(1).saturating_sub(store.get_fuel().unwrap_or_default()).min(full);
    Used { memory: store.data().limiter.memory(), fuel: limits.fuel.map(of) }
}

impl WasiView for Ctx {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self
            .wasi
            .as_mut()
            .expect("preview 2 is linked only for components whose stores are made with it");
        WasiCtxView { ctx, table: &mut self.table }
    }
}
