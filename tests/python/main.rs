//! The guest `python`, a whole CPython: as a module of the library, and as `wpool python`.
//!
//! `cargo guests build python` makes it, once for all tests. That needs python3 with venv, and the Python
//! registry.

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod library;
mod page;
mod snippets;

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use support::{loader, repo};
use wpool::{Isolation, Limits, Module, Policy, Pool, PoolBuilder};

/// The guest's file, made if it is not there or not of today's sources.
static GUEST: LazyLock<PathBuf> = LazyLock::new(|| {
    let args = ["run", "--quiet", "--release", "--package", "wpool-guests", "--", "build", "python"];
    let made = Command::new(env!("CARGO")).args(args).current_dir(repo("")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    repo("target/python/python.wasm")
});

fn module() -> Module {
    loader().policy(policy()).load(&*GUEST).unwrap()
}

/// What the guest needs: it imports sockets, also where it may use none.
fn policy() -> Policy {
    Policy::sealed().refuse_net()
}

/// A stack with which Python itself ends a recursion.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.stack = 32 << 20;
    limits
}

fn builder(module: &Module, isolation: Isolation) -> PoolBuilder {
    Pool::builder(module).processes(2).policy(policy()).limits(limits()).isolation(isolation)
}
