//! Two processes and what is between them: the words of Python's `multiprocessing`.
//!
//! The record is the role of the process. The writer puts words into the queue `words`. The reader sends each
//! to the host through the pipe whose end is `to_host`. Both count them in the value `moved`.
#![forbid(unsafe_code)]

use wpool_guest::ipc::{Connection, Error, Queue, Value};
use wpool_guest::process;
use wpool_guest::sync::{Lock, RLock};

const WORDS: [&str; 6] = ["Process", "Pool", "Queue", "Pipe", "Lock", "RLock"];

#[wpool_guest::task]
fn run(role: &str) -> Result<(), String> {
    let result = match role {
        "writer" => write(),
        "reader" => read(),
        other => return Err(format!("{other:?} is neither writer nor reader")),
    };
    result.map_err(|error| error.to_string())
}

/// Puts all words. No other writer's words come between them.
fn write() -> Result<(), Error> {
    let (words, turns) = (Queue::<String>::open("words")?, RLock::open("turns")?);
    let _all = turns.acquire()?;
    for word in WORDS {
        write_one(&words, &turns, word)?;
    }
    words.close()
}

/// Puts one word, in its own turn or in that of the caller: the lock is recursive.
fn write_one(words: &Queue<String>, turns: &RLock, word: &str) -> Result<(), Error> {
    let _one = turns.acquire()?;
    words.put(word)?;
    count()
}

/// Sends all words to the host, until the queue is closed and empty.
fn read() -> Result<(), Error> {
    let (words, host) = (Queue::<String>::open("words")?, Connection::<String>::open("to_host")?);
    for word in &words {
        host.send(format!("{} got {}", process::name(), word?))?;
        count()?;
    }
    host.close()
}

/// Counts one word.
fn count() -> Result<(), Error> {
    let (lock, moved) = (Lock::open("counting")?, Value::<i64>::open("moved")?);
    let _guard = lock.acquire()?;
    // Two steps. Without the lock, the other process might come between them.
    moved.set(moved.get()? + 1)
}
