//! What becomes of that which a task has when it, or its member, is over.

use super::*;

#[test]
fn x7_an_item_that_was_not_acknowledged_is_back_at_its_place() {
    let mut play = Play::of(&[queue(None)]);
    play.host(1, put(&["a", "b", "c", "d", "e"]), None);
    assert_eq!(play.act(1, FIRST, get_many(2)), [answer(1, items(&["a", "b"]))]);
    assert_eq!(play.act(2, FIRST, get()), [answer(2, items(&["c"]))]);
    assert_eq!(play.gone(1), []);
    assert_eq!(play.gone(2), []);
    assert_eq!(play.act(3, FIRST, get_many(3)), [answer(3, again(&["a", "b", "c"]))]);
    assert_eq!(play.act(3, FIRST, get()), [answer(3, items(&["d"]))]);
    assert_eq!(play.ended(3, 1), []);
    assert_eq!(play.gone(3), []);
    assert_eq!(play.host(1, get_many(9), None), [answer_host(2, items(&["e"]))]);
}

#[test]
fn x7_a_redelivered_item_goes_to_the_first_that_waits() {
    let mut play = Play::of(&[queue(None)]);
    play.host(1, put(&["a"]), None);
    play.act(1, FIRST, get());
    assert_eq!(play.act(2, FIRST, get()), []);
    assert_eq!(play.act(3, FIRST, get()), []);
    assert_eq!(play.gone(1), [answer(2, again(&["a"]))]);
}

#[test]
fn x7_a_message_that_was_not_acknowledged_is_back_too() {
    let mut play = Play::of(&[pipe()]);
    play.act(1, 0, put(&["a"]));
    play.act(2, 1, get());
    play.gone(2);
    assert_eq!(play.act(3, 1, get()), [answer(3, again(&["a"]))]);
}

#[test]
fn x7_the_last_item_of_a_task_that_was_ended_is_back_and_those_before_are_its_own() {
    let mut play = Play::of(&[queue(None)]);
    play.host(1, put(&["a", "b", "c"]), None);
    play.act(1, FIRST, get());
    assert_eq!(play.act(1, FIRST, get()), [answer(1, items(&["b"]))]);
    assert_eq!(play.act(2, FIRST, get()), [answer(2, items(&["c"]))]);
    assert_eq!(play.act(3, FIRST, get()), []);
    assert_eq!(play.was_ended(1, 1), [answer(3, again(&["b"]))]);
    assert_eq!(play.ended(2, 1), [], "it has returned");
}

#[test]
fn x7_what_a_cancelled_task_was_given_is_back_at_its_next_request() {
    let mut play = Play::of(&[queue(None), queue(None)]);
    play.host(1, put(&["a"]), None);
    play.act(1, 0, get());
    assert_eq!(play.on(Event::Cancelled { member: 1, tasks: 1 }), []);
    assert_eq!(play.act(1, 1, put(&["made of a"])), [answer(1, Answer::Cancelled)]);
    assert_eq!(play.host(1, get(), None), [answer_host(2, again(&["a"]))]);
    assert_eq!(play.was_ended(1, 1), []);
}

#[test]
fn x7_a_task_of_an_unwanted_job_is_given_nothing_and_takes_nothing() {
    let mut play = Play::of(&[queue(None)]);
    let assigned = |tasks, job| Event::Assigned { member: 1, tasks, job, is_wanted: true, answered: 0 };
    play.on(assigned(1..3, 7));
    play.on(assigned(3..4, 8));
    play.host(1, put(&["a"]), None);
    assert_eq!(play.act_in(1, 1, FIRST, get()), [answer(1, items(&["a"]))]);
    assert_eq!(play.on(Event::Unwanted { site: 1, job: Some(7) }), []);
    assert_eq!(play.ended(1, 1), [], "nobody hears that it has returned");
    assert_eq!(play.act_in(1, 2, FIRST, get()), [answer(1, Answer::Cancelled)]);
    assert_eq!(play.act_in(1, 3, FIRST, get()), [answer(1, again(&["a"]))], "of another job");
    assert_eq!(play.act_in(1, 3, FIRST, get()), []);
    assert_eq!(play.on(Event::Unwanted { site: 2, job: None }), []);
    assert_eq!(play.on(Event::Unwanted { site: 1, job: None }), [answer(1, Answer::Cancelled)]);
}

/// A pool that halts lets a running task end. If it returns all the same, its outcome counts.
#[test]
fn x7_a_cancelled_task_that_returns_has_taken_its_item() {
    let mut play = Play::of(&[queue(None)]);
    play.host(1, put(&["a"]), None);
    play.act(1, FIRST, get());
    play.on(Event::Cancelled { member: 1, tasks: 1 });
    play.ended(1, 1);
    assert_eq!(play.host(1, Act::Status, None), [answer_host(2, status(0, None, 1))]);
}

