//! Odd machines: limits of the system, missing directories, one busy processor, a kernel with less than it should have. Rows F84 to F93 of
//! the list of faults, through the command line.

mod support;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use support::command::*;
use support::{cpu_ticks, repo, wait_until};

/// The program under what a shell says before.
fn under(before: &str, args: &[&str]) -> Command {
    by_shell(&format!("{before} exec \"$0\" \"$@\""), args)
}

#[test]
fn f84_workers_are_started_as_they_are_needed() {
    let output = run(wpool(["map", &prebuilt("hello"), "--items", "a:50", "b:50", "-j", "10000"]));
    ends(&output, 0, "warning: at most ");
    ends(&output, 0, " at a time instead of 10000 workers: ");
    // Each has a task, unless the first has done both before the second is there.
    let workers = err(&output).rsplit_once('(').unwrap().1.to_owned();
    assert!(["2 workers)\n", "1 worker)\n"].contains(&&workers[..]), "{workers}");
}

#[test]
fn f85_few_descriptors_are_few_workers_or_a_clear_end() {
    let hello = prebuilt("hello");
    let call = ["map", &hello, "-j", "50", "--items", "a:20", "b:20", "c:20", "d:20", "e:20", "f:20", "g:20"];
    for files in [60, 44, 20] {
        let output = run(under(&format!("ulimit -n {files};"), &call));
        ends(&output, 0, "instead of 50 workers: the limit on open files (ulimit -n) allows no more\n");
        ends(&output, 0, "7 tasks: 7 ok, 0 failed in ");
    }
    // So few that it depends on who asks first: whoever it is, it is said what is lacking.
    for files in 9..20 {
        let output = run(under(&format!("ulimit -n {files};"), &call));
        match output.status.code() {
            Some(0) => ends(&output, 0, "7 tasks: 7 ok, 0 failed in "),
            // Before there is a pool, too.
            _ => assert!(err(&output).to_lowercase().contains("open files"), "{files}: {}", err(&output)),
        }
    }
}

#[test]
fn f58_descriptors_do_not_pile_up_with_workers_that_come_and_go() {
    let mut command = wpool(["map", &prebuilt("upper"), "-j", "2", "--max-tasks-per-child", "1"]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut stdin = running.child.stdin.take().unwrap();
    let pid = running.child.id();
    let mut run = |count: usize| {
        stdin.write_all("line\n".repeat(count).as_bytes()).unwrap();
        (0..count).for_each(|_| assert_eq!(running.line(), "LINE"));
        std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
    };
    let few = run(20);
    let many = run(500);
    // A worker has four.
    assert!(many <= few + 4 * 4, "{few} then {many}");
    drop(stdin);
    let (status, stderr) = running.end();
    assert!(status.success() && stderr.contains("520 tasks: 520 ok, 0 failed in "), "{stderr}");
}

/// A group of processes that may have so much memory all together; removed again.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// `None`: this machine does not let us.
    fn of(bytes: u64) -> Option<MemoryGroup> {
        let name = format!("wpool-test-{}", std::process::id());
        let kinds = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        kinds.into_iter().find_map(|(root, limit)| {
            let group = MemoryGroup(Path::new(root).join(&name));
            std::fs::create_dir(&group.0).ok()?;
            std::fs::write(group.0.join(limit), bytes.to_string()).ok()?;
            Some(group)
        })
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // The last process may not be gone for good yet.
        wait_until("the group is empty", LONG, || std::fs::remove_dir(&self.0).is_ok() || !self.0.exists());
    }
}

#[test]
fn f53_a_worker_that_the_kernel_kills_for_memory_costs_its_task_only() {
    let Some(group) = MemoryGroup::of(160 << 20) else {
        eprintln!("no group of processes can be made here: nothing is tested");
        return;
    };
    let dir = scratch();
    let text = r#"(module (memory 0)
        (func (export "run") (param $pages i32) (result i32)
            (local $start i32)
            (local.set $start (i32.mul (memory.grow (local.get $pages)) (i32.const 65536)))
            (memory.fill (local.get $start) (i32.const 1) (i32.mul (local.get $pages) (i32.const 65536)))
            (local.get $pages)))"#;
    let module = path_text(&file(&dir, "fill.wat", text));
    let script = format!("echo $$ >{}/cgroup.procs && exec \"$0\" \"$@\"", path_text(&group.0));
    let call = ["map", &module, "-j", "2", "--memory", "1G", "--items", "1", "2", "8000", "3", "4"];
    let output = run(by_shell(&script, &call));
    ends(&output, 1, "task 3: worker died: SIGKILL (by someone else; perhaps the machine is out of memory)");
    assert_eq!(out(&output), "1\n2\n3\n4\n", "{}", err(&output));
}

