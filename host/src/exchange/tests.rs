//! Members whose workers are sockets in the hands of the test.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use super::core::event::ObjectSpec;
use super::host::{HostHandle, make};
use super::member::{Member, Notes, Share, Shares, Site};
use crate::protocol::connection::{self, Connection, RecvError};
use crate::protocol::frame::{self, Caps, Kind};
use crate::spec::exchange::{Act, Answer, Ask, Bytes, Code, Op};
use crate::spec::lease::Lease;
use crate::sys::{CoordinatorPage, ExchangePage};

/// A worker's end of its second socket.
struct Worker {
    connection: Connection<OwnedFd>,
    page: ExchangePage,
    member: Option<Member>,
    stalls: Receiver<()>,
    faults: Receiver<String>,
    _site: Site,
}

impl Worker {
    fn new(objects: &[&HostHandle]) -> Worker {
        let share = |handle: &&HostHandle| Share { name: "x".to_owned(), object: handle.object().clone() };
        let site = Site::new(Shares::new(objects.iter().map(share)), 1);
        let ((stall, stalls), (fault, faults)) = (channel(), channel());
        let notes = Notes {
            on_stall: Box::new(move || stall.send(()).unwrap_or(())),
            on_fault: Box::new(move |reason| fault.send(reason).unwrap_or(())),
        };
        let (ours, theirs) = connection::pair().unwrap();
        let (page, _its_own) = CoordinatorPage::create().unwrap();
        let member = Some(site.join(ours, page.exchange(), "Worker-1", notes).unwrap());
        let connection = Connection::new(theirs, Caps { result: usize::MAX, other: usize::MAX });
        Worker { connection, page: page.exchange(), member, stalls, faults, _site: site }
    }

    fn say(&mut self, kind: Kind, payload: &[u8]) {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, kind, |out| out.extend_from_slice(payload));
        self.connection.send(&bytes).unwrap();
    }

    fn ask(&mut self, task: u64, act: Act) {
        let op = Op::On { object: 0, act };
        let ask = Ask { task, timeout: None, left: None, op };
        self.say(Kind::Ask, &postcard::to_allocvec(&ask).unwrap());
    }

    /// What the lease says that it has of its first object.
    fn lease(&mut self) -> Lease {
        let word = self.page.take_lease(0);
        self.page.give_lease(0, word);
        Lease::from_word(word)
    }

    /// Makes a step with its first object.
    fn step(&mut self, lease: Lease) {
        self.page.give_lease(0, lease.to_word().unwrap());
    }

    fn end(&mut self, task: u64) {
        if let Lease::Held { .. } = self.lease() {
            self.step(Lease::Died);
        }
        self.end_as(task, true);
    }

    fn end_as(&mut self, task: u64, has_returned: bool) {
        let mut payload = task.to_le_bytes().to_vec();
        payload.push(u8::from(has_returned));
        self.say(Kind::Ended, &payload);
    }

    fn answer(&mut self) -> Answer {
        loop {
            let frame = self.connection.recv().unwrap();
            match frame.kind {
                Kind::Credit => {}
                kind => {
                    assert_eq!(kind, Kind::Answer);
                    return postcard::from_bytes(frame.payload).unwrap();
                }
            }
        }
    }

    fn does(&mut self, task: u64, act: Act) -> Answer {
        self.ask(task, act);
        self.answer()
    }

    fn is_shut_out(&mut self) -> bool {
        matches!(self.connection.recv(), Err(RecvError::Closed | RecvError::Io(_)))
    }
}

fn queue() -> HostHandle {
    make(ObjectSpec::Queue { max_len: None, max_bytes: 1 << 30, joinable: false })
}

fn put(item: &[u8]) -> Act {
    Act::Put { items: vec![Bytes(item.to_vec())] }
}

const GET: Act = Act::Get { most: 1, longest: 1 << 26 };
const AT_ONCE: Option<Duration> = Some(Duration::ZERO);

/// The items of an answer, a redelivered one behind a `!`.
fn items(answer: Answer) -> Vec<Vec<u8>> {
    let Answer::Items { items } = answer else { panic!("{answer:?}") };
    let told = |item: crate::spec::exchange::Item| {
        if item.redelivered { [b"!", &item.data.0[..]].concat() } else { item.data.0 }
    };
    items.into_iter().map(told).collect()
}

