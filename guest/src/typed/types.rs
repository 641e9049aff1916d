//! The description of a type, and what the canonical ABI makes of it: its layout in memory, and the core
//! values that it is flattened to. All of it is computed by the compiler.

/// A WIT type.
#[derive(Debug, Clone, Copy)]
pub enum Type {
    /// No value: the result of a function without one, or a side of a `result` without a type.
    Unit,
    /// `bool`
    Bool,
    /// `s8`
    S8,
    /// `u8`
    U8,
    /// `s16`
    S16,
    /// `u16`
    U16,
    /// `s32`
    S32,
    /// `u32`
    U32,
    /// `s64`
    S64,
    /// `u64`
    U64,
    /// `f32`
    F32,
    /// `f64`
    F64,
    /// `char`
    Char,
    /// `string`
    String,
    /// `list<..>`
    List(&'static Type),
    /// `option<..>`
    Option(&'static Type),
    /// `result<.., ..>`
    Result {
        /// The type of `ok`.
        ok: &'static Type,
        /// The type of `err`.
        err: &'static Type,
    },
    /// `tuple<..>`
    Tuple(&'static [&'static Type]),
    /// `record name { .. }`
    Record {
        /// In kebab-case.
        name: &'static str,
        /// In the order of the source.
        fields: &'static [Named],
    },
    /// `variant name { .. }`
    Variant {
        /// In kebab-case.
        name: &'static str,
        /// In the order of the source. A case without a value has the type [`Type::Unit`].
        cases: &'static [Named],
    },
    /// `enum name { .. }`
    Enum {
        /// In kebab-case.
        name: &'static str,
        /// In the order of the source.
        cases: &'static [&'static str],
    },
    /// `flags name { .. }`
    Flags {
        /// In kebab-case.
        name: &'static str,
        /// At most 32.
        flags: &'static [&'static str],
    },
}

/// The most flags of a type: the canonical ABI holds them in 32 bits.
pub(super) const FLAGS_MAX: usize = 32;

/// A name with its type: a field, a case, a parameter.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    /// In kebab-case.
    pub name: &'static str,
    /// Its type.
    pub ty: &'static Type,
}

/// A function that a component exports.
#[derive(Debug, Clone, Copy)]
pub struct Function {
    /// In kebab-case.
    pub name: &'static str,
    /// The parameters, in their order.
    pub params: &'static [Named],
    /// [`Type::Unit`] for none.
    pub result: &'static Type,
}

/// The size of a pointer and of a length. 4 in a guest; unit tests run on other machines, too.
pub(super) const POINTER: usize = size_of::<usize>();

/// The place of a type in memory, and the number of its core values.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// The bytes of a value, a multiple of `align`.
    pub(super) size: usize,
    pub(super) align: usize,
    /// The number of core values. [`FLAT_MAX`] + 1 stands for any larger number.
    pub(super) flat: usize,
    /// Of a variant: the bytes of the number of the case.
    pub(super) tag: usize,
    /// Of a variant: the alignment of the value beside that number.
    pub(super) payload: usize,
}

impl Layout {
    /// The layout of this type.
    pub const fn of(ty: &Type) -> Layout {
        let tag = match ty {
            Type::Option(_) | Type::Result { .. } => 1,
            Type::Variant { cases, .. } => bytes_for(cases.len()),
            _ => 0,
        };
        let mut flat = Flat::new();
        flat.push_type(ty);
        Layout { size: size(ty), align: align(ty), flat: flat.count, tag, payload: payload_align(ty) }
    }

    /// The layout of the parameters of a function as one tuple.
    pub(super) const fn of_params(params: &[Named]) -> Layout {
        let (size, align) = sequence(params);
        Layout { size, align, flat: 0, tag: 0, payload: 1 }
    }
}

/// The bytes for a number below `count`.
const fn bytes_for(count: usize) -> usize {
    match count {
        0..=0x100 => 1,
        0x101..=0x1_0000 => 2,
        _ => 4,
    }
}

/// The alternatives of a variant, an option or a result.
const fn case(ty: &Type, at: usize) -> Option<&'static Type> {
    match ty {
        Type::Option(some) if at < 2 => Some([&Type::Unit, *some][at]),
        Type::Result { ok, err } if at < 2 => Some([*ok, *err][at]),
        Type::Variant { cases, .. } if at < cases.len() => Some(cases[at].ty),
        _ => None,
    }
}

const fn payload_align(ty: &Type) -> usize {
    let (mut most, mut at) = (1, 0);
    while let Some(case) = case(ty, at) {
        most = max(most, align(case));
        at += 1;
    }
    most
}

const fn payload_size(ty: &Type) -> usize {
    let (mut most, mut at) = (0, 0);
    while let Some(case) = case(ty, at) {
        most = max(most, size(case));
        at += 1;
    }
    most
}

const fn align(ty: &Type) -> usize {
    match ty {
        Type::Unit | Type::Bool | Type::S8 | Type::U8 => 1,
        Type::S16 | Type::U16 => 2,
        Type::S32 | Type::U32 | Type::F32 | Type::Char => 4,
        Type::S64 | Type::U64 | Type::F64 => 8,
        Type::String | Type::List(_) => POINTER,
        Type::Option(_) | Type::Result { .. } => payload_align(ty),
        Type::Variant { cases, .. } => max(bytes_for(cases.len()), payload_align(ty)),
        Type::Tuple(types) => {
            let (mut most, mut at) = (1, 0);
            while at < types.len() {
                most = max(most, align(types[at]));
                at += 1;
            }
            most
        }
        Type::Record { fields, .. } => sequence(fields).1,
        Type::Enum { cases, .. } => bytes_for(cases.len()),
        Type::Flags { flags, .. } => flag_bytes(flags.len()),
    }
}

