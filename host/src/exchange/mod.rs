//! The objects that workers share, and the functions of the application that guests call.
//!
//! The core decides and knows no socket. One thread of the program listens to the second sockets of workers.

#![allow(dead_code, reason = "not wired yet")]

pub(crate) mod core;
