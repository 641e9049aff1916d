//! Workers that keep state between their tasks. In Python:
//!
//! ```python
//! def init(base):
//!     global count
//!     count = base
//!
//! with multiprocessing.Pool(1, initializer=init, initargs=(100,), maxtasksperchild=3) as pool:
//!     print(pool.map(run, range(6)))
//! ```
//!
//! The guest (`guest/examples/counter`) has a `static` where Python has a global.
//!
//! `cargo run --release --example initializer_state`

use std::num::NonZeroU64;

use wpool::{Isolation, Module, Pool, PoolBuilder};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    wpool::init();
    let prebuilt = concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/prebuilt/counter.wasm");
    let module = Module::load(std::env::args().nth(1).unwrap_or(prebuilt.to_owned()))?;
    let one = || Pool::builder(&module).processes(1);

    // With an initializer, a worker keeps the initialized instance for all its tasks.
    let counting = one().initializer("init", ["100"]);
    println!("one worker: {}", counts(counting)?);

    // A new worker begins with the state that its initializer sets.
    let three = NonZeroU64::new(3).ok_or("three is not zero")?;
    let recycled = one().initializer("init", ["100"]).max_tasks_per_child(three);
    println!("three tasks each: {}", counts(recycled)?);

    // `Isolation::Fresh`: each task gets its own instance, and the initializer is called in each of them. No
    // input influences the result of another one.
    let apart = one().initializer("init", ["100"]).isolation(Isolation::Fresh);
    println!("each apart: {}", counts(apart)?);

    // A failing initializer breaks the pool, once, with the guest's message. Python restarts workers for
    // ever.
    match counts(one().initializer("init", ["a hundred"])) {
        Ok(counts) => println!("it counted: {counts}"),
        Err(error) => println!("broken: {error}"),
    }
    Ok(())
}

/// The results of six tasks.
fn counts(pool: PoolBuilder) -> Result<String, Box<dyn std::error::Error>> {
    let pool = pool.build()?;
    let count = pool.func::<&str, String>("run")?;
    Ok(pool.map(&count, [""; 6])?.join(" "))
}
