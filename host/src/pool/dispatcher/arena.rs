//! Large payloads: they travel through memory that is shared with the worker, and only their places go
//! through its socket.
//!
//! A worker holds two batches, so the part for records has two halves. A half is free again when its batch
//! is done. A record that finds no room goes through the socket, as small ones do. The worker puts results
//! where it likes within its own part. The kernel copies a result out before anything of it is looked at. A
//! result for which its job has no room stays in the worker's memory as a [`Parked`].

use std::io;
use std::sync::Arc;

use rustix::fs::FallocateFlags;

use crate::protocol::batch::LARGE;
use crate::sys::{CoordinatorPage, HALF_LEN, RESULTS_LEN};

/// Memory that a half, or the place of a result, keeps when it is free. The rest goes back to the system.
const KEPT: u64 = 4 << 20;
/// The memory of the part for results that lies behind this is given back.
const RESULTS_KEPT: u64 = 16 << 20;

/// The two halves of an arena's part for records, as the coordinator uses them.
#[derive(Debug, Default)]
pub(super) struct Halves {
    halves: [Half; 2],
    /// How many batches have been sent, and how many of them are done.
    sent: u64,
    done: u64,
}

#[derive(Debug, Default)]
struct Half {
    /// The batch whose records lie here.
    batch: Option<u64>,
    used: u64,
}

impl Halves {
    /// From now on, records are of the next batch.
    pub(super) fn begin(&mut self) {
        self.sent += 1;
    }

    /// Puts a record of the present batch into the arena, if it is large and there is room. Gives its place.
    pub(super) fn put(&mut self, page: &CoordinatorPage, record: &[u8]) -> Option<u64> {
        if record.len() < LARGE {
            return None;
        }
        let file = page.arena()?;
        let of = |batch: Option<u64>| self.halves.iter().position(|half| half.batch == batch);
        // Never into the half of an older batch, even if it has room: the worker may be reading there.
        let n = of(Some(self.sent)).or_else(|| of(None))?;
        let half = &mut self.halves[n];
        let end = half.used.checked_add(record.len() as u64).filter(|end| *end <= HALF_LEN)?;
        let place = n as u64 * HALF_LEN + half.used;
        let mut rest = record;
        while !rest.is_empty() {
            let at = CoordinatorPage::in_file(place + (record.len() - rest.len()) as u64);
            // No memory for it is no reason to fail: the socket takes it piece by piece.
            let written =
                rustix::io::retry_on_intr(|| rustix::io::pwrite(file, rest, at)).ok().filter(|n| *n > 0)?;
            rest = &rest[written..];
        }
        // Only now: a record that was written in part occupies nothing, and goes through the socket.
        half.batch = Some(self.sent);
        half.used = end;
        Some(place)
    }

    /// The worker is through with its oldest batch.
    pub(super) fn batch_done(&mut self, page: &CoordinatorPage) {
        self.done += 1;
        self.free(page);
    }

    /// The worker will look at nothing that it was sent before.
    pub(super) fn all_done(&mut self, page: &CoordinatorPage) {
        self.done = self.sent;
        self.free(page);
    }

    fn free(&mut self, page: &CoordinatorPage) {
        for (n, half) in self.halves.iter_mut().enumerate() {
            if half.batch.is_some_and(|batch| batch <= self.done) {
                give_back(page, n as u64 * HALF_LEN, half.used, KEPT);
                *half = Half::default();
            }
        }
    }
}

/// A result that lies in its worker's memory, even if that worker is gone. Its place is free again when this
/// is dropped.
#[derive(Debug)]
pub(in crate::pool) struct Parked {
    page: Arc<CoordinatorPage>,
    offset: u64,
    len: usize,
}

impl Parked {
    /// The result of `len` bytes at `offset` in the part for results. An error if there is no such place.
    pub(super) fn new(page: &Arc<CoordinatorPage>, offset: u64, len: usize) -> io::Result<Parked> {
        let is_inside = offset.checked_add(len as u64).is_some_and(|end| end <= RESULTS_LEN);
        match page.arena().filter(|_| is_inside) {
            Some(_) => Ok(Parked { page: page.clone(), offset, len }),
            None => Err(outside()),
        }
    }

    pub(in crate::pool) fn len(&self) -> usize {
        self.len
    }

    /// Appends the result.
    pub(in crate::pool) fn fetch(self, out: &mut Vec<u8>) -> io::Result<()> {
        let file = self.page.arena().ok_or_else(outside)?;
        let (start, place) = (out.len(), 2 * HALF_LEN + self.offset);
        // Exact: the buffer stays with the result, and its room beyond that would be lost.
        out.reserve_exact(self.len);
        while out.len() < start + self.len {
            let at = CoordinatorPage::in_file(place + (out.len() - start) as u64);
            let read = rustix::io::retry_on_intr(|| {
                rustix::io::pread(file, rustix::buffer::spare_capacity(out), at)
            })?;
            // The file is never shorter than the arena.
            if read == 0 {
                return Err(outside());
            }
        }
        out.truncate(start + self.len);
        Ok(())
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        // The beginning is used again and again. What lies far behind came from a rare burst.
        let kept = RESULTS_KEPT.saturating_sub(self.offset).min(KEPT);
        give_back(&self.page, 2 * HALF_LEN + self.offset, self.len as u64, kept);
        // Last: with this, the worker may write there again.
        self.page.take_one();
    }
}

