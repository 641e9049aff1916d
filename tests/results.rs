//! Results that are under way: waited for, passed to callbacks, cancelled. Items O13 to O17, O27, O29, O49,
//! O51 and O52 of the contract.

#[path = "support/methods.rs"]
mod methods;
mod support;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use support::{assert_gone, builder, guest, pool, time_bound, wait_until, wat};
use wpool::events::WorkerState;
use wpool::value::{Ret, Type};
use wpool::{Limit, Limits, Pool, PoolBuilder, StartMethod, TaskError, TimedOut};

methods::over_all_start_methods! {
    o13_map_async_returns_at_once_and_get_gives_the_results
    o14_get_timeout_of_a_map_gives_up_and_a_later_get_works
    o15_wait_ready_and_successful_never_fail
    o16_one_of_the_two_callbacks_is_called_once
    o16_callbacks_are_called_before_the_result_is_seen_and_before_join_returns
    o16_a_callback_that_comes_late_is_called_too
    o17_a_slow_callback_holds_up_no_result
    o17_a_callback_that_panics_does_no_harm
    o27_an_item_that_does_not_fit_fails_in_its_place
    o49_shutdown_cancels_what_is_queued_and_finishes_what_runs
    o51_a_deadline_for_all_results_counts_from_the_call
    o52_dropping_an_iterator_stops_what_is_running
    a_queued_task_is_cancelled_at_once
    a_running_task_is_cancelled_within_its_worker
    a_cancelled_map_keeps_what_was_done
    a_result_that_is_dropped_lets_its_task_go_on
    a_cancelled_task_leaves_the_others_alone
    an_iterator_that_blocks_holds_up_neither_results_nor_the_pools_end
    an_endless_map_ends_with_its_job
    after_join_every_result_is_ready
    a_callback_may_hold_the_last_handle_of_its_pool
    the_reason_of_a_broken_pool_is_kept_short
    o34_terminate_calls_error_callbacks_with_cancelled
}

fn busy(pool: &Pool) -> usize {
    pool.workers().iter().filter(|w| w.state == WorkerState::Busy).count()
}

#[track_caller]
fn wait_busy(pool: &Pool, count: usize) {
    wait_until("workers are busy", Duration::from_secs(20), || busy(pool) == count);
}

fn o13_map_async_returns_at_once_and_get_gives_the_results(method: StartMethod) {
    let pool = pool("upper", method);
    let upper = pool.func::<String, String>("run").unwrap();
    let (go, gate) = mpsc::channel::<()>();
    // Drawn elsewhere: an iterator that waits does not hold up the call.
    let items = (0..100).map(move |n| {
        if n == 50 {
            gate.recv().unwrap();
        }
        format!("a{n}")
    });
    let results = pool.map_async(&upper, items);
    assert!(!results.ready());
    assert_eq!(results.successful(), None);
    go.send(()).unwrap();
    assert_eq!(results.get().unwrap(), (0..100).map(|n| format!("A{n}")).collect::<Vec<_>>());
    // A failure is reported as `map` reports it.
    let failing = builder(&guest("failing"), method).build().unwrap();
    let run = failing.func::<&str, String>("run").unwrap();
    let error = failing.map_async(&run, ["a", "bad", "c", "bad"]).get().unwrap_err();
    assert_eq!((error.index, error.failed, error.error.kind()), (1, 2, "failed"));
}

fn o14_get_timeout_of_a_map_gives_up_and_a_later_get_works(method: StartMethod) {
    let pool = pool("hello", method);
    let hello = pool.func::<String, String>("run").unwrap();
    let mut results = pool.map_async(&hello, (0..2).map(|n| format!("{n}:300")));
    let asked = Instant::now();
    assert_eq!(results.get_timeout(Duration::from_millis(20)).unwrap_err(), TimedOut);
    assert!(asked.elapsed() >= Duration::from_millis(20));
    assert_eq!(results.get_timeout(Duration::from_secs(30)).unwrap().unwrap().len(), 2);
}

