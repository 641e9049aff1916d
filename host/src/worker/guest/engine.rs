//! One place for the engine's settings: compiler and loader must agree on them.

use wasmtime::wasmparser::WasmFeatures;
use wasmtime::{
    Collector, Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails,
};

use crate::spec::{Codegen, Features, Limits, ProfilingStrategy};

/// Of each memory, so many bytes are set to zero for the next instance instead of being given back to the kernel, which would cost two or three
/// page faults a task. Measured in one run, processor time of 200,000 fresh tasks: an import-free guest of one page 0.90 s with 128 KiB, 0.84 s with
/// 96 and 1.5 s with 64; the SDK's own guest 1.2, 2.0 and 3.0 s. It is what makes a worker with fresh instances some 100 KiB larger.
const KEEP_RESIDENT: usize = 128 << 10;
/// The same for tables.
const TABLE_KEEP_RESIDENT: usize = 4 << 10;

/// Tables of a component.
const TABLES_MAX: u32 = 24;
/// Bytes of address space that an element of a table may take: a pool has all its tables at their full size from the beginning.
pub(in crate::worker) const TABLE_ELEMENT_LEN: u64 = TABLES_MAX as u64 * 8;
/// With more, that is too much: 200 MB.
const POOLED_TABLE_ELEMENTS_MAX: usize = 1_000_000;

/// The WebAssembly that a module may use. Named here in full: the engine's own choice depends on the features
/// of its crate, which any program that this one is a part of can turn on.
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
    // What is thrown is an object of the collector's, too: without gc, it is the only one.
    wasm.set(WasmFeatures::GC_TYPES, features.gc || features.exceptions);
    // Where there are no types of objects, what is left of gc is how types of functions are written.
    wasm.set(WasmFeatures::GC, features.gc || !features.exceptions);
    wasm.set(WasmFeatures::EXCEPTIONS, features.exceptions);
    wasm
}

/// What machine code depends on. A change here wants a new number in `module/cache.rs`.
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
    // The engine would look for a variable of the environment.
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config.debug_info(false);
    // Deadlines, and a way out of any loop.
    config.epoch_interruption(true);
    // Guests are called synchronously: a third of the cost per call, and no fibers (measured; see the design notes).
    config.concurrency_support(false);
    config.max_wasm_stack(limits.stack);
    // The engine wants it to be the larger one. No call is asynchronous: such a stack is never made.
    config.async_stack_size(limits.stack.saturating_mul(2));
    config.consume_fuel(codegen.fuel);
    config.relaxed_simd_deterministic(codegen.deterministic);
    // Frames by name are enough for a message; a module with thousands of frames of recursion is not.
    config.wasm_backtrace_max_frames(std::num::NonZeroUsize::new(16));
    config
}

/// For the compiler process.
pub(super) fn compiling(limits: &Limits, codegen: Codegen) -> Result<Engine, String> {
    let mut config = config(limits, codegen);
    config.cranelift_opt_level(wasmtime::OptLevel::Speed);
    config.cranelift_nan_canonicalization(codegen.deterministic);
    Engine::new(&config).map_err(|e| e.to_string())
}

/// For workers: a few slots, made once in the zygote. A fresh instance costs a few microseconds.
pub(super) fn pooling(
    limits: &Limits,
    codegen: Codegen,
    profile: Option<ProfilingStrategy>,
) -> Result<Engine, String> {
    if limits.table_elements > POOLED_TABLE_ELEMENTS_MAX {
        return Err("the tables are too large for a pool".to_owned());
    }
    let mut pool = PoolingAllocationConfig::default();
    // One store at a time; a component may have several core instances, memories and tables.
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
    // The heap that is collected is one more memory.
    pool.total_gc_heaps(1);
    // Synchronous calls need no fiber stacks.
    pool.total_stacks(0);
    let mut config = profiled(config(limits, codegen), profile);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config).map_err(|e| e.to_string())
}

/// For workers whose module does not fit the pool.
pub(super) fn on_demand(
    limits: &Limits,
    codegen: Codegen,
    profile: Option<ProfilingStrategy>,
) -> Result<Engine, String> {
    Engine::new(&profiled(config(limits, codegen), profile)).map_err(|e| e.to_string())
}

/// The engine itself writes the files for `perf`, when a module is loaded. What is looked at while it runs is no matter of the engine's.
fn profiled(mut config: Config, profile: Option<ProfilingStrategy>) -> Config {
    config.profiler(match profile {
        Some(ProfilingStrategy::PerfMap) => wasmtime::ProfilingStrategy::PerfMap,
        Some(ProfilingStrategy::JitDump) => wasmtime::ProfilingStrategy::JitDump,
        Some(ProfilingStrategy::Guest { .. }) | None => wasmtime::ProfilingStrategy::None,
    });
    config
}
