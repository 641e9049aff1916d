//! The export of a function: from core values to core values.

#![allow(unsafe_code, reason = "the canonical ABI: values are passed in memory")]

#[cfg(target_arch = "wasm32")]
use super::memory::{Kept, Sink, Source};
#[cfg(target_arch = "wasm32")]
use super::types::FLAT_MAX;
use super::types::{F32, F64, Flat, Function, I32, I64, Layout, NONE};

/// A core type by its number in [`Flat`]. An exported function has 16 parameters. Those that its WIT type
/// does not have are `()`, which the C ABI leaves out.
#[derive(Debug)]
pub struct Core<const KIND: u8>;

/// The type of a core value.
pub trait CoreType {
    /// The Rust type.
    type Value: CoreValue;
}

/// A core value and its bits.
pub trait CoreValue {
    /// The bits; a narrow value is in the low ones.
    fn into_bits(self) -> u64;
    /// The value with these bits.
    fn of_bits(bits: u64) -> Self;
}

macro_rules! core_types {
    ($($kind:ident $value:ty, |$own:ident| $into:expr, |$bits:ident| $of:expr;)*) => {$(
        impl CoreType for Core<$kind> {
            type Value = $value;
        }
        impl CoreValue for $value {
            #[inline]
            fn into_bits(self) -> u64 {
                let $own = self;
                $into
            }
            #[inline]
            fn of_bits($bits: u64) -> Self {
                $of
            }
        }
    )*};
}
core_types! {
    NONE (), |_own| 0, |_bits| ();
    I32 i32, |value| u32::from_ne_bytes(value.to_ne_bytes()).into(), |bits| bits as i32;
    I64 i64, |value| u64::from_ne_bytes(value.to_ne_bytes()), |bits| i64::from_ne_bytes(bits.to_ne_bytes());
    F32 f32, |value| value.to_bits().into(), |bits| f32::from_bits(bits as u32);
    F64 f64, |value| value.to_bits(), |bits| f64::from_bits(bits);
}

/// The core value of this kind.
pub type Value<const KIND: u8> = <Core<KIND> as CoreType>::Value;

/// What a call of a function needs to know about its types.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The layout of the parameters if they are passed in memory.
    params: Option<Layout>,
    result: Layout,
}

impl Entry {
    /// Of this function.
    pub const fn of(function: &Function) -> Entry {
        let params = if Flat::params_fit(function) { None } else { Some(Layout::of_params(function.params)) };
        Entry { params, result: Layout::of(function.result) }
    }
}

/// Reads the parameters, calls the function and writes its result, which is what `call` does.
///
/// # Safety
/// `values` are the parameters of a call of the function that `entry` is of. The host has read the result of
/// the call before, and has called [`leave`] after it.
#[cfg(target_arch = "wasm32")]
pub unsafe fn enter(
    entry: &Entry,
    values: &[u64; FLAT_MAX],
    call: fn(&mut Source<'_>, Sink<'_>) -> u64,
) -> u64 {
    wit_bindgen::rt::run_ctors_once();
    // SAFETY: a guest has one thread, and a component cannot be entered while a call of it runs or is left.
    let kept = unsafe { &mut *KEPT.0.get() };
    let sink = Sink::result(entry.result, kept);
    let Some(layout) = entry.params else {
        return call(&mut Source::flat(values), sink);
    };
    let start = std::ptr::with_exposed_provenance_mut(values[0] as usize);
    // SAFETY: these parameters are passed in memory, which the host has allocated and written.
    let returned = call(&mut unsafe { Source::memory(start) }, sink);
    super::memory::free(start, layout.size, layout.align);
    returned
}

/// Frees the memory of the last result.
///
/// # Safety
/// The host has read it.
#[cfg(target_arch = "wasm32")]
pub unsafe fn leave() {
    // SAFETY: as in `enter`.
    unsafe { &mut *KEPT.0.get() }.free();
}

/// The memory of the last result.
#[cfg(target_arch = "wasm32")]
static KEPT: Global = Global(std::cell::UnsafeCell::new(Kept::new()));

#[cfg(target_arch = "wasm32")]
struct Global(std::cell::UnsafeCell<Kept>);

// SAFETY: a guest has one thread.
#[cfg(target_arch = "wasm32")]
unsafe impl Sync for Global {}

/// Exports a function, and tells the linker its type.
#[doc(hidden)]
#[macro_export]
macro_rules! __wpool_export {
    ($function:ident, $call:ident, $symbol:literal, $post:literal, $section:literal) => {
        const _: () = {
            use $crate::__private::typed;
            const PARAMS: typed::Flat = typed::Flat::params(&$function);
            const RESULT: u8 = typed::Flat::result(&$function).kind(0);
            const ENTRY: typed::Entry = typed::Entry::of(&$function);

            #[unsafe(export_name = $symbol)]
            unsafe extern "C" fn export(
                a0: typed::Value<{ PARAMS.kind(0) }>,
                a1: typed::Value<{ PARAMS.kind(1) }>,
                a2: typed::Value<{ PARAMS.kind(2) }>,
                a3: typed::Value<{ PARAMS.kind(3) }>,
                a4: typed::Value<{ PARAMS.kind(4) }>,
                a5: typed::Value<{ PARAMS.kind(5) }>,
                a6: typed::Value<{ PARAMS.kind(6) }>,
                a7: typed::Value<{ PARAMS.kind(7) }>,
                a8: typed::Value<{ PARAMS.kind(8) }>,
                a9: typed::Value<{ PARAMS.kind(9) }>,
                a10: typed::Value<{ PARAMS.kind(10) }>,
                a11: typed::Value<{ PARAMS.kind(11) }>,
                a12: typed::Value<{ PARAMS.kind(12) }>,
                a13: typed::Value<{ PARAMS.kind(13) }>,
                a14: typed::Value<{ PARAMS.kind(14) }>,
                a15: typed::Value<{ PARAMS.kind(15) }>,
            ) -> typed::Value<RESULT> {
                use typed::CoreValue as _;
                let values = [
                    a0.into_bits(),
                    a1.into_bits(),
                    a2.into_bits(),
                    a3.into_bits(),
                    a4.into_bits(),
                    a5.into_bits(),
                    a6.into_bits(),
                    a7.into_bits(),
                    a8.into_bits(),
                    a9.into_bits(),
                    a10.into_bits(),
                    a11.into_bits(),
                    a12.into_bits(),
                    a13.into_bits(),
                    a14.into_bits(),
                    a15.into_bits(),
                ];
                let bits = unsafe { typed::enter(&ENTRY, &values, $call) };
                typed::CoreValue::of_bits(bits)
            }

            #[unsafe(export_name = $post)]
            unsafe extern "C" fn post(_returned: typed::Value<RESULT>) {
                unsafe { typed::leave() }
            }

            #[unsafe(link_section = $section)]
            #[used]
            static SECTION: [u8; typed::section_len(&$function)] = typed::section(&$function);
        };
    };
}
