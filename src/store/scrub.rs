//! Checking the log as the disk has it, stretch by stretch: entries that nobody has read since they
//! were written. Pure; [`super::commit_log`] reads, `raft::scrubber` says when.
//!
//! ```text
//!  segment:  │ stretch │ stretch │ stretch │ rest │     4 MiB of positions each, from its base
//!  entries:  ├─┬───┬──────┬─┬────┬───┬───┬──┤ zeros │  an entry belongs to where it starts
//! ```
//!
//! Positions are the same on all members, so stretches are, too, and the hash of what starts in
//! one can be compared between members. How the bytes were cut into reads does not show in it.

use crc_fast::{CrcAlgorithm, Digest};

use super::entry::{HEADER_BYTES, Header};
use crate::ids::{EntryIndex, PhysicalOffset};

/// Positions that are hashed together.
pub const STRETCH_BYTES: u64 = 4 << 20;

/// Where the next entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Its index.
    pub index: EntryIndex,
    /// Its position, if it does not go to the next segment.
    pub position: PhysicalOffset,
}

/// A segment as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) base: u64,
    pub(super) first: Cursor,
}

/// Entries of one segment that are hashed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Where it starts, on all members.
    pub start: PhysicalOffset,
    /// Entries that start here or behind are not in it.
    pub end: PhysicalOffset,
    /// The first entry to be read.
    pub first: Cursor,
    /// Entries from this one on are not to be read: they are in the next segment, or too young.
    pub upto: EntryIndex,
    /// It is the start of a segment.
    pub begins_segment: bool,
    /// There is nothing of it before `first`.
    is_from_start: bool,
    /// `upto` is in the next segment.
    ends_segment: bool,
}

/// What a look at the disk found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// All is whole up to here.
    Whole(Cursor),
    /// Something is not.
    Damaged(Damage),
    /// The log does not have that segment any more.
    Gone,
}

/// An entry that is not on the disk as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The entry.
    pub at: Cursor,
    /// The one after it, if its own header says where that is.
    pub next: Option<Cursor>,
    /// What does not hold.
    pub why: String,
}

/// What the bytes of a read are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verified {
    Whole(Cursor),
    /// The first entry alone takes so many.
    Short(usize),
    Damaged(Damage),
}

/// Hash of stored bytes, in order: CRC-64/NVME. It is to find what differs by accident.
pub struct Hash(Digest);

impl Default for Hash {
    fn default() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc64Nvme))
    }
}

impl Hash {
    /// The bytes after those before.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash so far.
    pub fn value(&self) -> u64 {
        self.0.finalize()
    }

    /// The hash of one entry.
    pub fn of(entry: &[u8]) -> u64 {
        let mut hash = Self::default();
        hash.add(entry);
        hash.value()
    }
}

impl Stretch {
    /// The stretch to read from `at` on: where another one ended, or at a segment's first entry, or
    /// at the log's start if it is purged there. `None` if there is nothing below `upto`.
    pub(super) fn at(
        segments: &[Extent],
        at: Cursor,
        upto: EntryIndex,
        segment_bytes: u64,
    ) -> Option<Self> {
        let after = segments.partition_point(|segment| segment.first.index <= at.index);
        let number = after.saturating_sub(1);
        let segment = segments.get(number)?;
        let begins_segment = after == 0 || segment.first.index == at.index;
        let first = if begins_segment { segment.first } else { at };
        if first.index >= upto {
            return None;
        }
        let within = first.position.0.checked_sub(segment.base)?;
        let start = segment.base + within - within % STRETCH_BYTES;
        let segment_end = segment.base + segment_bytes;
        let next = segments.get(number + 1).map(|next| next.first.index);
        Some(Self {
            start: PhysicalOffset(start),
            end: PhysicalOffset(segment_end.min(start + STRETCH_BYTES)),
            first,
            upto: next.map_or(upto, |next| next.min(upto)),
            begins_segment,
            is_from_start: !begins_segment || first.position.0 == segment.base,
            ends_segment: next.is_some_and(|next| next <= upto),
        })
    }

    /// Whether nothing of it is left when the next entry would be `next`.
    pub fn is_over(&self, next: Cursor) -> bool {
        next.position >= self.end || next.index >= self.upto
    }

    /// Whether the hash of what was read is that of all that ever starts in it.
    pub fn is_complete(&self, next: Cursor) -> bool {
        let ends = self.ends_segment && next.index >= self.upto;
        self.is_from_start && (next.position >= self.end || ends)
    }

    /// The start of the next segment, if that is to be read.
    pub fn next_segment(&self) -> Option<Cursor> {
        self.ends_segment.then_some(Cursor { index: self.upto, position: self.end })
    }

