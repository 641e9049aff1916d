//! `wpool:ipc`: queues, ends of pipes, values and dicts.

use std::time::Instant;

use wasmtime::component::{ComponentType, Lift, Linker, Lower, Resource, WasmList, WasmStr};

use super::exchange::{
    Error, ErrorCode, Guest, HostResult, Object, add_object, ask, check_len, count, done, flag, on, put,
};
use crate::spec::exchange as spec;
use crate::spec::exchange::{
    Act, Answer, Bytes, Code, ITEM_LEN_MAX, ITEMS_MAX, KEY_LEN_MAX, ObjectKind, Op, WAIT_MAX,
};
use crate::worker::guest::store::Ctx;

/// `queues.queue`.
struct Queue;

impl Object for Queue {
    const KIND: ObjectKind = ObjectKind::Queue;
    const NAME: &'static str = "queue";
}

/// `connections.connection`.
struct Connection;

impl Object for Connection {
    const KIND: ObjectKind = ObjectKind::Connection;
    const NAME: &'static str = "connection";
}

/// `values.value`.
struct Value;

impl Object for Value {
    const KIND: ObjectKind = ObjectKind::Value;
    const NAME: &'static str = "value";
}

/// `dicts.dict`.
struct Dict;

impl Object for Dict {
    const KIND: ObjectKind = ObjectKind::Dict;
    const NAME: &'static str = "dict";
}

/// `queues.item`.
#[derive(ComponentType, Lower)]
#[component(record)]
struct Item {
    data: Vec<u8>,
    redelivered: bool,
}

impl From<spec::Item> for Item {
    fn from(item: spec::Item) -> Item {
        Item { data: item.data.0, redelivered: item.redelivered }
    }
}

/// `queues.status`.
#[derive(ComponentType, Lower)]
#[component(record)]
struct QueueStatus {
    len: u64,
    #[component(name = "max-len")]
    max_len: Option<u64>,
    unfinished: u64,
    closed: bool,
}

/// `waiting.waitable`.
#[derive(ComponentType, Lift)]
#[component(variant)]
enum Waitable {
    #[component(name = "queue")]
    Queue(Resource<Queue>),
    #[component(name = "connection")]
    Connection(Resource<Connection>),
}

/// `values.content`.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum Content {
    #[component(name = "integer")]
    Integer(i64),
    #[component(name = "bytes")]
    Bytes(Vec<u8>),
}

/// Adds an interface of the package to a linker.
pub(crate) fn add_to_linker(linker: &mut Linker<Ctx>, interface: &str) -> wasmtime::Result<()> {
    match interface {
        "wpool:ipc/queues" => add_queues(linker),
        "wpool:ipc/connections" => add_connections(linker),
        "wpool:ipc/waiting" => linker.instance("wpool:ipc/waiting@0.1.0")?.func_wrap("wait", wait),
        "wpool:ipc/values" => add_values(linker),
        "wpool:ipc/dicts" => add_dicts(linker),
        // Names of types only.
        _ => Ok(()),
    }
}

fn add_queues(linker: &mut Linker<Ctx>) -> wasmtime::Result<()> {
    type This = Resource<Queue>;
    let mut queues = linker.instance("wpool:ipc/queues@0.1.0")?;
    add_object::<Queue>(&mut queues)?;
    queues.func_wrap("[method]queue.put", put_one)?;
    queues.func_wrap("[method]queue.put-many", put_many)?;
    queues.func_wrap("[method]queue.get", |guest, (this, timeout): (This, Option<u64>)| {
        on(&guest, &this, timeout, Act::Get { most: 1, longest: room(&guest) }, one_item)
    })?;
    queues.func_wrap("[method]queue.get-many", get_many)?;
    queues.func_wrap("[method]queue.status", |guest, (this,): (This,)| {
        on(&guest, &this, None, Act::Status, queue_status)
    })?;
    queues.func_wrap("[method]queue.task-done", |guest, (this, count): (This, u32)| {
        on(&guest, &this, None, Act::TaskDone { count }, done)
    })?;
    queues.func_wrap("[method]queue.join", |guest, (this, timeout): (This, Option<u64>)| {
        on(&guest, &this, timeout, Act::Join, done)
    })?;
    queues
        .func_wrap("[method]queue.close", |guest, (this,): (This,)| on(&guest, &this, None, Act::Close, done))
}

