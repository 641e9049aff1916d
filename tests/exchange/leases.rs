//! Locks that a worker acquires and releases without a message, because nothing else wants them meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use wpool::ipc::Queue;
use wpool::sync::{Event, Lock, RLock, Semaphore, SyncError};
use wpool::{Pool, StartMethod, TaskError};

use crate::FOR_EVER;
use crate::guests::{Scripts, limited, over_start_methods, sealed};
use crate::support::{guest, pids, signal, wait_until};

over_start_methods! {
    every {
        l1_l4_l6_a_lease_lasts_from_task_to_task
        l3_a_lock_of_another_worker_is_acquired_at_once_if_it_is_free
        l9_the_end_of_a_task_with_a_leased_lock_is_told
        l1_two_workers_and_the_host_exclude_each_other
        x13_a_lock_of_two_pools_has_one_owner
    }
    processes {
        l8_a_killed_holder_of_a_lease_leaves_nothing_locked
        l8_workers_are_killed_between_an_acquire_and_a_release
    }
}

/// A pool with one worker, so that each task finds the leases of the one before.
fn alone(policy: wpool::Policy, method: StartMethod) -> Scripts {
    Scripts::with(policy, method, |builder| builder.processes(1))
}

fn l1_l4_l6_a_lease_lasts_from_task_to_task(method: StartMethod) {
    let (lock, rlock) = (Lock::new(), RLock::new());
    let scripts = alone(sealed().share("l", &lock).share("r", &rlock), method);
    for is_asked in [false, false, true, false] {
        scripts.gives(
            "locked lock:l; acquire lock:l; locked lock:l; release lock:l; locked lock:l",
            "false true false",
        );
        scripts.gives(
            "acquire lock:l; catch acquire@0 lock:l; release lock:l; catch release lock:l",
            "TimedOut Invalid",
        );
        let twice = "acquire rlock:r; acquire rlock:r; release rlock:r; locked rlock:r; release rlock:r";
        scripts.gives(&format!("{twice}; locked rlock:r; catch release rlock:r"), "true false Invalid");
        if is_asked {
            assert!(!lock.locked() && !rlock.locked());
            drop((lock.acquire().unwrap(), rlock.acquire().unwrap()));
        }
    }
    // What was acquired by the lease is released by a message, and the other way round.
    let (held, go) = (Semaphore::new(0), Event::new());
    let policy = sealed().share("r", &rlock).share("held", &held).share("go", &go);
    let scripts = alone(policy, method);
    scripts.gives("acquire rlock:r; release rlock:r", "");
    let task = scripts.start(
        "acquire rlock:r; acquire rlock:r; give held 1; await go; acquire rlock:r; release rlock:r; \
         release rlock:r; locked rlock:r; release rlock:r; locked rlock:r; catch release rlock:r",
    );
    held.acquire().unwrap().forget();
    assert_eq!(rlock.try_acquire().unwrap_err(), SyncError::TimedOut);
    go.set();
    assert_eq!(task.get().unwrap(), "true false Invalid");
    assert!(!rlock.acquire().unwrap().owner_died());
}

fn l3_a_lock_of_another_worker_is_acquired_at_once_if_it_is_free(method: StartMethod) {
    let (lock, held, go) = (Lock::new(), Semaphore::new(0), Event::new());
    let policy = sealed().share("l", &lock).share("held", &held).share("go", &go);
    let scripts = Scripts::new(policy, method);
    let owner = scripts
        .start("acquire lock:l; release lock:l; give held 1; await go; acquire lock:l; give held 1; loop");
    held.acquire().unwrap().forget();
    scripts.gives("acquire@0 lock:l; release lock:l", "");
    go.set();
    held.acquire().unwrap().forget();
    scripts.gives("catch acquire@0 lock:l; catch acquire@20 lock:l; locked lock:l", "TimedOut TimedOut true");
    let waiting = scripts.start("acquire lock:l; release lock:l");
    owner.cancel();
    assert_eq!(waiting.get().unwrap(), "owner-died");
}

fn l9_the_end_of_a_task_with_a_leased_lock_is_told(method: StartMethod) {
    let (lock, held) = (Lock::new(), Semaphore::new(0));
    let policy = sealed().share("l", &lock).share("held", &held);
    let limits = limited();
    let scripts = Scripts::with(policy, method, |builder| builder.processes(1).limits(limits));
    // A trap, a time limit, an error, an end in good order.
    for end in ["trap", "loop", "fail no", "say done"] {
        for told_to_guest in [false, true] {
            scripts.gives("acquire lock:l; release lock:l", "");
            // This task asks nothing of the coordinator.
            scripts.start(&format!("acquire lock:l; forget lock:l; {end}")).wait(None);
            if told_to_guest {
                scripts.gives("acquire lock:l; release lock:l", "owner-died");
            } else {
                assert!(lock.acquire().unwrap().owner_died(), "{end}");
            }
            assert!(!lock.acquire().unwrap().owner_died(), "it is told once");
        }
    }
    // A cancel, of a task whose lock another wants already.
    scripts.gives("acquire lock:l; release lock:l", "");
    let limits = wpool::Limits::default();
    let policy = sealed().share("l", &lock).share("held", &held);
    let scripts = Scripts::with(policy, method, |builder| builder.processes(1).limits(limits));
    let task = scripts.start("acquire lock:l; forget lock:l; give held 1; loop");
    held.acquire().unwrap().forget();
    assert!(lock.locked());
    task.cancel();
    assert!(matches!(task.get(), Err(TaskError::Cancelled)));
    assert!(lock.acquire().unwrap().owner_died());
}

