//! What the readers of WAVE and of JSON have in common: numbers as people write them, and messages about
//! wrong texts.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::Display;

use super::{Type, Value};

/// The byte order mark, which some editors write at the start of a file. No value begins with it.
const BYTE_ORDER_MARK: char = '\u{feff}';
/// Characters of a text that a message quotes.
const QUOTED_MAX: usize = 40;
/// Characters of an example in a message.
const EXAMPLE_MAX: usize = 60;
/// Parts of an example. A type that needs more has none.
const EXAMPLE_PARTS_MAX: usize = 16;

/// The integers that a signed type takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Integers {
    /// Those in the range of the type.
    OfType,
    /// Those of a core module, whose integers have no sign: also the unsigned number with the same bits.
    OfBits,
}

impl Integers {
    /// `n` as a value of the integer type `ty`. `None`: it is out of range.
    pub(crate) fn value(self, n: i128, ty: &Type) -> Option<Value> {
        match (self, ty) {
            (Integers::OfBits, Type::S32) => {
                u32::try_from(n).map(|n| Value::S32(n.cast_signed())).ok().or_else(|| Value::integer(n, ty))
            }
            (Integers::OfBits, Type::S64) => {
                u64::try_from(n).map(|n| Value::S64(n.cast_signed())).ok().or_else(|| Value::integer(n, ty))
            }
            _ => Value::integer(n, ty),
        }
    }

    /// The smallest and the largest number of the integer type `ty`.
    fn range(self, ty: &Type) -> Option<(i128, i128)> {
        let (min, max) = match ty {
            Type::S8 => (i8::MIN.into(), i8::MAX.into()),
            Type::U8 => (0, u8::MAX.into()),
            Type::S16 => (i16::MIN.into(), i16::MAX.into()),
            Type::U16 => (0, u16::MAX.into()),
            Type::S32 => (i32::MIN.into(), i32::MAX.into()),
            Type::U32 => (0, u32::MAX.into()),
            Type::S64 => (i64::MIN.into(), i64::MAX.into()),
            Type::U64 => (0, u64::MAX.into()),
            _ => return None,
        };
        Some(match (self, ty) {
            (Integers::OfBits, Type::S32) => (min, u32::MAX.into()),
            (Integers::OfBits, Type::S64) => (min, u64::MAX.into()),
            _ => (min, max),
        })
    }
}

/// Bytes of memory for options that records leave out. A few bytes, `{:}`, stand for a record of a thousand.
const LEFT_OUT_MAX: usize = 64 << 20;
/// Bytes of memory that such an option takes while values are built, with its name.
const LEFT_OUT_LEN: usize = 96;
/// A long text may take this many times its length, if that is more. With the values beside the options, it
/// takes less than 32 times its length.
const LEFT_OUT_TIMES: usize = 24;

/// The options that the records of one text may still leave out.
#[derive(Debug)]
pub(super) struct LeftOut {
    left: Cell<usize>,
    most: usize,
}

impl LeftOut {
    pub(super) fn within(text: &str) -> LeftOut {
        let most = text.len().saturating_mul(LEFT_OUT_TIMES).max(LEFT_OUT_MAX) / LEFT_OUT_LEN;
        LeftOut { left: Cell::new(most), most }
    }

    /// Counts the options that a record leaves out. An error if these are too many.
    pub(super) fn add(&self, count: usize) -> Result<(), Mismatch> {
        match self.left.get().checked_sub(count) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(Mismatch::new(format!(
                "limit of {} options that the records of one value may leave out reached",
                self.most
            ))),
        }
    }
}

/// The positions of names within types that have many. Otherwise each word of a text would be compared with
/// all names of its type.
#[derive(Debug, Default)]
pub(crate) struct NameTables<'t>(RefCell<HashMap<usize, HashMap<&'t str, usize>>>);

/// A type with fewer names has no table.
const TABLE_MIN: usize = 16;

impl<'t> NameTables<'t> {
    /// The position of a name among all names of a type. Each type has a place in memory, by which its table
    /// is found.
    pub(crate) fn position<T>(
        &self,
        all: &'t [T],
        name: &str,
        name_of: impl Fn(&'t T) -> &'t str,
    ) -> Option<usize> {
        if all.len() < TABLE_MIN {
            return all.iter().position(|each| name_of(each) == name);
        }
        let mut tables = self.0.borrow_mut();
        let table = tables.entry(all.as_ptr().addr()).or_insert_with(|| {
            all.iter().enumerate().map(|(position, each)| (name_of(each), position)).collect()
        });
        table.get(name).copied()
    }
}

/// Why a text is not a value of the expected type, and the place of the error in the text.
#[derive(Debug)]
pub(super) struct Mismatch {
    place: String,
    text: String,
}

impl Mismatch {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Mismatch { place: String::new(), text: text.into() }
    }

