//! Waits that nothing can end.

use super::*;
use crate::exchange::core::graph::DEADLOCK_TIME;

/// Longer than a wait must last before it is looked at.
fn look(play: &mut Play) -> Vec<Action> {
    let is_stall = |action: &Action| matches!(action, Action::Stalled { .. });
    let mut actions = play.pass(u64::try_from(2 * DEADLOCK_TIME.as_millis()).unwrap());
    actions.retain(|action| !is_stall(action));
    actions
}

fn deadlock(member: MemberId, message: &str) -> Action {
    answer(member, failed(Code::Deadlock, message))
}

#[test]
fn x12_a_ring_of_locks_fails_the_youngest_wait() {
    let mut play = Play::of(&[ObjectSpec::Lock, ObjectSpec::RLock, ObjectSpec::Condition]);
    for member in 1..=3 {
        play.act(member, u32::try_from(member).unwrap() - 1, Act::Acquire);
    }
    assert_eq!(play.act(1, 1, Act::Acquire), []);
    assert_eq!(play.act(2, 2, Act::Acquire), []);
    assert_eq!(look(&mut play), [], "the third goes on");
    assert_eq!(play.act(3, 0, Act::Acquire), []);
    let message = "lock a is held by PoolWorker-1, which waits for lock b, held by PoolWorker-2, which waits \
                   for condition c, held by this task";
    assert_eq!(look(&mut play), [deadlock(3, message)]);
    assert_eq!(look(&mut play), [], "the third goes on");
    let released = play.act(3, 2, Act::Release { count: 1 });
    assert_eq!(released, [answer(3, Answer::Done), answer(2, acquired(false))]);
    assert_eq!(
        play.act(1, FIRST, Act::Status),
        [answer(1, Answer::Cancelled), answer(1, Answer::Flag(true))]
    );
}

#[test]
fn x12_a_task_that_acquires_its_lock_once_more_waits_for_itself() {
    let mut play = Play::of(&[ObjectSpec::Lock]);
    play.act(1, FIRST, Act::Acquire);
    assert_eq!(play.act(1, FIRST, Act::Acquire), []);
    assert_eq!(look(&mut play), [deadlock(1, "lock a is held by this task itself")]);
}

#[test]
fn x12_a_wait_with_a_time_out_ends_by_itself() {
    let mut play = Play::of(&[ObjectSpec::Lock, ObjectSpec::Lock]);
    play.act(1, 0, Act::Acquire);
    play.act(2, 1, Act::Acquire);
    assert_eq!(play.act(1, 1, Act::Acquire), []);
    assert_eq!(play.act_for(2, 0, Act::Acquire, 60_000), []);
    assert_eq!(look(&mut play), []);
}

#[test]
fn x12_tasks_that_all_wait_for_a_queue_are_a_deadlock_once_the_host_has_no_handle() {
    let mut play = Play::of(&[queue(None)]);
    for member in 1..=3 {
        assert_eq!(play.act(member, FIRST, get()), []);
    }
    assert_eq!(look(&mut play), [], "the host may put");
    play.drop_handles();
    let message = "all that could end the wait for queue a wait too: PoolWorker-1 for queue a, \
                   PoolWorker-2 for queue a";
    assert_eq!(look(&mut play), [deadlock(3, message)], "it may put now, for the others");
    let put = play.act(3, FIRST, put(&["a", "b"]));
    assert_eq!(put, [answer(3, Answer::Count(2)), answer(1, items(&["a"])), answer(2, items(&["b"]))]);
}

#[test]
fn x12_a_pool_with_room_for_another_worker_is_no_deadlock() {
    let mut play = Play::of(&[queue(None)]);
    play.drop_handles();
    play.gone(2);
    play.gone(3);
    assert_eq!(play.act(1, FIRST, get()), []);
    assert_eq!(look(&mut play), []);
    play.resize(1);
    assert_eq!(look(&mut play), [deadlock(1, "nothing else can use queue a")]);
}

#[test]
fn x12_a_pipe_to_a_process_that_is_there_is_no_deadlock() {
    let mut play = Play::of(&[pipe()]);
    play.drop_handles();
    let other = play.granted[1].clone();
    play.on(Event::Site { site: 2, capacity: 1, granted: vec![other.object] });
    for member in 1..=3 {
        assert_eq!(play.act(member, FIRST, get()), []);
    }
    assert_eq!(look(&mut play), []);
    let label = "Process-9".to_owned();
    play.on(Event::Joined { member: 9, site: 2, label, granted: vec![other] });
    assert_eq!(look(&mut play), []);
    assert_eq!(play.act(9, FIRST, Act::Get { most: 1, longest: 9 }), []);
    let message = "all that could end the wait for connection b wait too: PoolWorker-1 for connection a, \
                   PoolWorker-2 for connection a, PoolWorker-3 for connection a";
    assert_eq!(look(&mut play), [deadlock(9, message)]);
}

#[test]
fn x12_a_full_barrier_of_too_few_workers_is_a_deadlock() {
    let mut play = Play::of(&[ObjectSpec::Barrier { parties: 4 }, ObjectSpec::Lock]);
    play.drop_handles();
    play.act(1, 1, Act::Acquire);
    assert_eq!(play.act(2, 1, Act::Acquire), []);
    assert_eq!(play.act(1, 0, Act::Wait), []);
    assert_eq!(play.act(3, 0, Act::Wait), []);
    let message = "all that could end the wait for barrier a wait too: PoolWorker-1 for barrier a, \
                   PoolWorker-2 for lock b";
    let broken = answer(1, failed(Code::Broken, "barrier a is broken"));
    assert_eq!(look(&mut play), [broken, deadlock(3, message)]);
}

#[test]
fn x12_a_sleeper_whose_lock_is_held_for_ever_is_a_deadlock_too() {
    let mut play = Play::of(&[ObjectSpec::Condition, ObjectSpec::Lock]);
    play.act(1, 0, Act::Acquire);
    assert_eq!(play.act(1, 0, Act::Wait), []);
    play.act(2, 1, Act::Acquire);
    play.act(2, 0, Act::Acquire);
    assert_eq!(play.act(2, 1, Act::Acquire), []);
    assert_eq!(look(&mut play), [deadlock(2, "lock b is held by this task itself")]);
    assert_eq!(look(&mut play), [], "it may notify now");
}

#[test]
fn x12_a_function_of_the_application_returns_some_time() {
    let mut play = Play::of(&[queue(None)]);
    play.drop_handles();
    play.act(1, FIRST, get());
    play.act(2, FIRST, get());
    play.ask(3, 1, Times::default(), Op::Call { function: 0, args: vec![] });
    assert_eq!(look(&mut play), []);
    let returned = play.on(Event::Returned { call: 1, answer: Answer::Done });
    assert_eq!(returned, [answer(3, Answer::Done)]);
    assert_eq!(play.ask(3, 1, Times::default(), Op::Wait { objects: vec![0] }), []);
    let message = "all that could end the wait for one of 1 objects wait too: PoolWorker-1 for queue a, \
                   PoolWorker-2 for queue a";
    assert_eq!(look(&mut play), [deadlock(3, message)]);
}

#[test]
fn x4_waits_that_have_been_looked_at_need_no_further_tick() {
    let mut play = Play::of(&[queue(None)]);
    assert_eq!(play.act(1, FIRST, get()), []);
    assert_eq!(play.exchange.next_due(), Some(Duration::from_millis(1)));
    play.pass(1);
    assert_eq!(play.exchange.next_due(), Some(DEADLOCK_TIME));
    assert_eq!(look(&mut play), []);
    assert_eq!(play.exchange.next_due(), None);
}
