//! Results that are not taken, and messages that are not read: the coordinator keeps a bounded amount of them
//! for any guest. Rows F108, F109 and F145 of the faults.

#[path = "support/methods.rs"]
mod methods;
mod support;

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use support::command::prebuilt;
use support::{Scene, builder, memory_peak_kib, pids, run_in, signal, time_bound, wait_until, wat};
use wpool::events::{PoolEvent, WorkerState};
use wpool::{Pool, StartMethod};

methods::over_all_start_methods! {
    f108_results_that_are_not_taken_hold_up_nothing_else
    f108_results_of_a_dropped_iterator_are_gone
    f108_results_outlive_their_workers
    f108_results_larger_than_the_budget_come_one_by_one
}

const MIB: u64 = 1 << 20;
/// What every result of [`LARGE`] is long.
const LEN: u64 = 4 * MIB;

/// Gives 4 MiB of the record's first byte; a record that begins with `s` never ends, one with `t` is a trap.
const LARGE: &str = r#"(component
    (core module $m
        (memory (export "memory") 80)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 16))
        (func (export "run") (param $p i32) (param $n i32) (result i32)
            (if (i32.eq (i32.load8_u (local.get $p)) (i32.const 115)) (then (loop $l (br $l))))
            (if (i32.eq (i32.load8_u (local.get $p)) (i32.const 116)) (then unreachable))
            (memory.fill (i32.const 65536) (i32.load8_u (local.get $p)) (i32.const 4194304))
            (i32.store (i32.const 0) (i32.const 65536))
            (i32.store (i32.const 4) (i32.const 4194304))
            (i32.const 0)))
    (core instance $i (instantiate $m))
    (func (export "run") (param "record" string) (result (list u8))
        (canon lift (core func $i "run") (memory $i "memory") (realloc (func $i "cabi_realloc")))))"#;

/// The first letters of records that give results.
fn letters(count: usize) -> impl Iterator<Item = char> + Clone {
    ('a'..='q').cycle().take(count)
}

/// The program, with a limit on the length of files if there shall be no memory that workers share with it.
fn map(scene: &Scene, args: &[&str], shares: bool) -> Command {
    let mut command = scene.command(args);
    if !shares {
        let program = command.get_program().to_owned();
        let mut limited = Command::new("sh");
        limited.args(["-c", "ulimit -f 200000 && exec \"$0\" \"$@\""]).arg(program).args(command.get_args());
        limited.env_clear().current_dir(command.get_current_dir().unwrap());
        limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command = limited;
    }
    command
}

#[test]
fn f108_results_wait_with_their_workers_for_a_slow_first_record() {
    let _bound = time_bound();
    let scene = Scene::new();
    let module = scene.file("large.wat", LARGE);
    let input: String = ["s\n".to_owned()].into_iter().chain(letters(30).map(|c| format!("{c}\n"))).collect();
    for (jobs, format, shares) in
        [("2", "text", true), ("8", "jsonl", true), ("3", "text", false), ("8", "jsonl", false)]
    {
        let module = module.to_str().unwrap();
        let limits = ["--timeout", "4s", "--buffer-bytes", "16M", "--memory", "64M"];
        let args = [&["map", module, "-j", jobs, "--format", format], &limits[..]].concat();
        let ended = run_in(&scene, map(&scene, &args, shares), input.as_bytes());
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        let lines: Vec<&[u8]> = ended.stdout.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
        let results = lines.iter().filter(|line| line.len() as u64 >= LEN);
        assert_eq!(results.clone().count(), 30, "{jobs} {format}: {}", ended.stderr);
        let are_right = |(line, letter): (&&[u8], char)| line[line.len() / 2] == letter as u8;
        assert!(results.copied().zip(letters(30)).all(|(line, letter)| are_right((&line, letter))));
        assert!(ended.peak_mib < 16 + 4 + 32, "{jobs} {format} {shares}: {} MiB", ended.peak_mib);
    }
}

#[test]
fn f108_a_reader_that_sleeps_keeps_results_with_their_workers() {
    let _bound = time_bound();
    let scene = Scene::new();
    let module = scene.file("large.wat", LARGE);
    let items: Vec<String> = letters(40).map(String::from).collect();
    for (jobs, shares) in [("1", true), ("8", true), ("4", false)] {
        let head =
            ["map", module.to_str().unwrap(), "--unordered", "-j", jobs, "--buffer-bytes", "16M", "--items"];
        let args: Vec<&str> = head.into_iter().chain(items.iter().map(String::as_str)).collect();
        let mut child =
            map(&scene, &args, shares).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut bytes = vec![0];
        stdout.read_exact(&mut bytes).unwrap();
        // Nothing tells that no more will come: with the mend the figure is right at any time.
        std::thread::sleep(Duration::from_millis(700));
        let peak = memory_peak_kib(child.id()) >> 10;
        stdout.read_to_end(&mut bytes).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(bytes.len() as u64, 40 * (LEN + 1));
        assert!(peak < 16 + 4 + 32, "{jobs} {shares}: {peak} MiB");
    }
}

