//! The work of the compiler process: machine code, and a description of the module.

use serde::Serialize;
use wasmtime::component::Component;
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::{CodeBuilder, Engine, ExternType, Module};

use super::survey::Lack;
use super::{component, core, engine, many, survey, values};
use crate::policy::{Policy, is_provided};
use crate::spec::{
    Codegen, Export, Features, Grants, Import, ImportedFunction, Limits, ModuleInfo, ModuleKind, Role,
};
use crate::value::{FuncType, Param, Type};

/// Why there is no machine code.
#[derive(Debug)]
pub(crate) enum NotCompiled {
    Reason(String),
    /// There would be if these were allowed.
    Needs {
        features: Features,
        reason: String,
    },
}

impl From<String> for NotCompiled {
    fn from(reason: String) -> Self {
        NotCompiled::Reason(reason)
    }
}

/// Compiles a component or core module, binary or text.
///
/// `tell` is called with the imports before the compilation, which takes most of the time: a module that the
/// policy refuses is refused at once.
pub(crate) fn compile(
    bytes: &[u8],
    text: bool,
    limits: &Limits,
    codegen: Codegen,
    tell: impl FnOnce(ModuleKind, &[Import]),
) -> Result<(ModuleInfo, Vec<u8>), NotCompiled> {
    let engine = engine::compiling(limits, codegen)?;
    let binary = if text {
        wat::parse_bytes(bytes).map_err(|e| format!("the text is not valid: {}", one_line(&e.to_string())))?
    } else {
        bytes.into()
    };
    let refused = |reason: String| refusal(&binary, reason);
    let (kind, imports) =
        survey::imports(&binary, codegen.wasm).map_err(|e| refused(one_line(&e.to_string())))?;
    check_len("imports", &imports)?;
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
            // Linked here to find imports of a wrong type: otherwise each worker would meet them, and the
            // user would hear of a failed start.
            if are_imports_known(&info) {
                core::link(&engine, &module, &info, &Grants::default()).map_err(wrong_type)?;
            }
            Ok((info, module.serialize().map_err(|e| one_line_of(&e))?))
        }
        ModuleKind::Component => {
            let component = builder.compile_component().map_err(|e| refused(one_line_of(&e)))?;
            let memory_min = component.resources_required().and_then(|r| bytes_of(r.max_initial_memory_size));
            let mut info = described(exports_of_component(&engine, &component), memory_min);
            add_imported_functions(&mut info, &engine, &component);
            let info = checked_imports(&engine, &component, admitted(info)?)?;
            Ok((info, component.serialize().map_err(|e| one_line_of(&e))?))
        }
    }
}

/// The description, with the functions that interfaces of wpool's lack among its imports. An error if an
/// import has another type than what is provided under its name.
fn checked_imports(
    engine: &Engine,
    component: &Component,
    mut info: ModuleInfo,
) -> Result<ModuleInfo, String> {
    let are_known = are_imports_known(&info);
    let trapping = Grants { traps_unknown: true, ..Grants::default() };
    let link = |info: &ModuleInfo| component::link(engine, component, info, &trapping);
    if link(&info).is_err() {
        let absent = component::absent(engine, component, &info).map_err(wrong_type)?;
        info.imports.extend(absent);
        if let (Err(error), true) = (link(&info), are_known) {
            return Err(wrong_type(error));
        }
    }
    admitted(info)
}

/// Whether some grant, or an application, can provide each import. If not, the coordinator refuses the
/// module, and its message names all that are missing.
fn are_imports_known(info: &ModuleInfo) -> bool {
    let can_be_given = |name| {
        let import = info.imports.iter().find(|import| import.name == name);
        import.is_some_and(|import| !import.functions.is_empty())
    };
    info.missing(&Policy::sealed().refuse_net()).all(|(name, _)| can_be_given(name))
}

/// Describes the imported functions that an application can give: those that wpool does not have.
fn add_imported_functions(info: &mut ModuleInfo, engine: &Engine, component: &Component) {
    for (name, item) in component.component_type().imports(engine) {
        let import = info.imports.iter_mut().find(|import| import.name == name);
        let Some(import) = import.filter(|_| !is_provided(ModuleKind::Component, name)) else { continue };
        match item.ty {
            ComponentItem::ComponentFunc(func) => import.functions.push(imported(name, &func)),
            ComponentItem::ComponentInstance(instance) => {
                for (name, item) in instance.exports(engine) {
                    if let ComponentItem::ComponentFunc(func) = item.ty {
                        import.functions.push(imported(name, &func));
                    }
                }
            }
            _ => {}
        }
    }
}

fn imported(name: &str, func: &ComponentFunc) -> ImportedFunction {
    ImportedFunction { name: name.to_owned(), ty: values::func_type(func) }
}

/// The message about an import of a known name and another type. No worker could link such a module.
fn wrong_type(error: wasmtime::Error) -> String {
    one_line(&format!("it imports something with another type than it has: {error:#}"))
}

/// Why the binary is not compiled: the features that it lacks, if they are known, else `reason`.
fn refusal(binary: &[u8], reason: String) -> NotCompiled {
    match survey::lack(binary) {
        Some(Lack::Features(features)) => NotCompiled::Needs { features, reason },
        Some(Lack::Unsupported(what)) => {
            NotCompiled::Reason(format!("it uses {what}, which is not supported: {reason}"))
        }
        None => NotCompiled::Reason(reason),
    }
}

fn one_line_of(error: &wasmtime::Error) -> String {
    one_line(&format!("{error:#}"))
}

/// Makes one line of an error. The parser of module texts shows the place on several lines.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut line = words.join(" ");
    // The parser quotes the line of the text that it did not understand, and a line may be the whole module.
    line.truncate(line.floor_char_boundary(400));
    line
}

/// The description, if the coordinator will accept it.
fn admitted(info: ModuleInfo) -> Result<ModuleInfo, String> {
    info.check().map_err(|what| format!("it has {what}"))?;
    check_len("imports and exports", &info)?;
    Ok(info)
}

/// Measured on this side, where the reason can be told. The coordinator would only see too long a frame.
fn check_len(what: &str, description: &impl Serialize) -> Result<(), String> {
    let len = serde_json::to_vec(description).map_err(|e| e.to_string())?.len();
    if len > ModuleInfo::LEN_MAX {
        let most = ModuleInfo::LEN_MAX;
        return Err(format!("the description of its {what} takes {len} bytes, and the most is {most}"));
    }
    Ok(())
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
    // Sorted: the order in a binary depends on its linker.
    exports.sort_by(|a, b| a.path.cmp(&b.path));
    exports
}

/// Bytes of a memory whose size the engine gives in pages.
fn bytes_of(pages: Option<u64>) -> Option<u64> {
    pages.map(|pages| pages.saturating_mul(64 << 10))
}

fn component_func(path: String, func: &ComponentFunc) -> Export {
    let ty = values::func_type(func);
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
        // A part of the canonical ABI, and WASI's initializer of a library: no targets of calls.
        "cabi_realloc" | "_initialize" => Role::Hook,
        _ => Role::Function,
    };
    Export { path: name.to_owned(), ty, role }
}
