//! What the host functions of `wpool:ipc` and `wpool:sync` have in common: handles to shared objects, and
//! requests to the coordinator.
//!
//! A handle stands for the object's position in the list of the objects that are granted to the worker. The
//! engine keeps the handles, and lets no guest pass a number, or a handle of another kind, in the place of
//! one. A handle that is dropped releases nothing: what a task holds is its own, not the handle's.

use std::time::Duration;

use wasmtime::component::{
    ComponentType, LinkerInstance, Lower, Resource, ResourceTableError, ResourceType, WasmStr,
};
use wasmtime::{StoreContextMut, Trap};

use crate::escape::shortened;
use crate::spec::exchange::{Act, Answer, Ask, Code, ITEM_LEN_MAX, NAME_LEN_MAX, ObjectKind, Op};
use crate::spec::size;
use crate::worker::exchange::{Link, Unanswered};
use crate::worker::guest::failure::Cancelled;
use crate::worker::guest::limiter::RESOURCES_MAX;
use crate::worker::guest::store::Ctx;

/// The store of a guest that is in a host function.
pub(super) type Guest<'s> = StoreContextMut<'s, Ctx>;

/// What a host function gives to the guest, or the error that ends the guest.
pub(super) type HostResult<T> = wasmtime::Result<(Result<T, Error>,)>;

/// `wpool:ipc/errors.code`.
#[derive(Clone, Copy, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
pub(super) enum ErrorCode {
    #[component(name = "not-granted")]
    NotGranted,
    #[component(name = "timed-out")]
    TimedOut,
    #[component(name = "closed")]
    Closed,
    #[component(name = "eof")]
    Eof,
    #[component(name = "too-large")]
    TooLarge,
    #[component(name = "invalid")]
    Invalid,
    #[component(name = "broken")]
    Broken,
    #[component(name = "deadlock")]
    Deadlock,
}

impl From<Code> for ErrorCode {
    fn from(code: Code) -> ErrorCode {
        match code {
            Code::NotGranted => ErrorCode::NotGranted,
            Code::TimedOut => ErrorCode::TimedOut,
            Code::Closed => ErrorCode::Closed,
            Code::Eof => ErrorCode::Eof,
            Code::TooLarge => ErrorCode::TooLarge,
            Code::Invalid => ErrorCode::Invalid,
            Code::Broken => ErrorCode::Broken,
            Code::Deadlock => ErrorCode::Deadlock,
        }
    }
}

/// `wpool:ipc/errors.error`.
#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct Error {
    pub(super) code: ErrorCode,
    message: String,
}

impl Error {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Error {
        Error { code: code.into(), message: message.into() }
    }

    /// What the guest passes is longer than anything that an object can hold.
    pub(super) fn too_large(what: &str, len: usize, most: usize) -> Error {
        let message = format!("{what} of {}: the most is {}", size(len as u64), size(most as u64));
        Error::new(Code::TooLarge, message)
    }
}

/// An error unless this is short enough for one request.
pub(super) fn check_len(what: &str, len: usize) -> Result<(), Error> {
    if len <= ITEM_LEN_MAX { Ok(()) } else { Err(Error::too_large(what, len, ITEM_LEN_MAX)) }
}

/// Which kind of object a type of handles stands for.
pub(super) trait Object: 'static {
    const KIND: ObjectKind;
    /// The name of the resource.
    const NAME: &'static str;
}

/// Adds the resource and its `open`.
pub(super) fn add_object<K: Object>(interface: &mut LinkerInstance<'_, Ctx>) -> wasmtime::Result<()> {
    interface.resource(K::NAME, ResourceType::host::<K>(), |mut guest, _| {
        guest.data_mut().handles -= 1;
        Ok(())
    })?;
    interface.func_wrap(&format!("[static]{}.open", K::NAME), open::<K>)
}

