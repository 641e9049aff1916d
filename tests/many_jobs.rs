//! Many jobs at once: their order, what an idle one costs, and how they end. The tests of this program run one
//! after the other, since they count its threads.

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
