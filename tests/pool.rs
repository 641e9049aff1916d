//! Pools with real workers, over every start method: items O1 to O53 of Python's contract, as far as they make sense here.

mod support;

use std::collections::BTreeSet;
use std::num::{NonZeroU64, NonZeroUsize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use support::{assert_gone, guest, time_bound, wait_until, wat};
use wpool::events::WorkerState;
use wpool::value::Value;
use wpool::{
    BuildError, Closed, Isolation, Limit, Limits, Module, Pool, PoolBuilder, StartMethod, StillRunning,
    Target, TaskError, TimedOut,
};

/// Makes a test of each function, once for each start method: worker processes of both kinds, and threads (`multiprocessing.dummy`).
///
/// What only processes have is tested with those alone, further down and in the suites `faults` and `sandbox`: a name, descriptors and an
/// environment of their own, and a death that somebody else brings about.
macro_rules! over_all_start_methods {
    ($($name:ident)*) => {
        mod forkserver {
            $(#[test] fn $name() { let _bound = super::time_bound(); super::$name(wpool::StartMethod::Forkserver) })*
        }
        mod spawn {
            $(#[test] fn $name() { let _bound = super::time_bound(); super::$name(wpool::StartMethod::Spawn) })*
        }
        mod thread {
            $(#[test] fn $name() { let _bound = super::time_bound(); super::$name(wpool::StartMethod::Thread) })*
        }
    };
}

over_all_start_methods! {
    o6_apply_gives_the_functions_result
    o7_map_gives_the_results_in_order
    o8_an_empty_input_gives_no_results
    o11_imap_draws_no_more_than_its_buffer_ahead
    o12_starmap_passes_several_arguments
    o13_apply_async_returns_at_once
    o14_get_timeout_gives_up_and_the_task_goes_on
    o15_wait_and_ready_and_successful_do_not_raise
    o18_imap_is_in_order_and_fused
    o19_next_timeout_gives_up_and_the_iterator_goes_on
    o20_imap_unordered_gives_each_result_once
    a_slow_task_keeps_none_behind_it_from_an_idle_worker
    large_records_and_results_come_whole_beside_small_ones
    o23_map_reports_the_first_failure_once_all_are_done
    o23_try_map_gives_each_outcome
    o30_after_close_nothing_is_taken_and_everything_is_finished
    o31_results_can_be_had_after_join
    o32_join_before_close_is_an_error
    o33_terminate_with_ten_thousand_tasks_queued_is_prompt
    o34_after_terminate_a_pending_get_is_cancelled
    o35_scope_drains_and_drop_terminates
    o37_the_initializer_runs_before_any_task
    o38_a_failing_initializer_breaks_the_pool_once
    o39_replacements_run_the_initializer_too
    o40_workers_are_replaced_after_their_share_of_tasks
    o42_close_with_one_task_per_child_finishes_all
    o50_no_more_workers_than_asked_for_and_idle_ones_first
    o52_dropping_an_iterator_cancels_the_rest
    o53_several_threads_share_a_pool
    several_pools_live_side_by_side
    fresh_instances_know_nothing_of_each_other_and_reused_ones_do
    a_failed_task_is_tried_again_as_often_as_was_asked_for
    a_time_limit_ends_a_loop_and_the_worker_goes_on
    a_time_limit_ends_a_call_to_the_host
    a_terminated_pool_ends_an_endless_imap
    a_record_reaches_an_idle_worker_while_another_is_busy
    o9_chunking_never_changes_results
    o22_a_failure_costs_no_neighbour
    o24_large_failures_hold_up_nothing
    o25_a_trap_tells_where
    o36_a_pool_that_is_not_closed_leaves_nothing_behind
    o48_what_comes_after_the_end_is_refused
}

fn builder(module: &Module, method: StartMethod) -> PoolBuilder {
    Pool::builder(module).start_method(method).processes(2)
}

fn pool(module: &str, method: StartMethod) -> Pool {
    builder(&guest(module), method).build().unwrap()
}

/// Names for the guest `hello`, which sleeps for so long at each.
fn sleepers(count: usize, millis: u64) -> impl Iterator<Item = String> + Send {
    (0..count).map(move |n| format!("{n}:{millis}"))
}

fn pids(pool: &Pool) -> Vec<u32> {
    pool.workers().iter().map(|w| w.pid).collect()
}

/// Which workers there are: a number is not used again, unlike a process id, and threads share theirs.
fn indices(pool: &Pool) -> Vec<u32> {
    pool.workers().iter().map(|w| w.index).collect()
}

/// Processes are gone, zombies too. (What becomes of a thread that was ended: tests/dummy.rs.)
#[track_caller]
fn assert_ended(method: StartMethod, pids: &[u32]) {
    if method != StartMethod::Thread {
        assert_gone(pids);
    }
}

/// Numbers, lists, options, tuples and strings, and a counter.
const TYPES: &str = r#"
(component
  (core module $m
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 1024))
    (global $count (mut i32) (i32.const 0))
    (func (export "realloc") (param i32 i32) (param $align i32) (param $len i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
                              (i32.sub (i32.const 0) (local.get $align))))
      (global.set $free (i32.add (local.get $at) (local.get $len)))
      (local.get $at))
    (func (export "count") (result i32)
      (global.set $count (i32.add (global.get $count) (i32.const 1)))
      (global.get $count))
    (func (export "scale") (param $n i64) (param $factor f64) (result f64)
      (f64.mul (f64.convert_i64_s (local.get $n)) (local.get $factor)))
    (func (export "sum") (param $at i32) (param $len i32) (result i64)
      (local $sum i64)
      (block $done
        (loop $next
          (br_if $done (i32.eqz (local.get $len)))
          (local.set $sum (i64.add (local.get $sum) (i64.load32_u (local.get $at))))
          (local.set $at (i32.add (local.get $at) (i32.const 4)))
          (local.set $len (i32.sub (local.get $len) (i32.const 1)))
          (br $next)))
      (local.get $sum))
    (func (export "half") (param $n i32) (result i32)
      (i32.store8 (i32.const 16) (i32.eqz (i32.and (local.get $n) (i32.const 1))))
      (i32.store (i32.const 20) (i32.shr_u (local.get $n) (i32.const 1)))
      (i32.const 16))
    (func (export "swap") (param $n i32) (param $at i32) (param $len i32) (result i32)
      (i32.store (i32.const 32) (local.get $at))
      (i32.store (i32.const 36) (local.get $len))
      (i32.store8 (i32.const 40) (local.get $n))
      (i32.const 32))
    (func (export "or-else") (param $some i32) (param $n i32) (param $other i32) (result i32)
      (select (local.get $n) (local.get $other) (local.get $some)))
    (func (export "grow") (param $pages i32) (result i32)
      (memory.grow (local.get $pages)))
    (func (export "nothing")))
  (core instance $i (instantiate $m))
  (alias core export $i "memory" (core memory $memory))
  (alias core export $i "realloc" (core func $realloc))
  (func (export "count") (result u32) (canon lift (core func $i "count")))
  (func (export "scale") (param "n" s64) (param "factor" f64) (result f64) (canon lift (core func $i "scale")))
  (func (export "sum") (param "numbers" (list u32)) (result u64)
    (canon lift (core func $i "sum") (memory $memory) (realloc $realloc)))
  (func (export "half") (param "n" u32) (result (option u32)) (canon lift (core func $i "half") (memory $memory)))
  (func (export "swap") (param "pair" (tuple u8 string)) (result (tuple string u8))
    (canon lift (core func $i "swap") (memory $memory) (realloc $realloc)))
  (func (export "or-else") (param "n" (option u32)) (param "other" u32) (result u32)
    (canon lift (core func $i "or-else")))
  (func (export "grow") (param "pages" u32) (result s32) (canon lift (core func $i "grow")))
  (func (export "nothing") (canon lift (core func $i "nothing"))))
"#;

// Calls.

fn o6_apply_gives_the_functions_result(method: StartMethod) {
    let pool = pool("upper", method);
    let upper = pool.func::<&str, String>("run").unwrap();
    assert_eq!(pool.apply(&upper, "hello").unwrap(), "HELLO");
    let bytes = pool.func::<&[u8], Vec<u8>>("run").unwrap();
    assert_eq!(pool.apply(&bytes, b"hello").unwrap(), b"HELLO");
}

fn o7_map_gives_the_results_in_order(method: StartMethod) {
    let pool = pool("upper", method);
    let upper = pool.func::<String, String>("run").unwrap();
    let items: Vec<String> = (0..20_000).map(|n| format!("item {n}")).collect();
    let expected: Vec<String> = items.iter().map(|item| item.to_uppercase()).collect();
    assert_eq!(pool.map(&upper, items).unwrap(), expected);
}

fn o8_an_empty_input_gives_no_results(method: StartMethod) {
    let pool = pool("upper", method);
    let upper = pool.func::<&str, String>("run").unwrap();
    assert_eq!(pool.map(&upper, []).unwrap(), [""; 0]);
    assert_eq!(pool.try_map(&upper, []), []);
    assert_eq!(pool.starmap(&upper, []).unwrap(), [""; 0]);
    assert_eq!(pool.imap(&upper, []).count(), 0);
    assert_eq!(pool.imap_unordered(&upper, []).count(), 0);
    assert_eq!(pool.workers(), [], "no task, no worker");
}

fn o12_starmap_passes_several_arguments(method: StartMethod) {
    let pool = builder(&wat(TYPES), method).build().unwrap();
    let scale = pool.func::<(i64, f64), f64>("scale").unwrap();
    assert_eq!(pool.starmap(&scale, [(2, 1.5), (-4, 0.25)]).unwrap(), [3.0, -1.0]);
}

fn o13_apply_async_returns_at_once(method: StartMethod) {
    let pool = pool("hello", method);
    let hello = pool.func::<&str, String>("run").unwrap();
    let asked = Instant::now();
    let result = pool.apply_async(&hello, "bob:400");
    assert!(asked.elapsed() < Duration::from_millis(300));
    assert!(!result.ready());
    assert!(result.get().unwrap().starts_with("hello bob from PoolWorker-1"));
}

fn o14_get_timeout_gives_up_and_the_task_goes_on(method: StartMethod) {
    let pool = pool("hello", method);
    let hello = pool.func::<&str, String>("run").unwrap();
    let mut result = pool.apply_async(&hello, "bob:300");
    assert_eq!(result.get_timeout(Duration::from_millis(20)), Err(TimedOut));
    assert_eq!(result.get_timeout(Duration::ZERO), Err(TimedOut));
    assert!(result.get().unwrap().starts_with("hello bob"));
    // A time that no clock reaches is as good as none.
    let mut result = pool.apply_async(&hello, "bob:1");
    assert!(result.get_timeout(Duration::MAX).unwrap().is_ok());
}

fn o15_wait_and_ready_and_successful_do_not_raise(method: StartMethod) {
    let pool = pool("failing", method);
    let run = pool.func::<&str, String>("run").unwrap();
    let good = pool.apply_async(&run, "good");
    let bad = pool.apply_async(&run, "bad");
    assert!(good.wait(None) && bad.wait(Some(Duration::MAX)));
    assert!(good.ready() && bad.ready());
    assert_eq!((good.successful(), bad.successful()), (Some(true), Some(false)));
    assert_eq!((good.get(), bad.get()), (Ok("good".to_owned()), Err(failed("bad is bad"))));

    let pool = self::pool("hello", method);
    let hello = pool.func::<&str, String>("run").unwrap();
    let slow = pool.apply_async(&hello, "bob:300");
    assert!(!slow.wait(Some(Duration::from_millis(10))));
    assert_eq!((slow.ready(), slow.successful()), (false, None));
}

fn failed(message: &str) -> TaskError {
    TaskError::Failed { message: message.to_owned() }
}

fn o18_imap_is_in_order_and_fused(method: StartMethod) {
    let pool = pool("hello", method);
    let hello = pool.func::<String, String>("run").unwrap();
    // The first takes longest.
    let items = [60, 1, 1, 30, 1].map(|millis| format!("{millis}:{millis}"));
    let mut results = pool.imap(&hello, items);
    let names: Vec<String> =
        results.by_ref().map(|r| r.unwrap().split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(names, ["60", "1", "1", "30", "1"]);
    assert!(results.next().is_none() && results.next().is_none());
}

fn o19_next_timeout_gives_up_and_the_iterator_goes_on(method: StartMethod) {
    let pool = pool("hello", method);
    let hello = pool.func::<String, String>("run").unwrap();
    let mut results = pool.imap(&hello, sleepers(2, 300));
    assert_eq!(results.next_timeout(Duration::from_millis(10)), Err(TimedOut));
    assert!(results.next().unwrap().is_ok());
    assert!(results.next_timeout(Duration::MAX).unwrap().unwrap().is_ok());
    assert_eq!(results.next_timeout(Duration::from_secs(9)), Ok(None));

    let mut results = pool.imap_unordered(&hello, sleepers(1, 300));
    assert_eq!(results.next_timeout(Duration::from_millis(10)), Err(TimedOut));
    assert_eq!(results.next_timeout(Duration::from_secs(9)).unwrap().unwrap().0, 0);
}

fn large_records_and_results_come_whole_beside_small_ones(method: StartMethod) {
    let pool = builder(&guest("upper"), method).isolation(Isolation::Reuse).build().unwrap();
    let upper = pool.func::<Vec<u8>, Vec<u8>>("run").unwrap();
    let record = |len: usize| (0..len).map(|n| b'a' + (n % 26) as u8).collect::<Vec<u8>>();
    // Below, at and above the size from which they travel in another way; one alone, and several in a batch.
    let lens = [
        0,
        1,
        65_535,
        65_536,
        65_537,
        7,
        1 << 20,
        100_000,
        100_000,
        100_000,
        100_000,
        5 << 20,
        3,
        40 << 20,
        70_000,
    ];
    for _ in 0..2 {
        let results = pool.imap(&upper, lens.into_iter().map(record));
        for (len, result) in lens.into_iter().zip(results) {
            // Not `assert_eq`, which would print them.
            assert!(result.unwrap() == record(len).to_ascii_uppercase(), "a record of {len} bytes");
        }
    }
}

fn a_slow_task_keeps_none_behind_it_from_an_idle_worker(method: StartMethod) {
    let pool = pool("hello", method);
    let hello = pool.func::<String, String>("run").unwrap();
    // Quick ones, so that many are handed over at once, the slow one among them.
    let quick = || sleepers(1000, 0);
    let items = quick().chain(["slow:1500".to_owned()]).chain(quick());
    let order: Vec<u64> = pool.imap_unordered(&hello, items).map(|(index, _)| index).collect();
    assert_eq!(order.len(), 2001);
    assert_eq!(order.last(), Some(&1000), "what was handed over with it went to the other worker");
}

fn o20_imap_unordered_gives_each_result_once(method: StartMethod) {
    let pool = pool("hello", method);
    let hello = pool.func::<String, String>("run").unwrap();
    let items = ["slow:1500".to_owned()].into_iter().chain(sleepers(6, 1));
    let index = |(index, result): (u64, Result<String, TaskError>)| result.map(|_| index).unwrap();
    let order: Vec<u64> = pool.imap_unordered(&hello, items).map(index).collect();
    assert_ne!(order[0], 0, "nobody waits for the slow one");
    let mut sorted = order;
    sorted.sort_unstable();
    assert_eq!(sorted, (0..7).collect::<Vec<_>>());

    let one = builder(&guest("upper"), method).processes(1).build().unwrap();
    let upper = one.func::<String, String>("run").unwrap();
    let order: Vec<u64> = one.imap_unordered(&upper, sleepers(500, 0)).map(|(index, _)| index).collect();
    assert_eq!(order, (0..500).collect::<Vec<_>>(), "one worker keeps the order");
}

fn o23_map_reports_the_first_failure_once_all_are_done(method: StartMethod) {
    let pool = pool("failing", method);
    let run = pool.func::<&str, String>("run").unwrap();
    let error = pool.map(&run, ["a", "panic", "b", "bad", "c"]).unwrap_err();
    assert_eq!((error.index, error.failed), (1, 2));
    assert_eq!(error.to_string(), "task 1: trap: unreachable");
    assert_eq!(pool.map(&run, ["a", "b"]).unwrap(), ["a", "b"]);
}

fn o23_try_map_gives_each_outcome(method: StartMethod) {
    let pool = pool("failing", method);
    let run = pool.func::<&str, String>("run").unwrap();
    let outcomes = pool.try_map(&run, ["a", "panic", "exit", "bad", "b"]);
    assert_eq!(outcomes[0], Ok("a".to_owned()));
    assert!(matches!(outcomes[1], Err(TaskError::Trap { .. })));
    assert_eq!(outcomes[2], Err(TaskError::Exited { code: 1 }));
    assert_eq!(outcomes[3], Err(failed("bad is bad")));
    assert_eq!(outcomes[4], Ok("b".to_owned()));
    assert!(pool.workers().len() <= 2);
}

// Laziness.

fn o11_imap_draws_no_more_than_its_buffer_ahead(method: StartMethod) {
    for (n, ordered) in [(1, true), (7, true), (7, false)] {
        let pool = builder(&guest("upper"), method).buffer(NonZeroUsize::new(n).unwrap()).build().unwrap();
        let upper = pool.func::<String, String>("run").unwrap();
        let drawn = Arc::new(AtomicUsize::new(0));
        let counted = drawn.clone();
        let endless = (0..).map(move |n: u64| {
            counted.fetch_add(1, Ordering::SeqCst);
            n.to_string()
        });
        let mut results: Box<dyn Iterator<Item = String>> = match ordered {
            true => Box::new(pool.imap(&upper, endless).map(Result::unwrap)),
            false => Box::new(pool.imap_unordered(&upper, endless).map(|(_, result)| result.unwrap())),
        };
        for taken in 0..100 {
            wait_until("as many are drawn as may be", Duration::from_secs(9), || {
                let drawn = drawn.load(Ordering::SeqCst);
                assert!(drawn <= taken + n, "{drawn} drawn, {taken} taken, with a buffer of {n}");
                // Of results that came together the places come free together.
                drawn > taken
            });
            results.next().unwrap();
        }
    }
}

#[test]
fn o11_map_draws_as_it_goes() {
    let _bound = time_bound();
    let pool =
        Pool::builder(&guest("upper")).processes(2).buffer(NonZeroUsize::new(8).unwrap()).build().unwrap();
    let upper = pool.func::<String, String>("run").unwrap();
    let drawn = AtomicUsize::new(0);
    let items = (0..1000).map(|n| {
        drawn.fetch_add(1, Ordering::SeqCst);
        n.to_string()
    });
    assert_eq!(pool.map(&upper, items).unwrap().len(), 1000);
    assert_eq!(drawn.load(Ordering::SeqCst), 1000);
}

fn a_record_reaches_an_idle_worker_while_another_is_busy(method: StartMethod) {
    let pool = pool("hello", method);
    let (mut inputs, mut outcomes) = pool.stream(&Target::default(), false).unwrap();
    let mut take = || {
        let deadline = Instant::now() + Duration::from_secs(20);
        outcomes.take_one(Some(deadline), |outcome| outcome.index()).unwrap().unwrap()
    };
    // Both workers are there.
    for record in [b"a:100", b"b:100"] {
        inputs.push(record).unwrap();
    }
    take();
    take();
    inputs.push(b"slow:3000").unwrap();
    wait_until("the slow one runs", Duration::from_secs(9), || {
        pool.workers().iter().any(|w| w.state == WorkerState::Busy)
    });
    inputs.push(b"quick:1").unwrap();
    assert_eq!(take(), 3, "the second record does not wait for the first");
}

// Threads and pools.

fn o53_several_threads_share_a_pool(method: StartMethod) {
    let pool = pool("upper", method);
    let upper = pool.func::<String, String>("run").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (pool, upper) = (&pool, upper.clone());
            scope.spawn(move || {
                let items = (0..500).map(|n| format!("t{thread} n{n}"));
                let expected: Vec<String> = (0..500).map(|n| format!("T{thread} N{n}")).collect();
                assert_eq!(pool.map(&upper, items).unwrap(), expected);
            });
        }
    });
    assert!(pool.workers().len() <= 2);
}

