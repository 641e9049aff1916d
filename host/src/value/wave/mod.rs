//! WAVE, the text form of component values. `wasm-wave` parses it. This file decides by the type what each
//! part means.
//!
//! It reads more than WAVE has, since people write the texts: integers as `1.0`, `1e3`, `0x1f`, `0b101`,
//! `0o17` or `1_000`; numbers with a plus sign; `NaN` and `Infinity`; names that are keywords without their
//! `%`, if the type allows no other meaning; a string for bytes. It writes plain WAVE, and floats in the
//! shortest form that gives the same float.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, LowerExp, Write};
use std::ops::Range;

use wasm_wave::ast::{Node, NodeType};
use wasm_wave::lex::Keyword;
use wasm_wave::parser::{ParserError, ParserErrorKind};
use wasm_wave::untyped::{UntypedFuncCall, UntypedValue};

#[cfg(any(feature = "worker", feature = "fuzzing"))]
use super::Param;
use super::read::{
    Integers, LeftOut, Mismatch, NameTables, Payload, Whole, example, quoted, wanted, whole, without_mark,
};
use super::{Type, Value};

/// Parses one value of type `ty`.
pub(crate) fn parse_wave(text: &str, ty: &Type) -> Result<Value, String> {
    parse_wave_of(text, ty, Integers::OfType)
}

/// The same, with the integers of this kind of module.
pub(crate) fn parse_wave_of(text: &str, ty: &Type, integers: Integers) -> Result<Value, String> {
    let source = WaveText::new(without_mark(text));
    let parsed = source.parse().map_err(|e| {
        format!("expected {}, got {}: {}", wanted(ty, to_wave), quoted(source.text), source.syntax(&e))
    })?;
    WaveReader::new(&source, integers).read(parsed.node(), ty).map_err(Mismatch::message)
}

/// Parses a record for several parameters: a WAVE tuple, `(1, "two")`, one element for each.
#[cfg(any(feature = "worker", feature = "fuzzing"))]
pub(crate) fn parse_many<'p>(
    text: &str,
    params: &'p [Param],
    integers: Integers,
) -> Result<Vec<Value>, String> {
    let source = WaveText::new(without_mark(text));
    let ty = || Type::Tuple(params.iter().map(|param| param.ty.clone()).collect());
    let expected = |why: &str| {
        let wanted = wanted(&ty(), to_wave);
        format!(
            "expected a value for each of {} parameters, {wanted}, got {}{why}",
            params.len(),
            quoted(source.text)
        )
    };
    let parsed = source.parse().map_err(|e| match e.kind() {
        // As in `7, 2.5`: only the parentheses are missing, and the expected form shows them.
        ParserErrorKind::TrailingCharacters => expected(""),
        _ => expected(&format!(": {}", source.syntax(&e))),
    })?;
    let nodes = parsed.node().as_tuple().ok().filter(|nodes| nodes.len() == params.len());
    let reader = WaveReader::new(&source, integers);
    let read = |(at, (node, param)): (usize, (&Node, &'p Param))| {
        reader.read(node, &param.ty).map_err(|e| e.under(param.label(at)).message())
    };
    nodes.ok_or_else(|| expected(""))?.zip(params).enumerate().map(read).collect()
}

/// Splits a call such as `scale(7, 2.5)` into the name of the function and the text of each argument. A name
/// alone is a call without arguments.
pub(crate) fn parse_call(text: &str) -> Result<(String, Vec<String>), String> {
    let Some(open) = text.find('(') else {
        return Ok((text.trim().to_owned(), Vec::new()));
    };
    let name = text[..open].trim().to_owned();
    // The name may be a path, such as `a:b/c#f`, which WAVE does not have. A plain name takes its place.
    let stand_in = format!("f{}", &text[open..]);
    let source = WaveText::new(&stand_in);
    let call = UntypedFuncCall::parse(&source.plain).map_err(|e| source.syntax(&e))?;
    let Some(params) = call.params_node() else {
        return Ok((name, Vec::new()));
    };
    let args = params.as_tuple().map_err(|e| source.syntax(&e))?;
    Ok((name, args.map(|node| source.written(node.span()).to_owned()).collect()))
}

/// A text, and the same text with its numbers in WAVE's spelling: decimal, without separators.
struct WaveText<'t> {
    text: &'t str,
    plain: Cow<'t, str>,
    /// The place of each rewritten number: in `plain`, and in `text`.
    numbers: Vec<(Range<usize>, Range<usize>)>,
}

