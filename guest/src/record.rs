//! Records in, results out: how a task's argument is read from bytes and its result written as bytes.
//!
//! Which way a type takes is chosen where the attribute is expanded, since only there the type is known: `RecordArgument`
//! comes before `JsonArgument`, and `OtherArgument` is left for the types that have neither, so that the compiler's message
//! is ours. Rust has no specialisation; the order comes from how method calls are resolved. With `(&&&argument).decode(..)`
//! a method of `&&Argument<T>` is found first, then one of `&Argument<T>`, then one of `Argument<T>`, and each of them only
//! where its bounds hold. The same goes for results.

use std::borrow::Cow;
use std::fmt::Display;
use std::marker::PhantomData;

/// The type of a task's argument.
#[derive(Debug)]
pub struct Argument<T>(PhantomData<fn() -> T>);

impl<T> Argument<T> {
    /// The argument of this function.
    pub fn of<U>(_task: fn(T) -> U) -> Self {
        Argument(PhantomData)
    }
}

/// A type that is read from the bytes of a record by its own rule.
pub trait FromRecord<'r>: Sized {
    /// Reads the record, or takes it.
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
        let record = &*record;
        serde_json::from_slice(record).map_err(|error| format!("expected JSON, got {}: {error}", Shown(record)))
    }
}

/// The last choice, which never holds: for the message.
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

/// Implemented by nothing: says what an argument may be.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the argument of a task",
    label = "cannot be read from a record",
    note = "a task takes nothing, text (`String`, `&str`), bytes (`Vec<u8>`, `&[u8]`, `[u8; N]`), a number, `bool`, `char`, or a \
            type that implements `serde::Deserialize` (as JSON, with the feature `json` of wpool-guest)"
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
        // As it is first: a space is a character, too.
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

        impl IntoRecord for $integer {
            fn into_record(self) -> Vec<u8> {
                self.to_string().into_bytes()
            }
        }
    )*};
}
integers!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

/// Not generic, so that a guest has it once.
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

        impl IntoRecord for $float {
            fn into_record(self) -> Vec<u8> {
                self.to_string().into_bytes()
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

/// A record as a message shows it: quoted, escaped, and cut short, since a record may be of any size.
struct Shown<'r>(&'r [u8]);

/// How many characters of a record a message shows.
const SHOWN_CHARS_MAX: usize = 40;

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A character has at most four bytes. The cut may split the last one, which is then one of those left out.
        let start = &self.0[..self.0.len().min(4 * (SHOWN_CHARS_MAX + 1))];
        let start = String::from_utf8_lossy(start);
        let shown: String = start.chars().take(SHOWN_CHARS_MAX).collect();
        let more = if start.chars().count() > SHOWN_CHARS_MAX { "…" } else { "" };
        write!(f, "\"{}{more}\"", shown.escape_debug())
    }
}

/// The type of what a task returned.
#[derive(Debug)]
pub struct Outcome<T>(PhantomData<fn() -> T>);

impl<T> Outcome<T> {
    /// The type of this value.
    pub fn of(_returned: &T) -> Self {
        Outcome(PhantomData)
    }
}

/// The first choice: a `Result`, whatever its parts are, so that an error without a message does not compile rather than
/// being taken for a value.
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

/// The alternate form, because there an error that has causes (`anyhow` and its like) names them.
fn message(error: impl Display) -> String {
    format!("{error:#}")
}

/// The type of a task's result.
#[derive(Debug)]
pub struct Value<T>(PhantomData<fn() -> T>);

impl<T> Value<T> {
    /// The type of this value.
    pub fn of(_value: &T) -> Self {
        Value(PhantomData)
    }
}

/// A type that is written as bytes by its own rule.
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

/// The last choice, which never holds: for the message.
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

/// Implemented by nothing: says what a result may be.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the result of a task",
    label = "cannot be written as a result",
    note = "a task returns nothing, text (`String`, `&str`), bytes (`Vec<u8>`, `&[u8]`, `[u8; N]`), a number, `bool`, `char`, a \
            type that implements `serde::Serialize` (as JSON, with the feature `json` of wpool-guest), or a `Result` of these"
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
    char, character => character.to_string().into_bytes();
    bool, truth => truth.to_string().into_bytes();
}

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

/// What an initializer may return.
#[diagnostic::on_unimplemented(
    message = "an initializer cannot return `{Self}`",
    label = "neither `()` nor `Result<(), E>`",
    note = "an initializer returns nothing, or a `Result<(), E>` where `E` can be displayed"
)]
pub trait Hook {
    /// Whether the initializer succeeded, or its message.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What the attribute expands to, for a function of one argument.
    macro_rules! call {
        ($task:expr, $record:expr) => {{
            let task = $task;
            let mut record = Vec::from($record);
            (|| {
                let argument = (&&&Argument::of(task)).decode(&mut record)?;
                let returned = task(argument);
                let value = (&&Outcome::of(&returned)).split(returned)?;
                (&&&Value::of(&value)).encode(value)
            })()
        }};
    }

