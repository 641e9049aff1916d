//! Values, their text forms, and results.

use super::choices::Choices;
use super::{assert_plain, mixed, model};
use crate::escape;
use crate::value::{
    Args, Integers, Param, Ret, Type, Value, args_from_wire, args_to_wire, from_json, from_json_many,
    parse_many, parse_wave, parse_wave_of, result_from_wire, result_to_wire, to_json, to_wave,
};

/// The integer types and their ranges.
const RANGES: [(Type, i128, i128); 8] = [
    (Type::S8, -128, 127),
    (Type::U8, 0, 255),
    (Type::S16, -32_768, 32_767),
    (Type::U16, 0, 65_535),
    (Type::S32, -2_147_483_648, 2_147_483_647),
    (Type::U32, 0, 4_294_967_295),
    (Type::S64, -9_223_372_036_854_775_808, 9_223_372_036_854_775_807),
    (Type::U64, 0, 18_446_744_073_709_551_615),
];

/// A type, a value of it that must survive both text forms, and a text that may be one; also numbers near
/// the ends of each range.
pub(super) fn values(data: &[u8]) {
    let mut choices = Choices(data);
    let ty = choices.ty(4);
    let value = choices.value(&ty);
    round_trips(&value, &ty);
    crosses(&value, &ty);
    several(data);
    without_a_field(data);
    floats();
    let (near, digits) = (i128::from(choices.byte()) - 128, choices.byte() % 30);
    integers(near, 1 + usize::from(digits));
    if let Ok(Some(value)) = result_from_wire(choices.0, Some(&ty)) {
        assert!(value.is_of(&ty), "{value} is no {ty}");
        crosses(&value, &ty);
    }
    let Ok(text) = std::str::from_utf8(choices.0) else { return };
    match parse_wave(text, &ty) {
        Ok(value) => round_trips(&value, &ty),
        Err(why) => assert_plain(&escape::shortened(&why)),
    }
    match from_json(text, &ty, Integers::OfType) {
        Ok(value) => round_trips(&value, &ty),
        Err(why) => assert_plain(&escape::shortened(&why)),
    }
}

/// The value goes to a function of the application, as one argument of two and as a result, and arrives.
fn crosses(value: &Value, ty: &Type) {
    let wire = result_to_wire(Some(value.clone()), Some(ty)).expect("the value is of this type");
    let back = result_from_wire(&wire, Some(ty)).expect("we read what we write");
    assert_eq!(back.map(|back| to_wave(&back)), Some(to_wave(value)));
    let param = |ty: &Type| Param { name: None, ty: ty.clone() };
    let (params, args) = ([param(&Type::Bool), param(ty)], [Value::Bool(true), value.clone()]);
    let wire = args_to_wire(args.to_vec(), &params).expect("the values are of these types");
    let back = args_from_wire(&wire, &params).expect("we read what we write");
    assert_eq!(to_wave(&back[1]), to_wave(value));
}

/// The floats whose texts are easily wrong.
fn floats() {
    for n in [
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        -0.0,
        f64::MAX,
        f64::MIN_POSITIVE,
        5e-324,
        0.1,
        1e16,
        1e-5,
    ] {
        round_trips(&Value::F64(n), &Type::F64);
        round_trips(&Value::F32(n as f32), &Type::F32);
    }
}

/// Numbers near the ends of each range and near zero, and one with this many digits.
fn integers(near: i128, digits: usize) {
    for (ty, min, max) in &RANGES {
        let decimal =
            format!("{}{}", if near < 0 { "-" } else { "" }, &"179206358294671356192837465017"[..digits]);
        for text in [(min + near).to_string(), (max + near).to_string(), near.to_string(), decimal] {
            let n = model::integer(&text, *min, *max);
            for text in [text.clone(), format!("{text}.0"), format!("{text}e0")] {
                compare_integer(&text, ty, n);
            }
            // No number begins with several zeros.
            if n != Some(0) {
                compare_integer(&format!("{text}00e-2"), ty, n);
            }
            let hex = text
                .parse::<i128>()
                .map(|n| format!("{}{:#x}", if n < 0 { "-" } else { "" }, n.unsigned_abs()));
            assert_eq!(
                parse_wave(&hex.unwrap_or_default(), ty).ok().and_then(|v| v.as_integer()),
                n,
                "{text}"
            );
            assert!(
                parse_wave(&format!("{text}.5"), ty).is_err()
                    && from_json(&format!("{text}.5"), ty, Integers::OfType).is_err()
            );
            // A core module's have no sign.
            let bits = match ty {
                Type::S32 => model::integer(&text, *min, 4_294_967_295),
                Type::S64 => model::integer(&text, *min, 18_446_744_073_709_551_615),
                _ => n,
            };
            let wrapped = bits.map(|n| if n > *max { n - 2 * (max + 1) } else { n });
            assert_eq!(
                parse_wave_of(&text, ty, Integers::OfBits).ok().and_then(|v| v.as_integer()),
                wrapped,
                "{text}"
            );
        }
    }
}

fn compare_integer(text: &str, ty: &Type, n: Option<i128>) {
    for read in [parse_wave(text, ty), from_json(text, ty, Integers::OfType)] {
        let read = read.ok();
        assert!(read.as_ref().is_none_or(|value| value.is_of(ty)));
        assert_eq!(read.and_then(|value| value.as_integer()), n, "{text} as {ty}");
    }
}

