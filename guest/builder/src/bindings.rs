//! `cargo guests bindings`: writes guest/src/bindings/ from wit/, so that a guest's cold build needs no
//! generator.
//!
//! Each export has a world of its own, so that a guest may export any subset. The section that describes a
//! world is in a component only if the guest uses that world's export macro, and the linker merges these
//! sections.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;
use wit_bindgen_rust::{Opts, WithOption};

/// One file of bindings.
struct Bindings {
    /// The directories of WIT packages: those that are used, then the one of the world.
    packages: &'static [&'static str],
    /// The world, and the name of the file.
    world: &'static str,
    /// The macro that a guest's exports expand to. `None` if the world exports nothing.
    export_macro: Option<&'static str>,
    /// Interfaces whose types are those of another file.
    with: &'static [(&'static str, &'static str)],
}

const TASK: &[&str] = &["wit/task"];

/// The errors of the package `wpool:ipc`, which `wpool:sync` has as well.
const ERRORS: (&str, &str) = ("wpool:ipc/errors@0.1.0", "crate::bindings::communicating::wpool::ipc::errors");

const ALL: [Bindings; 6] = [
    Bindings { packages: TASK, world: "many", export_macro: Some("export_many"), with: &[] },
    Bindings { packages: TASK, world: "init", export_macro: Some("export_init"), with: &[] },
    Bindings { packages: TASK, world: "shutdown", export_macro: Some("export_shutdown"), with: &[] },
    Bindings { packages: &["wit/process"], world: "asking", export_macro: None, with: &[] },
    Bindings { packages: &["wit/ipc"], world: "communicating", export_macro: None, with: &[] },
    Bindings {
        packages: &["wit/ipc", "wit/sync"],
        world: "synchronizing",
        export_macro: None,
        with: &[ERRORS],
    },
];

/// A file whose bindings are not those of today's wit/.
pub(crate) struct Stale {
    pub(crate) path: PathBuf,
    fresh: String,
}

impl Stale {
    pub(crate) fn write(&self) -> anyhow::Result<()> {
        std::fs::write(&self.path, &self.fresh)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// The files that differ from what the generator makes of wit/ now.
pub(crate) fn stale(root: &Path) -> anyhow::Result<Vec<Stale>> {
    let mut stale = Vec::new();
    for bindings in &ALL {
        let path = root.join("guest/src/bindings").join(format!("{}.rs", bindings.world));
        let fresh = generate(root, bindings).with_context(|| {
            format!("no bindings for the world `{}` of {:?}", bindings.world, bindings.packages)
        })?;
        if std::fs::read_to_string(&path).ok().as_ref() != Some(&fresh) {
            stale.push(Stale { path, fresh });
        }
    }
    Ok(stale)
}

fn generate(root: &Path, bindings: &Bindings) -> anyhow::Result<String> {
    let mut resolve = Resolve::default();
    let mut packages = Vec::new();
    for package in bindings.packages {
        // A package finds those before it, so wit/ needs no directories `deps`.
        packages.push(resolve.push_path(root.join(package))?.0);
    }
    let package = packages.last().copied();
    let world = resolve.select_world(package.as_slice(), Some(bindings.world))?;
    let mut files = Files::default();
    let mut generator = options(bindings).build();
    wit_bindgen_core::WorldGenerator::generate(&mut generator, &mut resolve, world, &mut files)?;
    // One world of one package: the generator writes one file.
    let (_, text) = files.iter().next().context("the generator wrote no file")?;
    Ok(String::from_utf8(text.to_vec())?)
}

fn options(bindings: &Bindings) -> Opts {
    Opts {
        format: true,
        // The export macros expand in the guest's crate, which does not depend on wit-bindgen itself.
        runtime_path: Some("wit_bindgen::rt".into()),
        default_bindings_module: Some(format!("::wpool_guest::__private::bindings::{}", bindings.world)),
        pub_export_macro: bindings.export_macro.is_some(),
        export_macro_name: bindings.export_macro.map(Into::into),
        with: bindings.with.iter().map(with).collect(),
        ..Opts::default()
    }
}

fn with(&(interface, module): &(&str, &str)) -> (String, WithOption) {
    (interface.into(), WithOption::Path(module.into()))
}
