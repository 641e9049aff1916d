//! Functions with WIT types: what `#[wpool_guest::task]` and `#[derive(ComponentType)]` expand to.
//!
//! The attribute sees the text of a function, and not what its types are. So it names the types only: the
//! trait [`ComponentType`] gives each its description, and the compiler computes from these descriptions the
//! section that tells the linker the type of the function, and the core types of the export. No generator
//! runs, and a guest pays for no dependency.
//!
//! The symbols of the exports are those of the standard name mangling (`cm32p2||scale`). Under the plain name
//! a task `pow` or `read` would take the place of the C library's function in the guest.

#![cfg_attr(
    not(target_arch = "wasm32"),
    allow(dead_code, reason = "only a guest's exports read and write values")
)]

mod call;
mod memory;
mod section;
#[cfg(test)]
mod tests;
mod types;
mod value;

pub use call::{CoreValue, Entry, Value};
#[cfg(target_arch = "wasm32")]
pub use call::{enter, leave};
pub use memory::{Sink, Source};
pub use section::{section, section_len};
pub use types::{Flat, Function, Layout, Named, Type};
pub use value::{
    ComponentType, Described, Displayed, Lift, Lower, Referent, Returned, Undescribed, lift_enum, lift_flags,
    lower_enum, lower_flags,
};
