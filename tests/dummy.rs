//! Worker threads: items D1 to D8 of Python's contract, and what is special about threads. That all else is
//! as with processes is the business of the other suites, which run over threads too.

mod support;

use std::num::NonZeroUsize;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Resource, Rlimit};
use support::{guest, program, repo, time_bound, time_bound_of, wait_until, wat};
use wpool::dummy::{Pool, PoolBuilder, Process, ProcessBuilder, active_children, current_process};
use wpool::events::WorkerState;
use wpool::process::{AlreadyStarted, ExitReason, ExitStatus, NotStarted};
use wpool::{Isolation, Limit, Limits, StartError, StartMethod, Target, TaskError};

/// Longer than any test may take.
const FOR_EVER_MS: u64 = 600_000;
/// Long enough to be looked at, and for the end to be awaited.
const A_WHILE_MS: u64 = 3_000;

fn pool(module: &str) -> PoolBuilder {
    Pool::builder(&guest(module)).processes(2)
}

fn process(module: &str, record: &str) -> ProcessBuilder {
    Process::builder(&guest(module)).target(Target::func("run").arg(record))
}

fn started(process: ProcessBuilder) -> Process {
    let mut process = process.build().unwrap();
    process.start().unwrap();
    process
}

fn sleeper(millis: u64) -> String {
    format!("bob:{millis}")
}

/// The guest `hello` is at work: it has printed its name, and sleeps.
fn at_work(process: &Process) {
    wait_until("the guest prints", Duration::from_secs(20), || !process.stdout().is_empty());
}

/// Waits until `workers` workers of the pool have a task.
fn busy(pool: &Pool, workers: usize) {
    wait_until("they run", Duration::from_secs(30), || {
        pool.workers().iter().filter(|w| w.state == WorkerState::Busy).count() == workers
    });
}

/// How many threads of this program are called so. (Names are unique to their test, since tests run side by
/// side.)
fn threads(name: &str) -> usize {
    let names = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    names
        .filter(|t| std::fs::read_to_string(t.path().join("comm")).is_ok_and(|comm| comm.trim() == name))
        .count()
}

/// A thread that was ended by its epoch is gone after some ticks.
#[track_caller]
fn assert_ended(name: &str) {
    wait_until("its thread ends", Duration::from_secs(20), || threads(name) == 0);
}

#[test]
fn d1_the_names_are_the_same() {
    let _bound = time_bound();
    let pool = pool("upper").build().unwrap();
    let upper = pool.func::<&str, String>("run").unwrap();
    assert_eq!(pool.map(&upper, ["a", "b"]).unwrap(), ["A", "B"]);

    let mut process = started(process("hello", &sleeper(A_WHILE_MS)).name("d1"));
    let me = active_children().into_iter().find(|child| child.name == "d1").unwrap();
    assert_eq!((me.pid, me.daemon), (std::process::id(), false));
    assert_eq!(process.join().unwrap(), ExitStatus { exitcode: 0, reason: ExitReason::Returned });
    assert!(active_children().iter().all(|child| child.name != "d1"));
    assert_eq!(
        process.result::<String>(),
        Some(format!("hello bob from d1 (process {})", std::process::id()))
    );
    assert_eq!(current_process(), wpool::process::current_process());
}

#[test]
fn d1_what_is_shared_has_the_same_names_and_is_the_same() {
    use wpool::dummy::{
        Barrier, BoundedSemaphore, Condition, Dict, Event, JoinableQueue, Lock, Queue, RLock,
    };
    use wpool::dummy::{Semaphore, Value, pipe};

    let _bound = time_bound();
    let (queue, jobs) = (Queue::<String>::unbounded(), JoinableQueue::<String>::unbounded());
    let policy = wpool::Policy::sealed().share("q", &queue).share("jobs", &jobs).share("db", &Lock::new());
    let policy = policy.share("r", &RLock::new()).share("s", &Semaphore::new(1)).share("e", &Event::new());
    let policy =
        policy.share("c", &Condition::new()).share("b", &Barrier::new(1)).share("d", &Dict::<u8>::new());
    let policy = policy.share("v", &Value::<i64>::new(&1).unwrap()).share("p", &pipe::<String>().0);
    let policy = policy.share("s2", &BoundedSemaphore::new(1));
    let script = "acquire lock:db; acquire rlock:r; put q a; add v 1";
    let pools = [
        pool("exchange").policy(policy.clone()).build().unwrap(),
        pool("exchange").policy(policy.clone()).build().unwrap(),
    ];
    for pool in &pools {
        let run = pool.func::<&str, String>("run").unwrap();
        pool.apply(&run, script).unwrap();
    }
    let processes = wpool::Pool::builder(&guest("exchange")).policy(policy).build().unwrap();
    let run = processes.func::<&str, String>("run").unwrap();
    assert_eq!(processes.apply(&run, "load v; get-many q 5; meet b").unwrap(), "3 a,a 0");
}