fn several_pools_live_side_by_side(method: StartMethod) {
    let (upper, types) = (pool("upper", method), builder(&wat(TYPES), method).build().unwrap());
    let run = upper.func::<&str, String>("run").unwrap();
    let sum = types.func::<Vec<u32>, u64>("sum").unwrap();
    for _ in 0..5 {
        assert_eq!(upper.apply(&run, "a").unwrap(), "A");
        assert_eq!(types.apply(&sum, vec![1, 2, 3]).unwrap(), 6);
    }
    drop(upper);
    assert_eq!(types.apply(&sum, vec![u32::MAX, 1]).unwrap(), 1 << 32);
}

fn o50_no_more_workers_than_asked_for_and_idle_ones_first(method: StartMethod) {
    let pool = builder(&guest("hello"), method).processes(3).build().unwrap();
    let hello = pool.func::<String, String>("run").unwrap();
    for _ in 0..3 {
        pool.apply(&hello, "one:0".to_owned()).unwrap();
        assert_eq!(pool.workers().len(), 1, "an idle worker is used before a new one is started");
    }
    let mut seen = Vec::new();
    for result in pool.imap(&hello, sleepers(12, 20)) {
        result.unwrap();
        seen.extend(indices(&pool));
        assert!(pool.workers().len() <= 3);
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 3);
}

