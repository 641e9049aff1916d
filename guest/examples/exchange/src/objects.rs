//! The steps that use an object and hold nothing.

use wpool_guest::ipc::{self, Connection, Delivery, Dict, JoinableQueue, Queue, Value, Waitable};
use wpool_guest::sync::{Barrier, Event, Semaphore};

use crate::{Failure, Step, Timeout, unknown};

pub(crate) fn run(step: &Step<'_>) -> Result<String, Failure> {
    match step.command {
        "put" | "put-many" | "get" | "get-many" | "drain" | "len" | "is-full" | "is-closed" | "close" => {
            queue(step)
        }
        "unfinished" | "task-done" | "join" => joinable_queue(step),
        "send" | "recv" | "recv-max" | "poll" | "hang-up" => connection(step),
        "wait" => wait(step),
        "load" | "store" | "add" | "swap" | "load-text" | "store-text" => value(step),
        "look" | "enter" | "remove" | "keys" | "count" | "swap-entry" | "increment" => dict(step),
        "set" | "clear" | "is-set" | "await" => event(step),
        "meet" | "abort" | "reset" | "barrier" => barrier(step),
        "give" => shown(Semaphore::open(step.word(0)?)?.release(step.number(1)?)?),
        other => Err(unknown(&format!("no command: {other}"))),
    }
}

/// What a step gives as text.
trait Shown {
    fn shown(self) -> String;
}

impl Shown for () {
    fn shown(self) -> String {
        String::new()
    }
}

impl Shown for String {
    fn shown(self) -> String {
        self
    }
}

impl Shown for Vec<String> {
    fn shown(self) -> String {
        self.join(",")
    }
}

impl<T: Shown> Shown for Option<T> {
    fn shown(self) -> String {
        self.map_or_else(|| "none".into(), Shown::shown)
    }
}

impl Shown for Delivery<String> {
    fn shown(self) -> String {
        let mark = if self.redelivered { "*" } else { "" };
        format!("{mark}{}", self.item)
    }
}

macro_rules! displayed {
    ($($type:ident)*) => {$(
        impl Shown for $type {
            fn shown(self) -> String {
                self.to_string()
            }
        }
    )*};
}
displayed!(bool i64 u32 u64 usize);

fn shown(result: impl Shown) -> Result<String, Failure> {
    Ok(result.shown())
}

fn queue(step: &Step<'_>) -> Result<String, Failure> {
    let queue = Queue::<String>::open(step.word(0)?)?;
    let words = || step.text().split_whitespace();
    match (step.command, step.timeout) {
        ("put", Timeout::None) => shown(queue.put(step.text())?),
        ("put", Timeout::Now) => shown(queue.try_put(step.text())?),
        ("put", Timeout::After(time)) => shown(queue.put_timeout(step.text(), time)?),
        ("put-many", Timeout::Now) => shown(queue.try_put_many(words())?),
        ("put-many", _) => shown(queue.put_many(words())?),
        ("get", Timeout::Now) => shown(queue.try_get()?),
        ("get", timeout) => shown(queue.get_delivery(timeout.duration())?),
        ("get-many", timeout) => match timeout.duration() {
            None => shown(queue.get_many(step.number(1)?)?),
            Some(time) => shown(queue.get_many_timeout(step.number(1)?, time)?),
        },
        ("drain", _) => shown(queue.iter().collect::<Result<Vec<_>, _>>()?),
        ("len", _) => shown(queue.len()?),
        ("is-full", _) => shown(queue.is_full()?),
        ("is-closed", _) => shown(queue.is_closed()?),
        _ => shown(queue.close()?),
    }
}

fn joinable_queue(step: &Step<'_>) -> Result<String, Failure> {
    let queue = JoinableQueue::<String>::open(step.word(0)?)?;
    match (step.command, step.timeout.duration()) {
        ("task-done", _) => shown(queue.task_done()?),
        ("unfinished", _) => shown(queue.unfinished()?),
        (_, Some(time)) => shown(queue.join_timeout(time)?),
        (_, None) => shown(queue.join()?),
    }
}