/// Bytes that the guest can take at most. What is longer stays where it is: in the guest it would not fit.
fn room(guest: &Guest<'_>) -> u64 {
    guest.data().limiter.memory_max().min(ITEM_LEN_MAX as u64)
}

fn one_item(answer: Answer) -> Option<Item> {
    items(answer)?.pop()
}

fn items(answer: Answer) -> Option<Vec<Item>> {
    match answer {
        Answer::Items { items } if !items.is_empty() => Some(items.into_iter().map(Item::from).collect()),
        _ => None,
    }
}

fn queue_status(answer: Answer) -> Option<QueueStatus> {
    match answer {
        Answer::Queue(spec::QueueStatus { len, max_len, unfinished, is_closed }) => {
            Some(QueueStatus { len, max_len, unfinished, closed: is_closed })
        }
        _ => None,
    }
}

fn put_one(
    guest: Guest<'_>,
    (this, data, timeout): (Resource<Queue>, WasmList<u8>, Option<u64>),
) -> HostResult<()> {
    if let Err(error) = check_len("an item", data.len()) {
        return Ok((Err(error),));
    }
    let one = |answer| (count(answer) == Some(1)).then_some(());
    put(&guest, &this, timeout, [data.as_le_slice(&guest)].into_iter(), one)
}

/// Puts items, in as many requests as are needed. After the first one an error only ends this: the next call
/// of the guest meets it as well.
fn put_many(
    mut guest: Guest<'_>,
    (this, items, timeout): (Resource<Queue>, WasmList<WasmList<u8>>, Option<u64>),
) -> HostResult<u32> {
    let begun = Instant::now();
    let mut total = 0;
    while total < items.len() {
        let timeout = rest(timeout, begun);
        let some = match next_items(&mut guest, &items, total)? {
            Ok(some) => some,
            Err(_) if total > 0 => break,
            Err(error) => return Ok((Err(error),)),
        };
        let slices = some.iter().map(|item| item.as_le_slice(&guest));
        let put_some = |answer| usize::try_from(count(answer)?).ok().filter(|count| *count <= some.len());
        match put(&guest, &this, timeout, slices, put_some)?.0 {
            Ok(count) => {
                total += count;
                if count < some.len() {
                    break;
                }
            }
            Err(_) if total > 0 => break,
            Err(error) => return Ok((Err(error),)),
        }
    }
    let total = u32::try_from(total).expect("the guest has told the number as a u32");
    Ok((Ok(total),))
}

/// What is left of the time-out of a call that makes several requests.
fn rest(timeout: Option<u64>, begun: Instant) -> Option<u64> {
    let passed = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    timeout.map(|timeout| timeout.saturating_sub(passed))
}

/// The items from `from` on that fit into one request. An error if the first of them does not.
fn next_items(
    guest: &mut Guest<'_>,
    items: &WasmList<WasmList<u8>>,
    from: usize,
) -> wasmtime::Result<Result<Vec<WasmList<u8>>, Error>> {
    let mut some = Vec::new();
    let mut room = ITEM_LEN_MAX;
    for at in from..items.len().min(from + ITEMS_MAX) {
        let item = items.get(&mut *guest, at).expect("the index is less than the length")?;
        match room.checked_sub(item.len()) {
            Some(left) => room = left,
            None if some.is_empty() => return Ok(check_len("an item", item.len()).map(|()| some)),
            None => break,
        }
        some.push(item);
    }
    Ok(Ok(some))
}

