//! Locks and the rest over threads of the host.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use wpool::ipc::Value;
use wpool::sync::{Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore, SyncError};

use crate::support::{time_bound, wait_until};
use crate::{A_MOMENT, FOR_EVER, by_another, elsewhere, takes_a_moment};

#[test]
fn l1_a_lock_is_held_by_one() {
    let _bound = time_bound();
    let lock = Lock::new();
    let guard = lock.acquire().unwrap();
    assert!(!guard.owner_died());
    assert_eq!(lock.try_acquire().unwrap_err(), SyncError::TimedOut);
    assert_eq!(by_another(|| lock.try_acquire().map(drop)), Err(SyncError::TimedOut));
    drop(guard);
    by_another(|| lock.try_acquire().map(drop)).unwrap();
    // Without a guard.
    assert_eq!(lock.release(), Err(SyncError::NotHeld));
    lock.acquire().unwrap().forget();
    assert!(lock.locked());
    assert_eq!((lock.release(), lock.release()), (Ok(()), Err(SyncError::NotHeld)));
}

#[test]
fn l1_a_lock_excludes() {
    let _bound = time_bound();
    let (lock, inside, entered) = (Lock::new(), AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let _guard = lock.acquire().unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    entered.fetch_add(1, Ordering::SeqCst);
                    inside.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(entered.into_inner(), 400);
}

#[test]
fn l2_any_thread_releases_a_lock_that_another_has_acquired() {
    let lock = Lock::new();
    lock.acquire().unwrap().forget();
    by_another(|| lock.release()).unwrap();
    assert!(!lock.locked());
}

#[test]
fn l3_acquire_gives_up_after_its_time() {
    let _bound = time_bound();
    let lock = Lock::new();
    let guard = lock.acquire().unwrap();
    by_another(|| {
        assert_eq!(lock.acquire_timeout(Duration::ZERO).unwrap_err(), SyncError::TimedOut);
        let late = takes_a_moment(|| lock.acquire_timeout(A_MOMENT).map(drop));
        assert_eq!(late, Err(SyncError::TimedOut));
    });
    let waiting = elsewhere({
        let lock = lock.clone();
        move || lock.acquire_timeout(FOR_EVER).map(drop)
    });
    drop(guard);
    assert_eq!(waiting.join().unwrap(), Ok(()));
}

#[test]
fn l4_all_see_whether_a_lock_is_held() {
    for is_locked in [true, false] {
        let (lock, rlock) = (Lock::new(), RLock::new());
        let _guards = is_locked.then(|| (lock.acquire().unwrap(), rlock.acquire().unwrap()));
        assert_eq!((lock.locked(), rlock.locked()), (is_locked, is_locked));
        assert_eq!(by_another(|| (lock.locked(), rlock.locked())), (is_locked, is_locked));
    }
}

#[test]
fn l5_a_guard_releases_at_its_end_also_in_a_panic() {
    let (lock, rlock) = (Lock::new(), RLock::new());
    let panicked = elsewhere({
        let (lock, rlock) = (lock.clone(), rlock.clone());
        move || {
            let _guards = (lock.acquire().unwrap(), rlock.acquire().unwrap());
            panic!("this panic is part of a test");
        }
    });
    assert!(panicked.join().is_err());
    assert!(!lock.locked() && !rlock.locked());
    // It has released it, so that nothing is told.
    assert!(!lock.acquire().unwrap().owner_died());
}

#[test]
fn l6_an_rlock_is_released_as_often_as_it_was_acquired_and_by_its_owner() {
    let lock = RLock::new();
    let guards: Vec<_> = (0..3).map(|_| lock.acquire().unwrap()).collect();
    assert_eq!(by_another(|| lock.try_acquire().map(drop)), Err(SyncError::TimedOut));
    assert_eq!(by_another(|| lock.release()), Err(SyncError::NotHeld));
    for guard in guards {
        assert!(lock.locked());
        drop(guard);
    }
    assert!(!lock.locked());
    assert_eq!(lock.release(), Err(SyncError::NotHeld));
    by_another(|| lock.try_acquire().map(drop)).unwrap();
}

#[test]
fn l10_a_semaphore_counts_and_may_grow() {
    let _bound = time_bound();
    let semaphore = Semaphore::new(2);
    let units = [semaphore.acquire().unwrap(), semaphore.try_acquire().unwrap()];
    assert_eq!((semaphore.value(), semaphore.try_acquire().unwrap_err()), (0, SyncError::TimedOut));
    let late = takes_a_moment(|| semaphore.acquire_timeout(A_MOMENT).map(drop));
    assert_eq!(late, Err(SyncError::TimedOut));
    let waiting = elsewhere({
        let semaphore = semaphore.clone();
        move || semaphore.acquire().map(drop)
    });
    drop(units);
    assert_eq!(waiting.join().unwrap(), Ok(()));
    assert_eq!(semaphore.value(), 2);
    semaphore.release(3).unwrap();
    assert_eq!(semaphore.value(), 5);
    // What one thread takes, another may add: a semaphore can be a count of events.
    semaphore.acquire().unwrap().forget();
    by_another(|| semaphore.release(1)).unwrap();
    assert_eq!(semaphore.value(), 5);
}

#[test]
fn l10_a_bounded_semaphore_does_not_grow() {
    let semaphore = BoundedSemaphore::new(2);
    assert_eq!(semaphore.release(1), Err(SyncError::TooMany));
    semaphore.acquire().unwrap().forget();
    assert_eq!(semaphore.release(2), Err(SyncError::TooMany));
    assert_eq!(semaphore.value(), 1);
    assert_eq!((semaphore.release(1), semaphore.value()), (Ok(()), 2));
}

#[test]
fn l11_a_condition_wakes_as_many_as_are_notified() {
    let _bound = time_bound();
    const WAITING: i64 = 3;
    let (changed, asleep, woken) = (Condition::new(), number(), number());
    std::thread::scope(|scope| {
        for _ in 0..WAITING {
            scope.spawn(|| {
                let guard = changed.acquire().unwrap();
                asleep.add(1).unwrap();
                guard.wait().unwrap();
                woken.add(1).unwrap();
            });
        }
        // The lock is free only while they wait.
        let all_wait = || changed.acquire().is_ok_and(|_guard| asleep.get() == Ok(WAITING));
        wait_until("all wait", FOR_EVER, all_wait);
        changed.acquire().unwrap().notify(1).unwrap();
        wait_until("one is awake", FOR_EVER, || woken.get() == Ok(1));
        changed.acquire().unwrap().notify(0).unwrap();
        changed.acquire().unwrap().notify_all().unwrap();
    });
    assert_eq!(woken.get(), Ok(WAITING));
}

#[test]
fn l11_a_wait_that_is_not_notified_gives_up_with_the_lock_held() {
    let _bound = time_bound();
    let changed = Condition::new();
    let guard = changed.acquire().unwrap();
    assert_eq!(takes_a_moment(|| guard.wait_timeout(A_MOMENT)), Ok(false));
    assert_eq!(by_another(|| changed.try_acquire().map(drop)), Err(SyncError::TimedOut));
    // The lock is recursive.
    drop(changed.acquire().unwrap());
    drop(guard);
    by_another(|| changed.try_acquire().map(drop)).unwrap();
}

#[test]
fn l11_wait_for_waits_for_a_predicate() {
    let _bound = time_bound();
    let (changed, state) = (Condition::new(), number());
    let counting = elsewhere({
        let (changed, state) = (changed.clone(), state.clone());
        move || {
            for _ in 0..4 {
                let guard = changed.acquire().unwrap();
                state.add(1).unwrap();
                guard.notify_all().unwrap();
            }
        }
    });
    let guard = changed.acquire().unwrap();
    guard.wait_for(|| state.get() == Ok(4)).unwrap();
    let never = takes_a_moment(|| guard.wait_for_timeout(|| state.get() == Ok(5), A_MOMENT));
    assert_eq!(never, Ok(false));
    assert_eq!(guard.wait_for_timeout(|| state.get() == Ok(4), Duration::ZERO), Ok(true));
    drop(guard);
    counting.join().unwrap();
}

#[test]
fn l12_an_event_is_set_waited_for_and_cleared() {
    let _bound = time_bound();
    let event = Event::new();
    assert!(!event.is_set() && !event.wait_timeout(Duration::ZERO));
    assert!(!takes_a_moment(|| event.wait_timeout(A_MOMENT)));
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let event = event.clone();
            elsewhere(move || event.wait_timeout(FOR_EVER))
        })
        .collect();
    event.set();
    assert!(waiting.into_iter().all(|thread| thread.join().unwrap()));
    event.wait();
    assert!(event.is_set() && event.wait_timeout(Duration::ZERO));
    event.clear();
    assert!(!event.is_set() && !event.wait_timeout(Duration::ZERO));
}

