//! Odd file systems, variables and applications around wpool.

use rustix::process::Signal;

use super::*;

/// In a mount namespace with a file system of its own at a new directory, mounted with `options`. `None`:
/// this machine does not let us.
fn with_mount(dir: &Path, options: &str, args: &[&str]) -> Option<Command> {
    let mount = format!("mount -t tmpfs -o {options} tmpfs {}", path_text(dir));
    let ways = ["unshare -m", "unshare -Urm"];
    let works = |way: &&str| run(by_shell(&format!("exec {way} sh -c '{mount}'"), &[])).status.success();
    let Some(way) = ways.into_iter().find(works) else {
        eprintln!("nothing can be mounted here: nothing is tested");
        return None;
    };
    Some(by_shell(
        &format!("exec {way} sh -c '{mount}; for _ in 1 2 3; do \"$0\" \"$@\" || exit; done' \"$0\" \"$@\""),
        args,
    ))
}

#[test]
fn f126_a_cache_on_a_file_system_without_execution_serves_all_runs() {
    let dir = scratch();
    let cache = path_text(&dir.path().join("cache"));
    let upper = prebuilt("upper");
    for call in [
        &["map", &upper, "--items", "a"][..],
        &["call", &upper, "run(\"a\")"],
        &["run", "--func", "run", "--arg", "a", &upper],
    ] {
        let place = ["--cache-dir", &cache];
        let call = [&call[..1], &place, &call[1..]].concat();
        let Some(command) = with_mount(dir.path(), "noexec,mode=700", &call) else { return };
        let output = run(command);
        ends(&output, 0, "");
        assert_eq!(out(&output).lines().count(), 3, "{}", err(&output));
        assert!(!err(&output).contains("cache"), "{}", err(&output));
    }
}

/// The program where memory that was written is never executed, as systemd's MemoryDenyWriteExecute has it.
fn without_new_code(args: &[&str]) -> Option<Command> {
    let script = "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) and sys.exit(99); \
                  os.execv(sys.argv[1], sys.argv[1:])";
    let known = Command::new("python3").args(["-c", script, "/bin/true"]).status();
    if !known.is_ok_and(|status| status.success()) {
        eprintln!("there is no python here, or this kernel does not know it: nothing is tested");
        return None;
    }
    Some(by_shell(&format!("exec python3 -c '{script}' \"$0\" \"$@\""), args))
}

#[test]
fn f126_memory_that_may_not_be_executed_is_named_as_the_cause() {
    let upper = prebuilt("upper");
    for call in [
        &["map", &upper, "--items", "a"][..],
        &["map", &upper, "--items", "a", "--no-cache"],
        &["map", &upper, "--items", "a", "--start-method", "spawn"],
        &["call", &upper, "run(\"a\")"],
        &["run", "--func", "run", "--arg", "a", &upper],
        &["doctor"],
    ] {
        let Some(command) = without_new_code(call) else { return };
        let output = run(command);
        assert!(!output.status.success(), "{call:?}: {}", out(&output));
        let said = err(&output) + &out(&output);
        assert!(
            said.contains("this process may not make machine code executable (Permission denied"),
            "{call:?}: {said}"
        );
        assert!(!said.contains("the module is refused"), "{call:?}: {said}");
    }
}

#[test]
fn f126_a_limit_on_pending_signals_is_named() {
    let upper = prebuilt("upper");
    for call in [
        &["map", &upper, "--items", "a"][..],
        &["call", &upper, "run(\"a\")"],
        &["run", "--func", "run", "--arg", "a", &upper],
    ] {
        // Where the limit holds for root too, there is no timer.
        let output = run(by_shell("exec prlimit --sigpending=0 \"$0\" \"$@\"", call));
        match output.status.code() {
            Some(0) => {}
            _ => assert!(
                err(&output).contains("the limit on pending signals (ulimit -i) allows no more"),
                "{}",
                err(&output)
            ),
        }
    }
}