#[test]
fn what_a_member_puts_a_thread_gets_and_the_other_way_round() {
    let queue = queue();
    let mut worker = Worker::new(&[&queue]);
    assert_eq!(worker.does(1, put(b"a")), Answer::Count(1));
    assert_eq!(items(queue.call(GET, AT_ONCE)), [b"a"]);
    worker.ask(1, GET);
    worker.stalls.recv().unwrap();
    assert_eq!(queue.call(put(b"b"), None), Answer::Count(1));
    assert_eq!(items(worker.answer()), [b"b"]);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| items(queue.call(GET, None)));
        assert_eq!(worker.does(2, put(b"c")), Answer::Count(1));
        assert_eq!(waiting.join().unwrap(), [b"c"]);
    });
}

#[test]
fn a_thread_waits_for_its_own_time_and_no_longer() {
    let queue = queue();
    for timeout in [Duration::ZERO, Duration::from_millis(5)] {
        let answer = queue.call(GET, Some(timeout));
        assert!(matches!(answer, Answer::Failed { code: Code::TimedOut, .. }), "{answer:?}");
    }
}

#[test]
fn x7_what_a_member_got_and_has_not_acknowledged_is_back_when_it_is_gone() {
    let queue = queue();
    for (acknowledges, left) in [(true, &b"b"[..]), (false, b"!a")] {
        for item in [b"a", b"b"] {
            queue.call(put(item), None);
        }
        let mut worker = Worker::new(&[&queue]);
        assert_eq!(items(worker.does(1, GET)), [b"a"]);
        if acknowledges {
            worker.end(1);
        }
        worker.member = None;
        assert_eq!(items(queue.call(GET, AT_ONCE)), [left]);
        while matches!(queue.call(GET, AT_ONCE), Answer::Items { .. }) {}
    }
}

#[test]
fn x6_what_is_in_the_socket_of_a_worker_that_is_gone_is_put() {
    let queue = queue();
    for _ in 0..100 {
        let mut worker = Worker::new(&[&queue]);
        worker.ask(1, put(b"a"));
        worker.member = None;
        assert_eq!(items(queue.call(GET, AT_ONCE)), [b"a"]);
        // The end of the socket alone says as much, once it is heard.
        let mut worker = Worker::new(&[&queue]);
        worker.ask(1, put(&[b'b'; 300_000]));
        let (_none, gone) = connection::pair().unwrap();
        worker.connection = Connection::new(gone, Caps::IDLE);
        assert_eq!(items(queue.call(GET, None))[0].len(), 300_000);
    }
}

#[test]
fn the_end_of_a_task_is_heard_by_the_thread_that_asks_next() {
    let lock = make(ObjectSpec::Lock);
    let mut worker = Worker::new(&[&lock]);
    for task in 1..500 {
        assert_eq!(worker.does(task, Act::Acquire), Answer::Acquired { owner_died: false });
        worker.end(task);
        assert_eq!(lock.call(Act::Acquire, AT_ONCE), Answer::Acquired { owner_died: true });
        assert_eq!(lock.call(Act::Release { count: 1 }, None), Answer::Done);
    }
}

#[test]
fn l4_a_leased_lock_is_taken_back_by_a_thread_that_asks_about_it() {
    let lock = make(ObjectSpec::Lock);
    let (release, clean) = (Act::Release { count: 1 }, Answer::Acquired { owner_died: false });
    let mut worker = Worker::new(&[&lock]);
    for task in 1..100 {
        assert_eq!(worker.lease(), Lease::None);
        assert_eq!(worker.does(task, Act::Acquire), clean);
        assert_eq!(worker.lease(), Lease::Held { task, count: 1 });
        worker.step(Lease::Free);
        assert_eq!(lock.call(Act::Status, AT_ONCE), Answer::Flag(false));
        assert_eq!(worker.does(task, Act::Acquire), clean);
        assert_eq!(lock.call(Act::Status, AT_ONCE), Answer::Flag(true));
        assert_eq!(worker.lease(), Lease::None);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| lock.call(Act::Acquire, None));
            assert_eq!(worker.does(task, release.clone()), Answer::Done);
            assert_eq!(waiting.join().unwrap(), clean);
        });
        assert_eq!(lock.call(release.clone(), None), Answer::Done);
    }
}

