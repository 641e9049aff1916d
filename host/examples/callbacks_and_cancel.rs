//! Callbacks, and tasks that nobody wants any more. In Python:
//!
//! ```python
//! pool.apply_async(run, ("good",), callback=print, error_callback=print)
//! ```
//!
//! To cancel a task that runs is possible here only: Python's `Pool` cannot, and `concurrent.futures` cancels no more than what is queued.
//!
//! `cargo run --release --example callbacks_and_cancel`

use std::sync::mpsc;
use std::time::Duration;

use wpool::{Module, Pool, WorkerState};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    wpool::init();
    let prebuilt = concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/prebuilt/failing.wasm");
    let module = Module::load(std::env::args().nth(1).unwrap_or(prebuilt.to_owned()))?;
    let pool = Pool::builder(&module).processes(1).build()?;
    let run = pool.func::<&str, String>("run")?;

    // One of the two is called, once, on a thread that the pool has for callbacks: a slow one holds up nothing else.
    let (tell, told) = mpsc::channel();
    for record in ["good", "bad"] {
        let (returned, failed) = (tell.clone(), tell.clone());
        let result = pool
            .apply_async(&run, record)
            .callback(move |value| drop(returned.send(format!("callback: {value}"))))
            .error_callback(move |error| drop(failed.send(format!("error_callback: {error}"))));
        // The task goes on, and its callbacks are called, though nobody will ask for the result.
        drop(result);
    }
    drop(tell);
    // It ends when the last callback has let go of its sender.
    for line in told {
        println!("{line}");
    }

    // A task that would never end: its guest is stopped, and its worker lives on.
    let endless = pool.apply_async(&run, "loop");
    while !pool.workers().iter().any(|worker| worker.state == WorkerState::Busy) {
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("cancel: {}", endless.cancel());
    println!("get: {}", endless.get().unwrap_or_else(|error| error.to_string()));

    // Dropping an iterator cancels what it would still have given; its input may be endless.
    let first = pool.imap(&run, std::iter::repeat("again")).next().ok_or("there is no end of them")?;
    println!("the first: {}", first?);

    // Everything at once; `terminate` would stop the task that runs, too.
    let waiting = pool.map_async(&run, ["a", "b", "c"]);
    println!("map_async: {}", waiting.get()?.join(" "));
    pool.shutdown(true);
    pool.join()?;
    Ok(())
}
