//! The coordinator's side of the shared memory.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::process::{Resource, getrlimit};

use super::{ARENA_LEN, ExchangePage, FROZEN, Mapping, PAGE_LEN};

/// The status page of one worker, as the coordinator uses it.
///
/// The arena is a few hundred megabytes of addresses, which cost nothing until they are used. The coordinator
/// does not map it: it reads and writes the file behind it. A hostile worker that writes there at the same
/// time changes no memory of the coordinator.
#[derive(Debug)]
pub(crate) struct CoordinatorPage {
    page: Arc<Mapping>,
    /// The file behind the arena, if this machine allows a file of that length.
    file: Option<OwnedFd>,
}

impl CoordinatorPage {
    /// A new page, and the descriptor by which a worker maps the same one.
    pub(crate) fn create() -> io::Result<(CoordinatorPage, OwnedFd)> {
        let fd = rustix::fs::memfd_create("wpool-status", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let fd = super::super::above_stdio(fd)?;
        // A limit on the length of files holds for this file too, and SIGXFSZ kills a process that goes over
        // it.
        let most = getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
        // Without an arena large payloads go through the socket: slower, but they arrive.
        let arena = if most >= PAGE_LEN as u64 + ARENA_LEN { ARENA_LEN } else { 0 };
        rustix::fs::ftruncate(&fd, PAGE_LEN as u64 + arena)?;
        // The worker cannot shrink the file under our mapping, which would be a SIGBUS.
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let page = Arc::new(Mapping::new(&fd)?);
        // A descriptor of its own, since the caller sends the first one to the worker and closes it.
        let file = if arena > 0 { Some(fd.try_clone()?) } else { None };
        Ok((CoordinatorPage { page, file }, fd))
    }

    /// The part of the page that belongs to the exchange.
    pub(crate) fn exchange(&self) -> ExchangePage {
        ExchangePage(self.page.clone())
    }

    /// The number of tasks that the worker has started in its life. The worker may lie.
    pub(crate) fn started(&self) -> u64 {
        self.page.started()
    }

    /// Lets no further task start. Gives the number of tasks that the worker has started.
    pub(crate) fn freeze(&self) -> u64 {
        // One operation sets the bit and reads the count. With two, the worker could start a task in between,
        // and that task would be run here and elsewhere.
        self.page.layout().started.fetch_or(FROZEN, Ordering::AcqRel) & !FROZEN
    }

    /// Says that the first `tasks` tasks of the worker's life are not wanted any more. The number only goes
    /// up; `u64::MAX` means all of them.
    pub(crate) fn cancel_until(&self, tasks: u64) {
        self.page.cancel_until(tasks);
    }

    /// Asks the worker's guest to stop when it can.
    pub(crate) fn ask_to_stop(&self) {
        self.page.layout().stop.store(1, Ordering::Release);
    }

    /// The worker's signs of life so far. A busy worker gives a hundred each second while its guest computes,
    /// and one each second while it waits; four in each `Setup::heartbeat`, if that is more.
    pub(crate) fn beats(&self) -> u32 {
        // Relaxed is enough: only a change of the number counts, and nothing is read because of it.
        self.page.layout().beats.load(Ordering::Relaxed)
    }

    /// The file behind the arena, if both sides have it.
    pub(crate) fn arena(&self) -> Option<&OwnedFd> {
        // The worker maps the arena after its start, and may find no addresses for it. Until it has said so,
        // a record that went there would be lost.
        self.file.as_ref().filter(|_| self.page.layout().has_arena.load(Ordering::Acquire) != 0)
    }

    /// The position in the arena's file of the offset `offset` in the arena.
    pub(crate) fn in_file(offset: u64) -> u64 {
        PAGE_LEN as u64 + offset
    }

    /// Counts one more result as copied out of the arena.
    pub(crate) fn take_one(&self) {
        self.page.layout().taken.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether every task was cancelled.
    #[cfg(test)]
    pub(crate) fn is_all_cancelled(&self) -> bool {
        self.page.layout().cancelled.load(Ordering::Acquire) == u64::MAX
    }
}
