//! Telling how a compilation goes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A compilation that is under way: [`ModuleLoader::on_compile`] has an example.
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
    /// The name of the module's file, if it is one.
    pub name: Option<String>,
    /// Bytes of the module.
    pub size: u64,
    /// How long it has taken so far.
    pub elapsed: Duration,
    /// It is over, by a success or a failure.
    pub is_done: bool,
}

type Call = dyn Fn(&Compiling) + Send + Sync;

/// Who is told, if anybody.
#[derive(Clone, Default)]
pub(super) struct Told(Option<Arc<Call>>);

impl Told {
    pub(super) fn new(call: impl Fn(&Compiling) + Send + Sync + 'static) -> Told {
        Told(Some(Arc::new(call)))
    }

    pub(super) fn tell(&self, compiling: &Compiling) {
        if let Some(call) = &self.0 {
            call(compiling);
        }
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Told").field(&self.0.is_some()).finish()
    }
}
