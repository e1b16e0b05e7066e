//! What may take the place of damaged entries, and putting it there.
//!
//! The bytes of a committed entry are the same on all members, so what one has lost, another one
//! has. A member asks for what follows the last whole entry before the damage; the peer answers
//! only if it has that very entry, so the logs are the same up to there. Then it is known what
//! belongs in the damaged place if
//!
//! - the damaged entry's header is whole and the peer's is the same: it has the body's checksum; or
//! - the peer knows its entry to be committed: there is one committed entry of an index.
//!
//! Nothing else is ever written, nothing that is whole is replaced, and nothing is cut.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::entry::{EntryId, Header, ReceivedEntry};
use super::error::Error;
use super::files::{Files, SegmentFile};
use super::mmap::Writer;
use super::prepare::segment_path;
use super::segment::{base_of, place};
use crate::ids::{EntryIndex, PhysicalOffset};

/// What disks and file systems read and write at once, most of them. A divisor of segments' size.
pub(super) const PAGE_BYTES: usize = 4096;

/// A place in the log that does not hold what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Where the damaged entry starts, or where the one before it ends.
    pub position: PhysicalOffset,
    /// Its index.
    pub index: EntryIndex,
    /// The entry before it; `None` if it is the first of all.
    pub previous: Option<EntryId>,
}

/// Entries of a peer for a [`Gap`]: they follow what is before it, and each other.
#[derive(Debug)]
pub struct Spares {
    entries: Vec<ReceivedEntry>,
    committed: Option<EntryIndex>,
}

/// What was put in the place of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repaired {
    /// Entries.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Why a peer's entries do not take the place of damaged ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// There are none.
    #[error("it sent no entry")]
    Nothing,
    /// Something else was asked for.
    #[error("it sent entry {index} of position {position}, which does not belong here")]
    Elsewhere {
        /// Of what was sent.
        index: EntryIndex,
        /// Where that belongs.
        position: PhysicalOffset,
    },
    /// The damaged entry's header is damaged, too, so only a committed entry is sure to be it.
    #[error("it does not know entry {index} to be committed, and the damaged one is past knowing")]
    Unsure {
        /// The entry.
        index: EntryIndex,
    },
    /// The disk cannot read the page that both lie in. What is not known to be committed would be
    /// zeros in it, which the next start takes for the end of the log.
    #[error("entry {index} cannot be read either, lies in the same page and may not be committed")]
    Beside {
        /// The neighbour of what would be written.
        index: EntryIndex,
    },
    /// The log goes on with something else.
    #[error("what follows entry {index} here does not fit to it")]
    Follower {
        /// The last entry that would be written.
        index: EntryIndex,
    },
}

/// Why nothing was repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// With what this peer sent; another one may have better.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The disk did not take it.
    #[error(transparent)]
    Store(#[from] Error),
}

impl Spares {
    /// Takes the entries that a peer sent for `gap`; `committed` is the last that it knows to be.
    pub fn new(
        gap: &Gap,
        entries: Vec<ReceivedEntry>,
        committed: Option<EntryIndex>,
        segment_bytes: u64,
    ) -> Result<Self, Unfit> {
        let (mut end, mut index) = (gap.position, gap.index);
        let mut term = gap.previous.map(|previous| previous.term);
        for entry in &entries {
            let header = entry.header();
            let total = u64::from(header.total);
            let rolled = place(end, segment_bytes, segment_bytes); // a leader may leave the rest
            let is_here = header.position == end && place(end, total, segment_bytes) == end;
            let is_next = header.position == rolled && total <= segment_bytes;
            if !(is_here || is_next) || header.index != index || Some(header.term) < term {
                let (index, position) = (header.index, header.position);
                return Err(Unfit::Elsewhere { index, position });
            }
            (end, index) = (header.end(), index.next());
            term = Some(header.term);
        }
        match entries.is_empty() {
            true => Err(Unfit::Nothing),
            false => Ok(Self { entries, committed }),
        }
    }

    /// Index of the first one.
    pub(super) fn first(&self) -> Option<EntryIndex> {
        self.entries.first().map(|entry| entry.header().index)
    }

    /// Those to write: from the first one on, as long as what is in their place is not whole.
    /// `own` is what this member has from a position on. Pure.
    pub(super) fn needed<'a>(
        &self,
        own: impl Fn(PhysicalOffset) -> &'a [u8],
    ) -> Result<&[ReceivedEntry], Unfit> {
        for (at, entry) in self.entries.iter().enumerate() {
            let header = entry.header();
            let bytes = own(header.position);
            let found = Header::parse(bytes);
            let is_in_place = |h: &Header| (h.index, h.position) == (header.index, header.position);
            let is_whole = |h: &Header| is_in_place(h) && h.check_body(bytes).is_ok();
            if at > 0 && found.is_ok_and(|h| is_whole(&h)) {
                return Ok(&self.entries[..at]);
            }
            if found != Ok(*header) && Some(header.index) > self.committed {
                let unsure = Unfit::Unsure { index: header.index };
                return if at > 0 { Ok(&self.entries[..at]) } else { Err(unsure) };
            }
        }
        Ok(&self.entries)
    }
}

impl Repaired {
    pub(super) fn by(entries: &[ReceivedEntry]) -> Self {
        let bytes = entries.iter().map(|entry| u64::from(entry.header().total)).sum();
        Self { entries: entries.len() as u64, bytes }
    }
}

/// Repairs the files of a log that is not open; the next [`super::CommitLog::open`] reads all of
/// it again. On disk when this returns.
pub fn repair_files(
    files: &dyn Files,
    dir: &Path,
    segment_bytes: u64,
    spares: &Spares,
) -> Result<Repaired, RepairError> {
    let mut segments: BTreeMap<u64, (Arc<dyn SegmentFile>, Writer)> = BTreeMap::new();
    for entry in &spares.entries {
        let base = base_of(entry.header().position, segment_bytes);
        if let std::collections::btree_map::Entry::Vacant(vacant) = segments.entry(base) {
            let path = segment_path(dir, base);
            let failed = |error| Error::io("open segment", &path, error);
            let file = files.segment(&path, segment_bytes).map_err(failed)?;
            let writer = file.map().map_err(failed)?;
            vacant.insert((file, writer));
        }
    }
    let own = |at: PhysicalOffset| {
        let base = base_of(at, segment_bytes);
        segments.get(&base).map_or(&[][..], |(_, w)| &w.contents()[(at.0 - base) as usize..])
    };
    let needed = spares.needed(own)?;
    let base = |entry: &ReceivedEntry| base_of(entry.header().position, segment_bytes);
    for run in needed.chunk_by(|a, b| base(a) == base(b)) {
        let [first, ..] = run else { continue };
        let base = base(first);
        let Some((file, writer)) = segments.get_mut(&base) else { continue };
        let at = (first.header().position.0 - base) as usize;
        let mut bytes: Vec<u8> = run.iter().flat_map(|entry| entry.bytes()).copied().collect();
        // Whole pages: a page that the disk cannot read can only be written as a whole.
        let end = at + bytes.len();
        let page_end = end.next_multiple_of(PAGE_BYTES).min(writer.len());
        bytes.extend_from_slice(&writer.contents()[end..page_end]);
        let written = file.write(writer.unpublished(at, &bytes));
        written.map_err(|e| Error::io("write to", &segment_path(dir, base), e))?;
    }
    for (base, (file, _)) in &segments {
        let path = segment_path(dir, *base);
        file.sync().map_err(|error| Error::io("sync segment", &path, error))?;
    }
    Ok(Repaired::by(needed))
}
