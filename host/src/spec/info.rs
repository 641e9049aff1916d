//! What a module contains, as its compiler process reported it.

use serde::{Deserialize, Serialize};

use super::{Codegen, Features, Grants, WasmFeature};
use crate::escape::{list, shortened};
use crate::value::{FuncType, Integers, Type};

/// Which of the two binary formats a module has.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// assert_eq!(guest("upper")?.kind(), wpool::module::ModuleKind::Component);
/// assert_eq!(numbers()?.kind(), wpool::module::ModuleKind::Core);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleKind {
    /// A component: typed functions by path.
    Component,
    /// A core module: numeric functions, or a WASI preview 1 command.
    Core,
}

impl ModuleKind {
    /// How its functions read integers. A core module's integers have no sign of their own.
    pub(crate) fn integers(self) -> Integers {
        match self {
            ModuleKind::Component => Integers::OfType,
            ModuleKind::Core => Integers::OfBits,
        }
    }
}

impl std::fmt::Display for ModuleKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ModuleKind::Component => "component",
            ModuleKind::Core => "core module",
        })
    }
}

/// Something that the module needs from its host.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let module = guest("hello")?;
/// for import in module.imports() {
///     println!("{}", import.name);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// Such as `wasi:cli/stdout@0.2.6`; `module name` for a core module.
    pub name: String,
    /// What the host has to provide.
    #[serde(default)]
    pub kind: ImportKind,
    /// The functions of it, if wpool has nothing of that name: an application can give them, by
    /// [`Policy::function`](crate::Policy::function). Empty for a core module.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<ImportedFunction>,
}

impl Import {
    /// The path of one of its functions: `acme:shop/prices#price`, or the bare name.
    pub fn path(&self, function: &ImportedFunction) -> String {
        match self.kind {
            ImportKind::Function => self.name.clone(),
            ImportKind::Interface | ImportKind::Types | ImportKind::Other => {
                format!("{}#{}", self.name, function.name)
            }
        }
    }
}

/// A function that a module imports, and that an application can give.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let text = br#"(component (import "acme:shop/prices"
///     (instance (export "price" (func (param "sku" string) (result f64))))))"#;
/// let module = loader().from_bytes(text)?;
/// let import = module.imports().next().ok_or("it has one")?;
/// let price = &import.functions[0];
/// assert_eq!(price.wit(), "price: func(sku: string) -> f64");
/// assert_eq!(import.path(price), "acme:shop/prices#price");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedFunction {
    /// Its name in its interface.
    pub name: String,
    /// Its type.
    pub ty: FuncType,
}

impl ImportedFunction {
    /// The function as WIT: `price: func(sku: string) -> f64`.
    pub fn wit(&self) -> String {
        format!("{}: {}", self.name, self.ty)
    }
}

/// What an import asks for.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use wpool::module::ImportKind;
///
/// let text = br#"(component (import "acme:shapes/types"
///     (instance (export "shape" (type (sub resource))))))"#;
/// let module = loader().from_bytes(text)?;
/// assert!(module.imports().all(|import| import.kind == ImportKind::Types));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ImportKind {
    /// One function.
    Function,
    /// An interface with functions.
    #[default]
    Interface,
    /// Only names of types. Nothing can be called, so the host need not provide it.
    Types,
    /// A memory, a table, a global, a tag, a module or a component.
    Other,
}

/// How an export can be used.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let module = guest("counter")?;
/// use wpool::module::Role;
///
/// let hooks = module.exports().filter(|export| export.role == Role::Hook).map(|export| export.name());
/// assert!(hooks.eq(["init", "run-many", "shutdown"]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A function that can be a target.
    Function,
    /// `wasi:cli/run` or `_start`: takes arguments and stdin, produces stdout and an exit code.
    Command,
    /// `init` or `shutdown` of world `wpool:task/stateful-task`: callable by name, but never the default
    /// target.
    Hook,
    /// A function that cannot be called from outside: its types cannot leave the instance (resources,
    /// streams), or it is a core function with reference types.
    Uncallable,
}

/// An exported function.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let module = guest("upper")?;
/// let run = module.exports().find(|export| export.name() == "run").ok_or("it has one")?;
/// assert_eq!((run.role, run.interface()), (wpool::module::Role::Function, None));
/// assert_eq!(run.ty.params[0].name.as_deref(), Some("input"));
/// assert!(run.wit().starts_with("run: func(input: "));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// The full path: `demo:math/ops@1.0.0#scale`, or the bare name.
    pub path: String,
    /// Its type.
    pub ty: FuncType,
    /// How it can be used.
    pub role: Role,
}

