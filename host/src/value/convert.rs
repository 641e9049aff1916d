//! Rust types as arguments and results of guest functions: [`Args`] and [`Ret`] for typed calls.
//!
//! Bytes and strings travel as they are, all other types as a [`Value`] in its WAVE text.

use super::bound::{VALUES_MAX, is_within};
use super::{FuncType, Type, Value, parse_wave, to_wave};

/// A Rust type that can be passed to a guest as a value of a matching component type.
///
/// ```
/// use wpool::value::{IntoValue, Type, Value};
///
/// assert!(<u64 as IntoValue>::fits(&Type::U8));
/// assert_eq!(7u64.into_value(&Type::U8), Some(Value::U8(7)));
/// assert_eq!(700u64.into_value(&Type::U8), None);
/// ```
pub trait IntoValue {
    /// Whether a parameter of type `ty` takes this Rust type.
    fn fits(ty: &Type) -> bool;

    /// The value for a parameter of type `ty`. `None` if this one does not fit: a number is out of range.
    fn into_value(self, ty: &Type) -> Option<Value>;

    /// The bytes themselves, if this type is bytes or text.
    fn as_raw(&self) -> Option<&[u8]> {
        None
    }
}

/// A Rust type that a result of a guest can be turned into.
///
/// ```
/// use wpool::value::{FromValue, Type, Value};
///
/// assert!(<Vec<u32> as FromValue>::fits(&Type::List(Box::new(Type::U32))));
/// assert_eq!(Vec::<u32>::from_value(Value::from(vec![1u32, 2])), Some(vec![1, 2]));
/// ```
pub trait FromValue: Sized {
    /// Whether a result of type `ty` can be turned into this Rust type.
    fn fits(ty: &Type) -> bool;

    /// The Rust value. `None` if this one does not fit.
    fn from_value(value: Value) -> Option<Self>;

    /// The Rust value from the bytes of a `list<u8>` or `string`, if this type is bytes or text.
    fn from_raw(_bytes: &[u8]) -> Option<Self> {
        None
    }
}

macro_rules! integers {
    ($($ty:ty),*) => {$(
        impl IntoValue for $ty {
            /// Any integer type, and `f64`. A number out of range is an error of its task.
            fn fits(ty: &Type) -> bool {
                Value::integer(0, ty).is_some() || matches!(ty, Type::F64)
            }

            fn into_value(self, ty: &Type) -> Option<Value> {
                match ty {
                    // The nearest float: in Python, too, an int can be passed for a float.
                    Type::F64 => Some(Value::F64(self as f64)),
                    _ => Value::integer(self as i128, ty),
                }
            }
        }

        impl FromValue for $ty {
            fn fits(ty: &Type) -> bool {
                Value::integer(0, ty).is_some()
            }

            fn from_value(value: Value) -> Option<Self> {
                value.as_integer()?.try_into().ok()
            }
        }
    )*};
}
integers!(i8, u8, i16, u16, i32, u32, i64, u64);

macro_rules! scalars {
    ($($ty:ty => $case:ident),*) => {$(
        impl IntoValue for $ty {
            fn fits(ty: &Type) -> bool {
                matches!(ty, Type::$case)
            }

            fn into_value(self, ty: &Type) -> Option<Value> {
                <Self as IntoValue>::fits(ty).then_some(Value::$case(self))
            }
        }

        impl FromValue for $ty {
            fn fits(ty: &Type) -> bool {
                matches!(ty, Type::$case)
            }

            fn from_value(value: Value) -> Option<Self> {
                match value {
                    Value::$case(v) => Some(v),
                    _ => None,
                }
            }
        }
    )*};
}
scalars!(bool => Bool, char => Char, f32 => F32, f64 => F64);

