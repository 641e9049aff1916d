//! Bytes that wait until a socket takes them.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::SendFlags;

use super::batch::Batch;
use super::frame::{self, HEADER_LEN, Kind};
use super::message::{self, ToWorker};

/// Bytes of memory that the buffer keeps when it is empty.
const BUFFER_KEPT: usize = 1 << 20;
/// Bytes of fixed arguments in one frame. The worker's buffer for frames stays small.
const FIXED_PIECE_LEN: usize = 256 << 10;

/// What is still to be sent through one socket, in order. Long bytes are shared with their owner, not copied.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    buffer: Vec<u8>,
    /// How much of `buffer` is sent.
    sent: usize,
    /// Bytes that are sent when `sent` has come to their place in `buffer`. In the order of these places.
    shared: VecDeque<SharedBytes>,
}

/// Bytes that belong to the application's call or record.
#[derive(Debug)]
struct SharedBytes {
    /// The place in `buffer` before which these bytes are sent.
    at: usize,
    bytes: Arc<Vec<u8>>,
    /// What of them is still to be sent.
    left: Range<usize>,
}

impl Outgoing {
    pub(crate) fn is_empty(&self) -> bool {
        self.sent == self.buffer.len() && self.shared.is_empty()
    }

    /// The buffer to which a caller appends frames.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Appends a part of `bytes` without copying it.
    pub(crate) fn share(&mut self, bytes: &Arc<Vec<u8>>, part: Range<usize>) {
        if !part.is_empty() {
            self.shared.push_back(SharedBytes { at: self.buffer.len(), bytes: bytes.clone(), left: part });
        }
    }

    /// Appends a frame whose payload `fill` appends.
    ///
    /// # Panics
    /// If that is more than [`FRAME_LEN_MAX`](frame::FRAME_LEN_MAX) bytes: what goes into a frame is checked
    /// before.
    pub(crate) fn frame(&mut self, kind: Kind, fill: impl FnOnce(&mut Outgoing)) {
        let (start, shares) = (self.buffer.len(), self.shared.len());
        frame::write_head(&mut self.buffer, kind, 0);
        fill(self);
        let shared: usize = self.shared.iter().skip(shares).map(|shared| shared.left.len()).sum();
        let len = self.buffer.len() - start - HEADER_LEN + shared;
        let mut head = Vec::with_capacity(HEADER_LEN);
        frame::write_head(&mut head, kind, len);
        self.buffer[start..start + HEADER_LEN].copy_from_slice(&head);
    }

    /// Appends a message, and before it the fixed arguments of the call in it.
    pub(crate) fn say(&mut self, message: &ToWorker) {
        if let Some(call) = message.call() {
            let bytes = call.fixed.bytes();
            for start in (0..bytes.len()).step_by(FIXED_PIECE_LEN) {
                let piece = start..bytes.len().min(start + FIXED_PIECE_LEN);
                frame::write_head(&mut self.buffer, Kind::Fixed, piece.len());
                self.share(bytes, piece);
            }
        }
        message::write_control(&mut self.buffer, message);
    }

    /// Appends a batch of one record, without copying the record.
    ///
    /// # Panics
    /// If the record is 1 GiB long; callers refuse such input before.
    pub(crate) fn one_record(&mut self, plan: u32, record: Vec<u8>) {
        self.frame(Kind::Batch, |outgoing| {
            Batch::write_head(&mut outgoing.buffer, plan, 1);
            Batch::write_record_head(&mut outgoing.buffer, &record);
            let whole = 0..record.len();
            outgoing.share(&Arc::new(record), whole);
        });
    }

    /// The bytes to send next.
    pub(crate) fn front(&self) -> &[u8] {
        match self.shared.front() {
            Some(shared) if shared.at == self.sent => &shared.bytes[shared.left.clone()],
            Some(shared) => &self.buffer[self.sent..shared.at],
            None => &self.buffer[self.sent..],
        }
    }

    /// The first `count` bytes of [`front`](Self::front) are sent.
    pub(crate) fn advance(&mut self, count: usize) {
        match self.shared.front_mut() {
            Some(shared) if shared.at == self.sent => {
                shared.left.start += count;
                if shared.left.is_empty() {
                    self.shared.pop_front();
                }
            }
            Some(_) | None => self.sent += count,
        }
        if self.is_empty() {
            self.clear();
        }
    }

    /// Drops what is not sent yet.
    fn clear(&mut self) {
        self.sent = 0;
        self.shared.clear();
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEPT);
    }

    /// Sends as much as the socket takes without waiting. After an error nothing is left to send: the other
    /// side is gone.
    pub(crate) fn send(&mut self, socket: impl AsFd) -> io::Result<()> {
        while !self.is_empty() {
            match rustix::net::send(&socket, self.front(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => self.advance(sent),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(e) => {
                    self.clear();
                    return Err(e.into());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::{BatchEntry, Record};
    use super::*;

    /// What is sent if the socket takes at most `most` bytes at once.
    fn drained(mut outgoing: Outgoing, most: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !outgoing.is_empty() {
            let next = outgoing.front();
            let next = next[..next.len().min(most)].to_vec();
            assert!(!next.is_empty());
            outgoing.advance(next.len());
            all.extend(next);
        }
        all
    }

    #[test]
    fn shared_bytes_keep_their_place_among_the_others() {
        let long = Arc::new(b"0123456789".to_vec());
        for most in 1..12 {
            let mut outgoing = Outgoing::default();
            outgoing.share(&long, 2..4);
            outgoing.share(&long, 3..3);
            outgoing.buffer().extend_from_slice(b"ab");
            outgoing.share(&long, 4..9);
            outgoing.share(&long, 0..1);
            outgoing.buffer().extend_from_slice(b"c");
            assert_eq!(drained(outgoing, most), b"23ab456780c", "{most} at once");
        }
        assert!(Outgoing::default().is_empty());
    }

    #[test]
    fn a_frame_counts_its_shared_bytes() {
        let mut outgoing = Outgoing::default();
        outgoing.buffer().extend_from_slice(b"before");
        outgoing.one_record(7, b"record".to_vec());
        let bytes = drained(outgoing, usize::MAX);
        let frame = frame::parse(&bytes[6..]).unwrap().unwrap();
        assert_eq!((frame.kind, frame.len()), (Kind::Batch, bytes.len() - 6));
        let mut batch = Batch::parse(frame.payload).unwrap();
        assert_eq!((batch.plan, batch.attempt), (7, 1));
        assert_eq!(batch.next(), Some(Ok(BatchEntry::Here(Record::Bytes(b"record")))));
        assert_eq!(batch.next(), None);
    }
}