// The end.

fn o30_after_close_nothing_is_taken_and_everything_is_finished(method: StartMethod) {
    let pool = pool("hello", method);
    let hello = pool.func::<String, String>("run").unwrap();
    let results: Vec<_> = sleepers(6, 10).map(|name| pool.apply_async(&hello, name)).collect();
    pool.close();
    assert_eq!(pool.apply(&hello, "late".to_owned()), Err(TaskError::Closed));
    assert_eq!(pool.try_map(&hello, sleepers(2, 0)), [Err(TaskError::Closed), Err(TaskError::Closed)]);
    // Not an empty success: the iterator says why there is nothing.
    assert_eq!(pool.imap(&hello, sleepers(2, 0)).collect::<Vec<_>>(), [Err(TaskError::Closed)]);
    assert_eq!(
        pool.imap_unordered(&hello, sleepers(2, 0)).collect::<Vec<_>>(),
        [(0, Err(TaskError::Closed))]
    );
    assert!(pool.stream(&Target::default(), true).is_err());
    pool.join().unwrap();
    assert!(results.into_iter().all(|result| result.get().is_ok()));
    assert_eq!(pool.apply(&hello, "late".to_owned()), Err(TaskError::Closed));
}

fn o31_results_can_be_had_after_join(method: StartMethod) {
    // Close at once: before a worker is there, or the pool has even seen the task.
    for _ in 0..10 {
        let pool = pool("upper", method);
        let upper = pool.func::<&str, String>("run").unwrap();
        let result = pool.apply_async(&upper, "a");
        pool.close();
        pool.join().unwrap();
        assert_eq!(result.get().unwrap(), "A");
        assert_eq!(pool.workers(), []);
    }
}

