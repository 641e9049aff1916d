//! Which process this is. A fork of this program has copies of the handles of pools and processes, with
//! nothing behind them.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// A page that the kernel sets to zero in every fork. `None`: the kernel cannot do that.
// The alternatives are worse: `getpid` is a system call, too dear for each record, and a handler of
// `pthread_atfork` does not run in a fork that was made by the system call alone.
static PAGE: OnceLock<Option<&'static AtomicU32>> = OnceLock::new();

/// This process's id. It is read from memory: cheap enough for each record.
pub(crate) fn home() -> u32 {
    match PAGE.get_or_init(page) {
        Some(page) => match page.load(Ordering::Relaxed) {
            // The first use in this process, or in a fork of it. Two threads may both store the id: it is the
            // same one.
            0 => {
                page.store(std::process::id(), Ordering::Relaxed);
                std::process::id()
            }
            home => home,
        },
        None => std::process::id(),
    }
}

fn page() -> Option<&'static AtomicU32> {
    let len = rustix::param::page_size();
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice, aligned to a page, all zero, which is a
    // valid number, and never unmapped.
    unsafe {
        let page = rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, access, MapFlags::PRIVATE).ok()?;
        rustix::mm::madvise(page, len, Advice::LinuxWipeOnFork).ok()?;
        // On an error behind `mmap` the page stays mapped: it is one page, once in a process's life.
        Some(&*page.cast())
    }
}
