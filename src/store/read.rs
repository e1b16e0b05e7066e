//! What a pull gets: a decision over the bounds and units of a queue, by the rules of the Java
//! broker (store status, next offset, limits). The caller turns the units into bytes of the log.
//!
//! Cost of [`get`]: one lookup of the bounds and one copy of at most [`SCAN_UNITS_MIN`] units
//! (24 bytes each); without a filter only of as many as may be answered.

use smallvec::SmallVec;

use super::queues::{Bounds, Error, Queues, Unit};
use crate::ids::{PhysicalOffset, QueueOffset};

/// Fewest units that a pull with a filter looks at before it gives up for this time.
/// Source: `maxFilterMessageSize` 16000 bytes of ConsumeQueue.
pub const SCAN_UNITS_MIN: usize = 800;

/// What a pull wants.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Next offset of the consumer, as it sent it.
    pub from: i64,
    /// Most messages it takes.
    pub messages_max: u32,
    /// Which it takes.
    pub filter: &'a Filter,
}

/// What an answer may hold, whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Messages. `maxTransferCountOnMessageInMemory`, default 32.
    pub messages: u32,
    /// Bytes of records; the first message passes in any case.
    /// `maxTransferBytesOnMessageInMemory`, default 256 KiB.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { messages: 32, bytes: 256 * 1024 }
    }
}

/// Which messages a consumer takes.
#[derive(Debug, Default)]
pub enum Filter {
    /// All of them.
    #[default]
    All,
    /// Those whose tag has one of these Java hashes (the low half of the unit's tag code). The
    /// consumer compares the tag itself: hashes can collide.
    Tags(SmallVec<[i32; 4]>),
}

impl Filter {
    /// Whether the message of `unit` is wanted.
    pub fn accepts(&self, unit: &Unit) -> bool {
        match self {
            Self::All => true,
            Self::Tags(codes) => codes.contains(&(unit.tags_code as i32)), // the low 32 bits
        }
    }
}

/// What a pull found; the names follow Java's store status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// FOUND.
    Found {
        /// Of the messages to answer with, in order. Never empty.
        units: Vec<Unit>,
        /// Where the consumer goes on.
        next: QueueOffset,
    },
    /// NO_MATCHED_MESSAGE: none of those looked at is wanted.
    NoMatched {
        /// Where the consumer goes on.
        next: QueueOffset,
    },
    /// OFFSET_OVERFLOW_ONE: the consumer has everything; it can wait for the next message.
    NoneYet,
    /// OFFSET_OVERFLOW_BADLY: beyond the end.
    OverflowBadly {
        /// The end.
        next: QueueOffset,
    },
    /// OFFSET_TOO_SMALL: retention has taken what was wanted.
    TooSmall {
        /// The first that is left.
        min: QueueOffset,
    },
    /// NO_MESSAGE_IN_QUEUE: the queue never had a message. The consumer goes on at 0.
    NoMessageInQueue,
    /// OFFSET_FOUND_NULL: the unit is within the bounds but not there. Retention was faster than
    /// this pull; the next one sees other bounds.
    Removing,
}

/// What [`get`] found, with the bounds that it went by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// What to answer.
    pub outcome: Outcome,
    /// Bounds of the queue at that moment.
    pub bounds: Bounds,
}

/// Reads from a queue.
pub fn get(
    queues: &Queues,
    topic: &str,
    queue_id: u32,
    wanted: &Wanted<'_>,
    limits: Limits,
) -> Result<Read, Error> {
    let bounds = queues.bounds(topic, queue_id)?;
    let outcome = match place(bounds, wanted.from) {
        Err(outcome) => outcome,
        Ok(from) => {
            let window = scan_units(wanted, limits);
            let mut units = Vec::with_capacity(window.min((bounds.next.0 - from.0) as usize));
            queues.units(topic, queue_id, from, window, &mut units)?;
            select(units, from, wanted, limits)
        }
    };
    Ok(Read { outcome, bounds })
}

