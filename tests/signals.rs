//! Signals to the program, and how an application ends that has a pool: rows F51 and F60 to F70 of the list
//! of faults, and F106.

mod support;

use std::io::{BufRead, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use support::command::*;
use support::{
    assert_no_workers, example as helper, guest, proc_state, signal, sleeps_in_a_call, time_bound,
    wait_until, workers_of,
};
use wpool::Pool;
use wpool::events::PoolEvent;

/// Longer than the time limits here, and the grace.
const STOPPED: Duration = Duration::from_millis(3600);

fn has_thread(pid: u32, name: &str) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    tasks
        .map(|task| std::fs::read_to_string(task.path().join("comm")))
        .any(|comm| comm.is_ok_and(|c| c.trim() == name))
}

/// Asks how things are until the answer has this word.
fn until_it_says(run: &mut Running, word: &str) {
    let mut stderr = std::io::BufReader::new(run.child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains(word) {
        said.clear();
        run.signal(Signal::USR1);
        // One line, then one for each worker that there is.
        assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
    }
    run.child.stderr = Some(stderr.into_inner());
}

/// nextest pauses its clocks, too; a limit of GNU parallel, or pebble, goes on.
#[test]
fn f64_the_time_that_a_run_is_stopped_counts_for_no_limit() {
    let (hello, failing) = (prebuilt("hello"), prebuilt("failing"));
    let calls = [
        &["map", &hello, "-j", "1", "--items", "a:1200"][..],
        &["map", &hello, "-j", "1", "--start-method", "spawn", "--items", "a:1200"],
        &["map", &hello, "-j", "1", "--threads", "--items", "a:1200"],
        &["run", "--func", "run", "--arg", "a:1200", &hello],
        &["map", &failing, "-j", "1", "--items", "loop"],
    ];
    // One after the other: each is stopped before its task is done.
    let start = |(n, call): (usize, &&[&str])| {
        let mut run = Running::start(wpool(args(&args(&call[..1], &["--timeout", "3s"]), &call[1..])));
        let pid = run.child.id();
        wait_until("it is at work", LONG, || match n {
            2 => has_thread(pid, "PoolWorker-1"),
            4 => task_workers(pid).into_iter().any(|worker| support::cpu_ticks(worker) > 2),
            _ => workers_of(pid).into_iter().any(sleeps_in_a_call),
        });
        if n == 0 {
            // A worker that was forked this moment and has nothing to do yet may not be known to the program.
            until_it_says(&mut run, "busy");
        }
        run.signal(Signal::TSTP);
        run
    };
    let mut runs: Vec<Running> = calls.iter().enumerate().map(start).collect();
    for run in &runs {
        let all = || [vec![run.child.id()], workers_of(run.child.id())].concat();
        wait_until("it is stopped, and what belongs to it", LONG, || {
            all().into_iter().all(|pid| proc_state(pid) == Some('T'))
        });
    }
    // Nothing is to happen, which no event announces.
    std::thread::sleep(STOPPED);
    runs.iter().for_each(|run| run.signal(Signal::CONT));
    for (n, run) in runs[..4].iter_mut().enumerate() {
        // What the guest prints comes first, from a process.
        if n == 3 {
            assert!(run.line().starts_with("Process-1 ("));
        }
        let line = run.line();
        assert!(line.starts_with("hello a from "), "{n}: {line}");
    }
    for (n, run) in runs.into_iter().enumerate() {
        let (status, stderr) = run.end();
        assert_eq!(status.code(), Some(i32::from(n == 4)), "{n}: {stderr}");
        // It has its limit all the same.
        assert_eq!(stderr.contains("timeout after 3s (--timeout, Limits::time)"), n == 4, "{n}: {stderr}");
    }
}

#[test]
fn f64_ctrl_z_that_was_ignored_at_the_start_stays_ignored() {
    let hello = prebuilt("hello");
    let mut command = by_shell("trap '' TSTP; exec \"$0\" \"$@\"", &["map", &hello, "-j", "1"]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut stdin = running.child.stdin.take().unwrap();
    stdin.write_all(b"first:0\n").unwrap();
    running.line();
    running.signal(Signal::TSTP);
    stdin.write_all(b"second:0\n").unwrap();
    assert!(running.line().starts_with("hello second"));
    drop(stdin);
    assert!(running.end().0.success());
}

/// Without a time limit, nothing else tells why nothing happens.
#[test]
fn f51_a_worker_that_shows_no_sign_of_life_is_told_of_and_a_long_task_is_not() {
    let _bound = time_bound();
    let (tell, told) = std::sync::mpsc::channel();
    let listen = move |event: &PoolEvent| {
        if let PoolEvent::WorkerSilent { worker, pid, time } = event {
            let _receiver_is_gone = tell.send((*worker, *pid, *time));
        }
    };
    let heartbeat = Duration::from_secs(1);
    let pool =
        Pool::builder(&guest("failing")).processes(2).heartbeat(heartbeat).on_event(listen).build().unwrap();
    let run = pool.func::<&str, String>("run").unwrap();
    let looping = [pool.apply_async(&run, "loop"), pool.apply_async(&run, "loop")];
    let pids = || support::pids(&pool);
    wait_until("both are at it", LONG, || {
        pids().len() == 2 && pids().into_iter().all(|p| support::cpu_ticks(p) > 2)
    });
    let victim = pids()[0];
    signal(victim, Signal::STOP);
    let (_, pid, time) = told.recv().unwrap();
    assert!(pid == victim && time >= heartbeat, "{pid} {time:?}");
    // Once.
    assert!(told.recv_timeout(2 * heartbeat).is_err());
    // It lives, and is silent again.
    signal(victim, Signal::CONT);
    wait_until("it goes on", LONG, || proc_state(victim) == Some('R'));
    std::thread::sleep(heartbeat);
    signal(victim, Signal::STOP);
    assert_eq!(told.recv().unwrap().1, victim);
    signal(victim, Signal::KILL);
    wait_until("its task is lost", LONG, || looping.iter().filter(|task| task.ready()).count() == 1);
}

#[test]
fn f63_nohup_is_heeded() {
    let hello = prebuilt("hello");
    let mut command = by_shell("exec nohup \"$0\" \"$@\"", &["map", &hello, "-j", "1"]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut stdin = running.child.stdin.take().unwrap();
    stdin.write_all(b"first:0\n").unwrap();
    running.line();
    running.signal(Signal::HUP);
    stdin.write_all(b"second:0\n").unwrap();
    assert!(running.line().starts_with("hello second"));
    drop(stdin);
    assert!(running.end().0.success());
}

/// An application with a pool, a worker of which is in an endless loop; what it does then, and what it says.
fn embedder(deed: &str) -> (std::process::ExitStatus, String) {
    let mut command = Command::new(helper("embedder"));
    command.args([deed, &prebuilt("failing"), &prebuilt("hello")]);
    prepare(&mut command);
    let running = Running::start(command);
    let pid = running.child.id();
    let Running { mut child, mut lines, .. } = running;
    let mut said = String::new();
    while lines.read_line(&mut said).unwrap() > 0 {}
    let status = child.wait().unwrap();
    assert_no_workers(pid);
    (status, said)
}

/// CPython's Pool may hang when it is collected.
#[test]
fn f70_an_application_that_panics_exits_or_forgets_its_pool_leaves_nothing() {
    for (deed, code) in [("panics", 101), ("forgets", 0), ("exits", 3)] {
        let (status, said) = embedder(deed);
        assert_eq!((status.code(), &said[..]), (Some(code), "ready\n"), "{deed}");
    }
}

#[test]
fn f70_a_fork_of_an_application_takes_nothing_from_it() {
    for deed in ["fork-drops", "fork-exits", "fork-dies"] {
        let (status, said) = embedder(deed);
        assert_eq!((status.code(), &said[..]), (Some(0), "ready\nchild gone\nstill there\n"), "{deed}");
    }
}

#[test]
fn f70_a_fork_while_another_thread_calls_apply_waits_for_nothing() {
    let (status, said) = embedder("forks-in-calls");
    assert_eq!((status.code(), &said[..]), (Some(0), "ready\nforked\n"));
}

#[test]
fn the_second_user_signal_shows_and_hides_the_progress() {
    let hello = prebuilt("hello");
    // Where there is no terminal, it changes nothing.
    let (running, stdin) = busy();
    running.signal(Signal::USR2);
    running.signal(Signal::TERM);
    drop(stdin);
    assert_eq!(running.end().0.signal(), Some(libc::SIGTERM));
    // `script` gives it a terminal, on which results come beside the progress.
    let inner = format!("{} map {hello} -j 1 --progress none -", support::program().to_str().unwrap());
    let mut command = by_shell("TERM=xterm exec script -qec \"$INNER\" /dev/null", &[]);
    command.env("INNER", inner).stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut stdin = running.child.stdin.take().unwrap();
    stdin.write_all(b"first:0\n").unwrap();
    let mut said = String::new();
    let mut until = |running: &mut Running, text: &str| {
        while !said.contains(text) {
            let mut some = [0; 256];
            let len = running.lines.read(&mut some).unwrap();
            assert!(len > 0, "no {text} in {said}");
            said.push_str(&String::from_utf8_lossy(&some[..len]));
        }
        std::mem::take(&mut said)
    };
    assert!(!until(&mut running, "hello first").contains("done ["));
    let child_of = |pid: u32| -> Option<u32> {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    };
    // The program itself, behind `script` and a shell or not.
    let mut pid = running.child.id();
    while support::workers_of(pid).is_empty() {
        pid = child_of(pid).expect("one of the processes has a worker");
    }
    kill(pid, Signal::USR2);
    until(&mut running, "1 done [");
    kill(pid, Signal::USR2);
    until(&mut running, "\x1b[2K");
    // The end of the input.
    stdin.write_all(b"\x04").unwrap();
    let (status, _) = running.end();
    assert!(status.success());
}

#[test]
fn f106_the_terminal_is_as_it_was() {
    let hello = prebuilt("hello");
    // `script` gives it a terminal, with everything that a terminal tempts a program to.
    let before_and_after = "stty -g; $0 $*; umask; pwd; stty -g";
    let call =
        ["map", &hello, "-j", "2", "--progress", "bar", "--color", "always", "--items", "a:300", "b:300"];
    let mut command =
        by_shell("cd / && umask 027 && TERM=xterm exec script -qec \"$INNER\" /dev/null", &call);
    let inner =
        before_and_after.replace("$0", support::program().to_str().unwrap()).replace("$*", &call.join(" "));
    command.env("INNER", inner).stdin(Stdio::piped());
    let output = run(command);
    let said = out(&output).replace('\r', "");
    let lines: Vec<&str> = said.lines().collect();
    assert!(said.contains("hello a from"), "{said}");
    let [.., umask, cwd, after] = lines[..] else { panic!("{said}") };
    assert_eq!((umask, cwd, after), ("0027", "/", lines[0]), "{said}");
}

#[test]
fn f106_a_pool_changes_nothing_of_its_program() {
    let _bound = time_bound();
    let state = || {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let masks = ["Umask", "SigIgn", "SigBlk"];
        let lines: Vec<String> = status
            .lines()
            .filter(|line| masks.iter().any(|m| line.starts_with(m)))
            .map(str::to_owned)
            .collect();
        (lines, std::env::current_dir().unwrap(), std::env::vars_os().count())
    };
    let before = state();
    let pool = support::pool("upper", wpool::StartMethod::Forkserver);
    let upper = pool.func::<&str, String>("run").unwrap();
    assert_eq!(pool.apply(&upper, "a").unwrap(), "A");
    let worker = support::pids(&pool)[0];
    // The worker has a session of its own, without a terminal.
    let stat = std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!(fields[4], "0", "its terminal: {stat}");
    let own = rustix::process::getsid(None).unwrap().as_raw_nonzero().to_string();
    assert_ne!(fields[3], own, "its session: {stat}");
    drop(pool);
    assert_eq!(state(), before);
}

#[test]
fn f53_a_worker_is_the_first_to_go_when_memory_runs_out() {
    let _bound = time_bound();
    let pool = support::pool("upper", wpool::StartMethod::Forkserver);
    let upper = pool.func::<&str, String>("run").unwrap();
    pool.apply(&upper, "a").unwrap();
    let score = |pid: &str| -> i32 {
        std::fs::read_to_string(Path::new("/proc").join(pid).join("oom_score_adj"))
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    };
    for worker in support::pids(&pool) {
        assert_eq!(score(&worker.to_string()), 1000);
    }
    assert!(score("self") < 1000);
}

/// The program as process 1 of a namespace, as in a container. `None`: this machine does not let us.
fn as_process_1(args: &[&str]) -> Option<Command> {
    // An ordinary user has to be root of a namespace of his own first.
    let ways = ["unshare -pf --mount-proc --kill-child", "unshare -Urpf --mount-proc --kill-child"];
    let works = |way: &&str| run(by_shell(&format!("exec {way} true"), &[])).status.success();
    let Some(way) = ways.into_iter().find(works) else {
        eprintln!("no namespace of processes can be made here: nothing is tested");
        return None;
    };
    Some(by_shell(&format!("exec {way} \"$0\" \"$@\""), args))
}

#[test]
fn f119_process_1_ends_with_the_code_of_the_signal() {
    let (hello, failing) = (prebuilt("hello"), prebuilt("failing"));
    let map = ["map", &hello, "-j", "2", "--items", "first:0", "second:60000"];
    let spinning = ["run", "--func", "run", "--arg", "loop", &failing];
    let Some(plain) = as_process_1(&["map", &hello, "--items", "a:0"]) else { return };
    ends(&run(plain), 0, "1 task: 1 ok");
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let mut running = Running::start(as_process_1(&map).unwrap());
        assert!(running.line().starts_with("hello first"));
        kill(process_1_of(running.child.id()), signal);
        let (status, stderr) = running.end();
        assert_eq!(status.code(), Some(code), "{stderr}");
    }
    let running = Running::start(as_process_1(&spinning).unwrap());
    let first = process_1_of(running.child.id());
    wait_until("it runs", LONG, || {
        children(first).iter().any(|pid| support::comm(*pid).starts_with("Process-"))
    });
    kill(first, Signal::TERM);
    let (status, stderr) = running.end();
    assert_eq!(status.code(), Some(143), "{stderr}");
    // Its reader has left: it would die of that.
    let mut running = Running::start(
        as_process_1(&["map", &hello, "-j", "1", "--items", "first:0", "second:300"]).unwrap(),
    );
    assert!(running.line().starts_with("hello first"));
    let (status, stderr) = running.leave();
    assert_eq!(status.code(), Some(141), "{stderr}");
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    children
        .flat_map(|pids| pids.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The only child of `unshare`.
fn process_1_of(unshare: u32) -> u32 {
    wait_until("there is a process 1", LONG, || children(unshare).len() == 1);
    children(unshare)[0]
}

#[test]
fn f124_signals_that_the_starter_has_blocked_end_the_run_all_the_same() {
    let hello = prebuilt("hello");
    let call = ["map", &hello, "-j", "2", "--items", "first:0", "second:60000"];
    let command = by_shell("exec env --block-signal \"$0\" \"$@\"", &call);
    let mut running = Running::start(command);
    assert!(running.line().starts_with("hello first"));
    running.signal(Signal::TERM);
    let (status, stderr) = running.end();
    assert_eq!(status.signal(), Some(libc::SIGTERM), "{stderr}");
}
