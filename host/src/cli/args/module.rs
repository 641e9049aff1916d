//! Flags on loading a module: the cache, the compiler, the sandbox.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};

use crate::cli::choices::Wasm;
use crate::cli::parse::{duration, size, some_size};
use crate::spec::Sandbox;

const CACHE: &str = "Module cache";

/// A path that an environment variable may leave empty: then it counts as not set.
fn maybe_empty_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CacheArgs {
    /// Always compile, and keep the machine code in memory only
    #[arg(long, help_heading = CACHE)]
    pub(in crate::cli) no_cache: bool,

    #[command(flatten)]
    pub(in crate::cli) place: CachePlaceArgs,
}

/// The path of the cache, and what it may hold.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct CachePlaceArgs {
    /// Keep compiled modules in this directory [default: $XDG_CACHE_HOME/wpool or ~/.cache/wpool]
    #[arg(
        long,
        value_name = "DIR",
        value_parser = maybe_empty_path(),
        env = "WPOOL_CACHE_DIR",
        hide_env_values = true,
        global = true,
        help_heading = CACHE
    )]
    pub(in crate::cli) cache_dir: Option<PathBuf>,

    /// Size limit of the cache; an addition removes the least recently used modules; 0 for no limit
    /// [default: 2G]
    #[arg(
        long,
        value_name = "SIZE",
        value_parser = size,
        env = "WPOOL_CACHE_SIZE",
        hide_env_values = true,
        global = true,
        help_heading = CACHE
    )]
    pub(in crate::cli) cache_size: Option<u64>,

    /// How long an unused module stays in the cache; 0 for no limit [default: 30d]
    #[arg(
        long,
        value_name = "TIME",
        value_parser = duration,
        env = "WPOOL_CACHE_AGE",
        hide_env_values = true,
        global = true,
        help_heading = CACHE
    )]
    pub(in crate::cli) cache_age: Option<Duration>,
}

/// Limits and settings of the compiler, which runs if the cache does not have the module.
#[derive(Debug, Args)]
pub(in crate::cli) struct CompilerArgs {
    /// Processor time for compiling the module; 0 for no limit [default: 2m]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = CACHE)]
    pub(in crate::cli) compile_timeout: Option<Duration>,

    /// Memory for compiling the module [default: 2G]
    #[arg(long, value_name = "SIZE", value_parser = some_size, help_heading = CACHE)]
    pub(in crate::cli) compile_memory: Option<NonZeroU64>,

    /// Let the module use these parts of WebAssembly, which are off by default: exceptions, gc
    ///
    /// `wpool inspect` shows which of them a module needs. Objects of gc count as the guest's memory.
    #[arg(long, value_enum, value_name = "FEATURES", value_delimiter = ',', help_heading = CACHE)]
    pub(in crate::cli) wasm: Vec<Wasm>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ModuleArgs {
    /// The module: a component, a core module, or the .wat text of either
    pub(in crate::cli) module: PathBuf,

    #[command(flatten)]
    pub(in crate::cli) load: LoadArgs,
}

/// How a module is loaded.
#[derive(Debug, Args)]
pub(in crate::cli) struct LoadArgs {
    #[command(flatten)]
    pub(in crate::cli) cache: CacheArgs,

    #[command(flatten)]
    pub(in crate::cli) compiler: CompilerArgs,

    #[command(flatten)]
    pub(in crate::cli) sandbox: SandboxArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SandboxArgs {
    /// How much confinement worker and compiler processes must have
    ///
    /// strict: nothing runs unless a process has every property that `wpool doctor` lists. default: a
    /// property that this machine cannot enforce gives a warning. off: no process is confined, only
    /// WebAssembly's own sandbox remains; for finding faults.
    #[arg(
        long = "sandbox",
        value_name = "strict|default|off",
        default_value_t,
        hide_default_value = true,
        env = "WPOOL_SANDBOX",
        hide_env_values = true,
        help_heading = "Workers"
    )]
    pub(in crate::cli) choice: Sandbox,
}
