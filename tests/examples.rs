//! The programs in host/examples do what they say.

mod support;

use std::process::Command;

use support::{example, repo, time_bound};

/// Runs an example without arguments, with a cache of its own. Not for `embed`, which is run by embed.rs, and
/// `hello`, by readme.rs.
#[track_caller]
fn check(name: &str, expected: &str) {
    let _bound = time_bound();
    let dir = support::temp_dir();
    let output = Command::new(example(name)).env("WPOOL_CACHE_DIR", dir.path()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert_eq!((stdout.as_str(), stderr.as_str()), (expected, ""));
    assert!(output.status.success());
}

#[test]
fn pool_map() {
    check(
        "pool_map",
        "\
map: 4 25 168 1229
imap: 4 primes below 10
imap: 25 primes below 100
imap: 168 primes below 1000
imap: 1229 primes below 10000
imap_unordered: 4 25 168 1229
try_map: 25
try_map: failed
",
    );
}

#[test]
fn queue_pipe_lock() {
    check(
        "queue_pipe_lock",
        "\
queue: got tea,milk
pipe: pong, then the other end of the pipe is closed, and all its messages are received
lock: TimedOut
rlock: 1
rlock: its owner died: true
",
    );
}

#[test]
fn crawler() {
    check(
        "crawler",
        "\
index: 2 links
about: 1 link
archive: 0 links
news: 3 links
seen: about archive index news
",
    );
}

#[test]
fn async_results() {
    check(
        "async_results",
        "\
ready: false
successful: None
get_timeout: timed out
wait: true
successful: Some(true)
get: hello bob
apply_async: hello ann
apply_async: hello eve
map_async: 3 greetings
",
    );
}

#[test]
fn process_lifecycle() {
    check(
        "process_lifecycle",
        "\
initial: alive false, exitcode None
started: alive true, children [\"Greeter\"]
join_timeout: the process still runs
stopped: alive false, exitcode 0
result: hello bob from Greeter
good: exitcode 0, returned
bad: exitcode 1, bad is bad
panic: exitcode 1, trap
exit: exitcode 1, exit
loop: exitcode 1, time
terminated: exitcode -15
",
    );
}

#[test]
fn initializer_state() {
    check(
        "initializer_state",
        "\
one worker: 101 102 103 104 105 106
three tasks each: 101 102 103 101 102 103
each apart: 101 101 101 101 101 101
broken: task 0: the pool is broken: the initializer failed: expected a number to count from, got \"a hundred\"
",
    );
}

#[test]
fn callbacks_and_cancel() {
    check(
        "callbacks_and_cancel",
        "\
callback: good
error_callback: bad is bad
cancel: true
get: cancelled
the first: again
map_async: a b c
",
    );
}

#[test]
fn embedding_in_a_server() {
    check(
        "embedding_in_a_server",
        "\
good: 200 good
loop: 504 timeout after 1s (--timeout, Limits::time)
bad luck: 400 bad luck is bad
panic: 500 trap: panicked at failing/src/lib.rs:15:48: panic, as told
good again: 200 good again
",
    );
}

#[test]
fn words() {
    check(
        "words",
        "\
reader got Process
reader got Pool
reader got Queue
reader got Pipe
reader got Lock
reader got RLock
writer: exitcode 0
reader: exitcode 0
words put and got: 12
the queue is closed: true
",
    );
}

#[test]
fn two_pools() {
    check("two_pools", "taken: 100, sum: 4950\n");
}

#[test]
fn rate_limiter() {
    check(
        "rate_limiter",
        "\
ann: 3 done, 2 refused
ann is over its rate
bob: 3 done, 2 refused
bob is over its rate
",
    );
}

#[test]
fn no_example_is_forgotten() {
    let tested = [
        "async_results",
        "callbacks_and_cancel",
        "crawler",
        "embed",
        "embedding_in_a_server",
        "hello",
        "initializer_state",
        "pool_map",
        "process_lifecycle",
        "queue_pipe_lock",
        "rate_limiter",
        // By tests/consumer/tests/service.rs, where the web framework is.
        "service",
        "two_pools",
        "words",
    ];
    let files = std::fs::read_dir(repo("host/examples")).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<_> =
        files.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    names.sort();
    assert_eq!(names, tested);
}
