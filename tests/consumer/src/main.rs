//! A pool, processes and a compilation in an application whose other dependencies have all their features
//! turned on: see Cargo.toml. It is its own worker. Prints `all is well`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wpool::policy::DirAccess;
use wpool::{Limits, Module, Policy, Pool, Process, StartMethod, Target};

// All that is in the manifest is really in this program.
use {
    bytes as _, crossbeam_channel as _, libc as _, memchr as _, rand_core as _, rustix as _, serde_json as _,
    tracing as _, wasmtime_wasi as _,
};

fn guest(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest/prebuilt").join(name).with_extension("wasm")
}

fn main() -> Result<(), Box<dyn Error>> {
    // Before the runtime, which starts threads.
    wpool::init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // What wpool does here blocks, and gets a thread for that.
    let done = tokio::task::spawn_blocking;
    runtime.block_on(async { done(|| work().map_err(|e| e.to_string())).await })??;
    // The application's own engine, beside.
    let engine = wasmtime::Engine::default();
    wasmtime::Module::new(&engine, [0, b'a', b's', b'm', 1, 0, 0, 0])?;
    println!("all is well");
    Ok(())
}

fn work() -> Result<(), Box<dyn Error>> {
    let cache = std::env::temp_dir().join(format!("wpool-consumer-{}", std::process::id()));
    // Compiled, and then from the cache.
    for _ in 0..2 {
        let load = |name| Module::loader().cache_dir(&cache).load(guest(name));
        let (upper, hello, failing) = (load("upper")?, load("hello")?, load("failing")?);
        for method in [StartMethod::Forkserver, StartMethod::Spawn, StartMethod::Thread] {
            let pool = Pool::builder(&upper).processes(2).start_method(method).build()?;
            let run = pool.func::<String, String>("run")?;
            let lines = (0..1000).map(|n| format!("line {n}"));
            assert_eq!(pool.map(&run, lines)?[999], "LINE 999");
            // It sleeps: the runtime's timer.
            let pool = Pool::builder(&hello).processes(2).start_method(method).build()?;
            let run = pool.func::<&str, String>("run")?;
            assert!(pool.map(&run, ["a:20", "b:20", "c:20", "d:0"])?[0].starts_with("hello a"));
            // It fails in all ways, and at a time limit.
            let pool = Pool::builder(&failing).processes(2).start_method(method);
            let pool = pool.task_timeout(Duration::from_millis(300)).build()?;
            let run = pool.func::<&str, String>("run")?;
            let kinds = pool.try_map(&run, ["good", "bad", "panic", "exit", "loop"]).into_iter();
            let kinds: Vec<_> = kinds.map(|outcome| outcome.map_err(|error| error.kind())).collect();
            assert_eq!(kinds, [Ok("good".to_owned()), Err("failed"), Err("trap"), Err("exit"), Err("time")]);
            let mut process =
                Process::builder(&hello).start_method(method).target(Target::func("run").arg("e:20")).build()?;
            process.start()?;
            assert_eq!(process.join()?.exitcode, 0);
        }
        // Files and connections need more of the runtime, and of the calls.
        for method in [StartMethod::Forkserver, StartMethod::Spawn] {
            let upper = guest("upper");
            let guests = upper.parent().ok_or("no directory")?;
            let policy = Policy::sealed().dir(guests, "/guests", DirAccess::ReadOnly).net("127.0.0.1:9");
            let pool = Pool::builder(&hello).processes(1).start_method(method);
            let pool = pool.policy(policy).limits(Limits::default()).build()?;
            let run = pool.func::<&str, String>("run")?;
            assert!(pool.apply(&run, "f:20")?.starts_with("hello f"));
        }
    }
    std::fs::remove_dir_all(&cache)?;
    Ok(())
}
