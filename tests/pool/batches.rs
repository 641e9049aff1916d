//! What batches must not change, and large pools.

use super::*;

over_all_start_methods! {
    o9_chunking_never_changes_results
    o22_a_failure_costs_no_neighbour
    o24_large_failures_hold_up_nothing
    o25_a_trap_tells_where
    o36_a_pool_that_is_not_closed_leaves_nothing_behind
    o48_what_comes_after_the_end_is_refused
}

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
    let ends: [fn(&Pool); 3] =
        [|pool| drop(pool.close()), |pool| drop(pool.terminate()), |pool| drop(pool.shutdown(true))];
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
        let is_echo = |r: &String| !["panic", "exit", "loop"].iter().any(|word| r.starts_with(word));
        let records: Vec<String> = records.into_iter().filter(is_echo).collect();
        prop_assert_eq!(pool.try_map(&run, records.clone()), sequential(&records));
        let all: Result<Vec<String>, TaskError> = sequential(&records).into_iter().collect();
        prop_assert_eq!(pool.map(&run, records).map_err(|e| e.error), all);
    }
}

/// CPython's `map` makes a list of the input first; ProcessPoolExecutor's draws all of it before the first
/// result, and takes a gigabyte for this one.
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
