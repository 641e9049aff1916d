//! The end of this program.

use super::*;

over_start_methods! {
    every {
    }
    processes {
        a_program_that_reaps_all_children_learns_what_its_processes_said
        p15_dropping_a_daemon_kills_it_and_dropping_another_waits
        p15_at_the_end_of_main_daemons_are_killed
        p15_at_the_end_of_main_others_are_waited_for
        p15_exit_and_panic_are_ends_of_main_too
        p15_an_exit_while_output_is_taken_waits_for_nothing
        p35_closed_output_changes_no_exit_code
        p45_processes_die_with_a_killed_parent_idle_and_busy
    }
}

fn p15_dropping_a_daemon_kills_it_and_dropping_another_waits(method: StartMethod) {
    let mut daemon = hello(60_000, method);
    daemon.set_daemon(true).unwrap();
    let daemon = started(daemon);
    at_work(&daemon);
    let pid = daemon.pid().unwrap();
    drop(daemon);
    assert_gone(&[pid]);

    let asked = Instant::now();
    let process = started(hello(300, method));
    let pid = process.pid().unwrap();
    drop(process);
    assert!(asked.elapsed() >= Duration::from_millis(300));
    assert_gone(&[pid]);
    drop(hello(0, method));
}

fn p15_at_the_end_of_main_daemons_are_killed(method: StartMethod) {
    let output = processes("leak-daemon", method);
    assert_eq!(output.status.code(), Some(0));
    let pids: Vec<u32> =
        String::from_utf8(output.stderr).unwrap().lines().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    assert_gone(&pids);
}

fn p15_at_the_end_of_main_others_are_waited_for(method: StartMethod) {
    let started = Instant::now();
    let output = processes("leak", method);
    assert_eq!((output.status.code(), said(&output)), (Some(0), 1), "{output:?}");
    assert!(started.elapsed() >= Duration::from_millis(300));
}

fn p15_exit_and_panic_are_ends_of_main_too(method: StartMethod) {
    for (what, code) in [("leak-and-exit", 7), ("leak-and-panic", 101)] {
        let started = Instant::now();
        let output = processes(what, method);
        assert_eq!((output.status.code(), said(&output)), (Some(code), 1), "{output:?}");
        assert!(started.elapsed() >= Duration::from_millis(300));
    }
}

fn p15_an_exit_while_output_is_taken_waits_for_nothing(method: StartMethod) {
    let output = processes("exit-in-a-sink", method);
    assert_eq!(output.status.code(), Some(8), "{output:?}");
}

fn p35_closed_output_changes_no_exit_code(method: StartMethod) {
    let output = under_shell("exec \"$@\" >&- 2>&-", &processes_command("leak", method));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn p45_there_is_no_parent_process_here() {
    assert_eq!(parent_process(), None);
}

fn p45_processes_die_with_a_killed_parent_idle_and_busy(method: StartMethod) {
    let mut parent = processes_command("hold", method)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let parent = parent.as_mut().unwrap();
    let mut pids = std::io::BufRead::lines(std::io::BufReader::new(parent.stderr.take().unwrap()));
    let pids = [(); 2].map(|()| pids.next().unwrap().unwrap().parse::<u32>().unwrap());
    // The process that sleeps has printed its name, the other one computes.
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(parent.stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains("(process ")));
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_until("all are gone", Duration::from_secs(2), || {
        pids.iter().all(|pid| !matches!(proc_state(*pid), Some('R' | 'S' | 'D' | 'T')))
    });
    assert_no_workers(parent.id());
}

fn a_program_that_reaps_all_children_learns_what_its_processes_said(method: StartMethod) {
    // If SIGCHLD is ignored, the kernel reaps, and the exit code of a process is lost.
    let output = under_shell("exec env --ignore-signal=CHLD \"$@\"", &processes_command("end-codes", method));
    assert_eq!(numbers(&output), (wpool::process::ExitStatus::UNKNOWN.to_string(), "0".to_owned()));
}
