//! Many jobs: their turns, their order, and what idle ones cost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use wpool::events::PoolEvent;
use wpool::{Isolation, Pool, Target};

use super::process::{UPPER, XORSHIFT, load, median, number, pool, wait_until};

/// The record of a task of about a millisecond.
const MILLISECOND: &str = "600000 1";
/// The results of the `imap` that waits for its turns.
const RESULTS: usize = 100;

/// The calls of `apply` that end for each result of an `imap`, on two workers. The argument is the number of
/// threads that loop `apply`.
pub(crate) fn fairness(args: &[String]) -> Result<Vec<f64>, String> {
    let threads = number(args, 0)?;
    let pool = pool(&load(XORSHIFT)?, 2)?;
    let run = pool.func::<&str, Vec<u8>>("run").map_err(|e| e.to_string())?;
    let right = pool.apply(&run, MILLISECOND).map_err(|e| e.to_string())?;
    let (calls, over, wrong) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let is_right = pool.apply(&run, MILLISECOND).is_ok_and(|result| result == right);
                    wrong.fetch_or(!is_right, Ordering::Relaxed);
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let looping = wait_until("the threads loop", || calls.load(Ordering::Relaxed) > 20);
        let before = calls.load(Ordering::Relaxed);
        let results = looping.and_then(|()| drain(&pool, &run, &right));
        let during = calls.load(Ordering::Relaxed) - before;
        over.store(true, Ordering::Relaxed);
        results.map(|()| during)
    })
    .and_then(|during| match wrong.load(Ordering::Relaxed) {
        true => Err("a call of apply had a wrong result".to_owned()),
        false => Ok(vec![during as f64 / RESULTS as f64]),
    })
}

/// Takes the results of an `imap`, at most half a minute.
fn drain(pool: &Pool, run: &wpool::Func<&'static str, Vec<u8>>, right: &[u8]) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(30);
    let mut results = pool.imap(run, [MILLISECOND; RESULTS]);
    for at in 0..RESULTS {
        match results.next_until(end) {
            Ok(Some(Ok(result))) if result == right => {}
            Ok(other) => return Err(format!("result {at} is {other:?}")),
            Err(_) => return Err(format!("starved: {at} of {RESULTS} results in 30 s")),
        }
    }
    match results.next() {
        None => Ok(()),
        Some(_) => Err("too many results".to_owned()),
    }
}

/// The most places by which a task of `apply_async` is begun too early or too late by one worker.
pub(crate) fn order(args: &[String]) -> Result<Vec<f64>, String> {
    let tasks = number(args, 0)?;
    let begun = Arc::new(Mutex::new(Vec::new()));
    let listing = begun.clone();
    let on_event = move |event: &PoolEvent| {
        if let PoolEvent::TasksStarted { job, .. } = event {
            listing.lock().expect("no thread panics with the lock").push(*job);
        }
    };
    let module = load(XORSHIFT)?;
    let builder = Pool::builder(&module).processes(1).lazy(false).on_event(on_event);
    let pool = builder.build().map_err(|e| e.to_string())?;
    let run = pool.func::<&str, Vec<u8>>("run").map_err(|e| e.to_string())?;
    let right = pool.apply(&run, "1 1").map_err(|e| e.to_string())?;
    // The worker has a long task until all others are submitted. Nothing else could keep it.
    let long = pool.apply_async(&run, "4000000000 1");
    let pending: Vec<_> = (0..tasks).map(|_| pool.apply_async(&run, "1 1")).collect();
    if long.ready() {
        return Err("the long task has ended too early".to_owned());
    }
    long.get().map_err(|e| e.to_string())?;
    if pending.into_iter().any(|result| result.get().ok().as_ref() != Some(&right)) {
        return Err("wrong results".to_owned());
    }
    let begun = begun.lock().expect("no thread panics with the lock");
    // The first task, the long one, and the others.
    if begun.len() != tasks + 2 {
        return Err(format!("{} tasks were begun instead of {}", begun.len(), tasks + 2));
    }
    let mut sorted = begun.clone();
    sorted.sort_unstable();
    let moved =
        begun.iter().enumerate().map(|(at, job)| sorted.partition_point(|one| one < job).abs_diff(at));
    Ok(vec![moved.max().unwrap_or_default() as f64])
}

/// The microseconds of one `apply` while this many streams are open and idle.
pub(crate) fn apply_among(args: &[String]) -> Result<Vec<f64>, String> {
    let streams = number(args, 0)?;
    let module = load(UPPER)?;
    let builder = Pool::builder(&module).processes(2).lazy(false).isolation(Isolation::Reuse);
    let pool = builder.build().map_err(|e| e.to_string())?;
    let target = Target::func("run");
    let open = (0..streams).map(|_| pool.stream(&target, true).map_err(|e| e.to_string()));
    let open = open.collect::<Result<Vec<_>, String>>()?;
    let upper = pool.func::<&str, Vec<u8>>("run").map_err(|e| e.to_string())?;
    let once = || {
        let started = Instant::now();
        match pool.apply(&upper, "sixteen bytes ok") {
            Ok(result) if result == b"SIXTEEN BYTES OK" => Ok(started.elapsed().as_secs_f64() * 1e6),
            other => Err(format!("{other:?}")),
        }
    };
    for _ in 0..20 {
        once()?;
    }
    let mut took = (0..200).map(|_| once()).collect::<Result<Vec<f64>, String>>()?;
    // The streams still work.
    for (mut inputs, mut outcomes) in open.into_iter().take(3) {
        inputs.push(b"abc").map_err(|e| e.to_string())?;
        drop(inputs);
        if !outcomes.take_into(&mut |outcome| assert_eq!(outcome.result(), Ok(&b"ABC"[..]))) {
            return Err("an idle stream has no outcome".to_owned());
        }
    }
    Ok(vec![median(&mut took)])
}

/// The most threads that this process has while this many jobs of `map_async` wait for two workers.
pub(crate) fn threads(args: &[String]) -> Result<Vec<f64>, String> {
    let jobs = number(args, 0)?;
    let pool = pool(&load(UPPER)?, 2)?;
    let upper = pool.func::<String, Vec<u8>>("run").map_err(|e| e.to_string())?;
    let mut most = 0;
    let mut pending = Vec::new();
    for job in 0..jobs {
        pending.push(pool.map_async(&upper, (0..3).map(move |item| format!("a{job} {item}"))));
        if job % 20 == 0 || job + 1 == jobs {
            most = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count).max(most);
        }
    }
    for (job, results) in pending.into_iter().enumerate() {
        let results = results.get().map_err(|e| e.to_string())?;
        let right: Vec<Vec<u8>> = (0..3).map(|item| format!("A{job} {item}").into_bytes()).collect();
        if results != right {
            return Err(format!("job {job} has wrong results"));
        }
    }
    Ok(vec![most as f64])
}
