//! The worker's end of the second socket, with the coordinator's end in the hands of the test.

use std::time::Duration;

use super::*;
use crate::protocol::connection::{self, Carrier};
use crate::spec::exchange::{Bytes, Code};
use crate::spec::lease::Lease;
use crate::sys::{CoordinatorPage, ExchangePage};

fn ask(op: Op) -> Ask {
    ask_in(300, op)
}

fn ask_in(task: u64, op: Op) -> Ask {
    Ask { task, timeout: Some(Duration::from_millis(7)), left: None, op }
}

fn put(items: Vec<Bytes>) -> Ask {
    ask(Op::On { object: 1, act: Act::Put { items } })
}

#[test]
fn items_that_are_written_one_by_one_are_read_as_one_request() {
    let (long, longer) = (vec![7; 127], vec![8; 20_000]);
    let cases: [Vec<&[u8]>; 5] = [vec![], vec![b""], vec![b"a", &long, b""], vec![&longer], vec![b"x"; 300]];
    for items in cases {
        let mut draft = vec![];
        serialize_put(&put(vec![]), items.iter().copied(), &mut draft);
        let whole = put(items.iter().map(|item| Bytes(item.to_vec())).collect());
        assert_eq!(draft, postcard::to_allocvec(&whole).unwrap());
        assert_eq!(postcard::from_bytes::<Ask>(&draft).unwrap(), whole);
    }
}

/// A link with a page of its own.
fn link_on(socket: OwnedFd, spins: bool) -> (Link, ExchangePage) {
    let (page, fd) = CoordinatorPage::create().unwrap();
    let its_own = Arc::new(WorkerPage::open(fd).unwrap());
    (Link::new(Arc::new(socket), its_own, spins), page.exchange())
}

/// A link, and what answers it with these answers in turn. It gives what was asked.
fn answered(answers: Vec<Answer>) -> (Link, std::thread::JoinHandle<Vec<String>>) {
    let (ours, theirs) = connection::pair().unwrap();
    (link_on(theirs, true).0, answering(ours, answers))
}

fn answering(ours: OwnedFd, answers: Vec<Answer>) -> std::thread::JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let mut connection = Connection::new(ours, Caps::IDLE);
        let mut heard = Vec::new();
        let mut answers = answers.into_iter();
        while let Ok(frame) = connection.recv() {
            if frame.kind == Kind::Ended {
                heard.push(format!("ended {:?}", frame.payload));
                continue;
            }
            heard.push(format!("{:?}", postcard::from_bytes::<Ask>(frame.payload).unwrap().op));
            let Some(answer) = answers.next() else { break };
            let mut bytes = Vec::new();
            frame::write(&mut bytes, Kind::Answer, |out| {
                out.extend(postcard::to_allocvec(&answer).unwrap());
            });
            connection.send(&bytes).unwrap();
        }
        heard
    })
}

fn open(task: u64, name: &str) -> Ask {
    ask_in(task, Op::Open { kind: ObjectKind::Queue, name: name.to_owned() })
}

#[test]
fn an_object_is_opened_once_in_the_life_of_a_worker_and_a_refusal_is_asked_again() {
    let refused = Answer::Failed { code: Code::NotGranted, message: "no".to_owned() };
    let opened = Answer::Opened { object: 5 };
    let (link, exchange) = answered(vec![opened.clone(), refused.clone(), refused.clone()]);
    for _ in 0..3 {
        assert_eq!(link.ask(open(2, "a")).unwrap(), opened);
    }
    for _ in 0..2 {
        assert_eq!(link.ask(open(2, "b")).unwrap(), refused);
    }
    drop(link);
    assert_eq!(exchange.join().unwrap().len(), 3);
}

