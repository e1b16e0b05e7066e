//! The next offset of every queue, as a value: what a checkpoint and a Raft snapshot carry, and
//! what the log's append on the leader assigns from.
//!
//! A persistent map of shared per-topic tables: a copy costs a reference count, and the first
//! change to a topic after a copy costs that topic's table (12-16 bytes per queue).

use std::sync::Arc;

use hashbrown::DefaultHashBuilder;
use rpds::HashTrieMapSync;

use super::by_id::ById;
use crate::ids::{PhysicalOffset, QueueOffset};

const FORMAT_VERSION: u32 = 1;

/// Next offsets of all queues, and where deleted topics ended. Cheap to clone.
#[derive(Clone)]
pub struct NextOffsets {
    topics: HashTrieMapSync<Arc<str>, Arc<TopicOffsets>, DefaultHashBuilder>,
}

/// The queues of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct TopicOffsets {
    /// Messages below belong to a deleted topic of the same name. 0: there was none.
    pub(super) alive_from: PhysicalOffset,
    pub(super) next: ById<QueueOffset>,
}

impl NextOffsets {
    /// The offset that the next message of the queue gets.
    pub fn next(&self, topic: &str, queue_id: u32) -> QueueOffset {
        let topic = self.topics.get(topic);
        topic.and_then(|t| t.next.get(queue_id)).copied().unwrap_or_default()
    }

    /// Takes that offset: the following call gives the one after.
    pub fn assign(&mut self, topic: &str, queue_id: u32) -> QueueOffset {
        if let Some(shared) = self.topics.get_mut(topic) {
            return take(Arc::make_mut(shared), queue_id);
        }
        let mut new = TopicOffsets::default();
        let offset = take(&mut new, queue_id);
        self.topics.insert_mut(topic.into(), Arc::new(new));
        offset
    }

    /// The topic was deleted: its queues start at 0 again, and whatever of it lies below `at` is
    /// dead. Without effect for a topic that never had a message.
    pub fn forget_topic(&mut self, topic: &str, at: PhysicalOffset) {
        if let Some(shared) = self.topics.get_mut(topic) {
            let alive_from = shared.alive_from.max(at);
            *shared = Arc::new(TopicOffsets { alive_from, next: ById::default() });
        }
    }

    /// All queues that had a message, topics in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32, QueueOffset)> {
        self.topics.iter().flat_map(|(topic, offsets)| {
            offsets.next.iter().map(move |(queue_id, next)| (&**topic, queue_id, *next))
        })
    }

    pub(super) fn topics(&self) -> impl Iterator<Item = (&Arc<str>, &TopicOffsets)> {
        self.topics.iter().map(|(topic, offsets)| (topic, &**offsets))
    }

    pub(super) fn topic(&self, topic: &str) -> Option<&TopicOffsets> {
        self.topics.get(topic).map(|offsets| &**offsets)
    }

    pub(super) fn put(&mut self, topic: Arc<str>, offsets: TopicOffsets) {
        self.topics.insert_mut(topic, Arc::new(offsets));
    }

    pub(super) fn remove(&mut self, topic: &str) {
        self.topics.remove_mut(topic);
    }

    /// The table as bytes, topics sorted: equal tables have equal bytes. Little endian.
    ///
    /// `version u32 · topics u32 · (name u16+bytes · alive_from u64 · queues u32 ·
    /// (queueId u32 · next u64)…)…`
    pub fn encode(&self) -> Vec<u8> {
        let mut topics: Vec<_> = self.topics().collect();
        topics.sort_unstable_by_key(|(name, _)| *name);
        let mut out = Vec::with_capacity(8 + topics.len() * 64);
        out.extend(FORMAT_VERSION.to_le_bytes());
        out.extend((topics.len() as u32).to_le_bytes());
        for (name, offsets) in topics {
            out.extend((name.len() as u16).to_le_bytes());
            out.extend(name.as_bytes());
            out.extend(offsets.alive_from.0.to_le_bytes());
            out.extend((offsets.next.len() as u32).to_le_bytes());
            for (queue_id, next) in offsets.next.iter() {
                out.extend(queue_id.to_le_bytes());
                out.extend(next.0.to_le_bytes());
            }
        }
        out
    }

    /// Reads what [`NextOffsets::encode`] wrote, here or on another member.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Input { bytes, total: bytes.len() };
        let version = u32::from_le_bytes(input.take()?);
        if version != FORMAT_VERSION {
            return Err(DecodeError::Version(version));
        }
        let mut table = Self::default();
        for _ in 0..u32::from_le_bytes(input.take()?) {
            let (name, offsets) = decode_topic(&mut input)?;
            if table.topics.contains_key(name) {
                return Err(input.bad("a topic twice"));
            }
            table.put(name.into(), offsets);
        }
        if !input.bytes.is_empty() {
            return Err(input.bad("bytes after the end"));
        }
        Ok(table)
    }
}

