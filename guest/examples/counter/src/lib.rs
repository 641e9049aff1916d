//! A guest with state: counts its calls, starting with the argument of its initializer.
//!
//! With a new instance for each task all results are equal. With one instance for each worker they go up.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

static COUNT: AtomicU64 = AtomicU64::new(0);

#[wpool_guest::init]
fn init(args: Vec<String>) -> Result<(), String> {
    let base = match args.as_slice() {
        [] => 0,
        [base] => base
            .parse()
            .map_err(|_| format!("expected a number to count from, got {base:?}"))?,
        more => {
            return Err(format!(
                "expected one number to count from, got {} arguments",
                more.len()
            ));
        }
    };
    COUNT.store(base, Ordering::Relaxed);
    Ok(())
}

#[wpool_guest::task]
fn run(_record: &str) -> String {
    (COUNT.fetch_add(1, Ordering::Relaxed) + 1).to_string()
}

#[wpool_guest::shutdown]
fn shutdown() {
    println!("counted to {}", COUNT.load(Ordering::Relaxed));
}
