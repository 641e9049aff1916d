//! A test program: an application with a pool, one worker of which is in an endless loop, and a daemon
//! process; does what its first argument says.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wpool::events::WorkerState;
use wpool::{Module, Pool, Process, Target, TaskError};

#[expect(unsafe_code, reason = "there is no safe fork")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    wpool::init();
    let args: Vec<String> = std::env::args().collect();
    let [_, deed, failing, hello] = &args[..] else { return Err("embedder DEED FAILING HELLO".into()) };
    if deed == "forks-in-calls" {
        return fork_in_calls(failing);
    }
    let pool = Pool::builder(&Module::load(failing)?).processes(2).build()?;
    let run = pool.func::<&str, String>("run")?;
    let _endless = pool.apply_async(&run, "loop");
    let mut daemon =
        Process::builder(&Module::load(hello)?).target(Target::func("run").arg("a:60000")).daemon(true);
    daemon = daemon.on_stdout(|_| ());
    let mut daemon = daemon.build()?;
    daemon.start()?;
    while !pool.workers().iter().any(|worker| worker.state == WorkerState::Busy) {
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("ready");
    match deed.as_str() {
        "panics" => panic!("this panic is part of a test"),
        "forgets" => std::mem::forget(pool),
        "exits" => std::process::exit(3),
        fork => {
            // SAFETY: the child uses only what a fork of a program with threads may: it drops values, or
            // exits; this is a test of that.
            match unsafe { libc::fork() } {
                0 => {
                    match fork {
                        "fork-drops" => drop((pool, daemon)),
                        "fork-exits" => {}
                        // SAFETY: _exit is always safe to call.
                        _ => unsafe { libc::_exit(0) },
                    }
                    std::process::exit(0);
                }
                child => {
                    // SAFETY: it is a child of ours, and its status is not needed.
                    let waited = unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
                    assert_eq!(waited, child);
                    println!("child gone");
                    assert_eq!(pool.apply(&run, "still there")?, "still there");
                    assert!(daemon.is_alive(), "the fork has ended it");
                    println!("still there");
                }
            }
        }
    }
    Ok(())
}

/// Forks again and again while another thread loops `apply`, and so may do the dispatcher's work at that
/// moment. The child has a copy of that state, and must neither wait for it nor change it.
#[expect(unsafe_code, reason = "there is no safe fork")]
fn fork_in_calls(failing: &str) -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::builder(&Module::load(failing)?).processes(2).build()?;
    let run = pool.func::<&str, String>("run")?;
    let calling = AtomicBool::new(true);
    println!("ready");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while calling.load(Ordering::Relaxed) {
                assert_eq!(pool.apply(&run, "a").expect("the pool is the parent's"), "a");
            }
        });
        for _ in 0..100 {
            // SAFETY: the child uses only a pool that is not its own, which is what this tests, and exits.
            match unsafe { libc::fork() } {
                0 => {
                    let is_refused = matches!(pool.apply(&run, "b"), Err(TaskError::Broken { .. }));
                    // SAFETY: _exit is always safe to call.
                    unsafe { libc::_exit(i32::from(!is_refused)) }
                }
                child => {
                    let mut status = -1;
                    // SAFETY: it is a child of ours, and the pointer is that of a local variable.
                    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
                    assert_eq!((waited, status), (child, 0));
                }
            }
        }
        calling.store(false, Ordering::Relaxed);
    });
    println!("forked");
    Ok(())
}
