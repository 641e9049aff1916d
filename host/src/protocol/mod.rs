//! What coordinator and workers say to each other.
//!
//! A ladder of three rungs: [`frame`] (length, kind, bytes), [`message`] (what the bytes of each kind mean) and [`connection`] (frames
//! over a socket, with descriptors beside them). Nothing here knows about pools or guests, and the carrier can be a socket or memory.
//!
//! Coordinator to worker: one `Setup`, then `Plan`s (how to call a function) and `Batch`es of records, at last `Shutdown`.
//! Worker to coordinator: `Hello`, `Ready`, then for each record of each batch, in order, one result, and after each batch a `BatchDone`.

#![cfg_attr(
    not(feature = "worker"),
    allow(dead_code, reason = "a coordinator alone speaks its own half only")
)]

pub(crate) mod connection;
pub(crate) mod frame;
pub(crate) mod message;
pub(crate) mod session;

/// Changes with every change of the protocol; a worker of another version is refused at the handshake. (An embedding application and the
/// `wpool` program it points to may come from different builds.)
pub(crate) const VERSION: u32 = 3;
