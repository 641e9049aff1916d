//! The same objects in the hands of guests, over every start method. The guest `exchange` does what its
//! records say.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use wpool::ipc::{Dict, IpcError, JoinableQueue, Queue, Value, pipe};
use wpool::sync::{Barrier, Condition, Event, Lock, RLock, Semaphore, SyncError};
use wpool::{AsyncResult, Func, Limit, Limits, Policy, Pool, Process, StartMethod, Target, TaskError};

use crate::FOR_EVER;
use crate::support::{guest, pids, signal, wait_until};

/// A pool whose tasks are scripts.
pub(crate) struct Scripts {
    pub(crate) pool: Pool,
    run: Func<String, String>,
}

impl Scripts {
    pub(crate) fn new(policy: Policy, method: StartMethod) -> Scripts {
        Scripts::with(policy, method, |builder| builder)
    }

    pub(crate) fn with(
        policy: Policy,
        method: StartMethod,
        more: impl FnOnce(wpool::PoolBuilder) -> wpool::PoolBuilder,
    ) -> Scripts {
        let builder = Pool::builder(&guest("exchange")).processes(3).start_method(method).policy(policy);
        let pool = more(builder).build().unwrap();
        let run = pool.func("run").unwrap();
        Scripts { pool, run }
    }

    #[track_caller]
    pub(crate) fn gives(&self, script: &str, result: &str) {
        assert_eq!(self.pool.apply(&self.run, script.to_owned()).unwrap(), result, "{script}");
    }

    pub(crate) fn start(&self, script: &str) -> AsyncResult<String> {
        self.pool.apply_async(&self.run, script.to_owned())
    }
}

pub(crate) fn sealed() -> Policy {
    Policy::sealed()
}

fn process(script: &str, policy: Policy, method: StartMethod) -> Process {
    let target = Target::func("run").arg(script);
    let builder = Process::builder(&guest("exchange")).target(target).policy(policy).start_method(method);
    let mut process = builder.build().unwrap();
    process.start().unwrap();
    process
}

/// Tasks that loop end by this.
pub(crate) fn limited() -> Limits {
    let mut limits = Limits::default();
    limits.time = Some(Duration::from_millis(300));
    limits
}

macro_rules! over_start_methods {
    (every { $($every:ident)* } processes { $($process:ident)* }) => {
        $crate::guests::over_start_methods!(@ forkserver Forkserver $($every)* $($process)*);
        $crate::guests::over_start_methods!(@ spawn Spawn $($every)* $($process)*);
        $crate::guests::over_start_methods!(@ thread Thread $($every)*);
    };
    (@ $module:ident $method:ident $($name:ident)*) => {
        mod $module {
            $(#[test]
            fn $name() {
                let _bound = crate::support::time_bound();
                super::$name(wpool::StartMethod::$method)
            })*
        }
    };
}
pub(crate) use over_start_methods;

over_start_methods! {
    every {
        x2_an_object_that_is_not_granted_cannot_be_opened
        q1_q4_q13_guests_put_and_get
        q2_q3_a_guests_time_outs
        q7_a_process_is_joined_before_its_items_are_taken
        q8_an_item_of_another_type_costs_no_other
        x11_q9_close_wakes_the_guests_that_wait
        c2_c12_d8_p49_a_process_answers_over_a_pipe
        q11_c11_what_was_used_before_goes_to_a_guest_with_what_is_in_it
        l1_l6_locks_of_a_guest
        l9_the_next_owner_is_told_of_a_task_that_ended_without_release
        l10_a_guests_units_come_back
        l11_l12_the_host_wakes_guests
        l13_guests_and_the_host_meet_at_a_barrier
        l14_a_cancel_gets_out_of_a_wait
        values_and_dicts_are_the_same_for_all
        x13_x19_one_queue_serves_two_pools_a_process_and_the_host
        x18_a_feed_ends_when_all_is_done
        x18_a_feed_ends_though_tasks_fail_and_are_tried_again
    }
    processes {
        q12_a_killed_producer_damages_nothing
        c14_a_killed_sender_leaves_whole_messages
        l8_a_killed_owner_leaves_nothing_locked
        q7_a_killed_feeder_takes_nothing_with_it
        x18_a_feed_ends_though_its_workers_are_killed
    }
}

