//! Messages: the record as Java stores and sends it, and what belongs to it.
//!
//! The same bytes are in the log, in pull answers and in query answers, so a message is encoded
//! once, straight into its log entry, and never copied into another form.

pub mod batch;
mod draft;
pub mod id;
pub mod key;
pub mod properties;
mod record;
pub mod sys_flag;

pub use draft::{Draft, DraftError, RECORD_BYTES_MIN, RecordPlace};
pub use key::{key_hash, tags_code};
pub use record::{Record, RecordError, Records, records};

/// Longest topic name that is stored, in bytes. From 128 on records have layout V2.
pub const TOPIC_BYTES_MAX: usize = 255;
/// Longest property string that is stored, in bytes.
pub const PROPERTIES_BYTES_MAX: usize = 32_767;
/// Record layout with one byte of topic length.
pub const MAGIC_V1: u32 = 0xDAA3_20A7;
/// Record layout with two bytes of topic length.
pub const MAGIC_V2: u32 = 0xDAA3_20AB;
/// Topics longer than this, in bytes, need layout V2.
pub const TOPIC_V1_BYTES_MAX: usize = 127;

/// Checksum of a body as stored in records: CRC-32 (IEEE) without its highest bit.
pub fn body_crc(body: &[u8]) -> u32 {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, body);
    u32::try_from(crc & 0x7FFF_FFFF).unwrap_or_default()
}
