//! Callbacks, and cancelling tasks. In Python:
//!
//! ```python
//! pool.apply_async(run, ("good",), callback=print, error_callback=print)
//! ```
//!
//! Only wpool cancels a running task. Python's `Pool` cancels nothing, and `concurrent.futures` only queued
//! tasks.
//!
//! `cargo run --release --example callbacks_and_cancel`

use std::sync::mpsc;
use std::time::Duration;

use wpool::events::WorkerState;
use wpool::{Module, Pool};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    wpool::init();
    let prebuilt = concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/prebuilt/failing.wasm");
    let module = Module::load(std::env::args().nth(1).unwrap_or(prebuilt.to_owned()))?;
    let pool = Pool::builder(&module).processes(1).build()?;
    let run = pool.func::<&str, String>("run")?;

    // The pool calls one of the two callbacks, once, on its thread for callbacks. A slow callback delays only
    // other callbacks.
    let (tell, told) = mpsc::channel();
    for record in ["good", "bad"] {
        let (returned, failed) = (tell.clone(), tell.clone());
        let result = pool
            .apply_async(&run, record)
            .callback(move |value| drop(returned.send(format!("callback: {value}"))))
            .error_callback(move |error| drop(failed.send(format!("error_callback: {error}"))));
        // Dropping the result does not cancel the task: its callback is still called.
        drop(result);
    }
    drop(tell);
    // The loop ends when the last callback has dropped its sender.
    for line in told {
        println!("{line}");
    }

    // An endless task: `cancel` stops the guest, and the worker goes on with the next task.
    let endless = pool.apply_async(&run, "loop");
    while !pool.workers().iter().any(|worker| worker.state == WorkerState::Busy) {
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("cancel: {}", endless.cancel());
    println!("get: {}", endless.get().unwrap_or_else(|error| error.to_string()));

    // Dropping an iterator cancels its remaining tasks, so the input may be endless.
    let first = pool.imap(&run, std::iter::repeat("again")).next().ok_or("the iterator is empty")?;
    println!("the first: {}", first?);

    // `shutdown(true)` cancels all queued tasks. `terminate` would also stop the running one.
    let waiting = pool.map_async(&run, ["a", "b", "c"]);
    println!("map_async: {}", waiting.get()?.join(" "));
    pool.shutdown(true);
    pool.join()?;
    Ok(())
}
