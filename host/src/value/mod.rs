//! Build the values that go into a guest, and read those that come out.
//!
//! Most programs need none of this: [`Pool::func`](crate::Pool::func) takes and gives Rust types, by the
//! traits [`Args`] and [`Ret`]. A [`Value`] is a value of any type of the component model, and a [`Type`]
//! such a type. [`Value::from_wave`] reads a text, and `to_string` writes one. [`FuncType`] and [`Param`]
//! describe a function. [`IntoValue`] and [`FromValue`] are for types of your own.
//!
//! A [`Value`] does what pickle does for `multiprocessing`, without its danger: decoding one runs no code.
//! Between processes a value travels as WAVE text (the component model's own notation). Bytes and strings
//! travel as they are.

mod bound;
mod convert;
#[cfg(any(feature = "worker", feature = "fuzzing"))]
mod json;
mod read;
mod ty;
mod wave;

pub(crate) use self::convert::free_types;
pub use self::convert::{Args, FromValue, IntoValue, Ret};
#[cfg(any(feature = "worker", feature = "fuzzing"))]
pub(crate) use self::json::{from_json, from_json_many, to_json};
pub(crate) use self::read::Integers;
pub use self::ty::{FuncType, Param, Type};
#[cfg(any(feature = "worker", feature = "fuzzing"))]
pub(crate) use self::wave::parse_many;
pub(crate) use self::wave::{parse_call, parse_wave, parse_wave_of, to_wave};

/// A value of the component model.
///
/// ```
/// use wpool::value::{Type, Value};
///
/// let value = Value::from(vec![1.5, 2.0]);
/// assert_eq!(value, Value::List(vec![Value::F64(1.5), Value::F64(2.0)]));
/// assert_eq!(value.to_string(), "[1.5, 2]");
/// assert!(value.is_of(&Type::List(Box::new(Type::F64))));
///
/// let point = Type::Record(vec![("x".to_owned(), Type::U8), ("y".to_owned(), Type::U8)]);
/// assert!(Value::from_wave("{x: 1, y: 2}", &point).is_ok());
/// let error = Value::from_wave("{x: 1}", &point);
/// assert!(error.is_err_and(|error| error.contains('y')));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the variants are the component model's own names")]
pub enum Value {
    Bool(bool),
    S8(i8),
    U8(u8),
    S16(i16),
    U16(u16),
    S32(i32),
    U32(u32),
    S64(i64),
    U64(u64),
    F32(f32),
    F64(f64),
    Char(char),
    String(String),
    List(Vec<Value>),
    Record(Vec<(String, Value)>),
    Tuple(Vec<Value>),
    Variant(String, Option<Box<Value>>),
    Enum(String),
    Option(Option<Box<Value>>),
    Result(Result<Option<Box<Value>>, Option<Box<Value>>>),
    Flags(Vec<String>),
}

impl Value {
    /// Whether this value is one of type `ty`.
    pub fn is_of(&self, ty: &Type) -> bool {
        let payload = |v: &Option<Box<Value>>, t: Option<&Type>| match (v, t) {
            (None, None) => true,
            (Some(v), Some(t)) => v.is_of(t),
            (None, Some(_)) | (Some(_), None) => false,
        };
        match (self, ty) {
            (Value::Bool(_), Type::Bool)
            | (Value::S8(_), Type::S8)
            | (Value::U8(_), Type::U8)
            | (Value::S16(_), Type::S16)
            | (Value::U16(_), Type::U16)
            | (Value::S32(_), Type::S32)
            | (Value::U32(_), Type::U32)
            | (Value::S64(_), Type::S64)
            | (Value::U64(_), Type::U64)
            | (Value::F32(_), Type::F32)
            | (Value::F64(_), Type::F64)
            | (Value::Char(_), Type::Char)
            | (Value::String(_), Type::String) => true,
            (Value::List(items), Type::List(t)) => items.iter().all(|v| v.is_of(t)),
            (Value::List(items), Type::FixedList(t, n)) => {
                items.len() == *n as usize && items.iter().all(|v| v.is_of(t))
            }
            (Value::Record(fields), Type::Record(types)) => {
                fields.len() == types.len()
                    && fields.iter().zip(types).all(|((name, v), (wanted, t))| name == wanted && v.is_of(t))
            }
            (Value::Tuple(items), Type::Tuple(types)) => {
                items.len() == types.len() && items.iter().zip(types).all(|(v, t)| v.is_of(t))
            }
            (Value::Variant(case, v), Type::Variant(cases)) => {
                cases.iter().any(|(name, t)| name == case && payload(v, t.as_ref()))
            }
            (Value::Enum(case), Type::Enum(cases)) => cases.contains(case),
            (Value::Option(v), Type::Option(t)) => v.as_ref().is_none_or(|v| v.is_of(t)),
            (Value::Result(Ok(v)), Type::Result(t, _)) | (Value::Result(Err(v)), Type::Result(_, t)) => {
                payload(v, t.as_deref())
            }
            (Value::Flags(names), Type::Flags(all)) => names.iter().all(|n| all.contains(n)),
            _ => false,
        }
    }

