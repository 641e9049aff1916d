//! What a log says has been done, and what that means for a record.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};

use super::line::{HEADER, HEADER_OF_PARALLEL, Identity, InputDigest, Line};
use crate::cli::stdio;

/// No line is longer: ours have short columns, but a function's name may be of any length. A file without newlines is not read whole.
const LINE_MAX: u64 = 1 << 20;

/// Which records of a resumed run are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Those that are not in the log: `--resume`.
    New,
    /// Those too that have failed: `--resume-failed`.
    NewAndFailed,
    /// Only those that have failed: `--retry-failed`.
    Failed,
}

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Verdict {
    Run,
    /// It has failed before.
    RunAgain,
    Skip,
    /// It has failed before.
    SkipFailed,
}

/// The tasks of a log, by their records. Equal records are counted: the log stands for as many of them as it has lines.
///
/// 21 bytes for each place of a hash table that is between 7/16 and 7/8 full: at most 48 bytes for each line of the log.
#[derive(Debug, Default)]
pub(in crate::cli) struct Done {
    ok: HashMap<InputDigest, u32>,
    failed: HashMap<InputDigest, u32>,
}

impl Done {
    fn add(&mut self, line: &Line<'_>) {
        if line.rerun {
            take(&mut self.failed, line.input);
        }
        let of_its_kind = if line.is_ok() { &mut self.ok } else { &mut self.failed };
        let count = of_its_kind.entry(line.input).or_default();
        *count = count.saturating_add(1);
    }

    pub(in crate::cli) fn contains(&self, record: InputDigest) -> bool {
        self.ok.contains_key(&record) || self.failed.contains_key(&record)
    }

    /// Tasks that no record has been found for yet.
    pub(in crate::cli) fn left(&self) -> u64 {
        self.ok.values().chain(self.failed.values()).map(|count| u64::from(*count)).sum()
    }

    /// Decides about one record, for which one task of the log is used up.
    pub(super) fn verdict(&mut self, rule: Rule, record: InputDigest) -> Verdict {
        match rule {
            Rule::New | Rule::NewAndFailed if take(&mut self.ok, record) => Verdict::Skip,
            Rule::New if take(&mut self.failed, record) => Verdict::SkipFailed,
            Rule::NewAndFailed | Rule::Failed if take(&mut self.failed, record) => Verdict::RunAgain,
            Rule::New | Rule::NewAndFailed => Verdict::Run,
            Rule::Failed => {
                take(&mut self.ok, record);
                Verdict::Skip
            }
        }
    }
}

/// Uses one of them up, if there is one.
fn take(counts: &mut HashMap<InputDigest, u32>, record: InputDigest) -> bool {
    let Some(count) = counts.get_mut(&record) else { return false };
    *count -= 1;
    if *count == 0 {
        counts.remove(&record);
    }
    true
}

/// What a log holds.
#[derive(Debug, Default)]
pub(in crate::cli) struct Contents {
    pub(super) done: Done,
    /// Bytes of whole lines.
    pub(super) whole: u64,
    /// There is the beginning of a line behind them: the program was killed, or the disk was full.
    pub(super) is_cut: bool,
}

/// Why a file is not taken for a log of this run.
#[derive(Debug)]
pub(in crate::cli) enum Refused {
    Read(io::Error),
    NotALog,
    OfParallel,
    Line {
        number: u64,
        wrong: String,
    },
    /// A good line, of another run.
    Other {
        number: u64,
        difference: String,
    },
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::Read(e) => write!(f, "cannot be read: {}", stdio::words(e)),
            Refused::NotALog => {
                f.write_str("is not a job log of this version of wpool: name another file, or remove it")
            }
            Refused::OfParallel => {
                f.write_str("is a job log of GNU parallel, which does not say what was run on what: name another file")
            }
            Refused::Line { number, wrong } => {
                write!(f, "is damaged: line {number} {wrong}; remove that line to go on with the others")
            }
            Refused::Other { number, difference } => {
                write!(
                    f,
                    "line {number} is of {difference}; =force takes its tasks for done all the same, another --joblog begins anew"
                )
            }
        }
    }
}

