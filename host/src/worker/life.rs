//! The life of a worker thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::net::Shutdown;

use crate::protocol::connection;
use crate::spec::Exit;
use crate::sys::{self, CoordinatorPage, WorkerPage};

/// The life of a worker thread: what the thread and its coordinator share.
#[derive(Debug)]
pub(crate) struct Life {
    /// The thread's end of the socket pair.
    socket: Arc<OwnedFd>,
    /// The thread's end of the second socket pair, if its guest uses shared objects.
    exchange: Option<Arc<OwnedFd>>,
    page: Arc<WorkerPage>,
    exit: Mutex<Option<Exit>>,
    over: OwnedFd,
}

impl Life {
    /// A new life, and the coordinator's ends of the socket and of the page. `exchange`: the thread's end of
    /// the second socket.
    pub(crate) fn begin(exchange: Option<OwnedFd>) -> io::Result<(Life, OwnedFd, CoordinatorPage)> {
        let (page, fd) = CoordinatorPage::create()?;
        let (ours, theirs) = connection::pair()?;
        let life = Life {
            socket: Arc::new(theirs),
            exchange: exchange.map(Arc::new),
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

    pub(super) fn exchange(&self) -> Option<&Arc<OwnedFd>> {
        self.exchange.as_ref()
    }

    pub(crate) fn page(&self) -> &Arc<WorkerPage> {
        &self.page
    }

    /// Ends the life. The first call decides what [`exit`](Self::exit) says: that of the thread when it
    /// returns, or that of the coordinator when it gives the thread up.
    pub(crate) fn end(&self, exit: Exit) {
        self.exit.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(exit);
        // Before the socket is shut. A closed socket tells the coordinator that the worker has ended, and it
        // then asks for the exit code.
        self.cancel();
        // The coordinator can still read what the thread has sent before. A guest that waits for an answer
        // wakes up.
        for socket in self.exchange.iter().chain([&self.socket]) {
            let _shut_before = rustix::net::shutdown(&**socket, Shutdown::Both);
        }
        let _readable_before = rustix::io::write(&self.over, &1u64.to_ne_bytes());
    }

    /// Cancels the task that runs, at the next tick, and every task after it.
    pub(crate) fn cancel(&self) {
        self.page.cancel_all();
    }

    /// How the worker ended. `None`: it has not.
    pub(crate) fn exit(&self) -> Option<Exit> {
        *self.exit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end, and returns how the worker ended.
    pub(crate) fn wait(&self) -> Exit {
        loop {
            if let Some(exit) = self.exit() {
                return exit;
            }
            // After an interrupted or failed wait, the loop checks `exit` again.
            let _interrupted = rustix::event::poll(&mut [PollFd::new(&self.over, PollFlags::IN)], None);
        }
    }
}

impl AsFd for Life {
    /// Readable once the worker has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.over.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_to_end_a_life_says_how() {
        let (other, exchange) = connection::pair().unwrap();
        let (life, ours, page) = Life::begin(Some(exchange)).unwrap();
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
        // What was sent before arrives, then the end of the stream, although the thread still holds its
        // socket.
        let mut heard = [0; 32];
        assert_eq!(rustix::io::read(&ours, &mut heard), Ok(10));
        assert_eq!(rustix::io::read(&ours, &mut heard), Ok(0));
        assert_eq!(rustix::io::read(&other, &mut heard), Ok(0));
        assert!(connection::Carrier::send(&mut life.socket().clone(), b"from beyond").is_err());
    }
}