    /// The number of an integer of any type.
    pub(crate) fn as_integer(&self) -> Option<i128> {
        Some(match self {
            Value::S8(n) => i128::from(*n),
            Value::U8(n) => i128::from(*n),
            Value::S16(n) => i128::from(*n),
            Value::U16(n) => i128::from(*n),
            Value::S32(n) => i128::from(*n),
            Value::U32(n) => i128::from(*n),
            Value::S64(n) => i128::from(*n),
            Value::U64(n) => i128::from(*n),
            _ => return None,
        })
    }

    /// The number `n` as a value of the integer type `ty`. `None` if it does not fit, or if `ty` is no
    /// integer type.
    pub(crate) fn integer(n: i128, ty: &Type) -> Option<Value> {
        Some(match ty {
            Type::S8 => Value::S8(n.try_into().ok()?),
            Type::U8 => Value::U8(n.try_into().ok()?),
            Type::S16 => Value::S16(n.try_into().ok()?),
            Type::U16 => Value::U16(n.try_into().ok()?),
            Type::S32 => Value::S32(n.try_into().ok()?),
            Type::U32 => Value::U32(n.try_into().ok()?),
            Type::S64 => Value::S64(n.try_into().ok()?),
            Type::U64 => Value::U64(n.try_into().ok()?),
            _ => return None,
        })
    }

    /// This value for a parameter of type `ty`. An integer fits any integer type that holds it, and floats,
    /// as in Python. A string fits bytes.
    pub(crate) fn coerce(self, ty: &Type) -> Option<Value> {
        if self.is_of(ty) {
            return Some(self);
        }
        match (&self, ty) {
            #[expect(clippy::cast_possible_truncation, reason = "the nearest float, as for any literal")]
            (Value::F64(n), Type::F32) => Some(Value::F32(*n as f32)),
            (_, Type::F64) => self.as_integer().map(|n| Value::F64(n as f64)),
            (_, Type::F32) => self.as_integer().map(|n| Value::F32(n as f32)),
            (Value::String(text), ty) if ty.is_bytes() => {
                Some(Value::List(text.bytes().map(Value::U8).collect()))
            }
            _ => Value::integer(self.as_integer()?, ty),
        }
    }
}

macro_rules! from {
    ($($ty:ty => $case:ident),* $(,)?) => {$(
        impl From<$ty> for Value {
            fn from(value: $ty) -> Self {
                Value::$case(value.into())
            }
        }
    )*};
}
from!(
    bool => Bool, i8 => S8, u8 => U8, i16 => S16, u16 => U16, i32 => S32, u32 => U32, i64 => S64, u64 => U64,
    f32 => F32, f64 => F64, char => Char, String => String, &str => String,
);

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Value::List(bytes.iter().map(|b| Value::U8(*b)).collect())
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Value::List(items.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        Value::Option(value.map(|v| Box::new(v.into())))
    }
}

impl std::fmt::Display for Value {
    /// The value's WAVE text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&to_wave(self))
    }
}

impl Value {
    /// Reads a WAVE text as a value of type `ty`.
    ///
    /// # Errors
    /// A sentence that names the expected type.
    pub fn from_wave(text: &str, ty: &Type) -> Result<Value, String> {
        parse_wave(text, ty)
    }
}
