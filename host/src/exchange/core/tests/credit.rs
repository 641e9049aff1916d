//! Credit for queues.

use super::*;
use crate::spec::exchange::{CREDIT_MAX, cost};

#[test]
fn what_waits_for_items_that_a_member_may_post_is_known() {
    let mut play = Play::of(&[large_queue(), queue(None)]);
    play.act(3, FIRST + 1, get());
    assert!(!play.exchange.is_awaited(1), "it has no credit");
    play.act(1, FIRST, put(&["a"]));
    assert!(!play.exchange.is_awaited(1) && !play.exchange.is_awaited(9));
    play.act(2, FIRST, get());
    play.act(2, FIRST, get());
    assert!(play.exchange.is_awaited(1), "a get waits");
    post(&mut play, 1, &["b"]);
    assert!(!play.exchange.is_awaited(1));
    play.act(2, FIRST, get());
    play.gone(2);
    assert!(!play.exchange.is_awaited(1));
    play.on(Event::HostWaits { ticket: 99, thread: 1, objects: vec![1, 2], timeout: None });
    assert!(play.exchange.is_awaited(1), "a wait for several");
}

/// A queue of which a member gets a credit of `CREDIT_MAX` as long as it is nearly empty.
fn large_queue() -> ObjectSpec {
    ObjectSpec::Queue { max_len: None, max_bytes: 17 * CREDIT_MAX, joinable: true }
}

fn large_pipe() -> ObjectSpec {
    ObjectSpec::Pipe { ends: [0, 0], duplex: false, max_bytes: 17 * CREDIT_MAX }
}

/// Member 1 has sent `a` by the second end, and has credit. Member 2 has received it by the first.
fn sending() -> Play {
    let mut play = Play::of(&[large_pipe()]);
    let credit = Action::Credit { member: 1, object: FIRST + 1, credit: CREDIT_MAX };
    assert_eq!(play.act(1, FIRST + 1, put(&["a"])), [credit, answer(1, Answer::Count(1))]);
    assert_eq!(play.act(2, FIRST, get()), [answer(2, items(&["a"]))]);
    play
}

fn send(play: &mut Play, text: &str) -> Vec<Action> {
    let items = vec![bytes(text)];
    play.on(Event::Posted { member: 1, task: 1, taken: 0, object: FIRST + 1, items })
}

#[test]
fn c14_a_task_that_has_sent_may_send_more_without_an_answer() {
    let mut play = sending();
    assert_eq!(play.act(2, FIRST, get()), []);
    assert_eq!(send(&mut play, "b"), [answer(2, items(&["b"]))], "a waiting recv is served");
    assert_eq!(send(&mut play, "c"), []);
    play.ended(1, 1);
    assert_eq!(send(&mut play, "late"), [], "without credit nothing is sent");
    assert_eq!(play.act(2, FIRST, get()), [answer(2, items(&["c"]))]);
    assert_eq!(play.act_for(2, FIRST, Act::Poll, 0), [answer(2, Answer::Flag(false))]);
}

#[test]
fn c5_closing_either_end_takes_the_credit_back() {
    let revoked = || Action::Credit { member: 1, object: FIRST + 1, credit: 0 };
    for end in [1, 2] {
        let mut play = sending();
        let closed = play.host(end, Act::Close, None);
        assert_eq!(closed, [revoked(), answer_host(play.last_ticket, Answer::Done)]);
        send(&mut play, "on its way");
        let received = play.act(2, FIRST, get());
        match end {
            // The first end is that of the receiver.
            1 => assert_eq!(received, [answer(2, failed(Code::Closed, "connection a is closed"))]),
            _ => assert_eq!(received, [answer(2, items(&["on its way"]))]),
        }
    }
    let mut play = sending();
    assert_eq!(play.on(Event::Abandoned { object: 1 }), [revoked()], "nothing receives any more");
}

fn credit(member: MemberId, credit: u64) -> Action {
    Action::Credit { member, object: FIRST, credit }
}

fn post(play: &mut Play, member: MemberId, texts: &[&str]) -> Vec<Action> {
    let items = texts.iter().map(|text| bytes(text)).collect();
    play.on(Event::Posted { member, task: 1, taken: 0, object: FIRST, items })
}

/// Whether an item of this length has room now.
fn has_room(play: &mut Play, len: u64) -> bool {
    let item = "x".repeat(usize::try_from(len).unwrap());
    let put = play.host(1, put(&[&item]), Some(0));
    let is_put = put == [answer_host(play.last_ticket, Answer::Count(1))];
    if is_put {
        play.host(1, get(), Some(0));
    }
    is_put
}