fn o15_wait_ready_and_successful_never_fail(method: StartMethod) {
    let pool = pool("failing", method);
    let run = pool.func::<&str, String>("run").unwrap();
    let looping = pool.apply_async(&run, "loop");
    assert!(!looping.wait(Some(Duration::ZERO)) && !looping.ready());
    assert_eq!(looping.successful(), None);
    let (good, bad) = (pool.apply_async(&run, "good"), pool.apply_async(&run, "bad"));
    assert!(good.wait(None) && bad.wait(Some(Duration::from_secs(30))));
    assert_eq!((good.successful(), bad.successful()), (Some(true), Some(false)));
    assert_eq!((good.get().as_deref(), bad.get().is_err()), (Ok("good"), true));
}

fn o16_one_of_the_two_callbacks_is_called_once(method: StartMethod) {
    let pool = pool("failing", method);
    let run = pool.func::<&str, String>("run").unwrap();
    let (said, heard) = mpsc::channel();
    for record in ["good", "bad", "panic"] {
        let (ok, err) = (said.clone(), said.clone());
        let _going_on = pool
            .apply_async(&run, record)
            .callback(move |value| ok.send(format!("{record}: {value}")).unwrap())
            .error_callback(move |error| err.send(format!("{record}: {}", error.kind())).unwrap());
    }
    let (ok, err) = (said.clone(), said.clone());
    let _going_on = pool
        .map_async(&run, ["a", "b"])
        .callback(move |values| ok.send(format!("map: {values:?}")).unwrap())
        .error_callback(move |error| err.send(error.to_string()).unwrap());
    let _going_on = pool
        .map_async(&run, ["a", "bad", "bad"])
        .callback(|values| panic!("{values:?} is no success"))
        .error_callback(move |error| said.send(format!("map: {error}")).unwrap());
    pool.close();
    pool.join().unwrap();
    let mut calls: Vec<String> = heard.iter().collect();
    calls.sort();
    let expected =
        ["bad: failed", "good: good", "map: [\"a\", \"b\"]", "map: task 1: bad is bad", "panic: trap"];
    assert_eq!(calls, expected);
}

fn o16_callbacks_are_called_before_the_result_is_seen_and_before_join_returns(method: StartMethod) {
    let pool = pool("upper", method);
    let upper = pool.func::<&str, String>("run").unwrap();
    let called = Arc::new(AtomicUsize::new(0));
    let count = |pause: u64| {
        let called = called.clone();
        move |_: &String| {
            std::thread::sleep(Duration::from_millis(pause));
            called.fetch_add(1, Ordering::SeqCst);
        }
    };
    let seen = pool.apply_async(&upper, "a").callback(count(50)).get();
    assert_eq!((seen.as_deref(), called.load(Ordering::SeqCst)), (Ok("A"), 1));
    let _going_on = pool.apply_async(&upper, "b").callback(count(100)).callback(count(0));
    pool.close();
    pool.join().unwrap();
    assert_eq!(called.load(Ordering::SeqCst), 3);
}

fn o16_a_callback_that_comes_late_is_called_too(method: StartMethod) {
    let pool = pool("upper", method);
    let upper = pool.func::<&str, String>("run").unwrap();
    let result = pool.apply_async(&upper, "a");
    assert!(result.wait(None));
    let (said, heard) = mpsc::channel();
    let result = result.callback(move |value| said.send(value.clone()).unwrap());
    assert_eq!(heard.recv_timeout(Duration::from_secs(30)).unwrap(), "A");
    assert_eq!(result.get().as_deref(), Ok("A"));
    // Also of a call that was refused.
    pool.terminate();
    let (said, heard) = mpsc::channel();
    let _refused =
        pool.apply_async(&upper, "b").error_callback(move |error| said.send(error.clone()).unwrap());
    assert_eq!(heard.recv_timeout(Duration::from_secs(30)), Ok(TaskError::Closed));
}

