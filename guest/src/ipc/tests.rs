//! The forms of items, and the objects within one process.

use std::thread;
use std::time::Duration;

use super::*;
use crate::testing::share;

/// A time-out that passes in a test.
const SHORT: Duration = Duration::from_millis(2);

/// The bytes of this item.
fn bytes<T>(item: impl AsItem<T>) -> Vec<u8> {
    item.bytes().unwrap().into_owned()
}

fn read<T: Transfer>(bytes: &[u8]) -> Result<T, String> {
    T::decode(bytes.to_vec()).map_err(|error| {
        assert_eq!(error.kind(), ErrorKind::Decode);
        error.to_string()
    })
}

#[test]
fn text_and_bytes_are_items_as_they_are() {
    let text = String::from("größe \"1\"");
    assert_eq!(bytes::<String>(&text), text.as_bytes());
    assert_eq!(bytes::<String>(text.as_str()), text.as_bytes());
    assert_eq!(read::<String>(text.as_bytes()), Ok(text));
    assert_eq!(bytes::<Vec<u8>>(vec![0, 255]), [0, 255]);
    assert_eq!(bytes::<Vec<u8>>(&[0, 255]), [0, 255]);
    assert_eq!(read::<Vec<u8>>(&[0, 255]), Ok(vec![0, 255]));
    assert_eq!(read::<String>(b"ab\xff"), Err("the item is not UTF-8 text: byte 2".into()));
}

#[test]
fn numbers_are_items_as_their_text() {
    assert_eq!(bytes::<u64>(3), b"3");
    assert_eq!(bytes::<i8>(&-3), b"-3");
    assert_eq!(bytes::<bool>(true), b"true");
    assert_eq!(read::<u64>(b"18446744073709551615"), Ok(u64::MAX));
    assert!(read::<u8>(b"256").is_err());
}