fn x2_an_object_that_is_not_granted_cannot_be_opened(method: StartMethod) {
    let scripts = Scripts::new(sealed().share("mine", &Queue::<String>::unbounded()), method);
    // Neither another name, nor the same name of another kind.
    scripts.gives("catch len other; catch acquire lock:mine; len mine", "NotGranted NotGranted 0");
    let error = scripts.start("len other").get().unwrap_err().to_string();
    assert!(error.contains("other") && !error.contains("mine"), "{error}");
}

fn q1_q4_q13_guests_put_and_get(method: StartMethod) {
    let jobs = JoinableQueue::<String>::bounded(5);
    let scripts = Scripts::new(sealed().share("jobs", &jobs), method);
    scripts.gives("put jobs a; put-many jobs b c; len jobs; is-full jobs", "3 false");
    assert_eq!((jobs.len(), jobs.get()), (3, Ok("a".to_owned())));
    scripts.gives("get jobs; get-many jobs 7; len jobs; unfinished jobs", "b c 0 3");
    scripts.gives("task-done jobs; task-done jobs", "");
    let joining = scripts.start("join jobs; say joined");
    jobs.task_done().unwrap();
    assert_eq!(joining.get().unwrap(), "joined");
    scripts.gives("catch task-done jobs", "Invalid");
}

fn q2_q3_a_guests_time_outs(method: StartMethod) {
    let jobs = Queue::<String>::bounded(1);
    let scripts = Scripts::new(sealed().share("jobs", &jobs), method);
    scripts.gives("catch get@0 jobs; catch get@20 jobs; put jobs a", "TimedOut TimedOut");
    scripts.gives("catch put@0 jobs b; catch put@20 jobs b; get jobs", "TimedOut TimedOut a");
    let waiting = scripts.start("get jobs");
    jobs.put(&"late".to_owned()).unwrap();
    assert_eq!(waiting.get().unwrap(), "late");
}

/// CPython: a process that has put items does not end before they are taken, so that joining it first waits
/// for ever ("Joining processes that use queues", a dead-lock of the documentation).
fn q7_a_process_is_joined_before_its_items_are_taken(method: StartMethod) {
    let queue = Queue::<String>::unbounded();
    let long = "x".repeat(1 << 20);
    let mut producer = process(&format!("put q {long}"), sealed().share("q", &queue), method);
    assert_eq!(producer.join().unwrap().exitcode, 0);
    drop(producer);
    assert!(queue.get().unwrap() == long);
}

/// CPython: the thread that feeds a queue dies with its process, and what it has not written is lost.
fn q7_a_killed_feeder_takes_nothing_with_it(method: StartMethod) {
    let queue = Queue::<String>::unbounded();
    let mut producer = process("put q a; put q b; loop", sealed().share("q", &queue), method);
    wait_until("both are put", FOR_EVER, || queue.len() == 2);
    producer.kill().unwrap();
    producer.join().unwrap();
    assert_eq!([queue.get(), queue.get()], [Ok("a".to_owned()), Ok("b".to_owned())]);
}

fn q8_an_item_of_another_type_costs_no_other(method: StartMethod) {
    let numbers = Queue::<u32>::unbounded();
    let scripts = Scripts::new(sealed().share("numbers", &numbers), method);
    scripts.gives("put-many numbers 1 x 3", "");
    let got = numbers.get_many(10).unwrap();
    assert_eq!((&got[0], &got[2]), (&Ok(1), &Ok(3)));
    assert!(matches!(&got[1], Err(IpcError::Decode { data, .. }) if data == b"x"), "{:?}", got[1]);
}

