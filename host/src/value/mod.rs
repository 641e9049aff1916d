//! Build the values that go into a guest, and read those that come out.
//!
//! Most programs need none of this: [`Pool::func`](crate::Pool::func) takes and gives Rust types, by the
//! traits [`Args`] and [`Ret`]. A [`Value`] is a value of any type of the component model, and a [`Type`]
//! such a type. [`Value::from_wave`] reads a text, and `to_string` writes one. [`FuncType`] and [`Param`]
//! describe a function. [`IntoValue`] and [`FromValue`] are for types of your own. [`HostFunc`] is a function
//! of yours that guests call.
//!
//! A [`Value`] does what pickle does for `multiprocessing`, without its danger: decoding one runs no code.
//! Between processes a value travels as WAVE text (the component model's own notation). Bytes and strings
//! travel as they are.

mod bound;
mod convert;
mod host;
#[cfg(any(feature = "worker", feature = "fuzzing"))]
mod json;
mod read;
mod ty;
mod wave;
mod wire;

pub(crate) use self::bound::VALUES_MAX;
pub(crate) use self::convert::free_types;
pub use self::convert::{Args, FromValue, IntoValue, Ret};
pub use self::host::{HostArg, HostFunc, HostRet};
#[cfg(any(feature = "worker", feature = "fuzzing"))]
pub(crate) use self::json::{from_json, from_json_many, to_json};
pub(crate) use self::read::Integers;
#[cfg(feature = "worker")]
pub(crate) use self::read::NameTables;
pub use self::ty::{FuncType, Param, Type};
#[cfg(any(feature = "worker", feature = "fuzzing"))]
pub(crate) use self::wave::parse_many;
pub(crate) use self::wave::{parse_call, parse_wave, parse_wave_of, to_wave};
pub(crate) use self::wire::{args_from_wire, result_to_wire};
#[cfg(any(feature = "worker", feature = "fuzzing", test))]
pub(crate) use self::wire::{args_to_wire, result_from_wire};

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
#[derive(Debug, Clone)]
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
    /// A `list<u8>` as its bytes: what [`Value::from`], a text and a result give. It is equal to a list of
    /// [`Value::U8`], which is accepted too and takes 32 times the memory.
    Bytes(Vec<u8>),
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
            (Value::Bytes(_), Type::List(t)) => **t == Type::U8,
            (Value::Bytes(bytes), Type::FixedList(t, n)) => **t == Type::U8 && bytes.len() == *n as usize,
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

    /// The bytes of a value of type `ty`, if that is `list<u8>` or `string`; otherwise the value.
    pub(crate) fn into_bytes(self, ty: &Type) -> Result<Vec<u8>, Value> {
        match self {
            Value::String(text) => Ok(text.into_bytes()),
            Value::Bytes(bytes) if ty.is_bytes() => Ok(bytes),
            Value::List(items) if ty.is_bytes() => {
                Ok(items.iter().filter_map(|v| if let Value::U8(b) = v { Some(*b) } else { None }).collect())
            }
            other => Err(other),
        }
    }

    /// Whether the value has at most `most` parts. Each byte is a part, since it is one in a text.
    pub(crate) fn has_at_most(&self, most: usize) -> bool {
        fn take(value: &Value, left: &mut usize) -> bool {
            let own = if let Value::Bytes(bytes) = value { bytes.len() + 1 } else { 1 };
            let Some(rest) = left.checked_sub(own) else { return false };
            *left = rest;
            match value {
                Value::List(items) | Value::Tuple(items) => items.iter().all(|item| take(item, left)),
                Value::Record(fields) => fields.iter().all(|(_, value)| take(value, left)),
                Value::Variant(_, Some(v)) | Value::Option(Some(v)) => take(v, left),
                Value::Result(Ok(Some(v)) | Err(Some(v))) => take(v, left),
                _ => true,
            }
        }
        take(self, &mut most.clone())
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
            (Value::String(text), ty) if ty.is_bytes() => Some(Value::Bytes(text.clone().into_bytes())),
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
        Value::Bytes(bytes.to_vec())
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        let mut items = items.into_iter().map(Into::into);
        let mut bytes = Vec::new();
        // Bytes are collected as bytes as long as there is nothing else.
        let other = loop {
            match items.next() {
                Some(Value::U8(byte)) => {
                    if bytes.is_empty() {
                        bytes.reserve_exact(items.len() + 1);
                    }
                    bytes.push(byte);
                }
                None if bytes.is_empty() => return Value::List(Vec::new()),
                None => return Value::Bytes(bytes),
                Some(other) => break other,
            }
        };
        Value::List(bytes.into_iter().map(Value::U8).chain([other]).chain(items).collect())
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Bytes(bytes), Value::List(items)) | (Value::List(items), Value::Bytes(bytes)) => {
                bytes.len() == items.len()
                    && bytes.iter().zip(items).all(|(b, v)| matches!(v, Value::U8(v) if v == b))
            }
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::S8(a), Value::S8(b)) => a == b,
            (Value::U8(a), Value::U8(b)) => a == b,
            (Value::S16(a), Value::S16(b)) => a == b,
            (Value::U16(a), Value::U16(b)) => a == b,
            (Value::S32(a), Value::S32(b)) => a == b,
            (Value::U32(a), Value::U32(b)) => a == b,
            (Value::S64(a), Value::S64(b)) => a == b,
            (Value::U64(a), Value::U64(b)) => a == b,
            (Value::F32(a), Value::F32(b)) => a == b,
            (Value::F64(a), Value::F64(b)) => a == b,
            (Value::Char(a), Value::Char(b)) => a == b,
            (Value::String(a), Value::String(b)) | (Value::Enum(a), Value::Enum(b)) => a == b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => a == b,
            (Value::Record(a), Value::Record(b)) => a == b,
            (Value::Variant(a, v), Value::Variant(b, w)) => a == b && v == w,
            (Value::Option(a), Value::Option(b)) => a == b,
            (Value::Result(a), Value::Result(b)) => a == b,
            (Value::Flags(a), Value::Flags(b)) => a == b,
            _ => false,
        }
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
