//! Component values as JSON. The type decides how a text is read.
//!
//! | WIT | JSON |
//! |---|---|
//! | integers | number; `1.0` and `1e3` are integers, too |
//! | floats | number, in the shortest form; `"NaN"`, `"Infinity"`, `"-Infinity"`, which are no JSON numbers |
//! | bool, string, char | boolean, string, one-character string |
//! | list, tuple | array |
//! | record | object; a missing field is `none` where the field is an option |
//! | option | `null` or the value; where the value is an option itself, `null` or `{"some": value}` |
//! | variant | `"case"` or `{"case": payload}` |
//! | enum | `"case"` |
//! | result | `{"ok": value}` or `{"err": value}`; without a value, `{"ok": null}` or `"ok"` |
//! | flags | array of names |
//!
//! So `some(none)` of an `option<option<u8>>` is `{"some": null}`. No two values of a type have the same
//! form.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;

use super::read::{
    Integers, LeftOut, Mismatch, NameTables, Payload, Whole, example, quoted, whole, without_mark,
};
use super::{Param, Type, Value};

/// Reads a text as a value of type `ty`. The error names the expected type and the place (`.items[2].size`).
pub(crate) fn from_json(text: &str, ty: &Type, integers: Integers) -> Result<Value, String> {
    let json = parse(text)?;
    JsonReader::new(json, integers).read(json, ty).map_err(Mismatch::message)
}

/// Reads a record for several parameters: an array by position, or an object by name.
pub(crate) fn from_json_many<'p>(
    text: &str,
    params: &'p [Param],
    integers: Integers,
) -> Result<Vec<Value>, String> {
    let json = parse(text)?;
    let reader = JsonReader::new(json, integers);
    let expected = || {
        let ty = Type::Tuple(params.iter().map(|param| param.ty.clone()).collect());
        let such_as = example(&ty, json_text).map_or(String::new(), |text| format!(" such as {text}"));
        let or = if params.iter().all(|param| param.name.is_some()) {
            ", or an object by their names"
        } else {
            ""
        };
        format!(
            "expected an array with a value for each of {} parameters{such_as}{or}, got {}",
            params.len(),
            quoted(json)
        )
    };
    if let Some(items) = array(json).filter(|items| items.len() == params.len()) {
        let read = |(at, (json, param)): (usize, (&&RawValue, &'p Param))| {
            reader.read(json.get(), &param.ty).map_err(|e| e.under(param.label(at)).message())
        };
        return items.iter().zip(params).enumerate().map(read).collect();
    }
    let fields =
        object(json).filter(|_| params.iter().all(|param| param.name.is_some())).ok_or_else(expected)?;
    let by_name = |(at, param): (usize, &'p Param)| {
        let name = param.label(at);
        match (fields.get(&name), &param.ty) {
            (Some(json), ty) => reader.read(json.get(), ty).map_err(|e| e.under(name).message()),
            (None, Type::Option(_)) => Ok(Value::Option(None)),
            (None, ty) => Err(Mismatch::missing(&name, ty, json_text).message()),
        }
    };
    if let Some(extra) =
        fields.keys().find(|key| !params.iter().any(|param| param.name.as_ref() == Some(key)))
    {
        return Err(format!("no parameter is named {}", quoted(extra)));
    }
    params.iter().enumerate().map(by_name).collect()
}

/// The one value in a text, as JSON text.
fn parse(text: &str) -> Result<&str, String> {
    let text = without_mark(text);
    let json: &RawValue = serde_json::from_str(text).map_err(|e| {
        if text.trim().is_empty() {
            "not JSON: there is nothing".to_owned()
        } else {
            format!("not JSON: {e}, in {}", quoted(text))
        }
    })?;
    Ok(json.get())
}

fn array(json: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(json).ok()
}

fn object(json: &str) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_str(json).ok()
}

fn string(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

/// The text of a number, as it is written.
fn number(json: &str) -> Option<&str> {
    json.starts_with(|c: char| c == '-' || c.is_ascii_digit()).then_some(json)
}

struct JsonReader<'t> {
    integers: Integers,
    left_out: LeftOut,
    names: NameTables<'t>,
}

