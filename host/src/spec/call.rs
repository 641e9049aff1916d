//! How a function is called: what a record becomes, and what becomes of a result.

use serde::{Deserialize, Serialize};

/// How to call a function for each record of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Call {
    /// The export's path, exactly as in [`ModuleInfo`].
    pub(crate) path: String,
    pub(crate) input: Input,
    pub(crate) output: Output,
    /// The WAVE text of each parameter that is the same for every record, by position; the record fills the others.
    pub(crate) fixed: Vec<Option<String>>,
    /// For a command: the arguments that come before those of the record.
    pub(crate) argv: Vec<String>,
    /// For a command: the exit codes beside 0 with which it has a result.
    pub(crate) ok_exit: Vec<u32>,
    /// Whether to report how long each task took.
    pub(crate) timed: bool,
}

/// How a record becomes arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Input {
    /// The bytes as they are, for the one parameter of type `list<u8>` or `string`.
    Raw,
    /// A WAVE value; for several parameters a WAVE tuple.
    Wave,
    /// A JSON value; for several parameters an array, or an object by parameter name.
    Json,
    /// For a command: on stdin.
    Stdin,
    /// For the command of a Process: stdin is asked for while it is read. The record is empty.
    Asked,
    /// For a command: as one more argument.
    Arg,
    /// For a command: as more arguments, split at white space.
    Words,
}

/// How a result becomes bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Output {
    /// `list<u8>` and `string` as they are; nothing for no result.
    Raw,
    Wave,
    Json,
    /// A command's stdout.
    Stdout,
}