/// CPython warns: "if a process is killed while it is trying to use a Queue, then the data in the queue is
/// likely to become corrupted".
fn q12_a_killed_producer_damages_nothing(method: StartMethod) {
    let queue = Queue::<String>::unbounded();
    let scripts = Scripts::new(sealed().share("q", &queue), method);
    let many: String = (0..500).map(|n| format!("put q {n};")).collect();
    for at in [1, 7, 30] {
        let task = scripts.start(&format!("{many} loop"));
        for n in 0..at {
            assert_eq!(queue.get().unwrap(), n.to_string());
        }
        pids(&scripts.pool).into_iter().for_each(|pid| signal(pid, Signal::KILL));
        assert!(matches!(task.get(), Err(TaskError::WorkerLost { .. })));
        // What it has put is a beginning of what it wanted to put, and the queue works on.
        for n in at..at + queue.len() {
            assert_eq!(queue.get().unwrap(), n.to_string());
        }
        scripts.gives("put q again; get q", "again");
    }
}

fn x11_q9_close_wakes_the_guests_that_wait(method: StartMethod) {
    let queue = Queue::<String>::bounded(1);
    let (jobs, ready) = (Queue::<String>::unbounded(), Semaphore::new(0));
    let policy = sealed().share("q", &queue).share("jobs", &jobs).share("ready", &ready);
    let scripts = Scripts::new(policy, method);
    queue.put(&"a".to_owned()).unwrap();
    let putting = scripts.start("give ready 1; catch put q b");
    let getting = scripts.start("give ready 1; catch get jobs");
    (0..2).for_each(|_| ready.acquire().unwrap().forget());
    queue.close().unwrap();
    jobs.close().unwrap();
    assert_eq!([putting.get().unwrap(), getting.get().unwrap()], ["Closed", "Closed"]);
    scripts.gives("catch put q b; get q; catch get q", "Closed a Closed");
}

fn c2_c12_d8_p49_a_process_answers_over_a_pipe(method: StartMethod) {
    let ((here, there), queue) = (pipe::<String>(), Queue::<String>::unbounded());
    let policy = sealed().share("there", &there).share("q", &queue);
    let script = "poll there; wait queue:q end:there; recv there; send there pong; hang-up there";
    let mut process = process(script, policy, method);
    // The process keeps its end open.
    drop(there);
    here.send(&"ping".to_owned()).unwrap();
    assert_eq!((here.recv(), here.recv()), (Ok("pong".to_owned()), Err(IpcError::Eof)));
    assert_eq!(here.send(&"late".to_owned()), Err(IpcError::PeerGone));
    process.join().unwrap();
    assert_eq!(process.result::<String>().unwrap(), "true 1 ping");
}

fn q11_c11_what_was_used_before_goes_to_a_guest_with_what_is_in_it(method: StartMethod) {
    let (here, there) = pipe::<String>();
    here.send(&"before".to_owned()).unwrap();
    let queue = Queue::<String>::unbounded();
    queue.put_many(&["taken".to_owned(), "left".to_owned()]).unwrap();
    assert_eq!(queue.get().unwrap(), "taken");
    let scripts = Scripts::new(sealed().share("there", &there).share("q", &queue), method);
    scripts.gives("recv there; catch recv@0 there; get q", "before TimedOut left");
    here.send(&"long".to_owned()).unwrap();
    scripts.gives("catch recv-max there 3; catch recv@0 there", "TooLarge TimedOut");
}

/// CPython warns: "if a process is killed while it is trying to read or write to a pipe then the data in the
/// pipe is likely to become corrupted".
fn c14_a_killed_sender_leaves_whole_messages(method: StartMethod) {
    let (here, there) = pipe::<String>();
    let long = "x".repeat(100_000);
    let script = format!("send there {long}; send there {long}; loop");
    let mut sender = process(&script, sealed().share("there", &there), method);
    drop(there);
    assert!(here.recv().unwrap() == long);
    sender.kill().unwrap();
    sender.join().unwrap();
    drop(sender);
    // The second one came whole, or not at all.
    let rest: Vec<String> = std::iter::from_fn(|| here.recv().ok()).collect();
    assert!(rest.len() <= 1 && rest.iter().all(|message| *message == long));
    assert_eq!(here.recv(), Err(IpcError::Eof));
}