impl<'t> JsonReader<'t> {
    fn new(json: &str, integers: Integers) -> Self {
        JsonReader { integers, left_out: LeftOut::within(json), names: NameTables::default() }
    }

    fn read(&self, json: &str, ty: &'t Type) -> Result<Value, Mismatch> {
        let mismatch = || Mismatch::kind(ty, json, json_text);
        Ok(match ty {
            Type::Bool => Value::Bool(serde_json::from_str(json).map_err(|_| mismatch())?),
            Type::S8 | Type::U8 | Type::S16 | Type::U16 | Type::S32 | Type::U32 | Type::S64 | Type::U64 => {
                let range = || Mismatch::range(ty, self.integers, json);
                match number(json).and_then(whole) {
                    Some(Whole::Integer(n)) => self.integers.value(n, ty).ok_or_else(range)?,
                    Some(Whole::TooLarge) => return Err(range()),
                    Some(Whole::Fraction) | None => return Err(mismatch()),
                }
            }
            Type::F32 => Value::F32(float(json, ty, f32::is_infinite).ok_or_else(mismatch)??),
            Type::F64 => Value::F64(float(json, ty, f64::is_infinite).ok_or_else(mismatch)??),
            Type::Char => Value::Char(serde_json::from_str(json).map_err(|_| mismatch())?),
            Type::String => Value::String(string(json).ok_or_else(mismatch)?),
            Type::List(t) if **t == Type::U8 => {
                Value::Bytes(self.bytes(&array(json).ok_or_else(mismatch)?, t)?)
            }
            Type::List(t) => Value::List(self.list(&array(json).ok_or_else(mismatch)?, t)?),
            Type::FixedList(t, n) => {
                let items = array(json).filter(|items| items.len() == *n as usize).ok_or_else(mismatch)?;
                Value::List(self.list(&items, t)?)
            }
            Type::Tuple(types) => {
                let items = array(json).filter(|items| items.len() == types.len()).ok_or_else(mismatch)?;
                let read = |(i, (json, ty)): (usize, (&&RawValue, &'t Type))| {
                    self.read(json.get(), ty).map_err(|e| e.under(format_args!("[{i}]")))
                };
                Value::Tuple(items.iter().zip(types).enumerate().map(read).collect::<Result<_, _>>()?)
            }
            Type::Record(fields) => self.record(&object(json).ok_or_else(mismatch)?, ty, fields)?,
            Type::Variant(cases) => {
                let (name, payload) = single(json).ok_or_else(mismatch)?;
                let unknown = || Mismatch::unknown(&name, "case", ty, json_text);
                let at = self.names.position(cases, &name, |(case, _)| case).ok_or_else(unknown)?;
                let (case, t) = &cases[at];
                Value::Variant(case.clone(), self.payload(&name, payload, t.as_ref())?)
            }
            Type::Enum(cases) => {
                let name = string(json).ok_or_else(mismatch)?;
                let at = self.names.position(cases, &name, |case| case);
                Value::Enum(cases[at.ok_or_else(|| Mismatch::unknown(&name, "case", ty, json_text))?].clone())
            }
            Type::Option(_) if json == "null" => Value::Option(None),
            Type::Option(t) => Value::Option(Some(Box::new(self.some(json, t)?))),
            Type::Result(ok, err) => {
                let (name, payload) = single(json).ok_or_else(mismatch)?;
                Value::Result(match name.as_str() {
                    "ok" => Ok(self.payload(&name, payload, ok.as_deref())?),
                    "err" => Err(self.payload(&name, payload, err.as_deref())?),
                    _ => return Err(mismatch()),
                })
            }
            Type::Flags(all) => self.flags(json, ty, all)?,
            Type::Unsupported(_) => return Err(mismatch()),
        })
    }

    /// The value in a `some`. Only an option in an option has the wrapper `{"some": value}`.
    fn some(&self, json: &str, ty: &'t Type) -> Result<Value, Mismatch> {
        let wrapped = match ty {
            Type::Option(_) => single(json).filter(|(name, _)| name == "some").and_then(|(_, json)| json),
            _ => None,
        };
        match wrapped {
            Some(json) => self.read(json.get(), ty).map_err(|e| e.under(".some")),
            None => self.read(json, ty),
        }
    }

    fn flags(&self, json: &str, ty: &Type, all: &'t [String]) -> Result<Value, Mismatch> {
        let given: Vec<String> =
            serde_json::from_str(json).map_err(|_| Mismatch::kind(ty, json, json_text))?;
        let position = |name: &String| {
            let unknown = || Mismatch::unknown(name, "flag", ty, json_text);
            self.names.position(all, name, |flag| flag).ok_or_else(unknown)
        };
        // In the order of the type, so that equal sets are equal values.
        let given: BTreeSet<usize> = given.iter().map(position).collect::<Result<_, _>>()?;
        Ok(Value::Flags(given.into_iter().map(|at| all[at].clone()).collect()))
    }

    /// The bytes of a `list<u8>`, without a value for each.
    fn bytes(&self, items: &[&RawValue], ty: &'t Type) -> Result<Vec<u8>, Mismatch> {
        let read = |(i, json): (usize, &&RawValue)| match self.read(json.get(), ty) {
            Ok(Value::U8(byte)) => Ok(byte),
            Ok(_) => Err(Mismatch::kind(ty, json.get(), json_text)),
            Err(e) => Err(e.under(format_args!("[{i}]"))),
        };
        items.iter().enumerate().map(read).collect()
    }

    fn list(&self, items: &[&RawValue], ty: &'t Type) -> Result<Vec<Value>, Mismatch> {
        let read = |(i, json): (usize, &&RawValue)| {
            self.read(json.get(), ty).map_err(|e| e.under(format_args!("[{i}]")))
        };
        items.iter().enumerate().map(read).collect()
    }

    fn record(
        &self,
        object: &BTreeMap<String, &RawValue>,
        ty: &Type,
        fields: &'t [(String, Type)],
    ) -> Result<Value, Mismatch> {
        if fields.iter().filter(|(name, _)| object.contains_key(name)).count() < object.len() {
            let unknown = object.keys().find(|key| !fields.iter().any(|(name, _)| name == *key));
            return Err(Mismatch::unknown(unknown.map_or("", String::as_str), "field", ty, json_text));
        }
        self.left_out.add(fields.len() - object.len())?;
        let field = |(name, ty): &'t (String, Type)| {
            let value = match (object.get(name), ty) {
                (Some(json), ty) => {
                    self.read(json.get(), ty).map_err(|e| e.under(format_args!(".{name}")))?
                }
                (None, Type::Option(_)) => Value::Option(None),
                (None, ty) => return Err(Mismatch::missing(name, ty, json_text)),
            };
            Ok((name.clone(), value))
        };
        Ok(Value::Record(fields.iter().map(field).collect::<Result<_, _>>()?))
    }

