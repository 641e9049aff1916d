//! The workloads of `docs/performance.md`: their contenders, and the number of tasks for each.
//!
//! Slow contenders have fewer tasks than fast ones, so that all runs take about the same time. Figures are
//! for one task. Whole commands are timed from the start of the program to its end.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wpool::Isolation;

use super::bench::{Bench, Input, Rounds, XORSHIFT, repo};
use super::library;
use super::machine;
use super::measure::{Contender, Sample, Unit, Workload};
use super::native::Work;

/// Names of contenders, by which ratios and targets find them.
pub(crate) const MAP: &str = "CPython Pool.map";
pub(crate) const CHUNK_1: &str = "CPython Pool.map, chunksize=1";
pub(crate) const BINDING_REUSED: &str = "CPython Pool + wasmtime binding, reused";
pub(crate) const BINDING_FRESH: &str = "CPython Pool + wasmtime binding, fresh";
pub(crate) const REUSE: &str = "wpool --reuse";
pub(crate) const REUSE_SDK: &str = "wpool --reuse, SDK's Rust guest";
pub(crate) const REUSE_BARE: &str = "wpool --reuse --sandbox off";
pub(crate) const LOGGED: &str = "wpool --reuse --joblog";
pub(crate) const LOGGED_SDK: &str = "wpool --reuse --joblog, SDK's Rust guest";
pub(crate) const JSONL: &str = "wpool --reuse --format jsonl";
pub(crate) const JSONL_SDK: &str = "wpool --reuse --format jsonl, SDK's Rust guest";
pub(crate) const FRESH: &str = "wpool --fresh";
pub(crate) const FRESH_SDK: &str = "wpool --fresh, SDK's Rust guest";
pub(crate) const WPOOL: &str = "wpool";
pub(crate) const BARE: &str = "wpool --sandbox off";
pub(crate) const FIRST_RUN: &str = "wpool map, nothing cached";
pub(crate) const COMPILE: &str = "wpool compile, nothing cached";
pub(crate) const AWAKE: &str = "wpool Pool::apply";
pub(crate) const ASLEEP: &str = "wpool Pool::apply, after 2 ms of rest";
pub(crate) const APPLY: &str = "CPython Pool.apply";
pub(crate) const APPLY_ASLEEP: &str = "CPython Pool.apply, after 2 ms of rest";
pub(crate) const JOBS: usize = 2;

const UPPER: &str = "host/benches/guests/upper.wat";
const UPPER_SDK: &str = "guest/prebuilt/upper.wasm";
const ECHO: &str = "guest/examples/wat/echo.wat";
/// The largest of the prebuilt guests, so that the time of compiling shows.
const STATS: &str = "guest/prebuilt/stats.wasm";

/// The sizes of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) quick: bool,
    pub(crate) records: usize,
    pub(crate) rounds: Rounds,
}

impl Size {
    fn tasks(self, full: usize) -> usize {
        if self.quick { full.div_ceil(4) } else { full }
    }
}

pub(crate) const IDS: [&str; 12] =
    ["W1", "W2t", "W2", "W3", "W4", "W5", "W5x13", "W5first", "W6", "W7", "W8", "W9"];
pub(crate) const T13: &str = "T13";

/// Whether `--only` with this name chooses this workload. `W5` chooses W5, W5x13 and W5first.
pub(crate) fn is_meant(id: &str, name: &str) -> bool {
    id == name || (name == "W5" && id.starts_with("W5"))
}

pub(crate) fn workload<'b>(id: &str, bench: &'b Bench, size: Size) -> Workload<'b> {
    match id {
        "W1" => upper_case(bench, size),
        "W2t" => short_tasks(bench, size),
        "W2" => same_work(bench, size),
        "W3" => long_tasks(bench, size),
        "W4" => megabytes(bench, size),
        "W5" => start("W5", "the whole command, 1 task", 1, 1, bench),
        "W5x13" => start("W5x13", "the whole command, 13 tasks, -j 5", 13, 5, bench),
        "W5first" => first_run(bench),
        "W6" => memory(bench),
        "W7" => processes(bench, size),
        "W8" => round_trip(bench, size),
        "W9" => uneven(bench, size),
        _ => coordinator(bench, size),
    }
}

