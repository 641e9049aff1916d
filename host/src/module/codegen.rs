//! What machine code depends on beside the module itself.

use serde::{Deserialize, Serialize};

/// How a module is compiled. Each way has its own artefact, and its own entry in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub(crate) struct Codegen {
    /// The code counts its instructions: [`Limits::fuel`](crate::Limits::fuel) needs that, and it costs time.
    pub(crate) fuel: bool,
    /// The code gives the same bits on every machine: canonical NaNs, relaxed SIMD without liberties.
    pub(crate) deterministic: bool,
}

impl Codegen {
    /// Part of the name of an entry in the cache; nothing for the ordinary way.
    pub(super) fn suffix(self) -> String {
        let fuel = if self.fuel { "-fuel" } else { "" };
        let deterministic = if self.deterministic { "-deterministic" } else { "" };
        format!("{fuel}{deterministic}")
    }
}
