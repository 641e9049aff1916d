//! Reports the progress of a compilation.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A compilation in progress: [`ModuleLoader::on_compile`] has an example.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// fn told(compiling: &wpool::module::Compiling) -> String {
///     format!("{} bytes, {:?}", compiling.size, compiling.elapsed)
/// }
/// # let _ = told;
/// # Ok(())
/// # }
/// ```
///
/// [`ModuleLoader::on_compile`]: crate::module::ModuleLoader::on_compile
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compiling {
    /// The name of the module's file; `None` if the module was loaded from bytes.
    pub name: Option<String>,
    /// Bytes of the module.
    pub size: u64,
    /// The time since the compilation began.
    pub elapsed: Duration,
    /// The compilation has ended, with success or failure.
    pub is_done: bool,
}

type CompileCallback = dyn Fn(&Compiling) + Send + Sync;

/// The caller's function that is told about the progress, if one is set.
#[derive(Clone, Default)]
pub(super) struct OnCompile(Option<Arc<CompileCallback>>);

impl OnCompile {
    pub(super) fn new(call: impl Fn(&Compiling) + Send + Sync + 'static) -> OnCompile {
        OnCompile(Some(Arc::new(call)))
    }

    pub(super) fn call(&self, compiling: &Compiling) {
        if let Some(call) = &self.0 {
            call(compiling);
        }
    }
}

impl fmt::Debug for OnCompile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnCompile").field(&self.0.is_some()).finish()
    }
}
