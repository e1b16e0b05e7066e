//! What is behind the lock of [`Queues`](super::Queues): the queues, the newest stretch of the log
//! in memory, the stretches waiting to be written, and the runs. No files here.

use std::{
    collections::VecDeque,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

use hashbrown::{HashMap, hash_map::EntryRef};

use super::{
    Error,
    by_id::ById,
    next_offsets::{NextOffsets, TopicOffsets},
    part::{ListKey, Part},
    run::Run,
    unit::IndexedMessage,
};
use crate::ids::{PhysicalOffset, QueueOffset};

pub(super) struct State {
    segment_bytes: u64,
    topics: HashMap<Arc<str>, Topic>,
    /// `topics` as of the last copy; those in `changed` differ by now.
    snapshot: NextOffsets,
    changed: Vec<Arc<str>>,
    next_topic_number: u32,
    /// Offsets of messages below are in the table already: only their units are missing (lost
    /// runs are being rebuilt from the log).
    counted_to: PhysicalOffset,
    /// Nothing below is served: retention has taken it.
    pub(super) floor: PhysicalOffset,
    pub(super) active: Part,
    /// Oldest first.
    pub(super) frozen: VecDeque<Arc<Part>>,
    /// Oldest first, without gaps between them.
    pub(super) runs: Arc<Vec<Arc<Run>>>,
    /// Counts installs: a file written for an earlier one is not taken in.
    pub(super) epoch: u64,
    /// Files of runs that an install took out; to be deleted.
    pub(super) replaced: Vec<PathBuf>,
}

pub(super) struct Topic {
    name: Arc<str>,
    pub(super) number: u32,
    alive_from: PhysicalOffset,
    changed: bool,
    queues: ById<Queue>,
}

/// 40 bytes with its id; an idle queue owns nothing else.
pub(super) struct Queue {
    pub(super) next: QueueOffset,
    /// Offset of the first unit still there, and where that unit is: one of the two constants
    /// below, or its physical offset + 1. It holds as long as that place is not below the floor.
    /// Readers fill it in, so both are atomic; the place is written last and read first.
    min: AtomicU64,
    min_place: AtomicU64,
    /// Physical offset of the last unit that was read from a run, 0 if none was.
    hint: AtomicU64,
}

const UNKNOWN: u64 = 0;
/// No unit is there: `min` is `next`.
const EMPTY: u64 = u64::MAX;

impl State {
    /// `next` is as of `counted_to`; units are there up to `at`, runs are set by the caller.
    pub(super) fn new(
        segment_bytes: u64,
        at: PhysicalOffset,
        counted_to: PhysicalOffset,
        next: NextOffsets,
    ) -> Self {
        let mut state = Self {
            segment_bytes,
            topics: HashMap::new(),
            snapshot: NextOffsets::default(),
            changed: Vec::new(),
            next_topic_number: 0,
            counted_to,
            floor: PhysicalOffset(0),
            active: Part::new(at),
            frozen: VecDeque::new(),
            runs: Arc::default(),
            epoch: 0,
            replaced: Vec::new(),
        };
        for ((name, offsets), number) in next.topics().zip(0..) {
            let topic = Topic::new(Arc::clone(name), number, offsets);
            state.topics.insert(Arc::clone(name), topic);
            state.next_topic_number = number + 1;
        }
        state.snapshot = next;
        state
    }

    /// Position up to which entries are applied.
    pub(super) fn applied_to(&self) -> PhysicalOffset {
        self.active.to
    }

    /// Checks that the entry is the next one, and closes the part when a segment begins with it.
    pub(super) fn begin_entry(&mut self, entry: &Range<PhysicalOffset>) -> Result<(), Error> {
        let applied_to = self.applied_to();
        let segment_end = applied_to.0.next_multiple_of(self.segment_bytes);
        let next = entry.start == applied_to || entry.start.0 == segment_end;
        if !next || entry.end < entry.start {
            return Err(Error::NotContiguous { applied_to, got: entry.start });
        }
        if entry.start.0 == segment_end {
            self.active.to = entry.start; // with the filler at the end
            self.freeze();
        }
        Ok(())
    }

    pub(super) fn freeze(&mut self) {
        if self.active.from < self.active.to {
            let new = Part::new(self.active.to);
            self.frozen.push_back(Arc::new(std::mem::replace(&mut self.active, new)));
        }
    }

    pub(super) fn add(&mut self, message: &IndexedMessage<'_>) -> Result<(), Error> {
        let counted = message.unit.physical < self.counted_to;
        let topic = match self.topics.entry_ref(message.topic) {
            EntryRef::Occupied(known) => known.into_mut(),
            // counted, but not in the table: its topic was deleted later on
            EntryRef::Vacant(_) if counted => return Ok(()),
            EntryRef::Vacant(vacant) => {
                let name: Arc<str> = message.topic.into();
                let number = self.next_topic_number;
                self.next_topic_number += 1;
                let new = Topic::new(Arc::clone(&name), number, &TopicOffsets::default());
                vacant.insert_with_key(name, new)
            }
        };
        let known = topic.queues.get(message.queue_id).is_some();
        if counted && (message.unit.physical < topic.alive_from || !known) {
            return Ok(()); // likewise
        }
        let key = ListKey { topic_number: topic.number, queue_id: message.queue_id };
        let queue = topic.queues.get_or_insert(message.queue_id, Queue::new_empty);
        let expected = match (counted, self.active.list(key)) {
            (true, Some(list)) => list.end(),
            (true, None) => message.queue_offset,
            (false, _) => queue.next,
        };
        if message.queue_offset != expected {
            let (topic, queue_id) = (message.topic.to_owned(), message.queue_id);
            return Err(Error::NotDense { topic, queue_id, expected, got: message.queue_offset });
        }
        if !counted {
            queue.next.0 += 1;
            if *queue.min_place.get_mut() == EMPTY {
                *queue.min_place.get_mut() = message.unit.physical.0 + 1;
            }
            if !std::mem::replace(&mut topic.changed, true) {
                self.changed.push(Arc::clone(&topic.name));
            }
        }
        self.active.push(&topic.name, key, message);
        Ok(())
    }

    pub(super) fn forget_topic(&mut self, name: &str, at: PhysicalOffset) {
        let Some(topic) = self.topics.get_mut(name) else { return };
        if at <= topic.alive_from {
            return; // replayed: the table knows
        }
        self.active.forget_topic(topic.number);
        if !topic.changed {
            self.changed.push(Arc::clone(&topic.name));
        }
        let (name, number) = (Arc::clone(&topic.name), self.next_topic_number);
        *topic = Topic::new(name, number, &TopicOffsets { alive_from: at, next: ById::default() });
        topic.changed = true;
        self.next_topic_number += 1;
    }

    /// The next offsets as of now. Costs what changed since the last call.
    pub(super) fn next_offsets(&mut self) -> NextOffsets {
        for name in std::mem::take(&mut self.changed) {
            if let Some(topic) = self.topics.get_mut(&name) {
                topic.changed = false;
                let next = topic.queues.iter().map(|(id, queue)| (id, queue.next)).collect();
                let offsets = TopicOffsets { alive_from: topic.alive_from, next };
                self.snapshot.put(name, offsets);
            }
        }
        self.snapshot.clone()
    }

    /// Raises the floor and forgets deleted topics of which nothing can be left.
    pub(super) fn raise_floor(&mut self, to: PhysicalOffset) {
        if to <= self.floor {
            return;
        }
        self.floor = to;
        let gone = |topic: &Topic| topic.queues.is_empty() && topic.alive_from <= to;
        let snapshot = &mut self.snapshot;
        self.topics.retain(|name, topic| {
            if gone(topic) {
                snapshot.remove(name);
            }
            !gone(topic)
        });
    }

    pub(super) fn queue(&self, topic: &str, queue_id: u32) -> Option<(&Topic, &Queue)> {
        let topic = self.topics.get(topic)?;
        Some((topic, topic.queues.get(queue_id)?))
    }

    /// First position whose messages of the topic count.
    pub(super) fn alive_from(&self, topic: &str) -> PhysicalOffset {
        self.topics.get(topic).map_or(self.floor, |topic| self.alive_from_of(topic))
    }

    pub(super) fn alive_from_of(&self, topic: &Topic) -> PhysicalOffset {
        topic.alive_from.max(self.floor)
    }

    /// Smallest offset of the queue, if it is known.
    pub(super) fn known_min(&self, topic: &Topic, queue: &Queue) -> Option<QueueOffset> {
        let place = queue.min_place.load(Acquire);
        (place > self.alive_from_of(topic).0).then(|| QueueOffset(queue.min.load(Relaxed)))
    }

    /// Keeps the first unit of a queue, or that it has none, as a reader found it without the
    /// lock. All who find it above the same floor find the same, so writers cannot contradict each
    /// other; what was found above an older floor, or while units are still missing, is not kept.
    pub(super) fn keep_min(&self, queue: &Queue, min: QueueOffset, at: Option<PhysicalOffset>) {
        let holds = at.map_or(min == queue.next, |at| at >= self.floor);
        if holds && self.is_complete() {
            queue.min.store(min.0, Relaxed);
            queue.min_place.store(at.map_or(EMPTY, |at| at.0 + 1), Release);
        }
    }

    /// Whether all units up to the end are there (again).
    pub(super) fn is_complete(&self) -> bool {
        self.applied_to() >= self.counted_to
    }

    /// Estimate of the heap held. Bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        let topics = self.topics.capacity() * (size_of::<(Arc<str>, Topic)>() + 1);
        let queues: usize = self.topics.values().map(|topic| topic.queues.heap_bytes()).sum();
        let names: usize = self.topics.keys().map(|name| name.len() + 16).sum();
        let snapshot: usize =
            self.snapshot.topics().map(|(_, offsets)| offsets.next.heap_bytes() + 120).sum();
        topics + queues + names + snapshot + self.unwritten_bytes()
    }

    /// What of it waits to be written.
    pub(super) fn unwritten_bytes(&self) -> usize {
        let frozen: usize = self.frozen.iter().map(|part| part.heap_bytes()).sum();
        frozen + self.active.heap_bytes()
    }
}

impl Topic {
    fn new(name: Arc<str>, number: u32, offsets: &TopicOffsets) -> Self {
        let queues = offsets.next.iter().map(|(id, next)| (id, Queue::stored(*next))).collect();
        Self { name, number, alive_from: offsets.alive_from, changed: false, queues }
    }
}

impl Queue {
    /// A queue before its first message.
    fn new_empty() -> Self {
        Self { min_place: AtomicU64::new(EMPTY), ..Self::stored(QueueOffset(0)) }
    }

    /// A queue that may have units in runs.
    fn stored(next: QueueOffset) -> Self {
        let (min, min_place) = (AtomicU64::new(0), AtomicU64::new(UNKNOWN));
        Self { next, min, min_place, hint: AtomicU64::new(0) }
    }

    pub(super) fn hint(&self) -> PhysicalOffset {
        PhysicalOffset(self.hint.load(Relaxed))
    }

    pub(super) fn set_hint(&self, last_read: PhysicalOffset) {
        self.hint.store(last_read.0, Relaxed);
    }
}