fn l1_l6_locks_of_a_guest(method: StartMethod) {
    let (lock, rlock) = (Lock::new(), RLock::new());
    let scripts = Scripts::new(sealed().share("l", &lock).share("r", &rlock), method);
    scripts.gives(
        "acquire lock:l; catch acquire@0 lock:l; release lock:l; catch release lock:l",
        "TimedOut Invalid",
    );
    scripts.gives("acquire rlock:r; acquire rlock:r; release rlock:r; locked rlock:r", "true");
    assert!(!rlock.locked());
    let (_held, _twice) = (lock.acquire().unwrap(), rlock.acquire().unwrap());
    scripts
        .gives("locked lock:l; catch acquire@0 lock:l; catch acquire@20 rlock:r", "true TimedOut TimedOut");
    scripts.gives("catch release lock:l; catch release rlock:r", "Invalid Invalid");
}

/// CPython warns: "if a process is killed while it holds a lock, the lock stays locked for ever".
fn l8_a_killed_owner_leaves_nothing_locked(method: StartMethod) {
    let (lock, rlock, held) = (Lock::new(), RLock::new(), Event::new());
    let policy = sealed().share("l", &lock).share("r", &rlock).share("held", &held);
    let scripts = Scripts::new(policy, method);
    let task = scripts.start("acquire lock:l; acquire rlock:r; acquire rlock:r; set held; loop");
    held.wait();
    assert_eq!(lock.try_acquire().unwrap_err(), SyncError::TimedOut);
    pids(&scripts.pool).into_iter().for_each(|pid| signal(pid, Signal::KILL));
    assert!(matches!(task.get(), Err(TaskError::WorkerLost { .. })));
    assert!(lock.acquire().unwrap().owner_died());
    scripts.gives("acquire rlock:r", "owner-died");
    // It is told once.
    scripts.gives("acquire lock:l; acquire rlock:r", "");
}

fn l9_the_next_owner_is_told_of_a_task_that_ended_without_release(method: StartMethod) {
    let (lock, changed) = (Lock::new(), Condition::new());
    let policy = sealed().share("l", &lock).share("c", &changed);
    let limits = limited();
    let scripts = Scripts::with(policy, method, |builder| builder.limits(limits));
    // A trap, a time limit, an end in good order.
    for end in ["trap", "loop", "say done"] {
        let task = scripts
            .start(&format!("acquire lock:l; forget lock:l; acquire condition:c; forget condition:c; {end}"));
        task.wait(None);
        assert!(lock.acquire().unwrap().owner_died(), "{end}");
        assert!(changed.acquire().unwrap().owner_died(), "{end}");
        scripts.gives("acquire lock:l", "");
    }
}

fn l10_a_guests_units_come_back(method: StartMethod) {
    let units = Semaphore::new(2);
    let scripts = Scripts::new(sealed().share("s", &units), method);
    let script = "acquire semaphore:s; acquire semaphore:s; forget semaphore:s; locked semaphore:s";
    scripts.gives(&format!("{script}; catch acquire@0 semaphore:s"), "0 TimedOut");
    assert_eq!(units.value(), 2);
    assert!(scripts.start(&format!("{script}; trap")).get().is_err());
    assert_eq!(units.value(), 2);
    scripts.gives("give s 3; locked semaphore:s", "5");
}