fn upper_case<'b>(bench: &'b Bench, size: Size) -> Workload<'b> {
    let lines = |count| {
        bench.input(
            &format!("w1-{count}"),
            Work::Upper,
            (0..count).map(|n| format!("sixteen {n:08}").into_bytes()),
        )
    };
    let (most, many, some, few) =
        (lines(1_000_000), lines(size.tasks(200_000)), lines(size.tasks(10_000)), lines(size.tasks(1_000)));
    let artefact = bench.artefact(UPPER);
    let log = bench.file("joblog");
    let log = log.to_str().expect("a temporary directory has a name in UTF-8");
    let mut contenders = vec![
        bench.map(REUSE, UPPER, &most, &["--reuse", "-j2"]),
        bench.map(REUSE_SDK, UPPER_SDK, &most, &["--reuse", "-j2"]),
        bench.map(REUSE_BARE, UPPER, &most, &["--reuse", "-j2", "--sandbox", "off"]),
        bench.map(LOGGED, UPPER, &most, &["--reuse", "-j2", "--joblog", log]),
        bench.map(LOGGED_SDK, UPPER_SDK, &most, &["--reuse", "-j2", "--joblog", log]),
        bench.map(JSONL, UPPER, &most, &["--reuse", "-j2", "--format", "jsonl"]),
        bench.map(JSONL_SDK, UPPER_SDK, &most, &["--reuse", "-j2", "--format", "jsonl"]),
        bench.map(FRESH, UPPER, &many, &["-j2"]),
        bench.map(FRESH_SDK, UPPER_SDK, &many, &["-j2"]),
        bench.floor(&most, 1),
    ];
    contenders.extend(bench.python(MAP, "python", "map", &most, JOBS, None));
    contenders.extend(bench.python(CHUNK_1, "python", "chunksize=1", &some, JOBS, None));
    contenders.extend(bench.python("CPython imap_unordered", "python", "imap_unordered", &some, JOBS, None));
    contenders.extend(executors(bench, &many, &few));
    contenders.extend(bindings(bench, artefact, &some));
    contenders.extend(bench.parallel(&most, JOBS, true));
    contenders.extend(commands(bench, &few));
    Workload {
        id: "W1",
        title: "upper-case a 16-byte line: the overhead of a task",
        unit: Unit::PerSecond,
        second: Some(("CPU us", Unit::Micros)),
        baseline: MAP,
        contenders,
    }
}

/// Python's other pools: with the chunks that `Pool.map` would make, and with one task at a time.
fn executors<'b>(bench: &'b Bench, many: &Input, few: &Input) -> Vec<Contender<'b>> {
    let all = [
        bench.python("ProcessPoolExecutor, chunked", "python", "executor", many, JOBS, None),
        bench.python("ProcessPoolExecutor", "python", "executor-1", few, JOBS, None),
        bench.python("loky, chunked", "loky", "loky", many, JOBS, None),
        bench.python("loky", "loky", "loky-1", few, JOBS, None),
        bench.python("pebble", "pebble", "pebble-1", few, JOBS, None),
    ];
    all.into_iter().flatten().collect()
}

fn bindings<'b>(bench: &'b Bench, artefact: Option<PathBuf>, input: &Input) -> Vec<Contender<'b>> {
    let Some(artefact) = artefact else { return Vec::new() };
    let binding = |name, how| bench.python(name, "wasmtime", how, input, JOBS, Some(artefact.clone()));
    [binding(BINDING_REUSED, "binding-reused"), binding(BINDING_FRESH, "binding-fresh")]
        .into_iter()
        .flatten()
        .collect()
}

/// A process for each task.
fn commands<'b>(bench: &'b Bench, input: &Input) -> Vec<Contender<'b>> {
    // It takes some milliseconds for each task.
    let few = bench.input(
        "few",
        input.work,
        std::fs::read(&input.path)
            .map_or_else(
                |_| Vec::new(),
                |text| super::native::lines(&text).take(100).map(<[u8]>::to_vec).collect(),
            )
            .into_iter(),
    );
    [bench.xargs(input, JOBS), bench.parallel(&few, JOBS, false)].into_iter().flatten().collect()
}

/// Lines of `rounds` rounds each, with sixteen different seeds.
fn rounds_of(bench: &Bench, name: &str, count: usize, rounds: impl Fn(usize) -> u64) -> Input {
    let lines = (0..count).map(|n| format!("{} {}", rounds(n), n % 16 + 1).into_bytes());
    bench.input(&format!("{name}-{count}"), Work::Xorshift, lines)
}

