//! Pools with real workers, over every start method: items O1 to O53 of Python's contract, as far as they
//! make sense here.

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rustix::process::Signal;
use support::{assert_gone, guest, time_bound, wait_until, wat};
use wpool::events::{PoolEvent, WorkerState};
use wpool::value::Value;
use wpool::{
    BuildError, Closed, Isolation, Limit, Limits, Module, Pool, PoolBuilder, StartMethod, StillRunning,
    Target, TaskError, TimedOut,
};

/// Makes a test of each function, once for each start method: worker processes of both kinds, and threads
/// (`multiprocessing.dummy`).
///
/// What only processes have is tested with those alone, further down and in the suites `faults` and
/// `sandbox`: a name, descriptors and an environment of their own, and a death from outside.
macro_rules! over_all_start_methods {
    ($($name:ident)*) => {
        mod forkserver {
            $(#[test]
            fn $name() {
                let _bound = super::time_bound();
                super::$name(wpool::StartMethod::Forkserver)
            })*
        }
        mod spawn {
            $(#[test]
            fn $name() {
                let _bound = super::time_bound();
                super::$name(wpool::StartMethod::Spawn)
            })*
        }
        mod thread {
            $(#[test]
            fn $name() {
                let _bound = super::time_bound();
                super::$name(wpool::StartMethod::Thread)
            })*
        }
    };
}

mod batches;
mod calls;
mod driving;
mod end;
mod laziness;
mod limits;
mod types;
mod workers;

fn builder(module: &Module, method: StartMethod) -> PoolBuilder {
    Pool::builder(module).start_method(method).processes(2)
}

fn pool(module: &str, method: StartMethod) -> Pool {
    builder(&guest(module), method).build().unwrap()
}

/// Names for the guest `hello`, which sleeps for so long at each.
fn sleepers(count: usize, millis: u64) -> impl Iterator<Item = String> + Send {
    (0..count).map(move |n| format!("{n}:{millis}"))
}

fn pids(pool: &Pool) -> Vec<u32> {
    pool.workers().iter().map(|w| w.pid).collect()
}

/// The numbers of the workers. Unlike a process id, a number is not used again; threads share a process id.
fn indices(pool: &Pool) -> Vec<u32> {
    pool.workers().iter().map(|w| w.index).collect()
}

/// Processes are gone, zombies too. (What becomes of a thread that was ended: tests/dummy.rs.)
#[track_caller]
fn assert_ended(method: StartMethod, pids: &[u32]) {
    if method != StartMethod::Thread {
        assert_gone(pids);
    }
}

/// Numbers, lists, options, tuples and strings, and a counter.
const TYPES: &str = r#"
(component
  (core module $m
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 1024))
    (global $count (mut i32) (i32.const 0))
    (func (export "realloc") (param i32 i32) (param $align i32) (param $len i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
                              (i32.sub (i32.const 0) (local.get $align))))
      (global.set $free (i32.add (local.get $at) (local.get $len)))
      (local.get $at))
    (func (export "count") (result i32)
      (global.set $count (i32.add (global.get $count) (i32.const 1)))
      (global.get $count))
    (func (export "scale") (param $n i64) (param $factor f64) (result f64)
      (f64.mul (f64.convert_i64_s (local.get $n)) (local.get $factor)))
    (func (export "sum") (param $at i32) (param $len i32) (result i64)
      (local $sum i64)
      (block $done
        (loop $next
          (br_if $done (i32.eqz (local.get $len)))
          (local.set $sum (i64.add (local.get $sum) (i64.load32_u (local.get $at))))
          (local.set $at (i32.add (local.get $at) (i32.const 4)))
          (local.set $len (i32.sub (local.get $len) (i32.const 1)))
          (br $next)))
      (local.get $sum))
    (func (export "half") (param $n i32) (result i32)
      (i32.store8 (i32.const 16) (i32.eqz (i32.and (local.get $n) (i32.const 1))))
      (i32.store (i32.const 20) (i32.shr_u (local.get $n) (i32.const 1)))
      (i32.const 16))
    (func (export "swap") (param $n i32) (param $at i32) (param $len i32) (result i32)
      (i32.store (i32.const 32) (local.get $at))
      (i32.store (i32.const 36) (local.get $len))
      (i32.store8 (i32.const 40) (local.get $n))
      (i32.const 32))
    (func (export "or-else") (param $some i32) (param $n i32) (param $other i32) (result i32)
      (select (local.get $n) (local.get $other) (local.get $some)))
    (func (export "grow") (param $pages i32) (result i32)
      (memory.grow (local.get $pages)))
    (func (export "nothing")))
  (core instance $i (instantiate $m))
  (alias core export $i "memory" (core memory $memory))
  (alias core export $i "realloc" (core func $realloc))
  (func (export "count") (result u32) (canon lift (core func $i "count")))
  (func (export "scale") (param "n" s64) (param "factor" f64) (result f64) (canon lift (core func $i "scale")))
  (func (export "sum") (param "numbers" (list u32)) (result u64)
    (canon lift (core func $i "sum") (memory $memory) (realloc $realloc)))
  (func (export "half") (param "n" u32) (result (option u32)) (canon lift (core func $i "half") (memory $memory)))
  (func (export "swap") (param "pair" (tuple u8 string)) (result (tuple string u8))
    (canon lift (core func $i "swap") (memory $memory) (realloc $realloc)))
  (func (export "or-else") (param "n" (option u32)) (param "other" u32) (result u32)
    (canon lift (core func $i "or-else")))
  (func (export "grow") (param "pages" u32) (result s32) (canon lift (core func $i "grow")))
  (func (export "nothing") (canon lift (core func $i "nothing"))))
"#;

fn failed(message: &str) -> TaskError {
    TaskError::Failed { message: message.to_owned() }
}

fn hello_of(pool: &Pool) -> wpool::Func<&'static str, String> {
    pool.func("run").unwrap()
}