#[test]
fn x6_a_task_that_has_put_may_post_more_and_the_order_stays() {
    let mut play = Play::of(&[large_queue()]);
    let put = play.act(1, FIRST, put(&["a"]));
    assert_eq!(put, [credit(1, CREDIT_MAX), answer(1, Answer::Count(1))]);
    assert_eq!(play.act(2, FIRST, get_many(9)), [answer(2, items(&["a"]))]);
    assert_eq!(play.act(2, FIRST, get_many(9)), []);
    assert_eq!(post(&mut play, 1, &["b", "c"]), [answer(2, items(&["b", "c"]))], "a waiting get is served");
    assert_eq!(post(&mut play, 1, &["d"]), []);
    let full = status(1, None, 4);
    assert_eq!(play.host(1, Act::Status, None), [answer_host(1, full)], "posted items are unfinished, too");
}

#[test]
fn the_next_put_with_an_answer_fills_the_credit_up() {
    let mut play = Play::of(&[large_queue()]);
    play.act(1, FIRST, put(&["a"]));
    let long = "x".repeat(10_000);
    for _ in 0..3 {
        post(&mut play, 1, &[&long]);
    }
    let more = play.act(1, FIRST, put(&["b"]));
    assert_eq!(more, [credit(1, 3 * cost(10_000)), answer(1, Answer::Count(1))]);
    assert_eq!(play.act(1, FIRST, put(&["c"])), [answer(1, Answer::Count(1))], "it is full");
}

#[test]
fn a_queue_that_may_be_full_or_is_small_gives_no_credit_and_neither_does_the_host_get_any() {
    for spec in [queue(None), ObjectSpec::Queue { max_len: Some(9), max_bytes: 1 << 30, joinable: false }] {
        let mut play = Play::of(&[spec]);
        assert_eq!(play.act(1, FIRST, put(&["a"])), [answer(1, Answer::Count(1))]);
    }
    let mut play = Play::of(&[large_queue()]);
    assert_eq!(play.host(1, put(&["a"]), None), [answer_host(1, Answer::Count(1))]);
}

#[test]
fn x10_credit_is_room_that_nothing_else_takes_and_that_comes_back_with_the_end_of_the_task() {
    let all = 17 * CREDIT_MAX;
    for end in [Event::Ended { member: 1, task: 1, has_returned: true }, Event::Gone { member: 1 }] {
        let mut play = Play::of(&[large_queue()]);
        assert!(has_room(&mut play, all));
        play.act(1, FIRST, put(&["a"]));
        post(&mut play, 1, &["bc"]);
        play.host(1, get_many(2), None);
        let left = CREDIT_MAX - cost(2);
        assert!(has_room(&mut play, all - left) && !has_room(&mut play, all - left + 1));
        play.on(end);
        assert!(has_room(&mut play, all));
        assert_eq!(post(&mut play, 1, &["late"]), [], "without credit nothing is put");
        assert!(has_room(&mut play, all));
    }
}

#[test]
fn x10_credit_ends_with_the_next_task_also_if_the_end_of_the_last_was_not_told() {
    let mut play = Play::of(&[large_queue()]);
    play.act_in(1, 1, FIRST, put(&["a"]));
    play.act_in(1, 2, FIRST, Act::Status);
    play.host(1, get(), None);
    assert!(has_room(&mut play, 17 * CREDIT_MAX));
}

#[test]
fn x11_closing_takes_the_credit_back_and_keeps_what_is_on_its_way() {
    let mut play = Play::of(&[large_queue()]);
    play.act(1, FIRST, put(&["a"]));
    assert_eq!(play.host(1, Act::Close, None), [credit(1, 0), answer_host(1, Answer::Done)]);
    post(&mut play, 1, &["b"]);
    assert_eq!(play.host(1, get_many(9), None), [answer_host(2, items(&["a", "b"]))]);
    let closed = failed(Code::Closed, "queue a is closed");
    assert_eq!(play.act(1, FIRST, put(&["c"])), [answer(1, closed)]);
}

#[test]
fn x7_a_post_acknowledges_what_the_task_was_given_before() {
    let mut play = Play::of(&[large_queue(), queue(None)]);
    play.act(1, FIRST, put(&["a"]));
    play.act(1, FIRST, get());
    post(&mut play, 1, &["b"]);
    play.gone(1);
    assert_eq!(play.host(1, get_many(9), None), [answer_host(1, items(&["b"]))], "not a, which was taken");
}
