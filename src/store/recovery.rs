//! What a start finds: which files there are, which entries they hold, where the log ends.
//!
//! Everything before the checkpoint was synced together with it; only its files are looked for.
//! From there the log is read forward, every checksum verified, until something does not hold:
//!
//! | what does not hold | then |
//! |---|---|
//! | nothing was written, and nothing follows | the log ends here |
//! | it is known to be committed | [`Error::Damaged`]: others may have forgotten it already |
//! | whole entries follow, and the page cache cannot have been lost | [`Error::Damaged`], too |
//! | the disk cannot read it, and the page cache cannot have been lost | [`Error::Damaged`], too |
//! | otherwise | a torn tail, acknowledged to nobody: it is cut |
//!
//! A machine that stops may leave later pages on disk without earlier ones, so whole entries after
//! a torn one say nothing then; the commit index on disk never exceeds what was synced before.
//!
//! What is read comes from the page cache, which after a failed sync has pages that are called
//! clean and are not on the disk: no later sync writes them. So what is not known to be on the
//! disk is written once more before it is synced and believed, unless the store was closed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::commit_log::{LogOptions, ReplayFrom};
use super::entry::{ALIGN_BYTES, EntryError, EntryId, HEADER_BYTES, Header};
use super::error::{Committed, Error};
use super::files::{FileInfo, Files, SegmentFile};
use super::mmap::Writer;
use super::prepare::segment_path;
use super::purge_point::{self, LogStart, PurgePoint};
use super::segment::{Segment, base_in, base_of, damaged, file_name};
use super::store_file::PreviousLife;
use crate::clock;
use crate::ids::{EntryIndex, PhysicalOffset, Term};

/// How far behind a broken entry a whole one is looked for: twice the largest message.
const FOLLOWING_BYTES: usize = 8 << 20;

/// What is written again at a time.
const WRITTEN_AGAIN_BYTES: usize = 1 << 20;

/// What [`super::CommitLog::open`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// Entries read and verified.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The last entry of the log.
    pub last: Option<EntryId>,
    /// The torn tail that was cut, if there was one.
    pub cut: Option<Cut>,
    /// Time it took.
    pub took: Duration,
}

/// A torn tail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Where the log ends now.
    pub position: PhysicalOffset,
    /// Index of the entry that was not whole.
    pub index: EntryIndex,
    /// What did not hold.
    pub why: String,
}

/// A log that is ready to be written to.
pub(super) struct Found {
    pub(super) segments: BTreeMap<u64, (Arc<Segment>, Writer)>,
    pub(super) purged: PurgePoint,
    pub(super) last: Option<EntryId>,
    pub(super) tail: PhysicalOffset,
    pub(super) report: Recovery,
}

/// Opens the files of a log and finds its end. Nothing of the log runs yet.
pub(super) fn recover(
    files: &dyn Files,
    options: &LogOptions,
    from: ReplayFrom,
    committed: Option<EntryIndex>,
) -> Result<Found, Error> {
    let started = clock::now();
    let dir = options.dir.as_path();
    files.create_dir(dir).map_err(|e| Error::io("create directory", dir, e))?;
    let purged = settle_start(files, dir, from)?;
    if from.index < purged.first() {
        return Err(Error::Purged { index: from.index, first: purged.first() });
    }
    let mut mapped = map_segments(files, options, purged, from)?;
    let contents = Contents {
        first_base: mapped.first().map_or(0, |m| m.base),
        segment_bytes: options.segment_bytes,
        segments: mapped.iter().map(|m| m.writer.contents()).collect(),
        unreadable_pages: &|| mapped.iter().map(|m| m.writer.unreadable_pages()).sum(),
    };
    let previous = from.previous.filter(|id| id.index.0.checked_add(1) == Some(from.index.0));
    let mut visits = Visits { segment_bytes: options.segment_bytes, ..Visits::default() };
    let mut unsure = None;
    let scanned = contents.scan(
        Next {
            position: from.position,
            index: from.index,
            term: previous.map_or(Term(0), |p| p.term),
        },
        &mut |header| {
            visits.note(header);
            if unsure.is_none() && Some(header.index) > committed {
                unsure = Some(header.position);
            }
        },
    );
    let purged_before = purged.last.filter(|_| from.index == purged.first());
    let before = scanned.last.or(previous).or(purged_before);
    let cut = verdict(&scanned, before, committed, options.previous_life)?;
    let tail = scanned.next.position;
    let mut segments = BTreeMap::new();
    let beyond = mapped.split_off(mapped.partition_point(|m| m.base < tail.0));
    remove_backwards(files, dir, beyond.iter().map(|mapped| mapped.path.as_path()))?;
    let rewritten = unsure.filter(|_| options.previous_life != PreviousLife::Clean);
    for mut mapped in mapped {
        if let Some(from) = rewritten {
            mapped.write_again(from, tail)?;
        }
        let base = mapped.base;
        let before = segments.last_key_value().map(|(_, (segment, _))| segment);
        let segment = visits.segment(mapped, purged, from, tail);
        segments.insert(base, segment.map_err(|error| placed(error, before, purged))?);
    }
    finish_purge(files, &mut segments, purged)?;
    if options.previous_life != PreviousLife::Clean || cut.is_some() {
        clear_after(&segments, tail, options.segment_bytes)?; // synced with the rest
    }
    let last = match before {
        Some(id) => Some(id),
        None if from.index == purged.first() => None,
        None => Some(entry_before(&segments, from)?),
    };
    let report = Recovery {
        entries: scanned.entries,
        bytes: scanned.bytes,
        last,
        cut,
        took: clock::now().duration_since(started),
    };
    Ok(Found { segments, purged, last, tail, report })
}

