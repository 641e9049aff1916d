//! How to call one function for each record: resolved once, used for many records.

use wasmtime::component::ComponentExportIndex;

use super::failure::{failed, output_limit};
use super::template::StoreTemplate;
use super::values::{ARGUMENT_BYTES_MAX, BYTES_MAX, VALUES_MAX};
use crate::protocol::frame::{self, Kind};
use crate::protocol::message::{self, Failure};
use crate::spec::{Call, Input, ModuleInfo, Output, Role, size};
use crate::value::{
    FuncType, Integers, Param, Type, Value, from_json, from_json_many, parse_many, parse_wave, parse_wave_of,
    to_json, to_wave,
};

/// A call, resolved against the module's types.
pub(super) struct Plan {
    pub(super) call: Call,
    pub(super) ty: FuncType,
    pub(super) is_command: bool,
    /// The fixed values, by position.
    fixed: Vec<Option<Value>>,
    /// The parameters that the record fills.
    free: Vec<Param>,
    integers: Integers,
    /// Bytes or a string in, bytes or a string out: nothing is converted.
    pub(super) fast: Option<FastPath>,
    /// The function in a component.
    pub(super) index: Option<ComponentExportIndex>,
    /// The function in a component that takes many records, if there is one.
    pub(super) many: Option<ComponentExportIndex>,
}

/// The signatures that have a typed call.
#[derive(Clone, Copy)]
pub(super) struct FastPath {
    pub(super) takes_string: bool,
    pub(super) gives_string: bool,
    /// The result is a `result<_, string>` around these bytes or this string.
    pub(super) fallible: bool,
}

impl Plan {
    pub(super) fn new(call: Call, info: &ModuleInfo) -> Result<Plan, String> {
        let export =
            info.exports.iter().find(|e| e.path == call.path).ok_or("the function is not exported")?;
        let ty = export.ty.clone();
        let fixed_value = |(i, p): (usize, &Param)| match call.fixed.get(i).and_then(Option::as_ref) {
            Some(text) => parse_wave(text, &p.ty).map(Some),
            None => Ok(None),
        };
        let fixed: Vec<Option<Value>> =
            ty.params.iter().enumerate().map(fixed_value).collect::<Result<_, _>>()?;
        let free =
            ty.params.iter().zip(&fixed).filter(|(_, v)| v.is_none()).map(|(p, _)| p.clone()).collect();
        let fast = FastPath::of(&call, &ty);
        let (is_command, integers) = (export.role == Role::Command, info.kind.integers());
        Ok(Plan { is_command, call, ty, fixed, free, integers, fast, index: None, many: None })
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
            (Input::Raw, [Param { ty, .. }]) if ty.is_bytes() && record.len() > ARGUMENT_BYTES_MAX => Err(
                format!("beside other arguments, bytes are limited to {}", size(ARGUMENT_BYTES_MAX as u64)),
            ),
            (Input::Raw, [Param { ty, .. }]) if ty.is_bytes() => {
                Ok(vec![Value::List(record.iter().map(|b| Value::U8(*b)).collect())])
            }
            (Input::Wave, [param]) => Ok(vec![parse_wave_of(utf8(record)?, &param.ty, integers)?]),
            (Input::Wave, params) => parse_many(utf8(record)?, params, integers),
            (Input::Json, [param]) => Ok(vec![from_json(utf8(record)?, &param.ty, integers)?]),
            (Input::Json, params) => from_json_many(utf8(record)?, params, integers),
            _ => Err("its parameters cannot be filled from such a record".to_owned()),
        }
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
            (Some(Value::List(items)), Output::Raw) if self.ty.ok_type().is_some_and(Type::is_bytes) => {
                items.iter().filter_map(|v| if let Value::U8(b) = v { Some(*b) } else { None }).collect()
            }
            (Some(value), Output::Json) => to_json(&value),
            (Some(value), Output::Wave | Output::Raw | Output::Stdout) => to_wave(&value).into_bytes(),
        }
    }
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
        let [param] = &ty.params[..] else { return None };
        // Only `result<_, string>`: another error value needs the dynamic call to be shown.
        let (given, fallible) = match &ty.result {
            Some(Type::Result(Some(ok), Some(err))) if **err == Type::String => (&**ok, true),
            Some(other) => (other, false),
            None => return None,
        };
        let is_unconverted =
            call.input == Input::Raw && call.output == Output::Raw && call.fixed.iter().all(Option::is_none);
        (is_unconverted && param.ty.is_bytes_or_string() && given.is_bytes_or_string()).then_some(FastPath {
            takes_string: param.ty == Type::String,
            gives_string: *given == Type::String,
            fallible,
        })
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
