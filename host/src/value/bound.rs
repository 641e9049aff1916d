//! The number of parts of a value, counted in its text before the value is built.
//!
//! The text comes from a worker, which is not trusted, and a few bytes can stand for a large value: `{:}` is
//! a record in which all options are absent.

use std::collections::HashMap;

use super::Type;

/// The most parts (numbers, texts, lists, fields) of a result that the coordinator builds. Each takes about a
/// hundred bytes while it is built. Bytes and strings that travel as they are do not count.
pub(crate) const VALUES_MAX: usize = 4 << 20;

/// Whether the value that `text` stands for has at most `most` parts. The count here is an upper bound.
pub(super) fn is_within(text: &str, ty: &Type, most: usize) -> bool {
    let widest = widest(ty);
    // Each part takes at least one byte of text, and so does a record that leaves its options out.
    if text.len().saturating_add(1).saturating_mul(widest.saturating_add(2)) <= most {
        return true;
    }
    // `7` may stand for `some(7)`.
    let each: usize = if has_unwritten(ty) { 2 } else { 1 };
    // A text can stand for bytes. Each byte is a part then.
    let each_byte = usize::from(has_bytes(ty));
    let (mut counted, mut records) = (each, None);
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = match byte {
            b'"' | b'\'' => {
                let behind = behind_quotes(rest, *byte);
                counted = counted.saturating_add(each_byte * (rest.len() - behind.len()));
                behind
            }
            // A comment.
            b'/' if behind.first() == Some(&b'/') => {
                &rest[memchr::memchr(b'\n', rest).unwrap_or(rest.len())..]
            }
            _ => behind,
        };
        counted = counted.saturating_add(match byte {
            b',' | b'[' | b'(' | b':' => each,
            b'{' if widest > 0 => {
                let records = records.get_or_insert_with(|| options_by_field(ty));
                records.get(first_name(rest)).copied().unwrap_or(widest).saturating_add(each)
            }
            b'{' => each,
            _ => 0,
        });
        if counted > most {
            return false;
        }
    }
    true
}

/// The text behind the closing quote. A quote that is not closed reaches to the end.
fn behind_quotes(text: &[u8], quote: u8) -> &[u8] {
    const LINES: &[u8] = b"\"\"\"";
    if text.starts_with(LINES) {
        let end = text[3..].windows(3).position(|three| three == LINES);
        return end.map_or(&[], |end| &text[end + 6..]);
    }
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        at += match byte {
            b'\\' => 2,
            byte if *byte == quote => return &text[at + 1..],
            _ => 1,
        };
    }
    &[]
}

/// The first field's name in the text of a record. Empty: there is none.
fn first_name(text: &[u8]) -> &str {
    let text = text.trim_ascii_start();
    let text = text.strip_prefix(b"%").unwrap_or(text);
    let len = text.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-').count();
    std::str::from_utf8(&text[..len]).unwrap_or_default()
}

/// The most options that one record within this type can leave out.
fn widest(ty: &Type) -> usize {
    ty.parts().into_iter().map(widest).chain([options(ty)]).max().unwrap_or_default()
}

/// Whether a text can leave out a part that surrounds another one: `7` for `some(7)`.
fn has_unwritten(ty: &Type) -> bool {
    matches!(ty, Type::Option(_) | Type::Result(..)) || ty.parts().into_iter().any(has_unwritten)
}

fn has_bytes(ty: &Type) -> bool {
    ty.is_bytes() || ty.parts().into_iter().any(has_bytes)
}

fn options(ty: &Type) -> usize {
    match ty {
        Type::Record(fields) => fields.iter().filter(|(_, t)| matches!(t, Type::Option(_))).count(),
        _ => 0,
    }
}

/// For each name of a field, the most options of a record with such a field.
fn options_by_field(ty: &Type) -> HashMap<&str, usize> {
    fn add<'t>(ty: &'t Type, all: &mut HashMap<&'t str, usize>) {
        if let Type::Record(fields) = ty {
            let options = options(ty);
            for (name, _) in fields {
                let most = all.entry(name).or_default();
                *most = options.max(*most);
            }
        }
        ty.parts().into_iter().for_each(|part| add(part, all));
    }
    let mut all = HashMap::new();
    add(ty, &mut all);
    all
}

