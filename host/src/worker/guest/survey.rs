//! The imports of a module, and the WebAssembly features that it needs, read from its binary before it is
//! compiled.

use wasmtime::wasmparser::component_types::ComponentEntityType;
use wasmtime::wasmparser::types::{EntityType, TypesRef};
use wasmtime::wasmparser::{BinaryReaderError, Parser, Payload, ValidPayload, Validator, WasmFeatures};

use super::engine;
use crate::spec::{Features, Import, ImportKind, ModuleKind};

/// The imports of a binary. Everything but the bodies of its functions is validated: those take most of the
/// time.
pub(super) fn imports(
    binary: &[u8],
    features: Features,
) -> Result<(ModuleKind, Vec<Import>), BinaryReaderError> {
    let wasm = engine::wasm(features);
    let mut validator = Validator::new_with_features(wasm);
    let mut parser = Parser::new(0);
    parser.set_features(wasm);
    let mut names = Vec::new();
    let mut depth = 0_usize;
    for payload in parser.parse_all(binary) {
        let payload = payload?;
        let valid = validator.payload(&payload)?;
        match payload {
            // Imports of a nested module are filled by the component around it, and ask nothing of the host.
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    names.push(import?.name.name.to_owned());
                }
            }
            _ => {}
        }
        match valid {
            ValidPayload::End(types) if depth == 0 => return Ok(of_types(names, types.as_ref())),
            ValidPayload::End(_) => depth -= 1,
            ValidPayload::Ok | ValidPayload::Parser(_) | ValidPayload::Func(..) => {}
        }
    }
    unreachable!("a parser that comes to no end of the module gives an error")
}

fn of_types(names: Vec<String>, types: TypesRef<'_>) -> (ModuleKind, Vec<Import>) {
    match types.core_imports() {
        Some(imports) => {
            let import = |(module, name, ty): (&str, &str, EntityType)| Import {
                name: format!("{module} {name}"),
                kind: match ty {
                    EntityType::Func(_) | EntityType::FuncExact(_) => ImportKind::Function,
                    EntityType::Table(_)
                    | EntityType::Memory(_)
                    | EntityType::Global(_)
                    | EntityType::Tag(_) => ImportKind::Other,
                },
                functions: Vec::new(),
            };
            (ModuleKind::Core, imports.map(import).collect())
        }
        None => {
            let import = |name: String| Import {
                kind: types
                    .component_item_for_import(&name)
                    .map_or(ImportKind::Other, |item| kind(item.ty, types)),
                name,
                // The engine describes their types once it has compiled the module.
                functions: Vec::new(),
            };
            (ModuleKind::Component, names.into_iter().map(import).collect())
        }
    }
}

/// The kind of an import. The recursion is bounded: the validator limits the depth of types.
fn kind(ty: ComponentEntityType, types: TypesRef<'_>) -> ImportKind {
    match ty {
        ComponentEntityType::Func(_) => ImportKind::Function,
        ComponentEntityType::Instance(id) => {
            let exports = &types[id].exports;
            if exports.is_empty() {
                // Without any name in it, its purpose is unknown: only the interface can provide it.
                return ImportKind::Interface;
            }
            let kinds = exports.values().map(|item| kind(item.ty, types));
            // The most demanding kind of its exports.
            kinds.fold(ImportKind::Types, |all, one| match (all, one) {
                (ImportKind::Other, _) | (_, ImportKind::Other) => ImportKind::Other,
                (ImportKind::Types, ImportKind::Types) => ImportKind::Types,
                _ => ImportKind::Interface,
            })
        }
        ComponentEntityType::Type { .. } => ImportKind::Types,
        ComponentEntityType::Module(_)
        | ComponentEntityType::Value(_)
        | ComponentEntityType::Component(_) => ImportKind::Other,
    }
}

/// Why a module is not valid as it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// It would be valid with these.
    Features(Features),
    /// It uses a feature that no setting of wpool turns on.
    Unsupported(&'static str),
}

/// The features that are off, in the engine's terms: some can be allowed, the others are not supported.
const OFF: [(WasmFeatures, Lack); 6] = [
    (
        WasmFeatures::CM_ASYNC
            .union(WasmFeatures::CM_ASYNC_STACKFUL)
            .union(WasmFeatures::CM_MORE_ASYNC_BUILTINS)
            .union(WasmFeatures::CM_THREADING)
            .union(WasmFeatures::CM_ERROR_CONTEXT),
        Lack::Unsupported("async functions of the component model, as WASI 0.3 has them"),
    ),
    (
        WasmFeatures::LEGACY_EXCEPTIONS,
        Lack::Unsupported("exceptions in their legacy form (compile it for the final one)"),
    ),
    (WasmFeatures::THREADS.union(WasmFeatures::SHARED_EVERYTHING_THREADS), Lack::Unsupported("threads")),
    (
        WasmFeatures::CUSTOM_PAGE_SIZES
            .union(WasmFeatures::WIDE_ARITHMETIC)
            .union(WasmFeatures::STACK_SWITCHING),
        Lack::Unsupported("a proposal to WebAssembly"),
    ),
    // Exceptions before gc: `lack` turns one off after the other, and types that belong to both then count as
    // gc.
    (WasmFeatures::empty(), Lack::Features(Features { exceptions: true, gc: false })),
    (WasmFeatures::empty(), Lack::Features(Features { exceptions: false, gc: true })),
];

