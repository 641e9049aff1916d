//! The shared objects outside WebAssembly: in this process, for the unit tests of a guest.
//!
//! The modules [`ipc`] and [`sync`] have the names and the types of the bindings, which talk to a host. A
//! task is a thread here. There is one lock for everything: a unit test has few objects and few threads.
//! Not here: the order of waiting tasks, limits on bytes, what happens when a task dies, and deadlocks of
//! several tasks.

pub(crate) mod ipc;
pub(crate) mod sync;

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipc::errors::{Code, Error};

/// All objects.
#[derive(Debug)]
struct Objects {
    queues: Table<ipc::QueueState>,
    pipes: Vec<ipc::PipeState>,
    ends: Table<ipc::End>,
    values: Table<ipc::values::Content>,
    dicts: Table<ipc::DictState>,
    locks: Table<sync::LockState>,
    r_locks: Table<sync::LockState>,
    semaphores: Table<sync::SemaphoreState>,
    events: Table<bool>,
    conditions: Table<sync::ConditionState>,
    barriers: Table<sync::BarrierState>,
}

static OBJECTS: Mutex<Objects> = Mutex::new(Objects {
    queues: Table::new(),
    pipes: Vec::new(),
    ends: Table::new(),
    values: Table::new(),
    dicts: Table::new(),
    locks: Table::new(),
    r_locks: Table::new(),
    semaphores: Table::new(),
    events: Table::new(),
    conditions: Table::new(),
    barriers: Table::new(),
});

/// Notified after each change of an object.
static CHANGED: Condvar = Condvar::new();

/// The objects of one kind. A handle is a position.
#[derive(Debug)]
struct Table<S>(Vec<(String, S)>);

impl<S> Table<S> {
    const fn new() -> Self {
        Table(Vec::new())
    }

    /// A new object. One of this name that was there before keeps its handles and gets no others.
    fn share(&mut self, name: &str, state: S) {
        self.0.push((name.to_owned(), state));
    }

    fn open(&self, name: &str) -> Result<usize, Error> {
        let at = self.0.iter().rposition(|(other, _)| other == name);
        at.ok_or_else(|| error(Code::NotGranted, format!("{name:?} is not shared with this worker")))
    }

    fn at(&mut self, handle: usize) -> &mut S {
        &mut self.0[handle].1
    }
}

fn objects() -> MutexGuard<'static, Objects> {
    // No code of a guest runs under the lock: a panic under it has changed nothing.
    OBJECTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does something at once.
fn now<T>(step: impl FnOnce(&mut Objects) -> T) -> T {
    let result = step(&mut objects());
    CHANGED.notify_all();
    result
}

/// Calls `step` after each change until it gives something, or the time-out has passed.
fn wait<T>(
    timeout: Option<u64>,
    mut step: impl FnMut(&mut Objects) -> Option<Result<T, Error>>,
) -> Result<T, Error> {
    let until = timeout.and_then(|timeout| Instant::now().checked_add(Duration::from_nanos(timeout)));
    let mut objects = objects();
    loop {
        if let Some(result) = step(&mut objects) {
            CHANGED.notify_all();
            return result;
        }
        objects = match until.map(|until| until.saturating_duration_since(Instant::now())) {
            None => CHANGED.wait(objects).unwrap_or_else(PoisonError::into_inner),
            Some(Duration::ZERO) => return Err(error(Code::TimedOut, "the time-out passed".into())),
            Some(left) => CHANGED.wait_timeout(objects, left).unwrap_or_else(PoisonError::into_inner).0,
        };
    }
}

fn error(code: Code, message: String) -> Error {
    Error { code, message }
}

fn invalid(message: &str) -> Error {
    error(Code::Invalid, message.into())
}

/// Makes the object that this text describes: see [`crate::testing::share`]. The error says what is wrong.
pub(crate) fn share(text: &str) -> Result<(), String> {
    let (kind, rest) = text.split_once(':').ok_or_else(|| format!("{text:?} has no KIND:NAME"))?;
    let (name, setting) = match rest.split_once('=') {
        Some((name, setting)) => (name, Some(setting)),
        None => (rest, None),
    };
    let number = |setting: &str| {
        let number = setting.parse::<u64>().ok().filter(|number| *number > 0);
        number.ok_or_else(|| format!("{setting:?} in {text:?} is no number from 1 on"))
    };
    let most = || setting.map(number).transpose();
    let units = || number(setting.unwrap_or("1"));
    let mut objects = objects();
    match kind {
        "queue" => objects.queues.share(name, ipc::QueueState::new(most()?, false)),
        "jqueue" => objects.queues.share(name, ipc::QueueState::new(most()?, true)),
        "pipe" => {
            let pipe = objects.pipes.len();
            objects.pipes.push(ipc::PipeState::default());
            objects.ends.share(&format!("{name}.a"), ipc::End { pipe, side: 0 });
            objects.ends.share(&format!("{name}.b"), ipc::End { pipe, side: 1 });
        }
        "value" => objects.values.share(name, ipc::first_content(setting.unwrap_or("0"))),
        "dict" => objects.dicts.share(name, ipc::DictState::default()),
        "lock" => objects.locks.share(name, sync::LockState::default()),
        "rlock" => objects.r_locks.share(name, sync::LockState::default()),
        "condition" => objects.conditions.share(name, sync::ConditionState::default()),
        "event" => objects.events.share(name, false),
        "semaphore" => objects.semaphores.share(name, sync::SemaphoreState::new(units()?, false)),
        "bsemaphore" => objects.semaphores.share(name, sync::SemaphoreState::new(units()?, true)),
        "barrier" => {
            let parties =
                setting.ok_or_else(|| format!("{text:?} needs its parties: barrier:NAME=PARTIES"))?;
            let parties = number(parties)?.try_into().unwrap_or(u32::MAX);
            objects.barriers.share(name, sync::BarrierState::new(parties));
        }
        other => return Err(format!("{other:?} in {text:?} is no kind of object")),
    }
    Ok(())
}