fn o32_join_before_close_is_an_error(method: StartMethod) {
    let pool = pool("upper", method);
    assert_eq!(pool.join(), Err(StillRunning));
    assert_eq!(pool.join_timeout(Duration::ZERO), Err(StillRunning));
    pool.close();
    assert_eq!(pool.join_timeout(Duration::MAX), Ok(true));
    pool.join().unwrap();
    pool.close();
    pool.terminate();
    pool.join().unwrap();
}

fn o33_terminate_with_ten_thousand_tasks_queued_is_prompt(method: StartMethod) {
    let pool = pool("hello", method);
    let hello = pool.func::<String, String>("run").unwrap();
    let results: Vec<_> = sleepers(10_000, 60_000).map(|name| pool.apply_async(&hello, name)).collect();
    wait_until("two run", Duration::from_secs(20), || {
        pool.workers().iter().filter(|w| w.state == WorkerState::Busy).count() == 2
    });
    let workers = pids(&pool);
    let ended = Instant::now();
    pool.terminate();
    pool.join().unwrap();
    assert!(ended.elapsed() < Duration::from_secs(1), "{:?}", ended.elapsed());
    assert_ended(method, &workers);
    assert!(results.into_iter().all(|result| result.get() == Err(TaskError::Cancelled)));
}

fn o34_after_terminate_a_pending_get_is_cancelled(method: StartMethod) {
    let pool = pool("failing", method);
    let run = pool.func::<&str, String>("run").unwrap();
    let pending = pool.apply_async(&run, "loop");
    std::thread::scope(|scope| {
        let got = scope.spawn(|| pending.get());
        wait_until("it runs", Duration::from_secs(20), || {
            pool.workers().iter().any(|w| w.state == WorkerState::Busy)
        });
        pool.terminate();
        assert_eq!(got.join().unwrap(), Err(TaskError::Cancelled));
    });
}

fn a_terminated_pool_ends_an_endless_imap(method: StartMethod) {
    let pool = builder(&guest("upper"), method).buffer(NonZeroUsize::new(3).unwrap()).build().unwrap();
    let upper = pool.func::<String, String>("run").unwrap();
    let mut results = pool.imap(&upper, (0..).map(|n: u64| n.to_string()));
    assert!(results.next().unwrap().is_ok());
    pool.terminate();
    pool.join().unwrap();
    // Whatever was under way has its outcome; then the iterator says that it was cut short, and ends.
    let rest: Vec<_> = results.by_ref().take(100).collect();
    assert_eq!(rest.last(), Some(&Err(TaskError::Cancelled)));
    assert!(rest.len() <= 5, "{rest:?}");
    assert!(results.next().is_none());

    let (mut inputs, mut outcomes) = {
        let pool = self::pool("upper", method);
        let mut stream = pool.stream(&Target::default(), true).unwrap();
        stream.0.push(b"a").unwrap();
        stream
    };
    while outcomes.take_into(&mut |_| {}) {}
    assert_eq!(inputs.push(b"b"), Err(Closed));
}

fn o35_scope_drains_and_drop_terminates(method: StartMethod) {
    let scoped = pool("hello", method);
    let hello = scoped.func::<String, String>("run").unwrap();
    let results =
        scoped.scope(|pool| sleepers(4, 20).map(|name| pool.apply_async(&hello, name)).collect::<Vec<_>>());
    assert!(results.into_iter().all(|result| result.get().is_ok()));

    let dropped = pool("hello", method);
    let result = dropped.apply_async(&hello_of(&dropped), "bob:60000");
    wait_until("it runs", Duration::from_secs(20), || {
        dropped.workers().iter().any(|w| w.state == WorkerState::Busy)
    });
    let workers = pids(&dropped);
    drop(dropped);
    assert_ended(method, &workers);
    assert_eq!(result.get(), Err(TaskError::Cancelled));
}

fn hello_of(pool: &Pool) -> wpool::Func<&'static str, String> {
    pool.func("run").unwrap()
}

#[test]
fn f70_dropping_a_pool_whose_workers_are_still_starting_is_prompt() {
    let _bound = time_bound();
    for method in [StartMethod::Forkserver, StartMethod::Spawn, StartMethod::Thread] {
        let pool = builder(&guest("hello"), method).processes(4).build().unwrap();
        let hello = pool.func::<String, String>("run").unwrap();
        let results: Vec<_> = sleepers(4, 0).map(|name| pool.apply_async(&hello, name)).collect();
        let dropped = Instant::now();
        drop(pool);
        assert!(dropped.elapsed() < Duration::from_secs(1));
        // A worker may have been quick, but every task has an end.
        assert!(results.into_iter().all(|r| matches!(r.get(), Ok(_) | Err(TaskError::Cancelled))));
    }
}

