//! How many tasks a worker gets at once, and what is taken back from it.

use std::time::Duration;

use super::*;
use crate::target::Priority;

#[test]
fn batches_grow_with_fast_tasks_and_stay_single_with_slow_ones() {
    let mut pool = Pool::new(ONE);
    pool.submit(100_000);
    assert_eq!(pool.on(Event::Ready { worker: 1 }), [send(1, 0, 1, 1)]);
    let micros = Duration::from_micros;
    let lens: Vec<u64> = (0..6).map(|_| pool.batch_after(micros(1))).collect();
    assert!(lens.is_sorted() && lens[5] > 50, "{lens:?}");
    // Two batches are under way, each at most four times the one before.
    assert!(lens.windows(2).all(|pair| pair[1] <= pair[0] * 16), "{lens:?}");

    let mut pool = Pool::new(ONE);
    pool.submit(1000);
    pool.on(Event::Ready { worker: 1 });
    assert!((0..6).all(|_| pool.batch_after(Duration::from_millis(5)) == 1));
}

#[test]
fn f112_a_worker_that_says_it_took_no_time_gets_no_more_than_its_batches_have_taken() {
    // By itself it decides alone, within what was seen.
    for (took, most) in [(Duration::from_millis(5), 2), (Duration::from_secs(3600), 1)] {
        let mut pool = Pool::new(ONE);
        pool.submit(100_000);
        pool.on(Event::Ready { worker: 1 });
        for _ in 0..20 {
            pool.now += took;
            let held = pool.schedule.unanswered(1);
            assert!(held <= most, "{held} tasks for one that needs {took:?} for each batch");
            pool.answer(1, held);
            pool.on(Event::BatchDone { worker: 1, busy: Duration::ZERO });
        }
    }
    // One that answers at once has as many at a time as all others, and no more than that.
    let mut pool = Pool::new(Config { processes: 4, ..ONE });
    pool.submit(1_000_000);
    for worker in 1..=4 {
        pool.on(Event::Ready { worker });
    }
    let mut most = 0;
    for _ in 0..50 {
        for worker in 2..=4 {
            pool.now += Duration::from_micros(1);
            let held = pool.schedule.unanswered(1);
            most = most.max(held);
            pool.answer(1, held);
            pool.on(Event::BatchDone { worker: 1, busy: Duration::ZERO });
            let held = pool.schedule.unanswered(worker);
            pool.now += Duration::from_micros(10 * held);
            pool.answer(worker, held);
            while pool.schedule.is_through(worker) {
                pool.on(Event::BatchDone { worker, busy: Duration::from_micros(10 * held) });
            }
        }
    }
    // 400 microseconds' work of the others is 40 tasks, two batches of which may be under way.
    assert!(most <= 120, "{most} tasks at a time");
}

/// The number of `tasks` that each worker answers, and the time for all of them. `nanos`: the time of a task
/// in each worker. `hand_over`: the time in which the given batch comes and goes.
fn drawn(tasks: u64, nanos: &[u64], hand_over: impl Fn(u64) -> Duration) -> (Vec<u64>, Duration) {
    drawn_of(Pool::new(Config { processes: nanos.len(), ..ONE }), tasks, nanos, hand_over)
}

fn drawn_of(
    mut pool: Pool,
    tasks: u64,
    nanos: &[u64],
    hand_over: impl Fn(u64) -> Duration,
) -> (Vec<u64>, Duration) {
    pool.submit(tasks);
    let workers = 1..=u32::try_from(nanos.len()).unwrap();
    for worker in workers.clone() {
        pool.on(Event::Ready { worker });
    }
    let mut answered = vec![0; nanos.len()];
    let mut batches = 0;
    let mut due: BTreeMap<WorkerId, (Duration, u64)> = BTreeMap::new();
    loop {
        for (worker, nanos) in workers.clone().zip(nanos) {
            let batch = pool.schedule.workers.get(worker).and_then(|worker| worker.batches.front());
            if let Some(count) = batch.map(|batch| batch.count) {
                due.entry(worker).or_insert_with(|| {
                    batches += 1;
                    (pool.now + hand_over(batches) + Duration::from_nanos(nanos * count), count)
                });
            }
        }
        let Some((&worker, &(end, count))) = due.iter().min_by_key(|(_, (end, _))| *end) else { break };
        due.remove(&worker);
        pool.now = end;
        let at = usize::try_from(worker - 1).unwrap();
        answered[at] += count;
        pool.answer(worker, count);
        pool.on(Event::BatchDone { worker, busy: Duration::from_nanos(nanos[at] * count) });
    }
    (answered, pool.now)
}

