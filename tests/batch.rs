//! Many records in one call of the guest, in real pools: the results are those of single calls. The worker's
//! side has tests beside its code.

#[path = "support/methods.rs"]
mod methods;
mod support;

use std::time::Duration;

use rustix::process::Signal;
use support::{assert_gone, cpu_ticks, guest, pids, signal, time_bound, wait_until};
use wpool::{Isolation, Limit, Pool, PoolBuilder, StartMethod, TaskError};

fn builder(name: &str, method: StartMethod) -> PoolBuilder {
    Pool::builder(&guest(name)).processes(1).start_method(method).isolation(Isolation::Reuse)
}

methods::over_all_start_methods! {
    the_state_goes_on_from_record_to_record
    each_record_has_its_own_outcome
    each_record_has_its_own_time
    a_cancel_ends_the_running_record
}

fn the_state_goes_on_from_record_to_record(method: StartMethod) {
    let pool = builder("counter", method).build().unwrap();
    let count = pool.func::<&str, String>("run").unwrap();
    let counted = pool.map(&count, std::iter::repeat_n("", 3000)).unwrap();
    assert!(counted.iter().map(|n| n.parse::<usize>().unwrap()).eq(1..=3000));
}

fn each_record_has_its_own_outcome(method: StartMethod) {
    let pool = builder("failing", method).processes(2).build().unwrap();
    let run = pool.func::<String, String>("run").unwrap();
    let record = |n: usize| match n % 50 {
        7 => format!("bad {n}"),
        23 => format!("panic {n}"),
        24 => format!("exit {n}"),
        _ => n.to_string(),
    };
    for (n, outcome) in pool.try_map(&run, (0..2000).map(record)).into_iter().enumerate() {
        match n % 50 {
            7 => assert_eq!(outcome, Err(TaskError::Failed { message: format!("bad {n} is bad") })),
            23 => assert!(matches!(outcome, Err(TaskError::Trap { .. })), "{n}: {outcome:?}"),
            24 => assert_eq!(outcome, Err(TaskError::Exited { code: 1 }), "{n}"),
            _ => assert_eq!(outcome.as_deref(), Ok(&*n.to_string())),
        }
    }
}

/// With one limit for all records of a call, the second loop would have no time left, or the first would have
/// that of all.
fn each_record_has_its_own_time(method: StartMethod) {
    let pool = builder("failing", method).task_timeout(Duration::from_millis(200)).build().unwrap();
    let run = pool.func::<String, String>("run").unwrap();
    let is_endless = |n: usize| matches!(n, 300 | 301 | 350);
    let record = |n: usize| if is_endless(n) { "loop".to_owned() } else { n.to_string() };
    for (n, outcome) in pool.try_map(&run, (0..600).map(record)).into_iter().enumerate() {
        match outcome {
            Ok(result) => assert!(result == n.to_string() && !is_endless(n)),
            Err(TaskError::Limit { limit: Limit::Time, .. }) => assert!(is_endless(n), "{n}"),
            Err(other) => panic!("{n}: {other:?}"),
        }
    }
}

fn a_cancel_ends_the_running_record(method: StartMethod) {
    let pool = builder("failing", method).build().unwrap();
    let run = pool.func::<String, String>("run").unwrap();
    for _ in 0..3 {
        let record = |n: usize| if n == 200 { "loop".to_owned() } else { n.to_string() };
        let mut results = pool.imap(&run, (0..1000).map(record));
        assert!(results.by_ref().take(200).map(Result::unwrap).eq((0..200).map(|n| n.to_string())));
        drop(results);
        assert_eq!(pool.apply(&run, "next".to_owned()).unwrap(), "next");
    }
}

/// The results in front of the endless record arrive although the call that makes them has not returned; what
/// is behind it is done by another worker, and is charged nothing.
#[test]
fn a_death_costs_the_running_record_only() {
    let _bound = time_bound();
    for method in [StartMethod::Forkserver, StartMethod::Spawn] {
        let pool = builder("failing", method).retries(0).build().unwrap();
        let run = pool.func::<String, String>("run").unwrap();
        for endless in [100, 333] {
            let record = move |n: usize| if n == endless { "loop".to_owned() } else { n.to_string() };
            let mut results = pool.imap(&run, (0..1000).map(record));
            assert!(
                results.by_ref().take(endless).map(Result::unwrap).eq((0..endless).map(|n| n.to_string()))
            );
            let [victim] = pids(&pool)[..] else { panic!("one worker") };
            // The results may be those of a whole batch, before the worker has begun the next one.
            let before = cpu_ticks(victim);
            wait_until("the record runs", Duration::from_secs(20), || cpu_ticks(victim) > before + 2);
            signal(victim, Signal::KILL);
            assert_eq!(results.next().unwrap().unwrap_err().kind(), "worker-lost");
            assert!(results.map(Result::unwrap).eq((endless + 1..1000).map(|n| n.to_string())));
            assert_gone(&[victim]);
        }
    }
}