/// As a user of whom there are no other processes: those of root have no limit.
fn as_nobody(processes: u32, place: &Path, args: &[&str]) -> Command {
    let uid = 20_000 + std::process::id() % 4_000 * 10 + processes % 10;
    let user = format!("setpriv --reuid {uid} --regid {uid} --clear-groups");
    let program = path_text(&place.join("wpool"));
    by_shell(&format!("exec {user} prlimit --nproc={processes} {program} \"$@\""), args)
}

/// The program and two guests, where everybody may read and execute them: wherever the project lies, that may be out of another user's reach.
fn for_everybody() -> (tempfile::TempDir, String, String) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::copy(support::program(), dir.path().join("wpool")).unwrap();
    let [upper, echo] = [prebuilt("upper"), example("echo")].map(|guest| {
        let copy = dir.path().join(Path::new(&guest).file_name().unwrap());
        std::fs::copy(&guest, &copy).unwrap();
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o644)).unwrap();
        path_text(&copy)
    });
    (dir, upper, echo)
}

#[test]
fn f86_no_more_processes_are_fewer_workers_and_the_system_is_asked_again() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can become another user: nothing is tested");
        return;
    }
    // A guest that needs no thread beside its worker's.
    let (dir, upper, echo) = for_everybody();
    // The program's threads count, and so does the zygote.
    let items = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let output =
        run(as_nobody(10, dir.path(), &args(&["map", &echo, "-j", "8", "--no-cache", "--items"], &items)));
    ends(&output, 0, "8 tasks: 8 ok, 0 failed in ");
    let workers: u32 = err(&output).rsplit_once('(').unwrap().1.split(' ').next().unwrap().parse().unwrap();
    assert!((1..8).contains(&workers), "{}", err(&output));
    // Not one.
    let output = run(as_nobody(1, dir.path(), &["map", &upper, "--no-cache", "--items", "a"]));
    ends(&output, 3, "the limit on processes: ulimit -u");
}

#[test]
fn f87_too_little_address_space_is_named() {
    let upper = prebuilt("upper");
    let output = run(under("ulimit -v 2000000;", &["map", &upper, "--items", "a"]));
    let said = err(&output);
    let named = "no room for the guest's memory: it reserves some GiB of address space, and the limit on that (ulimit -v) is 1953 MiB";
    // It is the same for every task, which may end the run early.
    assert!(matches!(output.status.code(), Some(1 | 3)) && said.contains(named), "{said}");
}

#[test]
fn f88_a_limit_on_the_size_of_files_is_an_error_of_output() {
    let dir = scratch();
    let results = path_text(&dir.path().join("results"));
    let inputs = path_text(&file(&dir, "inputs", b"some line of text\n".repeat(10_000)));
    let upper = prebuilt("upper");
    let script = format!("ulimit -f 8; exec \"$0\" \"$@\" >{results}");
    ends(
        &run(by_shell(&script, &["map", &upper, &inputs])),
        4,
        "wpool: cannot write output: File too large\n",
    );
    // Files in memory are files.
    let output = run(under("ulimit -f 8;", &["map", &upper, "--items", "a", "--no-cache"]));
    ends(
        &output,
        3,
        "cannot be handed over: File too large (os error 27) (the limit on the size of files: ulimit -f)\n",
    );
}

#[test]
fn f88_a_limit_on_processor_time_kills_workers_which_is_named() {
    let failing = prebuilt("failing");
    let call = ["map", &failing, "-j", "1", "--items", "loop", "good"];
    let output = run(under("ulimit -S -t 1;", &call));
    ends(&output, 1, "wpool: task 1: worker died: SIGXCPU");
    assert_eq!(out(&output), "good\n");
}

