//! The growth of costs with the size of records, the time of tasks, the number of workers and the number of
//! records.

use super::bench::{Bench, Input, XORSHIFT};
use super::machine;
use super::measure::{Contender, figures, median, thousands};
use super::native::Work;
use super::report::table;
use super::workloads::{self, Size};

const ROUNDS: usize = 3;

pub(crate) fn tables(bench: &Bench, size: Size) -> Result<String, String> {
    let parts =
        [record_size(bench, size)?, task_time(bench, size)?, workers(bench, size)?, records(bench, size)?];
    Ok(parts.join("\n"))
}

/// The median of [`ROUNDS`] runs, in seconds.
fn secs(contender: &Contender<'_>) -> Result<f64, String> {
    let mut took = (0..ROUNDS).map(|_| Ok((contender.run)()?.value)).collect::<Result<Vec<_>, String>>()?;
    Ok(median(&mut took))
}

fn section(title: &str, head: &[&str], rows: Vec<Vec<String>>) -> String {
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    format!("### {title}\n\n{}\n", table(&head, rows.into_iter()).join("\n"))
}

fn record_size(bench: &Bench, size: Size) -> Result<String, String> {
    let all: usize = if size.quick { 16 << 20 } else { 128 << 20 };
    let mut rows = Vec::new();
    for bytes in [16, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20] {
        eprint!("\r\x1b[Krecords of {} bytes", bytes);
        let count = (all / bytes).clamp(4, 500_000);
        let lines = (0..count).map(|n| format!("{n:016}").into_bytes().repeat(bytes / 16));
        let input = bench.input("size", Work::Echo, lines);
        let secs = secs(&workloads::echo(bench, &input))?;
        let mib = (count * bytes) as f64 / (1 << 20) as f64;
        rows.push(vec![bytes_text(bytes), thousands(count as f64 / secs), thousands(mib / secs)]);
    }
    eprint!("\r\x1b[K");
    Ok(section("Record size: echo, `--reuse -j 2`", &["record", "tasks per second", "MiB/s each way"], rows))
}

fn bytes_text(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

/// Tasks of `hundreds` times 100 us each.
fn tasks(bench: &Bench, size: Size, count: usize, hundreds: f64) -> Input {
    let rounds = (size.rounds.wasm as f64 * hundreds) as u64;
    let lines = (0..count).map(|n| format!("{rounds} {}", n % 16 + 1).into_bytes());
    bench.input("tasks", Work::Xorshift, lines)
}

fn ideal(count: usize, hundreds: f64, workers: usize) -> f64 {
    count as f64 * hundreds * 100e-6 / workers.min(machine::cores()) as f64
}

fn task_time(bench: &Bench, size: Size) -> Result<String, String> {
    let mut rows = Vec::new();
    for (text, hundreds) in [
        ("0", 0.0_f64),
        ("1 us", 0.01),
        ("10 us", 0.1),
        ("100 us", 1.0),
        ("1 ms", 10.0),
        ("10 ms", 100.0),
        ("100 ms", 1000.0),
    ] {
        eprint!("\r\x1b[Ktasks of {text}");
        let second = if size.quick { 2_500.0 } else { 10_000.0 };
        let count = ((second / hundreds.max(0.02)) as usize).clamp(10, 500_000).next_multiple_of(2);
        let input = tasks(bench, size, count, hundreds);
        let mut row = vec![text.to_owned(), count.to_string()];
        for mode in ["--reuse", "--fresh"] {
            let secs = secs(&bench.map(mode, XORSHIFT, &input, &[mode, "-j2"]))?;
            row.push(thousands(count as f64 / secs));
            row.push(if hundreds == 0.0 {
                "-".to_owned()
            } else {
                figures(ideal(count, hundreds, 2) / secs)
            });
        }
        rows.push(row);
    }
    eprint!("\r\x1b[K");
    let head = ["task", "tasks", "reuse, per second", "of the ideal", "fresh, per second", "of the ideal"];
    Ok(section("Task time: `-j 2`", &head, rows))
}

fn workers(bench: &Bench, size: Size) -> Result<String, String> {
    let mut rows = Vec::new();
    let count = if size.quick { 4_000 } else { 16_000 };
    let short = tasks(bench, size, count, 1.0);
    let long_count = count / 100;
    for jobs in [1, 2, 3, 4, 8, 16] {
        eprint!("\r\x1b[K{jobs} workers");
        let option = format!("-j{jobs}");
        let mut row = vec![jobs.to_string()];
        let short_secs = secs(&bench.map("short", XORSHIFT, &short, &["--reuse", &option]))?;
        row.extend([thousands(count as f64 / short_secs), figures(ideal(count, 1.0, jobs) / short_secs)]);
        // A small file, so it is written again for each number of workers.
        let rounds = size.rounds.wasm * 100;
        let lines = (0..long_count).map(|n| format!("{rounds} {}", n % 16 + 1).into_bytes());
        let long = bench.input("long", Work::Xorshift, lines);
        let long_secs = secs(&bench.map("long", XORSHIFT, &long, &["--reuse", &option]))?;
        row.extend([
            thousands(long_count as f64 / long_secs),
            figures(ideal(long_count, 100.0, jobs) / long_secs),
        ]);
        rows.push(row);
    }
    eprint!("\r\x1b[K");
    let title = format!("Workers, on {} processors: `--reuse`", machine::cores());
    let head =
        ["workers", "100 us tasks per second", "of the ideal", "10 ms tasks per second", "of the ideal"];
    Ok(section(&title, &head, rows))
}

fn records(bench: &Bench, size: Size) -> Result<String, String> {
    let mut rows = Vec::new();
    let most = if size.quick { 1_000_000 } else { 10_000_000 };
    for count in [1_000, 10_000, 100_000, 1_000_000, 10_000_000].into_iter().filter(|count| *count <= most) {
        eprint!("\r\x1b[K{count} records");
        let lines = (0..count).map(|n| format!("sixteen {n:08}").into_bytes());
        let input = bench.input("records", Work::Upper, lines);
        let (mut peaks, mut took) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (peak, secs) = workloads::peak(bench, &input, &["--reuse", "-j2"])?;
            peaks.push(peak);
            took.push(secs);
        }
        let secs = median(&mut took);
        let row = [
            thousands(count as f64),
            figures(secs),
            thousands(count as f64 / secs),
            figures(median(&mut peaks) / 1024.0),
        ];
        rows.push(row.to_vec());
    }
    eprint!("\r\x1b[K");
    let head = ["records", "seconds", "per second", "coordinator's peak, MiB"];
    Ok(section("Number of records: 16 bytes, `--reuse -j 2`", &head, rows))
}