/// Text fits `string`, and `list<u8>` as its UTF-8 bytes.
macro_rules! texts {
    ($($ty:ty),*) => {$(
        impl IntoValue for $ty {
            fn fits(ty: &Type) -> bool {
                ty.is_bytes_or_string()
            }

            fn into_value(self, ty: &Type) -> Option<Value> {
                match ty {
                    Type::String => Some(Value::String(self.to_string())),
                    _ => bytes_value(self.as_bytes(), ty),
                }
            }

            fn as_raw(&self) -> Option<&[u8]> {
                Some(self.as_bytes())
            }
        }
    )*};
}
texts!(String, &str, &String, std::borrow::Cow<'_, str>);

macro_rules! bytes {
    ($([$($generics:tt)*] $ty:ty),*) => {$(
        impl<$($generics)*> IntoValue for $ty {
            fn fits(ty: &Type) -> bool {
                ty.is_bytes_or_string()
            }

            fn into_value(self, ty: &Type) -> Option<Value> {
                match ty {
                    Type::String => Some(Value::String(std::str::from_utf8(self.as_ref()).ok()?.to_owned())),
                    _ => bytes_value(self.as_ref(), ty),
                }
            }

            fn as_raw(&self) -> Option<&[u8]> {
                Some(self.as_ref())
            }
        }
    )*};
}
bytes!([] &[u8], [const N: usize] &[u8; N], [] &Vec<u8>);

fn bytes_value(bytes: &[u8], ty: &Type) -> Option<Value> {
    ty.is_bytes().then(|| Value::Bytes(bytes.to_vec()))
}

impl FromValue for String {
    fn fits(ty: &Type) -> bool {
        ty.is_bytes_or_string()
    }

    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::String(s) => Some(s),
            Value::Bytes(bytes) => String::from_utf8(bytes).ok(),
            other => String::from_utf8(Vec::from_value(other)?).ok(),
        }
    }

    fn from_raw(bytes: &[u8]) -> Option<Self> {
        String::from_utf8(bytes.to_vec()).ok()
    }
}

impl<T: IntoValue + 'static> IntoValue for Vec<T> {
    fn fits(ty: &Type) -> bool {
        match ty {
            Type::List(t) | Type::FixedList(t, _) => T::fits(t),
            Type::String => std::any::TypeId::of::<T>() == std::any::TypeId::of::<u8>(),
            _ => false,
        }
    }

    fn into_value(self, ty: &Type) -> Option<Value> {
        let (Type::List(element) | Type::FixedList(element, _)) = ty else {
            return self.as_raw().and_then(|bytes| bytes.into_value(ty));
        };
        let list = Value::List(self.into_iter().map(|v| v.into_value(element)).collect::<Option<_>>()?);
        list.is_of(ty).then_some(list)
    }

    fn as_raw(&self) -> Option<&[u8]> {
        (self as &dyn std::any::Any).downcast_ref::<Vec<u8>>().map(Vec::as_slice)
    }
}

impl<T: FromValue + 'static> FromValue for Vec<T> {
    fn fits(ty: &Type) -> bool {
        match ty {
            Type::List(t) | Type::FixedList(t, _) => T::fits(t),
            Type::String => std::any::TypeId::of::<T>() == std::any::TypeId::of::<u8>(),
            _ => false,
        }
    }

    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::List(items) => items.into_iter().map(T::from_value).collect(),
            Value::Bytes(bytes) => Self::from_raw(&bytes)
                .or_else(|| bytes.into_iter().map(|byte| T::from_value(Value::U8(byte))).collect()),
            Value::String(s) => Self::from_raw(s.as_bytes()),
            _ => None,
        }
    }

    fn from_raw(bytes: &[u8]) -> Option<Self> {
        let bytes: Box<dyn std::any::Any> = Box::new(bytes.to_vec());
        bytes.downcast::<Self>().ok().map(|v| *v)
    }
}

impl<T: IntoValue> IntoValue for Option<T> {
    fn fits(ty: &Type) -> bool {
        matches!(ty, Type::Option(t) if T::fits(t))
    }

    fn into_value(self, ty: &Type) -> Option<Value> {
        let Type::Option(inner) = ty else { return None };
        Some(Value::Option(match self {
            Some(v) => Some(Box::new(v.into_value(inner)?)),
            None => None,
        }))
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn fits(ty: &Type) -> bool {
        matches!(ty, Type::Option(t) if T::fits(t))
    }

    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Option(None) => Some(None),
            Value::Option(Some(v)) => T::from_value(*v).map(Some),
            _ => None,
        }
    }
}

impl IntoValue for Value {
    fn fits(ty: &Type) -> bool {
        ty.is_supported()
    }

    fn into_value(self, ty: &Type) -> Option<Value> {
        self.is_of(ty).then_some(self)
    }
}

impl FromValue for Value {
    fn fits(ty: &Type) -> bool {
        ty.is_supported()
    }

    fn from_value(value: Value) -> Option<Self> {
        Some(value)
    }
}

