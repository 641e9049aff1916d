//! Many deaths, and pools that give up.

use super::*;

/// Kills workers of the pool at random, every few milliseconds, until told to stop. Gives how many.
fn kill_at_random(pool: &Pool, done: &AtomicBool) -> usize {
    let (mut seed, mut killed) = (0x9e37_79b9_7f4a_7c15_u64, 0);
    while !done.load(Ordering::Relaxed) {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis(3 + (seed >> 33) % 20));
        let workers = pids(pool);
        if let Some(victim) = workers.get(usize::try_from(seed >> 40).unwrap() % workers.len().max(1)) {
            signal(*victim, Signal::KILL);
            killed += 1;
        }
    }
    killed
}

/// Every index once, each with the right value or a lost worker as its outcome.
fn storm(builder: PoolBuilder, tasks: usize, may_lose: bool) {
    let pool = builder.build().unwrap();
    let run = pool.func::<String, String>("run").unwrap();
    let done = AtomicBool::new(false);
    let (outcomes, killed) = std::thread::scope(|scope| {
        let killer = scope.spawn(|| kill_at_random(&pool, &done));
        let outcomes: Vec<_> = pool.imap_unordered(&run, (0..tasks).map(|n| n.to_string())).collect();
        done.store(true, Ordering::Relaxed);
        (outcomes, killer.join().unwrap())
    });
    let mut seen = vec![false; tasks];
    let mut lost = 0;
    for (index, outcome) in outcomes {
        let index = usize::try_from(index).unwrap();
        assert!(!std::mem::replace(&mut seen[index], true), "{index} has two outcomes");
        match outcome {
            Ok(value) => assert_eq!(value, index.to_string()),
            Err(TaskError::WorkerLost { .. }) => lost += 1,
            Err(error) => panic!("{index}: {error}"),
        }
    }
    assert!(seen.iter().all(|seen| *seen), "an outcome is missing");
    assert!(lost <= killed, "{lost} tasks lost by {killed} kills");
    assert!(may_lose || lost == 0, "{lost} tasks lost in spite of retries");
}

#[test]
fn f49_random_kills_cost_no_task_when_each_may_be_tried_again() {
    let _bound = time_bound();
    storm(builder("failing", StartMethod::Forkserver).processes(4).retries(50), 60_000, false);
    storm(builder("failing", StartMethod::Forkserver).retries(50).isolation(Isolation::Reuse), 60_000, false);
}

#[test]
fn f49_random_kills_cost_one_task_each_at_most() {
    let _bound = time_bound();
    storm(builder("failing", StartMethod::Forkserver).processes(4), 60_000, true);
}

/// CPython's Pool starts 400 to 1500 workers in ten seconds, and goes on.
#[test]
fn f54_a_pool_whose_workers_cannot_live_gives_up_and_says_why() {
    let _bound = time_bound();
    for (method, role) in [(StartMethod::Spawn, "worker"), (StartMethod::Forkserver, "zygote")] {
        for (deed, said) in
            [("exit 7", "exit code 7"), ("exit 0", "exit code 0"), ("kill -SEGV $$", "SIGSEGV")]
        {
            let dir = temp_dir();
            let starts = dir.path().join("starts");
            let text = format!("echo $2 >> {}\ncase $2 in {role}) {deed};; esac", starts.display());
            let module = load("upper", &script(dir.path(), "wpool", &text));
            let pool = Pool::builder(&module).processes(4).start_method(method).build().unwrap();
            let upper = pool.func::<&str, String>("run").unwrap();
            let asked = Instant::now();
            let outcomes = pool.try_map(&upper, ["a"; 100]);
            assert!(asked.elapsed() < Duration::from_secs(5));
            for outcome in outcomes {
                let Err(TaskError::Broken { reason }) = outcome else { panic!("{outcome:?}") };
                assert!(reason.starts_with("workers cannot run: ") && reason.contains(said), "{reason}");
                assert!(reason.ends_with(" tries)"), "{reason}");
            }
            let starts = std::fs::read_to_string(starts).unwrap().lines().count();
            // Three rounds of four workers, those hired in place of the last of them, and the compiler. How
            // many of the last are hired depends on when a busy machine tells of the deaths.
            assert!((5..=17).contains(&starts), "{starts} processes");
        }
    }
}

