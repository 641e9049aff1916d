//! Load a module, and read what it imports and exports.
//!
//! [`Module::load`] compiles a file once, and keeps the machine code in a cache. [`Module::loader`] gives a
//! [`ModuleLoader`] for every setting: the cache and its size ([`CacheLimits`]), the cost of a compilation
//! ([`CompileLimits`]), the features of WebAssembly ([`WasmFeature`]), the sandbox of the processes. A loaded
//! module lists its functions ([`Module::exports`], [`Export`]) and what it needs ([`Module::imports`],
//! [`Import`]); [`Module::info`] gives the whole description ([`ModuleInfo`]).

mod cache;
mod compile;
mod compiling;
mod digest;
mod entry;
mod error;
mod places;
mod shelf;
mod source;

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::cache::Cache;
pub use self::compiling::Compiling;
use self::compiling::OnCompile;
pub use self::digest::Digest;
pub use self::error::ModuleError;
pub use self::shelf::{CacheLimits, CachedModule};
use self::source::{is_text, read_module};
use crate::context::server::ForkServers;
use crate::context::{Early, Launch, Program};
use crate::escape::OneLine;
use crate::policy::{self, Policy};
use crate::spec::{Codegen, Features, Sandbox};
pub use crate::spec::{
    CompileLimits, Export, Import, ImportKind, ImportedFunction, ModuleInfo, ModuleKind, Role, WasmFeature,
};
use crate::{clock, sys};

const SANDBOX_OFF: &str =
    "the sandbox is OFF: nothing but WebAssembly's own wall stands between the guest and this machine";

/// A compiled module, which any number of pools and processes can run. Cloning is cheap.
///
/// ```standalone_crate
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// wpool::init();
/// # std::env::set_current_dir("../guest/prebuilt")?;
/// let module = wpool::Module::load("upper.wasm")?;
/// println!("{} of {} bytes, SHA-256 {}", module.kind(), module.size(), module.digest());
/// for export in module.exports() {
///     println!("export {}", export.wit());
/// }
/// for import in module.imports() {
///     println!("import {}", import.name);
/// }
/// println!("machine code: {:?}; warnings: {:?}", module.cached(), module.warnings());
///
/// let identity = br#"(module (func (export "identity") (param i32) (result i32) local.get 0))"#;
/// assert_eq!(wpool::Module::from_bytes(identity)?.exports().count(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Module {
    inner: Arc<ModuleState>,
}

struct ModuleState {
    digest: Digest,
    size: u64,
    info: ModuleInfo,
    launch: Launch,
    cached: Option<PathBuf>,
    warnings: Vec<String>,
    /// The fork servers of `Process` values; each pool has its own zygote.
    fork_servers: ForkServers,
    /// The module's bytes and its loader, to compile the module again with other settings.
    source: Vec<u8>,
    loader: ModuleLoader,
    variants: Mutex<HashMap<Codegen, Module>>,
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module")
            .field("digest", &self.inner.digest)
            .field("kind", &self.inner.info.kind)
            .finish_non_exhaustive()
    }
}

impl Module {
    /// Loads a component, a core module, or the `.wat` text of either.
    ///
    /// A process of its own compiles the file, unless the cache has it.
    ///
    /// # Errors
    /// [`ModuleError`] if the file cannot be read, is not WebAssembly, or does not compile.
    pub fn load(path: impl AsRef<Path>) -> Result<Module, ModuleError> {
        Module::loader().load(path)
    }

    /// Like [`Module::load`], from bytes in memory.
    ///
    /// # Errors
    /// [`ModuleError`] if the bytes are not WebAssembly or do not compile.
    pub fn from_bytes(bytes: &[u8]) -> Result<Module, ModuleError> {
        Module::loader().from_bytes(bytes)
    }

    /// A loader, which can change the cache, the worker program and other settings.
    pub fn loader() -> ModuleLoader {
        ModuleLoader {
            cache: CacheChoice::Default,
            cache_limits: CacheLimits::default(),
            on_compile: OnCompile::default(),
            name: None,
            program: None,
            sandbox: Sandbox::Default,
            codegen: Codegen::default(),
            compile_limits: CompileLimits::default(),
            policy: None,
            early: None,
            #[cfg(feature = "fault-points")]
            fault: None,
        }
    }

    /// The digest of the module's bytes.
    pub fn digest(&self) -> Digest {
        self.inner.digest
    }

    /// The number of the module's bytes.
    pub fn size(&self) -> u64 {
        self.inner.size
    }

