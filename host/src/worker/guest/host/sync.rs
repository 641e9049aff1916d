//! `wpool:sync`: locks, semaphores, events, conditions and barriers.

use wasmtime::component::{ComponentType, Linker, LinkerInstance, Lower, Resource};

use super::exchange::{Guest, HostResult, Object, add_object, count, done, flag, link, on};
use crate::spec::exchange as spec;
use crate::spec::exchange::{Act, Answer, ObjectKind};
use crate::worker::guest::store::Ctx;

/// `locks.lock`.
struct Lock;

impl Object for Lock {
    const KIND: ObjectKind = ObjectKind::Lock;
    const NAME: &'static str = "lock";
}

/// `locks.r-lock`.
struct RLock;

impl Object for RLock {
    const KIND: ObjectKind = ObjectKind::RLock;
    const NAME: &'static str = "r-lock";
}

/// `semaphores.semaphore`.
struct Semaphore;

impl Object for Semaphore {
    const KIND: ObjectKind = ObjectKind::Semaphore;
    const NAME: &'static str = "semaphore";
}

/// `events.event`.
struct Event;

impl Object for Event {
    const KIND: ObjectKind = ObjectKind::Event;
    const NAME: &'static str = "event";
}

/// `conditions.condition`.
struct Condition;

impl Object for Condition {
    const KIND: ObjectKind = ObjectKind::Condition;
    const NAME: &'static str = "condition";
}

/// `barriers.barrier`.
struct Barrier;

impl Object for Barrier {
    const KIND: ObjectKind = ObjectKind::Barrier;
    const NAME: &'static str = "barrier";
}

/// `locks.acquired`.
#[derive(Clone, Copy, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
enum Acquired {
    #[component(name = "clean")]
    Clean,
    #[component(name = "owner-died")]
    OwnerDied,
}

impl Acquired {
    fn from_owner(owner_died: bool) -> Acquired {
        if owner_died { Acquired::OwnerDied } else { Acquired::Clean }
    }
}

/// `barriers.status`.
#[derive(ComponentType, Lower)]
#[component(record)]
struct BarrierStatus {
    parties: u32,
    waiting: u32,
    broken: bool,
}

/// Adds an interface of the package to a linker.
pub(crate) fn add_to_linker(linker: &mut Linker<Ctx>, interface: &str) -> wasmtime::Result<()> {
    match interface {
        "wpool:sync/locks" => {
            let mut locks = linker.instance("wpool:sync/locks@0.1.0")?;
            add_lock::<Lock>(&mut locks)?;
            add_lock::<RLock>(&mut locks)
        }
        "wpool:sync/semaphores" => add_semaphores(linker),
        "wpool:sync/events" => add_events(linker),
        "wpool:sync/conditions" => add_conditions(linker),
        "wpool:sync/barriers" => add_barriers(linker),
        _ => Ok(()),
    }
}

/// Adds a kind of object and its `acquire` and `release`.
fn add_owned<K: Object>(interface: &mut LinkerInstance<'_, Ctx>) -> wasmtime::Result<()> {
    add_object::<K>(interface)?;
    interface.func_wrap(
        &format!("[method]{}.acquire", K::NAME),
        |guest, (this, timeout): (Resource<K>, Option<u64>)| acquire(&guest, &this, timeout),
    )?;
    interface.func_wrap(&format!("[method]{}.release", K::NAME), |guest, (this,): (Resource<K>,)| {
        release(&guest, &this)
    })
}

/// By the lease of the lock, or by a request. Only locks are leased.
fn acquire<K: Object>(guest: &Guest<'_>, this: &Resource<K>, timeout: Option<u64>) -> HostResult<Acquired> {
    let process = &guest.data().process;
    // The coordinator ends a task that is cancelled.
    if !process.is_cancelled()
        && let Some(died) = link(guest)?.acquire(this.rep(), process.task(), K::KIND == ObjectKind::RLock)
    {
        return Ok((Ok(Acquired::from_owner(died)),));
    }
    on(guest, this, timeout, Act::Acquire, acquired)
}

fn release<K: Object>(guest: &Guest<'_>, this: &Resource<K>) -> HostResult<()> {
    if link(guest)?.release(this.rep(), guest.data().process.task()) {
        return Ok((Ok(()),));
    }
    on(guest, this, None, Act::Release { count: 1 }, done)
}