    /// `got` is of another kind than `ty`. `example` writes a value in the notation of the text.
    pub(super) fn kind(ty: &Type, got: &str, example: impl FnOnce(&Value) -> String) -> Self {
        Mismatch::new(format!("expected {}, got {}", wanted(ty, example), quoted(got)))
    }

    /// The integer `got` is out of the range of `ty`.
    pub(super) fn range(ty: &Type, integers: Integers, got: impl Display) -> Self {
        let range = integers
            .range(ty)
            .map_or(String::new(), |(min, max)| format!(", which is not within {min} to {max}"));
        Mismatch::new(format!("expected {ty}, got {}{range}", quoted(&got.to_string())))
    }

    /// The float `got` is too large for `ty`.
    pub(super) fn too_large(ty: &Type, got: &str) -> Self {
        Mismatch::new(format!("expected {ty}, got {}, which is too large for one", quoted(got)))
    }

    /// `ty` has no field, flag or case with this name.
    pub(super) fn unknown(name: &str, what: &str, ty: &Type, example: impl FnOnce(&Value) -> String) -> Self {
        Mismatch::new(format!("{} is no {what} of {}", quoted(name), wanted(ty, example)))
    }

    /// The field `name` is missing.
    pub(super) fn missing(name: &str, ty: &Type, example: impl FnOnce(&Value) -> String) -> Self {
        Mismatch::new(format!("{name} is missing: expected {}", wanted(ty, example)))
    }

    /// The same mismatch, in the part `place` of a larger value.
    pub(super) fn under(mut self, place: impl Display) -> Self {
        self.place = format!("{place}{}", self.place);
        self
    }

    /// The message for the record.
    pub(super) fn message(self) -> String {
        let place = self.place.trim_start_matches(' ');
        if place.is_empty() { self.text } else { format!("at {place}: {}", self.text) }
    }
}

/// An example of a value of this type, for a message. `None`: it would be too long, or the type has no
/// values.
pub(super) fn example(ty: &Type, write: impl FnOnce(&Value) -> String) -> Option<String> {
    let text = Value::example(ty, &mut EXAMPLE_PARTS_MAX.clone()).map(|value| write(&value))?;
    (text.chars().count() <= EXAMPLE_MAX).then_some(text)
}

/// The name of a type, with an example.
pub(super) fn wanted(ty: &Type, write: impl FnOnce(&Value) -> String) -> String {
    match example(ty, write) {
        Some(text) => format!("{ty} such as {text}"),
        None => ty.to_string(),
    }
}

/// The beginning of a text, for a message.
pub(super) fn quoted(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(QUOTED_MAX) {
        _ if text.is_empty() => "nothing".to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The text of a record without its byte order mark.
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// What a decimal number is, read as an integer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whole {
    Integer(i128),
    /// It is not whole.
    Fraction,
    /// It is too large for any type.
    TooLarge,
}

/// Reads `-?digits[.digits][e[+-]digits]` exactly: `1.0`, `12e2` and `1.50e1` are integers. `None` for any
/// other text.
pub(super) fn whole(text: &str) -> Option<Whole> {
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent),
        None => (text, "0"),
    };
    let (int, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if int.is_empty()
        || exponent_digits.is_empty()
        || ![int, fraction, exponent_digits].into_iter().all(are_digits)
    {
        return None;
    }
    // Exact, by digits: as a float, an integer above 2^53 would be rounded.
    let digits = [int, fraction].concat();
    let significant = digits.trim_end_matches('0');
    if significant.trim_start_matches('0').is_empty() {
        return Some(Whole::Integer(0));
    }
    // A larger exponent counts as this one: no text has enough digits to make up for either.
    let exponent = exponent.parse::<i64>().unwrap_or(if exponent.starts_with('-') {
        i64::MIN / 2
    } else {
        i64::MAX / 2
    });
    let zeros = exponent.saturating_add((digits.len() - significant.len()) as i64 - fraction.len() as i64);
    let Ok(zeros) = u32::try_from(zeros) else {
        return Some(if zeros < 0 { Whole::Fraction } else { Whole::TooLarge });
    };
    let number = significant.parse::<i128>().ok().zip(10i128.checked_pow(zeros));
    Some(match number.and_then(|(number, factor)| number.checked_mul(factor)) {
        Some(number) => Whole::Integer(if is_negative { -number } else { number }),
        None => Whole::TooLarge,
    })
}