/// The arguments of one task: one value for a function of one free parameter, a tuple for several
/// (`starmap`), `()` for none.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = wpool::Pool::builder(&numbers()?).build()?;
/// let square = pool.func::<f64, f64>("square")?; // one parameter
/// let add = pool.func::<(i32, i32), i32>("add")?; // two
/// let five = pool.func::<(), i32>(wpool::Target::call("add(2, 3)")?)?; // none is left
/// assert_eq!(pool.apply(&square, 3.0)?, 9.0);
/// assert_eq!(pool.apply(&add, (3, 4))?, 7);
/// assert_eq!(pool.apply(&five, ())?, 5);
/// # Ok(())
/// # }
/// ```
pub trait Args {
    /// Whether a function with free parameters of these types takes these arguments.
    fn fits(free: &[&Type]) -> bool;

    /// Appends the record of these arguments: the bytes themselves for one `list<u8>` or `string` parameter,
    /// otherwise WAVE.
    ///
    /// # Errors
    /// A value does not fit its parameter, or the item was an error. `record` is then not to be used.
    fn encode(self, free: &[&Type], record: &mut Vec<u8>) -> Result<(), String>;
}

impl<T: IntoValue> Args for T {
    fn fits(free: &[&Type]) -> bool {
        matches!(free, [ty] if T::fits(ty))
    }

    fn encode(self, free: &[&Type], record: &mut Vec<u8>) -> Result<(), String> {
        let [ty] = free else { return Err(does_not_fit(free)) };
        if ty.is_bytes_or_string()
            && let Some(raw) = self.as_raw()
        {
            record.extend_from_slice(raw);
            return Ok(());
        }
        match self.into_value(ty) {
            Some(value) => match value.into_bytes(ty) {
                Ok(bytes) => record.extend_from_slice(&bytes),
                Err(value) => record.extend_from_slice(to_wave(&value).as_bytes()),
            },
            None => return Err(does_not_fit(free)),
        }
        Ok(())
    }
}

fn does_not_fit(free: &[&Type]) -> String {
    let types: Vec<String> = free.iter().map(ToString::to_string).collect();
    format!("a value that does not fit {}", types.join(", "))
}

/// An item that may be an error. The outcome of its task is then
/// [`TaskError::BadRecord`](crate::TaskError::BadRecord), with the text of the error.
impl<A: Args, E: std::fmt::Display> Args for Result<A, E> {
    fn fits(free: &[&Type]) -> bool {
        A::fits(free)
    }

    fn encode(self, free: &[&Type], record: &mut Vec<u8>) -> Result<(), String> {
        self.map_err(|e| e.to_string())?.encode(free, record)
    }
}

/// No free parameter: each task runs the same call.
impl Args for () {
    fn fits(free: &[&Type]) -> bool {
        free.is_empty()
    }

    fn encode(self, free: &[&Type], _record: &mut Vec<u8>) -> Result<(), String> {
        match free {
            [] => Ok(()),
            _ => Err(does_not_fit(free)),
        }
    }
}

/// `(x,)` is the same as `x`.
impl<A: IntoValue> Args for (A,) {
    fn fits(free: &[&Type]) -> bool {
        <A as Args>::fits(free)
    }

    fn encode(self, free: &[&Type], record: &mut Vec<u8>) -> Result<(), String> {
        self.0.encode(free, record)
    }
}

macro_rules! tuples {
    ($(($($name:ident $index:tt),*))*) => {$(
        impl<$($name: IntoValue),*> Args for ($($name,)*) {
            fn fits(free: &[&Type]) -> bool {
                let mut types = free.iter();
                $(types.next().is_some_and(|ty| $name::fits(ty)) &&)* types.next().is_none()
            }

            fn encode(self, free: &[&Type], record: &mut Vec<u8>) -> Result<(), String> {
                let values = [$(free.get($index).and_then(|ty| self.$index.into_value(ty))),*];
                let Some(values) = values.into_iter().collect::<Option<Vec<_>>>() else {
                    return Err(does_not_fit(free));
                };
                record.extend_from_slice(to_wave(&Value::Tuple(values)).as_bytes());
                Ok(())
            }
        }
    )*};
}
tuples!((A 0, B 1)(A 0, B 1, C 2)(A 0, B 1, C 2, D 3)(A 0, B 1, C 2, D 3, E 4)(A 0, B 1, C 2, D 3, E 4, F 5));

