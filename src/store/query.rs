//! Finding messages other than by their place in a queue: by key, by position, by time. Joins the
//! derived data with the log; every record is checked to be what it was looked up as.

use std::cell::Cell;
use std::ops::RangeInclusive;

use super::{
    CommitLog, MappedBytes,
    queues::{self, Boundary, KeyRange, Queues, Unit},
};
use crate::ids::{PhysicalOffset, QueueOffset};
use crate::protocol::message::{Record, key, key_hash};

/// Size of the smallest record: no topic, body or properties, IPv4 hosts. Bytes.
const RECORD_BYTES_MIN: u32 = 91;

/// Why a time in the log cannot be told, or not be searched for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A message whose time is needed is not as it was applied.
    #[error("the message at position {position} is damaged")]
    Damaged {
        /// Where it starts.
        position: PhysicalOffset,
    },
    /// The derived data.
    #[error(transparent)]
    Queues(#[from] queues::Error),
}

/// Which messages [`by_key`] looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyQuery<'a> {
    /// Their topic.
    pub topic: &'a str,
    /// One of their KEYS, or their UNIQ_KEY.
    pub key: &'a str,
    /// When they were stored. Milliseconds since the epoch.
    pub stored_ms: RangeInclusive<i64>,
    /// Most places returned.
    pub max: usize,
}

/// Where messages may be that have a key, newest first; [`KeyQuery::is_met_by`] tells whether one
/// is there.
pub fn by_key(queues: &Queues, query: &KeyQuery<'_>) -> Result<Vec<PhysicalOffset>, queues::Error> {
    let KeyQuery { topic, key, stored_ms, max } = query;
    let hash = key_hash(topic, key);
    let range = KeyRange { hash, stored_ms: stored_ms.clone(), max: *max };
    let (mut candidates, alive_from) = (queues.by_key(&range)?, queues.alive_from(topic));
    candidates.retain(|at| *at >= alive_from);
    Ok(candidates)
}

impl KeyQuery<'_> {
    /// Whether a stored record is of the topic and has the key.
    pub fn is_met_by(&self, stored: &[u8]) -> bool {
        Record::parse(stored).is_ok_and(|record| has_key(&record, self.topic, self.key))
    }
}

/// Whether a message is of the topic and carries the key.
fn has_key(record: &Record<'_>, topic: &str, wanted: &str) -> bool {
    let properties = record.indexed();
    record.topic() == topic
        && (properties.uniq_key == Some(wanted)
            || properties.keys.into_iter().flat_map(key::split_keys).any(|key| key == wanted))
}

/// The record that starts at `at`; `None` if none does, or if the entry around it is damaged. `at`
/// may be anything, as it comes from clients: a place within a record, beyond `applied_to` or below
/// the start of the log.
pub fn at_position(
    log: &CommitLog,
    applied_to: PhysicalOffset,
    at: PhysicalOffset,
) -> Option<MappedBytes> {
    let size = log.slice(at, 4)?;
    let size = u32::from_be_bytes(*size.first_chunk()?);
    let end = at.0.checked_add(size.into())?;
    if size < RECORD_BYTES_MIN || end > applied_to.0 {
        return None;
    }
    let stored = log.slice(at, size)?;
    let is_one = Record::parse(&stored).is_ok_and(|record| record.physical() == at.0);
    (is_one && log.check_at(at).is_ok()).then_some(stored)
}

/// When the message of a unit was stored; `None` if it is gone. Milliseconds since the epoch.
pub fn store_time(log: &CommitLog, unit: &Unit) -> Result<Option<i64>, Error> {
    let Some(stored) = log.slice(unit.physical, unit.bytes) else { return Ok(None) };
    let whole = Some(&stored).filter(|stored| unit.is_of(stored));
    let record = whole.and_then(|stored| Record::parse(stored).ok());
    let record = record.ok_or(Error::Damaged { position: unit.physical })?;
    Ok(Some(record.store_timestamp()))
}

/// When the first message that is still in the queue was stored; `None` if there is none.
pub fn earliest_store_time(
    queues: &Queues,
    log: &CommitLog,
    topic: &str,
    queue_id: u32,
) -> Result<Option<i64>, Error> {
    let bounds = queues.bounds(topic, queue_id)?;
    let unit = queues.unit(topic, queue_id, bounds.min)?;
    unit.map_or(Ok(None), |unit| store_time(log, &unit))
}

