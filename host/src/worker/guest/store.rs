//! What a guest's store holds: who it is, what it may use, where its output goes.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store, Trap, UpdateDeadline};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::Shared;
use super::capture::Capture;
use super::limiter::Limiter;
use super::many::Many;
use super::profile::Profile;
use super::stdin::Stdin;
use super::wasi::Given;
use crate::clock;
use crate::protocol::frame::{self, Kind};
use crate::protocol::message::{Identity, Used};
use crate::spec::Limits;
use crate::sys::WorkerPage;

/// Handles that a guest may hold on the host's side.
pub(super) const RESOURCES_MAX: usize = 10_000;
/// Random bytes that a guest may ask for at once: they are made before the guest has a place for them.
const RANDOM_LEN_MAX: u64 = 16 << 20;

/// The process that a guest runs in, as `wpool:process/current` shows it.
pub(in crate::worker) struct Me {
    pub(super) name: String,
    pub(super) index: u32,
    attempt: AtomicU32,
    page: Option<Arc<WorkerPage>>,
    pub(super) profile: Option<Profile>,
}

impl Me {
    pub(in crate::worker) fn new(identity: Identity, page: Arc<WorkerPage>) -> Me {
        Me {
            name: identity.name,
            index: identity.index,
            attempt: AtomicU32::new(1),
            page: Some(page),
            profile: None,
        }
    }

    /// The zygote, which runs no guest.
    pub(super) fn nobody() -> Me {
        Me { name: String::new(), index: 0, attempt: AtomicU32::new(1), page: None, profile: None }
    }

    pub(super) fn page(&self) -> Option<Arc<WorkerPage>> {
        self.page.clone()
    }

    /// `false`: what was sent and has not begun was taken back.
    pub(super) fn start_one(&self) -> bool {
        self.page.as_ref().is_none_or(|page| page.start_one())
    }

    pub(super) fn thaw(&self) {
        if let Some(page) = &self.page {
            page.thaw();
        }
    }

    /// Nobody wants the task that was started last.
    pub(super) fn is_cancelled(&self) -> bool {
        self.page.as_ref().is_some_and(|page| page.is_cancelled())
    }

    pub(super) fn should_stop(&self) -> bool {
        self.page.as_ref().is_some_and(|page| page.should_stop())
    }

    pub(super) fn attempt(&self) -> u32 {
        self.attempt.load(Ordering::Relaxed)
    }

    pub(super) fn set_attempt(&self, attempt: u32) {
        self.attempt.store(attempt, Ordering::Relaxed);
    }
}

/// What ends a guest whose task nobody wants any more.
#[derive(Debug, thiserror::Error)]
#[error("cancelled")]
pub(super) struct Cancelled;

/// A guest's two output streams, where it can print at all.
#[derive(Clone, Default)]
pub(super) struct Output {
    pub(super) stdout: Option<Capture>,
    pub(super) stderr: Option<Capture>,
}

impl Output {
    /// Kept up to `max` bytes each, or passed on as they come.
    pub(super) fn new(max: usize, stream: Option<Arc<OwnedFd>>) -> Output {
        let (stdout, stderr) = match stream {
            Some(socket) => {
                (Capture::stream(socket.clone(), Kind::Stdout), Capture::stream(socket, Kind::Stderr))
            }
            None => (Capture::keep(max), Capture::keep(max)),
        };
        Output { stdout: Some(stdout), stderr: Some(stderr) }
    }

    /// Appends what was printed since the last time, as frames; before what is on stderr a note of ours.
    pub(super) fn report(&self, out: &mut Vec<u8>, note: Option<&str>) {
        for (kind, capture, note) in [(Kind::Stdout, &self.stdout, None), (Kind::Stderr, &self.stderr, note)]
        {
            let (kept, dropped) = capture.as_ref().map(Capture::take).unwrap_or_default();
            if kept.is_empty() && dropped == 0 && note.is_none() {
                continue;
            }
            frame::write(out, kind, |out| {
                if let Some(note) = note {
                    out.extend_from_slice(format!("wpool: {note}\n").as_bytes());
                }
                out.extend_from_slice(&kept);
                if dropped > 0 {
                    out.extend_from_slice(format!("\n... {dropped} bytes more were not kept\n").as_bytes());
                }
            });
        }
    }
}

/// The data of a store.
pub(super) struct Ctx {
    pub(super) me: Arc<Me>,
    pub(super) limiter: Limiter,
    pub(super) output: Output,
    /// When the task has taken too long.
    deadline: Option<Instant>,
    /// The records of a call of `run-many`, while it lasts.
    pub(super) many: Option<Box<Many>>,
    table: ResourceTable,
    wasi: Option<WasiCtx>,
    p1: Option<WasiP1Ctx>,
}