#[test]
fn f126_empty_variables_are_as_if_they_were_not_there() {
    let upper = prebuilt("upper");
    let mut command = wpool(["map", &upper, "--items", "a"]);
    let help =
        [&["map", "--help"][..], &["--help"]].map(|call| out(&run(wpool(call.iter().copied())))).concat();
    let names: Vec<&str> =
        help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next()).collect();
    assert!(!names.is_empty() && names.iter().all(|name| name.starts_with("WPOOL_")), "{names:?}");
    for name in names.into_iter().chain(["WPOOL_CACHE_DIR"]) {
        command.env(name, "");
    }
    let dir = scratch();
    command.env("XDG_CACHE_HOME", dir.path());
    ends(&run(command), 0, "1 task: 1 ok");
    assert!(dir.path().join("wpool").is_dir(), "an empty WPOOL_CACHE_DIR is none");
}

#[test]
fn f126_no_umask_takes_what_is_our_own_from_us() {
    let dir = scratch();
    let cache = path_text(&dir.path().join("new/and/new"));
    let upper = prebuilt("upper");
    for _ in 0..2 {
        let output = run(under("umask 0777;", &["map", &upper, "--items", "a", "--cache-dir", &cache]));
        ends(&output, 0, "1 task: 1 ok");
        assert!(!err(&output).contains("cache"), "{}", err(&output));
    }
}

#[test]
fn f126_a_cache_directory_that_others_may_enter_is_told_of_once() {
    let dir = scratch();
    let cache = dir.path().join("cache");
    std::fs::create_dir(&cache).unwrap();
    std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(0o755)).unwrap();
    let upper = prebuilt("upper");
    let output = run(wpool(["map", &upper, "--items", "a", "--cache-dir", &path_text(&cache)]));
    ends(&output, 0, "other users have access to it (chmod 700 fixes that)");
    assert_eq!(err(&output).matches("is not used").count(), 1, "{}", err(&output));
}

/// A group of processes that can be frozen; removed again.
struct Freezer(PathBuf);

impl Freezer {
    /// `None`: this machine does not let us.
    fn new() -> Option<Freezer> {
        let name = format!("wpool-frozen-{}", std::process::id());
        let kinds = [("/sys/fs/cgroup/freezer", "freezer.state"), ("/sys/fs/cgroup", "cgroup.freeze")];
        kinds.into_iter().find_map(|(root, state)| {
            let group = Path::new(root).join(&name);
            std::fs::create_dir(&group).ok()?;
            match group.join(state).exists() {
                true => Some(Freezer(group)),
                false => std::fs::remove_dir(&group).ok().and(None),
            }
        })
    }

    fn set(&self, frozen: bool) {
        let (file, words) = match self.0.join("freezer.state").exists() {
            true => ("freezer.state", ["THAWED", "FROZEN"]),
            false => ("cgroup.freeze", ["0", "1"]),
        };
        std::fs::write(self.0.join(file), words[usize::from(frozen)]).unwrap();
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        wait_until("the group is empty", LONG, || std::fs::remove_dir(&self.0).is_ok() || !self.0.exists());
    }
}

#[test]
fn f126_a_quota_of_a_group_above_is_the_number_of_processors() {
    // As the two versions of control groups have it.
    let (old, new) = ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup");
    for (root, file, quota) in [(old, "cpu.cfs_quota_us", "100000"), (new, "cpu.max", "100000 100000")] {
        let group = format!("{root}/wpool-quota-{}", std::process::id());
        let child = format!("{group}/child");
        let is_made = std::fs::create_dir_all(&child).is_ok()
            // Where no control groups are mounted, this is a directory like any other, without such a file.
            && std::path::Path::new(&group).join(file).exists()
            && std::fs::write(format!("{group}/{file}"), quota).is_ok();
        if is_made {
            let script = format!("echo $$ >{child}/cgroup.procs && exec \"$0\" \"$@\"");
            let output = by_shell(&script, &["doctor"]).output().unwrap();
            assert!(out(&output).contains("processors that wpool may use: 1\n"), "{}", out(&output));
        } else {
            eprintln!("no group with a quota can be made below {root}: nothing is tested there");
        }
        for group in [child, group] {
            let _was_not_made = std::fs::remove_dir(group);
        }
    }
}

