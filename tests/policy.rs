//! What a pool does by itself: retrying, halting, replacing workers, growing and shrinking, and its events
//! about that.

#[path = "support/methods.rs"]
mod methods;
mod support;

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::{assert_gone, builder, guest, pids, signal, time_bound, wait_until, wat};
use wpool::events::{PoolEvent, Recycle, WorkerState};
use wpool::pool::{Backoff, Halt};
use wpool::{BuildError, Pool, StartMethod, TaskError};

methods::over_all_start_methods! {
    o2_a_pool_that_is_not_lazy_has_its_workers_at_once
    failures_are_tried_again_after_pauses_that_grow
    the_choice_of_what_to_try_again_is_the_users
    a_task_that_times_out_is_tried_again_only_if_that_was_asked_for
    a_job_is_halted_after_so_many_failures
    a_halted_job_leaves_other_jobs_alone
    an_endless_input_ends_with_its_halt
    a_halt_can_be_a_success
    idle_workers_leave_and_come_back
    a_pool_is_resized_while_it_runs
    a_pool_that_is_resized_all_the_time_does_its_work
    the_choice_is_asked_for_failures_only
    each_thing_that_happens_is_told_once_and_in_order
    a_listener_that_panics_does_no_harm
    a_listener_may_drop_the_pool
    a_worker_that_is_not_ready_in_time_is_killed
    a_shutdown_that_does_not_end_is_ended_and_told
}

/// What a pool tells.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<PoolEvent>>>);

impl Told {
    fn listener(&self) -> impl Fn(&PoolEvent) + Send + Sync + 'static {
        let told = self.0.clone();
        move |event| told.lock().unwrap().push(event.clone())
    }

    fn all(&self) -> Vec<PoolEvent> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self, is: impl Fn(&PoolEvent) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|event| is(event)).count()
    }
}

fn o2_a_pool_that_is_not_lazy_has_its_workers_at_once(method: StartMethod) {
    let pool = builder(&guest("upper"), method).processes(3).lazy(false).build().unwrap();
    let workers = pool.workers();
    assert_eq!(workers.len(), 3);
    assert!(workers.iter().all(|w| w.state == WorkerState::Idle), "{workers:?}");
    let upper = pool.func::<&str, String>("run").unwrap();
    assert_eq!(pool.map(&upper, ["a", "b"]).unwrap(), ["A", "B"]);
}

fn failures_are_tried_again_after_pauses_that_grow(method: StartMethod) {
    let told = Told::default();
    let pool = builder(&guest("failing"), method)
        .retries(3)
        .retry_delay(Duration::from_millis(40))
        .backoff(Backoff::Exponential { max: Duration::from_millis(60) })
        .on_event(told.listener())
        .build()
        .unwrap();
    let run = pool.func::<&str, String>("run").unwrap();
    let asked = Instant::now();
    let bad = pool.apply_async(&run, "bad");
    // Others go on meanwhile.
    assert_eq!(pool.apply(&run, "good").as_deref(), Ok("good"));
    assert_eq!(bad.get(), Err(TaskError::Failed { message: "bad is bad".to_owned() }));
    assert!(asked.elapsed() >= Duration::from_millis(40 + 60 + 60), "{:?}", asked.elapsed());
    let pauses = told.all().into_iter().filter_map(|event| match event {
        PoolEvent::TaskRetried { attempt, delay, error, .. } => {
            Some((attempt, delay.as_millis(), error.kind()))
        }
        _ => None,
    });
    let pauses: Vec<_> = pauses.collect();
    assert_eq!(pauses, [(1, 40, "failed"), (2, 60, "failed"), (3, 60, "failed")]);
}

fn the_choice_of_what_to_try_again_is_the_users(method: StartMethod) {
    let told = Told::default();
    let pool = builder(&guest("failing"), method)
        .retries(2)
        .retry_on(|error| matches!(error, TaskError::Trap { .. }))
        .on_event(told.listener())
        .build()
        .unwrap();
    let run = pool.func::<&str, String>("run").unwrap();
    assert_eq!(pool.apply(&run, "bad").unwrap_err().kind(), "failed");
    assert_eq!(pool.apply(&run, "panic").unwrap_err().kind(), "trap");
    let retried = told.count(|event| matches!(event, PoolEvent::TaskRetried { .. }));
    assert_eq!(retried, 2, "{:?}", told.all());
}

