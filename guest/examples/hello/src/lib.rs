//! Greets each name, and tells its process: the first example of Python's `multiprocessing`, as a guest.
//!
//! A record is a name, or `name:milliseconds`.
#![forbid(unsafe_code)]

use std::time::Duration;

use wpool_guest::process;

/// The pause after a greeting. Long enough for a second worker to start and take the second name.
const PAUSE_MS: u64 = 100;

#[wpool_guest::task]
fn run(record: &str) -> Result<String, String> {
    let (name, pause) = name_and_pause(record)?;
    let whoami = format!("{} (process {})", process::name(), process::id());
    println!("{whoami}");
    std::thread::sleep(pause);
    Ok(format!("hello {name} from {whoami}"))
}

fn name_and_pause(record: &str) -> Result<(&str, Duration), String> {
    let Some((name, millis)) = record.split_once(':') else {
        return Ok((record, Duration::from_millis(PAUSE_MS)));
    };
    let millis = millis.trim().parse();
    let millis = millis.map_err(|_| format!("expected name:milliseconds, got {record:?}"))?;
    Ok((name, Duration::from_millis(millis)))
}
