//! What a program with shared objects has and pays: second sockets, the thread that listens to them, and
//! processor time of waits; and what the deaths of workers leave behind. Each test has the program to itself.

#[path = "../support/mod.rs"]
mod support;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use support::{example, exchange_guest, guest, loader, temp_dir, time_bound_of, wait_until};
use wpool::events::PoolEvent;
use wpool::ipc::Queue;
use wpool::sync::Lock;
use wpool::{Policy, Pool, StartMethod, TaskError};

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a process has this many sockets. Only root may look into a worker: for others it is not known.
fn has_sockets(pid: u32, count: usize) -> bool {
    let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return !rustix::process::geteuid().is_root();
    };
    let places = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
    let sockets = places.filter(|place| place.to_string_lossy().starts_with("socket:"));
    sockets.collect::<HashSet<PathBuf>>().len() == count
}

fn has_exchange_thread() -> bool {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let mut names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.any(|name| name.trim() == "wpool-exchange")
}

#[test]
fn x1_a_module_without_these_imports_has_no_second_socket_and_needs_no_thread() {
    let (_alone, _bound) = (alone(), time_bound_of(Duration::from_secs(60)));
    let no_thread = || wait_until("the thread has ended", Duration::from_secs(10), || !has_exchange_thread());
    // Another test's thread may be about to end.
    no_thread();
    for method in [StartMethod::Forkserver, StartMethod::Spawn] {
        let queue = Queue::<String>::unbounded();
        let policy = Policy::sealed().share("q0", &queue);
        let plain = Pool::builder(&guest("upper")).policy(policy.clone()).processes(1).start_method(method);
        let plain = plain.lazy(false).build().unwrap();
        assert!(has_sockets(support::pids(&plain)[0], 1));
        assert!(!has_exchange_thread());
        let sharing = Pool::builder(&exchange_guest()).policy(policy).processes(1).start_method(method);
        let sharing = sharing.lazy(false).build().unwrap();
        assert!(has_sockets(support::pids(&sharing)[0], 2));
        // A thread takes its name when it begins to run.
        wait_until("the thread is there", Duration::from_secs(10), has_exchange_thread);
        drop((plain, sharing));
        no_thread();
    }
}

#[test]
fn x4_a_pool_in_which_every_task_waits_uses_no_processor_time() {
    let (_alone, _bound) = (alone(), time_bound_of(Duration::from_secs(60)));
    let (queue, begun) = (Queue::<String>::unbounded(), wpool::sync::Semaphore::new(0));
    let policy = Policy::sealed().share("q0", &queue).share("s0", &begun);
    let pool = Pool::builder(&exchange_guest()).policy(policy).processes(4).build().unwrap();
    let run = pool.func::<Vec<u8>, Vec<u8>>("run").unwrap();
    let waiting: Vec<_> = (0..4).map(|_| pool.apply_async(&run, b"-g".to_vec())).collect();
    (0..4).for_each(|_| begun.acquire().unwrap().forget());
    let all =
        || support::pids(&pool).into_iter().chain([std::process::id()]).map(support::cpu_ticks).sum::<u64>();
    // What a wait begins with is over.
    std::thread::sleep(Duration::from_millis(100));
    let before = all();
    std::thread::sleep(Duration::from_secs(1));
    let used = all() - before;
    assert!(used <= 4, "{used} hundredths of a second");
    (0..4).for_each(|n| queue.put(&format!("{n}")).unwrap());
    let mut items: Vec<Vec<u8>> = waiting.into_iter().map(|it| it.get().unwrap()).collect();
    items.sort();
    assert_eq!(items, [b"0", b"1", b"2", b"3"]);
}

/// The tasks of a pool whose workers are killed.
#[derive(Default)]
struct Counts {
    fed: AtomicUsize,
    returned: AtomicUsize,
    lost: AtomicUsize,
    is_over: AtomicBool,
}

/// Feeds a pool with one task after the other. A task takes an item from one queue and puts one into another,
/// which it has opened before. So the request that puts is the next one, and also acknowledges the item that
/// was taken: the number of both together stays the same, wherever a worker dies.
fn feed(pool: &Pool, jobs: &Queue<String>, program: &[u8], counts: &Counts) {
    let run = pool.func::<Vec<u8>, Vec<u8>>("run").unwrap();
    while !counts.is_over.load(Ordering::SeqCst) {
        jobs.put(&"job".to_owned()).unwrap();
        counts.fed.fetch_add(1, Ordering::SeqCst);
        match pool.apply(&run, program.to_vec()) {
            Ok(_) => counts.returned.fetch_add(1, Ordering::SeqCst),
            Err(TaskError::WorkerLost { .. }) => counts.lost.fetch_add(1, Ordering::SeqCst),
            Err(error) => panic!("{error}"),
        };
    }
}

