//! The memory that the coordinator shares with one worker: a status page, and behind it an arena for large
//! payloads.
//!
//! The worker counts the tasks that it has started and its signs of life. The coordinator says which tasks
//! are not wanted any more, and that the guest should stop. The worker's count is not trusted: it is clamped
//! to the tasks that the worker really holds.
//!
//! Each side has a type of its own with only its own operations: [`CoordinatorPage`] and [`WorkerPage`].

mod coordinator;
mod exchange;
#[cfg(feature = "worker")]
mod worker;

use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags};

pub(crate) use self::coordinator::CoordinatorPage;
pub(crate) use self::exchange::{ExchangePage, LEASE_WORDS};
#[cfg(feature = "worker")]
pub(crate) use self::worker::{ResultWriter, WorkerPage};

/// The bytes of each half of the arena's part for records. A worker holds two batches at most; the large
/// records of one batch lie in one half.
pub(crate) const HALF_LEN: u64 = 256 << 20;
/// The bytes of the arena's part for results, which lies behind the two halves.
pub(crate) const RESULTS_LEN: u64 = 256 << 20;
const ARENA_BYTES: usize = 768 << 20;
const ARENA_LEN: u64 = ARENA_BYTES as u64;
const _: () = assert!(ARENA_LEN == 2 * HALF_LEN + RESULTS_LEN);

/// Top bit of `started`: nothing further may start. No worker lives long enough to count that far.
const FROZEN: u64 = 1 << 63;

/// The bytes of the status page. The page size of every platform is a multiple.
const PAGE_LEN: usize = 4096;

const _: () = assert!(size_of::<Layout>() <= PAGE_LEN);

#[repr(C)]
struct Layout {
    started: AtomicU64,
    cancelled: AtomicU64,
    stop: AtomicU32,
    /// The worker has mapped the arena.
    has_arena: AtomicU32,
    /// The number of results that the coordinator has copied out of the arena.
    taken: AtomicU64,
    beats: AtomicU32,
    exchange: exchange::Words,
}

/// The status page, mapped into this process.
#[derive(Debug)]
struct Mapping {
    at: NonNull<Layout>,
}

// SAFETY: the page holds only atomics, which any thread may use through a shared reference; the pointer
// itself never changes.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the page behind `fd`. An error if its length is neither that of a page alone nor that of a page
    /// with an arena.
    fn new(fd: impl AsFd) -> io::Result<Mapping> {
        let len = rustix::fs::fstat(&fd)?.st_size;
        // The descriptor came through the socket. In a shorter file, the first access behind its end would be
        // a SIGBUS.
        if len != PAGE_LEN as i64 && len != (PAGE_LEN as u64 + ARENA_LEN) as i64 {
            return Err(io::Error::other("the status page has the wrong size"));
        }
        // SAFETY: a fresh shared mapping at an address of the kernel's choice aliases nothing of ours.
        let at = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                PAGE_LEN,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                fd,
                0,
            )?
        };
        let at = NonNull::new(at.cast()).ok_or_else(|| io::Error::other("mmap returned null"))?;
        Ok(Mapping { at })
    }

    fn layout(&self) -> &Layout {
        // SAFETY: `at` is the start of a live mapping of PAGE_LEN bytes (unmapped only in drop),
        // page-aligned, and sealed against shrinking. All fields are atomics, valid for any bit pattern, so
        // the other process may write at any time.
        unsafe { self.at.as_ref() }
    }

    /// The number of tasks that the worker has started in its life, as the worker counts them.
    fn started(&self) -> u64 {
        self.layout().started.load(Ordering::Acquire) & !FROZEN
    }

    fn cancel_until(&self, tasks: u64) {
        self.layout().cancelled.fetch_max(tasks, Ordering::AcqRel);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `at` is the mapping made in `new`, and no reference to it outlives `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.at.as_ptr().cast(), PAGE_LEN) };
        debug_assert!(unmapped.is_ok(), "unmapping our own page cannot fail");
    }
}

#[cfg(all(test, feature = "worker"))]
mod tests {
    use rustix::fs::MemfdFlags;

    use super::*;

    #[test]
    fn both_sides_see_the_same_page() {
        let (coordinator, fd) = CoordinatorPage::create().unwrap();
        let worker = WorkerPage::open(&fd).unwrap();
        assert_eq!(coordinator.started(), 0);
        worker.beat();
        assert_eq!(coordinator.beats(), 1);
        assert!(worker.start_one());
        assert!(worker.start_one());
        assert_eq!(coordinator.started(), 2);
        coordinator.cancel_until(1);
        assert!(!worker.is_cancelled() && !worker.should_stop());
        coordinator.cancel_until(2);
        assert!(worker.is_cancelled() && worker.should_stop());
        assert!(worker.start_one());
        assert!(!worker.is_cancelled());
        assert_eq!(coordinator.freeze(), 3);
        assert!(!worker.start_one());
        assert_eq!((coordinator.started(), worker.is_cancelled()), (3, false));
        worker.thaw();
        assert!(worker.start_one());
        assert_eq!(coordinator.started(), 4);
        coordinator.ask_to_stop();
        assert!(worker.should_stop());
    }

    #[test]
    fn one_writer_at_most_is_handed_out() {
        let (_coordinator, fd) = CoordinatorPage::create().unwrap();
        let worker = std::sync::Arc::new(WorkerPage::open(&fd).unwrap());
        assert!(worker.take_writer().is_some());
        assert!(worker.take_writer().is_none());
    }

    #[test]
    fn a_descriptor_of_another_size_is_refused() {
        let fd = rustix::fs::memfd_create("other", MemfdFlags::CLOEXEC).unwrap();
        assert!(WorkerPage::open(&fd).is_err());
    }
}
