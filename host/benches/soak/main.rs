//! A soak: rounds of jobs of all kinds, while a thread kills and stops workers and zygotes at random.
//!
//!     cargo bench -p wpool --bench soak                    # one round, half a minute
//!     cargo bench -p wpool --bench soak -- --minutes 12    # rounds until twelve minutes are over
//!     cargo bench -p wpool --bench soak -- --seconds 60    # the same in seconds
//!
//! Each outcome is compared with the right one for its record: exactly once, in order where that is promised.
//! A lost task counts as right only if its attempts are used up, and only as many as workers were killed. In
//! the end no process, thread or descriptor is left, and memory does not grow from round to round. Otherwise
//! the program prints the reason and ends with exit code 1. `--seed N` repeats the records and the victims of
//! a run, not the moments of the kills. `--tasks N` is the number of tasks of the largest job in a round.

mod chaos;
mod right;
mod rounds;

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chaos::{Chaos, children};
use right::{Random, Tally};
use rounds::{PARTS, Soak, threads};
use wpool::Module;

/// The memory that the last rounds may have more than the first ones: an allocator does not give all of it
/// back at once.
const MEMORY_SLACK_MIB: u64 = 16;

fn main() -> ExitCode {
    wpool::init();
    let args = options();
    let of = |name: &str| args.get(name).copied();
    let seconds = of("--seconds").or(of("--minutes").map(|minutes| minutes * 60)).unwrap_or(0);
    let seed = of("--seed").unwrap_or_else(|| u64::from(std::process::id())) | 1 << 40;
    println!("seed {seed}");
    quiet_panics();
    match soak(of("--tasks").unwrap_or(200_000), Instant::now() + Duration::from_secs(seconds), seed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("soak: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The values of options such as `--seconds N`. Other arguments are ignored: `cargo bench` adds some of its
/// own.
fn options() -> HashMap<String, u64> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    args.windows(2).filter_map(|pair| Some((pair[0].clone(), pair[1].parse().ok()?))).collect()
}

/// The iterators of items panic on purpose. Only other panics are printed.
fn quiet_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<String>().is_none_or(|message| message != rounds::PANIC) {
            print(info);
        }
    }));
}

fn soak(tasks: u64, until: Instant, seed: u64) -> Result<(), String> {
    let load = |path: &str| Module::load(format!("{}/{path}", env!("CARGO_MANIFEST_DIR")));
    let echo = load("../guest/examples/wat/echo.wat").map_err(|e| e.to_string())?;
    let mixed = load("benches/guests/mixed.wat").map_err(|e| e.to_string())?;
    let chaos = Chaos::default();
    let soak = Soak { echo: &echo, mixed: &mixed, chaos: &chaos, tasks };
    let mut memory = Vec::new();
    let before = (threads().len(), descriptors());
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| chaos.run(seed));
        let rounds = rounds(&soak, until, seed, &mut memory);
        chaos.over.store(true, Ordering::Relaxed);
        killer.join().map_err(|_| "the killer panicked".to_owned())?;
        rounds
    })?;
    println!("{}", chaos.report());
    if chaos.count("workers killed") == 0 {
        return Err("no worker was killed: the run was too short to show anything".to_owned());
    }
    drop((echo, mixed));
    nothing_is_left(before)?;
    memory_is_flat(&memory)
}

fn rounds(soak: &Soak<'_>, until: Instant, seed: u64, memory: &mut Vec<u64>) -> Result<(), String> {
    for round in 1.. {
        let started = Instant::now();
        let tally = one_round(soak, seed + round)?;
        memory.push(resident_mib());
        let counts: Vec<String> =
            tally.counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        println!(
            "round {round}: {:.1} s; {}; {} descriptors, {} MiB",
            started.elapsed().as_secs_f64(),
            counts.join(", "),
            descriptors(),
            resident_mib(),
        );
        if Instant::now() >= until {
            break;
        }
    }
    Ok(())
}

/// Runs all parts at the same time.
fn one_round(soak: &Soak<'_>, seed: u64) -> Result<Tally, String> {
    std::thread::scope(|scope| {
        let parts = PARTS.map(|(name, part)| {
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (name.len() as u64) << 20);
            (name, scope.spawn(move || part(soak, &mut random)))
        });
        let mut tally = Tally::default();
        for (name, part) in parts {
            let judged = part.join().map_err(|_| format!("{name}: it panicked"))?;
            tally.add(judged.map_err(|e| format!("{name}: {e}"))?);
        }
        Ok(tally)
    })
}

/// Fails if processes, threads or descriptors are left some seconds after the last pool has gone.
fn nothing_is_left((threads_before, files_before): (usize, usize)) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let (children, threads, files) = (children(), threads(), descriptors());
        if children.is_empty() && threads.len() <= threads_before && files <= files_before {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(format!(
                "left over: processes {children:?}; threads {threads:?}, {threads_before} before; {files} \
                 descriptors, {files_before} before"
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Compares the last third of the rounds with the first.
fn memory_is_flat(memory: &[u64]) -> Result<(), String> {
    let third = memory.len() / 3;
    let mean = |part: &[u64]| part.iter().sum::<u64>() / part.len().max(1) as u64;
    let (first, last) = (mean(&memory[..third]), mean(&memory[memory.len() - third..]));
    println!("resident memory: {first} MiB in the first third of the rounds, {last} MiB in the last");
    match last > first + MEMORY_SLACK_MIB {
        true => Err(format!("{last} MiB in the last rounds, after {first} MiB in the first")),
        false => Ok(()),
    }
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
