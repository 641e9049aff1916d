//! When workers are hired, and when they leave.

use std::time::Duration;

use super::*;

#[test]
fn workers_are_started_as_tasks_come() {
    let mut pool = Pool::new(Config { processes: 3, ..ONE });
    assert_eq!(pool.submit(2), [Action::Start { worker: 1 }, Action::Start { worker: 2 }]);
    assert_eq!(pool.submit(9), [Action::Start { worker: 3 }]);
    assert_eq!(pool.on(Event::Ready { worker: 2 }), [send(2, 0, 1, 1)]);
}

#[test]
fn o40_a_worker_is_retired_after_its_share() {
    let mut pool = Pool::new(Config { max_tasks_per_child: Some(2), ..ONE });
    pool.submit(3);
    assert_eq!(pool.on(Event::Ready { worker: 1 }), [send(1, 0, 1, 1)]);
    assert_eq!(pool.answer(1, 1), [send(1, 1, 1, 1)]);
    let actions = pool.answer(1, 1);
    assert_eq!(actions, [Action::Retire { worker: 1, why: Some(Recycle::Quota) }]);
    assert_eq!(pool.on(Event::Tick), [Action::Start { worker: 2 }]);
    assert_eq!(pool.on(Event::Ready { worker: 2 }), [send(2, 2, 1, 1)]);
}

#[test]
fn workers_that_will_not_end_do_not_gather() {
    let mut pool = Pool::new(Config { processes: 2, max_tasks_per_child: Some(1), ..ONE });
    pool.submit(100);
    let mut started = 2;
    for worker in 1..20 {
        let mut actions = pool.on(Event::Ready { worker });
        actions.extend(pool.answer(worker, 1));
        actions.extend(pool.on(Event::Tick));
        started += actions.iter().filter(|a| matches!(a, Action::Start { .. })).count();
    }
    assert_eq!(started, 4);
    pool.now = ONE.retire_time;
    assert_eq!(pool.on(Event::Tick).len(), 4);
}

#[test]
fn idle_workers_leave_after_a_while_and_come_back_when_needed() {
    let mut pool = Pool::new(Config { idle_time: Some(Duration::from_secs(5)), ..ONE });
    pool.submit(1);
    pool.on(Event::Ready { worker: 1 });
    pool.now = Duration::from_secs(1);
    pool.answer(1, 1);
    assert_eq!(pool.schedule.next_tick(), Some(Duration::from_secs(6)));
    pool.now = Duration::from_secs(6);
    assert_eq!(pool.on(Event::Tick), [Action::Retire { worker: 1, why: Some(Recycle::Idle) }]);
    assert_eq!(pool.on(gone(1, 1)), []);
    assert_eq!(pool.submit(1), [Action::Start { worker: 2 }]);
}

#[test]
fn a_pool_grows_and_shrinks_while_it_runs() {
    let mut pool = Pool::new(ONE);
    pool.submit(10);
    pool.on(Event::Ready { worker: 1 });
    let started = [2, 3].map(|worker| Action::Start { worker });
    assert_eq!(pool.on(Event::Resized { processes: 3 }), started);
    pool.on(Event::Ready { worker: 2 });
    // The one that has not begun leaves when it has come up; of the others one when it is through.
    assert_eq!(pool.on(Event::Resized { processes: 1 }), []);
    let through = pool.answer(1, 1);
    assert_eq!(through, [Action::Retire { worker: 1, why: Some(Recycle::Resize) }]);
    assert_eq!(
        pool.on(Event::Ready { worker: 3 }),
        [Action::Retire { worker: 3, why: Some(Recycle::Resize) }]
    );
    assert_eq!(pool.on(gone(3, 0)), []);
    assert_eq!(pool.on(gone(1, 1)), []);
    assert_eq!(pool.answer(2, 1), [send(2, 2, 1, 1)]);
}

#[test]
fn a_worker_that_has_grown_too_large_is_replaced_once_it_is_through() {
    let mut pool = Pool::new(ONE);
    pool.submit(2);
    pool.on(Event::Ready { worker: 1 });
    assert_eq!(pool.on(Event::Oversized { worker: 1 }), []);
    assert_eq!(pool.answer(1, 1), [Action::Retire { worker: 1, why: Some(Recycle::Memory) }]);
    assert_eq!(pool.on(Event::Tick), [Action::Start { worker: 2 }]);
}

#[test]
fn a_pool_whose_workers_are_awaited_has_all_of_them_and_keeps_them() {
    let mut pool = Pool::new(Config { processes: 2, idle_time: Some(Duration::from_secs(1)), ..ONE });
    assert_eq!(pool.submit(1), [Action::Start { worker: 1 }]);
    pool.on(Event::Ready { worker: 1 });
    pool.answer(1, 1);
    assert!(!pool.schedule.is_staffed());
    assert_eq!(pool.on(Event::Awaited), [Action::Start { worker: 2 }]);
    assert!(!pool.schedule.is_staffed());
    pool.on(Event::Ready { worker: 2 });
    assert!(pool.schedule.is_staffed());
    // Both have been idle for longer than they may without this.
    pool.now = Duration::from_secs(9);
    assert_eq!(pool.on(Event::Tick), []);
    assert!(pool.schedule.is_staffed());
}

#[test]
fn o2_an_eager_pool_has_all_its_workers_at_once() {
    let mut pool =
        Pool::new(Config { processes: 3, eager: true, idle_time: Some(Duration::from_secs(1)), ..ONE });
    assert_eq!(pool.on(Event::Tick), [1, 2, 3].map(|worker| Action::Start { worker }));
    pool.on(Event::Ready { worker: 2 });
    assert_eq!(pool.on(gone(2, 0)), [Action::Start { worker: 4 }]);
    pool.now = Duration::from_secs(9);
    assert_eq!(pool.on(Event::Tick), []);
}