    fn payload(
        &self,
        case: &str,
        json: Option<&RawValue>,
        ty: Option<&'t Type>,
    ) -> Result<Payload, Mismatch> {
        match (json.map(RawValue::get), ty) {
            (None | Some("null"), None) => Ok(None),
            (Some(json), Some(ty)) => {
                self.read(json, ty).map(|v| Some(Box::new(v))).map_err(|e| e.under(format_args!(".{case}")))
            }
            (Some(json), None) => Err(Mismatch::new(format!("{case} has no value, got {}", quoted(json)))),
            (None, Some(ty)) => {
                let such_as = example(ty, json_text)
                    .map_or(String::new(), |text| format!(", as in {{\"{case}\":{text}}}"));
                Err(Mismatch::new(format!("{case} needs a value of type {ty}{such_as}")))
            }
        }
    }
}

/// The case and the payload of `"case"` or `{"case": payload}`.
fn single(json: &str) -> Option<(String, Option<&RawValue>)> {
    match string(json) {
        Some(case) => Some((case, None)),
        None => object(json)
            .filter(|map| map.len() == 1)?
            .into_iter()
            .next()
            .map(|(case, json)| (case, Some(json))),
    }
}

/// A float. `None`: `json` is neither a number, nor one of the words for infinity and NaN, which JSON has no
/// numbers for.
fn float<T: std::str::FromStr + Copy>(
    json: &str,
    ty: &Type,
    is_infinite: fn(T) -> bool,
) -> Option<Result<T, Mismatch>> {
    if let Some(text) = number(json) {
        let number: T = text.parse().ok()?;
        return Some(if is_infinite(number) { Err(Mismatch::too_large(ty, text)) } else { Ok(number) });
    }
    let word = string(json)?.to_ascii_lowercase();
    let is_one = matches!(word.strip_prefix(['-', '+']).unwrap_or(&word), "nan" | "inf" | "infinity");
    is_one.then(|| word.parse().ok().map(Ok))?
}

