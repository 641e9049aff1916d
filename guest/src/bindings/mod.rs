//! Bindings to the worlds in wit/, written by `cargo guests bindings`. One file a world; nothing here is written by hand.
//!
//! Why one world for each export: a file's `export_*!` macro carries the section that describes its world, so the section is
//! in a component only if the guest has that export, and the linker merges those it finds.

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
#[rustfmt::skip]
pub mod init;
#[rustfmt::skip]
pub mod many;
#[rustfmt::skip]
pub mod shutdown;
#[rustfmt::skip]
pub mod task;
