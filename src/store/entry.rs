//! One log entry: a 64-byte header, message records back to back, commands, padding to 8 bytes.
//!
//! ```text
//!  0 magic 4 │ 4 total 4 │ 8 index 8 │ 16 term 8 │ 24 proposer 8 │ 32 position 8 │ 40 messages 4
//!  44 message bytes 4 │ 48 body bytes 4 │ 52 body CRC 4 │ 56 kind 1 │ 57 version 1 │ 58 zero 2
//!  60 header CRC 4 (of the 60 bytes before)                        all integers little endian
//! ```
//!
//! Both CRCs are CRC-32C. `position` makes bytes that were left over from another place invalid.

use std::ops::Range;

use bytes::Bytes;

use super::mmap::MappedBytes;
use crate::ids::{EntryIndex, PhysicalOffset, StoreId, Term};

/// Bytes before the first message record.
pub const HEADER_BYTES: usize = 64;
/// Entries start at multiples of this.
pub const ALIGN_BYTES: u64 = 8;
/// First four bytes of every entry: "RMQE" in the file.
const MAGIC: u32 = u32::from_le_bytes(*b"RMQE");
const VERSION: u8 = 1;
const HEADER_CRC_AT: usize = 60;

/// What an entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The first entry of a leader; no body.
    Blank = 0,
    /// Messages and commands.
    Data = 1,
    /// The group's members from here on.
    Membership = 2,
}

/// Identity of an entry. Two entries with the same id have the same bytes on every member: a term
/// has one leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EntryId {
    /// Place in the log.
    pub index: EntryIndex,
    /// Term of the leader that wrote it.
    pub term: Term,
}

/// The header of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the entry, header and padding included.
    pub total: u32,
    /// Place in the log.
    pub index: EntryIndex,
    /// Term of the leader that wrote it.
    pub term: Term,
    /// That leader.
    pub proposer: StoreId,
    /// Where the entry starts, on every member.
    pub position: PhysicalOffset,
    /// What it is for.
    pub kind: Kind,
    /// Number of message records.
    pub messages: u32,
    /// Bytes of all message records.
    pub message_bytes: u32,
    /// Bytes of message records and commands.
    pub body_bytes: u32,
    /// CRC-32C of the body.
    pub body_crc: u32,
}

/// Why bytes are not an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// All zero: nothing was written here.
    #[error("nothing was written here")]
    Unwritten,
    /// Fewer bytes than the entry says, or than a header.
    #[error("{have} bytes where {need} are needed")]
    Short {
        /// What there is.
        have: usize,
        /// What there must be.
        need: usize,
    },
    /// Not the start of an entry.
    #[error("header starts with {0:#010x}, which is no entry")]
    Magic(u32),
    /// The header's checksum does not fit.
    #[error("header checksum is {found:#010x} instead of {computed:#010x}")]
    HeaderCrc {
        /// As stored.
        found: u32,
        /// As it should be.
        computed: u32,
    },
    /// Written by a later version of the broker.
    #[error("entry format {0} is unknown to this version")]
    Version(u8),
    /// The header contradicts itself.
    #[error("header contradicts itself: {0}")]
    Inconsistent(&'static str),
    /// The body's checksum does not fit.
    #[error("body checksum is {computed:#010x} instead of {found:#010x}")]
    BodyCrc {
        /// As stored.
        found: u32,
        /// As computed from the body.
        computed: u32,
    },
    /// The bytes after the body are not zero.
    #[error("padding is not zero")]
    Padding,
}