    /// A result as text, as most of them are.
    fn shown(result: Result<Vec<u8>, String>) -> Result<String, String> {
        result.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    fn ok(text: &str) -> Result<String, String> {
        Ok(text.into())
    }

    fn err(text: &str) -> Result<String, String> {
        Err(text.into())
    }

    #[test]
    fn text_is_taken_as_it_is() {
        fn owned(text: String) -> String {
            text
        }
        fn borrowed(text: &str) -> &str {
            text
        }
        for record in ["", " a b\t", "größe", "\"quoted\""] {
            assert_eq!(shown(call!(owned, record)), ok(record));
            assert_eq!(shown(call!(borrowed, record)), ok(record));
        }
        let message = "expected UTF-8 text, got something else at byte 2";
        assert_eq!(shown(call!(owned, *b"ab\xff")), err(message));
        assert_eq!(shown(call!(borrowed, *b"ab\xff")), err(message));
    }

    #[test]
    fn bytes_are_taken_as_they_are() {
        fn owned(bytes: Vec<u8>) -> Vec<u8> {
            bytes
        }
        fn borrowed(bytes: &[u8]) -> &[u8] {
            bytes
        }
        fn counted(bytes: [u8; 3]) -> [u8; 3] {
            bytes
        }
        assert_eq!(call!(owned, *b"\0\xff\n"), Ok(b"\0\xff\n".to_vec()));
        assert_eq!(call!(borrowed, *b"\0\xff\n"), Ok(b"\0\xff\n".to_vec()));
        assert_eq!(call!(counted, *b"\0\xff\n"), Ok(b"\0\xff\n".to_vec()));
        assert_eq!(shown(call!(counted, *b"abcd")), err("expected 3 bytes, got 4"));
    }

    #[test]
    fn a_large_record_is_not_copied() {
        let mut record = vec![7_u8; 1 << 16];
        let before = record.as_ptr();
        let taken = <Vec<u8>>::from_record(&mut record).unwrap();
        let result = taken.into_record();
        assert_eq!(result.as_ptr(), before);
    }

    #[test]
    fn integers_are_parsed_and_shown() {
        fn next(number: u32) -> u32 {
            number + 1
        }
        fn negative(number: i128) -> i128 {
            -number
        }
        fn small(number: i8) -> i8 {
            number
        }
        assert_eq!(shown(call!(next, " 41\r")), ok("42"));
        assert_eq!(shown(call!(negative, "170141183460469231731687303715884105727")), ok(&(-i128::MAX).to_string()));
        assert_eq!(shown(call!(next, "abc")), err("expected an integer (u32), got \"abc\""));
        assert_eq!(shown(call!(next, "")), err("expected an integer (u32), got \"\""));
        assert_eq!(shown(call!(next, "-1")), err("expected an integer (u32), got \"-1\""));
        assert_eq!(shown(call!(small, "128")), err("expected an integer (i8), got \"128\": it is too large"));
        assert_eq!(shown(call!(small, "-129")), err("expected an integer (i8), got \"-129\": it is too small"));
    }

    #[test]
    fn floats_bools_and_characters_are_parsed_and_shown() {
        fn half(number: f64) -> f64 {
            number / 2.0
        }
        fn not(truth: bool) -> bool {
            !truth
        }
        fn same(character: char) -> char {
            character
        }
        assert_eq!(shown(call!(half, "\t5 ")), ok("2.5"));
        assert_eq!(shown(call!(half, "1e3")), ok("500"));
        assert_eq!(shown(call!(half, "much")), err("expected a number (f64), got \"much\""));
        assert_eq!(shown(call!(not, " true")), ok("false"));
        assert_eq!(shown(call!(not, "1")), err("expected true or false, got \"1\""));
        assert_eq!(shown(call!(same, " ö ")), ok("ö"));
        assert_eq!(shown(call!(same, " ")), ok(" "));
        assert_eq!(shown(call!(same, "ab")), err("expected one character, got \"ab\""));
    }

    #[test]
    fn a_message_shows_the_start_of_a_record() {
        fn number(_: u8) {}
        let shown_of = |record: &[u8]| call!(number, record).unwrap_err();
        let long = "a".repeat(SHOWN_CHARS_MAX);
        assert_eq!(shown_of(long.as_bytes()), format!("expected an integer (u8), got \"{long}\""));
        assert_eq!(shown_of(format!("{long}b").as_bytes()), format!("expected an integer (u8), got \"{long}…\""));
        let wide = "🦀".repeat(SHOWN_CHARS_MAX);
        assert_eq!(shown_of(format!("{wide}🦀🦀").as_bytes()), format!("expected an integer (u8), got \"{wide}…\""));
        assert_eq!(shown_of(b"\x1b[2J\"\n"), "expected an integer (u8), got \"\\u{1b}[2J\\\"\\n\"");
    }

    #[test]
    fn nothing_is_an_empty_result() {
        fn forget(_: String) {}
        fn check(number: i32) -> Result<(), &'static str> {
            if number < 0 { Err("negative") } else { Ok(()) }
        }
        assert_eq!(call!(forget, "a"), Ok(vec![]));
        assert_eq!(call!(check, "1"), Ok(vec![]));
        assert_eq!(shown(call!(check, "-1")), err("negative"));
    }