/// Where to read, or why not.
fn place(bounds: Bounds, from: i64) -> Result<QueueOffset, Outcome> {
    let Bounds { min, next } = bounds;
    if next == QueueOffset(0) {
        return Err(Outcome::NoMessageInQueue);
    }
    let from = u64::try_from(from).map(QueueOffset).map_err(|_| Outcome::TooSmall { min })?;
    if from < min {
        return Err(Outcome::TooSmall { min });
    }
    match from.cmp(&next) {
        std::cmp::Ordering::Less => Ok(from),
        std::cmp::Ordering::Equal => Err(Outcome::NoneYet),
        std::cmp::Ordering::Greater => Err(Outcome::OverflowBadly { next }),
    }
}

/// Units to look at. With a filter more than can be answered, so that a consumer of few messages
/// does not need a request for each stretch without one.
fn scan_units(wanted: &Wanted<'_>, limits: Limits) -> usize {
    let answered = answered_max(wanted, limits);
    match wanted.filter {
        Filter::All => answered,
        Filter::Tags(_) => SCAN_UNITS_MIN.max(answered),
    }
}

fn answered_max(wanted: &Wanted<'_>, limits: Limits) -> usize {
    wanted.messages_max.min(limits.messages).max(1) as usize
}

/// Picks from the units at `from` what is wanted, as far as an answer has room. Pure.
fn select(mut units: Vec<Unit>, from: QueueOffset, wanted: &Wanted<'_>, limits: Limits) -> Outcome {
    if units.is_empty() {
        return Outcome::Removing;
    }
    let (messages_max, mut bytes, mut picked, mut seen) = (answered_max(wanted, limits), 0, 0, 0);
    while seen < units.len() && picked < messages_max {
        let unit = units[seen];
        if wanted.filter.accepts(&unit) {
            bytes += u64::from(unit.bytes);
            if picked > 0 && bytes > limits.bytes {
                break;
            }
            units[picked] = unit;
            picked += 1;
        }
        seen += 1;
    }
    let next = QueueOffset(from.0 + seen as u64);
    units.truncate(picked);
    if units.is_empty() { Outcome::NoMatched { next } } else { Outcome::Found { units, next } }
}

/// A stretch of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Where it starts.
    pub physical: PhysicalOffset,
    /// How long it is.
    pub bytes: u32,
    /// How many messages it is.
    pub messages: usize,
}