#[test]
fn x6_a_task_with_credit_puts_without_an_answer_until_the_queue_is_closed() {
    let (ours, theirs) = connection::pair().unwrap();
    let (link, page) = link_on(theirs, false);
    let closed = || Answer::Failed { code: Code::Closed, message: String::new() };
    let say = |socket: &mut OwnedFd, kind, payload: &[u8]| {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, kind, |out| out.extend_from_slice(payload));
        socket.send(&bytes).unwrap();
    };
    let credit = |credit: u64| [&1u32.to_le_bytes()[..], &credit.to_le_bytes()].concat();
    let answer = |answer: &Answer| postcard::to_allocvec(answer).unwrap();
    let item = || [&b"item"[..]].into_iter();
    let (revoke, revoked) = std::sync::mpsc::channel();
    let exchange = std::thread::spawn(move || {
        let mut sender = ours.try_clone().unwrap();
        let mut connection = Connection::new(ours, Caps::IDLE);
        let mut kinds = Vec::new();
        while let Ok(frame) = connection.recv() {
            kinds.push(frame.kind);
            match kinds.len() {
                1 => {
                    say(&mut sender, Kind::Credit, &credit(2 * cost(4)));
                    say(&mut sender, Kind::Answer, &answer(&Answer::Count(1)));
                }
                2 => {
                    page.notify();
                    say(&mut sender, Kind::Credit, &credit(0));
                    revoke.send(()).unwrap();
                }
                3 => say(&mut sender, Kind::Answer, &answer(&closed())),
                _ => {}
            }
        }
        kinds
    });
    for _ in 0..2 {
        assert_eq!(link.put(&put(vec![]), item()).unwrap(), Answer::Count(1));
    }
    revoked.recv().unwrap();
    assert_eq!(link.put(&put(vec![]), item()).unwrap(), closed(), "although there was credit");
    link.end_task(true);
    drop(link);
    assert_eq!(exchange.join().unwrap(), [Kind::Ask, Kind::Post, Kind::Ask, Kind::Ended]);
}

/// A link to which object 1 is leased, and its page.
fn leased(answers: Vec<Answer>) -> (Link, ExchangePage, std::thread::JoinHandle<Vec<String>>) {
    let (ours, theirs) = connection::pair().unwrap();
    let (link, page) = link_on(theirs, false);
    page.give_lease(1, Lease::Free.to_word().unwrap());
    (link, page, answering(ours, answers))
}

#[test]
fn l1_l6_what_is_leased_needs_no_message_until_it_is_taken_back() {
    let (link, page, exchange) = leased(vec![]);
    for is_recursive in [false, true] {
        assert_eq!(link.is_locked(1), Some(false));
        assert_eq!(link.acquire(1, 7, is_recursive), Some(false));
        assert_eq!(link.is_locked(1), Some(true));
        assert_eq!(link.acquire(1, 7, is_recursive), is_recursive.then_some(false));
        assert!(!is_recursive || link.release(1, 7));
        assert!(link.release(1, 7) && !link.release(1, 7));
    }
    link.acquire(1, 8, false);
    link.end_task(true);
    assert_eq!(link.acquire(1, 9, false), Some(true), "the owner before has not released it");
    assert!(link.release(1, 9));
    assert_eq!(Lease::from_word(page.take_lease(1)), Lease::Free);
    let asks = (link.acquire(1, 9, false), link.release(1, 9), link.is_locked(1));
    assert_eq!(asks, (None, false, None));
    for object in [0, 2, 63, 64, u32::MAX] {
        assert_eq!(link.acquire(object, 9, false), None);
    }
    link.end_task(true);
    drop(link);
    assert!(exchange.join().unwrap().is_empty());
}