#[test]
fn d2_the_exit_code_tells_the_truth() {
    let _bound = time_bound();
    let mut unstarted = process("failing", "bad").build().unwrap();
    assert_eq!((unstarted.exitcode(), unstarted.is_alive(), unstarted.pid()), (None, false, None));
    assert_eq!(unstarted.join(), Err(NotStarted));

    support::assert_exit_codes(|record| started(process("failing", record)).join().unwrap());
}

#[test]
fn d3_terminate_ends_a_looping_guest() {
    let _bound = time_bound();
    for (name, signal) in [("d3-terminate", 15), ("d3-kill", 9)] {
        let mut process = started(process("failing", "loop").name(name));
        assert_eq!(process.pid(), Some(std::process::id()));
        wait_until("its thread runs", Duration::from_secs(20), || threads(name) == 1);
        let ready = |process: &Process, secs| {
            let mut fds = [PollFd::from_borrowed_fd(process.sentinel().unwrap(), PollFlags::IN)];
            rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: secs, tv_nsec: 0 })).unwrap()
        };
        assert_eq!(ready(&process, 0), 0);
        match signal {
            15 => process.terminate().unwrap(),
            _ => process.kill().unwrap(),
        }
        assert_eq!(ready(&process, 20), 1);
        let status = ExitStatus { exitcode: -signal, reason: ExitReason::Signaled(signal) };
        assert_eq!(process.join().unwrap(), status);
        // As with processes, the first end is the only one.
        process.terminate().unwrap();
        process.kill().unwrap();
        process.interrupt().unwrap();
        assert_eq!(process.exit_status(), Some(status));
        assert_ended(name);
        process.close().unwrap();
    }
}

#[test]
fn d3_a_guest_that_is_inside_a_call_to_the_host_is_abandoned() {
    let _bound = time_bound();
    let mut process = started(process("hello", &sleeper(A_WHILE_MS)).name("d3-sleeper"));
    at_work(&process);
    let asked = Instant::now();
    process.terminate().unwrap();
    assert_eq!(process.join().unwrap().exitcode, -15);
    assert!(asked.elapsed() < Duration::from_millis(A_WHILE_MS), "{:?}", asked.elapsed());
    drop(process);
    // A thread that it starts has its name until that has one of its own.
    wait_until("it sleeps on, alone", Duration::from_secs(5), || threads("d3-sleeper") == 1);
    // Then it ends by itself, without a report.
    assert_ended("d3-sleeper");
}

#[test]
fn d3_a_daemon_is_ended_with_its_handle_and_others_are_waited_for() {
    let _bound = time_bound();
    let daemon = started(process("failing", "loop").name("d3-daemon").daemon(true));
    drop(daemon);
    assert_ended("d3-daemon");
    let asked = Instant::now();
    let process = started(process("hello", &sleeper(300)));
    drop(process);
    assert!(asked.elapsed() >= Duration::from_millis(300));
}

#[test]
fn d4_a_pool_takes_processes_and_an_initializer() {
    let _bound = time_bound();
    // That it takes no `max_tasks_per_child` is shown in the documentation of `PoolBuilder`.
    let pool = pool("counter").processes(1).initializer("init", ["10"]).build().unwrap();
    let count = pool.func::<&str, String>("run").unwrap();
    assert_eq!(pool.map(&count, [""; 3]).unwrap(), ["11", "12", "13"]);

    let builder = self::pool("counter").initargs(["10"]).isolation(Isolation::Fresh).name("d4").retries(1);
    let builder =
        builder.buffer(NonZeroUsize::MIN).limits(Limits::default()).task_timeout(Duration::from_secs(60));
    let counted = builder.build().unwrap().scope(|pool| {
        let count = pool.func::<&str, String>("run").unwrap();
        (0..3).map(|_| pool.apply_async(&count, "")).collect::<Vec<_>>()
    });
    let counted: Vec<String> = counted.into_iter().map(|result| result.get().unwrap()).collect();
    assert_eq!(counted, ["11", "11", "11"]);
    assert_ended("d4-1");
    assert_ended("d4-2");
}

