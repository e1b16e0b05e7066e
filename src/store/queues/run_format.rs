//! The run file, byte for byte. Little endian but for the units, which begin as Java's.
//!
//! ```text
//! units       24 bytes each, grouped by queue, queues in the order of the directory
//! keys        24 bytes each: hash u64 · physical u64 · store timestamp i64, sorted
//! directory   40 bytes per queue, sorted by (topic, queueId)
//! names       topic names, each once
//! checksums   CRC-32C of every 64 KiB block of what is above, 4 bytes each
//! footer      88 bytes: what the file is, how much of each part there is
//! ```
//!
//! The head comes last, because a run is written front to back, in one pass, without knowing its
//! size. A file without a valid footer is not a run. Blocks are checked on their first use, so a
//! large run opens at once and a pull never waits for the checksum of more than it reads.

use std::ops::Range;

use super::{
    part::Times,
    unit::{KeyEntry, UNIT_BYTES},
};
use crate::ids::{PhysicalOffset, QueueOffset};

const MAGIC: [u8; 8] = *b"RMQ-RUN\n";
const FORMAT_VERSION: u32 = 2;
pub(super) const BLOCK_BYTES: usize = 64 * 1024;
pub(super) const KEY_BYTES: usize = 24;
pub(super) const DIRECTORY_BYTES: usize = 40;
pub(super) const FOOTER_BYTES: usize = 88;
const CRC_BYTES: usize = 4;

pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32 // 32 bits by definition
}

/// What the footer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) from: PhysicalOffset,
    pub(super) to: PhysicalOffset,
    pub(super) times: Times,
    pub(super) units: u64,
    pub(super) keys: u64,
    pub(super) queues: u64,
    pub(super) name_bytes: u64,
    pub(super) checksums_crc: u32,
}

/// Where the parts of a run lie in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) units: Range<usize>,
    pub(super) keys: Range<usize>,
    pub(super) directory: Range<usize>,
    pub(super) names: Range<usize>,
    pub(super) checksums: Range<usize>,
    pub(super) file_bytes: usize,
}

impl Footer {
    pub(super) fn encode(&self) -> [u8; FOOTER_BYTES] {
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        out.extend(MAGIC);
        out.extend(FORMAT_VERSION.to_le_bytes());
        out.extend(self.from.0.to_le_bytes());
        out.extend(self.to.0.to_le_bytes());
        out.extend(self.times.min.to_le_bytes());
        out.extend(self.times.max.to_le_bytes());
        for count in [self.units, self.keys, self.queues, self.name_bytes] {
            out.extend(count.to_le_bytes());
        }
        out.extend([0; 4]); // keeps the footer's own checksum on an even place
        out.extend(self.checksums_crc.to_le_bytes());
        let crc = crc32c(&out);
        out.extend(crc.to_le_bytes());
        out.try_into().expect("the fields add up to FOOTER_BYTES")
    }

    /// Reads a footer; the text says what does not hold.
    pub(super) fn decode(footer: &[u8; FOOTER_BYTES]) -> Result<Self, String> {
        let (head, crc) = footer.split_at(FOOTER_BYTES - CRC_BYTES);
        if head[..8] != MAGIC {
            return Err("no footer of a run file".to_owned());
        }
        if crc != crc32c(head).to_le_bytes() {
            return Err("the footer's checksum does not match".to_owned());
        }
        let version = u32_at(head, 8);
        if version != FORMAT_VERSION {
            return Err(format!("format version {version}, this release reads {FORMAT_VERSION}"));
        }
        Ok(Self {
            from: PhysicalOffset(u64_at(head, 12)),
            to: PhysicalOffset(u64_at(head, 20)),
            times: Times { min: u64_at(head, 28) as i64, max: u64_at(head, 36) as i64 },
            units: u64_at(head, 44),
            keys: u64_at(head, 52),
            queues: u64_at(head, 60),
            name_bytes: u64_at(head, 68),
            checksums_crc: u32_at(head, 80),
        })
    }

