//! Decides which records of the input are run, by the log of a resumed run.

use std::ops::Range;

use super::done::{Done, RecordVerdict, Rule};
use crate::cli::choices::LogMatch;
use crate::cli::record::{InputDigest, RecordFact};

/// Memory for records that are held back until one of them is found in the log.
const HELD_MAX: usize = 1 << 20;

/// The tasks of the log of a resumed run, and the rules for them.
#[derive(Debug)]
pub(in crate::cli) struct Resumed {
    done: Done,
    rule: Rule,
    proof: Proof,
}

impl Resumed {
    pub(super) fn new(done: Done, rule: Rule, how: LogMatch) -> Resumed {
        Resumed { done, rule, proof: proof(how) }
    }
}

/// Whether the log belongs to this input.
#[derive(Debug)]
enum Proof {
    /// No record of the log has been seen, so nothing may run yet: the records that are held back, and their
    /// memory.
    None(Vec<Held>, usize),
    /// A record of the log has been seen, or `=force` asks for none.
    Given,
}

fn proof(how: LogMatch) -> Proof {
    match how {
        LogMatch::Same => Proof::None(Vec::new(), 0),
        LogMatch::Force => Proof::Given,
    }
}

/// Records that are held back.
#[derive(Debug)]
struct Held {
    bytes: Vec<u8>,
    bounds: Vec<Range<usize>>,
}

/// Decides which records are run, and numbers them.
#[derive(Debug)]
pub(in crate::cli) struct RecordFilter {
    resumed: Option<Resumed>,
    /// The number of the next record, from 0 on.
    number: u64,
    pub(in crate::cli) skipped: u64,
    /// The skipped records whose tasks have failed before.
    pub(in crate::cli) skipped_failed: u64,
    chosen: Chosen,
}

/// Records to run: the bounds of each, and its number and fact.
#[derive(Debug, Default)]
pub(in crate::cli) struct Chosen {
    pub(in crate::cli) bounds: Vec<Range<usize>>,
    pub(in crate::cli) logged: Vec<(u64, RecordFact)>,
}

/// The log does not have any of the first records of the input, or any at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct OtherInput {
    records: u64,
    rule: Rule,
}

impl std::fmt::Display for OtherInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let records = match self.records {
            1 => "the first record".to_owned(),
            count => format!("any of the first {count} records"),
        };
        write!(f, "the job log is of another input: it does not have {records}{}", way_out(self.rule))
    }
}

/// What the user can do about a log of another run.
pub(super) fn way_out(rule: Rule) -> String {
    format!("; {}=force takes its tasks for done all the same, another --joblog begins anew", rule.option())
}

impl RecordFilter {
    pub(in crate::cli) fn new(resumed: Option<Resumed>) -> RecordFilter {
        let resumed = resumed.map(|resumed| match resumed.done.left() {
            // An empty log belongs to any input.
            0 => Resumed { proof: Proof::Given, ..resumed },
            _ => resumed,
        });
        RecordFilter { resumed, number: 0, skipped: 0, skipped_failed: 0, chosen: Chosen::default() }
    }

    /// Takes records, and passes the ones that are to be run to `run`: at once, or when it is known that the
    /// log belongs to the input.
    pub(in crate::cli) fn take<E>(
        &mut self,
        bytes: &[u8],
        bounds: &[Range<usize>],
        run: &mut impl FnMut(&[u8], &Chosen) -> Result<(), E>,
    ) -> Result<Result<(), OtherInput>, E> {
        let Some(Resumed { done, proof: Proof::None(held, memory), .. }) = &mut self.resumed else {
            return self.choose(bytes, bounds, run).map(Ok);
        };
        if bounds.iter().any(|bound| done.contains(InputDigest::of(&bytes[bound.clone()]))) {
            let held = std::mem::take(held);
            self.resumed.iter_mut().for_each(|resumed| resumed.proof = Proof::Given);
            for Held { bytes, bounds } in &held {
                self.choose(bytes, bounds, run)?;
            }
            return self.choose(bytes, bounds, run).map(Ok);
        }
        let (start, end) = (bounds.first().map_or(0, |b| b.start), bounds.last().map_or(0, |b| b.end));
        let moved = bounds.iter().map(|b| b.start - start..b.end - start).collect();
        held.push(Held { bytes: bytes[start..end].to_vec(), bounds: moved });
        *memory += end - start + size_of_val(bounds);
        let is_enough = *memory > HELD_MAX;
        Ok(if is_enough { self.proven() } else { Ok(()) })
    }

