//! What every store of a worker is made from.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::capture::OutputStreams;
use super::current_process::CurrentProcess;
use super::placement::Placement;
use super::store::Ctx;
use super::wasi::WasiGrants;
use crate::protocol::message::Failure;
use crate::spec::{Isolation, Limit, Limits, ModuleInfo, size};

/// What every store of a worker is made from, and what all of them use.
pub(super) struct StoreTemplate {
    pub(super) limits: Limits,
    /// Bytes of stack that the setup allows. `limits.stack` is less if this process cannot have as much.
    pub(super) stack_wanted: usize,
    pub(super) isolation: Isolation,
    pub(super) info: ModuleInfo,
    pub(super) grants: WasiGrants,
    pub(super) process: Arc<CurrentProcess>,
    /// The socket of a Process: its output is sent through it while the guest writes.
    pub(super) stream: Option<Arc<OwnedFd>>,
    pub(super) placement: Placement,
}

impl StoreTemplate {
    /// The data of a new store.
    pub(super) fn ctx(&self, output: OutputStreams) -> Ctx {
        Ctx::new(&self.limits, self.process.clone(), output)
    }

    /// The output streams of a new store. A module that does not import WASI cannot write, and gets none.
    pub(super) fn output(&self) -> OutputStreams {
        if self.info.imports.iter().any(|import| import.name.starts_with("wasi")) {
            OutputStreams::new(self.limits.stdout, self.stream.clone())
        } else {
            OutputStreams::default()
        }
    }

    /// Adds to a failure by the stack limit what keeps the user from raising it, if anything does.
    pub(super) fn explain_stack(&self, mut failure: Failure) -> Failure {
        if let Failure::Limit { limit: Limit::Stack, message } = &mut failure
            && self.limits.stack < self.stack_wanted
        {
            let wanted = size(self.stack_wanted as u64);
            message.push_str(&format!("; {wanted} are allowed, but the process has no more (ulimit -s)"));
        }
        failure
    }
}
