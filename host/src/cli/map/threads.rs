//! Starts the threads of a run.

use std::io;

use crate::cli::exit::{CliError, OrExit, WpoolExit};

/// Starts a thread and detaches it: a run that ends does not wait for it.
pub(super) fn start_detached(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), CliError> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    or_broken(started.map(|_detached| ()))
}

/// A thread that cannot be started breaks the run.
pub(super) fn or_broken<T>(started: io::Result<T>) -> Result<T, CliError> {
    started.or_exit(WpoolExit::Broken, || "cannot start a thread".to_owned())
}
