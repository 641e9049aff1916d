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
    /// Whether the arguments are one or two of bytes or strings, and the result is bytes or a string. Then no
    /// byte becomes a value of its own.
    pub(crate) fn is_unconverted(&self, ty: &FuncType) -> bool {
        let given = match &ty.result {
            Some(Type::Result(Some(ok), Some(err))) if **err == Type::String => &**ok,
            Some(other) => other,
            None => return false,
        };
        self.input == Input::Raw
            && self.output == Output::Raw
            && matches!(ty.params.len(), 1 | 2)
            && ty.params.iter().all(|param| param.ty.is_bytes_or_string())
            && given.is_bytes_or_string()
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
