//! The protocol between the coordinator and its processes.
//!
//! A ladder of four rungs: [`frame`] (length, kind, bytes), [`message`] (what the bytes of each kind mean),
//! [`connection`] (frames over a socket, with descriptors beside them), and [`session`] (what a process may
//! say, and when). Nothing here knows pools or guests, and the carrier can be a socket or memory.
//!
//! The coordinator sends a worker one `Setup`, then `Plan`s (how to call a function), `Batch`es of records
//! and `Forget`s (a plan that has no further use), and `Shutdown` at its end. The fixed arguments of a call
//! come before its `Setup` or `Plan`, in `Fixed` frames. The worker sends `Hello` and `Ready`, then one
//! outcome for each record, in the order of the records, and a `BatchDone` after each batch.
//!
//! A worker whose guest may use shared objects or functions of the application has a second socket. Through
//! that it sends an `Ask` and waits for the `Answer`, and says when a task has `Ended` that has asked.

#![cfg_attr(
    not(feature = "worker"),
    allow(dead_code, reason = "a coordinator alone speaks its own half only")
)]

pub(crate) mod batch;
pub(crate) mod connection;
pub(crate) mod frame;
pub(crate) mod message;
pub(crate) mod outgoing;
pub(crate) mod session;

/// Changes with every change of the protocol. A process of another version is refused at its `Hello`: an
/// embedding application and the `wpool` program that it points to may come from different builds.
pub(crate) const VERSION: u32 = 5;
