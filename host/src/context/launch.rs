//! What each process of wpool is started from: a program and an artefact.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Program;

/// The program to execute, and the machine code that its process loads. Cloning is cheap.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) program: Program,
    /// The open file with the machine code.
    pub(crate) artefact: Arc<OwnedFd>,
}
