//! Initializers, and the lives of workers.

use super::*;

over_all_start_methods! {
    o37_the_initializer_runs_before_any_task
    o38_a_failing_initializer_breaks_the_pool_once
    o39_replacements_run_the_initializer_too
    o40_workers_are_replaced_after_their_share_of_tasks
    o42_close_with_one_task_per_child_finishes_all
    fresh_instances_know_nothing_of_each_other_and_reused_ones_do
    a_failed_task_is_tried_again_as_often_as_was_asked_for
    f126_a_caller_that_comes_while_the_pool_breaks_is_told_why
}

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
    // Later tasks have the same error.
    pool.terminate();
    pool.join().unwrap();
    assert_eq!(pool.apply(&count, ""), broken);
    assert_eq!(pool.imap(&count, [""]).collect::<Vec<_>>(), std::slice::from_ref(&broken));
    // Threads leave none there.
    let starts = std::fs::read_to_string(log).unwrap_or_default();
    assert!(starts.lines().count() <= 5, "{starts}");
}

/// Before, a stream that came a moment too late was told that the pool was not running.
fn f126_a_caller_that_comes_while_the_pool_breaks_is_told_why(method: StartMethod) {
    let is_reason = |reason: &str| reason.starts_with("the initializer failed: ");
    let is_why = |why: &TaskError| matches!(why, TaskError::Broken { reason } if is_reason(reason));
    for _ in 0..10 {
        let pool = builder(&guest("counter"), method).processes(1).initargs(["ten"]).build().unwrap();
        let count = pool.func::<&str, String>("run").unwrap();
        let refused = loop {
            match pool.stream(&Target::default(), true) {
                Err(refused) => break refused,
                Ok((mut inputs, mut outcomes)) => {
                    let _told_below = inputs.push(b"");
                    drop(inputs);
                    let first =
                        outcomes.take_one(None, |outcome| outcome.result().map(<[u8]>::to_vec)).unwrap();
                    let why = first.map_or_else(|| outcomes.cut_short(), Result::err);
                    assert!(why.as_ref().is_some_and(is_why), "{why:?}");
                }
            }
            let failed = [pool.apply(&count, ""), pool.imap(&count, [""]).next().unwrap()];
            for outcome in failed.into_iter().chain(pool.try_map(&count, [""; 2])) {
                assert!(outcome.as_ref().is_err_and(is_why), "{outcome:?}");
            }
        };
        assert!(matches!(&refused, BuildError::Broken { reason } if is_reason(reason)), "{refused:?}");
    }
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
