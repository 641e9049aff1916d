//! Processes of every role in an attacker's hands: what they send, name or claim costs the coordinator
//! nothing but these processes. Rows F110 to F113 of the list of faults. (`tests/faults` has workers that
//! break the protocol of tasks, row F104.)

mod support;

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{example, loader, repo, temp_dir, time_bound, time_bound_of};
use wpool::events::PoolEvent;
use wpool::module::ModuleLoader;
use wpool::sandbox::ProcessRole;
use wpool::value::{Ret, Type, Value};
use wpool::{Limits, Module, Policy, Pool, Process, StartMethod, Target};

/// These tests count what this program has: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A worker program that is its attacker's in one role.
struct Hostile {
    _dir: tempfile::TempDir,
    program: PathBuf,
}

impl Hostile {
    fn new(role: &str, deed: &str) -> Hostile {
        let dir = temp_dir();
        let program = dir.path().join(deed);
        support::renamed(&example("hostile_worker"), &program);
        std::fs::write(dir.path().join("real"), support::program().to_str().unwrap()).unwrap();
        std::fs::write(dir.path().join("role"), role).unwrap();
        Hostile { _dir: dir, program }
    }

    /// The first worker only.
    fn first(deed: &str) -> Hostile {
        Hostile::new("worker", deed).only_the_first()
    }

    /// The first process of the program only.
    fn only_the_first(self) -> Hostile {
        std::fs::remove_file(self.program.with_file_name("role")).unwrap();
        self
    }

    /// One that says `at_once` when it starts, and `then` when it has something to do.
    fn saying(role: &str, at_once: &[u8], then: &[u8]) -> Hostile {
        let hostile = Hostile::new(role, "says");
        std::fs::write(hostile.program.with_file_name("at-once"), at_once).unwrap();
        std::fs::write(hostile.program.with_file_name("then"), then).unwrap();
        hostile
    }

    /// Runs a hundred tasks in a pool with it. Gives why workers have ended, and asserts that no task is
    /// lost.
    fn reasons_in_a_pool(&self) -> Vec<String> {
        let reasons = Arc::new(Mutex::new(Vec::new()));
        let told = reasons.clone();
        let builder = Pool::builder(&self.upper()).processes(2).start_method(StartMethod::Spawn);
        let pool = builder.on_event(move |event| {
            if let PoolEvent::WorkerExited { reason, .. } = event {
                told.lock().unwrap().push(reason.clone());
            }
        });
        let pool = pool.build().unwrap();
        let upper = pool.func::<String, String>("run").unwrap();
        let values = pool.map(&upper, (0..100).map(|n| format!("n{n}"))).unwrap();
        let forged = values.iter().enumerate().filter(|(n, value)| **value != format!("N{n}")).count();
        assert!(forged <= 1, "{forged} forged results");
        pool.close();
        assert_eq!(pool.join_timeout(Duration::from_secs(20)), Ok(true));
        let reasons = reasons.lock().unwrap();
        reasons.clone()
    }

    /// Runs a process, and gives what was said of its end.
    fn process(&self) -> (i32, String) {
        let mut limits = Limits::default();
        limits.time = Some(Duration::from_millis(500));
        let process = Process::builder(&self.upper()).target("run").input("x").limits(limits);
        let mut process = process.start_method(StartMethod::Spawn).build().unwrap();
        process.start().unwrap();
        let status = process.join_timeout(Duration::from_secs(20)).unwrap().expect("it has an end");
        (status.exitcode, format!("{:?}", status.reason))
    }

    fn loader(&self) -> ModuleLoader {
        loader().program(&self.program)
    }

