//! What the integration tests share.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wpool::{Module, ModuleLoader};

/// The program under test, which is also the worker of every pool here.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_wpool"))
}

/// A file of the repository.
pub fn repo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A loader with the program under test as worker, and a cache of the build's own.
pub fn loader() -> ModuleLoader {
    Module::loader().program(program()).cache_dir(Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"))
}

/// A prebuilt guest.
pub fn guest(name: &str) -> Module {
    loader().load(repo(&format!("guest/prebuilt/{name}.wasm"))).unwrap()
}

/// A module from its text.
pub fn wat(text: &str) -> Module {
    loader().from_bytes(text.as_bytes()).unwrap()
}

/// The worker processes (zygotes and compilers too) that `parent` has started and that have not ended. A worker's command line names its parent.
pub fn workers_of(parent: u32) -> Vec<u32> {
    let parent = parent.to_string();
    let is_worker = |pid: &u32| {
        let cmdline = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let args: Vec<&[u8]> = cmdline.split(|b| *b == 0).collect();
        args.get(1) == Some(&&b"__wpool-worker"[..]) && args.get(3) == Some(&parent.as_bytes())
    };
    let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(is_worker).collect()
}

/// Fails unless every worker process of `parent` is gone within two seconds.
#[track_caller]
pub fn assert_no_workers(parent: u32) {
    wait_until("no worker process is left", Duration::from_secs(2), || workers_of(parent).is_empty());
}

/// Waits for a condition that no event announces.
#[track_caller]
pub fn wait_until(what: &str, at_most: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + at_most;
    while !holds() {
        assert!(Instant::now() < end, "not within {at_most:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
