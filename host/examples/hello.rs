//! The example of the README for embedding wpool, word for word.

use wpool::{Module, Pool};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    wpool::init(); // first thing, before any thread: the program is its own worker
    let module = Module::load("guest/prebuilt/hello.wasm")?;
    let pool = Pool::builder(&module).processes(5).build()?;
    let hello = pool.func::<String, String>("run")?;
    for greeting in pool.imap(&hello, (0..13).map(|n| n.to_string())) {
        println!("{}", greeting?);
    }
    Ok(())
}