    fn upper(&self) -> Module {
        // From the cache then: the first process is a worker, not a compiler.
        if !self.program.with_file_name("role").exists() {
            patiently(|| loader().load(repo("guest/prebuilt/upper.wasm"))).unwrap();
        }
        patiently(|| self.loader().load(repo("guest/prebuilt/upper.wasm"))).unwrap()
    }
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// What the last task of a pool was told that cannot work.
fn broken(hostile: &Hostile, method: StartMethod) -> String {
    let pool = Pool::builder(&hostile.upper()).processes(2).start_method(method).build().unwrap();
    let upper = pool.func::<&str, String>("run").unwrap();
    let error = pool.apply(&upper, "a").unwrap_err().to_string();
    pool.terminate();
    assert_eq!(pool.join_timeout(Duration::from_secs(20)), Ok(true));
    error
}

#[test]
fn f110_no_process_gives_the_coordinator_descriptors() {
    let (_alone, _bound) = (alone(), time_bound());
    let said = "protocol error: descriptors, which no process of ours sends";
    let check = |error: &str| assert!(error.contains(said) || is_of_the_limit(error), "{error}");
    let before = open_files();
    let flat = |what: &str| assert!(open_files() < before + 16, "{what}: {before} descriptors before");

    check(&broken(&Hostile::new("worker", "descriptors"), StartMethod::Spawn));
    flat("worker");
    check(&broken(&Hostile::new("zygote", "descriptors"), StartMethod::Forkserver));
    flat("zygote");

    for (role, method) in [("worker", StartMethod::Spawn), ("zygote", StartMethod::Forkserver)] {
        let hostile = Hostile::new(role, "descriptors");
        let process = Process::builder(&hostile.upper()).target("run").input("x").start_method(method);
        let mut process = process.build().unwrap();
        // Without a zygote it is executed, and does its work.
        let told = match patiently(|| process.start()) {
            Ok(()) => {
                let status = process.join_timeout(Duration::from_secs(20)).unwrap().expect("it has an end");
                format!("{:?}", status.reason)
            }
            Err(e) => chain(&e),
        };
        match role {
            "worker" => check(&told),
            _ => assert!(told.contains("Returned") || is_of_the_limit(&told), "{told}"),
        }
        flat(role);
    }

    let hostile = Hostile::new("compiler", "descriptors");
    let error = chain(&hostile.loader().no_cache().load(repo("guest/prebuilt/upper.wasm")).unwrap_err());
    assert!(
        error.contains("descriptors, which no process of ours sends") || is_of_the_limit(&error),
        "{error}"
    );
    flat("compiler");
}

/// The kernel bounds the descriptors that an ordinary user has under way, in all of its processes together,
/// and gives them back some time after a flood of them. What matters is that the coordinator keeps none: that
/// it cannot send its own meanwhile is an end of the attacker's process too.
fn is_of_the_limit(error: &str) -> bool {
    !rustix::process::geteuid().is_root() && error.contains("Too many references")
}

/// Tries again while that limit is reached.
fn patiently<T, E: std::error::Error>(mut deed: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    for _ in 0..50 {
        match deed() {
            Err(e) if is_of_the_limit(&chain(&e)) => std::thread::sleep(Duration::from_millis(100)),
            done => return done,
        }
    }
    deed()
}

/// An error with what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let next = error.source().map(chain).unwrap_or_default();
    format!("{error}: {next}")
}

/// As [`broken`], and the start may take no longer than half a second.
fn broken_in_time(hostile: &Hostile) -> String {
    let pool = Pool::builder(&hostile.upper()).processes(2).start_timeout(Duration::from_millis(500));
    let pool = pool.build().unwrap();
    let upper = pool.func::<&str, String>("run").unwrap();
    let error = pool.apply(&upper, "a").unwrap_err().to_string();
    pool.close();
    assert_eq!(pool.join_timeout(Duration::from_secs(20)), Ok(true));
    error
}

#[test]
fn f111_a_zygote_that_floods_or_says_what_it_is_not_asked_is_ended_in_bounded_memory() {
    let (_alone, _bound) = (alone(), time_bound());
    let before = support::memory_peak_kib(std::process::id());
    for (deed, said) in [
        ("ready-for-ever", "protocol error: the zygote said what it was not asked"),
        // Or named a process that it has not forked, had it been asked by then.
        ("answers-unasked", "protocol error: the zygote "),
        ("endless-frame", "protocol error: a frame of 184549376 bytes, more than are allowed"),
        ("refuses-for-ever", "the module cannot be loaded: no no no"),
    ] {
        let error = broken(&Hostile::new("zygote", deed), StartMethod::Forkserver);
        assert!(error.contains(said), "{deed}: {error}");
    }
    let peak = support::memory_peak_kib(std::process::id());
    assert!(peak < before + (32 << 10), "{before} KiB before, {peak} after");
}

