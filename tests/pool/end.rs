//! The end of a pool.

use super::*;

over_all_start_methods! {
    o30_after_close_nothing_is_taken_and_everything_is_finished
    o31_results_can_be_had_after_join
    o32_join_before_close_is_an_error
    o33_terminate_with_ten_thousand_tasks_queued_is_prompt
    o34_after_terminate_a_pending_get_is_cancelled
    o35_scope_drains_and_drop_terminates
    o52_dropping_an_iterator_cancels_the_rest
    a_terminated_pool_ends_an_endless_imap
}

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