    /// Component or core module.
    pub fn kind(&self) -> ModuleKind {
        self.inner.info.kind
    }

    /// The exported functions.
    pub fn exports(&self) -> impl Iterator<Item = &Export> {
        self.inner.info.exports.iter()
    }

    /// The imports. The policy decides how each import is provided: [`ModuleInfo::grants`].
    pub fn imports(&self) -> impl Iterator<Item = &Import> {
        self.inner.info.imports.iter()
    }

    /// Everything that is known about the module without running it.
    pub fn info(&self) -> &ModuleInfo {
        &self.inner.info
    }

    /// The path of the compiled artefact in the cache; `None` if the artefact is in memory only.
    pub fn cached(&self) -> Option<&Path> {
        self.inner.cached.as_deref()
    }

    /// Non-fatal problems: the cache could not be read or written, the sandbox is off.
    pub fn warnings(&self) -> &[String] {
        &self.inner.warnings
    }

    /// The module compiled with these settings: this one, or another one, which is compiled once.
    pub(crate) fn compiled(&self, codegen: Codegen) -> Result<Module, ModuleError> {
        // The loader decided which parts of WebAssembly the module may use.
        let codegen = Codegen { wasm: self.inner.info.codegen.wasm, ..codegen };
        if self.inner.info.codegen == codegen {
            return Ok(self.clone());
        }
        // The lock is held during the compilation: another thread waits, instead of compiling the same
        // variant.
        let mut variants = self.inner.variants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(variant) = variants.get(&codegen) {
            return Ok(variant.clone());
        }
        let loader = ModuleLoader { codegen, ..self.inner.loader.clone() };
        let variant = loader.compile(self.inner.source.clone())?;
        variants.insert(codegen, variant.clone());
        Ok(variant)
    }

    /// What the module's processes are started from.
    pub(crate) fn launch(&self) -> &Launch {
        &self.inner.launch
    }

    pub(crate) fn fork_servers(&self) -> &ForkServers {
        &self.inner.fork_servers
    }
}

#[derive(Debug, Clone)]
enum CacheChoice {
    Default,
    Dir(PathBuf),
    Off,
}

/// Loads modules with settings; made by [`Module::loader`].
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use wpool::Policy;
/// use wpool::module::CacheLimits;
///
/// let mut limits = CacheLimits::default();
/// limits.size = 1 << 30;
/// let loader = loader()
///     .cache_limits(limits)
///     .on_compile(|compiling| eprintln!("compiling for {:?}", compiling.elapsed))
///     .policy(Policy::sealed()); // what the module must be able to run with
/// let module = loader.load("../guest/prebuilt/upper.wasm")?;
/// println!("{:?} has:", loader.cache_path());
/// for cached in loader.cached_modules()? {
///     println!("{:?}: {} bytes", cached.name, cached.size);
/// }
///
/// let module = loader.no_cache().load("../guest/prebuilt/upper.wasm")?;
/// assert_eq!(module.cached(), None);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ModuleLoader {
    cache: CacheChoice,
    cache_limits: CacheLimits,
    on_compile: OnCompile,
    /// The name of the module's file, which is shown in lists of the cache.
    name: Option<String>,
    program: Option<PathBuf>,
    sandbox: Sandbox,
    codegen: Codegen,
    compile_limits: CompileLimits,
    policy: Option<Policy>,
    early: Option<Arc<Early>>,
    #[cfg(feature = "fault-points")]
    fault: Option<crate::spec::Fault>,
}

impl ModuleLoader {
    /// Starts the zygote of the first pool now, while the module is loaded. For a program that runs one pool,
    /// and whose main thread calls this. `begun`: one that was started even before, and is used if it is
    /// confined as this loader says.
    #[cfg(feature = "cli")]
    pub(crate) fn start_early(mut self, begun: Option<Early>) -> Self {
        let begun = begun.filter(|early| early.sandbox() == self.sandbox);
        self.early = begun.or_else(|| Early::start_with(self.sandbox)).map(Arc::new);
        self
    }