#[test]
fn f111_a_zygote_that_does_not_read_or_answer_is_replaced_and_then_given_up() {
    let (_alone, _bound) = (alone(), time_bound());
    for deed in ["deaf", "mute", "one-byte-a-time"] {
        let error = broken_in_time(&Hostile::new("zygote", deed));
        assert!(error.contains("workers cannot run: the zygote is gone"), "{deed}: {error}");
    }
}

#[test]
fn f111_a_pool_ends_at_once_though_its_zygote_neither_reads_nor_answers() {
    let (_alone, _bound) = (alone(), time_bound());
    for deed in ["deaf", "mute", "ready-for-ever"] {
        let hostile = Hostile::new("zygote", deed);
        // More requests than its socket holds.
        let pool = Pool::builder(&hostile.upper()).processes(800).build().unwrap();
        let upper = pool.func::<&str, String>("run").unwrap();
        let never = pool.map_async(&upper, ["a"; 2000]);
        pool.terminate();
        assert_eq!(pool.join_timeout(Duration::from_secs(20)), Ok(true), "{deed}");
        assert!(never.get().is_err());
    }
}

#[test]
fn f111_a_process_that_a_zygote_names_is_left_alone_unless_it_has_forked_it() {
    let (_alone, _bound) = (alone(), time_bound());
    let other = Pool::builder(&support::guest("upper")).processes(1).build().unwrap();
    let upper = other.func::<&str, String>("run").unwrap();
    other.apply(&upper, "a").unwrap();
    let of_another_pool = support::pids(&other)[0];
    // A child of this program that has nothing to do with wpool.
    let mut sleeper = std::process::Command::new("sleep").arg("600").spawn().unwrap();

    let own = std::process::id();
    let named = [sleeper.id(), of_another_pool, own, 1, 0].map(i64::from);
    for pid in named.into_iter().chain([-1, i64::from(i32::MIN), i64::from(i32::MAX)]) {
        let hostile = Hostile::new("zygote", "names");
        std::fs::write(hostile.program.with_file_name("pid"), pid.to_string()).unwrap();
        let error = broken(&hostile, StartMethod::Forkserver);
        // There is no process of the largest number.
        let said = if pid == i64::from(i32::MAX) {
            "it was gone at once"
        } else {
            "a process that it has not forked"
        };
        assert!(error.contains(said), "{pid}: {error}");
        assert_eq!(support::running(&hostile.program), [] as [u32; 0], "{pid}");

        let process = Process::builder(&hostile.upper()).target("run").input("x").build();
        let mut process = process.unwrap();
        let started = process.start();
        if pid != i64::from(i32::MAX) {
            // Without a zygote it is executed.
            started.unwrap();
            assert_eq!(process.join().unwrap().exitcode, 0, "{pid}");
        }
    }
    let error = broken(&Hostile::new("zygote", "names-itself"), StartMethod::Forkserver);
    assert!(error.contains("a process that it has not forked"), "{error}");

    assert_eq!(sleeper.try_wait().unwrap(), None, "it lives");
    sleeper.kill().unwrap();
    assert!(!sleeper.wait().unwrap().success(), "and is its owner's to reap");
    assert_eq!(other.apply(&upper, "b").unwrap(), "B");
    assert_eq!(support::pids(&other), [of_another_pool]);
}

#[test]
fn f111_a_worker_that_a_zygote_names_twice_is_one_worker() {
    let (_alone, _bound) = (alone(), time_bound());
    let hostile = Hostile::new("zygote", "names-twice");
    let error = broken_in_time(&hostile);
    assert!(error.contains("workers cannot run"), "{error}");
    assert_eq!(support::running(&hostile.program), [] as [u32; 0]);
}

#[test]
fn f111_what_a_zygote_leaves_behind_ends_with_it() {
    let (_alone, _bound) = (alone(), time_bound());
    let hostile = Hostile::new("zygote", "leaves-children");
    let error = broken(&hostile, StartMethod::Forkserver);
    assert!(error.contains("protocol error: a frame of unknown kind 99"), "{error}");
    assert!(hostile.program.with_file_name("left").exists(), "it has forked four");
    assert_eq!(support::running(&hostile.program), [] as [u32; 0]);

    let mut process = Process::builder(&hostile.upper()).target("run").input("x").build().unwrap();
    process.start().unwrap();
    assert_eq!(process.join().unwrap().exitcode, 0);
    assert_eq!(support::running(&hostile.program), [] as [u32; 0]);
}

