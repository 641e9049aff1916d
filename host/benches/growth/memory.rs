//! Memory: results larger than records, large records, resumed runs, profiles.

use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use wpool::events::WorkerState;
use wpool::{Pool, Target};

use super::process::{MIXED, UPPER, XORSHIFT, load, number, own_peak, peak_of, pool, repo, wpool};

const MIB: usize = 1 << 20;

/// Whether a result is the right one for the record `B<index>`: 1 MiB of the record, then its last byte.
fn is_right(index: usize, result: &[u8]) -> bool {
    let record = record_of(index);
    let last = record.as_bytes()[record.len() - 1];
    result.len() == MIB
        && result.starts_with(record.as_bytes())
        && result[MIB / 2] == last
        && result[MIB - 1] == last
}

fn record_of(index: usize) -> String {
    format!("B{index:08}")
}

/// A file of records, one a line.
fn records(dir: &Path, records: impl Iterator<Item = String>) -> Result<std::path::PathBuf, String> {
    let path = dir.join("records");
    let mut file = BufWriter::new(std::fs::File::create(&path).map_err(|e| e.to_string())?);
    for record in records {
        writeln!(file, "{record}").map_err(|e| e.to_string())?;
    }
    file.flush().map_err(|e| e.to_string())?;
    Ok(path)
}

/// A directory in memory if possible: the speed of a disk is no merit.
fn scratch() -> Result<tempfile::TempDir, String> {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).map_err(|e| e.to_string())
}

/// The peak of `wpool map` in MiB. The arguments are the format, and the number of results of 1 MiB.
pub(crate) fn map(args: &[String]) -> Result<Vec<f64>, String> {
    let (format, count) = (args.first().map_or("text", String::as_str), number(args, 1)?);
    read_map(format, count, Duration::ZERO)
}

/// The same, in text, with a reader that takes 200 MiB a second.
pub(crate) fn slow_reader(args: &[String]) -> Result<Vec<f64>, String> {
    read_map("text", number(args, 0)?, Duration::from_millis(5))
}

fn read_map(format: &str, count: usize, pause: Duration) -> Result<Vec<f64>, String> {
    let dir = scratch()?;
    let input = records(dir.path(), (0..count).map(record_of))?;
    let mut command = wpool(&["map"]);
    command.arg(repo(MIXED)).arg(&input).args(["-q", "--format", format]);
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|e| e.to_string())?;
    let stdout = child.stdout.take().ok_or("no stdout")?;
    let is_json = format == "jsonl";
    let reading =
        std::thread::spawn(move || read_results(BufReader::with_capacity(MIB, stdout), is_json, pause));
    let peak = peak_of(child, 0)?;
    match reading.join().map_err(|_| "the reader panicked")?? {
        right if right == count => Ok(vec![peak / 1024.0]),
        right => Err(format!("{right} right results of {count}")),
    }
}

/// The number of right results, in the order of their records.
fn read_results(mut stdout: impl BufRead, is_json: bool, pause: Duration) -> Result<usize, String> {
    let (mut line, mut right) = (Vec::new(), 0);
    loop {
        line.clear();
        if stdout.read_until(b'\n', &mut line).map_err(|e| e.to_string())? == 0 {
            return Ok(right);
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        // A whole parser is not needed: nothing in these results is escaped.
        let result = match is_json {
            true => {
                const KEY: &[u8] = b"\"output\":\"";
                let at = text.windows(KEY.len()).take(4096).position(|part| part == KEY);
                at.and_then(|at| text.get(at + KEY.len()..at + KEY.len() + MIB)).unwrap_or_default()
            }
            false => text,
        };
        right += usize::from(is_right(right, result));
        std::thread::sleep(pause);
    }
}

/// The peak in MiB of a program that first leaves its results alone until the pool rests, and then takes
/// them. The arguments are the interface, and the number of results of 1 MiB.
pub(crate) fn untaken(args: &[String]) -> Result<Vec<f64>, String> {
    let (interface, count) = (args.first().map_or("", String::as_str), number(args, 1)?);
    let pool = pool(&load(MIXED)?, 2)?;
    let right = match interface {
        "stream" => take_stream(&pool, count)?,
        "imap" => {
            let run = pool.func::<String, Vec<u8>>("run").map_err(|e| e.to_string())?;
            let results = pool.imap(&run, (0..count).map(record_of));
            rest(&pool);
            results.zip(0..).filter(|(result, at)| result.as_ref().is_ok_and(|r| is_right(*at, r))).count()
        }
        other => return Err(format!("no interface is called {other}")),
    };
    if right == count {
        Ok(vec![own_peak() / 1024.0])
    } else {
        Err(format!("{right} right results of {count}"))
    }
}

fn take_stream(pool: &Pool, count: usize) -> Result<usize, String> {
    let (mut inputs, mut outcomes) = pool.stream(&Target::func("run"), true).map_err(|e| e.to_string())?;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // The pool may end early. Then results are missing, and the count says so.
            let _closed = (0..count).try_for_each(|index| inputs.push(record_of(index).as_bytes()));
        });
        rest(pool);
        let (mut right, mut at) = (0, 0);
        while outcomes.take_into(&mut |outcome| {
            right += usize::from(outcome.result().is_ok_and(|result| is_right(at, result)));
            at += 1;
        }) {}
        Ok(right)
    })
}

