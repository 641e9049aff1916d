//! The export `run-many`, lifted by hand.
//!
//! It does what the generated code would do (`bindings::many`, whose import and description of the world it uses), except that it takes the
//! records one after the other from where the host has put them, and makes no list of them first. The allocation of that list
//! could fail, and the message for that would be in every guest: in the smallest, three quarters of the component, and all of
//! WASI's imports.
#![allow(unsafe_code, reason = "the canonical ABI: memory that the host has allocated for us")]

use std::alloc::{Layout, dealloc};

pub use crate::bindings::many::export_many;
use crate::bindings::many::wpool::task::batch::report;
use crate::bindings::task::Guest;

/// A `list<u8>` in a list, as the canonical ABI lays it out.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Record {
    bytes: *mut u8,
    len: usize,
}

/// Runs each record and reports its outcome, until the host has had enough.
///
/// # Safety
/// The arguments are those of a call of the export `run-many`.
pub unsafe fn run_many<T: Guest>(records: *mut u8, count: usize) {
    wit_bindgen::rt::run_ctors_once();
    let records = records.cast::<Record>();
    let mut goes_on = true;
    for at in 0..count {
        // SAFETY: the host has put `count` records there, aligned, and all of them are ours.
        let Record { bytes, len } = unsafe { records.add(at).read() };
        // SAFETY: it has allocated each with `cabi_realloc`, which takes it from the global allocator, with a length of `len` and an
        // alignment of 1; this is the only time that it is taken from the list.
        let record = unsafe { Vec::from_raw_parts(bytes, len, len) };
        // The records that are not wanted any more are only freed.
        if goes_on {
            let outcome = T::run(record);
            goes_on = report(match &outcome {
                Ok(result) => Ok(result),
                Err(message) => Err(message),
            });
        }
    }
    if count > 0 {
        // SAFETY: the list itself came from the same allocator with this very layout, which was valid there, and nothing refers to it any more.
        unsafe {
            dealloc(
                records.cast(),
                Layout::from_size_align_unchecked(count * size_of::<Record>(), align_of::<Record>()),
            )
        };
    }
}

/// In the place of the generated macro of this name: exports [`run_many`].
#[doc(hidden)]
#[macro_export]
macro_rules! __export_run_many {
    ($task:ident with_types_in $($path:tt)*) => {
        const _: () = {
            #[unsafe(export_name = "run-many")]
            unsafe extern "C" fn export_run_many(records: *mut u8, count: usize) {
                unsafe { $($path)*::run_many::<$task>(records, count) }
            }
        };
    };
}
#[doc(hidden)]
pub use __export_run_many as __export_world_many_cabi;