/// The coordinator waited for the zygote to read, and the zygote for the coordinator.
#[test]
fn f111_a_thousand_workers_start() {
    let (_alone, _bound) = (alone(), time_bound_of(Duration::from_secs(240)));
    let limit = getrlimit(Resource::Nofile);
    // Each worker takes three descriptors.
    let most = limit.maximum.unwrap_or(1 << 20).min(1 << 16);
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum }).unwrap();
    let processes = usize::try_from(most / 4).unwrap().min(1000);
    let before = support::memory_peak_kib(std::process::id());
    let pool = Pool::builder(&support::guest("upper")).processes(processes).lazy(false).build().unwrap();
    assert_eq!(pool.workers().len(), processes);
    let upper = pool.func::<&str, String>("run").unwrap();
    assert!(pool.map(&upper, ["a"; 5000]).unwrap().iter().all(|value| value == "A"));
    let grown = support::memory_peak_kib(std::process::id()).saturating_sub(before);
    assert!(grown < 128 << 10, "{grown} KiB in the coordinator");
    let private = pool.workers().iter().map(|worker| support::private_memory_kib(worker.pid)).max().unwrap();
    // Only root may look: for others it is 0.
    assert!(private < 4 << 10, "{private} KiB in a worker");
    pool.close();
    assert_eq!(pool.join_timeout(Duration::from_secs(60)), Ok(true));
}

#[test]
fn f112_what_a_worker_says_of_its_batches_and_its_time_must_be_possible() {
    let (_alone, _bound) = (alone(), time_bound());
    for (deed, said) in [
        ("batch-done-unasked", "the end of a batch that the worker does not hold"),
        ("batch-done-twice", "the end of a batch that the worker does not hold"),
        ("took-for-ever", "a task that took longer than its worker has lived"),
        ("used-all-memory", "a task that used more than it may"),
        ("used-fuel", "a task that used more than it may"),
    ] {
        let reasons = Hostile::first(deed).reasons_in_a_pool();
        // On a busy machine its tasks may have been taken back before it speaks.
        let said = [said, "a result for a task that the worker does not hold"];
        assert!(
            reasons.iter().any(|reason| said.iter().any(|said| *reason == format!("protocol error: {said}"))),
            "{deed}: {reasons:?}"
        );
    }
    for deed in ["batch-done-unasked", "took-for-ever", "used-all-memory", "used-fuel", "cancels-for-ever"] {
        let (exitcode, told) = Hostile::new("worker", deed).process();
        assert_eq!(exitcode, -9, "{deed}");
        assert!(told.contains("protocol error"), "{deed}: {told}");
    }
}

#[test]
fn f112_a_worker_that_answers_at_once_holds_no_more_than_its_share() {
    let (_alone, _bound) = (alone(), time_bound());
    const TASKS: usize = 20_000;
    let hostile = Hostile::first("answers-at-once");
    let longest = Arc::new(Mutex::new(0));
    let seen = longest.clone();
    let builder = Pool::builder(&hostile.upper()).processes(4).start_method(StartMethod::Spawn);
    let pool = builder.on_event(move |event| {
        if let PoolEvent::TasksStarted { tasks, .. } = event {
            let mut longest = seen.lock().unwrap();
            *longest = (*longest).max(tasks.end - tasks.start);
        }
    });
    let pool = pool.build().unwrap();
    let upper = pool.func::<String, String>("run").unwrap();
    let values = pool.map(&upper, (0..TASKS).map(|n| format!("n{n}"))).unwrap();
    for (n, value) in values.iter().enumerate() {
        assert!(*value == format!("N{n}") || value == "forged", "{value}");
    }
    // A sixteenth of what is left, and no more than 1,024.
    assert!(*longest.lock().unwrap() <= 1024);
    pool.close();
    assert_eq!(pool.join_timeout(Duration::from_secs(20)), Ok(true));
}