#[test]
fn f59_f90_no_process_is_named_by_its_number_and_no_time_taken_from_the_wall() {
    // Processes are signalled by descriptors, which never name another; and limits are measured by a clock that nobody can set. What the
    // sources do not call cannot happen.
    let mut sources = vec![repo("host/src")];
    let (mut looked, mut measured) = (0, 0);
    while let Some(dir) = sources.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let file = path.to_str().unwrap().to_owned();
            // Attempts of an attacker, and a worker that ends itself.
            let of_tests = file.ends_with("sys/probe.rs") || file.ends_with("worker/fault.rs");
            if path.is_dir() {
                sources.push(path);
            } else if file.ends_with(".rs") && !of_tests {
                let text = std::fs::read_to_string(&path).unwrap();
                // What people read, and what guests are given, is another matter.
                let measures =
                    ["/schedule/", "/dispatcher/", "/context/", "/sys/", "/supervisor.rs", "/clock.rs"];
                let measures =
                    measures.iter().chain(&["/limits.rs", "/serve.rs", "/store.rs", "/compile.rs"]);
                let wall: &[&str] = match measures.clone().any(|place| file.contains(place)) {
                    true => &["SystemTime", "ClockId::Realtime", "CLOCK_REALTIME"],
                    false => &[],
                };
                measured += usize::from(!wall.is_empty());
                for word in wall.iter().chain(&["kill_process(", "libc::kill"]) {
                    assert!(!text.contains(word), "{file} has {word}");
                }
                // Before it is reaped, the number of a process is nobody else's.
                let groups = text.matches("kill_process_group(").count();
                assert_eq!(groups, usize::from(file.ends_with("process/supervisor.rs")), "{file}");
                looked += 1;
            }
        }
    }
    assert!(looked > 50 && measured > 20, "{looked} {measured}");
}

#[test]
fn f91_neither_a_home_nor_temporary_files_are_needed() {
    let upper = prebuilt("upper");
    for environment in ["env -i", "env -i TMPDIR=/nonexistent HOME=/nonexistent", "env -i HOME="] {
        let output = run(by_shell(
            &format!("exec {environment} \"$0\" \"$@\""),
            &["map", &upper, "--items", "a", "--no-cache"],
        ));
        ends(&output, 0, "1 ok");
    }
}

/// `wpool map` of one record in a mount namespace of its own, after `mounts`. Wherever this project lies, the program and its guest lie elsewhere.
fn with_mounts(mounts: &str) -> Option<Command> {
    let can = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        eprintln!("mounts are not permitted here: nothing is tested");
        return None;
    }
    let copy = r#"mount -t tmpfs none /mnt && cp "$0" /mnt/wpool && cp "$1" /mnt/guest.wasm"#;
    let map = "/mnt/wpool map /mnt/guest.wasm --items a --no-cache";
    let script = format!(r#"exec unshare -m sh -c '{copy} && {mounts}; exec {map}' "$0" "$@""#);
    Some(by_shell(&script, &[&prebuilt("upper")]))
}

#[test]
fn f91_directories_of_the_system_that_cannot_be_used_change_nothing_or_are_named() {
    let ro = |dir: &str| format!("mount -t tmpfs -o ro none {dir}");
    for mounts in
        [ro("/tmp"), ro("/dev/shm"), format!("{} && {} && {}", ro("/tmp"), ro("/dev/shm"), ro("/var/tmp"))]
    {
        let Some(command) = with_mounts(&mounts) else { return };
        ends(&run(command), 0, "1 ok");
    }
    let Some(command) = with_mounts(&ro("/proc")) else { return };
    let output = run(command);
    ends(&output, 3, "wpool: cannot start /proc/self/exe: No such file or directory");
    assert_eq!(err(&output).lines().count(), 1, "{}", err(&output));
}

/// The program on a kernel without landlock, or seccomp, or with a landlock of a certain version.
fn on_old_kernel(without: &str, args: &[&str]) -> Output {
    let mut command = Command::new(support::example("old_kernel"));
    command.arg(without).arg(support::program()).args(args);
    prepare(&mut command);
    run(command)
}

fn warnings(output: &Output) -> Vec<String> {
    err(output).lines().filter(|line| line.contains("warning")).map(str::to_owned).collect()
}

const FEW: [&str; 7] = ["--no-cache", "-j", "2", "--items", "a:20", "b:20", "c:20"];

