//! Limits of the system on a run.

use super::*;

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
    // So few that any of several steps may fail first. Each names the missing descriptors.
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
    ends(&output, 1, "task 3: worker died: SIGKILL (not from wpool; perhaps the machine is out of memory)");
    assert_eq!(out(&output), "1\n2\n3\n4\n", "{}", err(&output));
}

/// Runs as a user without other processes. For root there is no limit.
fn as_nobody(processes: u32, place: &Path, args: &[&str]) -> Command {
    let uid = 20_000 + std::process::id() % 4_000 * 10 + processes % 10;
    let user = format!("setpriv --reuid {uid} --regid {uid} --clear-groups");
    let program = path_text(&place.join("wpool"));
    by_shell(&format!("exec {user} prlimit --nproc={processes} {program} \"$@\""), args)
}

/// Copies the program and two guests to a place where every user may read and execute them. The project may
/// be out of another user's reach.
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
    let named = "no room for the guest's memory: it reserves some GiB of address space, \
                 and the limit on that (ulimit -v) is 1953 MiB";
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
    // Processes are signalled by descriptors, which never name another; and limits are measured by a clock
    // that cannot be set. What the sources do not call cannot happen.
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
                    ["/schedule/", "/dispatcher/", "/context/", "/sys/", "/supervisor/", "/clock.rs"];
                let measures = measures.iter().chain(&["/limits.rs", "/serve/", "/store.rs", "/compile.rs"]);
                let wall: &[&str] = match measures.clone().any(|place| file.contains(place)) {
                    true => &["SystemTime", "ClockId::Realtime", "CLOCK_REALTIME"],
                    false => &[],
                };
                measured += usize::from(!wall.is_empty());
                for word in wall.iter().chain(&["kill_process(", "libc::kill"]) {
                    assert!(!text.contains(word), "{file} has {word}");
                }
                // Until a process is reaped, no other has its number.
                let groups = text.matches("kill_process_group(").count();
                assert_eq!(groups, usize::from(file.ends_with("process/supervisor/mod.rs")), "{file}");
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

/// `wpool map` of one record in a mount namespace of its own, after `mounts`. Wherever this project lies, the
/// program and its guest lie elsewhere.
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
