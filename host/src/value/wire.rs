//! Values as bytes between a worker and the coordinator in mid-task: the arguments and the result of a host
//! function.
//!
//! Bytes and strings travel as they are, all other values as WAVE. A byte in front tells which. No value at
//! all is no bytes.

use super::bound::{VALUES_MAX, is_within};
use super::{Param, Type, Value, parse_wave, to_wave};

/// The value's WAVE text follows.
const WAVE: u8 = b'w';
/// The bytes of a `list<u8>` or a string follow.
const RAW: u8 = b'r';
/// The bytes of a `list<u8>` or a string follow, and the value is `ok` of that.
const RAW_OK: u8 = b'o';

/// The bytes of the arguments of a function with these parameters. The values have the parameters' types.
#[cfg(any(feature = "worker", feature = "fuzzing", test))]
pub(crate) fn args_to_wire(mut args: Vec<Value>, params: &[Param]) -> Result<Vec<u8>, String> {
    match params {
        [] => Ok(Vec::new()),
        [only] => to_wire(args.pop().ok_or("an argument is missing")?, &only.ty),
        _ => to_wire(Value::Tuple(args), &tuple(params)),
    }
}

/// The arguments that these bytes stand for. A worker may have chosen the bytes freely.
pub(crate) fn args_from_wire(bytes: &[u8], params: &[Param]) -> Result<Vec<Value>, String> {
    match params {
        [] if bytes.is_empty() => Ok(Vec::new()),
        [] => Err("the function has no parameters".to_owned()),
        [only] => from_wire(bytes, &only.ty).map(|value| vec![value]),
        _ => match from_wire(bytes, &tuple(params))? {
            Value::Tuple(args) => Ok(args),
            _ => Err("the arguments are no tuple".to_owned()),
        },
    }
}

fn tuple(params: &[Param]) -> Type {
    Type::Tuple(params.iter().map(|param| param.ty.clone()).collect())
}

/// The bytes of a result, which has the type `ty`. `None`: there is none.
pub(crate) fn result_to_wire(result: Option<Value>, ty: Option<&Type>) -> Result<Vec<u8>, String> {
    match (result, ty) {
        (None, None) => Ok(Vec::new()),
        (Some(value), Some(ty)) => to_wire(value, ty),
        (None, Some(_)) | (Some(_), None) => Err("the result does not have its type".to_owned()),
    }
}

/// The result that these bytes stand for.
#[cfg(any(feature = "worker", feature = "fuzzing", test))]
pub(crate) fn result_from_wire(bytes: &[u8], ty: Option<&Type>) -> Result<Option<Value>, String> {
    match ty {
        Some(ty) => from_wire(bytes, ty).map(Some),
        None if bytes.is_empty() => Ok(None),
        None => Err("the function has no result".to_owned()),
    }
}

fn to_wire(value: Value, ty: &Type) -> Result<Vec<u8>, String> {
    let value = match (value, raw_ok(ty)) {
        (Value::Result(Ok(Some(inner))), Some(ty)) => match inner.into_bytes(ty) {
            Ok(bytes) => return Ok(tagged(RAW_OK, &bytes)),
            Err(inner) => Value::Result(Ok(Some(Box::new(inner)))),
        },
        (value, _) => value,
    };
    match value.into_bytes(ty) {
        Ok(bytes) => Ok(tagged(RAW, &bytes)),
        Err(value) if !value.has_at_most(VALUES_MAX) => Err(too_many()),
        Err(value) => Ok(tagged(WAVE, to_wave(&value).as_bytes())),
    }
}

fn from_wire(bytes: &[u8], ty: &Type) -> Result<Value, String> {
    let raw = |bytes: &[u8], ty: &Type| match ty {
        Type::String => std::str::from_utf8(bytes).ok().map(Value::from),
        ty if ty.is_bytes() => Some(Value::from(bytes)),
        _ => None,
    };
    let value = match bytes.split_first() {
        Some((&WAVE, text)) => {
            let text = std::str::from_utf8(text).map_err(|_| "the text is no UTF-8")?;
            // Before the value is built: a few bytes can stand for a large one.
            return if is_within(text, ty, VALUES_MAX) { parse_wave(text, ty) } else { Err(too_many()) };
        }
        Some((&RAW, bytes)) => raw(bytes, ty),
        Some((&RAW_OK, bytes)) => {
            let inner = raw_ok(ty).and_then(|ty| raw(bytes, ty));
            inner.map(|value| Value::Result(Ok(Some(Box::new(value)))))
        }
        Some(_) | None => None,
    };
    value.ok_or_else(|| format!("the bytes are no {ty}"))
}

