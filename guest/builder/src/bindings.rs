//! `cargo guests bindings`: writes guest/src/bindings/ from wit/, so that a guest's cold build needs no generator.
//!
//! Each export has a world of its own: a section that describes a world ends up in the component only where its
//! export macro is used, and the linker merges the sections it finds. So a guest may export any subset.

use std::path::Path;

use anyhow::Context as _;
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;
use wit_bindgen_rust::Opts;

/// One file of bindings: where the world is, and the name of its export macro, if it exports anything.
struct Bindings {
    package: &'static str,
    world: &'static str,
    export_macro: Option<&'static str>,
}

const ALL: [Bindings; 5] = [
    Bindings { package: "wit/task", world: "task", export_macro: Some("export_task") },
    Bindings { package: "wit/task", world: "many", export_macro: Some("export_many") },
    Bindings { package: "wit/task", world: "init", export_macro: Some("export_init") },
    Bindings { package: "wit/task", world: "shutdown", export_macro: Some("export_shutdown") },
    Bindings { package: "wit/process", world: "asking", export_macro: None },
];

/// Writes the bindings, or with `check` only compares them. Returns the names of the files that differ.
pub(crate) fn bindings(root: &Path, check: bool) -> anyhow::Result<Vec<String>> {
    let mut stale = Vec::new();
    for each in &ALL {
        let path = root.join("guest/src/bindings").join(format!("{}.rs", each.world));
        let fresh = generate(root, each).with_context(|| format!("the world `{}`", each.world))?;
        if std::fs::read_to_string(&path).ok().as_ref() == Some(&fresh) {
            continue;
        }
        stale.push(format!("guest/src/bindings/{}.rs", each.world));
        if !check {
            std::fs::write(&path, fresh).with_context(|| path.display().to_string())?;
        }
    }
    Ok(stale)
}

fn generate(root: &Path, bindings: &Bindings) -> anyhow::Result<String> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(root.join(bindings.package))?;
    let world = resolve.select_world(&[package], Some(bindings.world))?;
    let mut files = Files::default();
    let mut generator = options(bindings).build();
    wit_bindgen_core::WorldGenerator::generate(&mut generator, &mut resolve, world, &mut files)?;
    let (_, text) = files.iter().next().context("the generator wrote no file")?;
    Ok(String::from_utf8(text.to_vec())?)
}

fn options(bindings: &Bindings) -> Opts {
    Opts {
        format: true,
        // The macros are expanded in the guest's crate, which does not depend on wit-bindgen itself.
        runtime_path: Some("wit_bindgen::rt".into()),
        default_bindings_module: Some(format!("::wpool_guest::__private::bindings::{}", bindings.world)),
        pub_export_macro: bindings.export_macro.is_some(),
        export_macro_name: bindings.export_macro.map(Into::into),
        ..Opts::default()
    }
}
