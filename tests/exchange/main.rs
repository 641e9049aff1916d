//! Queues, pipes, locks and the rest: items Q1 to Q14, C1 to C14 and L1 to L15 of Python's contract, and X1
//! to X19, which are ours.

#[path = "../support/mod.rs"]
mod support;

mod guests;
mod leases;
mod pipes;
mod queues;
mod shared;
mod sync;

use std::time::Duration;

/// Longer than any test may take.
const FOR_EVER: Duration = Duration::from_secs(600);
/// Short enough to be waited for.
const A_MOMENT: Duration = Duration::from_millis(30);

/// Runs `f` in a thread, as another user of what it captures.
fn elsewhere<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
    std::thread::spawn(f)
}

/// Runs `f` in a thread to its end.
fn by_another<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(f).join().unwrap())
}

/// Runs `f`, which must give up after [`A_MOMENT`] and not before.
#[track_caller]
fn takes_a_moment<T>(f: impl FnOnce() -> T) -> T {
    let begun = std::time::Instant::now();
    let value = f();
    assert!(begun.elapsed() >= A_MOMENT, "{:?}", begun.elapsed());
    value
}
