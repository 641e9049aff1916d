//! `wpool:ipc` within this process.

use std::collections::{BTreeMap, VecDeque};

use errors::{Code, Error};

use super::{Objects, error, invalid, now, wait};

/// A queue.
#[derive(Debug)]
pub(super) struct QueueState {
    items: VecDeque<Vec<u8>>,
    max_len: Option<u64>,
    /// Counted in a joinable queue only.
    unfinished: u64,
    is_joinable: bool,
    is_closed: bool,
}

impl QueueState {
    pub(super) fn new(max_len: Option<u64>, is_joinable: bool) -> Self {
        QueueState { items: VecDeque::new(), max_len, unfinished: 0, is_joinable, is_closed: false }
    }

    fn len(&self) -> u64 {
        self.items.len() as u64
    }

    /// Puts an item if there is room. `None`: there is none now.
    fn put(&mut self, data: &[u8]) -> Option<Result<(), Error>> {
        if self.is_closed {
            return Some(Err(closed("queue")));
        }
        if self.max_len.is_some_and(|max| self.len() >= max) {
            return None;
        }
        self.items.push_back(data.to_vec());
        self.unfinished += u64::from(self.is_joinable);
        Some(Ok(()))
    }

    /// The next item. `None`: there is none now.
    fn get(&mut self) -> Option<Result<queues::Item, Error>> {
        match self.items.pop_front() {
            Some(data) => Some(Ok(queues::Item { data, redelivered: false })),
            None => self.is_closed.then(|| Err(closed("queue"))),
        }
    }

    fn is_ready(&self) -> bool {
        self.is_closed || !self.items.is_empty()
    }

    fn joinable(&mut self) -> Result<&mut Self, Error> {
        if self.is_joinable { Ok(self) } else { Err(invalid("the queue is not joinable")) }
    }
}

/// A pipe: for each side the messages to it, and whether it is closed.
#[derive(Debug, Default)]
pub(super) struct PipeState([SideState; 2]);

#[derive(Debug, Default)]
struct SideState {
    inbox: VecDeque<Vec<u8>>,
    is_closed: bool,
}

/// One end of a pipe.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) pipe: usize,
    pub(super) side: usize,
}

/// A dict.
pub(super) type DictState = BTreeMap<String, Vec<u8>>;

/// The content of a new value: a number, or else a text.
pub(super) fn first_content(text: &str) -> values::Content {
    match text.parse() {
        Ok(number) => values::Content::Integer(number),
        Err(_) => values::Content::Bytes(text.into()),
    }
}

fn closed(object: &str) -> Error {
    error(Code::Closed, format!("the {object} is closed"))
}

pub(crate) mod errors {
    #[derive(Debug, Clone, Copy)]
    pub(crate) enum Code {
        NotGranted,
        TimedOut,
        Closed,
        Eof,
        TooLarge,
        Invalid,
        Broken,
        Deadlock,
    }

    #[derive(Debug)]
    pub(crate) struct Error {
        pub(crate) code: Code,
        pub(crate) message: String,
    }
}

pub(crate) mod queues {
    use super::{Error, QueueState, invalid, now, wait};

    #[derive(Debug)]
    pub(crate) struct Queue(pub(super) usize);

    #[derive(Debug)]
    pub(crate) struct Item {
        pub(crate) data: Vec<u8>,
        pub(crate) redelivered: bool,
    }

    #[derive(Debug)]
    pub(crate) struct Status {
        pub(crate) len: u64,
        pub(crate) max_len: Option<u64>,
        pub(crate) unfinished: u64,
        pub(crate) closed: bool,
    }

    impl Queue {
        pub(crate) fn open(name: &str) -> Result<Self, Error> {
            now(|objects| objects.queues.open(name)).map(Queue)
        }

        pub(crate) fn put(&self, data: &[u8], timeout: Option<u64>) -> Result<(), Error> {
            wait(timeout, |objects| objects.queues.at(self.0).put(data))
        }

        pub(crate) fn put_many(&self, items: &[Vec<u8>], timeout: Option<u64>) -> Result<u32, Error> {
            let mut done = 0;
            for item in items {
                match self.put(item, timeout) {
                    Ok(()) => done += 1,
                    Err(_) if done > 0 => break,
                    Err(error) => return Err(error),
                }
            }
            Ok(done)
        }

