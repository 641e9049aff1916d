//! JSON and component values, guided by the type.
//!
//! | WIT | JSON |
//! |---|---|
//! | integers, floats | number (a float that JSON has no number for: `"nan"`, `"inf"`, `"-inf"`) |
//! | bool, string, char | boolean, string, one-character string |
//! | list, tuple | array |
//! | record | object; a missing field is `none` where the field is an option |
//! | option | `null` or the value |
//! | variant | `"case"` or `{"case": payload}` |
//! | enum | `"case"` |
//! | result | `{"ok": value}` or `{"err": value}` |
//! | flags | array of names |

use serde_json::{Map, Number, Value as Json};

use super::{Type, Value};

/// Reads `json` as a value of type `ty`. The error names the expected type and the place (`.items[2].size`).
pub(crate) fn from_json(json: &Json, ty: &Type) -> Result<Value, String> {
    read(json, ty).map_err(|e| match e.place.is_empty() {
        true => e.text,
        false => format!("at {}: {}", e.place, e.text),
    })
}

struct Mismatch {
    place: String,
    text: String,
}

impl Mismatch {
    fn under(mut self, place: impl std::fmt::Display) -> Self {
        self.place = format!("{place}{}", self.place);
        self
    }
}

fn kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

fn read(json: &Json, ty: &Type) -> Result<Value, Mismatch> {
    let mismatch = || Mismatch { place: String::new(), text: format!("expected {ty}, got {}", kind(json)) };
    let unknown = |name: &str| Mismatch { place: String::new(), text: format!("expected {ty}, got {name:?}") };
    Ok(match ty {
        Type::Bool => Value::Bool(json.as_bool().ok_or_else(mismatch)?),
        Type::S8 | Type::U8 | Type::S16 | Type::U16 | Type::S32 | Type::U32 | Type::S64 | Type::U64 => {
            let n = json.as_i64().map(i128::from).or(json.as_u64().map(i128::from)).ok_or_else(mismatch)?;
            Value::integer(n, ty)
                .ok_or_else(|| Mismatch { place: String::new(), text: format!("expected {ty}, got {n}") })?
        }
        #[expect(clippy::cast_possible_truncation, reason = "a float32 takes the nearest value, as JSON readers do")]
        Type::F32 => Value::F32(float(json).ok_or_else(mismatch)? as f32),
        Type::F64 => Value::F64(float(json).ok_or_else(mismatch)?),
        Type::Char => {
            let mut chars = json.as_str().ok_or_else(mismatch)?.chars();
            match (chars.next(), chars.next()) {
                (Some(c), None) => Value::Char(c),
                _ => return Err(mismatch()),
            }
        }
        Type::String => Value::String(json.as_str().ok_or_else(mismatch)?.to_owned()),
        Type::List(t) => Value::List(read_list(json.as_array().ok_or_else(mismatch)?, t)?),
        Type::FixedList(t, n) => {
            let items = json.as_array().filter(|a| a.len() == *n as usize).ok_or_else(mismatch)?;
            Value::List(read_list(items, t)?)
        }
        Type::Tuple(types) => {
            let items = json.as_array().filter(|a| a.len() == types.len()).ok_or_else(mismatch)?;
            let read_at = |(i, (json, ty))| read(json, ty).map_err(|e| e.under(format_args!("[{i}]")));
            Value::Tuple(items.iter().zip(types).enumerate().map(read_at).collect::<Result<_, _>>()?)
        }
        Type::Record(fields) => {
            let object = json.as_object().ok_or_else(mismatch)?;
            if let Some(extra) = object.keys().find(|k| !fields.iter().any(|(name, _)| name == *k)) {
                return Err(unknown(extra));
            }
            let field = |(name, ty): &(String, Type)| {
                let value = read(object.get(name).unwrap_or(&Json::Null), ty);
                value.map(|v| (name.clone(), v)).map_err(|e| e.under(format_args!(".{name}")))
            };
            Value::Record(fields.iter().map(field).collect::<Result<_, _>>()?)
        }
        Type::Variant(cases) => {
            let (name, payload) = single(json).ok_or_else(mismatch)?;
            let (_, ty) = cases.iter().find(|(case, _)| case == name).ok_or_else(|| unknown(name))?;
            Value::Variant(name.to_owned(), read_payload(payload, ty.as_ref()).ok_or_else(mismatch)??)
        }
        Type::Enum(cases) => {
            let name = json.as_str().ok_or_else(mismatch)?;
            let case = cases.iter().find(|case| *case == name).ok_or_else(|| unknown(name))?;
            Value::Enum(case.clone())
        }
        Type::Option(_) if json.is_null() => Value::Option(None),
        Type::Option(t) => Value::Option(Some(Box::new(read(json, t)?))),
        Type::Result(ok, err) => match single(json).ok_or_else(mismatch)? {
            ("ok", v) => Value::Result(Ok(read_payload(v, ok.as_deref()).ok_or_else(mismatch)??)),
            ("err", v) => Value::Result(Err(read_payload(v, err.as_deref()).ok_or_else(mismatch)??)),
            (other, _) => return Err(unknown(other)),
        },
        Type::Flags(all) => {
            let given = json.as_array().ok_or_else(mismatch)?;
            let names: Vec<&str> = given.iter().map(Json::as_str).collect::<Option<_>>().ok_or_else(mismatch)?;
            if let Some(name) = names.iter().find(|n| !all.iter().any(|flag| flag == *n)) {
                return Err(unknown(name));
            }
            Value::Flags(all.iter().filter(|flag| names.contains(&flag.as_str())).cloned().collect())
        }
        Type::Unsupported(_) => return Err(mismatch()),
    })
}

