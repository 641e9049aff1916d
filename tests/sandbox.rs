//! The confinement of a worker's process, looked at from outside while it lives.

mod support;

use std::fs;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use support::{guest, loader, time_bound, workers_of};
use wpool::events::{WorkerInfo, WorkerState};
use wpool::sandbox::{ProcessRole, Sandbox};
use wpool::{BuildError, ModuleError, Policy, Pool, StartMethod};

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
    line.unwrap_or_else(|| panic!("no {name} in /proc/{pid}/status"))
        .trim_matches([':', '\t', ' '])
        .to_owned()
}

/// Only root may look into a process that is not traceable.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// None at all if we may not look.
fn descriptors(pid: u32) -> Vec<PathBuf> {
    support::descriptors(pid).unwrap_or_default()
}

fn both(check: impl Fn(u32)) {
    with_workers(StartMethod::Forkserver, &check);
    with_workers(StartMethod::Spawn, &check);
}

#[test]
fn a_worker_has_no_new_privileges_a_session_of_its_own_and_no_environment() {
    let _bound = time_bound();
    let our_session = rustix::process::getsid(None).unwrap().as_raw_nonzero().get();
    both(|pid| {
        assert_eq!(status_line(pid, "NoNewPrivs"), "1");
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let after_name: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        assert_ne!(after_name[3], our_session.to_string(), "the worker is in our session");
        assert_eq!(after_name[4], "0", "the worker has a terminal");
        match fs::read(format!("/proc/{pid}/environ")) {
            Ok(environment) => assert_eq!(String::from_utf8_lossy(&environment), "RUST_BACKTRACE=0\0"),
            // Not even its owner may look into it.
            Err(e) => assert!(e.kind() == std::io::ErrorKind::PermissionDenied && !is_root(), "{e}"),
        }
    });
}

#[test]
fn a_worker_inherits_no_descriptor_even_one_that_was_left_open_for_children() {
    let _bound = time_bound();
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
                // What a guest sleeps with.
                || target.starts_with("anon_inode:[event")
        };
        let strange: Vec<&PathBuf> = open.iter().filter(|target| !known(target)).collect();
        assert!(strange.is_empty(), "{strange:?}");
        assert!(open.len() <= 14, "{open:?}");
    });
}

#[test]
fn p44_descriptors_of_a_worker_do_not_grow_with_the_number_of_its_siblings() {
    let _bound = time_bound();
    let module = guest("hello");
    let pool = Pool::builder(&module).processes(8).build().unwrap();
    let hello = pool.func::<&str, String>("run").unwrap();
    pool.map(&hello, ["x:50"; 16]).unwrap();
    let through = |w: &&WorkerInfo| matches!(w.state, WorkerState::Idle | WorkerState::Busy);
    let counts: Vec<usize> =
        pool.workers().iter().filter(through).map(|w| descriptors(w.pid).len()).collect();
    assert!(counts.len() > 2);
    assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
}

#[test]
fn a_worker_cannot_dump_core_or_write_a_file() {
    let _bound = time_bound();
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
    let _bound = time_bound();
    with_workers(StartMethod::Forkserver, |_| {
        let zygotes: Vec<u32> = workers_of(std::process::id())
            .into_iter()
            .filter(|pid| {
                fs::read_to_string(format!("/proc/{pid}/comm"))
                    .is_ok_and(|name| name.trim() == "wpool-zygote")
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
    let _bound = time_bound();
    let status = wpool::sandbox::doctor(&loader()).unwrap();
    assert!(status.steps.len() > 5, "{status:?}");
    for step in &status.steps {
        assert_eq!(step.missing, None, "{}", step.name);
    }
}

#[test]
fn f117_all_that_must_hold_does_in_processes_of_every_kind() {
    let _bound = time_bound();
    for (role, forks) in
        [(ProcessRole::Worker, false), (ProcessRole::Zygote, true), (ProcessRole::Compiler, false)]
    {
        let status = wpool::sandbox::doctor_of(&loader(), &Policy::sealed(), role).unwrap();
        let names: Vec<&str> = status.properties.iter().map(|property| &property.name[..]).collect();
        for name in ["no file", "no connection", "no signal to another process", "ends with its coordinator"]
        {
            assert!(names.contains(&name), "{role:?}: {names:?}");
        }
        assert_ne!(names.contains(&"no new process"), forks, "{role:?}: {names:?}");
        for property in &status.properties {
            assert!(property.missing.is_none() && !property.layers.is_empty(), "{role:?}: {property:?}");
        }
    }
}

#[test]
fn a_worker_is_held_to_a_list_of_system_calls_and_has_no_capabilities() {
    let _bound = time_bound();
    both(|pid| {
        assert_eq!(status_line(pid, "Seccomp"), "2", "not filtered");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status_line(pid, set), "0000000000000000", "{set}");
        }
        let adjusted = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
        assert_eq!(adjusted.trim(), "1000");
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).ok();
        if let Some(theirs) = namespace(&pid.to_string()) {
            assert_ne!(Some(theirs), namespace("self"));
        }
    });
}

#[test]
fn every_thread_of_a_worker_is_held_to_the_list() {
    let _bound = time_bound();
    // This guest prints and sleeps.
    let module = guest("hello");
    let pool = Pool::builder(&module).processes(1).build().unwrap();
    let hello = pool.func::<&str, String>("run").unwrap();
    pool.apply(&hello, "x:20").unwrap();
    let pid = pool.workers()[0].pid;
    let threads: Vec<PathBuf> =
        fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|t| t.unwrap().path()).collect();
    assert!(threads.len() <= 2, "{threads:?}");
    for thread in threads {
        let status = fs::read_to_string(thread.join("status")).unwrap();
        assert!(status.contains("Seccomp:\t2"), "{status}");
        assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    }
}

