//! The compiler process's work: machine code, and a description of the module.

use wasmtime::component::Component;
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::{CodeBuilder, Engine, ExternType, Module};

use super::survey::Lack;
use super::{component, core, engine, many, survey, values};
use crate::policy::Policy;
use crate::spec::{Codegen, Export, Features, Grants, Import, Limits, ModuleInfo, ModuleKind, Role};
use crate::value::{FuncType, Param, Type};

/// Why there is no machine code.
#[derive(Debug)]
pub(in crate::worker) enum Refusal {
    Reason(String),
    /// It would be with these.
    Needs {
        features: Features,
        reason: String,
    },
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Refusal::Reason(reason)
    }
}

/// Compiles a component or core module, binary or text. `tell` hears of its imports first: most of the time
/// is spent behind that.
pub(in crate::worker) fn compile(
    bytes: &[u8],
    text: bool,
    limits: &Limits,
    codegen: Codegen,
    tell: impl FnOnce(ModuleKind, &[Import]),
) -> Result<(ModuleInfo, Vec<u8>), Refusal> {
    let engine = engine::compiling(limits, codegen)?;
    let binary = match text {
        true => wat::parse_bytes(bytes)
            .map_err(|e| format!("the text is not valid: {}", one_line(&e.to_string())))?,
        false => bytes.into(),
    };
    let refused = |reason: String| refusal(&binary, reason);
    let (kind, imports) =
        survey::imports(&binary, codegen.wasm).map_err(|e| refused(one_line(&e.to_string())))?;
    tell(kind, &imports);
    let described = |exports, memory_min| ModuleInfo {
        kind,
        imports: imports.clone(),
        exports,
        memory_min,
        codegen,
        needs: survey::needs(&binary, codegen.wasm),
    };
    let mut builder = CodeBuilder::new(&engine);
    builder.wasm_binary(&binary[..], None).map_err(|e| one_line_of(&e))?;
    match kind {
        ModuleKind::Core => {
            let module = builder.compile_module().map_err(|e| refused(one_line_of(&e)))?;
            let memory_min = bytes_of(module.resources_required().max_initial_memory_size);
            let info = admitted(described(exports_of_core(&module), memory_min))?;
            if is_known(&info) {
                core::link(&engine, &module, &info, &Grants::default()).map_err(misshapen)?;
            }
            Ok((info, module.serialize().map_err(|e| one_line_of(&e))?))
        }
        ModuleKind::Component => {
            let component = builder.compile_component().map_err(|e| refused(one_line_of(&e)))?;
            let memory_min = component.resources_required().and_then(|r| bytes_of(r.max_initial_memory_size));
            let info = admitted(described(exports_of_component(&engine, &component), memory_min))?;
            if is_known(&info) {
                component::link(&engine, &component, &info, &Grants::default()).map_err(misshapen)?;
            }
            Ok((info, component.serialize().map_err(|e| one_line_of(&e))?))
        }
    }
}

/// Whether there is something under the name of each import, whatever is granted. What is missing the coordinator tells, all of it in one message.
fn is_known(info: &ModuleInfo) -> bool {
    info.missing(&Policy::sealed().refuse_net()).next().is_none()
}

/// An import has a name of ours, and another type: no worker could be started for it.
fn misshapen(error: wasmtime::Error) -> String {
    one_line(&format!("it imports what does not exist in that form: {error:#}"))
}

/// Why the binary is not compiled: what it lacks, if that is known, else the reason that was given.
fn refusal(binary: &[u8], reason: String) -> Refusal {
    match survey::lack(binary) {
        Some(Lack::Features(features)) => Refusal::Needs { features, reason },
        Some(Lack::Unsupported(what)) => {
            Refusal::Reason(format!("it uses {what}, which is not supported: {reason}"))
        }
        None => Refusal::Reason(reason),
    }
}

fn one_line_of(error: &wasmtime::Error) -> String {
    one_line(&format!("{error:#}"))
}

/// The text parser shows the place in several lines; a message is one.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut line = words.join(" ");
    line.truncate(line.floor_char_boundary(400));
    line
}

/// The description, if the coordinator will take it.
fn admitted(info: ModuleInfo) -> Result<ModuleInfo, String> {
    info.check().map_err(|what| format!("it has {what}"))?;
    let len = serde_json::to_vec(&info).map_err(|e| e.to_string())?.len();
    match len > ModuleInfo::LEN_MAX {
        true => Err(format!(
            "what it exports takes {len} bytes to describe, more than {} are not dealt with",
            ModuleInfo::LEN_MAX
        )),
        false => Ok(info),
    }
}

fn exports_of_component(engine: &Engine, component: &Component) -> Vec<Export> {
    let mut exports = Vec::new();
    for (name, item) in component.component_type().exports(engine) {
        match item.ty {
            ComponentItem::ComponentFunc(func) => exports.push(component_func(name.to_owned(), &func)),
            ComponentItem::ComponentInstance(instance) => {
                for (func_name, item) in instance.exports(engine) {
                    if let ComponentItem::ComponentFunc(func) = item.ty {
                        exports.push(component_func(format!("{name}#{func_name}"), &func));
                    }
                }
            }
            _ => {}
        }
    }
    // The order in a binary is its linker's whim.
    exports.sort_by(|a, b| a.path.cmp(&b.path));
    exports
}

/// The engine counts pages.
fn bytes_of(pages: Option<u64>) -> Option<u64> {
    pages.map(|pages| pages.saturating_mul(64 << 10))
}

fn component_func(path: String, func: &ComponentFunc) -> Export {
    let ty = FuncType { params: values::params(func), result: func.results().next().map(|t| values::ty(&t)) };
    let role = match path.as_str() {
        _ if func.async_() || !ty.is_supported() => Role::Uncallable,
        "init" | "shutdown" => Role::Hook,
        path if many::is_run_many(path, &ty) => Role::Hook,
        path if path.starts_with("wasi:cli/run@") => Role::Command,
        _ => Role::Function,
    };
    Export { path, ty, role }
}

fn exports_of_core(module: &Module) -> Vec<Export> {
    let export = |e: wasmtime::ExportType<'_>| match e.ty() {
        ExternType::Func(func) => Some(core_func(e.name(), &func)),
        _ => None,
    };
    module.exports().filter_map(export).collect()
}

fn core_func(name: &str, func: &wasmtime::FuncType) -> Export {
    let params = func.params().map(|t| Param { name: None, ty: values::core_ty(&t) }).collect();
    let mut results: Vec<Type> = func.results().map(|t| values::core_ty(&t)).collect();
    let result = match results.len() {
        0 | 1 => results.pop(),
        _ => Some(Type::Tuple(results)),
    };
    let ty = FuncType { params, result };
    let role = match name {
        _ if !ty.is_supported() => Role::Uncallable,
        "_start" if ty.params.is_empty() && ty.result.is_none() => Role::Command,
        // The canonical ABI's own plumbing is nobody's target.
        "cabi_realloc" | "_initialize" => Role::Hook,
        _ => Role::Function,
    };
    Export { path: name.to_owned(), ty, role }
}
