//! The memory that the coordinator shares with one worker: a status page, and behind it an arena for large payloads.
//!
//! The worker says how many tasks it has started, so that a death is charged to the one that was running and to no other, and that it lives;
//! the coordinator says which of them nobody wants any more, and that it wants the guest to stop. The worker's side is not trusted: its count is only ever clamped
//! to the tasks that the worker really holds.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use rustix::process::{Resource, getrlimit};

#[repr(C)]
struct Layout {
    started: AtomicU64,
    cancelled: AtomicU64,
    stop: AtomicU32,
    /// The worker has mapped the arena.
    has_arena: AtomicU32,
    /// How many results the coordinator has copied out of the arena.
    taken: AtomicU64,
    beats: AtomicU32,
}

/// A mapping of the page in this process.
///
/// The arena is a few hundred megabytes of addresses, which cost nothing until they are used. The coordinator does not map it: it reads and writes
/// the file behind it, so that what a hostile worker does there at the same time is no concern of its memory.
#[derive(Debug)]
pub(crate) struct StatusPage {
    at: NonNull<Layout>,
    /// The coordinator's side of the arena.
    file: Option<OwnedFd>,
    /// The worker's side of it.
    #[cfg(feature = "worker")]
    arena: Option<NonNull<u8>>,
}

/// Each half of the arena's part for records. A batch's large records lie in one of them; a worker holds two batches.
pub(crate) const HALF_LEN: u64 = 256 << 20;
/// The arena's part for results, behind the two halves.
pub(crate) const RESULTS_LEN: u64 = 256 << 20;
const ARENA_BYTES: usize = 768 << 20;
const ARENA_LEN: u64 = ARENA_BYTES as u64;
const _: () = assert!(ARENA_LEN == 2 * HALF_LEN + RESULTS_LEN);

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
        let fd = super::above_stdio(fd)?;
        // A limit on the length of files holds for this one too, and to go over it is a signal that kills.
        let most = getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
        let arena = if most >= PAGE_LEN as u64 + ARENA_LEN { ARENA_LEN } else { 0 };
        rustix::fs::ftruncate(&fd, PAGE_LEN as u64 + arena)?;
        // Nobody can shrink it under our mapping: no SIGBUS.
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let mut page = StatusPage::map(&fd)?;
        page.file = if arena > 0 { Some(fd.try_clone()?) } else { None };
        Ok((page, fd))
    }

    /// Maps the page behind `fd`, and the arena, if there is one and there are addresses for it.
    #[cfg(feature = "worker")]
    pub(crate) fn open(fd: impl AsFd) -> io::Result<StatusPage> {
        let mut page = StatusPage::map(&fd)?;
        if rustix::fs::fstat(&fd)?.st_size == (PAGE_LEN as u64 + ARENA_LEN) as i64 {
            // SAFETY: a fresh shared mapping at an address of the kernel's choice aliases nothing of ours; the file is as long as that, and
            // sealed.
            let arena = unsafe {
                rustix::mm::mmap(
                    std::ptr::null_mut(),
                    ARENA_BYTES,
                    ProtFlags::READ | ProtFlags::WRITE,
                    MapFlags::SHARED,
                    fd,
                    PAGE_LEN as u64,
                )
            };
            page.arena = arena.ok().and_then(|at| NonNull::new(at.cast()));
            page.layout().has_arena.store(page.arena.is_some().into(), Ordering::Release);
        }
        Ok(page)
    }

    fn map(fd: impl AsFd) -> io::Result<StatusPage> {
        let len = rustix::fs::fstat(&fd)?.st_size;
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
        Ok(StatusPage {
            at,
            file: None,
            #[cfg(feature = "worker")]
            arena: None,
        })
    }

    fn layout(&self) -> &Layout {
        // SAFETY: `at` is the start of a live mapping of PAGE_LEN bytes (unmapped only in drop), page-aligned, sealed against
        // shrinking; all fields are atomics, valid for any bit pattern, so the other process may write at any time.
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
        now & FROZEN == 0
            && started.compare_exchange(now, now + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
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

    /// The worker: a sign of life. Safe in a signal handler.
    #[cfg(feature = "worker")]
    pub(crate) fn beat(&self) {
        self.layout().beats.fetch_add(1, Ordering::Relaxed);
    }

    /// The worker's signs of life so far. A busy worker gives a hundred in a second, whatever its guest does.
    pub(crate) fn beats(&self) -> u32 {
        self.layout().beats.load(Ordering::Relaxed)
    }

    // The arena.

    /// The coordinator: the file behind the arena, if both sides have it.
    pub(crate) fn arena(&self) -> Option<&OwnedFd> {
        self.file.as_ref().filter(|_| self.layout().has_arena.load(Ordering::Acquire) != 0)
    }

    /// Where a place in the arena is in its file.
    pub(crate) fn in_file(offset: u64) -> u64 {
        PAGE_LEN as u64 + offset
    }

    /// The coordinator: one more result has been copied out.
    pub(crate) fn take_one(&self) {
        self.layout().taken.fetch_add(1, Ordering::AcqRel);
    }

    /// The worker: how many results have been copied out.
    #[cfg(feature = "worker")]
    pub(crate) fn taken(&self) -> u64 {
        self.layout().taken.load(Ordering::Acquire)
    }

    /// The worker: a record that the coordinator has put into the arena. `None`: there is no such place.
    #[cfg(feature = "worker")]
    pub(crate) fn record(&self, offset: u64, len: u64) -> Option<&[u8]> {
        let arena = self.arena.filter(|_| offset.checked_add(len).is_some_and(|end| end <= 2 * HALF_LEN))?;
        // SAFETY: the range was checked to be within the mapping, which lives as long as `self` and is readable. Its pages are zero until they are
        // written. The coordinator, which alone writes to this part, leaves a batch's records alone until the worker says that the batch is done;
        // the caller's borrow ends before that.
        Some(unsafe {
            std::slice::from_raw_parts(
                arena.as_ptr().add(usize::try_from(offset).ok()?),
                usize::try_from(len).ok()?,
            )
        })
    }

    /// The worker: copies a result into the arena, at `offset` of the part for results. `false`: it does not fit there.
    #[cfg(feature = "worker")]
    pub(crate) fn put_result(&self, offset: u64, result: &[u8]) -> bool {
        let fits = offset.checked_add(result.len() as u64).is_some_and(|end| end <= RESULTS_LEN);
        let (Some(arena), Ok(at)) = (self.arena.filter(|_| fits), usize::try_from(2 * HALF_LEN + offset))
        else {
            return false;
        };
        // SAFETY: the range was checked to be within the mapping, which is writable and no part of any Rust object, so that `result` does not
        // overlap it. No reference to this part is ever made; the other process only has it copied by the kernel.
        unsafe { std::ptr::copy_nonoverlapping(result.as_ptr(), arena.as_ptr().add(at), result.len()) };
        true
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
        #[cfg(feature = "worker")]
        if let Some(arena) = self.arena {
            // SAFETY: as above, for the mapping made in `open`; slices of it borrow `self`.
            let unmapped = unsafe { rustix::mm::munmap(arena.as_ptr().cast(), ARENA_BYTES) };
            debug_assert!(unmapped.is_ok(), "unmapping our own arena cannot fail");
        }
    }
}

#[cfg(all(test, feature = "worker"))]
mod tests {
    use super::*;

    #[test]
    fn both_sides_see_the_same_page() {
        let (coordinator, fd) = StatusPage::create().unwrap();
        let worker = StatusPage::open(&fd).unwrap();
        assert_eq!(coordinator.started(), 0);
        #[cfg(feature = "worker")]
        {
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
        drop(worker);
    }

    #[test]
    fn a_descriptor_of_another_size_is_refused() {
        let fd = rustix::fs::memfd_create("other", MemfdFlags::CLOEXEC).unwrap();
        assert!(StatusPage::open(&fd).is_err());
    }
}
