//! From the value that a task returns to the bytes of its result, or to the message of its failure.

use std::borrow::Cow;
use std::fmt::Display;
use std::marker::PhantomData;

/// The type that a task returns, a `Result` or not.
#[derive(Debug)]
pub struct Outcome<T>(PhantomData<fn() -> T>);

impl<T> Outcome<T> {
    /// The type of this value.
    pub fn of(_returned: &T) -> Self {
        Outcome(PhantomData)
    }
}

/// The first choice: any `Result`. The bound is on the method and not on the impl: an error type without a
/// message is then a compile error, and the `Result` is not taken for a value.
pub trait ResultOutcome<U, E> {
    /// The value, or the message of the error.
    fn split(&self, returned: Result<U, E>) -> Result<U, String>
    where
        E: Display;
}

impl<U, E> ResultOutcome<U, E> for &Outcome<Result<U, E>> {
    fn split(&self, returned: Result<U, E>) -> Result<U, String>
    where
        E: Display,
    {
        returned.map_err(message)
    }
}

/// The second choice: a value.
pub trait PlainOutcome<T> {
    /// The value.
    fn split(&self, returned: T) -> Result<T, String>;
}

impl<T> PlainOutcome<T> for Outcome<T> {
    fn split(&self, returned: T) -> Result<T, String> {
        Ok(returned)
    }
}

/// The error's message in its alternate form, in which `anyhow` and its like name the causes.
fn message(error: impl Display) -> String {
    format!("{error:#}")
}

/// The type of a task's result, without the `Result` around it.
#[derive(Debug)]
pub struct Value<T>(PhantomData<fn() -> T>);

impl<T> Value<T> {
    /// The type of this value.
    pub fn of(_value: &T) -> Self {
        Value(PhantomData)
    }
}

/// A type with its own rule for being written as bytes.
pub trait IntoRecord {
    /// The bytes of the result.
    fn into_record(self) -> Vec<u8>;
}

/// The first choice: bytes, text, numbers.
pub trait RecordValue<T> {
    /// Writes the result.
    fn encode(&self, value: T) -> Result<Vec<u8>, String>;
}

impl<T: IntoRecord> RecordValue<T> for &&Value<T> {
    fn encode(&self, value: T) -> Result<Vec<u8>, String> {
        Ok(value.into_record())
    }
}

/// The second choice: JSON.
#[cfg(feature = "json")]
pub trait JsonValue<T> {
    /// Writes the result.
    fn encode(&self, value: T) -> Result<Vec<u8>, String>;
}

#[cfg(feature = "json")]
impl<T: serde::Serialize> JsonValue<T> for &Value<T> {
    fn encode(&self, value: T) -> Result<Vec<u8>, String> {
        serde_json::to_vec(&value).map_err(|error| format!("the result cannot be written as JSON: {error}"))
    }
}

/// The last choice. Its bound never holds: the compiler reports it with the message of `TaskResult`.
pub trait OtherValue<T> {
    /// Cannot be called.
    fn encode(&self, value: T) -> Result<Vec<u8>, String>
    where
        T: TaskResult;
}

impl<T> OtherValue<T> for Value<T> {
    fn encode(&self, _value: T) -> Result<Vec<u8>, String>
    where
        T: TaskResult,
    {
        Err("this type cannot be written as a result".into())
    }
}

/// Implemented by no type. Its message lists the types of results.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the result of a task",
    label = "cannot be written as a result",
    note = "a task returns nothing, text (`String`, `&str`), bytes (`Vec<u8>`, `&[u8]`, `[u8; N]`), \
            a number, `bool`, `char`, a type that implements `serde::Serialize` \
            (as JSON, with the feature `json` of wpool-guest), or a `Result` of one of these"
)]
pub trait TaskResult {}

macro_rules! bytes {
    ($($type:ty, $value:ident => $bytes:expr;)*) => {$(
        impl IntoRecord for $type {
            fn into_record(self) -> Vec<u8> {
                let $value = self;
                $bytes
            }
        }
    )*};
}
bytes! {
    (), _nothing => Vec::new();
    Vec<u8>, bytes => bytes;
    &Vec<u8>, bytes => bytes.clone();
    &[u8], bytes => bytes.to_vec();
    Box<[u8]>, bytes => bytes.into_vec();
    Cow<'_, [u8]>, bytes => bytes.into_owned();
    String, text => text.into_bytes();
    &String, text => text.clone().into_bytes();
    &str, text => text.as_bytes().to_vec();
    Box<str>, text => text.into_string().into_bytes();
    Cow<'_, str>, text => text.into_owned().into_bytes();
}

macro_rules! displayed {
    ($($type:ident)*) => {$(
        impl IntoRecord for $type {
            fn into_record(self) -> Vec<u8> {
                self.to_string().into_bytes()
            }
        }
    )*};
}
displayed!(bool char u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64);

impl<const N: usize> IntoRecord for [u8; N] {
    fn into_record(self) -> Vec<u8> {
        self.to_vec()
    }
}

impl<const N: usize> IntoRecord for &[u8; N] {
    fn into_record(self) -> Vec<u8> {
        self.to_vec()
    }
}

/// The types that an initializer may return.
#[diagnostic::on_unimplemented(
    message = "an initializer cannot return `{Self}`",
    label = "neither `()` nor `Result<(), E>`",
    note = "an initializer returns nothing, or a `Result<(), E>` where `E` implements `Display`"
)]
pub trait Hook {
    /// `Err` with the initializer's message if it has failed.
    fn outcome(self) -> Result<(), String>;
}

impl Hook for () {
    fn outcome(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: Display> Hook for Result<(), E> {
    fn outcome(self) -> Result<(), String> {
        self.map_err(message)
    }
}
