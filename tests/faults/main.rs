//! Workers, zygotes and whole programs that die, hang or lie at any moment: rows F44 to F70 and F104 of the
//! list of faults.
//!
//! What the peers do is in the comments: measured with CPython's Pool, ProcessPoolExecutor and pebble.

#[path = "../support/mod.rs"]
mod support;

mod deaths;
mod protocol;
mod storms;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::{
    assert_gone, assert_no_workers, cpu_ticks, example, guest, loader, pids, proc_state, repo, running,
    script, signal, temp_dir, time_bound, wait_until,
};
use wpool::events::WorkerState;
use wpool::{Isolation, Limits, Module, Pool, PoolBuilder, Process, StartMethod, Target, TaskError};

const METHODS: [StartMethod; 2] = [StartMethod::Forkserver, StartMethod::Spawn];

fn builder(module: &str, method: StartMethod) -> PoolBuilder {
    Pool::builder(&guest(module)).processes(2).start_method(method)
}

/// Waits until a worker runs a task, and gives its process.
fn busy(pool: &Pool) -> u32 {
    let busy = || pool.workers().iter().find(|w| w.state == WorkerState::Busy).map(|w| w.pid);
    wait_until("a worker is busy", Duration::from_secs(20), || busy().is_some());
    busy().unwrap()
}

/// Waits until a worker computes. One that has just answered its last task may count as busy for a moment.
fn computing(pool: &Pool) -> u32 {
    let mut begun = std::collections::BTreeMap::new();
    let mut found = None;
    wait_until("a worker computes", Duration::from_secs(20), || {
        let busy = pool.workers().into_iter().filter(|w| w.state == WorkerState::Busy).map(|w| w.pid);
        found = busy.into_iter().find(|pid| {
            let ticks = cpu_ticks(*pid);
            ticks >= *begun.entry(*pid).or_insert(ticks) + 5
        });
        found.is_some()
    });
    found.unwrap()
}

fn lost(signal: i32, reason: &str) -> TaskError {
    TaskError::WorkerLost { exitcode: Some(-signal), reason: reason.to_owned() }
}

/// A prebuilt guest with another program as its workers.
fn load(name: &str, program: &Path) -> Module {
    // In the cache before, so that the program need not compile.
    drop(guest(name));
    loader().program(program).load(repo(&format!("guest/prebuilt/{name}.wasm"))).unwrap()
}
