//! Many workers: their start, their time limits, tiny tasks, and guests that sleep.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use wpool::events::PoolEvent;
use wpool::{Isolation, Limits, Pool, Target};

use super::process::{UPPER, XORSHIFT, cpu_secs, load, number, pool, repo, thread_secs, wait_until};

/// The time over which shares of a processor are measured.
const WINDOW: Duration = Duration::from_secs(3);

/// The seconds in which a pool starts this many workers. Then all of them do a task.
pub(crate) fn start(args: &[String]) -> Result<Vec<f64>, String> {
    let workers = number(args, 0)?;
    let module = load(UPPER)?;
    let started = Instant::now();
    let pool = pool(&module, workers)?;
    let took = started.elapsed().as_secs_f64();
    let found = pool.workers().len();
    if found != workers {
        return Err(format!("{found} workers instead of {workers}"));
    }
    let upper = pool.func::<&str, Vec<u8>>("run").map_err(|e| e.to_string())?;
    let results = pool.map(&upper, vec!["abc"; workers]).map_err(|e| e.to_string())?;
    if results.len() != workers || results.iter().any(|result| result != b"ABC") {
        return Err("wrong results".to_owned());
    }
    Ok(vec![took])
}

/// The coordinator's share of a processor while all workers run endless guests with a time limit.
pub(crate) fn busy(args: &[String]) -> Result<Vec<f64>, String> {
    let workers = number(args, 0)?;
    let mut limits = Limits::default();
    limits.time = Some(Duration::from_secs(300));
    let begun = Arc::new(AtomicUsize::new(0));
    let pool = counted(&load(XORSHIFT)?, workers, limits, &begun)?;
    let loops = pool.func::<&str, Vec<u8>>("run").map_err(|e| e.to_string())?;
    let pending: Vec<_> = (0..workers).map(|_| pool.apply_async(&loops, "999999999999999 1")).collect();
    wait_until("all workers are busy", || begun.load(Ordering::Relaxed) == workers)?;
    let before = cpu_secs(std::process::id()).unwrap_or(0.0);
    let started = Instant::now();
    std::thread::sleep(WINDOW);
    let used = cpu_secs(std::process::id()).unwrap_or(0.0) - before;
    let share = 100.0 * used / started.elapsed().as_secs_f64();
    if pending.iter().any(|result| result.ready()) {
        return Err("an endless guest has ended".to_owned());
    }
    pool.terminate();
    Ok(vec![share])
}

/// The share of a processor that the pool's thread takes while all workers nap so long that together they end
/// 1,000 tasks a second.
pub(crate) fn paced(args: &[String]) -> Result<Vec<f64>, String> {
    let workers = number(args, 0)?;
    thousand_a_second(workers, Duration::from_micros(900 * workers as u64))
}

/// The same for tasks that take no time: one worker does all of them, and the others are idle.
pub(crate) fn paced_by_one(args: &[String]) -> Result<Vec<f64>, String> {
    thousand_a_second(number(args, 0)?, Duration::ZERO)
}

fn thousand_a_second(workers: usize, nap: Duration) -> Result<Vec<f64>, String> {
    let text = std::fs::read_to_string(repo("host/benches/guests/sleep.wat")).map_err(|e| e.to_string())?;
    let text = text.replace("100000000000", &nap.as_nanos().to_string());
    let module = wpool::Module::from_bytes(text.as_bytes()).map_err(|e| e.to_string())?;
    let mut limits = Limits::default();
    limits.time = Some(Duration::from_secs(300));
    let begun = Arc::new(AtomicUsize::new(0));
    let pool = counted(&module, workers, limits, &begun)?;
    let (mut inputs, mut outcomes) = pool.stream(&Target::default(), false).map_err(|e| e.to_string())?;
    let (is_over, mut failed) = (AtomicBool::new(false), 0);
    let (share, rate) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let (started, mut pushed) = (Instant::now(), 0);
            while !is_over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
                let due = started.elapsed().as_millis();
                let _none_if_the_pool_broke = inputs.push_all((pushed..due).map(|_| &b""[..]));
                pushed = due;
            }
            drop(inputs);
        });
        scope.spawn(|| {
            while outcomes.take_into(&mut |outcome| failed += usize::from(outcome.result().is_err())) {}
        });
        // In the first naps the workers get out of step.
        std::thread::sleep(Duration::from_secs(1) + nap);
        let now = || (thread_secs("wpool-dispatcher"), begun.load(Ordering::Relaxed));
        let ((secs, tasks), from) = (now(), Instant::now());
        std::thread::sleep(WINDOW);
        let ((secs_after, tasks_after), elapsed) = (now(), from.elapsed().as_secs_f64());
        is_over.store(true, Ordering::Relaxed);
        (100.0 * (secs_after - secs) / elapsed, (tasks_after - tasks) as f64 / elapsed)
    });
    match (failed, rate) {
        (0, 900.0..1100.0) => Ok(vec![share]),
        _ => Err(format!("{failed} failures, {rate} tasks a second")),
    }
}

