//! Calls of `apply` that follow each other: the calling thread does the dispatcher's work.
//!
//! On a busy machine a caller leaves that work to the dispatcher's thread. What these tests ask for holds
//! either way.

use super::*;

over_all_start_methods! {
    calls_beside_other_jobs_all_have_their_results
    each_call_has_one_outcome_while_workers_are_killed
    a_time_limit_ends_the_task_of_a_caller_that_has_just_called
    the_end_of_a_pool_ends_the_calls_of_other_threads
    each_call_may_have_a_worker_of_its_own
    events_come_from_the_pools_own_thread
    a_pool_that_was_at_rest_takes_calls_again
}

/// Loops `apply` until `ends` says so. Gives the number of calls, each of which had its own result.
fn call_until(pool: &Pool, name: &str, mut ends: impl FnMut(u32) -> bool) -> u32 {
    let run = pool.func::<String, String>("run").unwrap();
    for calls in 0.. {
        if ends(calls) {
            return calls;
        }
        let record = format!("{name} {calls}");
        assert_eq!(pool.apply(&run, record.clone()).unwrap(), record);
    }
    unreachable!("the range has no end")
}

fn calls_beside_other_jobs_all_have_their_results(method: StartMethod) {
    let pool = builder(&guest("failing"), method).isolation(Isolation::Reuse).build().unwrap();
    let run = pool.func::<String, String>("run").unwrap();
    let others = AtomicUsize::new(3);
    let records = |name: &'static str| (0..200).map(move |n| format!("{name} {n}"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20 {
                assert!(pool.map(&run, records("map")).unwrap().into_iter().eq(records("map")));
            }
            others.fetch_sub(1, Ordering::Relaxed);
        });
        scope.spawn(|| {
            for n in 0..100 {
                // Dropping the iterator cancels the others.
                assert_eq!(pool.imap(&run, records("imap")).next(), Some(Ok("imap 0".to_owned())));
                let record = format!("async {n}");
                assert_eq!(pool.apply_async(&run, record.clone()).get().unwrap(), record);
            }
            others.fetch_sub(1, Ordering::Relaxed);
        });
        scope.spawn(|| {
            call_until(&pool, "other", |calls| calls == 500);
            others.fetch_sub(1, Ordering::Relaxed);
        });
        call_until(&pool, "mine", |_| others.load(Ordering::Relaxed) == 0);
    });
    // Alone again.
    assert_eq!(call_until(&pool, "alone", |calls| calls == 300), 300);
}

fn each_call_has_one_outcome_while_workers_are_killed(method: StartMethod) {
    // A worker in a thread cannot be killed from outside.
    if method == StartMethod::Thread {
        return;
    }
    let pool = builder(&guest("failing"), method).poison_limit(NonZeroU32::MAX).build().unwrap();
    let run = pool.func::<String, String>("run").unwrap();
    let calling = AtomicUsize::new(2);
    let (lost, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for caller in 0..2 {
            let (pool, run, lost, answered, calling) = (&pool, &run, &lost, &answered, &calling);
            scope.spawn(move || {
                for n in 0..1000 {
                    let record = format!("{caller} {n}");
                    match pool.apply(run, record.clone()) {
                        Ok(result) => assert_eq!(result, record),
                        Err(TaskError::WorkerLost { exitcode: Some(-9), .. }) => {
                            lost.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => panic!("{error}"),
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                calling.fetch_sub(1, Ordering::Relaxed);
            });
        }
        // A kill for every few calls: more would look like workers that can do no task at all.
        let mut next = 20;
        while calling.load(Ordering::Relaxed) > 0 {
            if answered.load(Ordering::Relaxed) >= next {
                next = answered.load(Ordering::Relaxed) + 20;
                pids(&pool).into_iter().take(1).for_each(|pid| support::signal(pid, Signal::KILL));
            }
            std::thread::yield_now();
        }
    });
    assert_eq!(answered.into_inner(), 2000);
    assert!(lost.into_inner() < 200);
    assert_eq!(call_until(&pool, "after", |calls| calls == 50), 50);
}

fn a_time_limit_ends_the_task_of_a_caller_that_has_just_called(method: StartMethod) {
    let limit = Duration::from_millis(200);
    let pool = builder(&guest("hello"), method).processes(1).task_timeout(limit).build().unwrap();
    let hello = pool.func::<&str, String>("run").unwrap();
    for _ in 0..3 {
        for _ in 0..50 {
            assert!(pool.apply(&hello, "a:0").is_ok());
        }
        let asked = Instant::now();
        let error = pool.apply(&hello, "b:60000").unwrap_err();
        assert!(matches!(error, TaskError::Limit { limit: Limit::Time, .. }), "{error}");
        assert!(asked.elapsed() >= limit);
    }
}

fn the_end_of_a_pool_ends_the_calls_of_other_threads(method: StartMethod) {
    let module = guest("failing");
    type End = fn(&Pool);
    let ends: [End; 3] =
        [|pool| drop(pool.terminate()), |pool| drop(pool.close()), |pool| drop(pool.shutdown(true))];
    for round in 0..12 {
        let pool = builder(&module, method).build().unwrap();
        let run = pool.func::<&str, String>("run").unwrap();
        let called = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let caller = scope.spawn(|| {
                loop {
                    match pool.apply(&run, "a") {
                        Ok(result) => assert_eq!(result, "a"),
                        Err(error) => return error,
                    }
                    called.fetch_add(1, Ordering::Relaxed);
                }
            });
            wait_until("some calls", Duration::from_secs(20), || called.load(Ordering::Relaxed) > 10 * round);
            ends[round % ends.len()](&pool);
            pool.join().unwrap();
            let error = caller.join().unwrap();
            assert!(matches!(error, TaskError::Closed | TaskError::Cancelled), "{error}");
        });
        assert_eq!(pool.workers(), []);
    }
}

fn each_call_may_have_a_worker_of_its_own(method: StartMethod) {
    let pool = builder(&guest("failing"), method).max_tasks_per_child(NonZeroU64::MIN).build().unwrap();
    assert_eq!(call_until(&pool, "own", |calls| calls == 20), 20);
    let last = indices(&pool).into_iter().max().unwrap();
    assert!(last >= 20, "{last} workers in all");
}

fn events_come_from_the_pools_own_thread(method: StartMethod) {
    let told: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let names = told.clone();
    let on_event = move |_: &PoolEvent| {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        names.lock().unwrap().insert(name);
    };
    let pool = builder(&guest("failing"), method).on_event(on_event).build().unwrap();
    call_until(&pool, "heard", |calls| calls == 100);
    drop(pool);
    assert_eq!(*told.lock().unwrap(), BTreeSet::from(["wpool-dispatcher".to_owned()]));
}

fn a_pool_that_was_at_rest_takes_calls_again(method: StartMethod) {
    let idle = Duration::from_millis(20);
    let pool = builder(&guest("failing"), method).idle_timeout(idle).build().unwrap();
    for round in 0..4 {
        call_until(&pool, "again", |calls| calls == 10 * round + 1);
        // Only the dispatcher's thread can have noticed the time.
        wait_until("the workers are gone", Duration::from_secs(20), || pool.workers().is_empty());
    }
}