#[test]
fn f126_frozen_time_counts_for_no_limit() {
    let Some(group) = Freezer::new() else {
        eprintln!("no group of processes can be made here: nothing is tested");
        return;
    };
    let hello = prebuilt("hello");
    let script = format!("echo $$ >{}/cgroup.procs && exec \"$0\" \"$@\"", path_text(&group.0));
    let calls = [
        vec!["map", &hello, "-j", "1", "--timeout", "2s", "--items", "first:0", "second:1000"],
        vec!["map", &hello, "-j", "1", "--global-timeout", "3s", "--items", "first:0", "second:1000"],
        vec!["run", "--timeout", "2s", "--func", "run", "--arg", "first:1000", &hello],
    ];
    for call in calls {
        let mut running = Running::start(by_shell(&script, &call));
        // It has begun.
        let pid = running.child.id();
        match call[0] {
            "map" => assert!(running.line().starts_with("hello first")),
            _ => wait_until("it sleeps", LONG, || {
                support::workers_of(pid).iter().any(|pid| support::sleeps_in_a_call(*pid))
            }),
        }
        group.set(true);
        std::thread::sleep(std::time::Duration::from_secs(4));
        group.set(false);
        let (status, stderr) = running.end();
        assert!(status.success(), "{call:?}: {stderr}");
    }
}

/// The same without a group of processes, and for the limit of the whole run: a signal that no program sees.
#[test]
fn f126_a_stop_by_sigstop_does_not_count_for_the_limit_of_the_whole_run() {
    let hello = prebuilt("hello");
    let call = ["map", &hello, "-j", "1", "--global-timeout", "3s", "--items", "first:0", "second:1000"];
    let mut running = Running::start(wpool(call));
    assert!(running.line().starts_with("hello first"));
    running.signal(Signal::STOP);
    std::thread::sleep(std::time::Duration::from_secs(4));
    running.signal(Signal::CONT);
    let (status, stderr) = running.end();
    assert!(status.success(), "{stderr}");
}

#[test]
fn f153_a_stack_that_is_too_small_is_named() {
    let upper = prebuilt("upper");
    for call in [&["doctor"][..], &["map", &upper, "--items", "a"]] {
        let output = run(by_shell("ulimit -s 120 && exec \"$0\" \"$@\"", call));
        ends(&output, 3, "wpool: the stack may have 120 KiB (ulimit -s), and 256 KiB are needed");
    }
    // What may be raised is raised.
    let output = run(by_shell("ulimit -S -s 120 && exec \"$0\" \"$@\"", &["map", &upper, "--items", "a"]));
    ends(&output, 0, "1 ok");
    assert_eq!(out(&output), "A\n");
}

#[test]
fn f127_a_workers_runtime_has_the_drivers_that_it_names() {
    // What an application's other dependencies turn on is in its workers, too: `enable_all` would start that.
    let mut sources = vec![repo("host/src/worker")];
    let mut named = 0;
    while let Some(dir) = sources.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                sources.push(entry.path());
                continue;
            }
            let text = std::fs::read_to_string(entry.path()).unwrap();
            assert!(!text.contains("enable_all"), "{}", entry.path().display());
            named += usize::from(text.contains(".enable_time()"));
        }
    }
    assert_eq!(named, 1, "there is one runtime");
}

#[test]
fn f129_an_application_beside_the_workspace_has_the_profiles_of_the_documentation() {
    let page = std::fs::read_to_string(repo("host/docs/embedding.md")).unwrap();
    let lines = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let manifest = std::fs::read_to_string(repo("tests/consumer/Cargo.toml")).unwrap();
    assert!(manifest.contains(lines), "{lines}");
    assert!(manifest.contains("\n[workspace]\n"), "it is none of ours");
    // It may have another patch of the engine than our lock file.
    let ours = std::fs::read_to_string(repo("Cargo.toml")).unwrap();
    assert!(ours.contains("\nwasmtime = { version = \"~48.0.8\""), "{ours}");
}
