//! Speed beside another way to do the same: retries, and CPython's round trip.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wpool::{Isolation, Pool};

use super::process::{MIXED, UPPER, load, median, number, repo, wpool};

/// The seconds of `wpool map` when each tenth record fails. The arguments are the number of records and the
/// retries.
pub(crate) fn retries(args: &[String]) -> Result<Vec<f64>, String> {
    let (count, retries) = (number(args, 0)?, args.get(1).map_or("0", String::as_str));
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).map_err(|e| e.to_string())?;
    let (input, output) = (dir.path().join("records"), dir.path().join("results"));
    let record = |n: usize| format!("{}{n:08}\n", if n % 10 == 3 { 'E' } else { 'a' });
    std::fs::write(&input, (0..count).map(record).collect::<String>()).map_err(|e| e.to_string())?;
    let right: String = (0..count).filter(|n| n % 10 != 3).map(record).collect();
    let stdout = std::fs::File::create(&output).map_err(|e| e.to_string())?;
    let mut command = wpool(&["map"]);
    command.arg(repo(MIXED)).arg(&input).args(["-q", "--reuse", "-j2", "--retries", retries]);
    command.args(["--failure-output", "never"]).stdout(stdout);
    let started = Instant::now();
    let status = command.status().map_err(|e| e.to_string())?;
    let took = started.elapsed().as_secs_f64();
    // Exit code 1: some tasks have failed.
    if status.code() != Some(1) {
        return Err(format!("wpool ended with {status}"));
    }
    let results = std::fs::read(&output).map_err(|e| e.to_string())?;
    if results == right.as_bytes() { Ok(vec![took]) } else { Err("wrong results".to_owned()) }
}

/// The median microseconds of one task there and back in a warm pool of two. The arguments are the number of
/// tasks, and the seconds of rest before each.
pub(crate) fn round_trip(args: &[String]) -> Result<Vec<f64>, String> {
    let count = number(args, 0)?;
    let pause = args.get(1).and_then(|arg| arg.parse().ok()).map_or(Duration::ZERO, Duration::from_secs_f64);
    let module = load(UPPER)?;
    let builder = Pool::builder(&module).processes(2).lazy(false).isolation(Isolation::Reuse);
    let pool = builder.build().map_err(|e| e.to_string())?;
    let upper = pool.func::<&str, Vec<u8>>("run").map_err(|e| e.to_string())?;
    let once = || {
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
        let started = Instant::now();
        match pool.apply(&upper, "sixteen bytes ok") {
            Ok(result) if result == b"SIXTEEN BYTES OK" => Ok(started.elapsed().as_secs_f64() * 1e6),
            other => Err(format!("{other:?}")),
        }
    };
    for _ in 0..50 {
        once()?;
    }
    let mut took = (0..count).map(|_| once()).collect::<Result<Vec<f64>, String>>()?;
    Ok(vec![median(&mut took)])
}

/// The same in CPython's pool. The first argument is the Python.
pub(crate) fn python_round_trip(args: &[String]) -> Result<Vec<f64>, String> {
    let [python, count, pause] = args else {
        return Err("expected a Python, a count and a pause".to_owned());
    };
    let mut command = Command::new(python);
    command.arg(repo("host/benches/peers/peers.py")).args(["round-trip", "pool", count, pause]);
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("{python} cannot be run: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.trim().parse() {
        Ok(micros) if output.status.success() => Ok(vec![micros]),
        _ => Err(format!("{python}: {}: {}", output.status, text.trim())),
    }
}
