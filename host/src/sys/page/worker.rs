//! The worker's side of the shared memory.

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::mm::{MapFlags, ProtFlags};

use super::{ARENA_BYTES, ARENA_LEN, FROZEN, HALF_LEN, Mapping, PAGE_LEN, RESULTS_LEN};

/// The status page of this worker, and the arena.
///
/// Through this type the page is read and its atomics are written, which any thread may do. Only the one
/// [`ResultWriter`] writes into the arena.
#[derive(Debug)]
pub(crate) struct WorkerPage {
    pub(super) page: Mapping,
    /// `None`: the coordinator has made none, or this process has no addresses for it.
    arena: Option<Arena>,
    writer_is_taken: AtomicBool,
}

/// The arena, mapped into this process.
#[derive(Debug)]
struct Arena {
    at: NonNull<u8>,
}

// SAFETY: the pointer never changes. Through a shared reference the part for records is only read; the part
// for results is written by the one `ResultWriter`, which one thread at a time has.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl WorkerPage {
    /// Maps the page behind `fd`, and the arena if there is one and there are addresses for it.
    pub(crate) fn open(fd: impl AsFd) -> io::Result<WorkerPage> {
        let page = Mapping::new(&fd)?;
        let arena = Arena::map(fd)?;
        if arena.is_some() {
            // Release: the coordinator that sees the flag may rely on the mapping.
            page.layout().has_arena.store(1, Ordering::Release);
        }
        Ok(WorkerPage { page, arena, writer_is_taken: AtomicBool::new(false) })
    }

    /// The number of tasks that this worker has started in its life.
    pub(crate) fn started(&self) -> u64 {
        self.page.started()
    }

    /// Counts one more task as started. `false`: it may not start, since the coordinator has taken back what
    /// had not begun.
    pub(crate) fn start_one(&self) -> bool {
        let started = &self.page.layout().started;
        let now = started.load(Ordering::Relaxed);
        // The coordinator writes only the bit FROZEN: either it is seen here, or the coordinator sees this
        // task in the count.
        now & FROZEN == 0
            // It fails only if the bit was set since the load. There is no second try: the worker then waits
            // for word from the coordinator.
            && started.compare_exchange(now, now + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Lets tasks start again that come from now on.
    pub(crate) fn thaw(&self) {
        self.page.layout().started.fetch_and(!FROZEN, Ordering::AcqRel);
    }

    /// Whether the task that was started last is not wanted any more. Before the first task: whether no task
    /// is wanted.
    pub(crate) fn is_cancelled(&self) -> bool {
        let cancelled = self.page.layout().cancelled.load(Ordering::Acquire);
        cancelled != 0 && self.page.started() <= cancelled
    }

    /// Cancels every task. This is for a worker in a thread, whose coordinator ends it through the thread's
    /// own page.
    pub(crate) fn cancel_all(&self) {
        self.page.cancel_until(u64::MAX);
    }

    /// Whether the guest was asked to stop.
    pub(crate) fn should_stop(&self) -> bool {
        self.page.layout().stop.load(Ordering::Acquire) != 0 || self.is_cancelled()
    }

    /// Gives a sign of life. Safe in a signal handler.
    pub(crate) fn beat(&self) {
        self.page.layout().beats.fetch_add(1, Ordering::Relaxed);
    }

    /// A record that the coordinator has put into the arena. `None`: there is no such place.
    pub(crate) fn record(&self, offset: u64, len: u64) -> Option<&[u8]> {
        let is_inside = offset.checked_add(len).is_some_and(|end| end <= 2 * HALF_LEN);
        let arena = self.arena.as_ref().filter(|_| is_inside)?;
        let (offset, len) = (usize::try_from(offset).ok()?, usize::try_from(len).ok()?);
        // SAFETY: the range was checked to be within the mapping, which lives as long as `self` and is
        // readable. Its pages are zero until they are written. The coordinator, which alone writes to this
        // part, leaves the records of a batch alone until the worker says that the batch is done; the
        // caller's borrow ends before.
        Some(unsafe { std::slice::from_raw_parts(arena.at.as_ptr().add(offset), len) })
    }

    /// The one writer of results into the arena. `None`: it was taken before.
    pub(crate) fn take_writer(self: &Arc<WorkerPage>) -> Option<ResultWriter> {
        let is_first = !self.writer_is_taken.swap(true, Ordering::AcqRel);
        is_first.then(|| ResultWriter { page: self.clone(), not_sync: PhantomData })
    }
}

/// Writes results into the arena. There is one for each page, and it is not `Sync`: two threads that wrote to
/// the same place at once would be a data race.
#[derive(Debug)]
pub(crate) struct ResultWriter {
    page: Arc<WorkerPage>,
    not_sync: PhantomData<Cell<()>>,
}

impl ResultWriter {
    pub(crate) fn page(&self) -> &Arc<WorkerPage> {
        &self.page
    }

    /// The number of results that the coordinator has copied out.
    pub(crate) fn taken(&self) -> u64 {
        self.page.page.layout().taken.load(Ordering::Acquire)
    }

    /// Copies a result into the arena, at `offset` of the part for results. `false`: it does not fit there.
    pub(crate) fn put(&self, offset: u64, result: &[u8]) -> bool {
        let fits = offset.checked_add(result.len() as u64).is_some_and(|end| end <= RESULTS_LEN);
        let arena = self.page.arena.as_ref().filter(|_| fits);
        let (Some(arena), Ok(at)) = (arena, usize::try_from(2 * HALF_LEN + offset)) else {
            return false;
        };
        // SAFETY: the range was checked to be within the mapping, which is writable and no part of any Rust
        // object, so that `result` does not overlap it. No reference to this part is ever made. No other
        // thread writes here: `take_writer` gives one writer, which is not Sync. The other process only has
        // the kernel copy from here.
        unsafe { std::ptr::copy_nonoverlapping(result.as_ptr(), arena.at.as_ptr().add(at), result.len()) };
        true
    }
}

impl Arena {
    /// Maps the arena behind the page of `fd`. `None`: the file has none, or there are no addresses for it.
    fn map(fd: impl AsFd) -> io::Result<Option<Arena>> {
        if rustix::fs::fstat(&fd)?.st_size != (PAGE_LEN as u64 + ARENA_LEN) as i64 {
            return Ok(None);
        }
        // SAFETY: a fresh shared mapping at an address of the kernel's choice aliases nothing of ours; the
        // file is as long as the mapping's end, and sealed.
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
        // Too few addresses, for example under `ulimit -v`, are no error: the worker then does without.
        Ok(arena.ok().and_then(|at| NonNull::new(at.cast())).map(|at| Arena { at }))
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: `at` is the mapping made in `map`, and slices of it borrow the page that owns it.
        let unmapped = unsafe { rustix::mm::munmap(self.at.as_ptr().cast(), ARENA_BYTES) };
        debug_assert!(unmapped.is_ok(), "unmapping our own arena cannot fail");
    }
}
