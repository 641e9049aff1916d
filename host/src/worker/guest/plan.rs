//! How to call one function for each record: resolved once, used for many records.

use wasmtime::component::ComponentExportIndex;

use super::failure::{failed, output_limit};
use super::template::StoreTemplate;
use super::values::{BYTES_MAX, VALUES_MAX};
use crate::protocol::frame::{self, Kind};
use crate::protocol::message::{self, Failure};
use crate::spec::{ARGUMENT_BYTES_MAX, Call, DirectResult, FixedForm, Input, ModuleInfo, Output, Role, size};
use crate::value::{
    FuncType, Integers, Param, Type, Value, from_json, from_json_many, parse_many, parse_wave, parse_wave_of,
    to_json, to_wave,
};

/// A call, resolved against the module's types.
pub(super) struct ResolvedPlan {
    pub(super) call: Call,
    pub(super) ty: FuncType,
    pub(super) is_command: bool,
    /// The fixed values, by position. None of a plan with a fast path, which takes their bytes.
    fixed: Vec<Option<Value>>,
    /// The parameters that the record fills.
    free: Vec<Param>,
    integers: Integers,
    /// Bytes or strings in, bytes, a string or a scalar out: no byte is converted.
    pub(super) fast: Option<FastPath>,
    /// The function in a component.
    pub(super) index: Option<ComponentExportIndex>,
    /// The function in a component that takes many records, if there is one.
    pub(super) many: Option<ComponentExportIndex>,
}

/// The signatures that have a typed call.
#[derive(Clone, Copy)]
pub(super) struct FastPath {
    /// Of the one or two parameters.
    pub(super) takes_string: [bool; 2],
    pub(super) gives: DirectResult,
}

impl ResolvedPlan {
    pub(super) fn new(call: Call, info: &ModuleInfo) -> Result<ResolvedPlan, String> {
        let export =
            info.exports.iter().find(|e| e.path == call.path).ok_or("the function is not exported")?;
        let ty = export.ty.clone();
        let free = ty.params.iter().enumerate().filter(|(i, _)| !call.fixed.is_given(*i));
        let free = free.map(|(_, param)| param.clone()).collect();
        let fast = FastPath::of(&call, &ty);
        let fixed = if fast.is_some() { Vec::new() } else { fixed_values(&call, &ty)? };
        let (is_command, integers) = (export.role == Role::Command, info.kind.integers());
        Ok(ResolvedPlan { is_command, call, ty, fixed, free, integers, fast, index: None, many: None })
    }

    /// Whether the result is bytes that are not converted.
    pub(super) fn gives_bytes(&self) -> bool {
        self.call.output == Output::Raw && self.ty.ok_type().is_some_and(Type::is_bytes)
    }

    /// The most values that the result may have.
    pub(super) fn values_max(&self) -> usize {
        if self.gives_bytes() { BYTES_MAX } else { VALUES_MAX }
    }

    /// The function's arguments for a record.
    pub(super) fn arguments(&self, record: &[u8]) -> Result<Vec<Value>, Failure> {
        let values = self.free_values(record).map_err(|message| Failure::BadRecord { message })?;
        let mut free = values.into_iter();
        // A fixed value is cloned for each record: a call consumes its arguments.
        let fill = |v: &Option<Value>| v.clone().or_else(|| free.next());
        self.fixed
            .iter()
            .map(fill)
            .collect::<Option<_>>()
            .ok_or_else(|| Failure::BadRecord { message: "the record has too few values".to_owned() })
    }

    fn free_values(&self, record: &[u8]) -> Result<Vec<Value>, String> {
        let integers = self.integers;
        match (self.call.input, &self.free[..]) {
            (_, []) => Ok(vec![]),
            (Input::Raw, [Param { ty: Type::String, .. }]) => {
                Ok(vec![Value::String(utf8(record)?.to_owned())])
            }
            // The fast path has no such limit: it needs no `Value` for each byte.
            (Input::Raw, [Param { ty, .. }])
                if ty.is_bytes() && record.len() + self.fixed_bytes() > ARGUMENT_BYTES_MAX =>
            {
                let most = size(ARGUMENT_BYTES_MAX as u64);
                Err(format!("beside other arguments, bytes are limited to {most} in all"))
            }
            (Input::Raw, [Param { ty, .. }]) if ty.is_bytes() => Ok(vec![Value::Bytes(record.to_vec())]),
            (Input::Wave, [param]) => Ok(vec![parse_wave_of(utf8(record)?, &param.ty, integers)?]),
            (Input::Wave, params) => parse_many(utf8(record)?, params, integers),
            (Input::Json, [param]) => Ok(vec![from_json(utf8(record)?, &param.ty, integers)?]),
            (Input::Json, params) => from_json_many(utf8(record)?, params, integers),
            _ => Err("its parameters cannot be filled from such a record".to_owned()),
        }
    }