#[test]
fn d5_terminate_does_not_wait_for_the_running_task() {
    let _bound = time_bound();
    // One is in its own code, the other inside a call to the host.
    let pools = [("failing", "loop".to_owned(), "d5-loop"), ("hello", sleeper(FOR_EVER_MS), "d5-sleep")];
    for (module, record, name) in pools {
        let pool = pool(module).name(name).build().unwrap();
        let run = pool.func::<&str, String>("run").unwrap();
        let results = [(); 2].map(|()| pool.apply_async(&run, &record));
        busy(&pool, 2);
        let asked = Instant::now();
        pool.terminate();
        pool.join().unwrap();
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        assert_eq!(
            results.map(|result| result.get()),
            [Err(TaskError::Cancelled), Err(TaskError::Cancelled)]
        );
        assert_eq!(pool.workers(), []);
    }
    assert_ended("d5-loop-1");
    assert_ended("d5-loop-2");
}

#[test]
fn d6_a_process_is_started_once_by_any_owner() {
    let _bound = time_bound();
    // There is one owner at a time, so that a start by anyone else cannot be written; a second start can.
    let mut process = std::thread::spawn(|| started(process("failing", "good"))).join().unwrap();
    assert!(matches!(process.start(), Err(StartError::AlreadyStarted)));
    assert!(matches!(process.run(), Err(StartError::AlreadyStarted)));
    assert_eq!(process.set_daemon(true), Err(AlreadyStarted));
    assert_eq!(process.join().unwrap().exitcode, 0);
}

/// All that can go wrong by the signals of the machine, and by limits.
const FAULTS: &str = r#"
(module
  (memory 1)
  (func $deeper (param i32) (result i32) (i32.add (i32.const 1) (call $deeper (local.get 0))))
  (func (export "fault") (param i32) (result i32)
    (block $trap (block $memory (block $zero (block $deep (block $good
      (br_table $good $deep $zero $memory $trap (local.get 0)))
      (return (i32.const 42)))
      (return (call $deeper (i32.const 0))))
      (return (i32.div_s (i32.const 1) (i32.sub (local.get 0) (local.get 0)))))
      (return (i32.load (i32.const 0x7fffffff))))
    (unreachable)))
"#;

#[test]
fn d7_o26_errors_are_those_of_processes() {
    let _bound = time_bound();
    let over = |method| {
        let pool = |module: &wpool::Module| wpool::Pool::builder(module).start_method(method).processes(1);
        let failing = pool(&guest("failing")).task_timeout(Duration::from_millis(300)).build().unwrap();
        let run = failing.func::<&str, String>("run").unwrap();
        let told = failing.try_map(&run, ["good", "bad", "panic", "exit", "loop", "good"]);
        assert_eq!(failing.workers().iter().map(|w| w.index).collect::<Vec<_>>(), [1], "no worker was lost");

        let faults = pool(&wat(FAULTS)).build().unwrap();
        let fault = faults.func::<i32, i32>("fault").unwrap();
        let trapped = faults.try_map(&fault, [0, 1, 2, 3, 4, 0]);
        assert_eq!(faults.workers().len(), 1);

        let mut limits = Limits::default();
        (limits.output, limits.input) = (10, 20);
        let upper = pool(&guest("upper")).limits(limits).build().unwrap();
        let run = upper.func::<&str, String>("run").unwrap();
        (
            told,
            trapped,
            upper.try_map(&run, ["short", "ten and more", "so long that it is not even looked at"]),
        )
    };
    let threads = over(StartMethod::Thread);
    assert_eq!(threads, over(StartMethod::Forkserver));
    let kinds: Vec<_> = threads.1.iter().map(|outcome| outcome.as_ref().err().map(TaskError::kind)).collect();
    assert_eq!(kinds, [None, Some("stack"), Some("trap"), Some("trap"), Some("trap"), None]);

    let mut unstarted = process("failing", "good").build().unwrap();
    assert_eq!((unstarted.terminate(), unstarted.kill()), (Err(NotStarted), Err(NotStarted)));
    assert!(unstarted.sentinel().is_err());
}

