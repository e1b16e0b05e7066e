//! Damage in a log that is in use: finding it, and replacing it under the readers.

use std::ops::Range;
use std::sync::Arc;

use super::reading::following;
use super::{CommitLog, Core, Ends, WriteSide, not_found};
use crate::ids::{EntryIndex, PhysicalOffset};
use crate::store::entry::{Header, ReceivedEntry};
use crate::store::error::Error;
use crate::store::files::Through;
use crate::store::repair::{Gap, PAGE_BYTES, RepairError, Repaired, Spares, Unfit};
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
    ///
    /// Called on any thread. Who appends meanwhile does not wait for what the disk reads and syncs.
    pub fn repair(
        &self,
        spares: &Spares,
        settled: Option<EntryIndex>,
    ) -> Result<Repaired, RepairError> {
        let core = self.core();
        let seen = core.look_around(self.needed(spares).unwrap_or_default());
        let mut write = core.write.lock();
        core.alive()?;
        let needed = self.needed(spares)?;
        core.check_fit(&core.segments.load(), &{ *core.ends.lock() }, needed, settled)?;
        let patches: Result<Vec<Patch>, RepairError> =
            core.runs(needed).map(|run| core.patch(&write, run, &seen, settled)).collect();
        let written = patches?.iter().try_for_each(|patch| core.replace(&mut write, patch));
        core.show(&write); // also what was written before something failed
        drop(write);
        let synced = core.sync_written();
        written.and(synced)?;
        Ok(Repaired::by(needed))
    }

    /// What is damaged here of a peer's entries: nothing, if somebody has repaired it meanwhile.
    fn needed<'a>(&self, spares: &'a Spares) -> Result<&'a [ReceivedEntry], Unfit> {
        let (core, index) = (self.core(), spares.first());
        let is_whole = |index: EntryIndex| {
            self.entries(index, index.next(), 0).is_ok_and(|entries| !entries.is_empty())
        };
        if index.is_some_and(is_whole) {
            return Ok(&[]);
        }
        let segments = core.segments.load();
        spares.needed(|at| core.published_from(&segments, at))
    }
}

/// Neighbouring entries, and what is beside them in the pages that they lie in: a page that the
/// disk cannot read can only be written as a whole.
pub(super) struct Patch {
    base: u64,
    at: usize,
    bytes: Vec<u8>,
}

/// What is beside `run` in its pages, of a segment that was so far then.
pub(super) struct Beside {
    of: Arc<Segment>,
    published: usize,
    run: Range<usize>,
    before: Vec<u8>,
    behind: Vec<u8>,
}

impl Beside {
    /// As it is stored; zeros if the disk cannot read it. Not as it is mapped, where zeros stay for
    /// what could not be read once.
    fn read(segment: &Arc<Segment>, run: Range<usize>) -> Result<Self, Error> {
        let published = segment.reader.published(); // before what is read: it only grows
        let read = |part: Range<usize>| {
            let mut bytes = vec![0; part.len()];
            let read = match bytes.is_empty() {
                true => Ok(()),
                false => segment.file.read_stored(part.start as u64, &mut bytes, Through::Cache),
            };
            read.map_err(|error| Error::io("repair segment", &segment.path, error)).map(|()| bytes)
        };
        let before = read(run.start - run.start % PAGE_BYTES..run.start)?;
        let behind = read(run.end..run.end.next_multiple_of(PAGE_BYTES))?;
        Ok(Self { of: Arc::clone(segment), published, run, before, behind })
    }

    /// Whether nobody has written there since. For who keeps others from writing.
    fn still_holds(&self, segment: &Arc<Segment>, run: &Range<usize>) -> bool {
        let end = self.run.end + self.behind.len();
        let is_sealed = end <= self.published || segment.reader.published() == self.published;
        Arc::ptr_eq(&self.of, segment) && self.run == *run && is_sealed
    }

