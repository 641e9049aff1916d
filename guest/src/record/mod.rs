//! Reads a task's argument from the bytes of its record, and writes its result as bytes.
//!
//! A type is read by `RecordArgument` if it has a rule of its own (bytes, text, numbers), else by
//! `JsonArgument` if serde knows it. `OtherArgument` takes all other types, and gives the compiler a message
//! that lists what is possible.
//!
//! Rust has no specialisation, so method resolution makes the choice, in the expansion of the attribute,
//! where the type is known. For `(&&&argument).decode(..)` the compiler tries the traits of `&&Argument<T>`
//! first, then those of `&Argument<T>`, then those of `Argument<T>`. It takes the first whose bounds hold.
//! Results work the same way, with `RecordValue`, `JsonValue` and `OtherValue`.

mod argument;
mod outcome;
#[cfg(test)]
mod tests;

#[cfg(feature = "json")]
pub use argument::JsonArgument;
pub use argument::{Argument, FromRecord, OtherArgument, RecordArgument};
#[cfg(feature = "json")]
pub use outcome::JsonValue;
pub use outcome::{Hook, OtherValue, Outcome, PlainOutcome, RecordValue, ResultOutcome, Value};
