//! WAVE, the text form of component values: `wasm-wave`'s traits on our own types.

use std::borrow::Cow;

use wasm_wave::untyped::UntypedFuncCall;
use wasm_wave::wasm::{WasmType, WasmTypeKind, WasmValue, WasmValueError};

use super::{Type, Value};

/// Parses one value of type `ty`.
pub(crate) fn parse_wave(text: &str, ty: &Type) -> Result<Value, String> {
    let err = |e: &dyn std::fmt::Display| format!("expected {ty}: {}", first_line(&e.to_string()));
    wasm_wave::from_str(ty, text).map_err(|e| err(&e))
}

#[cfg(feature = "worker")]
/// Parses a record for several parameters: a WAVE tuple, `(1, "two")`, one element for each type.
pub(crate) fn parse_many(text: &str, types: &[Type]) -> Result<Vec<Value>, String> {
    let wanted = Type::Tuple(types.to_vec());
    match parse_wave(text, &wanted)? {
        Value::Tuple(values) => Ok(values),
        _ => Err(format!("expected {wanted}")),
    }
}

/// Splits a call such as `scale(7, 2.5)` into the function's name and the text of each argument. A name alone is a call without arguments.
pub(crate) fn parse_call(text: &str) -> Result<(String, Vec<String>), String> {
    let Some(open) = text.find('(') else {
        return Ok((text.trim().to_owned(), Vec::new()));
    };
    let name = text[..open].trim().to_owned();
    // The name may be a component path, which WAVE does not know; its place is held by a plain one.
    let stand_in = format!("f{}", &text[open..]);
    let call = UntypedFuncCall::parse(&stand_in).map_err(|e| first_line(&e.to_string()).to_owned())?;
    let Some(params) = call.params_node() else {
        return Ok((name, Vec::new()));
    };
    let args = params.as_tuple().map_err(|e| first_line(&e.to_string()).to_owned())?;
    Ok((name, args.map(|node| stand_in[node.span()].to_owned()).collect()))
}