fn round_trips(value: &Value, ty: &Type) {
    assert!(value.is_of(ty), "{value:?} is not of {ty}");
    let wave = to_wave(value);
    assert!(!wave.contains('\n'));
    let again = parse_wave(&wave, ty).unwrap_or_else(|why| panic!("{wave}: {why}"));
    assert!(same(value, &again), "{wave} of {value:?}");
    let json = String::from_utf8(to_json(value)).expect("JSON is text");
    assert!(!json.contains('\n'));
    let again = from_json(&json, ty, Integers::OfType).unwrap_or_else(|why| panic!("{json}: {why}"));
    assert!(same(value, &again), "{json} of {value:?}");
}

/// The record of several parameters, in all its forms.
fn several(data: &[u8]) {
    let mut choices = Choices(data);
    let count = 2 + usize::from(choices.byte() % 3);
    let (mut params, mut values) = (Vec::new(), Vec::new());
    for n in 0..count {
        let ty = choices.ty(2);
        values.push(choices.value(&ty));
        params.push(Param { name: Some(format!("p{n}")), ty });
    }
    let all = Value::Tuple(values.clone());
    let is_all =
        |read: Result<Vec<Value>, String>| same(&Value::Tuple(read.expect("what is right is read")), &all);
    assert!(is_all(parse_many(&to_wave(&all), &params, Integers::OfType)));
    let json = String::from_utf8(to_json(&all)).expect("JSON is text");
    assert!(is_all(from_json_many(&json, &params, Integers::OfType)));
    let fields = params
        .iter()
        .zip(&values)
        .map(|(param, value)| (param.name.clone().unwrap_or_default(), value.clone()));
    let by_name = String::from_utf8(to_json(&Value::Record(fields.rev().collect()))).expect("JSON is text");
    assert!(is_all(from_json_many(&by_name, &params, Integers::OfType)));
    // One more or less is another function's.
    for other in [&params[1..], &[&params[..], &params[..1]].concat()] {
        assert!(parse_many(&to_wave(&all), other, Integers::OfType).is_err());
        assert!(from_json_many(&json, other, Integers::OfType).is_err());
        assert!(other.len() > params.len() || from_json_many(&by_name, other, Integers::OfType).is_err());
    }
}

/// A record that lacks a field, or has one too many: refused, unless the field is an option.
fn without_a_field(data: &[u8]) {
    let mut choices = Choices(data);
    let fields: Vec<(String, Type)> = ["a", "b", "c"].map(|name| (name.to_owned(), choices.ty(1))).into();
    let values = fields.iter().map(|(name, ty)| (name.clone(), choices.value(ty)));
    let Value::Record(values) = Value::Record(values.collect()) else { return };
    let at = usize::from(choices.byte()) % 3;
    let less = Value::Record(
        values.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, field)| field.clone()).collect(),
    );
    let (wave, json) = (to_wave(&less), String::from_utf8(to_json(&less)).expect("JSON is text"));
    let is_option = matches!(fields[at].1, Type::Option(_));
    let all = Type::Record(fields.clone());
    assert_eq!(parse_wave(&wave, &all).is_ok(), is_option, "{wave}");
    assert_eq!(from_json(&json, &all, Integers::OfType).is_ok(), is_option, "{json}");
    let (_, fewer) = fields.split_first().expect("there are three");
    let json = String::from_utf8(to_json(&Value::Record(values))).expect("JSON is text");
    assert!(from_json(&json, &Type::Record(fewer.to_vec()), Integers::OfType).is_err());
}

/// No NaN is equal to itself.
fn same(one: &Value, other: &Value) -> bool {
    format!("{one:?}") == format!("{other:?}")
}

/// What a worker gives for a result, and what is made of it for a caller; and what a caller gives.
pub(super) fn result(data: &[u8]) {
    let bytes = Type::List(Box::new(Type::U8));
    let text = std::str::from_utf8(data).ok();
    assert_eq!(Vec::<u8>::decode(data, Some(&bytes)).as_deref(), Some(data));
    assert_eq!(Vec::<u8>::decode(data, Some(&Type::String)).as_deref(), Some(data));
    assert_eq!(String::decode(data, Some(&Type::String)).as_deref(), text);
    assert_eq!(String::decode(data, Some(&bytes)).as_deref(), text);
    assert_eq!(<()>::decode(data, None), Some(()));
    for (ty, min, max) in &RANGES {
        let n = text.and_then(|text| parse_wave(text, ty).ok()).and_then(|value| value.as_integer());
        assert!(n.is_none_or(|n| (*min..=*max).contains(&n)));
        assert_eq!(i64::decode(data, Some(ty)), n.and_then(|n| n.try_into().ok()));
        assert_eq!(u8::decode(data, Some(ty)), n.and_then(|n| n.try_into().ok()));
    }
    let mut choices = Choices(data);
    let ty = choices.ty(3);
    let value = choices.value(&ty);
    let mut record = Vec::new();
    assert_eq!(value.clone().encode(&[&ty], &mut record), Ok(()));
    let read = Value::decode(&record, Some(&ty)).unwrap_or_else(|| panic!("{value:?} of {ty}"));
    assert!(same(&value, &read), "{value:?} became {read:?}");
    assert!(Value::decode(&record, None).is_none());
    // As long as results are.
    let many: Vec<u32> = (0..300 + mixed(data) as u32 % 1000).collect();
    assert_eq!(
        Vec::<u32>::decode(
            to_wave(&Value::from(many.clone())).as_bytes(),
            Some(&Type::List(Box::new(Type::U32)))
        ),
        Some(many)
    );
    // Text of which little becomes much.
    if let Some(value) = Value::decode(choices.0, Some(&ty)) {
        assert!(value.is_of(&ty));
    }
}
