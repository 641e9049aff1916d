//! What machine code depends on besides the module itself.

use serde::{Deserialize, Serialize};

/// How a module is compiled. Each combination has its own artefact and its own entry in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub(crate) struct Codegen {
    /// The code counts its instructions, which [`Limits::fuel`](crate::Limits::fuel) needs and which costs
    /// time.
    pub(crate) fuel: bool,
    /// The code computes the same bits on every machine: NaNs are canonical, and relaxed SIMD uses its
    /// deterministic form.
    pub(crate) deterministic: bool,
    /// What the module may use besides the parts of WebAssembly that are always on.
    #[serde(default)]
    pub(crate) wasm: Features,
}

impl Codegen {
    /// A part of the name of a cache entry; empty for the default settings.
    pub(crate) fn suffix(self) -> String {
        // The order is fixed: equal settings must give the same name.
        let fuel = if self.fuel { "-fuel" } else { "" };
        let deterministic = if self.deterministic { "-deterministic" } else { "" };
        let wasm: String = self.wasm.iter().map(|feature| format!("-{feature}")).collect();
        format!("{fuel}{deterministic}{wasm}")
    }
}

/// A part of WebAssembly that is off unless a loader turns it on:
/// [`ModuleLoader::wasm_features`](crate::module::ModuleLoader::wasm_features).
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use wpool::module::WasmFeature;
/// use wpool::ModuleError;
///
/// let text = br#"(module (tag $e) (func (export "f") (throw $e)))"#;
/// let refused = loader().from_bytes(text);
/// let Err(ModuleError::NeedsFeatures { needs, .. }) = refused else { panic!("exceptions are off") };
/// assert_eq!(needs, [WasmFeature::Exceptions]);
/// let module = loader().wasm_features([WasmFeature::Exceptions]).from_bytes(text)?;
/// assert!(module.info().needs().eq([WasmFeature::Exceptions]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WasmFeature {
    /// Exceptions, which compilers of C++, Haskell or Python use.
    Exceptions,
    /// Garbage-collected structures and arrays, which compilers of Java, Kotlin, Dart or Scheme use. Their
    /// heap counts as the guest's memory.
    Gc,
}

impl std::fmt::Display for WasmFeature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            WasmFeature::Exceptions => "exceptions",
            WasmFeature::Gc => "gc",
        })
    }
}

/// A set of [`WasmFeature`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub(crate) struct Features {
    pub(crate) exceptions: bool,
    pub(crate) gc: bool,
}

impl Features {
    /// The set with `feature` added.
    pub(crate) fn with(self, feature: WasmFeature) -> Features {
        match feature {
            WasmFeature::Exceptions => Features { exceptions: true, ..self },
            WasmFeature::Gc => Features { gc: true, ..self },
        }
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = WasmFeature> {
        let exceptions = self.exceptions.then_some(WasmFeature::Exceptions);
        exceptions.into_iter().chain(self.gc.then_some(WasmFeature::Gc))
    }
}
