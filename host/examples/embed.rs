//! An application that embeds wpool and is its own worker. Runs the module of the first argument over all
//! others.
//!
//! `cargo run --release --example embed -- guest/prebuilt/upper.wasm one two three`

use std::process::ExitCode;

use wpool::{Module, Pool};

fn main() -> ExitCode {
    // First of all: in a worker, which is this program started by a pool, the call does not return.
    wpool::init();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("embed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).collect::<Vec<_>>().into_iter();
    let module = Module::load(args.next().ok_or("which module?")?)?;
    let pool = Pool::builder(&module).processes(2).build()?;
    let run = pool.func::<String, String>("run")?;
    for result in pool.imap(&run, args) {
        println!("{}", result?);
    }
    Ok(())
}