const fn always_alike(_batch: u64) -> Duration {
    Duration::from_micros(30)
}

#[test]
fn f112_a_worker_that_answers_at_once_gets_twice_the_tasks_of_an_honest_one() {
    for processes in [2, 3, 4, 8] {
        for honest in [1, 2, 10] {
            let mut nanos = vec![honest * 1000; processes];
            nanos[0] = 0;
            let (answered, _) = drawn(200_000, &nanos, always_alike);
            assert_eq!(answered.iter().sum::<u64>(), 200_000);
            let most = 200_000 * 2 / (processes as u64 + 1) + 2 * BATCH_LEN_MAX;
            assert!(answered[0] <= most, "{honest} us, {processes} workers: {answered:?}");
        }
    }
}

#[test]
fn f112_honest_workers_are_not_slowed_down_by_that() {
    // All alike, or one of them nearly twice as fast.
    for (micros, percent) in [(vec![2; 4], 112), (vec![4, 7, 7, 7], 112), (vec![18, 10], 112)] {
        let nanos: Vec<u64> = micros.iter().map(|micros| micros * 1000).collect();
        let (answered, took) = drawn(200_000, &nanos, always_alike);
        let ideal: f64 = 200_000.0 / micros.iter().map(|micros| 1.0 / *micros as f64).sum::<f64>();
        let most = Duration::from_secs_f64(ideal * 1e-6) * percent / 100;
        assert!(took < most, "{micros:?}: {took:?}, more than {most:?}; {answered:?}");
    }
}

/// Kept instances: handing over takes a good part of a batch's time, and now and then the system lets a
/// worker wait.
#[test]
fn f112_the_shortest_tasks_come_in_the_longest_batches_all_the_same() {
    let interrupted =
        |batch: u64| if batch.is_multiple_of(9) { Duration::from_millis(2) } else { always_alike(batch) };
    for nanos in [vec![150; 2], vec![150; 4], vec![150; 8], vec![100, 190]] {
        let (answered, took) = drawn(1_000_000, &nanos, interrupted);
        let hand_over = (1..=9).map(interrupted).sum::<Duration>() / 9;
        let batch = |nanos: &u64| hand_over + Duration::from_nanos(nanos * BATCH_LEN_MAX);
        let rate: f64 = nanos.iter().map(|nanos| BATCH_LEN_MAX as f64 / batch(nanos).as_secs_f64()).sum();
        let most = Duration::from_secs_f64(1e6 / rate).mul_f64(1.25);
        assert!(took < most, "{nanos:?}: {took:?}, more than {most:?}; {answered:?}");
    }
}

#[test]
fn many_workers_that_share_few_processors_get_long_batches_too() {
    let pool = Pool::new(Config { processes: 64, cpus: 2, ..ONE });
    // A batch waits until most other workers have had theirs.
    let waits = |_| Duration::from_micros(5000);
    let (answered, took) = drawn_of(pool, 2_000_000, &[150; 64], waits);
    // 31 long batches for each worker, and the short ones at the start and at the end.
    assert!(took < waits(0) * 60, "{took:?}; {answered:?}");
}

