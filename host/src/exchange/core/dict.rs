//! A dict: bytes by keys.

use std::collections::BTreeMap;

use super::event::Actor;
use super::refusal::Refusal;
use super::serve::{Serve, Taken};
use crate::spec::exchange::{Act, Answer, Bytes, Code};

/// Bytes of all keys that one answer gives: they must fit into a frame.
const KEYS_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug)]
pub(super) struct Dict {
    entries: BTreeMap<String, Bytes>,
    max_len: u64,
    max_bytes: u64,
    /// Of all keys and entries.
    bytes: u64,
    key_bytes: u64,
}

impl Dict {
    pub(super) fn new(max_len: u64, max_bytes: u64) -> Dict {
        Dict { entries: BTreeMap::new(), max_len, max_bytes, bytes: 0, key_bytes: 0 }
    }

    fn enter(&mut self, key: String, data: Option<Bytes>) -> Result<Answer, Refusal> {
        let old = match data {
            Some(data) => self.put(key, data)?,
            None => self.remove(&key),
        };
        Ok(Answer::Entry(old))
    }

    fn put(&mut self, key: String, data: Bytes) -> Result<Option<Bytes>, Refusal> {
        let len = data.0.len() as u64;
        let rest = match self.entries.get(&key) {
            Some(old) => self.bytes - old.0.len() as u64,
            None if self.entries.len() as u64 >= self.max_len => {
                let why = format!("has {} entries, the most that it takes", self.max_len);
                return Err(Refusal::new(Code::TooLarge, why));
            }
            None => self.bytes + key.len() as u64,
        };
        if rest + len > self.max_bytes {
            let why = format!("takes {} bytes at most, all keys and entries together", self.max_bytes);
            return Err(Refusal::new(Code::TooLarge, why));
        }
        self.bytes = rest + len;
        let key_len = key.len() as u64;
        let old = self.entries.insert(key, data);
        self.key_bytes += if old.is_none() { key_len } else { 0 };
        Ok(old)
    }

    fn remove(&mut self, key: &str) -> Option<Bytes> {
        let old = self.entries.remove(key)?;
        self.bytes -= (key.len() + old.0.len()) as u64;
        self.key_bytes -= key.len() as u64;
        Some(old)
    }

    fn swap(&mut self, key: String, expected: Option<&Bytes>, new: Option<Bytes>) -> Result<Answer, Refusal> {
        let old = self.entries.get(&key);
        if old == expected { self.enter(key, new) } else { Ok(Answer::Entry(old.cloned())) }
    }

    fn keys(&self) -> Result<Answer, Refusal> {
        if self.key_bytes > KEYS_BYTES_MAX {
            return Err(Refusal::new(Code::TooLarge, "has more keys than one answer can give"));
        }
        Ok(Answer::Keys(self.entries.keys().cloned().collect()))
    }
}

impl Serve for Dict {
    fn act(&mut self, _actor: Actor, act: Act) -> Taken {
        Taken::Now(match act {
            Act::Look { key } => Ok(Answer::Entry(self.entries.get(&key).cloned())),
            Act::Enter { key, data } => self.enter(key, data),
            Act::SwapEntry { key, expected, new } => self.swap(key, expected.as_ref(), new),
            Act::Keys => self.keys(),
            Act::Len => Ok(Answer::Count(self.entries.len() as u64)),
            _ => Err(Refusal::unfit()),
        })
    }
}
