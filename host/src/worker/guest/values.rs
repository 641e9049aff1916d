//! Conversions between wpool's values and types and the engine's.

use wasmtime::component::{Val, types};

use crate::spec::{ARGUMENT_BYTES_MAX, FixedArgs, Limits};
use crate::value::{FuncType, NameTables, Param, Type, Value};

/// The most values of a result of bytes that the engine takes apart. They take 32 bytes each, 2 GiB in all.
/// Bytes that are not taken apart can be more.
pub(super) const BYTES_MAX: usize = 64 << 20;
/// The most values of any other result. They take as much again in each form that they have on the way to
/// text.
pub(super) const VALUES_MAX: usize = 16 << 20;

/// Bytes of memory that the values of one result may take. Each value is at least one byte of the result.
pub(super) fn values_len(limits: &Limits, count_max: usize) -> usize {
    limits.output.min(count_max).saturating_mul(size_of::<Val>())
}

/// The largest of these, for any function.
pub(crate) fn values_len_max(limits: &Limits) -> u64 {
    values_len(limits, BYTES_MAX) as u64
}

/// Bytes of memory for the fixed arguments of a worker's plans, and for the arguments of one call as values.
pub(crate) const ARGUMENTS_LEN_MAX: u64 = (FixedArgs::LEN_MAX + ARGUMENT_BYTES_MAX * size_of::<Val>()) as u64;

/// The bytes of a list, or of the list in an `ok`, without a [`Value`] for each byte. `Err`: the value is
/// neither.
pub(super) fn into_bytes(val: Val) -> Result<Vec<u8>, Val> {
    let byte = |val: &Val| if let Val::U8(byte) = val { Some(*byte) } else { None };
    match val {
        Val::List(items) => items.iter().map(byte).collect::<Option<_>>().ok_or(Val::List(items)),
        Val::Result(Ok(Some(list))) => {
            into_bytes(*list).map_err(|list| Val::Result(Ok(Some(Box::new(list)))))
        }
        other => Err(other),
    }
}

/// A type from the engine's description of it.
pub(super) fn ty(of: &types::Type) -> Type {
    use types::Type as T;
    let boxed = |t: Option<types::Type>| t.map(|t| Box::new(ty(&t)));
    match of {
        T::Bool => Type::Bool,
        T::S8 => Type::S8,
        T::U8 => Type::U8,
        T::S16 => Type::S16,
        T::U16 => Type::U16,
        T::S32 => Type::S32,
        T::U32 => Type::U32,
        T::S64 => Type::S64,
        T::U64 => Type::U64,
        T::Float32 => Type::F32,
        T::Float64 => Type::F64,
        T::Char => Type::Char,
        T::String => Type::String,
        T::List(t) => Type::List(Box::new(ty(&t.ty()))),
        T::FixedLengthList(t) => Type::FixedList(Box::new(ty(&t.ty())), t.len()),
        T::Record(t) => Type::Record(t.fields().map(|f| (f.name.to_owned(), ty(&f.ty))).collect()),
        T::Tuple(t) => Type::Tuple(t.types().map(|t| ty(&t)).collect()),
        T::Variant(t) => {
            Type::Variant(t.cases().map(|c| (c.name.to_owned(), c.ty.as_ref().map(ty))).collect())
        }
        T::Enum(t) => Type::Enum(t.names().map(str::to_owned).collect()),
        T::Option(t) => Type::Option(Box::new(ty(&t.ty()))),
        T::Result(t) => Type::Result(boxed(t.ok()), boxed(t.err())),
        T::Flags(t) => Type::Flags(t.names().map(str::to_owned).collect()),
        T::Own(_) => Type::Unsupported("own<resource>".to_owned()),
        T::Borrow(_) => Type::Unsupported("borrow<resource>".to_owned()),
        T::Map(_) => Type::Unsupported("map".to_owned()),
        T::Future(_) => Type::Unsupported("future".to_owned()),
        T::Stream(_) => Type::Unsupported("stream".to_owned()),
        T::ErrorContext => Type::Unsupported("error-context".to_owned()),
    }
}

/// The parameters of a component's function.
fn params(func: &types::ComponentFunc) -> Vec<Param> {
    func.params().map(|(name, t)| Param { name: Some(name.to_owned()), ty: ty(&t) }).collect()
}

/// The type of a component's function.
pub(super) fn func_type(func: &types::ComponentFunc) -> FuncType {
    FuncType { params: params(func), result: func.results().next().map(|t| ty(&t)) }
}

