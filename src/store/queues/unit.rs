//! What ConsumeQueues and the key index are made of, and what a committed message contributes.

use crate::ids::{PhysicalOffset, QueueOffset};
use crate::store::entry::crc32c;

/// Stored size of a [`Unit`]. Bytes.
pub const UNIT_BYTES: usize = 24;

/// Where one message of a queue lies in the CommitLog, the hash of its tag, and what the record is
/// known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unit {
    /// Position of the message record (not of the log entry around it).
    pub physical: PhysicalOffset,
    /// Length of the record.
    pub bytes: u32,
    /// Java hash of the tag, sign-extended; 0 without a tag.
    pub tags_code: i64,
    /// CRC-32C of the record: whoever hands it on compares all of its bytes in one go.
    pub crc: u32,
}

impl Unit {
    /// Whether `record` is the message as it was applied.
    pub fn is_of(&self, record: &[u8]) -> bool {
        crc32c(record) == self.crc
    }

    /// The unit as Java stores it: big-endian position (i64), size (i32), tag code (i64); then the
    /// checksum.
    pub fn encode(&self) -> [u8; UNIT_BYTES] {
        let mut out = [0; UNIT_BYTES];
        out[..8].copy_from_slice(&self.physical.0.to_be_bytes());
        out[8..12].copy_from_slice(&self.bytes.to_be_bytes());
        out[12..20].copy_from_slice(&self.tags_code.to_be_bytes());
        out[20..].copy_from_slice(&self.crc.to_be_bytes());
        out
    }

    /// Reads what [`Unit::encode`] wrote. Any 24 bytes are some unit.
    pub fn decode(stored: &[u8; UNIT_BYTES]) -> Self {
        let (physical, rest) = stored.split_first_chunk::<8>().expect("24 bytes hold 8");
        let (bytes, rest) = rest.split_first_chunk::<4>().expect("16 bytes hold 4");
        let (tags_code, rest) = rest.split_first_chunk::<8>().expect("12 bytes hold 8");
        let (crc, _) = rest.split_first_chunk::<4>().expect("4 bytes hold 4");
        Self {
            physical: PhysicalOffset(u64::from_be_bytes(*physical)),
            bytes: u32::from_be_bytes(*bytes),
            tags_code: i64::from_be_bytes(*tags_code),
            crc: u32::from_be_bytes(*crc),
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
    fn a_unit_begins_as_java_writes_it() {
        // The last three: vectors/storage-consumequeue-three-units.json, written by Java 5.5.0.
        let rows = [
            (0x1000, 200, 2_598_919, "0000000000001000000000c8000000000027a807"),
            (0x40, 91, -934_813_832, "00000000000000400000005bffffffffc847df78"),
            (0, 242, 2_598_919, "0000000000000000000000f2000000000027a807"),
            (242, 242, 2_598_919, "00000000000000f2000000f2000000000027a807"),
            (484, 242, 2_598_919, "00000000000001e4000000f2000000000027a807"),
        ];
        for (physical, bytes, tags_code, want) in rows {
            let unit = Unit { physical: PhysicalOffset(physical), bytes, tags_code, crc: 0xc0de };
            assert_eq!(hex(&unit.encode()), format!("{want}0000c0de"));
            assert_eq!(Unit::decode(&unit.encode()), unit);
        }
    }
}
