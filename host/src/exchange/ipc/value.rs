//! `Value`: a number or an item that all see.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;

use super::error::IpcError;
use super::transfer::{Transfer, decode, encode};
use crate::exchange::core::event::ObjectSpec;
use crate::exchange::front::{AT_ONCE, Handle, Object, other_answer};
use crate::exchange::host::{HostHandle, make};
use crate::spec::exchange::{Act, Answer, Bytes, Content, ITEM_LEN_MAX};

/// A number or an item that guests and this program see and change: `multiprocessing.Value`. Its clones are
/// the same value.
///
/// A `Value<i64>` is a number, to which all can [`add`](Self::add) at once. Any other type is kept as bytes,
/// as in a [`Queue`](super::Queue).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let found = wpool::ipc::Value::<i64>::new(&0)?;
/// let policy = wpool::Policy::sealed().share("found", &found);
/// assert_eq!(found.add(2)?, 2);
/// assert_eq!(found.compare_exchange(&2, &10)?, 2); // it was 2, so that it is 10 now
/// assert_eq!(found.get()?, 10);
/// # Ok(())
/// # }
/// ```
///
/// Python's `Value` has a lock, and `value += 1` without it loses counts. Here each method is one step that
/// nothing comes between; there is no lock to forget. An `Array` is a `Value` of a vector.
pub struct Value<T> {
    handle: HostHandle,
    content: PhantomData<fn(T) -> T>,
}

impl<T> Value<T> {
    fn of(handle: HostHandle) -> Value<T> {
        Value { handle, content: PhantomData }
    }

    fn ask(&self, act: Act) -> Result<Answer, IpcError> {
        IpcError::check(self.handle.call(act, AT_ONCE))
    }
}

impl<T: Transfer> Value<T> {
    /// A value that holds this at first.
    pub fn new(content: &T) -> Result<Value<T>, IpcError> {
        let content = to_content(content)?;
        Ok(Value::of(make(ObjectSpec::Value { content, max_bytes: ITEM_LEN_MAX as u64 })))
    }

    /// What the value is.
    pub fn get(&self) -> Result<T, IpcError> {
        self.content(Act::Load)
    }

    /// Sets the value.
    pub fn set(&self, new: &T) -> Result<(), IpcError> {
        self.ask(Act::Store { content: to_content(new)? }).map(|_| ())
    }

    /// Sets the value to `new` if it is `expected`. Returns what it was.
    pub fn compare_exchange(&self, expected: &T, new: &T) -> Result<T, IpcError> {
        self.content(Act::Swap { expected: to_content(expected)?, new: to_content(new)? })
    }

    fn content(&self, act: Act) -> Result<T, IpcError> {
        match self.ask(act)? {
            Answer::Content(content) => from_content(content),
            answer => other_answer(&answer),
        }
    }
}

impl Value<i64> {
    /// Adds to the number, which wraps around at its ends. Returns the sum.
    pub fn add(&self, amount: i64) -> Result<i64, IpcError> {
        self.content(Act::Add { amount })
    }
}

fn to_content<T: Transfer>(value: &T) -> Result<Content, IpcError> {
    let any: &dyn Any = value;
    match any.downcast_ref::<i64>() {
        Some(number) => Ok(Content::Integer(*number)),
        None => Ok(Content::Bytes(Bytes(encode(value)?))),
    }
}

fn from_content<T: Transfer>(content: Content) -> Result<T, IpcError> {
    match content {
        // As JSON a number is its digits.
        Content::Integer(number) => decode(number.to_string().into_bytes()),
        Content::Bytes(bytes) => decode(bytes.0),
    }
}

impl<T> Object for Value<T> {
    fn handle(&self) -> Handle<'_> {
        Handle(&self.handle)
    }
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Value<T> {
        Value::of(self.handle.clone())
    }
}

impl<T> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value").field("object", &self.handle.object().id()).finish_non_exhaustive()
    }
}
