//! Queues, pipes, values and dicts.

use super::*;

#[test]
fn q1_items_are_first_in_first_out() {
    let mut play = Play::of(&[queue(None)]);
    assert_eq!(play.act(1, FIRST, put(&["a", "b"])), [answer(1, Answer::Count(2))]);
    assert_eq!(play.host(1, put(&["c"]), None), [answer_host(1, Answer::Count(1))]);
    assert_eq!(play.act(2, FIRST, get()), [answer(2, items(&["a"]))]);
    assert_eq!(play.act(2, FIRST, get_many(9)), [answer(2, items(&["b", "c"]))]);
    assert_eq!(
        play.act(2, FIRST, get_many(0)),
        [answer(2, failed(Code::Invalid, "queue a cannot give 0 items"))]
    );
}

#[test]
fn q2_a_put_in_a_full_queue_waits_for_room() {
    let mut play = Play::of(&[queue(Some(2))]);
    assert_eq!(play.act(1, FIRST, put(&["a", "b", "c", "d"])), []);
    assert_eq!(play.act(2, FIRST, put(&["e"])), [], "the first put is not done");
    assert_eq!(play.host(1, get(), None), [answer_host(1, items(&["a"]))]);
    let got = play.host(1, get(), None);
    assert_eq!(got, [answer_host(2, items(&["b"])), answer(1, Answer::Count(4))]);
    assert_eq!(
        play.host(1, get_many(2), None),
        [answer_host(3, items(&["c", "d"])), answer(2, Answer::Count(1))]
    );
}

#[test]
fn a_put_of_several_items_lets_others_get_in_between() {
    let mut play = Play::of(&[queue(None)]);
    let long = "x".repeat(999);
    assert_eq!(play.act(1, FIRST, put(&["ab", &long, "cd"])), []);
    assert_eq!(play.act(2, FIRST, get()), [answer(2, items(&["ab"]))]);
    assert_eq!(play.host(1, get(), None), []);
    let ended = [answer_host(1, items(&[&long])), answer(1, Answer::Count(3))];
    assert_eq!(play.ended(2, 1), ended);
}

#[test]
fn q2_a_put_times_out_with_the_number_of_items_that_were_put() {
    let mut play = Play::of(&[queue(Some(1))]);
    assert_eq!(play.act_for(1, FIRST, put(&["a", "b"]), 0), [answer(1, Answer::Count(1))]);
    let full = failed(Code::TimedOut, "the time-out passed: queue a");
    assert_eq!(play.act_for(1, FIRST, put(&["b"]), 0), [answer(1, full.clone())]);
    assert_eq!(play.act_for(1, FIRST, put(&["b"]), 5), []);
    assert_eq!(play.exchange.next_due(), Some(Duration::from_millis(1)));
    assert_eq!(play.pass(5), [Action::Stalled { member: 1 }, answer(1, full)]);
}

#[test]
fn q9_what_is_in_a_closed_queue_can_still_be_taken() {
    let mut play = Play::of(&[queue(Some(1))]);
    let closed = failed(Code::Closed, "queue a is closed");
    assert_eq!(play.act(1, FIRST, put(&["a"])), [answer(1, Answer::Count(1))]);
    assert_eq!(play.act(1, FIRST, put(&["b"])), []);
    assert_eq!(play.host(1, Act::Close, None), [answer_host(1, Answer::Done), answer(1, closed.clone())]);
    assert_eq!(play.act(2, FIRST, get()), [answer(2, items(&["a"]))]);
    assert_eq!(play.act(2, FIRST, get()), [answer(2, closed)]);
    assert_eq!(
        play.host(1, put(&["c"]), None),
        [answer_host(2, failed(Code::Closed, "the queue is closed"))]
    );
    assert_eq!(play.host(1, Act::Close, None), [answer_host(3, Answer::Done)]);
}

#[test]
fn x11_a_close_wakes_those_that_get() {
    let mut play = Play::of(&[queue(None)]);
    assert_eq!(play.act(1, FIRST, get()), []);
    assert_eq!(play.host(1, get(), None), []);
    let closed = play.act(2, FIRST, Act::Close);
    let expected = [
        answer(2, Answer::Done),
        answer(1, failed(Code::Closed, "queue a is closed")),
        answer_host(1, failed(Code::Closed, "the queue is closed")),
    ];
    assert_eq!(closed, expected);
}

