//! Guests use shared objects: what they see, and what the end of their task leaves behind.
//!
//! A record is a program for the guest `support/guests/exchange.wat`, whose text says how.

#[path = "support/methods.rs"]
mod methods;
mod support;

use std::time::Duration;

use methods::over_all_start_methods;
use support::command::{run, scratch, wpool};
use support::{exchange_guest, wait_until, wat};
use wpool::events::WorkerState;
use wpool::ipc::{Queue, Value, pipe};
use wpool::sync::{Barrier, Condition, Event, Lock, RLock, Semaphore};
use wpool::{Func, Isolation, Limits, Policy, Pool, PoolBuilder, StartMethod, TaskError};

fn builder(policy: Policy, method: StartMethod, processes: usize) -> PoolBuilder {
    Pool::builder(&exchange_guest()).policy(policy).start_method(method).processes(processes)
}

fn program(pool: &Pool) -> Func<Vec<u8>, Vec<u8>> {
    pool.func("run").unwrap()
}

/// What a task gives, or its error.
fn outcome(pool: &Pool, text: &str) -> String {
    match pool.apply(&program(pool), text.as_bytes().to_vec()) {
        Ok(given) => String::from_utf8(given).unwrap(),
        Err(TaskError::Failed { message }) => format!("error: {message}"),
        Err(error) => format!("error: {error}"),
    }
}

over_all_start_methods! {
    every_kind_of_object_is_used_by_a_guest_and_by_the_host
    l9_what_a_task_holds_at_its_end_is_released_however_it_ends
    an_item_for_which_the_guest_has_no_room_stays_in_its_queue
    tasks_meet_at_a_barrier_and_wake_each_other
    x2_what_is_not_granted_cannot_be_opened
}

fn every_kind_of_object_is_used_by_a_guest_and_by_the_host(method: StartMethod) {
    let (queue, lock, rlock, semaphore) =
        (Queue::<String>::bounded(3), Lock::new(), RLock::new(), Semaphore::new(2));
    let (event, condition, value) = (Event::new(), Condition::new(), Value::<i64>::new(&0).unwrap());
    let (dict, (near, far)) = (wpool::ipc::Dict::<String>::new(), pipe::<String>());
    let policy = Policy::sealed()
        .share("q0", &queue)
        .share("l0", &lock)
        .share("r0", &rlock)
        .share("s0", &semaphore)
        .share("e0", &event)
        .share("k0", &condition)
        .share("v0", &value)
        .share("d0", &dict)
        .share("c0", &far);
    let pool = builder(policy, method, 1).build().unwrap();
    let given = |text: &str| outcome(&pool, text);

    assert_eq!(given("Pabc"), "3");
    assert_eq!((queue.get().unwrap(), queue.len()), ("a".to_owned(), 2));
    assert_eq!(given("gyG"), "b100,c");
    assert!(given(".g").starts_with("error: 1 "));
    queue.put(&"again".to_owned()).unwrap();
    assert_eq!(given("gy"), "again000");

    assert_eq!(given("LaLrL"), "fctf");
    assert_eq!(given("AARR"), "cc");
    assert_eq!(given("=+=+=--="), "2102");
    assert_eq!(given("i.wsi;wu"), "fftt");
    assert!(!event.is_set());
    assert_eq!(given("k;WnNK"), "cf");
    assert_eq!(given("vvV"), "122");
    assert_eq!(value.add(5).unwrap(), 7);
    assert_eq!(given("TESFTDnext"), "0,key1:new");
    assert_eq!(dict.get("key").unwrap().as_deref(), Some("next"));
    assert_eq!(given("EXT"), ":next:next0");

    near.send(&"hello".to_owned()).unwrap();
    assert_eq!(given(".?%<?"), "t1hellof");
    near.send(&"hello".to_owned()).unwrap();
    assert!(given("(").starts_with("error: 4 "));
    assert_eq!(given(">back"), "");
    assert_eq!(near.recv().unwrap(), "back");
    near.close().unwrap();
    assert!(given("<").starts_with("error: 3 "));
}

