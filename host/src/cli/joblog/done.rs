//! What a log says has been done, and what that means for a record.

use std::collections::HashMap;
use std::io::Read;

use super::line::{Identity, InputDigest, Line};
use super::read::{Extent, Refused, lines};

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

impl Rule {
    pub(super) fn option(self) -> &'static str {
        match self {
            Rule::New => "--resume",
            Rule::NewAndFailed => "--resume-failed",
            Rule::Failed => "--retry-failed",
        }
    }
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

/// Reads the tasks of a log: of `ours` only, or of any run. Whatever the bytes are, they are a log or there is a reason why not.
pub(super) fn read(log: impl Read, ours: Option<&Identity>) -> Result<(Done, Extent), Refused> {
    let mut done = Done::default();
    let extent =
        lines(log, |number, line, identity| match ours.and_then(|ours| identity.difference(ours)) {
            Some(difference) => Err(Refused::Other { number, difference }),
            None => {
                done.add(line);
                Ok(())
            }
        })?;
    Ok((done, extent))
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::line::{Form, header};
    use super::*;

    fn identity() -> Identity {
        Identity { module: "ab".repeat(16), export: "run".to_owned(), settings: "cd".to_owned() }
    }

    pub(in crate::cli::joblog) fn log(tasks: &[(&str, &str, bool)]) -> Vec<u8> {
        let mut text = header().into_bytes();
        for (at, (record, kind, rerun)) in tasks.iter().enumerate() {
            let line = Line {
                seq: at as u64 + 1,
                started: Duration::ZERO,
                took: Duration::from_millis(at as u64),
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
                output: Some(at as u64 + 1),
            };
            line.write(&identity(), Form::Present, &mut text);
        }
        text
    }

    /// What becomes of `records`, as a letter each.
    fn verdicts(log: &[u8], rule: Rule, records: &str) -> String {
        let mut done = read(log, None).unwrap().0;
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
        let log =
            log(&[("a", "ok", false), ("b", "failed", false), ("a", "ok", false), ("c", "trap", false)]);
        assert_eq!(verdicts(&log, Rule::New, "xaabbcca"), "rssfrfrr");
        assert_eq!(verdicts(&log, Rule::NewAndFailed, "xaabbcca"), "rssararr");
        assert_eq!(verdicts(&log, Rule::Failed, "xaabbcca"), "sssasass");
    }

    #[test]
    fn a_line_of_a_second_run_stands_for_the_first() {
        let log =
            log(&[("a", "failed", false), ("a", "ok", true), ("b", "trap", false), ("b", "time", true)]);
        assert_eq!(verdicts(&log, Rule::New, "aabb"), "srfr");
        assert_eq!(verdicts(&log, Rule::Failed, "aabb"), "ssas");
        let mut done = read(&log[..], None).unwrap().0;
        assert_eq!(done.left(), 2);
        done.verdict(Rule::New, InputDigest::of(b"a"));
        assert_eq!(done.left(), 1);
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
            let start = if headed { header() } else { String::new() };
            let _read_or_refused = read(&[start.as_bytes(), &bytes].concat()[..], None);
        }
    }
}