fn acquired(answer: Answer) -> Option<Acquired> {
    match answer {
        Answer::Acquired { owner_died } => Some(Acquired::from_owner(owner_died)),
        _ => None,
    }
}

fn add_lock<K: Object>(locks: &mut LinkerInstance<'_, Ctx>) -> wasmtime::Result<()> {
    add_owned::<K>(locks)?;
    locks.func_wrap(&format!("[method]{}.locked", K::NAME), |guest, (this,): (Resource<K>,)| {
        match link(&guest)?.is_locked(this.rep()) {
            Some(is_locked) => Ok((Ok(is_locked),)),
            None => on(&guest, &this, None, Act::Status, flag),
        }
    })
}

fn add_semaphores(linker: &mut Linker<Ctx>) -> wasmtime::Result<()> {
    type This = Resource<Semaphore>;
    let mut semaphores = linker.instance("wpool:sync/semaphores@0.1.0")?;
    add_object::<Semaphore>(&mut semaphores)?;
    semaphores.func_wrap("[method]semaphore.acquire", |guest, (this, timeout): (This, Option<u64>)| {
        on(&guest, &this, timeout, Act::Acquire, done)
    })?;
    semaphores.func_wrap("[method]semaphore.release", |guest, (this, count): (This, u32)| {
        on(&guest, &this, None, Act::Release { count }, done)
    })?;
    semaphores.func_wrap("[method]semaphore.value", |guest, (this,): (This,)| {
        on(&guest, &this, None, Act::Status, count)
    })
}

fn add_events(linker: &mut Linker<Ctx>) -> wasmtime::Result<()> {
    type This = Resource<Event>;
    let mut events = linker.instance("wpool:sync/events@0.1.0")?;
    add_object::<Event>(&mut events)?;
    events
        .func_wrap("[method]event.set", |guest, (this,): (This,)| on(&guest, &this, None, Act::Set, done))?;
    events.func_wrap("[method]event.clear", |guest, (this,): (This,)| {
        on(&guest, &this, None, Act::Clear, done)
    })?;
    events.func_wrap("[method]event.is-set", |guest, (this,): (This,)| {
        on(&guest, &this, None, Act::Status, flag)
    })?;
    events.func_wrap("[method]event.wait", |guest, (this, timeout): (This, Option<u64>)| {
        on(&guest, &this, timeout, Act::Wait, flag)
    })
}

fn add_conditions(linker: &mut Linker<Ctx>) -> wasmtime::Result<()> {
    type This = Resource<Condition>;
    let mut conditions = linker.instance("wpool:sync/conditions@0.1.0")?;
    add_owned::<Condition>(&mut conditions)?;
    conditions.func_wrap("[method]condition.wait", |guest, (this, timeout): (This, Option<u64>)| {
        on(&guest, &this, timeout, Act::Wait, flag)
    })?;
    conditions.func_wrap("[method]condition.notify", |guest, (this, count): (This, u32)| {
        on(&guest, &this, None, Act::Notify { count }, done)
    })?;
    conditions.func_wrap("[method]condition.notify-all", |guest, (this,): (This,)| {
        on(&guest, &this, None, Act::Notify { count: u32::MAX }, done)
    })
}

fn add_barriers(linker: &mut Linker<Ctx>) -> wasmtime::Result<()> {
    type This = Resource<Barrier>;
    let mut barriers = linker.instance("wpool:sync/barriers@0.1.0")?;
    add_object::<Barrier>(&mut barriers)?;
    barriers.func_wrap("[method]barrier.wait", |guest, (this, timeout): (This, Option<u64>)| {
        on(&guest, &this, timeout, Act::Wait, |answer| u32::try_from(count(answer)?).ok())
    })?;
    barriers.func_wrap("[method]barrier.abort", |guest, (this,): (This,)| {
        on(&guest, &this, None, Act::Abort, done)
    })?;
    barriers.func_wrap("[method]barrier.reset", |guest, (this,): (This,)| {
        on(&guest, &this, None, Act::Reset, done)
    })?;
    barriers.func_wrap("[method]barrier.status", |guest, (this,): (This,)| {
        on(&guest, &this, None, Act::Status, |answer| match answer {
            Answer::Barrier(spec::BarrierStatus { parties, waiting, is_broken }) => {
                Some(BarrierStatus { parties, waiting, broken: is_broken })
            }
            _ => None,
        })
    })
}