/// Where the log starts. Completes a reset whose checkpoint was written, forgets one whose was not.
fn settle_start(files: &dyn Files, dir: &Path, from: ReplayFrom) -> Result<PurgePoint, Error> {
    let start = purge_point::load(files, dir)?;
    let Some(reset) = start.reset else { return Ok(start.purged) };
    let complete = reset.end == from.position && reset.first() == from.index;
    if complete {
        remove_segments(files, dir)?;
    }
    let purged = if complete { reset } else { start.purged };
    purge_point::save(files, dir, LogStart { purged, reset: None })?;
    Ok(purged)
}

/// Deletes every segment of a log, newest first: what is left at any time is a log.
pub(super) fn remove_segments(files: &dyn Files, dir: &Path) -> Result<(), Error> {
    let listed = files.list(dir).map_err(|e| Error::io("list", dir, e))?;
    for file in listed.iter().rev().filter(|f| base_in(&f.name).is_some()) {
        remove(files, &dir.join(&file.name))?;
    }
    files.sync_dir(dir).map_err(|e| Error::io("sync directory", dir, e))
}

/// Deletes the last segments of a log, `paths` ascending, durably. Newest first, each for good
/// before the one before it: whenever that is interrupted, there is no hole.
pub(super) fn remove_backwards<'a>(
    files: &dyn Files,
    dir: &Path,
    paths: impl DoubleEndedIterator<Item = &'a Path>,
) -> Result<(), Error> {
    let synced = || files.sync_dir(dir).map_err(|e| Error::io("sync directory", dir, e));
    for path in paths.rev() {
        synced()?;
        remove(files, path)?;
    }
    synced()
}

fn remove(files: &dyn Files, path: &Path) -> Result<(), Error> {
    files.remove(path).map_err(|e| Error::io("remove", path, e))
}

// --- files ---

struct Mapped {
    base: u64,
    path: std::path::PathBuf,
    file: Arc<dyn SegmentFile>,
    writer: Writer,
}

impl Mapped {
    /// Writes what is there of `from..tail` as it is, so that the next sync takes it to the disk.
    fn write_again(&mut self, from: PhysicalOffset, tail: PhysicalOffset) -> Result<(), Error> {
        let within = |at: PhysicalOffset| at.0.saturating_sub(self.base) as usize;
        let (mut at, end) = (within(from), within(tail).min(self.writer.len()));
        while at < end {
            let part = at..end.min(at + WRITTEN_AGAIN_BYTES);
            let bytes = self.writer.contents()[part.clone()].to_vec();
            let written = self.file.write(self.writer.unpublished(at, &bytes));
            written.map_err(|e| Error::io("write again to", &self.path, e))?;
            at = part.end;
        }
        Ok(())
    }
}

