//! Applications that embed the library and are their own workers.

mod support;

use std::process::Command;

use support::{example, repo, time_bound};

/// Runs a program in a directory of its own, with a cache of its own.
fn run(program: &std::path::Path, args: &[&str]) -> (Option<i32>, String, String) {
    let dir = support::temp_dir();
    let copy = dir.path().join("app");
    support::renamed(program, &copy);
    let module = repo("guest/prebuilt/upper.wasm").canonicalize().unwrap();
    let cache = dir.path().join("cache");
    let mut command = Command::new(copy);
    command.arg(module).args(args).current_dir(dir.path()).env_clear().env("WPOOL_CACHE_DIR", cache);
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn an_application_is_its_own_worker_wherever_it_lies() {
    let _bound = time_bound();
    let (code, stdout, stderr) = run(&example("embed"), &["one", "two", "three"]);
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "ONE\nTWO\nTHREE\n", ""));
}

#[test]
fn p50_forgetting_init_is_a_clear_error_before_any_process() {
    let _bound = time_bound();
    let (code, stdout, stderr) = run(&example("forgot_init"), &[]);
    let said = "error: call wpool::init() first thing in main(), so that this program can be its own worker, \
                or point to an installed `wpool` with ModuleLoader::program\n";
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), said, ""));
}
