//! Odd machines: limits of the system, missing directories, one busy processor, a kernel with less than it
//! should have. Rows F84 to F93 of the list of faults, through the command line.

#[path = "../support/mod.rs"]
mod support;

mod kernels;
mod limits;
mod places;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use support::command::*;
use support::{cpu_ticks, repo, wait_until};

/// The program under what a shell says before.
fn under(before: &str, args: &[&str]) -> Command {
    by_shell(&format!("{before} exec \"$0\" \"$@\""), args)
}