#[cfg(feature = "json")]
#[test]
fn other_types_are_json() {
    #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
    struct Page {
        name: String,
        links: Vec<u32>,
    }
    let page = Page { name: "a".into(), links: vec![1, 2] };
    let json = bytes::<Page>(&page);
    assert_eq!(String::from_utf8(json.clone()).unwrap(), r#"{"name":"a","links":[1,2]}"#);
    assert_eq!(read::<Page>(&json), Ok(page));
    let message = "the item is not JSON of its type: missing field `links` at line 1 column 12";
    assert_eq!(read::<Page>(br#"{"name":"a"}"#), Err(message.into()));
    let pairs = std::collections::BTreeMap::from([((1_u8, 2_u8), 3_u8)]);
    let error = pairs.bytes().unwrap_err();
    assert_eq!(error.message(), "the item cannot be written as JSON: key must be a string");
}

/// Makes an object, and opens it by its name.
macro_rules! shared {
    ($object:literal, $type:ty) => {{
        share($object);
        let (_, name) = $object.split_once(':').unwrap();
        <$type>::open(name.split('=').next().unwrap()).unwrap()
    }};
}

#[test]
fn an_item_of_a_queue_is_got_in_the_order_in_which_it_was_put() {
    let queue = shared!("queue:order=3", Queue<String>);
    queue.put("a").unwrap();
    queue.try_put("b").unwrap();
    queue.put_timeout("c", SHORT).unwrap();
    assert!(queue.is_full().unwrap());
    assert_eq!((queue.len().unwrap(), queue.max_len().unwrap()), (3, Some(3)));
    assert!(queue.try_put("d").unwrap_err().is_timed_out());
    assert!(queue.put_timeout("d", SHORT).unwrap_err().is_timed_out());
    assert_eq!(queue.get().unwrap(), "a");
    assert_eq!(queue.get_delivery(None).unwrap(), Delivery { item: "b".into(), redelivered: false });
    assert_eq!(queue.try_get().unwrap(), "c");
    assert!(queue.try_get().unwrap_err().is_timed_out());
    assert!(queue.get_delivery(Some(SHORT)).unwrap_err().is_timed_out());
    assert!(queue.get_timeout(SHORT).unwrap_err().is_timed_out());
    assert!(queue.is_empty().unwrap());
}

#[test]
fn many_items_go_through_a_small_queue() {
    let queue = shared!("queue:many=3", Queue<u32>);
    assert_eq!(queue.try_put_many(0..5).unwrap(), 3);
    assert_eq!(queue.get_many(2).unwrap(), [0, 1]);
    assert_eq!(queue.get_many(9).unwrap(), [2]);
    assert!(queue.get_many_timeout(9, SHORT).unwrap_err().is_timed_out());
    let numbers = 0..10_000;
    let got = thread::scope(|scope| {
        scope.spawn(|| {
            let queue = Queue::<u32>::open("many").unwrap();
            queue.put_many(numbers.clone()).unwrap();
            queue.close().unwrap();
        });
        queue.iter().collect::<Result<Vec<_>, _>>().unwrap()
    });
    assert!(got.into_iter().eq(numbers));
}

#[test]
fn what_is_in_a_closed_queue_can_be_taken() {
    let queue = shared!("queue:closed", SimpleQueue<String>);
    queue.put("a").unwrap();
    queue.close().unwrap();
    queue.close().unwrap();
    assert!(queue.put("b").unwrap_err().is_closed());
    assert!(!queue.empty().unwrap());
    assert_eq!(queue.get().unwrap(), "a");
    assert!(queue.get().unwrap_err().is_closed());
    let again = Queue::<String>::open("closed").unwrap();
    assert!(again.is_closed().unwrap());
    assert!(again.put_many(["b"]).unwrap_err().is_closed());
    assert_eq!(again.iter().count(), 0);
}

#[test]
fn an_iterator_goes_on_after_an_item_of_another_type() {
    let queue = shared!("queue:typed", Queue<String>);
    queue.put_many(["1", "one", "2"]).unwrap();
    queue.close().unwrap();
    let numbers = Queue::<u32>::open("typed").unwrap();
    let got: Vec<_> = numbers.iter().map(|number| number.map_err(|error| error.kind())).collect();
    assert_eq!(got, [Ok(1), Err(ErrorKind::Decode), Ok(2)]);
}

#[test]
fn a_queue_is_joined_once_each_item_is_done() {
    let queue = shared!("jqueue:jobs", JoinableQueue<String>);
    queue.put_many(&["a", "b"]).unwrap();
    assert_eq!(queue.unfinished().unwrap(), 2);
    assert!(queue.join_timeout(SHORT).unwrap_err().is_timed_out());
    for _ in 0..2 {
        queue.get().unwrap();
        queue.task_done().unwrap();
    }
    queue.join().unwrap();
    assert_eq!(queue.task_done().unwrap_err().kind(), ErrorKind::Invalid);
    let plain = shared!("queue:plain", JoinableQueue<String>);
    assert_eq!(plain.join().unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn messages_keep_their_boundaries_until_the_end_of_the_pipe() {
    share("pipe:ends");
    let [parent, child] = ["ends.a", "ends.b"].map(|end| Connection::<String>::open(end).unwrap());
    assert!(!child.poll(Duration::ZERO).unwrap());
    assert!(child.try_recv().unwrap_err().is_timed_out());
    for message in ["one", "", "too long"] {
        parent.send(message).unwrap();
    }
    assert!(child.poll(Duration::ZERO).unwrap());
    assert_eq!([child.recv().unwrap(), child.recv_timeout(SHORT).unwrap()], ["one", ""]);
    assert_eq!(child.recv_max(4).unwrap_err().kind(), ErrorKind::TooLarge);
    assert!(!child.poll(SHORT).unwrap());
    child.try_send("back").unwrap();
    child.send_timeout("again", SHORT).unwrap();
    child.close().unwrap();
    child.close().unwrap();
    assert_eq!(parent.recv().unwrap(), "back");
    assert!(parent.send("more").unwrap_err().is_closed());
    assert_eq!(parent.recv().unwrap(), "again");
    assert!(parent.recv().unwrap_err().is_eof());
}

#[test]
fn several_objects_are_waited_for_at_once() {
    let queue = shared!("queue:waited", Queue<String>);
    share("pipe:other");
    let end = Connection::<u64>::open("other.a").unwrap();
    assert!(wait(&[&queue, &end], Some(SHORT)).unwrap().is_empty());
    Connection::<u64>::open("other.b").unwrap().send(1).unwrap();
    assert_eq!(wait(&[&queue, &end], None).unwrap(), [1]);
    queue.close().unwrap();
    assert_eq!(wait(&[&queue, &end], None).unwrap(), [0, 1]);
    assert_eq!(wait(&[], None).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_value_is_a_number_or_bytes() {
    let number = shared!("value:number=3", Value<i64>);
    assert_eq!(number.add(4).unwrap(), 7);
    assert_eq!(number.compare_exchange(7, 8).unwrap(), 7);
    assert_eq!(number.compare_exchange(7, 9).unwrap(), 8);
    number.set(i64::MAX).unwrap();
    assert_eq!(number.add(1).unwrap(), i64::MIN);
    let text = shared!("value:text=a", Value<String>);
    assert_eq!(text.compare_exchange("a", "b").unwrap(), "a");
    assert_eq!(text.get().unwrap(), "b");
    let message = "the value is bytes, not a number";
    assert_eq!(Value::<i64>::open("text").unwrap().get().unwrap_err().message(), message);
    let message = "the value is a number, not bytes";
    assert_eq!(Value::<String>::open("number").unwrap().get().unwrap_err().message(), message);
}

#[test]
fn entries_of_a_dict_are_exchanged_in_one_step() {
    let dict = shared!("dict:entries", Dict<String>);
    assert!(dict.is_empty().unwrap());
    assert_eq!(dict.put("b", "1").unwrap(), None);
    assert_eq!(dict.put("a", "2").unwrap(), None);
    assert_eq!(dict.put("a", "3").unwrap().as_deref(), Some("2"));
    assert_eq!(dict.keys().unwrap(), ["a", "b"]);
    assert_eq!(dict.len().unwrap(), 2);
    assert_eq!(dict.remove("b").unwrap().as_deref(), Some("1"));
    assert_eq!(dict.get("b").unwrap(), None);
    let (three, four) = (String::from("3"), String::from("4"));
    assert_eq!(dict.compare_exchange("a", Some(&three), Some(&four)).unwrap(), Some(three.clone()));
    assert_eq!(dict.compare_exchange("a", Some(&three), None).unwrap(), Some(four));
    assert_eq!(dict.compare_exchange("b", Some(&three), None).unwrap(), None);
}

#[test]
fn no_update_of_an_entry_is_lost() {
    share("dict:sums");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let sums = Dict::<u64>::open("sums").unwrap();
                for _ in 0..1000 {
                    sums.update("all", |sum| Some(sum.unwrap_or(0) + 1)).unwrap();
                }
            });
        }
    });
    assert_eq!(Dict::<u64>::open("sums").unwrap().get("all").unwrap(), Some(4000));
}

#[test]
fn an_object_that_is_not_shared_cannot_be_opened() {
    let error = Queue::<String>::open("nowhere").unwrap_err();
    assert!(error.is_not_granted());
    assert_eq!(error.to_string(), "\"nowhere\" is not shared with this worker");
    share("lock:nowhere");
    assert!(Queue::<String>::open("nowhere").unwrap_err().is_not_granted());
}

#[test]
fn a_text_that_describes_no_object_is_told() {
    for (text, message) in [
        ("queue", "\"queue\" has no KIND:NAME"),
        ("list:a", "\"list\" in \"list:a\" is no kind of object"),
        ("queue:a=many", "\"many\" in \"queue:a=many\" is no number from 1 on"),
        ("semaphore:a=0", "\"0\" in \"semaphore:a=0\" is no number from 1 on"),
        ("barrier:a", "\"barrier:a\" needs its parties: barrier:NAME=PARTIES"),
    ] {
        assert_eq!(crate::local::share(text), Err(message.into()));
    }
}