/// The type inside of `result<list<u8>, ..>` or `result<string, ..>`.
fn raw_ok(ty: &Type) -> Option<&Type> {
    match ty {
        Type::Result(Some(ok), _) if ok.is_bytes_or_string() => Some(ok),
        _ => None,
    }
}

fn tagged(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::with_capacity(bytes.len() + 1);
    all.push(tag);
    all.extend_from_slice(bytes);
    all
}

fn too_many() -> String {
    format!("a value has at most {VALUES_MAX} parts; as bytes or a string alone it could be longer")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(ty: Type) -> Box<Type> {
        Box::new(ty)
    }

    #[test]
    fn x14_every_kind_of_value_crosses_and_comes_back() {
        let bytes = || Type::List(boxed(Type::U8));
        let result = |ok| Type::Result(Some(boxed(ok)), Some(boxed(Type::String)));
        let record = Type::Record(vec![("a".to_owned(), Type::U8), ("b".to_owned(), bytes())]);
        for (ty, text) in [
            (Type::String, "\"a \\\"b\\\"\""),
            (bytes(), "[1, 2, 255]"),
            (result(bytes()), "ok([1, 2])"),
            (result(Type::String), "ok(\"\")"),
            (result(Type::String), "err(\"no\")"),
            (result(Type::U8), "ok(7)"),
            (record, "{a: 1, b: [2, 3]}"),
            (Type::Option(boxed(Type::Char)), "some('x')"),
            (Type::Variant(vec![("one".to_owned(), None), ("two".to_owned(), Some(Type::F32))]), "two(1.5)"),
            (Type::Enum(vec!["red".to_owned()]), "red"),
            (Type::Flags(vec!["x".to_owned(), "y".to_owned()]), "{y}"),
            (Type::Tuple(vec![Type::Bool, Type::S64]), "(true, -7)"),
            (Type::FixedList(boxed(Type::U8), 2), "[1, 2]"),
        ] {
            let value = parse_wave(text, &ty).unwrap();
            let wire = result_to_wire(Some(value.clone()), Some(&ty)).unwrap();
            assert_eq!(result_from_wire(&wire, Some(&ty)), Ok(Some(value.clone())), "{text}");
            for params in [vec![ty.clone()], vec![Type::Bool, ty.clone()]] {
                let args = [Value::Bool(true), value.clone()];
                let args = args[2 - params.len()..].to_vec();
                let params: Vec<Param> = params.into_iter().map(|ty| Param { name: None, ty }).collect();
                let wire = args_to_wire(args.clone(), &params).unwrap();
                assert_eq!(args_from_wire(&wire, &params), Ok(args), "{text}");
            }
        }
        assert_eq!(args_from_wire(&args_to_wire(vec![], &[]).unwrap(), &[]), Ok(vec![]));
        assert_eq!(result_from_wire(&result_to_wire(None, None).unwrap(), None), Ok(None));
    }

    #[test]
    fn x16_bytes_that_are_no_value_are_told() {
        for wire in [&b""[..], b"r\xff", b"w7", b"o", b"x", b"w\xff"] {
            assert!(result_from_wire(wire, Some(&Type::String)).is_err(), "{wire:?}");
        }
        assert!(result_from_wire(b"r", None).is_err() && args_from_wire(b"r", &[]).is_err());
        let many = Type::List(boxed(Type::Record(vec![("a".to_owned(), Type::Option(boxed(Type::U8)))])));
        let text = format!("w[{}]", "{:},".repeat(VALUES_MAX / 2));
        assert!(result_from_wire(text.as_bytes(), Some(&many)).is_err_and(|e| e.contains("parts")));
    }
}
