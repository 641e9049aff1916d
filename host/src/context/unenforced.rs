//! The coordinator judges what its processes report as not enforced.

use std::sync::{Mutex, PoisonError};

use crate::spec::{Property, REPORTED_MAX, Sandbox};

/// The properties that processes have reported as not enforced.
static UNENFORCED: Mutex<Vec<Property>> = Mutex::new(Vec::new());

/// What this program's worker and compiler processes have reported as not enforced with [`Sandbox::Default`],
/// each property once. Empty if every property holds, or if no process has been started.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let _pool = pool("upper")?;
/// for property in wpool::sandbox::unenforced() {
///     eprintln!("not enforced: {} ({:?})", property.name, property.missing);
/// }
/// # Ok(())
/// # }
/// ```
pub fn unenforced() -> Vec<Property> {
    UNENFORCED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Sandbox {
    /// Judges the properties that a process reports as not enforced. The strict sandbox returns an error; the
    /// default one warns of each property once.
    pub(crate) fn judge(self, missing: Vec<Property>) -> Result<(), String> {
        let missing = missing.into_iter().take(REPORTED_MAX).map(Property::made_safe);
        match self {
            Sandbox::Strict => {
                let missing: Vec<String> = missing.map(|property| property.to_string()).collect();
                let missing = missing.join("; ");
                Err(format!("the sandbox is strict, and not all that must hold can be enforced: {missing}"))
            }
            Sandbox::Default => {
                missing.for_each(warn_once);
                Ok(())
            }
            Sandbox::Off => Ok(()),
        }
    }
}

fn warn_once(property: Property) {
    let mut known = UNENFORCED.lock().unwrap_or_else(PoisonError::into_inner);
    let is_known = known.iter().any(|known| known.name == property.name);
    // The cap is needed because a compromised process can invent new names.
    if !is_known && known.len() < REPORTED_MAX {
        let Property { name, missing, .. } = &property;
        let why = missing.as_deref().unwrap_or_default();
        tracing::warn!(target: "wpool::sandbox", property = name, why, "not enforced in worker processes");
        known.push(property);
    }
}
