//! Resolves a policy for a module: a guest may not write where wpool keeps its own files.

use std::path::PathBuf;

use super::{CacheChoice, Module, cache};
use crate::context::StartMethod;
use crate::policy::{Granted, OwnPlaces, Policy, PolicyError};
use crate::spec::Sandbox;
use crate::sys;

impl Policy {
    /// Warnings about this policy if it is used for this module: a directory that guests may read contains
    /// wpool's cache.
    pub fn warnings(&self, module: &Module) -> Vec<String> {
        self.resolve().map(|granted| granted.warnings(&own_places(module))).unwrap_or_default()
    }

    /// Opens and looks up everything that the policy names, for processes of this module. Fails if the
    /// processes could not be confined to it, or if guests could use it against wpool itself.
    pub(crate) fn resolve_for(&self, module: &Module, method: StartMethod) -> Result<Granted, PolicyError> {
        let granted = self.resolve()?.with_functions(self, module.info());
        // A thread is not confined at all, so that a kernel which cannot confine it changes nothing.
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

/// Where wpool keeps its own files, as far as this module uses them. No guest may write there.
fn own_places(module: &Module) -> OwnPlaces {
    // Also the default caches: other runs of this user use them, even if this module does not.
    let chosen = match &module.inner.loader.cache {
        CacheChoice::Dir(dir) => Some(dir.clone()),
        CacheChoice::Default | CacheChoice::Off => None,
    };
    OwnPlaces {
        caches: [cache::default_dir(), cache::users_dir(), chosen].into_iter().flatten().collect(),
        programs: [std::env::current_exe().ok(), name_at_start(), module.inner.loader.program.clone()]
            .into_iter()
            .flatten()
            .collect(),
    }
}

/// The name by which this program was started, as a shell finds it. It may be a link, which the kernel's name
/// of the running program does not show, and the next run would start what is there by then.
fn name_at_start() -> Option<PathBuf> {
    let name = PathBuf::from(std::env::args_os().next()?);
    if name.components().count() > 1 {
        return Some(name);
    }
    let found = |dir: PathBuf| Some(dir.join(&name)).filter(|path| path.is_file());
    std::env::split_paths(&std::env::var_os("PATH")?).find_map(found)
}