/// Waits until no worker has had anything to do for half a second: nothing tells that no more will come. At
/// most five seconds: a worker that holds a result back may count as busy.
fn rest(pool: &Pool) {
    let end = Instant::now() + Duration::from_secs(5);
    let mut quiet = 0;
    while quiet < 50 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
        let is_busy = pool.workers().iter().any(|worker| worker.state == WorkerState::Busy);
        quiet = if is_busy { 0 } else { quiet + 1 };
    }
}

/// The peak of a program that collects all results of a `map_async`, as a multiple of their bytes.
pub(crate) fn collected(args: &[String]) -> Result<Vec<f64>, String> {
    let count = number(args, 0)?;
    let pool = pool(&load(MIXED)?, 2)?;
    let run = pool.func::<String, Vec<u8>>("run").map_err(|e| e.to_string())?;
    let results = pool.map_async(&run, (0..count).map(record_of)).get().map_err(|e| e.to_string())?;
    if results.len() != count || !results.iter().enumerate().all(|(at, result)| is_right(at, result)) {
        return Err("wrong results".to_owned());
    }
    Ok(vec![own_peak() / 1024.0 / count as f64])
}

/// The peak of `wpool map` with one record of this many MiB, as a multiple of the record.
pub(crate) fn record(args: &[String]) -> Result<Vec<f64>, String> {
    let mib = number(args, 0)?;
    let dir = scratch()?;
    let input = records(dir.path(), std::iter::once("a".repeat(mib * MIB)))?;
    let mut command = wpool(&["map"]);
    command.arg(repo(UPPER)).arg(&input).args(["-q", "--memory", "1G"]);
    command.args(["--max-input", "400M", "--max-output", "400M"]).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    let mut stdout = child.stdout.take().ok_or("no stdout")?;
    let reading = std::thread::spawn(move || {
        let (mut part, mut right) = (vec![0; MIB], 0);
        while let Ok(len @ 1..) = stdout.read(&mut part) {
            right += part[..len].iter().filter(|byte| **byte == b'A').count();
        }
        right
    });
    let peak = peak_of(child, 0)?;
    match reading.join().map_err(|_| "the reader panicked")? {
        right if right == mib * MIB => Ok(vec![peak / 1024.0 / mib as f64]),
        right => Err(format!("{right} right bytes of the result")),
    }
}

/// The bytes of memory that `--resume` takes for a record that is done: beside a run with one record.
pub(crate) fn resume(args: &[String]) -> Result<Vec<f64>, String> {
    let count = number(args, 0)?;
    let (many, one) = (resumed_peak(count)?, resumed_peak(1)?);
    Ok(vec![(many - one).max(0.0) * 1024.0 / count as f64])
}

fn resumed_peak(count: usize) -> Result<f64, String> {
    let dir = scratch()?;
    let input = records(dir.path(), (0..count).map(|n| format!("sixteen {n:08}")))?;
    let log = dir.path().join("log");
    // Gives the peak, and the number of results. They go through a pipe: a resumed run refuses a file that
    // lacks the results of the log.
    let run = |more: &[&str]| {
        let mut command = wpool(&["map"]);
        command.arg(repo(UPPER)).arg(&input).args(["-q", "--reuse", "-j2"]).args(more);
        command.arg("--joblog").arg(&log).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|e| e.to_string())?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let reading = std::thread::spawn(move || BufReader::new(stdout).split(b'\n').count());
        let peak = peak_of(child, 0)?;
        Ok::<_, String>((peak, reading.join().map_err(|_| "the reader panicked")?))
    };
    let ((_, results), (peak, left)) = (run(&[])?, run(&["--resume"])?);
    if (results, left) != (count, 0) {
        return Err(format!("{results} results of {count}, and {left} after --resume"));
    }
    Ok(peak)
}

/// The memory that `--profile guest` takes, as a multiple of the profile: beside a run without a profile. The
/// argument is the number of workers, each of which gives a profile.
pub(crate) fn profile(args: &[String]) -> Result<Vec<f64>, String> {
    let workers = number(args, 0)?;
    let dir = scratch()?;
    let input = records(dir.path(), (0..workers * 4).map(|n| format!("200000000 {n}")))?;
    let jobs = workers.to_string();
    let to = dir.path().join("profile.json");
    let run = |profiled: bool| {
        let mut command = wpool(&["map"]);
        command.arg(repo(XORSHIFT)).arg(&input).args(["-q", "-j", jobs.as_str()]);
        if profiled {
            command.arg("--profile").arg(format!("guest,{}", to.display()));
        }
        peak_of(command.spawn().map_err(|e| e.to_string())?, 0)
    };
    let (without, with) = (run(false)?, run(true)?);
    let bytes = std::fs::metadata(&to).map_err(|e| e.to_string())?.len();
    Ok(vec![(with - without).max(0.0) * 1024.0 / bytes as f64])
}