impl Ctx {
    pub(super) fn new(limits: &Limits, me: Arc<Me>, output: Output) -> Ctx {
        let limiter = Limiter::new(limits);
        Ctx {
            me,
            limiter,
            output,
            deadline: None,
            many: None,
            table: ResourceTable::new(),
            wasi: None,
            p1: None,
        }
    }

    /// A task begins: its time runs from now.
    pub(super) fn begin(&mut self, time: Option<Duration>) {
        self.deadline = time.and_then(|time| clock::now().checked_add(time));
        self.limiter.begin();
    }

    /// Whether the guest may go on. Asked at every tick that finds it in its own code.
    fn go_on(&self) -> wasmtime::Result<UpdateDeadline> {
        match self.deadline {
            _ if self.me.is_cancelled() => Err(wasmtime::Error::new(Cancelled)),
            Some(deadline) if clock::now() >= deadline => Err(wasmtime::Error::new(Trap::Interrupt)),
            _ => Ok(UpdateDeadline::Continue(1)),
        }
    }

    /// Gives the guest WASI preview 2, with what is granted.
    pub(super) fn with_wasi(mut self, given: &Given, args: &[String], stdin: Stdin) -> Ctx {
        self.table.set_max_capacity(RESOURCES_MAX);
        let mut wasi = self.builder(given, args, stdin).build();
        given.place(&mut wasi);
        self.wasi = Some(wasi);
        self
    }

    /// Gives the guest WASI preview 1, with what is granted.
    pub(super) fn with_p1(mut self, given: &Given, args: &[String], stdin: Stdin) -> Ctx {
        let mut p1 = self.builder(given, args, stdin).build_p1();
        given.place(WasiView::ctx(&mut p1).ctx);
        self.p1 = Some(p1);
        self
    }

    fn builder(&self, given: &Given, args: &[String], stdin: Stdin) -> WasiCtxBuilder {
        let mut builder = WasiCtxBuilder::new();
        builder.args(args).max_random_size(RANDOM_LEN_MAX);
        given.set(&mut builder);
        if let Some(stdout) = &self.output.stdout {
            builder.stdout(stdout.clone());
        }
        if let Some(stderr) = &self.output.stderr {
            builder.stderr(stderr.clone());
        }
        match stdin {
            Stdin::Bytes(bytes) if bytes.is_empty() => {}
            Stdin::Bytes(bytes) => {
                builder.stdin(MemoryInputPipe::new(bytes));
            }
            Stdin::Asked(asked) => {
                builder.stdin(asked);
            }
        }
        builder
    }

    pub(super) fn p1(&mut self) -> &mut WasiP1Ctx {
        self.p1.as_mut().expect("preview 1 is linked only for modules whose stores are made with it")
    }

    /// A store with this state, its limits armed.
    pub(super) fn store(mut self, engine: &Engine, shared: &Shared) -> Store<Ctx> {
        self.begin(shared.limits.time);
        let mut store = Store::new(engine, self);
        store.limiter(|ctx| &mut ctx.limiter);
        store.epoch_deadline_callback(|store| {
            if let Some(profile) = &store.data().me.profile {
                profile.look(&store);
            }
            store.data().go_on()
        });
        store.set_epoch_deadline(1);
        refuel(&mut store, &shared.limits);
        store.set_hostcall_fuel(bytes_at_once(&shared.limits));
        store
    }
}

/// Bytes that may be copied out of a guest at once as they are: all that it can have. Its result has a limit beside this.
pub(super) fn bytes_at_once(limits: &Limits) -> usize {
    usize::try_from(limits.memory).unwrap_or(usize::MAX)
}

/// A task begins with a full tank, and one unit more: one that uses just what it may does not come to the end of it.
pub(super) fn refuel(store: &mut Store<Ctx>, limits: &Limits) {
    if let Some(fuel) = limits.fuel {
        store
            .set_fuel(fuel.saturating_add(1))
            .expect("a module is compiled to count fuel if there is a limit");
    }
}

/// Whether the task has used more than it may. The engine looks at loops and calls only: behind the last of them it has to be asked.
pub(super) fn is_out_of_fuel(store: &Store<Ctx>, limits: &Limits) -> bool {
    limits.fuel.is_some() && store.get_fuel().is_ok_and(|left| left == 0)
}

/// What the task has used so far.
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
