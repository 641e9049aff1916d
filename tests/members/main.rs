//! Workers whose guests use shared objects: what a wait costs, what ends it, and what the end of a worker at
//! any moment leaves behind. Rows X1 to X7 of the contract.
//!
//! A record is a program for the guest `support/guests/exchange.wat`, whose text says how.

#[path = "../support/methods.rs"]
mod methods;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use methods::over_all_start_methods;
use support::exchange_guest;
use wpool::ipc::Queue;
use wpool::sync::{Event, Lock};
use wpool::{Func, Limit, Limits, Policy, Pool, PoolBuilder, StartMethod, TaskError};

/// For what comes at once.
const PATIENCE: Duration = Duration::from_secs(60);

type Run = Func<Vec<u8>, Vec<u8>>;

fn pool(policy: Policy, method: StartMethod, processes: usize) -> PoolBuilder {
    Pool::builder(&exchange_guest()).policy(policy).start_method(method).processes(processes)
}

fn run(pool: &Pool) -> Run {
    pool.func("run").unwrap()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// What the tasks of these programs give, in their order.
fn all(pool: &Pool, programs: &[&str]) -> Vec<String> {
    let programs = programs.iter().map(|program| program.as_bytes().to_vec());
    pool.map(&run(pool), programs).unwrap().into_iter().map(text).collect()
}

fn worker_pids(pool: &Pool) -> Vec<u32> {
    pool.workers().iter().map(|worker| worker.pid).collect()
}

over_all_start_methods! {
    x5_a_task_that_waits_for_a_later_record_of_its_batch_is_served
    x3_a_wait_ends_at_the_time_limit_and_the_worker_lives_on
    x3_a_wait_ends_at_its_own_time_out
    x3_a_wait_ends_when_its_task_is_cancelled
    x3_a_wait_ends_when_its_queue_is_closed
    x7_a_cancelled_task_is_given_nothing
    x7_the_last_item_of_a_task_that_is_ended_goes_to_another
    x7_the_last_item_of_a_terminated_task_goes_to_another
    what_a_task_has_done_is_seen_by_a_thread_that_has_seen_its_result
    a_long_item_comes_whole
}

/// Fast tasks first, so that the batches are long.
fn x5_a_task_that_waits_for_a_later_record_of_its_batch_is_served(method: StartMethod) {
    let queue = Queue::<String>::unbounded();
    let pool = pool(Policy::sealed().share("q0", &queue), method, 2).build().unwrap();
    let mut programs = vec![""; 3000];
    programs.extend(["g"; 1]);
    programs.extend(vec![""; 200]);
    programs.push("pfound");
    let results = all(&pool, &programs);
    assert_eq!(results[3000], "found");
    assert_eq!(queue.len(), 0);
}

fn x3_a_wait_ends_at_the_time_limit_and_the_worker_lives_on(method: StartMethod) {
    let queue = Queue::<String>::unbounded();
    let limits = Limits::default().time(Duration::from_millis(100));
    let builder = pool(Policy::sealed().share("q0", &queue), method, 1).limits(limits);
    let pool = builder.lazy(false).build().unwrap();
    let before = worker_pids(&pool);
    for _ in 0..3 {
        let error = pool.apply(&run(&pool), b"g".to_vec()).unwrap_err();
        assert!(matches!(error, TaskError::Limit { limit: Limit::Time, .. }), "{error}");
    }
    queue.put(&"late".to_owned()).unwrap();
    assert_eq!(all(&pool, &["g"]), ["late"]);
    assert_eq!(worker_pids(&pool), before, "the worker is the same");
}

fn x3_a_wait_ends_at_its_own_time_out(method: StartMethod) {
    let (queue, event) = (Queue::<String>::unbounded(), Event::new());
    let policy = Policy::sealed().share("q0", &queue).share("e0", &event);
    let pool = pool(policy, method, 1).lazy(false).build().unwrap();
    let before = worker_pids(&pool);
    let error = pool.apply(&run(&pool), b";g".to_vec()).unwrap_err().to_string();
    assert!(error.starts_with("1 ") || error.contains("1 "), "{error}");
    assert_eq!(all(&pool, &[";w"]), ["f"]);
    assert_eq!(worker_pids(&pool), before);
}

fn x3_a_wait_ends_when_its_task_is_cancelled(method: StartMethod) {
    let (queue, begun) = (Queue::<String>::unbounded(), Event::new());
    let policy = Policy::sealed().share("q0", &queue).share("e0", &begun);
    let pool = pool(policy, method, 1).lazy(false).build().unwrap();
    let before = worker_pids(&pool);
    let waiting = pool.apply_async(&run(&pool), b"sg".to_vec());
    begun.wait();
    waiting.cancel();
    assert!(matches!(waiting.get(), Err(TaskError::Cancelled)));
    queue.put(&"later".to_owned()).unwrap();
    assert_eq!(all(&pool, &["g"]), ["later"], "the cancelled task has taken nothing");
    assert_eq!(worker_pids(&pool), before);
}

/// The cancel returns before the task has heard of it.
fn x7_a_cancelled_task_is_given_nothing(method: StartMethod) {
    let (queue, begun) = (Queue::<u32>::unbounded(), Event::new());
    let policy = Policy::sealed().share("q0", &queue).share("e0", &begun);
    let pool = pool(policy, method, 2).build().unwrap();
    let run = run(&pool);
    for round in 0..200 {
        begun.clear();
        let waiting = pool.apply_async(&run, b"sg".to_vec());
        // At any moment of its life.
        if round % 2 == 0 {
            begun.wait();
        }
        waiting.cancel();
        queue.put(&round).unwrap();
        assert_eq!(queue.try_get(), Ok(round));
    }
}

fn x7_the_last_item_of_a_task_that_is_ended_goes_to_another(method: StartMethod) {
    let queue = Queue::<String>::unbounded();
    let limits = Limits::default().time(Duration::from_secs(2));
    let builder = pool(Policy::sealed().share("q0", &queue), method, 1).limits(limits);
    let pool = builder.build().unwrap();
    let run = run(&pool);
    let put = || queue.put_many(&["first".to_owned(), "last".to_owned()]).unwrap();
    let is_back = |how: &str| {
        let last = queue.get_delivery(Some(PATIENCE)).unwrap();
        assert_eq!((last.item.as_str(), last.redelivered), ("last", true), "{how}");
    };
    put();
    let trap = pool.apply(&run, b"ggz".to_vec()).unwrap_err();
    assert!(matches!(trap, TaskError::Trap { .. }), "{trap}");
    is_back("a trap");
    put();
    let slow = pool.apply(&run, b"ggo".to_vec()).unwrap_err();
    assert!(matches!(slow, TaskError::Limit { limit: Limit::Time, .. }), "{slow}");
    is_back("the time limit");
    put();
    let cancelled = pool.apply_async(&run, b"ggo".to_vec());
    support::wait_until("both are taken", PATIENCE, || queue.is_empty());
    cancelled.cancel();
    is_back("a cancel");
    put();
    // The guest's own error: it had seen the items.
    let failed = pool.apply(&run, b"ggr".to_vec()).unwrap_err();
    assert!(matches!(failed, TaskError::Failed { .. }), "{failed}");
    assert!(queue.is_empty());
}

fn x7_the_last_item_of_a_terminated_task_goes_to_another(method: StartMethod) {
    let queue = Queue::<String>::unbounded();
    let pool = pool(Policy::sealed().share("q0", &queue), method, 1).build().unwrap();
    queue.put(&"an item".to_owned()).unwrap();
    let endless = pool.apply_async(&run(&pool), b"go".to_vec());
    support::wait_until("it is taken", PATIENCE, || queue.is_empty());
    pool.terminate();
    assert!(endless.get().is_err());
    let back = queue.get_delivery(Some(PATIENCE)).unwrap();
    assert!(back.redelivered);
}

fn x3_a_wait_ends_when_its_queue_is_closed(method: StartMethod) {
    let (queue, begun) = (Queue::<String>::unbounded(), Event::new());
    let policy = Policy::sealed().share("q0", &queue).share("e0", &begun);
    let pool = pool(policy, method, 1).lazy(false).build().unwrap();
    let before = worker_pids(&pool);
    let waiting = pool.apply_async(&run(&pool), b"sg".to_vec());
    begun.wait();
    queue.close().unwrap();
    let error = waiting.get().unwrap_err().to_string();
    assert!(error.contains("2 "), "{error}");
    assert_eq!(all(&pool, &[""]), [""]);
    assert_eq!(worker_pids(&pool), before);
}

fn what_a_task_has_done_is_seen_by_a_thread_that_has_seen_its_result(method: StartMethod) {
    let (queue, lock) = (Queue::<String>::unbounded(), Lock::new());
    let policy = Policy::sealed().share("q0", &queue).share("l0", &lock);
    let pool = pool(policy, method, 2).build().unwrap();
    let run = run(&pool);
    for n in 0..200 {
        // It ends without the release.
        assert_eq!(pool.apply(&run, b"apx".to_vec()).unwrap(), b"c", "round {n}");
        assert_eq!(queue.try_get(), Ok("x".to_owned()));
        let held = lock.try_acquire().expect("the task is over");
        assert!(held.owner_died());
    }
}

fn a_long_item_comes_whole(method: StartMethod) {
    let queue = Queue::<Vec<u8>>::unbounded();
    let pool = pool(Policy::sealed().share("q0", &queue), method, 1).build().unwrap();
    let long: Vec<u8> = (0..16 << 20).map(|n: u32| n.to_le_bytes()[1]).collect();
    queue.put(&long).unwrap();
    assert!(pool.apply(&run(&pool), b"g".to_vec()).unwrap() == long);
    let mut put = b"p".to_vec();
    put.extend_from_slice(&long);
    pool.apply(&run(&pool), put).unwrap();
    assert!(queue.try_get().unwrap() == long);
}
