//! Queues over threads of the host.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wpool::ipc::{IpcError, JoinableQueue, Queue, SimpleQueue};

use crate::support::time_bound;
use crate::{A_MOMENT, FOR_EVER, elsewhere, takes_a_moment};

#[test]
fn q1_items_come_in_their_order_and_those_of_several_producers_interleave() {
    let _bound = time_bound();
    const EACH: u32 = 200;
    let queue = Queue::<(u32, u32)>::unbounded();
    let producers: Vec<_> = (0..4)
        .map(|producer| {
            let queue = queue.clone();
            elsewhere(move || (0..EACH).for_each(|n| queue.put(&(producer, n)).unwrap()))
        })
        .collect();
    let mut next = [0; 4];
    for _ in 0..4 * EACH {
        let (producer, n) = queue.get().unwrap();
        assert_eq!(n, next[producer as usize]);
        next[producer as usize] += 1;
    }
    producers.into_iter().for_each(|producer| producer.join().unwrap());
    assert_eq!(next, [EACH; 4]);
}

#[test]
fn q1_many_at_once_keep_their_order() {
    let _bound = time_bound();
    let queue = Queue::<u32>::unbounded();
    let items: Vec<u32> = (0..10_000).collect();
    queue.put_many(&items).unwrap();
    let mut got = Vec::new();
    while got.len() < items.len() {
        got.extend(queue.get_many(3_000).unwrap().into_iter().map(Result::unwrap));
    }
    assert_eq!(got, items);
    assert_eq!(queue.get_many(0).unwrap(), []);
    assert_eq!(queue.get_many_timeout(5, A_MOMENT), Err(IpcError::Empty));
}

#[test]
fn q2_a_full_queue_makes_put_wait_or_is_full() {
    let _bound = time_bound();
    let queue = Queue::<u32>::bounded(2);
    queue.put(&1).unwrap();
    assert_eq!(queue.try_put(&2), Ok(()));
    assert_eq!(queue.try_put(&3), Err(IpcError::Full));
    assert_eq!(takes_a_moment(|| queue.put_timeout(&3, A_MOMENT)), Err(IpcError::Full));
    let waiting = elsewhere({
        let queue = queue.clone();
        move || queue.put(&3)
    });
    assert_eq!(queue.get(), Ok(1));
    assert_eq!(waiting.join().unwrap(), Ok(()));
    assert_eq!([queue.get(), queue.get()], [Ok(2), Ok(3)]);
}

#[test]
fn q2_putting_many_tells_how_many_were_put_in_time() {
    let _bound = time_bound();
    let queue = Queue::<u32>::bounded(3);
    assert_eq!(queue.put_many_timeout(&[1, 2, 3, 4, 5], A_MOMENT), Ok(3));
    assert_eq!(queue.put_many_timeout(&[4, 5], Duration::ZERO), Err(IpcError::Full));
    let waiting = elsewhere({
        let queue = queue.clone();
        move || queue.put_many(&[4, 5])
    });
    let got: Vec<u32> = (0..5).map(|_| queue.get().unwrap()).collect();
    assert_eq!(got, [1, 2, 3, 4, 5]);
    assert_eq!(waiting.join().unwrap(), Ok(()));
}

#[test]
fn q3_an_empty_queue_makes_get_wait_or_is_empty() {
    let _bound = time_bound();
    let queue = Queue::<u32>::unbounded();
    assert_eq!(queue.try_get(), Err(IpcError::Empty));
    assert_eq!(queue.get_timeout(Duration::ZERO), Err(IpcError::Empty));
    assert_eq!(takes_a_moment(|| queue.get_timeout(A_MOMENT)), Err(IpcError::Empty));
    let waiting = elsewhere({
        let queue = queue.clone();
        move || (queue.get(), queue.get_timeout(FOR_EVER))
    });
    queue.put_many(&[7, 8]).unwrap();
    assert_eq!(waiting.join().unwrap(), (Ok(7), Ok(8)));
}

#[test]
fn q4_the_numbers_of_items_are_exact() {
    let queue = Queue::<String>::bounded(2);
    assert!((queue.is_empty(), queue.is_full(), queue.len()) == (true, false, 0));
    queue.put(&"a".to_owned()).unwrap();
    assert!((queue.is_empty(), queue.is_full(), queue.len()) == (false, false, 1));
    queue.put(&"b".to_owned()).unwrap();
    assert!((queue.is_empty(), queue.is_full(), queue.len()) == (false, true, 2));
    queue.get().unwrap();
    assert!((queue.is_empty(), queue.is_full(), queue.len()) == (false, false, 1));
    assert_eq!((queue.max_len(), queue.is_closed()), (Some(2), false));
}

