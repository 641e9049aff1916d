//! The work in native code: the program that `xargs` and GNU parallel run, and the floor for all contenders
//! that isolate their tasks.
//!
//! The benchmark is its own helper: with [`ASK`] as the first argument it only does this work.

use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The first argument that makes the program the helper.
pub(crate) const ASK: &str = "--native";

/// The work on one line, the same for each contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// The line in upper case.
    Upper,
    /// The line, unchanged.
    Echo,
    /// The line is `ROUNDS SEED`. The result is `SEED` after `ROUNDS` rounds of xorshift64.
    Xorshift,
}

impl Work {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Work::Upper => "upper",
            Work::Echo => "echo",
            Work::Xorshift => "xorshift",
        }
    }

    fn from_name(name: &str) -> Option<Work> {
        [Work::Upper, Work::Echo, Work::Xorshift].into_iter().find(|work| work.name() == name)
    }

    pub(crate) fn of(self, line: &[u8]) -> Vec<u8> {
        match self {
            Work::Upper => line.to_ascii_uppercase(),
            Work::Echo => line.to_vec(),
            Work::Xorshift => {
                let mut numbers =
                    std::str::from_utf8(line).unwrap_or("").split(' ').map(|n| n.parse().unwrap_or(0));
                let (rounds, seed) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
                format!("{:016x}", xorshift(rounds, seed)).into_bytes()
            }
        }
    }
}

/// Not inlined: the speed measured in one place must hold in the other.
#[inline(never)]
pub(crate) fn xorshift(rounds: u64, seed: u64) -> u64 {
    (0..rounds).fold(std::hint::black_box(seed), |mut x, _| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^ (x << 17)
    })
}

/// Runs as the helper if the arguments ask for it. There are three forms: `--native WORK line LINE` for one
/// line, `--native WORK filter` for the lines of stdin, and `--native WORK file INPUT JOBS` for a file in
/// `JOBS` threads.
pub(crate) fn asked() -> Option<ExitCode> {
    let mut args = std::env::args().skip(1);
    (args.next()? == ASK).then(|| match run(&args.collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("peers {ASK}: {why}");
            ExitCode::FAILURE
        }
    })
}

fn run(args: &[String]) -> Result<(), String> {
    let [work, form, rest @ ..] = args else {
        return Err("expected WORK and a form: line, filter or file".to_owned());
    };
    let work = Work::from_name(work).ok_or("unknown WORK")?;
    let written = match (form.as_str(), rest) {
        ("line", [line]) => write_lines(std::iter::once(work.of(line.as_bytes()))),
        ("filter", []) => {
            let mut text = Vec::new();
            std::io::stdin().lock().read_to_end(&mut text).map_err(|e| e.to_string())?;
            write_lines(lines(&text).map(|line| work.of(line)))
        }
        ("file", [input, jobs]) => {
            let text = std::fs::read(Path::new(input)).map_err(|e| e.to_string())?;
            match jobs.parse().map_err(|_| "JOBS must be a number")? {
                1 => write_lines(lines(&text).map(|line| work.of(line))),
                jobs => write_lines(in_threads(work, &lines(&text).collect::<Vec<_>>(), jobs).into_iter()),
            }
        }
        _ => return Err(format!("unknown form {form}, or wrong arguments for it")),
    };
    written.map_err(|e| e.to_string())
}

pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.strip_suffix(b"\n").into_iter().flat_map(|text| text.split(|byte| *byte == b'\n'))
}

fn write_lines(results: impl Iterator<Item = Vec<u8>>) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    for result in results {
        out.write_all(&result)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Does the work in threads. Each thread takes the next line when it has finished one.
fn in_threads(work: Work, lines: &[&[u8]], jobs: usize) -> Vec<Vec<u8>> {
    let next = AtomicUsize::new(0);
    let one_thread = || {
        let mut done = Vec::new();
        while let Some((at, line)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, lines.get(at)?)))
        {
            done.push((at, work.of(line)));
        }
        done
    };
    let mut results = vec![Vec::new(); lines.len()];
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(one_thread)).collect();
        for (at, result) in
            threads.into_iter().flat_map(|thread| thread.join().expect("the work does not panic"))
        {
            results[at] = result;
        }
    });
    results
}