/// Reads a log; whatever the bytes are, they are a log or there is a reason why not.
#[cfg(any(test, fuzzing))]
pub(in crate::cli) fn parse(bytes: &[u8]) -> Result<Contents, Refused> {
    read(bytes, None)
}

/// Reads a log of `ours`, or of any run.
pub(super) fn read(log: impl Read, ours: Option<&Identity>) -> Result<Contents, Refused> {
    let mut contents = Contents::default();
    read_lines(log, &mut contents, |done, number, line, identity| {
        match ours.and_then(|ours| identity.difference(ours)) {
            Some(difference) => Err(Refused::Other { number, difference }),
            None => {
                done.add(line);
                Ok(())
            }
        }
    })?;
    Ok(contents)
}

/// Only looks whether it is a log, and where its last whole line ends.
pub(super) fn check(log: impl Read) -> Result<Contents, Refused> {
    let mut contents = Contents::default();
    read_lines(log, &mut contents, |_, _, _, _| Ok(()))?;
    Ok(contents)
}

fn read_lines(
    log: impl Read,
    contents: &mut Contents,
    mut each: impl FnMut(&mut Done, u64, &Line<'_>, &Identity<&str>) -> Result<(), Refused>,
) -> Result<(), Refused> {
    let mut log = BufReader::with_capacity(256 << 10, log);
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        log.by_ref().take(LINE_MAX).read_until(b'\n', &mut bytes).map_err(Refused::Read)?;
        let whole = bytes.strip_suffix(b"\n");
        match (number, whole) {
            (_, None) if bytes.is_empty() => break,
            (1, _) if HEADER.as_bytes() == bytes => {}
            (1, None) if HEADER.as_bytes().starts_with(&bytes) => contents.is_cut = true,
            (1, _) if bytes == HEADER_OF_PARALLEL.as_bytes() => return Err(Refused::OfParallel),
            (1, _) => return Err(Refused::NotALog),
            (_, None) if bytes.len() as u64 == LINE_MAX => {
                return Err(Refused::Line { number, wrong: "is too long".to_owned() });
            }
            (_, None) => contents.is_cut = true,
            (_, Some(whole)) => {
                let (line, identity) = Line::parse(whole).map_err(|wrong| Refused::Line { number, wrong })?;
                each(&mut contents.done, number, &line, &identity)?;
            }
        }
        match contents.is_cut {
            true => break,
            false => contents.whole += bytes.len() as u64,
        }
    }
    Ok(())
}