#[test]
fn l8_the_state_of_a_lease_counts_when_its_worker_is_gone() {
    let lock = make(ObjectSpec::RLock);
    let cases = [(Lease::Free, false), (Lease::Died, true), (Lease::Held { task: 7, count: 3 }, true)];
    for (lease, owner_died) in cases {
        for is_told in [false, true] {
            let mut worker = Worker::new(&[&lock]);
            worker.does(1, Act::Acquire);
            worker.step(lease);
            if is_told {
                worker.say(Kind::Control, b"");
                worker.faults.recv().unwrap();
            } else {
                worker.member = None;
            }
            assert_eq!(lock.call(Act::Acquire, AT_ONCE), Answer::Acquired { owner_died }, "{lease:?}");
            assert_eq!(lock.call(Act::Release { count: 1 }, None), Answer::Done);
        }
    }
}

/// Waits for an answer to one of them. Gives whether it is to the first.
fn is_answered_first(first: &Worker, second: &Worker) -> bool {
    let [first, second] = [first, second].map(|it| PollFd::new(it.connection.carrier(), PollFlags::IN));
    let mut fds = [first, second];
    rustix::event::poll(&mut fds, None).unwrap();
    !fds[0].revents().is_empty()
}

#[test]
fn x16_whatever_a_worker_writes_over_its_leases_two_others_never_hold_one_lock() {
    let lock = make(ObjectSpec::Lock);
    let release = || Act::Release { count: 1 };
    let mut others = [Worker::new(&[&lock]), Worker::new(&[&lock])];
    for seed in 0..200u64 {
        let mut worker = Worker::new(&[&lock]);
        worker.does(1, Act::Acquire);
        let word = seed
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left((seed % 64).try_into().expect("it is below 64"));
        (0..70).for_each(|place| worker.page.give_lease(place, word));
        for other in &mut others {
            other.ask(seed + 1, Act::Acquire);
        }
        // It may hold the lock as long as it lives, and no longer.
        worker.member = None;
        let [first, second] = &mut others;
        let at_once = matches!(lock.call(Act::Acquire, AT_ONCE), Answer::Failed { code: Code::TimedOut, .. });
        assert!(at_once, "another holds it");
        // They have asked at the same time: one of the two has the lock.
        let (first, second) =
            if is_answered_first(first, second) { (first, second) } else { (second, first) };
        assert!(matches!(first.answer(), Answer::Acquired { .. }));
        assert_eq!(first.does(seed + 1, release()), Answer::Done);
        assert_eq!(second.answer(), Answer::Acquired { owner_died: false });
        second.step(Lease::Free);
    }
}

#[test]
fn an_answer_that_the_socket_does_not_take_at_once_is_sent_piece_by_piece() {
    let queue = queue();
    let mut worker = Worker::new(&[&queue]);
    let long: Vec<u8> = (0..20_000_000u32).map(|n| n.to_le_bytes()[1]).collect();
    queue.call(put(&long), None);
    worker.ask(1, GET);
    // Meanwhile others have what they ask for.
    let mut other = Worker::new(&[&queue]);
    assert_eq!(other.does(1, put(b"x")), Answer::Count(1));
    assert!(items(worker.answer()) == [long.clone()]);
    // And the other way.
    std::thread::scope(|scope| {
        let putting = scope.spawn(|| worker.does(1, put(&long)));
        assert_eq!(items(queue.call(GET, None)), [b"x"]);
        assert!(items(queue.call(GET, None)) == [long.clone()]);
        assert_eq!(putting.join().unwrap(), Answer::Count(1));
    });
}

#[test]
fn x16_a_worker_that_breaks_the_protocol_is_shut_out_and_the_others_go_on() {
    let queue = queue();
    let mut other = Worker::new(&[&queue]);
    let whole = |kind: u8, payload: &[u8]| {
        let len = u32::try_from(payload.len()).unwrap();
        [&len.to_le_bytes()[..], &[kind], payload].concat()
    };
    let ask = |object| {
        let op = Op::On { object, act: GET };
        postcard::to_allocvec(&Ask { task: 1, timeout: None, left: None, op }).unwrap()
    };
    let deeds = [
        whole(99, b""),
        whole(1, b"{}"),
        whole(40, b""),
        whole(32, b"\xff\xff"),
        whole(32, &ask(1)),
        [whole(32, &ask(0)), whole(32, &ask(0))].concat(),
        // A frame that begins while the worker waits is never read to its end.
        [whole(32, &ask(0)), vec![0, 0, 0, 1, 32]].concat(),
        whole(33, &[0; 8]),
        vec![0xff, 0xff, 0xff, 0xff, 32],
    ];
    for deed in deeds {
        // A queue without items: a request of it waits.
        let empty = self::queue();
        let mut worker = Worker::new(&[&empty]);
        let _may_be_shut_out = worker.connection.send(&deed);
        assert!(worker.faults.recv().unwrap().contains("second socket"));
        assert!(worker.is_shut_out());
        assert_eq!(other.does(1, put(b"x")), Answer::Count(1));
    }
}