fn connection(step: &Step<'_>) -> Result<String, Failure> {
    let end = Connection::<String>::open(step.word(0)?)?;
    match (step.command, step.timeout) {
        ("send", Timeout::None) => shown(end.send(step.text())?),
        ("send", Timeout::Now) => shown(end.try_send(step.text())?),
        ("send", Timeout::After(time)) => shown(end.send_timeout(step.text(), time)?),
        ("recv", Timeout::None) => shown(end.recv()?),
        ("recv", Timeout::Now) => shown(end.try_recv()?),
        ("recv", Timeout::After(time)) => shown(end.recv_timeout(time)?),
        ("recv-max", _) => shown(end.recv_max(step.number(1)?)?),
        ("poll", timeout) => shown(end.poll(timeout.duration().unwrap_or_default())?),
        _ => shown(end.close()?),
    }
}

fn wait(step: &Step<'_>) -> Result<String, Failure> {
    let mut objects: Vec<Box<dyn Waitable>> = Vec::new();
    for at in 0..step.rest.split_whitespace().count() {
        objects.push(match step.kind_and_name(at)? {
            ("queue", name) => Box::new(Queue::<String>::open(name)?),
            (_, name) => Box::new(Connection::<String>::open(name)?),
        });
    }
    let objects: Vec<&dyn Waitable> = objects.iter().map(|object| &**object).collect();
    let ready = ipc::wait(&objects, step.timeout.duration())?;
    shown(ready.iter().map(usize::to_string).collect::<Vec<_>>())
}

fn value(step: &Step<'_>) -> Result<String, Failure> {
    let name = step.word(0)?;
    match step.command {
        "load-text" => return shown(Value::<String>::open(name)?.get()?),
        "store-text" => return shown(Value::<String>::open(name)?.set(step.text())?),
        _ => {}
    }
    let value = Value::<i64>::open(name)?;
    match step.command {
        "load" => shown(value.get()?),
        "store" => shown(value.set(step.number::<i64>(1)?)?),
        "add" => shown(value.add(step.number(1)?)?),
        _ => shown(value.compare_exchange(step.number::<i64>(1)?, step.number::<i64>(2)?)?),
    }
}

fn dict(step: &Step<'_>) -> Result<String, Failure> {
    let dict = Dict::<String>::open(step.word(0)?)?;
    match step.command {
        "keys" => return shown(dict.keys()?),
        "count" => return shown(dict.len()?),
        _ => {}
    }
    let key = step.word(1)?;
    let entry = |at| -> Result<_, Failure> {
        let word = step.word(at)?;
        Ok((word != "none").then(|| word.to_owned()))
    };
    match step.command {
        "look" => shown(dict.get(key)?),
        "enter" => shown(dict.put(key, step.word(2)?)?),
        "remove" => shown(dict.remove(key)?),
        "swap-entry" => {
            let (expected, new) = (entry(2)?, entry(3)?);
            shown(dict.compare_exchange(key, expected.as_ref(), new.as_ref())?)
        }
        _ => {
            let dict = Dict::<u64>::open(step.word(0)?)?;
            shown(dict.update(key, |number| Some(number.unwrap_or(0) + 1))?)
        }
    }
}

fn event(step: &Step<'_>) -> Result<String, Failure> {
    let event = Event::open(step.word(0)?)?;
    match (step.command, step.timeout.duration()) {
        ("set", _) => shown(event.set()?),
        ("clear", _) => shown(event.clear()?),
        ("await", None) => shown(event.wait()?),
        ("await", Some(time)) => shown(event.wait_timeout(time)?),
        _ => shown(event.is_set()?),
    }
}

fn barrier(step: &Step<'_>) -> Result<String, Failure> {
    let barrier = Barrier::open(step.word(0)?)?;
    match (step.command, step.timeout.duration()) {
        ("meet", Some(time)) => shown(barrier.wait_timeout(time)?),
        ("meet", None) => shown(barrier.wait()?),
        ("abort", _) => shown(barrier.abort()?),
        ("reset", _) => shown(barrier.reset()?),
        _ => {
            let (parties, waiting) = (barrier.parties()?, barrier.n_waiting()?);
            shown(format!("{parties}/{waiting}/{}", barrier.broken()?))
        }
    }
}
