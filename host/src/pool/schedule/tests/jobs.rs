//! Jobs: turns, retries, policies that halt, and ends.

use std::time::Duration;

use super::*;
use crate::target::Priority;

#[test]
fn o30_a_closed_pool_finishes_what_was_opened_before() {
    let mut pool = Pool::new(ONE);
    assert_eq!(pool.on(Event::Opened { job: 1, priority: Priority::Normal }), []);
    assert_eq!(pool.on(Event::Close), []);
    assert_eq!(pool.submit(1), [Action::Start { worker: 1 }]);
    assert_eq!(pool.on(Event::InputEnded { job: 1 }), []);
    pool.on(Event::Ready { worker: 1 });
    let rest = [Action::JobDone { job: 1 }, Action::Retire { worker: 1, why: None }];
    assert_eq!((pool.answer(1, 1), &pool.settled[..]), (rest.to_vec(), &[settled(0)][..]));
    assert_eq!(pool.on(gone(1, 1)), [Action::Finished]);
}

#[test]
fn o52_a_cancelled_task_is_not_tried_again() {
    let mut pool = Pool::new(Config { retries: 5, ..ONE });
    pool.submit(2);
    pool.on(Event::Ready { worker: 1 });
    let cancelled = give(1, 1, 1, NoResult::Cancelled);
    assert_eq!(pool.on(Event::Cancelled { job: 1 }), [cancelled, Action::Drop { worker: 1, until: 1 }]);
    assert_eq!(pool.fail_retriably(1), (None, vec![]));
    assert_eq!((pool.fail(1), &pool.settled[..]), (vec![], &[settled(0)][..]));
    let late = Action::Give { job: 1, first: 2, count: 1, attempt: 1, verdict: NoResult::Cancelled };
    assert_eq!(pool.submit(1), [late]);
}

#[test]
fn o33_terminate_gives_every_task_its_outcome_at_once() {
    let mut pool = Pool::new(ONE);
    pool.submit(10_000);
    pool.on(Event::Ready { worker: 1 });
    let actions = pool.on(Event::Terminate);
    let given: u64 = actions
        .iter()
        .filter_map(|a| if let Action::Give { count, .. } = a { Some(*count) } else { None })
        .sum();
    assert_eq!((given, actions.contains(&Action::Kill { worker: 1 })), (10_000, true));
    assert_eq!(pool.on(gone(1, 1)), [Action::Finished]);
}

#[test]
fn jobs_take_turns() {
    let mut pool = Pool::new(ONE);
    pool.submit(10);
    pool.on(Event::Submitted { job: 2, count: 10, bytes: 10 });
    let mut jobs = Vec::new();
    let mut actions = pool.on(Event::Ready { worker: 1 });
    for _ in 0..4 {
        jobs.extend(
            actions.iter().filter_map(|a| if let Action::Send { job, .. } = a { Some(*job) } else { None }),
        );
        actions = pool.answer(1, 1);
    }
    assert_eq!(jobs, [1, 2, 1, 2]);
}

#[test]
fn retried_tasks_come_in_batches_as_others_do() {
    let mut pool = Pool::new(Config { retries: 1, ..ONE });
    pool.submit(100_000);
    pool.on(Event::Ready { worker: 1 });
    while pool.schedule.jobs[&1].last_len < 100 {
        pool.batch_after(Duration::from_micros(1));
    }
    // Every third task fails.
    let (mut batches, mut retried, mut shortest) = (0, 0, u64::MAX);
    let mut answered = pool.schedule.workers[&1].answered;
    while retried < 10_000 {
        let front = pool.schedule.workers[&1].held[0].1;
        let mut sent = if front.attempt == 1 && answered.is_multiple_of(3) {
            pool.fail_retriably(1).1
        } else {
            retried += u64::from(front.attempt == 2);
            pool.answer(1, 1)
        };
        answered += 1;
        pool.now += Duration::from_micros(1);
        if pool.schedule.is_through(1) {
            sent.extend(pool.on(Event::BatchDone { worker: 1, busy: Duration::from_micros(100) }));
        }
        for action in sent {
            let Action::Send { tasks, .. } = action else { continue };
            batches += 1;
            shortest = shortest.min(number(&tasks));
        }
    }
    assert!(batches < 600, "{batches} batches, the shortest of {shortest} tasks");
}

/// Says that a job is there, and that it has `count` tasks.
fn open(pool: &mut Pool, job: JobId, priority: Priority, count: u64) -> Vec<Action> {
    let mut actions = pool.on(Event::Opened { job, priority });
    actions.extend(pool.on(Event::Submitted { job, count, bytes: count }));
    actions
}

/// The worker answers one task after the other, `answers` of them. Gives the jobs of which it gets tasks.
/// `after` is called after each answer.
fn served(
    pool: &mut Pool,
    answers: usize,
    mut after: impl FnMut(&mut Pool, JobId) -> Vec<Action>,
) -> Vec<JobId> {
    let mut jobs = Vec::new();
    for _ in 0..answers {
        let job = pool.schedule.front(1).expect("the worker is never idle");
        let mut actions = pool.answer(1, 1);
        actions.extend(after(pool, job));
        for action in actions {
            if let Action::Send { job, tasks, .. } = action {
                jobs.extend(std::iter::repeat_n(job, usize::try_from(number(&tasks)).unwrap()));
            }
        }
    }
    jobs
}

