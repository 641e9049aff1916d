//! What a worker's death means: which task is charged, and when the pool breaks.

use std::time::Duration;

use super::*;

#[test]
fn o44_a_death_is_charged_to_the_task_that_was_running_and_the_rest_goes_back() {
    let mut pool = Pool::new(ONE);
    pool.submit(100);
    pool.on(Event::Ready { worker: 1 });
    for _ in 0..3 {
        pool.batch_after(Duration::from_micros(1));
    }
    let (answered, held) = (pool.schedule.workers[&1].answered, pool.schedule.unanswered(1));
    assert!(held > 3);
    // Two more have been finished, but their results went down with the worker: they are run again. The third
    // was running.
    let actions = pool.on(gone(1, answered + 3));
    let given = Action::Give { job: 1, first: answered + 2, count: 1, attempt: 1, verdict: lost() };
    assert_eq!(actions, [given, Action::Start { worker: 2 }]);
    let sent = &pool.on(Event::Ready { worker: 2 })[0];
    let Action::Send { worker: 2, job: 1, tasks, attempt: 1 } = sent else { panic!("{sent:?}") };
    assert_eq!(tasks[..2], [answered..answered + 2, answered + 3..100]);
}

#[test]
fn a_charged_task_is_tried_again_as_often_as_was_asked_for() {
    let mut pool = Pool::new(Config { retries: 1, ..ONE });
    pool.submit(1);
    pool.on(Event::Ready { worker: 1 });
    assert_eq!(
        pool.on(gone(1, 1)),
        [Action::Retry { retry: retry(0, 1, 0), failure: lost() }, Action::Start { worker: 2 }]
    );
    assert_eq!(pool.on(Event::Ready { worker: 2 }), [send(2, 0, 1, 2)]);
    let given = Action::Give { job: 1, first: 0, count: 1, attempt: 2, verdict: lost() };
    assert_eq!(pool.on(gone(2, 1)), [given]);
}

#[test]
fn f54_five_deaths_without_a_task_begun_break_the_pool() {
    let mut pool = Pool::new(ONE);
    pool.submit(3);
    for worker in 1..5 {
        assert_eq!(pool.on(gone(worker, 0)), [Action::Start { worker: worker + 1 }]);
    }
    let reason = "workers cannot run: SIGKILL (5 tries)".to_owned();
    let verdict = NoResult::Broken { reason };
    let given = Action::Give { job: 1, first: 0, count: 3, attempt: 1, verdict };
    assert_eq!(pool.on(gone(5, 0)), [given, Action::Finished]);
}

#[test]
fn p46_workers_that_were_lost_together_are_one_failed_try() {
    let mut pool = Pool::new(Config { processes: 8, ..ONE });
    pool.submit(8);
    let reason = "the zygote died".to_owned();
    let actions = pool.on(Event::NotStarted { workers: (1..9).collect(), reason });
    assert_eq!(actions.len(), 8);
    assert!(actions.iter().all(|a| matches!(a, Action::Start { worker: 9.. })));
}

#[test]
fn f86_what_the_system_refuses_is_asked_for_again_less_and_less_often() {
    let mut pool = Pool::new(Config { processes: 2, ..ONE });
    let refused =
        |worker| Event::NotStarted { workers: vec![worker], reason: "no more processes".to_owned() };
    pool.submit(9);
    pool.on(Event::Ready { worker: 1 });
    // At once, the first time.
    assert_eq!(pool.on(refused(2)), [Action::Start { worker: 3 }]);
    for (worker, pause) in (3..).zip([10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000]) {
        assert_eq!(pool.on(refused(worker)), []);
        let due = pool.schedule.next_tick().unwrap();
        assert_eq!(due - pool.now, Duration::from_millis(pause));
        pool.now = due;
        assert_eq!(pool.on(Event::Tick), [Action::Start { worker: worker + 1 }]);
    }
    // The one that there is does all the work, and the pool is not broken.
    assert!(pool.schedule.broken().is_none());
    pool.on(Event::Ready { worker: 13 });
    pool.on(gone(13, 1));
    assert_eq!(pool.on(refused(14)), [Action::Start { worker: 15 }]);
}