fn outside() -> io::Error {
    io::Error::other("a result outside of the arena")
}

/// Gives the memory back of what was used at this place, but for the first `kept` bytes.
fn give_back(page: &CoordinatorPage, place: u64, len: u64, kept: u64) {
    if let Some(file) = page.arena()
        && len > kept
    {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // Memory that stays is used again.
        let _kept = rustix::fs::fallocate(file, flags, CoordinatorPage::in_file(place + kept), len - kept);
    }
}

#[cfg(feature = "worker")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::WorkerPage;

    fn pages() -> (CoordinatorPage, Arc<WorkerPage>) {
        let (coordinator, fd) = CoordinatorPage::create().unwrap();
        let worker = Arc::new(WorkerPage::open(&fd).unwrap());
        (coordinator, worker)
    }

    #[test]
    fn a_batchs_records_lie_in_one_half_until_it_is_done() {
        let (coordinator, worker) = pages();
        let mut halves = Halves::default();
        let record = |n: u8| vec![n; LARGE];
        let send = |halves: &mut Halves, n: u8| {
            halves.begin();
            halves.put(&coordinator, &record(n)).map(|at| (at, halves.put(&coordinator, &record(n + 1))))
        };
        let len = LARGE as u64;
        assert_eq!(send(&mut halves, 1), Some((0, Some(len))));
        assert_eq!(send(&mut halves, 3), Some((HALF_LEN, Some(HALF_LEN + len))));
        for (at, n) in [(0, 1), (len, 2), (HALF_LEN, 3), (HALF_LEN + len, 4)] {
            assert_eq!(worker.record(at, len), Some(&record(n)[..]));
        }
        // A third batch has no room, and goes through the socket.
        assert_eq!(send(&mut halves, 5), None);
        halves.batch_done(&coordinator);
        assert_eq!(send(&mut halves, 7), Some((0, Some(len))));
        halves.all_done(&coordinator);
        assert_eq!(send(&mut halves, 9), Some((0, Some(len))));
        assert_eq!(halves.put(&coordinator, b"short"), None);
    }

    #[test]
    fn the_worker_sees_no_record_outside_of_its_part() {
        let (_coordinator, worker) = pages();
        assert!(worker.record(2 * HALF_LEN - 1, 1).is_some());
        for (offset, len) in [(2 * HALF_LEN, 1), (0, 2 * HALF_LEN + 1), (u64::MAX, 1), (1, u64::MAX)] {
            assert!(worker.record(offset, len).is_none(), "{offset} {len}");
        }
    }

    #[test]
    fn a_result_is_copied_out_and_its_memory_given_back() {
        let (coordinator, worker) = pages();
        let writer = worker.take_writer().unwrap();
        let coordinator = Arc::new(coordinator);
        let result: Vec<u8> = (0..KEPT + 100_000).map(|n| (n % 251) as u8).collect();
        assert!(writer.put(77, &result));
        let mut out = b"before ".to_vec();
        let parked = Parked::new(&coordinator, 77, result.len()).unwrap();
        assert_eq!(writer.taken(), 0);
        parked.fetch(&mut out).unwrap();
        assert!(out.starts_with(b"before ") && out[7..] == result[..]);
        assert_eq!(writer.taken(), 1);
        // The head stays, the rest is fresh memory again.
        let mut again = Vec::new();
        Parked::new(&coordinator, 77, result.len()).unwrap().fetch(&mut again).unwrap();
        assert!(again.starts_with(&result[..1000]) && again.ends_with(&[0; 1000]));
        // Far behind, nothing stays.
        assert!(writer.put(RESULTS_KEPT, b"far"));
        drop(Parked::new(&coordinator, RESULTS_KEPT, 4096).unwrap());
        let mut far = Vec::new();
        Parked::new(&coordinator, RESULTS_KEPT, 3).unwrap().fetch(&mut far).unwrap();
        assert_eq!((far, writer.taken()), (vec![0; 3], 4));

        assert!(!writer.put(RESULTS_LEN, b"x"));
        for (offset, len) in [(RESULTS_LEN, 1), (u64::MAX, 2), (0, usize::MAX)] {
            assert!(Parked::new(&coordinator, offset, len).is_err(), "{offset} {len}");
        }
    }

    #[test]
    fn without_a_workers_word_there_is_no_arena() {
        let (coordinator, _fd) = CoordinatorPage::create().unwrap();
        let mut halves = Halves::default();
        halves.begin();
        assert_eq!(halves.put(&coordinator, &vec![0; LARGE]), None);
        assert!(Parked::new(&Arc::new(coordinator), 0, 1).is_err());
    }
}