        pub(crate) fn get(&self, timeout: Option<u64>) -> Result<Item, Error> {
            wait(timeout, |objects| objects.queues.at(self.0).get())
        }

        pub(crate) fn get_many(&self, most: u32, timeout: Option<u64>) -> Result<Vec<Item>, Error> {
            if most == 0 {
                return Err(invalid("no item is asked for"));
            }
            let mut items = vec![self.get(timeout)?];
            while items.len() < most as usize {
                let Some(Ok(item)) = now(|objects| objects.queues.at(self.0).get()) else { break };
                items.push(item);
            }
            Ok(items)
        }

        pub(crate) fn status(&self) -> Result<Status, Error> {
            now(|objects| {
                let queue = objects.queues.at(self.0);
                Ok(Status {
                    len: queue.len(),
                    max_len: queue.max_len,
                    unfinished: queue.unfinished,
                    closed: queue.is_closed,
                })
            })
        }

        pub(crate) fn task_done(&self, count: u32) -> Result<(), Error> {
            now(|objects| {
                let queue = objects.queues.at(self.0).joinable()?;
                let left = queue.unfinished.checked_sub(count.into());
                queue.unfinished = left.ok_or_else(|| invalid("task_done was called too often"))?;
                Ok(())
            })
        }

        pub(crate) fn join(&self, timeout: Option<u64>) -> Result<(), Error> {
            let is_done = |queue: &mut QueueState| (queue.unfinished == 0).then_some(());
            wait(timeout, |objects| objects.queues.at(self.0).joinable().map(is_done).transpose())
        }

        pub(crate) fn close(&self) -> Result<(), Error> {
            now(|objects| objects.queues.at(self.0).is_closed = true);
            Ok(())
        }
    }
}

pub(crate) mod connections {
    use super::{Code, End, Error, Objects, SideState, closed, error, now, wait};

    #[derive(Debug)]
    pub(crate) struct Connection(End);

    /// This side and the other one.
    fn sides(objects: &mut Objects, End { pipe, side }: End) -> (&mut SideState, &mut SideState) {
        let [first, second] = &mut objects.pipes[pipe].0;
        if side == 0 { (first, second) } else { (second, first) }
    }

    impl Connection {
        pub(crate) fn open(name: &str) -> Result<Self, Error> {
            now(|objects| objects.ends.open(name).map(|at| Connection(*objects.ends.at(at))))
        }

        pub(crate) fn send(&self, data: &[u8], _timeout: Option<u64>) -> Result<(), Error> {
            now(|objects| {
                let (this, other) = sides(objects, self.0);
                if this.is_closed {
                    return Err(closed("connection"));
                }
                if other.is_closed {
                    return Err(error(Code::Closed, "the other end is closed".into()));
                }
                other.inbox.push_back(data.to_vec());
                Ok(())
            })
        }

        pub(crate) fn recv(&self, max_len: Option<u64>, timeout: Option<u64>) -> Result<Vec<u8>, Error> {
            wait(timeout, |objects| {
                let (this, other) = sides(objects, self.0);
                if this.is_closed {
                    return Some(Err(closed("connection")));
                }
                match this.inbox.pop_front() {
                    Some(data) if max_len.is_some_and(|max| data.len() as u64 > max) => {
                        Some(Err(error(Code::TooLarge, format!("the message has {} bytes", data.len()))))
                    }
                    Some(data) => Some(Ok(data)),
                    None => other.is_closed.then(|| Err(error(Code::Eof, "the other end is closed".into()))),
                }
            })
        }

        pub(crate) fn poll(&self, timeout: Option<u64>) -> Result<bool, Error> {
            match wait(timeout, |objects| self.is_ready(objects).then_some(Ok(()))) {
                Ok(()) => Ok(true),
                Err(_) => Ok(false),
            }
        }

        pub(super) fn is_ready(&self, objects: &mut Objects) -> bool {
            let (this, other) = sides(objects, self.0);
            this.is_closed || other.is_closed || !this.inbox.is_empty()
        }

        pub(crate) fn close(&self) -> Result<(), Error> {
            now(|objects| sides(objects, self.0).0.is_closed = true);
            Ok(())
        }
    }
}