#[test]
fn q13_a_join_waits_until_every_item_is_reported_as_done() {
    let mut play = Play::of(&[queue(None)]);
    assert_eq!(play.host(1, Act::Join, None), [answer_host(1, Answer::Done)]);
    play.act(1, FIRST, put(&["a", "b"]));
    assert_eq!(play.act(1, FIRST, Act::Status), [answer(1, status(2, None, 2))]);
    assert_eq!(play.host(1, Act::Join, None), []);
    assert_eq!(play.act(1, FIRST, Act::TaskDone { count: 1 }), [answer(1, Answer::Done)]);
    let too_many = failed(Code::Invalid, "queue a has fewer unfinished items than were reported as done");
    assert_eq!(play.act(1, FIRST, Act::TaskDone { count: 2 }), [answer(1, too_many)]);
    let done = play.act(1, FIRST, Act::TaskDone { count: 1 });
    assert_eq!(done, [answer(1, Answer::Done), answer_host(2, Answer::Done)]);
}

#[test]
fn x10_a_put_over_the_bytes_of_the_queue_waits() {
    let mut play = Play::of(&[queue(None)]);
    let long = "x".repeat(600);
    assert_eq!(play.act(1, FIRST, put(&[&long])), [answer(1, Answer::Count(1))]);
    assert_eq!(play.act(1, FIRST, put(&[&long])), []);
    assert_eq!(play.act(2, FIRST, get()), [answer(2, items(&[&long]))], "it may still come back");
    assert_eq!(play.ended(2, 1), [answer(1, Answer::Count(1))]);
    let longer = "x".repeat(1001);
    let refused = failed(Code::TooLarge, "queue a takes 1000 bytes at most");
    assert_eq!(play.act(1, FIRST, put(&["a", &longer, "b"])), [answer(1, Answer::Count(1))]);
    assert_eq!(play.act(1, FIRST, put(&[&longer, "b"])), [answer(1, refused)]);
    assert_eq!(play.act(1, FIRST, Act::Status), [answer(1, status(2, None, 3))]);
}

#[test]
fn an_item_that_is_too_long_for_its_receiver_stays() {
    let mut play = Play::of(&[queue(None)]);
    play.host(1, put(&["abc", "de", "f"]), None);
    let refused = failed(Code::TooLarge, "queue a has an item of 3 bytes, which is too long for the caller");
    assert_eq!(play.act(1, FIRST, Act::Get { most: 2, longest: 2 }), [answer(1, refused)]);
    assert_eq!(play.act(1, FIRST, Act::Get { most: 9, longest: 5 }), [answer(1, items(&["abc", "de"]))]);
}

#[test]
fn x10_short_items_without_a_limit_of_their_number_are_bounded_too() {
    let mut play = Play::of(&[queue(None)]);
    let many = vec![""; 4096];
    assert_eq!(play.host(1, put(&many), None), [answer_host(1, Answer::Count(4096))]);
    assert_eq!(play.host(1, put(&[""]), Some(0)).len(), 1);
    assert_eq!(play.act(1, FIRST, Act::Status), [answer(1, status(4096, None, 4096))]);
}

#[test]
fn c1_ends_of_a_simple_pipe_have_a_direction() {
    let mut play = Play::of(&[ObjectSpec::Pipe { ends: [0, 0], duplex: false, max_bytes: 1000 }]);
    let invalid = |text| failed(Code::Invalid, text);
    assert_eq!(play.act(1, 0, put(&["a"])), [answer(1, invalid("connection a only receives"))]);
    assert_eq!(play.act(1, 1, get()), [answer(1, invalid("connection b only sends"))]);
    assert_eq!(play.act(1, 1, Act::Poll), [answer(1, invalid("connection b only sends"))]);
    assert_eq!(play.act(1, 1, put(&["a"])), [answer(1, Answer::Count(1))]);
    assert_eq!(play.act(2, 0, get()), [answer(2, items(&["a"]))]);
}

#[test]
fn c2_messages_keep_their_boundaries() {
    let mut play = Play::of(&[pipe()]);
    for text in ["a", "", "b"] {
        assert_eq!(play.act(1, 0, put(&[text])), [answer(1, Answer::Count(1))]);
    }
    for text in ["a", "", "b"] {
        assert_eq!(play.act(2, 1, get_many(9)), [answer(2, items(&[text]))]);
    }
    assert_eq!(play.act(2, 1, put(&["c"])), [answer(2, Answer::Count(1))]);
    assert_eq!(play.act(1, 0, get()), [answer(1, items(&["c"]))]);
    let one = failed(Code::Invalid, "connection a sends one message at a time");
    assert_eq!(play.act(1, 0, put(&["a", "b"])), [answer(1, one)]);
}

