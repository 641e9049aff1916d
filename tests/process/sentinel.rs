//! The sentinel, closing, and descriptors.

use super::*;

over_start_methods! {
    every {
        p38_the_sentinel_is_readable_once_it_has_ended
        p39_a_wait_for_several_sentinels_tells_which_has_ended
        p40_a_living_process_is_not_closed
    }
    processes {
        p42_a_closed_process_leaves_no_descriptor
        p43_the_module_is_let_go_at_the_start
        p44_a_worker_has_no_more_descriptors_for_having_siblings
    }
}

/// Which of the processes have ended, after a wait of at most `secs` seconds.
fn ended(processes: &[&Process], secs: i64) -> Vec<bool> {
    let fds = processes.iter().map(|p| PollFd::from_borrowed_fd(p.sentinel().unwrap(), PollFlags::IN));
    let mut fds: Vec<PollFd<'_>> = fds.collect();
    rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: secs, tv_nsec: 0 })).unwrap();
    fds.iter().map(|fd| !fd.revents().is_empty()).collect()
}

fn p38_the_sentinel_is_readable_once_it_has_ended(method: StartMethod) {
    let mut process = started(looking(method));
    assert_eq!(ended(&[&process], 0), [false]);
    process.interrupt().unwrap();
    assert_eq!(ended(&[&process], 20), [true]);
    process.join().unwrap();
    assert_eq!(ended(&[&process], 0), [true]);
}

fn p39_a_wait_for_several_sentinels_tells_which_has_ended(method: StartMethod) {
    let (mut one, mut two) = (started(looking(method)), started(looking(method)));
    two.interrupt().unwrap();
    assert_eq!(ended(&[&one, &two], 20), [false, true]);
    one.interrupt().unwrap();
    one.join().unwrap();
    assert_eq!(ended(&[&one, &two], 0), [true, true]);
}

// Close.

fn p40_a_living_process_is_not_closed(method: StartMethod) {
    let process = started(looking(method));
    let mut process = process.close().unwrap_err();
    assert!(process.is_alive());
    process.interrupt().unwrap();
    process.join().unwrap();
    process.close().unwrap();
    hello(0, method).close().unwrap();
}

fn p42_a_closed_process_leaves_no_descriptor(method: StartMethod) {
    let (before, after) = numbers(&processes("descriptors", method));
    assert_eq!(before, after);
}

fn p43_the_module_is_let_go_at_the_start(method: StartMethod) {
    assert_eq!(numbers(&processes("references", method)), ("1".to_owned(), "0".to_owned()));
}

fn p44_a_worker_has_no_more_descriptors_for_having_siblings(method: StartMethod) {
    let module = guest("hello");
    let sleeper = || {
        let process = Process::builder(&module).target(Target::func("run").arg("bob:60000")).daemon(true);
        let process = started(process.start_method(method).build().unwrap());
        at_work(&process);
        process
    };
    let inheritable = support::Inheritable::new();
    let all: Vec<Process> = (0..8).map(|_| sleeper()).collect();
    let counts: Vec<usize> =
        all.iter().filter_map(|process| Some(support::descriptors(process.pid()?)?.len())).collect();
    assert!(counts.iter().all(|count| *count == counts[0] && *count < 12), "{counts:?}");
    // Every user may read this.
    inheritable.assert_not_inherited();
}