/// The JSON form of a value. The table at the top of this file has the forms.
pub(crate) fn to_json(value: &Value) -> Vec<u8> {
    let mut json = Vec::new();
    write(&mut json, value);
    json
}

/// The same as a `String`, for messages.
fn json_text(value: &Value) -> String {
    String::from_utf8_lossy(&to_json(value)).into_owned()
}

fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Bool(b) => plain(out, b),
        Value::S8(n) => plain(out, n),
        Value::U8(n) => plain(out, n),
        Value::S16(n) => plain(out, n),
        Value::U16(n) => plain(out, n),
        Value::S32(n) => plain(out, n),
        Value::U32(n) => plain(out, n),
        Value::S64(n) => plain(out, n),
        Value::U64(n) => plain(out, n),
        Value::F32(n) if n.is_finite() => plain(out, n),
        Value::F64(n) if n.is_finite() => plain(out, n),
        Value::F32(n) => plain(out, word(n.is_nan(), n.is_sign_negative())),
        Value::F64(n) => plain(out, word(n.is_nan(), n.is_sign_negative())),
        Value::Char(c) => plain(out, c),
        Value::String(s) => plain(out, s),
        Value::List(items) | Value::Tuple(items) => all(out, b'[', items, b']', write),
        Value::Bytes(bytes) => all(out, b'[', bytes, b']', plain),
        Value::Record(fields) => {
            all(out, b'{', fields, b'}', |out, (name, value)| entry(out, name, Some(value)))
        }
        Value::Variant(name, None) | Value::Enum(name) => plain(out, name),
        Value::Variant(name, payload) => {
            all(out, b'{', [payload], b'}', |out, v| entry(out, name, v.as_deref()))
        }
        Value::Option(None) => out.extend_from_slice(b"null"),
        Value::Option(Some(value)) => match **value {
            // Without the wrapper, `some(none)` would be `null`, which is `none`.
            Value::Option(_) => all(out, b'{', [value], b'}', |out, value| entry(out, "some", Some(value))),
            _ => write(out, value),
        },
        Value::Result(Ok(value)) => all(out, b'{', [value], b'}', |out, v| entry(out, "ok", v.as_deref())),
        Value::Result(Err(value)) => all(out, b'{', [value], b'}', |out, v| entry(out, "err", v.as_deref())),
        Value::Flags(names) => all(out, b'[', names, b']', plain),
    }
}

/// Writes a value that serde has a form for.
fn plain<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value)
        .expect("strings and numbers have a JSON form, and writing to a Vec does not fail");
}

/// The word for a float that JSON has no number for.
fn word(is_nan: bool, is_negative: bool) -> &'static str {
    match (is_nan, is_negative) {
        (true, _) => "NaN",
        (false, false) => "Infinity",
        (false, true) => "-Infinity",
    }
}

fn all<T>(
    out: &mut Vec<u8>,
    open: u8,
    items: impl IntoIterator<Item = T>,
    close: u8,
    each: impl Fn(&mut Vec<u8>, T),
) {
    out.push(open);
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        each(out, item);
    }
    out.push(close);
}

