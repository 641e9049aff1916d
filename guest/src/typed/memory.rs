//! Reads the parameters that the host passes, and writes the result, as the canonical ABI lays them out: as
//! core values, or in memory.
#![allow(unsafe_code, reason = "the canonical ABI: values are passed in memory")]

use std::alloc::{alloc, dealloc};

use super::types::{FLAT_MAX, Layout, POINTER};

/// Reads values one after the other.
#[derive(Debug)]
pub struct Source<'s> {
    place: Place<'s>,
}

#[derive(Debug)]
enum Place<'s> {
    /// Core values, each as the bits of its type.
    Flat {
        values: &'s [u64; FLAT_MAX],
        next: usize,
    },
    Memory(*const u8),
}

impl<'s> Source<'s> {
    pub(super) fn flat(values: &'s [u64; FLAT_MAX]) -> Self {
        Source { place: Place::Flat { values, next: 0 } }
    }

    /// # Safety
    /// The host has written the values that are read from here, and they stay as they are meanwhile.
    pub(super) unsafe fn memory(from: *const u8) -> Self {
        Source { place: Place::Memory(from) }
    }

    /// A number of this many bytes, as its bits.
    #[inline]
    pub(super) fn number<const BYTES: usize>(&mut self) -> u64 {
        match &mut self.place {
            Place::Flat { values, next } => {
                let value = values.get(*next).copied().unwrap_or_default();
                *next += 1;
                value
            }
            Place::Memory(at) => {
                let from = aligned(*at, BYTES);
                let mut bytes = [0; 8];
                // SAFETY: by the contract of `memory` the next value lies here, and it has this many bytes.
                unsafe {
                    std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), BYTES);
                    *at = from.add(BYTES);
                }
                u64::from_le_bytes(bytes)
            }
        }
    }

    /// Reads a value of several parts, and goes to its end.
    #[inline]
    pub fn group<T>(&mut self, layout: Layout, read: impl FnOnce(&mut Self) -> T) -> T {
        let start = match &mut self.place {
            Place::Flat { next, .. } => *next,
            Place::Memory(at) => {
                *at = aligned(*at, layout.align);
                at.addr()
            }
        };
        let value = read(self);
        match &mut self.place {
            Place::Flat { next, .. } => *next = start + layout.flat,
            Place::Memory(at) => *at = at.with_addr(start + layout.size),
        }
        value
    }

    /// The number of the case of a variant. The value of the case is next.
    #[inline]
    pub fn case(&mut self, layout: Layout) -> usize {
        let case = match layout.tag {
            1 => self.number::<1>(),
            2 => self.number::<2>(),
            _ => self.number::<4>(),
        };
        if let Place::Memory(at) = &mut self.place {
            *at = aligned(*at, layout.payload);
        }
        case as usize
    }

    /// The elements of a list, each of which `read` reads.
    pub(super) fn list<T>(&mut self, layout: Layout, mut read: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let (start, len) = self.slice();
        // SAFETY: the host has written `len` elements there.
        let mut elements = unsafe { Source::memory(start) };
        let list = (0..len).map(|_| read(&mut elements)).collect();
        free(start, len * layout.size, layout.align);
        list
    }

    /// A list whose elements are laid out as Rust does: it is taken, not copied.
    pub(super) fn plain_list<T: super::value::Plain>(&mut self) -> Vec<T> {
        let (start, len) = self.slice();
        if len == 0 {
            return Vec::new();
        }
        // SAFETY: the host has allocated the list for us by `cabi_realloc`, which uses the global allocator,
        // with the size and the alignment of `len` elements of T, and every pattern of bits is a `Plain`.
        unsafe { Vec::from_raw_parts(start.cast(), len, len) }
    }

    /// A text.
    pub(super) fn text(&mut self) -> String {
        // SAFETY: the canonical ABI promises UTF-8 to a guest that has told `utf8` as its encoding. The host
        // has checked it.
        unsafe { String::from_utf8_unchecked(self.plain_list()) }
    }

    fn slice(&mut self) -> (*mut u8, usize) {
        let start = self.number::<POINTER>() as usize;
        (std::ptr::with_exposed_provenance_mut(start), self.number::<POINTER>() as usize)
    }
}

#[inline]
fn aligned(at: *const u8, align: usize) -> *const u8 {
    at.map_addr(|at| at.next_multiple_of(align))
}

/// Frees what the host has allocated by `cabi_realloc`.
pub(super) fn free(start: *mut u8, size: usize, align: usize) {
    if size > 0 {
        // SAFETY: the callers give what the host has passed: memory that it has allocated for us with this
        // size and alignment, and which is not used any more.
        unsafe { dealloc(start, std::alloc::Layout::from_size_align_unchecked(size, align)) }
    }
}

/// Writes a value.
#[derive(Debug)]
pub struct Sink<'s> {
    place: Target,
    kept: &'s mut Kept,
}

#[derive(Debug)]
enum Target {
    /// The one core value of a result.
    Flat(u64),
    Memory(*mut u8),
}

/// The memory of a result, until the host has read it: a list of blocks.
///
/// Not a `Vec`: the messages for a failure of its growth would be in each guest, and in the smallest one they
/// are two thirds of it.
#[derive(Debug)]
pub(super) struct Kept(*mut Block);