// D8, a pipe that knows its end, comes with the pipes.

#[test]
fn run_runs_the_target_before_it_returns() {
    let _bound = time_bound();
    let printed = std::sync::Arc::new(std::sync::Mutex::new(Vec::<u8>::new()));
    let sink = printed.clone();
    let process = process("hello", &sleeper(0))
        .name("Runner")
        .on_stdout(move |bytes| sink.lock().unwrap().extend(bytes));
    let mut process = process.on_stderr(|_| {}).limits(Limits::default()).build().unwrap();
    assert_eq!(process.run().unwrap(), ExitStatus { exitcode: 0, reason: ExitReason::Returned });
    let whoami = format!("Runner (process {})", std::process::id());
    assert_eq!(process.result::<String>(), Some(format!("hello bob from {whoami}")));
    assert_eq!(*printed.lock().unwrap(), format!("{whoami}\n").into_bytes());

    let command =
        Process::builder(&guest("args")).target(Target::default().argv(["args", "one"])).input("two");
    let mut command = command.build().unwrap();
    assert_eq!(command.run().unwrap().exitcode, 0);
    assert_eq!(command.stdout(), b"one\ntwo");
}

#[test]
fn a_name_may_be_anything() {
    let _bound = time_bound();
    let mut process =
        process("hello", &sleeper(0)).name("a\0b, and longer than a thread's name").build().unwrap();
    assert_eq!(process.run().unwrap().exitcode, 0);
    assert!(process.result::<String>().unwrap().contains("a\0b, and longer"));
}

#[test]
fn a_sink_that_panics_does_not_hang_join() {
    let _bound = time_bound();
    let process =
        process("hello", &sleeper(FOR_EVER_MS)).on_stdout(|_| panic!("this panic is part of a test"));
    let status = started(process).join().unwrap();
    assert!(matches!(
        status,
        ExitStatus { exitcode: -9, reason: ExitReason::Failed(TaskError::Broken { .. }) }
    ));
}

#[test]
fn a_thread_that_does_not_answer_in_time_is_replaced() {
    let _bound = time_bound();
    let pool =
        pool("hello").processes(1).name("late").task_timeout(Duration::from_millis(100)).build().unwrap();
    let hello = pool.func::<&str, String>("run").unwrap();
    let record = sleeper(A_WHILE_MS);
    let outcomes = pool.try_map(&hello, ["a:0", &record, "b:0"]);
    let message =
        "timeout after 100ms (--timeout, Limits::time); it did not stop by itself: its worker was abandoned"
            .to_owned();
    assert_eq!(outcomes[1], Err(TaskError::Limit { limit: Limit::Time, message }));
    assert!(outcomes[0].as_ref().unwrap().contains("late-1"));
    assert!(outcomes[2].as_ref().unwrap().contains("late-2"));
    pool.close();
    pool.join().unwrap();
    assert_ended("late-1");
    assert_ended("late-2");

    let mut limits = Limits::default();
    limits.time = Some(Duration::from_millis(100));
    let mut process = process("hello", &sleeper(A_WHILE_MS)).limits(limits).build().unwrap();
    let message =
        "timeout after 100ms (--timeout, Limits::time); it did not stop by itself: the process was abandoned"
            .to_owned();
    let reason = ExitReason::Failed(TaskError::Limit { limit: Limit::Time, message });
    assert_eq!(process.run().unwrap(), ExitStatus { exitcode: -9, reason });
}

#[test]
fn finished_results_do_not_wait_for_a_slow_task() {
    let _bound = time_bound();
    let pool = pool("failing").processes(1).isolation(Isolation::Reuse).build().unwrap();
    let (mut inputs, mut outcomes) = pool.stream(&Target::default(), true).unwrap();
    // Tasks as short as these go by the dozen into a batch, and one that never ends is somewhere in the midst
    // of one.
    let records = (0..8000).map(|n| if n == 4321 { &b"loop"[..] } else { b"a" });
    inputs.push_all(records).unwrap();
    for _ in 0..4321 {
        let deadline = Instant::now() + Duration::from_secs(30);
        outcomes.take_one(Some(deadline), |outcome| assert!(outcome.result().is_ok())).unwrap().unwrap();
    }
}

