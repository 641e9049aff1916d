//! The section by which a component's linker learns the type of an exported function: a world of its own,
//! in the binary format. The linker merges the worlds of a component.

use super::types::{Function, Named, Type};

/// The bytes before the types: the preamble of a component, then the version and the encoding of strings.
const HEAD: &[u8] = b"\0asm\x0d\0\x01\0\0\x19\x16wit-component-encoding\x04\0";
/// The package of the worlds. It does not appear in the component.
const PACKAGE: &str = "wpool:guest/";
/// The most named types of one function.
const NAMED_MAX: usize = 64;

/// The number of bytes of [`section`].
pub const fn section_len(function: &Function) -> usize {
    // A pass with a buffer of no bytes counts.
    encode::<0>(function).len
}

/// The section for this function. `N` is its [`section_len`].
pub const fn section<const N: usize>(function: &Function) -> [u8; N] {
    encode::<N>(function).bytes
}

const fn encode<const N: usize>(function: &Function) -> Encoder<N> {
    let mut world = Encoder::<0>::new();
    world.world(function);
    // The component type has two declarations: the type of the world, and its export with a name.
    let id_len = PACKAGE.len() + function.name.len();
    let declared = 2 + 2 + leb_len(world.declarations) + world.len + 2 + leb_len(id_len) + id_len + 2;

    let mut out = Encoder::<N>::new();
    out.bytes(HEAD);
    out.byte(7);
    out.number(1 + declared);
    out.byte(1);
    out.bytes(&[0x41, 2, 1, 0x41]);
    out.number(world.declarations);
    out.world(function);
    out.bytes(&[4, 0]);
    out.number(id_len);
    out.bytes(PACKAGE.as_bytes());
    out.bytes(function.name.as_bytes());
    out.bytes(&[4, 0]);
    out.byte(0x0b);
    out.number(5 + leb_len(function.name.len()) + function.name.len());
    out.bytes(&[1, 0]);
    out.name(function.name);
    out.bytes(&[3, 0, 0]);
    out
}

const fn leb_len(number: usize) -> usize {
    let (mut rest, mut len) = (number >> 7, 1);
    while rest > 0 {
        rest >>= 7;
        len += 1;
    }
    len
}