fn entry(out: &mut Vec<u8>, name: &str, value: Option<&Value>) {
    plain(out, name);
    out.push(b':');
    match value {
        Some(value) => write(out, value),
        None => out.extend_from_slice(b"null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads(ty: &Type, text: &str, written: &str) -> Value {
        let value = from_json(text, ty, Integers::OfType).unwrap();
        assert!(value.is_of(ty), "{value:?} is not a {ty}");
        assert_eq!(json_text(&value), written, "{text}");
        value
    }

    #[track_caller]
    fn round_trip(ty: &Type, text: &str) {
        reads(ty, text, text);
    }

    #[track_caller]
    fn refused(ty: &Type, text: &str, why: &str) {
        assert_eq!(from_json(text, ty, Integers::OfType).unwrap_err(), why, "{text}");
    }

    fn option(ty: Type) -> Type {
        Type::Option(Box::new(ty))
    }

    fn some(value: Option<Value>) -> Value {
        Value::Option(value.map(Box::new))
    }

    #[test]
    fn every_kind_of_value_goes_to_json_and_back() {
        round_trip(&Type::U64, "18446744073709551615");
        round_trip(&Type::F64, "\"-Infinity\"");
        round_trip(&Type::F64, "2.5");
        round_trip(&Type::Char, "\"é\"");
        round_trip(&Type::Tuple(vec![Type::U8, Type::Bool]), "[1,false]");
        round_trip(
            &Type::Record(vec![("b".into(), Type::U8), ("a".into(), Type::String)]),
            r#"{"b":1,"a":"x"}"#,
        );
        let variant = Type::Variant(vec![("none".into(), None), ("some-of".into(), Some(Type::U8))]);
        round_trip(&variant, r#""none""#);
        round_trip(&variant, r#"{"some-of":7}"#);
        round_trip(&option(Type::U8), "null");
        round_trip(&Type::Result(Some(Box::new(Type::U8)), None), r#"{"ok":1}"#);
        round_trip(&Type::Result(Some(Box::new(Type::U8)), None), r#"{"err":null}"#);
        round_trip(&Type::Flags(vec!["r".into(), "w".into()]), r#"["r","w"]"#);
    }

    #[test]
    fn f138_an_option_in_an_option_is_told_from_the_one_around_it() {
        let two = option(option(Type::U8));
        let three = option(two.clone());
        for (ty, text, value) in [
            (&two, "null", some(None)),
            (&two, r#"{"some":null}"#, some(Some(some(None)))),
            (&two, r#"{"some":7}"#, some(Some(some(Some(Value::U8(7)))))),
            (&three, "null", some(None)),
            (&three, r#"{"some":null}"#, some(Some(some(None)))),
            (&three, r#"{"some":{"some":null}}"#, some(Some(some(Some(some(None)))))),
            (&three, r#"{"some":{"some":7}}"#, some(Some(some(Some(some(Some(Value::U8(7)))))))),
        ] {
            assert_eq!(reads(ty, text, text), value);
        }
        // A wrapper that is not needed may be left out.
        reads(&two, "7", r#"{"some":7}"#);
        // A field with the name `some` is no wrapper, except for an option in an option.
        let record = Type::Record(vec![("some".into(), option(two.clone()))]);
        round_trip(&record, r#"{"some":{"some":{"some":null}}}"#);
        round_trip(&option(record.clone()), r#"{"some":null}"#);
        round_trip(&option(option(record)), r#"{"some":{"some":null}}"#);
        round_trip(
            &Type::Result(Some(Box::new(two.clone())), Some(Box::new(option(Type::U8)))),
            r#"{"ok":{"some":null}}"#,
        );
        round_trip(&Type::Variant(vec![("some".into(), Some(two.clone()))]), r#"{"some":{"some":null}}"#);
        round_trip(&Type::List(Box::new(two.clone())), r#"[null,{"some":null},{"some":1}]"#);
        let fields = Type::Record(vec![("a".into(), two.clone()), ("b".into(), two)]);
        reads(&fields, r#"{"b":{"some":null}}"#, r#"{"a":null,"b":{"some":null}}"#);
    }

    #[test]
    fn f139_json_takes_numbers_as_people_write_them() {
        for (text, written) in
            [("1.0", "1"), ("1e3", "1000"), ("\u{feff} 7\r", "7"), ("-0.0", "0"), ("2.50e1", "25")]
        {
            reads(&Type::S32, text, written);
        }
        reads(&Type::U64, "9007199254740993.0", "9007199254740993");
        reads(&Type::U64, "1e19", "10000000000000000000");
        for (text, written) in [
            ("\"nan\"", "\"NaN\""),
            ("\"-NaN\"", "\"NaN\""),
            ("\"inf\"", "\"Infinity\""),
            ("\"+Infinity\"", "\"Infinity\""),
            ("\"-inf\"", "\"-Infinity\""),
            ("0.1", "0.1"),
            ("1", "1.0"),
            ("1e30", "1e+30"),
        ] {
            reads(&Type::F64, text, written);
            reads(&Type::F32, text, written);
        }
        let core = |text: &str| from_json(text, &Type::S32, Integers::OfBits);
        assert_eq!((core("4294967295"), core("-1")), (Ok(Value::S32(-1)), Ok(Value::S32(-1))));
        assert_eq!(
            core("4294967296").unwrap_err(),
            "expected s32, got 4294967296, which is not within -2147483648 to 4294967295"
        );
    }

    #[test]
    fn f147_a_mismatch_names_place_and_type_and_what_to_write() {
        let ty = Type::Record(vec![("items".into(), Type::List(Box::new(Type::U8)))]);
        refused(
            &ty,
            r#"{"items": [1, 2, 300]}"#,
            "at .items[2]: expected u8, got 300, which is not within 0 to 255",
        );
        refused(
            &ty,
            r#"{"item": []}"#,
            r#"item is no field of record { items: list<u8> } such as {"items":[7]}"#,
        );
        refused(&ty, "{}", "items is missing: expected list<u8> such as [7]");
        refused(&ty, "[1]", r#"expected record { items: list<u8> } such as {"items":[7]}, got [1]"#);
        refused(&Type::U8, "2.5", "expected u8 such as 7, got 2.5");
        refused(&Type::F32, "1e39", "expected f32, got 1e39, which is too large for one");
        refused(&Type::String, "7", r#"expected string such as "text", got 7"#);
        refused(&Type::String, "", "not JSON: there is nothing");
        refused(&Type::String, "hello", "not JSON: expected value at line 1 column 1, in hello");
        let variant = Type::Variant(vec![("a".into(), None), ("b".into(), Some(Type::U8))]);
        refused(&variant, "\"b\"", r#"b needs a value of type u8, as in {"b":7}"#);
        refused(&variant, r#"{"a": 1}"#, "a has no value, got 1");
        refused(&variant, r#"{"b": "x"}"#, r#"at .b: expected u8 such as 7, got "x""#);
        refused(
            &Type::Enum(vec!["red".into()]),
            "\"blue\"",
            r#"blue is no case of enum { red } such as "red""#,
        );
        refused(&Type::Flags(vec!["r".into()]), "[\"x\"]", r#"x is no flag of flags { r } such as ["r"]"#);
    }

    #[test]
    fn f147_several_parameters_are_an_array_or_an_object() {
        let param = |name: Option<&str>, ty| Param { name: name.map(str::to_owned), ty };
        let named = [param(Some("n"), Type::S32), param(Some("factor"), Type::F64)];
        let unnamed = [param(None, Type::S32), param(None, Type::F64)];
        let many = |text: &str, params: &[Param]| from_json_many(text, params, Integers::OfType);
        for text in ["[7, 2.5]", r#"{"factor": 2.5, "n": 7.0}"#] {
            assert_eq!(many(text, &named).unwrap(), [Value::S32(7), Value::F64(2.5)]);
        }
        for (text, params, why) in [
            (
                "7",
                &named,
                "expected an array with a value for each of 2 parameters such as [7,2.5], \
                 or an object by their names, got 7",
            ),
            (
                "[7]",
                &unnamed,
                "expected an array with a value for each of 2 parameters such as [7,2.5], got [7]",
            ),
            (
                "{}",
                &unnamed,
                "expected an array with a value for each of 2 parameters such as [7,2.5], got {}",
            ),
            ("{\"n\": 7}", &named, "factor is missing: expected f64 such as 2.5"),
            ("{\"n\": 7, \"factors\": 2}", &named, "no parameter is named factors"),
            ("[7, \"x\"]", &named, "at factor: expected f64 such as 2.5, got \"x\""),
            ("[7, \"x\"]", &unnamed, "at value 2: expected f64 such as 2.5, got \"x\""),
        ] {
            assert_eq!(many(text, params).unwrap_err(), why);
        }
        let optional = [param(Some("a"), option(Type::U8)), param(Some("b"), option(option(Type::U8)))];
        assert_eq!(
            many(r#"{"b": {"some": null}}"#, &optional).unwrap(),
            [some(None), some(Some(some(None)))]
        );
    }
}
