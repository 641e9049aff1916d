//! Types and values of every kind, by the choice of the bytes that are tried.

use crate::value::{Type, Value};

/// Bytes, as the choices that lead to a type and a value.
pub(crate) struct Choices<'d>(pub(crate) &'d [u8]);

/// Names as guests have them, words of the notation among them.
const NAMES: [&str; 10] = ["a", "b-c", "ok", "err", "some", "none", "true", "false", "inf", "nan"];

impl Choices<'_> {
    /// 0 when there are no more.
    pub(crate) fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    pub(crate) fn number<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    fn names(&mut self) -> Vec<String> {
        let (first, count) = (usize::from(self.byte()), 1 + usize::from(self.byte() % 3));
        (first..first + count).map(|n| NAMES[n % NAMES.len()].to_owned()).collect()
    }

    pub(super) fn ty(&mut self, depth: usize) -> Type {
        let kinds = if depth == 0 { 13 } else { 22 };
        let boxed = |this: &mut Self| Box::new(this.ty(depth - 1));
        let maybe = |this: &mut Self| (this.byte() % 2 == 1).then(|| Box::new(this.ty(depth - 1)));
        match self.byte() % kinds {
            0 => Type::Bool,
            1 => Type::S8,
            2 => Type::U8,
            3 => Type::S16,
            4 => Type::U16,
            5 => Type::S32,
            6 => Type::U32,
            7 => Type::S64,
            8 => Type::U64,
            9 => Type::F32,
            10 => Type::F64,
            11 => Type::Char,
            12 => Type::String,
            13 => Type::List(boxed(self)),
            14 => {
                let len = u32::from(self.byte() % 4);
                Type::FixedList(boxed(self), len)
            }
            15 => Type::Record(self.names().into_iter().map(|name| (name, self.ty(depth - 1))).collect()),
            16 => Type::Tuple((0..=self.byte() % 3).map(|_| self.ty(depth - 1)).collect()),
            17 => Type::Variant(
                self.names().into_iter().map(|name| (name, maybe(self).map(|ty| *ty))).collect(),
            ),
            18 => Type::Enum(self.names()),
            19 => Type::Option(boxed(self)),
            20 => Type::Result(maybe(self), maybe(self)),
            _ => Type::Flags(self.names()),
        }
    }

    fn char(&mut self) -> char {
        char::from_u32(u32::from_le_bytes(self.number()) & 0x1f_ffff).unwrap_or('\u{fffd}')
    }

    pub(super) fn value(&mut self, ty: &Type) -> Value {
        let payload = |this: &mut Self, ty: Option<&Type>| ty.map(|ty| Box::new(this.value(ty)));
        match ty {
            Type::Bool => Value::Bool(self.byte() % 2 == 1),
            Type::S8 => Value::S8(i8::from_le_bytes(self.number())),
            Type::U8 => Value::U8(self.byte()),
            Type::S16 => Value::S16(i16::from_le_bytes(self.number())),
            Type::U16 => Value::U16(u16::from_le_bytes(self.number())),
            Type::S32 => Value::S32(i32::from_le_bytes(self.number())),
            Type::U32 => Value::U32(u32::from_le_bytes(self.number())),
            Type::S64 => Value::S64(i64::from_le_bytes(self.number())),
            Type::U64 => Value::U64(u64::from_le_bytes(self.number())),
            Type::F32 => Value::F32(f32::from_le_bytes(self.number())),
            Type::F64 => Value::F64(f64::from_le_bytes(self.number())),
            Type::Char => Value::Char(self.char()),
            Type::String => Value::String((0..self.byte() % 5).map(|_| self.char()).collect()),
            Type::List(t) if **t == Type::U8 => {
                Value::Bytes((0..self.byte() % 4).map(|_| self.byte()).collect())
            }
            Type::List(t) => Value::List((0..self.byte() % 4).map(|_| self.value(t)).collect()),
            Type::FixedList(t, len) => Value::List((0..*len).map(|_| self.value(t)).collect()),
            Type::Record(fields) => {
                Value::Record(fields.iter().map(|(n, t)| (n.clone(), self.value(t))).collect())
            }
            Type::Tuple(types) => Value::Tuple(types.iter().map(|t| self.value(t)).collect()),
            Type::Variant(cases) => {
                let (name, ty) = &cases[usize::from(self.byte()) % cases.len()];
                Value::Variant(name.clone(), payload(self, ty.as_ref()))
            }
            Type::Enum(names) => Value::Enum(names[usize::from(self.byte()) % names.len()].clone()),
            Type::Option(t) => {
                let some = self.byte() % 2 == 1;
                Value::Option(payload(self, some.then_some(&**t)))
            }
            Type::Result(ok, err) => Value::Result(match self.byte() % 2 {
                0 => Ok(payload(self, ok.as_deref())),
                _ => Err(payload(self, err.as_deref())),
            }),
            Type::Flags(names) => {
                Value::Flags(names.iter().filter(|_| self.byte() % 2 == 1).cloned().collect())
            }
            Type::Unsupported(what) => unreachable!("{what} is not among the kinds"),
        }
    }
}