#[test]
fn l9_a_task_that_held_a_lock_when_its_lease_was_taken_back_tells_its_end() {
    let (link, page, exchange) = leased(vec![Answer::Flag(true)]);
    link.acquire(1, 7, false);
    assert_eq!(Lease::from_word(page.take_lease(1)), Lease::Held { task: 7, count: 1 });
    link.end_task(true);
    // One that has released it before has nothing to tell.
    page.give_lease(1, Lease::Free.to_word().unwrap());
    link.acquire(1, 8, false);
    link.release(1, 8);
    page.take_lease(1);
    link.end_task(true);
    drop(link);
    let heard = exchange.join().unwrap();
    let ended = format!("ended {:?}", [7, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!((heard.len(), heard[0].contains("Status"), &heard[1]), (2, true, &ended));
}

#[test]
fn x6_what_a_task_puts_before_it_releases_a_leased_lock_is_read_before_the_release() {
    let (mut ours, theirs) = connection::pair().unwrap();
    let (link, page) = link_on(theirs, false);
    page.give_lease(1, Lease::Free.to_word().unwrap());
    let mut credit = Vec::new();
    frame::write(&mut credit, Kind::Credit, |out| {
        out.extend([&1u32.to_le_bytes()[..], &1000u64.to_le_bytes()].concat());
    });
    Carrier::send(&mut ours, &credit).unwrap();
    let exchange = answering(ours, vec![Answer::Count(1)]);
    let item = || [&b"item"[..]].into_iter();
    link.put(&put(vec![]), item()).unwrap();
    link.acquire(1, 300, false);
    assert!(link.release(1, 300), "the put was answered");
    link.acquire(1, 300, false);
    link.put(&put(vec![]), item()).unwrap();
    assert!(!link.release(1, 300), "this one was not");
    drop(link);
    assert_eq!(exchange.join().unwrap().len(), 2);
}

#[test]
fn x7_items_that_came_ahead_are_taken_without_asking_until_they_are_taken_back() {
    let (mut ours, theirs) = connection::pair().unwrap();
    let (link, page) = link_on(theirs, false);
    let item = |text: &str| Item { data: Bytes(text.as_bytes().to_vec()), redelivered: false };
    let items = |texts: &[&str]| Answer::Items { items: texts.iter().map(|text| item(text)).collect() };
    let mut say = |answer: &Answer| {
        let mut bytes = Vec::new();
        let answer = postcard::to_allocvec(answer).unwrap();
        frame::write(&mut bytes, Kind::Answer, |out| out.extend_from_slice(&answer));
        ours.send(&bytes).unwrap();
    };
    let on = |object, act| link.ask(ask(Op::On { object, act })).unwrap();
    let get = |most, longest| on(1, Act::Get { most, longest });
    say(&items(&["a", "b", "c", "longer", "d"]));
    page.set_ahead(4);
    assert_eq!(get(1, 9), items(&["a"]));
    assert_eq!((get(1, 9), get(1, 9)), (items(&["b"]), items(&["c"])));
    assert_eq!(page.ahead(), 2);
    // Another object, several items, or an item that is too long for the caller: these need an answer.
    for (answer, act) in [(&items(&["e"]), Act::Get { most: 2, longest: 9 }), (&Answer::Done, Act::Join)] {
        say(answer);
        assert_eq!(&on(1, act), answer);
    }
    assert_eq!(on(1, Act::Poll), Answer::Flag(true), "without asking");
    say(&items(&["f"]));
    assert_eq!(on(2, Act::Get { most: 1, longest: 9 }), items(&["f"]));
    say(&items(&["g"]));
    assert_eq!(get(1, 3), items(&["g"]));
    assert_eq!(page.take_ahead(), 2, "none of these has taken one");
    say(&items(&["longer"]));
    assert_eq!(get(1, 9), items(&["longer"]), "it asks again");
    say(&items(&["h", "i"]));
    page.set_ahead(1);
    assert_eq!(get(1, 9), items(&["h"]));
    link.end_task(true);
    say(&items(&["j"]));
    assert_eq!(get(1, 9), items(&["j"]), "the next task has nothing ahead");
    drop(link);
    let mut heard = Connection::new(ours, Caps::IDLE);
    let mut kinds = Vec::new();
    while let Ok(frame) = heard.recv() {
        kinds.push(frame.kind);
    }
    assert_eq!(kinds.iter().filter(|kind| **kind == Kind::Ask).count(), 8);
}

#[test]
fn the_end_is_told_of_a_task_that_has_asked_and_of_no_other() {
    let (link, exchange) = answered(vec![Answer::Opened { object: 0 }, Answer::Count(1)]);
    link.end_task(true);
    link.ask(open(2, "a")).unwrap();
    link.end_task(true);
    // This one uses what the worker knows already.
    link.ask(open(3, "a")).unwrap();
    link.end_task(true);
    link.put(&put(vec![]), [&b"x"[..]].into_iter()).unwrap();
    link.end_task(false);
    link.end_task(false);
    drop(link);
    let heard = exchange.join().unwrap();
    let ended = |task: u64, has_returned: u8| {
        let mut payload = task.to_le_bytes().to_vec();
        payload.push(has_returned);
        format!("ended {payload:?}")
    };
    assert_eq!((heard.len(), &heard[1], &heard[3]), (4, &ended(2, 1), &ended(300, 0)));
}

#[test]
fn a_coordinator_that_is_gone_is_no_answer_and_neither_is_another_frame() {
    let (link, exchange) = answered(vec![]);
    assert!(matches!(link.ask(open(2, "a")), Err(Unanswered::Gone)));
    assert_eq!(exchange.join().unwrap().len(), 1);
    assert!(matches!(link.ask(open(2, "a")), Err(Unanswered::Gone)));
    link.end_task(true);

    for (kind, payload) in [(Kind::Control, &[0][..]), (Kind::Answer, &[0xff])] {
        let (mut ours, theirs) = connection::pair().unwrap();
        let mut bytes = Vec::new();
        frame::write(&mut bytes, kind, |out| out.extend_from_slice(payload));
        ours.send(&bytes).unwrap();
        let (link, _page) = link_on(theirs, false);
        assert!(matches!(link.ask(open(2, "a")), Err(Unanswered::Nonsense)));
    }
}