fn o52_dropping_an_iterator_cancels_the_rest(method: StartMethod) {
    let pool = pool("hello", method);
    let hello = pool.func::<String, String>("run").unwrap();
    let mut results = pool.imap(&hello, sleepers(1000, 50));
    results.next().unwrap().unwrap();
    drop(results);
    let asked = Instant::now();
    pool.apply(&hello, "after:0".to_owned()).unwrap();
    assert!(asked.elapsed() < Duration::from_secs(5), "1000 tasks of 50 ms were not waited for");

    let running = pool.apply_async(&hello, "a:60000".to_owned());
    drop(running);
    pool.terminate();
}

// Initializers.

fn o37_the_initializer_runs_before_any_task(method: StartMethod) {
    let module = guest("counter");
    // The instance that the initializer ran in is the one that tasks find.
    let pool = builder(&module, method).processes(1).initargs(["10"]).build().unwrap();
    let count = pool.func::<&str, String>("run").unwrap();
    assert_eq!(pool.map(&count, [""; 3]).unwrap(), ["11", "12", "13"]);
    // By name, and in every instance.
    let pool =
        builder(&module, method).initializer("init", ["10"]).isolation(Isolation::Fresh).build().unwrap();
    let count = pool.func::<&str, String>("run").unwrap();
    assert_eq!(pool.map(&count, [""; 3]).unwrap(), ["11", "11", "11"]);
    // An initializer that is there is called without being named, in every instance.
    let pool = builder(&module, method).processes(1).build().unwrap();
    let count = pool.func::<&str, String>("run").unwrap();
    assert_eq!(pool.map(&count, [""; 2]).unwrap(), ["1", "1"]);
}

/// CPython's Pool restarts workers for ever, forty a second; pebble hangs.
fn o38_a_failing_initializer_breaks_the_pool_once(method: StartMethod) {
    let dir = support::temp_dir();
    let (program, log) = (support::program().display(), dir.path().join("starts"));
    let counting =
        support::script(dir.path(), "wpool", &format!("echo $2 >> {}\nexec {program} \"$@\"", log.display()));
    drop(guest("counter"));
    let module =
        support::loader().program(&counting).load(support::repo("guest/prebuilt/counter.wasm")).unwrap();
    let pool = builder(&module, method).processes(4).initargs(["ten"]).build().unwrap();
    let count = pool.func::<&str, String>("run").unwrap();
    let asked = Instant::now();
    let said = "the initializer failed: expected a number to count from, got \"ten\"";
    let broken = Err(TaskError::Broken { reason: said.to_owned() });
    assert!(pool.try_map(&count, [""; 100]).iter().all(|outcome| *outcome == broken));
    assert!(asked.elapsed() < Duration::from_secs(5));
    // What comes later is told the same.
    pool.terminate();
    pool.join().unwrap();
    assert_eq!(pool.apply(&count, ""), broken);
    assert_eq!(pool.imap(&count, [""]).collect::<Vec<_>>(), std::slice::from_ref(&broken));
    // Threads leave none there.
    let starts = std::fs::read_to_string(log).unwrap_or_default();
    assert!(starts.lines().count() <= 5, "{starts}");
}

fn o39_replacements_run_the_initializer_too(method: StartMethod) {
    let pool = builder(&guest("counter"), method).processes(1).initargs(["10"]);
    let pool = pool.max_tasks_per_child(NonZeroU64::new(2).unwrap()).build().unwrap();
    let count = pool.func::<&str, String>("run").unwrap();
    assert_eq!(pool.map(&count, [""; 5]).unwrap(), ["11", "12", "11", "12", "11"]);
}

// Workers' lives.

fn o40_workers_are_replaced_after_their_share_of_tasks(method: StartMethod) {
    let pool =
        builder(&guest("upper"), method).max_tasks_per_child(NonZeroU64::new(3).unwrap()).build().unwrap();
    let (mut inputs, mut outcomes) = pool.stream(&Target::default(), true).unwrap();
    inputs.push_all([&b"a"[..]; 20].into_iter()).unwrap();
    drop(inputs);
    let mut by: Vec<(u32, u32)> = Vec::new();
    while outcomes.take_into(&mut |outcome| {
        assert_eq!(outcome.result(), Ok(&b"A"[..]));
        by.push((outcome.worker(), outcome.pid()));
    }) {}
    assert_eq!(by.len(), 20);
    for worker in &by {
        assert!(by.iter().filter(|other| *other == worker).count() <= 3, "{by:?}");
    }
}

fn o42_close_with_one_task_per_child_finishes_all(method: StartMethod) {
    let pool = builder(&guest("upper"), method).max_tasks_per_child(NonZeroU64::MIN).build().unwrap();
    let upper = pool.func::<String, String>("run").unwrap();
    let results: Vec<_> = (0..20).map(|n| pool.apply_async(&upper, format!("n{n}"))).collect();
    pool.close();
    pool.join().unwrap();
    for (n, result) in results.into_iter().enumerate() {
        assert_eq!(result.get().unwrap(), format!("N{n}"));
    }
}

fn fresh_instances_know_nothing_of_each_other_and_reused_ones_do(method: StartMethod) {
    let module = wat(TYPES);
    let fresh = builder(&module, method).build().unwrap();
    let count = fresh.func::<(), u32>("count").unwrap();
    assert_eq!(fresh.map(&count, [(); 3]).unwrap(), [1, 1, 1]);
    let reused = builder(&module, method).processes(1).isolation(Isolation::Reuse).build().unwrap();
    let count = reused.func::<(), u32>("count").unwrap();
    assert_eq!(reused.map(&count, [(); 3]).unwrap(), [1, 2, 3]);
}

fn a_failed_task_is_tried_again_as_often_as_was_asked_for(method: StartMethod) {
    let pool = builder(&guest("failing"), method).retries(2).build().unwrap();
    let (mut inputs, mut outcomes) = pool.stream(&Target::default(), true).unwrap();
    inputs.push_all([&b"good"[..], b"bad", b"panic", b"good"].into_iter()).unwrap();
    drop(inputs);
    let mut attempts = Vec::new();
    while outcomes.take_into(&mut |outcome| attempts.push((outcome.result().is_ok(), outcome.attempt()))) {}
    assert_eq!(attempts, [(true, 1), (false, 3), (false, 3), (true, 1)]);

    // A record of the wrong type is not tried again.
    let pool = builder(&wat(TYPES), method).retries(2).build().unwrap();
    let (mut inputs, mut outcomes) = pool.stream(&Target::func("sum"), true).unwrap();
    inputs.push(b"many").unwrap();
    let tried = outcomes
        .take_one(None, |outcome| (outcome.result().unwrap_err(), outcome.attempt()))
        .unwrap()
        .unwrap();
    assert!(matches!(tried, (TaskError::BadRecord { .. }, 1)), "{tried:?}");
}

// Limits.

