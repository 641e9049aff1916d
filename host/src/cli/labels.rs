//! The beginnings of the records under way, so that a message about a task can name its input.
//!
//! Records come in blocks and outcomes in runs; nothing is allocated or locked for a single record. A block
//! is dropped with its last outcome, so the memory follows the records under way, in any order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record::RecordFact;
use crate::escape::{begun_len, pieces};

/// Bytes of a record that are kept to name it.
pub(super) const SHORT: usize = 48;
/// Characters of a record that are shown.
const SHOWN_MAX: usize = 40;

#[derive(Debug)]
pub(super) struct Labels {
    /// Bytes kept of each record.
    keep: usize,
    /// The blocks, by the number of their first task.
    blocks: Mutex<BTreeMap<u64, OpenBlock>>,
}

#[derive(Debug)]
struct OpenBlock {
    /// Records without an outcome.
    open: u64,
    block: Arc<Block>,
}

#[derive(Debug, Default)]
struct Block {
    text: Vec<u8>,
    /// Where each record's text ends in `text`.
    ends: Vec<usize>,
    /// The places in the block of records whose text was cut.
    cut: Vec<usize>,
    /// With a job log: each record's number in the input, and what the log will say of it. Without a job log
    /// this is empty, and a record has the number of its task.
    logged: Vec<(u64, RecordFact)>,
}

/// The labels of a block of records, for a thread that reads many of them: without a lock, without copies.
#[derive(Debug, Clone)]
pub(super) struct BlockLabels {
    /// The number of the first task.
    first: u64,
    block: Arc<Block>,
}

/// The beginning of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Label<'a> {
    pub(super) text: &'a [u8],
    pub(super) is_cut: bool,
    /// The record's number in the input, from 0 on.
    pub(super) number: u64,
    /// What the job log will say of the record.
    pub(super) fact: Option<RecordFact>,
}

impl Labels {
    pub(super) fn new(keep: usize) -> Labels {
        Labels { keep, blocks: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, OpenBlock>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the records `bounds` of `bytes`; `first` is the number of the first one's task. The reader calls
    /// this before it pushes the records, because an outcome can come at once. `logged`: see
    /// [`Block::logged`].
    pub(super) fn note(
        &self,
        first: u64,
        bytes: &[u8],
        bounds: &[Range<usize>],
        logged: Vec<(u64, RecordFact)>,
    ) {
        let mut block = Block { logged, ..Block::default() };
        block.ends.reserve_exact(bounds.len());
        for (at, bound) in bounds.iter().enumerate() {
            let record = &bytes[bound.clone()];
            if record.len() > self.keep {
                block.cut.push(at);
            }
            block.text.extend_from_slice(&record[..record.len().min(self.keep)]);
            block.ends.push(block.text.len());
        }
        block.text.shrink_to_fit();
        self.lock().insert(first, OpenBlock { open: bounds.len() as u64, block: Arc::new(block) });
    }

    /// The labels of the block of a record whose outcome has not been released.
    pub(super) fn of(&self, task: u64) -> Option<BlockLabels> {
        let blocks = self.lock();
        let (first, OpenBlock { block, .. }) = blocks.range(..=task).next_back()?;
        Some(BlockLabels { first: *first, block: block.clone() })
    }

    /// The number in the input of a record whose outcome has not been released.
    pub(super) fn number(&self, task: u64) -> u64 {
        self.of(task).and_then(|labels| Some(labels.get(task)?.number)).unwrap_or(task)
    }

    /// Forgets `count` records from `first` on: their outcomes have been handled.
    pub(super) fn release(&self, first: u64, count: u64) {
        let mut blocks = self.lock();
        let (mut first, mut left) = (first, count);
        while left > 0 {
            let Some((start, OpenBlock { open, block })) = blocks.range_mut(..=first).next_back() else {
                return;
            };
            let start = *start;
            let part = left.min((start + block.ends.len() as u64).saturating_sub(first));
            if part == 0 {
                return;
            }
            *open = open.saturating_sub(part);
            if *open == 0 {
                blocks.remove(&start);
            }
            (first, left) = (first + part, left - part);
        }
    }
}

impl BlockLabels {
    /// The label of a task's record. `None`: the record is not of this block.
    #[inline]
    pub(super) fn get(&self, task: u64) -> Option<Label<'_>> {
        let block = &*self.block;
        let at = usize::try_from(task.checked_sub(self.first)?).ok()?;
        let end = *block.ends.get(at)?;
        let start = at.checked_sub(1).map_or(0, |before| block.ends[before]);
        let (number, fact) =
            block.logged.get(at).map_or((task, None), |(number, fact)| (*number, Some(*fact)));
        let is_cut = block.cut.binary_search(&at).is_ok();
        Some(Label { text: &block.text[start..end], is_cut, number, fact })
    }
}

impl Label<'_> {
    /// The label with the first [`SHORT`] bytes of the record.
    #[inline]
    pub(super) fn short(self) -> Self {
        let len = self.text.len().min(SHORT);
        Label { text: &self.text[..len], is_cut: self.is_cut || len < self.text.len(), ..self }
    }

