//! What a task, a round trip, a megabyte, a start and a worker cost, beside CPython's multiprocessing in the same run.
//!
//! `cargo bench -p wpool` prints medians of shuffled rounds, and ratios: on a shared machine only those mean anything. CPython is left out where
//! there is no `python3`. The numbers in the first column name the workloads of the performance notes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wpool::{Isolation, Module, Pool, Process, Sandbox, Target};

const ROUNDS: usize = 5;
const WORKERS: usize = 2;

/// Tasks of 16 bytes per round; fewer in fresh mode, which is slower.
const TINY: usize = 400_000;
const TINY_FRESH: usize = 60_000;
const ROUND_TRIPS: usize = 1_000;
const MEGABYTES: usize = 48;
const PROCESSES: usize = 60;

/// One contender's way to do one workload. The result is the time it took.
type Run<'a> = Box<dyn Fn() -> Duration + 'a>;

struct Workload<'a> {
    name: &'static str,
    /// Operations in a run.
    count: usize,
    unit: &'static str,
    contenders: Vec<(&'static str, Run<'a>)>,
}

fn main() {
    wpool::init();
    let echo = load("guest/examples/wat/echo.wat");
    let bare = load_bare("guest/examples/wat/echo.wat");
    let upper = load("guest/prebuilt/upper.wasm");
    let python = has_python();
    let inputs = Inputs::create();
    let mut workloads = workloads(&echo, &bare, &upper, &inputs);
    if python {
        add_python(&mut workloads, &inputs);
    }
    println!("{:<44} {:<26} {:>12} {:>9} {:>8}", "workload", "contender", "per op", "spread", "ratio");
    for workload in &workloads {
        measure(workload);
    }
    if !python {
        println!("(no python3 here: no ratios)");
    }
}

fn workloads<'a>(echo: &'a Module, bare: &'a Module, upper: &'a Module, inputs: &'a Inputs) -> Vec<Workload<'a>> {
    let run = |f: Box<dyn Fn() -> Duration + 'a>, name| (name, f);
    vec![
        Workload {
            name: "W1 a 16-byte record, many at a time",
            count: TINY,
            unit: "us",
            contenders: vec![
                run(Box::new(|| stream(echo, Isolation::Reuse, TINY)), "wpool --reuse"),
                run(Box::new(|| stream(bare, Isolation::Reuse, TINY)), "wpool --reuse, no sandbox"),
                run(
                    Box::new(|| scaled(stream(bare, Isolation::Fresh, TINY_FRESH), TINY_FRESH, TINY)),
                    "wpool --fresh, no sandbox",
                ),
                run(Box::new(|| scaled(stream(echo, Isolation::Fresh, TINY_FRESH), TINY_FRESH, TINY)), "wpool --fresh"),
                run(
                    Box::new(|| scaled(stream(upper, Isolation::Fresh, TINY_FRESH), TINY_FRESH, TINY)),
                    "wpool --fresh, Rust guest",
                ),
            ],
        },
        Workload {
            name: "W8 one task at a time, there and back",
            count: ROUND_TRIPS,
            unit: "us",
            contenders: vec![run(Box::new(|| round_trips(echo)), "wpool Pool::apply")],
        },
        Workload {
            name: "W4 a record of 1 MiB, there and back",
            count: MEGABYTES,
            unit: "us",
            contenders: vec![run(Box::new(|| megabytes(echo)), "wpool")],
        },
        Workload {
            name: "W5 the whole command, one task",
            count: 1,
            unit: "us",
            contenders: vec![run(Box::new(|| command(&inputs.one, 1)), "wpool map, module cached")],
        },
        Workload {
            name: "W5 the whole command, 13 tasks, 5 workers",
            count: 1,
            unit: "us",
            contenders: vec![run(Box::new(|| command(&inputs.thirteen, 5)), "wpool map, module cached")],
        },
        Workload {
            name: "W7 a process: start, one task, join",
            count: PROCESSES,
            unit: "us",
            contenders: vec![
                run(Box::new(|| processes(echo)), "wpool Process (exec)"),
                run(Box::new(|| processes(bare)), "the same, no sandbox"),
                run(Box::new(|| replaced_workers(echo)), "wpool Pool, one task a worker"),
                run(Box::new(|| replaced_workers(bare)), "the same, no sandbox"),
                run(Box::new(|| replaced_workers(upper)), "the same, Rust guest"),
            ],
        },
    ]
}

// Ours.

