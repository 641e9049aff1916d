//! The objects within one process.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use super::*;
use crate::ipc::Value;
use crate::testing::share;

/// A time-out that passes in a test.
const SHORT: Duration = Duration::from_millis(2);

/// The result of this on another thread, which is another task.
fn elsewhere<T: Send>(task: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(task).join().unwrap())
}

#[test]
fn a_lock_is_released_with_its_guard() {
    share("lock:db");
    let lock = Lock::open("db").unwrap();
    let guard = lock.acquire().unwrap();
    assert!(!guard.owner_died());
    assert!(lock.locked().unwrap());
    elsewhere(|| {
        let lock = Lock::open("db").unwrap();
        assert!(lock.try_acquire().unwrap_err().is_timed_out());
        assert!(lock.acquire_timeout(SHORT).unwrap_err().is_timed_out());
        assert_eq!(lock.release().unwrap_err().kind(), ErrorKind::Invalid);
    });
    assert!(lock.acquire().unwrap_err().is_deadlock());
    drop(guard);
    assert!(!lock.locked().unwrap());
    lock.try_acquire().unwrap().release().unwrap();
    lock.acquire_timeout(SHORT).unwrap().forget();
    lock.release().unwrap();
    assert_eq!(lock.release().unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn an_rlock_is_free_once_each_guard_is_gone() {
    share("rlock:tree");
    let lock = RLock::open("tree").unwrap();
    let outer = lock.acquire().unwrap();
    let inner = lock.acquire().unwrap();
    drop(outer);
    elsewhere(|| assert!(RLock::open("tree").unwrap().try_acquire().is_err()));
    drop(inner);
    elsewhere(|| assert!(RLock::open("tree").unwrap().try_acquire().is_ok()));
}

#[test]
fn a_unit_goes_back_with_its_guard() {
    share("semaphore:slots=1");
    let slots = Semaphore::open("slots").unwrap();
    let unit = slots.acquire().unwrap();
    assert!(slots.try_acquire().unwrap_err().is_timed_out());
    assert!(slots.acquire_timeout(SHORT).unwrap_err().is_timed_out());
    unit.release().unwrap();
    slots.try_acquire().unwrap().forget();
    assert_eq!(slots.value().unwrap(), 0);
    slots.release(3).unwrap();
    assert_eq!(slots.value().unwrap(), 3);
    share("bsemaphore:bounded");
    let bounded = BoundedSemaphore::open("bounded").unwrap();
    assert_eq!(bounded.release(1).unwrap_err().kind(), ErrorKind::Invalid);
    drop(bounded.acquire().unwrap());
    assert_eq!(bounded.value().unwrap(), 1);
}

#[test]
fn an_event_lets_all_go_on() {
    share("event:go");
    let event = Event::open("go").unwrap();
    assert!(!event.wait_timeout(SHORT).unwrap());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| Event::open("go").unwrap().wait().unwrap());
        }
        event.set().unwrap();
    });
    assert!(event.is_set().unwrap());
    assert!(event.wait_timeout(SHORT).unwrap());
    event.clear().unwrap();
    assert!(!event.is_set().unwrap());
}

#[test]
fn a_condition_wakes_who_waits_for_it() {
    share("condition:changed");
    share("value:reached");
    let (condition, reached) = (Condition::open("changed").unwrap(), Value::<i64>::open("reached").unwrap());
    let guard = condition.acquire().unwrap();
    assert!(!guard.wait_timeout(SHORT).unwrap());
    assert!(!guard.wait_for_timeout(|| Ok(false), SHORT).unwrap());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let condition = Condition::open("changed").unwrap();
                let guard = condition.acquire().unwrap();
                Value::<i64>::open("reached").unwrap().add(1).unwrap();
                guard.notify(1).unwrap();
            });
        }
        guard.wait_for(|| Ok(reached.get()? == 3)).unwrap();
        assert!(guard.wait_for_timeout(|| Ok(reached.get()? == 3), SHORT).unwrap());
    });
    guard.notify_all().unwrap();
    elsewhere(|| assert!(Condition::open("changed").unwrap().try_acquire().is_err()));
    drop(guard);
    elsewhere(|| Condition::open("changed").unwrap().acquire_timeout(SHORT).unwrap().forget());
}

#[test]
fn a_condition_is_held_again_as_often_as_before() {
    share("condition:twice");
    let condition = Condition::open("twice").unwrap();
    let outer = condition.acquire().unwrap();
    let inner = condition.acquire().unwrap();
    inner.wait_timeout(SHORT).unwrap();
    drop(inner);
    elsewhere(|| assert!(Condition::open("twice").unwrap().try_acquire().is_err()));
    drop(outer);
    elsewhere(|| assert!(Condition::open("twice").unwrap().try_acquire().is_ok()));
}

#[test]
fn parties_of_a_barrier_have_different_numbers() {
    share("barrier:start=3");
    let numbers = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let number = Barrier::open("start").unwrap().wait().unwrap();
                numbers.fetch_add(1 << number, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(numbers.into_inner(), 0b111);
}

#[test]
fn a_barrier_breaks_for_all() {
    share("barrier:broken=2");
    let barrier = Barrier::open("broken").unwrap();
    assert_eq!((barrier.parties().unwrap(), barrier.n_waiting().unwrap()), (2, 0));
    assert!(barrier.wait_timeout(SHORT).unwrap_err().is_timed_out());
    assert!(barrier.broken().unwrap());
    assert!(barrier.wait().unwrap_err().is_broken());
    barrier.reset().unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| Barrier::open("broken").unwrap().wait());
        while barrier.n_waiting().unwrap() == 0 {
            thread::yield_now();
        }
        barrier.abort().unwrap();
        assert!(waiting.join().unwrap().unwrap_err().is_broken());
    });
}
