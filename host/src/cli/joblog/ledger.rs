//! Which records of the input are run, by a log that is resumed.

use std::ops::Range;

use super::done::{Done, Rule, Verdict};
use super::line::InputDigest;
use crate::cli::args::Match;

/// Memory for records that are held back until one is found in the log.
const HELD_MAX: usize = 1 << 20;

/// What the log will say of a record, as soon as it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Fact {
    pub(in crate::cli) digest: InputDigest,
    /// Bytes of the whole record.
    pub(in crate::cli) len: u64,
    pub(in crate::cli) is_rerun: bool,
}

/// The tasks of a log that is resumed, and what they mean.
#[derive(Debug)]
pub(in crate::cli) struct Resumed {
    done: Done,
    rule: Rule,
    proof: Proof,
}

impl Resumed {
    pub(super) fn new(done: Done, rule: Rule, how: Match) -> Resumed {
        Resumed { done, rule, proof: proof(how) }
    }
}

/// Whether the log is one of this input.
#[derive(Debug)]
enum Proof {
    /// No record of the log has been seen. All are held back, in so much memory: nothing may run yet.
    None(Vec<Held>, usize),
    /// One has been seen, or it does not matter.
    Given,
}

fn proof(how: Match) -> Proof {
    match how {
        Match::Same => Proof::None(Vec::new(), 0),
        Match::Force => Proof::Given,
    }
}

/// Records that wait.
#[derive(Debug)]
struct Held {
    bytes: Vec<u8>,
    bounds: Vec<Range<usize>>,
}

/// Decides which records are run, and numbers them.
#[derive(Debug)]
pub(in crate::cli) struct Ledger {
    resumed: Option<Resumed>,
    /// Records so far.
    number: u64,
    pub(in crate::cli) skipped: u64,
    /// Of these, those that have failed before.
    pub(in crate::cli) skipped_failed: u64,
    chosen: Chosen,
}

/// Records to run, in their bytes: place, number, and what the log will say.
#[derive(Debug, Default)]
pub(in crate::cli) struct Chosen {
    pub(in crate::cli) bounds: Vec<Range<usize>>,
    pub(in crate::cli) numbers: Vec<u64>,
    pub(in crate::cli) facts: Vec<Fact>,
}

/// None of the first records of the input, or of all, is in the log.
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

/// What to do about a log of another run.
pub(super) fn way_out(rule: Rule) -> String {
    format!("; {}=force takes its tasks for done all the same, another --joblog begins anew", rule.option())
}

impl Ledger {
    pub(in crate::cli) fn new(resumed: Option<Resumed>) -> Ledger {
        let resumed = resumed.map(|resumed| match resumed.done.left() {
            // An empty log is of any input.
            0 => Resumed { proof: Proof::Given, ..resumed },
            _ => resumed,
        });
        Ledger { resumed, number: 0, skipped: 0, skipped_failed: 0, chosen: Chosen::default() }
    }

    /// Takes records in, and gives to `run` those that are to be run: now, or when it is known that the log is one of theirs.
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

    /// Whether the log is one of the input. To be asked at its end.
    pub(in crate::cli) fn proven(&self) -> Result<(), OtherInput> {
        match &self.resumed {
            Some(Resumed { proof: Proof::None(held, _), rule, .. }) if !held.is_empty() => {
                let records = held.iter().map(|held| held.bounds.len() as u64).sum();
                Err(OtherInput { records, rule: *rule })
            }
            _ => Ok(()),
        }
    }

    /// Tasks of the log that no record was found for.
    pub(in crate::cli) fn left(&self) -> u64 {
        self.resumed.as_ref().map_or(0, |resumed| resumed.done.left())
    }

