//! The export `run-many`, written by hand.
//!
//! The generated code of `bindings::many` would first collect the records in a `Vec`. Its allocation can
//! fail, and the message for that failure would be in every guest: in the smallest one it is three quarters
//! of the component, and the reason for all of WASI's imports. [`run_many`] takes the records one by one from
//! the memory that the host has filled. The import `report` and the section that describes the world are the
//! generated ones.
#![allow(unsafe_code, reason = "the canonical ABI: memory that the host has allocated for us")]

use std::alloc::{Layout, dealloc};

pub use crate::bindings::many::export_many;
use crate::bindings::many::wpool::task::batch::report;
use crate::bindings::task::Guest;

/// A `list<u8>` as an element of a list, in the layout of the canonical ABI.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Record {
    bytes: *mut u8,
    len: usize,
}

/// Runs the task for each record and reports its outcome, until `report` gives `false`.
///
/// # Safety
/// `records` and `count` are the arguments of a call of the export `run-many`, and of no other call before.
pub unsafe fn run_many<T: Guest>(records: *mut u8, count: usize) {
    wit_bindgen::rt::run_ctors_once();
    let records = records.cast::<Record>();
    let mut goes_on = true;
    for at in 0..count {
        // SAFETY: the caller vouches for an aligned list of `count` records, which this call owns.
        let Record { bytes, len } = unsafe { records.add(at).read() };
        // SAFETY: the host has allocated the bytes of each record by `cabi_realloc`, which uses the global
        // allocator, with the size `len` and the alignment 1. The loop takes each record from the list once.
        let record = unsafe { Vec::from_raw_parts(bytes, len, len) };
        // Once `report` has given `false`, the remaining records are not run. They are only freed.
        if goes_on {
            let outcome = T::run(record);
            goes_on = report(match &outcome {
                Ok(result) => Ok(result),
                Err(message) => Err(message),
            });
        }
    }
    if count > 0 {
        // SAFETY: the host has allocated the list by `cabi_realloc` with this layout, so the layout is valid.
        // The loop has copied each `Record` out of the list: nothing refers to it any more.
        unsafe {
            dealloc(
                records.cast(),
                Layout::from_size_align_unchecked(count * size_of::<Record>(), align_of::<Record>()),
            )
        };
    }
}

/// Replaces the generated macro that `export_many` expands to, and exports [`run_many`].
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
