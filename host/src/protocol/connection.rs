//! Frames over a stream, with descriptors beside them where the stream is a socket.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
#[cfg(feature = "worker")]
use std::sync::Arc;

#[cfg(feature = "worker")]
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use super::frame::{self, Caps, Found, Frame, HEADER_LEN, Kind, Violation};
use crate::sys::{self, Received};

/// The most descriptors that one message carries: a module, a status page, a second socket, and the
/// directories of a policy.
const FDS_MAX: usize = 3 + crate::spec::DIRS_MAX;

/// How much is asked of the kernel at once, in the beginning and when there is more.
const FIRST_READ_LEN: usize = 8 << 10;
const READ_LEN: usize = 64 << 10;

/// Bytes of memory that a connection keeps when it has nothing to hold.
const BUFFER_KEPT: usize = 1 << 20;

/// A connected pair of stream sockets: the coordinator's end and the worker's.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (one, other) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    Ok((crate::sys::above_stdio(one)?, crate::sys::above_stdio(other)?))
}

/// Sends bytes with descriptors beside them, without waiting. Returns the number of bytes sent; the
/// descriptors go with the first of them.
pub(crate) fn send_with_fds(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(
            beside.push(SendAncillaryMessage::ScmRights(fds)),
            "no message has more than FDS_MAX descriptors"
        );
    }
    let bytes = [IoSlice::new(bytes)];
    let send =
        || rustix::net::sendmsg(&socket, &bytes, &mut beside, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    Ok(rustix::io::retry_on_intr(send)?)
}

/// As [`Carrier::recv`] on the coordinator's end of a socket, onto `out` and without waiting.
pub(crate) fn recv_onto(socket: impl AsFd, out: &mut Vec<u8>, most: usize) -> Result<usize, RecvError> {
    without_descriptors(sys::recv_onto(socket.as_fd(), out, most)?)
}

/// What came, unless descriptors came with it. The kernel has closed those: there was no room for them.
fn without_descriptors(received: Received) -> Result<usize, RecvError> {
    if received.had_descriptors {
        return Err(Violation::Unexpected("descriptors, which no process of ours sends").into());
    }
    Ok(received.len)
}

/// What carries the frames: a socket, or memory in tests.
pub(crate) trait Carrier {
    /// Reads some bytes; 0 at the end.
    fn recv(&mut self, buf: &mut [u8]) -> Result<usize, RecvError>;
    /// Writes all of `bytes`.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Whether `recv` would return at once, with bytes or with the end.
    #[cfg(feature = "worker")]
    fn is_readable(&self) -> bool;
}

/// A socket that carries bytes only: the coordinator's end. Otherwise a process that was taken over could
/// fill the coordinator's table of descriptors.
impl Carrier for OwnedFd {
    fn recv(&mut self, buf: &mut [u8]) -> Result<usize, RecvError> {
        without_descriptors(sys::recv_bytes(self.as_fd(), buf)?)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        send_all(self, bytes)
    }

    #[cfg(feature = "worker")]
    fn is_readable(&self) -> bool {
        is_readable(self)
    }
}

/// The end of a process of ours, which gets descriptors from its coordinator.
#[cfg(any(test, feature = "worker"))]
#[derive(Debug)]
pub(crate) struct TakesFds {
    socket: OwnedFd,
    /// Those that have come and were not taken yet.
    fds: Vec<OwnedFd>,
}

#[cfg(any(test, feature = "worker"))]
impl TakesFds {
    pub(crate) fn new(socket: OwnedFd) -> TakesFds {
        TakesFds { socket, fds: Vec::new() }
    }

    #[cfg(feature = "worker")]
    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }
}

#[cfg(any(test, feature = "worker"))]
impl Carrier for TakesFds {
    fn recv(&mut self, buf: &mut [u8]) -> Result<usize, RecvError> {
        use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [io::IoSliceMut::new(buf)];
        let recv = || rustix::net::recvmsg(&self.socket, &mut bytes, &mut beside, RecvFlags::CMSG_CLOEXEC);
        let received = rustix::io::retry_on_intr(recv).map_err(io::Error::from)?;
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                self.fds.extend(received);
            }
        }
        Ok(received.bytes)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        send_all(&self.socket, bytes)
    }

    #[cfg(feature = "worker")]
    fn is_readable(&self) -> bool {
        is_readable(&self.socket)
    }
}

