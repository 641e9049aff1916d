//! A test program: a pool with one worker in an endless loop and one that is idle, and a process that sleeps;
//! it says that they are there, then waits for the end of its input.

use std::io::Read;
use std::time::Duration;

use wpool::events::WorkerState;
use wpool::{Module, Pool, Process, StartMethod, Target};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    wpool::init();
    let args: Vec<String> = std::env::args().collect();
    let [_, method, failing, hello] = &args[..] else { return Err("held METHOD FAILING HELLO".into()) };
    let method = if method == "spawn" { StartMethod::Spawn } else { StartMethod::Forkserver };
    let pool = Pool::builder(&Module::load(failing)?).processes(2).start_method(method).build()?;
    let run = pool.func::<&str, String>("run")?;
    let (_endless, short) = (pool.apply_async(&run, "loop"), pool.apply_async(&run, "short"));
    short.get()?;
    let mut process =
        Process::builder(&Module::load(hello)?).target(Target::func("run").arg("bob:60000")).build()?;
    process.start()?;
    let there = || {
        let states: Vec<WorkerState> = pool.workers().iter().map(|w| w.state).collect();
        states.contains(&WorkerState::Busy) && states.contains(&WorkerState::Idle)
    };
    while !there() {
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