fn read_list(items: &[Json], ty: &Type) -> Result<Vec<Value>, Mismatch> {
    let read_at = |(i, json)| read(json, ty).map_err(|e| e.under(format_args!("[{i}]")));
    items.iter().enumerate().map(read_at).collect()
}

/// `"case"` or `{"case": payload}`.
fn single(json: &Json) -> Option<(&str, Option<&Json>)> {
    match json {
        Json::String(case) => Some((case, None)),
        Json::Object(map) if map.len() == 1 => map.iter().next().map(|(k, v)| (k.as_str(), Some(v))),
        _ => None,
    }
}

type Payload = Option<Box<Value>>;

/// `None` where there is a payload and must be none, or the other way round.
fn read_payload(json: Option<&Json>, ty: Option<&Type>) -> Option<Result<Payload, Mismatch>> {
    match (json, ty) {
        (None | Some(Json::Null), None) => Some(Ok(None)),
        (Some(json), Some(ty)) => Some(read(json, ty).map(|v| Some(Box::new(v)))),
        (Some(_), None) | (None, Some(_)) => None,
    }
}

fn float(json: &Json) -> Option<f64> {
    match json.as_str() {
        Some("nan") => Some(f64::NAN),
        Some("inf") => Some(f64::INFINITY),
        Some("-inf") => Some(f64::NEG_INFINITY),
        _ => json.as_f64(),
    }
}

/// The JSON form of a value; see the table at the head of this file.
pub(crate) fn to_json(value: &Value) -> Json {
    let case = |name: &str, payload: &Payload| match payload {
        Some(v) => Json::Object(Map::from_iter([(name.to_owned(), to_json(v))])),
        None => Json::String(name.to_owned()),
    };
    match value {
        Value::Bool(b) => Json::Bool(*b),
        Value::S8(n) => Json::from(*n),
        Value::U8(n) => Json::from(*n),
        Value::S16(n) => Json::from(*n),
        Value::U16(n) => Json::from(*n),
        Value::S32(n) => Json::from(*n),
        Value::U32(n) => Json::from(*n),
        Value::S64(n) => Json::from(*n),
        Value::U64(n) => Json::from(*n),
        Value::F32(n) => from_float(f64::from(*n)),
        Value::F64(n) => from_float(*n),
        Value::Char(c) => Json::String(c.to_string()),
        Value::String(s) => Json::String(s.clone()),
        Value::List(items) | Value::Tuple(items) => Json::Array(items.iter().map(to_json).collect()),
        Value::Record(fields) => Json::Object(fields.iter().map(|(n, v)| (n.clone(), to_json(v))).collect()),
        Value::Variant(name, payload) => case(name, payload),
        Value::Enum(name) => Json::String(name.clone()),
        Value::Option(v) => v.as_deref().map_or(Json::Null, to_json),
        Value::Result(Ok(v)) => {
            Json::Object(Map::from_iter([("ok".to_owned(), v.as_deref().map_or(Json::Null, to_json))]))
        }
        Value::Result(Err(v)) => {
            Json::Object(Map::from_iter([("err".to_owned(), v.as_deref().map_or(Json::Null, to_json))]))
        }
        Value::Flags(names) => Json::Array(names.iter().cloned().map(Json::String).collect()),
    }
}

fn from_float(n: f64) -> Json {
    match Number::from_f64(n) {
        Some(number) => Json::Number(number),
        None if n.is_nan() => Json::String("nan".to_owned()),
        None if n > 0.0 => Json::String("inf".to_owned()),
        None => Json::String("-inf".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn round_trip(ty: &Type, text: &str) {
        let json: Json = serde_json::from_str(text).unwrap();
        let value = from_json(&json, ty).unwrap();
        assert!(value.is_of(ty), "{value:?} is not a {ty}");
        assert_eq!(to_json(&value).to_string(), text);
    }

    #[test]
    fn every_kind_of_value_goes_to_json_and_back() {
        round_trip(&Type::U64, "18446744073709551615");
        round_trip(&Type::F64, "\"-inf\"");
        round_trip(&Type::Char, "\"é\"");
        round_trip(&Type::Tuple(vec![Type::U8, Type::Bool]), "[1,false]");
        round_trip(&Type::Record(vec![("a".into(), Type::U8), ("b".into(), Type::String)]), r#"{"a":1,"b":"x"}"#);
        let variant = Type::Variant(vec![("none".into(), None), ("some-of".into(), Some(Type::U8))]);
        round_trip(&variant, r#""none""#);
        round_trip(&variant, r#"{"some-of":7}"#);
        round_trip(&Type::Option(Box::new(Type::U8)), "null");
        round_trip(&Type::Result(Some(Box::new(Type::U8)), None), r#"{"ok":1}"#);
        round_trip(&Type::Flags(vec!["r".into(), "w".into()]), r#"["r","w"]"#);
    }

    #[test]
    fn a_mismatch_names_place_and_type() {
        let ty = Type::Record(vec![("items".into(), Type::List(Box::new(Type::U8)))]);
        let json = serde_json::json!({"items": [1, 2, 300]});
        assert_eq!(from_json(&json, &ty).unwrap_err(), "at .items[2]: expected u8, got 300");
        let json = serde_json::json!({"item": []});
        assert!(from_json(&json, &ty).unwrap_err().ends_with("got \"item\""));
    }
}