pub(crate) mod waiting {
    use super::connections::Connection;
    use super::queues::Queue;
    use super::{Error, Objects, invalid, wait as wait_until};

    #[derive(Debug)]
    pub(crate) enum Waitable<'a> {
        Queue(&'a Queue),
        Connection(&'a Connection),
    }

    impl Waitable<'_> {
        fn is_ready(&self, objects: &mut Objects) -> bool {
            match self {
                Waitable::Queue(queue) => objects.queues.at(queue.0).is_ready(),
                Waitable::Connection(connection) => connection.is_ready(objects),
            }
        }
    }

    pub(crate) fn wait(waitables: &[Waitable<'_>], timeout: Option<u64>) -> Result<Vec<u32>, Error> {
        if waitables.is_empty() {
            return Err(invalid("there is no object to wait for"));
        }
        let ready = wait_until(timeout, |objects| {
            let ready = (0..).zip(waitables).filter(|(_, waitable)| waitable.is_ready(objects));
            let ready: Vec<u32> = ready.map(|(at, _)| at).collect();
            (!ready.is_empty()).then_some(Ok(ready))
        });
        // The only error is the time-out.
        Ok(ready.unwrap_or_default())
    }
}

pub(crate) mod values {
    use super::{Error, invalid, now};

    #[derive(Debug, Clone, PartialEq)]
    pub(crate) enum Content {
        Integer(i64),
        Bytes(Vec<u8>),
    }

    #[derive(Debug)]
    pub(crate) struct Value(usize);

    impl Value {
        pub(crate) fn open(name: &str) -> Result<Self, Error> {
            now(|objects| objects.values.open(name)).map(Value)
        }

        pub(crate) fn get(&self) -> Result<Content, Error> {
            now(|objects| Ok(objects.values.at(self.0).clone()))
        }

        pub(crate) fn set(&self, content: &Content) -> Result<(), Error> {
            now(|objects| objects.values.at(self.0).clone_from(content));
            Ok(())
        }

        pub(crate) fn add(&self, amount: i64) -> Result<i64, Error> {
            now(|objects| match objects.values.at(self.0) {
                Content::Integer(number) => {
                    *number = number.wrapping_add(amount);
                    Ok(*number)
                }
                Content::Bytes(_) => Err(invalid("the value is bytes, not a number")),
            })
        }

        pub(crate) fn compare_exchange(&self, expected: &Content, new: &Content) -> Result<Content, Error> {
            now(|objects| {
                let value = objects.values.at(self.0);
                let found = value.clone();
                if found == *expected {
                    value.clone_from(new);
                }
                Ok(found)
            })
        }
    }
}

pub(crate) mod dicts {
    use super::{DictState, Error, now};

    #[derive(Debug)]
    pub(crate) struct Dict(usize);

    impl Dict {
        pub(crate) fn open(name: &str) -> Result<Self, Error> {
            now(|objects| objects.dicts.open(name)).map(Dict)
        }

        pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
            self.with(|dict| dict.get(key).cloned())
        }

        pub(crate) fn put(&self, key: &str, data: &[u8]) -> Result<Option<Vec<u8>>, Error> {
            self.with(|dict| dict.insert(key.to_owned(), data.to_vec()))
        }

        pub(crate) fn remove(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
            self.with(|dict| dict.remove(key))
        }

        pub(crate) fn keys(&self) -> Result<Vec<String>, Error> {
            self.with(|dict| dict.keys().cloned().collect())
        }

        pub(crate) fn len(&self) -> Result<u64, Error> {
            self.with(|dict| dict.len() as u64)
        }

        pub(crate) fn compare_exchange(
            &self,
            key: &str,
            expected: Option<&[u8]>,
            new: Option<&[u8]>,
        ) -> Result<Option<Vec<u8>>, Error> {
            self.with(|dict| {
                let found = dict.get(key).cloned();
                if found.as_deref() == expected {
                    match new {
                        Some(new) => dict.insert(key.to_owned(), new.to_vec()),
                        None => dict.remove(key),
                    };
                }
                found
            })
        }

        fn with<T>(&self, step: impl FnOnce(&mut DictState) -> T) -> Result<T, Error> {
            Ok(now(|objects| step(objects.dicts.at(self.0))))
        }
    }
}