impl Export {
    /// The function's own name, without its interface.
    pub fn name(&self) -> &str {
        self.path.rsplit_once('#').map_or(&self.path, |(_, name)| name)
    }

    /// The interface of the function; `None` if the function belongs to no interface.
    pub fn interface(&self) -> Option<&str> {
        self.path.rsplit_once('#').map(|(interface, _)| interface)
    }

    /// The function as WIT: `scale: func(x: f64) -> f64`.
    pub fn wit(&self) -> String {
        format!("{}: {}", self.name(), self.ty)
    }
}

/// All that is known about a module without running it.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use wpool::Policy;
///
/// let module = guest("upper")?;
/// assert_eq!(module.info().missing(&Policy::sealed()).count(), 0); // all imports are met
/// assert_eq!(module.info().target(None)?.name(), "run"); // and this is what runs by default
///
/// let module = loader().from_bytes(br#"(module (import "moon" "phase" (func)) (func (export "_start")))"#)?;
/// let missing: Vec<_> = module.info().missing(&Policy::sealed()).collect();
/// assert_eq!(missing[0].0, "moon phase");
/// for (import, grant) in module.info().grants(&Policy::sealed().trap_unknown_imports()) {
///     println!("{}: {}", import.name, grant.note());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleInfo {
    /// Component or core module.
    pub kind: ModuleKind,
    /// The imports.
    pub imports: Vec<Import>,
    /// The exported functions.
    pub exports: Vec<Export>,
    /// Bytes of the largest memory that an instance starts with; `None` if that depends on other modules.
    pub memory_min: Option<u64>,
    /// How the module was compiled.
    pub(crate) codegen: Codegen,
    /// The optional parts of WebAssembly that the module uses.
    #[serde(default)]
    pub(crate) needs: Features,
}

/// Why a target was not found. The messages list the candidates.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use wpool::target::TargetError;
/// use wpool::BuildError;
///
/// let pool = wpool::Pool::builder(&numbers()?).build()?;
/// let found = pool.func::<(i32, i32), i32>("ad");
/// let Err(BuildError::Target(error)) = found else { panic!("no function has this name") };
/// assert_eq!(error.to_string(), "no function \"ad\" is exported; there is add, square, fib");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// No export has this path or name.
    #[error("no function {name:?} is exported; there is {}", functions(.candidates))]
    Unknown {
        /// The name that the caller gave.
        name: String,
        /// The functions that can be called.
        candidates: Vec<String>,
    },
    /// Several interfaces export a function with this name.
    #[error("{name:?} is exported more than once; name one of {}", functions(.candidates))]
    Ambiguous {
        /// The name that the caller gave.
        name: String,
        /// The full paths of these functions.
        candidates: Vec<String>,
    },
    /// The caller named no target, and the module has no obvious one.
    #[error("{}", no_default(.candidates))]
    NoDefault {
        /// The functions that can be called.
        candidates: Vec<String>,
    },
    /// The function's types cannot be passed between processes.
    #[error("{} cannot be called from outside: {}", shortened(.path), shortened(.wit))]
    Uncallable {
        /// The function's path.
        path: String,
        /// Its type.
        wit: String,
    },
}

fn functions(names: &[String]) -> String {
    if names.is_empty() { "no exported function".to_owned() } else { list(names, ", ") }
}

/// The packages of the objects that workers share.
const PACKAGES: [&str; 2] = ["wpool:ipc/", "wpool:sync/"];

/// The function of world `wpool:task/task`.
const TASK: &str = "run: func(input: list<u8>) -> result<list<u8>, string>";

fn no_default(candidates: &[String]) -> String {
    if candidates.is_empty() {
        format!("the module exports no function that can be called; a task is {TASK}, or of other types")
    } else {
        format!("no function `run` and no command is exported; name one of {}", functions(candidates))
    }
}

impl ModuleInfo {
    /// Cap on the JSON of a description, in bytes: about 30 000 functions. The coordinator keeps it for each
    /// module and sends it to each worker.
    pub(crate) const LEN_MAX: usize = 4 << 20;
    /// Cap on the nesting of types. The code that walks types is recursive, and JSON is read to a depth of
    /// 128.
    const DEPTH_MAX: usize = 32;