/// What the page on security promises beside the results: two records under way, and one that is read. With
/// `--tag`, each of them twice.
#[test]
fn f108_large_records_count_beside_the_results_and_with_tag_twice() {
    let _bound = time_bound();
    let scene = Scene::new();
    let len = 16 * MIB;
    let record = ["a".repeat(usize::try_from(len).unwrap()), "\n".to_owned()].concat();
    let input = scene.file("records", record.repeat(5));
    let upper = prebuilt("upper");
    let limits = ["--max-input", "20M", "--max-output", "20M", "--buffer-bytes", "8M"];
    for (tag, copies) in [(None, 1), (Some("--tag"), 2)] {
        let args = ["map", &upper, input.to_str().unwrap(), "-j", "2"].into_iter().chain(limits).chain(tag);
        let ended = run_in(&scene, scene.command(&args.collect::<Vec<_>>()), b"");
        ended.with(0, "5 tasks: 5 ok");
        let most = 8 + 20 + 32 + copies * 3 * (len / MIB);
        assert!(ended.peak_mib < most, "{tag:?}: {} MiB, not {most}", ended.peak_mib);
    }
}

#[test]
fn f108_large_results_are_written_in_their_order_with_all_that_belongs_to_them() {
    let _bound = time_bound();
    let scene = Scene::new();
    let record = |n: usize, len: usize| format!("{n}{}", &"ab\"".repeat(len)[..len]);
    let lens =
        [10, 40 << 10, 120 << 10, 200 << 10, 300 << 10, 500 << 10, 600 << 10, 1 << 20, 100, 300 << 10, 3];
    let records: Vec<String> = lens.into_iter().enumerate().map(|(n, len)| record(n, len)).collect();
    let input = scene.file("records", records.join("\n"));
    let log = scene.path("log");
    for logs in [false, true] {
        for format in ["text", "jsonl"] {
            let mut args =
                vec!["map".to_owned(), prebuilt("upper"), input.display().to_string(), "--tag".to_owned()];
            args.extend(["--format", format].map(str::to_owned));
            if logs {
                args.extend(["--joblog".to_owned(), log.display().to_string()]);
            }
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let ended = run_in(&scene, scene.command(&args), b"");
            ended.with(0, "11 tasks: 11 ok");
            let text = String::from_utf8(ended.stdout).unwrap();
            assert_eq!(text.lines().count(), records.len());
            for (line, record) in text.lines().zip(&records) {
                let upper = record.to_uppercase();
                match format {
                    "text" => assert!(*line == format!("{record}\t{upper}"), "{} bytes", record.len()),
                    _ => {
                        let line: serde_json::Value = serde_json::from_str(line).unwrap();
                        assert!(
                            line["input"] == **record && line["output"] == upper,
                            "{} bytes",
                            record.len()
                        );
                    }
                }
            }
        }
    }
}

/// With a budget of two results, and how many tasks have been begun.
fn narrow(method: StartMethod) -> (Pool, Arc<AtomicU64>) {
    let begun = Arc::new(AtomicU64::new(0));
    let counted = begun.clone();
    let on_event = move |event: &PoolEvent| {
        if let PoolEvent::TasksStarted { tasks, .. } = event {
            counted.fetch_add(tasks.end - tasks.start, Ordering::SeqCst);
        }
    };
    let pool = builder(&wat(LARGE), method).buffer_bytes(2 * LEN).on_event(on_event).build().unwrap();
    (pool, begun)
}

fn wait_idle(pool: &Pool) {
    let is_idle = || pool.workers().iter().all(|worker| worker.state == WorkerState::Idle);
    wait_until("no worker has anything to do", Duration::from_secs(30), is_idle);
}