#[test]
fn c4_a_poll_tells_of_a_message_and_does_not_take_it() {
    let mut play = Play::of(&[pipe()]);
    assert_eq!(play.act_for(1, 0, Act::Poll, 0), [answer(1, Answer::Flag(false))]);
    assert_eq!(play.act(1, 0, Act::Poll), []);
    assert_eq!(play.host(1, get(), None), []);
    let sent = play.act(2, 1, put(&["a"]));
    let expected =
        [answer(2, Answer::Count(1)), answer(1, Answer::Flag(true)), answer_host(1, items(&["a"]))];
    assert_eq!(sent, expected);
}

#[test]
fn c5_the_other_end_of_a_closed_one_drains_and_is_at_its_end() {
    let mut play = Play::of(&[pipe()]);
    play.act(1, 0, put(&["a"]));
    assert_eq!(play.act(1, 0, Act::Close), [answer(1, Answer::Done)]);
    assert_eq!(play.act(2, 1, get()), [answer(2, items(&["a"]))]);
    let end = failed(Code::Eof, "connection b is at its end: the other end is closed");
    assert_eq!(play.act(2, 1, get()), [answer(2, end)]);
    assert_eq!(play.act(2, 1, Act::Poll), [answer(2, Answer::Flag(true))]);
    let gone = failed(Code::Closed, "connection b cannot send: the other end is closed");
    assert_eq!(play.act(2, 1, put(&["b"])), [answer(2, gone)]);
    let closed = failed(Code::Closed, "connection a is closed");
    assert_eq!(play.act(1, 0, get()), [answer(1, closed.clone())]);
    assert_eq!(play.act(1, 0, put(&["b"])), [answer(1, closed)]);
}

#[test]
fn c5_an_end_that_nothing_reaches_is_closed_for_the_other() {
    let mut play = Play::of(&[pipe()]);
    assert_eq!(play.act(1, 1, get()), []);
    let long = "x".repeat(900);
    play.act(2, 1, put(&[&long]));
    assert_eq!(play.act(2, 1, put(&[&long])), []);
    let expected = [
        answer(1, failed(Code::Eof, "connection b is at its end: the other end is closed")),
        answer(2, failed(Code::Closed, "connection b cannot send: the other end is closed")),
    ];
    assert_eq!(play.on(Event::Abandoned { object: 1 }), expected);
    assert_eq!(play.on(Event::Abandoned { object: 2 }), []);
    assert!(play.exchange.objects.is_empty());
}

#[test]
fn c8_a_message_that_is_too_long_for_its_receiver_is_dropped() {
    let mut play = Play::of(&[pipe()]);
    play.act(1, 0, put(&["long"]));
    play.act(1, 0, put(&["b"]));
    let refused = failed(Code::TooLarge, "connection b had a message of 4 bytes, which is dropped");
    assert_eq!(play.act(2, 1, Act::Get { most: 1, longest: 3 }), [answer(2, refused)]);
    assert_eq!(play.act(2, 1, Act::Get { most: 1, longest: 3 }), [answer(2, items(&["b"]))]);
}

#[test]
fn c12_a_wait_for_several_tells_which_are_ready() {
    let mut play = Play::of(&[queue(None), pipe(), ObjectSpec::Lock]);
    let wait = |objects: &[Granted]| Op::Wait { objects: objects.to_vec() };
    let nothing = Times { timeout: Some(Duration::ZERO), left: None };
    assert_eq!(play.ask(1, 1, nothing, wait(&[0, 1])), [answer(1, Answer::Ready(vec![]))]);
    assert_eq!(play.ask(1, 1, Times::default(), wait(&[0, 1])), []);
    assert_eq!(play.ask(2, 1, Times::default(), wait(&[2])), []);
    let all = Event::HostWaits { ticket: 7, thread: 1, objects: vec![2, 1, 3], timeout: None };
    assert_eq!(play.on(all.clone()), []);
    let put = play.act(3, 0, put(&["a"]));
    let expected = [
        answer(3, Answer::Count(1)),
        answer(1, Answer::Ready(vec![0])),
        answer_host(7, Answer::Ready(vec![1])),
    ];
    assert_eq!(put, expected);
    let closed = play.act(3, 1, Act::Close);
    assert_eq!(closed, [answer(3, Answer::Done), answer(2, Answer::Ready(vec![0]))]);
    assert_eq!(play.on(all), [answer_host(7, Answer::Ready(vec![0, 1, 2]))]);
    let unfit = failed(Code::Invalid, "the lock has no such operation");
    assert_eq!(play.ask(1, 1, Times::default(), wait(&[3])), [answer(1, unfit)]);
}

