//! What open jobs cost: memory for each, the time of a task beside them, and of their end.
//!
//!     cargo bench -p wpool --bench open_jobs                    # beside 10,000 and 100,000 idle streams
//!     cargo bench -p wpool --bench open_jobs -- --most 10000
//!
//! The times of one run are to be compared with each other, not with those of another run.

use std::time::{Duration, Instant};

use wpool::pool::{Inputs, Outcomes};
use wpool::{Func, Isolation, Module, Pool, Target};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Fallible<()> {
    wpool::init();
    let args: Vec<String> = std::env::args().collect();
    let most =
        args.windows(2).find(|pair| pair[0] == "--most").map_or(Ok(100_000), |pair| pair[1].parse())?;
    let module = Module::load(concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/prebuilt/upper.wasm"))?;
    let pool = Pool::builder(&module).processes(1).isolation(Isolation::Reuse).build()?;
    let upper = pool.func::<&str, String>("run")?;

    let alone = apply_time(&pool, &upper)?;
    println!("open streams   bytes each   apply   against alone   cancel each");
    println!("{:12}   {:>10}   {:>5.1} us", 0, "", micros(alone));
    for count in [1_000, 10_000, 100_000].into_iter().filter(|count| *count <= most) {
        let before = resident()?;
        let open = streams(&pool, count)?;
        // The pool's thread has seen all of them once this task is done.
        pool.apply(&upper, "a")?;
        let bytes = resident()?.saturating_sub(before) / count as u64;
        let beside = apply_time(&pool, &upper)?;
        let begun = Instant::now();
        drop(open);
        pool.apply(&upper, "a")?;
        let each = begun.elapsed() / u32::try_from(count)?;
        let ratio = beside.as_secs_f64() / alone.as_secs_f64();
        println!(
            "{count:12}   {bytes:10}   {:>5.1} us   {ratio:12.2}   {:>8.2} us",
            micros(beside),
            micros(each)
        );
    }
    submit_many(&pool, &upper, most)?;
    terminate_many(&module, most)
}

fn streams(pool: &Pool, count: usize) -> Fallible<Vec<(Inputs, Outcomes)>> {
    let target = Target::func("run");
    let open: Result<Vec<_>, _> = (0..count).map(|_| pool.stream(&target, true)).collect();
    Ok(open?)
}

/// The median time of one `apply`.
fn apply_time(pool: &Pool, upper: &Func<&str, String>) -> Fallible<Duration> {
    let mut times = Vec::new();
    for _ in 0..2_000 {
        let begun = Instant::now();
        pool.apply(upper, "a")?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// The time of a task if many are open at once: `apply_async`, `map_async` and `imap` with one item each.
fn submit_many(pool: &Pool, upper: &Func<&'static str, String>, most: usize) -> Fallible<()> {
    println!("jobs with one task   apply_async   map_async   imap");
    for count in [1_000, 10_000, 100_000].into_iter().filter(|count| *count <= most) {
        let each = |begun: Instant| micros(begun.elapsed()) / count as f64;
        let begun = Instant::now();
        let results: Vec<_> = (0..count).map(|_| pool.apply_async(upper, "a")).collect();
        for result in results {
            result.get()?;
        }
        let applied = each(begun);
        let begun = Instant::now();
        let results: Vec<_> = (0..count).map(|_| pool.map_async(upper, ["a"])).collect();
        for result in results {
            result.get()?;
        }
        let mapped = each(begun);
        let begun = Instant::now();
        let results: Vec<_> = (0..count).map(|_| pool.imap(upper, ["a"])).collect();
        for result in results {
            result.collect::<Result<Vec<_>, _>>()?;
        }
        println!("{count:18}   {applied:8.1} us   {mapped:6.1} us   {:.1} us", each(begun));
    }
    Ok(())
}

/// The time of `terminate` and `join` for each of many jobs with queued tasks.
fn terminate_many(module: &Module, most: usize) -> Fallible<()> {
    println!("jobs with a queued task   terminate each");
    for count in [1_000, 10_000, 100_000].into_iter().filter(|count| *count <= most) {
        let pool = Pool::builder(module).processes(1).isolation(Isolation::Reuse).build()?;
        let upper = pool.func::<&str, String>("run")?;
        pool.apply(&upper, "a")?;
        let results: Vec<_> = (0..count).map(|_| pool.apply_async(&upper, "a")).collect();
        let begun = Instant::now();
        pool.terminate();
        pool.join()?;
        println!("{count:23}   {:.2} us", micros(begun.elapsed()) / count as f64);
        drop(results);
    }
    Ok(())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Bytes of memory that this process uses.
fn resident() -> Fallible<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split(' ').nth(1).ok_or("no such field")?.parse()?;
    Ok(pages * rustix::param::page_size() as u64)
}
