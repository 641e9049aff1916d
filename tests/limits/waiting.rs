//! Guests that wait in calls to the host: limits and cancels reach them as they reach others, and they use no
//! processor time.

use std::io::Write;

use super::*;

methods::over_all_start_methods! {
    a_time_limit_ends_a_guest_that_waits_or_computes_or_does_both
    a_cancel_ends_a_guest_that_has_waited_within_its_worker
    results_that_are_ready_do_not_wait_for_a_guest_that_waits
    f12_a_guest_that_waits_for_ever_is_ended_after_the_grace
}

/// A guest that does what the first letter of its record says: `w`aits for ever, `c`omputes for ever, waits
/// for a moment and `t`hen computes for ever, does both in `a`lternation for ever, or returns.
fn sleeper() -> Module {
    let text = std::fs::read_to_string(repo("tests/hostile/c06-sleep-forever.wat")).unwrap();
    let body = "(call $f1 (call $f0 (i64.const 3155760000000000000)))";
    assert!(text.contains(body));
    let is =
        |letter: char| format!("(i32.eq (i32.load8_u (local.get $p)) (i32.const {}))", u32::from(letter));
    let wait = |millis: u64| format!("(call $f1 (call $f0 (i64.const {millis}000000)))");
    let compute = "(local.set $i (i32.const 0)) (loop $on
        (br_if $on (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 3000000))))";
    let new = format!(
        "(if {} (then {body})) (if {} (then (loop $l (br $l)))) (if {} (then {} (loop $l (br $l))))
        (if {} (then (loop $l {compute} {} (br $l))))",
        is('w'),
        is('c'),
        is('t'),
        wait(40),
        is('a'),
        wait(15),
    );
    wat(&text.replace(body, &new))
}

fn a_time_limit_ends_a_guest_that_waits_or_computes_or_does_both(method: StartMethod) {
    // The grace is for a slow machine: no worker may be killed.
    let limits = limits(|l| (l.time, l.grace) = (Some(Duration::from_millis(100)), Duration::from_secs(50)));
    let pool = builder(&sleeper(), method).processes(1).limits(limits).build().unwrap();
    let run = pool.func::<&[u8], Vec<u8>>("run").unwrap();
    let outcomes = pool.try_map(&run, [&b"compute"[..], b"then", b"alternate", b"then"]);
    for outcome in &outcomes {
        assert_limit(outcome, Limit::Time, "timeout after 100ms (--timeout, Limits::time)");
    }
    assert!(pool.apply(&run, b"return").is_ok());
}

fn a_cancel_ends_a_guest_that_has_waited_within_its_worker(method: StartMethod) {
    let limits = limits(|l| l.grace = Duration::from_secs(50));
    let pool = builder(&sleeper(), method).processes(1).limits(limits).build().unwrap();
    let run = pool.func::<&[u8], Vec<u8>>("run").unwrap();
    pool.apply(&run, b"return").unwrap();
    let first = pool.workers()[0].index;
    for record in ["compute", "then", "alternate", "then"] {
        let running = pool.apply_async(&run, record.as_bytes());
        let is_busy = || pool.workers().iter().any(|w| w.state == wpool::events::WorkerState::Busy);
        support::wait_until("it runs", Duration::from_secs(30), is_busy);
        // Some of them are now waiting, in slow ticks.
        std::thread::sleep(Duration::from_millis(30));
        assert!(running.cancel());
        assert_eq!(running.get(), Err(TaskError::Cancelled), "{record}");
        assert!(pool.apply(&run, b"return").is_ok());
    }
    assert_eq!(pool.workers()[0].index, first, "the worker lives on");
}

fn f12_a_guest_that_waits_for_ever_is_ended_after_the_grace(method: StartMethod) {
    let limits = limits(|l| l.time = Some(Duration::from_millis(100)));
    let pool = builder(&sleeper(), method).processes(1).limits(limits).build().unwrap();
    let run = pool.func::<&[u8], Vec<u8>>("run").unwrap();
    match pool.apply(&run, b"wait") {
        Err(TaskError::Limit { limit: Limit::Time, message }) => {
            assert!(message.contains("it did not stop by itself"), "{message}");
        }
        other => panic!("not a time limit: {other:?}"),
    }
    let waiting = pool.apply_async(&run, b"wait");
    assert!(waiting.cancel());
    assert_eq!(waiting.get(), Err(TaskError::Cancelled));
    assert!(pool.apply(&run, b"return").is_ok());
}

fn results_that_are_ready_do_not_wait_for_a_guest_that_waits(method: StartMethod) {
    let pool = builder(&sleeper(), method).processes(1).isolation(Isolation::Reuse).build().unwrap();
    let (mut inputs, mut outcomes) = pool.stream(&Target::default(), true).unwrap();
    // Short tasks go by the dozen into a batch. The one that waits is somewhere in the midst of one.
    let records = (0..8000).map(|n| if n == 4321 { &b"wait"[..] } else { b"return" });
    inputs.push_all(records).unwrap();
    for _ in 0..4321 {
        let deadline = Instant::now() + Duration::from_secs(30);
        outcomes.take_one(Some(deadline), |outcome| assert!(outcome.result().is_ok())).unwrap().unwrap();
    }
}

/// Processor time that processes have used, without those that have ended, by the kernel's own count.
fn processor_time(pids: &[u32]) -> Duration {
    let tasks =
        pids.iter().flat_map(|pid| std::fs::read_dir(format!("/proc/{pid}/task"))).flatten().flatten();
    let nanos = |stat: String| stat.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok());
    let used = tasks.filter_map(|task| nanos(std::fs::read_to_string(task.path().join("schedstat")).ok()?));
    Duration::from_nanos(used.sum())
}

#[test]
fn five_hundred_sleepers_use_a_small_share_of_a_processor() {
    const SLEEPERS: usize = 500;
    let _bound = support::time_bound_of(Duration::from_secs(180));
    let dir = temp_dir();
    let module = dir.path().join("sleeper.wat");
    let forever = std::fs::read(repo("tests/hostile/c06-sleep-forever.wat")).unwrap();
    std::fs::write(&module, forever).unwrap();
    let jobs = SLEEPERS.to_string();
    let mut command = command(program(), &["map", module.to_str().unwrap(), "-j", &jobs, "--timeout", "1h"]);
    let mut map = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let records: String = (0..SLEEPERS).map(|n| format!("{n}\n")).collect();
    map.stdin.take().unwrap().write_all(records.as_bytes()).unwrap();
    let all = || support::workers_of(map.id()).into_iter().chain([map.id()]).collect::<Vec<u32>>();
    // The coordinator, the workers and their zygote.
    let have_started = || all().len() >= SLEEPERS + 2;
    support::wait_until("they have started", Duration::from_secs(60), have_started);
    // A share does not depend on the load of the machine. The start is over when it falls, and it stays low.
    let share_falls = || {
        let (pids, from) = (all(), Instant::now());
        let before = processor_time(&pids);
        std::thread::sleep(Duration::from_secs(1));
        let used = processor_time(&pids).saturating_sub(before);
        println!("{used:?} in {:?}", from.elapsed());
        !used.is_zero() && used < from.elapsed() / 10
    };
    support::wait_until("sleeping costs little", Duration::from_secs(60), share_falls);
    assert!(map.try_wait().unwrap().is_none(), "they still sleep");
    let peak = support::memory_peak_kib(map.id());
    map.kill().unwrap();
    map.wait().unwrap();
    assert_no_workers(map.id());
    assert!(peak < 128 << 10, "{peak} KiB in the coordinator");
}
