//! The command line's own decoders, for [`crate::fuzzing`].

#![expect(clippy::cast_possible_truncation, reason = "any number that the bytes give is as good as another")]

use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::time::Duration;

use super::choices::JobCount;
use super::input::{RecordSink, Splitter};
pub(crate) use super::joblog::fuzzing::{joblog, resume};
use super::parse::{self, TIME_MAX};
pub(crate) use super::profile::fuzz as profile;
use crate::error::Closed;
use crate::pool::Halt;
use crate::spec::Sandbox;

impl RecordSink for &mut Vec<Vec<u8>> {
    fn records(&mut self, bytes: &[u8], bounds: &[Range<usize>]) -> Result<(), Closed> {
        self.extend(bounds.iter().map(|bound| bytes[bound.clone()].to_vec()));
        Ok(())
    }
}

/// Splits an input that comes in pieces, and compares the records with these rules. A record lies between
/// delimiters. The bytes behind the last delimiter are a record too, if there are any. A record over the
/// limit is cut one byte behind it. Without blank records at the end, a blank record between others is empty.
pub(crate) fn input(data: &[u8]) {
    let Some(([delimiter, most, piece], text)) = data.split_first_chunk() else { return };
    let (delimiter, most, piece) = (*delimiter, usize::from(*most), usize::from(*piece) + 1);
    compare_input(delimiter, most, piece, text);
    // Records longer than any short length, beside short ones.
    let long: Vec<u8> = text
        .iter()
        .copied()
        .filter(|byte| *byte != delimiter)
        .chain([!delimiter])
        .cycle()
        .take(300 * piece)
        .collect();
    let text = [text, &[delimiter], &long, &[delimiter], text, &long].concat();
    for most in [most, 300 * piece - 1, 300 * piece, usize::MAX] {
        compare_input(delimiter, most, 1 + 37 * piece, &text);
    }
}

fn compare_input(delimiter: u8, most: usize, piece: usize, text: &[u8]) {
    let reader = || {
        let mut rest = text;
        move |buf: &mut [u8]| {
            let len = rest.len().min(piece).min(buf.len());
            buf[..len].copy_from_slice(&rest[..len]);
            rest = &rest[len..];
            Ok::<_, io::Error>(len)
        }
    };
    let mut records = Vec::new();
    Splitter::new(delimiter, most).split(reader(), &mut &mut records).expect("nothing fails here");
    let mut expected: Vec<&[u8]> = text.split(|byte| *byte == delimiter).collect();
    expected.pop_if(|last| last.is_empty());
    let cut = |record: &[u8]| record[..record.len().min(most.saturating_add(1))].to_vec();
    let mut expected: Vec<Vec<u8>> = expected.into_iter().map(cut).collect();
    assert_eq!(records, expected);

    let mut records = Vec::new();
    let splitter = Splitter::new(delimiter, most).without_blank_end();
    { splitter }.split(reader(), &mut &mut records).expect("nothing fails here");
    let is_blank = |record: &Vec<u8>| {
        let record = record.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(record);
        record.iter().all(|byte| b" \t\n\r\x0c".contains(byte))
    };
    while expected.pop_if(|last| is_blank(last)).is_some() {}
    expected.iter_mut().filter(|record| is_blank(record)).for_each(Vec::clear);
    assert_eq!(records, expected);
}

/// Takes the text for a value of each option that has a parser here.
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
    let pair =
        text.find('=').filter(|at| *at > 0).map(|at| (text[..at].to_owned(), text[at + 1..].to_owned()));
    assert_eq!(parse::name_and_value(text).ok(), pair);
    assert_eq!(parse::count(text).ok().map(NonZeroU64::get), count(text));
    let _any_number = (parse::size(text), text.parse::<JobCount>());
    let _any_grant = (parse::dir(text.as_ref()), parse::clock(text), parse::random(text));
    let _any_limit =
        (parse::count(text), parse::some_size(text), parse::payload_size(text), parse::stack_size(text));
    let _any_profile = parse::profile(text);
    assert_eq!(parse::delimiter(text).ok(), delimiter(text));
    let _any_kind = parse::retry_kind(text);
    valid_numbers(data);
}

/// Makes valid numbers from the bytes, and checks that each parser reads them.
fn valid_numbers(data: &[u8]) {
    let n = data.iter().fold(data.len() as u64, |n, byte| n.wrapping_mul(31) + u64::from(*byte));
    let (small, unit) = (n % 100_000, n % 4);
    assert_eq!(parse::duration(&small.to_string()), Ok(Duration::from_secs(small)));
    assert_eq!(parse::duration(&format!("{small}ms")), Ok(Duration::from_millis(small)));
    let size = format!("{small}{}", ["", "K", "M", "G"][unit as usize]);
    assert_eq!(parse::size(&size), Ok(small << (10 * unit)), "{size}");
    let stack =
        (16 << 10..=64 << 20).contains(&(small << (10 * unit))).then_some((small << (10 * unit)) as usize);
    assert_eq!(parse::stack_size(&size).ok(), stack, "{size}");
    assert_eq!((parse::stack_size("16K"), parse::stack_size("64M")), (Ok(16 << 10), Ok(64 << 20)));
    assert!(parse::stack_size("16383").is_err() && parse::stack_size("67108865").is_err());
    let count = format!("{}{}", small + 1, ["", "K", "M", "G"][unit as usize]);
    assert_eq!(
        parse::count(&count).map(NonZeroU64::get),
        Ok((small + 1) * 1000u64.pow(unit as u32)),
        "{count}"
    );
    let jobs = small as usize;
    assert_eq!(format!("+{jobs}").parse::<JobCount>(), Ok(JobCount::More(jobs)));
    assert_eq!(format!("-{jobs}").parse::<JobCount>(), Ok(JobCount::Fewer(jobs)));
    assert_eq!(format!("{jobs}%").parse::<JobCount>(), Ok(JobCount::Percent(jobs)));
    assert_eq!(format!("{}", jobs + 1).parse::<JobCount>(), Ok(JobCount::Exactly(jobs + 1)));
}

/// Digits and perhaps a unit, up to the largest number. A second implementation of `parse::count`.
fn count(text: &str) -> Option<u64> {
    let mut number = 0u128;
    let mut chars = text.chars().peekable();
    chars.peek().filter(|c| c.is_ascii_digit())?;
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        number = number.saturating_mul(10).saturating_add(u128::from(digit) - u128::from('0'));
    }
    let unit = match chars.next() {
        None => 1,
        Some('k' | 'K') => 1_000,
        Some('m' | 'M') => 1_000_000,
        Some('g' | 'G') => 1_000_000_000,
        Some('t' | 'T') => 1_000_000_000_000,
        Some(_) => return None,
    };
    u64::try_from(number.saturating_mul(unit)).ok().filter(|number| *number > 0 && chars.next().is_none())
}

/// A byte as it is, or escaped. A second implementation of `parse::delimiter`.
fn delimiter(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [byte] => Some(*byte),
        b"\\n" => Some(10),
        b"\\t" => Some(9),
        b"\\r" => Some(13),
        b"\\0" => Some(0),
        [b'\\', b'x', digits @ ..] if digits.len() == 2 => {
            let digit =
                |d: &u8| b"0123456789abcdef".iter().position(|digit| *digit == d.to_ascii_lowercase());
            digits
                .iter()
                .try_fold(0, |byte, d| Some(byte * 16 + digit(d)?))
                .and_then(|byte| u8::try_from(byte).ok())
        }
        _ => None,
    }
}