#[test]
fn f92_a_kernel_without_seccomp_is_told_once_and_is_no_strict_sandbox() {
    let hello = prebuilt("hello");
    for without in ["seccomp", "landlock,seccomp"] {
        let map = |choice: &str| {
            on_old_kernel(without, &[&["map", &hello, "--sandbox", choice], &FEW[..]].concat())
        };
        let output = map("default");
        ends(&output, 0, "3 ok");
        let warnings = warnings(&output);
        assert_eq!(warnings.len(), 1, "{without}: {}", err(&output));
        let said = &warnings[0];
        assert!(
            said.contains("not enforced in worker processes: ") && said.contains("no connection ("),
            "{said}"
        );
        assert!(said.contains("no new process ("), "{said}");
        let output = map("strict");
        ends(&output, 3, "the sandbox is strict");
        assert!(out(&output).is_empty() && err(&output).contains("seccomp"), "{without}: {}", err(&output));
    }
}

/// What an old kernel does not know is no loss as long as nothing is granted: the list of system calls leaves nothing of it.
#[test]
fn f117_without_grants_an_old_kernel_is_no_reason_for_a_warning_and_strict_runs() {
    let hello = prebuilt("hello");
    for without in ["landlock", "landlock=1", "landlock=2", "landlock=5"] {
        for choice in ["default", "strict"] {
            let output = on_old_kernel(without, &[&["map", &hello, "--sandbox", choice], &FEW[..]].concat());
            ends(&output, 0, "3 ok");
            assert!(warnings(&output).is_empty(), "{without} {choice}: {}", err(&output));
        }
        let doctor = on_old_kernel(without, &["doctor"]);
        assert_eq!(doctor.status.code(), Some(0), "{without}: {}", out(&doctor));
        let said = out(&doctor);
        let strict = "all holds that must, without grants: --sandbox strict runs";
        assert!(said.contains(strict), "{without}: {said}");
        assert!(
            said.contains("no signal to another process: by seccomp (a further layer is missing: "),
            "{said}"
        );
        let connects = "NOT HELD: no connection but TCP to the granted ports: no TCP port (landlock)";
        assert_eq!(said.contains(connects), without != "landlock=5", "{without}: {said}");
        let reads = "NOT HELD: no file but in the granted directories";
        assert_eq!(said.contains(reads), without == "landlock", "{without}: {said}");
    }
}

/// A pool that breaks before there is a task ends the run as any other does: whatever the input is waiting for.
#[test]
fn a_pool_that_breaks_before_the_first_record_says_why() {
    let hello = prebuilt("hello");
    let mut command = Command::new(support::example("old_kernel"));
    let strict = ["--sandbox", "strict", "--net", "127.0.0.1:9"];
    command.arg("landlock=3").arg(support::program()).args(["map", &hello]).args(strict);
    prepare(&mut command);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let input = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(input);
    ends(&output, 3, "the sandbox is strict");
}

/// Where nothing would hold a worker to a grant, there is none, unless the sandbox is switched off.
#[test]
fn f116_without_landlock_nothing_is_granted() {
    let hello = prebuilt("hello");
    let dir = support::temp_dir();
    let read = format!("{}::/:ro", dir.path().display());
    for grant in [["--dir", &read], ["--net", "127.0.0.1:9"]] {
        let map = |choice: &str| {
            on_old_kernel("landlock", &[&["map", &hello, "--sandbox", choice], &grant[..], &FEW[..]].concat())
        };
        for choice in ["default", "strict"] {
            let output = map(choice);
            ends(&output, 2, "cannot be granted: this kernel has no landlock");
            assert!(err(&output).contains("--sandbox off"), "{}", err(&output));
        }
        ends(&map("off"), 0, "3 ok");
    }
    let threads =
        on_old_kernel("landlock", &[&["map", &hello, "--threads", "--dir", &read], &FEW[1..]].concat());
    ends(&threads, 0, "3 ok");
}

