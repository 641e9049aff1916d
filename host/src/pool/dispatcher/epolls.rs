//! What the dispatcher's thread waits for.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, EventData, EventFlags};

use crate::pool::schedule::WorkerId;
use crate::sys;

pub(super) const TOKEN_WAKER: u64 = 0;
pub(super) const TOKEN_ZYGOTE: u64 = 1;
pub(super) const TOKEN_SOCKETS: u64 = 2;
pub(super) const TOKEN_CHILDREN: u64 = 3;

pub(super) fn child_token(worker: WorkerId) -> u64 {
    TOKEN_CHILDREN + u64::from(worker)
}

/// What the dispatcher's thread waits for.
#[derive(Debug)]
pub(super) struct Epolls {
    /// The waker, the zygote, the process of each worker, and `sockets`.
    pub(super) all: OwnedFd,
    /// The workers' sockets, by the worker's number.
    pub(super) sockets: OwnedFd,
}

impl Epolls {
    pub(super) fn new() -> io::Result<Epolls> {
        let make = || sys::above_stdio(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let epolls = Epolls { all: make()?, sockets: make()? };
        epoll::add(&epolls.all, &epolls.sockets, EventData::new_u64(TOKEN_SOCKETS), EventFlags::IN)?;
        Ok(epolls)
    }

    /// Whether a result of a worker wakes the dispatcher's thread.
    pub(super) fn hear_sockets(&self, is_heard: bool) {
        let flags = if is_heard { EventFlags::IN } else { EventFlags::empty() };
        let token = EventData::new_u64(TOKEN_SOCKETS);
        // It fails only if this program has closed the descriptor, which ends the pool.
        let _closed = epoll::modify(&self.all, &self.sockets, token, flags);
    }
}
