//! Bindings to the worlds in wit/, one file for each. `cargo guests bindings` writes them; nothing is edited
//! by hand.
//!
//! Each export has a world of its own. The `export_*!` macro of a file carries the section that describes its
//! world, so the section is in a component only if the guest has that export. The linker merges the sections.

#![allow(
    missing_docs,
    unreachable_pub,
    unsafe_code,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    reason = "written by wit-bindgen"
)]

#[rustfmt::skip]
pub mod asking;
#[cfg(target_arch = "wasm32")]
#[rustfmt::skip]
pub mod communicating;
#[rustfmt::skip]
pub mod init;
#[rustfmt::skip]
pub mod many;
#[rustfmt::skip]
pub mod shutdown;
#[cfg(target_arch = "wasm32")]
#[rustfmt::skip]
pub mod synchronizing;