    /// Checks `bytes`, which lie at `from` in a segment that has `room` bytes from there on, and
    /// adds the entries that are whole to `hash`.
    pub(super) fn verify(
        &self,
        bytes: &[u8],
        from: Cursor,
        room: usize,
        hash: &mut Hash,
    ) -> Verified {
        let (mut next, mut at) = (from, 0);
        while !self.is_over(next) {
            let rest = &bytes[at..];
            let short = |need: usize| match next == from {
                true => Verified::Short(need),
                false => Verified::Whole(next),
            };
            if rest.len() < HEADER_BYTES && at + HEADER_BYTES <= room {
                return short(HEADER_BYTES);
            }
            let header = match header_at(rest, next, room - at) {
                Ok(header) => header,
                Err(why) => return Verified::Damaged(Damage { at: next, next: None, why }),
            };
            let total = header.total as usize;
            let Some(entry) = rest.get(..total) else { return short(total) };
            let following = Cursor { index: next.index.next(), position: header.end() };
            if let Err(error) = header.check_body(entry) {
                let why = error.to_string();
                return Verified::Damaged(Damage { at: next, next: Some(following), why });
            }
            hash.add(entry);
            (next, at) = (following, at + total);
        }
        Verified::Whole(next)
    }
}

/// The header of the entry that is to be at `at`, with `room` bytes left in its segment.
fn header_at(bytes: &[u8], at: Cursor, room: usize) -> Result<Header, String> {
    let header = Header::parse(bytes).map_err(|error| error.to_string())?;
    if (header.index, header.position) != (at.index, at.position) {
        let (index, position) = (header.index, header.position);
        return Err(format!("it says that it is entry {index} of position {position}"));
    }
    if header.total as usize > room {
        return Err(format!("its {} bytes reach beyond its segment", header.total));
    }
    Ok(header)
}