#[test]
fn f117_a_process_reports_what_is_enforced_in_it_when_it_is_asked_and_says_nothing_else() {
    const OUT_OF_TURN: &str = "the process said what it was not asked";
    let (_alone, _bound) = (alone(), time_bound());
    let hello = |messages: &[&str]| [HELLO].iter().chain(messages).flat_map(|m| control(m)).collect();
    let scripts: [(Vec<u8>, &str); 7] = [
        (control(REPORT), OUT_OF_TURN),
        (control(OTHER_HELLO), OTHER_VERSION),
        (hello(&[REPORT]), OUT_OF_TURN),
        (hello(&[HELLO]), OUT_OF_TURN),
        (hello(&[FORKED]), OUT_OF_TURN),
        (hello(&["\"Nonsense\""]), UNREADABLE),
        ([control(HELLO), frame(18, b"x")].concat(), NO_MESSAGE),
    ];
    for role in [ProcessRole::Worker, ProcessRole::Zygote] {
        for (said, verdict) in &scripts {
            let hostile = Hostile::saying(&format!("{role:?}").to_lowercase(), said, b"");
            let answer = wpool::sandbox::doctor_of(&hostile.loader(), &Policy::sealed(), role);
            assert_judged(&chain(&answer.unwrap_err()), verdict, said);
        }
    }
}

#[test]
fn f117_a_process_that_does_not_report_what_is_enforced_in_it_is_waited_for_no_longer_than_ten_seconds() {
    let (_alone, _bound) = (alone(), time_bound());
    let hostile = Hostile::new("worker", "never-reads");
    let error =
        wpool::sandbox::doctor_of(&hostile.loader(), &Policy::sealed(), ProcessRole::Worker).unwrap_err();
    let said = chain(&error);
    assert!(said.contains("a worker process has not answered within 10 s"), "{said}");
    assert_eq!(support::running(&hostile.program), [] as [u32; 0]);
}

/// The number of records, of `tasks`, that a worker gets which answers at once, one of `processes`.
fn drawn(processes: usize, tasks: usize) -> usize {
    let hostile = Hostile::first("answers-at-once");
    let pool = Pool::builder(&hostile.upper()).processes(processes).start_method(StartMethod::Spawn);
    // All of them are there when the job comes, so that the time of a start does not count.
    let pool = pool.lazy(false).build().unwrap();
    let upper = pool.func::<&str, String>("run").unwrap();
    let values = pool.map(&upper, std::iter::repeat_n("a", tasks)).unwrap();
    let forged = values.iter().filter(|value| *value == "forged").count();
    assert_eq!(values.iter().filter(|value| *value == "A").count(), tasks - forged);
    pool.close();
    assert_eq!(pool.join_timeout(Duration::from_secs(20)), Ok(true));
    forged
}

/// In batches it is handed two shares of `j + 1` at most (the schedule's unit test). Here a worker without
/// credit also gets one record after the other, and more of them while the kernel runs no honest worker. A
/// busy machine can only raise its share, so the least share of several jobs counts: without credit it was 98
/// of 100 records in each.
#[test]
fn f112_a_worker_that_answers_at_once_does_not_get_the_whole_job() {
    let (_alone, _bound) = (alone(), time_bound());
    const TASKS: usize = 100_000;
    let shares = std::iter::repeat_with(|| drawn(4, TASKS)).take(10);
    let too_many = |forged: &usize| *forged > TASKS * 4 / 5;
    let whole_jobs: Vec<usize> = shares.take_while(too_many).collect();
    assert!(whole_jobs.len() < 10, "{whole_jobs:?}");
}

