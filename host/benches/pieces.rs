//! The small pieces: values, loading a module from the cache, one task in a warm pool, calls of functions of
//! the application, and streams of records.
//!
//!     cargo bench -p wpool --bench pieces
//!     cargo bench -p wpool --bench pieces -- stream        # only those with `stream` in their name
//!
//! The benchmark `peers` compares wpool with other pools.

use std::path::{Path, PathBuf};

use criterion::{BatchSize, Criterion, Throughput};
use wpool::target::Format;
use wpool::value::{Type, Value};
use wpool::{Isolation, Module, Policy, Pool, Target};

/// The number of records in one measurement of a stream. Enough for batches to reach their full size.
const RECORDS: u64 = 20_000;

fn main() {
    // This program is its own worker.
    wpool::init();
    let mut criterion = Criterion::default().configure_from_args();
    values(&mut criterion);
    modules(&mut criterion);
    round_trips(&mut criterion);
    functions(&mut criterion);
    streams(&mut criterion);
    criterion.final_summary();
}

fn repo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn load(path: &str) -> Module {
    Module::load(repo(path)).expect("the guests are in the repository")
}

fn pool(module: &Module, isolation: Isolation) -> Pool {
    Pool::builder(module).processes(2).isolation(isolation).build().expect("the guest has functions")
}

fn values(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("value");
    let number = Type::F64;
    let numbers = Type::List(Box::new(Type::F64));
    let record = Type::Record(vec![
        ("name".to_owned(), Type::String),
        ("age".to_owned(), Type::Option(Box::new(Type::U32))),
        ("scores".to_owned(), numbers.clone()),
    ]);
    let many = Value::from((0..1000).map(f64::from).collect::<Vec<_>>()).to_string();
    let cases = [
        ("a number", "2.5", &number),
        ("a record", r#"{name: "Ada Lovelace", age: some(36), scores: [1.5, 2.25, 3]}"#, &record),
        ("1000 numbers", &many, &numbers),
    ];
    for (name, text, ty) in cases {
        let value = Value::from_wave(text, ty).expect("these are WAVE");
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(format!("parse {name}"), |b| b.iter(|| Value::from_wave(text, ty)));
        group.bench_function(format!("write {name}"), |b| b.iter(|| value.to_string()));
    }
    group.finish();
}

fn modules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("module");
    for (name, path) in [("3 KB", "guest/examples/wat/echo.wat"), ("130 KB", "guest/prebuilt/stats.wasm")] {
        // Fills the cache: only this first call compiles.
        load(path);
        group.bench_function(format!("load {name} from the cache"), |b| b.iter(|| load(path)));
    }
    let module = load("guest/examples/wat/echo.wat");
    group.bench_function("a pool: build, one task, drop", |b| {
        b.iter(|| {
            let pool = pool(&module, Isolation::Reuse);
            let run = pool.func::<&str, Vec<u8>>("run").expect("the guest exports run");
            pool.apply(&run, "a")
        });
    });
    group.finish();
}

fn round_trips(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("round trip");
    let echo = load("guest/examples/wat/echo.wat");
    let records =
        [("16 B", vec![b'x'; 16]), ("64 KiB", vec![b'x'; 64 << 10]), ("1 MiB", vec![b'x'; 1 << 20])];
    for (name, isolation) in [("reuse", Isolation::Reuse), ("fresh", Isolation::Fresh)] {
        let pool = pool(&echo, isolation);
        let run = pool.func::<&[u8], Vec<u8>>("run").expect("the guest exports run");
        for (size, record) in &records {
            group.throughput(Throughput::Bytes(record.len() as u64));
            group.bench_function(format!("{size}, {name}"), |b| {
                b.iter(|| pool.apply(&run, &record[..]).expect("echo returns"));
            });
        }
    }
    group.throughput(Throughput::Elements(1));
    let pool = pool(&load("guest/examples/wat/add.wat"), Isolation::Reuse);
    let add = pool.func::<(i32, i32), i32>("add").expect("the guest exports add");
    group.bench_function("two numbers, reuse", |b| {
        b.iter(|| pool.apply(&add, (20, 22)).expect("add returns"))
    });
    group.finish();
}

/// A guest calls a function of the application, many times in one task.
fn functions(criterion: &mut Criterion) {
    const CALLS: u64 = 1000;
    let mut group = criterion.benchmark_group("function");
    group.throughput(Throughput::Elements(CALLS)).sample_size(20);
    let policy = Policy::sealed().function("acme:echo/echo#number", |n: u64| n).trap_unknown_imports();
    let pool = Pool::builder(&load("tests/support/guests/functions.wat")).processes(1).policy(policy).build();
    let pool = pool.expect("the guest has functions");
    let count = pool.func::<u64, u64>("count").expect("the guest exports count");
    group.bench_function("a number", |b| {
        b.iter(|| pool.apply(&count, CALLS).expect("the guest counts the calls"));
    });
    group.finish();
}

/// The whole way of a record: the job's window, frames, the worker's loop, the call, the order of outcomes.
fn streams(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stream");
    group.throughput(Throughput::Elements(RECORDS)).sample_size(20);
    let echo = load("guest/examples/wat/echo.wat");
    let add = load("guest/examples/wat/add.wat");
    let bytes = Target::func("run");
    let wave = Target::func("add").input(Format::Wave);
    let json = Target::func("add").input(Format::Json);
    let cases: [(&str, &Module, &Target, Isolation, &[u8]); 4] = [
        ("16 bytes, reuse", &echo, &bytes, Isolation::Reuse, b"sixteen bytes ok"),
        ("16 bytes, fresh", &echo, &bytes, Isolation::Fresh, b"sixteen bytes ok"),
        ("WAVE, reuse", &add, &wave, Isolation::Reuse, b"(20, 22)"),
        ("JSON, reuse", &add, &json, Isolation::Reuse, b"[20, 22]"),
    ];
    for (name, module, target, isolation, record) in cases {
        let pool = pool(module, isolation);
        for (order, ordered) in [("in order", true), ("in any order", false)] {
            let ends = || pool.stream(target, ordered).expect("the pool runs");
            group.bench_function(format!("{name}, {order}"), |b| {
                b.iter_batched(
                    ends,
                    |(inputs, outcomes)| through(inputs, outcomes, record),
                    BatchSize::PerIteration,
                );
            });
        }
    }
    group.finish();
}

/// Sends [`RECORDS`] records through a stream, and takes their outcomes.
fn through(mut inputs: wpool::pool::Inputs, mut outcomes: wpool::pool::Outcomes, record: &[u8]) {
    std::thread::scope(|scope| {
        scope.spawn(move || inputs.push_all((0..RECORDS).map(|_| record)));
        let mut done = 0;
        while outcomes.take_into(&mut |outcome| done += u64::from(outcome.result().is_ok())) {}
        assert_eq!(done, RECORDS);
    });
}
