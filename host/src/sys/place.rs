//! Whether the system allows what every worker needs.

use std::io;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

/// An error if this process must not write code into its memory and then execute it, tried with one page.
/// `PR_SET_MDWE`, `SELinux`, or a filter of system calls can forbid that.
pub(crate) fn may_make_code() -> io::Result<()> {
    let len = rustix::param::page_size();
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice, without references to it, which is gone
    // before this returns. Nothing in it is executed.
    unsafe {
        let page = rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, access, MapFlags::PRIVATE)?;
        // In two steps, as the engine does it: a place may allow a mapping that is executable from the start,
        // and forbid the change.
        let changed = rustix::mm::mprotect(page, len, MprotectFlags::READ | MprotectFlags::EXEC);
        // Before the verdict: the page must not stay if the change was refused.
        rustix::mm::munmap(page, len)?;
        Ok(changed?)
    }
}
