//! What guests are given by a policy, tried from inside by guests that want more; and what they have without
//! one.

#[path = "../support/mod.rs"]
mod support;

mod clocks;
mod commands;
mod directories;
mod network;
mod policies;

#[path = "../support/methods.rs"]
mod methods;

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::num::NonZeroU64;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use support::{assert_no_workers, loader, proc_state, program, repo, temp_dir, time_bound, wat};
use wpool::policy::{Clock, DirAccess, Random};
use wpool::{BuildError, Limit, Limits, Module, Policy, Pool, Process, StartMethod, Target, TaskError};

const REACH: &str = include_str!("../support/guests/reach.wat");
const OPEN: &str = include_str!("../support/guests/open.wat");
const RANDOM: &str = include_str!("../support/guests/random.wat");
const SOCKETS: &str = include_str!("../support/guests/sockets.wat");
const NETWORK: &str = include_str!("../support/guests/network.wat");

/// "Not permitted", as preview 1 numbers it.
const PERM: &str = "errno 63";

fn pool(module: &Module, method: StartMethod, policy: Policy) -> Pool {
    Pool::builder(module).processes(1).start_method(method).policy(policy).build().unwrap()
}

/// What becomes of one record.
fn try_ask(pool: &Pool, record: &str) -> Result<Vec<u8>, TaskError> {
    let (mut inputs, mut outcomes) = pool.stream(&Target::default(), true).unwrap();
    inputs.push(record.as_bytes()).unwrap();
    drop(inputs);
    outcomes.take_one(None, |outcome| outcome.result().map(<[u8]>::to_vec)).unwrap().unwrap()
}

#[track_caller]
fn ask(pool: &Pool, record: &str) -> String {
    String::from_utf8(try_ask(pool, record).unwrap()).unwrap()
}

/// What `open.wat` says of a path.
#[track_caller]
fn open(pool: &Pool, path: &str) -> u32 {
    u32::from_le_bytes(try_ask(pool, path).unwrap().try_into().unwrap())
}

/// A tree with a file in it, a directory beside it that is not granted, and links of every kind that lead
/// there.
fn tree() -> tempfile::TempDir {
    let dir = temp_dir();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir_all(path("granted/sub")).unwrap();
    fs::create_dir_all(path("outside")).unwrap();
    fs::write(path("granted/file"), "inside").unwrap();
    fs::write(path("granted/sub/file"), "below").unwrap();
    fs::write(path("outside/secret"), "secret").unwrap();
    symlink("/etc/passwd", path("granted/absolute")).unwrap();
    symlink("../outside/secret", path("granted/relative")).unwrap();
    symlink("../outside", path("granted/directory")).unwrap();
    symlink(path("outside"), path("granted/absolute-directory")).unwrap();
    symlink("loop", path("granted/loop")).unwrap();
    symlink("sub/file", path("granted/good")).unwrap();
    dir
}

const ESCAPES: [&str; 9] = [
    "../outside/secret",
    "/etc/passwd",
    "absolute",
    "relative",
    "directory/secret",
    "absolute-directory/secret",
    "sub/../../outside/secret",
    "sub/../relative",
    "..",
];

fn granted(dir: &tempfile::TempDir, access: DirAccess) -> Policy {
    Policy::sealed().dir(dir.path().join("granted"), "/", access)
}