/// One item is a token. Who has the lock takes it and puts it back, so that it is always there: also the last
/// put before a release, which needs no answer.
fn l1_two_workers_and_the_host_exclude_each_other(method: StartMethod) {
    let (lock, token) = (Lock::new(), Queue::<String>::unbounded());
    token.put(&"x".to_owned()).unwrap();
    let scripts = Scripts::new(sealed().share("l", &lock).share("t", &token), method);
    let turn = "acquire lock:l; get@0 t; put t x; release lock:l; acquire lock:l; release lock:l;";
    let tasks: Vec<_> = (0..10).map(|_| scripts.start(&turn.repeat(500))).collect();
    let mut turns = 0;
    while !tasks.iter().all(|task| task.ready()) {
        let _guard = lock.acquire().unwrap();
        assert_eq!(token.try_get().unwrap(), "x");
        token.put(&"x".to_owned()).unwrap();
        turns += 1;
        if turns % 50 == 0 {
            // Leases are free for a while.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    for task in tasks {
        let tokens = task.get().unwrap();
        assert!(tokens.split(' ').count() == 500 && tokens.split(' ').all(|token| token == "x"));
    }
    assert_eq!(token.len(), 1);
}

fn x13_a_lock_of_two_pools_has_one_owner(method: StartMethod) {
    let (lock, held, go) = (Lock::new(), Semaphore::new(0), Event::new());
    let policy = sealed().share("l", &lock).share("held", &held).share("go", &go);
    let pools = [alone(policy.clone(), method), alone(policy, method)];
    for _ in 0..3 {
        for pool in &pools {
            pool.gives("acquire@0 lock:l; release lock:l; acquire@0 lock:l; release lock:l", "");
        }
    }
    let task = pools[0].start("acquire lock:l; give held 1; await go; release lock:l");
    held.acquire().unwrap().forget();
    pools[1].gives("catch acquire@0 lock:l", "TimedOut");
    go.set();
    task.get().unwrap();
    pools[1].gives("acquire lock:l; release lock:l", "");
}

fn l8_a_killed_holder_of_a_lease_leaves_nothing_locked(method: StartMethod) {
    let (lock, rlock, held) = (Lock::new(), RLock::new(), Semaphore::new(0));
    let policy = sealed().share("l", &lock).share("r", &rlock).share("held", &held);
    let scripts = alone(policy, method);
    let both = "acquire lock:l; acquire rlock:r; acquire rlock:r";
    for is_held in [true, false] {
        scripts.gives("acquire lock:l; release lock:l; acquire rlock:r; release rlock:r", "");
        let release = if is_held { "" } else { "release lock:l; release rlock:r; release rlock:r;" };
        let task = scripts.start(&format!("{both}; {release} give held 1; loop"));
        held.acquire().unwrap().forget();
        pids(&scripts.pool).into_iter().for_each(|pid| signal(pid, Signal::KILL));
        assert!(matches!(task.get(), Err(TaskError::WorkerLost { .. })));
        assert_eq!(lock.try_acquire().unwrap().owner_died(), is_held);
        scripts.gives("acquire rlock:r; release rlock:r", if is_held { "owner-died" } else { "" });
    }
}

fn l8_workers_are_killed_between_an_acquire_and_a_release(method: StartMethod) {
    let (lock, start, is_over) = (Lock::new(), Event::new(), AtomicBool::new(false));
    start.set();
    let policy = sealed().share("lock", &lock).share("start", &start);
    let pool = Pool::builder(&guest("shuttle")).processes(2).start_method(method).policy(policy);
    let pool = pool.build().unwrap();
    let run = pool.func::<String, String>("run").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    let given = pool.apply(&run, "lock 2000".to_owned());
                    assert!(matches!(given, Ok(_) | Err(TaskError::WorkerLost { .. })), "{given:?}");
                }
            });
        }
        let mut died = 0;
        for _ in 0..20 {
            wait_until("there are workers", FOR_EVER, || !pids(&pool).is_empty());
            drop(lock.acquire().unwrap());
            pids(&pool).into_iter().for_each(|pid| signal(pid, Signal::KILL));
            died += usize::from(lock.acquire_timeout(Duration::from_secs(60)).unwrap().owner_died());
            // A pool whose workers all die before they begin a task breaks.
            let _may_be_lost = pool.apply(&run, "lock 1".to_owned());
        }
        is_over.store(true, Ordering::SeqCst);
        assert!(died <= 20);
    });
    assert!(lock.try_acquire().is_ok());
}