fn a_time_limit_ends_a_loop_and_the_worker_goes_on(method: StartMethod) {
    let pool = builder(&guest("failing"), method)
        .processes(1)
        .task_timeout(Duration::from_millis(200))
        .build()
        .unwrap();
    let run = pool.func::<&str, String>("run").unwrap();
    pool.apply(&run, "warm").unwrap();
    let worker = indices(&pool);
    let asked = Instant::now();
    let error = pool.apply(&run, "loop").unwrap_err();
    assert!(asked.elapsed() >= Duration::from_millis(200));
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        ("time", "timeout after 200ms (--timeout, Limits::time)")
    );
    assert_eq!(pool.apply(&run, "next").unwrap(), "next");
    assert_eq!(indices(&pool), worker);
    // A time that no clock reaches is as good as none.
    let pool = builder(&guest("failing"), method).task_timeout(Duration::MAX).build().unwrap();
    let run = pool.func::<&str, String>("run").unwrap();
    assert_eq!(pool.apply(&run, "a").unwrap(), "a");
}

fn a_time_limit_ends_a_call_to_the_host(method: StartMethod) {
    let pool = builder(&guest("hello"), method)
        .processes(1)
        .task_timeout(Duration::from_millis(200))
        .build()
        .unwrap();
    let hello = pool.func::<&str, String>("run").unwrap();
    pool.apply(&hello, "warm:0").unwrap();
    let (worker, index) = (pids(&pool), indices(&pool));
    let outcomes = pool.try_map(&hello, ["a:0", "b:60000", "c:0"]);
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
    assert!(matches!(outcomes[1], Err(TaskError::Limit { limit: Limit::Time, .. })), "{outcomes:?}");
    assert_ended(method, &worker);
    assert_ne!(indices(&pool), index, "another worker has taken its place");
}

#[test]
fn a_slow_task_under_a_time_limit_costs_the_coordinator_no_processor() {
    let _bound = time_bound();
    let pool = Pool::builder(&guest("hello"))
        .processes(1)
        .task_timeout(Duration::from_secs(60))
        .name("quiet")
        .build()
        .unwrap();
    let hello = pool.func::<&str, String>("run").unwrap();
    let result = pool.apply_async(&hello, "a:700");
    assert!(result.get().is_ok());
    // The thread that waited: a spinning one would have used about 70 ticks of a hundredth of a second.
    let ticks = |task: &std::path::Path| {
        let stat = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap_or_default().1.split(' ').collect();
        fields.get(11..13).map_or(0, |times| times.iter().map(|t| t.parse::<u64>().unwrap()).sum())
    };
    let dispatchers = std::fs::read_dir("/proc/self/task").unwrap().flatten().filter(|task| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == "wpool-dispatche")
    });
    // Other tests' pools are among them; none of them computes for long.
    let used: Vec<u64> = dispatchers.map(|task| ticks(&task.path())).collect();
    assert!(used.iter().all(|ticks| *ticks < 50), "{used:?}");
}

#[test]
fn limits_of_memory_and_output() {
    let _bound = time_bound();
    let mut limits = Limits::default();
    limits.memory = 4 << 20;
    limits.output = 1000;
    let pool = Pool::builder(&wat(TYPES)).processes(1).limits(limits.clone()).build().unwrap();
    let grow = pool.func::<u32, i32>("grow").unwrap();
    assert_eq!(pool.map(&grow, [63, 64]).unwrap(), [1, -1]);

    let pool = Pool::builder(&guest("upper")).processes(1).limits(limits).build().unwrap();
    let upper = pool.func::<Vec<u8>, Vec<u8>>("run").unwrap();
    assert_eq!(pool.apply(&upper, vec![b'x'; 1000]).unwrap().len(), 1000);
    let error = pool.apply(&upper, vec![b'x'; 1001]).unwrap_err();
    assert!(matches!(error, TaskError::Limit { limit: Limit::Output, .. }));
    assert_eq!(
        error.to_string(),
        "output limit of 1000 bytes reached by a result of 1001 bytes (--max-output, Limits::output)"
    );
}

#[test]
fn o28_a_record_over_its_limit_is_refused_and_the_others_go_on() {
    let _bound = time_bound();
    let mut limits = Limits::default();
    limits.input = 10;
    let pool = Pool::builder(&guest("upper")).processes(1).limits(limits).build().unwrap();
    let upper = pool.func::<&str, String>("run").unwrap();
    let outcomes = pool.try_map(&upper, ["0123456789", "0123456789a", "b"]);
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
    assert!(matches!(outcomes[1], Err(TaskError::Limit { limit: Limit::Input, .. })), "{:?}", outcomes[1]);
}

// Types.

#[test]
fn typed_calls() {
    let _bound = time_bound();
    let pool = Pool::builder(&wat(TYPES)).processes(1).build().unwrap();
    let half = pool.func::<u32, Option<u32>>("half").unwrap();
    assert_eq!(pool.map(&half, [8, 7]).unwrap(), [Some(4), None]);
    let or_else = pool.func::<(Option<u32>, u32), u32>("or-else").unwrap();
    assert_eq!(pool.starmap(&or_else, [(Some(1), 2), (None, 2)]).unwrap(), [1, 2]);
    let nothing = pool.func::<(), ()>("nothing").unwrap();
    assert_eq!(pool.apply(&nothing, ()), Ok(()));
    let swap = pool.func::<Value, Value>("swap").unwrap();
    let pair = Value::Tuple(vec![Value::U8(7), Value::String("seven, \"7\"".to_owned())]);
    let swapped = Value::Tuple(vec![Value::String("seven, \"7\"".to_owned()), Value::U8(7)]);
    assert_eq!(pool.apply(&swap, pair), Ok(swapped));
    let sum = pool.func::<Vec<i64>, u64>("sum").unwrap();
    let outcomes = pool.try_map(&sum, [vec![1, 2], vec![-1], vec![]]);
    assert_eq!((&outcomes[0], &outcomes[2]), (&Ok(3), &Ok(0)));
    assert!(
        matches!(&outcomes[1], Err(TaskError::BadRecord { .. })),
        "a value out of range is that task's error"
    );
    let small = pool.func::<u32, Option<u8>>("half").unwrap();
    assert!(matches!(pool.apply(&small, 1000), Err(TaskError::BadResult { .. })));
}

#[test]
fn the_numbers_of_a_core_module() {
    let _bound = time_bound();
    let module = support::loader().load(support::repo("guest/examples/wat/add.wat")).unwrap();
    let pool = Pool::builder(&module).processes(1).build().unwrap();
    let add = pool.func::<(i32, i32), i32>("add").unwrap();
    assert_eq!(pool.starmap(&add, [(1, 2), (i32::MAX, 1)]).unwrap(), [3, i32::MIN]);
    let square = pool.func::<f64, f64>("square").unwrap();
    assert_eq!(pool.apply(&square, 1.5), Ok(2.25));
    let fib = pool.func::<Value, Value>("fib").unwrap();
    assert_eq!(pool.apply(&fib, Value::S64(90)), Ok(Value::S64(2_880_067_194_370_816_120)));
}