const fn size(ty: &Type) -> usize {
    match ty {
        Type::Unit => 0,
        Type::String | Type::List(_) => 2 * POINTER,
        Type::Option(_) | Type::Result { .. } | Type::Variant { .. } => {
            let tag = match ty {
                Type::Variant { cases, .. } => bytes_for(cases.len()),
                _ => 1,
            };
            (tag.next_multiple_of(payload_align(ty)) + payload_size(ty)).next_multiple_of(align(ty))
        }
        Type::Tuple(types) => {
            let (mut end, mut at) = (0_usize, 0);
            while at < types.len() {
                end = end.next_multiple_of(align(types[at])) + size(types[at]);
                at += 1;
            }
            end.next_multiple_of(align(ty))
        }
        Type::Record { fields, .. } => sequence(fields).0,
        // A scalar is as long as its alignment.
        _ => align(ty),
    }
}

/// Size and alignment of these values one after the other.
const fn sequence(fields: &[Named]) -> (usize, usize) {
    let (mut end, mut most, mut at) = (0_usize, 1, 0);
    while at < fields.len() {
        let each = align(fields[at].ty);
        end = end.next_multiple_of(each) + size(fields[at].ty);
        most = max(most, each);
        at += 1;
    }
    (end.next_multiple_of(most), most)
}

/// The bytes that hold these flags.
const fn flag_bytes(count: usize) -> usize {
    match count {
        0..=8 => 1,
        9..=16 => 2,
        17..=FLAGS_MAX => 4,
        _ => panic!("a type has at most 32 flags"),
    }
}

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// The most core values by which parameters are passed. More of them are passed in memory.
pub(super) const FLAT_MAX: usize = 16;

/// No core value.
pub(super) const NONE: u8 = 0;
/// The core type `i32`.
pub(super) const I32: u8 = 1;
/// The core type `i64`.
pub(super) const I64: u8 = 2;
/// The core type `f32`.
pub(super) const F32: u8 = 3;
/// The core type `f64`.
pub(super) const F64: u8 = 4;

/// The core types that a type is flattened to.
#[derive(Debug, Clone, Copy)]
pub struct Flat {
    kinds: [u8; FLAT_MAX + 1],
    /// At most [`FLAT_MAX`] + 1, which stands for any larger number.
    count: usize,
}

impl Flat {
    const fn new() -> Flat {
        Flat { kinds: [NONE; FLAT_MAX + 1], count: 0 }
    }

    /// The core parameters of a function.
    pub const fn params(function: &Function) -> Flat {
        let flat = Flat::each_param(function);
        if flat.count > FLAT_MAX { Flat::pointer() } else { flat }
    }

    /// Whether the parameters of a function are passed as core values.
    pub(super) const fn params_fit(function: &Function) -> bool {
        Flat::each_param(function).count <= FLAT_MAX
    }

    const fn each_param(function: &Function) -> Flat {
        let (mut flat, mut at) = (Flat::new(), 0);
        while at < function.params.len() {
            flat.push_type(function.params[at].ty);
            at += 1;
        }
        flat
    }

    /// The core result of a function: more than one core value is passed in memory.
    pub const fn result(function: &Function) -> Flat {
        let mut flat = Flat::new();
        flat.push_type(function.result);
        if flat.count > 1 { Flat::pointer() } else { flat }
    }

    const fn pointer() -> Flat {
        let mut flat = Flat::new();
        flat.push(I32);
        flat
    }

    /// The core type at this place, or [`NONE`].
    pub const fn kind(&self, at: usize) -> u8 {
        self.kinds[at]
    }

    const fn push(&mut self, kind: u8) {
        if self.count <= FLAT_MAX {
            self.kinds[self.count] = kind;
            self.count += 1;
        }
    }

    const fn push_type(&mut self, ty: &Type) {
        match ty {
            Type::Unit => {}
            Type::S64 | Type::U64 => self.push(I64),
            Type::F32 => self.push(F32),
            Type::F64 => self.push(F64),
            Type::String | Type::List(_) => {
                self.push(I32);
                self.push(I32);
            }
            Type::Tuple(types) => {
                let mut at = 0;
                while at < types.len() {
                    self.push_type(types[at]);
                    at += 1;
                }
            }
            Type::Record { fields, .. } => {
                let mut at = 0;
                while at < fields.len() {
                    self.push_type(fields[at].ty);
                    at += 1;
                }
            }
            Type::Option(_) | Type::Result { .. } | Type::Variant { .. } => self.push_cases(ty),
            _ => self.push(I32),
        }
    }

    /// The number of the case, then the values of all cases in the same places.
    const fn push_cases(&mut self, ty: &Type) {
        self.push(I32);
        let (mut joined, mut at) = (Flat::new(), 0);
        while let Some(case) = case(ty, at) {
            let mut flat = Flat::new();
            flat.push_type(case);
            joined.join(&flat);
            at += 1;
        }
        let mut at = 0;
        while at < joined.count {
            self.push(joined.kinds[at]);
            at += 1;
        }
    }

    const fn join(&mut self, other: &Flat) {
        let mut at = 0;
        while at < other.count {
            let (mine, its) = (self.kinds[at], other.kinds[at]);
            self.kinds[at] = match (mine, its) {
                (NONE, _) => its,
                _ if mine == its => mine,
                (I32, F32) | (F32, I32) => I32,
                _ => I64,
            };
            at += 1;
        }
        self.count = max(self.count, other.count);
    }
}
