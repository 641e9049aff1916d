//! Kernels that enforce less, and processors that are busy.

use super::*;

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

/// Without grants, the gaps of an old kernel do no harm: the list of system calls has none of these calls.
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

/// A pool that breaks before there is a task ends the run as any other does: whatever the input is waiting
/// for.
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

/// With grants it depends on the grant: one that no layer enforces gives a warning, and is refused by a
/// strict sandbox.
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
fn f130_a_worker_of_another_program_does_not_disturb_these_tests() {
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
