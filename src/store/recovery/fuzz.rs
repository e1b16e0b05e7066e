//! Fuzz target: the bytes of a log's segments at a start.

use super::*;
use crate::store::entry::{crc32c, total_bytes};

/// The scan over arbitrary segments. The first byte says how much of them is made to look whole:
/// random bytes alone would hardly ever pass a checksum.
pub(crate) fn entries(bytes: &[u8]) {
    const SEGMENT_BYTES: usize = 1024;
    let Some((choice, log)) = bytes.split_first() else { return };
    let mut log = log.to_vec();
    log.resize(log.len().next_multiple_of(SEGMENT_BYTES), 0);
    for segment in log.chunks_mut(SEGMENT_BYTES) {
        for at in (0..SEGMENT_BYTES).step_by(ALIGN_BYTES as usize) {
            seal(&mut segment[at..], *choice);
        }
    }
    let contents = Contents {
        first_base: 0,
        segment_bytes: SEGMENT_BYTES as u64,
        segments: log.chunks(SEGMENT_BYTES).collect(),
        unreadable_pages: &|| 0,
    };
    let start = Next { position: PhysicalOffset(0), index: EntryIndex(1), term: Term(0) };
    let (mut visited, mut end) = (0, PhysicalOffset(0));
    let scanned = contents.scan(start, &mut |header| {
        assert!(header.position >= end, "entries do not overlap");
        assert_eq!(
            base_of(header.position, 1024),
            base_of(PhysicalOffset(header.end().0 - 1), 1024)
        );
        assert_eq!(header.index, EntryIndex(1 + visited), "no index is missing");
        (visited, end) = (visited + 1, header.end());
    });
    assert_eq!((scanned.entries, scanned.next.position), (visited, end));
    assert!(scanned.bytes <= log.len() as u64);
    for committed in [None, Some(EntryIndex(visited)), Some(EntryIndex(visited + 1))] {
        for life in [PreviousLife::Clean, PreviousLife::Killed, PreviousLife::MachineStopped] {
            let verdict = verdict(&scanned, None, committed, life);
            let lost = committed.is_some_and(|committed| committed.0 > visited);
            assert!(!lost || verdict.is_err(), "what was committed is never cut");
        }
    }
}

/// Gives what begins like an entry the lengths and checksums of one: bit 0 of `choice` the
/// header's, bit 1 the body's, bit 2 its total.
fn seal(bytes: &mut [u8], choice: u8) {
    const BODY_BYTES: std::ops::Range<usize> = 48..52;
    if bytes.len() < HEADER_BYTES || bytes[..4] != *b"RMQE" {
        return;
    }
    let word = |range: std::ops::Range<usize>, bytes: &[u8]| {
        u32::from_le_bytes(bytes[range].try_into().expect("four bytes"))
    };
    let body_bytes = word(BODY_BYTES, bytes);
    if choice & 4 != 0 {
        let total = total_bytes(body_bytes.into()) as u32;
        bytes[4..8].copy_from_slice(&total.to_le_bytes());
    }
    if choice & 2 != 0
        && let Some(body) = bytes.get(HEADER_BYTES..HEADER_BYTES + body_bytes as usize)
    {
        let crc = crc32c(body);
        bytes[52..56].copy_from_slice(&crc.to_le_bytes());
    }
    if choice & 1 != 0 {
        let crc = crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    }
}
