//! A server whose requests share one pool: each line that a client sends is a task, and each has an answer in time, whatever the guest does
//! with it. In Python this would be a `ThreadingTCPServer` whose handlers call `pool.apply_async(run, (line,)).get(timeout)`.
//!
//! Without an address the server asks itself a few questions and ends; with one it serves until it is stopped:
//!
//! `cargo run --release --example embedding_in_a_server -- 127.0.0.1:7000`

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use wpool::{Func, Module, Pool, TaskError};

/// What a guest may take for one line, and what a client waits for at most: it may be behind others.
const TASK_TIMEOUT: Duration = Duration::from_secs(1);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    wpool::init();
    let module = Module::load(concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/prebuilt/failing.wasm"))?;
    // Ready before the first request comes; a guest that cannot be run is found out now.
    let pool = Pool::builder(&module).processes(2).task_timeout(TASK_TIMEOUT).lazy(false).build()?;
    let run = pool.func::<String, String>("run")?;
    let service = Arc::new(Service { pool, run });
    match std::env::args().nth(1) {
        Some(address) => service.serve(&TcpListener::bind(address)?)?,
        None => {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let address = listener.local_addr()?;
            std::thread::spawn(move || service.serve(&listener));
            let clients = ["good", "loop", "bad luck", "panic", "good again"];
            let clients = clients.map(|line| std::thread::spawn(move || ask(TcpStream::connect(address)?, line)));
            for client in clients {
                println!("{}", client.join().map_err(|_| "a client has panicked")??);
            }
        }
    }
    Ok(())
}

struct Service {
    pool: Pool,
    run: Func<String, String>,
}

impl Service {
    fn serve(self: &Arc<Self>, listener: &TcpListener) -> io::Result<()> {
        for client in listener.incoming() {
            let (service, client) = (self.clone(), client?);
            // A client that goes away takes its own thread with it, nothing else.
            std::thread::spawn(move || service.handle(client));
        }
        Ok(())
    }

    fn handle(&self, mut client: TcpStream) -> io::Result<()> {
        for line in BufReader::new(client.try_clone()?).lines() {
            writeln!(client, "{}", self.answer(line?))?;
        }
        Ok(())
    }

    fn answer(&self, line: String) -> String {
        let mut result = self.pool.apply_async(&self.run, line);
        match result.get_timeout(ANSWER_TIMEOUT) {
            Ok(Ok(value)) => format!("200 {value}"),
            Ok(Err(error)) => format!("{} {error}", status_of(&error)),
            Err(_) => {
                // Nobody will ask again.
                result.cancel();
                "503 busy".to_owned()
            }
        }
    }
}

/// Whose fault it was, in HTTP's numbers.
fn status_of(error: &TaskError) -> u16 {
    match error {
        TaskError::Failed { .. } | TaskError::BadRecord { .. } => 400,
        TaskError::Limit { .. } => 504,
        TaskError::Cancelled | TaskError::Closed | TaskError::Broken { .. } => 503,
        // The guest's: it trapped, left, or took its worker down. Nobody else has noticed.
        _ => 500,
    }
}

/// A client: one line, one answer.
fn ask(mut server: TcpStream, line: &str) -> io::Result<String> {
    writeln!(server, "{line}")?;
    let mut answer = String::new();
    BufReader::new(server).read_line(&mut answer)?;
    Ok(format!("{line}: {}", answer.trim_end()))
}
