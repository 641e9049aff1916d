//! The confinement of a worker's process, looked at from outside while it lives.

mod support;

use std::fs;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use support::{guest, loader, workers_of};
use wpool::{Pool, StartMethod, WorkerInfo, WorkerState};

/// Runs a task, and `check`s every process that the pool then has: the zygote too, if there is one.
fn with_workers(start_method: StartMethod, check: impl Fn(u32)) {
    let module = guest("upper");
    let pool = Pool::builder(&module).processes(2).start_method(start_method).build().unwrap();
    let upper = pool.func::<&str, String>("run").unwrap();
    assert_eq!(pool.map(&upper, ["a", "b", "c"]).unwrap(), ["A", "B", "C"]);
    // A worker that is still starting has not taken every step yet.
    let through = |w: &&WorkerInfo| matches!(w.state, WorkerState::Idle | WorkerState::Busy);
    let ours: Vec<u32> = pool.workers().iter().filter(through).map(|w| w.pid).collect();
    assert!(!ours.is_empty());
    for pid in ours {
        check(pid);
    }
}

fn status_line(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in /proc/{pid}/status")).trim_matches([':', '\t', ' ']).to_owned()
}

fn descriptors(pid: u32) -> Vec<PathBuf> {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    fds.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok()).collect()
}

fn both(check: impl Fn(u32)) {
    with_workers(StartMethod::Forkserver, &check);
    with_workers(StartMethod::Spawn, &check);
}

#[test]
fn a_worker_has_no_new_privileges_a_session_of_its_own_and_no_environment() {
    let our_session = rustix::process::getsid(None).unwrap().as_raw_nonzero().get();
    both(|pid| {
        assert_eq!(status_line(pid, "NoNewPrivs"), "1");
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let after_name: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        assert_ne!(after_name[3], our_session.to_string(), "the worker is in our session");
        assert_eq!(after_name[4], "0", "the worker has a terminal");
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
        assert_eq!(String::from_utf8_lossy(&environment), "RUST_BACKTRACE=0\0");
    });
}

#[test]
fn a_worker_inherits_no_descriptor_even_one_that_was_left_open_for_children() {
    // An application that forgot close-on-exec.
    let secret = tempfile::NamedTempFile::new().unwrap();
    rustix::io::fcntl_setfd(secret.as_file(), rustix::io::FdFlags::empty()).unwrap();
    assert!(secret.as_file().as_raw_fd() > 2);
    both(|pid| {
        let open = descriptors(pid);
        assert!(!open.iter().any(|target| target == secret.path()), "{open:?}");
        let known = |target: &PathBuf| {
            let target = target.to_string_lossy();
            target == "/dev/null"
                || target.starts_with("socket:")
                || target.starts_with("/memfd:")
                || target.ends_with(".cwasm")
        };
        let strange: Vec<&PathBuf> = open.iter().filter(|target| !known(target)).collect();
        assert!(strange.is_empty(), "{strange:?}");
        assert!(open.len() <= 9, "{open:?}");
    });
}

#[test]
fn p44_descriptors_of_a_worker_do_not_grow_with_the_number_of_its_siblings() {
    let module = guest("hello");
    let pool = Pool::builder(&module).processes(8).build().unwrap();
    let hello = pool.func::<&str, String>("run").unwrap();
    pool.map(&hello, ["x:50"; 16]).unwrap();
    let through = |w: &&WorkerInfo| matches!(w.state, WorkerState::Idle | WorkerState::Busy);
    let counts: Vec<usize> = pool.workers().iter().filter(through).map(|w| descriptors(w.pid).len()).collect();
    assert!(counts.len() > 2);
    assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
}

#[test]
fn a_worker_cannot_dump_core_or_write_a_file() {
    both(|pid| {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let limit = |name: &str| {
            let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().to_owned()
        };
        assert_eq!(limit("Max core file size"), "0");
        assert_eq!(limit("Max file size"), "0");
        assert_ne!(limit("Max data size"), "unlimited");
        assert_eq!(limit("Max open files"), "64");
    });
}

#[test]
fn a_zygote_has_one_thread_and_is_named_for_what_it_is() {
    with_workers(StartMethod::Forkserver, |_| {
        let zygotes: Vec<u32> = workers_of(std::process::id())
            .into_iter()
            .filter(|pid| {
                fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "wpool-zygote")
            })
            .collect();
        assert!(!zygotes.is_empty());
        for pid in zygotes {
            assert_eq!(status_line(pid, "Threads"), "1");
        }
    });
}

#[test]
fn a_worker_itself_reports_every_step_as_enforced() {
    let status = wpool::doctor(&loader()).unwrap();
    assert!(status.steps.len() > 5, "{status:?}");
    for step in &status.steps {
        assert_eq!(step.missing, None, "{}", step.name);
    }
}