fn a_task_that_times_out_is_tried_again_only_if_that_was_asked_for(method: StartMethod) {
    for (wanted, attempts) in [(true, 2), (false, 1)] {
        let told = Told::default();
        let pool = builder(&guest("failing"), method)
            .task_timeout(Duration::from_millis(30))
            .retries(1)
            .retry_on(move |error| wanted || error.kind() != "time")
            .on_event(told.listener())
            .build()
            .unwrap();
        let run = pool.func::<&str, String>("run").unwrap();
        assert_eq!(pool.apply(&run, "loop").unwrap_err().kind(), "time");
        let timed_out = told.count(|event| matches!(event, PoolEvent::TaskTimedOut { .. }));
        assert_eq!(timed_out, attempts, "{:?}", told.all());
    }
}

fn a_job_is_halted_after_so_many_failures(method: StartMethod) {
    for halt in ["now,fail=2", "soon,fail=2"] {
        let pool =
            builder(&guest("failing"), method).processes(1).halt(halt.parse().unwrap()).build().unwrap();
        let run = pool.func::<String, String>("run").unwrap();
        let records = (0..1000).map(|n| if n % 3 == 0 { format!("bad {n}") } else { n.to_string() });
        let outcomes = pool.try_map(&run, records);
        assert_eq!(outcomes.len(), 1000, "each has its outcome");
        let failed = outcomes.iter().filter(|o| matches!(o, Err(TaskError::Failed { .. }))).count();
        let cancelled = outcomes.iter().filter(|o| **o == Err(TaskError::Cancelled)).count();
        assert!(
            (2..20).contains(&failed) && cancelled > 900,
            "{halt}: {failed} failed, {cancelled} cancelled"
        );
        // The pool goes on.
        assert_eq!(pool.apply(&run, "next".to_owned()).as_deref(), Ok("next"));
    }
}

fn a_halted_job_leaves_other_jobs_alone(method: StartMethod) {
    let pool = builder(&guest("failing"), method).halt("now,fail=1".parse().unwrap()).build().unwrap();
    let run = pool.func::<String, String>("run").unwrap();
    let others = pool.imap(&run, (0..500).map(|n| n.to_string()));
    assert_eq!(pool.map(&run, ["a", "bad", "c"].map(str::to_owned)).unwrap_err().error.kind(), "failed");
    assert_eq!(others.filter(Result::is_ok).count(), 500);
}

fn an_endless_input_ends_with_its_halt(method: StartMethod) {
    let pool =
        builder(&guest("failing"), method).halt("soon,done=100".parse::<Halt>().unwrap()).build().unwrap();
    let run = pool.func::<String, String>("run").unwrap();
    let outcomes: Vec<_> = pool.imap(&run, (0u64..).map(|n| n.to_string())).collect();
    let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert!(done >= 100, "{done}");
    assert_eq!(outcomes.last(), Some(&Err(TaskError::Cancelled)));
}

fn a_halt_can_be_a_success(method: StartMethod) {
    let pool = builder(&guest("failing"), method).halt("now,success=1".parse().unwrap()).build().unwrap();
    let run = pool.func::<&str, String>("run").unwrap();
    // The first to find something ends the search of the others.
    let outcomes = pool.try_map(&run, ["loop", "found", "loop", "loop"]);
    assert_eq!(outcomes[1].as_deref(), Ok("found"));
    assert!([0, 2, 3].iter().all(|n| outcomes[*n] == Err(TaskError::Cancelled)), "{outcomes:?}");
}

fn idle_workers_leave_and_come_back(method: StartMethod) {
    let told = Told::default();
    let pool = builder(&guest("upper"), method)
        .idle_timeout(Duration::from_millis(50))
        .on_event(told.listener())
        .build()
        .unwrap();
    let upper = pool.func::<&str, String>("run").unwrap();
    for _ in 0..2 {
        assert_eq!(pool.map(&upper, ["a", "b", "c"]).unwrap(), ["A", "B", "C"]);
        wait_until("all have left", Duration::from_secs(20), || pool.workers().is_empty());
    }
    let idle = |event: &PoolEvent| matches!(event, PoolEvent::WorkerRecycled { why: Recycle::Idle, .. });
    assert!(told.count(idle) >= 2, "{:?}", told.all());
}