/// A warm pool that counts the tasks that were begun.
fn counted(
    module: &wpool::Module,
    workers: usize,
    limits: Limits,
    begun: &Arc<AtomicUsize>,
) -> Result<Pool, String> {
    let counting = begun.clone();
    let on_event = move |event: &PoolEvent| {
        if let PoolEvent::TasksStarted { tasks, .. } = event {
            counting.fetch_add((tasks.end - tasks.start) as usize, Ordering::Relaxed);
        }
    };
    let builder = Pool::builder(module).processes(workers).lazy(false).limits(limits).on_event(on_event);
    builder.build().map_err(|e| e.to_string())
}

/// The microseconds of a 16-byte record in a stream through a warm pool. The arguments are the number of
/// records and of workers.
pub(crate) fn tiny(args: &[String]) -> Result<Vec<f64>, String> {
    let (records, workers) = (number(args, 0)?, number(args, 1)?);
    let module = load(UPPER)?;
    let builder = Pool::builder(&module).processes(workers).lazy(false).isolation(Isolation::Reuse);
    let pool = builder.build().map_err(|e| e.to_string())?;
    // The first pass warms up. The second is measured.
    through(&pool, records.div_ceil(10))?;
    let started = Instant::now();
    through(&pool, records)?;
    Ok(vec![started.elapsed().as_secs_f64() * 1e6 / records as f64])
}

fn through(pool: &Pool, records: usize) -> Result<(), String> {
    let (mut inputs, mut outcomes) = pool.stream(&Target::func("run"), true).map_err(|e| e.to_string())?;
    let (mut right, mut next) = (0, 0);
    std::thread::scope(|scope| {
        let pushing = scope.spawn(move || {
            for n in 0..records {
                inputs.push(format!("sixteen {n:08}").as_bytes()).map_err(|e| e.to_string())?;
            }
            Ok::<(), String>(())
        });
        while outcomes.take_into(&mut |outcome| {
            right += usize::from(outcome.result() == Ok(format!("SIXTEEN {next:08}").as_bytes()));
            next += 1;
        }) {}
        pushing.join().map_err(|_| "the pushing thread panicked")?
    })?;
    if right == records { Ok(()) } else { Err(format!("{right} right results of {records}")) }
}

/// The share of a processor that all processes of a pool take while its guests sleep in a call to the host.
pub(crate) fn sleepers(args: &[String]) -> Result<Vec<f64>, String> {
    let workers = number(args, 0)?;
    let mut limits = Limits::default();
    limits.time = Some(Duration::from_secs(90));
    let begun = Arc::new(AtomicUsize::new(0));
    let module = load("host/benches/guests/sleep.wat")?;
    let pool = counted(&module, workers, limits, &begun)?;
    let (mut inputs, mut outcomes) = pool.stream(&Target::default(), false).map_err(|e| e.to_string())?;
    for _ in 0..workers {
        inputs.push(b"").map_err(|e| e.to_string())?;
    }
    wait_until("all workers are busy", || begun.load(Ordering::Relaxed) == workers)?;
    // A moment for the guests to reach their call.
    std::thread::sleep(Duration::from_secs(1));
    let pids: Vec<u32> = pool.workers().iter().map(|worker| worker.pid).chain([std::process::id()]).collect();
    let used = || pids.iter().filter_map(|pid| cpu_secs(*pid)).sum::<f64>();
    let (before, started) = (used(), Instant::now());
    std::thread::sleep(WINDOW);
    // Reading the figures of hundreds of processes takes time of its own, which is not the pool's.
    let elapsed = started.elapsed().as_secs_f64();
    let own_reading = || cpu_secs(std::process::id()).unwrap_or(0.0);
    let (own_before, after) = (own_reading(), used());
    let reading = own_reading() - own_before;
    if pool.workers().iter().map(|worker| worker.pid).filter(|pid| pids.contains(pid)).count() != workers {
        return Err("a worker was lost".to_owned());
    }
    if outcomes.is_ready() {
        let mut first = None;
        outcomes.take_into(&mut |outcome| first = Some(format!("{:?}", outcome.result())));
        return Err(format!("a sleeper has ended: {first:?}"));
    }
    pool.terminate();
    Ok(vec![100.0 * (after - before - reading).max(0.0) / elapsed])
}
