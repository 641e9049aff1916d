//! The tasks that a log has, and what they mean for a record.

use std::io::Read;
use std::ops::Range;

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
/// A line takes 20 bytes here, and a quarter of a byte in the index. A hash table takes up to 48, and more
/// while it grows.
#[derive(Debug, Default)]
pub(in crate::cli) struct Done {
    /// In the order of their records: for each record at most one entry of each kind.
    tasks: Vec<DoneEntry>,
    /// The place in `tasks` of the first entry of each bucket, and the end of the last. The first bits of a
    /// digest, all of which are equally likely, choose its bucket.
    starts: Vec<u32>,
}

/// A line of a log; once the log is read, the tasks of one kind of all equal records.
#[derive(Debug, Clone, Copy)]
struct DoneEntry {
    record: InputDigest,
    /// The lowest bit: whether the task has failed. Of a line, the next one: whether it was run again. The
    /// others: the number of the line, or how many tasks no record has used up.
    number: u32,
}

const FAILED: u32 = 1;
const RERUN: u32 = 2;
/// Lines of a log whose order counts. It matters only for a record that was run again.
const LINES_MAX: u32 = u32::MAX >> 2;

impl DoneEntry {
    fn is_failed(self) -> bool {
        self.number & FAILED != 0
    }

    /// How many tasks are left.
    fn count(self) -> u32 {
        self.number >> 1
    }
}

/// Collects the lines of a log.
#[derive(Debug, Default)]
struct DoneBuilder {
    lines: Vec<DoneEntry>,
}

impl DoneBuilder {
    fn add(&mut self, line: &LogLine<'_>) {
        let at = u32::try_from(self.lines.len()).map_or(LINES_MAX, |at| at.min(LINES_MAX));
        let failed = if line.is_ok() { 0 } else { FAILED };
        let rerun = if line.rerun { RERUN } else { 0 };
        self.lines.push(DoneEntry { record: line.input, number: at << 2 | rerun | failed });
    }

    /// Counts the tasks of each record, in the memory of the lines.
    fn build(self) -> Done {
        let DoneBuilder { lines: mut tasks } = self;
        tasks.sort_unstable_by_key(|entry| (entry.record, entry.number));
        let (mut kept, mut at) = (0, 0);
        while let Some(&DoneEntry { record, .. }) = tasks.get(at) {
            let [mut ok, mut failed] = [0u32; 2];
            while let Some(line) = tasks.get(at).filter(|line| line.record == record) {
                // A second attempt of the same record replaces its failure, and does not count as another
                // record.
                if line.number & RERUN != 0 {
                    failed = failed.saturating_sub(1);
                }
                let of_its_kind = if line.is_failed() { &mut failed } else { &mut ok };
                *of_its_kind += 1;
                at += 1;
            }
            // A record has at least as many lines as it gets entries.
            for (count, kind) in [(ok, 0), (failed, FAILED)] {
                if count > 0 {
                    tasks[kept] = DoneEntry { record, number: count << 1 | kind };
                    kept += 1;
                }
            }
        }
        tasks.truncate(kept);
        let starts = starts(&tasks);
        Done { tasks, starts }
    }
}

/// The index of sorted entries: a bucket for sixteen of them.
fn starts(tasks: &[DoneEntry]) -> Vec<u32> {
    let buckets = (tasks.len() / 16).next_power_of_two();
    let place = |bucket| tasks.partition_point(|entry| bucket_of(entry.record, buckets) < bucket);
    (0..=buckets).map(|bucket| u32::try_from(place(bucket)).unwrap_or(u32::MAX)).collect()
}

/// The bucket of a record among a power of two of them.
fn bucket_of(record: InputDigest, buckets: usize) -> usize {
    let first = record.bytes().first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
    usize::try_from((u128::from(first) * buckets as u128) >> 64).unwrap_or_default()
}

impl Done {
    pub(in crate::cli) fn contains(&self, record: InputDigest) -> bool {
        self.tasks[self.range(record)].iter().any(|entry| entry.record == record && entry.count() > 0)
    }

    /// Tasks for which no record has been found yet.
    pub(in crate::cli) fn left(&self) -> u64 {
        self.tasks.iter().map(|entry| u64::from(entry.count())).sum()
    }