/// The result of one task: a [`FromValue`], or `()` for a function without a result, and where the result
/// does not matter.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = pool("upper")?;
/// let text = pool.func::<&str, String>("run")?;
/// let bytes = pool.func::<&str, Vec<u8>>("run")?;
/// let nothing = pool.func::<&str, ()>("run")?; // it does not matter
/// assert_eq!(pool.apply(&text, "a")?, "A");
/// assert_eq!(pool.apply(&bytes, "a")?, b"A");
/// pool.apply(&nothing, "a")?;
/// # Ok(())
/// # }
/// ```
pub trait Ret: Sized {
    /// Whether a result of type `result` can be turned into this type. `None`: the function has no result.
    fn fits(result: Option<&Type>) -> bool;

    /// Decodes a result: the bytes themselves for `list<u8>` and `string`, otherwise WAVE. `None` if it does
    /// not fit, or if it has more than four million parts, each of which takes about a hundred bytes. Bytes
    /// and strings may have any length.
    fn decode(bytes: &[u8], result: Option<&Type>) -> Option<Self>;
}

impl Ret for () {
    fn fits(_result: Option<&Type>) -> bool {
        true
    }

    fn decode(_bytes: &[u8], _result: Option<&Type>) -> Option<Self> {
        Some(())
    }
}

impl<T: FromValue> Ret for T {
    fn fits(result: Option<&Type>) -> bool {
        result.is_some_and(T::fits)
    }

    fn decode(bytes: &[u8], result: Option<&Type>) -> Option<Self> {
        let ty = result?;
        if ty.is_bytes_or_string() {
            return T::from_raw(bytes).or_else(|| {
                T::from_value(match ty {
                    Type::String => Value::String(String::from_utf8(bytes.to_vec()).ok()?),
                    _ if bytes.len() > VALUES_MAX => return None,
                    _ => bytes_value(bytes, ty)?,
                })
            });
        }
        let text = std::str::from_utf8(bytes).ok()?;
        is_within(text, ty, VALUES_MAX).then(|| T::from_value(parse_wave(text, ty).ok()?))?
    }
}

/// The types of the free parameters, which the arguments of each task fill.
pub(crate) fn free_types(ty: &FuncType, is_fixed: impl Fn(usize) -> bool) -> Vec<&Type> {
    let is_free = |(i, _): &(usize, _)| !is_fixed(*i);
    ty.params.iter().enumerate().filter(is_free).map(|(_, p)| &p.ty).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(args: impl Args, free: &[&Type]) -> Option<String> {
        let mut record = Vec::new();
        args.encode(free, &mut record).is_ok().then(|| String::from_utf8(record).unwrap())
    }

    #[test]
    fn bytes_and_strings_travel_as_they_are() {
        let bytes = Type::List(Box::new(Type::U8));
        assert_eq!(encoded("a\"b", &[&Type::String]).unwrap(), "a\"b");
        assert_eq!(encoded(b"ab".to_vec(), &[&bytes]).unwrap(), "ab");
        assert_eq!(encoded("ab", &[&bytes]).unwrap(), "ab");
        assert_eq!(encoded(Value::List(vec![Value::U8(97)]), &[&bytes]).unwrap(), "a");
        assert_eq!(Vec::<u8>::decode(b"ab", Some(&Type::String)).unwrap(), b"ab");
        assert_eq!(String::decode(b"ab", Some(&bytes)).unwrap(), "ab");
    }

    #[test]
    fn several_arguments_are_a_tuple() {
        assert_eq!(
            encoded((7, "x", Some(true)), &[&Type::U8, &Type::String, &Type::Option(Box::new(Type::Bool))])
                .unwrap(),
            "(7, \"x\", some(true))"
        );
        assert!(<(i32, &str)>::fits(&[&Type::S64, &Type::String]));
        assert!(!<(i32, &str)>::fits(&[&Type::S64]));
        assert!(!<i32 as Args>::fits(&[&Type::String]));
        assert_eq!(encoded((7,), &[&Type::U64]).unwrap(), "7");
        assert_eq!(encoded((), &[]).unwrap(), "");
    }

    #[test]
    fn a_number_out_of_range_does_not_fit() {
        assert_eq!(encoded(300, &[&Type::U8]), None);
        assert_eq!(encoded(-1, &[&Type::U64]), None);
        assert_eq!(i8::decode(b"300", Some(&Type::U16)), None);
        assert_eq!(u64::decode(b"300", Some(&Type::U16)), Some(300));
    }
}
