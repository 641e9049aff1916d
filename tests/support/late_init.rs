//! A test program: calls `wpool::init` when it has threads already, as `#[tokio::main]` does, and prints the
//! result.

fn main() {
    let (_alive, ended) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || ended.recv());
    wpool::init();
    let module = std::env::args().nth(1).expect("late_init MODULE");
    match wpool::Module::load(&module) {
        Ok(_) => println!("no error"),
        Err(error) => println!("error: {error}"),
    }
}