/// Offset by store time, see [`Queues::offset_by_time`]. A search that met damage has no result: it
/// may have gone the wrong way there.
pub fn offset_by_time(
    queues: &Queues,
    log: &CommitLog,
    queue: (&str, u32),
    timestamp: i64,
    boundary: Boundary,
) -> Result<QueueOffset, Error> {
    let (topic, queue_id) = queue;
    let damaged = Cell::new(None);
    let time_of = |unit: &Unit| {
        let time = store_time(log, unit);
        time.unwrap_or_else(|error| {
            damaged.set(Some(error));
            None
        })
    };
    let found = queues.offset_by_time(topic, queue_id, timestamp, boundary, &time_of)?;
    damaged.into_inner().map_or(Ok(found), Err)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::ids::{EntryIndex, StoreId, Term};
    use crate::protocol::message::{Draft, body_crc, records};
    use crate::store::{
        Body, Durability, EntryId, LogOptions, ReplayFrom,
        entry::crc32c,
        files::RealFiles,
        queues::{IndexedMessage, NextOffsets, Options},
        store_file::PreviousLife,
    };

    const SEGMENT_BYTES: u64 = 1 << 20;

    struct Store {
        dir: tempfile::TempDir,
        log: CommitLog,
        queues: Queues,
        next: NextOffsets,
    }

    impl Store {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let options = LogOptions {
                dir: dir.path().join("commitlog"),
                segment_bytes: SEGMENT_BYTES,
                durability: Durability::PageCache,
                store_id: StoreId(1),
                previous_life: PreviousLife::Clean,
                stamp: None,
            };
            let from = ReplayFrom::default();
            let (log, _) = CommitLog::open(Arc::new(RealFiles), options, from, None).unwrap();
            let options =
                Options { dir: dir.path().join("consumequeue"), segment_bytes: SEGMENT_BYTES };
            let retained = PhysicalOffset(0)..PhysicalOffset(0);
            let next = NextOffsets::default();
            let (queues, _) =
                Queues::open(Arc::new(RealFiles), options, retained, next.clone()).unwrap();
            Self { dir, log, queues, next }
        }

        /// An entry of messages (topic, properties), all of queue 0.
        fn append(&mut self, messages: &[(&str, &str)], now_ms: i64) {
            let drafts: Vec<_> = messages.iter().map(|m| draft(m.0, m.1)).collect();
            let id = EntryId { index: self.log.next_index(), term: Term(1) };
            let body = Body::Data { drafts: &drafts, commands: b"commands" };
            let place = &mut |draft: &Draft| self.next.assign(&draft.topic, draft.queue_id);
            let entry = self.log.append(id, body, place, now_ms).unwrap();
            let stored = entry.records();
            let parsed: Vec<_> = records(&stored).map(Result::unwrap).collect();
            let keys: Vec<Vec<u64>> = parsed.iter().map(keys_of).collect();
            let messages: Vec<_> = parsed
                .iter()
                .zip(&keys)
                .map(|(record, keys)| IndexedMessage {
                    topic: record.topic(),
                    queue_id: record.queue_id(),
                    queue_offset: QueueOffset(record.queue_offset()),
                    unit: Unit {
                        physical: PhysicalOffset(record.physical()),
                        bytes: u32::try_from(record.stored_bytes()).unwrap(),
                        crc: crc32c(record.bytes()),
                        ..Unit::default()
                    },
                    store_timestamp: record.store_timestamp(),
                    keys,
                })
                .collect();
            let range = entry.header.position..entry.header.end();
            self.queues.apply(range, messages).unwrap();
        }

        fn found(&self, topic: &str, key: &str, max: usize) -> Vec<u64> {
            let query = KeyQuery { topic, key, stored_ms: 0..=i64::MAX, max };
            let found = by_key(&self.queues, &query).unwrap();
            let record = |at| at_position(&self.log, self.queues.applied_to(), at);
            let records = found.into_iter().filter_map(record).filter(|m| query.is_met_by(m));
            records.map(|m| Record::parse(&m).unwrap().queue_offset()).collect()
        }
    }

    fn keys_of(record: &Record<'_>) -> Vec<u64> {
        let properties = record.indexed();
        let keys = properties.keys.into_iter().flat_map(key::split_keys);
        let keys = keys.chain(properties.uniq_key);
        keys.map(|key| key_hash(record.topic(), key)).collect()
    }

    fn draft(topic: &str, properties: &str) -> Draft {
        let body = Bytes::from_static(b"body");
        Draft {
            topic: topic.into(),
            queue_id: 0,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 0,
            born_host: "127.0.0.1:1".parse().unwrap(),
            store_host: "127.0.0.1:2".parse().unwrap(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body_crc: body_crc(&body),
            body,
            properties: Bytes::copy_from_slice(properties.as_bytes()),
            unique_hash: None,
        }
    }

    #[test]
    fn messages_are_found_by_each_of_their_keys_newest_first() {
        let mut store = Store::new();
        store.append(&[("T", "KEYS\x01a b\x02UNIQ_KEY\x01U1\x02"), ("V", "KEYS\x01a\x02")], 1);
        store.append(&[("T", "KEYS\x01b b\x02UNIQ_KEY\x01b\x02")], 2);
        store.append(&[("T", "TAGS\x01a\x02")], 3);
        let rows = [
            (("T", "a", 9), vec![0]),
            (("T", "b", 9), vec![1, 0]), // once each, whatever the repetition
            (("T", "b", 1), vec![1]),
            (("T", "U1", 9), vec![0]),
            (("V", "a", 9), vec![0]),
            (("V", "b", 9), vec![]),
            (("T", "a b", 9), vec![]),
        ];
        for ((topic, key, max), want) in rows {
            assert_eq!(store.found(topic, key, max), want, "{topic} {key}");
        }
        let query = KeyQuery { topic: "T", key: "b", stored_ms: 0..=1, max: 9 };
        assert_eq!(by_key(&store.queues, &query).unwrap().len(), 1);

        store.queues.forget_topic("T", store.queues.applied_to());
        assert_eq!(store.found("T", "b", 9), [0; 0], "of a deleted topic");
        assert_eq!(store.found("V", "a", 9), [0]);
    }

    #[test]
    fn only_the_start_of_a_committed_record_is_a_record() {
        let mut store = Store::new();
        for now_ms in 0..3 {
            store.append(&[("T", ""), ("T", "KEYS\x01k\x02")], now_ms);
        }
        let applied_to = store.queues.applied_to();
        let mut units = Vec::new();
        store.queues.units("T", 0, QueueOffset(0), 99, &mut units).unwrap();
        let starts: Vec<_> = units.iter().map(|unit| unit.physical).collect();
        let tail = store.log.tail().0;
        let found = (0..tail + 99).map(PhysicalOffset);
        let found = found.filter(|at| at_position(&store.log, applied_to, *at).is_some());
        assert_eq!(found.collect::<Vec<_>>(), starts);
        assert!(at_position(&store.log, applied_to, PhysicalOffset(u64::MAX)).is_none());
        let not_committed = PhysicalOffset(units[5].physical.0 + 20);
        assert!(at_position(&store.log, not_committed, units[5].physical).is_none());
        assert!(at_position(&store.log, not_committed, units[4].physical).is_some());
    }

    #[test]
    fn offsets_are_found_by_the_time_in_the_records() {
        let mut store = Store::new();
        for now_ms in [10, 20, 20, 30] {
            store.append(&[("T", "")], now_ms);
        }
        let rows =
            [(5, 0, 0), (10, 0, 0), (15, 1, 0), (20, 1, 2), (25, 3, 2), (30, 3, 3), (31, 4, 3)];
        for (timestamp, lower, upper) in rows {
            let get = |boundary| {
                offset_by_time(&store.queues, &store.log, ("T", 0), timestamp, boundary).unwrap().0
            };
            assert_eq!((get(Boundary::Lower), get(Boundary::Upper)), (lower, upper), "{timestamp}");
        }
        let earliest = |topic| earliest_store_time(&store.queues, &store.log, topic, 0).unwrap();
        assert_eq!((earliest("T"), earliest("none")), (Some(10), None));
        let nowhere = offset_by_time(&store.queues, &store.log, ("none", 3), 0, Boundary::Upper);
        assert_eq!(nowhere.unwrap(), QueueOffset(0));
        assert_eq!(store.log.first_index(), EntryIndex(0));
    }

    #[test]
    fn damage_moves_no_search_by_time() {
        use std::os::unix::fs::FileExt;
        let mut store = Store::new();
        for now_ms in [10, 20, 30] {
            store.append(&[("T", "")], now_ms);
        }
        let segment = store.dir.path().join("commitlog").join(format!("{:020}", 0));
        let file = std::fs::File::options().read(true).write(true).open(segment).unwrap();
        for n in 0..3 {
            let unit = store.queues.unit("T", 0, QueueOffset(n)).unwrap().unwrap();
            let mut whole = vec![0; unit.bytes as usize];
            file.read_exact_at(&mut whole, unit.physical.0).unwrap();
            for bit in 0..whole.len() * 8 {
                let mut flawed = whole.clone();
                flawed[bit / 8] ^= 1 << (bit % 8);
                file.write_all_at(&flawed, unit.physical.0).unwrap();
                for boundary in [Boundary::Lower, Boundary::Upper] {
                    let found = offset_by_time(&store.queues, &store.log, ("T", 0), 20, boundary);
                    let told = match found {
                        Ok(offset) => offset == QueueOffset(1),
                        Err(Error::Damaged { position }) => position == unit.physical,
                        Err(Error::Queues(_)) => false,
                    };
                    assert!(told, "bit {bit} of message {n}, {boundary:?}");
                }
                let earliest = earliest_store_time(&store.queues, &store.log, "T", 0);
                assert_eq!(earliest.ok(), (n > 0).then_some(Some(10)), "bit {bit}");
            }
            file.write_all_at(&whole, unit.physical.0).unwrap();
        }
    }
}