impl Header {
    /// Reads and checks the header at the start of `bytes`. Whatever the bytes are, the result is
    /// either an error or a header whose lengths agree with each other.
    pub fn parse(bytes: &[u8]) -> Result<Self, EntryError> {
        let Some(raw) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(EntryError::Short { have: bytes.len(), need: HEADER_BYTES });
        };
        if u32_at(raw, 0) != MAGIC {
            return Err(match raw.iter().all(|b| *b == 0) {
                true => EntryError::Unwritten,
                false => EntryError::Magic(u32_at(raw, 0)),
            });
        }
        let (found, computed) = (u32_at(raw, HEADER_CRC_AT), crc32c(&raw[..HEADER_CRC_AT]));
        if found != computed {
            return Err(EntryError::HeaderCrc { found, computed });
        }
        if raw[57] != VERSION {
            return Err(EntryError::Version(raw[57]));
        }
        let kind = match raw[56] {
            0 => Kind::Blank,
            1 => Kind::Data,
            2 => Kind::Membership,
            _ => return Err(EntryError::Inconsistent("unknown kind")),
        };
        let header = Self {
            total: u32_at(raw, 4),
            index: EntryIndex(u64_at(raw, 8)),
            term: Term(u64_at(raw, 16)),
            proposer: StoreId(u64_at(raw, 24)),
            position: PhysicalOffset(u64_at(raw, 32)),
            kind,
            messages: u32_at(raw, 40),
            message_bytes: u32_at(raw, 44),
            body_bytes: u32_at(raw, 48),
            body_crc: u32_at(raw, 52),
        };
        header.consistent()?;
        Ok(header)
    }

    fn consistent(&self) -> Result<(), EntryError> {
        let only_data_has_messages = self.kind == Kind::Data || self.messages == 0;
        let no_overflow = |at: u64| at.checked_add(u64::from(self.total)).is_some();
        let rules = [
            (u64::from(self.total) == total_bytes(self.body_bytes.into()), "total length"),
            (self.message_bytes <= self.body_bytes, "messages longer than the body"),
            ((self.messages == 0) == (self.message_bytes == 0), "count without bytes of messages"),
            (only_data_has_messages, "messages in an entry that is not data"),
            (self.kind != Kind::Blank || self.body_bytes == 0, "blank entry with a body"),
            (self.position.0.is_multiple_of(ALIGN_BYTES), "unaligned position"),
            (no_overflow(self.position.0) && self.index.0 < u64::MAX, "numbers out of range"),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, why)) => Err(EntryError::Inconsistent(why)),
            None => Ok(()),
        }
    }

    /// Writes the header with its checksum.
    pub fn write(&self, out: &mut [u8; HEADER_BYTES]) {
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..8].copy_from_slice(&self.total.to_le_bytes());
        out[8..16].copy_from_slice(&self.index.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.term.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.proposer.0.to_le_bytes());
        out[32..40].copy_from_slice(&self.position.0.to_le_bytes());
        out[40..44].copy_from_slice(&self.messages.to_le_bytes());
        out[44..48].copy_from_slice(&self.message_bytes.to_le_bytes());
        out[48..52].copy_from_slice(&self.body_bytes.to_le_bytes());
        out[52..56].copy_from_slice(&self.body_crc.to_le_bytes());
        out[56..60].copy_from_slice(&[self.kind as u8, VERSION, 0, 0]);
        let crc = crc32c(&out[..HEADER_CRC_AT]);
        out[HEADER_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    }

    /// The entry's identity.
    pub fn id(&self) -> EntryId {
        EntryId { index: self.index, term: self.term }
    }

    /// Where the next entry starts, unless it goes to the next segment.
    pub fn end(&self) -> PhysicalOffset {
        PhysicalOffset(self.position.0 + u64::from(self.total))
    }

    /// Where the first message record starts.
    pub fn first_record(&self) -> PhysicalOffset {
        PhysicalOffset(self.position.0 + HEADER_BYTES as u64)
    }

    fn body(&self) -> Range<usize> {
        HEADER_BYTES..HEADER_BYTES + self.body_bytes as usize
    }

    /// Checks the body (records, commands, padding) of an entry that starts with this header.
    pub fn check_body(&self, entry: &[u8]) -> Result<(), EntryError> {
        let need = self.total as usize;
        if entry.len() < need {
            return Err(EntryError::Short { have: entry.len(), need });
        }
        let (found, computed) = (self.body_crc, crc32c(&entry[self.body()]));
        if found != computed {
            return Err(EntryError::BodyCrc { found, computed });
        }
        match entry[self.body().end..need].iter().all(|b| *b == 0) {
            true => Ok(()),
            false => Err(EntryError::Padding),
        }
    }
}

/// Bytes of an entry with `body_bytes` of records and commands.
pub fn total_bytes(body_bytes: u64) -> u64 {
    (HEADER_BYTES as u64).saturating_add(body_bytes).next_multiple_of(ALIGN_BYTES)
}

/// CRC-32C (Castagnoli), as used all over the store.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    (crc & u64::from(u32::MAX)) as u32 // a 32-bit CRC in 64 bits
}

/// An entry in the log, found whole. Its bytes stay as they are as long as someone holds them.
#[derive(Debug, Clone)]
pub struct StoredEntry {
    /// Checked.
    pub header: Header,
    /// The whole entry, `header.total` bytes.
    pub bytes: MappedBytes,
}

/// An entry from elsewhere, found whole. Where it belongs is checked when it is appended.
#[derive(Debug, Clone)]
pub struct ReceivedEntry {
    header: Header,
    bytes: Bytes,
}

impl ReceivedEntry {
    /// Takes the entry at the start of `run` off it. After an error `run` is as it was.
    pub fn take_from(run: &mut Bytes) -> Result<Self, EntryError> {
        let header = Header::parse(run)?;
        header.check_body(run)?;
        Ok(Self { header, bytes: run.split_to(header.total as usize) })
    }

    /// Checked.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The whole entry, `header.total` bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl StoredEntry {
    /// Records and commands.
    pub fn body(&self) -> MappedBytes {
        self.bytes.slice(self.header.body())
    }

