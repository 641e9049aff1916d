// Hidden beginning of the examples in the documentation, which are tested: they share one program that cannot be its own worker, so that the built
// `wpool` is theirs, as with `ModuleLoader::program`. Cargo builds it before it runs them (`cargo test --doc` alone does not).

#[allow(dead_code, reason = "not every example loads a module")]
fn loader() -> wpool::ModuleLoader {
    // Among Cargo's search paths is that of this build, whichever profile and target directory it has.
    let paths = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let beside = |deps: std::path::PathBuf| Some(deps.parent()?.join("wpool"));
    let program = std::env::split_paths(&paths).filter(|path| path.ends_with("deps")).filter_map(beside).find(|p| p.is_file());
    wpool::Module::loader().program(program.expect("the program `wpool` is built: run `cargo build --release` first"))
}

/// A prebuilt guest.
#[allow(dead_code, reason = "not every example needs one")]
fn guest(name: &str) -> Result<wpool::Module, wpool::ModuleError> {
    loader().load(concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/prebuilt/").to_owned() + name)
}