impl<'t> WaveText<'t> {
    fn new(text: &'t str) -> Self {
        let bytes = text.as_bytes();
        let (mut plain, mut numbers) = (String::new(), Vec::new());
        let (mut at, mut copied) = (0, 0);
        while at < bytes.len() {
            let len = match bytes[at] {
                quote @ (b'"' | b'\'') => quoted_len(&bytes[at..], quote),
                b'/' if bytes[at..].starts_with(b"//") => {
                    memchr::memchr(b'\n', &bytes[at..]).unwrap_or(bytes.len() - at)
                }
                // A number, or a name that may have digits in it.
                b'+' | b'-' | b'%' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => word_len(&bytes[at..]),
                _ => 1,
            };
            // `get` may fail in the midst of a character that is not ASCII. No number has one.
            if let Some(number) = text.get(at..at + len).and_then(plain_number) {
                plain.push_str(&text[copied..at]);
                let start = plain.len();
                plain.push_str(&number);
                copied = at + len;
                numbers.push((start..plain.len(), at..copied));
            }
            at += len;
        }
        let plain =
            if numbers.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(plain + &text[copied..]) };
        WaveText { text, plain, numbers }
    }

    /// A piece of `plain`, as it stands in `text`.
    fn written(&self, span: Range<usize>) -> &'t str {
        let place = |at: usize| {
            let before = self.numbers.partition_point(|(plain, _)| plain.end <= at);
            match self.numbers[..before].last() {
                Some((plain, written)) => at - plain.end + written.end,
                None => at,
            }
        };
        self.text.get(place(span.start)..place(span.end)).unwrap_or_default()
    }

    /// The same for the rest of `plain` from a place on.
    fn written_from(&self, start: usize) -> &'t str {
        self.written(start..self.plain.len())
    }

    fn parse(&self) -> Result<UntypedValue<'_>, ParserError> {
        UntypedValue::parse(&self.plain)
    }

    /// A syntax error, with the piece of the text that it is about.
    fn syntax(&self, error: &ParserError) -> String {
        let span = error.span();
        match error.kind() {
            ParserErrorKind::UnexpectedEnd => "something is missing at its end".to_owned(),
            ParserErrorKind::TrailingCharacters => {
                format!("{} is behind the value", quoted(self.written_from(span.start)))
            }
            // For example, a quote that is not closed.
            ParserErrorKind::InvalidToken => {
                format!("it is no WAVE from {} on", quoted(self.written_from(span.start)))
            }
            ParserErrorKind::UnexpectedToken => {
                format!("{} is not expected there", quoted(self.written(span)))
            }
            kind => format!("{kind}: {}", quoted(self.written(span))),
        }
    }
}

/// The length of the quoted text at the start of `bytes`. A quote that is not closed reaches to the end.
fn quoted_len(bytes: &[u8], quote: u8) -> usize {
    if bytes.starts_with(b"\"\"\"") {
        return memchr::memmem::find(&bytes[3..], b"\"\"\"").map_or(bytes.len(), |end| end + 6);
    }
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        at += match byte {
            b'\\' => 2,
            byte if *byte == quote => return at + 1,
            _ => 1,
        };
    }
    bytes.len()
}

/// The length of the number or the name at the start of `bytes`.
fn word_len(bytes: &[u8]) -> usize {
    let is_of = |at: usize, byte: u8| match byte {
        b'.' | b'%' | b'_' | b'-' => true,
        b'+' => at == 0 || matches!(bytes[at - 1], b'e' | b'E'),
        byte => byte.is_ascii_alphanumeric(),
    };
    bytes.iter().enumerate().take_while(|(at, byte)| is_of(*at, **byte)).count()
}

