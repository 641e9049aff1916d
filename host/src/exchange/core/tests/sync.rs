//! Locks, semaphores, events, conditions and barriers.

use super::*;
use crate::spec::exchange::BarrierStatus;

const RELEASE: Act = Act::Release { count: 1 };

#[test]
fn l1_a_lock_has_one_owner() {
    let mut play = Play::of(&[ObjectSpec::Lock]);
    let invalid = |text| failed(Code::Invalid, text);
    assert_eq!(play.act(1, FIRST, RELEASE), [answer(1, invalid("lock a is not acquired"))]);
    assert_eq!(play.act(1, FIRST, Act::Acquire), [answer(1, acquired(false))]);
    assert_eq!(play.act(2, FIRST, Act::Status), [answer(2, Answer::Flag(true))]);
    let timed_out = failed(Code::TimedOut, "the time-out passed: lock a");
    assert_eq!(play.act_for(2, FIRST, Act::Acquire, 0), [answer(2, timed_out)]);
    assert_eq!(play.act(2, FIRST, RELEASE), [answer(2, invalid("lock a is not held by this task"))]);
    assert_eq!(play.host(1, RELEASE, None), [answer_host(1, invalid("the lock is not held by this thread"))]);
    assert_eq!(play.act(2, FIRST, Act::Acquire), []);
    let released = play.act(1, FIRST, RELEASE);
    assert_eq!(released, [answer(1, Answer::Done), answer(2, acquired(false))]);
}

#[test]
fn l2_another_thread_of_the_application_may_release_a_lock() {
    let mut play = Play::of(&[ObjectSpec::Lock, ObjectSpec::RLock]);
    for (object, answered) in
        [(1, Answer::Done), (2, failed(Code::Invalid, "the lock is not held by this thread"))]
    {
        assert_eq!(play.host_in(1, object, Act::Acquire, None).len(), 1);
        let ticket = play.last_ticket + 1;
        assert_eq!(play.host_in(2, object, RELEASE, None), [answer_host(ticket, answered)]);
    }
}

#[test]
fn l6_a_recursive_lock_is_released_as_often_as_it_was_acquired() {
    let mut play = Play::of(&[ObjectSpec::RLock]);
    play.act(1, FIRST, Act::Acquire);
    assert_eq!(play.act(2, FIRST, Act::Acquire), []);
    assert_eq!(play.act(1, FIRST, Act::Acquire), [answer(1, acquired(false))], "it does not wait for itself");
    assert_eq!(play.act(1, FIRST, RELEASE), [answer(1, Answer::Done)]);
    let released = play.act(1, FIRST, RELEASE);
    assert_eq!(released, [answer(1, Answer::Done), answer(2, acquired(false))]);
}

#[test]
fn l10_a_bounded_semaphore_does_not_exceed_its_first_value() {
    let semaphore = |bounded| ObjectSpec::Semaphore { value: 1, bounded };
    let mut play = Play::of(&[semaphore(true), semaphore(false)]);
    let exceeded = failed(Code::Invalid, "semaphore a would exceed its first value");
    assert_eq!(play.act(1, 0, RELEASE), [answer(1, exceeded)]);
    assert_eq!(play.act(1, 0, Act::Acquire), [answer(1, Answer::Done)]);
    assert_eq!(play.act(2, 0, Act::Acquire), []);
    assert_eq!(play.act(1, 0, RELEASE), [answer(1, Answer::Done), answer(2, Answer::Done)]);
    assert_eq!(play.act(1, 1, Act::Release { count: 2 }), [answer(1, Answer::Done)]);
    assert_eq!(play.act(1, 1, Act::Status), [answer(1, Answer::Count(3))]);
}

#[test]
fn l10_a_unit_that_another_gives_back_does_not_come_back_twice() {
    let mut play = Play::of(&[ObjectSpec::Semaphore { value: 1, bounded: false }]);
    play.act(1, FIRST, Act::Acquire);
    assert_eq!(play.act(2, FIRST, RELEASE), [answer(2, Answer::Done)]);
    play.gone(1);
    assert_eq!(play.act(2, FIRST, Act::Status), [answer(2, Answer::Count(1))]);
}

#[test]
fn l11_a_condition_wakes_as_many_as_are_notified() {
    let mut play = Play::of(&[ObjectSpec::Condition]);
    let invalid = failed(Code::Invalid, "condition a is not acquired");
    assert_eq!(play.act(1, FIRST, Act::Wait), [answer(1, invalid.clone())]);
    assert_eq!(play.act(1, FIRST, Act::Notify { count: 1 }), [answer(1, invalid)]);
    play.act(1, FIRST, Act::Acquire);
    play.act(1, FIRST, Act::Acquire);
    assert_eq!(play.act(1, FIRST, Act::Wait), [], "both acquires are undone");
    assert_eq!(play.act(2, FIRST, Act::Acquire), [answer(2, acquired(false))]);
    assert_eq!(play.act(2, FIRST, Act::Wait), []);
    assert_eq!(play.host(1, Act::Acquire, None), [answer_host(1, acquired(false))]);
    assert_eq!(play.act(3, FIRST, Act::Acquire), []);
    assert_eq!(play.host(1, Act::Notify { count: 1 }, None), [answer_host(2, Answer::Done)]);
    assert_eq!(play.host(1, RELEASE, None), [answer_host(3, Answer::Done), answer(3, acquired(false))]);
    assert_eq!(play.act(3, FIRST, RELEASE), [answer(3, Answer::Done), answer(1, Answer::Flag(true))]);
    assert_eq!(play.act(1, FIRST, RELEASE), [answer(1, Answer::Done)], "it holds the lock twice again");
    assert_eq!(play.act(3, FIRST, Act::Acquire), []);
    assert_eq!(play.act(1, FIRST, RELEASE), [answer(1, Answer::Done), answer(3, acquired(false))]);
}

