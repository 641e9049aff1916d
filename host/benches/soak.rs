//! A soak: rounds of one million tasks, while a thread kills a random worker every 50 milliseconds.
//!
//!     cargo bench -p wpool --bench soak                    # one round of a million tasks
//!     cargo bench -p wpool --bench soak -- --seconds 60    # rounds until a minute is over
//!
//! Each index must come out exactly once with its own result. Neither descriptors nor memory may grow from
//! round to round. Otherwise the program prints the reason and ends with exit code 1.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use wpool::events::PoolEvent;
use wpool::{Module, Pool};

const KILL_EVERY: Duration = Duration::from_millis(50);
/// The memory that a later round may have more than the first: an allocator does not give all of it back at
/// once.
const MEMORY_SLACK_MIB: u64 = 16;

/// The pool's events, counted.
#[derive(Default)]
struct Counts {
    retried: AtomicU64,
    exited: AtomicU64,
}

fn main() -> ExitCode {
    wpool::init();
    let args: HashMap<String, u64> = options();
    let tasks = args.get("--tasks").copied().unwrap_or(1_000_000);
    let until = args.get("--seconds").map(|seconds| Instant::now() + Duration::from_secs(*seconds));
    match soak(tasks, until) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("soak: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The values of `--tasks N` and `--seconds N`. Other arguments are ignored: `cargo bench` adds some of its
/// own.
fn options() -> HashMap<String, u64> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    args.windows(2).filter_map(|pair| Some((pair[0].clone(), pair[1].parse().ok()?))).collect()
}

fn soak(tasks: u64, until: Option<Instant>) -> Result<(), String> {
    let module = Module::load(concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/examples/wat/echo.wat"));
    let module = module.map_err(|e| e.to_string())?;
    let counts = Arc::new(Counts::default());
    let counting = counts.clone();
    let pool = Pool::builder(&module)
        // Bad luck may kill the workers of one task many times. No limit may end the task for that.
        .retries(1000)
        .poison_limit(1000.try_into().expect("1000 is not 0"))
        .on_event(move |event| match event {
            PoolEvent::TaskRetried { .. } => drop(counting.retried.fetch_add(1, Ordering::Relaxed)),
            PoolEvent::WorkerExited { .. } => drop(counting.exited.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        })
        .build()
        .map_err(|e| e.to_string())?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| kill_at_random(&pool, &over));
        let rounds = rounds(&pool, tasks, until, &counts);
        over.store(true, Ordering::Relaxed);
        let kills = killer.join().map_err(|_| "the killer panicked")?;
        rounds.and_then(|()| match kills {
            0 => Err("no worker was killed: the run was too short to show anything".to_owned()),
            _ => {
                println!("{kills} workers killed");
                Ok(())
            }
        })
    })
}

fn rounds(pool: &Pool, tasks: u64, until: Option<Instant>, counts: &Counts) -> Result<(), String> {
    let mut first: Option<(usize, u64)> = None;
    for round in 1.. {
        let started = Instant::now();
        all_once(pool, tasks)?;
        let (secs, files, memory) = (started.elapsed().as_secs_f64(), descriptors(), resident_mib());
        let (retried, exited) =
            (counts.retried.load(Ordering::Relaxed), counts.exited.load(Ordering::Relaxed));
        println!(
            "round {round}: {tasks} tasks in {secs:.1} s; so far {exited} workers lost, \
             {retried} attempts repeated; {files} descriptors, {memory} MiB"
        );
        let (first_files, first_memory) = *first.get_or_insert((files, memory));
        // At the moment of the count there may be a worker more or less, each with a few descriptors.
        let slack = 4 * pool.workers().len().max(2) + 4;
        if files > first_files + slack {
            return Err(format!("{files} descriptors, after {first_files} in the first round"));
        }
        if memory > first_memory + MEMORY_SLACK_MIB {
            return Err(format!("{memory} MiB, after {first_memory} MiB in the first round"));
        }
        if until.is_none_or(|until| Instant::now() >= until) {
            break;
        }
    }
    Ok(())
}

/// Runs the tasks, and checks that each index comes out once with its own result.
fn all_once(pool: &Pool, tasks: u64) -> Result<(), String> {
    let echo = pool.func::<Vec<u8>, Vec<u8>>("run").map_err(|e| e.to_string())?;
    let mut seen = vec![false; usize::try_from(tasks).map_err(|e| e.to_string())?];
    for (index, result) in pool.imap_unordered(&echo, (0..tasks).map(|n| n.to_string().into_bytes())) {
        let result = result.map_err(|e| format!("task {index}: {e}"))?;
        if result != index.to_string().as_bytes() {
            return Err(format!("task {index} has the result {:?}", String::from_utf8_lossy(&result)));
        }
        let place = usize::try_from(index).ok().and_then(|index| seen.get_mut(index));
        match place.map(|seen| std::mem::replace(seen, true)) {
            Some(false) => {}
            Some(true) => return Err(format!("task {index} has two results")),
            None => return Err(format!("there is no task {index}")),
        }
    }
    match seen.iter().position(|seen| !seen) {
        Some(lost) => Err(format!("task {lost} has no result")),
        None => Ok(()),
    }
}

/// Kills a random worker every [`KILL_EVERY`] until `over`. Returns the number of kills.
fn kill_at_random(pool: &Pool, over: &AtomicBool) -> u64 {
    // xorshift64 with a fixed seed: any numbers do that do not follow the order of the tasks.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut kills = 0;
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(KILL_EVERY);
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let workers = pool.workers();
        let victim = usize::try_from(random % workers.len().max(1) as u64).ok().and_then(|n| workers.get(n));
        if let Some(pid) = victim.and_then(|w| Pid::from_raw(i32::try_from(w.pid).ok()?))
            && kill_process(pid, Signal::KILL).is_ok()
        {
            kills += 1;
        }
    }
    kills
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) >> 10
}