/// The number in WAVE's spelling, if `word` is a number in another spelling.
fn plain_number(word: &str) -> Option<String> {
    let (sign, unsigned) = match word.as_bytes() {
        [b'-', ..] => ("-", &word[1..]),
        [b'+', ..] => ("", &word[1..]),
        _ => ("", word),
    };
    let digits_of = |prefixes: [&str; 2], radix| {
        let digits = prefixes.iter().find_map(|prefix| unsigned.strip_prefix(prefix))?;
        let digits = separated(digits, |byte| char::from(byte).is_digit(radix))?;
        // Too large for any type. `1e999` is reported as out of range later.
        Some(
            u128::from_str_radix(&digits, radix)
                .map_or_else(|_| "1e999".to_owned(), |number| number.to_string()),
        )
    };
    let decimal = || {
        let is_decimal = unsigned.starts_with(|c: char| c.is_ascii_digit());
        let is_other = word.starts_with('+') || word.contains('_');
        (is_decimal && is_other)
            .then(|| separated(unsigned, |byte| byte.is_ascii_digit() || b".eE+-".contains(&byte)))?
    };
    let number = match unsigned {
        "NaN" => "nan".to_owned(),
        "Infinity" => "inf".to_owned(),
        "nan" | "inf" if word.starts_with('+') => unsigned.to_owned(),
        _ => digits_of(["0x", "0X"], 16)
            .or_else(|| digits_of(["0b", "0B"], 2))
            .or_else(|| digits_of(["0o", "0O"], 8))
            .or_else(decimal)?,
    };
    Some(match number.as_str() {
        // WAVE has no NaN with a sign.
        "nan" => number,
        _ => format!("{sign}{number}"),
    })
}

/// Digits without their separators. `None`: there is another character, or a separator without a digit on
/// both sides.
fn separated(digits: &str, is_digit: impl Fn(u8) -> bool) -> Option<String> {
    let are_digits = |part: &str| !part.is_empty() && part.bytes().all(&is_digit);
    digits.split('_').all(are_digits).then(|| digits.replace('_', ""))
}

/// Builds values from what the parser has found.
struct WaveReader<'s, 't> {
    source: &'s WaveText<'s>,
    integers: Integers,
    left_out: LeftOut,
    names: NameTables<'t>,
}

impl<'s, 't> WaveReader<'s, 't> {
    fn new(source: &'s WaveText<'s>, integers: Integers) -> Self {
        let left_out = LeftOut::within(source.text);
        WaveReader { source, integers, left_out, names: NameTables::default() }
    }