#[test]
fn x17_a_notification_of_a_task_that_was_ended_goes_to_another() {
    let mut play = Play::of(&[ObjectSpec::Condition]);
    for member in 1..=2 {
        play.act(member, FIRST, Act::Acquire);
        assert_eq!(play.act(member, FIRST, Act::Wait), []);
    }
    play.host(1, Act::Acquire, None);
    play.host(1, Act::Notify { count: 1 }, None);
    let released = play.host(1, Act::Release { count: 1 }, None);
    assert_eq!(released, [answer_host(3, Answer::Done), answer(1, Answer::Flag(true))]);
    assert_eq!(play.was_ended(1, 1), [answer(2, Answer::Flag(true))]);
}

#[test]
fn x8_the_next_owner_of_a_lock_is_told_that_its_owner_ended() {
    for spec in [ObjectSpec::Lock, ObjectSpec::RLock, ObjectSpec::Condition] {
        let mut play = Play::of(&[spec]);
        play.act(1, FIRST, Act::Acquire);
        assert_eq!(play.act(2, FIRST, Act::Acquire), []);
        assert_eq!(play.gone(1), [answer(2, acquired(true))]);
        assert_eq!(play.ended(2, 1), []);
        let times = Times::default();
        let acquire = Op::On { object: FIRST, act: Act::Acquire };
        assert_eq!(play.ask(2, 2, times, acquire), [answer(2, acquired(true))], "it was held by task 1");
        assert_eq!(play.act_in(2, 3, FIRST, Act::Acquire), [answer(2, acquired(true))], "by task 2");
        assert_eq!(play.act_in(2, 3, FIRST, Act::Release { count: 1 }), [answer(2, Answer::Done)]);
        assert_eq!(play.host(1, Act::Acquire, None), [answer_host(1, acquired(false))]);
    }
}

#[test]
fn x8_the_units_of_a_semaphore_come_back() {
    let mut play = Play::of(&[ObjectSpec::Semaphore { value: 2, bounded: true }]);
    play.act(1, FIRST, Act::Acquire);
    play.act(1, FIRST, Act::Acquire);
    assert_eq!(play.act(2, FIRST, Act::Acquire), []);
    assert_eq!(play.ended(1, 1), [answer(2, Answer::Done)]);
    assert_eq!(play.act(3, FIRST, Act::Status), [answer(3, Answer::Count(1))]);
}

#[test]
fn x6_a_put_that_waits_is_not_done_if_its_member_dies() {
    let mut play = Play::of(&[queue(Some(1))]);
    play.act(1, FIRST, put(&["a"]));
    play.act(1, FIRST, put(&["b"]));
    play.act(2, FIRST, put(&["c"]));
    play.gone(1);
    assert_eq!(play.host(1, get(), None), [answer_host(1, items(&["a"])), answer(2, Answer::Count(1))]);
    assert_eq!(play.host(1, get(), None), [answer_host(2, items(&["c"]))]);
}

#[test]
fn x6_the_death_of_a_waiter_lets_the_next_go_on() {
    let mut play = Play::of(&[queue(None)]);
    play.act(1, FIRST, put(&[&"x".repeat(900)]));
    assert_eq!(play.act(1, FIRST, put(&[&"x".repeat(900)])), []);
    assert_eq!(play.act(2, FIRST, put(&["b"])), [], "it does not overtake");
    assert_eq!(play.gone(1), [answer(2, Answer::Count(1))]);
}

#[test]
fn x15_the_late_answer_of_a_function_is_dropped() {
    let call = || Op::Call { function: 7, args: vec![1] };
    let mut play = Play::of(&[]);
    let called = |call, member| Action::Call { call, member, function: 7, args: vec![1] };
    assert_eq!(play.ask(1, 1, Times::default(), call()), [called(1, 1)]);
    assert_eq!(play.ask(2, 1, Times::default(), call()), [called(2, 2)]);
    let left = Times { left: Some(Duration::from_millis(1)), timeout: None };
    assert_eq!(play.ask(3, 1, left, call()), [called(3, 3)]);
    let returned = |call| Event::Returned { call, answer: Answer::Done };
    assert_eq!(play.on(returned(1)), [answer(1, Answer::Done)]);
    assert_eq!(play.gone(2), [Action::Forget { call: 2 }]);
    assert_eq!(play.pass(1), [Action::Forget { call: 3 }, answer(3, Answer::TimeIsOver)]);
    for call in 1..=3 {
        assert_eq!(play.on(returned(call)), []);
    }
}
