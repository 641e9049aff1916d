//! Workers that break the protocol.

use super::*;

/// Runs a hundred tasks with one worker in an attacker's hands; gives what was said of its death, if a task
/// was lost by it.
fn with_hostile_worker(deed: &str) -> Option<String> {
    let dir = temp_dir();
    let program = dir.path().join(deed);
    support::renamed(&example("hostile_worker"), &program);
    std::fs::write(dir.path().join("real"), support::program().to_str().unwrap()).unwrap();
    let mut limits = Limits::default();
    limits.time = Some(Duration::from_secs(2));
    limits.output = 1 << 20;
    let builder =
        Pool::builder(&load("upper", &program)).processes(2).start_method(StartMethod::Spawn).limits(limits);
    let pool = builder.build().unwrap();
    let upper = pool.func::<String, String>("run").unwrap();
    let outcomes = pool.try_map(&upper, (0..100).map(|n| format!("n{n}")));
    let (mut lost, mut forged) = (None, 0);
    for (n, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            // What it says for a task that it holds is as good as what any guest says.
            Ok(value) if value == "FIRST" || (value == "forged" && deed == "result-of-nothing") => {
                forged += 1
            }
            Ok(value) => assert_eq!(value, format!("N{n}"), "{deed}"),
            Err(error) => assert_eq!(lost.replace(error.to_string()), None, "{deed}: one task at most"),
        }
    }
    assert!(forged < 50, "{deed}: results for what it did not hold");
    // Some deeds are done when nothing is left to do; the pool ends all the same.
    pool.close();
    assert_eq!(pool.join_timeout(Duration::from_secs(20)), Ok(true), "{deed}");
    assert_eq!(running(&program), [] as [u32; 0], "{deed}");
    lost
}

#[test]
fn f104_a_worker_that_breaks_the_protocol_is_ended_and_the_others_go_on() {
    let _bound = time_bound();
    for deed in [
        "garbage-before-hello",
        "ready-before-hello",
        "other-version",
        "result-before-ready",
        "too-long",
        "longer-than-the-limit",
        "unknown-kind",
        "a-batch",
        "fixed-arguments",
        "profile-unasked",
        "too-many-results",
        "result-of-nothing",
        "failure-of-garbage",
        "control-of-garbage",
        "placed-nowhere",
        "placed-outside",
        "placed-too-long",
        "placed-oddly",
        "control-of-nothing",
        "short-time",
        "odd-usage",
        "short-batch-done",
        "init-failed-late",
        "forked",
        "cancels-unasked",
        "speaks-for-the-coordinator",
        "answers-for-ever",
        "one-byte-a-time",
    ] {
        // It never says that it began a task, so that none is charged: another worker does it.
        assert_eq!(with_hostile_worker(deed), None, "{deed}");
    }
}

#[test]
fn f104_a_process_in_an_attackers_hands_ends_within_its_time() {
    let _bound = time_bound();
    for deed in [
        "answers-for-ever",
        "result-before-ready",
        "too-many-results",
        "speaks-for-the-coordinator",
        "never-reads",
    ] {
        let dir = temp_dir();
        let program = dir.path().join(deed);
        support::renamed(&example("hostile_worker"), &program);
        std::fs::write(dir.path().join("real"), support::program().to_str().unwrap()).unwrap();
        let mut limits = Limits::default();
        limits.time = Some(Duration::from_millis(300));
        let process = Process::builder(&load("upper", &program)).target("run").input("x").limits(limits);
        let mut process = process.start_method(StartMethod::Spawn).build().unwrap();
        process.start().unwrap();
        let status = process.join_timeout(Duration::from_secs(20)).unwrap();
        let status = status.unwrap_or_else(|| panic!("{deed}: it has no end"));
        assert_eq!(status.exitcode, -9, "{deed}: {status:?}");
        let said = format!("{:?}", status.reason);
        assert!(said.contains("protocol error") || said.contains("timeout after 300ms"), "{deed}: {said}");
        assert_eq!(running(&program), [] as [u32; 0], "{deed}");
    }
}

#[test]
fn f104_a_worker_that_says_nothing_is_ended_at_the_time_limit() {
    let _bound = time_bound();
    // Unless all that it held was taken back from it before.
    let lost = with_hostile_worker("never-reads");
    assert!(lost.as_ref().is_none_or(|lost| lost.starts_with("timeout after 2s")), "{lost:?}");
    assert_eq!(with_hostile_worker("closes"), None);
}

#[test]
fn f104_a_worker_cannot_fill_the_coordinators_memory() {
    let _bound = time_bound();
    let before = peak_mib();
    assert_eq!(with_hostile_worker("endless-output"), None);
    assert_eq!(with_hostile_worker("endless-frame"), None);
    // Other tests of this program have large records of their own.
    assert!(peak_mib() < before.max(400) + 64, "{before} MiB before, {} after", peak_mib());
}

/// The most memory that this program has ever had.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}
