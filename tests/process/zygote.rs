//! The fork server, and workers that do not answer.

use super::*;

over_start_methods! {
    every {
    }
    processes {
        a_worker_that_ends_without_a_word_is_reported
        f105_a_worker_whose_socket_outlives_it_has_ended
        a_worker_that_does_not_get_ready_is_killed
        f69_a_process_lives_on_when_the_thread_that_started_it_ends
    }
}

fn hello_of(module: &wpool::Module, millis: u64) -> Process {
    let target = Target::func("run").arg(format!("bob:{millis}"));
    Process::builder(module)
        .target(target)
        .daemon(true)
        .start_method(StartMethod::Forkserver)
        .build()
        .unwrap()
}

/// The zygote of this process: the leader of its session.
fn zygote_of(process: &Process) -> u32 {
    let pid = Pid::from_raw(i32::try_from(process.pid().unwrap()).unwrap());
    rustix::process::getsid(pid).unwrap().as_raw_nonzero().get().unsigned_abs()
}

#[test]
fn p46_a_killed_zygote_is_replaced_on_the_next_need() {
    let _bound = time_bound();
    let module = guest("hello");
    let mut first = started(hello_of(&module, 60_000));
    let zygote = zygote_of(&first);
    let second = started(hello_of(&module, 60_000));
    assert_eq!(zygote_of(&second), zygote, "one serves them all");

    support::signal(zygote, Signal::INT);
    assert_eq!(started(hello_of(&module, 0)).join().unwrap(), returned());
    support::signal(zygote, Signal::KILL);
    let mut third = started(hello_of(&module, 60_000));
    assert_ne!(zygote_of(&third), zygote);
    assert_gone(&[zygote]);
    assert!(first.is_alive() && second.is_alive(), "its death costs no process anything");
    at_work(&third);
    first.terminate().unwrap();
    third.terminate().unwrap();
    assert_eq!((first.join().unwrap(), third.join().unwrap()), (signaled(15), signaled(15)));
}

#[test]
fn p46_a_zygote_that_hangs_is_replaced_too() {
    let _bound = time_bound();
    let module = guest("hello");
    let process = started(hello_of(&module, 60_000));
    let zygote = zygote_of(&process);
    support::signal(zygote, Signal::STOP);
    let target = Target::func("run").arg("bob:0");
    let late = Process::builder(&module).target(target).start_method(StartMethod::Forkserver);
    let refused = late.start_timeout(Duration::from_millis(50)).build().unwrap().start().unwrap_err();
    assert!(
        matches!(refused, StartError::Spawn { source, .. } if source.kind() == std::io::ErrorKind::TimedOut)
    );
    assert_eq!(started(hello_of(&module, 0)).join().unwrap(), returned());
    assert_gone(&[zygote]);
    assert!(process.is_alive());
}

#[test]
fn p46_a_zygote_ends_with_the_last_that_needs_it() {
    let _bound = time_bound();
    let module = guest("hello");
    let process = started(hello_of(&module, 60_000));
    let zygote = zygote_of(&process);
    drop(module);
    assert!(proc_state(zygote).is_some() && process.is_alive());
    drop(process);
    assert_gone(&[zygote]);
}

#[test]
fn p46_zygotes_that_are_not_used_do_not_pile_up() {
    let _bound = time_bound();
    let module = guest("hello");
    let zygotes: Vec<u32> = (0..12)
        .map(|n| {
            let target = Target::func("run").arg("bob:60000");
            let mut limits = Limits::default();
            limits.output += n;
            let process = Process::builder(&module).target(target).limits(limits).daemon(true);
            zygote_of(&started(process.start_method(StartMethod::Forkserver).build().unwrap()))
        })
        .collect();
    let alive = || zygotes.iter().filter(|pid| proc_state(**pid).is_some()).count();
    wait_until("most are gone", Duration::from_secs(2), || alive() <= 4);
    assert!(alive() > 0, "some are kept for the next need");
    drop(module);
    assert_gone(&zygotes);
}

