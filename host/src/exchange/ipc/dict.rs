//! `Dict`: items by keys that all see.

use std::fmt;
use std::marker::PhantomData;

use super::error::IpcError;
use super::transfer::{Transfer, decode, encode};
use crate::exchange::core::event::ObjectSpec;
use crate::exchange::front::{AT_ONCE, Handle, Object, other_answer};
use crate::exchange::host::{HostHandle, make};
use crate::spec::exchange::{Act, Answer, Bytes};

/// Items by keys that guests and this program see and change: `multiprocessing.Manager().dict()`. Its clones
/// are the same dict.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let seen = wpool::ipc::Dict::<u32>::new();
/// let policy = wpool::Policy::sealed().share("seen", &seen);
/// assert_eq!(seen.put("a", &1)?, None);
/// assert_eq!(seen.put("a", &2)?, Some(1));
/// // Only the first of several that do this gets `None`.
/// assert_eq!(seen.compare_exchange("b", None, Some(&1))?, None);
/// assert_eq!(seen.keys()?, ["a", "b"]);
/// assert_eq!(seen.remove("a")?, Some(2));
/// # Ok(())
/// # }
/// ```
///
/// Python's manager is a process of its own, and a change of an object inside of the dict is lost. Here the
/// dict is in this program, an item is replaced as a whole, and the keys come sorted.
pub struct Dict<T> {
    handle: HostHandle,
    items: PhantomData<fn(T) -> T>,
}

impl<T> Dict<T> {
    /// A million: the most entries of a dict, unless [`with_limits`](Self::with_limits) sets another number.
    pub const MAX_LEN: u64 = 1_000_000;
    /// 64 MiB: the most bytes of all keys and items, unless [`with_limits`](Self::with_limits) sets another
    /// number.
    pub const MAX_BYTES: u64 = 64 << 20;

    /// An empty dict.
    #[expect(clippy::new_without_default, reason = "an object of the exchange is made on purpose")]
    pub fn new() -> Dict<T> {
        Dict::with_limits(Dict::<T>::MAX_LEN, Dict::<T>::MAX_BYTES)
    }

    /// An empty dict of `max_len` entries and `max_bytes` bytes at most. What goes beyond is
    /// [`IpcError::TooLarge`].
    pub fn with_limits(max_len: u64, max_bytes: u64) -> Dict<T> {
        Dict::of(make(ObjectSpec::Dict { max_len, max_bytes }))
    }

    fn of(handle: HostHandle) -> Dict<T> {
        Dict { handle, items: PhantomData }
    }

    fn ask(&self, act: Act) -> Result<Answer, IpcError> {
        IpcError::check(self.handle.call(act, AT_ONCE))
    }

    /// All keys, sorted.
    pub fn keys(&self) -> Result<Vec<String>, IpcError> {
        match self.ask(Act::Keys)? {
            Answer::Keys(keys) => Ok(keys),
            answer => other_answer(&answer),
        }
    }

    /// The number of entries.
    ///
    /// # Panics
    ///
    /// In a fork of the program that made the dict; so does `is_empty`.
    pub fn len(&self) -> usize {
        match self.ask(Act::Len) {
            Ok(Answer::Count(count)) => usize::try_from(count).unwrap_or(usize::MAX),
            Ok(answer) => other_answer(&answer),
            Err(error) => panic!("{error}"),
        }
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Transfer> Dict<T> {
    /// The item of a key.
    pub fn get(&self, key: &str) -> Result<Option<T>, IpcError> {
        self.entry(Act::Look { key: key.to_owned() })
    }

    /// Sets the item of a key. Returns what was there.
    pub fn put(&self, key: &str, item: &T) -> Result<Option<T>, IpcError> {
        self.entry(Act::Enter { key: key.to_owned(), data: to_data(Some(item))? })
    }

    /// Removes a key. Returns what was there.
    pub fn remove(&self, key: &str) -> Result<Option<T>, IpcError> {
        self.entry(Act::Enter { key: key.to_owned(), data: None })
    }

    /// Sets the item of a key to `new` if it is `expected`. Returns what was there. `None` is no entry.
    pub fn compare_exchange(
        &self,
        key: &str,
        expected: Option<&T>,
        new: Option<&T>,
    ) -> Result<Option<T>, IpcError> {
        self.entry(Act::SwapEntry { key: key.to_owned(), expected: to_data(expected)?, new: to_data(new)? })
    }

    fn entry(&self, act: Act) -> Result<Option<T>, IpcError> {
        match self.ask(act)? {
            Answer::Entry(data) => data.map(|data| decode(data.0)).transpose(),
            answer => other_answer(&answer),
        }
    }
}

fn to_data<T: Transfer>(item: Option<&T>) -> Result<Option<Bytes>, IpcError> {
    item.map(|item| encode(item).map(Bytes)).transpose()
}

impl<T> Object for Dict<T> {
    fn handle(&self) -> Handle<'_> {
        Handle(&self.handle)
    }
}

impl<T> Clone for Dict<T> {
    fn clone(&self) -> Dict<T> {
        Dict::of(self.handle.clone())
    }
}

impl<T> fmt::Debug for Dict<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dict").field("object", &self.handle.object().id()).finish_non_exhaustive()
    }
}
