//! Items that are drawn as the work proceeds, and threads that share pools.

use super::*;

over_all_start_methods! {
    o11_imap_draws_no_more_than_its_buffer_ahead
    o50_no_more_workers_than_asked_for_and_idle_ones_first
    o53_several_threads_share_a_pool
    several_pools_live_side_by_side
    a_record_reaches_an_idle_worker_while_another_is_busy
}

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
                // The places of results that came together come free together.
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