#[test]
fn a_command_gets_the_record_as_its_input() {
    let _bound = time_bound();
    let module = support::loader().load(support::repo("guest/examples/wat/upper-p1.wat")).unwrap();
    let pool = Pool::builder(&module).processes(1).build().unwrap();
    let run = pool.func::<&str, String>(Target::default());
    let (mut inputs, mut outcomes) = pool.stream(&Target::default(), true).unwrap();
    inputs.push(b"one").unwrap();
    assert_eq!(
        outcomes.take_one(None, |outcome| outcome.result().map(<[u8]>::to_vec)).unwrap().unwrap(),
        Ok(b"ONE".to_vec())
    );
    // A command has no parameters to bind a Rust type to.
    assert!(run.is_err());
}

#[test]
fn p5_arguments_are_bound_by_name() {
    let _bound = time_bound();
    let pool = Pool::builder(&wat(TYPES)).processes(1).build().unwrap();
    let doubled = pool.func::<i64, f64>(Target::func("scale").kwarg("factor", 2.0)).unwrap();
    assert_eq!(pool.map(&doubled, [1, 2]).unwrap(), [2.0, 4.0]);
    let seven = pool.func::<f64, f64>(Target::func("scale").arg(7)).unwrap();
    assert_eq!(pool.apply(&seven, 0.5), Ok(3.5));
    let both = pool.func::<(), f64>(Target::func("scale").kwarg("factor", 0.5).arg(3)).unwrap();
    assert_eq!(pool.apply(&both, ()), Ok(1.5));
}

// What is wrong is found before any process starts.

#[test]
fn errors_of_building_come_before_any_process() {
    let _bound = time_bound();
    let module = wat(TYPES);
    let pool = Pool::builder(&module).build().unwrap();
    let said = |error: BuildError| error.to_string();
    assert!(said(pool.func::<(), ()>("missing").unwrap_err()).contains("missing"));
    assert!(matches!(pool.func::<&str, u32>("half").unwrap_err(), BuildError::Type { .. }));
    assert!(matches!(pool.func::<u32, String>("half").unwrap_err(), BuildError::ResultType { .. }));
    assert!(matches!(pool.func::<(u32, u32), u32>("half").unwrap_err(), BuildError::Type { .. }));
    let unknown = Target::func("scale").kwarg("size", 1);
    assert!(said(pool.func::<i64, f64>(unknown).unwrap_err()).contains("there is n, factor"));
    let wrong = Target::func("half").arg("two");
    assert!(matches!(pool.func::<(), Option<u32>>(wrong).unwrap_err(), BuildError::Argument { .. }));
    let many = Target::func("half").arg(1).arg(2);
    assert!(matches!(pool.func::<(), Option<u32>>(many).unwrap_err(), BuildError::TooManyArguments { .. }));
    assert_eq!(pool.workers(), []);

    let unknown = Pool::builder(&module).initializer("missing", [""; 0]).build().unwrap_err();
    assert!(said(unknown).contains("missing"));
    let unfit = Pool::builder(&module).initializer("grow", ["much"]).build().unwrap_err();
    assert!(matches!(unfit, BuildError::Argument { .. }));
    assert!(Pool::builder(&module).initargs(["for nobody"]).build().is_err());

    let needy = wat(r#"(module (import "env" "secret" (func)) (func (export "run")))"#);
    let error = Pool::builder(&needy).build().unwrap_err();
    assert!(
        matches!(&error, BuildError::MissingImports { missing } if missing[0].contains("env")),
        "{error}"
    );
}

#[test]
#[should_panic(expected = "at least one process")]
fn o1_a_pool_of_no_processes_is_refused() {
    let _bound = time_bound();
    let _never = Pool::builder(&guest("upper")).processes(0);
}

#[test]
fn o5_workers_are_named_after_the_pool() {
    let _bound = time_bound();
    let pool = Pool::builder(&guest("hello")).processes(1).name("Greeter").build().unwrap();
    assert!(pool.apply(&hello_of(&pool), "bob:0").unwrap().starts_with("hello bob from Greeter-1 (process "));
    let pid = pids(&pool)[0];
    assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(), "Greeter-1\n");
    // The result comes a moment before the word that the batch is done.
    let shown = format!("Pool {{ workers: [WorkerInfo {{ index: 1, pid: {pid}, state: Idle }}], .. }}");
    wait_until("it is idle", Duration::from_secs(9), || format!("{pool:?}") == shown);
}

#[test]
fn p44_a_worker_inherits_no_descriptors() {
    let _bound = time_bound();
    // Threads have all that is this program's.
    for method in [StartMethod::Forkserver, StartMethod::Spawn] {
        let inheritable = support::Inheritable::new();
        let pool = builder(&guest("hello"), method).processes(3).build().unwrap();
        let hello = pool.func::<String, String>("run").unwrap();
        assert!(pool.map(&hello, sleepers(9, 20)).is_ok());
        // What everybody may see.
        inheritable.assert_not_inherited();
        for pid in pids(&pool) {
            // What only root may.
            let Some(fds) = support::descriptors(pid) else { continue };
            // Its socket, its page, the module, and the engine's own event loop.
            let mut sockets: Vec<_> =
                fds.iter().filter(|fd| fd.to_string_lossy().starts_with("socket:")).collect();
            sockets.dedup();
            assert!(
                fds.len() <= 10 && sockets.iter().all(|socket| *socket == sockets[0]),
                "{method:?}: {fds:?}"
            );
            assert_eq!(std::fs::read(format!("/proc/{pid}/environ")).unwrap(), b"RUST_BACKTRACE=0\0");
        }
    }
}

#[test]
fn o21_an_iterator_that_panics_passes_the_panic_on_after_the_results_before_it() {
    let _bound = time_bound();
    let pool = Pool::builder(&guest("upper")).processes(1).build().unwrap();
    let upper = pool.func::<String, String>("run").unwrap();
    let items = || {
        (0..5).map(|n| if n < 3 { n.to_string() } else { panic!("no more (this panic is part of a test)") })
    };
    let caught = |call: Box<dyn FnOnce() + '_>| {
        let payload = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"no more (this panic is part of a test)"));
    };
    let mut results = pool.imap(&upper, items());
    assert!((0..3).all(|n| results.next() == Some(Ok(n.to_string()))));
    caught(Box::new(|| drop(results.next())));
    assert_eq!(results.next(), None);
    caught(Box::new(|| assert_eq!(pool.imap_unordered(&upper, items()).count(), 0)));
    caught(Box::new(|| drop(pool.map(&upper, items()))));
    caught(Box::new(|| drop(pool.map_async(&upper, items()).get())));
    assert_eq!(pool.apply(&upper, "on".to_owned()).unwrap(), "ON");
}

// What batches must not change.

/// The builtin map, in the only order there is.
fn sequential(records: &[String]) -> Vec<Result<String, TaskError>> {
    let run = |record: &String| match record.as_str() {
        bad if bad.starts_with("bad") => Err(TaskError::Failed { message: format!("{bad} is bad") }),
        _ => Ok(record.clone()),
    };
    records.iter().map(run).collect()
}

