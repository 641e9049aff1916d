//! Workers, zygotes and whole programs that die, hang or lie at any moment: rows F44 to F70 and F104 of the list of faults.
//!
//! What the peers do is in the comments: measured with CPython's Pool, ProcessPoolExecutor and pebble.

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::{
    assert_gone, assert_no_workers, cpu_ticks, example, guest, loader, pids, proc_state, repo, running,
    script, signal, temp_dir, time_bound, wait_until,
};
use wpool::events::WorkerState;
use wpool::{Isolation, Limits, Module, Pool, PoolBuilder, Process, StartMethod, Target, TaskError};

const METHODS: [StartMethod; 2] = [StartMethod::Forkserver, StartMethod::Spawn];

fn builder(module: &str, method: StartMethod) -> PoolBuilder {
    Pool::builder(&guest(module)).processes(2).start_method(method)
}

/// Waits until a worker runs a task, and gives its process.
fn busy(pool: &Pool) -> u32 {
    let busy = || pool.workers().iter().find(|w| w.state == WorkerState::Busy).map(|w| w.pid);
    wait_until("a worker is busy", Duration::from_secs(20), || busy().is_some());
    busy().unwrap()
}

/// Waits until a worker computes. One that has just answered its last task may count as busy for a moment.
fn computing(pool: &Pool) -> u32 {
    let mut begun = std::collections::BTreeMap::new();
    let mut found = None;
    wait_until("a worker computes", Duration::from_secs(20), || {
        let busy = pool.workers().into_iter().filter(|w| w.state == WorkerState::Busy).map(|w| w.pid);
        found = busy.into_iter().find(|pid| {
            let ticks = cpu_ticks(*pid);
            ticks >= *begun.entry(*pid).or_insert(ticks) + 5
        });
        found.is_some()
    });
    found.unwrap()
}

fn lost(signal: i32, reason: &str) -> TaskError {
    TaskError::WorkerLost { exitcode: Some(-signal), reason: reason.to_owned() }
}

/// CPython's Pool hangs for ever; ProcessPoolExecutor loses all tasks; pebble loses this one.
#[test]
fn o44_f44_a_task_that_kills_its_worker_costs_that_task_only() {
    let _bound = time_bound();
    for method in METHODS {
        let pool = builder("failing", method).build().unwrap();
        let run = pool.func::<String, String>("run").unwrap();
        let looping = pool.apply_async(&run, "loop".to_owned());
        let victim = computing(&pool);
        let others = pool.imap(&run, (0..200).map(|n| n.to_string()));
        signal(victim, Signal::KILL);
        let reason = "SIGKILL (by someone else; perhaps the machine is out of memory)";
        assert_eq!(looping.get(), Err(lost(9, reason)));
        assert_eq!(
            others.map(Result::unwrap).collect::<Vec<_>>(),
            (0..200).map(|n| n.to_string()).collect::<Vec<_>>()
        );
        assert!(!pids(&pool).contains(&victim));
        assert_gone(&[victim]);
    }
}

#[test]
fn f50_the_signal_that_killed_a_worker_is_named() {
    let _bound = time_bound();
    let pool = builder("failing", StartMethod::Forkserver).processes(1).build().unwrap();
    let run = pool.func::<&str, String>("run").unwrap();
    for (sent, name) in [
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::ILL, "SIGILL"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::TERM, "SIGTERM"),
        (Signal::SYS, "SIGSYS (a system call that workers may not make)"),
    ] {
        let looping = pool.apply_async(&run, "loop");
        let victim = computing(&pool);
        // The engine takes some of them for traps of its guest's, until the default takes over at the second.
        wait_until("it dies", Duration::from_secs(20), || {
            signal(victim, sent);
            looping.ready()
        });
        assert_eq!(looping.get(), Err(lost(sent.as_raw(), name)));
    }
    assert_eq!(pool.apply(&run, "on").unwrap(), "on");
}

#[test]
fn f52_an_interrupt_meant_for_the_coordinator_does_not_end_workers() {
    let _bound = time_bound();
    let pool = builder("hello", StartMethod::Forkserver).processes(1).build().unwrap();
    let hello = pool.func::<&str, String>("run").unwrap();
    let result = pool.apply_async(&hello, "bob:300");
    signal(busy(&pool), Signal::INT);
    assert!(result.get().is_ok());
}

