//! What applying an entry needs of it, read once: when it is appended, while its bytes are in the
//! processor's cache and as they were checked. By the time a quorum has the entry they no longer
//! are: to read them again would cost a follower half as much as to receive them.
//!
//! Cost per message: one pass over the record's head and properties, one checksum, one hash per
//! key that is indexed; some 80 bytes until it is applied. Per entry, four allocations.

use std::collections::VecDeque;
use std::ops::Range;

use crate::ids::{EntryIndex, PhysicalOffset, QueueOffset};
use crate::protocol::message::key::{TopicKeys, split_keys};
use crate::protocol::message::{RECORD_BYTES_MIN, Record, RecordError, records};
use crate::raft::applied::{AppliedState, QueueAdvance};
use crate::raft::proposal::Place;
use crate::store::entry::{HEADER_BYTES, Header, crc32c};
use crate::store::queues::{IndexedMessage, KEYS_INDEXED_MAX, Unit};

/// What digests that wait may weigh, bytes; entries that come when there are more are read from the
/// log.
const WAITING_BYTES_MAX: usize = 2 << 20;

/// One entry, as far as apply looks at it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Digest {
    /// The entry's.
    pub header: Header,
    /// Encoded; empty if it has none.
    pub commands: Box<[u8]>,
    topics: Vec<Box<str>>,
    messages: Vec<Message>,
    keys: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq)]
struct Message {
    /// In [`Digest::topics`].
    topic: u32,
    queue_id: u32,
    queue_offset: QueueOffset,
    unit: Unit,
    store_timestamp: i64,
    /// In [`Digest::keys`].
    keys: Range<u32>,
    /// The first of these is that of its unique key.
    has_unique_key: bool,
}

impl Digest {
    /// Reads an entry, header and all, whose body has been checked.
    pub(super) fn of(header: &Header, entry: &[u8]) -> Result<Self, RecordError> {
        let messages_end = HEADER_BYTES + header.message_bytes as usize;
        let body_end = HEADER_BYTES + header.body_bytes as usize;
        let stored = entry.get(HEADER_BYTES..messages_end).unwrap_or_default();
        let commands = entry.get(messages_end..body_end).unwrap_or_default().into();
        let count = (header.messages as usize).min(stored.len() / RECORD_BYTES_MIN);
        let mut digest = Self {
            header: *header,
            commands,
            topics: Vec::new(),
            messages: Vec::with_capacity(count),
            keys: Vec::with_capacity(count),
        };
        for record in records(stored) {
            digest.add(&record?);
        }
        Ok(digest)
    }

    fn add(&mut self, record: &Record<'_>) {
        let indexed = record.indexed();
        let from = self.keys.len() as u32; // an entry has less than 4 GiB
        let keys = split_keys(indexed.keys.unwrap_or_default());
        let all = indexed.uniq_key.into_iter().chain(keys).take(KEYS_INDEXED_MAX);
        let hashes = TopicKeys::of(record.topic());
        self.keys.extend(all.map(|key| hashes.hash(key)));
        let message = Message {
            topic: self.topic(record.topic()),
            queue_id: record.queue_id(),
            queue_offset: QueueOffset(record.queue_offset()),
            unit: Unit {
                physical: PhysicalOffset(record.physical()),
                bytes: record.stored_bytes() as u32,
                tags_code: indexed.tags_code(),
                crc: crc32c(record.bytes()),
            },
            store_timestamp: record.store_timestamp(),
            keys: from..self.keys.len() as u32,
            has_unique_key: indexed.uniq_key.is_some_and(|key| !key.is_empty()),
        };
        self.messages.push(message);
    }

    /// Messages that come together mostly have one topic: only the last one is looked at.
    fn topic(&mut self, name: &str) -> u32 {
        if self.topics.last().is_none_or(|last| **last != *name) {
            self.topics.push(name.into());
        }
        self.topics.len() as u32 - 1
    }

    /// The messages, in order.
    pub(super) fn messages(&self) -> impl Iterator<Item = IndexedMessage<'_>> {
        self.messages.iter().map(|message| IndexedMessage {
            topic: &self.topics[message.topic as usize],
            queue_id: message.queue_id,
            queue_offset: message.queue_offset,
            unit: message.unit,
            store_timestamp: message.store_timestamp,
            keys: &self.keys[message.keys.start as usize..message.keys.end as usize],
        })
    }

    /// The messages that have unique keys, by the hashes of these, in order.
    pub(super) fn unique_keys(&self) -> impl Iterator<Item = (u64, &Unit)> {
        self.unique_keys_of(0, u32::MAX)
    }

    /// The same of `count` messages from the `first` on.
    pub(super) fn unique_keys_of(
        &self,
        first: u32,
        count: u32,
    ) -> impl Iterator<Item = (u64, &Unit)> {
        let part = self.messages.iter().skip(first as usize).take(count as usize);
        let keyed = part.filter(|message| message.has_unique_key);
        keyed.map(|message| (self.keys[message.keys.start as usize], &message.unit))
    }

    /// Where the messages are, in order.
    pub(super) fn places(&self) -> Vec<Place> {
        let place = |message: &Message| Place {
            physical: message.unit.physical,
            queue_id: message.queue_id,
            queue_offset: message.queue_offset,
        };
        self.messages.iter().map(place).collect()
    }

    /// When the last message was stored, ms; 0 if there is none.
    pub(super) fn store_timestamp(&self) -> i64 {
        self.messages.last().map_or(0, |last| last.store_timestamp)
    }

    /// The queues that moved; one whose messages lie apart may be named more than once.
    pub(super) fn advances(&self, state: &AppliedState) -> Vec<QueueAdvance> {
        let tables = state.tables();
        let place = |message: &Message| (message.topic, message.queue_id, message.queue_offset);
        let mut moved: Vec<_> = self.messages.iter().map(place).collect();
        moved.sort_unstable();
        let queues = moved.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1));
        let advance = |&(topic, queue_id, last): &(u32, u32, QueueOffset)| {
            let topic = &*self.topics[topic as usize];
            let topic = tables.topic_name(topic).unwrap_or_else(|| topic.into());
            QueueAdvance { topic, queue_id, next: QueueOffset(last.0 + 1) }
        };
        queues.filter_map(<[_]>::last).map(advance).collect()
    }

    /// Memory, bytes.
    fn weight(&self) -> usize {
        let names: usize =
            self.topics.iter().map(|topic| size_of::<Box<str>>() + topic.len()).sum();
        let keys = self.keys.len() * size_of::<u64>();
        let messages = self.messages.len() * size_of::<Message>();
        size_of::<Self>() + self.commands.len() + names + keys + messages
    }
}