/// Kills this many workers at random moments. Between two of them a task returns: a pool whose workers all
/// die before they begin a task breaks.
fn kill_at_random(pool: &Pool, kills: usize, counts: &Counts) {
    let (mut random, mut killed) = (0x2545_f491_4f6c_dd1d_u64, HashSet::new());
    while killed.len() < kills {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let returned = counts.returned.load(Ordering::SeqCst);
        wait_until("a task has returned", Duration::from_secs(60), || {
            counts.returned.load(Ordering::SeqCst) > returned
        });
        std::thread::sleep(Duration::from_micros(random % 1000));
        let mut pids = support::pids(pool);
        pids.retain(|pid| !killed.contains(pid));
        if let Some(pid) = pids.get(usize::try_from(random >> 32).unwrap() % pids.len().max(1)) {
            support::signal(*pid, Signal::KILL);
            killed.insert(*pid);
        }
    }
}

fn kill_workers(method: StartMethod, kills: usize) {
    let (_alone, _bound) = (alone(), time_bound_of(Duration::from_secs(300)));
    let (jobs, done, lock) = (Queue::<String>::unbounded(), Queue::<String>::unbounded(), Lock::new());
    let policy = Policy::sealed().share("q0", &jobs).share("q1", &done).share("l0", &lock);
    let pool = Pool::builder(&exchange_guest()).policy(policy).processes(4).start_method(method);
    let pool = pool.build().unwrap();
    let counts = Counts::default();
    std::thread::scope(|scope| {
        // Half of the tasks hold a lock at their end.
        for program in [&b"1y0ag1pdone"[..], b"1y0g1pdone", b"1y0ag1pdone", b"1y0g1pdone"] {
            scope.spawn(|| feed(&pool, &jobs, program, &counts));
        }
        kill_at_random(&pool, kills, &counts);
        counts.is_over.store(true, Ordering::SeqCst);
    });
    pool.close();
    pool.join().unwrap();
    let [fed, lost] = [counts.fed, counts.lost].map(AtomicUsize::into_inner);
    assert_eq!(jobs.len() + done.len(), fed, "{lost} tasks were lost");
    // A task that was lost may have been through with its item; none took two.
    assert!(lost > 0 && done.len() >= fed - lost, "{lost} of {fed} were lost, {} are done", done.len());
    assert!(lock.try_acquire().is_ok(), "nobody holds the lock");
}

#[test]
fn x6_x7_a_thousand_workers_are_killed_and_no_item_is_lost_or_taken_twice() {
    kill_workers(StartMethod::Forkserver, 1000);
}

#[test]
fn x6_x7_executed_workers_are_killed_and_no_item_is_lost_or_taken_twice() {
    kill_workers(StartMethod::Spawn, 100);
}

/// The reasons for which workers have ended, of a pool whose first worker does this deed on its second
/// socket.
fn reasons(deed: &str) -> Vec<String> {
    let dir = temp_dir();
    let program = dir.path().join(deed);
    support::renamed(&example("hostile_worker"), &program);
    std::fs::write(dir.path().join("real"), support::program().to_str().unwrap()).unwrap();
    std::fs::write(dir.path().join("role"), "worker").unwrap();
    let module = loader().program(&program).from_bytes(&std::fs::read(exchange_text()).unwrap()).unwrap();
    std::fs::remove_file(dir.path().join("role")).unwrap();
    let queue = Queue::<String>::unbounded();
    let ended = Arc::new(Mutex::new(Vec::new()));
    let told = ended.clone();
    let pool = Pool::builder(&module).policy(Policy::sealed().share("q0", &queue)).processes(2);
    let pool = pool.start_method(StartMethod::Spawn).lazy(false).retries(3).on_event(move |event| {
        if let PoolEvent::WorkerExited { reason, .. } = event {
            told.lock().unwrap().push(reason.clone());
        }
    });
    let pool = pool.build().unwrap();
    let run = pool.func::<Vec<u8>, Vec<u8>>("run").unwrap();
    let puts: Vec<Vec<u8>> = (0..100).map(|n| format!("p{n}").into_bytes()).collect();
    pool.map(&run, puts).unwrap();
    pool.close();
    pool.join().unwrap();
    // The others' items are there, once each.
    let items: Vec<String> = std::iter::from_fn(|| queue.try_get().ok()).collect();
    assert_eq!((items.len(), items.iter().collect::<HashSet<_>>().len()), (100, 100));
    let ended = ended.lock().unwrap();
    ended.clone()
}

fn exchange_text() -> PathBuf {
    support::repo("tests/support/guests/exchange.wat")
}

#[test]
fn x16_a_worker_that_is_hostile_on_its_second_socket_ends_and_no_other() {
    let (_alone, _bound) = (alone(), time_bound_of(Duration::from_secs(120)));
    let deeds = [
        ("exchange-garbage", "a frame of 1347703880 bytes, more than are allowed"),
        ("exchange-unknown-object", "a request that no guest can make"),
        ("exchange-asks-twice", "it spoke before it had its answer"),
        ("exchange-false-length", "a frame of 1073741823 bytes, more than are allowed"),
        ("exchange-endless-frame", "a message that cannot be read"),
        ("exchange-flood", "it spoke before it had its answer"),
        ("exchange-end-unasked", "the end of a task that had asked for nothing"),
    ];
    for (deed, reason) in deeds {
        let reasons = reasons(deed);
        let errors: Vec<&String> = reasons.iter().filter(|it| it.starts_with("protocol error")).collect();
        let expected = format!("protocol error on its second socket: {reason}");
        assert!(errors.len() == 1 && errors[0].starts_with(&expected), "{deed}: {reasons:?}");
    }
}
