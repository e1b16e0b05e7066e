//! Reading the log as the disk has it, and writing what only the disk has lost.

use std::io::ErrorKind;

use bytes::Bytes;

use super::{CommitLog, not_found};
use crate::ids::EntryIndex;
use crate::store::entry::ReceivedEntry;
use crate::store::error::Error;
use crate::store::files::Through;
use crate::store::repair::RepairError;
use crate::store::scrub::{Cursor, Extent, Hash, Look, Stretch, Verified, segment_start};
use crate::store::segment::{Segment, base_of, damaged};

/// Read at once, unless an entry is larger: so little that a sync does not wait for it.
const PIECE_BYTES: usize = 1 << 20;

impl CommitLog {
    /// Where the segment begins that has `index`, or the log if it is purged or not below `upto`.
    pub fn segment_start(&self, index: EntryIndex, upto: EntryIndex) -> Option<Cursor> {
        segment_start(&self.extents(), index, upto)
    }

    /// The stretch to check from `at` on; `None` if there is nothing below `upto`, which is settled
    /// and on disk.
    pub fn stretch_at(&self, at: Cursor, upto: EntryIndex) -> Option<Stretch> {
        Stretch::at(&self.extents(), at, upto, self.core().options.segment_bytes)
    }

    fn extents(&self) -> Vec<Extent> {
        let extent = |segment: &Segment| Extent {
            base: segment.base,
            first: Cursor { index: segment.first, position: segment.start() },
        };
        self.core().segments.load().iter().map(|segment| extent(segment)).collect()
    }

    /// Reads a piece of a stretch, from `from` on: from the disk itself, past the page cache, so
    /// that it sees what memory hides, and takes no memory from anybody. Only the segment that is
    /// written to is read through the cache, because direct reads keep writes to a file waiting.
    pub fn look(&self, stretch: &Stretch, from: Cursor, hash: &mut Hash) -> Result<Look, Error> {
        let segment_bytes = self.core().options.segment_bytes;
        let base = base_of(from.position, segment_bytes);
        let segments = self.core().segments.load_full();
        let Some(segment) = segments.iter().find(|segment| segment.base == base) else {
            return Ok(Look::Gone);
        };
        let is_last = segments.last().is_some_and(|last| last.base == base);
        let through = if is_last { Through::Cache } else { Through::Disk };
        let at = from.position.0 - base;
        let room = usize::try_from(segment_bytes - at).unwrap_or(usize::MAX);
        let mut wanted = PIECE_BYTES;
        loop {
            let mut bytes = vec![0; wanted.min(room)];
            match segment.file.read_stored(at, &mut bytes, through) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Look::Gone),
                read => read.map_err(|error| Error::io("check segment", &segment.path, error))?,
            }
            match stretch.verify(&bytes, from, room, hash) {
                Verified::Short(need) => wanted = need.max(wanted + 1),
                Verified::Whole(next) => return Ok(Look::Whole(next)),
                Verified::Damaged(damage) => return Ok(Look::Damaged(damage)),
            }
        }
    }

    /// Writes an entry that is whole in memory once more, because the disk has lost it. It is known
    /// to be committed. On disk when this returns; called as [`Self::repair`] is.
    pub fn write_again(&self, index: EntryIndex) -> Result<(), Error> {
        let core = self.core();
        let copy = [self.copy_of(index)?];
        let seen = core.look_around(&copy);
        let mut write = core.write.lock();
        core.alive()?;
        let copy = [self.copy_of(index)?]; // the log may have been cut
        let patch = core.patch(&write, &copy, &seen, Some(index)).map_err(|error| match error {
            RepairError::Store(error) => error,
            RepairError::Unfit(why) => damaged(copy[0].header().position, index, why.to_string()),
        })?;
        let written = core.replace(&mut write, &patch);
        core.show(&write);
        drop(write);
        let synced = core.sync_written(); // also what a write has left that failed
        written.and(synced)
    }

    fn copy_of(&self, index: EntryIndex) -> Result<ReceivedEntry, Error> {
        let entries = self.entries(index, index.next(), 0)?;
        let Some(entry) = entries.first() else {
            return Err(not_found(index, self.first_position()));
        };
        let copy = ReceivedEntry::take_from(&mut Bytes::copy_from_slice(&entry.bytes));
        copy.map_err(|error| damaged(entry.header.position, index, error.to_string()))
    }
}