    fn choose<E>(
        &mut self,
        bytes: &[u8],
        bounds: &[Range<usize>],
        run: &mut impl FnMut(&[u8], &Chosen) -> Result<(), E>,
    ) -> Result<(), E> {
        let Chosen { bounds: kept, numbers, facts } = &mut self.chosen;
        kept.clear();
        numbers.clear();
        facts.clear();
        for bound in bounds {
            let record = &bytes[bound.clone()];
            let digest = InputDigest::of(record);
            let verdict =
                self.resumed.as_mut().map_or(Verdict::Run, |log| log.done.verdict(log.rule, digest));
            match verdict {
                Verdict::Skip => self.skipped += 1,
                Verdict::SkipFailed => {
                    self.skipped += 1;
                    self.skipped_failed += 1;
                }
                Verdict::Run | Verdict::RunAgain => {
                    kept.push(bound.clone());
                    numbers.push(self.number);
                    let is_rerun = verdict == Verdict::RunAgain;
                    facts.push(Fact { digest, len: record.len() as u64, is_rerun });
                }
            }
            self.number += 1;
        }
        match self.chosen.bounds.is_empty() {
            true => Ok(()),
            false => run(bytes, &self.chosen),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::done;
    use super::super::line::{self, Form, Identity, Line, header};
    use super::*;

    fn ledger(done: &[&str], how: Match) -> Ledger {
        let mut text = header().into_bytes();
        let identity =
            Identity { module: "ab".to_owned(), export: "run".to_owned(), settings: "cd".to_owned() };
        for record in done {
            let line = Line {
                seq: 1,
                started: Duration::ZERO,
                took: Duration::ZERO,
                sent: 0,
                received: 0,
                exitval: 0,
                signal: 0,
                command: "",
                kind: line::OK,
                attempt: 1,
                rerun: false,
                input: InputDigest::of(record.as_bytes()),
                fuel: None,
                memory: None,
                output: None,
            };
            line.write(&identity, Form::Present, &mut text);
        }
        let done = done::read(&text[..], None).unwrap().0;
        Ledger::new(Some(Resumed::new(done, Rule::New, how)))
    }

    /// Gives one record after the other, and gathers what is run, with its number.
    fn run(ledger: &mut Ledger, records: &[&str]) -> Result<Vec<(u64, String)>, OtherInput> {
        let mut ran = Vec::new();
        for record in records {
            let mut each = |bytes: &[u8], chosen: &Chosen| {
                for (bound, number) in chosen.bounds.iter().zip(&chosen.numbers) {
                    ran.push((*number, String::from_utf8(bytes[bound.clone()].to_vec()).unwrap()));
                }
                Ok::<(), std::convert::Infallible>(())
            };
            let bound = 1..record.len() + 1;
            let bounds = std::slice::from_ref(&bound);
            let Ok(known) = ledger.take(format!("-{record}-").as_bytes(), bounds, &mut each);
            known?;
        }
        ledger.proven().map(|()| ran)
    }

    #[test]
    fn records_that_are_done_are_left_out_and_the_others_keep_their_numbers() {
        let mut ledger = ledger(&["a", "b", "a"], Match::Same);
        let ran = run(&mut ledger, &["x", "y", "a", "b", "z", "a", "a"]).unwrap();
        let expected = [(0, "x"), (1, "y"), (4, "z"), (6, "a")].map(|(n, r)| (n, r.to_owned()));
        assert_eq!((ran, ledger.skipped, ledger.left()), (expected.to_vec(), 3, 0));
    }

    #[test]
    fn f83_nothing_runs_of_an_input_that_has_no_record_in_common_with_the_log() {
        assert_eq!(
            run(&mut ledger(&["a"], Match::Same), &["x", "y"]),
            Err(OtherInput { records: 2, rule: Rule::New })
        );
        let long = "x".repeat(HELD_MAX);
        assert_eq!(
            run(&mut ledger(&["a"], Match::Same), &["x", &long, "a"]),
            Err(OtherInput { records: 2, rule: Rule::New })
        );
        assert_eq!(run(&mut ledger(&["a"], Match::Force), &["x"]), Ok(vec![(0, "x".to_owned())]));
        assert_eq!(run(&mut ledger(&[], Match::Same), &["x"]), Ok(vec![(0, "x".to_owned())]));
        assert_eq!(run(&mut ledger(&["a"], Match::Same), &[]), Ok(vec![]));
    }
}
