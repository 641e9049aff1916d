//! Uses shared objects again and again, for the benchmark `exchange`. A record is a command and how often:
//! `put 20000`. The result is the microseconds that each time took, by the guest's own clock.
#![forbid(unsafe_code)]

use std::time::Instant;

use wpool_guest::ipc::{Connection, Error, Queue};
use wpool_guest::sync::{Event, Lock};

/// Bytes of an item.
const LEN: usize = 100;
/// Items of one call in bulk.
const BULK: usize = 256;

#[wpool_guest::task]
fn run(record: String) -> Result<String, String> {
    let (command, count) = record.split_once(' ').ok_or("a record is a command and a number")?;
    let count: u32 = count.parse().map_err(|_| "how often is not a number")?;
    let took = perform(command, count).map_err(|error| error.to_string())?;
    Ok(format!("{took:.4}"))
}

/// Waits until every guest of the measurement is there, then measures.
fn timed(count: u32, mut once: impl FnMut() -> Result<(), Error>) -> Result<f64, Error> {
    Event::open("start")?.wait()?;
    let started = Instant::now();
    for _ in 0..count {
        once()?;
    }
    Ok(started.elapsed().as_secs_f64() * 1e6 / f64::from(count))
}

fn queue(name: &str) -> Result<Queue<Vec<u8>>, Error> {
    Queue::open(name)
}

fn end(name: &str) -> Result<Connection<Vec<u8>>, Error> {
    Connection::open(name)
}

fn perform(command: &str, count: u32) -> Result<f64, Error> {
    let item = vec![b'x'; LEN];
    let bulk = vec![item.clone(); BULK];
    match command {
        "nothing" => Ok(0.0),
        "put" => {
            let items = queue("items")?;
            timed(count, || items.put(&item))
        }
        "get" => {
            let items = queue("items")?;
            timed(count, || items.get().map(drop))
        }
        "put-bulk" => {
            let items = queue("items")?;
            timed(count, || items.put_many(&bulk))
        }
        "get-bulk" => {
            let items = queue("items")?;
            let mut left = 0;
            timed(count, || {
                // A call gives what is there, which may be less.
                left += BULK;
                while left > 0 {
                    left -= items.get_many(left)?.len();
                }
                Ok(())
            })
        }
        "ask" => {
            let (items, back) = (queue("items")?, queue("back")?);
            timed(count, || {
                items.put(&item)?;
                back.get().map(drop)
            })
        }
        "echo" => {
            let (items, back) = (queue("items")?, queue("back")?);
            timed(count, || back.put(items.get()?))
        }
        "send" => {
            let end = end("sender")?;
            timed(count, || end.send(&item))
        }
        "recv" => {
            let end = end("receiver")?;
            timed(count, || end.recv().map(drop))
        }
        "lock" => {
            let lock = Lock::open("lock")?;
            timed(count, || lock.acquire().map(drop))
        }
        other => panic!("{other} is no command"),
    }
}