#[test]
fn a_killed_task_is_tried_again_on_another_worker() {
    let _bound = time_bound();
    for method in METHODS {
        let pool = builder("hello", method).processes(1).retries(1).build().unwrap();
        let hello = pool.func::<&str, String>("run").unwrap();
        let result = pool.apply_async(&hello, "bob:400");
        let victim = busy(&pool);
        wait_until("it sleeps", Duration::from_secs(20), || proc_state(victim) == Some('S'));
        signal(victim, Signal::KILL);
        assert!(result.get().unwrap().starts_with("hello bob from PoolWorker-2"));
    }
}

/// CPython's Pool hangs; ProcessPoolExecutor and pebble are dead from then on.
#[test]
fn o45_f45_idle_workers_that_are_killed_are_replaced_on_the_next_need() {
    let _bound = time_bound();
    for method in METHODS {
        let pool = builder("failing", method).processes(8).build().unwrap();
        let run = pool.func::<String, String>("run").unwrap();
        for round in 0..10 {
            pool.map(&run, (0..20).map(|n| n.to_string())).unwrap();
            let victims = pids(&pool);
            assert!(!victims.is_empty());
            victims.iter().for_each(|victim| signal(*victim, Signal::KILL));
            // Now and then the next map comes before the deaths are known.
            if round % 2 == 0 {
                assert_gone(&victims);
            }
        }
    }
}

#[test]
fn f46_workers_killed_while_they_start_are_replaced() {
    let _bound = time_bound();
    let dir = temp_dir();
    // The first two workers die before they are one.
    let text = format!(
        "case $2 in worker) for n in 1 2; do mkdir {dir}/$n 2>/dev/null && kill -9 $$; done;; esac\nexec {program} \"$@\"",
        dir = dir.path().display(),
        program = support::program().display()
    );
    let program = script(dir.path(), "wpool", &text);
    let module = load("upper", &program);
    let pool = Pool::builder(&module).processes(1).start_method(StartMethod::Spawn).build().unwrap();
    let upper = pool.func::<&str, String>("run").unwrap();
    assert_eq!(pool.map(&upper, ["a", "b"]).unwrap(), ["A", "B"]);
}

/// A prebuilt guest with another program as its workers.
fn load(name: &str, program: &Path) -> Module {
    // In the cache before, so that the program need not compile.
    drop(guest(name));
    loader().program(program).load(repo(&format!("guest/prebuilt/{name}.wasm"))).unwrap()
}

#[test]
fn o47_f47_a_worker_killed_while_it_writes_a_large_result_leaves_nothing_of_it() {
    let _bound = time_bound();
    let pool = builder("upper", StartMethod::Forkserver).processes(1).retries(0).build().unwrap();
    let upper = pool.func::<Vec<u8>, Vec<u8>>("run").unwrap();
    for round in 0..6 {
        let result = pool.apply_async(&upper, vec![b'x'; 48 << 20]);
        let victim = busy(&pool);
        // Somewhere between reading, working and writing; where is left to chance.
        wait_until("it is at it", Duration::from_secs(20), || {
            result.ready() || cpu_ticks(victim) > 2 + 2 * round
        });
        signal(victim, Signal::KILL);
        match result.get() {
            Ok(bytes) => assert!(bytes.len() == 48 << 20 && bytes.iter().all(|b| *b == b'X')),
            Err(error) => assert_eq!(error.kind(), "worker-lost"),
        }
        assert_eq!(pool.apply(&upper, b"next".to_vec()).unwrap(), b"NEXT");
    }
}

#[test]
fn f48_a_worker_killed_while_it_is_written_to_blocks_nobody() {
    let _bound = time_bound();
    let pool = builder("upper", StartMethod::Forkserver).build().unwrap();
    let upper = pool.func::<Vec<u8>, Vec<u8>>("run").unwrap();
    pool.apply(&upper, b"warm".to_vec()).unwrap();
    let victim = pids(&pool)[0];
    // A stopped worker reads nothing: the record is stuck in the socket.
    signal(victim, Signal::STOP);
    let stuck = pool.apply_async(&upper, vec![b'x'; 20 << 20]);
    busy(&pool);
    assert_eq!(pool.apply(&upper, b"other".to_vec()).unwrap(), b"OTHER");
    assert!(!stuck.ready());
    signal(victim, Signal::KILL);
    // It never began: another worker does it.
    assert_eq!(stuck.get().unwrap().len(), 20 << 20);
}