    fn plain(&self) -> &'s str {
        &self.source.plain
    }

    fn written(&self, node: &Node) -> &'s str {
        self.source.written(node.span())
    }

    fn kind(&self, node: &Node, ty: &Type) -> Mismatch {
        Mismatch::kind(ty, self.written(node), to_wave)
    }

    fn read(&self, node: &Node, ty: &'t Type) -> Result<Value, Mismatch> {
        let kind = |_: ParserError| self.kind(node, ty);
        // The kind is right, but the text is not valid.
        let syntax = |e: ParserError| match e.kind() {
            ParserErrorKind::InvalidType => self.kind(node, ty),
            _ => Mismatch::new(format!("expected {ty}: {}", self.source.syntax(&e))),
        };
        Ok(match ty {
            Type::Bool => Value::Bool(node.as_bool().map_err(kind)?),
            Type::S8 | Type::U8 | Type::S16 | Type::U16 | Type::S32 | Type::U32 | Type::S64 | Type::U64 => {
                self.integer(node, ty)?
            }
            Type::F32 => Value::F32(self.float(node, ty, f32::is_infinite)?),
            Type::F64 => Value::F64(self.float(node, ty, f64::is_infinite)?),
            Type::Char => Value::Char(node.as_char(self.plain()).map_err(syntax)?),
            Type::String => Value::String(node.as_str(self.plain()).map_err(syntax)?.into_owned()),
            Type::List(t)
                if **t == Type::U8 && matches!(node.ty(), NodeType::String | NodeType::MultilineString) =>
            {
                let text = node.as_str(self.plain()).map_err(syntax)?;
                Value::Bytes(text.into_owned().into_bytes())
            }
            Type::List(t) if **t == Type::U8 => Value::Bytes(self.bytes(node.as_list().map_err(kind)?, t)?),
            Type::List(t) => Value::List(self.list(node.as_list().map_err(kind)?, t)?),
            Type::FixedList(t, len) => {
                let nodes = node.as_list().ok().filter(|nodes| nodes.len() == *len as usize);
                Value::List(self.list(nodes.ok_or_else(|| self.kind(node, ty))?, t)?)
            }
            Type::Record(fields) => self.record(node, ty, fields)?,
            Type::Tuple(types) => {
                let nodes = node.as_tuple().ok().filter(|nodes| nodes.len() == types.len());
                let nodes = nodes.ok_or_else(|| self.kind(node, ty))?.zip(types).enumerate();
                let read = |(at, (node, t))| self.read(node, t).map_err(|e| e.under(format_args!("[{at}]")));
                Value::Tuple(nodes.map(read).collect::<Result<_, _>>()?)
            }
            Type::Variant(cases) => {
                let (name, payload) = self.case(node).ok_or_else(|| self.kind(node, ty))?;
                let at = self.names.position(cases, name, |(case, _)| case);
                let (case, t) = &cases[at.ok_or_else(|| self.kind(node, ty))?];
                Value::Variant(case.clone(), self.payload(case, payload, t.as_ref())?)
            }
            Type::Enum(names) => {
                let name = self.case(node).filter(|(_, payload)| payload.is_none()).map(|(name, _)| name);
                let at = name.and_then(|name| self.names.position(names, name, |case| case));
                Value::Enum(names[at.ok_or_else(|| self.kind(node, ty))?].clone())
            }
            Type::Option(t) => Value::Option(match (node.as_option(), &**t) {
                (Ok(payload), _) => payload.map(|node| self.read(node, t).map(Box::new)).transpose()?,
                (Err(_), Type::Option(_) | Type::Result(..)) => return Err(self.kind(node, ty)),
                (Err(_), t) => Some(Box::new(self.read(node, t)?)),
            }),
            Type::Result(ok, err) => Value::Result(match (node.as_result(), ok.as_deref()) {
                (Ok(Ok(payload)), ok) => Ok(self.payload("ok", payload, ok)?),
                (Ok(Err(payload)), _) => Err(self.payload("err", payload, err.as_deref())?),
                (Err(_), None | Some(Type::Option(_) | Type::Result(..))) => return Err(self.kind(node, ty)),
                (Err(_), Some(t)) => Ok(Some(Box::new(self.read(node, t)?))),
            }),
            Type::Flags(all) => self.flags(node, ty, all)?,
            Type::Unsupported(_) => return Err(self.kind(node, ty)),
        })
    }

    fn integer(&self, node: &Node, ty: &Type) -> Result<Value, Mismatch> {
        let range = || Mismatch::range(ty, self.integers, self.written(node));
        match Some(&self.plain()[node.span()]).filter(|_| node.ty() == NodeType::Number).and_then(whole) {
            Some(Whole::Integer(n)) => self.integers.value(n, ty).ok_or_else(range),
            Some(Whole::TooLarge) => Err(range()),
            Some(Whole::Fraction) | None => Err(self.kind(node, ty)),
        }
    }

    fn float<T: std::str::FromStr + Copy>(
        &self,
        node: &Node,
        ty: &Type,
        is_infinite: fn(T) -> bool,
    ) -> Result<T, Mismatch> {
        let number = node.as_number::<T>(self.plain()).map_err(|_| self.kind(node, ty))?;
        if is_infinite(number) && !self.plain()[node.span()].ends_with("inf") {
            return Err(Mismatch::too_large(ty, self.written(node)));
        }
        Ok(number)
    }

    fn list<'n>(&self, nodes: impl Iterator<Item = &'n Node>, ty: &'t Type) -> Result<Vec<Value>, Mismatch> {
        let read = |(at, node)| self.read(node, ty).map_err(|e| e.under(format_args!("[{at}]")));
        nodes.enumerate().map(read).collect()
    }

    /// The bytes of a `list<u8>`, without a value for each.
    fn bytes<'n>(&self, nodes: impl Iterator<Item = &'n Node>, ty: &Type) -> Result<Vec<u8>, Mismatch> {
        let read = |(at, node)| match self.integer(node, ty) {
            Ok(Value::U8(byte)) => Ok(byte),
            Ok(_) => Err(self.kind(node, ty)),
            Err(e) => Err(e.under(format_args!("[{at}]"))),
        };
        nodes.enumerate().map(read).collect()
    }

    fn record(&self, node: &Node, ty: &Type, fields: &'t [(String, Type)]) -> Result<Value, Mismatch> {
        let given: BTreeMap<&str, &Node> = if self.is_empty(node) {
            BTreeMap::new()
        } else {
            node.as_record(self.plain()).map_err(|_| self.kind(node, ty))?.collect()
        };
        if fields.iter().filter(|(name, _)| given.contains_key(name.as_str())).count() < given.len() {
            let unknown = given.keys().find(|name| !fields.iter().any(|(field, _)| field == *name));
            return Err(Mismatch::unknown(unknown.copied().unwrap_or_default(), "field", ty, to_wave));
        }
        self.left_out.add(fields.len() - given.len())?;
        let field = |(name, t): &'t (String, Type)| {
            let value = match (given.get(name.as_str()), t) {
                (Some(node), t) => self.read(node, t).map_err(|e| e.under(format_args!(".{name}")))?,
                // As WAVE itself has it: a missing field of an option is `none`.
                (None, Type::Option(_)) => Value::Option(None),
                (None, t) => return Err(Mismatch::missing(name, t, to_wave)),
            };
            Ok((name.clone(), value))
        };
        Ok(Value::Record(fields.iter().map(field).collect::<Result<_, _>>()?))
    }

    /// Whether this is `{}` or `{:}`. The parser takes `{}` for flags, and `{:}` for a record; both readers
    /// accept both.
    fn is_empty(&self, node: &Node) -> bool {
        let of_record = node.as_record(self.plain()).is_ok_and(|mut fields| fields.next().is_none());
        of_record || node.as_flags(self.plain()).is_ok_and(|mut flags| flags.next().is_none())
    }

    fn flags(&self, node: &Node, ty: &Type, all: &'t [String]) -> Result<Value, Mismatch> {
        let given: BTreeSet<&str> = if self.is_empty(node) {
            BTreeSet::new()
        } else {
            let names = node.as_flags(self.plain()).map_err(|_| self.kind(node, ty))?;
            names.map(|name| name.strip_prefix('%').unwrap_or(name)).collect()
        };
        let position = |name: &&str| {
            let unknown = || Mismatch::unknown(name, "flag", ty, to_wave);
            self.names.position(all, name, |flag| flag).ok_or_else(unknown)
        };
        // In the order of the type, so that equal sets are equal values.
        let given: BTreeSet<usize> = given.iter().map(position).collect::<Result<_, _>>()?;
        Ok(Value::Flags(given.into_iter().map(|at| all[at].clone()).collect()))
    }

    /// The name of a case and its payload. A keyword counts as a name: the type of a variant has no other
    /// meaning for it.
    fn case<'n>(&self, node: &'n Node) -> Option<(&'s str, Option<&'n Node>)> {
        match (node.ty(), &self.plain()[node.span()]) {
            (NodeType::Label | NodeType::VariantWithPayload, _) => node.as_variant(self.plain()).ok(),
            (NodeType::OptionSome, _) => Some(("some", node.as_option().ok()?)),
            (NodeType::OptionNone, _) => Some(("none", None)),
            (NodeType::ResultOk, _) => Some(("ok", node.as_result().ok()?.ok()?)),
            (NodeType::ResultErr, _) => Some(("err", node.as_result().ok()?.err()?)),
            (NodeType::BoolTrue | NodeType::BoolFalse, text) => Some((text, None)),
            (NodeType::Number, text @ ("nan" | "inf")) => Some((text, None)),
            _ => None,
        }
    }

    fn payload(&self, case: &str, node: Option<&Node>, ty: Option<&'t Type>) -> Result<Payload, Mismatch> {
        match (node, ty) {
            (Some(node), Some(ty)) => self.read(node, ty).map(|value| Some(Box::new(value))),
            (None, None) => Ok(None),
            (None, Some(ty)) => {
                let such_as =
                    example(ty, to_wave).map_or(String::new(), |text| format!(", as in {case}({text})"));
                Err(Mismatch::new(format!("{case} needs a value of type {ty}{such_as}")))
            }
            (Some(node), None) => {
                Err(Mismatch::new(format!("{case} has no value, got {}", quoted(self.written(node)))))
            }
        }
    }
}

