//! The life of one process. In Python:
//!
//! ```python
//! p = multiprocessing.Process(target=run, args=("bob:1000",), name="Greeter")
//! print(p, p.is_alive())
//! p.start()
//! p.join()
//! print(p.exitcode)
//! ```
//!
//! `cargo run --release --example process_lifecycle`

use std::time::Duration;

use wpool::process::{ExitReason, active_children};
use wpool::{Limits, Module, Process, Target, TaskError};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    wpool::init();
    let prebuilt = |name: &str| format!("{}/../guest/prebuilt/{name}.wasm", env!("CARGO_MANIFEST_DIR"));
    let hello = Module::load(std::env::args().nth(1).unwrap_or(prebuilt("hello")))?;

    let target = Target::func("run").arg("bob:1000");
    let mut process = Process::builder(&hello).target(target).name("Greeter").build()?;
    println!("initial: alive {}, exitcode {:?}", process.is_alive(), process.exitcode());

    process.start()?;
    let children = active_children().into_iter().map(|child| child.name);
    println!("started: alive {}, children {:?}", process.is_alive(), children.collect::<Vec<_>>());
    if process.join_timeout(Duration::ZERO)?.is_none() {
        println!("join_timeout: the process still runs");
    }

    let status = process.join()?;
    println!("stopped: alive {}, exitcode {}", process.is_alive(), status.exitcode);
    // The value that the target has returned. Python drops it.
    let greeting: String = process.result().ok_or("the process has no result")?;
    println!("result: {}", greeting.split(" (").next().unwrap_or_default());
    process.close().map_err(|process| format!("{process:?} is still alive"))?;

    // Exit codes are those of Python. `reason` tells more.
    let failing = Module::load(prebuilt("failing"))?;
    for record in ["good", "bad", "panic", "exit", "loop"] {
        let mut limits = Limits::default();
        limits.time = Some(Duration::from_millis(200));
        let target = Target::func("run").arg(record);
        let mut process = Process::builder(&failing).target(target).limits(limits).build()?;
        process.start()?;
        let status = process.join()?;
        let reason = match &status.reason {
            ExitReason::Returned => "returned",
            ExitReason::Failed(TaskError::Failed { message }) => message,
            ExitReason::Failed(error) => error.kind(),
            _ => "ended from outside",
        };
        println!("{record}: exitcode {}, {reason}", status.exitcode);
    }

    // Dropping a daemon's handle kills it. `terminate` ends any process before that.
    let mut endless =
        Process::builder(&failing).target(Target::func("run").arg("loop")).daemon(true).build()?;
    endless.start()?;
    endless.terminate()?;
    println!("terminated: exitcode {}", endless.join()?.exitcode);
    Ok(())
}
