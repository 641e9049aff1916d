//! The objects that workers share, and the functions of the application that guests call.
//!
//! One [`Shared`](shared::Shared) owns all objects of the program, behind one lock. [`core`] decides what
//! happens to them, and knows no socket. A thread of the program asks the core itself ([`host`]). A worker is
//! a *member* ([`member`]): it asks through its second socket ([`peer`]), to which one thread listens
//! ([`thread`]). That thread lives while there are members. Functions of the application run on threads of
//! their own ([`calls`]).
//!
//! The lock is never held while a thread waits or while code of the application runs.

pub(crate) mod calls;
pub(crate) mod core;
mod front;
pub(crate) mod host;
pub mod ipc;
pub(crate) mod member;
mod peer;
mod share;
mod shared;
pub mod sync;
mod thread;

pub use self::share::Shareable;
pub(crate) use self::share::object;

#[cfg(test)]
mod tests;