/// The WAVE text of a value, on one line.
pub(crate) fn to_wave(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value).expect("writing to a String does not fail");
    text
}

fn write(out: &mut String, value: &Value) -> std::fmt::Result {
    let payload = |out: &mut String, value: &Payload| match value {
        Some(value) => {
            out.push('(');
            write(out, value)?;
            out.write_char(')')
        }
        None => Ok(()),
    };
    match value {
        Value::Bool(b) => write!(out, "{b}"),
        Value::S8(n) => write!(out, "{n}"),
        Value::U8(n) => write!(out, "{n}"),
        Value::S16(n) => write!(out, "{n}"),
        Value::U16(n) => write!(out, "{n}"),
        Value::S32(n) => write!(out, "{n}"),
        Value::U32(n) => write!(out, "{n}"),
        Value::S64(n) => write!(out, "{n}"),
        Value::U64(n) => write!(out, "{n}"),
        Value::F32(n) => write_float(out, *n),
        Value::F64(n) => write_float(out, *n),
        Value::Char(c) => {
            out.push('\'');
            write_char(out, *c)?;
            out.write_char('\'')
        }
        Value::String(text) => {
            out.push('"');
            text.chars().try_for_each(|c| write_char(out, c))?;
            out.write_char('"')
        }
        Value::List(items) => write_all(out, "[", items, "]", write),
        Value::Bytes(bytes) => write_all(out, "[", bytes, "]", |out, byte| write!(out, "{byte}")),
        Value::Tuple(items) => write_all(out, "(", items, ")", write),
        Value::Record(fields) => {
            let is_none = |value: &Value| matches!(value, Value::Option(None));
            let given: Vec<&(String, Value)> = fields.iter().filter(|(_, value)| !is_none(value)).collect();
            if given.is_empty() {
                return out.write_str("{:}");
            }
            write_all(out, "{", given, "}", |out, (name, value)| {
                write!(out, "{name}: ")?;
                write(out, value)
            })
        }
        Value::Variant(name, value) => {
            write_case(out, name)?;
            payload(out, value)
        }
        Value::Enum(name) => write_case(out, name),
        Value::Option(None) => out.write_str("none"),
        Value::Option(value) => {
            out.push_str("some");
            payload(out, value)
        }
        Value::Result(Ok(value)) => {
            out.push_str("ok");
            payload(out, value)
        }
        Value::Result(Err(value)) => {
            out.push_str("err");
            payload(out, value)
        }
        Value::Flags(names) => write_all(out, "{", names, "}", |out, name| out.write_str(name)),
    }
}

