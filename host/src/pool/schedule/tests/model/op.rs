//! Everything that may happen to a pool, and every setting, at random.

use std::time::Duration;

use proptest::prelude::*;

use super::RESULTS_MAX;
use crate::pool::policy::{Backoff, Halt, HaltOn, HaltWhen};
use crate::pool::schedule::Config;

/// What may happen to the pool. Workers and jobs are chosen by number among those to which it can happen.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Submit { job: u64, count: u64, bytes: u64 },
    EndInput { job: u64 },
    Take { job: u64, in_order: bool },
    Pause { worker: usize, pauses: bool },
    Cancel { job: u64 },
    Ready { worker: usize },
    Begin { worker: usize, count: u64 },
    Return { worker: usize, count: u64, failed: u64 },
    Fail { worker: usize, retriable: bool },
    BatchDone { worker: usize, micros: u64 },
    RogueBatchDone { worker: usize, nanos: u64 },
    Progress { worker: usize, lie: Option<u64> },
    Die { worker: usize, lie: Option<u64>, code: Option<i32>, retriable: bool },
    Oversize { worker: usize },
    Thaw { worker: usize },
    Stall { worker: usize },
    Resize { processes: usize },
    Await,
    NotStarted { count: usize },
    Pass { millis: u64 },
    Close,
    CloseQueued,
    Terminate,
    Break,
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let worker = || 0usize..6;
    let lie =
        || prop_oneof![4 => Just(None), 1 => any::<u64>().prop_map(Some), 1 => (0u64..8).prop_map(Some)];
    prop_oneof![
        12 => (1u64..4, 1u64..30, 0u64..100_000)
            .prop_map(|(job, count, bytes)| Op::Submit { job, count, bytes }),
        3 => (1u64..4).prop_map(|job| Op::EndInput { job }),
        8 => (1u64..4, any::<bool>()).prop_map(|(job, in_order)| Op::Take { job, in_order }),
        3 => (worker(), any::<bool>()).prop_map(|(worker, pauses)| Op::Pause { worker, pauses }),
        1 => (1u64..4).prop_map(|job| Op::Cancel { job }),
        14 => worker().prop_map(|worker| Op::Ready { worker }),
        16 => (worker(), 1u64..5).prop_map(|(worker, count)| Op::Begin { worker, count }),
        20 => (worker(), 1u64..12, 0u64..4)
            .prop_map(|(worker, count, failed)| Op::Return { worker, count, failed }),
        6 => (worker(), any::<bool>()).prop_map(|(worker, retriable)| Op::Fail { worker, retriable }),
        14 => (worker(), prop_oneof![0u64..3000, 0u64..40])
            .prop_map(|(worker, micros)| Op::BatchDone { worker, micros }),
        1 => (worker(), any::<u64>()).prop_map(|(worker, nanos)| Op::RogueBatchDone { worker, nanos }),
        6 => (worker(), lie()).prop_map(|(worker, lie)| Op::Progress { worker, lie }),
        8 => (worker(), lie(), proptest::option::of(-9i32..3), proptest::bool::weighted(0.8))
            .prop_map(|(worker, lie, code, retriable)| Op::Die { worker, lie, code, retriable }),
        2 => worker().prop_map(|worker| Op::Oversize { worker }),
        6 => worker().prop_map(|worker| Op::Thaw { worker }),
        4 => worker().prop_map(|worker| Op::Stall { worker }),
        2 => (1usize..7).prop_map(|processes| Op::Resize { processes }),
        1 => Just(Op::Await),
        1 => (1usize..4).prop_map(|count| Op::NotStarted { count }),
        6 => prop_oneof![0u64..200, 900u64..70_000].prop_map(|millis| Op::Pass { millis }),
        1 => Just(Op::Close),
        1 => Just(Op::CloseQueued),
        1 => Just(Op::Terminate),
        1 => Just(Op::Break),
    ]
}

pub(super) fn config() -> impl Strategy<Value = Config> {
    let millis = |range: std::ops::Range<u64>| range.prop_map(Duration::from_millis);
    let kill_after = prop_oneof![Just(None), Just(Some(Duration::MAX)), millis(1..2000).prop_map(Some)];
    let delay = prop_oneof![2 => Just(Duration::ZERO), 1 => millis(1..300)];
    let backoff =
        prop_oneof![Just(Backoff::Fixed), millis(0..900).prop_map(|max| Backoff::Exponential { max })];
    let on = prop_oneof![
        (1u64..20).prop_map(|n| HaltOn::Failures(n.try_into().unwrap())),
        (1u8..101).prop_map(|n| HaltOn::FailureShare(n.try_into().unwrap())),
        (1u64..20).prop_map(|n| HaltOn::Successes(n.try_into().unwrap())),
        (1u64..20).prop_map(|n| HaltOn::Done(n.try_into().unwrap())),
    ];
    let when = prop_oneof![Just(HaltWhen::Now), Just(HaltWhen::Soon)];
    let halt = proptest::option::weighted(0.3, (when, on).prop_map(|(when, on)| Halt { when, on }));
    let staff =
        (1usize..7, proptest::option::of(1u64..9), proptest::option::of(millis(1..2000)), any::<bool>());
    let again = (0u32..4, delay, backoff, 1u32..4);
    (staff, again, kill_after, millis(0..300), halt).prop_map(|(staff, again, kill_after, grace, halt)| {
        let (processes, max_tasks_per_child, idle_time, eager) = staff;
        let (retries, delay, backoff, poison_limit) = again;
        Config {
            processes,
            cpus: 1,
            max_tasks_per_child,
            retries,
            delay,
            backoff,
            poison_limit,
            halt,
            results_max: RESULTS_MAX,
            kill_after,
            grace,
            start_time: Duration::from_secs(60),
            retire_time: Duration::from_secs(5),
            idle_time,
            eager,
        }
    })
}