/// The features that a module lacks. `None`: it is valid without them, or not valid even with all of [`OFF`].
pub(super) fn lack(binary: &[u8]) -> Option<Lack> {
    let is_valid = |is_on: &[bool; OFF.len()]| {
        let features = features_of(is_on);
        let others = OFF.iter().zip(is_on).filter(|(_, is_on)| **is_on);
        let wasm = others.fold(engine::wasm(features), |wasm, ((more, _), _)| wasm.union(*more));
        Validator::new_with_features(wasm).validate_all(binary).is_ok()
    };
    let mut is_on = [true; OFF.len()];
    if is_valid(&[false; OFF.len()]) || !is_valid(&is_on) {
        return None;
    }
    // One feature after the other is turned off if the module does without. With all subsets this would take
    // 64 validations.
    for i in 0..OFF.len() {
        let mut without = is_on;
        without[i] = false;
        if is_valid(&without) {
            is_on = without;
        }
    }
    let unsupported = OFF.iter().zip(is_on).find_map(|((_, lack), is_on)| match lack {
        Lack::Unsupported(what) if is_on => Some(Lack::Unsupported(what)),
        Lack::Unsupported(_) | Lack::Features(_) => None,
    });
    unsupported.or_else(|| Some(Lack::Features(features_of(&is_on))))
}

/// The features of [`OFF`] that are on and can be allowed.
fn features_of(is_on: &[bool; OFF.len()]) -> Features {
    OFF.iter().zip(is_on).fold(Features::default(), |all, ((_, lack), is_on)| match lack {
        Lack::Features(more) if *is_on => more.iter().fold(all, Features::with),
        Lack::Features(_) | Lack::Unsupported(_) => all,
    })
}

/// The features of `allowed` that the module needs.
pub(super) fn needs(binary: &[u8], allowed: Features) -> Features {
    if allowed == Features::default() {
        return allowed;
    }
    match lack(binary) {
        Some(Lack::Features(features)) => features,
        Some(Lack::Unsupported(_)) | None => Features::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::WasmFeature;

    fn lack_of(text: &str) -> Option<Lack> {
        lack(&wat::parse_str(text).unwrap())
    }

    fn features(all: impl IntoIterator<Item = WasmFeature>) -> Option<Lack> {
        Some(Lack::Features(all.into_iter().fold(Features::default(), Features::with)))
    }

    #[test]
    fn f141_what_a_module_needs_is_found_and_no_more() {
        use WasmFeature::{Exceptions, Gc};
        let throw = r#"(tag $e (param i32)) (func (export "f") (throw $e (i32.const 1)))"#;
        let gc = r#"(type $s (struct (field i32))) (func (export "g") (result i32) (struct.get $s 0 (struct.new $s (i32.const 1))))"#;
        assert_eq!(lack_of(&format!("(module {throw})")), features([Exceptions]));
        assert_eq!(lack_of(&format!("(module {gc})")), features([Gc]));
        assert_eq!(lack_of(&format!("(module {gc} {throw})")), features([Exceptions, Gc]));
        assert_eq!(
            lack_of(&format!("(component (core module {gc}) (core module {throw}))")),
            features([Exceptions, Gc])
        );
        assert_eq!(lack_of(r#"(module (func (param externref)))"#), features([Gc]));
        assert_eq!(lack_of("(module)"), None);
        let threads = "(module (memory 1 1 shared))";
        assert_eq!(lack_of(threads), Some(Lack::Unsupported("threads")));
        let legacy = "(module (tag $e) (func try (nop) catch $e end))";
        assert!(matches!(lack_of(legacy), Some(Lack::Unsupported(what)) if what.contains("legacy")));
        // Not valid with any features.
        assert_eq!(lack_of(r#"(module (func (export "f") (result i32)))"#), None);
    }

    fn kinds_of(text: &str) -> Vec<(String, ImportKind)> {
        let (_, imports) = imports(&wat::parse_str(text).unwrap(), Features::default()).unwrap();
        imports.into_iter().map(|import| (import.name, import.kind)).collect()
    }

    #[test]
    fn f131_imports_are_told_by_what_they_need() {
        let component = r#"(component
            (import "a:b/only-types" (instance
                (type $p (record (field "x" u32))) (export "point" (type (eq $p))) (export "blob" (type (sub resource)))))
            (import "a:b/nested" (instance (export "inner" (instance (export "r" (type (sub resource)))))))
            (import "a:b/calls" (instance (export "f" (func))))
            (import "a:b/empty" (instance))
            (import "call" (func))
            (import "part" (core module))
            (component (import "not-ours" (func))))"#;
        let expected = [
            ("a:b/only-types", ImportKind::Types),
            ("a:b/nested", ImportKind::Types),
            ("a:b/calls", ImportKind::Interface),
            ("a:b/empty", ImportKind::Interface),
            ("call", ImportKind::Function),
            ("part", ImportKind::Other),
        ];
        assert_eq!(kinds_of(component), expected.map(|(name, kind)| (name.to_owned(), kind)));
        let core = r#"(module (import "env" "log" (func)) (import "env" "memory" (memory 1)))"#;
        let expected = [("env log", ImportKind::Function), ("env memory", ImportKind::Other)];
        assert_eq!(kinds_of(core), expected.map(|(name, kind)| (name.to_owned(), kind)));
    }
}
