//! Reading the log: by index, by position, each entry verified where it goes on to somebody.

use std::sync::Arc;

use super::{CommitLog, not_found};
use crate::ids::{EntryIndex, PhysicalOffset};
use crate::store::entry::{EntryId, Header, StoredEntry};
use crate::store::error::Error;
use crate::store::mmap::MappedBytes;
use crate::store::segment::{Segment, damaged};

impl CommitLog {
    /// Entries of `[from, to)`, one after the other, as many as fit into `bytes_max` but at least
    /// one if there is one. Each is verified whole, every time: what goes to a peer comes from here,
    /// and what was written may be damaged since. Costs about 80 ns per KiB.
    pub fn entries(
        &self,
        from: EntryIndex,
        to: EntryIndex,
        bytes_max: u64,
    ) -> Result<Vec<StoredEntry>, Error> {
        let (ends, segments) = self.core().look();
        if from < ends.purged.first() {
            return Err(Error::Purged { index: from, first: ends.purged.first() });
        }
        let to = to.min(ends.next());
        let mut entries = Vec::new();
        if from >= to {
            return Ok(entries);
        }
        let (mut at, mut header) = find(&segments, from)?;
        let mut bytes = 0;
        loop {
            bytes += u64::from(header.total);
            if bytes > bytes_max && !entries.is_empty() {
                return Ok(entries);
            }
            let (position, index) = (header.position, header.index);
            let entry = segments[at].entry(header).ok_or_else(|| not_found(index, position))?;
            header
                .check_body(&entry.bytes)
                .map_err(|error| damaged(position, index, error.to_string()))?;
            entries.push(entry);
            if index.0 + 1 >= to.0 {
                return Ok(entries);
            }
            (at, header) = following(&segments, at, &header)?;
        }
    }

    /// The same, up to the first entry that is damaged; an error if that is the first of all.
    pub fn whole_entries(
        &self,
        from: EntryIndex,
        to: EntryIndex,
        bytes_max: u64,
    ) -> Result<Vec<StoredEntry>, Error> {
        match self.entries(from, to, bytes_max) {
            Err(Error::Damaged { index, .. }) if index > from => {
                self.entries(from, index, bytes_max)
            }
            read => read,
        }
    }

    /// Identity of an entry that is in the log, or was purged last.
    pub fn id_of(&self, index: EntryIndex) -> Option<EntryId> {
        let ends = *self.core().ends.lock();
        for known in [ends.last, ends.purged.last].into_iter().flatten() {
            if known.index == index {
                return Some(known);
            }
        }
        self.header_of(index).ok().flatten().map(|header| header.id())
    }

    /// Header of an entry; `None` if it is not in the log.
    pub fn header_of(&self, index: EntryIndex) -> Result<Option<Header>, Error> {
        let (ends, segments) = self.core().look();
        if index < ends.purged.first() || index >= ends.next() {
            return Ok(None);
        }
        find(&segments, index).map(|(_, header)| Some(header))
    }

    /// Where the oldest entry starts, or the tail if there is none. Known without reading it: what
    /// is deleted is decided by this, and it may be damaged.
    pub fn first_position(&self) -> PhysicalOffset {
        let (ends, segments) = self.core().look();
        let (purged, first) = (ends.purged, ends.purged.first());
        match holder(&segments, first).filter(|_| first < ends.next()) {
            Some(at) => segments[at].start().max(purged.end),
            None => ends.tail,
        }
    }

    /// Bytes `at..at + bytes`, if they lie in the log and within one segment. Below the tail they
    /// may still be taken back; the caller knows that they are committed.
    pub fn slice(&self, at: PhysicalOffset, bytes: u32) -> Option<MappedBytes> {
        let segments = self.core().segments.load();
        let after = segments.partition_point(|s| s.base <= at.0);
        segments.get(after.checked_sub(1)?)?.slice(at, bytes)
    }
}

/// The segment that has an entry, if the log has it.
fn holder(segments: &[Arc<Segment>], index: EntryIndex) -> Option<usize> {
    segments.partition_point(|s| s.first <= index).checked_sub(1)
}

/// The segment and header of an entry that the log has.
pub(super) fn find(segments: &[Arc<Segment>], index: EntryIndex) -> Result<(usize, Header), Error> {
    let at = holder(segments, index).ok_or_else(|| not_found(index, PhysicalOffset(0)))?;
    Ok((at, segments[at].find(index)?))
}

/// The entry after `header`, which is in segment `at` and is not the last one.
pub(super) fn following(
    segments: &[Arc<Segment>],
    at: usize,
    header: &Header,
) -> Result<(usize, Header), Error> {
    let index = header.index.next();
    match segments.get(at + 1).filter(|next| next.first <= index) {
        Some(next) => Ok((at + 1, next.header_at(next.start(), index)?)),
        None => Ok((at, segments[at].header_at(header.end(), index)?)),
    }
}