#[test]
fn a_value_stays_what_it_is() {
    let value = |content| ObjectSpec::Value { content, max_bytes: 3 };
    let mut play = Play::of(&[value(integer(i64::MAX)), value(Content::Bytes(bytes("a")))]);
    let content = |content| answer(1, Answer::Content(content));
    assert_eq!(play.act(1, 0, Act::Add { amount: 2 }), [content(integer(i64::MIN + 1))]);
    assert_eq!(play.act(1, 0, Act::Store { content: integer(5) }), [answer(1, Answer::Done)]);
    let swap = |expected, new| Act::Swap { expected: integer(expected), new: integer(new) };
    assert_eq!(play.act(1, 0, swap(4, 6)), [content(integer(5))]);
    assert_eq!(play.act(1, 0, swap(5, 7)), [content(integer(5))]);
    assert_eq!(play.act(1, 0, Act::Load), [content(integer(7))]);
    let store = |text| Act::Store { content: Content::Bytes(bytes(text)) };
    let invalid = |text| answer(1, failed(Code::Invalid, text));
    assert_eq!(play.act(1, 0, store("b")), [invalid("value a is an integer")]);
    assert_eq!(play.act(1, 1, Act::Add { amount: 1 }), [invalid("value b is not an integer")]);
    let long = failed(Code::TooLarge, "value b takes 3 bytes at most");
    assert_eq!(play.act(1, 1, store("long")), [answer(1, long)]);
    assert_eq!(play.act(1, 1, store("abc")), [answer(1, Answer::Done)]);
    assert_eq!(play.act(1, 1, Act::Load), [content(Content::Bytes(bytes("abc")))]);
}

#[test]
fn a_dict_is_bounded() {
    let mut play = Play::of(&[ObjectSpec::Dict { max_len: 2, max_bytes: 10 }]);
    let enter = |key: &str, data: Option<&str>| Act::Enter { key: key.to_owned(), data: data.map(bytes) };
    let entry = |data: Option<&str>| answer(1, Answer::Entry(data.map(bytes)));
    assert_eq!(play.act(1, FIRST, enter("k", Some("12345"))), [entry(None)]);
    assert_eq!(play.act(1, FIRST, enter("k", Some("123456789"))), [entry(Some("12345"))]);
    let long = failed(Code::TooLarge, "dict a takes 10 bytes at most, all keys and entries together");
    assert_eq!(play.act(1, FIRST, enter("j", Some(""))), [answer(1, long)]);
    assert_eq!(play.act(1, FIRST, enter("k", None)), [entry(Some("123456789"))]);
    assert_eq!(play.act(1, FIRST, enter("k", None)), [entry(None)]);
    play.act(1, FIRST, enter("j", Some("1")));
    play.act(1, FIRST, enter("i", Some("2")));
    let full = failed(Code::TooLarge, "dict a has 2 entries, the most that it takes");
    assert_eq!(play.act(1, FIRST, enter("k", Some("1"))), [answer(1, full)]);
    let keys = vec!["i".to_owned(), "j".to_owned()];
    assert_eq!(play.act(1, FIRST, Act::Keys), [answer(1, Answer::Keys(keys))]);
    assert_eq!(play.act(1, FIRST, Act::Len), [answer(1, Answer::Count(2))]);
    let swap = |expected: Option<&str>, new: Option<&str>| Act::SwapEntry {
        key: "i".to_owned(),
        expected: expected.map(bytes),
        new: new.map(bytes),
    };
    assert_eq!(play.act(1, FIRST, swap(None, Some("3"))), [entry(Some("2"))]);
    assert_eq!(play.act(1, FIRST, swap(Some("2"), Some("3"))), [entry(Some("2"))]);
    assert_eq!(play.act(1, FIRST, Act::Look { key: "i".to_owned() }), [entry(Some("3"))]);
}
