//! The export `run-many`, written by hand.
//!
//! The generated code of `bindings::many` would first collect the records in a `Vec`. Its allocation can
//! fail, and the message for that failure would be in every guest: in the smallest one it is three quarters
//! of the component, and the reason for all of WASI's imports. [`run_many`] takes the records one by one from
//! the memory that the host has filled. The import `report` and the section that describes the world are the
//! generated ones.
#![allow(unsafe_code, reason = "the canonical ABI: memory that the host has allocated for us")]

use std::alloc::{Layout, dealloc};

use crate::bindings::many::wpool::task::batch::report;
use crate::typed::{Function, Named, Type};

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
pub unsafe fn run_many(records: *mut u8, count: usize, run: fn(Vec<u8>) -> Result<Vec<u8>, String>) {
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
            let outcome = run(record);
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

/// The export for many records with this name.
pub const fn function(name: &'static str) -> Function {
    const INPUTS: &Type = &Type::List(&Type::List(&Type::U8));
    Function { name, params: &[Named { name: "inputs", ty: INPUTS }], result: &Type::Unit }
}

/// Exports [`run_many`] for a function of one record.
#[doc(hidden)]
#[macro_export]
macro_rules! __wpool_export_many {
    ($run:ident, $name:literal, $symbol:literal, $section:literal) => {
        const _: () = {
            use $crate::__private::{many, typed};
            const FUNCTION: typed::Function = many::function($name);

            #[unsafe(export_name = $symbol)]
            unsafe extern "C" fn export(records: *mut u8, count: usize) {
                unsafe { many::run_many(records, count, $run) }
            }

            #[unsafe(link_section = $section)]
            #[used]
            static SECTION: [u8; typed::section_len(&FUNCTION)] = typed::section(&FUNCTION);
        };
    };
}