fn l11_l12_the_host_wakes_guests(method: StartMethod) {
    let (changed, go, waiting) = (Condition::new(), Event::new(), Semaphore::new(0));
    let policy = sealed().share("c", &changed).share("go", &go).share("waiting", &waiting);
    let scripts = Scripts::new(policy, method);
    let tasks = ["acquire condition:c; give waiting 1; wait-on c; say notified", "give waiting 1; await go"];
    let tasks = tasks.map(|script| scripts.start(script));
    (0..2).for_each(|_| waiting.acquire().unwrap().forget());
    // The lock is free only once the guest waits.
    changed.acquire().unwrap().notify(1).unwrap();
    go.set();
    let results = tasks.map(|task| task.get().unwrap());
    assert!(results[0].ends_with("notified"), "{results:?}");
    scripts.gives("acquire condition:c; wait-on@20 c; is-set go; clear go; await@0 go", "false true false");
}

fn l13_guests_and_the_host_meet_at_a_barrier(method: StartMethod) {
    let barrier = Barrier::new(3);
    let scripts = Scripts::new(sealed().share("b", &barrier), method);
    let guests = ["meet b", "meet b"].map(|script| scripts.start(script));
    let mut numbers = BTreeSet::from([barrier.wait().unwrap().to_string()]);
    numbers.extend(guests.map(|task| task.get().unwrap()));
    assert_eq!(numbers, ["0", "1", "2"].map(str::to_owned).into());
    // A party that is ended breaks it for the others.
    let [waiting, dying] = ["catch meet b", "meet b"].map(|script| scripts.start(script));
    wait_until("both wait", FOR_EVER, || barrier.n_waiting() == 2);
    dying.cancel();
    assert_eq!(waiting.get().unwrap(), "Broken");
    scripts.gives("barrier b; reset b; barrier b", "3/0/true 3/0/false");
}

fn l14_a_cancel_gets_out_of_a_wait(method: StartMethod) {
    let (changed, waiting) = (Condition::new(), Semaphore::new(0));
    let policy = sealed().share("c", &changed).share("waiting", &waiting);
    let scripts = Scripts::with(policy, method, |builder| builder.processes(1));
    let task = scripts.start("acquire condition:c; give waiting 1; wait-on c");
    waiting.acquire().unwrap().forget();
    drop(changed.acquire().unwrap());
    let worker = scripts.pool.workers()[0].index;
    task.cancel();
    assert!(matches!(task.get(), Err(TaskError::Cancelled)));
    scripts.gives("say on", "on");
    assert_eq!(scripts.pool.workers()[0].index, worker, "a wait costs no worker");
}

fn values_and_dicts_are_the_same_for_all(method: StartMethod) {
    let (count, seen) = (Value::<i64>::new(&5).unwrap(), Dict::<String>::new());
    let scripts = Scripts::new(sealed().share("count", &count).share("seen", &seen), method);
    scripts.gives("load count; add count 2; swap count 7 1; load count", "5 7 7 1");
    assert_eq!((count.add(1), count.get()), (Ok(2), Ok(2)));
    scripts.gives("enter seen a x; look seen a; keys seen; count seen", "none x a 1");
    assert_eq!(seen.put("a", &"y".to_owned()), Ok(Some("x".to_owned())));
    scripts.gives("swap-entry seen a x z; swap-entry seen a y z; remove seen a; look seen a", "y y z none");
}

fn x13_x19_one_queue_serves_two_pools_a_process_and_the_host(method: StartMethod) {
    let (jobs, results) = (Queue::<String>::bounded(2), Queue::<String>::unbounded());
    let policy = sealed().share("jobs", &jobs).share("results", &results);
    let (first, second) = (Scripts::new(policy.clone(), method), Scripts::new(policy.clone(), method));
    let mut process = process("put jobs d; put results e", policy, method);
    let producers = ["put jobs a", "put jobs b"].map(|script| first.start(script));
    jobs.put(&"c".to_owned()).unwrap();
    let taken = [(); 4].map(|()| second.start("get jobs").get().unwrap());
    assert_eq!(BTreeSet::from(taken), ["a", "b", "c", "d"].map(str::to_owned).into());
    producers.into_iter().for_each(|task| drop(task.get().unwrap()));
    process.join().unwrap();
    assert_eq!(results.get().unwrap(), "e");
}

