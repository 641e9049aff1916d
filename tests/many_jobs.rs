//! Many jobs at once: their order, what an idle one costs, and how they end. The tests of this program run
//! one after the other, since they count its threads.

#[path = "support/mod.rs"]
mod support;

use std::sync::{Mutex, MutexGuard, PoisonError};

use support::{guest, time_bound, wat};
use wpool::pool::{Inputs, Outcomes};
use wpool::{Isolation, Pool, Target, TaskError};

/// Each call of `count` gives the number of calls before it, and one.
const COUNTER: &str = r#"
(component
  (core module $m
    (global $count (mut i32) (i32.const 0))
    (func (export "count") (result i32)
      (global.set $count (i32.add (global.get $count) (i32.const 1)))
      (global.get $count)))
  (core instance $i (instantiate $m))
  (func (export "count") (result u32) (canon lift (core func $i "count"))))
"#;

fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn streams(pool: &Pool, count: usize) -> Vec<(Inputs, Outcomes)> {
    (0..count).map(|_| pool.stream(&Target::func("run"), true).unwrap()).collect()
}

/// Takes the next outcome as text.
fn next(outcomes: &mut Outcomes) -> Option<Result<String, TaskError>> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    outcomes.take_one(None, |outcome| outcome.result().map(text)).unwrap()
}

#[test]
fn apply_async_runs_in_the_order_of_submission_on_one_worker() {
    let (_turn, _bound) = (one_at_a_time(), time_bound());
    let pool = Pool::builder(&wat(COUNTER)).processes(1).isolation(Isolation::Reuse).build().unwrap();
    let count = pool.func::<(), u32>("count").unwrap();
    for round in 0..5 {
        // The first tasks are submitted before there is a worker, the others while it works.
        let results: Vec<_> = (0..200).map(|_| pool.apply_async(&count, ())).collect();
        let order: Vec<u32> = results.into_iter().map(|result| result.get().unwrap()).collect();
        assert_eq!(order, (1..=200).map(|n| round * 200 + n).collect::<Vec<_>>());
    }
}

#[test]
fn ten_thousand_open_streams_give_their_results_while_others_are_idle() {
    let (_turn, _bound) = (one_at_a_time(), time_bound());
    let pool = Pool::builder(&guest("upper")).processes(2).isolation(Isolation::Reuse).build().unwrap();
    let upper = pool.func::<String, String>("run").unwrap();
    let before = support::memory_peak_kib(std::process::id());
    let mut open = streams(&pool, 10_000);
    for round in 0..2 {
        for (n, (inputs, _)) in open.iter_mut().enumerate() {
            inputs.push(format!("r{round} s{n}").as_bytes()).unwrap();
        }
        assert_eq!(pool.apply(&upper, "among them".to_owned()).unwrap(), "AMONG THEM");
        for (n, (_, outcomes)) in open.iter_mut().enumerate() {
            assert_eq!(next(outcomes), Some(Ok(format!("R{round} S{n}"))));
        }
    }
    let grown = support::memory_peak_kib(std::process::id()).saturating_sub(before);
    assert!(grown < 10_000 * 8, "{grown} KiB");
    // A third is dropped, a third ends with its input, the rest with the pool.
    let rest = open.split_off(6_666);
    let mut ended = open.split_off(3_333);
    drop(open);
    for (mut inputs, outcomes) in ended.drain(..) {
        inputs.push(b"last").unwrap();
        drop(inputs);
        let mut outcomes = outcomes;
        assert_eq!(next(&mut outcomes), Some(Ok("LAST".to_owned())));
        assert_eq!(next(&mut outcomes), None);
    }
    assert_eq!(pool.apply(&upper, "still".to_owned()).unwrap(), "STILL");
    pool.terminate();
    pool.join().unwrap();
    for (mut inputs, mut outcomes) in rest {
        assert!(inputs.push(b"too late").is_err());
        assert_eq!(next(&mut outcomes), None);
    }
}

/// The threads of this program that draw items or collect results.
fn handlers() -> usize {
    let comm =
        |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks.map(comm).filter(|comm| ["wpool-tasks\n", "wpool-results\n"].contains(&&**comm)).count()
}

/// The largest number of threads that draw items and of those that collect results.
const HANDLERS_MAX: usize = 2 * 256;

#[test]
fn twenty_thousand_maps_and_iterators_share_a_few_threads() {
    const EACH: usize = 10_000;
    let (_turn, _bound) = (one_at_a_time(), time_bound());
    let pool = Pool::builder(&guest("upper")).processes(2).isolation(Isolation::Reuse).build().unwrap();
    let upper = pool.func::<String, String>("run").unwrap();
    let items = |n: usize| (0..3).map(move |item| format!("n{n} i{item}"));
    let results = |n: usize| (0..3).map(|item| format!("N{n} I{item}")).collect::<Vec<_>>();
    let (mut maps, mut iterators, mut most) = (Vec::new(), Vec::new(), 0);
    for n in 0..EACH {
        maps.push(pool.map_async(&upper, items(n)));
        iterators.push(pool.imap(&upper, items(n)));
        if n % 500 == 0 {
            most = most.max(handlers());
        }
    }
    assert_eq!(pool.apply(&upper, "among them".to_owned()).unwrap(), "AMONG THEM");
    assert!(most.max(handlers()) <= HANDLERS_MAX, "{most} threads");
    for (n, (map, iterator)) in maps.into_iter().zip(iterators).enumerate() {
        assert_eq!(map.get().unwrap(), results(n));
        assert_eq!(iterator.collect::<Result<Vec<_>, _>>().unwrap(), results(n));
    }
    pool.close();
    pool.join().unwrap();
    support::wait_until("the threads end", std::time::Duration::from_secs(20), || handlers() == 0);
}

#[test]
fn iterators_that_block_stop_no_other_job_and_no_end() {
    let (_turn, _bound) = (one_at_a_time(), time_bound());
    let pool = Pool::builder(&guest("upper")).processes(2).build().unwrap();
    let upper = pool.func::<String, String>("run").unwrap();
    let (mut keys, mut blocked): (Vec<_>, Vec<_>) = (0..100)
        .map(|_| {
            let (key, lock) = std::sync::mpsc::channel::<String>();
            (key, pool.map_async(&upper, lock))
        })
        .unzip();
    let results = pool.imap(&upper, (0..1000).map(|n| format!("n{n}")));
    assert!(results.eq((0..1000).map(|n| Ok(format!("N{n}")))));
    // One of them goes on, and its result comes.
    keys[7].send("seven".to_owned()).unwrap();
    drop(keys.remove(7));
    assert_eq!(blocked.remove(7).get().unwrap(), ["SEVEN"]);
    // The end of the pool is the end of the others, though their iterators still block.
    pool.terminate();
    pool.join().unwrap();
    for map in blocked {
        assert_eq!(map.get().unwrap_err().error, TaskError::Cancelled);
    }
    drop(keys);
    support::wait_until("the threads end", std::time::Duration::from_secs(20), || handlers() == 0);
}
