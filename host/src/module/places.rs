//! A policy is resolved for a module: a guest may not write where wpool keeps what is its own.

use super::{CacheChoice, Module, cache};
use crate::context::StartMethod;
use crate::policy::{Granted, OwnPlaces, Policy, PolicyError};
use crate::spec::Sandbox;
use crate::sys;

impl Policy {
    /// What of it deserves a word, if it is for this module: a directory that guests may only read, and that has wpool's cache below it.
    pub fn warnings(&self, module: &Module) -> Vec<String> {
        self.resolve().map(|granted| granted.warnings(&own_places(module))).unwrap_or_default()
    }

    /// Finds all that it names, for processes of this module: an error if they could not be held to it, or could use it against wpool itself.
    pub(crate) fn resolve_for(&self, module: &Module, method: StartMethod) -> Result<Granted, PolicyError> {
        let granted = self.resolve()?;
        if method != StartMethod::Thread && module.launch().program.sandbox != Sandbox::Off {
            granted.check_kernel(sys::landlock_version())?;
        }
        let places = own_places(module);
        granted.check_places(&places)?;
        for warning in granted.warnings(&places) {
            tracing::warn!(target: "wpool::policy", "{warning}");
        }
        Ok(granted)
    }
}

/// What is wpool's own on this machine, as far as this module uses it: no guest may write there.
fn own_places(module: &Module) -> OwnPlaces {
    // Those that the user's other runs use too, even if this module is in neither.
    let chosen = match &module.inner.loader.cache {
        CacheChoice::Dir(dir) => Some(dir.clone()),
        CacheChoice::Default | CacheChoice::Off => None,
    };
    OwnPlaces {
        caches: [cache::default_dir(), cache::users_dir(), chosen].into_iter().flatten().collect(),
        programs: std::env::current_exe().into_iter().chain(module.inner.loader.program.clone()).collect(),
    }
}
