//! The cases of `tests/futures` on executors that wpool itself does not depend on, in a program that has
//! turned on every feature of what it shares with wpool.

#[path = "../../futures/by_hand.rs"]
mod by_hand;
#[path = "../../futures/cases.rs"]
mod cases;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;

use by_hand::block_on;
use wpool::Module;

/// A future for any executor.
type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs it to its end.
type Run = fn(Boxed);

/// The executors, each of which runs a future to its end.
const EXECUTORS: [(&str, Run); 2] = [
    ("smol", |future| smol::block_on(smol::spawn(future))),
    ("tokio, with all of its features", |future| tokio::runtime::Runtime::new().unwrap().block_on(future)),
];

/// A prebuilt guest. The application is the worker.
fn guest(name: &str) -> Module {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../guest/prebuilt/{name}.wasm"));
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    Module::loader().program(env!("CARGO_BIN_EXE_consumer")).cache_dir(cache).load(path).unwrap()
}

/// The program ends by itself if a test hangs: see the main suite.
fn time_bound() {}