/// The first entry of the segment that has `index`; of the first one if it is purged. `None` if
/// there is none, or `index` is behind `upto`.
pub(super) fn segment_start(
    segments: &[Extent],
    index: EntryIndex,
    upto: EntryIndex,
) -> Option<Cursor> {
    let index = if index < upto { index } else { EntryIndex(0) };
    let after = segments.partition_point(|segment| segment.first.index <= index);
    segments.get(after.saturating_sub(1)).map(|segment| segment.first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{StoreId, Term};
    use crate::store::entry::{Kind, crc32c, total_bytes};

    const SEGMENT: u64 = 10 << 20;

    fn cursor(index: u64, position: u64) -> Cursor {
        Cursor { index: EntryIndex(index), position: PhysicalOffset(position) }
    }

    /// Three segments; of the first one, what lies before 3 MiB is purged.
    fn segments() -> Vec<Extent> {
        let starts = [(7, 3 << 20), (100, SEGMENT), (200, 2 * SEGMENT)];
        let extent = |(index, position): (u64, u64)| Extent {
            base: position - position % SEGMENT,
            first: cursor(index, position),
        };
        starts.map(extent).to_vec()
    }

    #[test]
    fn stretches_are_the_same_on_all_members_and_never_cross_segments() {
        const MIB: u64 = 1 << 20;
        let at = |at, upto| Stretch::at(&segments(), at, EntryIndex(upto), SEGMENT);
        // Where, up to where: start and end in MiB, first entry, end by index, whole if read whole.
        let rows = [
            (cursor(0, 0), 300, Some((0, 4, 7, 100, false))), // purged: where the log starts
            (cursor(7, 0), 300, Some((0, 4, 7, 100, false))),
            (cursor(9, 4 * MIB), 300, Some((4, 8, 9, 100, true))),
            (cursor(99, 9 * MIB), 300, Some((8, 10, 99, 100, true))), // the rest is shorter
            (cursor(100, 9 * MIB), 300, Some((10, 14, 100, 200, true))),
            (cursor(150, 13 * MIB), 300, Some((10, 14, 150, 200, true))),
            (cursor(200, 20 * MIB), 300, Some((20, 24, 200, 300, true))),
            (cursor(150, 13 * MIB), 151, Some((10, 14, 150, 151, true))),
            (cursor(150, 13 * MIB), 150, None),
            (cursor(300, 29 * MIB), 300, None),
        ];
        for (from, upto, want) in rows {
            let got = at(from, upto);
            let seen = got.map(|s| {
                let ends = (s.start.0 / MIB, s.end.0 / MIB);
                (ends.0, ends.1, s.first.index.0, s.upto.0, s.is_complete(cursor(0, s.end.0)))
            });
            assert_eq!(seen, want, "{from:?} up to {upto}");
        }
        assert_eq!(Stretch::at(&[], cursor(0, 0), EntryIndex(1), SEGMENT), None);
    }

    #[test]
    fn what_is_not_settled_ends_a_stretch_and_leaves_it_incomplete() {
        let at = |upto| Stretch::at(&segments(), cursor(150, 10 << 20), EntryIndex(upto), SEGMENT);
        let (young, all) = (at(160).unwrap(), at(300).unwrap());
        let end = cursor(160, 11 << 20);
        assert!(young.is_over(end) && !young.is_complete(end) && young.next_segment().is_none());
        assert!(!all.is_over(end));
        let end = cursor(200, 11 << 20); // the segment's last entry was the one before
        assert!(all.is_over(end) && all.is_complete(end));
        assert_eq!(all.next_segment().map(|next| next.index), Some(EntryIndex(200)));
    }

    #[test]
    fn a_round_begins_at_a_segment() {
        let rows = [(0, 7), (7, 7), (99, 7), (150, 100), (299, 200), (300, 7), (u64::MAX, 7)];
        for (index, want) in rows {
            let got = segment_start(&segments(), EntryIndex(index), EntryIndex(300));
            assert_eq!(got.map(|at| at.index.0), Some(want), "{index}");
        }
        assert_eq!(segment_start(&[], EntryIndex(0), EntryIndex(9)), None);
    }

    /// A segment from its start, with an entry for each body.
    fn stored(bodies: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (index, body) in bodies.iter().enumerate() {
            let total = total_bytes(body.len() as u64) as usize;
            let header = Header {
                total: total as u32,
                index: EntryIndex(index as u64),
                term: Term(1),
                proposer: StoreId(1),
                position: PhysicalOffset(bytes.len() as u64),
                kind: Kind::Data,
                messages: 0,
                message_bytes: 0,
                body_bytes: body.len() as u32,
                body_crc: crc32c(body),
            };
            let mut entry = vec![0; total];
            header.write(entry.first_chunk_mut().unwrap());
            entry[HEADER_BYTES..HEADER_BYTES + body.len()].copy_from_slice(body);
            bytes.extend(entry);
        }
        bytes
    }

    fn whole(entries: usize) -> Stretch {
        let first = Extent { base: 0, first: cursor(0, 0) };
        Stretch::at(&[first], first.first, EntryIndex(entries as u64), SEGMENT).unwrap()
    }

    /// Reads all, in pieces of these sizes, again and again.
    fn read(bytes: &[u8], stretch: &Stretch, pieces: &[usize]) -> Result<u64, Damage> {
        let (mut at, mut hash, mut pieces) =
            (stretch.first, Hash::default(), pieces.iter().cycle());
        let mut least = 0;
        while !stretch.is_over(at) {
            let rest = &bytes[at.position.0 as usize..];
            let piece = &rest[..rest.len().min(*pieces.next().unwrap()).max(least).min(rest.len())];
            least = 0;
            match stretch.verify(piece, at, rest.len(), &mut hash) {
                Verified::Whole(next) => at = next,
                Verified::Short(need) => least = need,
                Verified::Damaged(damage) => return Err(damage),
            }
        }
        Ok(hash.value())
    }

    fn bodies() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20)
    }

    proptest! {
        #[test]
        fn the_hash_is_the_same_however_the_bytes_were_read(
            bodies in bodies(), pieces in prop::collection::vec(1..2000usize, 1..10),
        ) {
            let (bytes, stretch) = (stored(&bodies), whole(bodies.len()));
            let got = read(&bytes, &stretch, &pieces);
            prop_assert_eq!(got, Ok(Hash::of(&bytes)));
        }

        #[test]
        fn any_flipped_bit_is_found_in_its_entry(
            bodies in bodies(), pieces in prop::collection::vec(1..2000usize, 1..10),
            at in any::<prop::sample::Index>(), bit in 0..8u8,
        ) {
            let (mut bytes, stretch) = (stored(&bodies), whole(bodies.len()));
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let damage = read(&bytes, &stretch, &pieces).unwrap_err();
            prop_assert!(damage.at.position.0 <= at as u64);
            prop_assert!(damage.next.is_none_or(|next| at < next.position.0 as usize));
        }

        #[test]
        fn any_bytes_are_verified_without_panic(
            bytes in prop::collection::vec(any::<u8>(), 1..300), room in 0..400usize,
        ) {
            let room = room.max(bytes.len());
            let _ = whole(9).verify(&bytes, cursor(0, 0), room, &mut Hash::default());
        }
    }
}