fn l9_what_a_task_holds_at_its_end_is_released_however_it_ends(method: StartMethod) {
    let (lock, rlock, condition, semaphore) =
        (Lock::new(), RLock::new(), Condition::new(), Semaphore::new(1));
    let policy = Policy::sealed()
        .share("l0", &lock)
        .share("r0", &rlock)
        .share("k0", &condition)
        .share("s0", &semaphore);
    let limits = Limits::default().time(Duration::from_secs(1));
    for isolation in [Isolation::Fresh, Isolation::Reuse] {
        let pool = builder(policy.clone(), method, 1).limits(limits.clone()).isolation(isolation).build();
        let pool = pool.unwrap();
        let index = || pool.workers()[0].index;
        assert_eq!(outcome(&pool, ""), "");
        let first = index();
        // It returns, fails, traps, loops until its time is over, or waits so long.
        for end in ["", "rr", "z", "o", "a"] {
            let ended = outcome(&pool, &format!("aAAk+{end}"));
            assert_eq!(ended.starts_with("error: "), !end.is_empty(), "{end}: {ended}");
            assert_eq!((lock.locked(), semaphore.value()), (false, 1), "{end}");
            let next = outcome(&pool, "arAAAkK");
            let expected = if end == "rr" { "cdccd" } else { "ddccd" };
            assert_eq!(next, expected, "after {end}");
        }
        assert_eq!(index(), first, "the worker lives on");
    }
}

fn an_item_for_which_the_guest_has_no_room_stays_in_its_queue(method: StartMethod) {
    let queue = Queue::<Vec<u8>>::unbounded();
    let limits = Limits::default().memory(4 << 20);
    let pool = builder(Policy::sealed().share("q0", &queue), method, 1).limits(limits).build().unwrap();
    queue.put(&vec![b'x'; 5 << 20]).unwrap();
    for get in ["g", "G"] {
        assert!(outcome(&pool, get).starts_with("error: 4 "));
        assert_eq!(queue.len(), 1);
    }
    assert_eq!(queue.get().unwrap().len(), 5 << 20);
    // Together they would be too long.
    queue.put_many(&vec![vec![b'x'; 600 << 10]; 3]).unwrap();
    assert_eq!(outcome(&pool, "G").len(), (600 << 10) + 1);
    assert_eq!(queue.len(), 2);
}

fn tasks_meet_at_a_barrier_and_wake_each_other(method: StartMethod) {
    let (barrier, event) = (Barrier::new(3), Event::new());
    let policy = Policy::sealed().share("b0", &barrier).share("e0", &event);
    let pool = builder(policy, method, 3).build().unwrap();
    let mut numbers = pool.map(&program(&pool), [b"b".to_vec(), b"b".to_vec(), b"b".to_vec()]).unwrap();
    numbers.sort();
    assert_eq!(numbers, [b"0", b"1", b"2"]);
    let given = pool.map(&program(&pool), [b"w".to_vec(), b"w".to_vec(), b"s".to_vec()]).unwrap();
    assert_eq!(given, [&b"t"[..], b"t", b""]);
}

fn x2_what_is_not_granted_cannot_be_opened(method: StartMethod) {
    let (queue, lock) = (Queue::<String>::unbounded(), Lock::new());
    let policy = Policy::sealed().share("q1", &queue).share("q0", &lock);
    let pool = builder(policy, method, 1).build().unwrap();
    // There is a lock of that name, which does not count.
    let error = outcome(&pool, "g");
    assert!(error.starts_with("error: 0 ") && error.contains("q0") && !error.contains("q1"), "{error}");
    assert_eq!(outcome(&pool, "1phello"), "");
    assert_eq!(queue.get().unwrap(), "hello");
}