#[cfg(test)]
mod tests {
    use super::super::{Value, parse_wave, to_wave};
    use super::*;

    /// The number of parts of a value.
    fn parts(value: &Value) -> usize {
        1 + match value {
            Value::List(items) | Value::Tuple(items) => items.iter().map(parts).sum(),
            Value::Record(fields) => fields.iter().map(|(_, value)| parts(value)).sum(),
            Value::Flags(names) => names.len(),
            Value::Variant(_, Some(v)) | Value::Option(Some(v)) => parts(v),
            Value::Result(Ok(Some(v)) | Err(Some(v))) => parts(v),
            _ => 0,
        }
    }

    fn optional(names: impl IntoIterator<Item = String>) -> Type {
        Type::Record(names.into_iter().map(|name| (name, Type::Option(Box::new(Type::U8)))).collect())
    }

    #[test]
    fn f113_the_parts_of_a_value_are_never_more_than_are_counted() {
        let list = |ty| Type::List(Box::new(ty));
        let narrow = Type::Record(vec![("n".into(), Type::U8), ("text".into(), Type::String)]);
        let wide = optional((0..100).map(|n| format!("w{n}")));
        let both = Type::Record(vec![("wide".into(), list(wide.clone())), ("narrow".into(), list(narrow))]);
        let flags = Type::Flags(vec!["a".into(), "b".into(), "c".into()]);
        let either = Type::Variant(vec![("x".into(), None), ("y".into(), Some(wide.clone()))]);
        for (ty, text) in [
            (Type::U8, "7"),
            (list(Type::U8), "[1, 2, 3]"),
            (list(list(Type::U8)), "[[], [1], []]"),
            (list(list(Type::U8)), "[\"abc\", \"\", \"de, f\"]"),
            (list(wide.clone()), "[{:}, // \"a comment\n {:}, {:}, {w3: some(1)}]"),
            (list(Type::Option(Box::new(Type::U8))), "[1, some(2), none, 3, 4, 5]"),
            (list(Type::Result(Some(Box::new(Type::U8)), None)), "[1, ok(2), err, 3]"),
            (list(wide.clone()), "[{:}, {w3: some(1)}, {:}]"),
            (both.clone(), "{wide: [{:}, {w99: 1}], narrow: [{n: 1, text: \"{:},{:}[(\\\"\"}]}"),
            (list(flags), "[{a, b}, {}, {c}]"),
            (list(either), "[y({:}), x, y({w1: 1})]"),
            (Type::Tuple(vec![Type::Char, Type::String]), "('\\'', \"\"\"\n  a, b\n  \"\"\")"),
            (Type::Result(Some(Box::new(wide)), None), "ok({:})"),
        ] {
            let Ok(value) = parse_wave(text, &ty) else { panic!("{text} is no {ty}") };
            let parts = parts(&value);
            assert!(!is_within(text, &ty, parts - 1), "{text} has {parts} parts");
            let written = to_wave(&value);
            assert!(!is_within(&written, &ty, parts - 1), "{written} has {parts} parts");
            assert!(is_within(text, &ty, parts + 3 * text.len() + 200 * text.matches('{').count()), "{text}");
        }
    }

    #[test]
    fn f113_what_is_inside_of_a_text_does_not_count() {
        let text = format!("[\"{}\", \"\"\"\n{}\n\"\"\"]", "{:},[(".repeat(1000), ",".repeat(1000));
        assert!(is_within(&text, &Type::List(Box::new(Type::String)), 8));
        // The options of other records do not count either.
        let narrow = Type::Record(vec![("n".into(), Type::U8)]);
        let ty =
            Type::Tuple(vec![Type::List(Box::new(narrow)), optional((0..1000).map(|n| format!("w{n}")))]);
        let text = format!("([{}], {{w0: 1}})", vec!["{n: 1}"; 1000].join(", "));
        assert!(is_within(&text, &ty, 9000));
    }
}