    /// A description without imports, for tests.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn of(kind: ModuleKind, exports: Vec<Export>) -> ModuleInfo {
        let (codegen, needs) = (Codegen::default(), Features::default());
        ModuleInfo { kind, imports: vec![], exports, memory_min: None, codegen, needs }
    }

    /// Whether a guest can ask the coordinator for something in the middle of a task.
    pub(crate) fn uses_exchange(&self, grants: &Grants) -> bool {
        let is_of = |import: &Import| PACKAGES.iter().any(|package| import.name.starts_with(package));
        let uses_objects =
            self.imports.iter().any(|import| import.kind != ImportKind::Types && is_of(import));
        uses_objects || !grants.functions.is_empty()
    }

    /// Checks that wpool can handle this description; an error says what it cannot handle. A compiler process
    /// already refuses such a module. The coordinator checks again, because the author of a module may
    /// control the compiler process through a flaw of the compiler.
    pub(crate) fn check(&self) -> Result<(), String> {
        let exported = self.exports.iter().map(|export| (&export.path, &export.ty));
        let imported = self.imports.iter().flat_map(|import| &import.functions);
        for (path, ty) in exported.chain(imported.map(|function| (&function.name, &function.ty))) {
            if !ty.is_within(Self::DEPTH_MAX) {
                return Err(format!(
                    "types that nest more than {} deep, in {}",
                    Self::DEPTH_MAX,
                    shortened(path)
                ));
            }
            if !ty.has_names() {
                return Err(format!("types with names that are none, in {}", shortened(path)));
            }
        }
        Ok(())
    }

    /// Finds the function to call.
    ///
    /// With a name: the export with exactly that path, else the only export with that bare name (the path may
    /// leave out the version). If several exports have the name, the command is chosen, or the call fails.
    /// Without a name: the function `run` that belongs to no interface, else the command, else the only
    /// function named `run`, else the only callable function.
    pub fn target(&self, name: Option<&str>) -> Result<&Export, TargetError> {
        let export = match name {
            Some(name) => self.named(name)?,
            None => self.default_target()?,
        };
        match export.role {
            Role::Uncallable => {
                Err(TargetError::Uncallable { path: export.path.clone(), wit: export.ty.to_string() })
            }
            Role::Function | Role::Command | Role::Hook => Ok(export),
        }
    }

    fn named(&self, name: &str) -> Result<&Export, TargetError> {
        // An exact path wins, even if it is also the bare name of another export.
        if let Some(export) = self.exports.iter().find(|e| e.path == name) {
            return Ok(export);
        }
        let matches: Vec<&Export> =
            self.exports.iter().filter(|e| e.name() == name || without_version(&e.path) == name).collect();
        match matches[..] {
            [export] => Ok(export),
            [] => Err(TargetError::Unknown { name: name.to_owned(), candidates: self.callable() }),
            _ => the_command(&matches).ok_or_else(|| {
                let candidates = matches.iter().map(|e| e.path.clone()).collect();
                TargetError::Ambiguous { name: name.to_owned(), candidates }
            }),
        }
    }

    fn default_target(&self) -> Result<&Export, TargetError> {
        let only = |wanted: &dyn Fn(&&Export) -> bool| {
            let mut found = self.exports.iter().filter(wanted);
            found.next().filter(|_| found.next().is_none())
        };
        // An uncallable `run` is chosen too: the error then names its type, instead of another function
        // running.
        let is_function = |e: &Export| matches!(e.role, Role::Function | Role::Uncallable);
        only(&|e| is_function(e) && e.path == "run")
            .or_else(|| self.command())
            .or_else(|| only(&|e| is_function(e) && e.name() == "run"))
            .or_else(|| only(&|e| e.role == Role::Function))
            .ok_or_else(|| TargetError::NoDefault { candidates: self.callable() })
    }

    /// Whether the module exports `init` of world `wpool:task/stateful-task`.
    pub(crate) fn has_init(&self) -> bool {
        let strings = Type::List(Box::new(Type::String));
        let takes_strings = |e: &Export| matches!(&e.ty.params[..], [only] if only.ty == strings);
        self.exports.iter().any(|e| e.path == "init" && e.role == Role::Hook && takes_strings(e))
    }

    /// The command that the module exports, if any.
    pub(crate) fn command(&self) -> Option<&Export> {
        the_command(&self.exports.iter().collect::<Vec<_>>())
    }

    fn callable(&self) -> Vec<String> {
        self.exports.iter().filter(|e| e.role != Role::Uncallable).map(|e| e.path.clone()).collect()
    }

    /// The parts of WebAssembly that are off by default and that the module needs: see
    /// [`ModuleLoader::wasm_features`](crate::module::ModuleLoader::wasm_features).
    pub fn needs(&self) -> impl Iterator<Item = WasmFeature> {
        self.needs.iter()
    }
}

