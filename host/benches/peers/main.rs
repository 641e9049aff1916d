//! Compares wpool with its peers in one run: the command `wpool map` (for some workloads the library),
//! CPython's pools, `xargs -P`, GNU parallel, and native code as the floor.
//!
//!     cargo bench -p wpool --bench peers                        # all of it, some minutes
//!     cargo bench -p wpool --bench peers -- --quick --only W1   # a first look
//!     cargo bench -p wpool --bench peers -- --scaling           # how costs grow
//!     cargo bench -p wpool --bench peers -- --all               # the tables of docs/performance.md
//!
//! On a shared machine only ratios inside one run mean anything. `docs/performance.md` describes the
//! workloads, and has the last tables.

mod bench;
mod library;
mod machine;
mod measure;
mod native;
mod options;
mod report;
mod scaling;
mod targets;
mod workloads;

use std::process::ExitCode;

use bench::Bench;
use measure::{Random, Results};
use options::{Options, Tables};
use workloads::{IDS, Size, T13};

fn main() -> ExitCode {
    if let Some(code) = native::asked() {
        return code;
    }
    wpool::init();
    let options = match options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err((false, help)) => {
            println!("{help}");
            return ExitCode::SUCCESS;
        }
        Err((true, why)) => {
            eprintln!("peers: {why}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("peers: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let ids = chosen(options)?;
    if options.list {
        println!("{}", ids.join("\n"));
        return Ok(());
    }
    let bench = Bench::new(options.python.as_deref().unwrap_or("python3"))
        .map_err(|e| format!("no temporary files: {e}"))?;
    if options.python.is_some() && !bench.has("python") {
        return Err(format!("{} cannot be run", options.python.as_deref().unwrap_or("the Python")));
    }
    let load = machine::load();
    let records = options.records.unwrap_or(if options.quick { 100_000 } else { 1_000_000 });
    let size = Size { quick: options.quick, records, rounds: bench.rounds() };
    println!("Measured {}. Load before: {load}.\n", machine::description());
    let compared = match options.tables {
        Tables::Scaling => Ok(()),
        Tables::Peers | Tables::All => compare(options, &bench, size, ids),
    };
    if options.tables != Tables::Peers {
        println!("{}", scaling::tables(&bench, size)?);
    }
    compared
}

/// The tables of the workloads and of the targets. An error names the contenders that failed, after
/// everything else has been printed.
fn compare(options: &Options, bench: &Bench, size: Size, ids: Vec<&'static str>) -> Result<(), String> {
    let rounds = options.rounds.unwrap_or(if options.quick { 3 } else { 5 });
    println!("Peers: {}. Medians of {rounds} shuffled rounds.\n", bench.peers());
    let mut random = Random(u64::from(std::process::id()) | 1 << 32);
    let mut all = Vec::new();
    for id in ids {
        let measured = measure::measure(workloads::workload(id, bench, size), rounds, &mut random);
        println!("{}", report::workload(&measured));
        all.push(measured);
    }
    println!("{}", report::targets(&Results::of(&all)));
    let failed = all.iter().flat_map(|measured| {
        let id = measured.workload.id;
        let named = measured.workload.contenders.iter().zip(&measured.figures);
        named.filter_map(move |(contender, figures)| {
            Some(format!("{id} {}: {}", contender.name, figures.as_ref().err()?))
        })
    });
    match failed.collect::<Vec<_>>() {
        failed if failed.is_empty() => Ok(()),
        failed => Err(failed.join("\n")),
    }
}

fn chosen(options: &Options) -> Result<Vec<&'static str>, String> {
    let all = IDS.into_iter().chain([T13]);
    let unknown = options.only.iter().find(|name| !all.clone().any(|id| workloads::is_meant(id, name)));
    match unknown {
        Some(name) => Err(format!("there is no workload {name}; --list names them")),
        None if options.only.is_empty() => Ok(all.collect()),
        None => Ok(all.filter(|id| options.only.iter().any(|name| workloads::is_meant(id, name))).collect()),
    }
}
