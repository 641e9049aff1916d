//! The error of loading a module.

use std::io;
use std::path::Path;

use crate::context::StartError;
use crate::escape::{OneLine, list, shortened};
use crate::spec::WasmFeature;

/// A module could not be loaded.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use wpool::ModuleError;
///
/// let refused = loader().from_bytes(b"no module");
/// assert!(matches!(refused, Err(ModuleError::NotWasm(_))));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// The file cannot be read.
    #[error("cannot read the module: {0}")]
    Io(#[source] io::Error),
    /// The bytes are not WebAssembly.
    #[error("not a WebAssembly module: {}", shortened(.0))]
    NotWasm(String),
    /// The bytes are WebAssembly, but not valid, or they use a feature that is not supported.
    #[error("the module is refused: {}", shortened(.0))]
    Invalid(String),
    /// The module uses parts of WebAssembly that are off by default;
    /// [`ModuleLoader::wasm_features`](crate::module::ModuleLoader::wasm_features) turns them on.
    #[error(
        "the module is refused: it needs {} (--wasm {}, ModuleLoader::wasm_features): {}",
        features(.needs, " and "), features(.needs, ","), shortened(.reason)
    )]
    NeedsFeatures {
        /// The parts that the module needs.
        needs: Vec<WasmFeature>,
        /// What the module uses of these parts.
        reason: String,
    },
    /// The policy of the loader does not grant imports that the module needs: see
    /// [`ModuleLoader::policy`](crate::module::ModuleLoader::policy).
    #[error("the module needs what is not granted: {}", list(.missing, "; "))]
    MissingImports {
        /// Name and reason of each missing import.
        missing: Vec<String>,
    },
    /// The compilation needed more time, memory or nesting than is allowed.
    #[error("compile limit exceeded: {}", shortened(.0))]
    CompileLimit(String),
    /// The compiler process could not be started.
    #[error(transparent)]
    Start(StartError),
    /// The compiler process failed. The fault lies with wpool, not with the module.
    #[error("the compiler process failed: {}", shortened(.0))]
    Compiler(String),
    /// The compiler process cannot be confined as [`Sandbox::Strict`](crate::sandbox::Sandbox::Strict)
    /// requires.
    #[error("{}", shortened(.0))]
    Sandbox(String),
    /// Any of the other errors, for the file at this path.
    #[error("{}: {source}", OneLine(.path))]
    At {
        /// The file.
        path: String,
        /// What is wrong with the file.
        source: Box<ModuleError>,
    },
}

impl ModuleError {
    pub(crate) fn at(self, path: &Path) -> ModuleError {
        match self {
            // These are about the machine. A path in front of them would blame the file.
            ModuleError::Start(_) | ModuleError::Sandbox(_) | ModuleError::At { .. } => self,
            other => ModuleError::At { path: path.display().to_string(), source: Box::new(other) },
        }
    }
}

fn features(features: &[WasmFeature], between: &str) -> String {
    features.iter().map(WasmFeature::to_string).collect::<Vec<_>>().join(between)
}

impl From<StartError> for ModuleError {
    fn from(error: StartError) -> Self {
        ModuleError::Start(error)
    }
}