    /// Where the parts lie; `None` when the counts are beyond any file.
    pub(super) fn layout(&self) -> Option<Layout> {
        let mut end = 0_usize;
        let mut part = |count: u64, bytes_each: usize| {
            let start = end;
            end = usize::try_from(count).ok()?.checked_mul(bytes_each)?.checked_add(start)?;
            Some(start..end)
        };
        let units = part(self.units, UNIT_BYTES)?;
        let keys = part(self.keys, KEY_BYTES)?;
        let directory = part(self.queues, DIRECTORY_BYTES)?;
        let names = part(self.name_bytes, 1)?;
        let blocks = names.end.div_ceil(BLOCK_BYTES);
        let checksums = part(blocks as u64, CRC_BYTES)?;
        let file_bytes = checksums.end.checked_add(FOOTER_BYTES)?;
        Some(Layout { units, keys, directory, names, checksums, file_bytes })
    }
}

/// One queue's line in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DirectoryEntry {
    /// Where the topic's name lies in the names, and its length.
    pub(super) name_at: u32,
    pub(super) name_bytes: u32,
    pub(super) queue_id: u32,
    /// Offset of the first unit, and how many there are.
    pub(super) first: QueueOffset,
    pub(super) count: u64,
    /// Number of the first unit among the units.
    pub(super) units_at: u64,
}

impl DirectoryEntry {
    pub(super) fn encode(&self) -> [u8; DIRECTORY_BYTES] {
        let mut out = [0; DIRECTORY_BYTES];
        out[..4].copy_from_slice(&self.name_at.to_le_bytes());
        out[4..8].copy_from_slice(&self.name_bytes.to_le_bytes());
        out[8..12].copy_from_slice(&self.queue_id.to_le_bytes());
        out[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.count.to_le_bytes());
        out[32..40].copy_from_slice(&self.units_at.to_le_bytes());
        out
    }

    pub(super) fn decode(stored: &[u8; DIRECTORY_BYTES]) -> Self {
        Self {
            name_at: u32_at(stored, 0),
            name_bytes: u32_at(stored, 4),
            queue_id: u32_at(stored, 8),
            first: QueueOffset(u64_at(stored, 16)),
            count: u64_at(stored, 24),
            units_at: u64_at(stored, 32),
        }
    }
}

impl KeyEntry {
    pub(super) fn encode(&self) -> [u8; KEY_BYTES] {
        let mut out = [0; KEY_BYTES];
        out[..8].copy_from_slice(&self.hash.to_le_bytes());
        out[8..16].copy_from_slice(&self.physical.0.to_le_bytes());
        out[16..].copy_from_slice(&self.store_timestamp.to_le_bytes());
        out
    }

    pub(super) fn decode(stored: &[u8; KEY_BYTES]) -> Self {
        Self {
            hash: u64_at(stored, 0),
            physical: PhysicalOffset(u64_at(stored, 8)),
            store_timestamp: u64_at(stored, 16) as i64,
        }
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footer() -> Footer {
        Footer {
            from: PhysicalOffset(64),
            to: PhysicalOffset(4096),
            times: Times { min: -1, max: 9 },
            units: 3,
            keys: 2,
            queues: 1,
            name_bytes: 5,
            checksums_crc: 7,
        }
    }

    #[test]
    fn a_footer_reads_back_and_any_flipped_bit_is_noticed() {
        let bytes = footer().encode();
        assert_eq!(Footer::decode(&bytes), Ok(footer()));
        for bit in 0..FOOTER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Footer::decode(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn the_layout_adds_up_and_absurd_counts_have_none() {
        let layout = footer().layout().unwrap();
        assert_eq!(layout.names, 72 + 48 + 40..72 + 48 + 40 + 5);
        assert_eq!(layout.file_bytes, 165 + 4 + FOOTER_BYTES);
        assert_eq!(Footer { units: u64::MAX / 19, ..footer() }.layout(), None);
    }

    #[test]
    fn directory_and_key_entries_read_back() {
        let entry = DirectoryEntry {
            name_at: 1,
            name_bytes: 2,
            queue_id: 3,
            first: QueueOffset(4),
            count: 5,
            units_at: 6,
        };
        assert_eq!(DirectoryEntry::decode(&entry.encode()), entry);
        let key = KeyEntry { hash: 1, physical: PhysicalOffset(2), store_timestamp: -3 };
        assert_eq!(KeyEntry::decode(&key.encode()), key);
    }
}
