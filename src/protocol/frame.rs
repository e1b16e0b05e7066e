//! Frames: a 4-byte big-endian length, then that many bytes.

#![warn(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::arithmetic_side_effects
)]

use bytes::{Buf, Bytes, BytesMut};

/// Largest value of the length field anywhere. Java's limit
/// (`com.rocketmq.remoting.frameMaxLength`); a server may have a smaller one.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Size of the length field.
pub const LENGTH_BYTES: usize = 4;

/// The peer does not speak this protocol: the connection is closed, nothing is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The announced length exceeds the limit.
    #[error("frame of {bytes} bytes, the limit is {limit}")]
    TooLong {
        /// What the length field said.
        bytes: u32,
        /// What it may say.
        limit: usize,
    },
    /// The announced length has no room for the header's own length.
    #[error("frame of {bytes} bytes is too short for a header")]
    TooShort {
        /// What the length field said.
        bytes: u32,
    },
}

/// Takes one frame of at most `limit` bytes, without its length field, out of `buffer`. `None`:
/// more bytes are needed.
///
/// Never allocates: the frame shares the buffer's memory. Whoever fills the buffer should let it
/// grow with what arrives, not with what was announced.
pub fn next(buffer: &mut BytesMut, limit: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let announced = u32::from_be_bytes(*length);
    let bytes = usize::try_from(announced).unwrap_or(usize::MAX);
    if bytes > limit {
        return Err(FrameError::TooLong { bytes: announced, limit });
    }
    if bytes < LENGTH_BYTES {
        return Err(FrameError::TooShort { bytes: announced });
    }
    if buffer.len().saturating_sub(LENGTH_BYTES) < bytes {
        return Ok(None);
    }
    buffer.advance(LENGTH_BYTES);
    Ok(Some(buffer.split_to(bytes).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_out_of_range_are_refused_before_the_bytes_arrive() {
        let too_long = |bytes, limit| Err(FrameError::TooLong { bytes, limit });
        let most = FRAME_BYTES_MAX;
        let rows = [
            (0x0100_0001_u32, most, too_long(0x0100_0001, most)),
            (0x4745_5420, most, too_long(0x4745_5420, most)), // "GET "
            (u32::MAX, most, too_long(u32::MAX, most)),
            (3, most, Err(FrameError::TooShort { bytes: 3 })),
            (0, most, Err(FrameError::TooShort { bytes: 0 })),
            (0x0100_0000, most, Ok(None)),
            (4, most, Ok(None)),
            (1001, 1000, too_long(1001, 1000)),
            (1000, 1000, Ok(None)),
        ];
        for (length, limit, want) in rows {
            let mut buffer = BytesMut::from(&length.to_be_bytes()[..]);
            assert_eq!(next(&mut buffer, limit), want, "length {length:#x}");
        }
    }

    proptest! {
        #[test]
        fn frames_come_out_whole_however_they_arrive(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 4..200), 0..8),
            step in 1_usize..50,
        ) {
            let mut wire = Vec::new();
            for frame in &frames {
                wire.extend_from_slice(&u32::try_from(frame.len()).unwrap().to_be_bytes());
                wire.extend_from_slice(frame);
            }
            let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
            for piece in wire.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = next(&mut buffer, FRAME_BYTES_MAX).unwrap() {
                    got.push(frame.to_vec());
                }
            }
            prop_assert_eq!(got, frames);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = next(&mut buffer, FRAME_BYTES_MAX) {}
        }
    }
}