fn write_all<T>(
    out: &mut String,
    open: &str,
    items: impl IntoIterator<Item = T>,
    close: &str,
    each: impl Fn(&mut String, T) -> std::fmt::Result,
) -> std::fmt::Result {
    out.push_str(open);
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        each(out, item)?;
    }
    out.write_str(close)
}

/// Writes the name of a case, with a `%` if it would be read as a keyword.
fn write_case(out: &mut String, name: &str) -> std::fmt::Result {
    if Keyword::decode(name).is_some() {
        out.push('%');
    }
    out.write_str(name)
}

fn write_char(out: &mut String, c: char) -> std::fmt::Result {
    match c {
        '\\' | '"' | '\'' | '\t' | '\r' | '\n' => write!(out, "{}", c.escape_default()),
        c if c.is_control() => write!(out, "{}", c.escape_unicode()),
        c => write!(out, "{}", c.escape_debug()),
    }
}

/// Writes the shortest text that is read as the same float: with an exponent if that is shorter than the
/// zeros.
fn write_float<T: Display + LowerExp + Copy + Into<f64>>(out: &mut String, n: T) -> std::fmt::Result {
    let size = n.into().abs();
    if size.is_nan() {
        out.write_str("nan")
    } else if size == 0.0 || (1e-5..1e16).contains(&size) || size.is_infinite() {
        write!(out, "{n}")
    } else {
        write!(out, "{n:e}")
    }
}

#[cfg(test)]
mod tests;
