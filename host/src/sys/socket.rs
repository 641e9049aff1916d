//! Receiving bytes from a socket, and no descriptors.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// What one call has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    /// Bytes; 0 at the end of the stream.
    pub(crate) len: usize,
    /// Descriptors came beside the bytes. The kernel has closed them.
    pub(crate) had_descriptors: bool,
}

/// Receives into `buf`, and waits unless the socket does not block.
pub(crate) fn recv_bytes(socket: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<Received> {
    // SAFETY: the pointer and the length are those of a live slice, borrowed exclusively during the call.
    unsafe { recv(socket, buf.as_mut_ptr(), buf.len(), 0) }
}

/// Appends up to `most` bytes to `out`, without waiting.
pub(crate) fn recv_onto(socket: BorrowedFd<'_>, out: &mut Vec<u8>, most: usize) -> io::Result<Received> {
    out.reserve(most);
    let room = &mut out.spare_capacity_mut()[..most];
    // SAFETY: the pointer and the length are those of the vector's own memory, of which the kernel writes
    // some and reads none.
    let received = unsafe { recv(socket, room.as_mut_ptr().cast(), room.len(), libc::MSG_DONTWAIT) }?;
    // SAFETY: the kernel has written `len` bytes behind the vector's length, and there was room for them.
    unsafe { out.set_len(out.len() + received.len) };
    Ok(received)
}

/// Receives without room for descriptors: the kernel closes those that come, and says so.
///
/// # Safety
/// There are `len` bytes of memory at `at` that may be written to.
unsafe fn recv(socket: BorrowedFd<'_>, at: *mut u8, len: usize, flags: libc::c_int) -> io::Result<Received> {
    let mut place = libc::iovec { iov_base: at.cast(), iov_len: len };
    // SAFETY: a message head is integers and pointers, for which zero is a value: no name, no descriptors, no
    // places.
    let mut head: libc::msghdr = unsafe { std::mem::zeroed() };
    head.msg_iov = ptr::from_mut(&mut place);
    head.msg_iovlen = 1;
    loop {
        // SAFETY: the head names one place, which the caller vouches for; both outlive the call.
        let received =
            unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut head, flags | libc::MSG_CMSG_CLOEXEC) };
        match usize::try_from(received) {
            Ok(len) => return Ok(Received { len, had_descriptors: head.msg_flags & libc::MSG_CTRUNC != 0 }),
            Err(_) => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => {}
                e => return Err(e),
            },
        }
    }
}
