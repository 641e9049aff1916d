//! The status page: one page shared by the coordinator and one worker.
//!
//! The worker says how many tasks it has started, so that a death is charged to the one that was running and to no other;
//! the coordinator says which of them nobody wants any more, and that it wants the guest to stop. The worker's side is not trusted: its count is only ever clamped
//! to the tasks that the worker really holds.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

#[repr(C)]
struct Layout {
    started: AtomicU64,
    cancelled: AtomicU64,
    stop: AtomicU32,
}

/// A mapping of the page in this process.
#[derive(Debug)]
pub(crate) struct StatusPage {
    at: NonNull<Layout>,
}

/// In the count of tasks started: no more may be. No worker lives to start so many that the count itself comes near.
const FROZEN: u64 = 1 << 63;

/// The size of the mapping; a page of any platform is a multiple of it.
const PAGE_LEN: usize = 4096;

// SAFETY: the page holds only atomics, which any thread may use through a shared reference; the pointer itself never changes.
unsafe impl Send for StatusPage {}
// SAFETY: as above.
unsafe impl Sync for StatusPage {}

impl StatusPage {
    /// A new page, and the descriptor by which a worker maps the same one.
    pub(crate) fn create() -> io::Result<(StatusPage, OwnedFd)> {
        let fd = rustix::fs::memfd_create("wpool-status", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&fd, PAGE_LEN as u64)?;
        // Nobody can shrink it under our mapping: no SIGBUS.
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok((StatusPage::open(&fd)?, fd))
    }

    /// Maps the page behind `fd`.
    pub(crate) fn open(fd: impl AsFd) -> io::Result<StatusPage> {
        if rustix::fs::fstat(&fd)?.st_size != PAGE_LEN as i64 {
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
        Ok(StatusPage { at })
    }

    fn layout(&self) -> &Layout {
        // SAFETY: `at` is the start of a live mapping of PAGE_LEN bytes (unmapped only in drop), page-aligned, sealed against
        // shrinking; both fields are atomics, valid for any bit pattern, so the other process may write at any time.
        unsafe { self.at.as_ref() }
    }

    /// How many tasks the worker has started in its life, by its own word.
    pub(crate) fn started(&self) -> u64 {
        self.layout().started.load(Ordering::Acquire) & !FROZEN
    }

    /// The worker: one more task starts now. `false`: it may not, for what it has not begun was taken back.
    #[cfg(feature = "worker")]
    pub(crate) fn start_one(&self) -> bool {
        let started = &self.layout().started;
        let now = started.load(Ordering::Relaxed);
        // The coordinator writes the bit only: either it is seen here, or the coordinator sees this task in the count.
        now & FROZEN == 0 && started.compare_exchange(now, now + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The coordinator: no task is started from now on. Gives how many have been.
    pub(crate) fn freeze(&self) -> u64 {
        self.layout().started.fetch_or(FROZEN, Ordering::AcqRel) & !FROZEN
    }

    /// The worker: what comes from now on may be started.
    #[cfg(feature = "worker")]
    pub(crate) fn thaw(&self) {
        self.layout().started.fetch_and(!FROZEN, Ordering::AcqRel);
    }

    /// The coordinator: nobody wants the first `tasks` tasks of the worker's life any more. Their number only goes up; `u64::MAX` is all of them.
    pub(crate) fn cancel_until(&self, tasks: u64) {
        self.layout().cancelled.fetch_max(tasks, Ordering::AcqRel);
    }

    /// The worker: whether nobody wants the task that was started last. Before the first: whether nobody wants any.
    #[cfg(feature = "worker")]
    pub(crate) fn is_cancelled(&self) -> bool {
        let cancelled = self.layout().cancelled.load(Ordering::Acquire);
        cancelled != 0 && self.started() <= cancelled
    }

    /// The coordinator asks the worker's guest to stop, at its own convenience.
    pub(crate) fn ask_to_stop(&self) {
        self.layout().stop.store(1, Ordering::Release);
    }

    /// Whether the guest was asked to stop.
    #[cfg(feature = "worker")]
    pub(crate) fn should_stop(&self) -> bool {
        self.layout().stop.load(Ordering::Acquire) != 0 || self.is_cancelled()
    }
}

impl Drop for StatusPage {
    fn drop(&mut self) {
        // SAFETY: `at` is the mapping made in `open`, and no reference to it outlives `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.at.as_ptr().cast(), PAGE_LEN) };
        debug_assert!(unmapped.is_ok(), "unmapping our own page cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_see_the_same_page() {
        let (coordinator, fd) = StatusPage::create().unwrap();
        let worker = StatusPage::open(&fd).unwrap();
        assert_eq!(coordinator.started(), 0);
        #[cfg(feature = "worker")]
        {
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
        drop(worker);
    }

    #[test]
    fn a_descriptor_of_another_size_is_refused() {
        let fd = rustix::fs::memfd_create("other", MemfdFlags::CLOEXEC).unwrap();
        assert!(StatusPage::open(&fd).is_err());
    }
}