fn map_segments(
    files: &dyn Files,
    options: &LogOptions,
    purged: PurgePoint,
    from: ReplayFrom,
) -> Result<Vec<Mapped>, Error> {
    let (dir, segment_bytes) = (options.dir.as_path(), options.segment_bytes);
    let mut listed = Vec::new();
    for file in files.list(dir).map_err(|e| Error::io("list", dir, e))? {
        let Some(base) = base_in(&file.name) else { continue };
        let Some(end) = base.checked_add(segment_bytes).filter(|_| base % segment_bytes == 0)
        else {
            let why = format!("its name is no multiple of the segment size {segment_bytes}");
            return Err(Error::bad_file(&dir.join(&file.name), why));
        };
        match end <= purged.end.0 {
            true => remove(files, &dir.join(&file.name))?, // retention was interrupted
            false => listed.push((base, file)),
        }
    }
    let bases: Vec<u64> = listed.iter().map(|(base, _)| *base).collect();
    let missing = missing_bases(&bases, purged, from.position, segment_bytes);
    if !missing.is_empty() {
        return Err(Error::MissingSegments { dir: dir.to_owned(), missing: names(&missing) });
    }
    check_sizes(files, options, &listed, purged, from.position)?;
    let mut mapped = Vec::new();
    for base in bases {
        mapped.push(map_segment(files, dir, base, segment_bytes)?);
    }
    Ok(mapped)
}

fn map_segment(files: &dyn Files, dir: &Path, base: u64, bytes: u64) -> Result<Mapped, Error> {
    let path = segment_path(dir, base);
    let file = files.segment(&path, bytes).map_err(|e| Error::io("open segment", &path, e))?;
    let writer = file.map().map_err(|e| Error::io("map segment", &path, e))?;
    Ok(Mapped { base, path, file, writer })
}

/// Segments that should be there between the log's start and `from`, or between others. Pure.
fn missing_bases(
    bases: &[u64],
    purged: PurgePoint,
    from: PhysicalOffset,
    segment_bytes: u64,
) -> Vec<u64> {
    // The segment that holds the end of what was purged may be gone with it.
    let mut expected = base_of(purged.end, segment_bytes);
    if purged.last.is_some() && bases.first().is_some_and(|b| *b == expected + segment_bytes) {
        expected += segment_bytes;
    }
    let mut missing = Vec::new();
    let mut need = |expected: &mut u64, until: u64| {
        while *expected < until {
            missing.push(*expected);
            *expected += segment_bytes;
        }
    };
    for base in bases {
        need(&mut expected, *base);
        expected = base + segment_bytes;
    }
    if from > purged.end {
        need(&mut expected, from.0);
    }
    missing
}

fn names(missing: &[u64]) -> String {
    let mut text: Vec<String> = missing.iter().take(5).map(|base| file_name(*base)).collect();
    if missing.len() > text.len() {
        text.push(format!("and {} more", missing.len() - text.len()));
    }
    text.join(", ")
}

/// A file may be short when nothing is stored behind it: its making was interrupted, or the disk
/// lost its end. Everything else would turn damage into zeros.
fn check_sizes(
    files: &dyn Files,
    options: &LogOptions,
    listed: &[(u64, FileInfo)],
    purged: PurgePoint,
    from: PhysicalOffset,
) -> Result<(), Error> {
    let expected = options.segment_bytes;
    // What a log keeps before `from` was synced; a log that starts there keeps nothing.
    let synced_to = if from > purged.end { from.0 } else { 0 };
    for (at, (base, file)) in listed.iter().enumerate().filter(|(_, (_, f))| f.bytes != expected) {
        let mut refuse = file.bytes > expected || base + file.bytes < synced_to;
        for (later, file) in &listed[at + 1..] {
            let start = HEADER_BYTES as u64;
            if !refuse && file.bytes >= start {
                let mapped = files.map(&segment_path(&options.dir, *later));
                let mapped = mapped.map_err(|e| Error::io("map segment", &options.dir, e))?;
                let is_something = mapped[..HEADER_BYTES].iter().any(|b| *b != 0);
                refuse = is_something || mapped.unreadable_pages() > 0;
            }
        }
        if refuse {
            let path = segment_path(&options.dir, *base);
            return Err(Error::SegmentSize { path, bytes: file.bytes, expected });
        }
    }
    Ok(())
}

/// Deletes the segments of which nothing is kept: the purge point is written before they go.
fn finish_purge(
    files: &dyn Files,
    segments: &mut BTreeMap<u64, (Arc<Segment>, Writer)>,
    purged: PurgePoint,
) -> Result<(), Error> {
    while segments.values().nth(1).is_some_and(|(next, _)| next.first <= purged.first()) {
        if let Some((_, (segment, _))) = segments.pop_first() {
            remove(files, &segment.path)?;
        }
    }
    Ok(())
}