fn a_pool_is_resized_while_it_runs(method: StartMethod) {
    let pool = builder(&guest("hello"), method).processes(1).build().unwrap();
    let hello = pool.func::<String, String>("run").unwrap();
    let busy = || pool.workers().iter().filter(|w| w.state == WorkerState::Busy).count();
    let results: Vec<_> = (0..1000).map(|n| pool.apply_async(&hello, format!("{n}:30"))).collect();
    pool.resize(4);
    wait_until("four work at a time", Duration::from_secs(20), || busy() == 4);
    pool.resize(1);
    wait_until("one works", Duration::from_secs(20), || pool.workers().len() == 1);
    for result in results {
        result.cancel();
        let outcome = result.get();
        assert!(matches!(outcome, Ok(_) | Err(TaskError::Cancelled)), "no task pays for it: {outcome:?}");
    }
}

fn a_pool_that_is_resized_all_the_time_does_its_work(method: StartMethod) {
    let pool = builder(&guest("hello"), method).build().unwrap();
    let hello = pool.func::<String, String>("run").unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for processes in [1, 8].into_iter().cycle().take_while(|_| !over.load(Ordering::Relaxed)) {
                pool.resize(processes);
                std::thread::sleep(Duration::from_micros(300));
            }
        });
        let results = pool.map(&hello, (0..64).map(|n| format!("{n}:5")));
        over.store(true, Ordering::Relaxed);
        assert_eq!(results.unwrap().len(), 64);
    });
}

fn the_choice_is_asked_for_failures_only(method: StartMethod) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let asking = asked.clone();
    let pool = builder(&guest("failing"), method).retries(1).retry_on(move |error| {
        asking.lock().unwrap().push(error.kind());
        panic!("this panic is part of a test")
    });
    let pool = pool.max_tasks_per_child(NonZeroU64::MIN).build().unwrap();
    let run = pool.func::<&str, String>("run").unwrap();
    assert_eq!(pool.map(&run, ["a", "b", "c"]).unwrap(), ["a", "b", "c"]);
    assert_eq!(pool.apply(&run, "bad").unwrap_err().kind(), "failed");
    pool.close();
    pool.join().unwrap();
    assert_eq!(*asked.lock().unwrap(), ["failed"], "and a function that panics says no");
}

fn each_thing_that_happens_is_told_once_and_in_order(method: StartMethod) {
    let told = Told::default();
    let pool =
        builder(&guest("failing"), method).processes(1).retries(1).on_event(told.listener()).build().unwrap();
    let run = pool.func::<&str, String>("run").unwrap();
    let _failed = pool.map(&run, ["a", "bad", "c"]).unwrap_err();
    pool.close();
    pool.join().unwrap();
    let events = told.all();
    let at = |is: &dyn Fn(&PoolEvent) -> bool| {
        let mut places = events.iter().enumerate().filter(|(_, event)| is(event)).map(|(place, _)| place);
        let first = places.next().unwrap_or_else(|| panic!("not told: {events:#?}"));
        assert_eq!(places.next(), None, "told twice: {events:#?}");
        first
    };
    let order = [
        at(&|e| matches!(e, PoolEvent::WorkerStarted { worker: 1, pid } if *pid > 0)),
        at(&|e| matches!(e, PoolEvent::WorkerReady { worker: 1 })),
        at(&|e| matches!(e, PoolEvent::TasksStarted { tasks, attempt: 1, .. } if tasks.contains(&1))),
        at(&|e| matches!(e, PoolEvent::TaskRetried { task: 1, attempt: 1, .. })),
        at(&|e| matches!(e, PoolEvent::TasksStarted { tasks, attempt: 2, .. } if *tasks == (1..2))),
        at(&|e| {
            matches!(e, PoolEvent::TaskFailed { task: 1, attempt: 2, error: TaskError::Failed { .. }, .. })
        }),
        at(&|e| matches!(e, PoolEvent::TasksFinished { tasks, failed: 1, .. } if *tasks == (1..2))),
        at(&|e| matches!(e, PoolEvent::WorkerExited { worker: 1, exitcode: Some(0), .. })),
    ];
    assert!(order.is_sorted(), "{order:?}: {events:#?}");
    let finished = events.iter().map(|event| match event {
        PoolEvent::TasksFinished { tasks, .. } => tasks.end - tasks.start,
        _ => 0,
    });
    assert_eq!(finished.sum::<u64>(), 3);
}

