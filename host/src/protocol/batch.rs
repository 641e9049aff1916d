//! Batches: the records that a worker is sent in one frame.

use super::frame::Violation;

/// The records of one batch: `plan: u32, attempt: u32`, then for each record `length: u32` and its bytes. If
/// the length has its highest bit, the bytes are the reason why there is no record. If it has the second
/// highest, they are the place of the record in the arena, `offset: u64, length: u64`.
#[derive(Clone)]
pub(crate) struct Batch<'b> {
    pub(crate) plan: u32,
    pub(crate) attempt: u32,
    records: &'b [u8],
}

impl<'b> Batch<'b> {
    pub(crate) fn parse(payload: &'b [u8]) -> Result<Batch<'b>, Violation> {
        let short = || Violation::Malformed("a batch without its head".to_owned());
        let (plan, rest) = payload.split_first_chunk().ok_or_else(short)?;
        let (attempt, records) = rest.split_first_chunk().ok_or_else(short)?;
        Ok(Batch { plan: u32::from_le_bytes(*plan), attempt: u32::from_le_bytes(*attempt), records })
    }

    /// The head of a batch frame's payload.
    pub(crate) fn write_head(out: &mut Vec<u8>, plan: u32, attempt: u32) {
        out.extend_from_slice(&plan.to_le_bytes());
        out.extend_from_slice(&attempt.to_le_bytes());
    }

    /// Appends a record in the form that batches hold it.
    ///
    /// # Panics
    /// If the record is 1 GiB long; the pool refuses such input before.
    pub(crate) fn write_record(out: &mut Vec<u8>, record: &[u8]) {
        Self::write_record_head(out, record);
        out.extend_from_slice(record);
    }

    /// Appends what comes before the bytes of a record.
    ///
    /// # Panics
    /// As [`write_record`](Self::write_record).
    pub(crate) fn write_record_head(out: &mut Vec<u8>, record: &[u8]) {
        out.extend_from_slice(&Self::len_of(record).to_le_bytes());
    }

    /// Appends why there is no record, for a task that has its place in the batch and fails with this reason.
    pub(crate) fn write_misfit(out: &mut Vec<u8>, reason: &str) {
        out.extend_from_slice(&(Self::len_of(reason.as_bytes()) | MISFIT).to_le_bytes());
        out.extend_from_slice(reason.as_bytes());
    }

    /// Appends a record, of the form that batches hold, that lies in the arena at `offset`.
    pub(crate) fn write_placed(out: &mut Vec<u8>, offset: u64, len: usize) {
        out.extend_from_slice(&(16 | PLACED).to_le_bytes());
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(&(len as u64).to_le_bytes());
    }

    /// The bytes of a record that is given in the form that batches hold; `None` if it is not one of bytes.
    pub(crate) fn bytes_of(record: &[u8]) -> Option<&[u8]> {
        let (len, bytes) = record.split_first_chunk()?;
        (u32::from_le_bytes(*len) & (MISFIT | PLACED) == 0).then_some(bytes)
    }

    fn len_of(record: &[u8]) -> u32 {
        let len = u32::try_from(record.len()).ok().filter(|len| len & (MISFIT | PLACED) == 0);
        len.expect("records are checked against the input limit")
    }
}

/// The bit of a record's length that says that there is none.
const MISFIT: u32 = 1 << 31;
/// The bit of a record's length that says that it is elsewhere.
const PLACED: u32 = 1 << 30;

/// Records and results of this many bytes or more travel through the arena. For shorter ones, the copies
/// through a socket cost less than the arena's system calls.
pub(crate) const LARGE: usize = 64 << 10;

/// What a batch holds for one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record<'b> {
    Bytes(&'b [u8]),
    /// The item was not of the parameter's type: why.
    Misfit(&'b [u8]),
}

/// One of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BatchEntry<'b> {
    Here(Record<'b>),
    /// The record is in the arena.
    Placed {
        offset: u64,
        len: u64,
    },
}

impl<'b> Iterator for Batch<'b> {
    type Item = Result<BatchEntry<'b>, Violation>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.records.is_empty() {
            return None;
        }
        let record = self.records.split_first_chunk().and_then(|(len, rest)| {
            let len = u32::from_le_bytes(*len);
            let (bytes, rest) = rest.split_at_checked((len & !(MISFIT | PLACED)) as usize)?;
            let record = match (len & MISFIT != 0, len & PLACED != 0) {
                (false, false) => BatchEntry::Here(Record::Bytes(bytes)),
                (true, false) => BatchEntry::Here(Record::Misfit(bytes)),
                (true, true) => return None,
                (false, true) => {
                    let (offset, len) = bytes.split_first_chunk()?;
                    BatchEntry::Placed {
                        offset: u64::from_le_bytes(*offset),
                        len: u64::from_le_bytes(len.try_into().ok()?),
                    }
                }
            };
            Some((record, rest))
        });
        match record {
            Some((record, rest)) => {
                self.records = rest;
                Some(Ok(record))
            }
            None => {
                // The iterator ends behind its first error: where the next record would begin is not known.
                self.records = &[];
                Some(Err(Violation::Malformed("a record longer than its batch, or of no kind".to_owned())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_records_of_a_batch_come_out_as_they_went_in(
            records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..9)
        ) {
            let mut payload = Vec::new();
            Batch::write_head(&mut payload, 3, 2);
            for record in &records {
                Batch::write_record(&mut payload, record);
                Batch::write_misfit(&mut payload, "why");
                Batch::write_placed(&mut payload, 7, record.len());
            }
            let batch = Batch::parse(&payload).unwrap();
            prop_assert_eq!((batch.plan, batch.attempt), (3, 2));
            let read: Result<Vec<BatchEntry>, _> = batch.collect();
            let placed = |r: &[u8]| BatchEntry::Placed { offset: 7, len: r.len() as u64 };
            let here = BatchEntry::Here;
            let entries = |r| [here(Record::Bytes(r)), here(Record::Misfit(b"why")), placed(r)];
            let written: Vec<BatchEntry> = records.iter().flat_map(|r| entries(r)).collect();
            prop_assert_eq!(read.unwrap(), written);
        }

        #[test]
        fn any_bytes_are_read_as_a_batch_without_panic(
            payload in proptest::collection::vec(any::<u8>(), 0..40)
        ) {
            if let Ok(batch) = Batch::parse(&payload) {
                let len = |record| match record {
                    Ok(BatchEntry::Here(Record::Bytes(bytes) | Record::Misfit(bytes))) => bytes.len(),
                    Ok(BatchEntry::Placed { .. }) => 16,
                    Err(_) => 0,
                };
                prop_assert!(batch.map(len).sum::<usize>() <= payload.len());
            }
        }
    }
}
