//! Damage in a log that is in use: finding it, and replacing it under the readers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::reading::following;
use super::{CommitLog, Core, Ends, WriteSide, not_found};
use crate::ids::{EntryIndex, PhysicalOffset};
use crate::store::entry::{Header, ReceivedEntry};
use crate::store::error::Error;
use crate::store::repair::{Gap, RepairError, Repaired, Spares, Unfit};
use crate::store::segment::{Segment, base_of};

impl CommitLog {
    /// The gap that a damaged entry is, with what is known of the entry before it.
    pub fn gap(&self, damage: &Error) -> Option<Gap> {
        let gap = damage.gap()?;
        let before = || self.id_of(EntryIndex(gap.index.0.checked_sub(1)?));
        Some(Gap { previous: gap.previous.or_else(before), ..gap })
    }

    /// Reads the entry that holds `position`; an error says what is damaged, there or on the way.
    pub fn check_at(&self, position: PhysicalOffset) -> Result<(), Error> {
        let core = self.core();
        let segments = core.segments.load();
        let after = segments.partition_point(|s| s.base <= position.0);
        let segment = after.checked_sub(1).map(|at| &segments[at]);
        let Some(segment) = segment.filter(|s| s.start() <= position && position < self.tail())
        else {
            return Ok(());
        };
        let index = segment.holding(position)?.index;
        match self.entries(index, index.next(), 0) {
            Err(Error::Purged { .. }) => Ok(()),
            read => read.map(drop),
        }
    }

    /// Puts a peer's entries in the place of damaged ones; on disk when this returns. Readers keep
    /// what they have got ([`crate::store::mmap`]), and those that come get the new bytes. Up to
    /// `settled`, entries are known to be committed here; others must fit to what follows.
    pub fn repair(
        &self,
        spares: &Spares,
        settled: Option<EntryIndex>,
    ) -> Result<Repaired, RepairError> {
        let core = self.core();
        let mut write = core.write.lock();
        core.alive()?;
        let ends = *core.ends.lock();
        let needed = {
            let segments = core.segments.load();
            let needed = spares.needed(|at| core.published_from(&segments, at))?;
            core.check_fit(&segments, &ends, needed, settled)?;
            needed
        };
        let mut parts: BTreeMap<u64, Vec<&ReceivedEntry>> = BTreeMap::new();
        for entry in needed {
            let base = base_of(entry.header().position, core.options.segment_bytes);
            parts.entry(base).or_default().push(entry);
        }
        for (base, entries) in parts {
            core.replace(&mut write, base, &entries)?;
        }
        core.show(&write);
        drop(write); // who appends meanwhile does not wait for the disk
        core.sync_written()?;
        Ok(Repaired::by(needed))
    }
}

impl Core {
    /// What readers see from `at` to the end of its segment.
    fn published_from<'a>(&self, segments: &'a [Arc<Segment>], at: PhysicalOffset) -> &'a [u8] {
        let base = base_of(at, self.options.segment_bytes);
        let segment = segments.iter().find(|segment| segment.base == base);
        let bytes = segment.and_then(|segment| {
            segment.reader.bytes((at.0 - base) as usize..segment.reader.published())
        });
        bytes.unwrap_or_default()
    }

    fn check_fit(
        &self,
        segments: &[Arc<Segment>],
        ends: &Ends,
        needed: &[ReceivedEntry],
        settled: Option<EntryIndex>,
    ) -> Result<(), Unfit> {
        for entry in needed {
            let header = entry.header();
            if self.published_from(segments, header.position).len() < header.total as usize {
                return Err(Unfit::Follower { index: header.index });
            }
        }
        let Some(last) = needed.last().map(ReceivedEntry::header) else { return Ok(()) };
        let goes_on = |at: usize, last: &Header| {
            following(segments, at, last).is_ok_and(|(_, next)| next.term >= last.term)
        };
        let base = base_of(last.position, self.options.segment_bytes);
        let fits = match ends.last {
            Some(end) if end.index == last.index => last.end() == ends.tail,
            Some(_) | None => segments
                .iter()
                .position(|segment| segment.base == base)
                .is_some_and(|at| goes_on(at, last)),
        };
        match fits || Some(last.index) <= settled {
            true => Ok(()),
            false => Err(Unfit::Follower { index: last.index }),
        }
    }

    /// Replaces neighbouring entries of one segment.
    pub(super) fn replace(
        &self,
        write: &mut WriteSide,
        base: u64,
        entries: &[&ReceivedEntry],
    ) -> Result<(), Error> {
        let Some(first) = entries.first().map(|entry| entry.header()) else { return Ok(()) };
        let Some((segment, writer)) = write.segments.get_mut(&base) else {
            return Err(not_found(first.index, first.position));
        };
        let failed = |error| Error::io("repair segment", &segment.path, error);
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.bytes()).copied().collect();
        let fresh = segment.file.map().map_err(failed)?;
        let at = (first.position.0 - base) as usize;
        let written = writer.replace(fresh, (at, &bytes), |bytes| segment.file.write(bytes));
        let written = written.map_err(|error| self.poisoned_by(&failed(error)));
        let end = PhysicalOffset(base + writer.published() as u64);
        *segment = Arc::new(segment.cut(writer.reader(), end));
        written
    }
}
