//! What shared objects cost, beside those of CPython's multiprocessing in the same run.
//!
//!     cargo bench -p wpool --bench exchange              # all rows, about a minute
//!     cargo bench -p wpool --bench exchange -- --quick
//!
//! The guest `shuttle` (guest/examples) uses an object again and again inside of one task, and measures
//! itself. `exchange.py` does the same with processes of CPython. Items have 100 bytes, the walls are on.

#[path = "../peers/machine.rs"]
#[expect(dead_code, reason = "a part of it is for the benchmark `peers`")]
mod machine;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use wpool::ipc::{Queue, simplex_pipe};
use wpool::sync::{Event, Lock};
use wpool::{Module, Policy, Pool};

const HELP: &str = "\
What shared objects cost, on this machine: wpool beside CPython's multiprocessing

Usage: cargo bench -p wpool --bench exchange -- [OPTIONS]

      --quick         fewer repetitions
      --python PATH   the Python to compare with [default: python3]

A table in Markdown goes to stdout, progress to stderr. Without Python there is no comparison.";

/// Items of one call in bulk, as in the guest.
const BULK: f64 = 256.0;
/// Repetitions in CPython at most. A lock of a worker's own takes so little time that the guest's clock, which
/// counts milliseconds, needs many more.
const PYTHON_COUNT_MAX: u32 = 20_000;
/// Each figure is the median of this many.
const ROUNDS: usize = 3;

/// A row: what is measured, by which tasks, and how fast it should be.
struct Row {
    what: &'static str,
    /// The commands of the guest. The figure is that of the last.
    tasks: &'static [&'static str],
    /// Repetitions without `--quick`.
    count: u32,
    /// Operations in one repetition.
    operations: f64,
    /// The function of `exchange.py`.
    python: Option<&'static str>,
    /// Microseconds at most.
    goal: f64,
}

const ROWS: [Row; 7] = [
    row("Queue, put to get, for each item", &["put", "get"], 50_000, "queue", 4.0),
    Row {
        operations: BULK,
        python: None,
        ..row("the same in calls of 256 items", &["put-bulk", "get-bulk"], 1_000, "", 0.5)
    },
    Row { python: None, ..row("Queue, put alone", &["put"], 100_000, "", 2.0) },
    row("Queue, there and back", &["echo", "ask"], 10_000, "queue_round_trip", 62.0),
    row("Pipe, send to recv", &["send", "recv"], 50_000, "pipe", 3.4),
    row("Lock, acquire and release, alone", &["lock"], 1_000_000, "lock", 0.3),
    row("Lock, two processes in turns", &["lock", "lock"], 100_000, "lock_turns", 30.0),
];

const fn row(
    what: &'static str,
    tasks: &'static [&'static str],
    count: u32,
    python: &'static str,
    goal: f64,
) -> Row {
    Row { what, tasks, count, operations: 1.0, python: Some(python), goal }
}

fn main() -> ExitCode {
    wpool::init();
    let (mut is_quick, mut python) = (false, "python3".to_owned());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => is_quick = true,
            "--python" => python = args.next().unwrap_or_default(),
            // Cargo passes it.
            "--bench" => {}
            _ => {
                println!("{HELP}");
                return ExitCode::from(if arg == "--help" { 0 } else { 2 });
            }
        }
    }
    match run(is_quick, &python) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("exchange: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(is_quick: bool, python: &str) -> Result<(), String> {
    println!("{}\n", machine::description());
    println!("| what | wpool | CPython | CPython / wpool | goal | |");
    println!("|---|---:|---:|---:|---:|---|");
    for row in &ROWS {
        eprintln!("{}", row.what);
        let count = if is_quick { row.count / 10 } else { row.count };
        let mut ours = (0..ROUNDS).map(|_| measure(row, count)).collect::<Result<Vec<f64>, String>>()?;
        let ours = median(&mut ours);
        let theirs = row.python.and_then(|what| compare(python, what, count.min(PYTHON_COUNT_MAX)));
        let (theirs, ratio) = match theirs {
            Some(theirs) => (format!("{theirs:.3} us"), format!("{:.2}", theirs / ours)),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let verdict = if ours <= row.goal { "met" } else { "**not met**" };
        println!("| {} | {ours:.3} us | {theirs} | {ratio} | <= {} us | {verdict} |", row.what, row.goal);
    }
    Ok(())
}

/// The microseconds of one operation.
fn measure(row: &Row, count: u32) -> Result<f64, String> {
    let (items, back) = (Queue::<Vec<u8>>::unbounded(), Queue::<Vec<u8>>::unbounded());
    let (receiver, sender) = simplex_pipe::<Vec<u8>>();
    let (lock, start) = (Lock::new(), Event::new());
    let policy = Policy::sealed()
        .share("items", &items)
        .share("back", &back)
        .share("receiver", &receiver)
        .share("sender", &sender)
        .share("lock", &lock)
        .share("start", &start);
    let module = Module::load(guest()).map_err(|e| e.to_string())?;
    let builder = Pool::builder(&module).processes(row.tasks.len()).lazy(false).policy(policy);
    let pool = builder.build().map_err(|e| e.to_string())?;
    let shuttle = pool.func::<String, String>("run").map_err(|e| e.to_string())?;
    let tasks: Vec<_> =
        row.tasks.iter().map(|task| pool.apply_async(&shuttle, format!("{task} {count}"))).collect();
    // All of them wait for the event by then. If one does not, its figure is a little too good.
    std::thread::sleep(Duration::from_millis(100));
    start.set();
    let took = tasks.into_iter().map(|task| task.get().map_err(|e| e.to_string()));
    let took = took.collect::<Result<Vec<String>, String>>()?;
    let last = took.last().and_then(|figure| figure.parse::<f64>().ok()).ok_or("no figure")?;
    Ok(last / row.operations)
}

/// The same in CPython. `None`: there is no Python.
fn compare(python: &str, what: &str, count: u32) -> Option<f64> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/exchange/exchange.py");
    let once = || {
        let mut command = Command::new(python);
        command.arg(&script).args([what, &count.to_string()]);
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().ok()?;
        String::from_utf8_lossy(&output.stdout).trim().parse().ok()
    };
    let mut figures = (0..ROUNDS).map(|_| once()).collect::<Option<Vec<f64>>>()?;
    Some(median(&mut figures))
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn guest() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest/prebuilt/shuttle.wasm")
}
