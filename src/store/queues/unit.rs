//! What ConsumeQueues and the key index are made of, and what a committed message contributes.

use crate::ids::{PhysicalOffset, QueueOffset};

/// Stored size of a [`Unit`]. Bytes.
pub const UNIT_BYTES: usize = 20;

/// Where one message of a queue lies in the CommitLog, and the hash of its tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// Position of the message record (not of the log entry around it).
    pub physical: PhysicalOffset,
    /// Length of the record.
    pub bytes: u32,
    /// Java hash of the tag, sign-extended; 0 without a tag.
    pub tags_code: i64,
}

impl Unit {
    /// The unit as Java stores it: big-endian position (i64), size (i32), tag code (i64).
    pub fn encode(&self) -> [u8; UNIT_BYTES] {
        let mut out = [0; UNIT_BYTES];
        out[..8].copy_from_slice(&self.physical.0.to_be_bytes());
        out[8..12].copy_from_slice(&self.bytes.to_be_bytes());
        out[12..].copy_from_slice(&self.tags_code.to_be_bytes());
        out
    }

    /// Reads what [`Unit::encode`] wrote. Any 20 bytes are some unit.
    pub fn decode(stored: &[u8; UNIT_BYTES]) -> Self {
        let (physical, rest) = stored.split_first_chunk::<8>().expect("20 bytes hold 8");
        let (bytes, rest) = rest.split_first_chunk::<4>().expect("12 bytes hold 4");
        let (tags_code, _) = rest.split_first_chunk::<8>().expect("8 bytes hold 8");
        Self {
            physical: PhysicalOffset(u64::from_be_bytes(*physical)),
            bytes: u32::from_be_bytes(*bytes),
            tags_code: i64::from_be_bytes(*tags_code),
        }
    }

    /// Position after the record.
    pub fn end(&self) -> PhysicalOffset {
        PhysicalOffset(self.physical.0.saturating_add(u64::from(self.bytes)))
    }
}

/// One committed message, as [`Queues::apply`](super::Queues::apply) takes it.
#[derive(Debug, Clone, Copy)]
pub struct IndexedMessage<'a> {
    /// Topic of the record.
    pub topic: &'a str,
    /// Queue of the record.
    pub queue_id: u32,
    /// Offset that the log's append gave it.
    pub queue_offset: QueueOffset,
    /// Place and tag.
    pub unit: Unit,
    /// When the leader stored it. Milliseconds since the epoch.
    pub store_timestamp: i64,
    /// [`key_hash`](crate::protocol::message::key_hash) of its unique key and each of its keys.
    pub keys: &'a [u64],
}

/// What a queue holds: offsets `min..next`. Both 0 for a queue that never had a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// First offset still there; `next` when retention has taken all.
    pub min: QueueOffset,
    /// Offset that the next message will get.
    pub next: QueueOffset,
}

/// One entry of the key index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyEntry {
    pub(super) hash: u64,
    pub(super) physical: PhysicalOffset,
    pub(super) store_timestamp: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn a_unit_is_what_java_writes() {
        // The last three: vectors/storage-consumequeue-three-units.json, written by Java 5.5.0.
        let rows = [
            (0x1000, 200, 2_598_919, "0000000000001000000000c8000000000027a807"),
            (0x40, 91, -934_813_832, "00000000000000400000005bffffffffc847df78"),
            (0, 242, 2_598_919, "0000000000000000000000f2000000000027a807"),
            (242, 242, 2_598_919, "00000000000000f2000000f2000000000027a807"),
            (484, 242, 2_598_919, "00000000000001e4000000f2000000000027a807"),
        ];
        for (physical, bytes, tags_code, want) in rows {
            let unit = Unit { physical: PhysicalOffset(physical), bytes, tags_code };
            assert_eq!(hex(&unit.encode()), want);
            assert_eq!(Unit::decode(&unit.encode()), unit);
        }
    }
}
