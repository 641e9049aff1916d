//! What a process of wpool is started from.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Program;

/// The program to execute, and the machine code that its process loads. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) program: Program,
    /// An open file.
    pub(crate) artefact: Arc<OwnedFd>,
}