/// With grants it depends on the grant: what nothing would enforce is told, and refused where the sandbox is strict.
#[test]
fn f117_a_grant_that_an_old_kernel_cannot_hold_is_told_of_or_refused() {
    let hello = prebuilt("hello");
    let dir = support::temp_dir();
    let read = format!("{}::/:ro", dir.path().display());
    let write = format!("{}::/", dir.path().display());
    let both = ["--dir", &read, "--dir", &format!("{}::/w", dir.path().display())];
    let map = |without: &str, choice: &str, grants: &[&str]| {
        on_old_kernel(without, &[&["map", &hello, "--sandbox", choice], grants, &FEW[..]].concat())
    };
    for (without, grants, open) in [
        ("landlock=2", &["--dir", &read][..], None),
        ("landlock=2", &["--dir", &write], None),
        ("landlock=2", &both, Some("nothing written where only reading is granted (")),
        ("landlock=3", &both, None),
        ("landlock=3", &["--net", "127.0.0.1:9"], Some("no connection but TCP to the granted ports (")),
        ("landlock=4", &["--net", "127.0.0.1:9"], None),
        ("landlock=1", &["--net", "none"], None),
    ] {
        let output = map(without, "default", grants);
        ends(&output, 0, "3 ok");
        let told = warnings(&output);
        assert_eq!(told.len(), usize::from(open.is_some()), "{without} {grants:?}: {told:?}");
        let strict = map(without, "strict", grants);
        match open {
            None => ends(&strict, 0, "3 ok"),
            Some(open) => {
                assert!(told[0].contains(open) && told[0].contains("needs Linux 6."), "{told:?}");
                ends(&strict, 3, "the sandbox is strict");
                assert!(err(&strict).contains(open), "{}", err(&strict));
            }
        }
        let doctor = on_old_kernel(without, &[&["doctor"], grants].concat());
        assert_eq!(
            doctor.status.code(),
            Some(i32::from(open.is_some())),
            "{without} {grants:?}: {}",
            out(&doctor)
        );
    }
}

#[test]
fn f93_one_processor_that_is_busy_is_no_reason_to_give_up_workers() {
    let burn =
        |_| Command::new("taskset").args(["-c", "0", "sh", "-c", "while :; do :; done"]).spawn().unwrap();
    let mut others: Vec<std::process::Child> = (0..3).map(burn).collect();
    let burning = || others.iter().all(|other| cpu_ticks(other.id()) > 0);
    wait_until("they burn", LONG, burning);
    let hello = prebuilt("hello");
    let items = ["a:0", "b:0", "c:0", "d:0"];
    let nice = "exec taskset -c 0 nice -n 19 \"$0\" \"$@\"";
    let output =
        run(by_shell(nice, &args(&["map", &hello, "-j", "4", "--timeout", "30s", "--items"], &items)));
    for other in &mut others {
        other.kill().unwrap();
        other.wait().unwrap();
    }
    ends(&output, 0, "4 tasks: 4 ok, 0 failed in ");
    assert!(!err(&output).contains("died"), "{}", err(&output));
}

#[test]
fn f130_a_worker_that_somebody_else_has_left_is_no_matter_of_these_tests() {
    // As its command line shows it: a worker of a coordinator that is gone.
    let dir = scratch();
    file(&dir, "__wpool-worker", "echo; read _");
    let mut stranger = Command::new("sh");
    stranger
        .args(["__wpool-worker", "worker", "4194304", "default"])
        .current_dir(dir.path())
        .stdin(Stdio::piped());
    let mut stranger = Running::start(stranger);
    assert_eq!(stranger.line(), "");
    let upper = prebuilt("upper");
    // This fails if anything of the run's own is left.
    ends(&run(wpool(["map", &upper, "--items", "a"])), 0, "1 task: 1 ok");
    assert_eq!(stranger.child.try_wait().unwrap(), None, "it is still there");
    stranger.signal(rustix::process::Signal::KILL);
    stranger.child.wait().unwrap();
}

/// In a mount namespace with a file system of its own at a new directory, mounted with `options`. `None`: this machine does not let us.
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
    let script = "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) and sys.exit(99); os.execv(sys.argv[1], sys.argv[1:])";
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
        // Of root, too, with the limit there is none.
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
fn f126_frozen_time_counts_for_no_limit() {
    let Some(group) = Freezer::new() else {
        eprintln!("no group of processes can be made here: nothing is tested");
        return;
    };
    let hello = prebuilt("hello");
    let script = format!("echo $$ >{}/cgroup.procs && exec \"$0\" \"$@\"", path_text(&group.0));
    let calls = [
        vec!["map", &hello, "-j", "1", "--timeout", "2s", "--items", "first:0", "second:1000"],
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