    /// Keeps compiled artefacts in `dir` (created with mode 0700 if absent) instead of `$WPOOL_CACHE_DIR`,
    /// `$XDG_CACHE_HOME/wpool` or `~/.cache/wpool`.
    #[must_use]
    pub fn cache_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cache = CacheChoice::Dir(dir.into());
        self
    }

    /// Always compiles, and keeps the artefact in memory only.
    #[must_use]
    pub fn no_cache(mut self) -> Self {
        self.cache = CacheChoice::Off;
        self
    }

    /// The limits of the cache from now on. [`CacheLimits`] has an example.
    #[must_use]
    pub fn cache_limits(mut self, limits: CacheLimits) -> Self {
        self.cache_limits = limits;
        self
    }

    /// Calls `call` several times a second while the module is compiled, and once at the end. A module in the
    /// cache is not compiled, so `call` is not called.
    ///
    /// The thread that waits for the compiler makes the calls. A slow `call` delays it.
    #[must_use]
    pub fn on_compile(mut self, call: impl Fn(&Compiling) + Send + Sync + 'static) -> Self {
        self.on_compile = OnCompile::new(call);
        self
    }

    /// The path of the cache, even if it does not exist yet; `None` if there is none.
    pub fn cache_path(&self) -> Option<PathBuf> {
        match &self.cache {
            CacheChoice::Off => None,
            CacheChoice::Dir(dir) => Some(dir.clone()),
            CacheChoice::Default => cache::default_dir(),
        }
    }

    /// The entries of the cache, the most recently used first.
    ///
    /// # Errors If the directory cannot be read. A directory that does not exist is an empty cache.
    pub fn cached_modules(&self) -> std::io::Result<Vec<CachedModule>> {
        self.cache_path().map_or(Ok(Vec::new()), |dir| none_if_missing(shelf::list(&dir)))
    }

    /// Removes entries until the cache is within its limits, and returns the removed ones. A size of 0
    /// removes everything. Loaded modules keep working; the next load compiles them again.
    ///
    /// # Errors If the directory cannot be read, or a file in it cannot be removed.
    pub fn clean_cache(&self) -> std::io::Result<Vec<CachedModule>> {
        let clean = |dir: PathBuf| none_if_missing(shelf::clean(&dir, self.cache_limits, None));
        self.cache_path().map_or(Ok(Vec::new()), clean)
    }

    /// Runs `path`, an installed `wpool` program, as compiler and workers, instead of this program. An
    /// application that sets this need not call [`init`](crate::init).
    #[must_use]
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// How much confinement the module's processes must have: its compiler, and all workers that run it.
    #[must_use]
    pub fn sandbox(mut self, sandbox: Sandbox) -> Self {
        self.sandbox = sandbox;
        self
    }

    /// What compiling the module may use. A module in the cache is not compiled, so these limits do not apply
    /// to it.
    #[must_use]
    pub fn compile_limits(mut self, limits: CompileLimits) -> Self {
        self.compile_limits = limits;
        self
    }

    /// Allows the module to use these parts of WebAssembly, which are off by default. A module that needs a
    /// part that is off is refused with [`ModuleError::NeedsFeatures`].
    #[must_use]
    pub fn wasm_features(mut self, features: impl IntoIterator<Item = WasmFeature>) -> Self {
        self.codegen.wasm = features.into_iter().fold(self.codegen.wasm, Features::with);
        self
    }

    /// Checks the module's imports against this policy before the module is compiled, because a compilation
    /// may take long. Without this setting, the pool or process checks them when it is built.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Makes the compiler process, or the `Process` values that run the module, act out a fault. For the
    /// project's own tests.
    #[cfg(feature = "fault-points")]
    #[doc(hidden)]
    #[must_use]
    pub fn fault(mut self, fault: crate::spec::Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// Loads the module at `path`.
    ///
    /// # Errors
    /// As [`Module::load`].
    pub fn load(&self, path: impl AsRef<Path>) -> Result<Module, ModuleError> {
        let path = path.as_ref();
        let bytes = read_module(path).map_err(|e| e.at(path))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        ModuleLoader { name, ..self.clone() }.compile(bytes).map_err(|e| e.at(path))
    }

    /// Loads the module in `bytes`.
    ///
    /// # Errors
    /// As [`Module::from_bytes`].
    pub fn from_bytes(&self, bytes: &[u8]) -> Result<Module, ModuleError> {
        self.compile(bytes.to_vec())
    }

    fn compile(&self, source: Vec<u8>) -> Result<Module, ModuleError> {
        let bytes = &source[..];
        let text = is_text(bytes)?;
        let program = Program::choose(self.program.as_deref(), self.sandbox)?;
        let program = program.with_early(self.early.clone());
        #[cfg(feature = "fault-points")]
        let program = program.with_fault(self.fault);
        let digest = Digest::of(bytes);
        let mut warnings = Vec::new();
        if self.sandbox == Sandbox::Off {
            warnings.push(SANDBOX_OFF.to_owned());
        }
        let cache = self.open_cache(&mut warnings);

        if let Some(hit) = cache.as_ref().and_then(|cache| cache.get(digest, self.codegen, &mut warnings)) {
            // The entry may come from a load with another policy, so this policy judges the imports again.
            self.judge(hit.info.kind, &hit.info.imports)?;
            let cached = Some(hit.path);
            let artefact = executable(hit.artefact).map_err(ModuleError::Io)?;
            return Ok(self.module(
                digest,
                source,
                hit.info,
                Launch { program, artefact: Arc::new(artefact) },
                cached,
                warnings,
            ));
        }
        let judge = |kind, imports: &[Import]| self.judge(kind, imports);
        let compiled = self.watched(bytes, |under_way| {
            compile::compile(&program, bytes, text, self.codegen, self.compile_limits, judge, under_way)
        })?;
        let put = |cache: Cache| {
            cache.put(digest, &compiled.info, &compiled.artefact, self.name.as_deref(), self.cache_limits)
        };
        let stored = cache.map(put);
        let cached = match stored {
            Some(Ok(path)) => Some(path),
            Some(Err(e)) => {
                // Only the next load is slower, so this is not an error.
                warnings.push(format!("the module could not be cached: {e}"));
                None
            }
            None => None,
        };
        // Again: the compilation may have found functions that interfaces do not have.
        self.judge(compiled.info.kind, &compiled.info.imports)?;
        let launch = Launch { program, artefact: Arc::new(compiled.artefact) };
        Ok(self.module(digest, source, compiled.info, launch, cached, warnings))
    }

    /// Fails if the policy does not grant what the module imports.
    fn judge(&self, kind: ModuleKind, imports: &[Import]) -> Result<(), ModuleError> {
        let missing =
            self.policy.iter().flat_map(|policy| policy::missing(policy, kind, imports)).collect::<Vec<_>>();
        if missing.is_empty() { Ok(()) } else { Err(ModuleError::MissingImports { missing }) }
    }

    /// Compiles, and reports the progress to `on_compile`.
    fn watched<T>(&self, bytes: &[u8], compile: impl FnOnce(&mut dyn FnMut()) -> T) -> T {
        let began = clock::now();
        let mut compiling = Compiling {
            name: self.name.clone(),
            size: bytes.len() as u64,
            elapsed: Duration::ZERO,
            is_done: false,
        };
        let done = compile(&mut || {
            compiling.elapsed = began.elapsed();
            self.on_compile.call(&compiling);
        });
        self.on_compile.call(&Compiling { elapsed: began.elapsed(), is_done: true, ..compiling });
        done
    }

    fn open_cache(&self, warnings: &mut Vec<String>) -> Option<Cache> {
        let dir = self.cache_path()?;
        match Cache::open(&dir) {
            Ok(cache) => Some(cache),
            Err(e) => {
                warnings.push(format!("the cache {} is not used: {e}", dir.display()));
                None
            }
        }
    }
}