/// Whether a file that begins with `start` may be written over: it is a log, or nothing.
pub(super) fn is_log(start: &[u8]) -> bool {
    start.starts_with(HEADER.as_bytes()) || HEADER.as_bytes().starts_with(start)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn identity() -> Identity {
        Identity { module: "ab".repeat(16), export: "run".to_owned(), settings: "cd".to_owned() }
    }

    fn log(tasks: &[(&str, &str, bool)]) -> Vec<u8> {
        let mut text = HEADER.as_bytes().to_vec();
        for (at, (record, kind, rerun)) in tasks.iter().enumerate() {
            let line = Line {
                seq: at as u64 + 1,
                started: Duration::ZERO,
                took: Duration::ZERO,
                sent: 0,
                received: 0,
                exitval: 0,
                signal: 0,
                command: record,
                kind,
                attempt: 1,
                rerun: *rerun,
                input: InputDigest::of(record.as_bytes()),
                fuel: None,
                memory: None,
            };
            line.write(&identity(), &mut text);
        }
        text
    }

    /// What becomes of `records`, as a letter each.
    fn verdicts(log: &[u8], rule: Rule, records: &str) -> String {
        let mut done = parse(log).unwrap().done;
        let letter = |record: char| match done.verdict(rule, InputDigest::of(record.to_string().as_bytes())) {
            Verdict::Run => 'r',
            Verdict::RunAgain => 'a',
            Verdict::Skip => 's',
            Verdict::SkipFailed => 'f',
        };
        records.chars().map(letter).collect()
    }

    #[test]
    fn equal_records_are_done_as_often_as_the_log_has_them() {
        let log = log(&[("a", "ok", false), ("b", "failed", false), ("a", "ok", false), ("c", "trap", false)]);
        assert_eq!(verdicts(&log, Rule::New, "xaabbcca"), "rssfrfrr");
        assert_eq!(verdicts(&log, Rule::NewAndFailed, "xaabbcca"), "rssararr");
        assert_eq!(verdicts(&log, Rule::Failed, "xaabbcca"), "sssasass");
    }

    #[test]
    fn a_line_of_a_second_run_stands_for_the_first() {
        let log = log(&[("a", "failed", false), ("a", "ok", true), ("b", "trap", false), ("b", "time", true)]);
        assert_eq!(verdicts(&log, Rule::New, "aabb"), "srfr");
        assert_eq!(verdicts(&log, Rule::Failed, "aabb"), "ssas");
        let mut done = parse(&log).unwrap().done;
        assert_eq!(done.left(), 2);
        done.verdict(Rule::New, InputDigest::of(b"a"));
        assert_eq!(done.left(), 1);
    }

    #[test]
    fn f83_a_line_that_is_cut_is_left_out_wherever_it_is_cut() {
        let whole = log(&[("a", "ok", false), ("b", "ok", false)]);
        let ends: Vec<usize> = memchr::memchr_iter(b'\n', &whole).map(|at| at + 1).collect();
        for len in 0..=whole.len() {
            let contents = parse(&whole[..len]).unwrap();
            let kept = ends.iter().rfind(|end| **end <= len).copied().unwrap_or(0);
            assert_eq!((contents.whole, contents.is_cut), (kept as u64, kept != len), "{len}");
            assert_eq!(contents.done.left(), ends.iter().skip(1).filter(|end| **end <= len).count() as u64);
        }
    }

    #[test]
    fn f83_what_is_no_log_or_is_damaged_is_refused_with_the_line() {
        let refused = |bytes: &[u8]| parse(bytes).unwrap_err().to_string();
        assert!(refused(b"hello\nworld\n").contains("is not a job log"));
        assert!(refused(b"hello").contains("is not a job log"));
        assert!(refused(&vec![b'x'; 3 << 20]).contains("is not a job log"));
        assert!(refused(HEADER_OF_PARALLEL.as_bytes()).contains("GNU parallel"));
        let good = log(&[("a", "ok", false)]);
        assert!(refused(&[&good[..], b"garbage\n"].concat()).contains("line 3 has 1 columns"));
        assert!(refused(&[&good[..], b"\n"].concat()).contains("line 3 has 1 columns"));
        assert!(refused(&[&good[..], &good].concat()).contains("line 3 has a wrong Seq: `Seq`"));
        assert!(refused(&[&good[..], &vec![b'x'; 3 << 20]].concat()).contains("line 3 is too long"));
    }

    #[test]
    fn f83_the_log_of_another_run_is_refused() {
        let log = log(&[("a", "ok", false)]);
        let refused = |ours: &Identity| read(&log[..], Some(ours)).map_err(|refused| refused.to_string());
        assert!(refused(&identity()).is_ok());
        for (ours, said) in [
            (Identity { module: "ef".to_owned(), ..identity() }, "line 2 is of another module (sha256 abab"),
            (Identity { export: "go".to_owned(), ..identity() }, "another function (run, this run calls go)"),
            (Identity { settings: "ef".to_owned(), ..identity() }, "other arguments"),
        ] {
            let error = refused(&ours).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_log_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), headed in any::<bool>()) {
            let start = if headed { HEADER } else { "" };
            let _read_or_refused = parse(&[start.as_bytes(), &bytes].concat());
        }
    }
}