/// A record of the guest that puts records.
fn x18_a_feed_ends_when_all_is_done(method: StartMethod) {
    let found = Queue::<String>::unbounded();
    let scripts = Scripts::new(sealed().share("found", &found), method);
    let feed = |items: &[&str]| {
        let items: Vec<String> = items.iter().map(|item| (*item).to_owned()).collect();
        let results = scripts.pool.imap_feed(&scripts.run, items, &found);
        results.collect::<Result<Vec<_>, _>>().unwrap()
    };
    assert_eq!(feed(&[]), [""; 0]);
    assert_eq!(feed(&["say a"]), ["a"]);
    // A task that makes a task that makes a task.
    assert_eq!(feed(&["put found put found say c; say a"]), ["a", "", "c"]);
    // Many at once: the results of the items are in their order.
    let many: Vec<String> = (0..200).map(|n| format!("put found say {n}+; say {n}")).collect();
    let results = feed(&many.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(results.len(), 400);
    let own = results.iter().filter(|result| !result.ends_with('+'));
    assert_eq!(own.cloned().collect::<Vec<_>>(), (0..200).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(found.is_empty() && !found.is_closed());
    // It is over with the items once the queue is closed.
    found.close().unwrap();
    assert_eq!(feed(&["say a; catch put found say b"]), ["a Closed"]);
}

fn x18_a_feed_ends_though_tasks_fail_and_are_tried_again(method: StartMethod) {
    let found = Queue::<String>::unbounded();
    let limits = limited();
    let scripts = Scripts::with(sealed().share("found", &found), method, |b| b.limits(limits).retries(1));
    let items = ["put found say a; trap", "put found say b; loop", "fail no"].map(str::to_owned);
    let results: Vec<_> = scripts.pool.imap_feed(&scripts.run, items, &found).collect();
    // What a task puts before it fails counts, for each attempt.
    let mut given: Vec<&str> = results.iter().flatten().map(String::as_str).collect();
    given.sort();
    assert_eq!(given, ["a", "a", "b", "b"]);
    let failed: Vec<&TaskError> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(
        matches!(
            failed[..],
            [TaskError::Trap { .. }, TaskError::Limit { limit: Limit::Time, .. }, TaskError::Failed { .. }]
        ),
        "{failed:?}"
    );
    // An iterator that is dropped in the middle ends it all.
    let mut endless = scripts.pool.imap_feed(&scripts.run, ["get found".to_owned()], &found);
    assert!(endless.next_timeout(Duration::ZERO).is_err());
    drop(endless);
    scripts.gives("say on", "on");
}

/// What a task puts before its worker dies is fed, for each attempt.
fn x18_a_feed_ends_though_its_workers_are_killed(method: StartMethod) {
    for retries in [0, 1] {
        let (found, begun, go) = (Queue::<String>::unbounded(), Event::new(), Event::new());
        let policy = sealed().share("found", &found).share("begun", &begun).share("go", &go);
        let scripts = Scripts::with(policy, method, |builder| builder.retries(retries));
        let mother = "put found say child; set begun; await go".to_owned();
        let results: Vec<Result<String, TaskError>> = std::thread::scope(|scope| {
            let feed = scope.spawn(|| scripts.pool.imap_feed(&scripts.run, [mother], &found).collect());
            begun.wait();
            pids(&scripts.pool).into_iter().for_each(|pid| signal(pid, Signal::KILL));
            go.set();
            feed.join().unwrap()
        });
        let children = results.iter().flatten().filter(|given| *given == "child").count();
        // A child's worker may have been killed, too.
        let lost =
            results.iter().filter(|result| matches!(result, Err(TaskError::WorkerLost { .. }))).count();
        if retries == 0 {
            assert_eq!((results.len(), children + lost), (2, 2), "{results:?}");
        } else {
            assert_eq!((results.len(), children, lost), (3, 2, 0), "{results:?}");
        }
        assert!(found.is_empty());
    }
}