/// Sets the ideal time of the contenders. The table then has the column *of the ideal*.
fn with_ideal<'b>(
    contenders: impl IntoIterator<Item = Contender<'b>>,
    secs: f64,
    workers: usize,
) -> Vec<Contender<'b>> {
    let workers = workers.min(machine::cores()) as f64;
    let ideal = |contender: Contender<'b>| {
        let ideal = Some(secs * contender.ops / workers);
        Contender { ideal, ..contender }
    };
    contenders.into_iter().map(ideal).collect()
}

/// The maps of CPython's pool.
fn maps<'b>(bench: &'b Bench, input: &Input) -> impl Iterator<Item = Contender<'b>> {
    let maps = [(MAP, "map"), (CHUNK_1, "chunksize=1"), ("CPython imap_unordered", "imap_unordered")];
    maps.map(|(name, how)| bench.python(name, "python", how, input, JOBS, None)).into_iter().flatten()
}

fn short_tasks<'b>(bench: &'b Bench, size: Size) -> Workload<'b> {
    let tasks = |name: &str, full, rounds| rounds_of(bench, name, size.tasks(full), |_| rounds);
    let Rounds { wasm, native, python } = size.rounds;
    let ours = tasks("w2t-wasm", 16_000, wasm);
    let (theirs, few) = (tasks("w2t-python", 12_000, python), tasks("w2t-python-few", 2_000, python));
    let artefact = bench.artefact(XORSHIFT);
    let mut contenders = vec![
        bench.map(REUSE, XORSHIFT, &ours, &["--reuse", "-j2"]),
        bench.map(FRESH, XORSHIFT, &ours, &["-j2"]),
        bench.floor(&tasks("w2t-native", 16_000, native), JOBS),
    ];
    contenders.extend(maps(bench, &theirs));
    contenders.extend(executors(bench, &theirs, &few));
    contenders.extend(bindings(bench, artefact, &tasks("w2t-binding", 6_000, wasm)));
    contenders.extend(commands(bench, &tasks("w2t-native-few", 1_000, native)));
    Workload {
        id: "W2t",
        title: "a loop of 100 us in each engine: the overhead of a pool",
        unit: Unit::PerSecond,
        second: Some(("CPU us", Unit::Micros)),
        baseline: MAP,
        contenders: with_ideal(contenders, 100e-6, JOBS),
    }
}

fn same_work<'b>(bench: &'b Bench, size: Size) -> Workload<'b> {
    let tasks = |full| rounds_of(bench, "w2", size.tasks(full), |_| 60_000);
    let (many, some, few) = (tasks(8_000), tasks(2_000), tasks(100));
    let artefact = bench.artefact(XORSHIFT);
    let mut contenders = vec![
        bench.map(REUSE, XORSHIFT, &many, &["--reuse", "-j2"]),
        bench.map(FRESH, XORSHIFT, &many, &["-j2"]),
        bench.floor(&many, JOBS),
    ];
    contenders.extend(bench.python(MAP, "python", "map", &few, JOBS, None));
    contenders.extend(bindings(bench, artefact, &some));
    contenders.extend(commands(bench, &some));
    Workload {
        id: "W2",
        title: "60,000 rounds of xorshift in each language: what a user gets",
        unit: Unit::PerSecond,
        second: None,
        baseline: MAP,
        contenders,
    }
}

fn long_tasks<'b>(bench: &'b Bench, size: Size) -> Workload<'b> {
    let Rounds { wasm, native, python } = size.rounds;
    // Divisible by each number of workers: otherwise the last round leaves some workers idle.
    let tasks = |name: &str, rounds: u64| rounds_of(bench, name, 32, |_| 500 * rounds);
    let (ours, theirs, bare) =
        (tasks("w3-wasm", wasm), tasks("w3-python", python), tasks("w3-native", native));
    let mut contenders = Vec::new();
    for jobs in [1, 2, 4, 16] {
        let option = format!("-j{jobs}");
        let named = |mut contender: Contender<'b>| {
            contender.name = format!("{} {option}", contender.name);
            contender
        };
        let mut group = vec![bench.map("wpool", XORSHIFT, &ours, &[&option])];
        if jobs <= 4 && !(size.quick && jobs == 4) {
            group.push(Contender { name: "native, threads".to_owned(), ..bench.floor(&bare, jobs) });
            group.extend(bench.python(MAP, "python", "map", &theirs, jobs, None));
            group.extend(bench.python(CHUNK_1, "python", "chunksize=1", &theirs, jobs, None));
            group.extend(bench.xargs(&bare, jobs));
        }
        contenders.extend(with_ideal(group.into_iter().map(named), 50e-3, jobs));
    }
    Workload {
        id: "W3",
        title: "32 tasks of 50 ms: scaling",
        unit: Unit::PerSecond,
        second: None,
        baseline: "CPython Pool.map -j2",
        contenders,
    }
}

