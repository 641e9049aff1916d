//! Processes of ours in an attacker's hands, of every role: what they send, name or claim costs the coordinator nothing but them. Rows F110 to
//! F113 of the list of faults. (`tests/faults.rs` has workers that break the protocol of tasks, row F104.)

mod support;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{example, loader, repo, temp_dir, time_bound, time_bound_of};
use wpool::{Module, ModuleLoader, Pool, Process, StartMethod};

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
        std::fs::hard_link(example("hostile_worker"), &program).unwrap();
        std::fs::write(dir.path().join("real"), support::program().to_str().unwrap()).unwrap();
        std::fs::write(dir.path().join("role"), role).unwrap();
        Hostile { _dir: dir, program }
    }

    fn loader(&self) -> ModuleLoader {
        loader().program(&self.program)
    }

    fn upper(&self) -> Module {
        self.loader().load(repo("guest/prebuilt/upper.wasm")).unwrap()
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
    let before = open_files();
    let flat = |what: &str| assert!(open_files() < before + 16, "{what}: {before} descriptors before");

    let error = broken(&Hostile::new("worker", "descriptors"), StartMethod::Spawn);
    assert!(error.contains(said), "{error}");
    flat("worker");

    let error = broken(&Hostile::new("zygote", "descriptors"), StartMethod::Forkserver);
    assert!(error.contains(said), "{error}");
    flat("zygote");

    for (role, method) in [("worker", StartMethod::Spawn), ("zygote", StartMethod::Forkserver)] {
        let hostile = Hostile::new(role, "descriptors");
        let process = Process::builder(&hostile.upper()).target("run").input("x").start_method(method);
        let mut process = process.build().unwrap();
        // Without a zygote it is executed, and does its work.
        process.start().unwrap();
        let status = process.join_timeout(Duration::from_secs(20)).unwrap().expect("it has an end");
        let told = format!("{:?}", status.reason);
        assert!(if role == "worker" { told.contains(said) } else { told.contains("Returned") }, "{told}");
        flat(role);
    }

    let hostile = Hostile::new("compiler", "descriptors");
    let error = hostile.loader().no_cache().load(repo("guest/prebuilt/upper.wasm")).unwrap_err().to_string();
    assert!(error.contains("descriptors, which no process of ours sends"), "{error}");
    flat("compiler");
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
        ("answers-unasked", "protocol error: the zygote said what it was not asked"),
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
        let said = if pid == i64::from(i32::MAX) { "it was gone at once" } else { "a process that it has not forked" };
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
    let pool = Pool::builder(&support::guest("upper")).processes(processes).lazy(false).build().unwrap();
    assert_eq!(pool.workers().len(), processes);
    let upper = pool.func::<&str, String>("run").unwrap();
    assert!(pool.map(&upper, ["a"; 5000]).unwrap().iter().all(|value| value == "A"));
    pool.close();
    assert_eq!(pool.join_timeout(Duration::from_secs(60)), Ok(true));
}