/// Takes items, a quarter of the guest's memory at most. A longer item comes alone.
fn get_many(
    guest: Guest<'_>,
    (this, most, timeout): (Resource<Queue>, u32, Option<u64>),
) -> HostResult<Vec<Item>> {
    if most == 0 {
        return Ok((Err(Error::new(Code::Invalid, "0 items are asked for")),));
    }
    let most = most.min(u32::try_from(ITEMS_MAX).expect("the cap is small"));
    let begun = Instant::now();
    let some = on(&guest, &this, timeout, Act::Get { most, longest: room(&guest) / 4 }, items)?;
    match some.0 {
        Err(Error { code: ErrorCode::TooLarge, .. }) => {
            let act = Act::Get { most: 1, longest: room(&guest) };
            on(&guest, &this, rest(timeout, begun), act, items)
        }
        _ => Ok(some),
    }
}

fn add_connections(linker: &mut Linker<Ctx>) -> wasmtime::Result<()> {
    type This = Resource<Connection>;
    let mut connections = linker.instance("wpool:ipc/connections@0.1.0")?;
    add_object::<Connection>(&mut connections)?;
    connections.func_wrap("[method]connection.send", send)?;
    connections.func_wrap(
        "[method]connection.recv",
        |guest, (this, max_len, timeout): (This, Option<u64>, Option<u64>)| {
            let longest = room(&guest).min(max_len.unwrap_or(u64::MAX));
            on(&guest, &this, timeout, Act::Get { most: 1, longest }, |answer| Some(one_item(answer)?.data))
        },
    )?;
    connections.func_wrap("[method]connection.poll", |guest, (this, timeout): (This, Option<u64>)| {
        on(&guest, &this, timeout, Act::Poll, flag)
    })?;
    connections.func_wrap("[method]connection.close", |guest, (this,): (This,)| {
        on(&guest, &this, None, Act::Close, done)
    })
}

fn send(
    guest: Guest<'_>,
    (this, data, timeout): (Resource<Connection>, WasmList<u8>, Option<u64>),
) -> HostResult<()> {
    if let Err(error) = check_len("a message", data.len()) {
        return Ok((Err(error),));
    }
    let one = |answer| (count(answer) == Some(1)).then_some(());
    put(&guest, &this, timeout, [data.as_le_slice(&guest)].into_iter(), one)
}

fn wait(mut guest: Guest<'_>, (objects, timeout): (WasmList<Waitable>, Option<u64>)) -> HostResult<Vec<u32>> {
    if !(1..=WAIT_MAX).contains(&objects.len()) {
        let message = format!("a wait for {} objects: it can be for 1 to {WAIT_MAX}", objects.len());
        return Ok((Err(Error::new(Code::Invalid, message)),));
    }
    let indexes: wasmtime::Result<Vec<_>> = objects
        .iter(&mut guest)?
        .map(|object| match object? {
            Waitable::Queue(queue) => Ok(queue.rep()),
            Waitable::Connection(connection) => Ok(connection.rep()),
        })
        .collect();
    ask(&guest, timeout, Op::Wait { objects: indexes? }, |answer| match answer {
        Answer::Ready(ready) => Some(ready),
        _ => None,
    })
}

fn add_values(linker: &mut Linker<Ctx>) -> wasmtime::Result<()> {
    type This = Resource<Value>;
    let mut values = linker.instance("wpool:ipc/values@0.1.0")?;
    add_object::<Value>(&mut values)?;
    values.func_wrap("[method]value.get", |guest, (this,): (This,)| {
        on(&guest, &this, None, Act::Load, content)
    })?;
    values.func_wrap("[method]value.set", |guest, (this, content): (This, Content)| {
        match content.checked(0) {
            Ok(content) => on(&guest, &this, None, Act::Store { content }, done),
            Err(error) => Ok((Err(error),)),
        }
    })?;
    values.func_wrap("[method]value.add", |guest, (this, amount): (This, i64)| {
        on(&guest, &this, None, Act::Add { amount }, |answer| match content(answer)? {
            Content::Integer(sum) => Some(sum),
            Content::Bytes(_) => None,
        })
    })?;
    values.func_wrap(
        "[method]value.compare-exchange",
        |guest, (this, expected, new): (This, Content, Content)| {
            let beside = new.len();
            match (expected.checked(beside), new.checked(0)) {
                (Ok(expected), Ok(new)) => on(&guest, &this, None, Act::Swap { expected, new }, content),
                (Err(error), _) | (_, Err(error)) => Ok((Err(error),)),
            }
        },
    )
}

