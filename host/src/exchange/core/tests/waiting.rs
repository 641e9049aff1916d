//! How waits end, and the names by which objects are opened.

use super::*;

#[test]
fn x2_an_object_is_opened_by_its_kind_and_name() {
    let mut play = Play::of(&[queue(None), ObjectSpec::Lock]);
    let open = |kind, name: &str| Op::Open { kind, name: name.to_owned() };
    let opened = play.ask(1, 1, Times::default(), open(ObjectKind::Lock, "b"));
    assert_eq!(opened, [answer(1, Answer::Opened { object: 1 })]);
    let refused = play.ask(1, 1, Times::default(), open(ObjectKind::Lock, "a"));
    let message = "no lock with the name a is granted";
    assert_eq!(refused, [answer(1, failed(Code::NotGranted, message))]);
    assert_eq!(play.act(1, 1, get()), [answer(1, failed(Code::Invalid, "lock b has no such operation"))]);
}

#[test]
fn x3_a_wait_ends_at_its_own_time_out_or_at_the_end_of_the_tasks_time() {
    let mut play = Play::of(&[queue(None)]);
    let times = |timeout: u64, left: u64| Times {
        timeout: Some(Duration::from_millis(timeout)),
        left: Some(Duration::from_millis(left)),
    };
    let op = || Op::On { object: FIRST, act: get() };
    let timed_out = |member| answer(member, failed(Code::TimedOut, "the time-out passed: queue a"));
    assert_eq!(play.ask(1, 1, times(4, 9), op()), []);
    assert_eq!(play.ask(2, 1, times(9, 4), op()), []);
    assert_eq!(play.ask(3, 1, times(5, 5), op()), []);
    assert_eq!(play.pass(1), [1, 2, 3].map(|member| Action::Stalled { member }));
    assert_eq!(play.exchange.next_due(), Some(Duration::from_millis(4)));
    assert_eq!(play.pass(3), [timed_out(1), answer(2, Answer::TimeIsOver)]);
    assert_eq!(play.pass(1), [timed_out(3)]);
    assert_eq!(play.exchange.waits.next_due(), None);
    assert_eq!(play.host(1, get(), Some(0)).len(), 1);
    assert_eq!(play.host(1, put(&["a"]), Some(0)), [answer_host(2, Answer::Count(1))]);
}

#[test]
fn x3_a_cancel_ends_the_waits_of_tasks_that_are_not_wanted() {
    let mut play = Play::of(&[queue(None)]);
    assert_eq!(play.act_in(1, 3, FIRST, get()), []);
    assert_eq!(play.on(Event::Cancelled { member: 1, tasks: 2 }), []);
    assert_eq!(play.on(Event::Cancelled { member: 1, tasks: 3 }), [answer(1, Answer::Cancelled)]);
    assert_eq!(play.act_in(1, 3, FIRST, get()), [answer(1, Answer::Cancelled)], "it asks once more");
    play.host(1, put(&["a"]), None);
    assert_eq!(play.act_in(1, 4, FIRST, get()), [answer(1, items(&["a"]))]);
}

#[test]
fn a_shutdown_after_a_cancelled_task_may_use_objects() {
    let mut play = Play::of(&[queue(None)]);
    play.act_in(1, 3, FIRST, get());
    play.on(Event::Cancelled { member: 1, tasks: 3 });
    play.ended(1, 3);
    assert_eq!(play.act_in(1, 3, FIRST, put(&["end"])), [answer(1, Answer::Count(1))]);
}

#[test]
fn x5_a_pool_is_told_once_of_a_task_that_waits() {
    let mut play = Play::of(&[queue(None)]);
    assert_eq!(play.act_in(1, 1, FIRST, get()), []);
    assert_eq!(play.pass(1), [Action::Stalled { member: 1 }]);
    assert_eq!(play.host(1, put(&["a"]), None).len(), 2);
    assert_eq!(play.act_in(1, 1, FIRST, get()), []);
    assert_eq!(play.exchange.waits.next_due(), None);
    assert_eq!(play.host(1, put(&["a"]), None).len(), 2);
    assert_eq!(play.act_in(1, 2, FIRST, get()), []);
    assert_eq!(play.pass(1), [Action::Stalled { member: 1 }]);
}

#[test]
fn x9_waiters_are_served_in_their_order() {
    let mut play = Play::of(&[queue(None)]);
    play.act(2, FIRST, get());
    play.host(1, get(), None);
    play.act(1, FIRST, get());
    let put = play.act(3, FIRST, put(&["a", "b", "c"]));
    let expected = [
        answer(3, Answer::Count(3)),
        answer(2, items(&["a"])),
        answer_host(1, items(&["b"])),
        answer(1, items(&["c"])),
    ];
    assert_eq!(put, expected);
}