    /// Decides about one record, which uses up one task of the log.
    pub(super) fn verdict(&mut self, rule: Rule, record: InputDigest) -> RecordVerdict {
        match rule {
            Rule::New | Rule::NewAndFailed if self.take(record, 0) => RecordVerdict::Skip,
            Rule::New if self.take(record, FAILED) => RecordVerdict::SkipFailed,
            Rule::NewAndFailed | Rule::Failed if self.take(record, FAILED) => RecordVerdict::RunAgain,
            Rule::New | Rule::NewAndFailed => RecordVerdict::Run,
            Rule::Failed => {
                // Used up all the same: equal records behind it are judged by what is left.
                self.take(record, 0);
                RecordVerdict::Skip
            }
        }
    }

    /// Uses up one task of the record and kind, if there is one.
    fn take(&mut self, record: InputDigest, kind: u32) -> bool {
        let range = self.range(record);
        let is_it = |entry: &&mut DoneEntry| entry.record == record && entry.number & FAILED == kind;
        match self.tasks[range].iter_mut().find(is_it) {
            Some(entry) if entry.count() > 0 => {
                entry.number -= 1 << 1;
                true
            }
            Some(_) | None => false,
        }
    }

    /// The place of the record's bucket.
    fn range(&self, record: InputDigest) -> Range<usize> {
        let bucket = bucket_of(record, self.starts.len().saturating_sub(1));
        match self.starts.get(bucket..bucket + 2) {
            Some(&[start, end]) => start as usize..end as usize,
            _ => 0..0,
        }
    }
}

/// Reads the tasks of a log. With `ours`, a line of another run is an error.
pub(super) fn read(log: impl Read, ours: Option<&RunIdentity>) -> Result<(Done, Extent), LogRefused> {
    let mut done = DoneBuilder::default();
    let extent =
        lines(log, |number, line, identity| match ours.and_then(|ours| identity.difference(ours)) {
            Some(difference) => Err(LogRefused::Other { number, difference }),
            None => {
                done.add(line);
                Ok(())
            }
        })?;
    Ok((done.build(), extent))
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
    fn a_line_takes_at_most_24_bytes() {
        let mut done = DoneBuilder::default();
        let records = (0..10_000u32).map(|n| InputDigest::of(&n.to_le_bytes()));
        done.lines.extend(records.clone().map(|record| DoneEntry { record, number: 0 }));
        let done = done.build();
        assert!(size_of::<DoneEntry>() * done.tasks.len() + 4 * done.starts.len() < 24 * 10_000);
        assert!(records.clone().all(|record| done.contains(record)) && done.left() == 10_000);
        // A bucket is looked through from its beginning.
        assert!(records.map(|record| done.range(record).len()).max().unwrap() < 64);
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

    /// The tasks of one record by their definition, line by line: done, and failed.
    fn tasks_of(lines: &[(u8, bool, bool)], record: u8) -> (u32, u32) {
        let (mut ok, mut failed) = (0, 0u32);
        for (_, is_failed, rerun) in lines.iter().filter(|line| line.0 == record) {
            failed = failed.saturating_sub(u32::from(*rerun)) + u32::from(*is_failed);
            ok += u32::from(!is_failed);
        }
        (ok, failed)
    }

    proptest! {
        #[test]
        fn tasks_are_counted_as_line_by_line(
            lines in proptest::collection::vec((0u8..40, any::<bool>(), any::<bool>()), 0..200),
        ) {
            let mut done = DoneBuilder::default();
            for (at, (record, is_failed, rerun)) in lines.iter().enumerate() {
                let number = u32::try_from(at).unwrap() << 2 | u32::from(*rerun) << 1 | u32::from(*is_failed);
                done.lines.push(DoneEntry { record: InputDigest::of(&[*record]), number });
            }
            let mut done = done.build();
            for record in 0..40 {
                let digest = InputDigest::of(&[record]);
                let (ok, failed) = tasks_of(&lines, record);
                prop_assert_eq!(done.contains(digest), ok + failed > 0);
                for _ in 0..ok {
                    prop_assert_eq!(done.verdict(Rule::New, digest), RecordVerdict::Skip);
                }
                for _ in 0..failed {
                    prop_assert_eq!(done.verdict(Rule::New, digest), RecordVerdict::SkipFailed);
                }
                prop_assert_eq!(done.verdict(Rule::New, digest), RecordVerdict::Run);
            }
            prop_assert_eq!(done.left(), 0);
        }

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