fn a_listener_that_panics_does_no_harm(method: StartMethod) {
    let pool = builder(&guest("upper"), method)
        .on_event(|_| panic!("this panic is part of a test"))
        .build()
        .unwrap();
    let upper = pool.func::<&str, String>("run").unwrap();
    assert_eq!(pool.map(&upper, ["a", "b"]).unwrap(), ["A", "B"]);
}

fn a_listener_may_drop_the_pool(method: StartMethod) {
    let held: Arc<Mutex<Option<Pool>>> = Arc::default();
    let holder = held.clone();
    let pool = builder(&guest("failing"), method).on_event(move |event| {
        if let PoolEvent::TaskFailed { .. } = event {
            drop(holder.lock().unwrap().take());
        }
    });
    let pool = pool.build().unwrap();
    let run = pool.func::<&str, String>("run").unwrap();
    // The listener waits for the lock until the pool is there.
    let mut place = held.lock().unwrap();
    let endless = pool.apply_async(&run, "loop").error_callback(|_| {});
    let bad = pool.apply_async(&run, "bad").error_callback(|_| {});
    *place = Some(pool);
    drop(place);
    assert!(bad.get().is_err());
    assert_eq!(endless.get(), Err(TaskError::Cancelled));
}

fn a_worker_that_is_not_ready_in_time_is_killed(method: StartMethod) {
    // The initializer never returns, and has no time limit.
    let pool =
        builder(&guest("failing"), method).initializer("run", ["loop"]).isolation(wpool::Isolation::Reuse);
    let pool = pool.processes(1).start_timeout(Duration::from_millis(100)).build().unwrap();
    let run = pool.func::<&str, String>("run").unwrap();
    let Err(TaskError::Broken { reason }) = pool.apply(&run, "a") else { panic!("it ran") };
    assert!(reason.contains("workers cannot run"), "{reason}");
}

fn a_shutdown_that_does_not_end_is_ended_and_told(method: StartMethod) {
    let text = r#"(component
        (core module $m
            (func (export "run") (result i32) (i32.const 7))
            (func (export "shutdown") (loop (br 0))))
        (core instance $i (instantiate $m))
        (func (export "run") (result u32) (canon lift (core func $i "run")))
        (func (export "shutdown") (canon lift (core func $i "shutdown"))))"#;
    let told = Told::default();
    let pool =
        builder(&wat(text), method).processes(1).isolation(wpool::Isolation::Reuse).on_event(told.listener());
    let pool = pool.shutdown_timeout(Duration::from_millis(50)).build().unwrap();
    let run = pool.func::<(), u32>("run").unwrap();
    assert_eq!(pool.apply(&run, ()), Ok(7));
    pool.close();
    pool.join().unwrap();
    let said = |event: &PoolEvent| {
        matches!(event, PoolEvent::WorkerExited { reason, .. }
            if reason == "its shutdown took too long: it was killed")
    };
    assert_eq!(told.count(said), 1, "{:?}", told.all());
}

/// Failing in the constructor leaves nothing behind, and the reason is there.
#[test]
fn o4_a_pool_whose_workers_cannot_start_is_not_built_and_leaves_no_process() {
    let _bound = time_bound();
    let dir = support::temp_dir();
    let broken = support::script(dir.path(), "wpool", "exit 7");
    drop(guest("upper"));
    let module = support::loader().program(&broken).load(support::repo("guest/prebuilt/upper.wasm")).unwrap();
    for method in [StartMethod::Forkserver, StartMethod::Spawn] {
        let Err(BuildError::Broken { reason }) = builder(&module, method).processes(4).lazy(false).build()
        else {
            panic!("it was built")
        };
        assert!(reason.contains("exit code 7"), "{reason}");
    }
    let told = Told::default();
    let failing =
        builder(&guest("counter"), StartMethod::Forkserver).initargs(["ten"]).on_event(told.listener());
    let Err(BuildError::Broken { reason }) = failing.lazy(false).build() else { panic!("it was built") };
    assert!(reason.contains("expected a number to count from"), "{reason}");
    let started = told.all().into_iter().filter_map(|event| match event {
        PoolEvent::WorkerStarted { pid, .. } => Some(pid),
        _ => None,
    });
    assert_gone(&started.collect::<Vec<_>>());
    assert_eq!(told.count(|event| matches!(event, PoolEvent::Broken { .. })), 1);
}