    #[test]
    fn an_error_is_its_message_with_its_causes() {
        struct Nested;
        impl Display for Nested {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(if f.alternate() { "outer: inner" } else { "outer" })
            }
        }
        fn fail(_: &str) -> Result<String, Nested> {
            Err(Nested)
        }
        assert_eq!(shown(call!(fail, "a")), err("outer: inner"));
    }

    #[test]
    fn borrowed_owned_and_shared_text_is_written_alike() {
        fn cow(text: &str) -> Cow<'_, str> {
            text.into()
        }
        fn boxed(text: String) -> Box<str> {
            text.into()
        }
        fn fixed(_: &str) -> &'static [u8; 2] {
            b"ok"
        }
        assert_eq!(shown(call!(cow, "a")), ok("a"));
        assert_eq!(shown(call!(boxed, "a")), ok("a"));
        assert_eq!(shown(call!(fixed, "a")), ok("ok"));
    }

    #[cfg(feature = "json")]
    mod json {
        use std::collections::BTreeMap;

        use super::*;

        #[derive(serde::Deserialize)]
        struct Point {
            x: f64,
            y: f64,
        }

        #[derive(serde::Serialize)]
        struct Length {
            length: f64,
        }

        #[derive(serde::Deserialize, serde::Serialize)]
        struct Named<'r> {
            name: &'r str,
        }

        fn length(point: Point) -> Length {
            Length { length: point.x.hypot(point.y) }
        }

        #[test]
        fn structs_are_json() {
            assert_eq!(shown(call!(length, " {\"x\": 3, \"y\": 4} ")), ok("{\"length\":5.0}"));
        }

        #[test]
        fn what_is_not_json_is_an_error_with_its_place() {
            assert_eq!(
                shown(call!(length, "{\"x\": 3}")),
                err("expected JSON, got \"{\\\"x\\\": 3}\": missing field `y` at line 1 column 8")
            );
            assert_eq!(
                shown(call!(length, "")),
                err("expected JSON, got \"\": EOF while parsing a value at line 1 column 0")
            );
        }

        #[test]
        fn a_struct_may_borrow_from_the_record() {
            fn same(named: Named<'_>) -> Named<'_> {
                named
            }
            assert_eq!(shown(call!(same, "{\"name\":\"Ada\"}")), ok("{\"name\":\"Ada\"}"));
        }

        #[test]
        fn lists_options_tuples_and_maps_are_json() {
            fn sum(numbers: Vec<i64>) -> Option<i64> {
                numbers.into_iter().reduce(|a, b| a + b)
            }
            fn swap((a, b): (u8, String)) -> (String, u8) {
                (b, a)
            }
            fn count(text: &str) -> BTreeMap<char, u32> {
                let mut counts = BTreeMap::new();
                text.chars().for_each(|c| *counts.entry(c).or_default() += 1);
                counts
            }
            assert_eq!(shown(call!(sum, "[1, 2]")), ok("3"));
            assert_eq!(shown(call!(sum, "[]")), ok("null"));
            assert_eq!(shown(call!(swap, "[1, \"a\"]")), ok("[\"a\",1]"));
            assert_eq!(shown(call!(count, "aba")), ok("{\"a\":2,\"b\":1}"));
        }

        #[test]
        fn a_result_that_json_cannot_say_is_an_error() {
            fn keyed(_: &str) -> BTreeMap<(u8, u8), u8> {
                BTreeMap::from([((1, 2), 3)])
            }
            assert_eq!(shown(call!(keyed, "")), err("the result cannot be written as JSON: key must be a string"));
        }

        #[test]
        fn a_result_of_serde_types_is_still_a_result() {
            fn refuse(_: &str) -> Result<Vec<u32>, String> {
                Err("no".into())
            }
            fn agree(_: &str) -> Result<Vec<u32>, String> {
                Ok(vec![1])
            }
            assert_eq!(shown(call!(refuse, "")), err("no"));
            assert_eq!(shown(call!(agree, "")), ok("[1]"));
        }
    }
}
