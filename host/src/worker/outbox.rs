//! The results on their way to the coordinator.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

#[cfg(feature = "fault-points")]
use super::fault::{self, fault_point};
use crate::protocol::connection::Carrier;
#[cfg(feature = "fault-points")]
use crate::protocol::frame;
#[cfg(feature = "fault-points")]
use crate::spec::FaultPhase;

/// Results are sent once this many bytes are collected.
pub(super) const OUTBOX_LEN: usize = 64 << 10;

/// The results that are ready. The tick shares it and may send some of them at any time, so that a slow task
/// never holds back finished ones.
#[derive(Debug, Clone, Default)]
pub(super) struct Outbox(Arc<Mutex<ReadyResults>>);

#[derive(Debug, Default)]
struct ReadyResults {
    bytes: Vec<u8>,
    /// The number of `bytes` that a tick has sent already.
    sent: usize,
}

impl Outbox {
    /// Appends what `write` writes. The lock is held meanwhile, so that no tick sees a part.
    #[inline]
    pub(super) fn append<R>(&self, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        write(&mut self.ready().bytes)
    }

    /// Whether it is time to send.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.ready().bytes.len() >= OUTBOX_LEN
    }

    /// Sends everything.
    pub(super) fn flush(&self, sender: &mut impl Carrier) -> io::Result<()> {
        let mut ready = self.ready();
        #[cfg(feature = "fault-points")]
        if fault::is_armed(FaultPhase::MidWrite) {
            // The head of the first result and one byte of it.
            let cut = ready.bytes.len().min(ready.sent + frame::HEADER_LEN + 1);
            sender.send(&ready.bytes[ready.sent..cut])?;
            fault_point!(MidWrite);
        }
        let sent = sender.send(&ready.bytes[ready.sent..]);
        // Cleared after an error too: the socket is broken, and the worker ends.
        ready.bytes.clear();
        ready.sent = 0;
        sent
    }

    /// For a tick: calls `send` with what is ready; `send` gives the number of bytes that it has sent.
    /// Returns whether all that is ready is sent.
    ///
    /// Never waits: if the worker holds the lock, the next tick tries again. A signal handler that interrupts
    /// the worker may call this if it may call `send`.
    pub(super) fn send_some(&self, send: impl FnOnce(&[u8]) -> usize) -> bool {
        let mut ready = match self.0.try_lock() {
            Ok(ready) => ready,
            // A panic while results were appended: the worker gives up, and what was ready before may still
            // go.
            Err(TryLockError::Poisoned(ready)) => ready.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        if ready.sent < ready.bytes.len() {
            // Bytes are not removed from the front, which would move the rest inside a signal handler. The
            // next flush clears them.
            ready.sent += send(&ready.bytes[ready.sent..]);
        }
        ready.sent == ready.bytes.len()
    }

    #[inline]
    fn ready(&self) -> MutexGuard<'_, ReadyResults> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::connection::InMemory;

    #[test]
    fn what_a_tick_has_sent_is_not_sent_again() {
        let outbox = Outbox::default();
        outbox.append(|out| out.extend_from_slice(b"abcdef"));
        let mut by_ticks = Vec::new();
        for len in [2, 0, 1] {
            let is_all = outbox.send_some(|ready| {
                by_ticks.extend_from_slice(&ready[..len]);
                len
            });
            assert!(!is_all);
        }
        outbox.append(|out| out.push(b'g'));
        let mut sender = InMemory(io::empty(), Vec::new());
        outbox.flush(&mut sender).unwrap();
        assert_eq!((&by_ticks[..], &sender.1[..]), (&b"abc"[..], &b"defg"[..]));
        outbox.flush(&mut sender).unwrap();
        assert_eq!(sender.1, b"defg");
    }

    #[test]
    fn a_tick_in_the_midst_of_an_append_sends_nothing() {
        let outbox = Outbox::default();
        outbox.append(|out| {
            out.extend_from_slice(b"half");
            assert!(!outbox.send_some(|_| panic!("half of it was seen")));
        });
        assert!(outbox.send_some(|ready| ready.len()));
        assert!(outbox.send_some(|_| panic!("it is sent already")));
    }
}