/// Writes what fits into its buffer, and counts all of it.
struct Encoder<const N: usize> {
    bytes: [u8; N],
    len: usize,
    /// The number of declarations so far.
    declarations: usize,
    /// The number of types so far: the index of the next one.
    types: usize,
    /// The named types so far, with their indices.
    named: [(&'static Type, usize); NAMED_MAX],
    named_count: usize,
}

/// A type as a part of another one: a primitive type's code, or an index.
#[derive(Clone, Copy)]
enum Reference {
    None,
    Code(u8),
    Index(usize),
}

impl<const N: usize> Encoder<N> {
    const fn new() -> Self {
        let named = [(&Type::Unit, 0); NAMED_MAX];
        Encoder { bytes: [0; N], len: 0, declarations: 0, types: 0, named, named_count: 0 }
    }

    const fn byte(&mut self, byte: u8) {
        if self.len < N {
            self.bytes[self.len] = byte;
        }
        self.len += 1;
    }

    const fn bytes(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            self.byte(bytes[at]);
            at += 1;
        }
    }

    /// LEB128, unsigned.
    const fn number(&mut self, number: usize) {
        let mut rest = number;
        while rest > 0x7f {
            self.byte(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.byte(rest as u8);
    }

    const fn name(&mut self, name: &str) {
        self.number(name.len());
        self.bytes(name.as_bytes());
    }

    /// An index has the form of a signed number: the codes of primitive types are the negative ones.
    const fn reference(&mut self, reference: Reference) {
        match reference {
            Reference::None => panic!("`()` is only a result, or a side of a Result"),
            Reference::Code(code) => self.byte(code),
            Reference::Index(mut rest) => {
                while rest > 0x3f {
                    self.byte(rest as u8 | 0x80);
                    rest >>= 7;
                }
                self.byte(rest as u8);
            }
        }
    }

    const fn optional(&mut self, reference: Reference) {
        match reference {
            Reference::None => self.byte(0),
            reference => {
                self.byte(1);
                self.reference(reference);
            }
        }
    }

    /// Begins the definition of a type.
    const fn define(&mut self) -> Reference {
        self.byte(1);
        self.declarations += 1;
        self.types += 1;
        Reference::Index(self.types - 1)
    }

    /// The declarations of the world: the types, the type of the function, the export.
    const fn world(&mut self, function: &Function) {
        let mut params = [Reference::None; PARTS_MAX];
        self.parts(function.params, &mut params);
        let result = self.ty(function.result);
        self.define();
        self.byte(0x40);
        self.named_parts(function.params, &params);
        match result {
            Reference::None => self.bytes(&[1, 0]),
            result => {
                self.byte(0);
                self.reference(result);
            }
        }
        self.bytes(&[4, 0]);
        self.name(function.name);
        self.byte(1);
        self.number(self.types - 1);
        self.declarations += 1;
    }

    /// The types of these parts.
    const fn parts(&mut self, parts: &[Named], references: &mut [Reference; PARTS_MAX]) {
        if parts.len() > PARTS_MAX {
            panic!("too many parameters, fields or cases");
        }
        let mut at = 0;
        while at < parts.len() {
            references[at] = self.ty(parts[at].ty);
            at += 1;
        }
    }

    const fn named_parts(&mut self, parts: &[Named], references: &[Reference; PARTS_MAX]) {
        self.number(parts.len());
        let mut at = 0;
        while at < parts.len() {
            self.name(parts[at].name);
            self.reference(references[at]);
            at += 1;
        }
    }

    /// Defines a type, if it is not a primitive one or defined before.
    const fn ty(&mut self, ty: &'static Type) -> Reference {
        match ty {
            Type::Unit => Reference::None,
            Type::Bool => Reference::Code(0x7f),
            Type::S8 => Reference::Code(0x7e),
            Type::U8 => Reference::Code(0x7d),
            Type::S16 => Reference::Code(0x7c),
            Type::U16 => Reference::Code(0x7b),
            Type::S32 => Reference::Code(0x7a),
            Type::U32 => Reference::Code(0x79),
            Type::S64 => Reference::Code(0x78),
            Type::U64 => Reference::Code(0x77),
            Type::F32 => Reference::Code(0x76),
            Type::F64 => Reference::Code(0x75),
            Type::Char => Reference::Code(0x74),
            Type::String => Reference::Code(0x73),
            Type::List(each) => self.wrapper(0x70, each),
            Type::Option(some) => self.wrapper(0x6b, some),
            Type::Result { ok, err } => {
                let (ok, err) = (self.ty(ok), self.ty(err));
                let index = self.define();
                self.byte(0x6a);
                self.optional(ok);
                self.optional(err);
                index
            }
            Type::Tuple(types) => self.tuple(types),
            Type::Record { name, .. }
            | Type::Variant { name, .. }
            | Type::Enum { name, .. }
            | Type::Flags { name, .. } => self.named(name, ty),
        }
    }

    const fn wrapper(&mut self, code: u8, inner: &'static Type) -> Reference {
        let inner = self.ty(inner);
        let index = self.define();
        self.byte(code);
        self.reference(inner);
        index
    }

    const fn tuple(&mut self, types: &'static [&'static Type]) -> Reference {
        let (mut references, mut at) = ([Reference::None; PARTS_MAX], 0);
        while at < types.len() {
            references[at] = self.ty(types[at]);
            at += 1;
        }
        let index = self.define();
        self.byte(0x6f);
        self.number(types.len());
        let mut at = 0;
        while at < types.len() {
            self.reference(references[at]);
            at += 1;
        }
        index
    }

    /// A type with a name is imported by the world under that name, as the format has it.
    const fn named(&mut self, name: &'static str, ty: &'static Type) -> Reference {
        let mut at = 0;
        while at < self.named_count {
            let (other, index) = self.named[at];
            if same_name(other, name) {
                if !same(other, ty) {
                    panic!("two different types of this function have the same name");
                }
                return Reference::Index(index);
            }
            at += 1;
        }
        self.define_named(ty);
        let defined = self.types - 1;
        self.bytes(&[3, 0]);
        self.name(name);
        self.bytes(&[3, 0]);
        self.number(defined);
        self.declarations += 1;
        self.types += 1;
        if self.named_count == NAMED_MAX {
            panic!("this function has too many types with names");
        }
        self.named[self.named_count] = (ty, self.types - 1);
        self.named_count += 1;
        Reference::Index(self.types - 1)
    }

    const fn define_named(&mut self, ty: &'static Type) {
        let mut references = [Reference::None; PARTS_MAX];
        match ty {
            Type::Record { fields, .. } => {
                self.parts(fields, &mut references);
                self.define();
                self.byte(0x72);
                self.named_parts(fields, &references);
            }
            Type::Variant { cases, .. } => {
                self.parts(cases, &mut references);
                self.define();
                self.byte(0x71);
                self.number(cases.len());
                let mut at = 0;
                while at < cases.len() {
                    self.name(cases[at].name);
                    self.optional(references[at]);
                    // A case refines no other one: a rest of an older format.
                    self.byte(0);
                    at += 1;
                }
            }
            Type::Enum { cases, .. } => self.names(0x6d, cases),
            Type::Flags { flags, .. } => self.names(0x6e, flags),
            _ => panic!("this type has no name"),
        }
    }

    const fn names(&mut self, code: u8, names: &[&str]) {
        self.define();
        self.byte(code);
        self.number(names.len());
        let mut at = 0;
        while at < names.len() {
            self.name(names[at]);
            at += 1;
        }
    }
}

/// The most parameters of a function, fields of a record, and cases of a variant.
const PARTS_MAX: usize = 256;

const fn same_name(ty: &Type, name: &str) -> bool {
    match ty {
        Type::Record { name: other, .. }
        | Type::Variant { name: other, .. }
        | Type::Enum { name: other, .. }
        | Type::Flags { name: other, .. } => same_text(other, name),
        _ => false,
    }
}

/// Whether two types with the same name are the same.
const fn same(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Record { fields: a, .. }, Type::Record { fields: b, .. })
        | (Type::Variant { cases: a, .. }, Type::Variant { cases: b, .. }) => {
            let mut at = 0;
            while at < a.len() && at < b.len() && same_text(a[at].name, b[at].name) {
                at += 1;
            }
            at == a.len() && at == b.len()
        }
        (Type::Enum { cases: a, .. }, Type::Enum { cases: b, .. })
        | (Type::Flags { flags: a, .. }, Type::Flags { flags: b, .. }) => {
            let mut at = 0;
            while at < a.len() && at < b.len() && same_text(a[at], b[at]) {
                at += 1;
            }
            at == a.len() && at == b.len()
        }
        _ => false,
    }
}

const fn same_text(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}