    /// The message records, back to back.
    pub fn records(&self) -> MappedBytes {
        self.bytes.slice(HEADER_BYTES..HEADER_BYTES + self.header.message_bytes as usize)
    }

    /// What follows the records.
    pub fn commands(&self) -> MappedBytes {
        let from = HEADER_BYTES + self.header.message_bytes as usize;
        self.bytes.slice(from..self.header.body().end)
    }
}

fn u32_at(raw: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]])
}

fn u64_at(raw: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from(u32_at(raw, at)) | u64::from(u32_at(raw, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(super) fn header(body: &[u8], message_bytes: u32) -> Header {
        Header {
            total: total_bytes(body.len() as u64) as u32,
            index: EntryIndex(0x0102_0304),
            term: Term(7),
            proposer: StoreId(0xdead_beef_0000_0001),
            position: PhysicalOffset(0x4000_0000),
            kind: Kind::Data,
            messages: u32::from(message_bytes > 0),
            message_bytes,
            body_bytes: body.len() as u32,
            body_crc: crc32c(body),
        }
    }

    fn entry(body: &[u8]) -> Vec<u8> {
        let header = header(body, body.len() as u32);
        let mut bytes = vec![0; header.total as usize];
        header.write(bytes.first_chunk_mut().unwrap());
        bytes[HEADER_BYTES..HEADER_BYTES + body.len()].copy_from_slice(body);
        bytes
    }

    #[test]
    fn the_layout_is_fixed() {
        let want = "524d5145 50000000 0403020100000000 0700000000000000 01000000efbeadde \
                    0000004000000000 01000000 09000000 09000000 839206e3 01 01 0000";
        let got = entry(b"123456789");
        let hex: String = got[..HEADER_CRC_AT].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, want.replace([' ', '\n'], ""));
        assert_eq!(got.len(), 80);
    }

    #[test]
    fn received_entries_are_taken_one_by_one_and_only_whole() {
        let entries = [entry(b"one"), entry(b""), entry(b"three")];
        let mut run = Bytes::from(entries.concat());
        for entry in &entries {
            assert_eq!(ReceivedEntry::take_from(&mut run).unwrap().bytes(), entry);
        }
        assert!(run.is_empty());
        let [mut damaged, _, whole] = entries;
        damaged[HEADER_BYTES] ^= 1;
        for bytes in [damaged, whole[..whole.len() - 8].to_vec(), whole[..60].to_vec()] {
            let mut run = Bytes::from(bytes.clone());
            assert!(ReceivedEntry::take_from(&mut run).is_err());
            assert_eq!(run, bytes);
        }
    }

    #[test]
    fn checksum_is_castagnoli() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn zeros_are_unwritten_and_not_damage() {
        assert_eq!(Header::parse(&[0; HEADER_BYTES]), Err(EntryError::Unwritten));
        let mut almost = [0; HEADER_BYTES];
        almost[63] = 1;
        assert_eq!(Header::parse(&almost), Err(EntryError::Magic(0)));
    }

    #[test]
    fn contradictions_are_refused() {
        let good = header(b"body", 4);
        let rows = [
            (Header { total: 64, ..good }, "total length"),
            (Header { message_bytes: 5, ..good }, "messages longer than the body"),
            (Header { messages: 0, ..good }, "count without bytes of messages"),
            (Header { kind: Kind::Membership, ..good }, "messages in an entry that is not data"),
            (
                Header { kind: Kind::Blank, messages: 0, message_bytes: 0, ..good },
                "blank entry with a body",
            ),
            (Header { position: PhysicalOffset(4), ..good }, "unaligned position"),
            (Header { position: PhysicalOffset(u64::MAX - 7), ..good }, "numbers out of range"),
            (Header { index: EntryIndex(u64::MAX), ..good }, "numbers out of range"),
        ];
        for (header, why) in rows {
            let mut raw = [0; HEADER_BYTES];
            header.write(&mut raw);
            assert_eq!(Header::parse(&raw), Err(EntryError::Inconsistent(why)));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(header) = Header::parse(&bytes) {
                let _ = header.check_body(&bytes);
            }
        }

        #[test]
        fn any_flipped_bit_is_found(
            body in prop::collection::vec(any::<u8>(), 0..100), at in any::<prop::sample::Index>(),
            bit in 0..8u8,
        ) {
            let mut bytes = entry(&body);
            prop_assert!(Header::parse(&bytes).unwrap().check_body(&bytes).is_ok());
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(Header::parse(&bytes).and_then(|h| h.check_body(&bytes)).is_err());
        }

        #[test]
        fn what_is_written_is_read(body in prop::collection::vec(any::<u8>(), 0..100), share in 0..101u32) {
            let message_bytes = body.len() as u32 * share / 100;
            let written = header(&body, message_bytes);
            let mut raw = [0; HEADER_BYTES];
            written.write(&mut raw);
            prop_assert_eq!(Header::parse(&raw), Ok(written));
        }
    }
}
