//! Single workers and zygotes that die or hang.

use super::*;

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
        let reason = "SIGKILL (not from wpool; perhaps the machine is out of memory)";
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
        "case $2 in worker) for n in 1 2; do mkdir {dir}/$n 2>/dev/null && kill -9 $$; done;; esac\n\
         exec {program} \"$@\"",
        dir = dir.path().display(),
        program = support::program().display()
    );
    let program = script(dir.path(), "wpool", &text);
    let module = load("upper", &program);
    let pool = Pool::builder(&module).processes(1).start_method(StartMethod::Spawn).build().unwrap();
    let upper = pool.func::<&str, String>("run").unwrap();
    assert_eq!(pool.map(&upper, ["a", "b"]).unwrap(), ["A", "B"]);
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
fn f48_a_worker_killed_while_it_is_written_to_blocks_no_other() {
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