fn f108_results_that_are_not_taken_hold_up_nothing_else(method: StartMethod) {
    let (pool, begun) = narrow(method);
    let run = pool.func::<String, Vec<u8>>("run").unwrap();
    for ordered in [true, false] {
        begun.store(0, Ordering::SeqCst);
        let items = || letters(60).map(String::from);
        let (mut in_order, mut as_they_come) = match ordered {
            true => (Some(pool.imap(&run, items())), None),
            false => (None, Some(pool.imap_unordered(&run, items()))),
        };
        // Others have their results meanwhile.
        for _ in 0..10 {
            assert_eq!(pool.apply(&run, "z".to_owned()).unwrap().len() as u64, LEN);
        }
        wait_idle(&pool);
        // Those that fit, those that had begun, and one ahead of each.
        let begun = begun.load(Ordering::SeqCst) - 10;
        assert!(begun <= 2 + 2 * 3, "{begun} tasks were begun in vain");
        let mut taken: Vec<(u64, Vec<u8>)> = match ordered {
            true => (0..).zip(in_order.as_mut().unwrap().map(Result::unwrap)).collect(),
            false => as_they_come.as_mut().unwrap().map(|(index, result)| (index, result.unwrap())).collect(),
        };
        taken.sort_unstable_by_key(|(index, _)| *index);
        assert_eq!(taken.len(), 60);
        for ((index, result), letter) in taken.iter().zip(letters(60)) {
            assert!(result.len() as u64 == LEN && result[result.len() - 1] == letter as u8, "{index}");
        }
    }
}

fn f108_results_of_a_dropped_iterator_are_gone(method: StartMethod) {
    let (pool, _) = narrow(method);
    let run = pool.func::<String, Vec<u8>>("run").unwrap();
    for _ in 0..3 {
        let mut results = pool.imap(&run, letters(60).map(String::from));
        assert!(results.next().unwrap().is_ok());
        wait_idle(&pool);
        drop(results);
        assert_eq!(pool.apply(&run, "z".to_owned()).unwrap()[0], b'z');
    }
    pool.scope(|_| ());
}

fn f108_results_outlive_their_workers(method: StartMethod) {
    let (pool, _) = narrow(method);
    let run = pool.func::<String, Vec<u8>>("run").unwrap();
    let mut results = pool.imap(&run, letters(30).map(String::from));
    assert!(results.next().unwrap().is_ok());
    wait_idle(&pool);
    if method != StartMethod::Thread {
        pids(&pool).into_iter().for_each(|pid| signal(pid, rustix::process::Signal::KILL));
    }
    for (result, letter) in results.zip(letters(30).skip(1)) {
        assert_eq!(result.unwrap()[0], letter as u8);
    }
}

fn f108_results_larger_than_the_budget_come_one_by_one(method: StartMethod) {
    for bytes in [0, 1, MIB, LEN] {
        let pool = builder(&wat(LARGE), method).retries(2).buffer_bytes(bytes).build().unwrap();
        let run = pool.func::<String, Vec<u8>>("run").unwrap();
        let items = || ["a", "t", "b", "c", "t", "d"].map(str::to_owned);
        let in_order: Vec<_> =
            pool.imap(&run, items()).map(|result| result.ok().map(|bytes| bytes[0])).collect();
        assert_eq!(in_order, [Some(b'a'), None, Some(b'b'), Some(b'c'), None, Some(b'd')]);
        assert_eq!(pool.imap_unordered(&run, items()).filter(|(_, result)| result.is_ok()).count(), 4);
        assert_eq!(pool.try_map(&run, items()).iter().filter(|result| result.is_ok()).count(), 4);
        assert!(pool.map_async(&run, items()).get().is_err());
    }
}

// Talk.

/// Prints 32,768 lines of one control character on stderr and on stdout, then traps.
const NOISY: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 4)
    (func (export "_start") (local $i i32)
        (loop $l
            (i32.store16 (i32.add (i32.const 65536) (i32.mul (local.get $i) (i32.const 2))) (i32.const 0x0a01))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $i) (i32.const 32768))))
        (i32.store (i32.const 0) (i32.const 65536))
        (i32.store (i32.const 4) (i32.const 65536))
        (drop (call $w (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 16)))
        (drop (call $w (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
        unreachable))"#;

#[test]
fn f109_talk_of_failing_tasks_is_bounded_and_what_is_left_out_is_told() {
    let _bound = time_bound();
    let scene = Scene::new();
    let module = scene.file("noisy.wat", NOISY);
    let module = module.to_str().unwrap();
    let input: String = (0..3000).map(|n| format!("{n}\n")).collect();
    let run = |more: &[&str]| {
        run_in(&scene, scene.command(&[&["map", module, "-j", "2"], more].concat()), input.as_bytes())
    };

    let ended = run(&[]);
    ended.with(1, "2990 more tasks failed with the same words: trap: ");
    ended.with(1, "3000 tasks: 0 ok, 3000 failed");
    ended.with(1, "--failure-output full reports everything");
    let of_first: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with("[task 1 ")).collect();
    let shown = of_first.iter().filter(|line| line.ends_with(r"] \x01")).count();
    assert!(shown == 20 && of_first.len() == 22, "{of_first:?}");
    assert!(of_first[0].ends_with("32758 lines before this are left out"), "{of_first:?}");
    assert!(ended.stderr.len() < 11 * (5 << 10), "{} bytes", ended.stderr.len());
    assert!(ended.peak_mib < 64 + 32, "{} MiB", ended.peak_mib);

    let talks = run(&["-v"]);
    talks.with(1, "2900 more tasks failed with the same words");
    assert!(talks.stderr.len() > 2 * ended.stderr.len() && talks.stderr.len() < 17 << 20);
    let quiet = run(&["-q", "--failure-output", "never"]);
    assert!(!quiet.stderr.contains("[task 1 ") && quiet.stderr.contains("2990 more tasks"));
    // All output, where the flags ask for it.
    let input = "1\n2\n";
    let all = run_in(&scene, scene.command(&["map", module, "--format", "jsonl"]), input.as_bytes());
    assert_eq!(all.stdout.windows(6).filter(|bytes| *bytes == br"\u0001").count(), 2 * 2 * 32768);
    let full = run_in(&scene, scene.command(&["map", module, "--failure-output", "full"]), input.as_bytes());
    assert_eq!(full.stderr.lines().filter(|line| line.ends_with(r"] \x01")).count(), 2 * 2 * 32768);
}

