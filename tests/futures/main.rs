//! Pools in async programs, on executors that know nothing of pools. `tests/consumer` runs the same cases on
//! more.

#[path = "../support/mod.rs"]
mod support;

mod by_hand;
mod cases;

use std::future::Future;
use std::pin::Pin;

use self::by_hand::block_on;
use self::support::{guest, time_bound};

/// A future for any executor.
type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs it to its end.
type Run = fn(Boxed);

/// The executors, each of which runs a future to its end.
const EXECUTORS: [(&str, Run); 3] = [
    ("tokio, one thread", |future| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }),
    ("tokio, many threads", |future| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        runtime.block_on(runtime.spawn(future)).unwrap();
    }),
    ("by hand", |future| block_on(future)),
];