    /// Bytes of the fixed arguments that each call takes apart.
    fn fixed_bytes(&self) -> usize {
        let len = |value: &Value| if let Value::Bytes(bytes) = value { bytes.len() } else { 0 };
        self.fixed.iter().flatten().map(len).sum()
    }

    /// The bytes of the arguments, of a plan with a fast path: one or two.
    pub(super) fn raw_arguments<'p>(&'p self, record: &'p [u8]) -> (&'p [u8], Option<&'p [u8]>) {
        let mut fixed = self.call.fixed.iter();
        let mut next = || fixed.next().flatten().map_or(record, |(_, bytes)| bytes);
        let first = next();
        (first, (self.ty.params.len() == 2).then(next))
    }

    /// The arguments and the standard input of a command for a record.
    pub(super) fn command_input(&self, record: &[u8]) -> Result<(Vec<String>, Vec<u8>), Failure> {
        let text = || utf8(record).map_err(|message| Failure::BadRecord { message });
        let mut argv = self.call.argv.clone();
        match self.call.input {
            Input::Arg => argv.push(argument(text()?)?),
            Input::Words => {
                for word in text()?.split_whitespace() {
                    argv.push(argument(word)?);
                }
            }
            Input::Raw | Input::Wave | Input::Json | Input::Stdin | Input::Asked => {
                return Ok((argv, record.to_vec()));
            }
        }
        Ok((argv, Vec::new()))
    }

    /// Appends the frame for what a function returned. The error of a `result` becomes the task's failure.
    pub(super) fn write_result(
        &self,
        result: Option<Value>,
        template: &StoreTemplate,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let value = match result {
            Some(Value::Result(Err(None))) => {
                return Err(failed("the function returned its error".to_owned()));
            }
            Some(Value::Result(Err(Some(error)))) => {
                return Err(failed(match *error {
                    Value::String(text) => text,
                    other => to_wave(&other),
                }));
            }
            Some(Value::Result(Ok(value))) => value.map(|v| *v),
            other => other,
        };
        write_returned(&self.encode(value), template, out)
    }

    /// The bytes of a result, in the form that the call asks for.
    fn encode(&self, value: Option<Value>) -> Vec<u8> {
        match (value, self.call.output) {
            (None, Output::Json) => b"null".to_vec(),
            (None, _) => Vec::new(),
            (Some(Value::String(text)), Output::Raw) => text.into_bytes(),
            (Some(Value::Bytes(bytes)), Output::Raw) => bytes,
            (Some(Value::List(items)), Output::Raw) if self.ty.ok_type().is_some_and(Type::is_bytes) => {
                items.iter().filter_map(|v| if let Value::U8(b) = v { Some(*b) } else { None }).collect()
            }
            (Some(value), Output::Json) => to_json(&value),
            (Some(value), Output::Wave | Output::Raw | Output::Stdout) => to_wave(&value).into_bytes(),
        }
    }
}

/// The values of the fixed arguments, by position.
fn fixed_values(call: &Call, ty: &FuncType) -> Result<Vec<Option<Value>>, String> {
    let mut fixed: Vec<_> = ty.params.iter().map(|_| None).collect();
    for ((param, arg), value) in ty.params.iter().zip(call.fixed.iter()).zip(&mut fixed) {
        *value = match arg {
            None => None,
            Some((FixedForm::Raw, bytes)) if param.ty.is_bytes() => Some(Value::Bytes(bytes.to_vec())),
            Some((FixedForm::Raw, bytes)) => Some(Value::String(utf8(bytes)?.to_owned())),
            Some((FixedForm::Wave, text)) => Some(parse_wave(utf8(text)?, &param.ty)?),
        };
    }
    Ok(fixed)
}

/// Appends a `Returned` frame. An error if the result is too long.
pub(super) fn write_returned(
    result: &[u8],
    template: &StoreTemplate,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    if result.len() > template.limits.output {
        return Err(output_limit(result.len(), &template.limits));
    }
    match template.placement.put(result) {
        Some(offset) => message::write_placed(out, offset, result.len()),
        None => frame::write(out, Kind::Returned, |out| out.extend_from_slice(result)),
    }
    Ok(())
}

impl FastPath {
    fn of(call: &Call, ty: &FuncType) -> Option<FastPath> {
        let gives = call.unconverted(ty)?;
        let is_string = |position: usize| ty.params.get(position).is_some_and(|p| p.ty == Type::String);
        Some(FastPath { takes_string: [is_string(0), is_string(1)], gives })
    }
}

/// An argument of a command. An error if it has a NUL, where WASI would cut it off.
fn argument(text: &str) -> Result<String, Failure> {
    match text.find('\0') {
        Some(at) => Err(Failure::BadRecord {
            message: format!("an argument must not contain a NUL, and byte {} is one", at + 1),
        }),
        None => Ok(text.to_owned()),
    }
}

pub(super) fn utf8(record: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(record).map_err(|e| match record {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            "expected UTF-8 text, and this is UTF-16 by its byte order mark".to_owned()
        }
        _ => format!("expected UTF-8 text, byte {} is not", e.valid_up_to() + 1),
    })
}