#[test]
fn many_pools_at_once() {
    let _bound = time_bound();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                let pools: Vec<Pool> = (0..5).map(|_| pool("upper").build().unwrap()).collect();
                let mut results = Vec::new();
                for pool in &pools {
                    let upper = pool.func::<String, String>("run").unwrap();
                    results.extend((0..20).map(|n| pool.apply_async(&upper, format!("t{thread} n{n}"))));
                }
                for (at, result) in results.into_iter().enumerate() {
                    assert_eq!(result.get().unwrap(), format!("T{thread} N{}", at % 20));
                }
            });
        }
    });
}

/// Runs the body of a test in a process of its own, where nothing else starts threads and opens files.
#[track_caller]
fn alone(test: &str, body: fn()) {
    const ALONE: &str = "WPOOL_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let this = std::env::current_exe().unwrap();
    let done = Command::new(this).args(["--exact", test, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[test]
fn two_hundred_workers() {
    alone("two_hundred_workers", alone_two_hundred_workers);
}

fn alone_two_hundred_workers() {
    let _bound = time_bound();
    // A worker costs three descriptors.
    let most = rustix::process::getrlimit(Resource::Nofile).maximum;
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    let pool = pool("hello").processes(200).build().unwrap();
    let hello = pool.func::<String, String>("run").unwrap();
    // Long enough for the last to be there before the first is done.
    let held: Vec<_> = (0..200).map(|n| pool.apply_async(&hello, format!("{n}:6000"))).collect();
    busy(&pool, 200);
    let mut numbers: Vec<u32> = pool.workers().iter().map(|w| w.index).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=200).collect::<Vec<_>>());
    assert!(held.into_iter().all(|result| result.get().is_ok()));
    assert_eq!(pool.map(&hello, (0..1000).map(|n| format!("{n}:0"))).unwrap().len(), 1000);
    pool.close();
    pool.join().unwrap();
}

/// Threads and descriptors of this process.
fn held() -> (usize, usize) {
    let count = |dir| std::fs::read_dir(dir).unwrap().count();
    (count("/proc/self/task"), count("/proc/self/fd"))
}

#[test]
fn no_thread_and_no_descriptor_is_left_behind() {
    alone("no_thread_and_no_descriptor_is_left_behind", alone_no_thread_and_no_descriptor_is_left_behind);
}

fn alone_no_thread_and_no_descriptor_is_left_behind() {
    let _bound = time_bound();
    let (hello, failing) = (guest("hello"), guest("failing"));
    let run = |closes: bool| {
        let pool = Pool::builder(&hello).processes(2).build().unwrap();
        let run = pool.func::<&str, String>("run").unwrap();
        assert!(pool.map(&run, ["a:0", "b:0", "c:0"]).is_ok());
        if closes {
            pool.close();
            pool.join().unwrap();
        }
        let pool = Pool::builder(&failing).processes(1).build().unwrap();
        let run = pool.func::<&str, String>("run").unwrap();
        let endless = pool.apply_async(&run, "loop");
        drop(pool);
        assert_eq!(endless.get(), Err(TaskError::Cancelled));
        let mut process = Process::builder(&failing).target(Target::func("run").arg("loop")).build().unwrap();
        process.start().unwrap();
        process.terminate().unwrap();
        process.join().unwrap();
    };
    // The engine has threads of its own, which are the program's from the first sleep on.
    run(true);
    let ours = ["PoolWorker-1", "PoolWorker-2", "wpool-pulse", "wpool-process", "wpool-dispatche"];
    wait_until("the first have ended", Duration::from_secs(20), || {
        ours.iter().all(|name| threads(name) == 0)
    });
    let before = held();
    for n in 0..100 {
        run(n % 2 == 0);
    }
    wait_until("all is as before", Duration::from_secs(20), || {
        let now = held();
        now.0 <= before.0 && now.1 <= before.1
    });
}

// The command line.

/// The program's exit code, and what it printed.
fn wpool(args: &[&str], files: &[&str]) -> (i32, String, String) {
    let files = files.iter().map(|file| repo(&format!("guest/prebuilt/{file}.wasm")));
    let cache = support::cache_dir();
    let mut command = Command::new(program());
    let (subcommand, rest) = args.split_first().unwrap();
    // The options of `run` come before the module.
    let options =
        if *subcommand == "run" { rest.iter().take_while(|arg| **arg != "MODULE").count() } else { 0 };
    let (before, behind) = rest.split_at(options);
    let behind = behind.iter().filter(|arg| **arg != "MODULE");
    command.arg(subcommand).args(before).args(files).args(behind).env("WPOOL_CACHE_DIR", cache);
    let done = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code().unwrap(), text(&done.stdout), text(&done.stderr))
}