#[test]
fn l13_a_barrier_lets_all_go_at_once_each_with_a_number() {
    let _bound = time_bound();
    let barrier = Barrier::new(3);
    for _ in 0..5 {
        let numbers: BTreeSet<u32> = std::thread::scope(|scope| {
            let parties: Vec<_> = (0..3).map(|_| scope.spawn(|| barrier.wait().unwrap())).collect();
            parties.into_iter().map(|party| party.join().unwrap()).collect()
        });
        assert_eq!(numbers, BTreeSet::from([0, 1, 2]));
    }
    assert_eq!((barrier.parties(), barrier.n_waiting(), barrier.broken()), (3, 0, false));
}

#[test]
fn l13_a_time_out_an_abort_and_a_reset_break_the_wait_for_all() {
    let _bound = time_bound();
    type End = fn(&Barrier) -> Result<(), SyncError>;
    let ends: [End; 3] = [
        |barrier| barrier.wait_timeout(A_MOMENT).map(drop),
        |barrier| barrier.abort().and(Err(SyncError::Broken)),
        |barrier| barrier.reset().and(Err(SyncError::Broken)),
    ];
    for (at, end) in ends.into_iter().enumerate() {
        let barrier = Barrier::new(3);
        let waiting = elsewhere({
            let barrier = barrier.clone();
            move || barrier.wait()
        });
        wait_until("it waits", FOR_EVER, || barrier.n_waiting() == 1);
        assert_eq!(end(&barrier), Err(SyncError::Broken));
        assert_eq!(waiting.join().unwrap(), Err(SyncError::Broken));
        let stays_broken = at < 2;
        assert_eq!(barrier.broken(), stays_broken, "{at}");
        if stays_broken {
            assert_eq!(barrier.wait(), Err(SyncError::Broken));
            barrier.reset().unwrap();
        }
        assert!(!barrier.broken());
        assert_eq!(barrier.wait_timeout(Duration::ZERO), Err(SyncError::Broken));
    }
}

#[test]
fn l13_a_barrier_without_parties_is_refused() {
    assert!(std::panic::catch_unwind(|| Barrier::new(0)).is_err());
}

fn number() -> Value<i64> {
    Value::new(&0).unwrap()
}