/// The socket of a worker thread. The thread's owner shares it, and shuts it to end the thread: this costs
/// no second descriptor.
#[cfg(feature = "worker")]
impl Carrier for Arc<OwnedFd> {
    fn recv(&mut self, buf: &mut [u8]) -> Result<usize, RecvError> {
        without_descriptors(sys::recv_bytes(self.as_fd(), buf)?)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        send_all(self, bytes)
    }

    fn is_readable(&self) -> bool {
        is_readable(self)
    }
}

#[cfg(feature = "worker")]
fn is_readable(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

fn send_all(socket: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        // NOSIGNAL: an application may have SIGPIPE at its default, which would end it when a worker dies.
        let sent = rustix::io::retry_on_intr(|| rustix::net::send(socket, bytes, SendFlags::NOSIGNAL))?;
        bytes = &bytes[sent..];
    }
    Ok(())
}

/// Any reader and writer, for a connection in memory, in tests.
#[cfg(any(test, feature = "fuzzing"))]
#[derive(Debug)]
pub(crate) struct InMemory<R, W>(pub(crate) R, pub(crate) W);

#[cfg(any(test, feature = "fuzzing"))]
impl<R: std::io::Read, W: std::io::Write> Carrier for InMemory<R, W> {
    fn recv(&mut self, buf: &mut [u8]) -> Result<usize, RecvError> {
        Ok(self.0.read(buf)?)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.1.write_all(bytes)
    }

    #[cfg(feature = "worker")]
    fn is_readable(&self) -> bool {
        true
    }
}

/// Reads frames within the caps of the other side. (A pool's dispatcher reads its workers' sockets without
/// blocking, and without this.)
#[derive(Debug)]
pub(crate) struct Connection<C> {
    carrier: C,
    caps: Caps,
    /// What has been read is in `start..end`; what is behind that is room.
    buf: Vec<u8>,
    start: usize,
    end: usize,
    /// The kind and the payload's length of the frame at `start`, once all of it has been read.
    found: Option<(Kind, usize)>,
    /// There has been more to read than there was room for.
    is_busy: bool,
}

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecvError {
    #[error("the other side closed the connection")]
    Closed,
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl<C: Carrier> Connection<C> {
    pub(crate) fn new(carrier: C, caps: Caps) -> Self {
        Connection { carrier, caps, buf: Vec::new(), start: 0, end: 0, found: None, is_busy: false }
    }

    /// Waits for the next frame. An end of the stream within a frame is [`RecvError::Closed`] too.
    pub(crate) fn recv(&mut self) -> Result<Frame<'_>, RecvError> {
        while !self.has_frame()? {
            if self.fill()? == 0 {
                return Err(RecvError::Closed);
            }
        }
        Ok(self.take_found().expect("has_frame has just found it"))
    }

    /// The next frame, if all of it has already been read.
    pub(crate) fn next(&mut self) -> Result<Option<Frame<'_>>, Violation> {
        self.has_frame()?;
        Ok(self.take_found())
    }

    /// Whether a whole frame has already been read.
    pub(crate) fn has_frame(&mut self) -> Result<bool, Violation> {
        if self.found.is_none()
            && let Found::Whole(frame) = frame::find(&self.buf[self.start..self.end], self.caps)?
        {
            self.found = Some((frame.kind, frame.payload.len()));
        }
        Ok(self.found.is_some())
    }

    fn take_found(&mut self) -> Option<Frame<'_>> {
        let (kind, len) = self.found.take()?;
        let payload = self.start + HEADER_LEN..self.start + HEADER_LEN + len;
        self.start = payload.end;
        Some(Frame { kind, payload: &self.buf[payload] })
    }

    /// Looks for bytes, or the end, for a moment. Whether there is anything.
    #[cfg(feature = "worker")]
    pub(crate) fn spin(&self) -> bool {
        crate::spin::until(|| self.carrier.is_readable())
    }

    /// Reads once.
    pub(crate) fn fill(&mut self) -> Result<usize, RecvError> {
        // Usually nothing is left to move: a reader takes all frames before it reads again.
        self.buf.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        // A long frame is read in steps that grow with what has arrived, not with what was announced.
        if self.end == 0 && self.buf.len() > BUFFER_KEPT {
            self.buf = Vec::new();
        }
        // Room is kept, because setting it to zero costs time. It begins small, because most processes read
        // one short message.
        let room = if self.is_busy { READ_LEN } else { FIRST_READ_LEN };
        if self.buf.len() < self.end + room {
            self.buf.resize(self.end + room.max(self.end), 0);
        }
        let read = self.carrier.recv(&mut self.buf[self.end..])?;
        self.end += read;
        self.is_busy |= self.end == self.buf.len();
        Ok(read)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.carrier.send(bytes)
    }

    /// Bytes of memory that it has.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn room(&self) -> usize {
        self.buf.len()
    }

    pub(crate) fn carrier(&self) -> &C {
        &self.carrier
    }
}