fn content(answer: Answer) -> Option<Content> {
    match answer {
        Answer::Content(spec::Content::Integer(number)) => Some(Content::Integer(number)),
        Answer::Content(spec::Content::Bytes(bytes)) => Some(Content::Bytes(bytes.0)),
        _ => None,
    }
}

impl Content {
    fn len(&self) -> usize {
        match self {
            Content::Integer(_) => 0,
            Content::Bytes(bytes) => bytes.len(),
        }
    }

    /// The content for a request that holds `beside` bytes more.
    fn checked(self, beside: usize) -> Result<spec::Content, Error> {
        check_len("a value", self.len().saturating_add(beside))?;
        Ok(match self {
            Content::Integer(number) => spec::Content::Integer(number),
            Content::Bytes(bytes) => spec::Content::Bytes(Bytes(bytes)),
        })
    }
}

fn add_dicts(linker: &mut Linker<Ctx>) -> wasmtime::Result<()> {
    type This = Resource<Dict>;
    let mut dicts = linker.instance("wpool:ipc/dicts@0.1.0")?;
    add_object::<Dict>(&mut dicts)?;
    dicts.func_wrap("[method]dict.get", |guest, (this, key): (This, WasmStr)| {
        on_key(&guest, &this, &key, &[], |key| Act::Look { key })
    })?;
    dicts.func_wrap("[method]dict.put", |guest, (this, key, data): (This, WasmStr, Vec<u8>)| {
        on_key(&guest, &this, &key, &[data.len()], |key| Act::Enter { key, data: Some(Bytes(data)) })
    })?;
    dicts.func_wrap("[method]dict.remove", |guest, (this, key): (This, WasmStr)| {
        on_key(&guest, &this, &key, &[], |key| Act::Enter { key, data: None })
    })?;
    dicts.func_wrap("[method]dict.keys", |guest, (this,): (This,)| {
        on(&guest, &this, None, Act::Keys, |answer| match answer {
            Answer::Keys(keys) => Some(keys),
            _ => None,
        })
    })?;
    dicts
        .func_wrap("[method]dict.len", |guest, (this,): (This,)| on(&guest, &this, None, Act::Len, count))?;
    dicts.func_wrap(
        "[method]dict.compare-exchange",
        |guest, (this, key, expected, new): (This, WasmStr, Option<Vec<u8>>, Option<Vec<u8>>)| {
            let lens = [&expected, &new].map(|data| data.as_ref().map_or(0, Vec::len));
            on_key(&guest, &this, &key, &lens, |key| Act::SwapEntry {
                key,
                expected: expected.map(Bytes),
                new: new.map(Bytes),
            })
        },
    )
}

/// Does something with an entry. `lens`: the lengths of the data that `act` holds.
fn on_key(
    guest: &Guest<'_>,
    this: &Resource<Dict>,
    key: &WasmStr,
    lens: &[usize],
    act: impl FnOnce(String) -> Act,
) -> HostResult<Option<Vec<u8>>> {
    let key = key.to_str(guest)?;
    if key.len() > KEY_LEN_MAX {
        return Ok((Err(Error::too_large("a key", key.len(), KEY_LEN_MAX)),));
    }
    if let Err(error) = check_len("an entry", lens.iter().fold(0, |sum, len| sum.saturating_add(*len))) {
        return Ok((Err(error),));
    }
    on(guest, this, None, act(key.into_owned()), |answer| match answer {
        Answer::Entry(entry) => Some(entry.map(|bytes| bytes.0)),
        _ => None,
    })
}
