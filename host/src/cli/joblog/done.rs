//! The tasks that a log has, and what they mean for a record.

use std::collections::HashMap;
use std::io::Read;

use super::line::{LogLine, RunIdentity};
use super::read::{Extent, LogRefused, lines};
use crate::cli::record::InputDigest;

/// Which records a resumed run runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Rule {
    /// Records that are not in the log: `--resume`.
    New,
    /// These, and records whose tasks have failed: `--resume-failed`.
    NewAndFailed,
    /// Only records whose tasks have failed: `--retry-failed`.
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
pub(in crate::cli) enum RecordVerdict {
    Run,
    /// The record's task has failed before.
    RunAgain,
    Skip,
    /// The record's task has failed before.
    SkipFailed,
}

/// The tasks of a log, by their records. Equal records are counted: each line of the log stands for one of
/// them.
///
/// A hash table has 21 bytes for each place, and is between 7/16 and 7/8 full. So a line of the log takes at
/// most 48 bytes.
#[derive(Debug, Default)]
pub(in crate::cli) struct Done {
    ok: HashMap<InputDigest, u32>,
    failed: HashMap<InputDigest, u32>,
}

impl Done {
    fn add(&mut self, line: &LogLine<'_>) {
        // A second attempt of the same record replaces its failure, and does not count as another record.
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

    /// Tasks for which no record has been found yet.
    pub(in crate::cli) fn left(&self) -> u64 {
        self.ok.values().chain(self.failed.values()).map(|count| u64::from(*count)).sum()
    }

    /// Decides about one record, which uses up one task of the log.
    pub(super) fn verdict(&mut self, rule: Rule, record: InputDigest) -> RecordVerdict {
        match rule {
            Rule::New | Rule::NewAndFailed if take(&mut self.ok, record) => RecordVerdict::Skip,
            Rule::New if take(&mut self.failed, record) => RecordVerdict::SkipFailed,
            Rule::NewAndFailed | Rule::Failed if take(&mut self.failed, record) => RecordVerdict::RunAgain,
            Rule::New | Rule::NewAndFailed => RecordVerdict::Run,
            Rule::Failed => {
                // Used up all the same: equal records behind it are judged by what is left.
                take(&mut self.ok, record);
                RecordVerdict::Skip
            }
        }
    }
}

/// Uses up one task of the record, if there is one.
fn take(counts: &mut HashMap<InputDigest, u32>, record: InputDigest) -> bool {
    let Some(count) = counts.get_mut(&record) else { return false };
    *count -= 1;
    if *count == 0 {
        counts.remove(&record);
    }
    true
}

/// Reads the tasks of a log. With `ours`, a line of another run is an error.
pub(super) fn read(log: impl Read, ours: Option<&RunIdentity>) -> Result<(Done, Extent), LogRefused> {
    let mut done = Done::default();
    let extent =
        lines(log, |number, line, identity| match ours.and_then(|ours| identity.difference(ours)) {
            Some(difference) => Err(LogRefused::Other { number, difference }),
            None => {
                done.add(line);
                Ok(())
            }
        })?;
    Ok((done, extent))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::line::header;
    use super::super::line::tests::{identity, log};
    use super::*;

    /// What becomes of `records`, a letter for each.
    fn verdicts(log: &[u8], rule: Rule, records: &str) -> String {
        let mut done = read(log, None).unwrap().0;
        let letter = |record: char| match done.verdict(rule, InputDigest::of(record.to_string().as_bytes())) {
            RecordVerdict::Run => 'r',
            RecordVerdict::RunAgain => 'a',
            RecordVerdict::Skip => 's',
            RecordVerdict::SkipFailed => 'f',
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
    fn every_record_that_a_log_has_uses_up_its_task() {
        let log = log(&[("a", "ok", false), ("b", "failed", false), ("c", "trap", false)]);
        for rule in [Rule::New, Rule::NewAndFailed, Rule::Failed] {
            let mut done = read(&log[..], None).unwrap().0;
            for (record, left) in [("x", 3), ("a", 2), ("b", 1), ("a", 1), ("c", 0)] {
                done.verdict(rule, InputDigest::of(record.as_bytes()));
                assert_eq!(done.left(), left, "{rule:?} {record}");
            }
        }
    }

    #[test]
    fn a_line_of_a_second_run_replaces_the_first() {
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
        let refused = |ours: &RunIdentity| read(&log[..], Some(ours)).map_err(|refused| refused.to_string());
        assert!(refused(&identity()).is_ok());
        for (ours, said) in [
            (
                RunIdentity { module: "ef".to_owned(), ..identity() },
                "line 2 is of another module (sha256 abab",
            ),
            (
                RunIdentity { export: "go".to_owned(), ..identity() },
                "another function (run, this run calls go)",
            ),
            (RunIdentity { settings: "ef".repeat(16), ..identity() }, "other arguments"),
            (RunIdentity { settings: "ef".repeat(8), ..identity() }, "an earlier version of wpool"),
        ] {
            let error = refused(&ours).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_log_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            headed in any::<bool>(),
        ) {
            let start = if headed { header() } else { String::new() };
            let _read_or_refused = read(&[start.as_bytes(), &bytes].concat()[..], None);
        }
    }
}