/// Why bytes are not a table of next offsets.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by another release.
    #[error("next offsets have format version {0}; this release reads {FORMAT_VERSION}")]
    Version(u32),
    /// Not what the format says.
    #[error("next offsets are malformed at byte {at}: {what}")]
    Malformed {
        /// Where.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
}

fn take(topic: &mut TopicOffsets, queue_id: u32) -> QueueOffset {
    let next = topic.next.get_or_insert(queue_id, QueueOffset::default);
    let taken = *next;
    next.0 += 1;
    taken
}

fn decode_topic<'a>(input: &mut Input<'a>) -> Result<(&'a str, TopicOffsets), DecodeError> {
    let name_bytes = usize::from(u16::from_le_bytes(input.take()?));
    let name = str::from_utf8(input.slice(name_bytes)?).map_err(|_| input.bad("not UTF-8"))?;
    let alive_from = PhysicalOffset(u64::from_le_bytes(input.take()?));
    let queues = u32::from_le_bytes(input.take()?);
    let mut next: Vec<(u32, QueueOffset)> = Vec::new(); // grows with the input, not the claim
    for _ in 0..queues {
        let queue_id = u32::from_le_bytes(input.take()?);
        if next.last().is_some_and(|(before, _)| *before >= queue_id) {
            return Err(input.bad("queue ids not ascending"));
        }
        next.push((queue_id, QueueOffset(u64::from_le_bytes(input.take()?))));
    }
    Ok((name, TopicOffsets { alive_from, next: ById::from_iter(next) }))
}

/// What is left to read.
struct Input<'a> {
    bytes: &'a [u8],
    total: usize,
}

impl<'a> Input<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.bytes.split_first_chunk().ok_or_else(|| self.bad("ends early"))?;
        self.bytes = rest;
        Ok(*head)
    }

    fn slice(&mut self, bytes: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) =
            self.bytes.split_at_checked(bytes).ok_or_else(|| self.bad("ends early"))?;
        self.bytes = rest;
        Ok(head)
    }

    fn bad(&self, what: &'static str) -> DecodeError {
        DecodeError::Malformed { at: self.total - self.bytes.len(), what }
    }
}

impl Default for NextOffsets {
    fn default() -> Self {
        let hasher = DefaultHashBuilder::default();
        Self { topics: HashTrieMapSync::new_with_hasher_and_ptr_kind(hasher) }
    }
}

impl PartialEq for NextOffsets {
    fn eq(&self, other: &Self) -> bool {
        self.topics.size() == other.topics.size()
            && self.topics().all(|(name, offsets)| other.topic(name) == Some(offsets))
    }
}

impl Eq for NextOffsets {}

impl std::fmt::Debug for NextOffsets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.topics()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> NextOffsets {
        let mut table = NextOffsets::default();
        for _ in 0..3 {
            table.assign("orders", 1);
        }
        table.assign("orders", 900);
        table.assign("gone", 0);
        table.forget_topic("gone", PhysicalOffset(4096));
        table
    }

    #[test]
    fn a_copy_does_not_see_later_assignments() {
        let mut table = sample();
        let copy = table.clone();
        assert_eq!(table.assign("orders", 1), QueueOffset(3));
        assert_eq!(table.next("orders", 1), QueueOffset(4));
        assert_eq!(copy.next("orders", 1), QueueOffset(3));
        assert_ne!(table, copy);
    }

    #[test]
    fn a_deleted_topic_starts_at_zero_and_remembers_where_it_ended() {
        let mut table = sample();
        table.forget_topic("never seen", PhysicalOffset(1));
        assert_eq!(table.topic("never seen"), None);
        assert_eq!(table.topic("gone").unwrap().alive_from, PhysicalOffset(4096));
        assert_eq!(table.assign("gone", 0), QueueOffset(0));
        assert_eq!(table.iter().count(), 3);
    }

    #[test]
    fn bytes_read_back_and_every_cut_or_flaw_is_refused() {
        let table = sample();
        let bytes = table.encode();
        assert_eq!(NextOffsets::decode(&bytes), Ok(table));
        for cut in 0..bytes.len() {
            assert!(NextOffsets::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(matches!(NextOffsets::decode(&longer), Err(DecodeError::Malformed { .. })));
        let newer = [&2_u32.to_le_bytes(), &bytes[4..]].concat();
        assert_eq!(NextOffsets::decode(&newer), Err(DecodeError::Version(2)));
    }
}