/// What to choose where records distrust each other: no worker sees two of them.
#[test]
fn f112_with_a_process_for_each_task_a_worker_in_an_attackers_hands_has_one() {
    let (_alone, _bound) = (alone(), time_bound());
    let hostile = Hostile::first("answers-at-once");
    let pool = Pool::builder(&hostile.upper()).processes(4).start_method(StartMethod::Spawn);
    let pool = pool.max_tasks_per_child(NonZeroU64::MIN).build().unwrap();
    let upper = pool.func::<String, String>("run").unwrap();
    let values = pool.map(&upper, (0..50).map(|n| format!("n{n}"))).unwrap();
    assert_eq!(values.iter().filter(|value| *value == "forged").count(), 1);

    // By the default start method each is a fork of its own.
    let pool = Pool::builder(&support::guest("upper"))
        .processes(2)
        .max_tasks_per_child(NonZeroU64::MIN)
        .build()
        .unwrap();
    let (mut inputs, mut outcomes) = pool.stream(&Target::default(), true).unwrap();
    inputs.push_all([&b"a"[..]; 200].into_iter()).unwrap();
    drop(inputs);
    let mut workers = std::collections::BTreeSet::new();
    while outcomes.take_into(&mut |outcome| workers.extend([outcome.worker()])) {}
    assert_eq!(workers.len(), 200);
}

#[test]
fn f113_values_are_counted_before_they_are_built() {
    let (_alone, _bound) = (alone(), time_bound());
    let field = |n| (format!("field-{n}"), Type::Option(Box::new(Type::U8)));
    let records = Type::List(Box::new(Type::Record((0..1000).map(field).collect())));
    let before = support::memory_peak_kib(std::process::id());
    // What a worker would have to send for 13 million values.
    let text = format!("[{}]", vec!["{:}"; 13_000].join(", "));
    assert_eq!(Value::decode(text.as_bytes(), Some(&records)), None);
    let bytes = vec![b'x'; 48 << 20];
    assert_eq!(Value::decode(&bytes, Some(&Type::List(Box::new(Type::U8)))), None);
    assert_eq!(Vec::<u8>::decode(&bytes, Some(&Type::List(Box::new(Type::U8)))), Some(bytes));
    let lists = Type::List(Box::new(Type::List(Box::new(Type::U8))));
    let text = format!("[{}[]]", "[],".repeat(16 << 20));
    assert_eq!(Value::decode(text.as_bytes(), Some(&lists)), None);
    drop(text);
    let peak = support::memory_peak_kib(std::process::id());
    assert!(peak < before + (320 << 10), "{before} KiB before, {peak} after");
    let Some(Value::List(few)) = Value::decode(b"[{:}, {field-7: some(1)}]", Some(&records)) else {
        panic!("it is one")
    };
    assert_eq!(few.len(), 2);
}

#[test]
fn f113_a_failed_start_is_judged_as_a_failed_task() {
    let (_alone, _bound) = (alone(), time_bound());
    let not_its_to_tell = "protocol error: a failure that is not a worker's to tell";
    for (deed, said) in [
        ("init-failed-oddly", not_its_to_tell),
        // A worker has no word for the coordinator's verdicts.
        ("init-failed-for-the-coordinator", "protocol error: a message that cannot be read"),
        ("init-failed-at-length", "xxx"),
    ] {
        let (_, told) = Hostile::new("worker", deed).process();
        assert!(told.contains(said), "{deed}: {told}");
        assert!(told.len() < 100_000, "{deed}: {} bytes", told.len());
        let error = broken(&Hostile::new("worker", deed), StartMethod::Spawn);
        assert!(error.contains(said), "{deed}: {error}");
        assert!(error.len() < 10_000, "{deed}: {} bytes", error.len());
    }
}

/// It held its place and its tasks for ever, because its end was all that was waited for.
#[test]
fn f151_a_worker_that_gives_up_and_stays_is_ended() {
    let (_alone, _bound) = (alone(), time_bound());
    let refused = control(r#"{"Refused":{"reason":"I give up"}}"#);
    let ready = [control(HELLO), control(READY)].concat();
    for (at_once, then) in [
        ([&ready[..], &refused].concat(), vec![]),
        // While it holds tasks.
        (ready.clone(), refused.clone()),
        // Before it is ready, long before its start takes too long.
        ([&control(HELLO)[..], &refused].concat(), vec![]),
    ] {
        let hostile = Hostile::saying("worker", &at_once, &then).only_the_first();
        let reasons = hostile.reasons_in_a_pool();
        assert!(reasons.iter().any(|reason| reason == "I give up"), "{reasons:?}");
        assert_eq!(support::running(&hostile.program), [] as [u32; 0]);
    }
}

/// The bytes of a control message.
fn control(json: &str) -> Vec<u8> {
    frame(1, json.as_bytes())
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&u32::try_from(payload.len()).unwrap().to_le_bytes()[..], &[kind], payload].concat()
}

