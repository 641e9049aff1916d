//! The life of a worker thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::net::Shutdown;

use crate::protocol::connection;
use crate::spec::Exit;
use crate::sys::{self, CoordinatorPage, WorkerPage};

/// The life of a worker thread, as both sides see it.
#[derive(Debug)]
pub(crate) struct Life {
    /// The thread's end.
    socket: Arc<OwnedFd>,
    page: Arc<WorkerPage>,
    exit: Mutex<Option<Exit>>,
    over: OwnedFd,
}

impl Life {
    /// A new life, and the coordinator's end of it.
    pub(crate) fn begin() -> io::Result<(Life, OwnedFd, CoordinatorPage)> {
        let (page, fd) = CoordinatorPage::create()?;
        let (ours, theirs) = connection::pair()?;
        let life = Life {
            socket: Arc::new(theirs),
            page: Arc::new(WorkerPage::open(fd)?),
            exit: Mutex::new(None),
            over: sys::above_stdio(rustix::event::eventfd(
                0,
                EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
            )?)?,
        };
        Ok((life, ours, page))
    }

    pub(crate) fn socket(&self) -> &Arc<OwnedFd> {
        &self.socket
    }

    pub(crate) fn page(&self) -> &Arc<WorkerPage> {
        &self.page
    }

    /// It is over, and the first to say so says how: the thread by returning, or whoever ends it.
    pub(crate) fn end(&self, exit: Exit) {
        self.exit.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(exit);
        // Before the socket is shut, whose silence means the end: what is asked then has its answer.
        self.cancel();
        // What the thread has said can still be read.
        let _shut_before = rustix::net::shutdown(&*self.socket, Shutdown::Both);
        let _readable_before = rustix::io::write(&self.over, &1u64.to_ne_bytes());
    }

    /// Has the guest end at the next tick, and every task after it.
    pub(crate) fn cancel(&self) {
        self.page.cancel_all();
    }

    /// How it ended; `None` while it lives.
    pub(crate) fn exit(&self) -> Option<Exit> {
        *self.exit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end.
    pub(crate) fn wait(&self) -> Exit {
        loop {
            if let Some(exit) = self.exit() {
                return exit;
            }
            // An interrupted or failed wait is a turn like any other.
            let _interrupted = rustix::event::poll(&mut [PollFd::new(&self.over, PollFlags::IN)], None);
        }
    }
}

impl AsFd for Life {
    /// Readable once it is over.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.over.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_to_end_a_life_says_how() {
        let (life, ours, page) = Life::begin().unwrap();
        assert_eq!(life.exit(), None);
        connection::Carrier::send(&mut life.socket().clone(), b"last words").unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| life.wait());
            life.end(Exit::Signal(15));
            life.end(Exit::Code(0));
            assert_eq!(waiting.join().unwrap(), Exit::Signal(15));
        });
        assert_eq!(life.exit(), Some(Exit::Signal(15)));
        assert!(page.is_all_cancelled(), "the coordinator and the thread look at the same page");
        assert_eq!(rustix::event::poll(&mut [PollFd::new(&life, PollFlags::IN)], None), Ok(1));
        // What was said before is heard, then comes the end, though the thread holds its socket still.
        let mut heard = [0; 32];
        assert_eq!(rustix::io::read(&ours, &mut heard), Ok(10));
        assert_eq!(rustix::io::read(&ours, &mut heard), Ok(0));
        assert!(connection::Carrier::send(&mut life.socket().clone(), b"from beyond").is_err());
    }
}