#[test]
fn f45_idle_workers_that_are_killed_do_not_break_the_pool() {
    let mut pool = Pool::new(Config { processes: 8, ..ONE });
    pool.submit(8);
    pool.on(Event::Ready { worker: 1 });
    for task in 0..8 {
        pool.answer(1, 1);
        assert_eq!(pool.settled.last(), Some(&settled(task)));
    }
    for worker in 2..9 {
        assert_eq!(pool.on(Event::Ready { worker }), []);
    }
    for worker in 2..9 {
        assert_eq!(pool.on(gone(worker, 0)), []);
    }
    assert_eq!(pool.submit(1), [send(1, 8, 1, 1)]);
}

#[test]
fn f45_workers_that_are_all_killed_at_once_do_not_break_the_pool() {
    let mut pool = Pool::new(Config { processes: 8, ..ONE });
    pool.submit(8);
    for worker in 1..9 {
        assert_eq!(pool.on(Event::Ready { worker }).len(), 1);
    }
    // They had been idle, and dead, when the tasks were sent to them.
    let starts: Vec<Action> = (1..9).flat_map(|worker| pool.on(gone(worker, 0))).collect();
    assert_eq!(starts, (9..17).map(|worker| Action::Start { worker }).collect::<Vec<_>>());
}

#[test]
fn f45_workers_of_an_earlier_round_do_not_count_as_a_second_one() {
    let mut pool = Pool::new(Config { processes: 8, ..ONE });
    pool.submit(100);
    // The first dies, and its replacement is of another round than the others. Then there is progress.
    assert_eq!(pool.on(gone(1, 0)), [Action::Start { worker: 9 }]);
    pool.on(Event::Ready { worker: 2 });
    pool.answer(2, 1);
    // All that are starting are killed: no replacement is among them.
    let starts: Vec<Action> =
        [9, 3, 4, 5, 6, 7, 8].into_iter().flat_map(|worker| pool.on(gone(worker, 0))).collect();
    assert_eq!(starts, (10..17).map(|worker| Action::Start { worker }).collect::<Vec<_>>());
}

#[test]
fn f12_a_worker_that_takes_too_long_is_killed_and_its_task_told_why() {
    let mut pool = Pool::new(Config { kill_after: Some(Duration::from_millis(500)), ..ONE });
    pool.submit(2);
    pool.on(Event::Ready { worker: 1 });
    // Looked at every 50 ms, and never twice at once.
    for millis in (50..500).step_by(50) {
        assert_eq!(pool.schedule.next_tick(), Some(Duration::from_millis(millis)));
        pool.now = Duration::from_millis(millis);
        assert_eq!(pool.on(Event::Tick), []);
    }
    pool.now = Duration::from_millis(500);
    assert_eq!(pool.on(Event::Tick), [Action::Kill { worker: 1 }, Action::Start { worker: 2 }]);
    let given = Action::Give { job: 1, first: 0, count: 1, attempt: 1, verdict: NoResult::TimedOut };
    assert_eq!(pool.on(gone(1, 1)), [given]);
}

#[test]
fn a_task_begun_while_its_worker_was_being_killed_for_another_is_not_charged() {
    let mut pool = Pool::new(Config { kill_after: Some(Duration::from_secs(1)), ..ONE });
    pool.submit(10_000);
    pool.on(Event::Ready { worker: 1 });
    for _ in 0..3 {
        pool.batch_after(Duration::from_micros(1));
    }
    let answered = pool.schedule.workers[&1].answered;
    pool.now += Duration::from_secs(1);
    assert_eq!(pool.on(Event::Tick)[0], Action::Kill { worker: 1 });
    // It came through at the last moment, and the next one began.
    pool.answer(1, 1);
    assert_eq!(pool.on(gone(1, answered + 2)), []);
}

#[test]
fn a_worker_gets_no_more_time_by_counting_on() {
    let mut pool = Pool::new(Config { kill_after: Some(Duration::from_millis(100)), ..ONE });
    pool.submit(1);
    pool.on(Event::Ready { worker: 1 });
    pool.on(progress(1, 1));
    for started in 2..40 {
        pool.now = Duration::from_millis(started * 5);
        pool.on(progress(1, started));
    }
    assert_eq!(pool.on(Event::Tick)[0], Action::Kill { worker: 1 });
}