/// pebble alone survives this, and only with a time limit.
#[test]
fn f51_a_stopped_worker_is_killed_at_the_time_limit() {
    let _bound = time_bound();
    let pool = builder("hello", StartMethod::Forkserver)
        .processes(1)
        .task_timeout(Duration::from_millis(500))
        .build()
        .unwrap();
    let hello = pool.func::<String, String>("run").unwrap();
    let result = pool.apply_async(&hello, "a:100".to_owned());
    let victim = busy(&pool);
    signal(victim, Signal::STOP);
    match result.get() {
        Err(error) => assert_eq!(error.kind(), "time"),
        // It may have come through before it was stopped.
        Ok(_) => signal(victim, Signal::CONT),
    }
    assert!(pool.apply(&hello, "b:0".to_owned()).is_ok());
}

#[test]
fn p46_a_killed_zygote_is_replaced_on_the_next_need() {
    let _bound = time_bound();
    // A program of its own name, to tell this pool's zygote from those of other tests.
    let dir = temp_dir();
    let program = dir.path().join("wpool-p46");
    support::renamed(support::program(), &program);
    let pool = Pool::builder(&load("failing", &program)).processes(8).build().unwrap();
    let run = pool.func::<String, String>("run").unwrap();
    for round in 0..8 {
        pool.map(&run, (0..50).map(|n| n.to_string())).unwrap();
        let workers = pids(&pool);
        let mine = running(&program);
        let zygotes: Vec<u32> = mine.into_iter().filter(|pid| !workers.contains(pid)).collect();
        assert!(!zygotes.is_empty() || round > 0);
        zygotes.iter().for_each(|zygote| signal(*zygote, Signal::KILL));
        if round % 2 == 0 {
            // Its workers live on.
            assert_eq!(pool.map(&run, ["a".to_owned()]).unwrap(), ["a"]);
            let died = || !running(&program).iter().any(|pid| zygotes.contains(pid));
            wait_until("it is dead", Duration::from_secs(2), died);
        }
        workers.iter().for_each(|worker| signal(*worker, Signal::KILL));
    }
    drop(pool);
    // A worker that was forked in the last moment of its zygote's life ends by itself.
    wait_until("all are gone", Duration::from_secs(2), || running(&program).is_empty());
}

#[test]
fn a_zygote_that_hangs_does_not_hang_the_end_of_its_pool() {
    let _bound = time_bound();
    let dir = temp_dir();
    let text =
        format!("case $2 in zygote) exec sleep 1000;; esac\nexec {} \"$@\"", support::program().display());
    let module = load("failing", &script(dir.path(), "wpool", &text));
    let pool = Pool::builder(&module).processes(3).build().unwrap();
    let run = pool.func::<&str, String>("run").unwrap();
    let result = pool.apply_async(&run, "a");
    assert!(!result.ready());
    let dropped = Instant::now();
    drop(pool);
    assert!(dropped.elapsed() < Duration::from_secs(2));
    assert_eq!(result.get(), Err(TaskError::Cancelled));
}

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
            assert!((5..=12).contains(&starts), "{starts} processes");
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
        "case $2 in worker) if mkdir {dir}/first 2>/dev/null; then exec 3<&0; sleep 60 & echo $! > {dir}/left; exit 3; fi;; esac\nexec {program} \"$@\"",
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