#[test]
fn l11_a_wait_for_a_condition_that_times_out_holds_the_lock_again() {
    let mut play = Play::of(&[ObjectSpec::Condition]);
    play.act(1, FIRST, Act::Acquire);
    assert_eq!(play.act_for(1, FIRST, Act::Wait, 0), [answer(1, Answer::Flag(false))]);
    assert_eq!(play.act_for(1, FIRST, Act::Wait, 5), []);
    assert_eq!(play.act(2, FIRST, Act::Acquire), [answer(2, acquired(false))]);
    assert_eq!(play.pass(5), [Action::Stalled { member: 1 }]);
    assert_eq!(play.act(2, FIRST, RELEASE), [answer(2, Answer::Done), answer(1, Answer::Flag(false))]);
    assert_eq!(play.act(1, FIRST, RELEASE), [answer(1, Answer::Done)]);
}

#[test]
fn x17_the_notification_of_a_dead_waiter_passes_on() {
    for is_served in [false, true] {
        let mut play = Play::of(&[ObjectSpec::Condition]);
        for member in [1, 2] {
            play.act(member, FIRST, Act::Acquire);
            assert_eq!(play.act(member, FIRST, Act::Wait), []);
        }
        play.act(3, FIRST, Act::Acquire);
        play.act(3, FIRST, Act::Notify { count: 1 });
        if is_served {
            let released = play.act(3, FIRST, RELEASE);
            assert_eq!(released, [answer(3, Answer::Done), answer(1, Answer::Flag(true))]);
            assert_eq!(play.gone(1), [answer(2, Answer::Flag(true))]);
        } else {
            assert_eq!(play.gone(1), []);
            let released = play.act(3, FIRST, RELEASE);
            assert_eq!(released, [answer(3, Answer::Done), answer(2, Answer::Flag(true))]);
        }
    }
}

#[test]
fn l12_an_event_wakes_all() {
    let mut play = Play::of(&[ObjectSpec::Event]);
    assert_eq!(play.act_for(1, FIRST, Act::Wait, 0), [answer(1, Answer::Flag(false))]);
    assert_eq!(play.act(1, FIRST, Act::Wait), []);
    assert_eq!(play.act(2, FIRST, Act::Wait), []);
    let set = play.act(3, FIRST, Act::Set);
    assert_eq!(set, [answer(3, Answer::Done), answer(1, Answer::Flag(true)), answer(2, Answer::Flag(true))]);
    assert_eq!(play.act(1, FIRST, Act::Wait), [answer(1, Answer::Flag(true))]);
    assert_eq!(play.act(1, FIRST, Act::Clear), [answer(1, Answer::Done)]);
    assert_eq!(play.act(1, FIRST, Act::Status), [answer(1, Answer::Flag(false))]);
}

#[test]
fn l13_a_barrier_gives_each_party_a_number() {
    let mut play = Play::of(&[ObjectSpec::Barrier { parties: 3 }]);
    for _ in 0..2 {
        assert_eq!(play.act(1, FIRST, Act::Wait), []);
        assert_eq!(play.host(1, Act::Wait, None), []);
        let ticket = play.last_ticket;
        let expected =
            [answer(1, Answer::Count(0)), answer_host(ticket, Answer::Count(1)), answer(2, Answer::Count(2))];
        assert_eq!(play.act(2, FIRST, Act::Wait), expected);
    }
}

#[test]
fn l13_a_broken_barrier_is_whole_after_a_reset() {
    let mut play = Play::of(&[ObjectSpec::Barrier { parties: 3 }]);
    let broken = |member| answer(member, failed(Code::Broken, "barrier a is broken"));
    let status =
        |waiting, is_broken| answer(3, Answer::Barrier(BarrierStatus { parties: 3, waiting, is_broken }));
    play.act(1, FIRST, Act::Wait);
    assert_eq!(play.act(3, FIRST, Act::Status), [status(1, false)]);
    assert_eq!(play.act(3, FIRST, Act::Reset), [answer(3, Answer::Done), broken(1)]);
    assert_eq!(play.act(3, FIRST, Act::Status), [status(0, false)]);
    play.act(1, FIRST, Act::Wait);
    assert_eq!(play.act(3, FIRST, Act::Abort), [answer(3, Answer::Done), broken(1)]);
    assert_eq!(play.act(3, FIRST, Act::Status), [status(0, true)]);
    assert_eq!(play.act(1, FIRST, Act::Wait), [broken(1)]);
    play.act(3, FIRST, Act::Reset);
    play.act(1, FIRST, Act::Wait);
    let timed_out = failed(Code::TimedOut, "the time-out passed: barrier a");
    assert_eq!(play.act_for(2, FIRST, Act::Wait, 0), [broken(1), answer(2, timed_out)]);
}

#[test]
fn x17_a_dead_party_breaks_a_barrier() {
    let mut play = Play::of(&[ObjectSpec::Barrier { parties: 3 }]);
    play.act(1, FIRST, Act::Wait);
    play.act(2, FIRST, Act::Wait);
    assert_eq!(play.gone(1), [answer(2, failed(Code::Broken, "barrier a is broken"))]);
}