    /// Whether the log belongs to the input, as known at the input's end.
    pub(in crate::cli) fn proven(&self) -> Result<(), OtherInput> {
        match &self.resumed {
            Some(Resumed { proof: Proof::None(held, _), rule, .. }) if !held.is_empty() => {
                let records = held.iter().map(|held| held.bounds.len() as u64).sum();
                Err(OtherInput { records, rule: *rule })
            }
            _ => Ok(()),
        }
    }

    /// Tasks of the log for which no record was found.
    pub(in crate::cli) fn left(&self) -> u64 {
        self.resumed.as_ref().map_or(0, |resumed| resumed.done.left())
    }

    fn choose<E>(
        &mut self,
        bytes: &[u8],
        bounds: &[Range<usize>],
        run: &mut impl FnMut(&[u8], &Chosen) -> Result<(), E>,
    ) -> Result<(), E> {
        let Chosen { bounds: kept, logged } = &mut self.chosen;
        kept.clear();
        logged.clear();
        for bound in bounds {
            let record = &bytes[bound.clone()];
            let digest = InputDigest::of(record);
            let verdict =
                self.resumed.as_mut().map_or(RecordVerdict::Run, |log| log.done.verdict(log.rule, digest));
            match verdict {
                RecordVerdict::Skip => self.skipped += 1,
                RecordVerdict::SkipFailed => {
                    self.skipped += 1;
                    self.skipped_failed += 1;
                }
                RecordVerdict::Run | RecordVerdict::RunAgain => {
                    kept.push(bound.clone());
                    let is_rerun = verdict == RecordVerdict::RunAgain;
                    logged.push((self.number, RecordFact { digest, len: record.len() as u64, is_rerun }));
                }
            }
            self.number += 1;
        }
        if self.chosen.bounds.is_empty() { Ok(()) } else { run(bytes, &self.chosen) }
    }
}

#[cfg(test)]
mod tests {

    use super::super::done;
    use super::super::line::tests::log;
    use super::*;

    fn filter(done: &[&str], how: LogMatch) -> RecordFilter {
        let tasks: Vec<_> = done.iter().map(|record| (*record, "ok", false)).collect();
        let done = done::read(&log(&tasks)[..], None).unwrap().0;
        RecordFilter::new(Some(Resumed::new(done, Rule::New, how)))
    }

    /// Passes one record after the other, and gathers the ones that are run, with their numbers.
    fn run(filter: &mut RecordFilter, records: &[&str]) -> Result<Vec<(u64, String)>, OtherInput> {
        let mut ran = Vec::new();
        for record in records {
            let mut each = |bytes: &[u8], chosen: &Chosen| {
                for (bound, (number, _)) in chosen.bounds.iter().zip(&chosen.logged) {
                    ran.push((*number, String::from_utf8(bytes[bound.clone()].to_vec()).unwrap()));
                }
                Ok::<(), std::convert::Infallible>(())
            };
            let bound = 1..record.len() + 1;
            let bounds = std::slice::from_ref(&bound);
            let Ok(known) = filter.take(format!("-{record}-").as_bytes(), bounds, &mut each);
            known?;
        }
        filter.proven().map(|()| ran)
    }

    #[test]
    fn done_records_are_left_out_and_the_others_keep_their_numbers() {
        let mut filter = filter(&["a", "b", "a"], LogMatch::Same);
        let ran = run(&mut filter, &["x", "y", "a", "b", "z", "a", "a"]).unwrap();
        let expected = [(0, "x"), (1, "y"), (4, "z"), (6, "a")].map(|(n, r)| (n, r.to_owned()));
        assert_eq!((ran, filter.skipped, filter.left()), (expected.to_vec(), 3, 0));
    }

    #[test]
    fn f83_nothing_of_an_input_runs_that_has_no_record_in_common_with_the_log() {
        assert_eq!(
            run(&mut filter(&["a"], LogMatch::Same), &["x", "y"]),
            Err(OtherInput { records: 2, rule: Rule::New })
        );
        let long = "x".repeat(HELD_MAX);
        assert_eq!(
            run(&mut filter(&["a"], LogMatch::Same), &["x", &long, "a"]),
            Err(OtherInput { records: 2, rule: Rule::New })
        );
        assert_eq!(run(&mut filter(&["a"], LogMatch::Force), &["x"]), Ok(vec![(0, "x".to_owned())]));
        assert_eq!(run(&mut filter(&[], LogMatch::Same), &["x"]), Ok(vec![(0, "x".to_owned())]));
        assert_eq!(run(&mut filter(&["a"], LogMatch::Same), &[]), Ok(vec![]));
    }
}
