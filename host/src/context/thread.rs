//! `thread`: each worker is a thread of this process, for `multiprocessing.dummy`.
//!
//! It is spoken to through a socket pair, as a process is, and lives by the same rules; only its death is different. A thread cannot be
//! killed. It is told to end (its page says that nobody wants its tasks, its socket is shut), which a guest in its own code obeys
//! at the next tick. One that is inside a call to the host cannot hear: it is abandoned, which means that it counts as gone at
//! once and ends by itself whenever the call returns. All it holds until then is its own: no pool waits for it or hears of it.

use super::spawn::Started;
use crate::error::StartError;
use crate::module::Module;
use crate::policy::Granted;
use crate::protocol::message::Setup;

#[cfg(feature = "worker")]
pub(crate) use self::life::Life;

/// What a thread's stack has beside the part that guests may use: for calls to the host, and for this program's signal handlers.
#[cfg(feature = "worker")]
const STACK_BESIDE: usize = 2 << 20;

/// Starts a worker with its own copy of the setup, identity included.
#[cfg(feature = "worker")]
pub(crate) fn start(module: &Module, setup: Setup, granted: &Granted) -> Result<Started, StartError> {
    use std::sync::Arc;

    if module.program().sandbox == crate::sandbox::Sandbox::Strict {
        return Err(StartError::ThreadUnconfined);
    }
    let failed = |source| StartError::Spawn { program: "a worker thread".to_owned(), source };
    let (life, socket, page) = Life::begin().map_err(failed)?;
    let life = Arc::new(life);
    let (its, module, granted) = (life.clone(), module.clone(), granted.clone());
    // A name with a NUL in it would be a panic here, and is cut off by the kernel anywhere.
    let name = setup.identity.as_ref().map_or("wpool-worker", |identity| &identity.name).replace('\0', "");
    let stack = setup.limits.stack.saturating_add(STACK_BESIDE);
    let thread = std::thread::Builder::new().name(name).stack_size(stack);
    // Detached: nobody may ever have to wait for a thread that is abandoned.
    thread.spawn(move || crate::worker::thread_main(&its, module, &setup, &granted)).map_err(failed)?;
    Ok(Started { child: super::Child::Thread(life), socket, page, unsent: Vec::new() })
}

/// Says that there is no engine in this program.
#[cfg(not(feature = "worker"))]
pub(crate) fn start(_: &Module, _: Setup, _: &Granted) -> Result<Started, StartError> {
    Err(StartError::NoThreads)
}

#[cfg(feature = "worker")]
mod life {
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::sync::{Arc, Mutex, PoisonError};

    use rustix::event::{EventfdFlags, PollFd, PollFlags};
    use rustix::net::Shutdown;

    use super::super::Exit;
    use crate::protocol::connection;
    use crate::sys::{self, StatusPage};

    /// The life of a worker thread, as both sides see it.
    #[derive(Debug)]
    pub(crate) struct Life {
        /// The thread's end.
        socket: Arc<OwnedFd>,
        page: Arc<StatusPage>,
        exit: Mutex<Option<Exit>>,
        over: OwnedFd,
    }

    impl Life {
        /// A new life, and the coordinator's end of it.
        pub(super) fn begin() -> io::Result<(Life, OwnedFd, StatusPage)> {
            let (page, fd) = StatusPage::create()?;
            let (ours, theirs) = connection::pair()?;
            let life = Life {
                socket: Arc::new(theirs),
                page: Arc::new(StatusPage::open(fd)?),
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

        pub(crate) fn page(&self) -> &Arc<StatusPage> {
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
            self.page.cancel_until(u64::MAX);
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
            assert!(page.is_cancelled(), "the coordinator and the thread look at the same page");
            assert_eq!(rustix::event::poll(&mut [PollFd::new(&life, PollFlags::IN)], None), Ok(1));
            // What was said before is heard, then comes the end, though the thread holds its socket still.
            let mut heard = [0; 32];
            assert_eq!(rustix::io::read(&ours, &mut heard), Ok(10));
            assert_eq!(rustix::io::read(&ours, &mut heard), Ok(0));
            assert!(connection::Carrier::send(&mut life.socket().clone(), b"from beyond").is_err());
        }
    }
}