fn open<K: Object>(mut guest: Guest<'_>, (name,): (WasmStr,)) -> HostResult<Resource<K>> {
    // Each handle is memory of the host, which the limiter does not count.
    if guest.data().handles >= RESOURCES_MAX {
        return Err(ResourceTableError::Full.into());
    }
    let name = name.to_str(&guest)?;
    if name.len() > NAME_LEN_MAX {
        let message = format!("no {} {:?} is granted to this worker", K::NAME, shortened(&name));
        return Ok((Err(Error::new(Code::NotGranted, message)),));
    }
    let op = Op::Open { kind: K::KIND, name: name.into_owned() };
    let opened = ask(&guest, None, op, |answer| match answer {
        Answer::Opened { object } => Some(Resource::new_own(object)),
        _ => None,
    })?;
    guest.data_mut().handles += usize::from(opened.0.is_ok());
    Ok(opened)
}

/// Does something with an object. `of`: takes what the guest gets out of the answer.
pub(super) fn on<K: Object, T>(
    guest: &Guest<'_>,
    object: &Resource<K>,
    timeout: Option<u64>,
    act: Act,
    of: impl FnOnce(Answer) -> Option<T>,
) -> HostResult<T> {
    ask(guest, timeout, Op::On { object: object.rep(), act }, of)
}

/// Asks the coordinator. `of`: takes what the guest gets out of the answer.
pub(super) fn ask<T>(
    guest: &Guest<'_>,
    timeout: Option<u64>,
    op: Op,
    of: impl FnOnce(Answer) -> Option<T>,
) -> HostResult<T> {
    let ask = request(guest, timeout, op)?;
    let answer = link(guest)?.ask(ask);
    given(guest, answer, of)
}

/// Calls a function of the application. Gives its result in the wire form of values.
pub(super) fn call(guest: &Guest<'_>, function: u32, args: Vec<u8>) -> wasmtime::Result<Vec<u8>> {
    let (returned,) = ask(guest, None, Op::Call { function, args }, |answer| match answer {
        Answer::Returned(result) => Some(result.0),
        _ => None,
    })?;
    returned.map_err(|error| wasmtime::Error::msg(error.message))
}

/// Puts items into an object. They are copied once, into the request.
pub(super) fn put<'b, K: Object, T>(
    guest: &Guest<'_>,
    object: &Resource<K>,
    timeout: Option<u64>,
    items: impl ExactSizeIterator<Item = &'b [u8]> + Clone,
    of: impl FnOnce(Answer) -> Option<T>,
) -> HostResult<T> {
    let op = Op::On { object: object.rep(), act: Act::Put { items: Vec::new() } };
    let ask = request(guest, timeout, op)?;
    let answer = link(guest)?.put(&ask, items);
    given(guest, answer, of)
}

pub(super) fn link<'g>(guest: &'g Guest<'_>) -> wasmtime::Result<&'g Link> {
    let link = guest.data().process.link();
    link.ok_or_else(|| wasmtime::Error::msg("this worker cannot reach any shared object"))
}

/// The request of the running task. An error if the task must end.
fn request(guest: &Guest<'_>, timeout: Option<u64>, op: Op) -> wasmtime::Result<Ask> {
    let left = guest.data().left()?;
    Ok(Ask { task: guest.data().process.task(), timeout: timeout.map(Duration::from_nanos), left, op })
}

/// What an answer gives to the guest. An error if the task must end.
fn given<T>(
    guest: &Guest<'_>,
    answer: Result<Answer, Unanswered>,
    of: impl FnOnce(Answer) -> Option<T>,
) -> HostResult<T> {
    // The guest is about to run its own code. After a long wait the ticks are rare.
    guest.data().process.runs();
    match answer? {
        Answer::TimeIsOver => Err(Trap::Interrupt.into()),
        Answer::Cancelled => Err(wasmtime::Error::new(Cancelled)),
        Answer::Trapped { message } => Err(wasmtime::Error::msg(message)),
        Answer::Failed { code, message } => Ok((Err(Error::new(code, message)),)),
        answer => match of(answer) {
            Some(given) => Ok((Ok(given),)),
            None => Err(Unanswered::Nonsense.into()),
        },
    }
}

// What a guest gets out of the answers of several kinds of objects.

pub(super) fn done(answer: Answer) -> Option<()> {
    matches!(answer, Answer::Done).then_some(())
}

pub(super) fn flag(answer: Answer) -> Option<bool> {
    match answer {
        Answer::Flag(flag) => Some(flag),
        _ => None,
    }
}

pub(super) fn count(answer: Answer) -> Option<u64> {
    match answer {
        Answer::Count(count) => Some(count),
        _ => None,
    }
}
