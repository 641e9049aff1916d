//! From the bytes of a record to the argument of a task.

use std::fmt::Display;
use std::marker::PhantomData;

/// The type of a task's argument.
#[derive(Debug)]
pub struct Argument<T>(PhantomData<fn() -> T>);

impl<T> Argument<T> {
    /// The type of this function's argument.
    pub fn of<U>(_task: fn(T) -> U) -> Self {
        Argument(PhantomData)
    }
}

/// A type with its own rule for being read from the bytes of a record.
pub trait FromRecord<'r>: Sized {
    /// Reads the record. May borrow from it, or take it and leave it empty.
    fn from_record(record: &'r mut Vec<u8>) -> Result<Self, String>;
}

/// The first choice: bytes, text, numbers.
pub trait RecordArgument<'r, T> {
    /// Reads the argument from the record.
    fn decode(&self, record: &'r mut Vec<u8>) -> Result<T, String>;
}

impl<'r, T: FromRecord<'r>> RecordArgument<'r, T> for &&Argument<T> {
    fn decode(&self, record: &'r mut Vec<u8>) -> Result<T, String> {
        T::from_record(record)
    }
}

/// The second choice: JSON.
#[cfg(feature = "json")]
pub trait JsonArgument<'r, T> {
    /// Reads the argument from the record.
    fn decode(&self, record: &'r mut Vec<u8>) -> Result<T, String>;
}

#[cfg(feature = "json")]
impl<'r, T: serde::Deserialize<'r>> JsonArgument<'r, T> for &Argument<T> {
    fn decode(&self, record: &'r mut Vec<u8>) -> Result<T, String> {
        // Shared for as long as the record lives, so that a struct may borrow from the record.
        let record = &*record;
        serde_json::from_slice(record)
            .map_err(|error| format!("expected JSON, got {}: {error}", Shown(record)))
    }
}

/// The last choice. Its bound never holds: the compiler reports it with the message of `TaskArgument`.
pub trait OtherArgument<T> {
    /// Cannot be called.
    fn decode(&self, record: &mut Vec<u8>) -> Result<T, String>
    where
        T: TaskArgument;
}

impl<T> OtherArgument<T> for Argument<T> {
    fn decode(&self, _record: &mut Vec<u8>) -> Result<T, String>
    where
        T: TaskArgument,
    {
        Err("this type cannot be read from a record".into())
    }
}

/// Implemented by no type. Its message lists the types of arguments.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the argument of a task",
    label = "cannot be read from a record",
    note = "a task takes nothing, text (`String`, `&str`), bytes (`Vec<u8>`, `&[u8]`, `[u8; N]`), \
            a number, `bool`, `char`, or a type that implements `serde::Deserialize` \
            (as JSON, with the feature `json` of wpool-guest)"
)]
pub trait TaskArgument {}

impl FromRecord<'_> for Vec<u8> {
    fn from_record(record: &mut Vec<u8>) -> Result<Self, String> {
        Ok(std::mem::take(record))
    }
}

impl<'r> FromRecord<'r> for &'r [u8] {
    fn from_record(record: &'r mut Vec<u8>) -> Result<Self, String> {
        Ok(record)
    }
}

impl<const N: usize> FromRecord<'_> for [u8; N] {
    fn from_record(record: &mut Vec<u8>) -> Result<Self, String> {
        let bytes = record.as_slice();
        bytes.try_into().map_err(|_| format!("expected {N} bytes, got {}", bytes.len()))
    }
}

impl FromRecord<'_> for String {
    fn from_record(record: &mut Vec<u8>) -> Result<Self, String> {
        // Taken, not copied: a record may be large.
        String::from_utf8(std::mem::take(record)).map_err(|error| not_utf8(&error.utf8_error()))
    }
}

impl<'r> FromRecord<'r> for &'r str {
    fn from_record(record: &'r mut Vec<u8>) -> Result<Self, String> {
        text(record)
    }
}

impl FromRecord<'_> for bool {
    fn from_record(record: &mut Vec<u8>) -> Result<Self, String> {
        match text(record)?.trim() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(format!("expected true or false, got {}", Shown(record))),
        }
    }
}

impl FromRecord<'_> for char {
    fn from_record(record: &mut Vec<u8>) -> Result<Self, String> {
        let text = text(record)?;
        // Untrimmed first: the record may be a single space.
        let found = text.parse().or_else(|_| text.trim().parse());
        found.map_err(|_| format!("expected one character, got {}", Shown(record)))
    }
}

macro_rules! integers {
    ($($integer:ident)*) => {$(
        impl FromRecord<'_> for $integer {
            fn from_record(record: &mut Vec<u8>) -> Result<Self, String> {
                text(record)?.trim().parse().map_err(|error| {
                    not_an_integer(record, stringify!($integer), &error)
                })
            }
        }
    )*};
}
integers!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

/// The message for all types of integers. Not generic: a guest has the code once.
fn not_an_integer(record: &[u8], integer: &str, error: &std::num::ParseIntError) -> String {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};

    let why = match error.kind() {
        PosOverflow => ": it is too large",
        NegOverflow => ": it is too small",
        _ => "",
    };
    format!("expected an integer ({integer}), got {}{why}", Shown(record))
}

macro_rules! floats {
    ($($float:ident)*) => {$(
        impl FromRecord<'_> for $float {
            fn from_record(record: &mut Vec<u8>) -> Result<Self, String> {
                text(record)?.trim().parse().map_err(|_| {
                    format!(concat!("expected a number (", stringify!($float), "), got {}"), Shown(record))
                })
            }
        }
    )*};
}
floats!(f32 f64);

fn text(record: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(record).map_err(|error| not_utf8(&error))
}

fn not_utf8(error: &std::str::Utf8Error) -> String {
    format!("expected UTF-8 text, got something else at byte {}", error.valid_up_to())
}

/// A record in a message: quoted, escaped, and cut to [`SHOWN_CHARS_MAX`], since a record may have any size.
struct Shown<'r>(&'r [u8]);

/// The number of characters of a record in a message.
pub(super) const SHOWN_CHARS_MAX: usize = 40;

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A character has at most four bytes, so these hold one character more than is shown. If the cut
        // splits a character, it is that last one.
        let start = &self.0[..self.0.len().min(4 * (SHOWN_CHARS_MAX + 1))];
        let start = String::from_utf8_lossy(start);
        let shown: String = start.chars().take(SHOWN_CHARS_MAX).collect();
        let more = if start.chars().count() > SHOWN_CHARS_MAX { "…" } else { "" };
        write!(f, "\"{}{more}\"", shown.escape_debug())
    }
}
