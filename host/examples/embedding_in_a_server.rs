//! A server whose requests share one pool. Each line of a client is a task, and gets an answer in time,
//! whatever the guest does. In Python: a `ThreadingTCPServer` whose handlers call
//! `pool.apply_async(run, (line,)).get(timeout)`.
//!
//! Without an address the server answers a few clients of its own and ends. With one it serves until it is
//! stopped:
//!
//! `cargo run --release --example embedding_in_a_server -- 127.0.0.1:7000`

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use wpool::{Func, Module, Pool, TaskError};

/// The limit for the guest's work on one line.
const TASK_TIMEOUT: Duration = Duration::from_secs(1);
/// The limit for a client's wait. Longer than the task's own limit: the task may queue behind others.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    wpool::init();
    let module = Module::load(concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/prebuilt/failing.wasm"))?;
    // `lazy(false)`: the workers start now, so a guest that cannot run is an error before the first request.
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
            let client = |line| std::thread::spawn(move || ask(TcpStream::connect(address)?, line));
            let clients = clients.map(client);
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
            // A client that disconnects ends its own thread only.
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
                // The client has its answer, so the task has no use any more.
                result.cancel();
                "503 busy".to_owned()
            }
        }
    }
}

/// The status code of HTTP for an error: 4xx for the client's mistakes, 5xx for all others.
fn status_of(error: &TaskError) -> u16 {
    match error {
        TaskError::Failed { .. } | TaskError::BadRecord { .. } => 400,
        TaskError::Limit { .. } => 504,
        TaskError::Cancelled | TaskError::Closed | TaskError::Broken { .. } => 503,
        // The guest trapped, exited, or ended its worker. No other request is affected.
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
