//! How a function is called: how a record becomes arguments, and how a result becomes bytes.

use serde::{Deserialize, Serialize};

use super::FixedArgs;
use crate::value::{FuncType, Type};

/// How to call a function for each record of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Call {
    /// The export's path, exactly as in [`ModuleInfo`].
    pub(crate) path: String,
    pub(crate) input: Input,
    pub(crate) output: Output,
    /// The arguments that are the same for every record.
    pub(crate) fixed: FixedArgs,
    /// For a command: the arguments before those of the record.
    pub(crate) argv: Vec<String>,
    /// For a command: the exit codes besides 0 that count as success.
    pub(crate) ok_exit: Vec<u32>,
    /// Whether the worker reports how long each task took.
    pub(crate) timed: bool,
}

/// The most bytes of `list<u8>` arguments that a worker takes apart for one call: each byte is a value of 32
/// bytes then.
pub(crate) const ARGUMENT_BYTES_MAX: usize = 32 << 20;

impl Call {
    /// The result of a function whose arguments are one or two of bytes or strings. `None`: the function has
    /// other arguments or another result, so that each byte becomes a value of its own.
    pub(crate) fn unconverted(&self, ty: &FuncType) -> Option<DirectResult> {
        let takes_bytes = self.input == Input::Raw
            && matches!(ty.params.len(), 1 | 2)
            && ty.params.iter().all(|param| param.ty.is_bytes_or_string());
        let given = DirectResult::of(ty.result.as_ref()).filter(|_| takes_bytes)?;
        (!given.is_bytes_or_text() || self.output == Output::Raw).then_some(given)
    }
}

/// The results that the engine gives without a tree of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DirectResult {
    Nothing,
    Bytes,
    Text,
    /// Bytes, or the text of an error.
    BytesOr,
    /// A string, or the text of an error.
    TextOr,
    Bool,
    S8,
    U8,
    S16,
    U16,
    S32,
    U32,
    S64,
    U64,
    F32,
    F64,
    Char,
}

impl DirectResult {
    fn of(result: Option<&Type>) -> Option<DirectResult> {
        Some(match result {
            None => DirectResult::Nothing,
            Some(Type::String) => DirectResult::Text,
            Some(ty) if ty.is_bytes() => DirectResult::Bytes,
            Some(Type::Result(Some(ok), Some(err))) if **err == Type::String => match &**ok {
                Type::String => DirectResult::TextOr,
                ok if ok.is_bytes() => DirectResult::BytesOr,
                _ => return None,
            },
            Some(Type::Bool) => DirectResult::Bool,
            Some(Type::S8) => DirectResult::S8,
            Some(Type::U8) => DirectResult::U8,
            Some(Type::S16) => DirectResult::S16,
            Some(Type::U16) => DirectResult::U16,
            Some(Type::S32) => DirectResult::S32,
            Some(Type::U32) => DirectResult::U32,
            Some(Type::S64) => DirectResult::S64,
            Some(Type::U64) => DirectResult::U64,
            Some(Type::F32) => DirectResult::F32,
            Some(Type::F64) => DirectResult::F64,
            Some(Type::Char) => DirectResult::Char,
            Some(_) => return None,
        })
    }

    fn is_bytes_or_text(self) -> bool {
        matches!(
            self,
            DirectResult::Bytes | DirectResult::Text | DirectResult::BytesOr | DirectResult::TextOr
        )
    }
}

/// How a record becomes arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Input {
    /// The bytes unchanged, for a function whose only parameter is a `list<u8>` or a `string`.
    Raw,
    /// A WAVE value; a WAVE tuple if there are several parameters.
    Wave,
    /// A JSON value; an array, or an object by parameter name, if there are several parameters.
    Json,
    /// For a command: the record is its stdin.
    Stdin,
    /// For the command of a `Process`: the worker asks for stdin while the guest reads it. The record is
    /// empty.
    Asked,
    /// For a command: the record is one more argument.
    Arg,
    /// For a command: the record is split at white space into more arguments.
    Words,
}

/// How a result becomes bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Output {
    /// A `list<u8>` or `string` unchanged; empty if the function has no result.
    Raw,
    Wave,
    Json,
    /// A command's stdout.
    Stdout,
}