/// The command among these exports. If there are several versions of `wasi:cli/run`, it is the last.
fn the_command<'e>(exports: &[&'e Export]) -> Option<&'e Export> {
    exports.iter().rfind(|e| e.role == Role::Command).copied()
}

/// `demo:math/ops@1.0.0#scale` as `demo:math/ops#scale`.
fn without_version(path: &str) -> String {
    // A version stands before the `#`.
    match (path.find('@'), path.find('#')) {
        (Some(at), Some(hash)) if at < hash => format!("{}{}", &path[..at], &path[hash..]),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(paths: &[(&str, Role)]) -> ModuleInfo {
        let export = |(path, role): &(&str, Role)| Export {
            path: (*path).to_owned(),
            ty: FuncType { params: vec![], result: None },
            role: *role,
        };
        ModuleInfo::of(ModuleKind::Component, paths.iter().map(export).collect())
    }

    #[test]
    fn a_target_is_found_by_path_bare_name_and_path_without_version() {
        let info = info(&[("demo:math/ops@1.0.0#scale", Role::Function), ("other", Role::Function)]);
        for name in ["demo:math/ops@1.0.0#scale", "demo:math/ops#scale", "scale"] {
            assert_eq!(info.target(Some(name)).unwrap().path, "demo:math/ops@1.0.0#scale");
        }
        let error = info.target(Some("scal")).unwrap_err().to_string();
        assert!(error.contains("demo:math/ops@1.0.0#scale, other"), "{error}");
    }

    #[test]
    fn x1_only_a_module_with_these_imports_uses_the_exchange() {
        let of = |name: &str, kind| {
            let mut info = info(&[]);
            info.imports.push(Import { name: name.to_owned(), kind, functions: Vec::new() });
            info.uses_exchange(&Grants::default())
        };
        assert!(!info(&[]).uses_exchange(&Grants::default()));
        let function = Grants { functions: vec!["a:b/c#f".to_owned()], ..Grants::default() };
        assert!(info(&[]).uses_exchange(&function));
        assert!(of("wpool:ipc/queues@0.1.0", ImportKind::Interface));
        assert!(of("wpool:sync/locks@0.1.0", ImportKind::Interface));
        assert!(!of("wpool:ipc/errors@0.1.0", ImportKind::Types));
        assert!(!of("wpool:task/batch@0.1.0", ImportKind::Interface));
    }

    #[test]
    fn a_name_found_twice_is_ambiguous_and_both_are_named() {
        let info = info(&[("a:a/a#f", Role::Function), ("b:b/b#f", Role::Function)]);
        let error = info.target(Some("f")).unwrap_err().to_string();
        assert!(error.contains("a:a/a#f, b:b/b#f"), "{error}");
    }

    #[test]
    fn f135_of_several_that_are_named_run_the_command_is_meant() {
        use Role::*;
        let command = "wasi:cli/run@0.2.3#run";
        for exports in [
            &[("a:b/c#run", Function), (command, Command)][..],
            &[("a:b/c#run", Function), ("a:b/d#run", Function), (command, Command)],
            &[("a:b/d#run", Uncallable), ("wasi:cli/run@0.2.0#run", Command), (command, Command)],
        ] {
            for name in [None, Some("run")] {
                assert_eq!(info(exports).target(name).unwrap().path, command);
            }
        }
        let ambiguous = info(&[("a:b/c#run", Function), ("a:b/d#run", Function)]);
        assert!(ambiguous.target(Some("run")).unwrap_err().to_string().contains("a:b/c#run, a:b/d#run"));
        assert!(ambiguous.target(None).is_err());
    }

    #[test]
    fn without_a_name_run_comes_before_the_command_and_the_only_function() {
        use Role::*;
        let default = |paths: &[(&str, Role)]| info(paths).target(None).map(|e| e.path.clone());
        assert_eq!(default(&[("run", Function), ("wasi:cli/run@0.2.0#run", Command)]).unwrap(), "run");
        assert_eq!(default(&[("x", Function), ("_start", Command)]).unwrap(), "_start");
        assert_eq!(default(&[("a:b/c#run", Function), ("x", Function)]).unwrap(), "a:b/c#run");
        assert_eq!(default(&[("init", Hook), ("x", Function)]).unwrap(), "x");
        assert!(default(&[("x", Function), ("y", Function)]).unwrap_err().to_string().contains("x, y"));
        assert!(default(&[]).is_err());
    }
}