/// Four threads that call `apply` again and again, and an `imap`.
#[test]
fn a_job_is_not_outrun_by_jobs_that_come_later() {
    let mut pool = Pool::new(ONE);
    for job in 1..5 {
        open(&mut pool, job, Priority::Normal, 1);
    }
    open(&mut pool, 5, Priority::Normal, 100);
    pool.on(Event::Ready { worker: 1 });
    let mut next = 6;
    let jobs = served(&mut pool, 400, |pool, ended| {
        if ended == 5 {
            return Vec::new();
        }
        next += 1;
        open(pool, next, Priority::Normal, 1)
    });
    let at: Vec<usize> = jobs.iter().enumerate().filter(|(_, job)| **job == 5).map(|(at, _)| at).collect();
    assert!(at.len() > 75, "{} of {}", at.len(), jobs.len());
    assert!(at.windows(2).all(|pair| pair[1] - pair[0] <= 5), "{at:?}");
}

#[test]
fn jobs_of_one_task_are_served_in_the_order_in_which_they_came() {
    let mut pool = Pool::new(ONE);
    for job in 1..1000 {
        open(&mut pool, job, Priority::Normal, 1);
    }
    pool.on(Event::Ready { worker: 1 });
    let jobs = served(&mut pool, 998, |_, _| Vec::new());
    assert!(jobs.is_sorted() && jobs.len() == 998, "{jobs:?}");
}

#[test]
fn an_urgent_job_gets_more_and_the_others_are_served_all_the_same() {
    let mut pool = Pool::new(ONE);
    for (job, priority) in [(1, Priority::Low), (2, Priority::Normal), (3, Priority::High)] {
        open(&mut pool, job, priority, 10_000);
    }
    pool.on(Event::Ready { worker: 1 });
    let jobs = served(&mut pool, 2100, |_, _| Vec::new());
    let of = |wanted| jobs.iter().filter(|job| **job == wanted).count();
    assert!((95..=105).contains(&of(1)) && (395..=405).contains(&of(2)), "{} {} {}", of(1), of(2), of(3));

    // Urgent jobs that never cease.
    let mut pool = Pool::new(ONE);
    open(&mut pool, 1, Priority::Low, 100);
    for job in 2..5 {
        open(&mut pool, job, Priority::High, 1);
    }
    pool.on(Event::Ready { worker: 1 });
    let mut next = 5;
    let jobs = served(&mut pool, 2000, |pool, ended| {
        if ended == 1 {
            return Vec::new();
        }
        next += 1;
        open(pool, next, Priority::High, 1)
    });
    assert!(jobs.iter().filter(|job| **job == 1).count() > 30);
}

#[test]
fn a_failed_task_waits_for_the_end_of_its_pause_while_others_go_on() {
    let millis = Duration::from_millis;
    let backoff = Backoff::Exponential { max: millis(500) };
    let mut pool = Pool::new(Config { retries: 2, delay: millis(100), backoff, ..ONE });
    pool.submit(2);
    pool.on(Event::Ready { worker: 1 });
    assert_eq!(pool.fail_retriably(1), (Some(retry(0, 1, 100)), vec![send(1, 1, 1, 1)]));
    assert_eq!(pool.answer(1, 1), []);
    assert_eq!(pool.schedule.next_tick(), Some(millis(100)));
    pool.now = millis(100);
    assert_eq!(pool.on(Event::Tick), [send(1, 0, 1, 2)]);
    assert_eq!(pool.fail_retriably(1), (Some(retry(0, 2, 200)), vec![]));
    assert_eq!(pool.on(Event::Cancelled { job: 1 }), [give(0, 1, 3, NoResult::Cancelled)]);
    assert_eq!(pool.schedule.next_tick(), None);
}

#[test]
fn a_job_is_halted_when_enough_has_failed_and_what_is_running_ends() {
    for (policy, told) in
        [("soon,fail=2", vec![]), ("now,fail=2", vec![Action::Drop { worker: 2, until: 1 }])]
    {
        let mut pool = Pool::new(Config { processes: 2, halt: Some(policy.parse().unwrap()), ..ONE });
        pool.submit(10);
        pool.on(Event::Ready { worker: 1 });
        pool.on(Event::Ready { worker: 2 });
        pool.fail(1);
        let actions = pool.fail(1);
        assert_eq!(pool.settled, [settled(0), settled(2)]);
        let mut expected = vec![Action::Halted { job: 1 }];
        expected.push(give(3, 7, 1, NoResult::Cancelled));
        expected.extend(told);
        assert_eq!(actions, expected, "{policy}");
        // What comes too late has an outcome too.
        assert_eq!(pool.submit(1), [give(10, 1, 1, NoResult::Cancelled)]);
        pool.answer(2, 1);
        assert_eq!(pool.on(Event::InputEnded { job: 1 }), [Action::JobDone { job: 1 }]);
    }
}