#[test]
fn x4_a_worker_that_waits_uses_no_processor_time() {
    let _bound = support::time_bound();
    for method in [StartMethod::Forkserver, StartMethod::Spawn] {
        let event = Event::new();
        let pool = builder(Policy::sealed().share("e0", &event), method, 1).build().unwrap();
        let waiting = pool.apply_async(&program(&pool), b"w".to_vec());
        wait_until("it waits", Duration::from_secs(30), || {
            pool.workers().first().is_some_and(|worker| worker.state == WorkerState::Busy)
        });
        let pid = pool.workers()[0].pid;
        wait_until("waiting costs next to nothing", Duration::from_secs(30), || {
            let before = support::cpu_ticks(pid);
            std::thread::sleep(Duration::from_millis(500));
            support::cpu_ticks(pid) - before <= 1
        });
        assert!(!waiting.ready());
        event.set();
        assert_eq!(waiting.get().unwrap(), b"t");
    }
}

/// Sockets that a process has. Only root may look into a worker: for others it is not known.
fn sockets(pid: u32) -> Option<usize> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let is_socket = |path: &std::path::Path| {
        std::fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
    };
    Some(fds.filter(|fd| is_socket(&fd.path())).count())
}

#[test]
fn x1_only_a_worker_whose_guest_uses_shared_objects_has_a_second_socket() {
    let _bound = support::time_bound();
    let types = r#"(component
        (import "wpool:ipc/errors@0.1.0" (instance
            (type $c (enum "not-granted" "timed-out" "closed" "eof" "too-large" "invalid" "broken" "deadlock"))
            (export "code" (type (eq $c)))))
        (core module $m (func (export "answer") (result i32) (i32.const 42)))
        (core instance $i (instantiate $m))
        (func (export "answer") (result u32) (canon lift (core func $i "answer"))))"#;
    for method in [StartMethod::Forkserver, StartMethod::Spawn] {
        let count = |pool: Pool| {
            wait_until("a worker is there", Duration::from_secs(30), || !pool.workers().is_empty());
            sockets(pool.workers()[0].pid)
        };
        let plain = Pool::builder(&wat(types)).start_method(method).processes(1).build().unwrap();
        assert_eq!(plain.apply(&plain.func::<(), u32>("answer").unwrap(), ()), Ok(42));
        let plain = count(plain);
        let using = builder(Policy::sealed(), method, 1).build().unwrap();
        assert_eq!(outcome(&using, ""), "");
        assert_eq!(count(using), plain.map(|plain| plain + 1), "{method:?}");
    }
}

#[test]
fn x1_imports_of_shared_objects_are_shown_and_unknown_functions_in_them_are_refused() {
    let dir = scratch();
    let file = |text: &str| {
        let path = dir.path().join("module.wat");
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let text = std::fs::read_to_string(support::repo("tests/support/guests/exchange.wat")).unwrap();
    let shown = String::from_utf8(run(wpool(["inspect", &file(&text)])).stdout).unwrap();
    for interface in ["wpool:ipc/queues@0.1.0", "wpool:sync/barriers@0.1.0"] {
        assert!(shown.contains(&format!("  {interface}  ")), "{shown}");
    }
    assert!(!shown.contains("MISSING"), "{shown}");

    let unknown = r#"(component
        (import "wpool:sync/events@0.1.0" (instance (export "teleport" (func))))
        (core module $m (func (export "answer") (result i32) (i32.const 42)))
        (core instance $i (instantiate $m))
        (func (export "answer") (result u32) (canon lift (core func $i "answer"))))"#;
    let unknown = file(unknown);
    let refused = run(wpool(["call", &unknown, "answer"]));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(said.contains("wpool:sync/events@0.1.0#teleport"), "{said}");
    let trapping = run(wpool(["call", &unknown, "answer", "--unknown-imports", "trap"]));
    assert_eq!(String::from_utf8(trapping.stdout).unwrap(), "42\n");

    let core =
        r#"(module (import "wpool:ipc/queues@0.1.0" "[static]queue.open" (func)) (func (export "f")))"#;
    assert_eq!(run(wpool(["call", &file(core), "f"])).status.code(), Some(2));
}