/// The WAVE text of a value, on one line.
pub(crate) fn to_wave(value: &Value) -> String {
    wasm_wave::to_string(value).expect("writing to a string does not fail, and every kind of Value has a WAVE form")
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

impl WasmType for Type {
    fn kind(&self) -> WasmTypeKind {
        match self {
            Type::Bool => WasmTypeKind::Bool,
            Type::S8 => WasmTypeKind::S8,
            Type::U8 => WasmTypeKind::U8,
            Type::S16 => WasmTypeKind::S16,
            Type::U16 => WasmTypeKind::U16,
            Type::S32 => WasmTypeKind::S32,
            Type::U32 => WasmTypeKind::U32,
            Type::S64 => WasmTypeKind::S64,
            Type::U64 => WasmTypeKind::U64,
            Type::F32 => WasmTypeKind::F32,
            Type::F64 => WasmTypeKind::F64,
            Type::Char => WasmTypeKind::Char,
            Type::String => WasmTypeKind::String,
            Type::List(_) | Type::FixedList(..) => WasmTypeKind::List,
            Type::Record(_) => WasmTypeKind::Record,
            Type::Tuple(_) => WasmTypeKind::Tuple,
            Type::Variant(_) => WasmTypeKind::Variant,
            Type::Enum(_) => WasmTypeKind::Enum,
            Type::Option(_) => WasmTypeKind::Option,
            Type::Result(..) => WasmTypeKind::Result,
            Type::Flags(_) => WasmTypeKind::Flags,
            Type::Unsupported(_) => WasmTypeKind::Unsupported,
        }
    }

    fn list_element_type(&self) -> Option<Self> {
        match self {
            Type::List(t) | Type::FixedList(t, _) => Some((**t).clone()),
            _ => None,
        }
    }

    fn record_fields(&self) -> Box<dyn Iterator<Item = (Cow<'_, str>, Self)> + '_> {
        match self {
            Type::Record(fields) => Box::new(fields.iter().map(|(n, t)| (n.into(), t.clone()))),
            _ => Box::new(std::iter::empty()),
        }
    }

    fn tuple_element_types(&self) -> Box<dyn Iterator<Item = Self> + '_> {
        match self {
            Type::Tuple(types) => Box::new(types.iter().cloned()),
            _ => Box::new(std::iter::empty()),
        }
    }

    fn variant_cases(&self) -> Box<dyn Iterator<Item = (Cow<'_, str>, Option<Self>)> + '_> {
        match self {
            Type::Variant(cases) => Box::new(cases.iter().map(|(n, t)| (n.into(), t.clone()))),
            _ => Box::new(std::iter::empty()),
        }
    }

    fn enum_cases(&self) -> Box<dyn Iterator<Item = Cow<'_, str>> + '_> {
        match self {
            Type::Enum(names) => Box::new(names.iter().map(Into::into)),
            _ => Box::new(std::iter::empty()),
        }
    }

    fn option_some_type(&self) -> Option<Self> {
        match self {
            Type::Option(t) => Some((**t).clone()),
            _ => None,
        }
    }

    fn result_types(&self) -> Option<(Option<Self>, Option<Self>)> {
        match self {
            Type::Result(ok, err) => Some((ok.as_deref().cloned(), err.as_deref().cloned())),
            _ => None,
        }
    }

    fn flags_names(&self) -> Box<dyn Iterator<Item = Cow<'_, str>> + '_> {
        match self {
            Type::Flags(names) => Box::new(names.iter().map(Into::into)),
            _ => Box::new(std::iter::empty()),
        }
    }
}

/// The `make_*` and `unwrap_*` pairs of the scalar kinds. The writer unwraps only what [`WasmValue::kind`] has named.
macro_rules! scalars {
    ($(($case:ident, $ty:ty, $make:ident, $unwrap:ident)),* $(,)?) => {$(
        fn $make(value: $ty) -> Self {
            Value::$case(value)
        }

        fn $unwrap(&self) -> $ty {
            match self {
                Value::$case(value) => *value,
                other => unreachable!("kind() named {other:?} {}", stringify!($case)),
            }
        }
    )*};
}

fn checked(value: Value, ty: &Type) -> Result<Value, WasmValueError> {
    if value.is_of(ty) {
        Ok(value)
    } else {
        Err(WasmValueError::WrongValueType { ty: ty.to_string(), val: to_wave(&value) })
    }
}

fn boxed(value: Option<Value>) -> Option<Box<Value>> {
    value.map(Box::new)
}

fn borrowed(value: &Option<Box<Value>>) -> Option<Cow<'_, Value>> {
    value.as_deref().map(Cow::Borrowed)
}

impl WasmValue for Value {
    type Type = Type;

    fn kind(&self) -> WasmTypeKind {
        match self {
            Value::Bool(_) => WasmTypeKind::Bool,
            Value::S8(_) => WasmTypeKind::S8,
            Value::U8(_) => WasmTypeKind::U8,
            Value::S16(_) => WasmTypeKind::S16,
            Value::U16(_) => WasmTypeKind::U16,
            Value::S32(_) => WasmTypeKind::S32,
            Value::U32(_) => WasmTypeKind::U32,
            Value::S64(_) => WasmTypeKind::S64,
            Value::U64(_) => WasmTypeKind::U64,
            Value::F32(_) => WasmTypeKind::F32,
            Value::F64(_) => WasmTypeKind::F64,
            Value::Char(_) => WasmTypeKind::Char,
            Value::String(_) => WasmTypeKind::String,
            Value::List(_) => WasmTypeKind::List,
            Value::Record(_) => WasmTypeKind::Record,
            Value::Tuple(_) => WasmTypeKind::Tuple,
            Value::Variant(..) => WasmTypeKind::Variant,
            Value::Enum(_) => WasmTypeKind::Enum,
            Value::Option(_) => WasmTypeKind::Option,
            Value::Result(_) => WasmTypeKind::Result,
            Value::Flags(_) => WasmTypeKind::Flags,
        }
    }

    scalars!(
        (Bool, bool, make_bool, unwrap_bool),
        (S8, i8, make_s8, unwrap_s8),
        (S16, i16, make_s16, unwrap_s16),
        (S32, i32, make_s32, unwrap_s32),
        (S64, i64, make_s64, unwrap_s64),
        (U8, u8, make_u8, unwrap_u8),
        (U16, u16, make_u16, unwrap_u16),
        (U32, u32, make_u32, unwrap_u32),
        (U64, u64, make_u64, unwrap_u64),
        (F32, f32, make_f32, unwrap_f32),
        (F64, f64, make_f64, unwrap_f64),
        (Char, char, make_char, unwrap_char),
    );

    fn make_string(value: Cow<'_, str>) -> Self {
        Value::String(value.into_owned())
    }

    fn make_list(ty: &Type, values: impl IntoIterator<Item = Self>) -> Result<Self, WasmValueError> {
        checked(Value::List(values.into_iter().collect()), ty)
    }

    fn make_record<'a>(ty: &Type, fields: impl IntoIterator<Item = (&'a str, Self)>) -> Result<Self, WasmValueError> {
        let mut given: std::collections::BTreeMap<&str, Value> = fields.into_iter().collect();
        let mut record = Vec::new();
        for (name, field) in ty.record_fields() {
            let value = match given.remove(name.as_ref()) {
                Some(value) => value,
                None if matches!(field, Type::Option(_)) => Value::Option(None),
                None => return Err(WasmValueError::MissingField(name.into_owned())),
            };
            record.push((name.into_owned(), value));
        }
        match given.into_keys().next() {
            Some(unknown) => Err(WasmValueError::UnknownField(unknown.to_owned())),
            None => checked(Value::Record(record), ty),
        }
    }

    fn make_tuple(ty: &Type, values: impl IntoIterator<Item = Self>) -> Result<Self, WasmValueError> {
        checked(Value::Tuple(values.into_iter().collect()), ty)
    }

    fn make_variant(ty: &Type, case: &str, value: Option<Self>) -> Result<Self, WasmValueError> {
        checked(Value::Variant(case.to_owned(), boxed(value)), ty)
    }

    fn make_enum(ty: &Type, case: &str) -> Result<Self, WasmValueError> {
        match ty.enum_cases().any(|name| name == case) {
            true => Ok(Value::Enum(case.to_owned())),
            false => Err(WasmValueError::UnknownCase(case.to_owned())),
        }
    }

    fn make_option(ty: &Type, value: Option<Self>) -> Result<Self, WasmValueError> {
        checked(Value::Option(boxed(value)), ty)
    }

    fn make_result(ty: &Type, value: Result<Option<Self>, Option<Self>>) -> Result<Self, WasmValueError> {
        checked(Value::Result(value.map(boxed).map_err(boxed)), ty)
    }

    fn make_flags<'a>(ty: &Type, names: impl IntoIterator<Item = &'a str>) -> Result<Self, WasmValueError> {
        let given: Vec<&str> = names.into_iter().collect();
        if let Some(unknown) = given.iter().find(|n| !ty.flags_names().any(|name| name == **n)) {
            return Err(WasmValueError::UnknownCase((*unknown).to_owned()));
        }
        // In the order of the type, so that equal sets are equal values.
        let set = ty.flags_names().filter(|name| given.contains(&name.as_ref()));
        Ok(Value::Flags(set.map(Cow::into_owned).collect()))
    }

    fn unwrap_string(&self) -> Cow<'_, str> {
        match self {
            Value::String(s) => s.into(),
            other => unreachable!("kind() named {other:?} a string"),
        }
    }

    fn unwrap_list(&self) -> Box<dyn Iterator<Item = Cow<'_, Self>> + '_> {
        match self {
            Value::List(items) => Box::new(items.iter().map(Cow::Borrowed)),
            other => unreachable!("kind() named {other:?} a list"),
        }
    }

    fn unwrap_record(&self) -> Box<dyn Iterator<Item = (Cow<'_, str>, Cow<'_, Self>)> + '_> {
        match self {
            Value::Record(fields) => Box::new(fields.iter().map(|(n, v)| (n.into(), Cow::Borrowed(v)))),
            other => unreachable!("kind() named {other:?} a record"),
        }
    }

    fn unwrap_tuple(&self) -> Box<dyn Iterator<Item = Cow<'_, Self>> + '_> {
        match self {
            Value::Tuple(items) => Box::new(items.iter().map(Cow::Borrowed)),
            other => unreachable!("kind() named {other:?} a tuple"),
        }
    }

    fn unwrap_variant(&self) -> (Cow<'_, str>, Option<Cow<'_, Self>>) {
        match self {
            Value::Variant(case, value) => (case.into(), borrowed(value)),
            other => unreachable!("kind() named {other:?} a variant"),
        }
    }

    fn unwrap_enum(&self) -> Cow<'_, str> {
        match self {
            Value::Enum(case) => case.into(),
            other => unreachable!("kind() named {other:?} an enum"),
        }
    }

    fn unwrap_option(&self) -> Option<Cow<'_, Self>> {
        match self {
            Value::Option(value) => borrowed(value),
            other => unreachable!("kind() named {other:?} an option"),
        }
    }

    fn unwrap_result(&self) -> Result<Option<Cow<'_, Self>>, Option<Cow<'_, Self>>> {
        match self {
            Value::Result(Ok(value)) => Ok(borrowed(value)),
            Value::Result(Err(value)) => Err(borrowed(value)),
            other => unreachable!("kind() named {other:?} a result"),
        }
    }

    fn unwrap_flags(&self) -> Box<dyn Iterator<Item = Cow<'_, str>> + '_> {
        match self {
            Value::Flags(names) => Box::new(names.iter().map(Into::into)),
            other => unreachable!("kind() named {other:?} flags"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text in, the same text out.
    #[track_caller]
    fn round_trip(ty: &Type, text: &str) {
        let value = parse_wave(text, ty).unwrap();
        assert!(value.is_of(ty), "{value:?} is not a {ty}");
        assert_eq!(to_wave(&value), text);
    }

    #[test]
    fn every_kind_of_value_goes_to_wave_and_back() {
        round_trip(&Type::Bool, "true");
        round_trip(&Type::S8, "-128");
        round_trip(&Type::U64, "18446744073709551615");
        round_trip(&Type::F64, "2.5");
        round_trip(&Type::Char, "'é'");
        round_trip(&Type::String, r#""a \"quoted\" line\n""#);
        round_trip(&Type::List(Box::new(Type::U8)), "[1, 2, 255]");
        round_trip(&Type::Record(vec![("a".into(), Type::U8), ("b".into(), Type::String)]), r#"{a: 1, b: "x"}"#);
        round_trip(&Type::Tuple(vec![Type::U8, Type::Bool]), "(1, false)");
        round_trip(&Type::Variant(vec![("none".into(), None), ("some-of".into(), Some(Type::U8))]), "some-of(7)");
        round_trip(&Type::Enum(vec!["red".into(), "green".into()]), "green");
        round_trip(&Type::Option(Box::new(Type::U8)), "some(1)");
        round_trip(&Type::Result(Some(Box::new(Type::U8)), None), "ok(1)");
        round_trip(&Type::Flags(vec!["r".into(), "w".into()]), "{r, w}");
    }

    #[test]
    fn a_wrong_value_names_the_expected_type() {
        let error = parse_wave("\"seven\"", &Type::U32).unwrap_err();
        assert!(error.starts_with("expected u32: "), "{error}");
        assert!(parse_wave("300", &Type::U8).is_err());
        assert!(parse_wave("[1, 2]", &Type::FixedList(Box::new(Type::U8), 3)).is_err());
    }

    #[test]
    fn a_call_is_split_into_its_name_and_arguments() {
        let (name, args) = parse_call("demo:math/ops#scale(7, \"a, b\", {x: 1})").unwrap();
        assert_eq!(name, "demo:math/ops#scale");
        assert_eq!(args, ["7", "\"a, b\"", "{x: 1}"]);
        assert_eq!(parse_call("now()").unwrap(), ("now".to_owned(), vec![]));
        assert_eq!(parse_call("now").unwrap(), ("now".to_owned(), vec![]));
        assert!(parse_call("f(1").is_err());
    }
}