fn megabytes<'b>(bench: &'b Bench, size: Size) -> Workload<'b> {
    let lines = |count: usize| {
        let line = |n: usize| format!("{n:016}").into_bytes().repeat(1 << 16);
        bench.input(&format!("w4-{count}"), Work::Echo, (0..count).map(line))
    };
    let (many, some, few) = (lines(size.tasks(256)), lines(size.tasks(48)), lines(2));
    let artefact = bench.artefact(ECHO);
    let mut contenders = vec![
        bench.map(REUSE, ECHO, &many, &["--reuse", "-j2"]),
        bench.map(FRESH, ECHO, &many, &["-j2"]),
        bench.floor(&many, 1),
    ];
    contenders.extend(bench.python(MAP, "python", "map", &some, JOBS, None));
    contenders.extend(bench.python(CHUNK_1, "python", "chunksize=1", &some, JOBS, None));
    contenders.extend(bench.python("loky, chunked", "loky", "loky", &some, JOBS, None));
    contenders.extend(bindings(bench, artefact, &few));
    contenders.extend(bench.parallel(&some, JOBS, true));
    Workload {
        id: "W4",
        title: "echo of 1 MiB lines: bandwidth",
        unit: Unit::MibPerSecond,
        second: Some(("CPU us", Unit::Micros)),
        baseline: MAP,
        contenders,
    }
}

fn start<'b>(
    id: &'static str,
    title: &'static str,
    tasks: usize,
    jobs: usize,
    bench: &'b Bench,
) -> Workload<'b> {
    let lines = (0..tasks).map(|n| format!("line {n}").into_bytes());
    let input = bench.input(&format!("w5-{tasks}"), Work::Upper, lines);
    let option = format!("-j{jobs}");
    let mut contenders = vec![
        bench.map(WPOOL, UPPER, &input, &[&option]),
        bench.map("wpool, SDK's Rust guest", UPPER_SDK, &input, &[&option]),
        bench.map(BARE, UPPER, &input, &[&option, "--sandbox", "off"]),
        bench.floor(&input, 1),
    ];
    contenders.extend(bench.python(MAP, "python", "map", &input, jobs, None));
    contenders.extend(bench.python("ProcessPoolExecutor", "python", "executor-1", &input, jobs, None));
    contenders.extend(bench.python("loky", "loky", "loky-1", &input, jobs, None));
    contenders.extend(bench.python("pebble", "pebble", "pebble-1", &input, jobs, None));
    contenders.extend(bench.xargs(&input, jobs));
    contenders.extend(bench.parallel(&input, jobs, false));
    // One operation is one whole command.
    contenders.iter_mut().for_each(|contender| contender.ops = 1.0);
    Workload { id, title, unit: Unit::Millis, second: None, baseline: MAP, contenders }
}

fn first_run(bench: &Bench) -> Workload<'_> {
    let input = bench.file("w5-first");
    std::fs::write(&input, "{\"values\": [1, 2, 3]}\n").expect("a temporary file can be written");
    let nothing_cached = |name: &str, subcommand: &'static str, input: Option<PathBuf>| {
        let run = move || {
            let cache = bench.file("first");
            drop(std::fs::remove_dir_all(&cache));
            let mut command = Command::new(&bench.program);
            command.args([subcommand, "--quiet"]).arg(repo(STATS)).args(&input);
            command.env("WPOOL_CACHE_DIR", &cache).stdin(Stdio::null()).stdout(Stdio::null());
            let started = Instant::now();
            let status = command.status().map_err(|e| e.to_string())?;
            let value = started.elapsed().as_secs_f64();
            if status.success() { Ok(Sample { value, second: None }) } else { Err(status.to_string()) }
        };
        Contender { name: name.to_owned(), ops: 1.0, ideal: None, run: Box::new(run) }
    };
    Workload {
        id: "W5first",
        title: "the first run of a Rust guest of 130 KB, 1 task",
        unit: Unit::Millis,
        second: None,
        baseline: COMPILE,
        contenders: vec![
            nothing_cached(FIRST_RUN, "map", Some(input)),
            nothing_cached(COMPILE, "compile", None),
        ],
    }
}

