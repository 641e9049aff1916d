//! Everything that may happen to the exchange, at random.

use proptest::prelude::*;

use super::{BARRIER, CONDITION, FLAG, LOCK, OBJECTS, PIPE, QUEUE, RLOCK, SEMAPHORE, SMALL_QUEUE};
use crate::spec::exchange::Act;

/// What may happen. Members, tickets and calls are chosen by number among those to which it can happen.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Join { site: u64 },
    Resize { site: u64, capacity: u64 },
    Handles { object: usize, has: bool },
    NoHandles,
    Ask { member: usize, does: Does, timeout: Option<u64>, left: Option<u64> },
    HostAsk { thread: u64, does: Does, timeout: Option<u64> },
    Return { call: usize },
    NextTask { member: usize },
    End { member: usize, has_returned: bool },
    Assign { member: usize, count: u64, job: u64, is_wanted: bool },
    Unwant { site: u64, job: Option<u64> },
    Cancel { member: usize, ahead: u64 },
    Die { member: usize },
    Pass { millis: u64 },
    PassLong,
    Abandon { end: usize },
}

/// What an actor does.
#[derive(Debug, Clone)]
pub(super) enum Does {
    /// The lengths of items. The model gives each item a content of its own.
    Put {
        object: usize,
        lens: Vec<usize>,
    },
    Act {
        object: usize,
        act: Act,
    },
    Wait {
        objects: Vec<usize>,
    },
    Call,
}

impl Does {
    pub(super) fn objects(&self) -> Vec<usize> {
        match self {
            Does::Put { object, .. } | Does::Act { object, .. } => vec![*object],
            Does::Wait { objects } => objects.clone(),
            Does::Call => Vec::new(),
        }
    }
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let member = || 0usize..4;
    let time = || prop_oneof![5 => Just(None), 1 => Just(Some(0u64)), 2 => (1u64..9).prop_map(Some)];
    let left = || prop_oneof![9 => Just(None), 1 => (0u64..9).prop_map(Some)];
    prop_oneof![
        12 => (1u64..3).prop_map(|site| Op::Join { site }),
        2 => (1u64..3, 1u64..4).prop_map(|(site, capacity)| Op::Resize { site, capacity }),
        2 => (0..OBJECTS, any::<bool>()).prop_map(|(object, has)| Op::Handles { object, has }),
        2 => Just(Op::NoHandles),
        40 => (member(), does(), time(), left())
            .prop_map(|(member, does, timeout, left)| Op::Ask { member, does, timeout, left }),
        20 => (1u64..4, does(), time())
            .prop_map(|(thread, does, timeout)| Op::HostAsk { thread, does, timeout }),
        3 => (0usize..8).prop_map(|call| Op::Return { call }),
        4 => member().prop_map(|member| Op::NextTask { member }),
        4 => (member(), any::<bool>()).prop_map(|(member, has_returned)| Op::End { member, has_returned }),
        3 => (member(), 1u64..4, 1u64..3, prop_oneof![5 => Just(true), 1 => Just(false)]).prop_map(
            |(member, count, job, is_wanted)| Op::Assign { member, count, job, is_wanted }
        ),
        2 => (1u64..3, prop_oneof![5 => (1u64..3).prop_map(Some), 1 => Just(None)])
            .prop_map(|(site, job)| Op::Unwant { site, job }),
        2 => (member(), 0u64..3).prop_map(|(member, ahead)| Op::Cancel { member, ahead }),
        4 => member().prop_map(|member| Op::Die { member }),
        6 => (0u64..5).prop_map(|millis| Op::Pass { millis }),
        3 => Just(Op::PassLong),
        1 => (0usize..2).prop_map(|end| Op::Abandon { end }),
    ]
}