/// A task that takes its worker down each time would be tried for ever by retries alone.
#[test]
fn a_poisonous_task_is_given_up_after_three_workers() {
    let _bound = time_bound();
    for method in [StartMethod::Forkserver, StartMethod::Spawn] {
        let told = Told::default();
        let pool = builder(&guest("failing"), method).processes(1).retries(99).on_event(told.listener());
        let pool = pool.poison_limit(NonZeroU32::new(2).unwrap()).build().unwrap();
        let run = pool.func::<&str, String>("run").unwrap();
        let poison = pool.apply_async(&run, "loop");
        for n in 1..=2 {
            let started = |event: &PoolEvent| matches!(event, PoolEvent::TasksStarted { .. });
            wait_until("it is tried", Duration::from_secs(20), || told.count(started) == n);
            // The task has begun when its worker computes; before that a death is charged to no task.
            let victim = pids(&pool)[0];
            wait_until("it computes", Duration::from_secs(20), || support::cpu_ticks(victim) >= 5);
            signal(victim, Signal::ABORT);
            wait_until("it is gone", Duration::from_secs(20), || !pids(&pool).contains(&victim));
        }
        let Err(TaskError::WorkerLost { exitcode: Some(-6), reason }) = poison.get() else {
            panic!("not lost")
        };
        assert_eq!(reason, "SIGABRT; not tried again, for it has taken down 2 workers");
        assert_eq!(pool.apply(&run, "next").as_deref(), Ok("next"));
    }
}

/// A worker whose memory grows from task to task is replaced, without an effect on tasks.
#[test]
fn a_worker_with_too_much_memory_is_replaced() {
    let _bound = time_bound();
    let text = r#"(module (memory (export "memory") 1)
        (func (export "leak") (param i32) (result i32) (local i32)
            (local.set 1 (i32.mul (memory.grow (i32.const 64)) (i32.const 65536)))
            (memory.fill (local.get 1) (i32.const 1) (i32.const 4194304))
            (local.get 0)))"#;
    let told = Told::default();
    let pool =
        Pool::builder(&wat(text)).processes(1).isolation(wpool::Isolation::Reuse).on_event(told.listener());
    let pool = pool.max_memory_per_child(64 << 20).build().unwrap();
    let leak = pool.func::<i32, i32>("leak").unwrap();
    let oversized =
        |event: &PoolEvent| matches!(event, PoolEvent::WorkerRecycled { why: Recycle::Memory, .. });
    let mut n = 0;
    wait_until("a worker is replaced", Duration::from_secs(30), || {
        n += 1;
        assert_eq!(pool.apply(&leak, n), Ok(n));
        // Its memory limit would end it at 256 MiB.
        told.count(oversized) > 0
    });
    assert_eq!(pool.apply(&leak, -1), Ok(-1));
}

#[test]
fn o40_recycling_after_a_share_of_tasks_is_told() {
    let _bound = time_bound();
    let told = Told::default();
    let pool = builder(&guest("upper"), StartMethod::Forkserver).processes(1).on_event(told.listener());
    let pool = pool.max_tasks_per_child(NonZeroU64::new(5).unwrap()).build().unwrap();
    let upper = pool.func::<&str, String>("run").unwrap();
    pool.map(&upper, ["a"; 11]).unwrap();
    let quota = |event: &PoolEvent| matches!(event, PoolEvent::WorkerRecycled { why: Recycle::Quota, .. });
    assert_eq!(told.count(quota), 2, "{:?}", told.all());
}
