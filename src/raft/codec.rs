//! The one place that turns replicated values into bytes: a format number, then bincode 2.
//!
//! Everything written here ends up in logs and snapshots that other builds must read, or find out
//! that they cannot: what a value has that older builds do not know takes a new format number, and
//! is written only when all members read it (`raft::version`). A value without it is
//! written as before, byte by byte. Enum variants and fields are only ever appended.

use bincode::{Decode, Encode, config, enc::write::SizeWriter};

/// Longest encoded value that is decoded, bytes. Bounds what a damaged length can allocate.
const DECODED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Why bytes are not a value of the expected format.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Written by a version that knows more than this one.
    #[error("format {found} of {what} is unknown here (known: {known}); upgrade this member")]
    Format {
        /// What was decoded.
        what: &'static str,
        /// Format number in the bytes.
        found: u8,
        /// The newest format number that is read here.
        known: u8,
    },
    /// Not a value of this type.
    #[error("{what} of {bytes} bytes cannot be decoded: {why}")]
    Malformed {
        /// What was decoded.
        what: &'static str,
        /// Length of the input.
        bytes: usize,
        /// What bincode said.
        why: String,
    },
}

/// A type with a stable encoded form.
pub trait Stored: Encode + Decode<()> {
    /// What it is, for error texts.
    const WHAT: &'static str;
    /// Number of the newest format.
    const FORMAT: u8;
    /// Number of the oldest format that is read. All from there on are laid out alike.
    const OLDEST: u8 = Self::FORMAT;

    /// Number of the format that this value is written in: the oldest that has all that it has.
    fn format(&self) -> u8 {
        Self::FORMAT
    }
}

/// Format number, then the value.
pub fn encode<T: Stored>(value: &T) -> Vec<u8> {
    let mut out = vec![value.format()];
    bincode::encode_into_std_write(value, &mut out, config::standard())
        .expect("writing to memory cannot fail and stored types have no unencodable values");
    out
}

/// Bytes that a part of a stored value takes in it.
pub fn encoded_bytes(part: &impl Encode) -> usize {
    let mut size = SizeWriter::default();
    bincode::encode_into_writer(part, &mut size, config::standard())
        .expect("counting cannot fail and stored types have no unencodable values");
    size.bytes_written
}

/// The value in `bytes`, which must be consumed whole.
pub fn decode<T: Stored>(bytes: &[u8]) -> Result<T, CodecError> {
    let malformed = |why: String| CodecError::Malformed { what: T::WHAT, bytes: bytes.len(), why };
    let (&format, rest) = bytes.split_first().ok_or_else(|| malformed("empty".to_owned()))?;
    if !(T::OLDEST..=T::FORMAT).contains(&format) {
        return Err(CodecError::Format { what: T::WHAT, found: format, known: T::FORMAT });
    }
    let limited = config::standard().with_limit::<DECODED_BYTES_MAX>();
    let (value, used): (T, usize) =
        bincode::decode_from_slice(rest, limited).map_err(|error| malformed(error.to_string()))?;
    if used != rest.len() {
        return Err(malformed(format!("{} bytes left over", rest.len() - used)));
    }
    let found = value.format();
    if found > T::FORMAT {
        return Err(CodecError::Format { what: T::WHAT, found, known: T::FORMAT });
    }
    Ok(value)
}