const HELLO: &str = r#"{"Hello":{"version":5}}"#;
const OTHER_HELLO: &str = r#"{"Hello":{"version":999}}"#;
const UNCONFINED: &str = r#"{"Unconfined":{"missing":[]}}"#;
const READY: &str = "\"Ready\"";
const IMPORTS: &str = r#"{"Imports":{"kind":"component","imports":[]}}"#;
const INIT_FAILED: &str = r#"{"InitFailed":{"failure":{"Failed":{"message":"no"}}}}"#;
const FORKED: &str = r#"{"Forked":{"pid":77}}"#;
const NOT_FORKED: &str = r#"{"NotForked":{"reason":"no"}}"#;
const NEEDS: &str = r#"{"Needs":{"features":{"exceptions":true,"gc":false},"reason":"no"}}"#;
const REPORT: &str = r#"{"Report":{"steps":[],"properties":[]}}"#;
/// Messages that are right for one role only.
const MESSAGES: [&str; 10] = [
    READY,
    IMPORTS,
    INIT_FAILED,
    FORKED,
    NOT_FORKED,
    NEEDS,
    REPORT,
    "\"Thawed\"",
    "\"WantsInput\"",
    "\"Nonsense\"",
];
/// Kinds of frames that carry no message: a batch, input, fixed arguments, and what belongs to a task.
const KINDS: [u8; 11] = [2, 3, 4, 17, 18, 19, 20, 21, 22, 23, 24];

const THE_COMPILER: &str = "the compiler gave an answer to a question that was not asked";
const THE_ZYGOTE: &str = "the zygote said what it was not asked";
const THE_WORKER: &str = "the worker spoke out of turn";
const NO_MESSAGE: &str = "a control message was expected";
const NOT_HELD: &str = "a result for a task that the worker does not hold";
const BATCH_NOT_HELD: &str = "the end of a batch that the worker does not hold";
const UNREADABLE: &str = "a message that cannot be read: ";
const OTHER_VERSION: &str = "its program is of another version of wpool";
const NO_INPUT: &str = "the worker asked for input that it cannot have";

