//! The command line, through the real binary with real processes.

#[path = "../support/mod.rs"]
mod support;

mod cache;
mod endings;
mod failures;
mod halting;
mod output;
mod records;
mod sharing;
mod subcommands;
mod usage;
mod workers;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use sha2::{Digest, Sha256};
use support::command::*;
use support::{assert_no_workers, wait_until, workers_of};

/// Workers that have given the results, by their names.
fn workers_named(stdout: &str) -> BTreeSet<String> {
    stdout.lines().map(|line| line.split(' ').nth(3).unwrap().to_owned()).collect()
}

/// The name of the one worker of `parent`, once it has one.
fn process_name(parent: u32) -> Option<String> {
    let [worker] = workers_of(parent)[..] else { return None };
    Some(std::fs::read_to_string(format!("/proc/{worker}/comm")).ok()?.trim_end().to_owned())
}