/// In CPython a slow callback delays all results.
fn o17_a_slow_callback_holds_up_no_result(method: StartMethod) {
    let pool = pool("upper", method);
    let upper = pool.func::<String, String>("run").unwrap();
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let at_gate = gate.clone();
    let _going_on = pool.apply_async(&upper, "slow".to_owned()).callback(move |_| {
        let (open, opened) = &*at_gate;
        drop(opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
    });
    assert_eq!(pool.map(&upper, (0..500).map(|n| format!("a{n}"))).unwrap().len(), 500);
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
}

fn o17_a_callback_that_panics_does_no_harm(method: StartMethod) {
    let pool = pool("upper", method);
    let upper = pool.func::<&str, String>("run").unwrap();
    let panicking = pool.apply_async(&upper, "a").callback(|_| panic!("this panic is part of a test"));
    assert_eq!(panicking.get().as_deref(), Ok("A"));
    let (said, heard) = mpsc::channel();
    let _going_on = pool.apply_async(&upper, "b").callback(move |value| said.send(value.clone()).unwrap());
    pool.close();
    pool.join().unwrap();
    assert_eq!(heard.recv().unwrap(), "B");
}

fn o27_an_item_that_does_not_fit_fails_in_its_place(method: StartMethod) {
    let module = wat(
        "(module (func (export \"double\") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2))))",
    );
    let pool = builder(&module, method).build().unwrap();
    let double = pool.func::<i64, i32>("double").unwrap();
    let outcomes = pool.try_map(&double, [1, i64::MAX, 3]);
    let misfit = Err(TaskError::BadRecord { message: "a value that does not fit s32".to_owned() });
    assert_eq!(outcomes, [Ok(2), misfit.clone(), Ok(6)]);
    assert_eq!(pool.imap(&double, [i64::MIN, 2]).collect::<Vec<_>>(), [misfit.clone(), Ok(4)]);
    assert_eq!(pool.apply_async(&double, i64::MAX).get(), misfit);
    // An input that may itself be an error: as CPython's iterator that raises, but the others are not lost
    // (O22).
    let double = pool.func::<Result<i64, String>, i32>("double").unwrap();
    let items = || [Ok(1), Err("no such line".to_owned()), Ok(3)].into_iter();
    let broken = Err(TaskError::BadRecord { message: "no such line".to_owned() });
    assert_eq!(pool.imap(&double, items()).collect::<Vec<_>>(), [Ok(2), broken.clone(), Ok(6)]);
    let first = pool.map(&double, items()).unwrap_err();
    assert_eq!((first.index, Err(first.error)), (1, broken));
}

fn o49_shutdown_cancels_what_is_queued_and_finishes_what_runs(method: StartMethod) {
    let pool = pool("hello", method);
    let hello = pool.func::<String, String>("run").unwrap();
    let results: Vec<_> = (0..50).map(|n| pool.apply_async(&hello, format!("{n}:200"))).collect();
    wait_busy(&pool, 2);
    pool.shutdown(true);
    pool.join().unwrap();
    let outcomes: Vec<_> = results.into_iter().map(|result| result.get()).collect();
    let (done, cancelled): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert!((1..=4).contains(&done.len()), "{} were running", done.len());
    assert!(cancelled.iter().all(|outcome| *outcome == Err(TaskError::Cancelled)));
    assert_eq!(pool.apply(&hello, "late:0".to_owned()), Err(TaskError::Closed));
}

fn o51_a_deadline_for_all_results_counts_from_the_call(method: StartMethod) {
    let pool = builder(&guest("hello"), method).processes(1).build().unwrap();
    let hello = pool.func::<String, String>("run").unwrap();
    let called = Instant::now();
    let deadline = called + Duration::from_millis(300);
    let mut results = pool.imap(&hello, (0..100).map(|n| format!("{n}:100")));
    let mut got = 0;
    while let Ok(Some(result)) = results.next_until(deadline) {
        result.unwrap();
        got += 1;
    }
    assert!(called.elapsed() >= Duration::from_millis(300) && got < 4, "{got}");
}

/// Workers that have all the time they want to drop a task, so that none is killed on a machine that is slow.
fn patient(method: StartMethod) -> PoolBuilder {
    let mut limits = Limits::default();
    limits.grace = Duration::from_secs(30);
    builder(&guest("failing"), method).limits(limits)
}

fn o52_dropping_an_iterator_stops_what_is_running(method: StartMethod) {
    let pool = patient(method).build().unwrap();
    let run = pool.func::<&str, String>("run").unwrap();
    let results = pool.imap(&run, ["loop"; 50]);
    wait_busy(&pool, 2);
    let pids = support::pids(&pool);
    drop(results);
    assert_eq!(pool.apply(&run, "on").as_deref(), Ok("on"));
    wait_until("no worker is busy", Duration::from_secs(20), || busy(&pool) == 0);
    // The workers dropped their tasks themselves: none had to be killed.
    assert_eq!(support::pids(&pool), pids);
}

fn a_queued_task_is_cancelled_at_once(method: StartMethod) {
    let pool = builder(&guest("failing"), method).processes(1).build().unwrap();
    let run = pool.func::<&str, String>("run").unwrap();
    let looping = pool.apply_async(&run, "loop");
    wait_busy(&pool, 1);
    let queued = pool.apply_async(&run, "never");
    assert!(queued.cancel());
    assert!(queued.ready());
    assert!(!queued.cancel(), "there is nothing left to cancel");
    assert_eq!(queued.get(), Err(TaskError::Cancelled));
    assert!(!looping.ready());
}

fn a_running_task_is_cancelled_within_its_worker(method: StartMethod) {
    let pool = patient(method).processes(1).build().unwrap();
    let run = pool.func::<&str, String>("run").unwrap();
    let looping = pool.apply_async(&run, "loop");
    wait_busy(&pool, 1);
    let pids = support::pids(&pool);
    assert!(looping.cancel());
    assert_eq!(looping.get(), Err(TaskError::Cancelled));
    assert_eq!(pool.apply(&run, "next").as_deref(), Ok("next"));
    assert_eq!(support::pids(&pool), pids, "the worker lives on");
}

fn a_cancelled_map_keeps_what_was_done(method: StartMethod) {
    let pool = builder(&guest("failing"), method).processes(1).build().unwrap();
    let run = pool.func::<String, String>("run").unwrap();
    let results = pool.map_async(&run, ["a", "loop", "b"].map(str::to_owned));
    wait_busy(&pool, 1);
    assert!(results.cancel());
    let error = results.get().unwrap_err();
    assert_eq!(error.error, TaskError::Cancelled);
    assert_eq!(pool.apply(&run, "on".to_owned()).as_deref(), Ok("on"));
}

fn a_result_that_is_dropped_lets_its_task_go_on(method: StartMethod) {
    let pool = pool("upper", method);
    let upper = pool.func::<&str, String>("run").unwrap();
    let (said, heard) = mpsc::channel();
    drop(pool.apply_async(&upper, "a").callback(move |value| said.send(value.clone()).unwrap()));
    drop(pool.apply_async(&upper, "b"));
    assert_eq!(heard.recv_timeout(Duration::from_secs(30)).unwrap(), "A");
    pool.close();
    pool.join().unwrap();
}

fn a_cancelled_task_leaves_the_others_alone(method: StartMethod) {
    let pool = pool("failing", method);
    let run = pool.func::<String, String>("run").unwrap();
    let others = pool.imap(&run, (0..2000).map(|n| n.to_string()));
    for _ in 0..5 {
        let looping = pool.apply_async(&run, "loop".to_owned());
        assert!(looping.cancel());
        assert_eq!(looping.get(), Err(TaskError::Cancelled));
    }
    for (n, result) in others.enumerate() {
        assert_eq!(result, Ok(n.to_string()));
    }
}

fn an_iterator_that_blocks_holds_up_neither_results_nor_the_pools_end(method: StartMethod) {
    let pool = pool("upper", method);
    let upper = pool.func::<String, String>("run").unwrap();
    let (_never, gate) = mpsc::channel::<String>();
    let (said, heard) = mpsc::channel();
    let blocked = pool.map_async(&upper, ["a".to_owned()].into_iter().chain(gate));
    let blocked = blocked.error_callback(move |error| said.send(error.error.clone()).unwrap());
    pool.terminate();
    drop(pool);
    assert_eq!(heard.recv_timeout(Duration::from_secs(30)), Ok(TaskError::Cancelled));
    assert_eq!(blocked.get().unwrap_err().error, TaskError::Cancelled);
}

/// A result that takes its time to be read.
struct Slow(String);

impl Ret for Slow {
    fn fits(result: Option<&Type>) -> bool {
        String::fits(result)
    }

    fn decode(bytes: &[u8], result: Option<&Type>) -> Option<Slow> {
        std::thread::sleep(Duration::from_millis(20));
        String::decode(bytes, result).map(Slow)
    }
}

fn after_join_every_result_is_ready(method: StartMethod) {
    let pool = pool("upper", method);
    let upper = pool.func::<&str, Slow>("run").unwrap();
    let (all, one) =
        pool.scope(|pool| (pool.map_async(&upper, ["a", "b", "c"]), pool.apply_async(&upper, "d")));
    assert!(all.ready() && one.ready());
    assert!(all.get().unwrap().iter().map(|slow| slow.0.as_str()).eq(["A", "B", "C"]));
}

fn an_endless_map_ends_with_its_job(method: StartMethod) {
    let endless = || (0u64..).map(|n| n.to_string());
    let pool = builder(&guest("upper"), method).halt("soon,done=10".parse().unwrap()).build().unwrap();
    let upper = pool.func::<String, String>("run").unwrap();
    let outcomes = pool.try_map(&upper, endless());
    assert!(outcomes.len() > 10 && outcomes.last() == Some(&Err(TaskError::Cancelled)));
    let pool = self::pool("upper", method);
    let upper = pool.func::<String, String>("run").unwrap();
    let results = pool.map_async(&upper, endless());
    assert!(results.cancel());
    assert_eq!(results.get().unwrap_err().error, TaskError::Cancelled);
    pool.terminate();
    assert_eq!(pool.try_map(&upper, endless()), [Err(TaskError::Closed)]);
}

fn a_callback_may_hold_the_last_handle_of_its_pool(method: StartMethod) {
    for panics in [false, true] {
        let pool = Arc::new(pool("upper", method));
        let upper = pool.func::<String, String>("run").unwrap();
        let (said, heard) = mpsc::channel::<()>();
        let holding = (pool.clone(), said);
        let items = (0..3).map(move |n| match panics && n == 2 {
            true => panic!("this panic is part of a test"),
            false => n.to_string(),
        });
        let result = pool.map_async(&upper, items).callback(move |_| drop(holding));
        drop(pool);
        // The channel ends with the callback, whether that was called or not, and whatever else it held
        // before.
        assert_eq!(heard.recv_timeout(Duration::from_secs(30)), Err(mpsc::RecvTimeoutError::Disconnected));
        assert!(panics || result.get().is_ok());
    }
}

fn the_reason_of_a_broken_pool_is_kept_short(method: StartMethod) {
    let long = "x".repeat(60_000);
    let pool = builder(&guest("counter"), method).initargs([long.as_str(), "y"]).build().unwrap();
    let count = pool.func::<&str, String>("run").unwrap();
    let pool = match pool.apply(&count, "") {
        Err(TaskError::Broken { reason }) if reason.contains("expected one number") => {
            builder(&guest("failing"), method).initializer("run", [format!("bad {long}")]).build().unwrap()
        }
        other => panic!("{other:?}"),
    };
    let run = pool.func::<&str, String>("run").unwrap();
    let outcomes = pool.try_map(&run, vec![""; 40_000]);
    assert_eq!(outcomes.len(), 40_000);
    let Some(Err(TaskError::Broken { reason })) = outcomes.first() else { panic!("it ran") };
    assert!(
        reason.starts_with("the initializer failed: bad xxx") && reason.len() < 2000,
        "{} bytes",
        reason.len()
    );
}

fn o34_terminate_calls_error_callbacks_with_cancelled(method: StartMethod) {
    let pool = pool("failing", method);
    let run = pool.func::<&str, String>("run").unwrap();
    let (said, heard) = mpsc::channel();
    let looping =
        pool.apply_async(&run, "loop").error_callback(move |error| said.send(error.clone()).unwrap());
    pool.terminate();
    assert_eq!(looping.get(), Err(TaskError::Cancelled));
    assert_eq!(heard.recv_timeout(Duration::from_secs(30)), Ok(TaskError::Cancelled));
}

/// A task that sleeps in the host cannot be interrupted: its worker is killed after the grace, and no other
/// task fails.
#[test]
fn a_task_in_a_call_to_the_host_is_cancelled_with_its_worker() {
    let _bound = time_bound();
    for method in [StartMethod::Forkserver, StartMethod::Spawn] {
        let pool = builder(&guest("hello"), method).processes(1).build().unwrap();
        let hello = pool.func::<&str, String>("run").unwrap();
        let sleeping = pool.apply_async(&hello, "a:60000");
        wait_busy(&pool, 1);
        let pids = support::pids(&pool);
        // A task that has been sent and not begun would be dropped, at no cost.
        wait_until("it sleeps", Duration::from_secs(20), || support::sleeps_in_a_call(pids[0]));
        assert!(sleeping.cancel());
        let next = pool.apply(&hello, "b:0").unwrap();
        assert!(next.starts_with("hello b"), "{next}");
        assert_gone(&pids);
    }
}

/// Each result lives as long as its handle and no longer; arguments are gone with the task.
#[test]
fn o29_neither_arguments_nor_results_are_kept() {
    let _bound = time_bound();
    let pool = Pool::builder(&guest("upper")).processes(1).build().unwrap();
    let upper = pool.func::<String, String>("run").unwrap();
    let large = "x".repeat(8 << 20);
    drop(pool.apply(&upper, large.clone()).unwrap());
    let before = resident_mib();
    for _ in 0..20 {
        assert_eq!(pool.apply(&upper, large.clone()).unwrap().len(), large.len());
    }
    let grown = resident_mib().saturating_sub(before);
    assert!(grown < 64, "{grown} MiB more after 20 results of 8 MiB");
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

/// An iterator that was dropped early has not drawn more than its buffer.
#[test]
fn o52_dropping_an_iterator_ends_the_drawing() {
    let _bound = time_bound();
    let pool =
        Pool::builder(&guest("upper")).processes(1).buffer(NonZeroUsize::new(4).unwrap()).build().unwrap();
    let upper = pool.func::<String, String>("run").unwrap();
    let drawn = Arc::new(AtomicUsize::new(0));
    let counted = drawn.clone();
    let items = (0u64..).map(move |n| {
        counted.fetch_add(1, Ordering::SeqCst);
        n.to_string()
    });
    let weak = {
        let mut results = pool.imap(&upper, items);
        assert_eq!(results.next().unwrap().unwrap(), "0");
        Arc::downgrade(&drawn)
    };
    wait_until("the feeder has let go of its iterator", Duration::from_secs(20), || weak.strong_count() == 1);
    assert!(drawn.load(Ordering::SeqCst) <= 10, "{drawn:?}");
}

#[test]
fn the_memory_limit_is_still_told_apart_from_a_cancel() {
    let _bound = time_bound();
    let text = "(module (memory (export \"memory\") 1) (func (export \"grow\") (param i32)
        (if (i32.eq (memory.grow (local.get 0)) (i32.const -1)) (then (unreachable)))))";
    let pool = Pool::builder(&wat(text)).processes(1).build().unwrap();
    let grow = pool.func::<i32, ()>("grow").unwrap();
    let Err(TaskError::Limit { limit, .. }) = pool.apply(&grow, 60_000) else { panic!("no limit") };
    assert_eq!(limit, Limit::Memory);
}
