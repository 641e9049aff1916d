//! Items that a member is given ahead of its next get.

use super::*;

/// Member 1 with a word of its own, which has got two items of the first object, one after the other. Six more
/// are there.
fn play(spec: ObjectSpec) -> (Play, Word) {
    let mut play = Play::of(&[spec, lock()]);
    let word = Word::default();
    play.exchange.give_hand(1, Box::new(word.clone()));
    for item in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        // The host puts into a queue, or sends by the other end.
        play.host(if play.granted.len() > 2 { 2 } else { 1 }, put(&[item]), None);
    }
    assert_eq!(play.act(1, FIRST, get()), [answer(1, items(&["a"]))]);
    (play, word)
}

fn lock() -> ObjectSpec {
    ObjectSpec::Lock
}

/// The worker takes one of the items that it has ahead.
fn take(word: &Word) {
    word.set(word.left() - 1);
}

fn len(play: &mut Play) -> u64 {
    let mut actions = play.host(1, Act::Status, None);
    let Some(Action::AnswerHost { answer: Answer::Queue(status), .. }) = actions.pop() else {
        panic!("no status")
    };
    status.len
}

#[test]
fn x7_the_items_ahead_grow_as_long_as_all_of_them_are_taken() {
    for spec in [queue(None), pipe()] {
        let (mut play, word) = play(spec);
        assert_eq!(play.act(1, FIRST, get()), [answer(1, items(&["b", "c"]))]);
        assert_eq!(word.left(), 1);
        take(&word);
        assert_eq!(play.act(1, FIRST, get()), [answer(1, items(&["d", "e", "f"]))]);
        assert_eq!(word.left(), 2);
    }
}

#[test]
fn q2_a_queue_with_a_limit_of_items_gives_none_ahead() {
    let (mut play, word) = play(queue(Some(8)));
    assert_eq!(play.act(1, FIRST, get()), [answer(1, items(&["b"]))]);
    assert_eq!(word.left(), 0);
}

#[test]
fn several_items_that_are_asked_for_come_without_others() {
    let (mut play, word) = play(queue(None));
    assert_eq!(play.act(1, FIRST, get_many(2)), [answer(1, items(&["b", "c"]))]);
    assert_eq!(word.left(), 0);
}

#[test]
fn q4_what_a_busy_member_has_ahead_is_there_for_another_in_its_order() {
    let (mut play, word) = play(queue(None));
    play.act(1, FIRST, get());
    assert_eq!(play.act(2, FIRST, get()), [answer(2, items(&["c"]))]);
    assert_eq!(word.left(), 0, "the worker must ask for the next one");
    assert_eq!(play.act(1, FIRST, get()), [answer(1, items(&["d"]))], "a recall resets the number");
}

#[test]
fn the_host_sees_what_is_ahead_as_if_it_were_in_the_queue() {
    let (mut play, word) = play(queue(None));
    play.act(1, FIRST, get());
    assert_eq!(len(&mut play), 6);
    assert_eq!(word.left(), 0);
    play.act(1, FIRST, get());
    play.act(1, FIRST, get());
    assert_eq!(word.left(), 1);
    take(&word);
    assert_eq!(len(&mut play), 3);
}

#[test]
fn x7_a_member_that_dies_gives_back_the_last_that_it_took_and_all_that_it_did_not() {
    for (taken, expected) in [
        (0, [again(&["d"]), items(&["e"]), items(&["f"])]),
        (1, [again(&["e"]), items(&["f"]), items(&["g"])]),
        (2, [again(&["f"]), items(&["g"]), items(&["h"])]),
    ] {
        let (mut play, word) = play(queue(None));
        play.act(1, FIRST, get());
        take(&word);
        assert_eq!(play.act(1, FIRST, get()), [answer(1, items(&["d", "e", "f"]))]);
        (0..taken).for_each(|_| take(&word));
        play.gone(1);
        for item in expected {
            assert_eq!(play.host(1, get(), None), [answer_host(play.last_ticket, item)]);
        }
    }
}

#[test]
fn the_end_of_a_task_gives_back_what_it_did_not_take_and_keeps_what_it_took() {
    let (mut play, word) = play(queue(None));
    play.act(1, FIRST, get());
    take(&word);
    play.act(1, FIRST, get());
    take(&word);
    play.ended(1, 1);
    assert_eq!(play.host(1, get_many(9), None), [answer_host(play.last_ticket, items(&["f", "g", "h"]))]);
    play.gone(1);
    assert_eq!(len(&mut play), 0);
}

#[test]
fn a_task_that_is_cancelled_has_nothing_ahead() {
    let (mut play, word) = play(queue(None));
    play.act(1, FIRST, get());
    play.on(Event::Cancelled { member: 1, tasks: 1 });
    assert_eq!(word.left(), 0);
    assert_eq!(play.act(1, FIRST, get()), [answer(1, Answer::Cancelled)]);
}

#[test]
fn other_requests_of_the_task_leave_what_it_has_ahead() {
    let (mut play, word) = play(queue(None));
    play.act(1, FIRST, get());
    play.act(1, FIRST + 1, Act::Acquire);
    play.act(1, FIRST, put(&["i"]));
    assert_eq!(word.left(), 1);
}

#[test]
fn x7_a_post_acknowledges_what_was_taken_before_it_and_not_what_was_taken_since() {
    // The member has taken two in its life when the post is read: one before the last get, one since.
    for (taken, expected) in [(1, vec![again(&["e"]), items(&["f"])]), (2, vec![items(&["f"])])] {
        let (mut play, word) = play(queue(None));
        play.act(1, FIRST, get());
        take(&word);
        play.act(1, FIRST, get());
        take(&word);
        play.on(Event::Posted { member: 1, task: 1, taken, object: FIRST, items: vec![] });
        play.gone(1);
        for item in expected {
            assert_eq!(play.host(1, get(), None), [answer_host(play.last_ticket, item)]);
        }
    }
}

#[test]
fn x16_a_number_that_no_worker_of_ours_writes_harms_that_worker_alone() {
    for lie in [2, 7, u32::MAX] {
        let (mut play, word) = play(queue(None));
        play.act(1, FIRST, get());
        word.set(lie);
        assert_eq!(play.act(2, FIRST, get_many(9)), [answer(2, items(&["c", "d", "e", "f", "g", "h"]))]);
        word.set(lie);
        play.gone(1);
        assert_eq!(play.host(1, get_many(9), None), [answer_host(play.last_ticket, again(&["b"]))]);
    }
}