/// The verdict on a message of a role that may not send it. `out_of_turn`: the verdict on most messages.
fn verdict(message: &str, out_of_turn: &'static str) -> &'static str {
    match message {
        "\"Nonsense\"" => UNREADABLE,
        OTHER_HELLO => OTHER_VERSION,
        _ => out_of_turn,
    }
}

#[track_caller]
fn assert_judged(told: &str, verdict: &str, said: &[u8]) {
    let said = String::from_utf8_lossy(said);
    assert!(told.contains(&format!(": {verdict}")), "{said}: {told}, not {verdict}");
}

/// Whatever a compiler says that is not its to say at that point, the module is not loaded, and that is told.
#[test]
fn f112_a_compiler_says_nothing_out_of_turn() {
    let (_alone, _bound) = (alone(), time_bound());
    let hello = |said: Vec<u8>| [control(HELLO), said].concat();
    let mut scripts: Vec<(Vec<u8>, &str)> = Vec::new();
    for message in MESSAGES.iter().filter(|m| ![IMPORTS, NEEDS].contains(m)) {
        scripts.push((hello(control(message)), verdict(message, THE_COMPILER)));
    }
    scripts.extend(KINDS.map(|kind| (hello(frame(kind, b"")), NO_MESSAGE)));
    for twice in [control(HELLO), control(UNCONFINED).repeat(2), control(IMPORTS).repeat(2)] {
        scripts.push((hello(twice), THE_COMPILER));
    }
    scripts.push((hello([control(IMPORTS), control(UNCONFINED)].concat()), THE_COMPILER));
    scripts.extend([READY, IMPORTS, OTHER_HELLO].map(|m| (control(m), verdict(m, THE_COMPILER))));
    scripts.push((frame(18, b""), NO_MESSAGE));
    for (said, verdict) in scripts {
        let hostile = Hostile::saying("compiler", &said, b"");
        let error =
            hostile.loader().no_cache().load(repo("guest/prebuilt/upper.wasm")).unwrap_err().to_string();
        assert_judged(&error, verdict, &said);
    }
}

/// Whatever a zygote says that is not its to say at that point, its pool is told so.
#[test]
fn f112_a_zygote_says_nothing_out_of_turn() {
    let (_alone, _bound) = (alone(), time_bound());
    let ready = || [control(HELLO), control(READY)].concat();
    let mut scripts: Vec<(Vec<u8>, Vec<u8>, &str)> = Vec::new();
    for message in MESSAGES.iter().filter(|m| ![FORKED, NOT_FORKED].contains(m)) {
        scripts.push((ready(), control(message), verdict(message, THE_ZYGOTE)));
    }
    for message in MESSAGES.iter().filter(|m| **m != READY) {
        let said = [control(HELLO), control(message)].concat();
        scripts.push((said, vec![], verdict(message, THE_ZYGOTE)));
    }
    scripts.extend(KINDS.map(|kind| (ready(), frame(kind, b""), NO_MESSAGE)));
    scripts.extend([READY, FORKED, OTHER_HELLO].map(|m| (control(m), vec![], verdict(m, THE_ZYGOTE))));
    scripts.extend([HELLO, UNCONFINED].map(|m| (ready(), control(m), THE_ZYGOTE)));
    let twice = [control(HELLO), control(UNCONFINED).repeat(2)].concat();
    scripts.push((twice, vec![], THE_ZYGOTE));
    for (at_once, then, verdict) in scripts {
        let error = broken(&Hostile::saying("zygote", &at_once, &then), StartMethod::Forkserver);
        assert_judged(&error, verdict, &[at_once, then].concat());
    }
}

/// Whatever a worker says that is not its to say at that point, in a pool and as a process.
#[test]
fn f112_a_worker_says_nothing_out_of_turn() {
    let (_alone, _bound) = (alone(), time_bound_of(Duration::from_secs(240)));
    let ready = || [control(HELLO), control(READY)].concat();
    let hello = |said: Vec<u8>| [control(HELLO), said].concat();
    let mut scripts: Vec<(Vec<u8>, Vec<u8>, &str)> = Vec::new();
    for message in MESSAGES {
        scripts.push((ready(), control(message), verdict(message, THE_WORKER)));
        if ![READY, INIT_FAILED].contains(&message) {
            scripts.push((hello(control(message)), vec![], verdict(message, THE_WORKER)));
        }
    }
    // A batch, input and fixed arguments are the coordinator's, and the end of a batch has two figures;
    // before `Ready` nothing of a task is.
    let of_ready = [(2, THE_WORKER), (3, THE_WORKER), (4, THE_WORKER), (21, UNREADABLE)];
    scripts.extend(of_ready.map(|(kind, verdict)| (ready(), frame(kind, b""), verdict)));
    scripts.extend([16, 17].map(|kind| (hello(frame(kind, b"")), vec![], NOT_HELD)));
    scripts.extend([2, 3, 4, 20, 21, 22, 24].map(|kind| (hello(frame(kind, b"")), vec![], THE_WORKER)));
    scripts.extend([READY, OTHER_HELLO].map(|m| (control(m), vec![], verdict(m, THE_WORKER))));
    scripts.push((frame(18, b""), vec![], THE_WORKER));
    scripts.extend([HELLO, UNCONFINED].map(|m| (ready(), control(m), THE_WORKER)));
    scripts.push((hello(control(UNCONFINED).repeat(2)), vec![], THE_WORKER));
    // The batch ends once.
    let ends_twice = [frame(16, b"FIRST"), frame(21, &[0; 16]), frame(21, &[0; 16])].concat();
    scripts.push((ready(), ends_twice, BATCH_NOT_HELD));
    for (at_once, then, verdict) in scripts {
        let said = [&at_once[..], &then].concat();
        let asks = said.ends_with(&control("\"WantsInput\""));
        let (_, told) = Hostile::saying("worker", &at_once, &then).process();
        assert_judged(&told, if asks { NO_INPUT } else { verdict }, &said);
        let reasons = Hostile::saying("worker", &at_once, &then).only_the_first().reasons_in_a_pool();
        assert_judged(&reasons.join("\n"), verdict, &said);
    }
}
