//! Odd places for an application with a pool, and what it may do to its own process: rows F120 to F128 of the
//! list of faults.

mod support;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

use support::command::*;
use support::{assert_no_workers, example as helper, time_bound};

/// The test program in one of its deeds.
fn place(deed: &str) -> Command {
    let mut command = Command::new(helper("places"));
    command.arg(deed).args([prebuilt("failing"), prebuilt("hello")]);
    in_place(command)
}

fn in_place(mut command: Command) -> Command {
    command.env("WPOOL_CACHE_DIR", support::cache_dir()).env_remove("LD_LIBRARY_PATH");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end, after which nothing may be left.
#[track_caller]
fn done(mut command: Command) -> Output {
    let child = command.spawn().unwrap();
    let pid = child.id();
    let _watchdog = Watchdog::over(&child);
    let output = child.wait_with_output().unwrap();
    assert_no_workers(pid);
    output
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{:?} {}\n{}", output.status.signal(), out(output), err(output));
    out(output)
}

#[test]
fn f120_a_program_that_has_changed_its_user_still_ends_what_it_started() {
    let _bound = time_bound();
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can become another user: nothing is tested");
        return;
    }
    let said = succeeds(&done(place("changes-user")));
    let each = "killed: true\nkilled: true\nterminated: true\ndropped\n";
    assert_eq!(said, each.repeat(2));
}

#[test]
fn f121_a_forked_child_is_told_that_it_has_only_copies() {
    let _bound = time_bound();
    let said = succeeds(&done(place("forks")));
    let of_child = |line: &&str| !line.starts_with("parent") && !line.starts_with("own");
    for line in said.lines().filter(of_child) {
        let is_told = line.contains("forked child")
            || ["push: Err(Closed)", "take: false", "alive: false", "join pool: Err(StillRunning)"]
                .contains(&line)
            || ["kill: Err(NotStarted)", "join: Err(NotStarted)", "workers: [], children: []"]
                .contains(&line);
        assert!(is_told, "{line}");
    }
    assert_eq!(said.lines().filter(|line| line.contains("forked child")).count(), 10, "{said}");
    assert!(said.contains("own: Ok(\"good\")\nown: 0\n"), "{said}");
    // The parent has no zombie of it.
    assert!(said.ends_with("parent: \"\"\n"), "{said}");
}

#[test]
fn f122_an_exit_code_that_others_have_taken_is_unknown() {
    let _bound = time_bound();
    let said = succeeds(&done(place("ignores-children")));
    let each = "bob:0: Some(0) Returned\nbob:600000: None Unknown\npool: Ok(\"good\")\n";
    assert_eq!(said, each.repeat(2));
    // Either side may be faster here.
    let said = succeeds(&done(place("reaps-all")));
    for line in said.lines() {
        let known = [
            "bob:0: Some(0) Returned",
            "bob:600000: None Unknown",
            "bob:600000: Some(-9) Signaled(9)",
            "pool: Ok(\"good\")",
        ];
        assert!(known.contains(&line), "{said}");
    }
}

#[test]
fn f123_no_descriptor_of_ours_lands_where_the_standard_streams_were() {
    let _bound = time_bound();
    let said = succeeds(&done(place("closes-stdio")));
    assert_eq!(said.lines().count(), 6, "{said}");
    for line in said.lines() {
        let is_well = ["Ok(\"good\")", ": 0,", "true"].iter().any(|well| line.contains(well));
        assert!(is_well && line.ends_with(", 0 of ours"), "{said}");
    }
}

#[test]
fn f123_a_pool_whose_descriptors_are_all_closed_is_broken_and_says_so() {
    let _bound = time_bound();
    let said = succeeds(&done(place("closes-all")));
    let reason = "its descriptors were closed by this program, which it cannot go on without";
    let is_told = |line: &str| line.contains("Err(") && line.contains(reason);
    let told = |what: &str| said.lines().any(|line| line.starts_with(what) && is_told(line));
    assert!(told("endless: ") && told("next: "), "{said}");
    assert!(said.ends_with("joined: true\n"), "{said}");
}

#[test]
fn f125_a_program_that_the_loader_was_told_to_start_is_its_own_worker() {
    let _bound = time_bound();
    let loaders = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    let Some(loader) = loaders.into_iter().find(|loader| std::path::Path::new(loader).exists()) else {
        eprintln!("no loader is known here: nothing is tested");
        return;
    };
    for options in [&[][..], &["--library-path", "/nowhere"]] {
        let mut command = Command::new(loader);
        command
            .args(options)
            .arg(helper("places"))
            .arg("works")
            .args([prebuilt("failing"), prebuilt("hello")]);
        assert_eq!(succeeds(&done(in_place(command))), "good\ngood\n");
    }
    let mut command = Command::new(loader);
    command.arg(support::program()).args(["map", &prebuilt("upper"), "--items", "a", "--no-cache"]);
    assert_eq!(succeeds(&done(in_place(command))), "A\n");
}

#[test]
fn f125_libraries_that_a_variable_has_found_are_found_by_workers_too() {
    let _bound = time_bound();
    // A copy of the test program that needs its library under a name of the same length, which is nowhere but
    // where the variable leads to.
    const NAMES: [&[u8]; 2] = [b"libgcc_s.so.1\0", b"libwpool.so.1\0"];
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut files = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..]));
    let library = files.find(|path| path.ends_with("/libgcc_s.so.1"));
    let mut program = std::fs::read(helper("places")).unwrap();
    let at = program.windows(NAMES[0].len()).position(|bytes| bytes == NAMES[0]);
    let (Some(library), Some(at)) = (library, at) else {
        eprintln!("the test program needs no library that could be elsewhere: nothing is tested");
        return;
    };
    program[at..at + NAMES[1].len()].copy_from_slice(NAMES[1]);
    let dir = scratch();
    std::fs::copy(library, dir.path().join("libwpool.so.1")).unwrap();
    let copy = dir.path().join("places");
    let patched = file(&dir, "patched", program);
    // By another process: a file that is open for writing here, or in a fork of this process, is not
    // executed.
    assert!(Command::new("install").args(["-m", "755"]).args([&patched, &copy]).status().unwrap().success());
    let place = || {
        let mut command = Command::new(&copy);
        command.arg("works").args([prebuilt("failing"), prebuilt("hello")]);
        in_place(command)
    };
    assert!(!done(place()).status.success(), "it does not even start without the variable");
    let mut command = place();
    command.env("LD_LIBRARY_PATH", dir.path());
    assert_eq!(succeeds(&done(command)), "good\ngood\n");
}

#[test]
fn f128_init_behind_the_first_thread_is_told_of_before_any_process() {
    let _bound = time_bound();
    let mut command = Command::new(helper("late_init"));
    command.arg(prebuilt("failing"));
    let said = succeeds(&done(in_place(command)));
    assert!(
        said.starts_with(
            "error: call wpool::init() before any thread is started: first thing in a plain `fn main`"
        ),
        "{said}"
    );
    // By one that has it as its worker, too.
    let loader = support::loader().no_cache().program(helper("late_init"));
    let error = loader.load(prebuilt("failing")).unwrap_err().to_string();
    assert!(
        error.contains("workers cannot run here: call wpool::init() before any thread is started"),
        "{error}"
    );
}