#[test]
fn f54_a_program_that_is_gone_is_named() {
    let _bound = time_bound();
    let dir = temp_dir();
    let program = script(dir.path(), "wpool", "exit 1");
    let module = load("upper", &program);
    std::fs::remove_file(&program).unwrap();
    for method in METHODS {
        let pool = Pool::builder(&module).processes(4).start_method(method).build().unwrap();
        let upper = pool.func::<&str, String>("run").unwrap();
        let error = pool.apply(&upper, "a").unwrap_err().to_string();
        assert!(error.contains("cannot start") && error.contains("No such file"), "{error}");
    }
}

const FAILING_INITIALIZER: &str = r#"(component
    (import "wpool:process/current@0.1.0" (instance $current (export "worker-index" (func (result u32)))))
    (core func $index (canon lower (func $current "worker-index")))
    (core module $m
        (import "host" "index" (func $index (result i32)))
        (func (export "init") (if (i32.eq (call $index) (i32.const 2)) (then unreachable)))
        (func (export "run") (result i32) (call $index)))
    (core instance $i (instantiate $m (with "host" (instance (export "index" (func $index))))))
    (func (export "init") (canon lift (core func $i "init")))
    (func (export "run") (result u32) (canon lift (core func $i "run"))))"#;

/// CPython's Pool starts workers for ever.
#[test]
fn f55_an_initializer_that_fails_on_one_worker_breaks_the_pool_once() {
    let _bound = time_bound();
    for method in METHODS {
        let broken = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        let count = broken.clone();
        let builder = support::builder(&support::wat(FAILING_INITIALIZER), method)
            .initializer("init", Vec::<wpool::value::Value>::new());
        let pool = builder.on_event(move |event| {
            count.fetch_add(
                u32::from(matches!(event, wpool::events::PoolEvent::Broken { .. })),
                Ordering::Relaxed,
            );
        });
        let pool = pool.build().unwrap();
        let run = pool.func::<(), u32>("run").unwrap();
        let is_told = |error: &TaskError| match error {
            TaskError::Broken { reason } => reason.starts_with("the initializer failed: trap: unreachable"),
            _ => false,
        };
        // The first worker may be through with everything before the second is there.
        let outcomes = pool.try_map(&run, [(); 20]);
        assert!(outcomes.iter().all(|outcome| outcome.as_ref().map_or_else(is_told, |index| *index == 1)));
        let over = || pool.apply(&run, ()).is_err_and(|error| is_told(&error) || error == TaskError::Closed);
        wait_until("it is broken", Duration::from_secs(20), over);
        assert_eq!(broken.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn f57_a_task_that_takes_down_its_workers_is_given_up_and_the_others_are_done() {
    let _bound = time_bound();
    let pool = builder("failing", StartMethod::Forkserver).processes(4).retries(2).build().unwrap();
    let run = pool.func::<String, String>("run").unwrap();
    let poison = pool.apply_async(&run, "loop".to_owned());
    for _ in 0..3 {
        let others: Vec<String> = (0..50).map(|n| n.to_string()).collect();
        assert_eq!(pool.map(&run, others.clone()).unwrap(), others);
        // Only one is left at work.
        let victim = computing(&pool);
        signal(victim, Signal::KILL);
        assert_gone(&[victim]);
    }
    let Err(TaskError::WorkerLost { exitcode: Some(-9), reason }) = poison.get() else { panic!("not lost") };
    assert!(reason.starts_with("SIGKILL"), "{reason}");
    assert_eq!(pool.apply(&run, "on".to_owned()).unwrap(), "on");
}

#[test]
fn f105_a_worker_whose_socket_outlives_it_has_ended_for_its_pool_too() {
    let _bound = time_bound();
    let dir = temp_dir();
    // Something that the first worker has started holds its end of the socket.
    let text = format!(
        "case $2 in worker) if mkdir {dir}/first 2>/dev/null; then \
         exec 3<&0; sleep 60 & echo $! > {dir}/left; exit 3; fi;; esac\n\
         exec {program} \"$@\"",
        dir = dir.path().display(),
        program = support::program().display()
    );
    let module = load("upper", &script(dir.path(), "wpool", &text));
    let pool = Pool::builder(&module).processes(1).start_method(StartMethod::Spawn).build().unwrap();
    let upper = pool.func::<&str, String>("run").unwrap();
    assert_eq!(pool.apply(&upper, "a").unwrap(), "A");
    let left: u32 = std::fs::read_to_string(dir.path().join("left")).unwrap().trim().parse().unwrap();
    assert!(proc_state(left).is_some(), "it was waited for");
    signal(left, Signal::KILL);
}

#[test]
fn f58_one_task_per_child_leaves_nothing_behind() {
    let _bound = time_bound();
    let pool = builder("upper", StartMethod::Forkserver)
        .max_tasks_per_child(std::num::NonZeroU64::MIN)
        .build()
        .unwrap();
    let (mut inputs, mut outcomes) = pool.stream(&Target::default(), true).unwrap();
    inputs.push_all([&b"a"[..]; 1000].into_iter()).unwrap();
    drop(inputs);
    let mut pids = Vec::new();
    while outcomes.take_into(&mut |outcome| {
        assert_eq!(outcome.result(), Ok(&b"A"[..]));
        pids.push(outcome.pid());
    }) {}
    assert_eq!(pids.len(), 1000);
    pool.close();
    pool.join().unwrap();
    let left: Vec<u32> = pids.into_iter().filter(|pid| is_child(*pid)).collect();
    assert_eq!(left, [] as [u32; 0]);
}

/// Whether there is such a process, dead or alive, and it is ours. (The number may be another's by now.)
fn is_child(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    parent == Some(std::process::id()) && comm.is_empty()
}

/// All the peers leave orphans.
#[test]
fn f60_p45_no_worker_outlives_a_killed_parent() {
    let _bound = time_bound();
    for method in ["forkserver", "spawn"] {
        for sent in [Signal::KILL, Signal::TERM] {
            let prebuilt = |name: &str| repo(&format!("guest/prebuilt/{name}.wasm"));
            let mut parent = Command::new(example("held"))
                .arg(method)
                .args([prebuilt("failing"), prebuilt("hello")])
                .env("WPOOL_CACHE_DIR", support::cache_dir())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, "ready\n");
            // Two workers and a process. (One that has just been executed has no command line yet.)
            wait_until("all are there", Duration::from_secs(9), || {
                support::workers_of(parent.id()).len() >= 3
            });
            let workers = support::workers_of(parent.id());
            signal(parent.id(), sent);
            parent.wait().unwrap();
            assert_no_workers(parent.id());
            wait_until("all are gone", Duration::from_secs(2), || {
                workers.iter().all(|pid| !matches!(proc_state(*pid), Some('R' | 'S' | 'D' | 'T')))
            });
        }
    }
}

#[test]
fn f69_workers_live_on_when_the_thread_that_made_the_pool_ends() {
    let _bound = time_bound();
    for method in METHODS {
        let start = move || {
            let pool = builder("failing", method).build().unwrap();
            let run = pool.func::<&'static str, String>("run").unwrap();
            pool.apply(&run, "first").unwrap();
            (pool, run)
        };
        let (pool, run) = std::thread::spawn(start).join().unwrap();
        let workers = pids(&pool);
        // Time enough for a death signal, and a round through the worker.
        assert_eq!(pool.map(&run, ["a"; 100]).unwrap().len(), 100);
        assert!(workers.iter().all(|worker| pids(&pool).contains(worker)));
    }
}

/// The scan at the end finds a worker whose zygote was killed before it could say that it had forked it.
#[test]
fn f46_a_worker_that_is_being_forked_when_its_pool_ends_is_not_forgotten() {
    let _bound = time_bound();
    let module = load("upper", support::program());
    for round in 0..120u64 {
        let pool = Pool::builder(&module).processes(6).build().unwrap();
        let upper = pool.func::<String, String>("run").unwrap();
        let under_way = pool.map_async(&upper, (0..100).map(|n| format!("n{n}")));
        // Sooner and later than the first fork, by steps that are shorter than one takes.
        std::thread::sleep(Duration::from_micros(round * 50));
        pool.terminate();
        drop((under_way, pool));
    }
}