    /// The record, quoted, escaped and shortened: `"abc…"`.
    pub(super) fn quoted(&self) -> String {
        // The end of a cut record may be half a character.
        let half = if self.is_cut { begun_len(self.text) } else { 0 };
        let whole = self.text.len() - half;
        let mut text = String::from("\"");
        let mut pieces = pieces(&self.text[..whole]);
        for piece in pieces.by_ref().take(SHOWN_MAX) {
            match &piece[..] {
                "\"" | "\\" => text.extend(["\\", &piece]),
                _ => text.push_str(&piece),
            }
        }
        let is_cut = self.is_cut || pieces.next().is_some();
        if is_cut {
            text.push('…');
        }
        text.push('"');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::record::InputDigest;

    fn text(labels: &Labels, number: u64) -> String {
        let block = labels.of(number);
        let label = block.as_ref().and_then(|block| block.get(number));
        label.map_or("-".to_owned(), |label| String::from_utf8(label.text.to_vec()).unwrap())
    }

    #[test]
    fn a_record_is_found_until_the_last_of_its_block_is_released() {
        let labels = Labels::new(3);
        labels.note(0, b"ab,cdef,", &[0..2, 3..7, 8..8], vec![]);
        #[expect(clippy::single_range_in_vec_init, reason = "a batch of one record")]
        labels.note(3, b"xyz", &[0..3], vec![]);
        assert_eq!([0, 1, 2, 3, 4].map(|n| text(&labels, n)), ["ab", "cde", "", "xyz", "-"]);
        assert_eq!([0, 1].map(|n| labels.of(n).unwrap().get(n).unwrap().is_cut), [false, true]);
        labels.release(1, 3);
        assert_eq!([0, 3].map(|n| text(&labels, n)), ["ab", "-"]);
        labels.release(0, 1);
        assert!(labels.lock().is_empty());
    }

    #[test]
    fn a_slow_first_record_does_not_keep_the_blocks_behind_it() {
        let labels = Labels::new(SHORT);
        for block in 0..100 {
            labels.note(block * 2, b"ab", &[0..1, 1..2], vec![]);
        }
        labels.release(1, 199);
        assert_eq!(labels.lock().len(), 1);
        assert_eq!(text(&labels, 0), "a");
    }

    #[test]
    fn records_that_are_logged_have_numbers_of_their_own() {
        let labels = Labels::new(SHORT);
        let fact = |record: &[u8]| RecordFact { digest: InputDigest::of(record), len: 1, is_rerun: false };
        labels.note(0, b"ab", &[0..1, 1..2], vec![(3, fact(b"a")), (7, fact(b"b"))]);
        assert_eq!([0, 1, 2].map(|task| labels.number(task)), [3, 7, 2]);
        let block = labels.of(1).unwrap();
        let label = block.get(1).unwrap();
        assert_eq!((label.number, label.fact), (7, Some(fact(b"b"))));
    }

    #[test]
    fn records_are_quoted_escaped_and_shortened() {
        let quoted = |text: &[u8], is_cut| Label { text, is_cut, number: 0, fact: None }.quoted();
        assert_eq!(quoted(b"abc", false), "\"abc\"");
        assert_eq!(quoted(b"abc", true), "\"abc…\"");
        assert_eq!(quoted(b"a\"\t\xff\x00\x1b[2J", false), "\"a\\\"\\t\\xff\\0\\x1b[2J\"");
        assert_eq!(quoted("é".repeat(48).as_bytes(), false), format!("\"{}…\"", "é".repeat(40)));
        assert_eq!(quoted(&"é".as_bytes()[..1], true), "\"…\"");
        assert_eq!(quoted(b"", false), "\"\"");
    }
}
