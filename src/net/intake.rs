//! Bytes of one connection on their way to frames: the read buffer and how it grows. Pure.
//!
//! Memory follows what has arrived, never what was announced: the room for the next read is at
//! most what one read may bring plus what is already there, so a frame that claims 16 MiB and
//! sends ten bytes costs one small buffer. A connection that waits keeps at most [`ROOM_MIN`]
//! bytes and four times what is buffered, of which the kernel gives only what was written to.
//!
//! Frames are slices of the buffer: no copy, but a frame that is kept keeps its buffer.

use crate::protocol::frame::{self, LENGTH_BYTES};
use bytes::{Bytes, BytesMut};

/// First and smallest read.
pub(super) const ROOM_MIN: usize = 4 * 1024;
/// Largest read while frames are small.
pub(super) const ROOM_MAX: usize = 64 * 1024;
/// The read buffer of one connection.
#[derive(Debug)]
pub(super) struct Intake {
    buffer: BytesMut,
    /// Most that the memory behind `buffer` may be: frames that were taken out of its front are
    /// gone from `buffer`, not from there.
    allocated: usize,
    room: usize,
    frame_bytes_max: usize,
}

impl Intake {
    /// An empty buffer, for frames of so many bytes; allocates nothing.
    pub(super) fn new(frame_bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), allocated: 0, room: ROOM_MIN, frame_bytes_max }
    }

    /// Takes one frame out; `None` when more bytes are needed.
    pub(super) fn next_frame(&mut self) -> Result<Option<Bytes>, frame::FrameError> {
        frame::next(&mut self.buffer, self.frame_bytes_max)
    }

    /// Bytes that have arrived and are not yet taken.
    pub(super) fn buffered(&self) -> &[u8] {
        &self.buffer
    }

    /// Takes everything buffered, for a connection that turned out to speak something else.
    pub(super) fn take_all(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }

    /// Lets go of a large buffer that holds little. Called before a wait that may be long.
    pub(super) fn rest(&mut self) {
        if self.allocated > ROOM_MIN + 4 * self.buffer.len() {
            self.buffer = BytesMut::from(&self.buffer[..]);
            self.allocated = self.buffer.capacity();
        }
    }

    /// The buffer, with room for the next read.
    pub(super) fn make_room(&mut self) -> &mut BytesMut {
        let missing = missing(&self.buffer);
        self.buffer.reserve(room(self.room, self.buffer.len(), missing));
        self.allocated = self.allocated.max(self.buffer.capacity());
        &mut self.buffer
    }

    /// Notes that a read brought `bytes` where `offered` would have fitted.
    /// Says whether more is likely to be waiting in the socket.
    pub(super) fn took(&mut self, bytes: usize, offered: usize) -> Filled {
        self.room = next_room(self.room, bytes);
        if bytes >= offered { Filled::Wholly } else { Filled::Partly }
    }

    #[cfg(test)]
    fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}

/// How much of the offered room a read filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// The socket has been emptied.
    Partly,
    /// There may be more in the socket.
    Wholly,
}

/// Bytes that the frame at the front of `buffered` still lacks, if its length is known.
fn missing(buffered: &[u8]) -> Option<usize> {
    let length: [u8; LENGTH_BYTES] = buffered.get(..LENGTH_BYTES)?.try_into().ok()?;
    let whole = LENGTH_BYTES + u32::from_be_bytes(length) as usize;
    Some(whole.saturating_sub(buffered.len()))
}

/// Room to offer to the next read. Doubles what is there at most, so that a large frame is read
/// in few steps and a lie about its length buys nothing.
fn room(usual: usize, buffered: usize, missing: Option<usize>) -> usize {
    match missing {
        Some(missing) if missing > usual => missing.min(usual.max(buffered)),
        Some(_) | None => usual,
    }
}

