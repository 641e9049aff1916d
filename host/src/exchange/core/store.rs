//! Items in their order, within bounds: the inside of a queue and of an end of a pipe.

use std::collections::VecDeque;

use super::refusal::Refusal;
use crate::spec::exchange::{Bytes, CREDIT_MAX, Code, Item};

/// In a store without a limit of items: one item for this many of its bytes. Otherwise short items would take
/// much more memory than their bytes.
const BYTES_PER_ITEM: u64 = 32;
/// But at least this many items.
const UNLIMITED_ITEMS_MIN: u64 = 4096;

/// An item with its place in the order in which items were put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    order: u64,
    pub(super) item: Item,
}

#[derive(Debug)]
pub(super) struct Store {
    max_len: u64,
    max_bytes: u64,
    /// By `order`.
    items: VecDeque<Stored>,
    /// Those of `items`, and of the items that are given to members and not acknowledged: they may come back.
    bytes: u64,
    /// What members may post. Nothing else takes its place.
    reserved: u64,
    last: u64,
}

impl Store {
    pub(super) fn new(max_len: Option<u64>, max_bytes: u64) -> Store {
        let max_len = max_len.unwrap_or_else(|| (max_bytes / BYTES_PER_ITEM).max(UNLIMITED_ITEMS_MIN));
        Store { max_len: max_len.max(1), max_bytes, items: VecDeque::new(), bytes: 0, reserved: 0, last: 0 }
    }

    pub(super) fn len(&self) -> u64 {
        self.items.len() as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The items before the first that could never be put. Refused if that is the first of all.
    pub(super) fn admit(&self, mut items: Vec<Bytes>) -> Result<VecDeque<Bytes>, Refusal> {
        match items.iter().position(|data| data.0.len() as u64 > self.max_bytes) {
            Some(0) => Err(Refusal::new(Code::TooLarge, format!("takes {} bytes at most", self.max_bytes))),
            Some(count) => {
                items.truncate(count);
                Ok(items.into())
            }
            None => Ok(items.into()),
        }
    }

    /// Puts the first items, as many as there is room for. Gives their number.
    pub(super) fn put(&mut self, items: &mut VecDeque<Bytes>) -> u64 {
        let mut done = 0;
        while let Some(data) = items.pop_front_if(|data| self.has_room(data)) {
            self.push(data);
            done += 1;
        }
        done
    }

    fn has_room(&self, data: &Bytes) -> bool {
        self.len() < self.max_len && self.bytes + self.reserved + data.0.len() as u64 <= self.max_bytes
    }

    /// What a member may be given to post. It is a part of the room only: there may be hundreds of members.
    pub(super) fn credit(&self) -> u64 {
        CREDIT_MAX.min(self.max_bytes.saturating_sub(self.bytes + self.reserved) / 16)
    }

    pub(super) fn reserve(&mut self, credit: u64) {
        self.reserved += credit;
    }

    pub(super) fn release(&mut self, credit: u64) {
        self.reserved -= credit;
    }

    /// Puts items whose room was reserved.
    pub(super) fn post(&mut self, items: Vec<Bytes>) {
        for data in items {
            self.push(data);
        }
    }

    fn push(&mut self, data: Bytes) {
        self.bytes += data.0.len() as u64;
        self.last += 1;
        self.items.push_back(Stored { order: self.last, item: Item { data, redelivered: false } });
    }

    pub(super) fn first(&self) -> Option<&Item> {
        self.items.front().map(|stored| &stored.item)
    }

    /// Takes the first items: `most` items and `longest` bytes at most.
    pub(super) fn take(&mut self, most: usize, longest: u64) -> Vec<Stored> {
        let mut bytes = 0;
        let fits = |stored: &&Stored| {
            bytes += stored.item.data.0.len() as u64;
            bytes <= longest
        };
        let count = self.items.iter().take(most).take_while(fits).count();
        self.items.drain(..count).collect()
    }

    /// Takes the first item.
    pub(super) fn take_first(&mut self) -> Option<Stored> {
        self.items.pop_front()
    }

    /// Items that were taken will not come back.
    pub(super) fn acknowledge(&mut self, items: &[Stored]) {
        self.bytes -= items.iter().map(|stored| stored.item.data.0.len() as u64).sum::<u64>();
    }

    /// Items that were given come back to where they were.
    pub(super) fn give_back(&mut self, mut items: Vec<Stored>) {
        items.iter_mut().for_each(|stored| stored.item.redelivered = true);
        self.put_back(items);
    }

    /// The same, of items that were given to nothing.
    pub(super) fn put_back(&mut self, items: Vec<Stored>) {
        for stored in items {
            let place = self.items.partition_point(|other| other.order < stored.order);
            self.items.insert(place, stored);
        }
    }

    /// Forgets all items that are here.
    pub(super) fn clear(&mut self) {
        let items: Vec<Stored> = std::mem::take(&mut self.items).into();
        self.acknowledge(&items);
    }

    #[cfg(test)]
    pub(super) fn items(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().map(|stored| &stored.item)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}
