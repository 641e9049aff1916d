//! A test program: an application that forgot `wpool::init()`.

fn main() {
    let path = std::env::args().nth(1).expect("the path of a module");
    match wpool::Module::load(path) {
        Ok(_) => println!("loaded"),
        Err(error) => println!("error: {error}"),
    }
}