#[test]
fn q5_a_queue_without_a_limit_of_items_has_one_of_bytes() {
    let _bound = time_bound();
    assert_eq!(Queue::<u32>::unbounded().max_len(), None);
    let queue = Queue::<Vec<u8>>::with_limits(None, 100);
    queue.put(&vec![0; 60]).unwrap();
    assert_eq!(queue.try_put(&vec![0; 60]), Err(IpcError::Full));
    queue.put(&vec![0; 40]).unwrap();
    let Err(IpcError::TooLarge(why)) = queue.put(&vec![0; 101]) else { panic!("it was put") };
    assert!(why.contains("100 bytes at most"), "{why}");
    // A queue of no items would take none.
    assert_eq!(Queue::<u32>::bounded(0).max_len(), Some(1));
}

#[test]
fn q6_after_put_the_item_is_there() {
    let queue = Queue::<u32>::unbounded();
    for n in 0..1_000 {
        queue.put(&n).unwrap();
        assert!(!queue.is_empty());
        assert_eq!(queue.try_get(), Ok(n));
    }
}

#[test]
fn q7_a_producer_can_be_joined_before_its_items_are_taken() {
    let _bound = time_bound();
    let queue = Queue::<Vec<u8>>::unbounded();
    let producer = elsewhere({
        let queue = queue.clone();
        move || queue.put(&vec![7; 1 << 20])
    });
    assert_eq!(producer.join().unwrap(), Ok(()));
    assert_eq!(queue.get().unwrap().len(), 1 << 20);
}

#[test]
fn q8_an_item_that_cannot_be_sent_is_an_error_of_put() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Unsendable;
    impl Serialize for Unsendable {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("it is not to be sent"))
        }
    }
    let queue = Queue::<Unsendable>::bounded(1);
    let Err(IpcError::Encode(why)) = queue.put(&Unsendable) else { panic!("it was put") };
    assert_eq!((why.as_str(), queue.len()), ("it is not to be sent", 0));
}

#[test]
fn q9_a_closed_queue_takes_nothing_and_gives_what_is_in_it() {
    let _bound = time_bound();
    let queue = Queue::<u32>::bounded(2);
    queue.put_many(&[1, 2]).unwrap();
    let waiting = elsewhere({
        let queue = queue.clone();
        move || queue.put(&3)
    });
    queue.close().unwrap();
    queue.close().unwrap();
    assert_eq!(waiting.join().unwrap(), Err(IpcError::Closed));
    assert_eq!((queue.put(&3), queue.try_put(&3)), (Err(IpcError::Closed), Err(IpcError::Closed)));
    assert!((queue.is_closed(), queue.is_empty(), queue.len()) == (true, false, 2));
    assert_eq!(queue.iter().collect::<Vec<_>>(), [Ok(1), Ok(2)]);
    assert_eq!((queue.get(), queue.try_get()), (Err(IpcError::Closed), Err(IpcError::Closed)));
}

#[test]
fn q9_close_wakes_those_that_wait_for_an_item() {
    let _bound = time_bound();
    let queue = Queue::<u32>::unbounded();
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let queue = queue.clone();
            elsewhere(move || queue.get())
        })
        .collect();
    queue.close().unwrap();
    waiting.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), Err(IpcError::Closed)));
}

#[test]
fn q13_join_waits_until_the_work_for_each_item_is_reported() {
    let _bound = time_bound();
    let queue = JoinableQueue::<u32>::bounded(10);
    queue.join().unwrap();
    queue.put_many(&[1, 2, 3]).unwrap();
    assert_eq!(takes_a_moment(|| queue.join_timeout(A_MOMENT)), Err(IpcError::TimedOut));
    let worker = elsewhere({
        let queue = queue.clone();
        move || {
            for _ in 0..3 {
                queue.get().unwrap();
                queue.task_done().unwrap();
            }
        }
    });
    queue.join().unwrap();
    worker.join().unwrap();
    let Err(IpcError::Invalid(why)) = queue.task_done() else { panic!("there was nothing to report") };
    assert!(why.contains("fewer unfinished items"), "{why}");
}

#[test]
fn q14_a_simple_queue_is_closed_twice() {
    let queue = SimpleQueue::<String>::new();
    assert!(queue.empty());
    queue.put(&"a".to_owned()).unwrap();
    assert!(!queue.empty());
    queue.close().unwrap();
    queue.close().unwrap();
    assert_eq!(queue.get(), Ok("a".to_owned()));
    assert!(queue.empty());
    assert_eq!(queue.get(), Err(IpcError::Closed));
}

#[test]
fn x10_a_storm_of_producers_never_holds_more_than_the_queue_may() {
    let _bound = time_bound();
    let queue = Queue::<u32>::bounded(3);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let queue = &queue;
            scope.spawn(move || (0..50).for_each(|_| queue.put(&n).unwrap()));
        }
        for _ in 0..400 {
            assert!(queue.len() <= 3);
            queue.get().unwrap();
        }
    });
    assert!(queue.is_empty());
}
