//! Units and key entries of one stretch of the log, in memory: the newest stretch, which grows,
//! and those before it that wait to be written as runs and no longer change.

use std::sync::Arc;

use hashbrown::HashMap;

use super::{
    KEYS_INDEXED_MAX,
    unit::{IndexedMessage, KeyEntry, Unit},
};
use crate::ids::{PhysicalOffset, QueueOffset};

/// One stretch `[from, to)` of the log.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) from: PhysicalOffset,
    pub(super) to: PhysicalOffset,
    pub(super) times: Times,
    lists: HashMap<ListKey, List>,
    keys: Vec<KeyEntry>,
    units: usize,
}

/// A queue of one incarnation of a topic: a deleted topic's number is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ListKey {
    pub(super) topic_number: u32,
    pub(super) queue_id: u32,
}

/// Consecutive units of one queue.
#[derive(Debug)]
pub(super) struct List {
    pub(super) topic: Arc<str>,
    pub(super) queue_id: u32,
    pub(super) first: QueueOffset,
    pub(super) units: Vec<Unit>,
}

/// Smallest and largest store timestamp of some messages; `min > max` when there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) min: i64,
    pub(super) max: i64,
}

impl Times {
    pub(super) const NONE: Self = Self { min: i64::MAX, max: i64::MIN };

    pub(super) fn include(&mut self, other: Self) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Whether something may lie in `begin..=end`.
    pub(super) fn overlap(self, begin: i64, end: i64) -> bool {
        self.min <= end && begin <= self.max
    }
}

impl Part {
    pub(super) fn new(from: PhysicalOffset) -> Self {
        let (lists, keys) = (HashMap::new(), Vec::new());
        Self { from, to: from, times: Times::NONE, lists, keys, units: 0 }
    }

    /// Adds a message. Its offset must follow the last one of its list.
    pub(super) fn push(&mut self, topic: &Arc<str>, key: ListKey, message: &IndexedMessage<'_>) {
        let list = self.lists.entry(key).or_insert_with(|| List {
            topic: Arc::clone(topic),
            queue_id: key.queue_id,
            first: message.queue_offset,
            units: Vec::new(),
        });
        debug_assert_eq!(list.end(), message.queue_offset);
        list.units.push(message.unit);
        self.units += 1;
        let at = message.store_timestamp;
        self.times.include(Times { min: at, max: at });
        let keys = message.keys.iter().take(KEYS_INDEXED_MAX);
        self.keys.extend(keys.map(|&hash| KeyEntry {
            hash,
            physical: message.unit.physical,
            store_timestamp: at,
        }));
    }

    pub(super) fn list(&self, key: ListKey) -> Option<&List> {
        self.lists.get(&key)
    }

    /// All lists, ordered as a run stores them.
    pub(super) fn sorted_lists(&self) -> Vec<&List> {
        let mut lists: Vec<_> = self.lists.values().collect();
        lists.sort_unstable_by(|a, b| (&a.topic, a.queue_id).cmp(&(&b.topic, b.queue_id)));
        lists
    }

    /// All key entries, ordered as a run stores them.
    pub(super) fn sorted_keys(&self) -> Vec<KeyEntry> {
        let mut keys = self.keys.clone();
        keys.sort_unstable();
        keys
    }

    /// Entries with this hash, newest first.
    pub(super) fn keys_with(&self, hash: u64) -> impl Iterator<Item = &KeyEntry> {
        self.keys.iter().rev().filter(move |entry| entry.hash == hash)
    }

    /// A deleted topic's units go at once; its key entries stay, readers know that it is dead.
    pub(super) fn forget_topic(&mut self, topic_number: u32) {
        self.lists.retain(|key, _| key.topic_number != topic_number);
        self.units = self.lists.values().map(|list| list.units.len()).sum();
    }

    /// Estimate of the heap held. Bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        let table = self.lists.capacity() * (size_of::<(ListKey, List)>() + 1);
        let keys = self.keys.capacity() * size_of::<KeyEntry>();
        table + keys + self.units * size_of::<Unit>() * 3 / 2 // a growing list has spare room
    }
}

impl List {
    /// The offset after the last unit.
    pub(super) fn end(&self) -> QueueOffset {
        QueueOffset(self.first.0 + self.units.len() as u64)
    }

    /// Whether the unit at that offset is one of them.
    pub(super) fn has(&self, at: QueueOffset) -> bool {
        (self.first..self.end()).contains(&at)
    }

    /// Up to `max` units from `from` on, if `from` is one of them.
    pub(super) fn from(&self, from: QueueOffset, max: usize) -> Option<&[Unit]> {
        let at = usize::try_from(from.0.checked_sub(self.first.0)?).ok()?;
        let units = self.units.get(at..).filter(|units| !units.is_empty())?;
        Some(&units[..max.min(units.len())])
    }
}