#[test]
fn f109_failures_that_all_differ_are_bounded_too() {
    let _bound = time_bound();
    let scene = Scene::new();
    let input: String = (0..20_000).map(|n| format!("bad {n:>200}\n")).collect();
    let ended =
        run_in(&scene, scene.command(&["map", &prebuilt("failing"), "-j", "2", "--reuse"]), input.as_bytes());
    ended.with(1, "failed without a report, because 1024 KiB had been written about others");
    assert!(ended.stderr.len() < (1 << 20) + (64 << 10), "{} bytes", ended.stderr.len());
}

// Halts.

fn outcomes(output: &support::Ended) -> (usize, usize) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let ok = text.lines().filter(|line| line.contains(r#""status":"ok""#)).count();
    (ok, text.lines().count() - ok)
}

#[test]
fn f145_a_run_halts_after_exactly_so_many_tasks() {
    let _bound = time_bound();
    let scene = Scene::new();
    let input: String = (0..5000).map(|n| format!("good {n}\n")).collect();
    for module in ["failing", "upper"] {
        for (jobs, more) in [("1", "--fresh"), ("2", "--reuse"), ("7", "--reuse")] {
            for count in ["1", "5", "1000"] {
                for when in ["soon", "now"] {
                    let halt = format!("{when},done={count}");
                    let module = prebuilt(module);
                    let args = ["map", &module, "-j", jobs, more, "--format", "jsonl", "--halt", &halt];
                    let ended = run_in(&scene, scene.command(&args), input.as_bytes());
                    let (ok, failed) = outcomes(&ended);
                    assert_eq!(
                        (ok + failed).to_string(),
                        count,
                        "-j {jobs} {more} --halt {halt}: {}",
                        ended.stderr
                    );
                }
            }
        }
    }
}

#[test]
fn f145_failures_and_successes_are_counted_exactly() {
    let _bound = time_bound();
    let scene = Scene::new();
    let record = |n: usize| if n % 3 == 2 { format!("bad {n}\n") } else { format!("good {n}\n") };
    let input: String = (0..3000).map(record).collect();
    let run = |jobs: &str, halt: &str| {
        let module = prebuilt("failing");
        let args =
            ["map", &module, "-j", jobs, "--reuse", "--format", "jsonl", "--unordered", "--halt", halt];
        outcomes(&run_in(&scene, scene.command(&args), input.as_bytes()))
    };
    for jobs in [1, 2, 5] {
        for count in [1, 4, 200] {
            let (_, failed) = run(&jobs.to_string(), &format!("now,fail={count}"));
            assert_eq!(failed, count, "-j {jobs} now,fail={count}");
            let (ok, _) = run(&jobs.to_string(), &format!("now,success={count}"));
            assert_eq!(ok, count, "-j {jobs} now,success={count}");
            // The others finish what they run, and may have finished more of what was handed to them: never
            // more than could have decided, and one for each worker.
            let soon = count..2 * count + jobs;
            let (_, failed) = run(&jobs.to_string(), &format!("soon,fail={count}"));
            assert!(soon.contains(&failed), "-j {jobs} soon,fail={count}: {failed}");
            let (ok, _) = run(&jobs.to_string(), &format!("soon,success={count}"));
            assert!(soon.contains(&ok), "-j {jobs} soon,success={count}: {ok}");
        }
    }
    // One worker runs one task after the other.
    assert_eq!(run("1", "soon,fail=2"), (4, 2));
    assert_eq!(run("1", "now,fail=30%"), (2, 1));
}