#[derive(Debug)]
struct Block {
    start: *mut u8,
    layout: std::alloc::Layout,
    next: *mut Block,
}

const BLOCK: std::alloc::Layout = std::alloc::Layout::new::<Block>();

impl Kept {
    /// An empty one.
    pub(super) const fn new() -> Self {
        Kept(std::ptr::null_mut())
    }

    /// Memory for a value of this size. It is kept.
    fn allocate(&mut self, size: usize, align: usize) -> *mut u8 {
        if size == 0 {
            return std::ptr::without_provenance_mut(align);
        }
        let Ok(layout) = std::alloc::Layout::from_size_align(size, align) else { trap() };
        let start = allocated(layout);
        self.keep(start, layout);
        start
    }

    fn keep(&mut self, start: *mut u8, layout: std::alloc::Layout) {
        let block = allocated(BLOCK).cast::<Block>();
        // SAFETY: the memory was allocated for a `Block`.
        unsafe { block.write(Block { start, layout, next: self.0 }) };
        self.0 = block;
    }

    /// Frees all of it.
    pub(super) fn free(&mut self) {
        while !self.0.is_null() {
            // SAFETY: `keep` has written the block. Its memory is from the global allocator, and so is what
            // it describes; this frees both once, as the block is not in the list any more.
            unsafe {
                let block = self.0.read();
                dealloc(self.0.cast(), BLOCK);
                dealloc(block.start, block.layout);
                self.0 = block.next;
            }
        }
    }
}

fn allocated(layout: std::alloc::Layout) -> *mut u8 {
    // SAFETY: no caller asks for a size of 0.
    let start = unsafe { alloc(layout) };
    if start.is_null() { trap() } else { start }
}

/// Ends the guest where there is no memory, without the message that `handle_alloc_error` would print.
#[cold]
fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort()
}

impl<'s> Sink<'s> {
    /// For a result with this layout.
    pub(super) fn result(layout: Layout, kept: &'s mut Kept) -> Self {
        let place = match layout.flat {
            0 | 1 => Target::Flat(0),
            _ => Target::Memory(kept.allocate(layout.size, layout.align)),
        };
        Sink { place, kept }
    }

    /// Writes the result, and gives the core value that the host gets: the result itself, or its address.
    pub fn write(mut self, write: impl FnOnce(&mut Self)) -> u64 {
        let start = match self.place {
            Target::Flat(_) => None,
            Target::Memory(at) => Some(at.expose_provenance() as u64),
        };
        write(&mut self);
        match self.place {
            Target::Flat(value) => start.unwrap_or(value),
            Target::Memory(_) => start.unwrap_or_default(),
        }
    }

    /// Writes a number of this many bytes.
    #[inline]
    pub(super) fn number<const BYTES: usize>(&mut self, value: u64) {
        match &mut self.place {
            Target::Flat(place) => *place = value,
            Target::Memory(at) => {
                let to = aligned(*at, BYTES).cast_mut();
                // SAFETY: the memory was allocated for a value whose layout has this number here.
                unsafe {
                    std::ptr::copy_nonoverlapping(value.to_le_bytes().as_ptr(), to, BYTES);
                    *at = to.add(BYTES);
                }
            }
        }
    }

    /// Writes a value of several parts, and goes to its end.
    #[inline]
    pub fn group(&mut self, layout: Layout, write: impl FnOnce(&mut Self)) {
        let start = match &mut self.place {
            Target::Flat(_) => 0,
            Target::Memory(at) => {
                *at = aligned(*at, layout.align).cast_mut();
                at.addr()
            }
        };
        write(self);
        if let Target::Memory(at) = &mut self.place {
            *at = at.with_addr(start + layout.size);
        }
    }

    /// Writes the number of the case of a variant. The value of the case is next.
    #[inline]
    pub fn case(&mut self, layout: Layout, case: usize) {
        match layout.tag {
            1 => self.number::<1>(case as u64),
            2 => self.number::<2>(case as u64),
            _ => self.number::<4>(case as u64),
        }
        if let Target::Memory(at) = &mut self.place {
            *at = aligned(*at, layout.payload).cast_mut();
        }
    }

    /// Writes a list, each element by `write`.
    pub(super) fn list<T>(&mut self, layout: Layout, list: Vec<T>, mut write: impl FnMut(&mut Sink<'_>, T)) {
        let len = list.len();
        let Some(size) = len.checked_mul(layout.size) else { trap() };
        let start = self.kept.allocate(size, layout.align);
        let mut elements = Sink { place: Target::Memory(start), kept: self.kept };
        list.into_iter().for_each(|element| write(&mut elements, element));
        self.slice(start, len);
    }

    /// Writes a list whose elements are laid out as Rust does: it is kept, not copied.
    pub(super) fn plain_list<T: super::value::Plain>(&mut self, list: Vec<T>) {
        let list = list.into_boxed_slice();
        let (len, layout) = (list.len(), std::alloc::Layout::for_value::<[T]>(&list));
        let start = Box::into_raw(list).cast::<u8>();
        if layout.size() > 0 {
            self.kept.keep(start, layout);
        }
        self.slice(start, len);
    }

    fn slice(&mut self, start: *mut u8, len: usize) {
        self.number::<POINTER>(start.expose_provenance() as u64);
        self.number::<POINTER>(len as u64);
    }
}
