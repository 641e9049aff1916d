//! Values by keys that all tasks see: `multiprocessing.Manager().dict`.

use std::marker::PhantomData;

use super::{AsItem, Error, Transfer};
use crate::host::ipc::dicts;

/// A dict that all tasks see. Each method but [`update`](Dict::update) is one step.
///
/// ```no_run
/// use wpool_guest::ipc::{Dict, Error};
///
/// #[wpool_guest::task]
/// fn count(word: &str) -> Result<(), Error> {
///     let counts = Dict::<u64>::open("counts")?;
///     counts.update(word, |count| Some(count.unwrap_or(0) + 1))
/// }
/// ```
#[derive(Debug)]
pub struct Dict<T> {
    dict: dicts::Dict,
    entries: PhantomData<fn(T) -> T>,
}

impl<T: Transfer> Dict<T> {
    /// Opens the dict of this name.
    ///
    /// # Errors
    /// [`NotGranted`](super::ErrorKind::NotGranted): no dict of this name is shared with this worker.
    pub fn open(name: &str) -> Result<Self, Error> {
        Ok(Dict { dict: dicts::Dict::open(name)?, entries: PhantomData })
    }

    /// The entry of this key.
    pub fn get(&self, key: &str) -> Result<Option<T>, Error> {
        read(self.dict.get(key)?)
    }

    /// Sets the entry of this key. Returns what was there before.
    pub fn put(&self, key: &str, entry: impl AsItem<T>) -> Result<Option<T>, Error> {
        read(self.dict.put(key, &entry.bytes()?)?)
    }

    /// Removes the entry of this key. Returns what was there.
    pub fn remove(&self, key: &str) -> Result<Option<T>, Error> {
        read(self.dict.remove(key)?)
    }

    /// All keys, sorted.
    pub fn keys(&self) -> Result<Vec<String>, Error> {
        Ok(self.dict.keys()?)
    }

    /// The number of entries.
    pub fn len(&self) -> Result<u64, Error> {
        Ok(self.dict.len()?)
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.dict.len()? == 0)
    }

    /// Sets the entry of this key to `new` if it is `expected`. Returns what was there. `None` is no entry.
    pub fn compare_exchange(
        &self,
        key: &str,
        expected: Option<&T>,
        new: Option<&T>,
    ) -> Result<Option<T>, Error> {
        let expected = expected.map(T::encode).transpose()?;
        read(self.exchange(key, expected.as_deref(), new)?)
    }

    /// Sets the entry of this key to what `change` makes of it; `None` is no entry. If another task changes
    /// the entry at the same time, `change` is called again with what that task has left.
    pub fn update(&self, key: &str, mut change: impl FnMut(Option<T>) -> Option<T>) -> Result<(), Error> {
        let mut found = self.dict.get(key)?;
        loop {
            let new = change(read(found.clone())?);
            let other = self.exchange(key, found.as_deref(), new.as_ref())?;
            if other == found {
                return Ok(());
            }
            found = other;
        }
    }

    /// The exchange, with bytes as they are.
    fn exchange(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        new: Option<&T>,
    ) -> Result<Option<Vec<u8>>, Error> {
        let new = new.map(T::encode).transpose()?;
        Ok(self.dict.compare_exchange(key, expected, new.as_deref())?)
    }
}

fn read<T: Transfer>(entry: Option<Vec<u8>>) -> Result<Option<T>, Error> {
    entry.map(T::decode).transpose()
}
