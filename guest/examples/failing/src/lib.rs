//! Fails in every way a guest can. The start of the record chooses the way:
//!
//! - `bad`: an error.
//! - `panic`: a trap.
//! - `exit`: ends the guest with exit code 3. The host sees 1: WASI 0.2 knows only success and failure.
//! - `loop`: never ends.
//!
//! The result for any other record is the record.
#![forbid(unsafe_code)]

#[wpool_guest::task]
fn run(record: String) -> Result<String, String> {
    match record.as_str() {
        bad if bad.starts_with("bad") => Err(format!("{bad} is bad")),
        panic if panic.starts_with("panic") => panic!("{panic}, as told"),
        exit if exit.starts_with("exit") => std::process::exit(3),
        endless if endless.starts_with("loop") => loop {
            std::hint::black_box(());
        },
        _ => Ok(record),
    }
}
