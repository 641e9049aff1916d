//! Limits of tasks.

use super::*;

over_all_start_methods! {
    a_time_limit_ends_a_loop_and_the_worker_goes_on
    a_time_limit_ends_a_call_to_the_host
}

fn a_time_limit_ends_a_loop_and_the_worker_goes_on(method: StartMethod) {
    let pool = builder(&guest("failing"), method)
        .processes(1)
        .task_timeout(Duration::from_millis(200))
        .build()
        .unwrap();
    let run = pool.func::<&str, String>("run").unwrap();
    pool.apply(&run, "warm").unwrap();
    let worker = indices(&pool);
    let asked = Instant::now();
    let error = pool.apply(&run, "loop").unwrap_err();
    assert!(asked.elapsed() >= Duration::from_millis(200));
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        ("time", "timeout after 200ms (--timeout, Limits::time)")
    );
    assert_eq!(pool.apply(&run, "next").unwrap(), "next");
    assert_eq!(indices(&pool), worker);
    // A time that no clock reaches is as good as none.
    let pool = builder(&guest("failing"), method).task_timeout(Duration::MAX).build().unwrap();
    let run = pool.func::<&str, String>("run").unwrap();
    assert_eq!(pool.apply(&run, "a").unwrap(), "a");
}

fn a_time_limit_ends_a_call_to_the_host(method: StartMethod) {
    let pool = builder(&guest("hello"), method)
        .processes(1)
        .task_timeout(Duration::from_millis(200))
        .build()
        .unwrap();
    let hello = pool.func::<&str, String>("run").unwrap();
    pool.apply(&hello, "warm:0").unwrap();
    let (worker, index) = (pids(&pool), indices(&pool));
    let outcomes = pool.try_map(&hello, ["a:0", "b:60000", "c:0"]);
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
    assert!(matches!(outcomes[1], Err(TaskError::Limit { limit: Limit::Time, .. })), "{outcomes:?}");
    assert_ended(method, &worker);
    assert_ne!(indices(&pool), index, "another worker has taken its place");
}

#[test]
fn a_slow_task_under_a_time_limit_costs_the_coordinator_no_processor() {
    let _bound = time_bound();
    let pool = Pool::builder(&guest("hello"))
        .processes(1)
        .task_timeout(Duration::from_secs(60))
        .name("quiet")
        .build()
        .unwrap();
    let hello = pool.func::<&str, String>("run").unwrap();
    let result = pool.apply_async(&hello, "a:700");
    assert!(result.get().is_ok());
    // The thread that waited: a spinning one would have used about 70 ticks of a hundredth of a second.
    let ticks = |task: &std::path::Path| {
        let stat = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap_or_default().1.split(' ').collect();
        fields.get(11..13).map_or(0, |times| times.iter().map(|t| t.parse::<u64>().unwrap()).sum())
    };
    let dispatchers = std::fs::read_dir("/proc/self/task").unwrap().flatten().filter(|task| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == "wpool-dispatche")
    });
    // Other tests' pools are among them; none of them computes for long.
    let used: Vec<u64> = dispatchers.map(|task| ticks(&task.path())).collect();
    assert!(used.iter().all(|ticks| *ticks < 50), "{used:?}");
}

#[test]
fn limits_of_memory_and_output() {
    let _bound = time_bound();
    let mut limits = Limits::default();
    limits.memory = 4 << 20;
    limits.output = 1000;
    let pool = Pool::builder(&wat(TYPES)).processes(1).limits(limits.clone()).build().unwrap();
    let grow = pool.func::<u32, i32>("grow").unwrap();
    assert_eq!(pool.map(&grow, [63, 64]).unwrap(), [1, -1]);

    let pool = Pool::builder(&guest("upper")).processes(1).limits(limits).build().unwrap();
    let upper = pool.func::<Vec<u8>, Vec<u8>>("run").unwrap();
    assert_eq!(pool.apply(&upper, vec![b'x'; 1000]).unwrap().len(), 1000);
    let error = pool.apply(&upper, vec![b'x'; 1001]).unwrap_err();
    assert!(matches!(error, TaskError::Limit { limit: Limit::Output, .. }));
    assert_eq!(
        error.to_string(),
        "output limit of 1000 bytes reached by a result of 1001 bytes (--max-output, Limits::output)"
    );
}

#[test]
fn o28_a_record_over_its_limit_is_refused_and_the_others_go_on() {
    let _bound = time_bound();
    let mut limits = Limits::default();
    limits.input = 10;
    let pool = Pool::builder(&guest("upper")).processes(1).limits(limits).build().unwrap();
    let upper = pool.func::<&str, String>("run").unwrap();
    let outcomes = pool.try_map(&upper, ["0123456789", "0123456789a", "b"]);
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
    assert!(matches!(outcomes[1], Err(TaskError::Limit { limit: Limit::Input, .. })), "{:?}", outcomes[1]);
}
