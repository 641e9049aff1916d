//! `--profile`, `PoolBuilder::profile` and `ProcessBuilder::profile`: where guests spend their time.

mod support;

use std::sync::{Arc, Mutex};

use serde_json::Value;
use support::command::{ends, err, file, path_text, prebuilt, run, scratch, wpool};
use support::{loader, time_bound};
use wpool::events::{PoolEvent, ProfilingStrategy};
use wpool::process::ExitReason;
use wpool::{Pool, Process, StartMethod, Target};

/// Loops as often as its input says, in a function with a name.
const BUSY: &str = r#"(module $busy
    (func $turn_and_turn (param $n i64) (result i64)
        (loop $again
            (local.set $n (i64.sub (local.get $n) (i64.const 1)))
            (br_if $again (i64.gt_s (local.get $n) (i64.const 0))))
        (local.get $n))
    (func (export "run") (param i64) (result i64) (call $turn_and_turn (local.get 0))))"#;

/// About 50 ms of that loop.
const TURNS: i64 = 100_000_000;

/// The processes of a profile: each one's name, how many samples it has, and the functions in them.
fn processes(json: &[u8]) -> Vec<(String, u64, Vec<String>)> {
    let profile: Value = serde_json::from_slice(json).unwrap();
    assert_eq!(profile["meta"]["preprocessedProfileVersion"], 55);
    let libs = profile["libs"].as_array().unwrap().len() as u64;
    let of = |thread: &Value| {
        let text = |index: &Value| {
            thread["stringArray"][index.as_u64().unwrap() as usize].as_str().unwrap().to_owned()
        };
        let functions = thread["funcTable"]["name"].as_array().unwrap().iter().map(text).collect();
        for lib in thread["resourceTable"]["lib"].as_array().unwrap() {
            assert!(lib.as_u64().unwrap() < libs);
        }
        let samples = thread["samples"]["length"].as_u64().unwrap();
        (thread["name"].as_str().unwrap().to_owned(), samples, functions)
    };
    profile["threads"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn a_profile_shows_the_guests_functions_worker_by_worker() {
    let dir = scratch();
    let (busy, json) = (path_text(&file(&dir, "busy.wat", BUSY)), dir.path().join("profile.json"));
    let how = format!("guest,{}", path_text(&json));
    let turns = [TURNS.to_string(), TURNS.to_string()];
    let output = run(wpool(["map", &busy, "--items", &turns[0], &turns[1], "-j", "2", "--profile", &how]));
    ends(
        &output,
        0,
        &format!(" samples of 2 workers in {}: open it at profiler.firefox.com\n", path_text(&json)),
    );
    let workers = processes(&std::fs::read(&json).unwrap());
    let mut names: Vec<&str> = workers.iter().map(|(name, ..)| &name[..]).collect();
    names.sort_unstable();
    assert_eq!(names, ["PoolWorker-1", "PoolWorker-2"]);
    for (name, samples, functions) in &workers {
        assert!(*samples >= 3, "{name} has {samples}");
        assert!(functions.iter().any(|function| function.contains("turn_and_turn")), "{functions:?}");
    }
}

#[test]
fn a_task_that_is_over_its_time_is_in_the_profile_and_one_call_or_process_has_one_too() {
    let dir = scratch();
    let (busy, json) = (path_text(&file(&dir, "busy.wat", BUSY)), dir.path().join("profile.json"));
    let how = format!("guest,{},2ms", path_text(&json));
    let endless = i64::MAX.to_string();
    let sampled = || {
        let [(_, samples, functions)] = &processes(&std::fs::read(&json).unwrap())[..] else {
            panic!("one process")
        };
        assert!(*samples >= 3 && functions.iter().any(|function| function.contains("turn_and_turn")));
    };
    ends(
        &run(wpool(["map", &busy, "--items", &endless, "--timeout", "100ms", "--profile", &how])),
        1,
        "timeout after 100ms",
    );
    sampled();
    let call = format!("run({TURNS})");
    ends(&run(wpool(["call", &busy, &call, "--profile", &how])), 0, " samples of 1 worker in ");
    sampled();
    let arg = TURNS.to_string();
    ends(
        &run(wpool(["run", "--profile", &how, "--func", "run", "--arg", &arg, &busy])),
        0,
        " samples of 1 worker in ",
    );
    sampled();
}

#[test]
fn what_cannot_be_a_profile_is_refused_before_anything_runs() {
    let upper = prebuilt("upper");
    for wrong in ["host", "guest,", "guest,p,0", "perfmap,p"] {
        ends(&run(wpool(["map", &upper, "--items", "a", "--profile", wrong])), 2, "--profile");
    }
    let output = run(wpool(["map", &upper, "--items", "a", "--profile", "guest,/nowhere/p"]));
    ends(&output, 4, "cannot write the profile /nowhere/p: No such file or directory");
    assert!(output.stdout.is_empty());
    // A run that runs nothing makes no file either.
    let dir = scratch();
    let path = dir.path().join("p");
    let how = format!("guest,{}", path_text(&path));
    ends(&run(wpool(["map", &upper, "--items", "a", "--dry-run", "--profile", &how])), 0, "would call");
    assert!(!path.exists());
}

#[test]
fn perf_finds_names_in_a_file_of_each_workers_process() {
    let dir = scratch();
    let busy = path_text(&file(&dir, "busy.wat", BUSY));
    for (how, before, after) in [("perfmap", "/tmp/perf-", ".map"), ("jitdump", "/tmp/jit-", ".dump")] {
        let output = run(wpool(["map", &busy, "--items", "1", "--profile", how, "--format", "jsonl"]));
        ends(&output, 0, &format!("profile: each worker has left {before}PID{after}"));
        let line: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", err(&output)));
        let path = format!("{before}{}{after}", line["pid"]);
        let names = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(memchr::memmem::find(&names, b"turn_and_turn").is_some(), "{how}");
    }
}

fn profiles(method: StartMethod) -> Vec<(u32, Arc<[u8]>)> {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = kept.clone();
    let on_event = move |event: &PoolEvent| {
        if let PoolEvent::WorkerProfiled { worker, profile } = event {
            keep.lock().unwrap().push((*worker, profile.clone()));
        }
    };
    let module = loader().from_bytes(BUSY.as_bytes()).unwrap();
    let builder = Pool::builder(&module).processes(1).start_method(method).on_event(on_event);
    let pool = builder.profile(ProfilingStrategy::guest()).build().unwrap();
    let busy = pool.func::<i64, i64>("run").unwrap();
    assert_eq!(pool.map(&busy, [TURNS, TURNS]).unwrap(), [0, 0]);
    pool.close();
    pool.join().unwrap();
    Arc::into_inner(kept).map_or_else(Vec::new, |kept| kept.into_inner().unwrap())
}

#[test]
fn a_pool_tells_its_workers_profiles_as_they_end_however_they_are_started() {
    let _bound = time_bound();
    for method in [StartMethod::Forkserver, StartMethod::Spawn, StartMethod::Thread] {
        let [(1, profile)] = &profiles(method)[..] else { panic!("one profile of worker 1, {method:?}") };
        let [(name, samples, functions)] = &processes(profile)[..] else { panic!("one process, {method:?}") };
        assert!(name == "PoolWorker-1" && *samples >= 3, "{name} {samples}");
        assert!(functions.iter().any(|function| function.contains("turn_and_turn")));
    }
}

#[test]
fn a_process_has_a_profile_after_its_end_unless_it_was_killed() {
    let _bound = time_bound();
    let module = loader().from_bytes(BUSY.as_bytes()).unwrap();
    let start = |turns: i64, method: StartMethod| {
        let target = Target::func("run").arg(turns);
        let builder =
            Process::builder(&module).target(target).profile(ProfilingStrategy::guest()).start_method(method);
        let mut process = builder.build().unwrap();
        process.start().unwrap();
        process
    };
    let mut process = start(TURNS, StartMethod::Forkserver);
    assert_eq!(process.join().unwrap().exitcode, 0);
    let [(name, samples, _)] = &processes(&process.profile().unwrap())[..] else { panic!("one process") };
    assert!(name == process.name() && *samples >= 3, "{name} {samples}");
    for method in [StartMethod::Spawn, StartMethod::Thread] {
        let mut process = start(i64::MAX, method);
        process.terminate().unwrap();
        let status = process.join().unwrap();
        assert!(matches!(status.reason, ExitReason::Signaled(_)), "{method:?}: {status:?}");
        assert_eq!(process.profile(), None);
    }
}
