//! Two processes, and a queue, a pipe, a lock and a recursive lock between them. In Python:
//!
//! ```python
//! words, moved = multiprocessing.Queue(2), multiprocessing.Value("q", 0)
//! receiver, sender = multiprocessing.Pipe(duplex=False)
//! counting, turns = multiprocessing.Lock(), multiprocessing.RLock()
//! writer = multiprocessing.Process(target=write, args=(words, moved, counting, turns))
//! reader = multiprocessing.Process(target=read, args=(words, moved, counting, sender))
//! writer.start(), reader.start()
//! ```
//!
//! Here the processes open what they share by its name. The guest is `guest/examples/words`.
//!
//! `cargo run --release --example words`

use wpool::ipc::{IpcError, Queue, Value, simplex_pipe};
use wpool::sync::{Lock, RLock};
use wpool::{Module, Policy, Process, Target};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    wpool::init();
    let guest = format!("{}/../guest/prebuilt/words.wasm", env!("CARGO_MANIFEST_DIR"));
    let guest = Module::load(std::env::args().nth(1).unwrap_or(guest))?;

    // Two items at most: the writer waits for the reader.
    let (words, moved) = (Queue::<String>::bounded(2), Value::new(&0_i64)?);
    let (receiver, sender) = simplex_pipe::<String>();
    let policy = Policy::sealed()
        .share("words", &words)
        .share("moved", &moved)
        .share("to_host", &sender)
        .share("counting", &Lock::new())
        .share("turns", &RLock::new());
    // The end is now the processes'. If the reader dies, the receiver gets the end of the pipe.
    drop(sender);

    let process = |role: &str| {
        let target = Target::func("run").arg(role);
        Process::builder(&guest).target(target).name(role).policy(policy.clone()).build()
    };
    let (mut writer, mut reader) = (process("writer")?, process("reader")?);
    drop(policy);
    writer.start()?;
    reader.start()?;

    loop {
        match receiver.recv() {
            Ok(line) => println!("{line}"),
            Err(IpcError::Eof) => break,
            Err(error) => return Err(error.into()),
        }
    }
    println!("writer: exitcode {}", writer.join()?.exitcode);
    println!("reader: exitcode {}", reader.join()?.exitcode);
    println!("words put and got: {}", moved.get()?);
    println!("the queue is closed: {}", words.is_closed());
    Ok(())
}
