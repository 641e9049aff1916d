//! Asynchronous results: `apply_async`, `map_async` and `AsyncResult`. In Python:
//!
//! ```python
//! result = pool.apply_async(hello, ("bob",))
//! try:
//!     print(result.get(timeout=0.01))
//! except multiprocessing.TimeoutError:
//!     print(result.get())
//! ```
//!
//! `cargo run --release --example async_results`

use std::time::Duration;

use wpool::{Module, Pool};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    wpool::init();
    let prebuilt = concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/prebuilt/hello.wasm");
    let module = Module::load(std::env::args().nth(1).unwrap_or(prebuilt.to_owned()))?;
    let pool = Pool::builder(&module).processes(2).build()?;
    // A record of this guest is a name and a pause in milliseconds.
    let hello = pool.func::<&str, String>("run")?;

    // The call returns at once; the worker sleeps for a second.
    let mut slow = pool.apply_async(&hello, "bob:1000");
    println!("ready: {}", slow.ready());
    println!("successful: {:?}", slow.successful());
    // A timeout does not end the task, and `get` works afterwards.
    match slow.get_timeout(Duration::from_millis(10)) {
        Ok(result) => println!("too early: {}", result?),
        Err(timed_out) => println!("get_timeout: {timed_out}"),
    }
    println!("wait: {}", slow.wait(None));
    println!("successful: {:?}", slow.successful());
    println!("get: {}", first_words(&slow.get()?));

    // Several tasks at once: they run in parallel while this program does something else.
    let greetings = ["ann:10", "eve:10"].map(|name| pool.apply_async(&hello, name));
    for greeting in greetings {
        println!("apply_async: {}", first_words(&greeting.get()?));
    }

    // One result for several inputs. A thread of the call draws the inputs.
    let all = pool.map_async(&hello, ["joe:0", "kim:0", "lee:0"]);
    println!("map_async: {} greetings", all.get()?.len());
    Ok(())
}

/// The greeting without the worker's name and pid, which differ from run to run.
fn first_words(greeting: &str) -> &str {
    greeting.split(" from ").next().unwrap_or(greeting)
}