#[test]
fn a_member_whose_wait_is_cancelled_is_told_so() {
    let queue = queue();
    let mut worker = Worker::new(&[&queue]);
    worker.ask(3, GET);
    worker.stalls.recv().unwrap();
    let cancel = |until| worker.member.as_ref().unwrap().cancel_until(until);
    cancel(2);
    cancel(3);
    assert_eq!(worker.answer(), Answer::Cancelled);
    queue.call(put(b"a"), None);
    assert_eq!(worker.does(3, GET), Answer::Cancelled);
    worker.end(3);
    assert_eq!(items(worker.does(4, GET)), [b"a"]);
}

#[test]
fn threads_and_members_in_great_numbers_lose_nothing() {
    let queue = make(ObjectSpec::Queue { max_len: Some(3), max_bytes: 1 << 20, joinable: false });
    let mut workers: Vec<Worker> = (0..100).map(|_| Worker::new(&[&queue])).collect();
    std::thread::scope(|scope| {
        for chunk in workers.chunks_mut(25) {
            scope.spawn(|| {
                for round in 1..=20 {
                    for worker in &mut *chunk {
                        worker.ask(round, put(b"i"));
                    }
                    for worker in &mut *chunk {
                        assert_eq!(worker.answer(), Answer::Count(1));
                    }
                }
            });
        }
        let getting: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..500).map(|_| items(queue.call(GET, None)).len()).sum::<usize>()))
            .collect();
        assert_eq!(getting.into_iter().map(|it| it.join().unwrap()).sum::<usize>(), 2000);
    });
    assert!(matches!(queue.call(GET, AT_ONCE), Answer::Failed { code: Code::TimedOut, .. }));
}

/// Many turns of the thread, so that it does not watch the socket any more.
#[test]
fn posts_that_do_not_wake_the_thread_are_heard_before_anything_else_is_done() {
    let queue = queue();
    let [mut producer, mut other] = [Worker::new(&[&queue]), Worker::new(&[&queue])];
    assert_eq!(producer.does(1, put(b"first")), Answer::Count(1));
    let post = |producer: &mut Worker, number: u32| {
        let op = Op::On { object: 0, act: put(&number.to_le_bytes()) };
        let ask = Ask { task: 1, timeout: None, left: None, op };
        let payload = [0u64.to_le_bytes().to_vec(), postcard::to_allocvec(&ask).unwrap()].concat();
        producer.say(Kind::Post, &payload);
    };
    assert_eq!(items(queue.call(GET, AT_ONCE)), [b"first"]);
    for number in 0..300 {
        post(&mut producer, number);
        // Each third is read by the host, each third by another member, each third by the thread.
        match number % 3 {
            0 => assert_eq!(items(queue.call(GET, AT_ONCE)), [number.to_le_bytes()]),
            1 => assert_eq!(items(other.does(1, GET)), [number.to_le_bytes()]),
            _ => {
                let status = queue.call(Act::Status, None);
                assert!(matches!(status, Answer::Queue(status) if status.len == 1));
                assert_eq!(items(queue.call(GET, None)), [number.to_le_bytes()]);
            }
        }
    }
    (0..300).for_each(|number| post(&mut producer, number));
    for number in 0u32..300 {
        assert_eq!(items(other.does(1, GET))[0], number.to_le_bytes());
        // What came ahead goes back.
        assert!(matches!(queue.call(Act::Status, None), Answer::Queue(_)));
    }
    (0..10).for_each(|number| post(&mut producer, number));
    drop(producer);
    for number in 0u32..10 {
        assert_eq!(items(queue.call(GET, AT_ONCE)), [number.to_le_bytes()]);
    }
}