/// A value for the engine. `value` was checked to be one of the type `of`. `names`: the tables
/// of the types of one call.
pub(super) fn to_val<'t>(value: Value, of: &'t Type, names: &NameTables<'t>) -> Val {
    let boxed =
        |v: Option<Box<Value>>, t: Option<&'t Type>| v.zip(t).map(|(v, t)| Box::new(to_val(*v, t, names)));
    match (value, of) {
        (Value::Bool(v), _) => Val::Bool(v),
        (Value::S8(v), _) => Val::S8(v),
        (Value::U8(v), _) => Val::U8(v),
        (Value::S16(v), _) => Val::S16(v),
        (Value::U16(v), _) => Val::U16(v),
        (Value::S32(v), _) => Val::S32(v),
        (Value::U32(v), _) => Val::U32(v),
        (Value::S64(v), _) => Val::S64(v),
        (Value::U64(v), _) => Val::U64(v),
        (Value::F32(v), _) => Val::Float32(v),
        (Value::F64(v), _) => Val::Float64(v),
        (Value::Char(v), _) => Val::Char(v),
        (Value::String(v), _) => Val::String(v),
        (Value::Bytes(v), Type::FixedList(..)) => Val::FixedLengthList(v.into_iter().map(Val::U8).collect()),
        (Value::Bytes(v), _) => Val::List(v.into_iter().map(Val::U8).collect()),
        (Value::List(v), Type::FixedList(t, _)) => {
            Val::FixedLengthList(v.into_iter().map(|v| to_val(v, t, names)).collect())
        }
        (Value::List(v), Type::List(t)) => Val::List(v.into_iter().map(|v| to_val(v, t, names)).collect()),
        (Value::Record(v), Type::Record(fields)) => Val::Record(
            v.into_iter().zip(fields).map(|((name, v), (_, t))| (name, to_val(v, t, names))).collect(),
        ),
        (Value::Tuple(v), Type::Tuple(types)) => {
            Val::Tuple(v.into_iter().zip(types).map(|(v, t)| to_val(v, t, names)).collect())
        }
        (Value::Variant(case, v), Type::Variant(cases)) => {
            let at = names.position(cases, &case, |(name, _)| name);
            let t = at.and_then(|at| cases[at].1.as_ref());
            Val::Variant(case, boxed(v, t))
        }
        (Value::Enum(case), _) => Val::Enum(case),
        (Value::Option(v), Type::Option(t)) => Val::Option(boxed(v, Some(t))),
        (Value::Result(Ok(v)), Type::Result(ok, _)) => Val::Result(Ok(boxed(v, ok.as_deref()))),
        (Value::Result(Err(v)), Type::Result(_, err)) => Val::Result(Err(boxed(v, err.as_deref()))),
        (Value::Flags(v), _) => Val::Flags(v),
        // Arguments are read by their type, so that a value of another type is a bug here, not of the guest.
        (value, of) => unreachable!("{value:?} was checked to be a {of}"),
    }
}

/// A value from the engine's form of it. `None`: it has a handle in it.
pub(super) fn from_val(val: Val) -> Option<Value> {
    fn boxed(v: Option<Box<Val>>) -> Option<Option<Box<Value>>> {
        match v {
            Some(v) => Some(Some(Box::new(from_val(*v)?))),
            None => Some(None),
        }
    }
    fn all(v: Vec<Val>) -> Option<Vec<Value>> {
        v.into_iter().map(from_val).collect()
    }
    Some(match val {
        Val::Bool(v) => Value::Bool(v),
        Val::S8(v) => Value::S8(v),
        Val::U8(v) => Value::U8(v),
        Val::S16(v) => Value::S16(v),
        Val::U16(v) => Value::U16(v),
        Val::S32(v) => Value::S32(v),
        Val::U32(v) => Value::U32(v),
        Val::S64(v) => Value::S64(v),
        Val::U64(v) => Value::U64(v),
        Val::Float32(v) => Value::F32(v),
        Val::Float64(v) => Value::F64(v),
        Val::Char(v) => Value::Char(v),
        Val::String(v) => Value::String(v),
        Val::List(v) | Val::FixedLengthList(v) => Value::List(all(v)?),
        Val::Record(v) => {
            Value::Record(v.into_iter().map(|(n, v)| Some((n, from_val(v)?))).collect::<Option<_>>()?)
        }
        Val::Tuple(v) => Value::Tuple(all(v)?),
        Val::Variant(case, v) => Value::Variant(case, boxed(v)?),
        Val::Enum(case) => Value::Enum(case),
        Val::Option(v) => Value::Option(boxed(v)?),
        Val::Result(Ok(v)) => Value::Result(Ok(boxed(v)?)),
        Val::Result(Err(v)) => Value::Result(Err(boxed(v)?)),
        Val::Flags(v) => Value::Flags(v),
        Val::Resource(_) | Val::Future(_) | Val::Stream(_) | Val::ErrorContext(_) | Val::Map(_) => {
            return None;
        }
    })
}

/// The type of a core value. References and vectors cannot leave their instance.
pub(super) fn core_ty(of: &wasmtime::ValType) -> Type {
    match of {
        wasmtime::ValType::I32 => Type::S32,
        wasmtime::ValType::I64 => Type::S64,
        wasmtime::ValType::F32 => Type::F32,
        wasmtime::ValType::F64 => Type::F64,
        other => Type::Unsupported(other.to_string()),
    }
}

pub(super) fn to_core(value: &Value) -> wasmtime::Val {
    match value {
        Value::S32(v) => wasmtime::Val::I32(*v),
        Value::S64(v) => wasmtime::Val::I64(*v),
        Value::F32(v) => wasmtime::Val::F32(v.to_bits()),
        Value::F64(v) => wasmtime::Val::F64(v.to_bits()),
        other => unreachable!("{other:?} was checked to be a number"),
    }
}

pub(super) fn from_core(val: &wasmtime::Val) -> Option<Value> {
    Some(match val {
        wasmtime::Val::I32(v) => Value::S32(*v),
        wasmtime::Val::I64(v) => Value::S64(*v),
        wasmtime::Val::F32(v) => Value::F32(f32::from_bits(*v)),
        wasmtime::Val::F64(v) => Value::F64(f64::from_bits(*v)),
        _ => return None,
    })
}