/// A contender whose figure `peers.py` measures and prints.
fn printed<'b>(
    bench: &'b Bench,
    name: &str,
    needs: &str,
    args: &[&str],
    ops: f64,
    scale: f64,
) -> Option<Contender<'b>> {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let run = move || {
        let text = bench.python_says(&args.iter().map(String::as_str).collect::<Vec<_>>())?;
        let mut figures = text.split_whitespace().map(str::parse::<f64>);
        match (figures.next(), figures.next()) {
            (Some(Ok(value)), second) => {
                Ok(Sample { value: value * scale, second: second.and_then(Result::ok) })
            }
            _ => Err(format!("it printed {text:?}")),
        }
    };
    bench.has(needs).then(|| Contender { name: name.to_owned(), ops, ideal: None, run: Box::new(run) })
}

fn memory(bench: &Bench) -> Workload<'_> {
    let (small, sdk) = (library::load(UPPER), library::load(UPPER_SDK));
    let mut contenders = vec![
        library::memory(REUSE, &small, 8, Isolation::Reuse),
        library::memory(FRESH, &small, 8, Isolation::Fresh),
        library::memory(FRESH_SDK, &sdk, 8, Isolation::Fresh),
    ];
    contenders.extend(printed(bench, MAP, "python", &["memory", "pool", "8"], 1.0, 1.0));
    contenders.extend(printed(
        bench,
        "ProcessPoolExecutor",
        "python",
        &["memory", "executor", "8"],
        1.0,
        1.0,
    ));
    Workload {
        id: "W6",
        title: "private memory of an idle worker, -j 8",
        unit: Unit::Kib,
        second: Some(("PSS KiB", Unit::Kib)),
        baseline: MAP,
        contenders,
    }
}

fn processes<'b>(bench: &'b Bench, size: Size) -> Workload<'b> {
    let mut contenders = vec![
        library::start_join("wpool Process", &library::load(UPPER), size.tasks(200)),
        library::start_join("wpool Process, no sandbox", &library::load_bare(UPPER), size.tasks(200)),
        library::start_join("wpool Process, SDK's Rust guest", &library::load(UPPER_SDK), size.tasks(200)),
        library::replaced_workers("wpool Pool, one task per worker", &library::load(UPPER), size.tasks(200)),
    ];
    for (method, full) in [("fork", 200), ("forkserver", 40), ("spawn", 12)] {
        let count = size.tasks(full);
        let args = ["start-join", method, &count.to_string()];
        contenders.extend(printed(
            bench,
            &format!("CPython Process, {method}"),
            "python",
            &args,
            count as f64,
            1.0,
        ));
    }
    Workload {
        id: "W7",
        title: "a process: start, one task, join",
        unit: Unit::PerSecond,
        second: None,
        baseline: "CPython Process, fork",
        contenders,
    }
}

fn round_trip<'b>(bench: &'b Bench, size: Size) -> Workload<'b> {
    let small = library::load(UPPER);
    let (count, paused) = (size.tasks(4_000), size.tasks(200));
    let rest = Duration::from_millis(2);
    let mut contenders = vec![
        library::round_trips(AWAKE, &small, count, Duration::ZERO),
        library::round_trips(ASLEEP, &small, paused, rest),
    ];
    let python = |name: &str, needs: &str, how: &str, count: usize, pause: &str| {
        printed(bench, name, needs, &["round-trip", how, &count.to_string(), pause], 1.0, 1e-6)
    };
    contenders.extend(python(APPLY, "python", "pool", count, "0"));
    contenders.extend(python(APPLY_ASLEEP, "python", "pool", paused, "0.002"));
    contenders.extend(python("ProcessPoolExecutor", "python", "executor", count / 4, "0"));
    contenders.extend(python("loky", "loky", "loky", count / 4, "0"));
    contenders.extend(python("pebble", "pebble", "pebble", count / 4, "0"));
    Workload {
        id: "W8",
        title: "one task there and back, a warm pool of 2",
        unit: Unit::Micros,
        second: None,
        baseline: APPLY,
        contenders,
    }
}