#[test]
fn a_worker_that_had_to_wait_for_a_processor_does_not_make_the_batches_of_others_short() {
    let mut pool = Pool::new(Config { processes: 32, cpus: 2, ..ONE });
    pool.submit(1_000_000);
    for worker in 1..=32 {
        pool.on(Event::Ready { worker });
    }
    let mut lens = Vec::new();
    for round in 0..40 {
        for worker in 1..=32 {
            let count = pool.schedule.workers[&worker].batches[0].count;
            let waited = if worker == 1 + round % 32 { Duration::from_millis(20) } else { Duration::ZERO };
            let busy = Duration::from_nanos(500 * count) + waited;
            pool.now += busy;
            pool.answer(worker, count);
            pool.on(Event::BatchDone { worker, busy });
            lens.push(count);
        }
    }
    let late = &lens[640..];
    assert!(late.iter().all(|len| *len >= 100), "{late:?}");
}

/// Hundreds of workers that share two processors would otherwise be woken for a few tasks each.
#[test]
fn beside_a_crowd_at_short_tasks_a_queue_waits_for_a_batch_worth_handing_over() {
    let mut pool = Pool::new(Config { processes: 40, cpus: 2, eager: true, ..ONE });
    pool.on(Event::Opened { job: 1, priority: Priority::default() });
    for worker in 1..=40 {
        pool.on(Event::Ready { worker });
    }
    // The workers show that a task takes a microsecond.
    for _ in 0..20 {
        pool.submit(1000);
        while let Some(worker) = (1..=40).find(|worker| pool.schedule.is_busy(*worker)) {
            let count = pool.schedule.workers[&worker].batches[0].count;
            pool.now += Duration::from_micros(count);
            pool.answer(worker, count);
            pool.on(Event::BatchDone { worker, busy: Duration::from_micros(count) });
        }
    }
    let sends = |actions: Vec<Action>| actions.iter().filter(|a| matches!(a, Action::Send { .. })).count();
    assert_eq!((0..8).map(|_| sends(pool.submit(5))).sum::<usize>(), 8);
    assert_eq!(sends(pool.submit(5)), 0);
    assert_eq!(sends(pool.submit(5)), 0);
    // A batch that takes a tenth of a millisecond does not wait.
    assert_eq!(sends(pool.submit(95)), 1);
    // Nor does a smaller one for long.
    assert_eq!(sends(pool.submit(5)), 0);
    let due = pool.schedule.next_tick().expect("the queue waits for a while only");
    assert_eq!(due, pool.now + BATCH_TIME);
    pool.now = due;
    assert_eq!(sends(pool.on(Event::Tick)), 1);
    // A task of another job waits for nothing.
    assert_eq!(sends(pool.submit(5)), 0);
    assert_eq!(sends(pool.on(Event::Submitted { job: 2, count: 1, bytes: 1 })), 1);
}

#[test]
fn f112_the_time_that_a_worker_says_its_batch_took_is_at_most_what_has_passed() {
    let mut pool = Pool::new(Config { processes: 2, ..ONE });
    pool.submit(100_000);
    pool.on(Event::Ready { worker: 1 });
    for _ in 0..10 {
        let held = pool.schedule.unanswered(1);
        pool.now += Duration::from_micros(held);
        pool.answer(1, held);
        while pool.schedule.is_through(1) {
            pool.on(Event::BatchDone { worker: 1, busy: Duration::MAX });
        }
    }
    assert!(pool.schedule.unanswered(1) > 100, "{}", pool.schedule.unanswered(1));
}

#[test]
fn f112_a_batch_ends_once_and_after_its_last_answer() {
    let mut pool = Pool::new(ONE);
    pool.submit(100);
    assert!(!pool.schedule.is_through(1), "there is no such worker");
    pool.on(Event::Ready { worker: 1 });
    assert!(!pool.schedule.is_through(1));
    pool.answer(1, 1);
    assert!(pool.schedule.is_through(1));
    pool.on(Event::BatchDone { worker: 1, busy: Duration::from_micros(1) });
    // It holds two batches by now.
    let held = pool.schedule.unanswered(1);
    assert!(held > 1 && !pool.schedule.is_through(1));
    let first = pool.schedule.workers[&1].batches[0].count;
    pool.answer(1, first - 1);
    assert!(!pool.schedule.is_through(1));
    pool.answer(1, 1);
    assert!(pool.schedule.is_through(1));
    pool.on(Event::BatchDone { worker: 1, busy: Duration::from_micros(1) });
    assert!(!pool.schedule.is_through(1));
}

