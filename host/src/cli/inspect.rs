//! `wpool inspect`: describes a module, by the answer of its compiler process. The module does not run.

use std::fmt::Write;

use serde::Serialize;

use super::args::{InspectArgs, ShareArgs};
use super::exit::{CliError, WpoolExit};
use super::output::print;
use super::report::Report;
use super::settings;
use super::shares::SharedObjects;
use crate::error::BuildError;
use crate::escape::{OneLine, shortened, write_json};
use crate::module::Module;
use crate::policy::{Grant, Policy};
use crate::spec::{Export, Import, ModuleKind, Role, WasmFeature};

#[derive(Serialize)]
struct Description<'a> {
    kind: ModuleKind,
    digest: String,
    size: u64,
    needs: Vec<WasmFeature>,
    imports: Vec<ImportFields<'a>>,
    exports: Vec<ExportFields<'a>>,
}

#[derive(Serialize)]
struct ImportFields<'a> {
    name: &'a str,
    granted: bool,
    note: String,
    /// What an application would have to give.
    functions: Vec<FunctionFields<'a>>,
}

#[derive(Serialize)]
struct FunctionFields<'a> {
    path: String,
    name: &'a str,
    wit: String,
}

#[derive(Serialize)]
struct ExportFields<'a> {
    path: &'a str,
    name: &'a str,
    wit: String,
    role: Role,
}

pub(super) fn run(args: &InspectArgs, report: &Report) -> Result<WpoolExit, CliError> {
    let module = settings::load_to_inspect(&args.module.module, &args.module.load, report)?;
    let shared = ShareArgs { shares: args.shares.clone(), drains: Vec::new(), fills: Vec::new() };
    let policy = SharedObjects::new(&shared, settings::policy(&args.grants))?.policy();
    // Finds grants of what does not exist.
    policy.resolve().map_err(BuildError::from)?;
    print(&if args.json { json(&module, &policy) } else { text(&module, &policy).into_bytes() })
}

fn json(module: &Module, policy: &Policy) -> Vec<u8> {
    let description = Description {
        kind: module.kind(),
        digest: module.digest().to_string(),
        size: module.size(),
        needs: module.info().needs().collect(),
        imports: module.info().grants(policy).map(import_fields).collect(),
        exports: module.exports().map(export_fields).collect(),
    };
    let mut json = Vec::new();
    write_json(&mut json, &description);
    json.push(b'\n');
    json
}

fn import_fields((import, grant): (&Import, Grant)) -> ImportFields<'_> {
    let granted = !matches!(grant, Grant::Missing(_));
    let function =
        |function| FunctionFields { path: import.path(function), name: &function.name, wit: function.wit() };
    let functions = import.functions.iter().map(function).collect();
    ImportFields { name: &import.name, granted, note: grant.note().to_owned(), functions }
}

fn export_fields(export: &Export) -> ExportFields<'_> {
    ExportFields { path: &export.path, name: export.name(), wit: export.wit(), role: export.role }
}

/// The description as text. The module has chosen its names, so they are escaped.
fn text(module: &Module, policy: &Policy) -> String {
    let default = module.info().target(None).ok();
    let mut text = format!("{}, {} bytes\nsha256 {}\n", module.kind(), module.size(), module.digest());
    let mut line = |line: String| writeln!(text, "{line}").expect("writing to a String does not fail");
    let needs: Vec<String> = module.info().needs().map(|feature| feature.to_string()).collect();
    if !needs.is_empty() {
        line(format!("needs --wasm {}", needs.join(",")));
    }
    line(heading("imports", module.imports().count()));
    for (grant, imports) in imports_by_grant(module, policy) {
        for (n, import) in imports.iter().enumerate() {
            let note = match (grant.note(), n) {
                ("", _) => String::new(),
                (note, 0) => format!(": {}", shortened(note)),
                _ => ": as above".to_owned(),
            };
            line(format!("  {}  {}{note}", OneLine(&import.name), mark(&grant)));
            for function in &import.functions {
                line(format!("      {}", shortened(&function.wit())));
            }
        }
    }
    line(heading("exports", module.exports().count()));
    for export in module.exports() {
        let interface = export.interface().map_or(String::new(), |i| format!("{i}#"));
        let role = match export.role {
            Role::Function => "",
            Role::Command => "  (command)",
            Role::Hook => "  (hook)",
            Role::Uncallable => "  (cannot be called from outside)",
        };
        let default = if default == Some(export) { "  (default)" } else { "" };
        line(format!("  {}{role}{default}", shortened(&format!("{interface}{}", export.wit()))));
    }
    text
}

/// The imports by the grant that meets them, the missing ones first.
fn imports_by_grant<'m>(module: &'m Module, policy: &Policy) -> Vec<(Grant, Vec<&'m Import>)> {
    let mut kinds: Vec<(Grant, Vec<&Import>)> = Vec::new();
    for (import, grant) in module.info().grants(policy) {
        match kinds.iter_mut().find(|(kind, _)| *kind == grant) {
            Some((_, imports)) => imports.push(import),
            None => kinds.push((grant, vec![import])),
        }
    }
    kinds.sort_by_key(|(grant, _)| match grant {
        Grant::Missing(_) => 0,
        Grant::Granted(_) => 1,
        Grant::Default(_) => 2,
    });
    kinds
}

fn mark(grant: &Grant) -> &'static str {
    match grant {
        Grant::Missing(_) => "MISSING",
        Grant::Default(_) | Grant::Granted(_) => "granted",
    }
}

fn heading(what: &str, count: usize) -> String {
    match count {
        0 => format!("{what}: none"),
        _ => format!("{what}:"),
    }
}
