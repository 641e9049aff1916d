//! The work in native code: what `xargs` and GNU parallel run, and the floor that nobody who isolates anything can get under.
//!
//! The bench program is its own helper: with [`ASK`] as the first argument it does nothing but this.

use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The first argument by which the program is asked to be the helper.
pub(crate) const ASK: &str = "--native";

/// What every contender does with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// The line in upper case.
    Upper,
    /// The line.
    Echo,
    /// `ROUNDS SEED`: that many rounds of xorshift64.
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
                let mut numbers = std::str::from_utf8(line).unwrap_or("").split(' ').map(|n| n.parse().unwrap_or(0));
                let (rounds, seed) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
                format!("{:016x}", xorshift(rounds, seed)).into_bytes()
            }
        }
    }
}

/// Not inlined: its speed is measured in one place and counted on in another.
#[inline(never)]
pub(crate) fn xorshift(rounds: u64, seed: u64) -> u64 {
    (0..rounds).fold(std::hint::black_box(seed), |mut x, _| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^ (x << 17)
    })
}

/// The helper's three forms: `--native WORK line LINE` does one line, `filter` what comes on stdin, and `file INPUT JOBS` a whole file
/// in that many threads.
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
    let [work, form, rest @ ..] = args else { return Err("what work, and on what?".to_owned()) };
    let work = Work::from_name(work).ok_or("no such work")?;
    let written = match (form.as_str(), rest) {
        ("line", [line]) => write_lines(std::iter::once(work.of(line.as_bytes()))),
        ("filter", []) => {
            let mut text = Vec::new();
            std::io::stdin().lock().read_to_end(&mut text).map_err(|e| e.to_string())?;
            write_lines(lines(&text).map(|line| work.of(line)))
        }
        ("file", [input, jobs]) => {
            let text = std::fs::read(Path::new(input)).map_err(|e| e.to_string())?;
            match jobs.parse().map_err(|_| "JOBS is a number")? {
                1 => write_lines(lines(&text).map(|line| work.of(line))),
                jobs => write_lines(in_threads(work, &lines(&text).collect::<Vec<_>>(), jobs).into_iter()),
            }
        }
        _ => return Err(format!("nothing is called {form}")),
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

/// Each thread takes the next line as soon as it is done with one.
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
        for (at, result) in threads.into_iter().flat_map(|thread| thread.join().expect("the work does not panic")) {
            results[at] = result;
        }
    });
    results
}