/// Everything behind the tail becomes zero again, so that nothing left over is ever taken for an
/// entry, whatever is written before it.
fn clear_after(
    segments: &BTreeMap<u64, (Arc<Segment>, Writer)>,
    tail: PhysicalOffset,
    segment_bytes: u64,
) -> Result<(), Error> {
    let Some((segment, _)) = segments.get(&base_of(tail, segment_bytes)) else { return Ok(()) };
    let cleared = segment.file.zero(tail.0 - segment.base..segment_bytes);
    segment.touched();
    cleared.map_err(|e| Error::io("clear the end of", &segment.path, e))
}

/// Damage at the start of a segment, with what is known of the entry before: from the segment
/// `before`, or from what was purged. Whoever asks others for it without that asks for the first
/// entry ever, which they have purged.
fn placed(error: Error, before: Option<&Arc<Segment>>, purged: PurgePoint) -> Error {
    let Error::Damaged { position, committed, why, .. } = error else { return error };
    let previous = match before.map(|before| before.last()).transpose() {
        Ok(last) => last.map(|last| last.id()).or(purged.last),
        Err(first) => return first,
    };
    let index = previous.map_or(EntryIndex(0), |previous| previous.index.next());
    Error::Damaged { position, index, previous, committed, why }
}

/// Identity of the entry before the checkpoint, which holds if the checkpoint does.
fn entry_before(
    segments: &BTreeMap<u64, (Arc<Segment>, Writer)>,
    from: ReplayFrom,
) -> Result<EntryId, Error> {
    let index = EntryIndex(from.index.0.saturating_sub(1));
    match segments.values().rev().find(|(segment, _)| segment.first <= index) {
        Some((segment, _)) => Ok(segment.find(index)?.id()),
        None => Err(damaged(from.position, index, "no segment holds it".to_owned())),
    }
}

// --- what was read ---

/// What the scan saw of each segment.
#[derive(Default)]
struct Visits {
    segment_bytes: u64,
    seen: BTreeMap<u64, Visit>,
}

struct Visit {
    points: Vec<Header>, // the first entry, then some
    end: PhysicalOffset,
}

impl Visits {
    fn note(&mut self, header: &Header) {
        let base = base_of(header.position, self.segment_bytes);
        let visit = self
            .seen
            .entry(base)
            .or_insert_with(|| Visit { points: Vec::new(), end: header.position });
        visit.end = header.end();
        if visit.points.last().is_none_or(|p| p.position.0 + (64 << 10) <= header.position.0) {
            visit.points.push(*header);
        }
    }

    fn segment(
        &self,
        mapped: Mapped,
        purged: PurgePoint,
        from: ReplayFrom,
        tail: PhysicalOffset,
    ) -> Result<(Arc<Segment>, Writer), Error> {
        let Mapped { base, path, file, mut writer } = mapped;
        let visit = self.seen.get(&base);
        let start = if (base..base + self.segment_bytes).contains(&purged.end.0) {
            (purged.first(), purged.end)
        } else if base < from.position.0 {
            (index_at_base(base, writer.contents())?, PhysicalOffset(base))
        } else {
            let first = visit.and_then(|v| v.points.first());
            (first.map_or(from.index, |h| h.index), PhysicalOffset(base))
        };
        let end = match visit {
            Some(visit) => visit.end.0,
            None => tail.0.min(base + self.segment_bytes),
        };
        writer.publish((end - base) as usize);
        let segment = Segment::new(base, path, file, writer.reader(), start);
        if let Some(visit) = visit {
            visit.points.iter().for_each(|header| segment.note(header));
            segment.touched(); // it may be in the page cache only
        }
        Ok((Arc::new(segment), writer))
    }
}

/// Segments begin with an entry, unless the log begins within them.
fn index_at_base(base: u64, contents: &[u8]) -> Result<EntryIndex, Error> {
    let at = PhysicalOffset(base);
    match Header::parse(contents) {
        Ok(header) if header.position == at => Ok(header.index),
        Ok(header) => {
            Err(damaged(at, header.index, format!("it says it belongs at {}", header.position)))
        }
        Err(error) => Err(damaged(at, EntryIndex(0), error.to_string())),
    }
}

