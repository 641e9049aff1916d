//! Two processes and this program use a queue, a pipe, a lock and a recursive lock.
//!
//! The guest does what the text of its record says: guest/examples/exchange.
//!
//! `cargo run --release --example queue_pipe_lock`

use wpool::ipc::{Queue, pipe};
use wpool::sync::{Lock, RLock};
use wpool::{Module, Policy, Process, Target};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    wpool::init();
    let module = Module::load(concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/prebuilt/exchange.wasm"))?;
    let (jobs, results) = (Queue::<String>::bounded(10), Queue::<String>::unbounded());
    let (here, there) = pipe::<String>();
    let (lock, rlock) = (Lock::new(), RLock::new());
    let policy = Policy::sealed()
        .share("jobs", &jobs)
        .share("results", &results)
        .share("there", &there)
        .share("lock", &lock)
        .share("rlock", &rlock);
    let start = |script: &str| -> Result<Process, Box<dyn std::error::Error>> {
        let target = Target::func("run").arg(script);
        let mut process = Process::builder(&module).target(target).policy(policy.clone()).build()?;
        process.start()?;
        Ok(process)
    };

    // The second process takes what the first has put.
    let mut producer = start("put jobs tea; put jobs milk; close jobs")?;
    producer.join()?;
    let mut consumer = start("put results got; drain jobs")?;
    consumer.join()?;
    println!("queue: {} {}", results.get()?, consumer.result::<String>().ok_or("no result")?);

    // A process answers over a pipe.
    let mut answering = start("recv there; send there pong; hang-up there")?;
    here.send(&"ping".to_owned())?;
    println!("pipe: {}, then {}", here.recv()?, here.recv().unwrap_err());
    answering.join()?;

    // While this program holds a lock, a guest does not get it.
    let guard = lock.acquire()?;
    let mut waiting = start("catch acquire@50 lock:lock")?;
    waiting.join()?;
    println!("lock: {}", waiting.result::<String>().ok_or("no result")?);
    drop(guard);

    // A guest that ends without a release leaves nothing locked, and the next owner is told.
    let mut dying = start("acquire rlock:rlock; acquire rlock:rlock; trap")?;
    println!("rlock: {}", dying.join()?.exitcode);
    println!("rlock: its owner died: {}", rlock.acquire()?.owner_died());
    Ok(())
}
