//! The command line's own decoders, for [`crate::fuzzing`].

use std::io;
use std::ops::Range;

use super::input::{Sink, Splitter};
pub(crate) use super::joblog::fuzz as joblog;
use super::parse::{self, Jobs, TIME_MAX};
use super::profile::ProfileArg;
use crate::error::Closed;
use crate::pool::Halt;
use crate::sandbox::Sandbox;

impl Sink for &mut Vec<Vec<u8>> {
    fn records(&mut self, bytes: &[u8], bounds: &[Range<usize>]) -> Result<(), Closed> {
        self.extend(bounds.iter().map(|bound| bytes[bound.clone()].to_vec()));
        Ok(())
    }
}

/// Splits an input that comes in pieces, and compares that with what a sentence says: a record is what is between delimiters; what follows the
/// last is one too unless it is nothing; of a record over the limit one byte more than that is passed on.
pub(crate) fn input(data: &[u8]) {
    let Some(([delimiter, most, piece], text)) = data.split_first_chunk() else { return };
    let (most, piece) = (usize::from(*most), usize::from(*piece) + 1);
    let mut records = Vec::new();
    let mut rest = text;
    let read = |buf: &mut [u8]| {
        let len = rest.len().min(piece).min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        rest = &rest[len..];
        Ok::<_, io::Error>(len)
    };
    Splitter::new(*delimiter, most).split(read, &mut &mut records).expect("nothing fails here");
    let mut expected: Vec<&[u8]> = text.split(|byte| byte == delimiter).collect();
    expected.pop_if(|last| last.is_empty());
    assert!(records.iter().eq(expected.iter().map(|record| &record[..record.len().min(most + 1)])), "{records:?}");
}

/// Takes text for an option's value, of every kind that has a parser of its own.
pub(crate) fn options(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(time) = parse::duration(text) {
        assert!(time <= TIME_MAX);
    }
    if let Ok(halt) = text.parse::<Halt>() {
        assert_eq!(halt.to_string().parse(), Ok(halt));
    }
    if let Ok(sandbox) = text.parse::<Sandbox>() {
        assert_eq!(sandbox.to_string(), text);
    }
    if let Ok((name, value)) = parse::name_and_value(text) {
        assert!(!name.is_empty() && format!("{name}={value}") == text);
    }
    let _any_number = (parse::size(text), text.parse::<Jobs>());
    let _any_grant = (parse::dir(text.as_ref()), parse::clock(text), parse::random(text));
    let _any_limit = (parse::count(text), parse::some_size(text), parse::payload_size(text), parse::stack_size(text));
    let _any_profile = ProfileArg::parse(text);
    let _any_byte = (parse::delimiter(text), parse::retry_kind(text));
}
