//! Shows that what grows stays cheap and fair: a row for each promise, with a small and a large measurement
//! of the same run, and their ratio.
//!
//!     cargo bench -p wpool --bench growth                          # all rows, about ten minutes
//!     cargo bench -p wpool --bench growth -- --quick --only jobs   # a first look at some
//!
//! Each measurement has a process of its own, because peak memory and processor time cannot be reset, and a
//! measurement that hangs must not hang the others. `docs/performance.md` has the last table.

mod jobs;
mod measurements;
mod memory;
mod process;
mod report;
mod speed;
mod values;
mod workers;

#[path = "../peers/machine.rs"]
#[expect(dead_code, reason = "a part of it is for the benchmark `peers`")]
mod machine;

use std::collections::BTreeSet;
use std::process::ExitCode;

use measurements::Measurement;

const HELP: &str = "\
What grows, on this machine: wpool beside itself with less of the same

Usage: cargo bench -p wpool --bench growth -- [OPTIONS]

      --quick         smaller measurements: a first look in about two minutes
      --only A,B      these measurements only; a name's first part stands for all that begin with it
      --list          name the measurements
      --python PATH   the Python of the round trips [default: python3]

A table in Markdown goes to stdout, progress to stderr. Without Python the round trips have no peer.
Exit code 1 if a measurement failed, hung, or had wrong results. A missed goal is no failure.";

#[derive(Debug, Default)]
struct Options {
    quick: bool,
    only: BTreeSet<String>,
    list: bool,
    python: Option<String>,
}

fn main() -> ExitCode {
    // This program is its own worker, and runs each measurement in a copy of itself.
    wpool::init();
    if let Some(code) = process::asked() {
        return code;
    }
    match parse(std::env::args().skip(1)) {
        Ok(Some(options)) => match run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("growth: {why}");
                ExitCode::FAILURE
            }
        },
        Ok(None) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("growth: {why}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

/// The options; `None`: the help is asked for.
fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options::default();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--quick" => options.quick = true,
            "--only" => options.only.extend(value()?.split(',').map(str::to_owned)),
            "--list" => options.list = true,
            "--python" => options.python = Some(value()?),
            "-h" | "--help" => return Ok(None),
            // `cargo bench` passes it.
            "--bench" => {}
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(Some(options))
}

fn run(options: &Options) -> Result<(), String> {
    let mut all = measurements::all(options.quick, options.python.as_deref().unwrap_or("python3"));
    let is_meant = |measurement: &Measurement, name: &String| measurement.name.starts_with(name.as_str());
    if let Some(name) = options.only.iter().find(|name| !all.iter().any(|one| is_meant(one, name))) {
        return Err(format!("there is no measurement {name}; --list names them"));
    }
    all.retain(|one| options.only.is_empty() || options.only.iter().any(|name| is_meant(one, name)));
    if options.list {
        all.iter().for_each(|one| println!("{}", one.name));
        return Ok(());
    }
    let (load, cache) = (machine::load(), tempfile::tempdir().map_err(|e| e.to_string())?);
    println!("Measured {}. Load before: {load}.\n", machine::description());
    println!("{}", report::HEAD);
    let mut failed = Vec::new();
    for measurement in &all {
        eprint!("\r\x1b[K{}: {}", measurement.name, measurement.small.label);
        let small = process::measure(&measurement.small, cache.path());
        eprint!("\r\x1b[K{}: {}", measurement.name, measurement.large.label);
        let large = process::measure(&measurement.large, cache.path());
        eprint!("\r\x1b[K");
        report::rows(measurement, &small, &large).iter().for_each(|row| println!("{row}"));
        let reasons = [small.err(), large.err()].into_iter().flatten();
        failed.extend(reasons.map(|why| format!("{}: {why}", measurement.name)));
    }
    println!("\n{}", report::LAST);
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}