/// The stretches of the log that hold these messages, in order: messages that lie back to back
/// are one, so that an answer is written from few pieces.
pub fn stretches(units: &[Unit]) -> SmallVec<[Stretch; 4]> {
    let mut out: SmallVec<[Stretch; 4]> = SmallVec::new();
    for unit in units {
        if let Some(last) = out.last_mut()
            && last.physical.0 + u64::from(last.bytes) == unit.physical.0
            && let Some(bytes) = last.bytes.checked_add(unit.bytes)
        {
            last.bytes = bytes;
            last.messages += 1;
            continue;
        }
        out.push(Stretch { physical: unit.physical, bytes: unit.bytes, messages: 1 });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { messages: 4, bytes: 1000 };

    fn bounds(min: u64, next: u64) -> Bounds {
        Bounds { min: QueueOffset(min), next: QueueOffset(next) }
    }

    /// Units of (bytes, tag), back to back.
    fn units(rows: &[(u32, i64)]) -> Vec<Unit> {
        let mut at = 0;
        rows.iter()
            .map(|&(bytes, tags_code)| {
                at += u64::from(bytes);
                let physical = PhysicalOffset(at - u64::from(bytes));
                Unit { physical, bytes, tags_code, crc: 0 }
            })
            .collect()
    }

    #[test]
    fn where_a_pull_reads_follows_the_table_of_store_statuses() {
        let next = QueueOffset;
        let rows = [
            ((0, 0), 0, Err(Outcome::NoMessageInQueue)),
            ((0, 0), 7, Err(Outcome::NoMessageInQueue)),
            ((0, 0), -1, Err(Outcome::NoMessageInQueue)),
            ((5, 9), -1, Err(Outcome::TooSmall { min: next(5) })),
            ((5, 9), i64::MIN, Err(Outcome::TooSmall { min: next(5) })),
            ((5, 9), 4, Err(Outcome::TooSmall { min: next(5) })),
            ((5, 9), 5, Ok(next(5))),
            ((5, 9), 8, Ok(next(8))),
            ((5, 9), 9, Err(Outcome::NoneYet)),
            ((5, 9), 10, Err(Outcome::OverflowBadly { next: next(9) })),
            ((5, 9), i64::MAX, Err(Outcome::OverflowBadly { next: next(9) })),
            ((9, 9), 8, Err(Outcome::TooSmall { min: next(9) })), // all expired
            ((9, 9), 9, Err(Outcome::NoneYet)),
        ];
        for ((min, max), from, want) in rows {
            assert_eq!(place(bounds(min, max), from), want, "{min}..{max} from {from}");
        }
    }

    #[test]
    fn what_is_picked_and_where_the_consumer_goes_on() {
        let tag = |code: i64| (100, code);
        let only = |codes: &[i32]| Filter::Tags(SmallVec::from_slice(codes));
        let rows = [
            // (units, filter, messages wanted, picked, next)
            (vec![tag(1), tag(2)], Filter::All, 32, vec![0, 100], 12),
            (vec![tag(1); 6], Filter::All, 32, vec![0, 100, 200, 300], 14), // limit of messages
            (vec![tag(1); 6], Filter::All, 2, vec![0, 100], 12),
            (vec![tag(1); 6], Filter::All, 0, vec![0], 11), // one in any case
            (vec![(900, 1), (200, 1)], Filter::All, 32, vec![0], 11), // limit of bytes
            (vec![(900, 1), (100, 1)], Filter::All, 32, vec![0, 900], 12), // exactly full
            (vec![(5000, 1), (1, 1)], Filter::All, 32, vec![0], 11), // the first always passes
            (vec![tag(1), tag(2), tag(1)], only(&[2]), 32, vec![100], 13),
            (vec![tag(1), tag(2), tag(1)], only(&[3]), 32, vec![], 13),
            (vec![tag(-5), tag(2)], only(&[-5]), 32, vec![0], 12), // negative hash, sign-extended
            (vec![tag(2), (950, 1), tag(2)], only(&[2]), 32, vec![0, 1050], 13),
        ];
        for (given, filter, messages_max, want, next) in rows {
            let wanted = Wanted { from: 10, messages_max, filter: &filter };
            let case = format!("{given:?} {filter:?}");
            let next = QueueOffset(next);
            match select(units(&given), QueueOffset(10), &wanted, LIMITS) {
                Outcome::Found { units, next: got } => {
                    let picked: Vec<_> = units.iter().map(|unit| unit.physical.0).collect();
                    assert_eq!((picked, got), (want, next), "{case}");
                }
                outcome => {
                    assert_eq!((outcome, want), (Outcome::NoMatched { next }, vec![]), "{case}");
                }
            }
        }
        let wanted = Wanted { from: 0, messages_max: 1, filter: &Filter::All };
        assert_eq!(select(vec![], QueueOffset(0), &wanted, LIMITS), Outcome::Removing);
    }

    #[test]
    fn neighbouring_messages_are_one_stretch() {
        let mut given = units(&[(100, 0), (50, 0), (30, 0)]);
        given[2].physical.0 += 64; // another log entry
        let want = [(0, 150, 2), (214, 30, 1)].map(|(physical, bytes, messages)| {
            let physical = PhysicalOffset(physical);
            Stretch { physical, bytes, messages }
        });
        assert_eq!(stretches(&given).as_slice(), &want);
        assert!(stretches(&[]).is_empty());
    }
}