/// Runs a hundred tasks with one worker in an attacker's hands; gives what was said of its death, if a task was lost by it.
fn with_hostile_worker(deed: &str) -> Option<String> {
    let dir = temp_dir();
    let program = dir.path().join(deed);
    support::renamed(&example("hostile_worker"), &program);
    std::fs::write(dir.path().join("real"), support::program().to_str().unwrap()).unwrap();
    let mut limits = Limits::default();
    limits.time = Some(Duration::from_secs(2));
    limits.output = 1 << 20;
    let builder =
        Pool::builder(&load("upper", &program)).processes(2).start_method(StartMethod::Spawn).limits(limits);
    let pool = builder.build().unwrap();
    let upper = pool.func::<String, String>("run").unwrap();
    let outcomes = pool.try_map(&upper, (0..100).map(|n| format!("n{n}")));
    let (mut lost, mut forged) = (None, 0);
    for (n, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            // What it says for a task that it holds is as good as what any guest says.
            Ok(value) if value == "FIRST" || (value == "forged" && deed == "result-of-nothing") => {
                forged += 1
            }
            Ok(value) => assert_eq!(value, format!("N{n}"), "{deed}"),
            Err(error) => assert_eq!(lost.replace(error.to_string()), None, "{deed}: one task at most"),
        }
    }
    assert!(forged < 50, "{deed}: results for what it did not hold");
    // Some deeds are done when nothing is left to do; the pool ends all the same.
    pool.close();
    assert_eq!(pool.join_timeout(Duration::from_secs(20)), Ok(true), "{deed}");
    assert_eq!(running(&program), [] as [u32; 0], "{deed}");
    lost
}

#[test]
fn f104_a_worker_that_breaks_the_protocol_is_ended_and_the_others_go_on() {
    let _bound = time_bound();
    for deed in [
        "garbage-before-hello",
        "ready-before-hello",
        "other-version",
        "result-before-ready",
        "too-long",
        "longer-than-the-limit",
        "unknown-kind",
        "a-batch",
        "profile-unasked",
        "too-many-results",
        "result-of-nothing",
        "failure-of-garbage",
        "control-of-garbage",
        "placed-nowhere",
        "placed-outside",
        "placed-too-long",
        "placed-oddly",
        "control-of-nothing",
        "short-time",
        "odd-usage",
        "short-batch-done",
        "init-failed-late",
        "forked",
        "cancels-unasked",
        "speaks-for-the-coordinator",
        "answers-for-ever",
        "one-byte-a-time",
    ] {
        // It never says that it began a task, so that none is charged: another worker does it.
        assert_eq!(with_hostile_worker(deed), None, "{deed}");
    }
}

#[test]
fn f104_a_process_in_an_attackers_hands_ends_within_its_time() {
    let _bound = time_bound();
    for deed in [
        "answers-for-ever",
        "result-before-ready",
        "too-many-results",
        "speaks-for-the-coordinator",
        "never-reads",
    ] {
        let dir = temp_dir();
        let program = dir.path().join(deed);
        support::renamed(&example("hostile_worker"), &program);
        std::fs::write(dir.path().join("real"), support::program().to_str().unwrap()).unwrap();
        let mut limits = Limits::default();
        limits.time = Some(Duration::from_millis(300));
        let process = Process::builder(&load("upper", &program)).target("run").input("x").limits(limits);
        let mut process = process.start_method(StartMethod::Spawn).build().unwrap();
        process.start().unwrap();
        let status = process.join_timeout(Duration::from_secs(20)).unwrap();
        let status = status.unwrap_or_else(|| panic!("{deed}: it has no end"));
        assert_eq!(status.exitcode, -9, "{deed}: {status:?}");
        let said = format!("{:?}", status.reason);
        assert!(said.contains("protocol error") || said.contains("timeout after 300ms"), "{deed}: {said}");
        assert_eq!(running(&program), [] as [u32; 0], "{deed}");
    }
}

#[test]
fn f104_a_worker_that_says_nothing_is_ended_at_the_time_limit() {
    let _bound = time_bound();
    // Unless all that it held was taken back from it before.
    let lost = with_hostile_worker("never-reads");
    assert!(lost.as_ref().is_none_or(|lost| lost.starts_with("timeout after 2s")), "{lost:?}");
    assert_eq!(with_hostile_worker("closes"), None);
}

#[test]
fn f104_a_worker_cannot_fill_the_coordinators_memory() {
    let _bound = time_bound();
    let before = peak_mib();
    assert_eq!(with_hostile_worker("endless-output"), None);
    assert_eq!(with_hostile_worker("endless-frame"), None);
    // Other tests of this program have large records of their own.
    assert!(peak_mib() < before.max(400) + 64, "{before} MiB before, {} after", peak_mib());
}

/// The most memory that this program has ever had.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}
