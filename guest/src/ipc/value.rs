//! A number or bytes that all tasks see: `multiprocessing.Value`.

use std::any::TypeId;
use std::marker::PhantomData;

use super::{AsItem, Error, Transfer};
use crate::host::ipc::values;

/// A value that all tasks see. Each method is one step: nothing comes between its reading and its writing.
///
/// `Value<i64>` is a number. A value of any other type is bytes, as [`Transfer`] says.
///
/// ```no_run
/// use wpool_guest::ipc::{Error, Value};
///
/// #[wpool_guest::task]
/// fn count(line: &str) -> Result<i64, Error> {
///     let words = Value::<i64>::open("words")?;
///     words.add(line.split_whitespace().count() as i64)
/// }
/// ```
#[derive(Debug)]
pub struct Value<T> {
    value: values::Value,
    content: PhantomData<fn(T) -> T>,
}

impl<T: Transfer> Value<T> {
    /// Opens the value of this name.
    ///
    /// # Errors
    /// [`NotGranted`](super::ErrorKind::NotGranted): no value of this name is shared with this worker.
    pub fn open(name: &str) -> Result<Self, Error> {
        Ok(Value { value: values::Value::open(name)?, content: PhantomData })
    }

    /// What the value is now.
    pub fn get(&self) -> Result<T, Error> {
        read(self.value.get()?)
    }

    /// Sets the value.
    pub fn set(&self, new: impl AsItem<T>) -> Result<(), Error> {
        Ok(self.value.set(&content::<T>(new)?)?)
    }

    /// Sets the value to `new` if it is `expected`. Returns what it was.
    pub fn compare_exchange(&self, expected: impl AsItem<T>, new: impl AsItem<T>) -> Result<T, Error> {
        read(self.value.compare_exchange(&content::<T>(expected)?, &content::<T>(new)?)?)
    }
}

impl Value<i64> {
    /// Adds to the number, which wraps around. Returns the sum.
    pub fn add(&self, amount: i64) -> Result<i64, Error> {
        Ok(self.value.add(amount)?)
    }
}

fn is_number<T: 'static>() -> bool {
    TypeId::of::<T>() == TypeId::of::<i64>()
}

fn content<T: Transfer>(new: impl AsItem<T>) -> Result<values::Content, Error> {
    let bytes = new.bytes()?.into_owned();
    // The bytes of an `i64` are its text.
    if is_number::<T>() {
        i64::decode(bytes).map(values::Content::Integer)
    } else {
        Ok(values::Content::Bytes(bytes))
    }
}

fn read<T: Transfer>(content: values::Content) -> Result<T, Error> {
    match content {
        values::Content::Integer(number) if is_number::<T>() => T::decode(number.to_string().into_bytes()),
        values::Content::Bytes(bytes) if !is_number::<T>() => T::decode(bytes),
        values::Content::Integer(_) => Err(Error::decode("the value is a number, not bytes".into())),
        values::Content::Bytes(_) => Err(Error::decode("the value is bytes, not a number".into())),
    }
}
