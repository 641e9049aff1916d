//! Choose how strict the confinement of processes is, and ask what holds on this machine.
//!
//! [`Sandbox`] says how much of the confinement must hold:
//! [`ModuleLoader::sandbox`](crate::module::ModuleLoader::sandbox). [`doctor`] starts a worker and asks it
//! what is enforced in it: a [`Status`], with each [`Step`] that was taken and each [`Property`] that must
//! hold. [`doctor_with`] asks a worker with grants, [`doctor_of`] a process of another [`ProcessRole`].
//! [`unenforced`] lists what the processes of this program have reported so far as not enforced. What each
//! step is for is in `docs/SECURITY.md`.

#[cfg(feature = "worker")]
mod calls;
#[cfg(feature = "worker")]
mod enter;
#[cfg(feature = "worker")]
mod filter;
#[cfg(any(feature = "worker", feature = "cli"))]
mod requirement;
#[cfg(feature = "worker")]
mod rule;

#[cfg(feature = "worker")]
pub(crate) use self::enter::{Confinement, Enforcement, ProcessLimits, Reach};
#[cfg(feature = "cli")]
pub(crate) use self::requirement::GrantKinds;
// Names for the page of this module. They belong to layers above; nothing else in this folder uses those
// layers.
pub use crate::context::unenforced;
pub use crate::doctor::{doctor, doctor_of, doctor_with};
pub use crate::spec::{ProcessRole, Property, Sandbox, Status, Step};
