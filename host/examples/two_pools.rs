//! A pipeline: one pool puts items into a queue, another takes them.
//!
//! The guest does what the text of its record says: guest/examples/exchange. The two pools could run two
//! modules, with other limits and grants each.
//!
//! `cargo run --release --example two_pools`

use wpool::ipc::Queue;
use wpool::{Module, Policy, Pool};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    wpool::init();
    let module = Module::load(concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/prebuilt/exchange.wasm"))?;
    // Ten items at most: those that put wait for those that take.
    let jobs = Queue::<String>::bounded(10);
    let policy = Policy::sealed().share("jobs", &jobs);
    let pool = || Pool::builder(&module).policy(policy.clone()).processes(2).build();
    let (first, second) = (pool()?, pool()?);
    let puts = first.func::<String, String>("run")?;
    let takes = second.func::<&str, String>("run")?;

    // Each taker takes items until the queue is closed and empty.
    let taken = second.map_async(&takes, ["drain jobs"; 2]);
    first.map(&puts, (0..100).map(|n| format!("put jobs {n}")))?;
    jobs.close()?;
    let taken = taken.get()?.join(",");
    let numbers: Vec<u32> = taken.split(',').filter_map(|number| number.parse().ok()).collect();
    println!("taken: {}, sum: {}", numbers.len(), numbers.iter().sum::<u32>());
    Ok(())
}
