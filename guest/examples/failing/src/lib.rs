//! Fails in every way a guest can, as the start of the record says: `bad` is an error, `panic` a trap, `exit` ends the
//! guest with exit code 3 (1 for the host: WASI 0.2 knows success and failure), `loop` never ends. Any other record comes back as it is.
#![forbid(unsafe_code)]

#[wpool_guest::task]
fn fail(record: String) -> Result<String, String> {
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