/// The bytes of consecutive segments.
struct Contents<'a> {
    first_base: u64,
    segment_bytes: u64,
    segments: Vec<&'a [u8]>,
    /// How many pages of them could not be read so far.
    unreadable_pages: &'a dyn Fn() -> usize,
}

/// What the next entry must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Next {
    position: PhysicalOffset,
    index: EntryIndex,
    term: Term, // at least
}

#[derive(Debug)]
struct Scanned {
    entries: u64,
    bytes: u64,
    last: Option<EntryId>,
    next: Next,
    why: Broken,
    /// The disk could not read what is at the end.
    unreadable: bool,
    /// A whole entry of a higher index behind the end.
    follows: Option<EntryIndex>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Entry(#[from] EntryError),
    #[error("the file ends here")]
    NoFile,
    #[error("the entry there says that it belongs at {0}")]
    Position(PhysicalOffset),
    #[error("the entry there has index {0}")]
    Index(EntryIndex),
    #[error("the entry there has term {0}, below the term before it")]
    Term(Term),
}

impl Broken {
    /// Whether there is nothing, rather than something else than there should be.
    fn is_nothing(&self) -> bool {
        match self {
            Self::NoFile | Self::Entry(EntryError::Unwritten) => true,
            Self::Entry(EntryError::Short { have, .. }) => *have < HEADER_BYTES,
            Self::Entry(_) | Self::Position(_) | Self::Index(_) | Self::Term(_) => false,
        }
    }
}

impl<'a> Contents<'a> {
    /// From `position` to the end of its segment.
    fn at(&self, position: PhysicalOffset) -> Option<&'a [u8]> {
        let at = position.0.checked_sub(self.first_base)?;
        let segment = self.segments.get(usize::try_from(at / self.segment_bytes).ok()?)?;
        segment.get((at % self.segment_bytes) as usize..)
    }

    fn next_base(&self, position: PhysicalOffset) -> PhysicalOffset {
        PhysicalOffset(base_of(position, self.segment_bytes) + self.segment_bytes)
    }

    fn check(&self, next: Next) -> Result<Header, Broken> {
        let bytes = self.at(next.position).ok_or(Broken::NoFile)?;
        let header = Header::parse(bytes)?;
        if header.position != next.position {
            return Err(Broken::Position(header.position));
        }
        if header.index != next.index {
            return Err(Broken::Index(header.index));
        }
        if header.term < next.term {
            return Err(Broken::Term(header.term));
        }
        header.check_body(bytes)?;
        Ok(header)
    }

    /// The entry at `next`, or at the start of the segment after it if there was no room for it:
    /// then the rest of this one is not the log's, whatever the disk has made of it.
    fn step(&self, next: Next) -> Result<Header, Broken> {
        self.check(next).or_else(|why| {
            let base = self.next_base(next.position);
            self.check(Next { position: base, ..next }).map_err(|_| why)
        })
    }

    fn scan(&self, mut next: Next, visit: &mut dyn FnMut(&Header)) -> Scanned {
        let (mut entries, mut bytes, mut last) = (0, 0, None);
        let why = loop {
            match self.step(next) {
                Err(why) => break why,
                Ok(header) => {
                    visit(&header);
                    entries += 1;
                    bytes += u64::from(header.total);
                    last = Some(header.id());
                    let index = EntryIndex(header.index.0 + 1);
                    next = Next { position: header.end(), index, term: header.term };
                }
            }
        };
        let unreadable = (self.unreadable_pages)() > 0; // what was whole was read
        Scanned { entries, bytes, last, next, why, unreadable, follows: self.follower(next) }
    }

    fn follower(&self, next: Next) -> Option<EntryIndex> {
        let whole = |position: PhysicalOffset, bytes: &[u8]| {
            let header = Header::parse(bytes).ok()?;
            let valid = header.position == position && header.index > next.index;
            (valid && header.check_body(bytes).is_ok()).then_some(header.index)
        };
        let here = self.at(next.position).unwrap_or_default();
        let here_bytes = here.len().min(FOLLOWING_BYTES);
        let steps = (0..here_bytes).step_by(ALIGN_BYTES as usize);
        steps
            .filter(|at| here[*at] != 0)
            .find_map(|at| whole(PhysicalOffset(next.position.0 + at as u64), &here[at..]))
            .or_else(|| {
                let base = self.next_base(next.position);
                whole(base, self.at(base)?)
            })
    }
}