impl ModuleLoader {
    fn module(
        &self,
        digest: Digest,
        source: Vec<u8>,
        info: ModuleInfo,
        launch: Launch,
        cached: Option<PathBuf>,
        warnings: Vec<String>,
    ) -> Module {
        for warning in &warnings {
            tracing::warn!("{}", OneLine(warning));
        }
        Module {
            inner: Arc::new(ModuleState {
                digest,
                size: source.len() as u64,
                info,
                launch,
                cached,
                warnings,
                fork_servers: ForkServers::default(),
                source,
                loader: self.clone(),
                variants: Mutex::default(),
            }),
        }
    }
}

fn none_if_missing(found: std::io::Result<Vec<CachedModule>>) -> std::io::Result<Vec<CachedModule>> {
    match found {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        found => found,
    }
}

/// The artefact as a file that may be mapped executable. A file system mounted `noexec` allows no such
/// mapping, so its artefact is copied into memory.
fn executable(artefact: OwnedFd) -> std::io::Result<OwnedFd> {
    let artefact = sys::above_stdio(artefact)?;
    let place = rustix::fs::fstatvfs(&artefact)?;
    if !place.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC) {
        return Ok(artefact);
    }
    let mut bytes = Vec::new();
    std::fs::File::from(artefact).read_to_end(&mut bytes)?;
    compile::memory_file("wpool-artefact", &bytes)
}

/// Reads bytes as a cache entry.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_cache_entry(data: &[u8]) {
    cache::fuzz_entry(data);
}

/// Reads what a compiler process may send, up to its answer.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::compile::fuzz_answer;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::source::fuzz_module;