fn load(path: &str) -> Module {
    Module::load(repo(path)).expect("the guests are in the repository")
}

/// The same, with the first wall only: what the second costs.
fn load_bare(path: &str) -> Module {
    Module::loader().sandbox(Sandbox::Off).load(repo(path)).expect("the guests are in the repository")
}

fn repo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn pool(module: &Module, isolation: Isolation) -> Pool {
    Pool::builder(module).processes(WORKERS).isolation(isolation).build().expect("the guest exports run")
}

/// Records through the stream interface, as the command line uses it, with warm workers.
fn stream(module: &Module, isolation: Isolation, count: usize) -> Duration {
    let pool = pool(module, isolation);
    warm(&pool);
    let started = Instant::now();
    let (mut records, mut outcomes) = pool.stream(&Target::default(), true).expect("the pool runs");
    std::thread::scope(|scope| {
        scope.spawn(move || records.push_all((0..count).map(|_| &b"sixteen bytes ok"[..])));
        let mut bytes = 0;
        while outcomes.take_into(&mut |outcome| bytes += outcome.result().expect("echo returns").len()) {}
        assert_eq!(bytes, 16 * count);
    });
    started.elapsed()
}

fn warm(pool: &Pool) {
    let run = pool.func::<&str, Vec<u8>>("run").expect("the guest exports run");
    pool.map(&run, ["warm"; 16 * WORKERS]).expect("echo returns");
}

fn scaled(took: Duration, from: usize, to: usize) -> Duration {
    took.mul_f64(to as f64 / from as f64)
}

fn round_trips(module: &Module) -> Duration {
    let pool = pool(module, Isolation::Reuse);
    warm(&pool);
    let run = pool.func::<&str, Vec<u8>>("run").expect("the guest exports run");
    let started = Instant::now();
    for _ in 0..ROUND_TRIPS {
        pool.apply(&run, "sixteen bytes ok").expect("echo returns");
    }
    started.elapsed()
}

fn megabytes(module: &Module) -> Duration {
    let pool = pool(module, Isolation::Reuse);
    warm(&pool);
    let run = pool.func::<Vec<u8>, Vec<u8>>("run").expect("the guest exports run");
    let record = vec![b'x'; 1 << 20];
    let started = Instant::now();
    let records = std::iter::repeat_with(move || record.clone()).take(MEGABYTES);
    for result in pool.imap(&run, records) {
        assert_eq!(result.expect("echo returns").len(), 1 << 20);
    }
    started.elapsed()
}

fn command(input: &Path, jobs: usize) -> Duration {
    let started = Instant::now();
    let status = Command::new(env!("CARGO_BIN_EXE_wpool"))
        .args(["map", "--quiet", "-j", &jobs.to_string()])
        .arg(repo("guest/prebuilt/upper.wasm"))
        .arg(input)
        .stdout(Stdio::null())
        .status()
        .expect("the program is built with its benchmarks");
    assert!(status.success());
    started.elapsed()
}

fn processes(module: &Module) -> Duration {
    let started = Instant::now();
    for _ in 0..PROCESSES {
        let target = Target::func("run").arg("x");
        let mut process = Process::builder(module).target(target).build().expect("the guest exports run");
        process.start().expect("a process can be started");
        assert_eq!(process.join().expect("it was started").exitcode, 0);
    }
    started.elapsed()
}

fn replaced_workers(module: &Module) -> Duration {
    let one = std::num::NonZeroU64::MIN;
    let pool = Pool::builder(module).processes(1).max_tasks_per_child(one).build().expect("the guest exports run");
    let run = pool.func::<&str, Vec<u8>>("run").expect("the guest exports run");
    pool.apply(&run, "warm").expect("echo returns");
    let started = Instant::now();
    for _ in 0..PROCESSES {
        pool.apply(&run, "x").expect("echo returns");
    }
    started.elapsed()
}

// CPython's.

/// Files for whole commands.
struct Inputs {
    dir: tempfile::TempDir,
    one: PathBuf,
    thirteen: PathBuf,
}

impl Inputs {
    fn create() -> Inputs {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let (one, thirteen) = (dir.path().join("one.txt"), dir.path().join("thirteen.txt"));
        let lines: String = (0..13).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&one, "line\n").expect("a temporary file can be written");
        std::fs::write(&thirteen, lines).expect("a temporary file can be written");
        Inputs { dir, one, thirteen }
    }
}