/// End of the log, torn tail, or damage. Pure.
fn verdict(
    scanned: &Scanned,
    previous: Option<EntryId>,
    committed: Option<EntryIndex>,
    previous_life: PreviousLife,
) -> Result<Option<Cut>, Error> {
    let Next { position, index, .. } = scanned.next;
    let mut why = scanned.why.to_string();
    if let Some(follows) = scanned.follows {
        why.push_str(&format!("; the whole entry {follows} follows"));
    }
    if scanned.unreadable {
        why.push_str("; the disk cannot read it");
    }
    let was_committed = committed.is_some_and(|committed| index <= committed);
    let cache_was_kept = previous_life != PreviousLife::MachineStopped;
    let was_written = scanned.unreadable || scanned.follows.is_some();
    if was_committed || (cache_was_kept && was_written) {
        let committed = Committed(committed);
        return Err(Error::Damaged { position, index, previous, committed, why });
    }
    let ends = scanned.why.is_nothing() && !was_written;
    Ok((!ends).then_some(Cut { position, index, why }))
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 4096;

    #[test]
    fn holes_between_segment_files_are_named() {
        let id = EntryId { index: EntryIndex(3), term: Term(1) };
        let purged = |end| PurgePoint { last: Some(id), end: PhysicalOffset(end) };
        let new = PurgePoint::default();
        let rows: &[(&[u64], PurgePoint, u64, &[u64])] = &[
            (&[], new, 0, &[]),
            (&[0, 4096, 8192], new, 9000, &[]),
            (&[0, 8192, 20480], new, 0, &[4096, 12288, 16384]),
            (&[4096], new, 0, &[0]),
            (&[], new, 5000, &[0, 4096]),
            (&[0], new, 4096, &[]), // the next one is yet to be made
            (&[0], new, 4097, &[4096]),
            (&[8192], purged(9000), 9000, &[]),
            (&[12288], purged(9000), 12288, &[]), // what is left of the log starts there
            (&[16384], purged(9000), 16384, &[8192, 12288]),
            (&[], purged(9000), 9000, &[]), // reset, nothing written yet
            (&[], purged(9000), 9100, &[8192]),
        ];
        for (bases, purged, from, want) in rows {
            let got = missing_bases(bases, *purged, PhysicalOffset(*from), SEGMENT);
            assert_eq!(&got, want, "{bases:?} from {from}");
        }
        assert!(names(&[0; 9]).ends_with("00000000000000000000, and 4 more"));
    }

    #[test]
    fn only_a_tail_that_nobody_was_told_about_is_cut() {
        use PreviousLife::{Clean, Killed, MachineStopped};
        let torn = || Broken::Entry(EntryError::Magic(1));
        let unwritten = || Broken::Entry(EntryError::Unwritten);
        let (end, cut, damaged) = ("end", "cut", "damaged");
        let rows = [
            (unwritten(), None, None, Killed, end),
            (unwritten(), None, Some(9), Killed, end),
            (unwritten(), None, Some(10), Killed, damaged),
            (unwritten(), None, Some(10), MachineStopped, damaged),
            (unwritten(), Some(11), Some(9), Killed, damaged),
            (unwritten(), Some(11), Some(9), MachineStopped, cut),
            (torn(), None, None, Killed, cut),
            (torn(), None, Some(9), MachineStopped, cut),
            (torn(), None, Some(11), MachineStopped, damaged),
            (torn(), Some(12), None, Clean, damaged),
            (torn(), Some(12), None, MachineStopped, cut),
            (Broken::NoFile, None, None, Clean, end),
        ];
        for (why, follows, committed, life, want) in rows {
            let case = format!("{why:?} {follows:?} {committed:?} {life:?}");
            let next = Next { position: PhysicalOffset(8), index: EntryIndex(10), term: Term(1) };
            let follows = follows.map(EntryIndex);
            let (entries, bytes, last) = (0, 0, None);
            let scanned = Scanned { entries, bytes, last, next, why, unreadable: false, follows };
            let verdict =
                |scanned: &Scanned| match verdict(scanned, None, committed.map(EntryIndex), life) {
                    Ok(None) => end,
                    Ok(Some(_)) => cut,
                    Err(_) => damaged,
                };
            assert_eq!(verdict(&scanned), want, "{case}");
            let unreadable = verdict(&Scanned { unreadable: true, ..scanned });
            let want = if life == MachineStopped && want != damaged { cut } else { damaged };
            assert_eq!(unreadable, want, "the disk cannot read it: {case}");
        }
    }
}