#[test]
fn threads_are_a_flag_of_the_command_line() {
    let _bound = time_bound();
    let (code, out, _) = wpool(&["map", "--threads", "-j", "3", "-q", "--items", "a", "b", "c"], &["upper"]);
    assert_eq!((code, out.as_str()), (0, "A\nB\nC\n"));
    let (code, out, _) = wpool(&["call", "--threads", r#"run("a")"#], &["upper"]);
    assert_eq!((code, out.as_str()), (0, "A\n"));
    let (code, out, _) = wpool(&["run", "--threads", "MODULE", "one"], &["args"]);
    assert_eq!((code, out.as_str()), (0, "one\n"));
    let (code, _, said) = wpool(&["run", "--threads", "--func", "run", "--arg", "panic"], &["failing"]);
    assert!(code == 134 && said.contains("trap: panicked at failing"), "{code}: {said}");

    // The guest sees that its process is the program itself: no other was started.
    let args = ["map", "--threads", "--format", "jsonl", "--items", "a:0", "b:0"];
    let (code, out, _) = wpool(&args, &["hello"]);
    let pids = |key: &str| {
        let after =
            |line: &str| line.split(key).nth(1).unwrap().chars().take_while(char::is_ascii_digit).collect();
        out.lines().map(after).collect::<Vec<String>>()
    };
    assert!(code == 0 && pids("\"pid\":") == pids("(process "), "{out}");

    // A loop is ended by its time, and a sleep that nothing ends does not keep the program.
    let asked = Instant::now();
    let args = ["map", "--threads", "--timeout", "200ms", "--items", "a:600000", "b:0"];
    let (code, out, said) = wpool(&args, &["hello"]);
    assert!(code == 1 && out.starts_with("hello b") && said.contains("timeout after 200ms"), "{out}{said}");
    let (code, _, said) =
        wpool(&["run", "--threads", "--timeout", "200ms", "--func", "run", "--arg", "loop"], &["failing"]);
    assert!(code == 124 && said.contains("timeout after 200ms"), "{code}: {said}");
    assert!(asked.elapsed() < Duration::from_secs(30));

    // What concerns processes only does not go with threads.
    for flag in [["--start-method", "spawn"], ["--max-tasks-per-child", "3"]] {
        let (code, _, said) = wpool(&["map", "--threads", flag[0], flag[1], "--items", "a"], &["upper"]);
        assert!(code == 2 && said.contains("cannot be used with"), "{said}");
    }
}

#[test]
fn hundred_sleepers_are_ended_at_once() {
    let _bound = time_bound_of(Duration::from_secs(120));
    let mut sleepers: Vec<Process> = (0..50).map(|_| started(process("hello", &sleeper(10)))).collect();
    assert!(sleepers.iter_mut().all(|p| p.join().unwrap().exitcode == 0));
    let name = |_| started(process("hello", &sleeper(A_WHILE_MS)).name("p32-sleeper"));
    let mut sleepers: Vec<Process> = (0..50).map(name).collect();
    sleepers.iter_mut().for_each(|p| p.terminate().unwrap());
    // On a busy machine the first have had their sleep before the last has been started.
    let has_ended = |p: &mut Process| match p.join().unwrap() {
        ExitStatus { exitcode: 0, reason: ExitReason::Returned } => p.result::<String>().is_some(),
        status => status.exitcode == -15,
    };
    assert!(sleepers.iter_mut().all(has_ended));
    assert_ended("p32-sleeper");
}