/// Prints the seconds that its timed part took; `W` workers, `N` operations.
const PYTHON: &str = r#"
import sys, time
from multiprocessing import Pool, Process
def f(x): return x.upper()
def nothing(): pass
def main():
    what, w, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if what == "process":
        t = time.perf_counter()
        for _ in range(n):
            p = Process(target=nothing); p.start(); p.join()
        print(time.perf_counter() - t); return
    if what == "command":
        with Pool(w) as p:
            sys.stdout.write("\n".join(p.map(f, open(sys.argv[4]).read().splitlines()))); return
    with Pool(w) as p:
        p.map(f, ["warm"] * (16 * w))
        # All different: pickle sends an object that it has sent before as a reference.
        items = ["%016d" % i for i in range(n)]
        t = time.perf_counter()
        if what == "map": p.map(f, items)
        elif what == "chunk1": p.map(f, items, chunksize=1)
        elif what == "apply":
            for _ in range(n): p.apply(f, ("sixteen bytes ok",))
        elif what == "mega":
            for r in p.imap(f, (b"x" * (1 << 20) for _ in range(n))): pass
        print(time.perf_counter() - t)
if __name__ == "__main__": main()
"#;

fn has_python() -> bool {
    let version = Command::new("python3").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

fn add_python<'a>(workloads: &mut [Workload<'a>], inputs: &'a Inputs) {
    let script = inputs.dir.path().join("contender.py");
    std::fs::write(&script, PYTHON).expect("a temporary file can be written");
    let timed = move |what: &'static str, workers: usize, count: usize, scale_to: usize| -> Run<'a> {
        let script = script.clone();
        Box::new(move || {
            let args = [what.to_owned(), workers.to_string(), count.to_string()];
            let output = Command::new("python3").arg(&script).args(args).output().expect("python3 was found before");
            let seconds: f64 =
                String::from_utf8_lossy(&output.stdout).trim().parse().expect("the script prints seconds");
            scaled(Duration::from_secs_f64(seconds), count, scale_to)
        })
    };
    let script = inputs.dir.path().join("contender.py");
    let whole = move |input: &'a Path, workers: usize| -> Run<'a> {
        let script = script.clone();
        Box::new(move || {
            let started = Instant::now();
            let args = ["command".to_owned(), workers.to_string(), "0".to_owned()];
            let status = Command::new("python3").arg(&script).args(args).arg(input).stdout(Stdio::null()).status();
            assert!(status.expect("python3 was found before").success());
            started.elapsed()
        })
    };
    workloads[0].contenders.push(("CPython Pool.map", timed("map", WORKERS, TINY, TINY)));
    workloads[0].contenders.push(("CPython, chunksize=1", timed("chunk1", WORKERS, TINY / 20, TINY)));
    workloads[1].contenders.push(("CPython Pool.apply", timed("apply", WORKERS, ROUND_TRIPS, ROUND_TRIPS)));
    workloads[2].contenders.push(("CPython Pool.imap", timed("mega", WORKERS, MEGABYTES, MEGABYTES)));
    workloads[3].contenders.push(("CPython Pool.map, script", whole(&inputs.one, 1)));
    workloads[4].contenders.push(("CPython Pool.map, script", whole(&inputs.thirteen, 5)));
    workloads[5].contenders.push(("CPython Process (fork)", timed("process", 1, PROCESSES, PROCESSES)));
}

// Measuring.

/// Runs the contenders in turn, each round beginning with another one, and prints the medians. The ratio is that of
/// the first of CPython's contenders to this one: above 1 is faster.
fn measure(workload: &Workload<'_>) {
    let contenders = &workload.contenders;
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); contenders.len()];
    for round in 0..ROUNDS {
        for turn in 0..contenders.len() {
            let at = (round + turn) % contenders.len();
            times[at].push(contenders[at].1());
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let medians: Vec<Duration> = times.iter_mut().map(median).collect();
    let first_python = contenders.iter().position(|(name, _)| name.starts_with("CPython"));
    for (at, (name, _)) in contenders.iter().enumerate() {
        let per_op = medians[at].as_secs_f64() * 1e6 / workload.count as f64;
        let spread = (times[at][ROUNDS - 1].as_secs_f64() / times[at][0].as_secs_f64() - 1.0) * 100.0;
        let ratio = first_python.map(|python| medians[python].as_secs_f64() / medians[at].as_secs_f64());
        let ratio = ratio.map_or(String::new(), |r| format!("{r:.2}x"));
        println!("{:<44} {name:<26} {per_op:>9.2} {} {spread:>7.0} % {ratio:>8}", workload.name, workload.unit);
    }
}