#[test]
fn p47_only_its_coordinator_can_reach_a_zygote() {
    let _bound = time_bound();
    let module = guest("hello");
    let process = started(hello_of(&module, 60_000));
    let zygote = zygote_of(&process);
    // No other process can connect to our sockets.
    let me =
        rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty()).unwrap();
    for fd in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let number = fd.file_name().to_str().unwrap().parse().unwrap();
        // It may be another test's, and closed by now.
        let Ok(fd) = rustix::process::pidfd_getfd(&me, number, rustix::process::PidfdGetfdFlags::empty())
        else {
            continue;
        };
        if let Ok(Some(peer)) = rustix::net::getpeername(&fd)
            && let Ok(peer) = rustix::net::SocketAddrUnix::try_from(peer)
        {
            let name = [peer.path_bytes(), peer.abstract_name()].map(Option::unwrap_or_default).concat();
            assert!(name.iter().all(|byte| *byte == 0), "{peer:?}");
        }
    }
    if support::descriptors(zygote).is_none() {
        return;
    }
    let sockets = || -> Vec<String> {
        let links = support::descriptors(zygote).unwrap_or_default();
        let links = links.iter().filter_map(|link| link.to_str());
        links.filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect()
    };
    // It closes the worker's after it has told us.
    wait_until("it has its connection with us alone", Duration::from_secs(20), || sockets().len() == 1);
    let sockets = sockets();
    let table = std::fs::read_to_string("/proc/net/unix").unwrap();
    let row = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    let row = row.into_iter().find(|row| row.get(6) == Some(&sockets[0].as_str())).unwrap();
    assert_eq!(row.len(), 7, "a name would be the eighth column: {row:?}");
}

fn a_worker_that_ends_without_a_word_is_reported(method: StartMethod) {
    let dir = support::temp_dir();
    let mut process =
        Process::builder(&served_by("exit 3", dir.path())).target(Target::func("run").arg("bob"));
    process = process.start_method(method);
    let status = started(process.build().unwrap()).join().unwrap();
    assert_eq!(status, ExitStatus { exitcode: 3, reason: ExitReason::Exited(3) });
}

fn f105_a_worker_whose_socket_outlives_it_has_ended(method: StartMethod) {
    let dir = support::temp_dir();
    // Something that it has started holds its end of the socket.
    let module = served_by("exec 3<&0; sleep 10 & exit 3", dir.path());
    let process = Process::builder(&module)
        .target(Target::func("run").arg("bob"))
        .start_method(method)
        .build()
        .unwrap();
    let asked = Instant::now();
    assert_eq!(started(process).join().unwrap().exitcode, 3);
    assert!(asked.elapsed() < Duration::from_secs(10));
}

#[test]
fn f105_a_worker_that_closes_its_socket_and_goes_on_is_killed() {
    let _bound = time_bound();
    let dir = support::temp_dir();
    let process =
        Process::builder(&served_by("exec sleep 50 <&-", dir.path())).target(Target::func("run").arg("bob"));
    let status = started(process.start_method(StartMethod::Spawn).build().unwrap()).join().unwrap();
    assert_eq!(status.exitcode, -9);
    assert!(matches!(status.reason, ExitReason::Failed(TaskError::Broken { .. })), "{status:?}");
}

fn a_worker_that_does_not_get_ready_is_killed(method: StartMethod) {
    let dir = support::temp_dir();
    let module = served_by("exec sleep 60", dir.path());
    let process = Process::builder(&module).target(Target::func("run").arg("bob")).start_method(method);
    let mut process = process.start_timeout(Duration::from_millis(100)).build().unwrap();
    match (process.start(), method) {
        (Ok(()), _) => {
            let ExitStatus { exitcode, reason } = process.join().unwrap();
            assert_eq!(exitcode, -9);
            let reason = format!("{reason:?}");
            assert!(reason.contains("it was not ready after 100ms"), "{reason}");
        }
        // Where there is nothing yet that could be killed.
        (Err(StartError::Spawn { source, .. }), StartMethod::Forkserver) => {
            assert_eq!(source.kind(), std::io::ErrorKind::TimedOut);
        }
        (Err(other), _) => panic!("{other}"),
    }
    assert!(!process.is_alive());
}

fn f69_a_process_lives_on_when_the_thread_that_started_it_ends(method: StartMethod) {
    let mut process = std::thread::spawn(move || started(hello(300, method))).join().unwrap();
    assert_eq!(process.join().unwrap(), returned());
}