#[test]
fn a_worker_is_looked_at_until_its_last_task_is_known_to_have_begun() {
    let millis = Duration::from_millis;
    let mut pool = Pool::new(Config { processes: 3, kill_after: Some(millis(500)), ..ONE });
    pool.submit(2);
    for worker in [1, 2] {
        pool.on(Event::Ready { worker });
    }
    assert_eq!(pool.schedule.watched_workers().collect::<Vec<_>>(), [1, 2]);
    // The second worker is slow to begin. Its time runs from when it has begun.
    for (now, started) in [(50, 0), (100, 1)] {
        assert_eq!(pool.schedule.next_tick(), Some(millis(now)));
        pool.now = millis(now);
        pool.on(Event::Progress { started: vec![(1, 1), (2, started)] });
        assert_eq!(pool.on(Event::Tick), []);
    }
    assert_eq!(pool.schedule.watched_workers().count(), 0);
    for (now, worker) in [(550, 1), (600, 2)] {
        assert_eq!(pool.schedule.next_tick(), Some(millis(now)));
        pool.now = millis(now);
        assert_eq!(pool.on(Event::Tick), [Action::Kill { worker }]);
    }
}

#[test]
fn without_a_time_limit_no_worker_is_looked_at() {
    let mut pool = Pool::new(ONE);
    pool.submit(2);
    pool.on(Event::Ready { worker: 1 });
    assert_eq!((pool.schedule.watched_workers().count(), pool.schedule.next_tick()), (0, None));
}

#[test]
fn a_worker_that_does_not_drop_what_nobody_wants_is_killed_and_nobody_is_charged() {
    let mut pool = Pool::new(Config { retries: 1, ..ONE });
    pool.submit(1);
    pool.on(Event::Submitted { job: 2, count: 1, bytes: 1 });
    pool.on(Event::Ready { worker: 1 });
    let told = [Action::Drop { worker: 1, until: 1 }];
    assert_eq!(pool.on(Event::Cancelled { job: 1 }), told);
    assert_eq!(pool.schedule.next_tick(), Some(ONE.grace));
    pool.now = ONE.grace;
    assert_eq!(pool.on(Event::Tick)[0], Action::Kill { worker: 1 });
    assert_eq!(pool.on(gone(1, 1)), [give(0, 1, 1, NoResult::Cancelled)]);
    assert_eq!(
        pool.on(Event::Ready { worker: 2 }),
        [Action::Send { worker: 2, job: 2, tasks: std::iter::once(0..1).collect(), attempt: 1 }]
    );
}

#[test]
fn a_task_that_has_taken_down_three_workers_is_not_tried_a_fourth_time() {
    let mut pool = Pool::new(Config { retries: 99, ..ONE });
    pool.submit(1);
    for worker in 1..3 {
        pool.on(Event::Ready { worker });
        let retry = Action::Retry { retry: retry(0, worker, 0), failure: lost() };
        assert_eq!(pool.on(gone(worker, 1))[0], retry);
    }
    pool.on(Event::Ready { worker: 3 });
    let actions = pool.on(gone(3, 1));
    let [Action::Give { verdict: NoResult::Lost { reason, .. }, attempt: 3, .. }] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(reason, "SIGKILL; not tried again, for it has taken down 3 workers");
}

#[test]
fn f54_an_eager_pool_whose_workers_die_as_soon_as_they_are_ready_gives_up() {
    let mut pool = Pool::new(Config { eager: true, ..ONE });
    assert_eq!(pool.on(Event::Tick), [Action::Start { worker: 1 }]);
    for worker in 1..5 {
        pool.on(Event::Ready { worker });
        assert_eq!(pool.on(gone(worker, 0)), [Action::Start { worker: worker + 1 }]);
    }
    pool.on(Event::Ready { worker: 5 });
    assert_eq!(pool.on(gone(5, 0)), [Action::Finished]);
    assert_eq!(pool.schedule.broken(), Some("workers cannot run: SIGKILL (5 tries)"));
}
