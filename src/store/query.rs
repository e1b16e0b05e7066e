//! Finding messages other than by their place in a queue: by key, by position, by time. Joins the
//! derived data with the log; every record is checked to be what it was looked up as.

use std::ops::RangeInclusive;

use super::{
    CommitLog, MappedBytes,
    queues::{Boundary, Error, KeyRange, Queues, Unit},
};
use crate::{
    ids::{PhysicalOffset, QueueOffset},
    protocol::message::{Record, key, key_hash},
};

/// Size of the smallest record: no topic, body or properties, IPv4 hosts. Bytes.
const RECORD_BYTES_MIN: u32 = 91;

/// Which messages [`by_key`] looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyQuery<'a> {
    /// Their topic.
    pub topic: &'a str,
    /// One of their KEYS, or their UNIQ_KEY.
    pub key: &'a str,
    /// When they were stored. Milliseconds since the epoch.
    pub stored_ms: RangeInclusive<i64>,
    /// Most messages returned.
    pub max: usize,
    /// Most bytes returned; the first message is returned in any case.
    pub bytes_max: usize,
}

/// Messages with a key, newest first.
pub fn by_key(
    queues: &Queues,
    log: &CommitLog,
    query: &KeyQuery<'_>,
) -> Result<Vec<MappedBytes>, Error> {
    let KeyQuery { topic, key, stored_ms, max, bytes_max } = query;
    let hash = key_hash(topic, key);
    let candidates = queues.by_key(&KeyRange { hash, stored_ms: stored_ms.clone(), max: *max })?;
    let (alive_from, applied_to) = (queues.alive_from(topic), queues.applied_to());
    let (mut found, mut bytes) = (Vec::new(), 0);
    for at in candidates.into_iter().filter(|at| *at >= alive_from) {
        let Some(stored) = at_position(log, applied_to, at) else { continue };
        if !Record::parse(&stored).is_ok_and(|record| has_key(&record, topic, key)) {
            continue;
        }
        bytes += stored.len();
        if bytes > *bytes_max && !found.is_empty() {
            break;
        }
        found.push(stored);
    }
    Ok(found)
}

/// Whether a message is of the topic and carries the key.
fn has_key(record: &Record<'_>, topic: &str, wanted: &str) -> bool {
    let properties = record.indexed();
    record.topic() == topic
        && (properties.uniq_key == Some(wanted)
            || properties.keys.into_iter().flat_map(key::split_keys).any(|key| key == wanted))
}

/// The record that starts at `at`; `None` if none does. `at` may be anything, as it comes from
/// clients: a place within a record, beyond `applied_to` or below the start of the log.
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
    let starts_here = Record::parse(&stored).is_ok_and(|record| record.physical() == at.0);
    starts_here.then_some(stored)
}

/// When the message of a unit was stored; `None` if it is gone. Milliseconds since the epoch.
pub fn store_time(log: &CommitLog, unit: &Unit) -> Option<i64> {
    let stored = log.slice(unit.physical, unit.bytes)?;
    Record::parse(&stored).ok().map(|record| record.store_timestamp())
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
    Ok(unit.and_then(|unit| store_time(log, &unit)))
}

/// Offset by store time, see [`Queues::offset_by_time`].
pub fn offset_by_time(
    queues: &Queues,
    log: &CommitLog,
    queue: (&str, u32),
    timestamp: i64,
    boundary: Boundary,
) -> Result<QueueOffset, Error> {
    let (topic, queue_id) = queue;
    queues.offset_by_time(topic, queue_id, timestamp, boundary, &|unit| store_time(log, unit))
}