    /// Whether something of the log lies before the run, and behind it, that cannot be read: in one
    /// page all of it or nothing, and no entry begins with zeros.
    fn is_lost(&self) -> (bool, bool) {
        let is_lost = |bytes: &[u8]| !bytes.is_empty() && bytes.iter().all(|byte| *byte == 0);
        let start = (self.of.start().0 - self.of.base) as usize;
        let before = self.run.start.saturating_sub(start).min(self.before.len());
        let behind = self.published.saturating_sub(self.run.end).min(self.behind.len());
        (is_lost(&self.before[self.before.len() - before..]), is_lost(&self.behind[..behind]))
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

    /// Neighbouring entries, by segment.
    fn runs<'a>(&self, entries: &'a [ReceivedEntry]) -> impl Iterator<Item = &'a [ReceivedEntry]> {
        let segment_bytes = self.options.segment_bytes;
        let base = move |entry: &ReceivedEntry| base_of(entry.header().position, segment_bytes);
        entries.chunk_by(move |a, b| base(a) == base(b))
    }

    /// Where a run lies.
    fn place_of(&self, run: &[ReceivedEntry]) -> (u64, Range<usize>) {
        let bytes: usize = run.iter().map(|entry| entry.bytes().len()).sum();
        let position = run.first().map_or(PhysicalOffset(0), |first| first.header().position);
        let base = base_of(position, self.options.segment_bytes);
        let at = (position.0 - base) as usize;
        (base, at..at + bytes)
    }

    /// Reads what replacing these entries needs to know, before anybody waits for it.
    pub(super) fn look_around(&self, entries: &[ReceivedEntry]) -> Vec<Beside> {
        let segments = self.segments.load_full();
        let look = |run| {
            let (base, range) = self.place_of(run);
            let segment = segments.iter().find(|segment| segment.base == base)?;
            segment.reader.touch(range.clone());
            Beside::read(segment, range).ok() // told by who needs it
        };
        self.runs(entries).filter_map(look).collect()
    }

    /// What is to be written for neighbouring entries of one segment. `seen` was read before, and
    /// is read again if it does not hold any more.
    pub(super) fn patch(
        &self,
        write: &WriteSide,
        run: &[ReceivedEntry],
        seen: &[Beside],
        settled: Option<EntryIndex>,
    ) -> Result<Patch, RepairError> {
        let (base, range) = self.place_of(run);
        let ([first, ..], Some((segment, _))) = (run, write.segments.get(&base)) else {
            return Err(not_found(EntryIndex(0), PhysicalOffset(base)).into());
        };
        let (now, first) =
            (seen.iter().find(|seen| seen.still_holds(segment, &range)), first.header());
        let read;
        let beside = match now {
            Some(beside) => beside,
            None => {
                read = Beside::read(segment, range.clone())?;
                &read
            }
        };
        let (before, behind) = beside.is_lost();
        let neighbours = [
            first.index.0.checked_sub(1).filter(|_| before),
            Some(first.index.0 + run.len() as u64).filter(|_| behind),
        ];
        for index in neighbours.into_iter().flatten().map(EntryIndex) {
            if Some(index) > settled {
                return Err(Unfit::Beside { index }.into());
            }
        }
        let mut bytes = beside.before.clone();
        run.iter().for_each(|entry| bytes.extend_from_slice(entry.bytes()));
        bytes.extend_from_slice(&beside.behind);
        Ok(Patch { base, at: range.start - beside.before.len(), bytes })
    }

    /// Writes a patch under the readers. If the disk refuses it, what was damaged still is, and
    /// nothing else is: the log goes on.
    pub(super) fn replace(&self, write: &mut WriteSide, patch: &Patch) -> Result<(), Error> {
        let Some((segment, writer)) = write.segments.get_mut(&patch.base) else {
            return Err(not_found(EntryIndex(0), PhysicalOffset(patch.base)));
        };
        let failed = |error| Error::io("repair segment", &segment.path, error);
        let fresh = segment.file.map().map_err(failed)?;
        let written =
            writer.replace(fresh, (patch.at, &patch.bytes), |bytes| segment.file.write(bytes));
        let written = written.map_err(failed);
        let end = PhysicalOffset(patch.base + writer.published() as u64);
        *segment = Arc::new(segment.cut(writer.reader(), end));
        written
    }
}
