//! The settings of the engine, in one place: compiler and loader must agree on them.

use wasmtime::wasmparser::WasmFeatures;
use wasmtime::{
    Collector, Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails,
};

use crate::spec::{Codegen, Features, Limits, ProfilingStrategy};

/// Bytes of each memory that the engine clears for the next instance, instead of giving them back to the
/// kernel. Giving them back costs two or three page faults for each task.
///
/// Measured in one run, processor time of 200,000 fresh tasks with 128, 96 and 64 KiB: 0.90, 0.84 and 1.5 s
/// for a guest of one page without imports; 1.2, 2.0 and 3.0 s for a guest of the SDK. A worker with fresh
/// instances is some 100 KiB larger for it.
const KEEP_RESIDENT: usize = 128 << 10;
/// The same for tables.
const TABLE_KEEP_RESIDENT: usize = 4 << 10;

/// The most tables of a component.
const TABLES_MAX: u32 = 24;
/// Bytes of address space for one table element. The pool reserves all of its tables at their full size when
/// it is made.
pub(crate) const TABLE_ELEMENT_LEN: u64 = TABLES_MAX as u64 * 8;
/// With more elements, the pool is not used: it would reserve more than 200 MB for tables.
const POOLED_TABLE_ELEMENTS_MAX: usize = 1_000_000;

/// The WebAssembly features that a module may use, all of them named. The engine's default depends on the
/// features of its crate, and the application that wpool is linked into can turn those on.
pub(super) fn wasm(features: Features) -> WasmFeatures {
    let always = WasmFeatures::WASM2
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::FUNCTION_REFERENCES
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::RELAXED_SIMD
        | WasmFeatures::MEMORY64
        | WasmFeatures::COMPONENT_MODEL;
    let mut wasm = always.difference(WasmFeatures::GC_TYPES);
    // An exception is an object of the collector, too, even without gc.
    wasm.set(WasmFeatures::GC_TYPES, features.gc || features.exceptions);
    // Without types of objects, gc is only another notation for the types of functions.
    wasm.set(WasmFeatures::GC, features.gc || !features.exceptions);
    wasm.set(WasmFeatures::EXCEPTIONS, features.exceptions);
    wasm
}

/// The settings that machine code depends on. A change here needs a new number in `module/cache.rs`.
fn config(limits: &Limits, codegen: Codegen) -> Config {
    let mut config = Config::new();
    let allowed = wasm(codegen.wasm);
    for (_, feature) in WasmFeatures::all().iter_names() {
        config.wasm_features(feature, allowed.contains(feature));
    }
    config.shared_memory(false);
    config.collector(Collector::Copying);
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    config.profiler(wasmtime::ProfilingStrategy::None);
    // Otherwise the engine reads an environment variable.
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config.debug_info(false);
    // For time limits and cancels: it ends any loop.
    config.epoch_interruption(true);
    // Guests are called synchronously, without fibers: measured, that is a third of the cost of a call.
    config.concurrency_support(false);
    config.max_wasm_stack(limits.stack);
    // The engine wants this to be larger than `max_wasm_stack`. No such stack is ever made: no call is
    // asynchronous.
    config.async_stack_size(limits.stack.saturating_mul(2));
    config.consume_fuel(codegen.fuel);
    config.relaxed_simd_deterministic(codegen.deterministic);
    // A few frames are enough for a message. A deep recursion has thousands.
    config.wasm_backtrace_max_frames(std::num::NonZeroUsize::new(16));
    config
}

/// The engine of the compiler process.
pub(super) fn compiling(limits: &Limits, codegen: Codegen) -> Result<Engine, String> {
    let mut config = config(limits, codegen);
    config.cranelift_opt_level(wasmtime::OptLevel::Speed);
    config.cranelift_nan_canonicalization(codegen.deterministic);
    Engine::new(&config).map_err(|e| e.to_string())
}

/// The engine of workers: a few slots, made once in the zygote. A fresh instance costs a few microseconds.
pub(super) fn pooling(
    limits: &Limits,
    codegen: Codegen,
    profile: Option<ProfilingStrategy>,
) -> Result<Engine, String> {
    if limits.table_elements > POOLED_TABLE_ELEMENTS_MAX {
        return Err("the tables are too large for a pool".to_owned());
    }
    let mut config = profiled(config(limits, codegen), profile);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(slots(limits)));
    Engine::new(&config).map_err(|e| e.to_string())
}

/// The slots of a worker's pool.
fn slots(limits: &Limits) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::default();
    // One store at a time. A component may have several core instances, memories and tables, and all of them
    // need slots of their own. A module with more than these is loaded without the pool.
    pool.total_component_instances(1);
    pool.total_core_instances(24);
    pool.total_memories(8);
    pool.total_tables(TABLES_MAX);
    pool.max_memories_per_component(8);
    pool.max_tables_per_component(TABLES_MAX);
    pool.max_core_instances_per_component(24);
    pool.max_memories_per_module(8);
    pool.max_tables_per_module(TABLES_MAX);
    pool.table_elements(limits.table_elements);
    pool.linear_memory_keep_resident(KEEP_RESIDENT);
    pool.table_keep_resident(TABLE_KEEP_RESIDENT);
    // The heap of the collector is one more memory.
    pool.total_gc_heaps(1);
    // Synchronous calls need no fiber stacks.
    pool.total_stacks(0);
    pool
}

/// The engine of workers whose module does not fit into the pool.
pub(super) fn on_demand(
    limits: &Limits,
    codegen: Codegen,
    profile: Option<ProfilingStrategy>,
) -> Result<Engine, String> {
    Engine::new(&profiled(config(limits, codegen), profile)).map_err(|e| e.to_string())
}

/// Sets the profiler of the engine, which writes the files for `perf` when a module is loaded. The profile of
/// a guest (`guest/profile.rs`) needs no setting.
fn profiled(mut config: Config, profile: Option<ProfilingStrategy>) -> Config {
    config.profiler(match profile {
        Some(ProfilingStrategy::PerfMap) => wasmtime::ProfilingStrategy::PerfMap,
        Some(ProfilingStrategy::JitDump) => wasmtime::ProfilingStrategy::JitDump,
        Some(ProfilingStrategy::Guest { .. }) | None => wasmtime::ProfilingStrategy::None,
    });
    config
}