/// What a case of a variant or a side of a result carries.
pub(super) type Payload = Option<Box<Value>>;

impl Value {
    /// An example of a value of type `ty`, which takes its parts from `parts`. `None`: too few are left, or
    /// the type has no values.
    fn example(ty: &Type, parts: &mut usize) -> Option<Value> {
        // A budget, not a depth: a record of many fields is as unreadable as a deep one.
        *parts = parts.checked_sub(1)?;
        let payload = |ty: Option<&Type>, parts: &mut usize| match ty {
            Some(ty) => Value::example(ty, parts).map(|value| Some(Box::new(value))),
            None => Some(None),
        };
        Some(match ty {
            Type::Bool => Value::Bool(true),
            Type::S8 | Type::U8 | Type::S16 | Type::U16 | Type::S32 | Type::U32 | Type::S64 | Type::U64 => {
                Value::integer(7, ty)?
            }
            Type::F32 => Value::F32(2.5),
            Type::F64 => Value::F64(2.5),
            Type::Char => Value::Char('a'),
            Type::String => Value::String("text".to_owned()),
            Type::List(t) => Value::List(vec![Value::example(t, parts)?]),
            Type::FixedList(t, len) => {
                Value::List((0..*len).map(|_| Value::example(t, parts)).collect::<Option<_>>()?)
            }
            Type::Record(fields) => {
                let field = |(name, t): &(String, Type)| Some((name.clone(), Value::example(t, parts)?));
                Value::Record(fields.iter().map(field).collect::<Option<_>>()?)
            }
            Type::Tuple(types) => {
                Value::Tuple(types.iter().map(|t| Value::example(t, parts)).collect::<Option<_>>()?)
            }
            Type::Variant(cases) => {
                let (name, t) = cases.first()?;
                Value::Variant(name.clone(), payload(t.as_ref(), parts)?)
            }
            Type::Enum(names) => Value::Enum(names.first()?.clone()),
            Type::Option(t) => Value::Option(payload(Some(t), parts)?),
            Type::Result(ok, _) => Value::Result(Ok(payload(ok.as_deref(), parts)?)),
            Type::Flags(names) => Value::Flags(names.iter().take(2).cloned().collect()),
            Type::Unsupported(_) => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f139_a_number_is_whole_where_its_text_says_so_exactly() {
        for (text, n) in [
            ("0", 0),
            ("-0.0", 0),
            ("0e999999999999999999999", 0),
            ("1.0", 1),
            ("-1e3", -1000),
            ("1.50e1", 15),
            ("1200e-2", 12),
            ("9007199254740993.0", 9_007_199_254_740_993),
            ("18446744073709551615e0", u64::MAX.into()),
            ("1e19", 10_000_000_000_000_000_000),
        ] {
            assert_eq!(whole(text), Some(Whole::Integer(n)), "{text}");
        }
        for text in ["2.5", "1e-1", "-12e-2", "1e-99999999999999999999999"] {
            assert_eq!(whole(text), Some(Whole::Fraction), "{text}");
        }
        for text in ["1e39", "1e99999999999999999999999", &"9".repeat(60)] {
            assert_eq!(whole(text), Some(Whole::TooLarge), "{text}");
        }
        for text in ["", "-", ".", "1e", "1e+", "e1", "inf", "1.2.3", "0x1", "1 2", "--1", "+1", "١"] {
            assert_eq!(whole(text), None, "{text}");
        }
    }

    #[test]
    fn f139_core_integers_have_no_sign_and_components_have() {
        let core = |n, ty: &Type| Integers::OfBits.value(n, ty);
        assert_eq!(core(4_294_967_295, &Type::S32), Some(Value::S32(-1)));
        assert_eq!(core(2_147_483_648, &Type::S32), Some(Value::S32(i32::MIN)));
        assert_eq!((core(-1, &Type::S32), core(7, &Type::S32)), (Some(Value::S32(-1)), Some(Value::S32(7))));
        assert_eq!(core(u64::MAX.into(), &Type::S64), Some(Value::S64(-1)));
        for (n, ty) in [(1 << 32, Type::S32), (-(1 << 31) - 1, Type::S32), (1 << 64, Type::S64)] {
            assert_eq!(core(n, &ty), None);
        }
        assert_eq!(Integers::OfType.value(4_294_967_295, &Type::S32), None);
    }
}
