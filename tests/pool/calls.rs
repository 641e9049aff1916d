//! The calls of a pool and their results.

use super::*;

over_all_start_methods! {
    o6_apply_gives_the_functions_result
    o7_map_gives_the_results_in_order
    o8_an_empty_input_gives_no_results
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
}

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
    assert_ne!(order[0], 0, "no result waits for the slow one");
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
    assert_eq!(error.to_string(), "task 1: trap: panicked at failing/src/lib.rs:15:48: panic, as told");
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
