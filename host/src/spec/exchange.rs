//! What crosses the second socket of a worker: what a guest asks of the shared objects in the middle of a
//! task, and the answers.
//!
//! A worker has one open request at most: the guest waits in a call to the host. The names are those of
//! `wit/ipc` and `wit/sync`.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// What kind of object a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum ObjectKind {
    Queue,
    Connection,
    Lock,
    RLock,
    Semaphore,
    Event,
    Condition,
    Barrier,
    Value,
    Dict,
}

/// In messages.
impl std::fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ObjectKind::Queue => "queue",
            ObjectKind::Connection => "connection",
            ObjectKind::Lock => "lock",
            ObjectKind::RLock => "rlock",
            ObjectKind::Semaphore => "semaphore",
            ObjectKind::Event => "event",
            ObjectKind::Condition => "condition",
            ObjectKind::Barrier => "barrier",
            ObjectKind::Value => "value",
            ObjectKind::Dict => "dict",
        })
    }
}

/// A position in the list of the objects that are granted to a worker.
pub(crate) type Granted = u32;

/// A request of a worker, in a frame of the kind `Ask`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ask {
    /// The number of tasks that the worker had started when it asked: the last of them asks. 0 is the
    /// initializer.
    pub(crate) task: u64,
    /// How long the answer may take. `None`: as long as the task may.
    pub(crate) timeout: Option<Duration>,
    /// What is left of the task's time limit.
    pub(crate) left: Option<Duration>,
    pub(crate) op: Op,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Op {
    /// Which object has this name? Answered with `Opened`.
    Open { kind: ObjectKind, name: String },
    /// Do this with an object.
    On { object: Granted, act: Act },
    /// Which of these is ready? Answered with `Ready`.
    Wait {
        #[serde(deserialize_with = "at_most::<_, _, WAIT_MAX>")]
        objects: Vec<Granted>,
    },
    /// Call a function of the application. The arguments are in the wire form of values.
    Call {
        function: u32,
        #[serde(with = "serde_bytes")]
        args: Vec<u8>,
    },
}

/// What is to be done with one object. Each variant fits some kinds; others answer with `Code::Invalid`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Act {
    /// Queue: `Count` of the items that were put. Connection: exactly one message.
    Put {
        #[serde(deserialize_with = "at_most::<_, _, ITEMS_MAX>")]
        items: Vec<Bytes>,
    },
    /// Queue: `Items`, at least one, `most` items and `longest` bytes of all of them at most; a first item
    /// that is longer stays in the queue, and the answer is `TooLarge`. Connection: `Items` with one message;
    /// one that is longer than `longest` is dropped, and the answer is `TooLarge`.
    Get { most: u32, longest: u64 },
    /// Connection: `Flag`, whether `Get` would not wait.
    Poll,
    /// Queue: `Done`.
    TaskDone { count: u32 },
    /// Queue: `Done` once every item is reported as done.
    Join,
    /// Queue, Connection: `Done`.
    Close,
    /// Queue: `Queue`. Lock, RLock: `Flag`, whether it is locked. Semaphore: `Count`. Event: `Flag`.
    /// Barrier: `Barrier`.
    Status,
    /// Lock, RLock, Condition: `Acquired`. Semaphore: `Done`.
    Acquire,
    /// Lock, RLock, Condition: `Done`; `count` is 1. Semaphore: `Done`.
    Release { count: u32 },
    /// Event: `Flag`, `false` for a time-out. Condition: the same, with the lock held again. Barrier:
    /// `Count`, the caller's number.
    Wait,
    /// Event: `Done`.
    Set,
    /// Event: `Done`.
    Clear,
    /// Condition: `Done`.
    Notify { count: u32 },
    /// Barrier: `Done`.
    Abort,
    /// Barrier: `Done`.
    Reset,
    /// Value: `Content`.
    Load,
    /// Value: `Done`.
    Store { content: Content },
    /// Value: `Content`, the sum.
    Add { amount: i64 },
    /// Value: `Content`, what it was.
    Swap { expected: Content, new: Content },
    /// Dict: `Entry`.
    Look { key: String },
    /// Dict: `Entry`, what was there. `None` removes.
    Enter { key: String, data: Option<Bytes> },
    /// Dict: `Entry`, what was there.
    SwapEntry { key: String, expected: Option<Bytes>, new: Option<Bytes> },
    /// Dict: `Keys`.
    Keys,
    /// Dict: `Count`.
    Len,
}

/// Bytes of an item, a message or an entry.
#[derive(Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Bytes(#[serde(with = "serde_bytes")] pub(crate) Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Items may be long, and are other people's.
        write!(f, "{} bytes", self.0.len())
    }
}

/// What a value holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Content {
    Integer(i64),
    Bytes(Bytes),
}

/// The answer to an [`Ask`], in a frame of the kind `Answer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    Opened {
        object: Granted,
    },
    Items {
        items: Vec<Item>,
    },
    Count(u64),
    Flag(bool),
    Queue(QueueStatus),
    Barrier(BarrierStatus),
    Acquired {
        owner_died: bool,
    },
    Content(Content),
    Entry(Option<Bytes>),
    Keys(Vec<String>),
    Ready(Vec<u32>),
    /// The function's result, in the wire form of values.
    Returned(Bytes),
    /// The function's import has no error value for this: the guest traps with the message.
    Trapped {
        message: String,
    },
    Failed {
        code: Code,
        message: String,
    },
    /// The task must end: its time is over.
    TimeIsOver,
    /// The task must end: it is not wanted any more.
    Cancelled,
}

/// One item of a queue, or one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) data: Bytes,
    /// It was given to a task that did not take it.
    pub(crate) redelivered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueueStatus {
    pub(crate) len: u64,
    pub(crate) max_len: Option<u64>,
    pub(crate) unfinished: u64,
    pub(crate) is_closed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BarrierStatus {
    pub(crate) parties: u32,
    pub(crate) waiting: u32,
    pub(crate) is_broken: bool,
}

/// Why an act failed: `wpool:ipc/errors`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

/// Reads a list of at most `MOST` elements. Nothing is allocated for the others: in the memory of the reader
/// an empty element is many times as long as on the wire.
fn at_most<'de, D, T, const MOST: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Most<T, const MOST: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Most<T, MOST> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MOST} elements")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
            let mut taken = Vec::new();
            while let Some(element) = elements.next_element()? {
                if taken.len() == MOST {
                    return Err(de::Error::custom("too many elements"));
                }
                taken.push(element);
            }
            Ok(taken)
        }
    }

    deserializer.deserialize_seq(Most::<T, MOST>(PhantomData))
}

/// Bytes of a request.
pub(crate) const ASK_LEN_MAX: usize = ITEM_LEN_MAX + (1 << 20);
/// The credit that a worker is given at most: what it may post to a queue before it asks again.
pub(crate) const CREDIT_MAX: u64 = 256 << 10;

/// The credit that a posted item takes. Short items take memory beside their bytes.
pub(crate) fn cost(len: usize) -> u64 {
    len as u64 + 32
}

/// Bytes of one item, message or entry.
pub(crate) const ITEM_LEN_MAX: usize = 64 << 20;
/// Items in one request.
pub(crate) const ITEMS_MAX: usize = 4096;
/// Bytes of an object's name.
pub(crate) const NAME_LEN_MAX: usize = 256;
/// Bytes of a dict's key.
pub(crate) const KEY_LEN_MAX: usize = 1 << 10;
/// Objects in one `Wait`.
pub(crate) const WAIT_MAX: usize = 64;
