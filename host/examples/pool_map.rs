//! A function over many inputs, in four ways. In Python:
//!
//! ```python
//! with multiprocessing.Pool(4) as pool:
//!     print(pool.map(primes_below, [10, 100, 1000]))
//!     for count in pool.imap(primes_below, limits): ...
//!     for count in pool.imap_unordered(primes_below, limits): ...
//! ```
//!
//! `cargo run --release --example pool_map`

use wpool::{Module, Pool};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // First of all: in a worker, which is this program started by a pool, the call does not return.
    wpool::init();
    let prebuilt = concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/prebuilt/primes.wasm");
    let module = Module::load(std::env::args().nth(1).unwrap_or(prebuilt.to_owned()))?;
    let pool = Pool::builder(&module).processes(4).build()?;
    // `func` looks the function up and checks its types, once. Records and results of this guest are text.
    let primes_below = pool.func::<String, String>("run")?;
    let limits = || [10, 100, 1000, 10_000].map(|limit: u32| limit.to_string());

    // All results, or the first failure.
    println!("map: {}", pool.map(&primes_below, limits())?.join(" "));

    // Each result as soon as it is there, in the order of the inputs. The pool draws the inputs as the work
    // proceeds, so there may be any number of them.
    for (limit, count) in limits().iter().zip(pool.imap(&primes_below, limits())) {
        println!("imap: {} primes below {limit}", count?);
    }

    // Results in any order, each with the index of its input.
    let mut counts = vec![String::new(); limits().len()];
    for (index, count) in pool.imap_unordered(&primes_below, limits()) {
        counts[usize::try_from(index)?] = count?;
    }
    println!("imap_unordered: {}", counts.join(" "));

    // Python's map raises the first exception and drops all results. `try_map` gives the outcome of each
    // task.
    for outcome in pool.try_map(&primes_below, ["100", "many"].map(str::to_owned)) {
        match outcome {
            Ok(count) => println!("try_map: {count}"),
            Err(error) => println!("try_map: {}", error.kind()),
        }
    }

    // Waits for all tasks. Dropping the pool, like the end of Python's `with Pool(..)`, ends its workers at
    // once.
    pool.close();
    pool.join()?;
    Ok(())
}
