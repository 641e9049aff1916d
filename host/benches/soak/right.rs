//! Records of all kinds, and what is right for each of them.

use std::collections::BTreeMap;

use wpool::Limit;
use wpool::TaskError;

/// Pseudorandom numbers: xorshift64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The upper bits are the better ones.
        (self.0 >> 16) % bound.max(1)
    }
}

/// A record for the guest `mixed.wat`, which does what the first byte says. Most records are their own
/// results.
pub(crate) fn record(index: u64, random: &mut Random) -> String {
    let kind = match random.below(150) {
        0 => 'L',
        1 | 2 => 'M',
        3..6 => 'S',
        6..10 => 'P',
        10..20 => 'T',
        20..30 => 'E',
        30..34 => 'B',
        _ => 'a',
    };
    format!("{kind}{index}")
}

/// The outcomes of a job, compared one by one.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// What was right, by kind: a letter of a record, or `lost`.
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// Tasks whose worker was lost. A kill must explain each of them.
    pub(crate) lost: u64,
}

impl Tally {
    /// Judges the outcome of a record. An error says what is wrong with it.
    pub(crate) fn judge(&mut self, record: &str, result: &Result<Vec<u8>, TaskError>) -> Result<(), String> {
        let kind = right(record, result).ok_or_else(|| match result {
            Ok(bytes) => {
                let start = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
                format!("record {record} has a result of {} bytes: {start:?}", bytes.len())
            }
            Err(error) => format!("record {record} ended with {}: {error}", error.kind()),
        })?;
        self.lost += u64::from(kind == "lost");
        *self.counts.entry(kind).or_default() += 1;
        Ok(())
    }

    pub(crate) fn add(&mut self, other: Tally) {
        self.lost += other.lost;
        for (kind, count) in other.counts {
            *self.counts.entry(kind).or_default() += count;
        }
    }
}

/// The kind of a right outcome; `None`: it is wrong.
fn right(record: &str, result: &Result<Vec<u8>, TaskError>) -> Option<&'static str> {
    if matches!(result, Err(TaskError::WorkerLost { .. })) {
        return Some("lost");
    }
    let is_limit = |limit| matches!(result, Err(TaskError::Limit { limit: found, .. }) if *found == limit);
    let (kind, is_right) = match record.as_bytes().first() {
        Some(b'E') => ("failed", matches!(result, Err(TaskError::Failed { message }) if message == record)),
        Some(b'T') => ("trapped", matches!(result, Err(TaskError::Trap { .. }))),
        Some(b'L') => ("timed out", is_limit(Limit::Time)),
        Some(b'M') => ("out of memory", is_limit(Limit::Memory)),
        Some(b'S') => ("out of stack", is_limit(Limit::Stack)),
        Some(b'P') => ("bad result", matches!(result, Err(TaskError::BadResult { .. }))),
        Some(b'B') => ("large", result.as_ref().is_ok_and(|bytes| is_large(record, bytes))),
        Some(_) | None => ("ok", result.as_deref() == Ok(record.as_bytes())),
    };
    is_right.then_some(kind)
}

fn is_large(record: &str, bytes: &[u8]) -> bool {
    let last = record.as_bytes().last();
    bytes.len() == 1 << 20 && bytes.starts_with(record.as_bytes()) && bytes.last() == last
}