/// Digests of the entries at the log's end that are not applied yet, in order, some perhaps missing.
#[derive(Debug, Default)]
pub(super) struct Unapplied {
    digests: VecDeque<Digest>,
    /// Of all of them.
    weight: usize,
}

impl Unapplied {
    /// An entry was appended.
    pub(super) fn push(&mut self, digest: Digest) {
        self.cut(digest.header.index);
        let weight = self.weight + digest.weight();
        if weight <= WAITING_BYTES_MAX || self.digests.is_empty() {
            self.weight = weight;
            self.digests.push_back(digest);
        }
    }

    /// The entries from `index` on are gone.
    pub(super) fn cut(&mut self, index: EntryIndex) {
        while let Some(last) = self.digests.pop_back_if(|last| last.header.index >= index) {
            self.weight -= last.weight();
        }
    }

    /// The first one of `range` that is here, and no longer is; nor are those before it.
    pub(super) fn take(&mut self, range: Range<EntryIndex>) -> Option<Digest> {
        while let Some(first) = self.digests.pop_front_if(|first| first.header.index < range.end) {
            self.weight -= first.weight();
            if first.header.index >= range.start {
                return Some(first);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{StoreId, Term};
    use crate::store::entry::Kind;

    fn digest(index: u64, messages: usize) -> Digest {
        let header = Header {
            total: 64,
            index: EntryIndex(index),
            term: Term(1),
            proposer: StoreId(1),
            position: PhysicalOffset(64 * index),
            kind: Kind::Data,
            messages: messages as u32,
            message_bytes: 0,
            body_bytes: 0,
            body_crc: 0,
        };
        let message = Message {
            topic: 0,
            queue_id: 0,
            queue_offset: QueueOffset(0),
            unit: Unit::default(),
            store_timestamp: 0,
            keys: 0..0,
            has_unique_key: false,
        };
        Digest {
            header,
            commands: Box::default(),
            topics: vec!["T".into()],
            messages: vec![message; messages],
            keys: vec![],
        }
    }

    fn taken(unapplied: &mut Unapplied, from: u64, to: u64) -> Option<u64> {
        let digest = unapplied.take(EntryIndex(from)..EntryIndex(to));
        digest.map(|digest| digest.header.index.0)
    }

    #[test]
    fn digests_are_taken_once_and_those_passed_over_are_gone() {
        let mut unapplied = Unapplied::default();
        [3, 4, 6, 7].into_iter().for_each(|index| unapplied.push(digest(index, 2)));
        assert_eq!(taken(&mut unapplied, 0, 3), None);
        assert_eq!(taken(&mut unapplied, 4, 8), Some(4));
        assert_eq!(taken(&mut unapplied, 3, 6), None);
        assert_eq!(taken(&mut unapplied, 5, 8), Some(6));
        assert_eq!(unapplied.weight, digest(7, 2).weight());
    }

    #[test]
    fn an_entry_takes_the_place_of_those_from_its_index_on() {
        let mut unapplied = Unapplied::default();
        (0..5).for_each(|index| unapplied.push(digest(index, 1)));
        unapplied.push(digest(2, 7));
        assert_eq!(unapplied.weight, 2 * digest(0, 1).weight() + digest(0, 7).weight());
        unapplied.cut(EntryIndex(1));
        assert_eq!(unapplied.weight, digest(0, 1).weight());
        assert_eq!(taken(&mut unapplied, 0, 9), Some(0));
        assert_eq!(unapplied.weight, 0);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut unapplied = Unapplied::default();
        (0..100).for_each(|index| unapplied.push(digest(index, 2000)));
        assert!(unapplied.weight <= WAITING_BYTES_MAX);
        assert_eq!(taken(&mut unapplied, 0, 100), Some(0), "what is applied next");
        let commands = vec![0; WAITING_BYTES_MAX / 10].into();
        let of_commands = Digest { commands, ..digest(0, 0) };
        let mut unapplied = Unapplied::default();
        for index in 0..100 {
            let header = Header { index: EntryIndex(index), ..of_commands.header };
            unapplied.push(Digest { header, ..of_commands.clone() });
        }
        assert!(unapplied.weight <= WAITING_BYTES_MAX);
    }
}