fn o9_chunking_never_changes_results(method: StartMethod) {
    let module = guest("failing");
    let records: Vec<String> =
        (0..300).map(|n| if n % 7 == 3 { format!("bad {n}") } else { "x".repeat(n * n % 1000) }).collect();
    for (processes, buffer) in [(1, 1), (1, 300), (2, 1), (2, 5), (3, 64), (4, 100_000)] {
        let pool = builder(&module, method).processes(processes).buffer(NonZeroUsize::new(buffer).unwrap());
        let pool = pool.isolation(Isolation::Reuse).build().unwrap();
        let run = pool.func::<String, String>("run").unwrap();
        assert_eq!(
            pool.try_map(&run, records.clone()),
            sequential(&records),
            "{processes} workers, {buffer} ahead"
        );
        let mut unordered: Vec<_> = pool.imap_unordered(&run, records.clone()).collect();
        unordered.sort_by_key(|(index, _)| *index);
        assert!(unordered.into_iter().map(|(_, outcome)| outcome).eq(sequential(&records)));
    }
}

/// CPython's `map` with chunks loses the results of a chunk in which one item fails.
fn o22_a_failure_costs_no_neighbour(method: StartMethod) {
    let pool = builder(&guest("failing"), method).isolation(Isolation::Reuse).processes(1).build().unwrap();
    let run = pool.func::<String, String>("run").unwrap();
    // Long batches: the tasks are short, and there are many.
    let records: Vec<String> =
        (0..5000).map(|n| if n % 100 == 50 { "panic".to_owned() } else { n.to_string() }).collect();
    let outcomes = pool.try_map(&run, records);
    let traps =
        outcomes.iter().enumerate().filter(|(_, o)| matches!(o, Err(TaskError::Trap { .. }))).map(|(n, _)| n);
    assert!(traps.eq((50..5000).step_by(100)));
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 4950);
}

fn o24_large_failures_hold_up_nothing(method: StartMethod) {
    let pool = pool("failing", method);
    let run = pool.func::<String, String>("run").unwrap();
    let large = || format!("bad {}", "x".repeat(16 << 20));
    let error = pool.map(&run, [large(), "a".to_owned(), large()]).unwrap_err();
    assert_eq!((error.index, error.failed), (0, 2));
    let TaskError::Failed { message } = error.error else { panic!("{}", error.error.kind()) };
    assert!(message.starts_with("bad xxx") && message.len() < 100 << 10, "{} bytes", message.len());
    pool.close();
    pool.join().unwrap();
}

fn o25_a_trap_tells_where(method: StartMethod) {
    let text = r#"(module
        (func $inner (param i32) (result i32) (i32.div_s (i32.const 1) (local.get 0)))
        (func $outer (export "divide") (param i32) (result i32) (call $inner (local.get 0))))"#;
    let pool = builder(&wat(text), method).build().unwrap();
    let divide = pool.func::<i32, i32>("divide").unwrap();
    let Err(TaskError::Trap { message, backtrace }) = pool.apply(&divide, 0) else { panic!("no trap") };
    assert_eq!(message, "integer divide by zero");
    assert_eq!(backtrace, ["inner", "outer"]);
}

fn o36_a_pool_that_is_not_closed_leaves_nothing_behind(method: StartMethod) {
    let pool = pool("failing", method);
    let run = pool.func::<&str, String>("run").unwrap();
    let endless = pool.apply_async(&run, "loop");
    wait_until("it runs", Duration::from_secs(20), || {
        pool.workers().iter().any(|w| w.state == WorkerState::Busy)
    });
    let pids = pids(&pool);
    drop(pool);
    assert_eq!(endless.get(), Err(TaskError::Cancelled));
    if method != StartMethod::Thread {
        assert_gone(&pids);
    }
}

fn o48_what_comes_after_the_end_is_refused(method: StartMethod) {
    let ends: [fn(&Pool); 3] = [Pool::close, Pool::terminate, |pool| pool.shutdown(true)];
    for end in ends {
        let pool = pool("upper", method);
        let upper = pool.func::<String, String>("run").unwrap();
        let a = || "a".to_owned();
        assert_eq!(pool.apply(&upper, a()).as_deref(), Ok("A"));
        end(&pool);
        let refused = || Err(TaskError::Closed);
        assert_eq!(pool.apply(&upper, a()), refused());
        assert_eq!(pool.apply_async(&upper, a()).get(), refused());
        assert_eq!(pool.try_map(&upper, [a(), a()]), [refused(), refused()]);
        assert_eq!(pool.map_async(&upper, [a()]).get().unwrap_err().error, TaskError::Closed);
        assert_eq!(pool.imap(&upper, [a()]).collect::<Vec<_>>(), [refused()]);
        pool.join().unwrap();
    }
}

#[test]
fn o3_two_hundred_workers_share_a_thousand_tasks() {
    let _bound = time_bound();
    let pool = Pool::builder(&guest("hello")).processes(200).build().unwrap();
    let hello = pool.func::<String, String>("run").unwrap();
    let results = pool.map(&hello, (0..1000).map(|n| format!("{n}:20"))).unwrap();
    assert!(results.iter().enumerate().all(|(n, result)| result.starts_with(&format!("hello {n} from"))));
    let by: BTreeSet<&str> =
        results.iter().filter_map(|result| result.split_once(" from ")).map(|(_, by)| by).collect();
    // How many come to run depends on the machine; that none is lost, does not.
    assert!(by.len() > 20, "{} of them ran", by.len());
    let pids = pids(&pool);
    pool.close();
    pool.join().unwrap();
    assert_gone(&pids);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn o7_map_is_the_builtin_map_whatever_the_pool(
        records in proptest::collection::vec("(bad)?[a-z0-9]{0,40}", 0..200),
        processes in 1usize..4,
        buffer in 1usize..300,
        reuse in any::<bool>(),
    ) {
        let _bound = time_bound();
        let isolation = if reuse { Isolation::Reuse } else { Isolation::Fresh };
        let pool = Pool::builder(&guest("failing")).processes(processes).isolation(isolation);
        let pool = pool.buffer(NonZeroUsize::new(buffer).unwrap()).build().unwrap();
        let run = pool.func::<String, String>("run").unwrap();
        // What begins with another word than `bad` would be no echo.
        let records: Vec<String> =
            records.into_iter().filter(|r| !["panic", "exit", "loop"].iter().any(|word| r.starts_with(word))).collect();
        prop_assert_eq!(pool.try_map(&run, records.clone()), sequential(&records));
        let all: Result<Vec<String>, TaskError> = sequential(&records).into_iter().collect();
        prop_assert_eq!(pool.map(&run, records).map_err(|e| e.error), all);
    }
}

/// CPython's `map` makes a list of the input first; ProcessPoolExecutor's draws all of it before the first result, and takes a gigabyte for this one.
#[test]
fn o11_half_a_million_items_need_no_memory() {
    let _bound = time_bound();
    // In a program of its own: tests run side by side, and share their memory.
    let output = std::process::Command::new(support::example("lazy_input"))
        .arg(support::repo("guest/prebuilt/upper.wasm"))
        .output();
    let output = output.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let grown: u64 =
        said.trim().parse().unwrap_or_else(|_| panic!("{said} {output:?}", output = output.stderr));
    assert!(grown < 32, "{grown} MiB more for 500,000 items");
}
