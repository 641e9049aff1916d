use std::borrow::Cow;
use std::fmt::Display;

use super::argument::{FromRecord as _, SHOWN_CHARS_MAX};
use super::outcome::IntoRecord as _;
use super::*;

/// The expansion of the attribute, for a function of one argument.
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

/// The result as text: most results here are UTF-8.
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
    let largest = i128::MAX.to_string();
    assert_eq!(shown(call!(negative, largest.as_str())), ok(&format!("-{largest}")));
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
    assert_eq!(
        shown_of(format!("{wide}🦀🦀").as_bytes()),
        format!("expected an integer (u8), got \"{wide}…\"")
    );
    assert_eq!(shown_of(b"\x1b[2J\"\n"), "expected an integer (u8), got \"\\u{1b}[2J\\\"\\n\"");
}

#[test]
fn a_unit_is_an_empty_result() {
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
        assert_eq!(
            shown(call!(keyed, "")),
            err("the result cannot be written as JSON: key must be a string")
        );
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