#[cfg(any(test, feature = "worker"))]
impl Connection<TakesFds> {
    /// Takes the oldest descriptors: those that came beside a message. Those of the next message may be
    /// there already.
    pub(crate) fn take_fds<const N: usize>(&mut self) -> Option<[OwnedFd; N]> {
        let oldest = self.carrier.fds.drain(..N.min(self.carrier.fds.len()));
        oldest.collect::<Vec<_>>().try_into().ok()
    }

    /// As [`take_fds`](Self::take_fds), for a number that only the message tells.
    #[cfg(feature = "worker")]
    pub(crate) fn take_many_fds(&mut self, count: usize) -> Option<Vec<OwnedFd>> {
        (count <= self.carrier.fds.len()).then(|| self.carrier.fds.drain(..count).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_travel_beside_frames() {
        let (ours, theirs) = pair().unwrap();
        let (probe, passed) = pair().unwrap();
        let mut bytes = Vec::new();
        frame::write(&mut bytes, Kind::Control, |out| out.extend_from_slice(b"{}"));
        assert_eq!(send_with_fds(&ours, &bytes, &[passed.as_fd()]).unwrap(), bytes.len());
        drop(passed);

        let mut connection = Connection::new(TakesFds::new(theirs), Caps::IDLE);
        assert_eq!(connection.recv().unwrap().payload, b"{}");
        let [mut passed] = connection.take_fds().unwrap();
        passed.send(b"x").unwrap();
        let mut buf = [0; 1];
        let mut probe = probe;
        assert_eq!(probe.recv(&mut buf).unwrap(), 1);
    }

    /// Descriptors that this process has.
    fn open_files() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }

    #[test]
    fn f110_an_end_that_takes_no_descriptors_has_them_closed_and_tells() {
        let (ours, theirs) = pair().unwrap();
        let (_kept, passed) = pair().unwrap();
        rustix::io::ioctl_fionbio(&ours, true).unwrap();
        let mut connection = Connection::new(ours, Caps::IDLE);
        let before = open_files();
        for turn in 0..60 {
            send_with_fds(&theirs, b"x", &[passed.as_fd(); FDS_MAX]).unwrap();
            let read = match turn % 2 {
                0 => connection.fill(),
                _ => recv_onto(connection.carrier(), &mut Vec::new(), 1),
            };
            assert!(matches!(read, Err(RecvError::Violation(Violation::Unexpected(_)))), "turn {turn}");
        }
        // Tests beside this one open files of their own, but not thousands.
        assert!(open_files() < before + 60 * FDS_MAX / 2, "{before} before");
    }

    #[test]
    fn an_end_within_a_frame_is_an_end() {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, Kind::Control, |out| out.extend_from_slice(b"{}"));
        let cut = InMemory(&bytes[..bytes.len() - 1], Vec::new());
        assert!(matches!(Connection::new(cut, Caps::IDLE).recv(), Err(RecvError::Closed)));
    }
}
