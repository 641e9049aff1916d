//! Values, dicts, and what a policy shares.

use wpool::ipc::{Dict, IpcError, Queue, Value, pipe, simplex_pipe};
use wpool::policy::Shareable;
use wpool::sync::{Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore};
use wpool::{BuildError, Policy, Pool};

use crate::support::{guest, time_bound};

#[test]
fn a_number_is_changed_by_many_at_once() {
    let _bound = time_bound();
    let value = Value::<i64>::new(&i64::MAX).unwrap();
    assert_eq!(value.add(1), Ok(i64::MIN));
    value.set(&0).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..100).for_each(|_| drop(value.add(1))));
        }
    });
    assert_eq!(value.get(), Ok(800));
    assert_eq!((value.compare_exchange(&1, &2), value.get()), (Ok(800), Ok(800)));
    assert_eq!((value.compare_exchange(&800, &2), value.get()), (Ok(800), Ok(2)));
}

#[test]
fn a_value_of_another_type_is_kept_as_it_is() {
    let value = Value::<Option<String>>::new(&None).unwrap();
    assert_eq!(value.get(), Ok(None));
    value.set(&Some("a".to_owned())).unwrap();
    assert_eq!(value.compare_exchange(&Some("a".to_owned()), &None), Ok(Some("a".to_owned())));
    assert_eq!(value.get(), Ok(None));
}

#[test]
fn a_dict_has_entries_by_key() {
    let dict = Dict::<String>::new();
    let text = |text: &str| text.to_owned();
    assert!(dict.is_empty());
    assert_eq!((dict.put("b", &text("1")), dict.put("a", &text("2"))), (Ok(None), Ok(None)));
    assert_eq!((dict.put("b", &text("3")), dict.get("b")), (Ok(Some(text("1"))), Ok(Some(text("3")))));
    assert_eq!((dict.keys(), dict.len()), (Ok(vec![text("a"), text("b")]), 2));
    assert_eq!((dict.remove("a"), dict.remove("a")), (Ok(Some(text("2"))), Ok(None)));
    assert_eq!(dict.compare_exchange("b", Some(&text("1")), None), Ok(Some(text("3"))));
    assert_eq!(dict.compare_exchange("b", Some(&text("3")), None), Ok(Some(text("3"))));
    assert_eq!((dict.get("b"), dict.len()), (Ok(None), 0));
}

#[test]
fn x10_a_dict_is_bounded_in_entries_and_bytes() {
    let dict = Dict::<Vec<u8>>::with_limits(2, 100);
    dict.put("a", &vec![0; 50]).unwrap();
    let too_large = |put: Result<Option<Vec<u8>>, IpcError>| matches!(put, Err(IpcError::TooLarge(_)));
    assert!(too_large(dict.put("b", &vec![0; 60])));
    dict.put("b", &vec![]).unwrap();
    assert!(too_large(dict.put("c", &vec![])));
    assert!(too_large(dict.put(&"k".repeat(10_000), &vec![])));
    assert_eq!((dict.put("a", &vec![1]), dict.len()), (Ok(Some(vec![0; 50])), 2));
}

#[test]
fn every_object_can_be_cloned_sent_and_shared() {
    fn is_usable<T: Clone + Send + Sync + std::fmt::Debug + 'static>(object: T) -> T {
        assert!(!format!("{object:?}").is_empty());
        object.clone()
    }
    fn share(
        policy: Policy,
        object: impl Shareable + Clone + Send + Sync + std::fmt::Debug + 'static,
    ) -> Policy {
        policy.share("it", &is_usable(object))
    }
    let policy = share(Policy::sealed(), Queue::<std::rc::Rc<u8>>::unbounded());
    let policy = share(policy, pipe::<String>().0);
    let policy = share(policy, Value::<i64>::new(&1).unwrap());
    let policy = share(share(share(policy, Dict::<u32>::new()), Lock::new()), RLock::new());
    let policy = share(share(share(policy, Semaphore::new(1)), Event::new()), Condition::new());
    let policy = share(policy, Barrier::new(2));
    // Each kind has names of its own.
    Pool::builder(&guest("upper")).policy(policy.clone()).build().unwrap();
    for (again, kind) in
        [share(policy.clone(), BoundedSemaphore::new(1)), share(policy.clone(), simplex_pipe::<u32>().0)]
            .into_iter()
            .zip(["semaphore", "connection"])
    {
        let said = refusal(again);
        assert!(said.contains(&format!("the shared {kind} \"it\"")) && said.contains("already"), "{said}");
    }
}

fn refusal(policy: Policy) -> String {
    match Pool::builder(&guest("upper")).policy(policy).build() {
        Err(error @ BuildError::Policy { .. }) => error.to_string(),
        other => panic!("it was not refused: {other:?}"),
    }
}

#[test]
fn a_name_that_guests_cannot_use_and_a_deterministic_run_are_refused() {
    let lock = Lock::new();
    for name in [String::new(), "a\nb".to_owned(), "x".repeat(257)] {
        let said = refusal(Policy::sealed().share(name, &lock));
        assert!(said.contains("the shared lock") && said.contains("1 to 256 bytes"), "{said}");
    }
    let said = refusal(Policy::sealed().deterministic().share("db", &lock));
    assert!(said.contains("\"db\"") && said.contains("deterministic"), "{said}");
    assert_eq!(Policy::sealed().share("a", &lock), Policy::sealed().share("a", &lock.clone()));
    assert_ne!(Policy::sealed().share("a", &lock), Policy::sealed().share("a", &Lock::new()));
}