#[test]
fn a_second_batch_waits_at_a_worker_only_if_the_first_is_short() {
    for (busy, held) in [(Duration::from_micros(100), 2), (Duration::from_millis(10), 1)] {
        let mut pool = Pool::new(ONE);
        pool.submit(1000);
        pool.on(Event::Ready { worker: 1 });
        pool.now += busy;
        pool.answer(1, 1);
        pool.on(Event::BatchDone { worker: 1, busy });
        assert_eq!(pool.schedule.workers[&1].held.len(), held, "{busy:?}");
    }
}

#[test]
fn what_waits_behind_a_slow_task_goes_to_a_worker_that_has_nothing_to_do() {
    let mut pool = Pool::new(Config { processes: 2, ..ONE });
    pool.on(Event::Submitted { job: 1, count: 1, bytes: 1 });
    pool.on(Event::Ready { worker: 1 });
    pool.answer(1, 1);
    pool.on(Event::BatchDone { worker: 1, busy: Duration::from_nanos(100) });
    // Many at once are taken for as quick as the first was.
    pool.on(Event::Submitted { job: 1, count: 31, bytes: 31 });
    let held = pool.schedule.unanswered(1);
    assert!(held > 2, "{held}");
    pool.on(Event::Ready { worker: 2 });
    let rest = pool.schedule.unanswered(2);
    pool.answer(2, rest);
    // The rest is handed out and done, and the first worker has told of nothing.
    while pool.schedule.unanswered(2) > 0 {
        let rest = pool.schedule.unanswered(2);
        pool.answer(2, rest);
    }
    let held = pool.schedule.unanswered(1);
    assert_eq!(pool.on(Event::Tick), []);
    let due = pool.schedule.next_tick().expect("an idle worker waits for it");
    assert_eq!(due, TAKE_BACK_TIME);
    pool.now = due;
    assert_eq!(pool.on(Event::Tick), [Action::TakeBack { worker: 1 }]);
    assert!(pool.schedule.is_frozen(1));
    // It is at its second task.
    let actions = pool.on(Event::TakenBack { worker: 1, started: 2 });
    let Action::Send { worker: 2, job: 1, attempt: 1, tasks } = &actions[0] else { panic!("{actions:?}") };
    let first = tasks[0].start;
    assert_eq!((first, pool.schedule.unanswered(1)), (2, 1));
    let moved = pool.schedule.queued(1) + pool.schedule.unanswered(2);
    assert_eq!(moved, held - 1);
    // It gets nothing until it has heard of that, and has all it needs then.
    pool.answer(1, 1);
    assert_eq!(pool.schedule.unanswered(1), 0);
    assert!(pool.schedule.next_tick().is_some(), "it may not keep silent for ever");
    pool.on(Event::Thawed { worker: 1 });
    assert!(pool.schedule.unanswered(1) > 0 || pool.schedule.queued(1) == 0);
}

#[test]
fn a_quick_task_says_nothing_about_a_worker_that_has_been_at_its_own_for_long() {
    let mut pool = Pool::new(Config { processes: 2, ..ONE });
    pool.submit(9);
    pool.on(Event::Ready { worker: 1 });
    pool.now = Duration::from_millis(100);
    pool.on(Event::Ready { worker: 2 });
    pool.now += Duration::from_micros(50);
    pool.answer(2, 1);
    pool.on(Event::BatchDone { worker: 2, busy: Duration::from_micros(1) });
    assert_eq!(
        pool.schedule.workers[&1].held.len(),
        1,
        "what waits behind the slow one could be run elsewhere"
    );
    assert_eq!(pool.schedule.workers[&2].held.len(), 2);
}