/// What happens where items are got one by one.
pub(super) fn flowing_op() -> impl Strategy<Value = Op> {
    let get = (QUEUE..LOCK).prop_map(|object| (object, Act::Get { most: 1, longest: u64::MAX }));
    let gets = (0usize..3, get).prop_map(|(member, (object, act))| Op::Ask {
        member,
        does: Does::Act { object, act },
        timeout: Some(3),
        left: None,
    });
    let lens = || proptest::collection::vec(4usize..7, 1..4);
    let puts = prop_oneof![2 => Just((QUEUE, 3)), 1 => Just((PIPE, 1)), 1 => Just((PIPE + 1, 1))];
    let puts = (1u64..3, puts, lens()).prop_map(|(thread, (object, most), mut lens)| {
        lens.truncate(most);
        Op::HostAsk { thread, does: Does::Put { object, lens }, timeout: Some(1) }
    });
    let own = (0usize..3, lens()).prop_map(|(member, lens)| Op::Ask {
        member,
        does: Does::Put { object: QUEUE, lens },
        timeout: None,
        left: None,
    });
    prop_oneof![
        2 => op(),
        3 => (1u64..3).prop_map(|site| Op::Join { site }),
        12 => puts,
        4 => own,
        16 => gets,
        2 => (0u64..5).prop_map(|millis| Op::Pass { millis }),
    ]
}

/// What happens where most waits have no end of their own.
pub(super) fn hanging_op() -> impl Strategy<Value = Op> {
    let ask = |member, does| Op::Ask { member, does, timeout: None, left: None };
    let acquire = (LOCK..=CONDITION).prop_map(|object| Does::Act { object, act: Act::Acquire });
    let wait = (CONDITION..=BARRIER).prop_map(|object| Does::Act { object, act: Act::Wait });
    let get =
        (QUEUE..LOCK).prop_map(|object| Does::Act { object, act: Act::Get { most: 1, longest: u64::MAX } });
    prop_oneof![
        1 => op(),
        3 => (1u64..3).prop_map(|site| Op::Join { site }),
        6 => (0usize..5, acquire).prop_map(move |(member, does)| ask(member, does)),
        4 => (0usize..5, wait).prop_map(move |(member, does)| ask(member, does)),
        4 => (0usize..5, get).prop_map(move |(member, does)| ask(member, does)),
        2 => (0usize..5, does()).prop_map(move |(member, does)| ask(member, does)),
        2 => Just(Op::PassLong),
        1 => Just(Op::NoHandles),
    ]
}

fn does() -> impl Strategy<Value = Does> {
    let lens = || proptest::collection::vec(prop_oneof![8 => 4usize..20, 1 => 20usize..45], 1..4);
    let queues = || prop_oneof![1 => Just(QUEUE), 2 => Just(SMALL_QUEUE)];
    let get = (1u32..4, prop_oneof![4 => Just(u64::MAX), 1 => 4u64..40])
        .prop_map(|(most, longest)| Act::Get { most, longest });
    let on = |object: usize, act: Act| Just(Does::Act { object, act });
    let release = |count| Act::Release { count };
    prop_oneof![
        8 => (queues(), lens()).prop_map(|(object, lens)| Does::Put { object, lens }),
        10 => (queues(), get.clone()).prop_map(|(object, act)| Does::Act { object, act }),
        4 => (0..2usize, 4usize..30)
            .prop_map(|(end, len)| Does::Put { object: PIPE + end, lens: vec![len] }),
        4 => (0..2usize, get).prop_map(|(end, act)| Does::Act { object: PIPE + end, act }),
        1 => (0..2usize).prop_map(|end| Does::Act { object: PIPE + end, act: Act::Poll }),
        1 => proptest::collection::vec(0..LOCK, 1..4).prop_map(|objects| Does::Wait { objects }),
        1 => queues().prop_map(|object| Does::Act { object, act: Act::TaskDone { count: 1 } }),
        1 => queues().prop_map(|object| Does::Act { object, act: Act::Join }),
        1 => (0..LOCK).prop_map(|object| Does::Act { object, act: Act::Close }),
        1 => (0..OBJECTS).prop_map(|object| Does::Act { object, act: Act::Status }),
        12 => (LOCK..=CONDITION).prop_map(|object| Does::Act { object, act: Act::Acquire }),
        10 => (LOCK..=CONDITION).prop_map(move |object| Does::Act { object, act: release(1) }),
        1 => on(SEMAPHORE, release(2)),
        2 => on(FLAG, Act::Wait),
        1 => on(FLAG, Act::Set),
        1 => on(FLAG, Act::Clear),
        5 => on(CONDITION, Act::Wait),
        4 => (1u32..3).prop_map(|count| Does::Act { object: CONDITION, act: Act::Notify { count } }),
        4 => on(BARRIER, Act::Wait),
        1 => on(BARRIER, Act::Abort),
        2 => on(BARRIER, Act::Reset),
        2 => on(RLOCK, Act::Acquire),
        2 => Just(Does::Call),
    ]
}
