// The hidden beginning of the examples in the documentation.
//
// The examples are tested as one program with a `main` of its own, which cannot be its own worker. The built
// `wpool` is the worker. Cargo builds it before it runs the examples, except for `cargo test --doc` alone.

#[allow(dead_code, reason = "not every example loads a module")]
fn loader() -> wpool::module::ModuleLoader {
    let program = program();
    wpool::Module::loader().cache_dir(program.with_file_name("doctest-cache")).program(program)
}

#[allow(dead_code, reason = "not every example starts a process")]
fn program() -> std::path::PathBuf {
    // Cargo's search paths contain that of this build, whatever its profile and its target directory are.
    let paths = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let beside = |deps: std::path::PathBuf| Some(deps.parent()?.join("wpool"));
    let mut programs = std::env::split_paths(&paths).filter(|path| path.ends_with("deps")).filter_map(beside);
    let program = programs.find(|program| program.is_file());
    program.expect("the program `wpool` is built: run `cargo build --release` first")
}

/// A prebuilt guest.
#[allow(dead_code, reason = "not every example needs one")]
fn guest(name: &str) -> Result<wpool::Module, wpool::ModuleError> {
    loader().load(format!("{}/../guest/prebuilt/{name}.wasm", env!("CARGO_MANIFEST_DIR")))
}

/// A module with functions of numbers: `add`, `square`, `fib`.
#[allow(dead_code, reason = "not every example needs them")]
fn numbers() -> Result<wpool::Module, wpool::ModuleError> {
    loader().load(concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/examples/wat/add.wat"))
}

/// A pool of two workers for a prebuilt guest.
#[allow(dead_code, reason = "not every example needs them")]
fn pool(name: &str) -> Result<wpool::Pool, Box<dyn std::error::Error>> {
    Ok(wpool::Pool::builder(&guest(name)?).processes(2).build()?)
}

/// A process for one record of a prebuilt guest. It is not started.
#[allow(dead_code, reason = "not every example needs one")]
fn process(name: &str, record: &str) -> Result<wpool::Process, Box<dyn std::error::Error>> {
    Ok(wpool::Process::builder(&guest(name)?).target(wpool::Target::func("run").arg(record)).build()?)
}
