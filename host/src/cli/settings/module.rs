//! How a module is loaded: its cache, its compiler, its sandbox.

use std::path::Path;
use std::time::Duration;

use crate::cli::args::{CachePlaceArgs, CompilerArgs, LoadArgs, SandboxArgs};
use crate::cli::choices::Wasm;
use crate::cli::report::Report;
use crate::module::{CacheLimits, Module, ModuleError, ModuleLoader};
use crate::spec::{CompileLimits, WasmFeature};

/// Loads the module, and reports what its cache had to say.
pub(in crate::cli) fn load(
    path: &Path,
    loader: &ModuleLoader,
    report: &Report,
) -> Result<Module, ModuleError> {
    let shown = report.clone();
    let module = loader.clone().on_compile(move |compiling| shown.compiling(compiling)).load(path)?;
    for warning in module.warnings() {
        report.warn(warning);
    }
    let place = match module.cached() {
        Some(path) => format!("compiled at {}", path.display()),
        None => "compiled, not cached".to_owned(),
    };
    report.detail(&format!("{}: {}, sha256 {}, {place}", path.display(), module.kind(), module.digest()));
    Ok(module)
}

/// Loads the module for a look at it, with all parts of WebAssembly that it needs.
pub(in crate::cli) fn load_to_inspect(
    path: &Path,
    args: &LoadArgs,
    report: &Report,
) -> Result<Module, ModuleError> {
    let loader = loader(args);
    match load(path, &loader, report) {
        Err(ModuleError::At { source, path: at }) => match *source {
            ModuleError::NeedsFeatures { needs, .. } => load(path, &loader.wasm_features(needs), report),
            other => Err(ModuleError::At { source: Box::new(other), path: at }),
        },
        loaded => loaded,
    }
}

pub(in crate::cli) fn loader(args: &LoadArgs) -> ModuleLoader {
    let loader = compiler(&args.compiler, &args.sandbox);
    if args.cache.no_cache { loader.no_cache() } else { with_cache(loader, &args.cache.place) }
}

/// A loader with these limits of compilation and this sandbox, and the default cache.
pub(in crate::cli) fn compiler(args: &CompilerArgs, sandbox: &SandboxArgs) -> ModuleLoader {
    let mut limits = CompileLimits::default();
    if let Some(time) = args.compile_timeout {
        limits.time = if time.is_zero() { Duration::MAX } else { time };
    }
    if let Some(memory) = args.compile_memory {
        limits.memory = memory.get();
    }
    let features = args.wasm.iter().map(|wasm| match wasm {
        Wasm::Exceptions => WasmFeature::Exceptions,
        Wasm::Gc => WasmFeature::Gc,
    });
    Module::loader().sandbox(sandbox.choice).compile_limits(limits).wasm_features(features)
}

/// The loader with the cache that the flags name.
pub(in crate::cli) fn with_cache(loader: ModuleLoader, args: &CachePlaceArgs) -> ModuleLoader {
    let loader = loader.cache_limits(cache_limits(args));
    match &args.cache_dir {
        Some(dir) if !dir.as_os_str().is_empty() => loader.cache_dir(dir),
        _ => loader,
    }
}

pub(in crate::cli) fn cache_limits(args: &CachePlaceArgs) -> CacheLimits {
    let mut limits = CacheLimits::default();
    if let Some(size) = args.cache_size {
        limits.size = if size == 0 { u64::MAX } else { size };
    }
    if let Some(age) = args.cache_age {
        limits.unused = if age.is_zero() { Duration::MAX } else { age };
    }
    limits
}