/// Room for the read after one that brought `bytes`: follows the traffic.
fn next_room(room: usize, bytes: usize) -> usize {
    if bytes >= room {
        (room * 2).min(ROOM_MAX)
    } else if bytes < room / 4 {
        (room / 2).max(ROOM_MIN)
    } else {
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_never_doubles_more_than_what_has_arrived() {
        let rows = [
            (ROOM_MIN, 0, None, ROOM_MIN),
            (ROOM_MIN, 3, None, ROOM_MIN),
            (ROOM_MIN, 10, Some(90), ROOM_MIN),
            (ROOM_MIN, 10, Some(16 << 20), ROOM_MIN),
            (ROOM_MIN, 1 << 20, Some(15 << 20), 1 << 20),
            (ROOM_MIN, 12 << 20, Some(4 << 20), 4 << 20),
            (ROOM_MAX, 10, Some(16 << 20), ROOM_MAX),
        ];
        for (usual, buffered, missing, want) in rows {
            assert_eq!(room(usual, buffered, missing), want, "{usual} {buffered} {missing:?}");
        }
    }

    #[test]
    fn reads_grow_with_the_traffic_and_shrink_with_it() {
        let rows = [
            (ROOM_MIN, ROOM_MIN, ROOM_MIN * 2),
            (ROOM_MAX, ROOM_MAX, ROOM_MAX),
            (ROOM_MAX, ROOM_MAX * 4, ROOM_MAX),
            (ROOM_MAX, ROOM_MAX / 2, ROOM_MAX),
            (ROOM_MAX, 100, ROOM_MAX / 2),
            (ROOM_MIN, 100, ROOM_MIN),
        ];
        for (room, bytes, want) in rows {
            assert_eq!(next_room(room, bytes), want, "{room} {bytes}");
        }
    }

    #[test]
    fn an_announced_length_costs_nothing_before_its_bytes_come() {
        let mut intake = Intake::new(frame::FRAME_BYTES_MAX);
        let announced = u32::try_from(frame::FRAME_BYTES_MAX).unwrap().to_be_bytes();
        intake.make_room().extend_from_slice(&announced);
        intake.make_room().extend_from_slice(b"abc");
        assert!(intake.next_frame().unwrap().is_none());
        for _ in 0..100 {
            intake.make_room();
        }
        assert!(intake.capacity() <= 4 * ROOM_MIN, "{}", intake.capacity());
    }

    #[test]
    fn a_large_frame_arrives_whole_in_few_steps() {
        let body = vec![7; 4 << 20];
        let mut intake = Intake::new(frame::FRAME_BYTES_MAX);
        let mut stream = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        stream.extend_from_slice(&body);
        let (mut rest, mut steps, mut got) = (stream.as_slice(), 0, None);
        while !rest.is_empty() {
            let buffer = intake.make_room();
            let offered = buffer.capacity() - buffer.len();
            let (now, later) = rest.split_at(offered.min(rest.len()));
            buffer.extend_from_slice(now);
            intake.took(now.len(), offered);
            (rest, steps, got) = (later, steps + 1, intake.next_frame().unwrap());
        }
        assert_eq!(got.unwrap().len(), body.len());
        assert!(steps < 30, "{steps} reads");
    }

    #[test]
    fn a_resting_connection_keeps_no_large_buffer() {
        let mut intake = Intake::new(frame::FRAME_BYTES_MAX);
        intake.room = ROOM_MAX;
        intake.make_room();
        intake.rest();
        assert!(intake.capacity() <= ROOM_MIN);
    }

    #[test]
    fn a_few_bytes_behind_a_large_frame_do_not_keep_its_memory() {
        let mut intake = Intake::new(frame::FRAME_BYTES_MAX);
        let length = 1_u32 << 20;
        let whole = [&length.to_be_bytes(), vec![7; 1 << 20].as_slice(), &[0, 0, 1]].concat();
        for piece in whole.chunks(ROOM_MAX) {
            intake.make_room().extend_from_slice(piece);
        }
        let frame = intake.next_frame().unwrap().unwrap();
        intake.rest();
        assert!(frame.is_unique(), "the rest lies elsewhere");
        assert_eq!(intake.buffered(), [0, 0, 1]);
        assert!(intake.capacity() <= ROOM_MIN);
    }
}