/// Tasks of 20 us, and the last eighth of 2 ms. A pool that deals them out in eight chunks gives nearly all
/// the work to one worker.
fn uneven<'b>(bench: &'b Bench, size: Size) -> Workload<'b> {
    const TASKS: usize = 2_000;
    let is_long = |n: usize| n >= TASKS - TASKS / 8;
    let secs = (0..TASKS).map(|n| if is_long(n) { 2e-3 } else { 20e-6 }).sum::<f64>() / TASKS as f64;
    let tasks = |name: &str, rounds: u64| {
        rounds_of(bench, name, TASKS, |n| if is_long(n) { 20 * rounds } else { rounds / 5 })
    };
    let Rounds { wasm, native, python } = size.rounds;
    let (ours, theirs) = (tasks("w9-wasm", wasm), tasks("w9-python", python));
    let mut contenders = vec![
        bench.map(REUSE, XORSHIFT, &ours, &["--reuse", "-j2"]),
        bench.map(FRESH, XORSHIFT, &ours, &["-j2"]),
        bench.floor(&tasks("w9-native", native), JOBS),
    ];
    contenders.extend(maps(bench, &theirs));
    contenders.extend(bench.python(
        "ProcessPoolExecutor, chunked",
        "python",
        "executor",
        &theirs,
        JOBS,
        None,
    ));
    contenders.extend(bench.xargs(&tasks("w9-native", native), JOBS));
    Workload {
        id: "W9",
        title: "2,000 uneven tasks, the last eighth a hundred times as long",
        unit: Unit::PerSecond,
        second: None,
        baseline: MAP,
        contenders: with_ideal(contenders, secs, JOBS),
    }
}

/// The peak of the memory of the command itself, which reads records, deals them out and writes results.
fn coordinator<'b>(bench: &'b Bench, size: Size) -> Workload<'b> {
    bench.compile(UPPER);
    let of = |name: &str, count: usize| {
        let lines = (0..count).map(|n| format!("sixteen {:08}", n % 100_000_000).into_bytes());
        let input = bench.input(&format!("t13-{count}"), Work::Upper, lines);
        let run =
            move || peak(bench, &input, &["--reuse", "-j2"]).map(|(value, _)| Sample { value, second: None });
        Contender { name: name.to_owned(), ops: 1.0, ideal: None, run: Box::new(run) }
    };
    bench.compile(LARGE);
    let behind_a_slow_one = |name: &str, args: &'static [&'static str]| {
        let lines = (0..400).map(|n| if n == 0 { b"slow".to_vec() } else { b"x".to_vec() });
        let input = bench.input("t13-large", Work::Upper, lines);
        let run =
            move || peak_of(bench, LARGE, &input, args).map(|(value, _)| Sample { value, second: None });
        Contender { name: name.to_owned(), ops: 1.0, ideal: None, run: Box::new(run) }
    };
    Workload {
        id: T13,
        title: "memory of the coordinator",
        unit: Unit::Kib,
        second: None,
        baseline: TENTH,
        contenders: vec![
            of(TENTH, size.records.div_ceil(10)),
            of(ALL, size.records),
            behind_a_slow_one("8 MiB each, the first slow", &["-j2"]),
            behind_a_slow_one("8 MiB each, the first slow, jsonl", &["-j2", "--format", "jsonl"]),
        ],
    }
}

pub(crate) const TENTH: &str = "a tenth of the records";
pub(crate) const ALL: &str = "all records";
/// A guest whose results are large.
const LARGE: &str = "host/benches/guests/large.wat";

/// Runs a `wpool map`. Returns the peak of its memory in KiB, and its seconds.
pub(crate) fn peak(bench: &Bench, input: &Input, args: &[&str]) -> Result<(f64, f64), String> {
    peak_of(bench, UPPER, input, args)
}

fn peak_of(bench: &Bench, module: &str, input: &Input, args: &[&str]) -> Result<(f64, f64), String> {
    let mut command = bench.wpool(&["map"]);
    command.arg(repo(module)).arg(&input.path).args(args).stdin(Stdio::null()).stdout(Stdio::null());
    let started = Instant::now();
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    let (status, peak) = machine::wait_with_peak(&mut child)?;
    if !status.success() || peak == 0.0 {
        return Err(format!("{status}, peak {peak}"));
    }
    Ok((peak, started.elapsed().as_secs_f64()))
}

/// A contender that is a whole `wpool map` with a guest of these benchmarks.
pub(crate) fn echo<'b>(bench: &'b Bench, input: &Input) -> Contender<'b> {
    bench.map(REUSE, ECHO, input, &["--reuse", "-j2"])
}