#[test]
fn switched_off_it_is_off_and_says_so() {
    let _bound = time_bound();
    let loader = loader().sandbox(Sandbox::Off);
    let module = loader.from_bytes(b"(module (func (export \"run\")))").unwrap();
    assert!(module.warnings().iter().any(|w| w.contains("sandbox is OFF")), "{:?}", module.warnings());
    let status = wpool::sandbox::doctor(&loader).unwrap();
    let off = |name: &str| {
        let step = status.steps.iter().find(|step| step.name.contains(name)).unwrap();
        assert_eq!(step.missing.as_deref(), Some("the sandbox is switched off"), "{name}");
    };
    off("landlock");
    off("seccomp");
    off("namespaces");
    // Hygiene is no matter of choice.
    assert!(
        status.steps.iter().any(|step| step.name == "no inherited descriptors" && step.missing.is_none())
    );
}

#[test]
fn strict_runs_all_or_nothing() {
    let _bound = time_bound();
    let whole = wpool::sandbox::doctor(&loader())
        .unwrap()
        .properties
        .iter()
        .all(|property| property.missing.is_none());
    let strict = loader().sandbox(Sandbox::Strict);
    for loader in [strict.clone(), strict.clone().no_cache()] {
        match loader.load(support::repo("guest/prebuilt/upper.wasm")) {
            Ok(module) => {
                let pool = Pool::builder(&module).processes(1).build().unwrap();
                let upper = pool.func::<&str, String>("run").unwrap();
                let done = pool.apply(&upper, "a");
                assert_eq!(done.is_ok(), whole, "{done:?}");
            }
            Err(e) => {
                assert!(!whole && matches!(e, ModuleError::Sandbox(_)), "{e}");
                assert!(e.to_string().contains("not all that must hold can be enforced"), "{e}");
            }
        }
    }
}

/// A worker program that is started with less than it should have: here, with a variable in its environment.
#[test]
fn strict_refuses_and_names_what_is_missing_and_default_goes_on() {
    let _bound = time_bound();
    let dir = support::temp_dir();
    let text = format!("LEFT_OVER=1 exec {} \"$@\"", support::program().display());
    let script = support::script(dir.path(), "wpool", &text);
    let upper = support::repo("guest/prebuilt/upper.wasm");

    let strict = loader().program(&script).sandbox(Sandbox::Strict);
    let error = strict.clone().no_cache().load(&upper).unwrap_err();
    assert!(matches!(error, ModuleError::Sandbox(_)), "{error:?}");
    let said = error.to_string();
    assert!(
        said.contains("the sandbox is strict") && said.contains("empty environment (LEFT_OVER is set)"),
        "{said}"
    );

    // A module that is in the cache already needs no compiler; its workers refuse.
    guest("upper");
    let module = strict.load(&upper).unwrap();
    for method in [StartMethod::Forkserver, StartMethod::Spawn] {
        let pool = Pool::builder(&module).processes(1).start_method(method).build().unwrap();
        let func = pool.func::<&str, String>("run").unwrap();
        let said = pool.apply(&func, "a").unwrap_err().to_string();
        assert!(said.contains("LEFT_OVER is set"), "{method:?}: {said}");
        let mut process = wpool::Process::builder(&module)
            .target(wpool::Target::func("run").arg("a"))
            .start_method(method)
            .build()
            .unwrap();
        process.start().unwrap();
        let status = process.join().unwrap();
        assert!(format!("{status:?}").contains("LEFT_OVER is set"), "{method:?}: {status:?}");
    }

    // By default it is a warning, once.
    let module = loader().program(&script).load(&upper).unwrap();
    let pool = Pool::builder(&module).processes(1).build().unwrap();
    let func = pool.func::<&str, String>("run").unwrap();
    assert_eq!(pool.apply(&func, "a").unwrap(), "A");
    assert!(wpool::sandbox::unenforced().iter().any(|property| property.to_string()
        == "nothing of the program that started it (empty environment (LEFT_OVER is set))"));
}

#[test]
fn strict_allows_no_workers_in_threads() {
    let _bound = time_bound();
    // The status of a thread goes on saying that nothing is enforced; that is less than everything.
    let Ok(module) = loader().sandbox(Sandbox::Strict).load(support::repo("guest/prebuilt/upper.wasm"))
    else {
        return;
    };
    let refused = Pool::builder(&module).start_method(StartMethod::Thread).build().unwrap_err();
    assert!(matches!(refused, BuildError::Start(_)), "{refused:?}");
    assert!(refused.to_string().contains("strict"), "{refused}");
}
