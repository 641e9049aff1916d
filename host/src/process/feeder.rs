//! The thread that reads a process's standard input from a source.
//!
//! It is asked for one piece after the other, and reads nothing that the guest has not asked for. Nothing
//! waits for the thread: a read may last for ever.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};

use rustix::event::EventfdFlags;

/// The length of a read.
const PIECE_LEN: usize = 64 << 10;

/// Where standard input comes from.
pub(super) type Source = Box<dyn Read + Send>;

/// The supervisor's handle to the thread.
pub(super) struct Feeder {
    asks: Sender<()>,
    pieces: Receiver<std::io::Result<Vec<u8>>>,
    /// Readable when a piece is there.
    pub(super) has_piece: Arc<OwnedFd>,
    /// A piece was asked for and has not been taken.
    is_asked: bool,
}

impl Feeder {
    /// Starts the thread.
    pub(super) fn new(mut source: Source) -> std::io::Result<Feeder> {
        // An eventfd beside the channel: the supervisor waits for sockets too, by one poll.
        let has_piece = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let ((asks, asked), (tell, pieces)) = (mpsc::channel(), mpsc::channel());
        let waker = WakeSupervisor(has_piece.clone());
        let read = move || {
            // It wakes the supervisor also when the source panics: the guest must not wait for ever.
            let waker = waker;
            while let Ok(()) = asked.recv() {
                if tell.send(read_piece(&mut source)).is_err() {
                    return;
                }
                waker.wake();
            }
        };
        std::thread::Builder::new().name("wpool-stdin".to_owned()).spawn(read)?;
        Ok(Feeder { asks, pieces, has_piece, is_asked: false })
    }

    /// Asks for the next piece. `false`: one was asked for already.
    pub(super) fn ask(&mut self) -> bool {
        let is_first = !std::mem::replace(&mut self.is_asked, true);
        if is_first {
            // The thread lives as long as this does.
            let _told = self.asks.send(());
        }
        is_first
    }

    /// The piece, if it is there. An empty piece is the end of the input.
    pub(super) fn take(&mut self) -> Option<std::io::Result<Vec<u8>>> {
        let _count = rustix::io::read(&*self.has_piece, &mut [0; 8]);
        let piece = match self.pieces.try_recv() {
            Ok(piece) => piece,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(std::io::Error::other("what reads it panicked")),
        };
        self.is_asked = false;
        Some(piece)
    }
}

fn read_piece(source: &mut Source) -> std::io::Result<Vec<u8>> {
    // A new buffer for each piece: it is handed over, and its memory is freed when the guest has it.
    let mut piece = vec![0; PIECE_LEN];
    loop {
        match source.read(&mut piece) {
            Ok(len) => {
                piece.truncate(len);
                return Ok(piece);
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Wakes the supervisor, at the latest when the thread ends.
struct WakeSupervisor(Arc<OwnedFd>);

impl WakeSupervisor {
    fn wake(&self) {
        let _pending = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

impl Drop for WakeSupervisor {
    fn drop(&mut self) {
        self.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn wait(feeder: &mut Feeder) -> std::io::Result<Vec<u8>> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(piece) = feeder.take() {
                return piece;
            }
            assert!(Instant::now() < end);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn f136_nothing_is_read_that_is_not_asked_for() {
        let (tell, told) = mpsc::channel();
        struct Told(Sender<()>, u8);
        impl Read for Told {
            fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                self.0.send(()).unwrap();
                self.1 += 1;
                match self.1 {
                    1 => Err(std::io::ErrorKind::Interrupted.into()),
                    2 => {
                        buf[0] = b'a';
                        Ok(1)
                    }
                    3 => Ok(0),
                    _ => panic!("as told"),
                }
            }
        }
        let mut feeder = Feeder::new(Box::new(Told(tell, 0))).unwrap();
        assert!(told.try_recv().is_err() && feeder.take().is_none());
        assert!(feeder.ask() && !feeder.ask());
        assert_eq!(wait(&mut feeder).unwrap(), b"a");
        assert_eq!(told.try_iter().count(), 2);
        assert!(feeder.ask());
        assert_eq!(wait(&mut feeder).unwrap(), b"");
        assert!(feeder.ask());
        assert!(wait(&mut feeder).unwrap_err().to_string().contains("panicked"));
    }
}
